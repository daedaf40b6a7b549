//! An image's configuration and flags to `config.json` of an OCI bundle, with Docker's defaults. What is
//! looked up in the image's files comes in through a descriptor of its root.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::{seccomp, units, users};
use crate::cli::flags::Flags;
use crate::image::config::Execution;

/// The version of the runtime specification that is written: the oldest that says all that is used: runtimes refuse versions that they have not heard of.
const OCI_VERSION: &str = "1.0.2";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's default capabilities.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// All that Linux has, by number.
const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container may not look into.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What a container may not change.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const SECURE: [&str; 3] = ["nosuid", "noexec", "nodev"];
const SHM_SIZE: u64 = 64 << 20;
/// Devices that every container may have, for the lists of cgroups (c 5:2 and 136 are terminals).
const DEVICES: [(u32, Option<u32>); 8] =
    [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];

/// Where the container will stand.
pub struct Place<'a> {
    /// The bundle's root directory as config.json names it.
    pub root_path: &'a str,
    /// The image's files, to look up users in.
    pub root: BorrowedFd<'a>,
    /// The default host name.
    pub hostname: &'a str,
    /// The cgroup, if one is wanted by name.
    pub cgroup: Option<String>,
    /// Files that are mounted into it: (destination, source).
    pub files: &'a [(&'static str, String)],
    /// Whether the caller is in a user namespace: some of the host cannot be had there.
    pub plain_user: bool,
}

/// What runs: the entrypoint's words and those of the command.
pub fn arguments(image: &Execution, entrypoint: Option<&str>, command: &[String]) -> Result<Vec<String>> {
    let (first, default): (Vec<String>, &[String]) = match entrypoint {
        // Another entrypoint goes without the image's command, which was meant for its own.
        Some("") => (Vec::new(), &[]),
        Some(program) => (vec![program.to_owned()], &[]),
        None => (image.entrypoint.clone().unwrap_or_default(), image.cmd.as_deref().unwrap_or_default()),
    };
    let rest = if command.is_empty() { default } else { command };
    let words: Vec<String> = first.into_iter().chain(rest.iter().cloned()).collect();
    if words.is_empty() {
        bail!("the image names no program to run: give one behind its name");
    }
    if words.iter().any(|it| it.contains('\0')) {
        bail!("an argument has a NUL in it");
    }
    Ok(words)
}

