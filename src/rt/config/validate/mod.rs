//! Everything that runtime-spec 1.3.0 forbids in a document, found in one pass and without looking
//! at the host: root, process, hooks and mounts here, the Linux section in [`linux`] and its limits
//! in [`resources`].

mod linux;
mod resources;

use std::collections::BTreeSet;

use super::problem::{Problems, token};
use super::types::{Hook, IdMapping, Mount, Process, Spec, Str};
use crate::plan::names;
use crate::plan::options;

pub use linux::cpu_list;
pub use resources::resources;

/// Appends everything that is wrong with `spec` to `problems`.
pub fn validate(spec: &Spec<'_>, problems: &mut Problems) {
    version(&spec.oci_version, problems);
    linux::namespaces(spec, problems);
    match &spec.root {
        None => problems.invalid("/root", "is required and missing"),
        Some(root) if root.path.is_empty() => problems.invalid("/root/path", "must not be empty"),
        Some(root) => path_length(&root.path, "/root/path", problems),
    }
    uts_name(spec, spec.hostname.as_ref(), "/hostname", problems);
    uts_name(spec, spec.domainname.as_ref(), "/domainname", problems);
    for (index, mount) in spec.mounts.iter().enumerate() {
        mount_entry(spec, mount, index, problems);
    }
    if let Some(process) = &spec.process {
        self::process(process, "/process", problems);
    }
    let hooks = &spec.hooks;
    for (kind, list) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ] {
        for (index, hook) in list.iter().enumerate() {
            self::hook(hook, &format!("/hooks/{kind}/{index}"), problems);
        }
    }
    if spec.annotations.keys().any(|key| key.is_empty()) {
        problems.invalid("/annotations", "a key must not be empty");
    }
    linux::linux(spec, problems);
    if let Some(vnet) = spec.freebsd.as_ref().and_then(|f| f.jail.as_ref()?.vnet.as_deref())
        && !["new", "inherit"].contains(&vnet)
    {
        problems.invalid("/freebsd/jail/vnet", format!("must be new or inherit, is \"{vnet}\""));
    }
}

/// config.md, "Specification version": SemVer 2.0.0, and the major version that this runtime speaks.
fn version(version: &str, problems: &mut Problems) {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |text: &&str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
    };
    let rest = &version[core.len()..];
    let rest_ok = rest.is_empty()
        || (rest.len() > 1 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(&byte)));
    if numbers.len() != 3 || !numbers.iter().all(number) || !rest_ok {
        problems.invalid("/ociVersion", format!("must be a version such as 1.3.0, is \"{version}\""));
    } else if numbers[0] != "1" {
        problems.unavailable("/ociVersion", format!("is {version}, but this runtime speaks 1.x only"));
    }
}

/// hostname and domainname: at most 64 bytes (`__NEW_UTS_LEN`), and never the host's own.
fn uts_name(spec: &Spec<'_>, name: Option<&Str<'_>>, pointer: &str, problems: &mut Problems) {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return };
    if name.len() > 64 {
        problems.invalid(pointer, format!("must be at most 64 bytes long, has {}", name.len()));
    }
    if !linux::has_namespace(spec, "uts") {
        // The spec allows it; this runtime leaves the host's name alone.
        problems
            .unavailable(pointer, "needs a uts namespace in /linux/namespaces, or the host's own name would change");
    }
}

/// Files below /proc that engines bind and that can do no harm there.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Whether a mount on this cleaned, absolute path below /proc is one of the harmless ones.
pub fn harmless_proc_file(path: &str) -> bool {
    PROC_FILES.contains(&path)
}

