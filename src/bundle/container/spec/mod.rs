//! An image's configuration and flags to `config.json` of an OCI bundle, with Docker's defaults. What is
//! looked up in the image's files comes in through a descriptor of its root.
//!
//! Two steps: [`check`] reads all flags before anything is made, and gives the flags as they are stored with the
//! container; [`build`] makes the document of those, at each start anew.

mod capabilities;
mod devices;
mod host;
mod mounts;
mod namespaces;
mod options;
mod process;
mod resources;
mod security;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::ids::{self, Ids};
use super::{files, units, users};
use crate::cli::flags::Flags;
use crate::image::config::Execution;
use crate::network::wanted::{USUAL, cni, wanted};
use crate::network::{self, ports};
use host::Host;
use security::Security;

pub use capabilities::all as all_capabilities;
pub use namespaces::{Mode, Modes, joined};
pub use options::{
    Health, LogDriver, LogOptions, Restart, health, log_options, restart, signal, stop_signal, stop_timeout,
};
pub use process::{arguments, environment, settled_environment};

/// The version of the runtime specification that is written: the oldest that says all that is used: runtimes refuse
/// versions that they have not heard of.
const OCI_VERSION: &str = "1.0.2";

/// Where the container will stand.
pub struct Place<'a> {
    /// The bundle's root directory as config.json names it.
    pub root_path: &'a str,
    /// The image's files, to look up users in.
    pub root: BorrowedFd<'a>,
    /// The default host name.
    pub hostname: &'a str,
    /// The cgroup, if one is wanted by name: see [`cgroup`].
    pub cgroup: Option<String>,
    /// Files that are mounted into it: (destination, source).
    pub files: &'a [(&'static str, String)],
    /// Volumes and what else the flags mount, as config.json has them.
    pub mounts: &'a [Value],
    /// `linux.rootfsPropagation`, where a mount needs one.
    pub propagation: Option<&'static str>,
    /// For each of [`joined`]: the namespace's word of config.json, and the path of the other container's, such as
    /// `/proc/PID/ns/net`.
    pub join: &'a [(&'static str, String)],
    /// The network namespace that was made for it.
    pub network: Option<&'a str>,
    /// With `--ipc container:NAME`: a directory that shows the other container's /dev/shm.
    pub shm: Option<&'a str>,
    /// Users of the container's own.
    pub ids: Option<&'a Ids>,
    /// Whether the caller is in a user namespace: some of the host cannot be had there.
    pub plain_user: bool,
}

/// All that flags and image say, read and found to be possible here.
struct Parts {
    capabilities: Vec<String>,
    security: Security,
    seccomp: Option<Value>,
    workdir: String,
    ulimits: Vec<Value>,
    oom_score: Option<i32>,
    resources: Map<String, Value>,
    devices: Vec<devices::Device>,
    annotations: Map<String, Value>,
}

impl Parts {
    fn read(image: &Execution, flags: &Flags, plain_user: bool) -> Result<Self> {
        let host = Host::new(plain_user);
        let capabilities = capabilities::capabilities(flags)?;
        let security = Security::parse(flags)?;
        let devices = devices::devices(flags, plain_user)?;
        let mut resources = resources::resources(flags, &host)?;
        // Unlimited is what a new cgroup is, and not all runtimes know the word.
        if flags.pids_limit == Some(-1) {
            resources.remove("pids");
        }
        let rules = devices::rules(flags, &devices)?;
        // A plain user may not tell the kernel which devices; those that there are belong to root.
        if !plain_user {
            resources.insert("devices".into(), rules.into());
        } else if !flags.device_cgroup_rule.is_empty() {
            bail!("--device-cgroup-rule: only root may tell the kernel which devices a container may use");
        }
        Ok(Self {
            seccomp: security.seccomp(flags, &capabilities)?,
            workdir: process::workdir(image, flags)?,
            ulimits: process::ulimits(flags)?,
            oom_score: process::oom_score(flags, plain_user)?,
            annotations: annotations(image, flags)?,
            capabilities,
            security,
            resources,
            devices,
        })
    }
}

/// `linux.resources`, but for the devices' list, which does not change.
pub fn update(flags: &Flags, plain_user: bool) -> Result<Value> {
    Ok(resources::resources(flags, &Host::new(plain_user))?.into())
}