/// The whole document.
pub fn build(image: &Execution, flags: &Flags, command: &[String], place: &Place<'_>) -> Result<Value> {
    let who = users::look_up(place.root, flags.user.as_deref().unwrap_or(&image.user), &flags.group_add)?;
    let capabilities = capabilities(flags)?;
    let security = Security::parse(flags)?;
    let hostname = hostname(flags, place)?;
    let workdir = match flags.workdir.as_deref().unwrap_or(&image.working_dir) {
        "" => "/",
        dir if dir.starts_with('/') => dir,
        dir => bail!("--workdir {dir:?}: not an absolute path"),
    };
    // An environment of the image, then the flags'; what the caller has never comes in by itself.
    let mut environment = vec![DEFAULT_PATH.to_owned()];
    if let Some(hostname) = &hostname {
        environment.push(format!("HOSTNAME={hostname}"));
    }
    if flags.tty {
        environment.push("TERM=xterm".to_owned());
    }
    let well_formed: Vec<String> = image.env.iter().filter(|it| it.contains('=')).cloned().collect();
    units::set_env(&mut environment, &well_formed).context("the image's environment")?;
    for file in &flags.env_file {
        units::set_env(&mut environment, &units::env_file(file)?).with_context(|| format!("--env-file {file}"))?;
    }
    units::set_env(&mut environment, &flags.env).context("--env")?;

    // The group itself stands among the further ones: a program that drops it must not be able to get past a
    // "deny" for it (CVE-2022-36109).
    let mut groups = vec![who.gid];
    groups.extend(who.groups.iter().filter(|it| **it != who.gid));
    // Another user than root keeps no capability but what a file or a user namespace gives, as with Docker.
    let effective: &[String] = if who.uid == 0 { &capabilities } else { &[] };
    let mut process = json!({
        "terminal": flags.tty,
        "user": {"uid": who.uid, "gid": who.gid, "additionalGids": groups},
        "args": arguments(image, flags.entrypoint.as_deref(), command)?,
        "env": environment,
        "cwd": workdir,
        "capabilities": {"bounding": capabilities, "effective": effective, "permitted": effective},
        "noNewPrivileges": security.no_new_privileges,
        "rlimits": ulimits(flags)?,
    });
    if let Some(adjust) = flags.oom_score_adj {
        if !(-1000..=1000).contains(&adjust) {
            bail!("--oom-score-adj {adjust}: not between -1000 and 1000");
        }
        process["oomScoreAdj"] = json!(adjust);
    }
    if let Some(profile) = &security.apparmor {
        process["apparmorProfile"] = json!(profile);
    }
    if let Some(label) = &security.label {
        process["selinuxLabel"] = json!(label);
    }

    let mut linux = Map::new();
    linux.insert("namespaces".into(), namespaces(flags)?);
    linux.insert("resources".into(), resources(flags, place)?);
    if let Some(cgroup) = &place.cgroup {
        linux.insert("cgroupsPath".into(), json!(cgroup));
    }
    if !flags.sysctl.is_empty() {
        linux.insert("sysctl".into(), pairs("--sysctl", &flags.sysctl)?);
    }
    let devices = devices(flags)?;
    if !devices.is_empty() {
        linux.insert("devices".into(), devices.into());
    }
    if !flags.privileged {
        linux.insert("maskedPaths".into(), json!(MASKED));
        linux.insert("readonlyPaths".into(), json!(READ_ONLY));
    }
    if let Some(profile) = security.seccomp(flags, &capabilities)? {
        linux.insert("seccomp".into(), profile);
    }

    let mut document = json!({
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": place.root_path, "readonly": flags.read_only},
        "mounts": mounts(flags, place)?,
        "linux": linux,
    });
    if let Some(hostname) = hostname {
        document["hostname"] = json!(hostname);
        if let Some(domain) = &flags.domainname {
            document["domainname"] = json!(domain);
        }
    }
    let mut annotations = Map::new();
    for (key, value) in image.labels.iter().flatten() {
        annotations.insert(key.clone(), json!(value));
    }
    for label in &flags.label {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        if key.is_empty() {
            bail!("--label {label:?}: not of the form KEY=VALUE");
        }
        annotations.insert(key.to_owned(), json!(value));
    }
    if let Some(signal) = flags.stop_signal.as_ref().or(image.stop_signal.as_ref()) {
        annotations.insert("org.opencontainers.image.stopSignal".into(), json!(signal));
    }
    // An empty key is a fault of the runtime specification, not of a label.
    annotations.remove("");
    document["annotations"] = annotations.into();
    Ok(document)
}

fn host_mode(flag: &str, value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("private") => Ok(false),
        Some("host") => Ok(true),
        Some(other) => bail!("{flag} {other:?}: known are host and private"),
    }
}

fn hostname(flags: &Flags, place: &Place<'_>) -> Result<Option<String>> {
    let shared = host_mode("--uts", flags.uts.as_deref())?;
    if shared && (flags.hostname.is_some() || flags.domainname.is_some()) {
        bail!("--hostname and --domainname need the container's own host name: not with --uts host");
    }
    let name = flags.hostname.as_deref().unwrap_or(place.hostname);
    // HOST_NAME_MAX of Linux.
    if name.len() > 64 || name.is_empty() || name.contains(['\0', '/', '\n']) {
        bail!("--hostname {name:?}: 1 to 64 bytes are a host name");
    }
    Ok((!shared).then(|| name.to_owned()))
}

