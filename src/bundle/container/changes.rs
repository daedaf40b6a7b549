//! What a container has changed of its image's files.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};

use super::prepare::layers;
use super::record::Container;
use crate::cli::Driver;
use crate::layer;
use crate::tool::Tool;

/// What runtimes make in every root for their mounts to stand on, if it is not there.
pub const STUBS: [&str; 6] = ["dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// The paths that were added (`A`), changed (`C`) and deleted (`D`), sorted.
pub fn list(tool: &Tool, container: &Container) -> Result<Vec<(char, String)>> {
    let upper = upper(tool, container)?;
    let store = tool.store()?;
    let layers = layers(tool, container)?;
    let layers = layers.iter().map(|it| store.open_layer(&it.dir)).collect::<Result<Vec<OwnedFd>>>()?;
    let layers: Vec<_> = layers.iter().map(AsFd::as_fd).collect();
    layer::changes::changes(upper.as_fd(), &layers, tool.overlay(), &STUBS)
}

/// The directory with what the container has written.
pub fn upper(tool: &Tool, container: &Container) -> Result<OwnedFd> {
    if container.driver(tool) != Driver::Overlay {
        bail!(
            "with --storage-driver vfs it is not known what a container has changed: `bundle export` and `bundle import` make an image of all its files"
        );
    }
    let path = format!("containers/{}/upper", container.id);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(tool.store()?.dir(), &path, flags, Mode::empty()).context("opening the container's files")
}