fn mount_entry(spec: &Spec<'_>, mount: &Mount<'_>, index: usize, problems: &mut Problems) {
    let at = |field: &str| format!("/mounts/{index}/{field}");
    let destination = options::clean(&mount.destination);
    if mount.destination.is_empty() {
        problems.invalid(at("destination"), "must not be empty");
    } else if destination == "/" {
        problems.invalid(at("destination"), "must lie below /: a mount there would hide the root filesystem");
    } else if destination.starts_with("/proc/") && !harmless_proc_file(&destination) {
        problems.invalid(
            at("destination"),
            format!("{destination} is inside /proc, where a mount would let the container forge what the kernel says"),
        );
    }
    path_length(&mount.destination, &at("destination"), problems);
    let parsed = options::parse(&mount.options);
    let kind = mount.kind.as_deref().unwrap_or_default();
    let is_bind = parsed.bind.is_some() || (kind == "bind" && !parsed.remount);
    if is_bind {
        let source = mount.source.as_deref().unwrap_or_default();
        if source.is_empty() {
            problems.invalid(at("source"), "a bind mount needs a source");
        }
        path_length(source, &at("source"), problems);
        for (position, option) in &parsed.data {
            problems.warn(
                at(&format!("options/{position}")),
                format!(
                    "\"{option}\" is an option of a filesystem; a bind mount takes none, and the kernel ignores it"
                ),
            );
        }
        if parsed.tmpcopyup {
            problems.invalid(at("options"), "tmpcopyup is for tmpfs only");
        }
    } else if !parsed.remount && kind.is_empty() {
        problems.invalid(at("type"), "is required and missing (only bind mounts go without)");
    } else if parsed.tmpcopyup && kind != "tmpfs" {
        problems.invalid(at("options"), "tmpcopyup is for tmpfs only");
    }
    match (&mount.uid_mappings, &mount.gid_mappings) {
        (Some(_), None) => problems.invalid(at("gidMappings"), "is required beside uidMappings"),
        (None, Some(_)) => problems.invalid(at("uidMappings"), "is required beside gidMappings"),
        (Some(uids), Some(gids)) => {
            id_mappings(uids, &at("uidMappings"), problems);
            id_mappings(gids, &at("gidMappings"), problems);
            if !is_bind {
                problems.invalid(at("uidMappings"), "only a bind mount can be idmapped");
            }
        }
        (None, None) if parsed.idmap.is_some() => {
            if !is_bind {
                problems.invalid(at("options"), "only a bind mount can be idmapped");
            } else if !linux::has_namespace(spec, "user") {
                problems.invalid(
                    at("options"),
                    "idmap needs uidMappings and gidMappings here, or a user namespace to take them from",
                );
            }
        }
        (None, None) => {}
    }
}

/// The rules for a process object, in `config.json` or in `exec --process`.
pub fn process(process: &Process<'_>, base: &str, problems: &mut Problems) {
    let at = |field: &str| format!("{base}/{field}");
    match process.args.first() {
        None => problems.invalid(at("args"), "must hold at least the program"),
        Some(program) if program.is_empty() => problems.invalid(at("args/0"), "must not be empty"),
        Some(_) => {}
    }
    if !process.cwd.starts_with('/') {
        problems.invalid(at("cwd"), format!("must be absolute, is \"{}\"", process.cwd));
    }
    path_length(&process.cwd, &at("cwd"), problems);
    for (index, entry) in process.env.iter().enumerate() {
        if entry.find('=').is_none_or(|position| position == 0) {
            problems.invalid(at(&format!("env/{index}")), format!("must be NAME=VALUE, is \"{entry}\""));
        }
    }
    let user = &process.user;
    let ids = [("user/uid", user.uid), ("user/gid", user.gid)];
    for (field, id) in ids {
        if id == u32::MAX {
            problems.invalid(at(field), "must be 0..4294967294, is 4294967295");
        }
    }
    if user.additional_gids.len() > 65_536 {
        let count = user.additional_gids.len();
        problems.invalid(at("user/additionalGids"), format!("must be at most 65536 groups, here are {count}"));
    }
    for (index, gid) in user.additional_gids.iter().enumerate() {
        if *gid == u32::MAX {
            problems.invalid(at(&format!("user/additionalGids/{index}")), "must be 0..4294967294, is 4294967295");
        }
    }
    if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
        problems.invalid(at("user/umask"), format!("must be 0..511 (octal 777), is {umask}"));
    }
    if let Some(size) = process.console_size.as_ref().filter(|_| process.terminal)
        && (size.height > 65_535 || size.width > 65_535)
    {
        problems.invalid(at("consoleSize"), "height and width must be 0..65535");
    }
    if let Some(sets) = &process.capabilities {
        for (set, list) in names::capability_sets(sets) {
            for (index, name) in list.iter().enumerate() {
                if names::capability(name).is_none() {
                    problems.warn(
                        at(&format!("capabilities/{set}/{index}")),
                        format!("\"{name}\" is no capability that this runtime knows; it is not granted"),
                    );
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (index, limit) in process.rlimits.iter().enumerate() {
        let at = |field: &str| format!("{base}/rlimits/{index}/{field}");
        if names::rlimit(&limit.kind).is_none() {
            problems.invalid(at("type"), format!("\"{}\" is no resource of getrlimit(2)", limit.kind));
        }
        if !seen.insert(&*limit.kind) {
            problems.invalid(at("type"), format!("{} stands in the list twice", limit.kind));
        }
        if limit.soft > limit.hard {
            problems.invalid(at("soft"), format!("must not be above hard ({}), is {}", limit.hard, limit.soft));
        }
    }
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        problems.invalid(at("oomScoreAdj"), format!("must be -1000..1000, is {score}"));
    }
    if let Some(scheduler) = &process.scheduler
        && let Err((field, message)) = names::scheduler(scheduler)
    {
        problems.invalid(at(&format!("scheduler/{field}")), message);
    }
    if let Some(priority) = &process.io_priority {
        if names::io_class(&priority.class).is_none() {
            problems.invalid(
                at("ioPriority/class"),
                format!("must be IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE, is \"{}\"", priority.class),
            );
        }
        if !(0..=7).contains(&priority.priority) {
            problems.invalid(at("ioPriority/priority"), format!("must be 0..7, is {}", priority.priority));
        }
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        for (field, list) in [("initial", &affinity.initial), ("final", &affinity.last)] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty())
                && let Err(why) = cpu_list(list)
            {
                problems.invalid(at(&format!("execCPUAffinity/{field}")), why);
            }
        }
    }
}