/// Docker's defaults, less what is dropped, and what is added.
fn capabilities(flags: &Flags) -> Result<Vec<String>> {
    let normal = |flag: &str, text: &String| -> Result<String> {
        let upper = text.to_uppercase();
        let name = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if name != "ALL" && !ALL_CAPABILITIES.contains(&name.as_str()) {
            bail!("{flag} {text:?}: no such capability");
        }
        Ok(name)
    };
    let add: Vec<String> = flags.cap_add.iter().map(|it| normal("--cap-add", it)).collect::<Result<_>>()?;
    let drop: Vec<String> = flags.cap_drop.iter().map(|it| normal("--cap-drop", it)).collect::<Result<_>>()?;
    let has = |list: &[String], name: &str| list.iter().any(|it| it == name);
    let last = last_capability();
    let all = flags.privileged || has(&add, "ALL");
    let names = ALL_CAPABILITIES.iter().enumerate().filter(|(number, name)| {
        if all {
            // What the kernel does not have, or who types has not got, cannot be asked for by a word like "all".
            *number <= last && !has(&drop, name) && bounded(*number)
        } else {
            has(&add, name) || CAPABILITIES.contains(name) && !has(&drop, name) && !has(&drop, "ALL")
        }
    });
    Ok(names.map(|(_, name)| (*name).to_owned()).collect())
}

fn last_capability() -> usize {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|it| it.trim().parse().ok())
        .unwrap_or(ALL_CAPABILITIES.len() - 1)
}

/// Whether a capability is in our own bounding set.
fn bounded(number: usize) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> number & 1 == 1)
}

#[derive(Default)]
struct Security {
    no_new_privileges: bool,
    seccomp: Option<String>,
    apparmor: Option<String>,
    label: Option<String>,
}

impl Security {
    fn parse(flags: &Flags) -> Result<Self> {
        let mut security = Self::default();
        for option in &flags.security_opt {
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", value) if !value.is_empty() => security.seccomp = Some(value.to_owned()),
                ("apparmor", value) if !value.is_empty() => {
                    security.apparmor = (value != "unconfined").then(|| value.to_owned());
                }
                ("label", value) if !value.is_empty() => {
                    security.label = (value != "disable").then(|| value.to_owned());
                }
                _ => bail!("--security-opt {option:?}: known are no-new-privileges, seccomp=, apparmor=, label="),
            }
        }
        Ok(security)
    }

    fn seccomp(&self, flags: &Flags, capabilities: &[String]) -> Result<Option<Value>> {
        match self.seccomp.as_deref() {
            Some("unconfined") => Ok(None),
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("--security-opt seccomp={path}"))?;
                let profile: Value =
                    serde_json::from_slice(&text).with_context(|| format!("--security-opt seccomp={path}"))?;
                if profile.get("defaultAction").is_none() {
                    bail!("--security-opt seccomp={path}: no profile, it has no defaultAction");
                }
                Ok(Some(profile))
            }
            None if flags.privileged => Ok(None),
            None => Ok(Some(seccomp::default_profile(capabilities))),
        }
    }
}

fn ulimits(flags: &Flags) -> Result<Vec<Value>> {
    let limits = flags.ulimit.iter().map(|text| {
        let (name, soft, hard) = units::ulimit(text).context("--ulimit")?;
        Ok(json!({"type": name, "soft": soft, "hard": hard}))
    });
    limits.collect()
}

fn namespaces(flags: &Flags) -> Result<Value> {
    let mut list = vec!["mount"];
    for (flag, name, value) in [
        ("--pid", "pid", &flags.pid),
        ("--ipc", "ipc", &flags.ipc),
        ("--uts", "uts", &flags.uts),
        ("--cgroupns", "cgroup", &flags.cgroupns),
    ] {
        if !host_mode(flag, value.as_deref())? {
            list.push(name);
        }
    }
    match flags.network.as_str() {
        "none" => list.push("network"),
        "host" => {}
        other => bail!("--network {other:?}: known are none and host"),
    }
    Ok(list.iter().map(|it| json!({"type": it})).collect())
}

