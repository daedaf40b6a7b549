//! From a document and what is known of the host to a [`Plan`]: plain data that says everything
//! `create` will do, in order. Pure: no file is read and nothing is changed here, so bad input can
//! never leave half a container, and `rt plan` prints exactly what `create` follows.

pub mod describe;
pub mod host;
pub mod names;
pub mod options;
pub mod process;
pub mod rootfs;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::cgroup;
use crate::cgroup::systemd::{Unit, properties};
use crate::config::problem::{Problems, token};
use crate::config::types::{Hooks, IdMapping, Spec};
use crate::seccomp;
use host::{Host, Systemd};
use options::Propagation;
use process::{Process, Surroundings};
use rootfs::Step;

/// What the command line adds to the document.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The container's id, already checked.
    pub id: String,
    /// The bundle's directory, absolute.
    pub bundle: PathBuf,
    /// `--no-pivot`: move the root instead of pivot_root(2), for a runtime on an initial ramfs.
    pub no_pivot: bool,
    /// `--no-new-keyring`: keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// `--preserve-fds`, with those of `LISTEN_FDS` counted in.
    pub preserve_fds: u32,
    /// How many of them systemd passed (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// `NOTIFY_SOCKET` of the caller (sd_notify(3)).
    pub notify_socket: Option<String>,
}

/// Everything that `create` will do.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Where the container's files are.
    pub root: Root,
    /// Which namespaces it gets.
    pub namespaces: Namespaces,
    /// Name of a new session keyring (keyrings(7)).
    pub keyring: Option<String>,
    /// sethostname(2).
    pub hostname: Option<&'a str>,
    /// setdomainname(2).
    pub domainname: Option<&'a str>,
    /// Bring `lo` up: the network namespace is new.
    pub loopback: bool,
    /// Network devices to move: name here, name there.
    pub net_devices: Vec<(&'a str, &'a str)>,
    /// What is mounted and made inside the root, in order.
    pub steps: Vec<Step<'a>>,
    /// Kernel parameters: path below /proc/sys, value, name in the document.
    pub sysctl: Vec<(String, &'a str, &'a str)>,
    /// The cgroup directories and their limits.
    pub cgroup: cgroup::Plan,
    /// resctrl, where it is asked for.
    pub rdt: Option<crate::launch::rdt::Plan>,
    /// personality(2).
    pub personality: Option<u32>,
    /// set_mempolicy(2): mode and node mask.
    pub memory_policy: Option<(i32, Vec<u64>)>,
    /// What is executed; without it the container can be created but not started.
    pub process: Option<Process<'a>>,
    /// The finished system call filter.
    pub seccomp: Option<seccomp::Filter>,
    /// Programs to run at the six moments.
    pub hooks: &'a Hooks<'a>,
    /// Move the root instead of pivot_root(2).
    pub no_pivot: bool,
    /// How many descriptors from 3 on stay open in the program.
    pub preserve_fds: u32,
}

/// The root file system.
#[derive(Debug)]
pub struct Root {
    /// Absolute path on the host.
    pub path: PathBuf,
    /// Read-only once everything in it is made.
    pub readonly: bool,
    /// Set on `/` after the old root is gone.
    pub propagation: Option<Propagation>,
}

/// A namespace that exists already.
#[derive(Debug, Clone)]
pub struct Join {
    /// `CLONE_NEW…`
    pub kind: u64,
    /// Namespace file.
    pub path: String,
    /// Where it stands in the document.
    pub pointer: String,
}

/// What is made and what is joined.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Flags for the one clone.
    pub create: u64,
    /// Made by init itself, once it is in its cgroup: a new cgroup namespace's root is the cgroup
    /// that its maker is in (cgroup_namespaces(7)).
    pub cgroup: bool,
    /// Made by the parent before the clone, since offsets can be set only while nobody is inside
    /// (time_namespaces(7)). Lines for /proc/self/timens_offsets.
    pub time: Option<String>,
    /// Existing ones.
    pub join: Vec<Join>,
    /// For a new user namespace.
    pub uid_map: Vec<IdMapping>,
    /// For a new user namespace.
    pub gid_map: Vec<IdMapping>,
}

impl Namespaces {
    /// Every kind that is made or joined, as flags.
    pub fn all(&self) -> u64 {
        let joined = self.join.iter().fold(0, |flags, join| flags | join.kind);
        let cgroup = if self.cgroup { libc::CLONE_NEWCGROUP as u64 } else { 0 };
        let time = if self.time.is_some() { libc::CLONE_NEWTIME as u64 } else { 0 };
        self.create | joined | cgroup | time
    }

    /// Whether the container has a user namespace of its own or joins one.
    pub fn has_user(&self) -> bool {
        self.create & libc::CLONE_NEWUSER as u64 != 0 || self.joins(libc::CLONE_NEWUSER)
    }

    /// Whether a namespace of this kind is joined.
    pub fn joins(&self, kind: i32) -> bool {
        self.join.iter().any(|join| join.kind == kind as u64)
    }

