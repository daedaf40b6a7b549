//! The directories of volumes: made, filled from an image, opened.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::attach::Tree;
use crate::layer::flatten::flatten;
use crate::layer::overlay::Overlay;
use crate::layer::remove::remove;
use crate::store::{Store, random_name, retry};

const DATA: &str = "_data";
/// A file that is there while nothing has been mounted.
const NEW: &str = "new";
/// Copies in the making begin so.
const FILL: &str = "fill-";

/// A volume's directory, held by us alone.
pub struct Data {
    path: PathBuf,
    dir: OwnedFd,
    #[allow(dead_code)]
    lock: File,
}

impl Data {
    /// Opens it, and makes it where a command was killed between the row and the directory. Waits for another one that
    /// is filling it.
    pub fn open(store: &Store, name: &str) -> Result<Self> {
        let path = format!("volumes/{name}");
        let told = || format!("opening the volume {name}");
        match rustix::fs::mkdirat(store.dir(), &path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).with_context(told),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(store.dir(), &path, flags, Mode::empty()).with_context(told)?;
        let lock = File::from(rustix::fs::openat(&dir, ".", flags, Mode::empty()).with_context(told)?);
        retry(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive)).with_context(told)?;
        let data = Self { path: store.root().join(&path).join(DATA), dir, lock };
        // The mark comes first: who finds data without it takes them for somebody's.
        if !data.has(DATA)? {
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&data.dir, NEW, flags, Mode::RUSR | Mode::WUSR).with_context(told)?;
            rustix::fs::mkdirat(&data.dir, DATA, Mode::RWXU).with_context(told)?;
            rustix::fs::chmodat(&data.dir, DATA, Mode::from_raw_mode(0o755), AtFlags::empty()).with_context(told)?;
        }
        Ok(data)
    }

    /// Where what is in it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it is somebody's. The first time, and if nobody has put anything there, it gets what the image has
    /// at the place where it is mounted: owners, modes, times, attributes and links as they are, the directory's own
    /// too. The copy is made beside and takes the place of the empty directory at one stroke.
    ///
    /// The files of a container with users of its own are seen with the host's numbers of them, and get the container's
    /// here: `users` is its mapping, in which we are somebody too.
    pub fn first_use(
        &self,
        image: Option<(BorrowedFd<'_>, &str)>,
        overlay: Overlay,
        users: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        for name in crate::layer::names(&self.dir)? {
            // A killed command's.
            if name.starts_with(FILL.as_bytes()) {
                remove(self.dir.as_fd(), &name).context("removing a copy that was not finished")?;
            }
        }
        if !self.has(NEW)? {
            return Ok(());
        }
        if let Some((root, path)) = image
            && self.is_empty()?
            && let Some(from) = directory_in(root, path)?
        {
            self.fill(from.as_fd(), overlay, users)
                .with_context(|| format!("copying the image's {path} into the volume"))?;
        }
        rustix::fs::unlinkat(&self.dir, NEW, AtFlags::empty()).context("marking the volume as used")
    }

    fn has(&self, name: &str) -> Result<bool> {
        match rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).context("looking at the volume's directory"),
        }
    }

    fn is_empty(&self) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let data = rustix::fs::openat(&self.dir, DATA, flags, Mode::empty())?;
        Ok(crate::layer::names(&data)?.is_empty())
    }

    fn fill(&self, from: BorrowedFd<'_>, overlay: Overlay, users: Option<BorrowedFd<'_>>) -> Result<()> {
        let name = format!("{FILL}{}", random_name()?);
        rustix::fs::mkdirat(&self.dir, &name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let into = match users {
            None => rustix::fs::openat(&self.dir, &name, flags, Mode::empty())?,
            Some(users) => {
                let above = self.path.parent().context("the volume's directory")?;
                let tree = Tree::of(rustix::fs::open(above, flags, Mode::empty())?.as_fd(), false)?;
                tree.map_ids(users).context("the file system cannot show other owners")?;
                rustix::fs::openat(&tree, &name, flags, Mode::empty())?
            }
        };
        let copied = flatten(&[from], into.as_fd(), overlay).and_then(|()| {
            // Whole on the disk before it is the volume's.
            if !crate::layer::names(&into)?.is_empty() {
                rustix::fs::syncfs(&into)?;
            }
            Ok(rustix::fs::renameat_with(&self.dir, &name, &self.dir, DATA, RenameFlags::EXCHANGE)?)
        });
        // The empty directory that has been exchanged for it, or what an error has left.
        let cleared = remove(self.dir.as_fd(), name.as_bytes());
        copied?;
        Ok(cleared?)
    }
}

/// A directory in a container's root by the container's own idea of paths: links of the image lead to places in it.
/// None where there is nothing; a file there is an error, since no volume can be mounted over one.
pub fn directory_in(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags| retry(|| rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve));
    let found = match open(OFlags::PATH) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            bail!(
                "{path} in the image cannot be mounted over: part of the path is a file, or a link that leads nowhere"
            )
        }
        Err(error) => return Err(error).with_context(|| format!("the image's {path}")),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::Directory {
        bail!("{path} in the image is a file: a volume can only be mounted over a directory");
    }
    Ok(Some(open(OFlags::RDONLY | OFlags::DIRECTORY)?))
}