fn resources(flags: &Flags, place: &Place<'_>) -> Result<Value> {
    let mut memory = Map::new();
    let amount = |flag: &str, text: &String| units::bytes(text).with_context(|| format!("{flag} {text:?}"));
    if let Some(text) = &flags.memory {
        let limit = amount("--memory", text)?;
        // Docker's least: nothing starts in less.
        if limit < 6 << 20 {
            bail!("--memory {text:?}: 6m is the least");
        }
        memory.insert("limit".into(), json!(limit));
        let swap = match flags.memory_swap.as_deref() {
            Some("-1") => json!(-1),
            Some(text) => {
                let swap = amount("--memory-swap", &text.to_owned())?;
                if swap < limit {
                    bail!("--memory-swap {text:?}: it counts memory and swap together, so it is not below --memory");
                }
                json!(swap)
            }
            None => json!(limit.saturating_mul(2).min(i64::MAX as u64)),
        };
        memory.insert("swap".into(), swap);
    } else if let Some(text) = &flags.memory_swap {
        bail!("--memory-swap {text:?}: only together with --memory");
    }
    if let Some(text) = &flags.memory_reservation {
        memory.insert("reservation".into(), json!(amount("--memory-reservation", text)?));
    }
    let mut cpu = Map::new();
    if let Some(text) = &flags.cpus {
        cpu.insert("period".into(), json!(100_000));
        cpu.insert("quota".into(), json!(units::cpus(text).context("--cpus")? * 100));
    }
    if let Some(shares) = flags.cpu_shares {
        if !(2..=262_144).contains(&shares) {
            bail!("--cpu-shares {shares}: not between 2 and 262144");
        }
        cpu.insert("shares".into(), json!(shares));
    }
    for (key, value) in [("cpus", &flags.cpuset_cpus), ("mems", &flags.cpuset_mems)] {
        if let Some(value) = value {
            cpu.insert(key.into(), json!(value));
        }
    }
    let mut resources = Map::new();
    if !memory.is_empty() {
        resources.insert("memory".into(), memory.into());
    }
    if !cpu.is_empty() {
        resources.insert("cpu".into(), cpu.into());
    }
    match flags.pids_limit {
        None | Some(0) => {}
        Some(limit) if limit >= -1 => {
            resources.insert("pids".into(), json!({"limit": limit}));
        }
        Some(limit) => bail!("--pids-limit {limit}: -1 is unlimited, and there is nothing below"),
    }
    // A plain user may not tell the kernel which devices; those that there are belong to root.
    if !place.plain_user {
        let mut devices = vec![json!({"allow": flags.privileged, "access": "rwm"})];
        if !flags.privileged {
            devices.push(json!({"allow": true, "type": "c", "access": "m"}));
            devices.push(json!({"allow": true, "type": "b", "access": "m"}));
            for (major, minor) in DEVICES {
                let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rwm"});
                if let Some(minor) = minor {
                    rule["minor"] = json!(minor);
                }
                devices.push(rule);
            }
            for device in self::devices(flags)? {
                devices.push(json!({"allow": true, "type": device["type"], "major": device["major"], "minor": device["minor"], "access": device["access"]}));
            }
        }
        resources.insert("devices".into(), devices.into());
    }
    Ok(resources.into())
}