    /// Whether a namespace of this kind is made by the clone.
    pub fn makes(&self, kind: i32) -> bool {
        self.create & kind as u64 != 0
    }

    /// Whether an extra process has to enter namespaces before init is cloned: a process can be
    /// cloned into a new namespace only by one that is already in the user namespace that shall own
    /// it, and namespaces of the host cannot be joined any more from inside a new user namespace.
    pub fn staged(&self) -> bool {
        self.has_user() && !self.join.is_empty() && !self.apart()
    }

    /// Whether the process that sets the container up stays outside its pid namespace, because others
    /// live there already, who could look at what it has of the host (/proc/PID/root, /proc/PID/fd). Init
    /// is cloned from it when all of that is gone.
    pub fn apart(&self) -> bool {
        self.joins(libc::CLONE_NEWPID)
    }
}

/// Plans the container. What the document or the host cannot give goes to `problems`; the plan is
/// of use only when none of them is fatal.
pub fn plan<'a>(spec: &'a Spec<'a>, request: &Request, host: &Host, problems: &mut Problems) -> Plan<'a> {
    let linux = &spec.linux;
    let namespaces = namespaces(spec, problems);
    let root = Root {
        path: request.bundle.join(spec.root.as_ref().map_or("", |root| &*root.path)),
        readonly: spec.root.as_ref().is_some_and(|root| root.readonly),
        propagation: linux.rootfs_propagation.as_deref().and_then(options::propagation),
    };
    let mut cgroup = cgroup(spec, request, host, problems);
    cgroup.by_init = !namespaces.has_user() && !namespaces.joins(libc::CLONE_NEWNS);
    // What a plain user makes is that user's own already.
    let may_give = host.can(caps::Capability::CAP_CHOWN) && cgroup.v2().is_some() && host.layout.v1.is_empty();
    cgroup.owner = cgroup_owner(spec, &namespaces).filter(|_| may_give);
    cgroup.devices_optional = namespaces.has_user() || host.own_cgroup.is_some();
    let surroundings = Surroundings {
        user_namespace: namespaces.has_user(),
        capabilities: host.capabilities,
        apparmor: host.apparmor,
        selinux: host.selinux,
    };
    let process = spec.process.as_ref().map(|process| process::plan(process, &surroundings, request, problems));
    let label = linux.mount_label.as_deref().filter(|label| !label.is_empty());
    if label.is_some() && !host.selinux {
        problems.unavailable("/linux/mountLabel", "needs SELinux, which this kernel does not run");
    }
    let steps = rootfs::plan(spec, request, &namespaces, &cgroup, host);
    let rdt = linux.intel_rdt.as_ref().and_then(|rdt| {
        if host.resctrl.is_none() {
            problems.unavailable("/linux/intelRdt", "needs a mounted resctrl file system, and this host has none");
        }
        Some(crate::launch::rdt::Plan::new(rdt, host.resctrl.as_deref()?, &request.id))
    });
    let seccomp = linux.seccomp.as_ref().and_then(|profile| match seccomp::compile(profile) {
        Ok(filter) => Some(filter),
        Err(why) => {
            problems.invalid("/linux/seccomp", why);
            None
        }
    });
    Plan {
        keyring: (!request.no_new_keyring).then(|| format!("_ses.{}", request.id)),
        hostname: spec.hostname.as_deref().filter(|name| !name.is_empty()),
        domainname: spec.domainname.as_deref().filter(|name| !name.is_empty()),
        loopback: namespaces.makes(libc::CLONE_NEWNET),
        net_devices: linux
            .net_devices
            .iter()
            .map(|(name, device)| (&**name, device.name.as_deref().filter(|new| !new.is_empty()).unwrap_or(name)))
            .collect(),
        sysctl: linux
            .sysctl
            .iter()
            .map(|(key, value)| {
                let path = names::sysctl_dots(key)
                    .chars()
                    .map(|c| match c {
                        '.' => '/',
                        '/' => '.',
                        other => other,
                    })
                    .collect();
                (path, &**value, &**key)
            })
            .collect(),
        personality: linux.personality.as_ref().and_then(|it| names::personality(&it.domain)),
        memory_policy: linux.memory_policy.as_ref().and_then(|policy| names::memory_policy(policy).ok()),
        hooks: &spec.hooks,
        no_pivot: request.no_pivot,
        preserve_fds: request.preserve_fds,
        root,
        namespaces,
        steps,
        cgroup,
        rdt,
        process,
        seccomp,
    }
}

