//! The words of `config.json` and what the kernel calls them. Pure tables.

use std::borrow::Cow;

use crate::config::types::{Capabilities, MemoryPolicy, Scheduler, Strs};
use crate::config::validate::cpu_list;
use crate::sys::SchedAttr;

/// `linux.namespaces[].type` to its clone(2) flag.
pub fn namespace(kind: &str) -> Option<u64> {
    Some(match kind {
        "pid" => libc::CLONE_NEWPID,
        "network" => libc::CLONE_NEWNET,
        "mount" => libc::CLONE_NEWNS,
        "ipc" => libc::CLONE_NEWIPC,
        "uts" => libc::CLONE_NEWUTS,
        "user" => libc::CLONE_NEWUSER,
        "cgroup" => libc::CLONE_NEWCGROUP,
        "time" => libc::CLONE_NEWTIME,
        _ => return None,
    } as u64)
}

/// The words of [`namespace`], in the order of `rt plan`.
pub const NAMESPACES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

/// The word of a clone(2) flag.
pub fn namespace_word(kind: u64) -> &'static str {
    NAMESPACES.into_iter().find(|word| namespace(word) == Some(kind)).unwrap_or("unknown")
}

/// The bit of a capability: `CAP_CHOWN` is 0.
pub fn capability(name: &str) -> Option<u8> {
    name.parse::<caps::Capability>().ok().map(|capability| capability.index())
}

/// The five sets with the names they have in the document.
pub fn capability_sets<'a, 'b>(sets: &'b Capabilities<'a>) -> [(&'static str, &'b Strs<'a>); 5] {
    [
        ("bounding", &sets.bounding),
        ("effective", &sets.effective),
        ("inheritable", &sets.inheritable),
        ("permitted", &sets.permitted),
        ("ambient", &sets.ambient),
    ]
}

/// `RLIMIT_…` to the number of prlimit(2).
pub fn rlimit(name: &str) -> Option<u32> {
    RLIMITS.iter().position(|known| *known == name).map(|position| position as u32)
}

/// In the order of the kernel's numbers (include/uapi/asm-generic/resource.h), which x86_64 and
/// aarch64 share.
pub const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// ioprio_set(2)'s class.
pub fn io_class(name: &str) -> Option<u16> {
    match name {
        "IOPRIO_CLASS_RT" => Some(1),
        "IOPRIO_CLASS_BE" => Some(2),
        "IOPRIO_CLASS_IDLE" => Some(3),
        _ => None,
    }
}

/// personality(2)'s domain.
pub fn personality(domain: &str) -> Option<u32> {
    match domain {
        "LINUX" => Some(0x0000),
        "LINUX32" => Some(0x0008),
        _ => None,
    }
}

/// The attributes of sched_setattr(2), or the field that is wrong and why.
pub fn scheduler(scheduler: &Scheduler<'_>) -> Result<SchedAttr, (&'static str, String)> {
    let policy = match &*scheduler.policy {
        "SCHED_OTHER" => libc::SCHED_OTHER,
        "SCHED_FIFO" => libc::SCHED_FIFO,
        "SCHED_RR" => libc::SCHED_RR,
        "SCHED_BATCH" => libc::SCHED_BATCH,
        "SCHED_IDLE" => libc::SCHED_IDLE,
        "SCHED_DEADLINE" => libc::SCHED_DEADLINE,
        "SCHED_ISO" => return Err(("policy", "SCHED_ISO is reserved and Linux does not have it".into())),
        other => return Err(("policy", format!("\"{other}\" is no policy of sched(7)"))),
    };
    let nice = scheduler.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(("nice", format!("must be -20..19, is {nice}")));
    }
    let priority = scheduler.priority.unwrap_or(0);
    let real_time = policy == libc::SCHED_FIFO || policy == libc::SCHED_RR;
    let range = if real_time { 1..=99 } else { 0..=0 };
    if !range.contains(&priority) {
        return Err((
            "priority",
            format!("must be {}..{} with {}, is {priority}", range.start(), range.end(), scheduler.policy),
        ));
    }
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= match &**flag {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(("flags", format!("\"{other}\" is no flag of sched_setattr(2)"))),
        };
    }
    let [runtime, deadline, period] =
        [scheduler.runtime, scheduler.deadline, scheduler.period].map(Option::unwrap_or_default);
    if policy == libc::SCHED_DEADLINE {
        let period = if period == 0 { deadline } else { period };
        if runtime < 1024 || runtime > deadline || deadline > period {
            return Err((
                "runtime",
                format!(
                    "SCHED_DEADLINE wants 1024 <= runtime <= deadline <= period (ns), here are {runtime}, {deadline}, {period}"
                ),
            ));
        }
    } else if runtime != 0 || deadline != 0 || period != 0 {
        return Err(("runtime", "runtime, deadline and period go with SCHED_DEADLINE only".into()));
    }
    Ok(SchedAttr { size: 0, policy: policy as u32, flags, nice, priority: priority as u32, runtime, deadline, period })
}

