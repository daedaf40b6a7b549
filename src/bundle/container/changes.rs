//! What a container has changed of its image's files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

use super::prepare::layers;
use super::record::Container;
use crate::cli::Driver;
use crate::layer;
use crate::store::Store;
use crate::tool::Tool;

/// What runtimes make in every root for their mounts to stand on, if it is not there.
pub const STUBS: [&str; 6] = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// The paths that were added (`A`), changed (`C`) and deleted (`D`), sorted.
pub fn list(tool: &Tool, container: &Container) -> Result<Vec<(char, String)>> {
    let upper = upper(tool, container)?;
    let layers = open_layers(tool, container)?;
    let layers: Vec<_> = layers.iter().map(AsFd::as_fd).collect();
    layer::changes::changes(upper.as_fd(), &layers, tool.overlay(), &STUBS)
}

/// What a container has written, as an upper directory of overlayfs.
pub struct Upper<'a> {
    dir: OwnedFd,
    /// Made for this one look at it, and removed afterwards: its path in the store.
    made: Option<(&'a Store, String)>,
}

impl AsFd for Upper<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Upper<'_> {
    fn drop(&mut self) {
        if let Some((store, path)) = &self.made {
            let _ = layer::remove::remove(store.dir(), path.as_bytes());
        }
    }
}

/// Finds what a container has written. Without overlayfs it is what differs from the image's layers.
pub fn upper<'a>(tool: &'a Tool, container: &Container) -> Result<Upper<'a>> {
    let store = tool.store()?;
    let own = format!("containers/{}", container.id);
    let open = |path: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(store.dir(), path, flags, Mode::empty()).context("opening the container's files")
    };
    if container.driver(tool) == Driver::Overlay {
        return Ok(Upper { dir: open(&format!("{own}/upper"))?, made: None });
    }
    let tree = open(&format!("{own}/rootfs"))?;
    // In the container's own directory, so that it goes with it should we be killed.
    let path = format!("{own}/changes-{}", crate::store::random_name()?);
    rustix::fs::mkdirat(store.dir(), &path, Mode::RWXU).with_context(|| format!("making {path} in the store"))?;
    let upper = Upper { dir: open(&path)?, made: Some((store, path)) };
    // Nothing is copied before the first start, and nothing changed.
    if !layer::names(&tree)?.is_empty() {
        let layers = open_layers(tool, container)?;
        let layers: Vec<_> = layers.iter().map(AsFd::as_fd).collect();
        layer::compare::compare(tree.as_fd(), &layers, tool.overlay(), upper.as_fd())
            .context("comparing the container's files with its image's")?;
    }
    Ok(upper)
}

/// Its image's layers, the lowest first.
fn open_layers(tool: &Tool, container: &Container) -> Result<Vec<OwnedFd>> {
    let store = tool.store()?;
    layers(tool, container)?.iter().map(|it| store.open_layer(&it.dir)).collect()
}
