//! COPY: files of a tree into a stage.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::chmod::Change;
use super::workdir::ensure;
use crate::build::ignore::Ignore;
use crate::build::source::{Item, Source, open_file};
use crate::layer::extract::in_root;
use crate::layer::{fs, join, shown, split};

/// How files are put there.
pub struct Copier<'a> {
    /// The stage.
    pub root: BorrowedFd<'a>,
    /// `--chown`.
    pub owner: Option<(u32, u32)>,
    /// `--chmod`.
    pub mode: Option<&'a Change>,
    /// `--exclude`.
    pub exclude: &'a Ignore,
    /// Whether to go on.
    pub stop: &'a dyn Fn() -> Result<()>,
}

/// A target: a directory that things are put into, or the name of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path, without slashes around it.
    pub path: Vec<u8>,
    /// Whether it is a directory whatever is there.
    pub directory: bool,
}

impl Target {
    /// Of an absolute path, which is a directory's if it ends in a slash.
    pub fn new(path: &str) -> Self {
        Self { path: path.trim_matches('/').as_bytes().to_vec(), directory: path.ends_with('/') }
    }
}

impl Copier<'_> {
    fn made_for(&self) -> (u32, u32) {
        self.owner.unwrap_or((0, 0))
    }

    /// Whether there is a directory at a path of the stage.
    fn is_directory(&self, path: &[u8]) -> bool {
        in_root(self.root, path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// The directory and the name that a single thing called `name` gets.
    pub fn place(&self, target: &Target, name: &[u8]) -> Result<(OwnedFd, Vec<u8>)> {
        let path = if target.directory || target.path.is_empty() || self.is_directory(&target.path) {
            join(&target.path, name)
        } else {
            target.path.clone()
        };
        let (above, name) = split(&path);
        Ok((ensure(self.root, above, self.made_for())?.0, name.to_vec()))
    }

    /// Copies what is at a path of a source: a directory's contents, or one thing, which is called `file_name` in a
    /// directory.
    pub fn copy(&self, source: &Source, path: &[u8], file_name: &[u8], target: &Target) -> Result<()> {
        let top = source.at(path)?;
        if top.kind() == FileType::Directory {
            return self.tree(source, path, &target.path);
        }
        if self.exclude.excludes(&String::from_utf8_lossy(file_name)) {
            return Ok(());
        }
        let (dir, name) = self.place(target, file_name)?;
        self.thing(source, &top, dir.as_fd(), &name)
    }

    /// `--parents`: the path itself is made below the target. What stands before `/./` in it is left out.
    pub fn copy_with_parents(&self, source: &Source, path: &[u8], from: usize, target: &Target) -> Result<()> {
        let below = join(&target.path, &path[from.min(path.len())..]);
        let top = source.at(path)?;
        // The directories around are as they are in the source.
        let mut at = from;
        while let Some(next) = path[at..].iter().position(|it| *it == b'/') {
            let whole = &path[..at + next];
            if whole.len() > from {
                let to = join(&target.path, &path[from..at + next]);
                self.directory(source, &source.at(whole)?, &to)?;
            }
            at += next + 1;
        }
        if top.kind() == FileType::Directory {
            return self.tree(source, path, &below);
        }
        let (above, name) = split(&below);
        let (dir, _) = ensure(self.root, above, self.made_for())?;
        self.thing(source, &top, dir.as_fd(), name)
    }

    /// The contents of a directory into one of the stage.
    fn tree(&self, source: &Source, path: &[u8], target: &[u8]) -> Result<()> {
        // Directories get their times when nothing in them changes any more.
        let mut made: Vec<(Vec<u8>, rustix::fs::Timestamps)> = Vec::new();
        let mut last: Option<(Vec<u8>, OwnedFd)> = None;
        source.walk(path, self.exclude, |item| {
            (self.stop)()?;
            let to = join(target, &item.path);
            if item.kind() == FileType::Directory {
                last = None;
                if item.path.is_empty() {
                    // The target itself is not what is copied: it is made like any directory on the way to it.
                    ensure(self.root, target, self.made_for())?;
                    return Ok(());
                }
                self.directory(source, &item, &to)?;
                made.push((to, fs::times(&item.stat)));
                return Ok(());
            }
            let (above, name) = split(&to);
            let dir = match last.take() {
                Some((path, dir)) if path == above => dir,
                _ => ensure(self.root, above, self.made_for())?.0,
            };
            self.thing(source, &item, dir.as_fd(), name)?;
            last = Some((above.to_vec(), dir));
            Ok(())
        })?;
        for (path, times) in made.iter().rev() {
            let dir = in_root(self.root, path, OFlags::PATH | OFlags::DIRECTORY)?;
            fs::set_times(dir, b".", times)?;
        }
        Ok(())
    }

    /// A directory as it is in the source; one that is there gets its owner and mode.
    fn directory(&self, source: &Source, item: &Item, to: &[u8]) -> Result<()> {
        let (above, name) = split(to);
        if name.is_empty() {
            return Ok(());
        }
        let (dir, _) = ensure(self.root, above, self.made_for())?;
        match rustix::fs::mkdirat(&dir, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                if !self.is_directory(to) {
                    bail!(
                        "{}: something that is no directory is there, which a directory cannot take the place of",
                        shown(to)
                    );
                }
                if fs::kind(&fs::stat(&dir, name)?) == FileType::Symlink {
                    // What it leads to stays as it is.
                    return Ok(());
                }
            }
            Err(error) => return Err(error).with_context(|| shown(to)),
        }
        self.metadata(source, item, dir.as_fd(), name)
    }

    /// Something that is no directory, in the place of what is there.
    fn thing(&self, source: &Source, item: &Item, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let told = || shown(&item.from);
        let (above, from_name) = split(&item.from);
        let from = fs::base(source.root(), above).with_context(told)?;
        match item.kind() {
            FileType::RegularFile => {
                let file = open_file(from.as_fd(), from_name).with_context(told)?;
                let size = rustix::fs::fstat(&file)?.st_size as u64;
                let to = Self::create(dir, name)?;
                fs::copy_content(&file, &to, size).with_context(told)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&from, from_name, Vec::new())?;
                Self::instead(dir, name, || rustix::fs::symlinkat(&*target, dir, name))?;
            }
            FileType::Socket => return Ok(()),
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) if source.plain => {
                bail!("{} of the context is a {kind:?}: leave it out by .dockerignore", told());
            }
            kind => {
                let device = item.stat.st_rdev;
                Self::instead(dir, name, || rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device))?;
            }
        }
        self.metadata(source, item, dir, name).with_context(told)?;
        Ok(fs::set_times(dir, name, &fs::times(&item.stat))?)
    }

    /// An empty file in the place of what is there.
    pub fn create(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::instead(dir, name, || rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))
    }

    fn instead<T>(dir: BorrowedFd<'_>, name: &[u8], make: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {
                    bail!("{}: a directory is there, which a file cannot take the place of", shown(name))
                }
                other => other.with_context(|| shown(name))?,
            },
            other => return other.with_context(|| shown(name)),
        }
        make().with_context(|| shown(name))
    }

    /// Owner, mode, extended attributes.
    fn metadata(&self, source: &Source, item: &Item, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let stat = &item.stat;
        let usual = if source.plain { (0, 0) } else { (stat.st_uid, stat.st_gid) };
        let (uid, gid) = self.owner.unwrap_or(usual);
        fs::set_owner(dir, name, uid, gid)?;
        let is_directory = item.kind() == FileType::Directory;
        if item.kind() != FileType::Symlink {
            let mode = stat.st_mode & 0o7777;
            let mode = self.mode.map_or(mode, |it| it.apply(mode, is_directory));
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        let (above, from_name) = split(&item.from);
        let from_name: &[u8] = if from_name.is_empty() { b"." } else { from_name };
        let from = fs::base(source.root(), above)?;
        for (xattr, value) in fs::xattrs(from.as_fd(), from_name)? {
            if fs::is_images(&xattr) {
                match fs::set_xattr(dir, name, &xattr, &value) {
                    Err(Errno::NOTSUP | Errno::PERM) if xattr != b"security.capability" => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// A file of bytes that are here.
    pub fn bytes(&self, bytes: &[u8], target: &Target, name: &str, mode: u32) -> Result<()> {
        let (dir, name) = self.place(target, name.as_bytes())?;
        let to = Self::create(dir.as_fd(), &name)?;
        fs::write_at(&to, bytes, 0)?;
        let (uid, gid) = self.made_for();
        fs::set_owner(&dir, &name, uid, gid)?;
        let mode = self.mode.map_or(mode, |it| it.apply(mode, false));
        Ok(rustix::fs::chmodat(&dir, &name[..], Mode::from_raw_mode(mode), AtFlags::empty())?)
    }
}
