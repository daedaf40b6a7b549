//! Trees by descriptors. A path here is relative to the descriptor of a root, has neither symbolic links nor
//! `..` in it, and is empty for the root itself; a name is one part of a path. What does not keep to that is
//! refused by the kernel (openat2) and never followed.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::overlay::Overlay;

/// A name and its value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Opens a directory for use as a base of other calls only (`O_PATH`).
pub fn base(root: BorrowedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens what is at a path, below the root, without following anything.
pub fn open(root: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // The kernel could not be sure that nothing was moved meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// What a name in a directory is, itself.
pub fn stat(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// As [`stat`], none if there is nothing.
pub fn find(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match stat(directory, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The type that a stat tells.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether it is overlayfs's whiteout: a character device 0:0.
pub fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout. The kernel lets everybody, also where other devices cannot be made.
pub fn whiteout(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Makes a directory of one's own, mode 0755, whatever the umask and the directory around it say.
pub fn plain_directory(directory: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(&directory, name, mode)?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    set_owner(&directory, name, uid.as_raw(), gid.as_raw())?;
    rustix::fs::chmodat(&directory, name, mode, AtFlags::empty())
}

/// The names in a directory, but for `.` and `..`, sorted.
pub fn names(directory: impl AsFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path for calls that take no descriptor of a directory: to the very name in this directory. It must be
/// used with calls that do not follow the last part.
fn proc_path(directory: BorrowedFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat()
}

/// Sets an extended attribute of a name in a directory, not of what it links to. `.` is the directory.
pub fn set_xattr(directory: BorrowedFd, name: &[u8], xattr: &[u8], value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(proc_path(directory, name), xattr, value, XattrFlags::empty())
}

/// Takes an extended attribute away.
pub fn remove_xattr(directory: BorrowedFd, name: &[u8], xattr: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lremovexattr(proc_path(directory, name), xattr)
}

/// All extended attributes of a name in a directory, sorted. File systems without any have none.
pub fn xattrs(directory: BorrowedFd, name: &[u8]) -> rustix::io::Result<Vec<Xattr>> {
    let path = CString::new(proc_path(directory, name)).map_err(|_| Errno::INVAL)?;
    let mut list = vec![0; 1 << 10];
    let size = loop {
        match rustix::fs::llistxattr(&path, &mut list[..]) {
            Ok(size) => break size,
            Err(Errno::RANGE) if list.len() < 1 << 20 => list.resize(list.len() * 8, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    };
    let mut xattrs = Vec::new();
    for name in list[..size].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; rustix::fs::lgetxattr_query(&path, name)?];
        let size = rustix::fs::lgetxattr(&path, name, &mut value[..])?;
        value.truncate(size);
        xattrs.push((name.to_vec(), value));
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Whether an extended attribute is overlayfs's own, in either of its namespaces.
pub fn is_overlays(xattr: &[u8]) -> bool {
    xattr.starts_with(b"trusted.overlay.") || xattr.starts_with(b"user.overlay.")
}

/// Whether an extended attribute belongs to an image: not overlayfs's own, and no label or signature of this
/// machine (`security.selinux`, `security.ima`, ...).
pub fn is_images(xattr: &[u8]) -> bool {
    let kinds: [&[u8]; 3] = [b"user.", b"trusted.", b"system.posix_acl_"];
    (kinds.iter().any(|kind| xattr.starts_with(kind)) || xattr == b"security.capability") && !is_overlays(xattr)
}

/// Whether a directory hides what layers below have there.
pub fn is_opaque(directory: BorrowedFd, name: &[u8], overlay: Overlay) -> rustix::io::Result<bool> {
    let mut value = [0; 8];
    match rustix::fs::lgetxattr(proc_path(directory, name), overlay.opaque(), &mut value[..]) {
        Ok(size) => Ok(&value[..size] == b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a directory hide what layers below have there.
pub fn make_opaque(directory: BorrowedFd, name: &[u8], overlay: Overlay) -> rustix::io::Result<()> {
    set_xattr(directory, name, overlay.opaque().as_bytes(), b"y")
}

/// The times of a stat, as calls that set them want them.
pub fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
    }
}

/// Sets the times of a name in a directory, not of what it links to.
pub fn set_times(directory: impl AsFd, name: &[u8], times: &Timestamps) -> rustix::io::Result<()> {
    rustix::fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets owner and group of a name in a directory, not of what it links to.
pub fn set_owner(directory: impl AsFd, name: &[u8], uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Makes `to` what `from` is, but for its content: owner, then mode, which a change of owner takes bits from,
/// then extended attributes, which it takes capabilities from, then times. Attributes that are no
/// image's stay behind. Directories get their times again when they are filled.
pub fn copy_metadata(
    (from, from_name): (BorrowedFd, &[u8]),
    stat: &Stat,
    (to, to_name): (BorrowedFd, &[u8]),
) -> rustix::io::Result<()> {
    set_owner(to, to_name, stat.st_uid, stat.st_gid)?;
    if kind(stat) != FileType::Symlink {
        rustix::fs::chmodat(to, to_name, Mode::from_raw_mode(stat.st_mode), AtFlags::empty())?;
    }
    for (xattr, value) in xattrs(from, from_name)? {
        if is_images(&xattr) {
            set_xattr(to, to_name, &xattr, &value)?;
        }
    }
    set_times(to, to_name, &times(stat))
}

/// Copies a file's content to an empty file: shared where the file system can, holes as holes.
pub fn copy_content(from: &OwnedFd, to: &OwnedFd, size: u64) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut position = 0;
    while position < size {
        let data = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(position)) {
            Ok(data) => data,
            // Nothing but a hole follows.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(data))?;
        copy_range(from, to, data, hole.min(size))?;
        position = hole;
    }
    rustix::fs::ftruncate(to, size)?;
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let most = (end - read).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), most) {
            // The file became shorter.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            // Other file systems, other kernels.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut buffer = vec![0; if read < end { 256 << 10 } else { 0 }];
    while read < end {
        let most = (end - read).min(buffer.len() as u64) as usize;
        let count = rustix::io::retry_on_intr(|| rustix::io::pread(from, &mut buffer[..most], read))?;
        if count == 0 {
            return Ok(());
        }
        write_at(to, &buffer[..count], read)?;
        read += count as u64;
    }
    Ok(())
}

/// Writes all bytes at a place of a file.
pub fn write_at(to: impl AsFd, mut bytes: &[u8], mut offset: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let count = rustix::io::retry_on_intr(|| rustix::io::pwrite(&to, bytes, offset))?;
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}
