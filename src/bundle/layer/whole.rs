//! What is done to whole trees, or asked of them.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Gid, Stat, Uid};
use rustix::io::Errno;

use super::{fs, join};

/// Gives what a descriptor refers to, and all below a directory, to a user and a group. Links themselves, not what
/// they lead to; what is mounted below is another tree and stays as it is.
pub fn give(root: BorrowedFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    let own = rustix::fs::fstat(root)?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(root, c"", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    if fs::kind(&own) != FileType::Directory {
        return Ok(());
    }
    let mut ahead = vec![Vec::new()];
    while let Some(path) = ahead.pop() {
        let directory = fs::base(root, &path)?;
        for name in fs::names(&directory)? {
            let Some(stat) = fs::find(&directory, &name)? else { continue };
            if stat.st_dev != own.st_dev {
                continue;
            }
            fs::set_owner(&directory, &name, uid, gid)?;
            if fs::kind(&stat) == FileType::Directory {
                ahead.push(join(&path, &name));
            }
        }
    }
    Ok(())
}

/// What the files below a directory take on the disk, in bytes; a file with several names counts once. What goes away
/// meanwhile, or is mounted below, does not count.
pub fn size(root: BorrowedFd) -> rustix::io::Result<u64> {
    let own = rustix::fs::fstat(root)?;
    let mut linked = HashSet::new();
    let mut total = 0;
    let mut ahead = vec![Vec::new()];
    while let Some(path) = ahead.pop() {
        let directory = match fs::base(root, &path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            other => other?,
        };
        for name in fs::names(&directory)? {
            let Some(stat) = fs::find(&directory, &name)? else { continue };
            if stat.st_dev != own.st_dev || stat.st_nlink > 1 && !is_first(&mut linked, &stat) {
                continue;
            }
            total += stat.st_blocks as u64 * 512;
            if fs::kind(&stat) == FileType::Directory {
                ahead.push(join(&path, &name));
            }
        }
    }
    Ok(total)
}

fn is_first(linked: &mut HashSet<u64>, stat: &Stat) -> bool {
    fs::kind(stat) == FileType::Directory || linked.insert(stat.st_ino)
}
