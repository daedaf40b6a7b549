//! Trees to archives: what was written on top of layers, as a layer of its own, and whole trees.
//!
//! Names stand sorted by their bytes, a directory before what is in it, and nothing in the archive comes from
//! the machine or the moment of archiving, so that equal trees give equal bytes. Owners are numbers only.
//! Holes are written as zeros: compression takes them back, every reader understands it, and where the holes
//! of a file are depends on the file system. Sockets and access times are left out.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ::tar::EntryType;
use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, Stat, Timespec};
use rustix::io::Errno;

use super::archive::{Archive, Meta};
use super::overlay::Overlay;
use super::tar::LONGEST_NAME;
use super::unpack::{OPAQUE, WHITEOUT};
use super::{capability, fs, join, shown};
use crate::container::ids::Ids;

/// A file's capabilities.
const CAPABILITY: &[u8] = b"security.capability";
/// What is read at once, in bytes.
const BUFFER: usize = 256 << 10;

/// How to make a layer.
#[derive(Clone, Copy, Debug)]
pub struct DiffOptions {
    /// Whose extended attributes mark opaque directories.
    pub overlay: Overlay,
    /// No time in the archive is later; in seconds since 1970 (reproducible-builds.org, SOURCE_DATE_EPOCH).
    pub source_date_epoch: Option<i64>,
    /// Paths that are left out where they are empty files or directories: what a runtime makes for its mounts to stand
    /// on is no change of the container's.
    pub stubs: &'static [&'static str],
}

/// Writes the upper directory of an overlay, or a settled layer, as a layer's archive (image-spec 1.1, layer.md,
/// "Representing Changes"), not compressed. Nothing may change meanwhile.
///
/// It is an error if overlayfs left files without their content or directories that mean others (`metacopy`,
/// `redirect_dir`): [`mount`](super::overlay::mount) turns both off.
pub fn diff(upper: BorrowedFd, out: &mut dyn Write, options: &DiffOptions) -> Result<()> {
    Writer { root: upper, archive: Archive::new(out), options: Some(options), ids: None, linked: HashMap::new() }
        .from(b"", None, b".")
}

/// Writes a whole tree as it is: for `export` and archives of root file systems. The numbers of its owners are those
/// that `ids` has inside for the tree's.
pub fn archive(root: BorrowedFd, ids: Option<&Ids>, out: &mut dyn Write) -> Result<()> {
    tree(root, b"", FileType::Directory, b".", ids, out)
}

/// Writes what is at a path below a root as it is, under a name in the archive; `kind`: as what it was found there;
/// `ids` as with [`archive`]. What goes away meanwhile is left out.
pub fn tree(
    root: BorrowedFd,
    path: &[u8],
    kind: FileType,
    name: &[u8],
    ids: Option<&Ids>,
    out: &mut dyn Write,
) -> Result<()> {
    Writer { root, archive: Archive::new(out), options: None, ids, linked: HashMap::new() }.from(path, Some(kind), name)
}

/// Whether a file or directory of a tree has nothing in it.
pub fn is_empty(root: BorrowedFd, path: &[u8], stat: &Stat) -> Result<bool> {
    Ok(match fs::kind(stat) {
        FileType::RegularFile => stat.st_size == 0,
        FileType::Directory => fs::names(fs::base(root, path)?)?.is_empty(),
        _ => false,
    })
}

struct Writer<'a> {
    root: BorrowedFd<'a>,
    archive: Archive<&'a mut dyn Write>,
    /// None: what is special to overlayfs is not special here.
    options: Option<&'a DiffOptions>,
    /// Whose owners the tree shows.
    ids: Option<&'a Ids>,
    /// The first name of files with several, by inode and device.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

/// What is to be written next.
struct Next {
    /// Below the root.
    path: Vec<u8>,
    /// As the archive names it: a whiteout's begins with `.wh.`.
    name: Vec<u8>,
    /// None for the mark of an opaque directory.
    stat: Option<Stat>,
}

