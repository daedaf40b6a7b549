//! Owners of whole trees.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Gid, Uid};

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
