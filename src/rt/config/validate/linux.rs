//! The rules of config-linux.md, but for `resources`.

use std::collections::BTreeSet;

use super::{id_mappings, keyed, path_length, resources};
use crate::config::problem::Problems;
use crate::config::types::{Device, Spec};
use crate::plan::{names, options};
use crate::seccomp;

/// Whether the container gets a namespace of this kind of its own, or joins one.
pub(super) fn has_namespace(spec: &Spec<'_>, kind: &str) -> bool {
    spec.linux.namespaces.iter().any(|namespace| &*namespace.kind == kind)
}

/// Whether that namespace is made, not joined.
fn makes_namespace(spec: &Spec<'_>, kind: &str) -> bool {
    spec.linux
        .namespaces
        .iter()
        .any(|namespace| &*namespace.kind == kind && namespace.path.as_deref().unwrap_or_default().is_empty())
}

/// `linux.namespaces`: looked at first, since other fields ask for some of them.
pub(super) fn namespaces(spec: &Spec<'_>, problems: &mut Problems) {
    let linux = &spec.linux;
    let mut seen = BTreeSet::new();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if names::namespace(&namespace.kind).is_none() {
            problems.invalid(
                format!("/linux/namespaces/{index}/type"),
                format!("must be pid, network, mount, ipc, uts, user, cgroup or time, is \"{}\"", namespace.kind),
            );
        } else if !seen.insert(&*namespace.kind) {
            problems.invalid(
                format!("/linux/namespaces/{index}/type"),
                format!("{} stands in the list twice", namespace.kind),
            );
        }
        if let Some(path) = namespace.path.as_deref().filter(|path| !path.is_empty() && !path.starts_with('/')) {
            problems.invalid(format!("/linux/namespaces/{index}/path"), format!("must be absolute, is \"{path}\""));
        }
        let path = namespace.path.as_deref().unwrap_or_default();
        path_length(path, &format!("/linux/namespaces/{index}/path"), problems);
    }
}

/// The rest of the section.
pub(super) fn linux(spec: &Spec<'_>, problems: &mut Problems) {
    let linux = &spec.linux;
    for (field, list) in [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)] {
        let pointer = format!("/linux/{field}");
        if !has_namespace(spec, "user") && !list.is_empty() {
            problems.invalid(pointer, "needs a user namespace in /linux/namespaces");
        } else if makes_namespace(spec, "user") || !list.is_empty() {
            id_mappings(list, &pointer, problems);
        }
    }
    time_offsets(spec, problems);
    for (index, device) in linux.devices.iter().enumerate() {
        self::device(device, &format!("/linux/devices/{index}"), problems);
    }
    net_devices(spec, problems);
    resources(&linux.resources, problems);
    sysctl(spec, problems);
    if let Some(profile) = &linux.seccomp {
        seccomp::check(profile, "/linux/seccomp", problems);
    }
    if let Some(propagation) = linux.rootfs_propagation.as_deref().filter(|text| !text.is_empty())
        && options::propagation(propagation).is_none()
    {
        problems.invalid(
            "/linux/rootfsPropagation",
            format!("must be shared, slave, private or unbindable, is \"{propagation}\""),
        );
    }
    for (field, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        for (index, path) in paths.iter().enumerate() {
            if !path.starts_with('/') {
                problems.invalid(format!("/linux/{field}/{index}"), format!("must be absolute, is \"{path}\""));
            }
            path_length(path, &format!("/linux/{field}/{index}"), problems);
        }
    }
    if let Some(personality) = &linux.personality {
        if names::personality(&personality.domain).is_none() {
            problems.invalid(
                "/linux/personality/domain",
                format!("must be LINUX or LINUX32, is \"{}\"", personality.domain),
            );
        }
        if let Some(flag) = personality.flags.first() {
            problems.invalid("/linux/personality/flags/0", format!("the spec knows no flags yet, here is \"{flag}\""));
        }
    }
    if let Some(policy) = &linux.memory_policy
        && let Err((field, message)) = names::memory_policy(policy)
    {
        problems.invalid(format!("/linux/memoryPolicy/{field}"), message);
    }
    intel_rdt(spec, problems);
}

fn time_offsets(spec: &Spec<'_>, problems: &mut Problems) {
    let offsets = &spec.linux.time_offsets;
    if !offsets.is_empty() && !makes_namespace(spec, "time") {
        problems.invalid("/linux/timeOffsets", "needs a new time namespace in /linux/namespaces");
    }
    for (clock, offset) in offsets {
        let pointer = keyed("/linux/timeOffsets", clock);
        if !["monotonic", "boottime"].contains(&&**clock) {
            problems.invalid(&*pointer, "the kernel can shift monotonic and boottime only");
        }
        if offset.nanosecs > 999_999_999 {
            problems.invalid(format!("{pointer}/nanosecs"), format!("must be 0..999999999, is {}", offset.nanosecs));
        }
    }
}

