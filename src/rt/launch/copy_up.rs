//! `tmpcopyup`: fills a new tmpfs with what lies below its mount point.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Result, bail};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, chownat, fchmod, major, makedev, minor,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};

use crate::sys::error::At;

/// How deep directories may lie in each other.
const MAX_DEPTH: usize = 128;

/// Copies what is in `from` into `to`: kinds, owners, modes, times, links and contents.
pub(super) fn directory(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    // The source may be an O_PATH descriptor.
    let from = openat(from, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(|| "tmpcopyup: reading the directory".into())?;
    entries(&from, to, 0)
}

fn entries(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("tmpcopyup: directories lie more than {MAX_DEPTH} deep");
    }
    for entry in Dir::read_from(from).at(|| "tmpcopyup: reading a directory".into())? {
        let entry = entry.at(|| "tmpcopyup: reading a directory".into())?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let what = || format!("tmpcopyup: copying {}", name.to_string_lossy());
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).at(what)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::Directory => {
                mkdirat(to, name, mode).at(what)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(from, name, flags, Mode::empty()).at(what)?;
                let made = openat(to, name, flags, Mode::empty()).at(what)?;
                entries(&below, &made, depth + 1)?;
                fchmod(&made, mode).at(what)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let source = openat(from, name, flags, Mode::empty()).at(what)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = openat(to, name, flags, Mode::from_raw_mode(0o600)).at(what)?;
                std::io::copy(&mut std::fs::File::from(source), &mut std::fs::File::from(target.try_clone().at(what)?))
                    .at(what)?;
                owner(to, name, &stat)?;
                // After the owner: changing that takes set-id bits away.
                fchmod(&target, mode).at(what)?;
            }
            FileType::Symlink => {
                let link = readlinkat(from, name, Vec::new()).at(what)?;
                symlinkat(&link, to, name).at(what)?;
            }
            _ => mknodat(to, name, kind, mode, makedev(major(stat.st_rdev), minor(stat.st_rdev))).at(what)?,
        }
        if kind != FileType::RegularFile {
            owner(to, name, &stat)?;
        }
        let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec as _ };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW).at(what)?;
    }
    Ok(())
}

fn owner(to: impl AsFd, name: &std::ffi::CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .at(|| format!("tmpcopyup: setting the owner of {}", name.to_string_lossy()))
}
