//! Mounts of our own that the runtime binds: where a path alone could not say what is meant (a directory in a volume
//! that a container may change meanwhile, other owners, all below read-only, mounts that go back to the host).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::namespace;
use crate::sys;

/// A copy of a mount that is mounted nowhere yet.
pub struct Tree(OwnedFd);

impl Tree {
    /// Of what a descriptor refers to, and with `recursive` of all that is mounted below it.
    pub fn of(what: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<Self> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        Ok(Self(rustix::mount::open_tree(what, c"", flags)?))
    }

    /// Of a path as it is seen outside of our own mount namespace: a peer of what is mounted there, so that mounts
    /// below go both ways.
    pub fn outside(path: &str, recursive: bool) -> Result<Self> {
        namespace::outside(|| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let what = rustix::fs::open(path, flags, Mode::empty()).with_context(|| path.to_owned())?;
            Ok(Self::of(what.as_fd(), recursive)?)
        })
    }

    /// Of a path as another process sees it, whose mount namespace is another one.
    pub fn seen_by(pid: i32, path: &str) -> Result<Self> {
        namespace::inside(pid, || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let what = rustix::fs::open(path, flags, Mode::empty()).with_context(|| path.to_owned())?;
            Ok(Self::of(what.as_fd(), false)?)
        })
    }

    /// Nobody writes by this mount, nor by one below it.
    pub fn read_only(&self) -> rustix::io::Result<()> {
        sys::mount_setattr(&self.0, true, libc::MOUNT_ATTR_RDONLY, 0, None)
    }

    /// Owners are seen, and written, by the mapping of a user namespace (Linux 5.12).
    pub fn map_ids(&self, users: BorrowedFd<'_>) -> rustix::io::Result<()> {
        sys::mount_setattr(&self.0, false, libc::MOUNT_ATTR_IDMAP, 0, Some(users))
    }

    /// Mounts it at a directory or file, in this thread's mount namespace.
    pub fn attach(&self, at: &Path) -> rustix::io::Result<()> {
        let at = rustix::fs::open(at, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&self.0, c"", &at, c"", flags)
    }
}

/// Mounts a copy of what is at a path at a path of another root, if that is there.
pub fn show(source: &str, root: BorrowedFd<'_>, at: &str) -> Result<()> {
    let source = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(at) = rustix::fs::openat2(root, at.trim_start_matches('/'), flags, Mode::empty(), ResolveFlags::IN_ROOT)
    else {
        return Ok(());
    };
    let tree = Tree::of(source.as_fd(), true)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&tree.0, c"", &at, c"", flags)?)
}

/// For paths below it.
impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
