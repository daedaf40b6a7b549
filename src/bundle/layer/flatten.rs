//! Layers to one plain tree, as overlayfs shows them: for machines without overlayfs, bundles on disk and
//! archives of whole containers.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps};

use super::overlay::Overlay;
use super::view::{Found, View};
use super::{fs, join, shown, split};

/// Copies what the layers show together into an empty directory: owners, modes, times and extended attributes
/// as they are, but for overlayfs's own; hard links within a layer stay linked, holes stay holes, and content
/// is shared with the layers where the file system can (reflinks). Sockets are left out. On an error the
/// directory holds a part: [`remove`](super::remove::remove) it.
pub fn flatten(layers_bottom_first: &[BorrowedFd], into: BorrowedFd, overlay: Overlay) -> Result<()> {
    let view = View { layers: layers_bottom_first.iter().rev().copied().collect(), overlay };
    let mut copy = Copy { view, into, linked: HashMap::new() };
    // Each directory is filled after it was made; its times come last, when nothing in it changes any more.
    let mut times: Vec<(Vec<u8>, Timestamps)> = Vec::new();
    let mut ahead = vec![(Vec::new(), copy.view.root()?)];
    while let Some((path, directory)) = ahead.pop() {
        let told = || format!("cannot copy {}", shown(&path));
        copy.directory(&path, &directory, &mut ahead).with_context(told)?;
        times.push((path, fs::times(&directory.stat)));
    }
    for (path, times) in times.iter().rev() {
        let (above, name) = split(path);
        let name: &[u8] = if path.is_empty() { b"." } else { name };
        fs::set_times(fs::base(into, above)?, name, times)?;
    }
    Ok(())
}

struct Copy<'a> {
    view: View<'a>,
    into: BorrowedFd<'a>,
    /// Where a file with several names was put first: by layer and inode.
    linked: HashMap<(usize, u64), Vec<u8>>,
}

impl Copy<'_> {
    /// Gives a directory that was made its metadata and what is in it; directories in it are put on the list.
    fn directory(&mut self, path: &[u8], directory: &Found, ahead: &mut Vec<(Vec<u8>, Found)>) -> Result<()> {
        let to = fs::base(self.into, path)?;
        let from = self.view.directory(directory.layers[0], path)?;
        fs::copy_metadata((from.as_fd(), b"."), &directory.stat, (to.as_fd(), b"."))?;
        let mut last = (directory.layers[0], from);
        for (name, found) in self.view.list(path, directory)? {
            let path = join(path, &name);
            if found.kind() == FileType::Directory {
                rustix::fs::mkdirat(&to, &name[..], Mode::RWXU)?;
                ahead.push((path, found));
                continue;
            }
            let layer = found.layers[0];
            if last.0 != layer {
                last = (layer, self.view.directory(layer, split(&path).0)?);
            }
            let told = || format!("cannot copy {}", shown(&path));
            self.file(layer, last.1.as_fd(), to.as_fd(), &name, &path, &found).with_context(told)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        layer: usize,
        from: BorrowedFd,
        to: BorrowedFd,
        name: &[u8],
        path: &[u8],
        found: &Found,
    ) -> Result<()> {
        if found.stat.st_nlink > 1 && found.kind() != FileType::Socket {
            if let Some(first) = self.linked.get(&(layer, found.stat.st_ino)) {
                let (directory, first) = split(first);
                let directory = fs::base(self.into, directory)?;
                return Ok(rustix::fs::linkat(directory, first, to, name, AtFlags::empty())?);
            }
            self.linked.insert((layer, found.stat.st_ino), path.to_vec());
        }
        copy_node(from, name, &found.stat, to, name)
    }
}

/// Copies one thing that is no directory, with all its metadata. A socket is left out.
pub fn copy_node(
    from: BorrowedFd,
    from_name: &[u8],
    stat: &rustix::fs::Stat,
    to: BorrowedFd,
    to_name: &[u8],
) -> Result<()> {
    match fs::kind(stat) {
        FileType::RegularFile => {
            let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, from_name, flags | OFlags::RDONLY, Mode::empty())?;
            let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let target = rustix::fs::openat(to, to_name, flags, Mode::RUSR | Mode::WUSR)?;
            fs::copy_content(&source, &target, stat.st_size as u64)?;
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, from_name, Vec::new())?;
            rustix::fs::symlinkat(&*target, to, to_name)?;
        }
        FileType::Socket => return Ok(()),
        kind => rustix::fs::mknodat(to, to_name, kind, Mode::empty(), stat.st_rdev)?,
    }
    Ok(fs::copy_metadata((from, from_name), stat, (to, to_name))?)
}
