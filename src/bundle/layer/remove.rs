//! Removes trees.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::fs;

/// Removes what a name in a directory is, with all below it, however deep: neither the stack nor the number of
/// open files grows with the depth, since what lies deep is moved up before it is emptied. Nothing there is
/// no error. Mounts below are one (`EBUSY`).
pub fn remove(directory: BorrowedFd, name: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other,
    }
    let top = open(directory, name)?;
    // Names that were moved up, which no name in the tree can be mistaken for.
    let mut moved = 0_u64;
    loop {
        let mut left = false;
        for name in fs::names(&top)? {
            left |= !empty(&top, &name, &mut moved)?;
        }
        if !left {
            break;
        }
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
}

/// Removes a name in `top`; of a directory that has directories in it, those are moved up to `top` and it is
/// told that something is left there.
fn empty(top: &OwnedFd, name: &[u8], moved: &mut u64) -> rustix::io::Result<bool> {
    match rustix::fs::unlinkat(top, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other.map(|()| true),
    }
    let inner = open(top.as_fd(), name)?;
    let mut all = true;
    for below in fs::names(&inner)? {
        match rustix::fs::unlinkat(&inner, &below, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => {
                other?;
                continue;
            }
        }
        if rustix::fs::unlinkat(&inner, &below, AtFlags::REMOVEDIR).is_ok() {
            continue;
        }
        all = false;
        loop {
            *moved += 1;
            let free = format!(".moved-up-{moved}");
            match rustix::fs::renameat_with(&inner, &below, top, free, rustix::fs::RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => break other?,
            }
        }
    }
    drop(inner);
    rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)?;
    Ok(all)
}

/// A directory, to read what is in it and to take it out.
fn open(directory: BorrowedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        // A directory of one's own that nobody may read.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(directory, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(directory, name, flags, Mode::empty())
        }
        other => other,
    }
}
