//! `mounts` of config.json: the kernel's file systems, the container's own files, and what the flags ask for.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::namespaces::{Mode, Modes};
use super::process::INIT;
use super::{Place, units};
use crate::cli::flags::Flags;

const SECURE: [&str; 3] = ["nosuid", "noexec", "nodev"];
const SHM_SIZE: u64 = 64 << 20;

/// `--shm-size` in bytes.
pub fn shm_size(flags: &Flags) -> Result<u64> {
    let given = flags.shm_size.as_ref().map(|text| units::bytes(text).with_context(|| format!("--shm-size {text:?}")));
    Ok(given.transpose()?.filter(|it| *it != 0).unwrap_or(SHM_SIZE))
}

/// All mounts, in the order in which they are made.
pub fn mounts(flags: &Flags, modes: &Modes, place: &Place<'_>) -> Result<Vec<Value>> {
    let asked: Vec<&str> = place.mounts.iter().filter_map(|it| it["destination"].as_str()).collect();
    let mut mounts = kernels(flags, modes, place)?;
    for (destination, source) in place.files {
        let access: &[&str] = if flags.read_only { &["rbind", "rprivate", "ro"] } else { &["rbind", "rprivate"] };
        mounts.push(json!({"destination": destination, "type": "bind", "source": source, "options": access}));
    }
    // What is asked for comes in the place of what all get; another /dev goes without what is mounted in ours.
    let own_dev = !asked.contains(&"/dev");
    mounts.retain(|it| {
        let destination = it["destination"].as_str().unwrap_or_default();
        !asked.contains(&destination) && (own_dev || !destination.starts_with("/dev/"))
    });
    mounts.extend(place.mounts.iter().cloned());
    if flags.init {
        let program = std::fs::read_link("/proc/self/exe").context("--init: our own program's path")?;
        let program = program.to_str().filter(|it| std::path::Path::new(it).is_file()).with_context(|| {
            format!("--init: the program {} that would be the init is no longer there", program.display())
        })?;
        mounts.push(json!({"destination": INIT, "type": "bind", "source": program, "options": ["bind", "rprivate", "ro", "nosuid", "nodev"]}));
    }
    Ok(mounts)
}

/// What the kernel makes.
fn kernels(flags: &Flags, modes: &Modes, place: &Place<'_>) -> Result<Vec<Value>> {
    let secure = |more: &[&str]| SECURE.iter().chain(more).map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let bound = |path: &str, more: &[&str]| {
        let options: Vec<&str> = ["rbind"].iter().chain(&SECURE).chain(more).copied().collect();
        json!({"destination": path, "type": "bind", "source": path, "options": options})
    };
    // Only who owns a namespace may mount what shows it.
    let foreign = |mode: Mode| mode != Mode::Own && (place.plain_user || place.ids.is_some());
    let sys_access: &[&str] = if flags.privileged { &[] } else { &["ro"] };
    let mut mounts = Vec::new();
    if foreign(modes.pid) {
        mounts.push(bound("/proc", &[]));
    } else {
        mounts.push(json!({"destination": "/proc", "type": "proc", "source": "proc", "options": SECURE}));
    }
    mounts.push(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}));
    // A group that has no number in the container cannot own its terminals.
    let group: &[&str] = if place.ids.is_none_or(|it| it.has_group(5)) { &["gid=5"] } else { &[] };
    let options: Vec<&str> =
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"].iter().chain(group).copied().collect();
    mounts.push(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options}));
    if foreign(modes.network) {
        mounts.push(json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
    } else {
        mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": secure(sys_access)}));
    }
    mounts.push(
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": secure(sys_access)}),
    );
    if foreign(modes.ipc) {
        mounts.push(bound("/dev/mqueue", &[]));
    } else {
        mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": SECURE}));
    }
    match modes.ipc {
        _ if !modes.shm => {}
        Mode::Own => {
            let size = format!("size={}", shm_size(flags)?);
            mounts.push(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": secure(&["mode=1777", &size])}));
        }
        Mode::Host | Mode::Path(_) => mounts.push(bound("/dev/shm", &[])),
        Mode::Container(name) => {
            let shm = place.shm.with_context(|| format!("the /dev/shm of container {name} was not looked up"))?;
            mounts.push(json!({"destination": "/dev/shm", "type": "bind", "source": shm, "options": ["rbind", "nosuid", "noexec", "nodev"]}));
        }
    }
    Ok(mounts)
}
