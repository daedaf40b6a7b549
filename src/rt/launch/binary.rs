//! The runtime's own binary, which a container must not be able to overwrite (CVE-2019-5736).
//!
//! Init and the processes of `exec` are this program until they execute another one, and a container
//! may have them execute `/proc/self/exe`. Whoever opens that link of theirs has the file of the host,
//! and can write to it once nobody executes it any more. So those processes, and the command they are
//! cloned from, run from a mount of their own that cannot be written to.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow};
use rustix::fs::{
    CWD, MemfdFlags, Mode, SealFlags, StatFs, StatVfsMountFlags, fchmod, fcntl_add_seals, fcntl_get_seals,
    memfd_create, stat, statfs,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::geteuid;

use crate::sys;
use crate::sys::entry::Arguments;
use crate::sys::error::{At, errno};

const SELF: &str = "/proc/self/exe";

/// Who may write or grow a sealed file: nobody, for good.
const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Returns when this process runs from where no container can write to it; else it executes itself
/// again from there.
pub fn protect(args: Arguments) -> Result<()> {
    let place = statfs(SELF).at(|| format!("looking at {SELF}"))?;
    if is_read_only(&place) || is_out_of_reach()? || is_sealed(&place) {
        return Ok(());
    }
    let what = || "protecting the runtime's own binary from containers".to_owned();
    let binary = match read_only_mount() {
        Ok(mount) => mount,
        // It takes CAP_SYS_ADMIN, and a file system that can be cloned.
        Err(_) => sealed_copy().at(what)?,
    };
    let Err(error) = args.execute_again(&binary);
    Err(anyhow!("{}: {}", what(), errno(error)))
}

/// It lies on a read-only mount, our own one or the host's. A container has no right over either: only
/// who has a mount in his mount namespace can change it, and ours was in none from execve on, which
/// closed the one descriptor that it hung on.
fn is_read_only(place: &StatFs) -> bool {
    StatVfsMountFlags::from_bits_retain(place.f_flags as u64).contains(StatVfsMountFlags::RDONLY)
}

/// It belongs to root and the caller is a plain user, whose containers have no id that may write to it.
fn is_out_of_reach() -> Result<bool> {
    if geteuid().is_root() {
        return Ok(false);
    }
    let file = stat(SELF).at(|| format!("looking at {SELF}"))?;
    Ok(file.st_uid == 0 && file.st_mode & 0o022 == 0)
}

/// It is the copy of [`sealed_copy`], which lies on a tmpfs.
fn is_sealed(place: &StatFs) -> bool {
    place.f_type as u64 == libc::TMPFS_MAGIC as u64
        && File::open(SELF).is_ok_and(|file| fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS)))
}

/// The binary alone as a mount that is attached nowhere, and read-only (open_tree(2), Linux 5.2).
fn read_only_mount() -> rustix::io::Result<OwnedFd> {
    let mount = open_tree(CWD, SELF, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    sys::mount_setattr(&mount, false, libc::MOUNT_ATTR_RDONLY, 0, 0, None)?;
    Ok(mount)
}

/// A copy in memory that nobody can change (memfd_create(2)).
fn sealed_copy() -> std::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, later ones may insist on it.
    let copy = match memfd_create("rt", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("rt", flags)?,
        other => other?,
    };
    let mut copy = File::from(copy);
    std::io::copy(&mut File::open(SELF)?, &mut copy)?;
    fchmod(&copy, Mode::from_raw_mode(0o555))?;
    fcntl_add_seals(&copy, SEALS)?;
    Ok(copy.into())
}