/// Reads all flags before anything is made: what is wrong, or cannot be had on this machine, is an error. Gives the
/// flags as they are kept with the container: with the contents of the files that they name and the caller's values of
/// variables, so that a later start needs neither.
pub fn check(image: &Execution, flags: &Flags, plain_user: bool) -> Result<Flags> {
    refuse(flags)?;
    let flags = Flags {
        env: process::settled_environment(&flags.env_file, &flags.env)?,
        env_file: Vec::new(),
        label: settled_labels(flags)?,
        label_file: Vec::new(),
        security_opt: security::with_contents(&flags.security_opt)?,
        ..flags.clone()
    };
    let networks = match flags.network.as_slice() {
        [] if plain_user => vec!["none".to_owned()],
        [] => vec![USUAL.to_owned()],
        given => given.to_vec(),
    };
    let flags = Flags { network: networks, ..flags };
    check_network(image, &flags, plain_user)?;
    let modes = Modes::parse(&flags)?;
    if let (true, Some((kind, _, name))) = (plain_user, joined(&flags)?.first()) {
        bail!(
            "container:{name}: a plain user's containers each have a user namespace of their own, whose {kind} namespace no other one may join"
        );
    }
    Parts::read(image, &flags, plain_user)?;
    hostname(&flags, &modes, "default")?;
    process::environment(image, &flags, None)?;
    namespaces::sysctls(&flags, &modes, false)?;
    mounts::shm_size(&flags)?;
    cgroup(&flags, "ID")?;
    if plain_user && flags.cgroup_parent.is_some() {
        bail!("--cgroup-parent: only root may choose where a container's cgroup is");
    }
    files::check(&flags)?;
    ids::wanted(&flags, plain_user)?;
    restart(&flags)?;
    health(image, &flags)?;
    log_options(&flags)?;
    stop_signal(image, &flags)?;
    stop_timeout(&flags)?;
    Ok(flags)
}

/// Reads what the flags say of networks.
fn check_network(image: &Execution, flags: &Flags, plain_user: bool) -> Result<()> {
    let wanted = wanted(flags)?;
    ports::wanted(flags, image.exposed_ports.iter().flatten().map(|it| it.0.as_str()))?;
    if plain_user && let Some(first) = wanted.first() {
        bail!("--network {}: only root may make devices on the host: take none or host", first.network);
    }
    if let Some(name) = cni(flags) {
        if plain_user {
            bail!("--network cni:{name}: only root may make devices on the host: take none or host");
        }
        network::cni::find(name)?;
    }
    if let Mode::Path(path) = Modes::parse(flags)?.network {
        let file = std::fs::File::open(path).with_context(|| format!("--network ns:{path}"))?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if !link.to_string_lossy().starts_with("net:[") {
            bail!("--network ns:{path}: it is no network namespace, as /proc/PID/ns/net and /run/netns/NAME are");
        }
    }
    Ok(())
}

/// What Docker knows, and cannot be had here.
fn refuse(flags: &Flags) -> Result<()> {
    if flags.gpus.is_some() {
        bail!("--gpus: this tool knows no maker's devices: name their nodes and libraries by --device and --volume");
    }
    if flags.isolation.as_deref().is_some_and(|it| it != "default") {
        bail!("--isolation: these are isolations of Windows: leave it away");
    }
    if !flags.storage_opt.is_empty() {
        bail!("--storage-opt: overlay cannot limit one container's files: --read-only and a --tmpfs with size= can");
    }
    if flags.volume_driver.as_deref().is_some_and(|it| it != "local") {
        bail!("--volume-driver: there is only the driver local");
    }
    Ok(())
}

/// The whole document, of flags that [`check`] has given.
pub fn build(image: &Execution, flags: &Flags, command: &[String], place: &Place<'_>) -> Result<Value> {
    let parts = Parts::read(image, flags, place.plain_user)?;
    let modes = Modes::parse(flags)?;
    let hostname = hostname(flags, &modes, place.hostname)?;
    let process = process(image, flags, command, place, &parts, hostname.as_deref())?;

    let mut linux = Map::new();
    linux.insert("namespaces".into(), namespaces::namespaces(&modes, place)?);
    if let Some(own) = place.ids {
        let (uids, gids) = own.mappings();
        linux.insert("uidMappings".into(), uids);
        linux.insert("gidMappings".into(), gids);
    }
    linux.insert("resources".into(), parts.resources.into());
    if let Some(cgroup) = &place.cgroup {
        linux.insert("cgroupsPath".into(), json!(cgroup));
    }
    let all_groups = !place.plain_user && place.ids.is_none();
    let mut sysctls = namespaces::sysctls(flags, &modes, all_groups)?;
    if let Some(domain) = flags.domainname.as_ref().filter(|_| hostname.is_some()) {
        // The field of its own is younger than many runtimes.
        sysctls.insert("kernel.domainname".into(), json!(domain));
    }
    if !sysctls.is_empty() {
        linux.insert("sysctl".into(), sysctls.into());
    }
    if !parts.devices.is_empty() {
        linux.insert("devices".into(), parts.devices.iter().map(devices::Device::node).collect());
    }
    let (masked, read_only) = parts.security.paths();
    for (key, paths) in [("maskedPaths", masked), ("readonlyPaths", read_only)] {
        if !paths.is_empty() {
            linux.insert(key.into(), json!(paths));
        }
    }
    if let Some(propagation) = place.propagation {
        linux.insert("rootfsPropagation".into(), json!(propagation));
    }
    if let Some(profile) = parts.seccomp {
        linux.insert("seccomp".into(), profile);
    }

    let mut document = json!({
        "ociVersion": OCI_VERSION,
        "process": process,
        "root": {"path": place.root_path, "readonly": flags.read_only},
        "mounts": mounts::mounts(flags, &modes, place)?,
        "linux": linux,
        "annotations": parts.annotations,
    });
    if let Some(hostname) = hostname {
        document["hostname"] = json!(hostname);
    }
    Ok(document)
}

