//! Devices: the nodes that a container gets, and the list of those that its cgroup allows.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::flags::Flags;

/// Devices that every container may have, for the lists of cgroups (c 5:2 and 136 are terminals).
const DEVICES: [(u32, Option<u32>); 8] =
    [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];
/// Nodes that a runtime makes by itself (runtime-spec, "Default Devices").
const MADE: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];
/// More nodes below one directory are no list of devices.
const MOST: usize = 4096;

/// A device of the host.
pub struct Device {
    inside: String,
    kind: &'static str,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    rights: String,
}

impl Device {
    /// As `linux.devices` has it.
    pub fn node(&self) -> Value {
        json!({
            "path": self.inside, "type": self.kind, "major": self.major, "minor": self.minor,
            "fileMode": self.mode, "uid": self.uid, "gid": self.gid,
        })
    }

    fn rule(&self) -> Value {
        json!({"allow": true, "type": self.kind, "major": self.major, "minor": self.minor, "access": self.rights})
    }
}

/// The devices that the flags name; all of the host's for a privileged container of root.
pub fn devices(flags: &Flags, plain_user: bool) -> Result<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    if flags.privileged && !plain_user {
        walk(Path::new("/dev"), "/dev", "rwm", &mut devices).context("--privileged: the devices in /dev")?;
        devices.retain(|it| !MADE.iter().any(|made| it.inside.strip_prefix("/dev/") == Some(made)));
    }
    for text in &flags.device {
        let named = named(text)?;
        // What is named comes in the place of what all get.
        devices.retain(|it| !named.iter().any(|named| named.inside == it.inside));
        devices.extend(named);
    }
    Ok(devices)
}

fn named(text: &str) -> Result<Vec<Device>> {
    let parts: Vec<&str> = text.split(':').collect();
    let access = |it: &str| !it.is_empty() && it.bytes().all(|byte| b"rwm".contains(&byte));
    let (host, inside, rights) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, rights] if access(rights) => (host, host, rights),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, rights] if access(rights) => (host, inside, rights),
        _ => bail!("--device {text:?}: not of the form HOST[:CONTAINER[:rwm]]"),
    };
    if !inside.starts_with('/') || inside.split('/').any(|it| it == "..") || inside.contains('\0') {
        bail!("--device {text:?}: {inside:?} is not an absolute path without `..`");
    }
    let about = std::fs::metadata(host).with_context(|| format!("--device {host}"))?;
    let mut devices = Vec::new();
    if about.is_dir() {
        walk(Path::new(host), inside.trim_end_matches('/'), rights, &mut devices)
            .with_context(|| format!("--device {host}"))?;
        if devices.is_empty() {
            bail!("--device {host}: there is no device in this directory");
        }
        return Ok(devices);
    }
    devices.push(device(&about, inside, rights).with_context(|| format!("--device {host}: no device"))?);
    Ok(devices)
}

fn device(about: &std::fs::Metadata, inside: &str, rights: &str) -> Option<Device> {
    let kind = match about.file_type() {
        it if it.is_char_device() => "c",
        it if it.is_block_device() => "b",
        _ => return None,
    };
    let number = about.rdev();
    Some(Device {
        inside: inside.to_owned(),
        kind,
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
        rights: rights.to_owned(),
    })
}

/// The devices below a directory, but for terminals and what else is mounted or linked there.
fn walk(dir: &Path, inside: &str, rights: &str, into: &mut Vec<Device>) -> Result<()> {
    let own = std::fs::symlink_metadata(dir)?.dev();
    let mut names: Vec<_> = std::fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        // Gone since, or no name that JSON could hold: not a device to hand on.
        let (Ok(about), Some(name)) = (entry.metadata(), entry.file_name().to_str().map(str::to_owned)) else {
            continue;
        };
        let inside = format!("{inside}/{name}");
        if about.is_dir() && about.dev() == own {
            walk(&entry.path(), &inside, rights, into)?;
        } else {
            into.extend(device(&about, &inside, rights));
        }
        if into.len() > MOST {
            bail!("more than {MOST} devices");
        }
    }
    Ok(())
}

/// Which devices the container's cgroup allows.
pub fn rules(flags: &Flags, devices: &[Device]) -> Result<Vec<Value>> {
    let mut rules = vec![json!({"allow": flags.privileged, "access": "rwm"})];
    let more = flags.device_cgroup_rule.iter().map(|it| rule(it)).collect::<Result<Vec<_>>>()?;
    if flags.privileged {
        return Ok(rules);
    }
    rules.push(json!({"allow": true, "type": "c", "access": "m"}));
    rules.push(json!({"allow": true, "type": "b", "access": "m"}));
    for (major, minor) in DEVICES {
        let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rwm"});
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rules.push(rule);
    }
    rules.extend(devices.iter().map(Device::rule));
    rules.extend(more);
    Ok(rules)
}

/// `c 42:* rwm`.
fn rule(text: &str) -> Result<Value> {
    let wrong =
        || format!("--device-cgroup-rule {text:?}: not of the form TYPE MAJOR:MINOR ACCESS, such as c 42:* rwm");
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { bail!(wrong()) };
    let (major, minor) = numbers.split_once(':').with_context(wrong)?;
    if access.is_empty() || !access.bytes().all(|it| b"rwm".contains(&it)) {
        bail!(wrong());
    }
    let mut rule = json!({"allow": true, "type": kind, "access": access});
    for (key, text) in [("major", major), ("minor", minor)] {
        if text != "*" {
            rule[key] = json!(text.parse::<u32>().ok().with_context(wrong)?);
        }
    }
    Ok(rule)
}
