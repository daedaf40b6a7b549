//! Which namespaces are the container's own, which the host's, which another container's.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::Place;
use crate::cli::flags::Flags;

/// Whose a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    /// The container's own.
    Own,
    /// The host's.
    Host,
    /// That of the container with this name.
    Container(&'a str),
    /// The one that this file stands for.
    Path(&'a str),
}

/// Whose each of them is; the mount namespace is always the container's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes<'a> {
    /// Processes.
    pub pid: Mode<'a>,
    /// System V IPC and message queues.
    pub ipc: Mode<'a>,
    /// Whether there is a /dev/shm (`--ipc none` has none).
    pub shm: bool,
    /// Host name.
    pub uts: Mode<'a>,
    /// Cgroups.
    pub cgroup: Mode<'a>,
    /// Interfaces, addresses, ports.
    pub network: Mode<'a>,
}

impl<'a> Modes<'a> {
    /// Reads the flags.
    pub fn parse(flags: &'a Flags) -> Result<Self> {
        let text = |it: &'a Option<String>| it.as_deref().unwrap_or("private");
        let ipc = text(&flags.ipc);
        let modes = Self {
            pid: mode("--pid", text(&flags.pid), true)?,
            ipc: match ipc {
                "none" | "shareable" => Mode::Own,
                other => mode("--ipc", other, true)?,
            },
            shm: ipc != "none",
            uts: mode("--uts", text(&flags.uts), false)?,
            cgroup: mode("--cgroupns", text(&flags.cgroupns), false)?,
            network: network(&flags.network)?,
        };
        if modes.uts == Mode::Host && (flags.hostname.is_some() || flags.domainname.is_some()) {
            bail!("--hostname and --domainname need the container's own host name: not with --uts host");
        }
        if flags.shm_size.is_some() && (modes.ipc != Mode::Own || !modes.shm) {
            bail!("--shm-size: only for a /dev/shm of the container's own: not with --ipc {ipc}");
        }
        Ok(modes)
    }

    fn list(self) -> [(&'static str, &'static str, Mode<'a>); 5] {
        [
            ("pid", "pid", self.pid),
            ("ipc", "ipc", self.ipc),
            ("uts", "uts", self.uts),
            ("cgroup", "cgroup", self.cgroup),
            ("network", "net", self.network),
        ]
    }
}

/// The containers whose namespaces are joined: the namespace as config.json calls it, its file below /proc/PID/ns, the
/// container's name. All have to be running when this one is started.
pub fn joined(flags: &Flags) -> Result<Vec<(&'static str, &'static str, &str)>> {
    let list = Modes::parse(flags)?.list().into_iter();
    Ok(list
        .filter_map(|(kind, file, mode)| match mode {
            Mode::Container(name) => Some((kind, file, name)),
            _ => None,
        })
        .collect())
}

/// Whose network it is. Which of ours it is connected to is in `network/wanted.rs`.
fn network(words: &[String]) -> Result<Mode<'_>> {
    let [word] = words else { return Ok(Mode::Own) };
    match word.split_once(':') {
        _ if word == "host" => Ok(Mode::Host),
        Some(("container", name)) if !name.is_empty() => Ok(Mode::Container(name)),
        Some(("ns", path)) if path.starts_with('/') => Ok(Mode::Path(path)),
        Some(("cni", name)) if !name.is_empty() => Ok(Mode::Own),
        Some(_) if !word.contains('=') => {
            bail!("--network {word:?}: known are a network's name, none, host, container:NAME, ns:/PATH and cni:NAME")
        }
        _ => Ok(Mode::Own),
    }
}

fn mode<'a>(flag: &str, text: &'a str, others: bool) -> Result<Mode<'a>> {
    match (text, text.split_once(':')) {
        ("private", _) => Ok(Mode::Own),
        ("host", _) => Ok(Mode::Host),
        (_, Some(("container", name))) if others && !name.is_empty() => Ok(Mode::Container(name)),
        _ if flag == "--ipc" => {
            bail!("{flag} {text:?}: known are none, private, shareable, host and container:NAME")
        }
        _ if others => bail!("{flag} {text:?}: known are private, host and container:NAME"),
        _ => bail!("{flag} {text:?}: known are private and host"),
    }
}

/// `linux.namespaces`.
pub fn namespaces(modes: &Modes, place: &Place<'_>) -> Result<Value> {
    let mut list = vec![json!({"type": "mount"})];
    if place.ids.is_some() {
        list.push(json!({"type": "user"}));
    }
    for (kind, _, mode) in modes.list() {
        match mode {
            Mode::Own => match place.network.filter(|_| kind == "network") {
                Some(path) => list.push(json!({"type": kind, "path": path})),
                None => list.push(json!({"type": kind})),
            },
            Mode::Path(path) => list.push(json!({"type": kind, "path": path})),
            Mode::Host => {}
            Mode::Container(name) => {
                let path = place.join.iter().find(|it| it.0 == kind).map(|it| &it.1);
                let path =
                    path.with_context(|| format!("the {kind} namespace of container {name} was not looked up"))?;
                list.push(json!({"type": kind, "path": path}));
            }
        }
    }
    Ok(list.into())
}

/// `linux.sysctl`: what is asked for, and Docker's two: everybody may bind low ports and send pings in a network
/// namespace that is the container's alone.
pub fn sysctls(flags: &Flags, modes: &Modes, all_groups: bool) -> Result<Map<String, Value>> {
    let mut sysctls = Map::new();
    if modes.network == Mode::Own {
        let all_groups = all_groups.then_some(("net.ipv4.ping_group_range", "0 2147483647"));
        for (key, value) in all_groups.into_iter().chain([("net.ipv4.ip_unprivileged_port_start", "0")]) {
            if std::path::Path::new("/proc/sys").join(key.replace('.', "/")).exists() {
                sysctls.insert(key.to_owned(), json!(value));
            }
        }
    }
    for text in &flags.sysctl {
        let (key, value) = text
            .split_once('=')
            .map(|(key, value)| (key.trim().replace('/', "."), value.trim()))
            .filter(|(key, _)| key.split('.').all(|it| !it.is_empty()) && !key.contains("..") && !key.contains('\0'))
            .with_context(|| format!("--sysctl {text:?}: not of the form NAME=VALUE"))?;
        let (mode, what) = namespace_of(&key, modes)
            .with_context(|| format!("--sysctl {key}: it is the whole machine's, no container has one of its own"))?;
        match mode {
            Mode::Own => {}
            Mode::Host => bail!("--sysctl {key}: it would be the host's: not with {what} host"),
            Mode::Container(name) => bail!("--sysctl {key}: it is container {name}'s: give it there"),
            Mode::Path(path) => bail!("--sysctl {key}: it would be that of {path}: set it there"),
        }
        sysctls.insert(key, json!(value));
    }
    Ok(sysctls)
}

/// The namespace that a kernel parameter belongs to, and its flag.
fn namespace_of<'a>(key: &str, modes: &Modes<'a>) -> Option<(Mode<'a>, &'static str)> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    if key.strip_prefix("kernel.").is_some_and(|it| IPC.contains(&it)) || key.starts_with("fs.mqueue.") {
        Some((modes.ipc, "--ipc"))
    } else if key.starts_with("net.") {
        Some((modes.network, "--network"))
    } else if key == "kernel.domainname" {
        Some((modes.uts, "--uts"))
    } else {
        None
    }
}