/// Mode with flags and node mask of set_mempolicy(2), or the field that is wrong and why.
pub fn memory_policy(policy: &MemoryPolicy<'_>) -> Result<(i32, Vec<u64>), (&'static str, String)> {
    let mode = match &*policy.mode {
        "MPOL_DEFAULT" => 0,
        "MPOL_PREFERRED" => 1,
        "MPOL_BIND" => 2,
        "MPOL_INTERLEAVE" => 3,
        "MPOL_LOCAL" => 4,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(("mode", format!("\"{other}\" is no mode of set_mempolicy(2)"))),
    };
    let nodes = match policy.nodes.as_deref().filter(|nodes| !nodes.is_empty()) {
        Some(list) => cpu_list(list).map_err(|why| ("nodes", why))?,
        None => Vec::new(),
    };
    let takes_nodes = mode != 0 && mode != 4;
    if !takes_nodes && !nodes.is_empty() {
        return Err(("nodes", format!("must be empty with {}", policy.mode)));
    }
    if takes_nodes && mode != 1 && nodes.is_empty() {
        return Err(("nodes", format!("must name at least one node with {}", policy.mode)));
    }
    let mut flags = 0;
    for flag in &policy.flags {
        flags |= match &**flag {
            "MPOL_F_STATIC_NODES" => 1 << 15,
            "MPOL_F_RELATIVE_NODES" => 1 << 14,
            "MPOL_F_NUMA_BALANCING" => 1 << 13,
            other => return Err(("flags", format!("\"{other}\" is no flag of set_mempolicy(2)"))),
        };
    }
    if flags & (1 << 15) != 0 && flags & (1 << 14) != 0 {
        return Err(("flags", "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other".into()));
    }
    Ok((mode | flags, nodes))
}

/// The dotted form of a kernel parameter's name. In the form with slashes (`net/ipv4/conf/eth0.1`)
/// dots are part of a name and become slashes (sysctl(8)).
pub fn sysctl_dots(key: &str) -> Cow<'_, str> {
    match key.find(['.', '/']) {
        Some(position) if key.as_bytes()[position] == b'/' => Cow::Owned(
            key.chars()
                .map(|c| match c {
                    '/' => '.',
                    '.' => '/',
                    other => other,
                })
                .collect(),
        ),
        _ => Cow::Borrowed(key),
    }
}

/// A signal by number, or by name with or without `SIG`, `RTMIN+n` and `RTMAX-n` included
/// (signal(7)).
pub fn signal(text: &str) -> Option<i32> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (0..=64).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str, sign: char| -> Option<i32> {
        if rest.is_empty() {
            return Some(0);
        }
        let digits = rest.strip_prefix(sign)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    // What userspace calls SIGRTMIN: the C library keeps the kernel's first two for itself.
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+').map(|n| 34 + n).filter(|signal| *signal <= 64);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-').map(|n| 64 - n).filter(|signal| *signal >= 34);
    }
    let name = match name {
        "CLD" => "CHLD",
        "POLL" => "IO",
        "IOT" => "ABRT",
        "UNUSED" => "SYS",
        other => other,
    };
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_every_name() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
            ("0", 0),
            ("64", 64),
            ("IOT", 6),
        ] {
            assert_eq!(signal(text), Some(number), "{text}");
        }
        for text in ["", "SIG", "65", "-1", "RTMIN+31", "RTMIN3", "KILLX", "+9", "9 ", "RTMIN+", "SIGSIGKILL"] {
            assert_eq!(signal(text), None, "{text}");
        }
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        assert_eq!(capability("CAP_CHOWN"), Some(0));
        assert_eq!(capability("CAP_SYS_ADMIN"), Some(21));
        assert_eq!(capability("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(capability("CAP_FLY"), None);
    }

    #[test]
    fn sysctl_names_with_slashes() {
        assert_eq!(sysctl_dots("net.ipv4.ip_forward"), "net.ipv4.ip_forward");
        assert_eq!(sysctl_dots("net/ipv4/conf/eth0.1/rp_filter"), "net.ipv4.conf.eth0/1.rp_filter");
    }
}
