//! A tree that files are taken from: a context, a stage, an image. It is opened once; paths are looked up below that
//! descriptor and lead nowhere else, whatever links are in it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::ignore::Ignore;
use super::pattern::{self, Glob};
use crate::image::Digest;
use crate::image::digest::Hasher;
use crate::layer::{fs, join, shown, split};

/// As many links in a path as the kernel follows.
const MOST_LINKS: usize = 40;

/// See the head of the file.
pub struct Source {
    root: OwnedFd,
    ignore: Ignore,
    /// The context: all of it is root's, and has no devices.
    pub plain: bool,
}

/// Something in a tree.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its path below what was asked for; empty for that itself.
    pub path: Vec<u8>,
    /// Its path in the tree, which has no links in it.
    pub from: Vec<u8>,
    /// What it is.
    pub stat: Stat,
}

impl Item {
    /// Its type.
    pub fn kind(&self) -> FileType {
        fs::kind(&self.stat)
    }
}

impl Source {
    /// Of a directory's descriptor.
    pub fn new(root: OwnedFd, ignore: Ignore, plain: bool) -> Self {
        Self { root, ignore, plain }
    }

    /// Its root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether some of it is left out.
    pub fn is_filtered(&self) -> bool {
        !self.ignore.is_empty()
    }

    fn hides(&self, path: &[u8]) -> bool {
        !path.is_empty() && !self.ignore.is_empty() && self.ignore.excludes(&String::from_utf8_lossy(path))
    }

    fn may_show_below(&self, path: &[u8]) -> bool {
        self.ignore.may_include_below(&String::from_utf8_lossy(path))
    }

