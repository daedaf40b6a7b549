//! What is mounted and made inside the root file system, as a list of typed steps.

use std::borrow::Cow;

use super::host::Host;
use super::options::{self, Attributes, Options, Propagation};
use super::{Namespaces, Request, in_bundle};
use crate::cgroup;
use crate::config::types::{IdMapping, Mount as Entry, Spec};

/// Where the caller's `NOTIFY_SOCKET` is found inside the container.
pub const NOTIFY_SOCKET: &str = "/run/notify/notify.sock";

/// One thing to do below the root. Paths are absolute inside the container, cleaned, and resolved
/// by the kernel against the root's descriptor.
#[derive(Debug, Clone)]
pub enum Step<'a> {
    /// Mount something. Boxed, since it is ten times as large as the others.
    Mount(Box<Mount<'a>>),
    /// From here on init must be in its cgroup: wait for the parent, and make the cgroup namespace.
    EnterCgroup,
    /// A device node; a bind mount of the host's where nodes cannot be made.
    Device(Device<'a>),
    /// A symbolic link, if nothing is there.
    Link {
        /// Path of the link.
        path: &'a str,
        /// What it says.
        target: &'a str,
        /// Put it in the place of a file that is there.
        replace: bool,
    },
    /// Make it read empty (config-linux.md, "Masked Paths").
    Mask(Cow<'a, str>),
    /// Make it read-only with all below it (config-linux.md, "Readonly Paths").
    ReadOnly(Cow<'a, str>),
    /// Make a directory with its parents, where it is missing.
    Directory(Cow<'a, str>),
}

impl Step<'_> {
    /// What the timeline calls it.
    pub fn name(&self) -> String {
        match self {
            Step::Mount(mount) => format!("mount {}", mount.destination),
            Step::EnterCgroup => "enter the cgroup".to_owned(),
            Step::Device(device) => format!("device {}", device.path),
            Step::Link { path, .. } => format!("link {path}"),
            Step::Mask(path) => format!("mask {path}"),
            Step::ReadOnly(path) => format!("read-only {path}"),
            Step::Directory(path) => format!("directory {path}"),
        }
    }
}

/// One mount.
#[derive(Debug, Clone)]
pub struct Mount<'a> {
    /// Index in `/mounts`; none for what the runtime adds.
    pub index: Option<usize>,
    /// Mount point.
    pub destination: Cow<'a, str>,
    /// What is mounted.
    pub what: What<'a>,
    /// Attributes of the mount.
    pub attributes: Attributes,
    /// Attributes of the whole tree.
    pub recursive: Attributes,
    /// Set once it is in place.
    pub propagation: Option<Propagation>,
}

/// The three ways to come by a mount.
#[derive(Debug, Clone)]
pub enum What<'a> {
    /// A file system of its own.
    New {
        /// As in /proc/filesystems.
        fstype: &'a str,
        /// As shown in /proc/mounts.
        source: &'a str,
        /// Options of the file system: key, or key and value.
        data: Vec<Cow<'a, str>>,
        /// Flags of the superblock.
        superblock: Vec<&'static str>,
        /// Fill it with what lies below.
        copy_up: bool,
    },
    /// A file or directory of the host.
    Bind {
        /// Absolute path on the host.
        source: String,
        /// With what is mounted below it.
        recursive: bool,
        /// Ids shifted.
        idmap: Option<IdMap>,
        /// Opened by the parent before the clone, with its rights and in its mount namespace.
        early: bool,
        /// Where it is a v1 cgroup that may not have been made: mount and controllers of the hierarchy, of
        /// which the group that the process is in is taken then.
        hierarchy: Option<(String, String)>,
    },
    /// Change what is mounted there already.
    Remount {
        /// Options of the file system.
        data: Vec<Cow<'a, str>>,
        /// Flags of the superblock.
        superblock: Vec<&'static str>,
    },
}

/// The mapping of an idmapped mount (mount_setattr(2), Linux 5.12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// For the whole tree.
    pub recursive: bool,
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

/// A device node.
#[derive(Debug, Clone)]
pub struct Device<'a> {
    /// Path of the node.
    pub path: Cow<'a, str>,
    /// `c`, `b`, or `p`.
    pub kind: char,
    /// Numbers; 0 for `p`.
    pub major: u32,
    /// Numbers; 0 for `p`.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bind the host's node: in a user namespace nodes cannot be made.
    pub bind: bool,
}

