//! Id maps (user_namespaces(7)), for a container's user namespace and for idmapped mounts.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};
use rustix::thread::{CapabilitySet, capabilities};

use crate::config::types::IdMapping;
use crate::plan::rootfs::IdMap;
use crate::sys;
use crate::sys::error::{At, errno, text};

/// Writes the maps of the new user namespace that `pid` is in.
///
/// Who has no rights may map the own id alone, be it a plain user or the root of a container; for more
/// the kernel wants somebody with privileges, and newuidmap(1) and newgidmap(1) are there to lend them,
/// as far as /etc/subuid and /etc/subgid go.
pub(super) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let is_own = |ranges: &[IdMapping], id: u32| matches!(ranges, [one] if one.host_id == id && one.size == 1);
    if can(CapabilitySet::SETUID) || is_own(uids, uid) {
        write_map(pid, "uid", uids)?;
    } else {
        have_mapped(pid, "uid", uids)?;
    }
    if can(CapabilitySet::SETGID) {
        write_map(pid, "gid", gids)
    } else if is_own(gids, gid) {
        // A group may be mapped so only where setgroups(2) is given up for good.
        let path = format!("/proc/{pid}/setgroups");
        fs::write(&path, "deny").at(|| format!("writing {path}"))?;
        write_map(pid, "gid", gids)
    } else {
        have_mapped(pid, "gid", gids)
    }
}

/// Whether this process has a capability in its user namespace.
pub(super) fn can(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

fn write_map(pid: i32, kind: &str, ranges: &[IdMapping]) -> Result<()> {
    let path = format!("/proc/{pid}/{kind}_map");
    fs::write(&path, lines(ranges)).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied
                if kind == "uid" && !can(CapabilitySet::SETFCAP) && ranges.iter().any(|range| range.host_id == 0) =>
            {
                "; hostID 0 takes CAP_SETFCAP"
            }
            ErrorKind::PermissionDenied => "; a hostID must be an id of the user namespace that rt runs in",
            _ => "",
        };
        anyhow!("/linux/{kind}Mappings: writing {path}: {}{hint}", text(&error))
    })
}

fn have_mapped(pid: i32, kind: &str, ranges: &[IdMapping]) -> Result<()> {
    let program = format!("new{kind}map");
    let numbers = ranges.iter().flat_map(|range| [range.container_id, range.host_id, range.size]);
    let output = Command::new(&program)
        .arg(pid.to_string())
        .args(numbers.map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            // A directory in PATH that is closed to the caller hides that nothing was found.
            let path = std::env::var_os("PATH").unwrap_or_default();
            let is_there = std::env::split_paths(&path).any(|dir| dir.join(&program).exists());
            let why = if is_there { text(&error) } else { "it is not in PATH".to_owned() };
            anyhow!("/linux/{kind}Mappings: other ids than one's own take {program} (package uidmap): {why}")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    Err(anyhow!(
        "/linux/{kind}Mappings: {program} refused: {said}; what hostID names must be your own id or a range of yours in /etc/sub{kind}"
    ))
}

fn lines(ranges: &[IdMapping]) -> String {
    let mut lines = String::new();
    for range in ranges {
        let _ = writeln!(lines, "{} {} {}", range.container_id, range.host_id, range.size);
    }
    lines
}

/// Gives a detached mount a mapping. The kernel takes it from a user namespace, and one exists only
/// while a process is in it: a child that does nothing.
pub(super) fn idmap(mount: &OwnedFd, map: &IdMap) -> Result<()> {
    let (hold, release) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(|| "making a pipe".into())?;
    let (pid, pidfd) = match sys::clone3(libc::CLONE_NEWUSER as u64, None)
        .map_err(|e| anyhow!("making a user namespace: {}", errno(e)))?
    {
        sys::Cloned::Child => {
            drop(release);
            let _ = rustix::io::read(&hold, &mut [0; 1]);
            std::process::exit(0);
        }
        sys::Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(hold);
    let result = (|| {
        write_maps(pid, &map.uids, &map.gids)?;
        let namespace = fs::File::open(format!("/proc/{pid}/ns/user")).at(|| "opening a user namespace".into())?;
        use std::os::fd::AsFd;
        let attribute = libc::MOUNT_ATTR_IDMAP;
        sys::mount_setattr(mount, map.recursive, attribute, 0, 0, Some(namespace.as_fd())).map_err(
            |error| match error {
                rustix::io::Errno::INVAL => {
                    anyhow!("idmap: {}; its file system cannot be idmapped, or is already", errno(error))
                }
                error => anyhow!("idmap: {}", errno(error)),
            },
        )
    })();
    drop(release);
    if rustix::process::waitid(
        rustix::process::WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)),
        rustix::process::WaitIdOptions::EXITED,
    )
    .is_err()
    {
        bail!("idmap: the helping process was lost");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_lines() {
        let ranges = [
            IdMapping { container_id: 0, host_id: 1000, size: 1 },
            IdMapping { container_id: 1, host_id: 100_000, size: 65_536 },
        ];
        assert_eq!(lines(&ranges), "0 1000 1\n1 100000 65536\n");
    }
}
