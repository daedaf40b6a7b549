//! What a plain tree has become since [`flatten`](super::flatten::flatten) made it of layers, as the upper directory
//! that overlayfs would have of it: so that without overlayfs, too, a container's changes are listed and committed.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, Stat, Timestamps};
use rustix::io::Errno;

use super::flatten::copy_node;
use super::overlay::Overlay;
use super::view::{Found, View};
use super::{fs, join, shown, split};

/// Fills an empty directory with what differs between a tree and the layers, the lowest first: what is new or changed
/// as it is in the tree, a whiteout for what is gone, and the directories around. A file is taken for unchanged where
/// kind, owner, mode, size, time of change (to the nanosecond) and extended attributes are the same. Nothing may change
/// meanwhile.
pub fn compare(tree: BorrowedFd, layers: &[BorrowedFd], overlay: Overlay, into: BorrowedFd) -> Result<()> {
    let view = View { layers: layers.iter().rev().copied().collect(), overlay };
    let root = if layers.is_empty() { None } else { Some(view.root()?) };
    let mut compare =
        Compare { tree, view, into, made: vec![(Vec::new(), rustix::fs::fstat(tree)?)], linked: HashMap::new() };
    // A stack, so that no depth of the tree is a depth of calls.
    let mut ahead = vec![(Vec::new(), root)];
    while let Some((path, below)) = ahead.pop() {
        compare.directory(&path, below.as_ref(), &mut ahead).with_context(|| format!("comparing {}", shown(&path)))?;
    }
    // Directories get their times when nothing in them changes any more.
    for (path, stat) in compare.made.iter().rev() {
        let (from, to) = (fs::base(tree, path)?, fs::base(into, path)?);
        fs::copy_metadata((from.as_fd(), b"."), stat, (to.as_fd(), b"."))?;
    }
    Ok(())
}

struct Compare<'a> {
    tree: BorrowedFd<'a>,
    view: View<'a>,
    into: BorrowedFd<'a>,
    /// The directories that were made, each behind the one that it is in.
    made: Vec<(Vec<u8>, Stat)>,
    /// Where a file with several names was put first, by its inode.
    linked: HashMap<u64, Vec<u8>>,
}

impl Compare<'_> {
    /// All in one directory of the tree; `below`: the same one in the layers. Directories in it are put on the list.
    fn directory(
        &mut self,
        path: &[u8],
        below: Option<&Found>,
        ahead: &mut Vec<(Vec<u8>, Option<Found>)>,
    ) -> Result<()> {
        let base = fs::base(self.tree, path)?;
        let mut old = match below {
            Some(below) => self.view.list(path, below)?,
            None => std::collections::BTreeMap::new(),
        };
        // Sockets are in no layer, nor copied of one.
        old.retain(|_, it| it.kind() != FileType::Socket);
        for name in fs::names(&base)? {
            let stat = fs::stat(&base, &name)?;
            // A device 0:0 would mean that something is gone. As in an overlay, it is nothing itself.
            if fs::kind(&stat) == FileType::Socket || fs::is_whiteout(&stat) {
                continue;
            }
            let here = join(path, &name);
            let before = old.remove(&name);
            let same = match &before {
                Some(before) => self.same(path, &name, base.as_fd(), &stat, before)?,
                None => false,
            };
            if fs::kind(&stat) == FileType::Directory {
                if !same {
                    let made = self.made(&here)?;
                    if before.as_ref().is_some_and(|it| it.kind() != FileType::Directory) {
                        // As overlayfs marks it: nothing that lies below something else shows through.
                        fs::make_opaque(made.as_fd(), b".", self.view.overlay)?;
                    }
                }
                ahead.push((here, before.filter(|it| it.kind() == FileType::Directory)));
            } else if !same {
                self.copy(path, &name, base.as_fd(), &stat)?;
            }
        }
        for name in old.keys() {
            fs::whiteout(self.made(path)?, name)?;
        }
        Ok(())
    }

    /// Whether something is as the layers have it. What is in a directory is another question.
    fn same(&self, path: &[u8], name: &[u8], base: BorrowedFd, stat: &Stat, before: &Found) -> Result<bool> {
        let kind = fs::kind(stat);
        let what = |it: &Stat| (it.st_mode, it.st_uid, it.st_gid);
        let content = |it: &Stat| {
            let Timestamps { last_modification, .. } = fs::times(it);
            (it.st_size, it.st_rdev, last_modification.tv_sec, last_modification.tv_nsec)
        };
        if what(stat) != what(&before.stat) || kind != FileType::Directory && content(stat) != content(&before.stat) {
            return Ok(false);
        }
        let lower = self.view.directory(before.layers[0], path)?;
        if kind == FileType::Symlink {
            let target = |directory: BorrowedFd| rustix::fs::readlinkat(directory, name, Vec::new());
            return Ok(target(base)? == target(lower.as_fd())?);
        }
        let xattrs = |directory: BorrowedFd| -> rustix::io::Result<Vec<_>> {
            Ok(fs::xattrs(directory, name)?.into_iter().filter(|it| fs::is_images(&it.0)).collect())
        };
        Ok(xattrs(base)? == xattrs(lower.as_fd())?)
    }

    fn copy(&mut self, path: &[u8], name: &[u8], base: BorrowedFd, stat: &Stat) -> Result<()> {
        let to = self.made(path)?;
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&stat.st_ino) {
                let (above, first) = split(first);
                return Ok(rustix::fs::linkat(fs::base(self.into, above)?, first, &to, name, AtFlags::empty())?);
            }
            self.linked.insert(stat.st_ino, join(path, name));
        }
        copy_node(base, name, stat, to.as_fd(), name).with_context(|| format!("copying {}", shown(&join(path, name))))
    }

    /// A directory with what differs; it is made where it is missing, and those around it.
    fn made(&mut self, path: &[u8]) -> Result<OwnedFd> {
        match fs::base(self.into, path) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let (above, name) = split(path);
        let above = self.made(above)?;
        rustix::fs::mkdirat(&above, name, Mode::RWXU)?;
        self.made.push((path.to_vec(), rustix::fs::fstat(fs::base(self.tree, path)?)?));
        Ok(fs::base(self.into, path)?)
    }
}
