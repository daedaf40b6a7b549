//! A seccomp profile (config-linux.md, "Seccomp") that allows what was recorded.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::names::Abi;

/// What rt, crun and runc call between loading the filter and execve, or may call there: runc is a Go
/// program, whose own threads go on meanwhile. With these, a profile recorded under one of them is good
/// for all. Among them are calls that come at no foreseeable time: on the return from a signal's handler,
/// after SIGCONT, at an end that the recorded run did not come to.
const RUNTIMES: [&str; 47] = [
    "capget",
    "capset",
    "chdir",
    "clone",
    "close",
    "close_range",
    "dup3",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit",
    "exit_group",
    "faccessat2",
    "fchdir",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "lseek",
    "madvise",
    "mmap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "prctl",
    "read",
    "readlinkat",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "setgid",
    "setgroups",
    "setuid",
    "sigaltstack",
    "statfs",
    "tgkill",
    "umask",
    "write",
];

/// The spec's names of calling conventions.
pub const ARCHITECTURES: [(Abi, &str); 5] = [
    (Abi::X86_64, "SCMP_ARCH_X86_64"),
    (Abi::X86, "SCMP_ARCH_X86"),
    (Abi::X32, "SCMP_ARCH_X32"),
    (Abi::Aarch64, "SCMP_ARCH_AARCH64"),
    (Abi::Arm, "SCMP_ARCH_ARM"),
];

/// What was recorded.
#[derive(Debug, Default)]
pub struct Record {
    pub names: BTreeSet<String>,
    pub architectures: BTreeSet<&'static str>,
}

/// Reads the profile that is to be extended.
pub fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("input profile {}", path.display()))?;
    let profile: Value = serde_json::from_slice(&text).with_context(|| format!("input profile {}", path.display()))?;
    ensure!(profile["defaultAction"].is_string(), "input profile {}: it has no defaultAction", path.display());
    ensure!(
        profile["syscalls"].is_null() || profile["syscalls"].is_array(),
        "input profile {}: syscalls is no list",
        path.display()
    );
    Ok(profile)
}

/// The profile: a new one, or `base` with a rule for what it does not allow yet.
pub fn make(record: &Record, base: Option<Value>) -> Value {
    let mut names: BTreeSet<&str> = record.names.iter().map(String::as_str).collect();
    names.extend(RUNTIMES);
    let mut profile =
        base.unwrap_or_else(|| json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::EPERM}));
    // Where an engine's own format maps architectures (archMap), a list beside it would be an error.
    if profile.get("archMap").is_none() {
        let mut all: Vec<Value> = profile["architectures"].as_array().cloned().unwrap_or_default();
        for name in &record.architectures {
            if !all.iter().any(|known| known == name) {
                all.push(json!(name));
            }
        }
        profile["architectures"] = Value::Array(all);
    }
    let mut rules = profile["syscalls"].as_array().cloned().unwrap_or_default();
    for rule in rules.iter().filter(|rule| allows_always(rule)) {
        for name in rule["names"].as_array().into_iter().flatten() {
            names.remove(name.as_str().unwrap_or_default());
        }
    }
    if !names.is_empty() {
        rules.push(json!({"names": names, "action": "SCMP_ACT_ALLOW"}));
    }
    profile["syscalls"] = Value::Array(rules);
    profile
}

/// Whether a rule allows its calls whatever the arguments and the container.
fn allows_always(rule: &Value) -> bool {
    let empty = |key: &str| match &rule[key] {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    rule["action"] == "SCMP_ACT_ALLOW" && ["args", "includes", "excludes"].into_iter().all(empty)
}

/// Puts the profile where it belongs, whole or not at all.
pub fn write(profile: &Value, path: &Path) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let text = format!("{profile:#}\n");
    fs::write(&name, text).and_then(|()| fs::rename(&name, path)).inspect_err(|_| {
        let _ = fs::remove_file(&name);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(names: &[&str]) -> Record {
        Record {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            architectures: BTreeSet::from(["SCMP_ARCH_X86_64"]),
        }
    }

    #[test]
    fn a_new_profile_is_one_rule() {
        let profile = make(&record(&["mkdir", "write"]), None);
        let names: BTreeSet<&str> = RUNTIMES.into_iter().chain(["mkdir"]).collect();
        assert_eq!(
            profile,
            json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{
                    "names": names,
                    "action": "SCMP_ACT_ALLOW",
                }],
            })
        );
    }

    #[test]
    fn an_input_profile_keeps_its_rules_and_gets_what_it_lacks() {
        let rules = json!([
            {"names": RUNTIMES.as_slice(), "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        ]);
        let base = json!({"defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules});
        let profile = make(&record(&["mkdir", "write"]), Some(base));
        assert_eq!(profile["defaultAction"], "SCMP_ACT_KILL");
        assert_eq!(profile["architectures"], json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]));
        assert_eq!(profile["syscalls"][1], rules[1]);
        assert_eq!(profile["syscalls"][2]["names"], json!(["mkdir"]));
    }
}
