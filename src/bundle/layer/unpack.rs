//! A layer's archive to a directory of its own, as overlayfs takes it (image-spec 1.1, layer.md, "Applying
//! Changesets"): what the layer adds lies there as it is, what it takes away is a whiteout or an opaque
//! directory.
//!
//! No other layer is looked at. What depends on those below, the metadata of directories that the archive does
//! not name and the hard links to files that it does not hold, is told in [`Unpacked`], for
//! [`settle`](super::settle::settle).
//!
//! What was decided where archives leave a choice:
//! - Symbolic links of this layer are followed in the middle of a name, within the root, as if the root were
//!   `/`; a name with a part `..` is an error, even if it stays inside.
//! - The last of several entries of one name wins. It replaces what is there, without following it; only a
//!   directory stays for a directory. What comes to be a directory after it was something else hides what
//!   lower layers have below it, as it would if the layer had been unpacked on top of them.
//! - A whiteout hides lower layers only, whether it stands before or behind an entry of the same name. A
//!   character device 0:0 is what overlayfs takes for a whiteout, so it is one.
//! - Where devices cannot be made (`Options::devices`), they are left out, as Docker and Podman do; a whiteout
//!   stands there, so that nothing of a lower layer shows instead.
//! - Of extended attributes `user.*`, `security.capability`, POSIX ACLs and, where root does the work,
//!   `trusted.*` are kept. Overlayfs's own never are: an image must not steer it. Labels and the like
//!   (`security.selinux`) belong to this machine. Where the file system lacks ACLs they are dropped; that it
//!   lacks the others is an error, since an image without its file capabilities is another image. (umoci and
//!   containerd warn and go on.)
//! - The metadata of a hard link is its file's; what the link's header says is passed over, as by GNU tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::overlay::Overlay;
use super::parents::Parent;
use super::tar::{Entry, Kind, Reader};
use super::{fs, join, shown, split};

/// What a name begins with that stands for one that is gone.
pub const WHITEOUT: &[u8] = b".wh.";
/// What a directory holds that hides all that lower layers have there.
pub const OPAQUE: &[u8] = b".wh..wh..opq";
/// What names that AUFS keeps for itself begin with.
const AUFS: &[u8] = b".wh..wh.";

/// The most that a layer may be, unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Content that is written, in bytes. Holes do not count.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// What a person does to raise them, for the error.
    pub remedy: &'static str,
}

/// How to unpack.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whose extended attributes mark opaque directories. With [`Overlay::User`] the caller is root of a user
    /// namespace.
    pub overlay: Overlay,
    /// The limits.
    pub limits: Limits,
    /// Whether devices can be made.
    pub devices: bool,
}

/// What has been unpacked, and what is still to be settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Content written, in bytes.
    pub bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Devices that were left out.
    pub skipped: u64,
    /// Directories that no entry names and that lower layers may have; the root is the empty path. Sorted. They
    /// were made with mode 0755 by root in 1970.
    pub implied: Vec<Vec<u8>>,
    /// Hard links to what this layer does not hold, in the archive's order.
    pub links: Vec<Link>,
    /// The layer hides everything below it.
    pub opaque_root: bool,
}

/// A hard link that is still to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where; its directory is there.
    pub path: Vec<u8>,
    /// To what, as the archive names it: links may stand in its middle.
    pub target: Vec<u8>,
}

/// Unpacks an archive, which is not compressed, into an empty directory. The stream is read to its end. On an
/// error the directory holds a part of the layer: [`remove`](super::remove::remove) it.
pub fn unpack(stream: &mut dyn Read, into: BorrowedFd, options: &Options) -> Result<Unpacked> {
    let mut reader = Reader::new(stream);
    let mut unpacker = Unpacker::new(into, options)?;
    while let Some(entry) = reader.next()? {
        unpacker.entry(&entry, &mut reader)?;
    }
    reader.drain()?;
    unpacker.finish()
}

/// What is remembered of a directory.
pub(super) enum Directory {
    /// Made for what is in it.
    Implied,
    /// The same, but lower layers have nothing there.
    Fresh,
    /// Has an entry, with these times.
    Named(Timestamps),
}

pub(super) struct Unpacker<'a> {
    pub(super) root: BorrowedFd<'a>,
    options: &'a Options,
    done: Unpacked,
    /// Every directory of the layer by its path.
    pub(super) directories: BTreeMap<Vec<u8>, Directory>,
    /// The bytes in those paths.
    pub(super) names: usize,
    /// Parts of names that were looked up one by one.
    pub(super) steps: u64,
    /// Hard links without a target, by their path: which entry it was, and the target.
    pub(super) links: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    /// The directory of the last entry, by its path as the archive has it.
    pub(super) last: Option<(Vec<u8>, Rc<Parent>)>,
    /// Whom new files belong to.
    own: (u32, u32),
}