fn hook(hook: &Hook<'_>, base: &str, problems: &mut Problems) {
    if !hook.path.starts_with('/') {
        problems.invalid(format!("{base}/path"), format!("must be absolute, is \"{}\"", hook.path));
    }
    path_length(&hook.path, &format!("{base}/path"), problems);
    if let Some(timeout) = hook.timeout.filter(|timeout| *timeout <= 0) {
        problems.invalid(format!("{base}/timeout"), format!("must be above 0 seconds, is {timeout}"));
    }
}

/// user_namespaces(7): lines that are not empty, do not overlap on either side, stay below 2^32,
/// and at most 340 of them.
pub(super) fn id_mappings(list: &[IdMapping], base: &str, problems: &mut Problems) {
    if list.is_empty() {
        problems.invalid(base, "must hold at least one range");
    }
    if list.len() > 340 {
        problems.invalid(base, format!("the kernel takes at most 340 ranges, here are {}", list.len()));
        return;
    }
    for (index, mapping) in list.iter().enumerate() {
        let end = |start: u32| u64::from(start) + u64::from(mapping.size);
        if mapping.size == 0 {
            problems.invalid(format!("{base}/{index}/size"), "must be above 0");
        }
        if end(mapping.container_id) > u64::from(u32::MAX) || end(mapping.host_id) > u64::from(u32::MAX) {
            problems.invalid(format!("{base}/{index}"), "must end below 4294967296");
        }
    }
    for (field, start) in [
        ("containerID", (|m: &IdMapping| m.container_id) as fn(&IdMapping) -> u32),
        ("hostID", |m: &IdMapping| m.host_id),
    ] {
        let mut ranges: Vec<(u64, u64, usize)> = list
            .iter()
            .enumerate()
            .map(|(index, m)| (u64::from(start(m)), u64::from(start(m)) + u64::from(m.size), index))
            .collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if pair[1].0 < pair[0].1 {
                problems.invalid(format!("{base}/{}/{field}", pair[1].2), format!("overlaps with entry {}", pair[0].2));
            }
        }
    }
}

/// The kernel takes no longer path, and would only say so when much is done (`PATH_MAX`, path_resolution(7)).
pub(super) fn path_length(path: &str, pointer: &str, problems: &mut Problems) {
    let most = libc::PATH_MAX as usize - 1;
    if path.len() > most {
        problems.invalid(pointer, format!("must be at most {most} bytes long, has {}", path.len()));
    } else if path.split('/').any(|part| part.len() > 255) {
        problems.invalid(pointer, "must not hold a name of more than 255 bytes");
    }
}

/// A pointer below a map, with the key escaped.
pub(super) fn keyed(base: &str, key: &str) -> String {
    format!("{base}/{}", token(key))
}
