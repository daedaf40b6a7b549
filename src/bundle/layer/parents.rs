//! The directories that an archive's entries are made in: found along the symbolic links of the layer, made
//! where they are missing, remembered until the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::remove::remove;
use super::tar::LONGEST_NAME;
use super::unpack::{Directory, Unpacker};
use super::{fs, join, shown, split};

/// How many symbolic links may stand in one name (the kernel's limit too).
const MOST_LINKS: u32 = 40;
/// How many bytes of names are remembered until the end.
const MOST_NAMES: usize = 256 << 20;
/// How many parts of names are looked up one by one, along symbolic links: about a minute of it. A million files
/// in a linked directory take a fifth.
const MOST_STEPS: u64 = 50_000_000;

/// A directory that entries are made in.
pub struct Parent {
    /// For use as a base of other calls only.
    pub fd: OwnedFd,
    /// Its path without symbolic links.
    pub path: Vec<u8>,
    /// Its group, which new files may inherit.
    pub gid: u32,
}

impl Unpacker<'_> {
    /// Removes what is there, and all that is remembered of it.
    pub(super) fn clear(&mut self, parent: &Parent, name: &[u8]) -> Result<()> {
        remove(parent.fd.as_fd(), name)?;
        let path = join(&parent.path, name);
        let below = [&path[..], b"/"].concat();
        // The byte behind a slash ends the range of what is below.
        let end = [&path[..], b"0"].concat();
        let gone: Vec<_> = self.directories.range(below.clone()..end.clone()).map(|(path, _)| path.clone()).collect();
        for path in gone.iter().chain([&path]) {
            if self.directories.remove(path).is_some() {
                self.names -= path.len();
            }
        }
        let gone: Vec<_> = self.links.range(below..end).map(|(path, _)| path.clone()).collect();
        for path in gone.iter().chain([&path]) {
            self.links.remove(path);
        }
        self.last = None;
        Ok(())
    }

    /// The directory that a path of the archive means, made where it is missing.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Rc<Parent>> {
        if let Some((last, parent)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(parent));
        }
        let parent = match fs::base(self.root, path) {
            Ok(fd) => Rc::new(Parent { gid: rustix::fs::fstat(&fd)?.st_gid, fd, path: path.to_vec() }),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                self.walk(path, true)?.context("its directory is missing")?
            }
            Err(error) => return Err(error.into()),
        };
        self.last = Some((path.to_vec(), Rc::clone(&parent)));
        Ok(parent)
    }

    /// As `parent`, none where something is missing.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<Rc<Parent>>> {
        if let Some((last, parent)) = &self.last
            && last == path
        {
            return Ok(Some(Rc::clone(parent)));
        }
        match fs::base(self.root, path) {
            Ok(fd) => Ok(Some(Rc::new(Parent { gid: rustix::fs::fstat(&fd)?.st_gid, fd, path: path.to_vec() }))),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.walk(path, false),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes through a path part by part, along symbolic links, never above the root.
    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<Rc<Parent>>> {
        let open = |root: BorrowedFd, path: Vec<u8>| -> Result<Parent> {
            let fd = fs::base(root, &path)?;
            Ok(Parent { gid: rustix::fs::fstat(&fd)?.st_gid, fd, path })
        };
        let mut at = open(self.root, Vec::new())?;
        let mut links = 0;
        // What is still to be gone, its first part last.
        let mut parts: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect();
        while let Some(part) = parts.pop() {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                bail!("the names in the layer lead along symbolic links too often");
            }
            if part.is_empty() || part == b"." {
                continue;
            }
            if part == b".." {
                // From a link. `/..` is `/`.
                at = open(self.root, split(&at.path).0.to_vec())?;
                continue;
            }
            let found = fs::find(&at.fd, &part)?;
            let path = join(&at.path, &part);
            match found.as_ref().map(fs::kind) {
                Some(FileType::Directory) => {}
                Some(FileType::Symlink) => {
                    links += 1;
                    if links > MOST_LINKS {
                        bail!("more than {MOST_LINKS} symbolic links stand in its name");
                    }
                    let target = rustix::fs::readlinkat(&at.fd, &part[..], Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        at = open(self.root, Vec::new())?;
                    }
                    parts.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                    continue;
                }
                None | Some(FileType::CharacterDevice) if found.as_ref().is_none_or(fs::is_whiteout) => {
                    if !make {
                        return Ok(None);
                    }
                    self.make_directory(&at, &part, &path)?;
                    let kind = if found.is_some() { Directory::Fresh } else { Directory::Implied };
                    self.remember(path.clone(), kind)?;
                }
                _ => bail!("{} is no directory", shown(&path)),
            }
            let fd = fs::base(at.fd.as_fd(), &part)?;
            at = Parent { gid: rustix::fs::fstat(&fd)?.st_gid, fd, path };
        }
        Ok(Some(Rc::new(at)))
    }

    pub(super) fn remember(&mut self, path: Vec<u8>, directory: Directory) -> Result<()> {
        let length = path.len();
        // The kernel opens no longer ones.
        if length >= LONGEST_NAME {
            bail!("it is {length} bytes below the root, too long a way: {LONGEST_NAME} are the most");
        }
        if self.directories.insert(path, directory).is_none() {
            self.names(length)?;
        }
        Ok(())
    }

    pub(super) fn names(&mut self, length: usize) -> Result<()> {
        self.names += length;
        if self.names > MOST_NAMES {
            bail!("the names of the layer's directories take more than {} MiB", MOST_NAMES >> 20);
        }
        Ok(())
    }
}