impl<'a> Unpacker<'a> {
    fn new(root: BorrowedFd<'a>, options: &'a Options) -> Result<Self> {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mut new = Self {
            root,
            options,
            done: Unpacked::default(),
            directories: BTreeMap::new(),
            names: 0,
            steps: 0,
            links: BTreeMap::new(),
            last: None,
            own,
        };
        rustix::fs::chmodat(root, ".", Mode::from_raw_mode(0o755), AtFlags::empty())?;
        new.remember(Vec::new(), Directory::Implied)?;
        Ok(new)
    }

    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.done.entries += 1;
        let Limits { entries, remedy, .. } = self.options.limits;
        if self.done.entries > entries {
            bail!("the layer has more than {entries} entries, which is the limit; {remedy}");
        }
        let told = || format!("layer entry {}", shown(&entry.path));
        let path = normal(&entry.path).with_context(told)?;
        self.place(entry, &path, reader).with_context(told)
    }

    /// Makes what an entry says at a path that was checked.
    fn place<R: Read>(&mut self, entry: &Entry, path: &[u8], reader: &mut Reader<R>) -> Result<()> {
        let (directory, name) = split(path);
        // What AUFS kept for itself, and what is below it.
        if path.split(|&byte| byte == b'/').any(|part| part.starts_with(AUFS) && part != OPAQUE) {
            return Ok(());
        }
        if directory.split(|&byte| byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
            bail!("a name that begins with .wh. stands for what is gone; nothing can be in it");
        }
        if name.is_empty() {
            return self.root(entry);
        }
        let parent = self.parent(directory)?;
        if name == OPAQUE {
            return self.opaque(&parent);
        }
        if let Some(gone) = name.strip_prefix(WHITEOUT) {
            if gone.is_empty() || gone == b"." || gone == b".." {
                bail!("a whiteout of nothing that has a name");
            }
            return self.whiteout(&parent, gone);
        }
        match entry.kind {
            Kind::File => self.file(&parent, name, entry, reader),
            Kind::Directory => self.directory(&parent, name, entry),
            Kind::Symlink => {
                self.make(&parent, name, || rustix::fs::symlinkat(&entry.link[..], &parent.fd, name))?;
                self.finish_entry(&parent, name, entry)
            }
            Kind::HardLink => self.hard_link(&parent, name, entry),
            Kind::Fifo => self.special(&parent, name, entry, FileType::Fifo),
            Kind::Character | Kind::Block if entry.kind == Kind::Character && entry.device == (0, 0) => {
                self.whiteout(&parent, name)
            }
            Kind::Character | Kind::Block if !self.options.devices => {
                self.done.skipped += 1;
                self.clear(&parent, name)?;
                self.whiteout(&parent, name)
            }
            Kind::Character => self.special(&parent, name, entry, FileType::CharacterDevice),
            Kind::Block => self.special(&parent, name, entry, FileType::BlockDevice),
        }
    }

    /// An entry for the layer's root itself.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            bail!("the root can only be a directory");
        }
        let parent = self.parent(b"")?;
        self.metadata(&parent, b".", entry)?;
        self.last = None;
        self.remember(Vec::new(), Directory::Named(times(entry)))
    }

    fn file<R: Read>(&mut self, parent: &Parent, name: &[u8], entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = self.make(parent, name, || rustix::fs::openat(&parent.fd, name, flags, mode))?;
        let mut file = File::from(fd);
        match &entry.extents {
            None => loop {
                let piece = reader.data(u64::MAX)?;
                if piece.is_empty() {
                    break;
                }
                count(&mut self.done, self.options, piece.len())?;
                file.write_all(piece)?;
            },
            Some(extents) => {
                for extent in extents {
                    let mut at = 0;
                    while at < extent.length {
                        let piece = reader.data(extent.length - at)?;
                        if piece.is_empty() {
                            bail!("the data of a sparse file is cut off");
                        }
                        count(&mut self.done, self.options, piece.len())?;
                        fs::write_at(&file, piece, extent.offset + at)?;
                        at += piece.len() as u64;
                    }
                }
                rustix::fs::ftruncate(&file, entry.size)?;
            }
        }
        // Owner before mode: a change of owner takes setuid and setgid away, and capabilities too.
        if self.chown_needed(parent, entry) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(entry.uid), rustix::fs::Gid::from_raw(entry.gid));
            rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(|error| owner_error(error, entry))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode))?;
        self.xattrs(parent, name, entry)?;
        rustix::fs::futimens(&file, &times(entry))?;
        Ok(())
    }

    fn directory(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<()> {
        let path = join(&parent.path, name);
        if !self.make_directory(parent, name, &path)? {
            // What is known of it is not true any more: new files may inherit another group now.
            self.last = None;
        }
        if let Some(Directory::Named(_)) = self.directories.get(&path) {
            // The last entry wins, with all it has and has not.
            for (xattr, _) in fs::xattrs(parent.fd.as_fd(), name)? {
                if fs::is_images(&xattr) {
                    fs::remove_xattr(parent.fd.as_fd(), name, &xattr)?;
                }
            }
        }
        self.metadata(parent, name, entry)?;
        self.remember(path, Directory::Named(times(entry)))
    }

    /// Has a directory there; tells whether it is new. One that takes the place of something else hides what
    /// lower layers have.
    pub(super) fn make_directory(&mut self, parent: &Parent, name: &[u8], path: &[u8]) -> Result<bool> {
        match fs::plain_directory(&parent.fd, name) {
            Ok(()) => {
                // It was a link to what lower layers have, which is no directory.
                let replaced = !self.links.is_empty() && self.links.remove(path).is_some();
                if replaced {
                    fs::make_opaque(parent.fd.as_fd(), name, self.options.overlay)?;
                }
                return Ok(true);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if fs::kind(&fs::stat(&parent.fd, name)?) == FileType::Directory {
            return Ok(false);
        }
        self.clear(parent, name)?;
        fs::plain_directory(&parent.fd, name)?;
        fs::make_opaque(parent.fd.as_fd(), name, self.options.overlay)?;
        Ok(true)
    }

    fn hard_link(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<()> {
        let target = normal(&entry.link).context("the target of the hard link")?;
        let (directory, target_name) = split(&target);
        if target_name.is_empty() {
            bail!("a hard link to the root");
        }
        let path = join(&parent.path, name);
        let Some(from) = self.existing(directory)? else {
            return self.link_later(parent, name, path, target);
        };
        let found = fs::find(&from.fd, target_name)?;
        let Some(found) = found else {
            return self.link_later(parent, name, path, target);
        };
        if fs::is_whiteout(&found) {
            bail!("a hard link to {}, which this layer takes away", shown(&target));
        }
        if fs::kind(&found) == FileType::Directory {
            bail!("a hard link to {}, which is a directory", shown(&target));
        }
        if let Some(there) = fs::find(&parent.fd, name)? {
            if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino) {
                return Ok(());
            }
            self.clear(parent, name)?;
        }
        self.links.remove(&path);
        match rustix::fs::linkat(&from.fd, target_name, &parent.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) => bail!("a hard link to {}, which it replaces itself", shown(&target)),
            other => Ok(other?),
        }
    }

    /// Remembers a link to what only lower layers can have.
    fn link_later(&mut self, parent: &Parent, name: &[u8], path: Vec<u8>, target: Vec<u8>) -> Result<()> {
        self.clear(parent, name)?;
        self.names(path.len() + target.len())?;
        self.links.insert(path, (self.done.entries, target));
        Ok(())
    }

    fn special(&mut self, parent: &Parent, name: &[u8], entry: &Entry, kind: FileType) -> Result<()> {
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(entry.device.0, entry.device.1),
        };
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(parent, name, || rustix::fs::mknodat(&parent.fd, name, kind, mode, device))?;
        self.finish_entry(parent, name, entry)
    }

    /// Metadata and times of what has no content.
    fn finish_entry(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<()> {
        self.metadata(parent, name, entry)?;
        Ok(fs::set_times(&parent.fd, name, &times(entry))?)
    }

    fn whiteout(&mut self, parent: &Parent, name: &[u8]) -> Result<()> {
        match fs::find(&parent.fd, name)? {
            None if self.links.contains_key(&join(&parent.path, name)) => Ok(()),
            None => Ok(fs::whiteout(&parent.fd, name)?),
            // What this layer has stays; only of a directory does anything below show through.
            Some(there) if fs::kind(&there) == FileType::Directory => {
                fs::make_opaque(parent.fd.as_fd(), name, self.options.overlay)?;
                let path = join(&parent.path, name);
                if let Some(directory @ Directory::Implied) = self.directories.get_mut(&path) {
                    *directory = Directory::Fresh;
                }
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn opaque(&mut self, parent: &Parent) -> Result<()> {
        // Overlayfs does not look at a root for it.
        if parent.path.is_empty() {
            self.done.opaque_root = true;
            return Ok(());
        }
        Ok(fs::make_opaque(parent.fd.as_fd(), b".", self.options.overlay)?)
    }

    /// Owner, mode and extended attributes, in the order in which none undoes another.
    fn metadata(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<()> {
        if entry.kind == Kind::Directory || self.chown_needed(parent, entry) {
            fs::set_owner(&parent.fd, name, entry.uid, entry.gid).map_err(|error| owner_error(error, entry))?;
        }
        if entry.kind != Kind::Symlink {
            rustix::fs::chmodat(&parent.fd, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        self.xattrs(parent, name, entry)
    }

    /// A new file belongs to who makes it; its group may also be the directory's (setgid, or a mount option).
    fn chown_needed(&self, parent: &Parent, entry: &Entry) -> bool {
        (entry.uid, entry.gid) != self.own || parent.gid != entry.gid
    }

    fn xattrs(&self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<()> {
        for (xattr, value) in &entry.xattrs {
            let acl = xattr.starts_with(b"system.posix_acl_");
            // The kernel has user's on nothing but files and directories, and trusted's in no user namespace.
            let possible = match &xattr[..] {
                it if it.starts_with(b"user.") => matches!(entry.kind, Kind::File | Kind::Directory),
                it if it.starts_with(b"trusted.") => self.options.overlay == Overlay::Trusted,
                _ => true,
            };
            if !possible || !fs::is_images(xattr) {
                continue;
            }
            match fs::set_xattr(parent.fd.as_fd(), name, xattr, value) {
                Err(Errno::NOTSUP) if acl => {}
                Err(Errno::NOTSUP) => bail!(
                    "the file system of the store has no extended attribute {}; put the store on one that has \
                     (ext4, xfs, btrfs)",
                    shown(xattr)
                ),
                other => other.with_context(|| format!("its extended attribute {}", shown(xattr)))?,
            }
        }
        Ok(())
    }

    /// Makes something new, in the place of what is there.
    fn make<T>(&mut self, parent: &Parent, name: &[u8], make: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => self.clear(parent, name)?,
            other => {
                if !self.links.is_empty() {
                    self.links.remove(&join(&parent.path, name));
                }
                return Ok(other?);
            }
        }
        Ok(make()?)
    }

    /// Gives the directories their times, which what was made in them has changed.
    fn finish(mut self) -> Result<Unpacked> {
        let directories = std::mem::take(&mut self.directories);
        self.last = None;
        let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
        let epoch = Timestamps { last_access: epoch, last_modification: epoch };
        for (path, directory) in &directories {
            let (above, name) = split(path);
            let name: &[u8] = if path.is_empty() { b"." } else { name };
            let parent = self.parent(above)?;
            let times = if let Directory::Named(times) = directory { times } else { &epoch };
            let told = || format!("the times of {}", shown(path));
            fs::set_times(&parent.fd, name, times).with_context(told)?;
        }
        let implied = directories.into_iter().filter(|(_, it)| matches!(it, Directory::Implied));
        self.done.implied = implied.map(|(path, _)| path).collect();
        let mut links: Vec<_> = self.links.into_iter().collect();
        links.sort_by_key(|(_, (order, _))| *order);
        self.done.links = links.into_iter().map(|(path, (_, target))| Link { path, target }).collect();
        Ok(self.done)
    }
}

fn count(done: &mut Unpacked, options: &Options, length: usize) -> Result<()> {
    done.bytes += length as u64;
    let Limits { bytes, remedy, .. } = options.limits;
    if done.bytes > bytes {
        bail!("the layer is larger than {bytes} bytes unpacked, which is the limit; {remedy}");
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    Timestamps { last_access: entry.atime.unwrap_or(entry.mtime), last_modification: entry.mtime }
}

fn owner_error(error: Errno, entry: &Entry) -> anyhow::Error {
    let Entry { uid, gid, .. } = entry;
    match error {
        Errno::INVAL => anyhow::anyhow!(
            "it belongs to {uid}:{gid}, which this user namespace has no id for; give the user a range in \
             /etc/subuid and /etc/subgid of more than {} ids",
            uid.max(gid)
        ),
        _ => anyhow::Error::from(error).context(format!("it cannot be given to {uid}:{gid}")),
    }
}

/// A name of the archive as a path below the root: without `.`, empty parts and slashes around it.
pub(super) fn normal(name: &[u8]) -> Result<Vec<u8>> {
    let mut path = Vec::with_capacity(name.len());
    if name.contains(&0) {
        bail!("a NUL stands in the name");
    }
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => bail!("the name leads upwards (..), which names in a layer may not"),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
    }
    Ok(path)
}
