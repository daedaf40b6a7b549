//! `--security-opt`: what the kernel's security modules and filters are asked for, and which paths are hidden.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cli::flags::Flags;
use crate::container::seccomp;

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
/// What SELinux's usual policy has for containers: user, role, type, level.
const LABEL: [&str; 4] = ["system_u", "system_r", "container_t", "s0"];
const KNOWN: &str = "no-new-privileges, seccomp=, apparmor=, label=, mask=, unmask=, systempaths=unconfined";
/// A longer profile is none.
const LONGEST_PROFILE: u64 = 4 << 20;

/// What `--security-opt` asks for.
#[derive(Default)]
pub struct Security {
    /// Programs gain nothing by their file's set-user-id bit.
    pub no_new_privileges: bool,
    /// A profile that is loaded.
    pub apparmor: Option<String>,
    /// The process's whole label.
    pub label: Option<String>,
    seccomp: Option<String>,
    masked: Vec<String>,
    /// Patterns of what is neither hidden nor made read-only; none of them is all.
    unmasked: Vec<String>,
    nothing_masked: bool,
}

impl Security {
    /// Reads the options; what this machine does not have is an error.
    pub fn parse(flags: &Flags) -> Result<Self> {
        let mut security = Self { nothing_masked: flags.privileged, ..Self::default() };
        let mut label: Option<[String; 4]> = None;
        for option in &flags.security_opt {
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") => security.no_new_privileges = false,
                ("seccomp", value) if !value.is_empty() => security.seccomp = Some(value.to_owned()),
                ("apparmor", "unconfined") => security.apparmor = None,
                ("apparmor", value) if !value.is_empty() => {
                    has_profile(value).with_context(|| format!("--security-opt {option}"))?;
                    security.apparmor = Some(value.to_owned());
                }
                ("label", "disable") => label = None,
                ("label", value) if !value.is_empty() => {
                    set_label(label.get_or_insert_with(|| LABEL.map(str::to_owned)), value)
                        .with_context(|| format!("--security-opt {option:?}"))?;
                }
                ("mask", value) => security.masked.extend(paths(value).with_context(|| option.clone())?),
                ("unmask", "all" | "ALL") | ("systempaths", "unconfined") => security.nothing_masked = true,
                ("unmask", value) => security.unmasked.extend(paths(value).with_context(|| option.clone())?),
                _ => bail!("--security-opt {option:?}: known are {KNOWN}"),
            }
        }
        if label.is_some() && !Path::new("/sys/fs/selinux/enforce").exists() {
            bail!("--security-opt label=: this machine does not use SELinux: leave it away");
        }
        security.label = label.map(|it| it.join(":"));
        Ok(security)
    }

    /// `linux.seccomp`: the profile that was named, or Docker's default one for these capabilities.
    pub fn seccomp(&self, flags: &Flags, capabilities: &[String]) -> Result<Option<Value>> {
        match self.seccomp.as_deref() {
            Some("unconfined") => Ok(None),
            Some("builtin" | "default") => Ok(Some(seccomp::default_profile(capabilities))),
            Some(text) => Ok(Some(profile(text)?)),
            None if flags.privileged => Ok(None),
            None => Ok(Some(seccomp::default_profile(capabilities))),
        }
    }

    /// `linux.maskedPaths` and `linux.readonlyPaths`.
    pub fn paths(&self) -> (Vec<String>, Vec<String>) {
        let kept = |path: &&str| !self.nothing_masked && !self.unmasked.iter().any(|pattern| covers(pattern, path));
        let own = |list: &[&str]| list.iter().filter(|it| kept(it)).map(|it| (*it).to_owned()).collect::<Vec<_>>();
        (own(&MASKED).into_iter().chain(self.masked.iter().cloned()).collect(), own(&READ_ONLY))
    }
}

/// The flags with the contents of profiles in the place of their files' names: a container is what it was when it was
/// made, wherever it is started from.
pub fn with_contents(options: &[String]) -> Result<Vec<String>> {
    let options = options.iter().map(|option| match option.split_once(['=', ':']) {
        Some(("seccomp", value)) if !matches!(value, "" | "unconfined" | "builtin" | "default") => {
            Ok(format!("seccomp={}", profile(value)?))
        }
        _ => Ok(option.clone()),
    });
    options.collect()
}

/// A profile: a file's name, or its text as it is stored.
fn profile(text: &str) -> Result<Value> {
    use std::io::Read;
    let (what, bytes) = if text.starts_with('{') {
        ("its text".to_owned(), text.as_bytes().to_vec())
    } else {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(text).with_context(|| format!("--security-opt seccomp={text}"))?;
        file.take(LONGEST_PROFILE).read_to_end(&mut bytes).with_context(|| format!("--security-opt seccomp={text}"))?;
        (text.to_owned(), bytes)
    };
    let profile: Value = serde_json::from_slice(&bytes).with_context(|| format!("--security-opt seccomp={what}"))?;
    if profile.get("defaultAction").is_none() {
        bail!("--security-opt seccomp={what}: no profile, it has no defaultAction");
    }
    Ok(profile)
}

fn has_profile(name: &str) -> Result<()> {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        bail!("this machine does not use AppArmor: leave it away");
    }
    // Only root may read the list.
    if let Ok(list) = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles")
        && !list.lines().any(|line| line.rsplit_once(" (").map_or(line, |it| it.0) == name)
    {
        bail!("no profile of this name is loaded: load it by apparmor_parser");
    }
    Ok(())
}

fn set_label(label: &mut [String; 4], value: &str) -> Result<()> {
    let (part, text) = value.split_once(':').context("known are disable, user:, role:, type:, level:")?;
    let at = match part {
        "user" => 0,
        "role" => 1,
        "type" => 2,
        "level" => 3,
        _ => bail!("known are disable, user:, role:, type:, level:"),
    };
    if text.is_empty() || text.contains(['\0', '\n', ' ']) {
        bail!("{text:?} is no {part}");
    }
    text.clone_into(&mut label[at]);
    Ok(())
}

/// Absolute paths with `:` between them.
fn paths(text: &str) -> Result<Vec<String>> {
    let good = |it: &str| it.starts_with('/') && !it.contains('\0') && it.split('/').all(|it| it != "..");
    if let Some(bad) = text.split(':').find(|it| !good(it)) {
        bail!("--security-opt: {bad:?} is not an absolute path");
    }
    Ok(text.split(':').map(str::to_owned).collect())
}

/// Whether a path fits a pattern: itself, or by a `*` at the end.
fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => pattern.trim_end_matches('/') == path,
    }
}
