//! An archive into a directory that has files already, for `cp`. Nothing outside of it is reached: no name leads
//! upwards, and a symbolic link in the middle of one is either refused, or leads within a container's root.
//!
//! What is no directory takes the place of what is there, without following it; a directory stays what it is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;

use super::tar::{Entry, Kind, Reader};
use super::{capability, fs, shown, split};
use crate::container::ids::Ids;

/// Where to, and along which links.
pub struct Target<'a> {
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// In a container: its root, and the directory's path there. Links that are there already are followed then.
    pub root: Option<(BorrowedFd<'a>, &'a [u8])>,
}

/// What is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Whom all belongs to; none: whom the archive says, with extended attributes as well.
    pub owner: Option<(u32, u32)>,
    /// Whose numbers these are, where the directory shows the host's.
    pub ids: Option<&'a Ids>,
    /// Whether devices are made, and programs run as their owner (setuid, setgid).
    pub trusted: bool,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Content of files, in bytes.
    pub bytes: u64,
    /// Devices that were left out.
    pub skipped: u64,
}

/// Extracts an archive, which is not compressed. The stream is read to its end.
pub fn extract(stream: &mut dyn Read, target: &Target<'_>, options: &Options<'_>) -> Result<Extracted> {
    let mut reader = Reader::new(stream);
    let mut extractor = Extractor { target, options, done: Extracted::default(), open: Vec::new() };
    while let Some(entry) = reader.next()? {
        extractor.entry(&entry, &mut reader).with_context(|| shown(&entry.path))?;
    }
    extractor.close(None)?;
    reader.drain()?;
    Ok(extractor.done)
}

struct Extractor<'a> {
    target: &'a Target<'a>,
    options: &'a Options<'a>,
    done: Extracted,
    /// New directories around the last entry, the innermost last: they get their times when they are filled.
    open: Vec<(Vec<u8>, Timestamps)>,
}

