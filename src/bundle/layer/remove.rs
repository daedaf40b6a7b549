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
    let mut moved = 0_u64;
    loop {
        let before = moved;
        clear(&top, &top, 0, &mut moved)?;
        if moved == before {
            break;
        }
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)
}

/// How many directories may be open at once.
const DEEPEST: u32 = 16;

/// Empties a directory. What lies deeper than [`DEEPEST`] is moved up to `top`, under names that count on, for
/// the next round.
fn clear(top: &OwnedFd, directory: &OwnedFd, depth: u32, moved: &mut u64) -> rustix::io::Result<()> {
    for name in fs::names(directory)? {
        match rustix::fs::unlinkat(directory, &name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            other => {
                other?;
                continue;
            }
        }
        match rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            other => {
                other?;
                continue;
            }
        }
        if depth < DEEPEST {
            let inner = open(directory.as_fd(), &name)?;
            clear(top, &inner, depth + 1, moved)?;
            drop(inner);
            rustix::fs::unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
            continue;
        }
        loop {
            *moved += 1;
            let free = format!(".moved-up-{moved}");
            match rustix::fs::renameat_with(directory, &name, top, free, rustix::fs::RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                other => break other?,
            }
        }
    }
    Ok(())
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