/// config-linux.md, "Default Devices", all of mode 0666.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that programs expect (config.md of the spec's runtime-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// Whether a bind mount stays a peer of the host's: then the host's mounts, of which it is taken, may
/// not be cut off before.
pub fn shares_with_host(steps: &[Step<'_>]) -> bool {
    steps.iter().any(|step| match step {
        Step::Mount(mount) if matches!(mount.what, What::Bind { .. }) => {
            mount.propagation.is_some_and(|propagation| propagation.kind == libc::MS_SHARED)
        }
        _ => false,
    })
}

/// Plans everything below the root.
pub fn plan<'a>(
    spec: &'a Spec<'a>,
    request: &Request,
    namespaces: &Namespaces,
    cgroup: &cgroup::Plan,
    host: &Host,
) -> Vec<Step<'a>> {
    let paths = spec.linux.readonly_paths.len() + spec.linux.masked_paths.len();
    // The last ones are the default devices and links, and what a cgroup mount takes besides.
    let room = spec.mounts.len() + cgroup.dirs.len() + spec.linux.devices.len() + paths + 16;
    let mut steps = Vec::with_capacity(room);
    // Sources are opened by the parent where init could not: from inside a user namespace the
    // host's directories may be closed, and idmapping takes rights over the source's file system.
    let privileged = host.can(caps::Capability::CAP_SYS_ADMIN);
    let early = namespaces.has_user() && privileged;
    let label = spec.linux.mount_label.as_deref().filter(|label| !label.is_empty());
    for (index, entry) in spec.mounts.iter().enumerate() {
        mount(entry, index, spec, request, namespaces, cgroup, host, early, label, &mut steps);
    }
    if let Some(socket) = request.notify_socket.as_deref().filter(|socket| socket.starts_with('/')) {
        steps.push(Step::Mount(Box::new(Mount {
            index: None,
            destination: NOTIFY_SOCKET.into(),
            what: What::Bind { source: socket.to_owned(), recursive: false, idmap: None, early, hierarchy: None },
            attributes: Attributes::default(),
            recursive: Attributes::default(),
            propagation: None,
        })));
    }
    devices(spec, namespaces.has_user() || !host.can(caps::Capability::CAP_MKNOD), &mut steps);
    if let Some(process) = &spec.process {
        let cwd = options::clean(&process.cwd);
        if cwd != "/" {
            steps.push(Step::Directory(cwd));
        }
    }
    steps.extend(spec.linux.readonly_paths.iter().map(|path| Step::ReadOnly(options::clean(path))));
    steps.extend(spec.linux.masked_paths.iter().map(|path| Step::Mask(options::clean(path))));
    steps
}

fn words(options: &Options<'_>, label: Option<&str>, fstype: &str) -> Vec<Cow<'static, str>> {
    let mut data: Vec<Cow<'static, str>> =
        options.data.iter().map(|(_, word)| Cow::Owned((*word).to_owned())).collect();
    // proc and sysfs take no label of their own.
    if let Some(label) = label.filter(|_| !["proc", "sysfs", "cgroup", "cgroup2"].contains(&fstype)) {
        data.push(Cow::Owned(format!("context={label}")));
    }
    data
}

#[allow(clippy::too_many_arguments)]
fn mount<'a>(
    entry: &'a Entry<'a>,
    index: usize,
    spec: &'a Spec<'a>,
    request: &Request,
    namespaces: &Namespaces,
    cgroup: &cgroup::Plan,
    host: &Host,
    early: bool,
    label: Option<&str>,
    steps: &mut Vec<Step<'a>>,
) {
    let options = options::parse(&entry.options);
    let fstype = entry.kind.as_deref().unwrap_or_default();
    let mut mount = Mount {
        index: Some(index),
        destination: options::clean(&entry.destination),
        what: What::Remount { data: Vec::new(), superblock: Vec::new() },
        attributes: options.attributes,
        recursive: options.recursive,
        propagation: options.propagation,
    };
    if options.remount {
        mount.what = What::Remount { data: words(&options, None, fstype), superblock: options.superblock };
    } else if options.bind.is_some() || fstype == "bind" {
        let own_maps = entry.uid_mappings.clone().zip(entry.gid_mappings.clone());
        let idmap = match (own_maps, options.idmap) {
            (Some((uids, gids)), recursive) => Some(IdMap { recursive: recursive.unwrap_or(false), uids, gids }),
            (None, Some(recursive)) => {
                Some(IdMap { recursive, uids: spec.linux.uid_mappings.clone(), gids: spec.linux.gid_mappings.clone() })
            }
            (None, None) => None,
        };
        mount.what = What::Bind {
            source: in_bundle(&request.bundle, entry.source.as_deref().unwrap_or_default())
                .to_string_lossy()
                .into_owned(),
            recursive: options.bind.unwrap_or(true),
            early: early || idmap.is_some(),
            idmap,
            hierarchy: None,
        };
    } else if fstype == "cgroup" || fstype == "cgroup2" {
        return cgroup_mount(mount, options, namespaces, cgroup, host, steps);
    } else {
        mount.what = What::New {
            fstype,
            source: entry.source.as_deref().filter(|source| !source.is_empty()).unwrap_or(fstype),
            data: words(&options, label, fstype),
            superblock: options.superblock,
            copy_up: options.tmpcopyup,
        };
    }
    steps.push(Step::Mount(Box::new(mount)));
}