/// The user and group that the program starts as, as numbers of the container.
pub fn owner(image: &Execution, flags: &Flags, root: BorrowedFd<'_>) -> Result<(u32, u32)> {
    let who = users::look_up(root, flags.user.as_deref().unwrap_or(&image.user), &[])?;
    Ok((who.uid, who.gid))
}

fn process(
    image: &Execution,
    flags: &Flags,
    command: &[String],
    place: &Place<'_>,
    parts: &Parts,
    hostname: Option<&str>,
) -> Result<Value> {
    let who = users::look_up(place.root, flags.user.as_deref().unwrap_or(&image.user), &flags.group_add)?;
    // The group itself stands among the further ones: a program that drops it must not be able to get past a
    // "deny" for it (CVE-2022-36109).
    let mut groups = vec![who.gid];
    groups.extend(who.groups.iter().filter(|it| **it != who.gid));
    if let Some(ids) = place.ids {
        ids.check(who.uid, &groups)?;
    }
    // Another user than root keeps no capability but what a file or a user namespace gives, as with Docker.
    let effective: &[String] = if who.uid == 0 { &parts.capabilities } else { &[] };
    let words = arguments(image, flags.entrypoint.as_deref(), command)?;
    let mut process = json!({
        "terminal": flags.tty,
        "user": {"uid": who.uid, "gid": who.gid, "additionalGids": groups},
        "args": process::started(words, flags.init),
        "env": process::environment(image, flags, hostname)?,
        "cwd": parts.workdir,
        "capabilities": {"bounding": parts.capabilities, "effective": effective, "permitted": effective},
        "noNewPrivileges": parts.security.no_new_privileges,
        "rlimits": parts.ulimits,
    });
    for (key, value) in [
        ("oomScoreAdj", parts.oom_score.map(Value::from)),
        ("apparmorProfile", parts.security.apparmor.clone().map(Value::from)),
        ("selinuxLabel", parts.security.label.clone().map(Value::from)),
    ] {
        if let Some(value) = value {
            process[key] = value;
        }
    }
    Ok(process)
}

/// The container's cgroup: of its own id, in the one that `--cgroup-parent` names.
pub fn cgroup(flags: &Flags, id: &str) -> Result<String> {
    let parent = flags.cgroup_parent.as_deref().unwrap_or("");
    if parent.split('/').any(|it| it == "..") || parent.contains(['\0', '\n']) || parent.contains(':') {
        bail!("--cgroup-parent {parent:?}: not the path of a cgroup");
    }
    let parent = if parent.is_empty() { String::new() } else { units::clean(&format!("/{parent}")) };
    Ok(format!("{}/bundle-{id}", parent.trim_end_matches('/')))
}

/// The labels of image and flags; the flags' count.
pub fn labels(image: &Execution, flags: &Flags) -> Result<BTreeMap<String, String>> {
    let mut labels = image.labels.clone().unwrap_or_default();
    labels.extend(units::labels(&flags.label).context("--label")?);
    Ok(labels)
}

fn settled_labels(flags: &Flags) -> Result<Vec<String>> {
    let mut labels = Vec::new();
    for file in &flags.label_file {
        let lines = units::lines_of(file).with_context(|| format!("--label-file {file}"))?;
        units::labels(&lines).with_context(|| format!("--label-file {file}"))?;
        labels.extend(lines);
    }
    labels.extend(flags.label.iter().cloned());
    Ok(labels)
}

fn annotations(image: &Execution, flags: &Flags) -> Result<Map<String, Value>> {
    let mut annotations: Map<String, Value> =
        labels(image, flags)?.into_iter().map(|(key, value)| (key, json!(value))).collect();
    if let Some(signal) = flags.stop_signal.as_ref().or(image.stop_signal.as_ref()) {
        annotations.insert("org.opencontainers.image.stopSignal".into(), json!(signal));
    }
    for text in &flags.annotation {
        let (key, value) = text
            .split_once('=')
            .filter(|it| !it.0.is_empty())
            .with_context(|| format!("--annotation {text:?}: not of the form KEY=VALUE"))?;
        annotations.insert(key.to_owned(), json!(value));
    }
    // An empty key is a fault of the runtime specification, not of a label.
    annotations.remove("");
    Ok(annotations)
}

fn hostname(flags: &Flags, modes: &Modes, default: &str) -> Result<Option<String>> {
    // HOST_NAME_MAX of Linux.
    let good = |it: &str| (1..=64).contains(&it.len()) && !it.contains(['\0', '/', '\n']);
    let name = flags.hostname.as_deref().unwrap_or(default);
    if !good(name) {
        bail!("--hostname {name:?}: 1 to 64 bytes are a host name");
    }
    if let Some(name) = flags.domainname.as_deref().filter(|it| !good(it)) {
        bail!("--domainname {name:?}: 1 to 64 bytes are a domain");
    }
    Ok((modes.uts == Mode::Own).then(|| name.to_owned()))
}