impl Extractor<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let path = super::unpack::normal(&entry.path)?;
        self.close(Some(&path))?;
        let (directory, name) = split(&path);
        if name.is_empty() {
            // The directory itself, which is there.
            return Ok(());
        }
        let parent = self.parent(directory)?;
        let device = matches!(entry.kind, Kind::Character | Kind::Block);
        if device && !self.options.trusted {
            self.done.skipped += 1;
            return Ok(());
        }
        if entry.kind == Kind::Directory {
            return self.directory(&parent, name, &path, entry);
        }
        if fs::find(&parent, name)?.is_some_and(|it| fs::kind(&it) == FileType::Directory) {
            bail!("a directory is there, which only a directory can take the place of");
        }
        match entry.kind {
            Kind::File => return self.file(&parent, name, entry, reader),
            Kind::Symlink => replace(&parent, name, || rustix::fs::symlinkat(&entry.link[..], &parent, name))?,
            Kind::HardLink => {
                let target = super::unpack::normal(&entry.link).context("the target of the hard link")?;
                let (directory, target) = split(&target);
                let from = self.parent(directory)?;
                return replace(&parent, name, || rustix::fs::linkat(&from, target, &parent, name, AtFlags::empty()));
            }
            _ => {
                let (kind, device) = match entry.kind {
                    Kind::Character => (FileType::CharacterDevice, entry.device),
                    Kind::Block => (FileType::BlockDevice, entry.device),
                    _ => (FileType::Fifo, (0, 0)),
                };
                let device = rustix::fs::makedev(device.0, device.1);
                replace(&parent, name, || rustix::fs::mknodat(&parent, name, kind, Mode::RUSR | Mode::WUSR, device))?;
            }
        }
        self.metadata(&parent, name, entry)?;
        Ok(fs::set_times(&parent, name, &times(entry))?)
    }

    /// A new directory, or the one that is there as it is.
    fn directory(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], entry: &Entry) -> Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {
                self.metadata(parent, name, entry)?;
                self.open.push((path.to_vec(), times(entry)));
                Ok(())
            }
            Err(Errno::EXIST) => {
                if self.base(path).is_err() {
                    bail!("something that is no directory is there, which a directory cannot take the place of");
                }
                if self.options.owner.is_none() && fs::kind(&fs::stat(parent, name)?) == FileType::Directory {
                    self.metadata(parent, name, entry)?;
                    self.open.push((path.to_vec(), times(entry)));
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn file<R: Read>(&mut self, parent: &OwnedFd, name: &[u8], entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let mut file = File::from(create(parent, name)?);
        let whole = [super::tar::Extent { offset: 0, length: entry.size }];
        for extent in entry.extents.as_deref().unwrap_or(&whole) {
            let mut at = 0;
            while at < extent.length {
                let piece = reader.data(extent.length - at)?;
                if piece.is_empty() {
                    bail!("the archive is cut off");
                }
                // Holes stay holes: a file may be larger than all disks.
                if piece.iter().any(|&byte| byte != 0) {
                    fs::write_at(&file, piece, extent.offset + at)?;
                }
                at += piece.len() as u64;
            }
            self.done.bytes += extent.length;
        }
        rustix::fs::ftruncate(&file, entry.size)?;
        file.flush()?;
        self.metadata(parent, name, entry)?;
        Ok(rustix::fs::futimens(&file, &times(entry))?)
    }

    /// Owner before mode, mode before extended attributes: in this order none undoes another.
    fn metadata(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        self.give(parent, name, self.options.owner.unwrap_or((entry.uid, entry.gid)))?;
        if entry.kind != Kind::Symlink {
            let mode = if self.options.trusted { entry.mode } else { entry.mode & 0o1777 };
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        if self.options.owner.is_none() {
            for (xattr, value) in entry.xattrs.iter().filter(|(name, _)| fs::is_images(name)) {
                let is_capability = xattr == b"security.capability";
                let on_host = is_capability.then(|| capability::on_host(value, self.options.ids));
                match fs::set_xattr(parent.as_fd(), name, xattr, on_host.as_ref().unwrap_or(value)) {
                    // The kernel has them on files and directories only, or the file system has none.
                    Err(Errno::NOTSUP | Errno::PERM) if !is_capability => {}
                    other => other.with_context(|| format!("its extended attribute {}", shown(xattr)))?,
                }
            }
        }
        Ok(())
    }

    fn give(&self, parent: &OwnedFd, name: &[u8], (uid, gid): (u32, u32)) -> Result<()> {
        let told = || format!("it cannot be given to {uid}:{gid}");
        let on_host = match self.options.ids {
            Some(ids) => ids.given_to(uid, gid).with_context(|| format!("{}: the container has no such id", told()))?,
            None => (uid, gid),
        };
        fs::set_owner(parent, name, on_host.0, on_host.1).with_context(told)
    }

    /// Gives those new directories their times that the next entry is not in.
    fn close(&mut self, next: Option<&[u8]>) -> Result<()> {
        while let Some((path, times)) = self.open.last() {
            let around = next.and_then(|it| it.strip_prefix(&path[..])).is_some_and(|it| it.starts_with(b"/"));
            if around {
                break;
            }
            // In a container that runs it may be gone already.
            if let Ok(directory) = self.base(path) {
                fs::set_times(directory, b".", times)?;
            }
            self.open.pop();
        }
        Ok(())
    }

    /// The directory of an entry; what is missing of it is made.
    fn parent(&self, path: &[u8]) -> Result<OwnedFd> {
        match self.base(path) {
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::NOTDIR) => bail!("something that is no directory stands in its way"),
            other => return Ok(other?),
        }
        let (above, name) = split(path);
        let above = self.parent(above)?;
        fs::plain_directory(&above, name)?;
        if let Some(owner) = self.options.owner {
            self.give(&above, name, owner)?;
        }
        Ok(fs::base(above.as_fd(), name)?)
    }

    /// A directory that is there.
    fn base(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        match (fs::base(self.target.dir, path), self.target.root) {
            (Err(Errno::LOOP | Errno::NOTDIR), Some((root, within))) => {
                in_root(root, &[within, b"/", path].concat(), OFlags::PATH | OFlags::DIRECTORY)
            }
            (other, _) => other,
        }
    }
}

/// Opens what a path means for a program whose root this is: links lead within it. Those of /proc that lead
/// anywhere lead nowhere.
pub fn in_root(root: BorrowedFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel could not be sure that nothing was moved meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Makes something new in the place of what is there.
fn replace(parent: &OwnedFd, name: &[u8], make: impl Fn() -> rustix::io::Result<()>) -> Result<()> {
    match make() {
        Err(Errno::EXIST) => rustix::fs::unlinkat(parent, name, AtFlags::empty())?,
        other => return Ok(other?),
    }
    Ok(make()?)
}

/// An empty file in the place of what is there. What something is mounted on cannot be replaced, but written to.
fn create(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = || rustix::fs::openat(parent, name, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR);
    match new() {
        Err(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::BUSY) => {
            let file = rustix::fs::openat(parent, name, flags | OFlags::NONBLOCK, Mode::empty())?;
            if fs::kind(&rustix::fs::fstat(&file)?) != FileType::RegularFile {
                bail!("something that is no file is mounted there");
            }
            rustix::fs::ftruncate(&file, 0)?;
            Ok(file)
        }
        other => {
            other?;
            Ok(new()?)
        }
    }
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps { last_access: entry.atime.unwrap_or(entry.mtime), last_modification: entry.mtime }
}
