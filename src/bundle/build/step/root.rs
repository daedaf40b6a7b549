//! The files of a stage as one tree, in this process's own mount namespace: read-only, or with a fresh layer on top
//! that all changes go to.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;

use crate::build::layers::{Fresh, Stack};
use crate::build::place::Place;
use crate::cli::Driver;
use crate::layer::overlay::{self, Mount};
use crate::layer::{compare, flatten};
use crate::store::Store;
use crate::tool::Tool;

/// See the head of the file.
pub struct Root {
    /// Its root directory.
    dir: OwnedFd,
    /// Where it is, for the runtime.
    pub path: PathBuf,
    mounted: bool,
}

/// What lies on top of the layers.
#[derive(Clone, Copy)]
pub enum Top<'a> {
    /// Nothing: it is only read.
    Nothing,
    /// A layer that is made.
    Fresh(&'a Fresh),
}

impl Root {
    /// Shows a stack. `below`: a directory, by its path below the store, that lies under all of it: places for mounts
    /// to stand on, which are in no layer.
    pub fn mount(tool: &Tool, place: &Place, stack: &Stack, top: Top<'_>, below: Option<&Path>) -> Result<Self> {
        let at = place.dir("root")?;
        let path = place.whole(&at);
        if tool.driver == Driver::Vfs {
            let store = tool.store()?;
            let dirs = stack.0.iter().map(|it| store.open_layer(&it.dir)).collect::<Result<Vec<OwnedFd>>>()?;
            let dirs: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
            if !dirs.is_empty() {
                flatten::flatten(&dirs, open(&path)?.as_fd(), tool.overlay()).context("copying the layers")?;
            }
            return Ok(Self { dir: open(&path)?, path, mounted: false });
        }
        let mut layers: Vec<PathBuf> = Vec::new();
        layers.extend(below.map(Path::to_owned));
        layers.extend(stack.dirs());
        let upper = match top {
            Top::Nothing => None,
            Top::Fresh(fresh) => Some(Path::new("layers").join(&fresh.name)),
        };
        // An overlay wants a lower layer, and two where there is no upper one.
        while layers.len() + usize::from(upper.is_some()) < 2 {
            layers.insert(0, place.dir("empty")?);
        }
        let work = place.dir("work")?;
        let mount = Mount {
            layers: &layers,
            upper: upper.as_ref().map(|it| (it.as_path(), work.as_path())),
            overlay: tool.overlay(),
            // All is written to the disk at once when the image is made.
            volatile: true,
        };
        let store = tool.dir_to_mount_in()?;
        overlay::mount(store.as_fd(), &mount, open(&path)?.as_fd()).context("mounting the files of the step")?;
        // By its path: a descriptor from before the mount is what lies below it.
        Ok(Self { dir: open(&path)?, path, mounted: true })
    }

    /// The step is over. Without overlayfs what has changed is looked for, and put into the fresh layer.
    pub fn finish(self, tool: &Tool, store: &Store, stack: &Stack, fresh: &Fresh) -> Result<()> {
        if self.mounted {
            return Ok(());
        }
        let dirs = stack.0.iter().map(|it| store.open_layer(&it.dir)).collect::<Result<Vec<OwnedFd>>>()?;
        let dirs: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
        let into = store.open_layer(&fresh.name)?;
        compare::compare(self.dir.as_fd(), &dirs, tool.overlay(), into.as_fd())
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.mounted {
            let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))
}