/// The host's devices that the flags name. `access` is for the cgroup and no field of a device: runtimes
/// ignore what they do not know.
fn devices(flags: &Flags) -> Result<Vec<Value>> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut devices = Vec::new();
    for text in &flags.device {
        let parts: Vec<&str> = text.split(':').collect();
        let access = |it: &str| !it.is_empty() && it.bytes().all(|byte| b"rwm".contains(&byte));
        let (host, inside, rights) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, rights] if access(rights) => (host, host, rights),
            [host, inside] => (host, inside, "rwm"),
            [host, inside, rights] if access(rights) => (host, inside, rights),
            _ => bail!("--device {text:?}: not of the form HOST[:CONTAINER[:rwm]]"),
        };
        if !inside.starts_with('/') {
            bail!("--device {text:?}: {inside:?} is not an absolute path");
        }
        let about = std::fs::metadata(host).with_context(|| format!("--device {host}"))?;
        let kind = match about.file_type() {
            it if it.is_char_device() => "c",
            it if it.is_block_device() => "b",
            _ => bail!("--device {host}: no device"),
        };
        let number = about.rdev();
        devices.push(json!({
            "path": inside, "type": kind, "major": rustix::fs::major(number), "minor": rustix::fs::minor(number),
            "fileMode": about.mode() & 0o7777, "uid": about.uid(), "gid": about.gid(), "access": rights,
        }));
    }
    Ok(devices)
}

fn mounts(flags: &Flags, place: &Place<'_>) -> Result<Value> {
    let secure = |more: &[&str]| SECURE.iter().chain(more).map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let shm = flags
        .shm_size
        .as_ref()
        .map(|text| units::bytes(text).with_context(|| format!("--shm-size {text:?}")))
        .transpose()?
        .unwrap_or(SHM_SIZE);
    let sys_access: &[&str] = if flags.privileged { &[] } else { &["ro"] };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": SECURE}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
               "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
    ];
    if place.plain_user && flags.network == "host" {
        // Only the owner of a network namespace may mount its sysfs.
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
    } else {
        mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": secure(sys_access)}));
    }
    mounts.push(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": secure(sys_access)}),
    );
    if host_mode("--ipc", flags.ipc.as_deref())? {
        mounts.push(json!({"destination": "/dev/mqueue", "type": "bind", "source": "/dev/mqueue", "options": ["rbind", "nosuid", "noexec", "nodev"]}));
        mounts.push(json!({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "nosuid", "noexec", "nodev"]}));
    } else {
        mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SECURE}));
        mounts.push(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": secure(&["mode=1777", &format!("size={shm}")])}));
    }
    for (destination, source) in place.files {
        mounts.push(
            json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate"]}),
        );
    }
    for text in &flags.tmpfs {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        if !destination.starts_with('/') {
            bail!("--tmpfs {text:?}: {destination:?} is not an absolute path");
        }
        let options = options.split(',').filter(|it| !it.is_empty());
        mounts.push(json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": SECURE.into_iter().chain(options).collect::<Vec<_>>()}));
    }
    Ok(mounts.into())
}