/// A mount of type `cgroup`. On v2 it is one file system. On v1 it is a tmpfs with one mount for
/// every hierarchy, which without a cgroup namespace shows only the container's own part.
fn cgroup_mount<'a>(
    mount: Mount<'a>,
    options: Options<'_>,
    namespaces: &Namespaces,
    cgroup: &cgroup::Plan,
    host: &Host,
    steps: &mut Vec<Step<'a>>,
) {
    steps.push(Step::EnterCgroup);
    let private = namespaces.cgroup || namespaces.joins(libc::CLONE_NEWCGROUP);
    if host.layout.v1.is_empty() {
        // From inside a user namespace only a cgroup namespace of its own can be mounted.
        let bind = host.layout.v2.as_ref().filter(|_| namespaces.has_user() && !private);
        let what = match bind {
            Some(source) => What::Bind {
                source: source.clone(),
                recursive: false,
                idmap: None,
                early: host.can(caps::Capability::CAP_SYS_ADMIN),
                hierarchy: None,
            },
            None => What::New {
                fstype: "cgroup2",
                source: "cgroup",
                data: words(&options, None, "cgroup2"),
                superblock: options.superblock,
                copy_up: false,
            },
        };
        return steps.push(Step::Mount(Box::new(Mount { what, ..mount })));
    }
    let read_only = mount.attributes.set & libc::MOUNT_ATTR_RDONLY != 0;
    let base = mount.destination.clone();
    // Read-only only when all is in it.
    let mut writable = mount.attributes;
    writable.set &= !libc::MOUNT_ATTR_RDONLY;
    steps.push(Step::Mount(Box::new(Mount {
        what: What::New {
            fstype: "tmpfs",
            source: "tmpfs",
            data: vec!["mode=755".into()],
            superblock: Vec::new(),
            copy_up: false,
        },
        attributes: writable,
        ..mount.clone()
    })));
    for dir in cgroup.v1() {
        let name = dir.mount.rsplit('/').next().unwrap_or(&dir.controllers);
        let what = if private {
            What::New {
                fstype: "cgroup",
                source: "cgroup",
                data: if dir.controllers.starts_with("name=") {
                    vec!["none".into(), dir.controllers.clone().into()]
                } else {
                    dir.controllers.split(',').map(|controller| controller.to_owned().into()).collect()
                },
                superblock: if read_only { vec!["ro"] } else { Vec::new() },
                copy_up: false,
            }
        } else {
            // A plain user mostly goes without a cgroup, and stays in the one that the runtime is in.
            let hierarchy = cgroup.optional.then(|| (dir.mount.clone(), dir.controllers.clone()));
            What::Bind { source: dir.path.clone(), recursive: false, idmap: None, early: false, hierarchy }
        };
        let mut each = Mount { destination: format!("{base}/{name}").into(), what, ..mount.clone() };
        if !private {
            each.attributes = Attributes::default();
        }
        steps.push(Step::Mount(Box::new(each)));
    }
    let superblock = if read_only { vec!["ro"] } else { Vec::new() };
    let what = What::Remount { data: Vec::new(), superblock };
    if !private {
        // The bind mounts get theirs all at once.
        let recursive = mount.attributes;
        steps.push(Step::Mount(Box::new(Mount { what, attributes: Attributes::default(), recursive, ..mount })));
    } else if read_only {
        steps.push(Step::Mount(Box::new(Mount { what, ..mount })));
    }
}

/// The document's devices, then the default ones that it does not name, then the usual links. A
/// /dev of the host stays as it is, but for the devices that the document itself names.
fn devices<'a>(spec: &'a Spec<'a>, bind: bool, steps: &mut Vec<Step<'a>>) {
    let host_dev = spec.mounts.iter().any(|mount| {
        let is_bind = || mount.kind.as_deref() == Some("bind") || options::parse(&mount.options).bind.is_some();
        options::clean(&mount.destination) == "/dev" && is_bind()
    });
    for device in &spec.linux.devices {
        steps.push(Step::Device(Device {
            path: options::clean(&device.path),
            kind: match &*device.kind {
                "b" => 'b',
                "p" => 'p',
                _ => 'c',
            },
            major: device.major.filter(|_| &*device.kind != "p").unwrap_or(0) as u32,
            minor: device.minor.filter(|_| &*device.kind != "p").unwrap_or(0) as u32,
            mode: device.file_mode.unwrap_or(0o666) & 0o7777,
            uid: device.uid.unwrap_or(0),
            gid: device.gid.unwrap_or(0),
            bind: bind && &*device.kind != "p",
        }));
    }
    if host_dev {
        return;
    }
    for (path, major, minor) in DEFAULT_DEVICES {
        if !spec.linux.devices.iter().any(|device| options::clean(&device.path) == path) {
            let path = path.into();
            steps.push(Step::Device(Device { path, kind: 'c', major, minor, mode: 0o666, uid: 0, gid: 0, bind }));
        }
    }
    steps.push(Step::Link { path: "/dev/ptmx", target: "pts/ptmx", replace: true });
    steps.extend(LINKS.iter().map(|(path, target)| Step::Link { path, target, replace: false }));
}