impl Writer<'_> {
    fn from(mut self, path: &[u8], kind: Option<FileType>, name: &[u8]) -> Result<()> {
        let stat = rustix::fs::fstat(fs::open(self.root, path, OFlags::PATH)?)?;
        // A link in the place of what a link was followed to would lead whoever unpacks it elsewhere.
        if kind.is_some_and(|kind| kind != fs::kind(&stat)) {
            bail!("{}: something else was put there just now", shown(path));
        }
        // A stack, so that no depth of the tree is a depth of calls.
        let mut ahead = vec![Next { path: path.to_vec(), name: name.to_vec(), stat: Some(stat) }];
        while let Some(next) = ahead.pop() {
            let told = || format!("cannot archive {}", shown(&next.path));
            match self.one(&next, &mut ahead) {
                // Of a container that runs: it has removed it just now.
                Err(error) if self.options.is_none() && error.downcast_ref() == Some(&Errno::NOENT) => {}
                other => other.with_context(told)?,
            }
        }
        self.archive.finish()
    }

    fn one(&mut self, next: &Next, ahead: &mut Vec<Next>) -> Result<()> {
        if next.name.len() > LONGEST_NAME {
            bail!("a name of {} bytes is longer than {LONGEST_NAME}", next.name.len());
        }
        let Some(stat) = &next.stat else { return self.empty(&next.name) };
        if self.options.is_some() && fs::is_whiteout(stat) {
            return self.empty(&next.name);
        }
        if fs::kind(stat) == FileType::Socket || self.is_stub(&next.path, stat)? {
            return Ok(());
        }
        let (above, name) = super::split(&next.path);
        let name: &[u8] = if name.is_empty() { b"." } else { name };
        let directory = fs::base(self.root, above)?;
        let meta = self.meta(directory.as_fd(), name, next, stat)?;
        let file = match meta.kind {
            EntryType::Regular if meta.size > 0 => Some(open_file(directory.as_fd(), name)?),
            _ => None,
        };
        self.archive.header(&meta)?;
        if stat.st_nlink > 1 && !matches!(meta.kind, EntryType::Directory | EntryType::Link) {
            self.linked.insert((stat.st_ino, stat.st_dev), next.name.clone());
        }
        match file {
            Some(file) => self.content(&file, meta.size),
            None if meta.kind == EntryType::Directory => self.directory(next, ahead),
            None => Ok(()),
        }
    }

    fn is_stub(&self, path: &[u8], stat: &Stat) -> Result<bool> {
        match self.options {
            Some(options) if options.stubs.iter().any(|it| it.as_bytes() == path) => is_empty(self.root, path, stat),
            _ => Ok(false),
        }
    }

    fn meta(&mut self, directory: BorrowedFd, name: &[u8], next: &Next, stat: &Stat) -> Result<Meta> {
        let (uid, gid) = self.ids.map_or((stat.st_uid, stat.st_gid), |ids| ids.seen_inside(stat.st_uid, stat.st_gid));
        let mut meta = Meta {
            path: next.name.clone(),
            kind: EntryType::Regular,
            link: Vec::new(),
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            mtime: self.clamp(fs::times(stat).last_modification),
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        };
        match fs::kind(stat) {
            FileType::Directory => {
                meta.kind = EntryType::Directory;
                meta.path.push(b'/');
            }
            FileType::Symlink => {
                meta.kind = EntryType::Symlink;
                meta.link = rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes();
                // Its permissions mean nothing.
                meta.mode = 0o777;
            }
            FileType::Fifo => meta.kind = EntryType::Fifo,
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                meta.kind = if kind == FileType::BlockDevice { EntryType::Block } else { EntryType::Char };
                meta.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            }
            _ => meta.size = stat.st_size as u64,
        }
        if stat.st_nlink > 1
            && meta.kind != EntryType::Directory
            && let Some(first) = self.linked.get(&(stat.st_ino, stat.st_dev))
        {
            (meta.kind, meta.size, meta.device) = (EntryType::Link, 0, (0, 0));
            meta.link.clone_from(first);
            return Ok(meta);
        }
        for (xattr, value) in fs::xattrs(directory, name)? {
            if self.options.is_some()
                && [&b".overlay.metacopy"[..], b".overlay.redirect"].iter().any(|it| xattr.ends_with(it))
            {
                bail!(
                    "overlayfs left a part of it in a lower layer ({}); mount with metacopy=off,redirect_dir=off",
                    shown(&xattr)
                );
            }
            if fs::is_images(&xattr) {
                let value = if xattr == CAPABILITY { capability::seen_inside(value, self.ids) } else { value };
                meta.xattrs.push((xattr, value));
            }
        }
        Ok(meta)
    }

    /// Puts what is in a directory on the stack, what comes first on top.
    fn directory(&mut self, directory: &Next, ahead: &mut Vec<Next>) -> Result<()> {
        let prefix: &[u8] = if directory.name == b"." { b"" } else { &directory.name };
        let base = fs::base(self.root, &directory.path)?;
        let mut inside = Vec::new();
        for name in fs::names(&base)? {
            let stat = fs::stat(&base, &name)?;
            let gone = self.options.is_some() && fs::is_whiteout(&stat);
            if self.options.is_some() && name.starts_with(WHITEOUT) {
                bail!("a layer cannot hold {}: names that begin with .wh. stand for what is gone", shown(&name));
            }
            let shown_name = if gone { [WHITEOUT, &name].concat() } else { name.clone() };
            let (path, name) = (join(&directory.path, &name), join(prefix, &shown_name));
            inside.push(Next { path, name, stat: Some(stat) });
        }
        if let Some(options) = self.options
            && fs::is_opaque(base.as_fd(), b".", options.overlay)?
        {
            inside.push(Next { path: directory.path.clone(), name: join(prefix, OPAQUE), stat: None });
        }
        inside.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        ahead.append(&mut inside);
        Ok(())
    }

    /// The file that stands for what is gone: nothing of it depends on when that was.
    fn empty(&mut self, path: &[u8]) -> Result<()> {
        self.archive.header(&Meta {
            path: path.to_vec(),
            kind: EntryType::Regular,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timespec { tv_sec: 0, tv_nsec: 0 },
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        })
    }

    fn content(&mut self, file: &OwnedFd, size: u64) -> Result<()> {
        let mut buffer = vec![0; BUFFER.min(size as usize)];
        let mut left = size;
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut buffer[..most]))?;
            if count == 0 {
                bail!("it became {left} bytes shorter while it was read; stop what writes to it");
            }
            self.archive.data(&buffer[..count])?;
            left -= count as u64;
        }
        self.archive.pad(size)
    }

    fn clamp(&self, time: Timespec) -> Timespec {
        match self.options.and_then(|options| options.source_date_epoch) {
            Some(latest) if time.tv_sec >= latest => Timespec { tv_sec: latest, tv_nsec: 0 },
            _ => time,
        }
    }
}

/// Opens a regular file. A container that runs may have put something else there, which an open could wait for.
fn open_file(directory: BorrowedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if fs::kind(&rustix::fs::fstat(&file)?) != FileType::RegularFile {
        bail!("it became another kind of file while it was read");
    }
    Ok(file)
}