fn pairs(flag: &str, list: &[String]) -> Result<Value> {
    let pairs = list.iter().map(|text| {
        let (key, value) = text
            .split_once('=')
            .filter(|it| !it.0.is_empty())
            .with_context(|| format!("{flag} {text:?}: not of the form NAME=VALUE"))?;
        Ok((key.to_owned(), json!(value)))
    });
    Ok(Value::Object(pairs.collect::<Result<Map<_, _>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    fn document(image: &Execution, flags: &Flags, command: &[&str]) -> Result<Value> {
        let root = std::fs::File::open("/").unwrap();
        let place = Place {
            root_path: "rootfs",
            root: root.as_fd(),
            hostname: "abc",
            cgroup: None,
            files: &[],
            plain_user: false,
        };
        build(image, flags, &words(command), &place)
    }

    fn flags() -> Flags {
        Flags { network: "none".into(), entrypoint: None, ..Flags::default() }
    }

    #[test]
    fn entrypoint_and_command() {
        let image =
            Execution { entrypoint: Some(words(&["/e", "x"])), cmd: Some(words(&["c d"])), ..Execution::default() };
        let run = |entrypoint, command: &[&str]| arguments(&image, entrypoint, &words(command)).unwrap();
        assert_eq!(run(None, &[]), ["/e", "x", "c d"]);
        assert_eq!(run(None, &["1 2", ""]), ["/e", "x", "1 2", ""]);
        assert_eq!(run(Some("/f"), &[]), ["/f"]);
        assert_eq!(run(Some("/f"), &["a"]), ["/f", "a"]);
        assert_eq!(run(Some(""), &["a"]), ["a"]);
        assert!(arguments(&Execution::default(), None, &[]).is_err());
        assert!(arguments(&image, Some(""), &[]).is_err());
    }

    #[test]
    fn the_image_is_applied_and_flags_come_after_it() {
        let image = Execution {
            env: words(&["A=1", "PATH=/p", "broken"]),
            working_dir: "/w".into(),
            cmd: Some(words(&["sh"])),
            ..Execution::default()
        };
        let mut with = flags();
        with.env = words(&["A=2", "B=3"]);
        let built = document(&image, &with, &[]).unwrap();
        assert_eq!(built["process"]["env"], json!(["PATH=/p", "HOSTNAME=abc", "A=2", "B=3"]));
        assert_eq!((&built["process"]["cwd"], &built["hostname"]), (&json!("/w"), &json!("abc")));
        assert_eq!(built["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert!(built["linux"]["seccomp"].is_object() && built["linux"]["maskedPaths"].is_array());
    }

    #[test]
    fn privileges_follow_the_flags() {
        let image = Execution { cmd: Some(words(&["sh"])), ..Execution::default() };
        let caps = |edit: fn(&mut Flags)| {
            let mut it = flags();
            edit(&mut it);
            document(&image, &it, &[]).unwrap()["process"]["capabilities"]["bounding"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            caps(|it| {
                it.cap_drop = words(&["all"]);
                it.cap_add = words(&["net_admin"]);
            }),
            ["CAP_NET_ADMIN"]
        );
        assert!(!caps(|it| it.cap_drop = words(&["CAP_CHOWN"])).contains(&"CAP_CHOWN".to_owned()));
        let mut it = flags();
        it.privileged = true;
        let built = document(&image, &it, &[]).unwrap();
        assert!(built["linux"].get("seccomp").is_none() && built["linux"].get("maskedPaths").is_none());
        it = flags();
        it.user = Some("65534".into());
        assert_eq!(document(&image, &it, &[]).unwrap()["process"]["capabilities"]["effective"], json!([]));
    }

    #[test]
    fn bad_flags_are_errors() {
        let image = Execution { cmd: Some(words(&["sh"])), ..Execution::default() };
        type Edit = fn(&mut Flags);
        let cases: [(Edit, &str); 16] = [
            (|it| it.memory = Some("10x".into()), "--memory"),
            (|it| it.memory = Some("1m".into()), "6m is the least"),
            (|it| it.memory_swap = Some("1g".into()), "only together"),
            (|it| it.cpus = Some("0".into()), "--cpus"),
            (|it| it.cpu_shares = Some(1), "--cpu-shares"),
            (|it| it.pids_limit = Some(-5), "--pids-limit"),
            (|it| it.cap_add = words(&["CAP_NOTHING"]), "--cap-add"),
            (|it| it.security_opt = words(&["what"]), "--security-opt"),
            (|it| it.security_opt = words(&["seccomp=/nowhere"]), "/nowhere"),
            (|it| it.network = "bridge2".into(), "--network"),
            (|it| it.uts = Some("x".into()), "--uts"),
            (|it| it.workdir = Some("rel".into()), "--workdir"),
            (|it| it.tmpfs = words(&["rel"]), "--tmpfs"),
            (|it| it.device = words(&["/etc"]), "no device"),
            (|it| it.ulimit = words(&["x=1"]), "--ulimit"),
            (|it| it.hostname = Some("x".repeat(65)), "--hostname"),
        ];
        for (edit, text) in cases {
            let mut it = flags();
            edit(&mut it);
            let error = format!("{:#}", document(&image, &it, &[]).unwrap_err());
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
