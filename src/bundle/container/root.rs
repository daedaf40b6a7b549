//! The files of a container, as somebody outside sees them.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::ids::{self, Ids};
use super::record::Container;
use super::state::{State, Status, lock_within};
use super::{exec, prepare, settle};
use crate::cli::Driver;
use crate::tool::Tool;

/// A container's files.
pub struct Root {
    /// Its root directory.
    pub dir: OwnedFd,
    /// Whose numbers the owners have there, where they are the host's and not the container's own: the mounts of a
    /// container that runs are made for its users. The kernel gives such mounts no second mapping, nor overlayfs any,
    /// so that the numbers are to be translated.
    pub ids: Option<Ids>,
    /// It may not be started while this is held.
    _lock: Option<File>,
}

/// What the container itself sees, volumes among it.
pub fn with_mounts(tool: &Tool, container: &Container) -> Result<Root> {
    let state = settle::state(tool, container)?;
    if state.is_some_and(|it| it.status == Status::Running) {
        return live(tool, container, exec::root(exec::pid_of(tool, container)?)?);
    }
    let lock = lock(tool, container)?;
    Ok(Root { dir: prepare::with_volumes(tool, container)?, ids: None, _lock: Some(lock) })
}

/// A root as a container that lives has it.
fn live(tool: &Tool, container: &Container, dir: OwnedFd) -> Result<Root> {
    let wanted = ids::wanted(&container.settings.flags, tool.plain_user)?;
    Ok(Root { dir, ids: ids::of(tool.store()?.db(), &container.id, &wanted)?, _lock: None })
}

/// What it has of its image and has written itself, without volumes and all else that is mounted in it.
pub fn without_mounts(tool: &Tool, container: &Container) -> Result<Root> {
    let state = settle::state(tool, container)?.unwrap_or_default();
    if let (Status::Running, Some(process)) = (state.status, &state.process) {
        let dir = alone(process.pid).with_context(|| format!("the files of container {}", container.name))?;
        return live(tool, container, dir);
    }
    let monitor = Some(state).filter(State::live).and_then(|it| it.monitor);
    let dir = container.dir(tool)?.join("rootfs");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Some(monitor) = monitor {
        let open = |path: &str| {
            let root = rustix::fs::open(path, flags, Mode::empty());
            root.with_context(|| format!("the files of container {}", container.name))
        };
        // Mounted in the monitor's mount namespace, copied for all to see otherwise.
        return match container.driver(tool) {
            Driver::Overlay => live(tool, container, open(&format!("/proc/{}/root{}", monitor.pid, dir.display()))?),
            Driver::Vfs => Ok(Root { dir: open(&dir.display().to_string())?, ids: None, _lock: None }),
        };
    }
    let lock = lock(tool, container)?;
    Ok(Root { dir: prepare::open_rootfs(tool, container)?, ids: None, _lock: Some(lock) })
}

/// The root of a process and nothing that is mounted below: a copy of that one mount, seen by nobody else.
fn alone(pid: i32) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = crate::namespace::inside(pid, || {
        let copy = rustix::mount::open_tree(rustix::fs::CWD, "/", flags)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(copy, ".", flags, Mode::empty())?)
    });
    tree.context("has it just ended?")
}

fn lock(tool: &Tool, container: &Container) -> Result<File> {
    match lock_within(&container.dir(tool)?, std::time::Duration::from_secs(10))? {
        Some(lock) => Ok(lock),
        None => bail!("container {} is held by another bundle", container.name),
    }
}