    /// What a path leads to, all links followed within the tree; none where there is nothing.
    pub fn resolve(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let mut ahead: VecDeque<Vec<u8>> = parts(path.as_bytes());
        let mut here: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == b".." {
                here.truncate(split(&here).0.len());
                continue;
            }
            let dir = match fs::base(self.root(), &here) {
                Ok(dir) => dir,
                Err(Errno::NOTDIR | Errno::NOENT) => return Ok(None),
                Err(error) => return Err(error).with_context(|| shown(&here)),
            };
            let Some(stat) = fs::find(&dir, &part).with_context(|| shown(&part))? else { return Ok(None) };
            if fs::kind(&stat) != FileType::Symlink {
                here = join(&here, &part);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                bail!("{path:?}: too many symbolic links");
            }
            let target = rustix::fs::readlinkat(&dir, &part[..], Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                here.clear();
            }
            for part in parts(&target).into_iter().rev() {
                ahead.push_front(part);
            }
        }
        if self.hides(&here) && !self.may_show_below(&here) {
            return Ok(None);
        }
        Ok(Some(here))
    }

    /// The paths that a word means: with a pattern all that match, sorted; without one itself.
    pub fn expand(&self, word: &str) -> Result<Vec<String>> {
        if !pattern::is_pattern(word) {
            return Ok(vec![pattern::literal(word)]);
        }
        let mut found = vec![String::new()];
        for part in word.split('/').filter(|it| !it.is_empty() && *it != ".") {
            let mut next = Vec::new();
            if !pattern::is_pattern(part) {
                next.extend(found.iter().map(|it| {
                    if it.is_empty() { pattern::literal(part) } else { format!("{it}/{}", pattern::literal(part)) }
                }));
                found = next;
                continue;
            }
            let glob = Glob::new(part, false)?;
            for above in &found {
                let Some(path) = self.resolve(above)? else { continue };
                let Ok(dir) = fs::base(self.root(), &path) else { continue };
                for name in fs::names(&dir)? {
                    let Ok(text) = String::from_utf8(name.clone()) else { continue };
                    if glob.matches(&text) && !self.hides(&join(&path, &name)) {
                        next.push(if above.is_empty() { text } else { format!("{above}/{text}") });
                    }
                }
            }
            found = next;
        }
        // What stands behind a pattern may be missing in some of the directories.
        let mut there = Vec::new();
        for path in found {
            if self.resolve(&path)?.is_some() {
                there.push(path);
            }
        }
        there.sort();
        Ok(there)
    }

    /// What is at a path that [`Self::resolve`] has given.
    pub fn at(&self, path: &[u8]) -> Result<Item> {
        let fd = fs::open(self.root(), path, OFlags::PATH).with_context(|| shown(path))?;
        Ok(Item { path: Vec::new(), from: path.to_vec(), stat: rustix::fs::fstat(fd)? })
    }

    /// That and all below it, directories before what is in them, sorted, without what is left out by the tree or by
    /// `exclude`, whose patterns are relative to it.
    pub fn walk(&self, path: &[u8], exclude: &Ignore, mut each: impl FnMut(Item) -> Result<()>) -> Result<()> {
        let top = self.at(path)?;
        let is_directory = top.kind() == FileType::Directory;
        if !is_directory {
            let name = String::from_utf8_lossy(split(path).1).into_owned();
            return if exclude.excludes(&name) { Ok(()) } else { each(top) };
        }
        let mut ahead = vec![top];
        while let Some(item) = ahead.pop() {
            let (path, from) = (item.path.clone(), item.from.clone());
            let directory = item.kind() == FileType::Directory;
            let text = String::from_utf8_lossy(&path).into_owned();
            let hidden = self.hides(&from) || !path.is_empty() && exclude.excludes(&text);
            if !hidden {
                each(item)?;
            }
            if !directory
                || hidden && !(self.may_show_below(&from) && self.hides(&from)) && !exclude.may_include_below(&text)
            {
                continue;
            }
            let dir = fs::base(self.root(), &from).with_context(|| shown(&from))?;
            for name in fs::names(&dir)?.into_iter().rev() {
                // What goes away meanwhile was perhaps never there.
                if let Some(stat) = fs::find(&dir, &name)? {
                    ahead.push(Item { path: join(&path, &name), from: join(&from, &name), stat });
                }
            }
        }
        Ok(())
    }

    /// A digest of something and all below it: names, types, modes, content, targets of links, extended attributes;
    /// owners, but for a context; never times.
    pub fn digest(&self, path: &[u8], exclude: &Ignore) -> Result<Digest> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 << 10];
        self.walk(path, exclude, |item| {
            let mut add = |bytes: &[u8]| {
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            };
            add(&item.path);
            let stat = &item.stat;
            let owner = if self.plain { (0, 0) } else { (stat.st_uid, stat.st_gid) };
            add(format!("{:o} {} {}", stat.st_mode, owner.0, owner.1).as_bytes());
            let (above, name) = split(&item.from);
            let name: &[u8] = if name.is_empty() { b"." } else { name };
            let dir = fs::base(self.root(), above)?;
            for (xattr, value) in fs::xattrs(dir.as_fd(), name)?.iter().filter(|it| fs::is_images(&it.0)) {
                add(xattr);
                add(value);
            }
            match item.kind() {
                FileType::Symlink => add(rustix::fs::readlinkat(&dir, name, Vec::new())?.as_bytes()),
                FileType::RegularFile => {
                    let file = open_file(dir.as_fd(), name).with_context(|| shown(&item.from))?;
                    hasher.update(&(stat.st_size as u64).to_le_bytes());
                    loop {
                        let count = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut buffer[..]))?;
                        if count == 0 {
                            break;
                        }
                        hasher.update(&buffer[..count]);
                    }
                }
                FileType::CharacterDevice | FileType::BlockDevice => add(&stat.st_rdev.to_le_bytes()),
                _ => {}
            }
            Ok(())
        })?;
        Ok(hasher.finish())
    }
}

/// Opens a regular file, and nothing that an open could wait for.
pub fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    if fs::kind(&rustix::fs::fstat(&file)?) != FileType::RegularFile {
        bail!("it became another kind of file while it was read");
    }
    Ok(file)
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|it| *it == b'/').filter(|it| !it.is_empty() && *it != b".").map(<[u8]>::to_vec).collect()
}