/// The cgroup: `cgroupsPath` where there is one, else the id. A path without a slash in front is
/// taken from the top, but for a plain user, who has nothing there: from beside the cgroup that the
/// user is in, which hands controllers down only if no process is in it.
fn cgroup(spec: &Spec<'_>, request: &Request, host: &Host, problems: &mut Problems) -> cgroup::Plan {
    let linux = &spec.linux;
    if let Some(systemd) = &host.systemd {
        return unit(spec, request, host, systemd, problems);
    }
    let asked = linux.cgroups_path.as_deref().filter(|path| !path.is_empty());
    let mut path = options::clean(asked.unwrap_or(&request.id)).into_owned();
    if path == "/" {
        problems.invalid("/linux/cgroupsPath", "must name a cgroup below the root cgroup");
    }
    if let Some(own) = host.own_cgroup.as_deref().filter(|_| asked.is_none_or(|path| !path.starts_with('/'))) {
        let beside = own.rsplit_once('/').map_or("", |(parent, _)| parent);
        path = options::clean(&format!("{beside}{path}")).into_owned();
    }
    let mut plan = cgroup::plan(&path, &linux.resources, &host.layout, problems);
    if host.without_cgroups {
        if let Some(limit) = plan.writes.iter().find(|write| !write.file.starts_with("devices.")) {
            problems.unavailable(&limit.pointer, "takes a cgroup, and --cgroup-manager is disabled");
        }
        return cgroup::Plan { optional: true, ..cgroup::Plan::default() };
    }
    plan.named = asked.is_some();
    plan.optional = !plan.named && plan.writes.iter().all(|write| write.file.starts_with("devices."));
    plan
}

/// The host's number of the container's user, where the container may make cgroups: it has a cgroup
/// namespace of its own, and /sys/fs/cgroup to write to.
fn cgroup_owner(spec: &Spec<'_>, namespaces: &Namespaces) -> Option<u32> {
    let writable = spec.mounts.iter().any(|mount| {
        mount.kind.as_deref().is_some_and(|kind| kind.starts_with("cgroup"))
            && options::clean(&mount.destination) == "/sys/fs/cgroup"
            && !mount.options.iter().any(|option| &**option == "ro")
    });
    let uid = spec.process.as_ref()?.user.uid;
    if !namespaces.cgroup || !writable || namespaces.joins(libc::CLONE_NEWUSER) {
        return None;
    }
    if !namespaces.makes(libc::CLONE_NEWUSER) {
        return (uid != 0).then_some(uid);
    }
    let inside = |range: &&IdMapping| uid.checked_sub(range.container_id).is_some_and(|offset| offset < range.size);
    let range = namespaces.uid_map.iter().find(inside)?;
    Some(range.host_id + (uid - range.container_id))
}

/// The cgroup by systemd's hands: `cgroupsPath` is `slice:prefix:name`.
fn unit(spec: &Spec<'_>, request: &Request, host: &Host, systemd: &Systemd, problems: &mut Problems) -> cgroup::Plan {
    let linux = &spec.linux;
    let unit = match Unit::parse(linux.cgroups_path.as_deref().unwrap_or_default(), &request.id, systemd.user) {
        Ok(unit) => unit,
        Err(error) => {
            problems.invalid("/linux/cgroupsPath", error.to_string());
            return cgroup::Plan::default();
        }
    };
    let path = format!("{}{}", systemd.control_group, unit.path());
    let mut plan = cgroup::plan(&path, &linux.resources, &host.layout, problems);
    if host.without_cgroups {
        if let Some(limit) = plan.writes.iter().find(|write| !write.file.starts_with("devices.")) {
            problems.unavailable(&limit.pointer, "takes a cgroup, and --cgroup-manager is disabled");
        }
        return cgroup::Plan { optional: true, ..cgroup::Plan::default() };
    }
    let v2 = host.layout.v1.is_empty();
    let properties = properties(&linux.resources, &spec.annotations, v2, systemd.version, problems);
    plan.scope = Some(cgroup::Scope { unit, properties });
    plan
}

fn namespaces(spec: &Spec<'_>, problems: &mut Problems) -> Namespaces {
    let linux = &spec.linux;
    let mut namespaces = Namespaces::default();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let Some(kind) = names::namespace(&namespace.kind) else { continue };
        if let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty()) {
            let pointer = format!("/linux/namespaces/{index}/path");
            namespaces.join.push(Join { kind, path: path.to_owned(), pointer });
        } else if kind == libc::CLONE_NEWCGROUP as u64 {
            namespaces.cgroup = true;
        } else if kind == libc::CLONE_NEWTIME as u64 {
            namespaces.time = Some(String::new());
        } else {
            namespaces.create |= kind;
        }
    }
    if let Some(lines) = &mut namespaces.time {
        for (clock, offset) in &linux.time_offsets {
            lines.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
        }
    }
    if namespaces.makes(libc::CLONE_NEWUSER) {
        namespaces.uid_map.clone_from(&linux.uid_mappings);
        namespaces.gid_map.clone_from(&linux.gid_mappings);
    }
    if namespaces.has_user() && !namespaces.join.is_empty() && namespaces.time.is_some() {
        let key = token("timeOffsets");
        problems.unavailable(
            format!("/linux/{key}"),
            "a new time namespace cannot be had together with a joined namespace and a user namespace",
        );
    }
    namespaces
}

/// The absolute path of a bundle's file: `path` is absolute or relative to the bundle.
pub fn in_bundle(bundle: &Path, path: &str) -> PathBuf {
    bundle.join(path)
}
