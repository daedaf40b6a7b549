//! Which capabilities a container has: Docker's default ones, and what the flags add and drop.

use anyhow::{Result, bail};

use crate::cli::flags::Flags;

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

/// Docker's defaults, less what is dropped, and what is added.
pub fn capabilities(flags: &Flags) -> Result<Vec<String>> {
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

/// All that this kernel has and we may give.
pub fn all() -> Vec<String> {
    let last = last_capability();
    let names = ALL_CAPABILITIES.iter().enumerate().filter(|(number, _)| *number <= last && bounded(*number));
    names.map(|(_, name)| (*name).to_owned()).collect()
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