fn device(device: &Device<'_>, base: &str, problems: &mut Problems) {
    if !["c", "u", "b", "p"].contains(&&*device.kind) {
        problems.invalid(format!("{base}/type"), format!("must be c, b, u or p, is \"{}\"", device.kind));
    } else if &*device.kind != "p" {
        // dev_t in mknod(2): 12 bits of major, 20 of minor.
        for (field, number, max) in [("major", device.major, 4095), ("minor", device.minor, 1_048_575)] {
            match number {
                None => problems.invalid(format!("{base}/{field}"), "is required and missing"),
                Some(number) if !(0..=max).contains(&number) => {
                    problems.invalid(format!("{base}/{field}"), format!("must be 0..{max}, is {number}"));
                }
                Some(_) => {}
            }
        }
    }
    path_length(&device.path, &format!("{base}/path"), problems);
    if !device.path.starts_with('/') || options::clean(&device.path) == "/" {
        problems.invalid(format!("{base}/path"), format!("must be an absolute path of a file, is \"{}\"", device.path));
    }
    // Engines copy st_mode whole, so the bits of the file's type may be set as well.
    if let Some(mode) = device.file_mode.filter(|mode| *mode > 0o177_777) {
        problems.invalid(format!("{base}/fileMode"), format!("must be 0..65535, is {mode}"));
    }
    for (field, id) in [("uid", device.uid), ("gid", device.gid)] {
        if id == Some(u32::MAX) {
            problems.invalid(format!("{base}/{field}"), "must be 0..4294967294, is 4294967295");
        }
    }
}

fn net_devices(spec: &Spec<'_>, problems: &mut Problems) {
    let devices = &spec.linux.net_devices;
    if !devices.is_empty() && !has_namespace(spec, "network") {
        // Not an error of the document's form: the schema's own examples leave the namespace out.
        problems.unavailable("/linux/netDevices", "needs a network namespace in /linux/namespaces to move devices to");
    }
    for (name, device) in devices {
        let pointer = keyed("/linux/netDevices", name);
        for (at, name) in [
            (pointer.clone(), Some(&**name)),
            (format!("{pointer}/name"), device.name.as_deref().filter(|name| !name.is_empty())),
        ] {
            let Some(name) = name else { continue };
            if !device_name(name) {
                problems
                    .invalid(at, format!("\"{name}\" is no name of a network device (1..15 bytes, no /, : or blank)"));
            }
        }
    }
}

/// Whether a network device can have this name (`dev_valid_name` of the kernel).
pub(super) fn device_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

/// Kernel parameters that belong to an ipc namespace.
const IPC: [&str; 11] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.shm_next_id",
];

/// Only what belongs to a namespace of the container may be set: the rest is the host's.
fn sysctl(spec: &Spec<'_>, problems: &mut Problems) {
    for key in spec.linux.sysctl.keys() {
        let pointer = keyed("/linux/sysctl", key);
        let name = names::sysctl_dots(key);
        if name.split('.').any(|part| part.is_empty() || part == "..") || key.contains("..") {
            problems.invalid(pointer, format!("\"{key}\" is no name of a kernel parameter"));
            continue;
        }
        let needs = if name.starts_with("net.") {
            "network"
        } else if IPC.contains(&&*name) || name.starts_with("fs.mqueue.") {
            "ipc"
        } else if name == "kernel.domainname" || name == "kernel.hostname" {
            "uts"
        } else if name.starts_with("user.") {
            "user"
        } else {
            problems.invalid(pointer, format!("{name} belongs to no namespace: setting it would change the host"));
            continue;
        };
        if !has_namespace(spec, needs) {
            problems.invalid(pointer, format!("{name} needs a {needs} namespace in /linux/namespaces"));
        } else if name == "kernel.hostname" && spec.hostname.as_deref().is_some_and(|name| !name.is_empty()) {
            problems.invalid(pointer, "kernel.hostname and /hostname contradict each other; keep /hostname");
        }
    }
}

fn intel_rdt(spec: &Spec<'_>, problems: &mut Problems) {
    let Some(rdt) = &spec.linux.intel_rdt else { return };
    if let Some(clos) = rdt.clos_id.as_deref().filter(|clos| *clos != "/")
        && (clos.is_empty()
            || clos == "."
            || clos == ".."
            || clos.len() > 255
            || clos.contains(|c: char| c == '/' || c.is_control()))
    {
        problems.invalid(
            "/linux/intelRdt/closID",
            format!("must be / or one name of a directory without a slash, is \"{clos}\""),
        );
    }
    let lines = rdt
        .schemata
        .iter()
        .enumerate()
        .map(|(index, line)| (format!("schemata/{index}"), line))
        .chain(rdt.l3_cache_schema.iter().map(|line| ("l3CacheSchema".to_owned(), line)))
        .chain(rdt.mem_bw_schema.iter().map(|line| ("memBwSchema".to_owned(), line)));
    for (field, line) in lines {
        if line.contains('\n') {
            problems.invalid(format!("/linux/intelRdt/{field}"), "must not hold a newline");
        }
        if field == "memBwSchema" && !line.starts_with("MB:") {
            problems.invalid("/linux/intelRdt/memBwSchema", format!("must start with MB:, is \"{line}\""));
        }
    }
}

/// A list of CPUs or memory nodes, `0-3,7`. Returns the numbers as a bit mask of 64-bit words.
pub fn cpu_list(list: &str) -> Result<Vec<u64>, String> {
    const MAX: usize = 8192;
    let bad = || format!("must be a list such as 0-3,7, is \"{list}\"");
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<usize>().ok().filter(|number| plain && *number < MAX).ok_or_else(bad)
    };
    let mut mask = Vec::new();
    for part in list.split(',') {
        let part = part.trim();
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if first > last {
            return Err(bad());
        }
        for bit in first..=last {
            if mask.len() <= bit / 64 {
                mask.resize(bit / 64 + 1, 0);
            }
            mask[bit / 64] |= 1u64 << (bit % 64);
        }
    }
    Ok(mask)
}
