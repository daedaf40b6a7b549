//! The files of a container, as somebody outside sees them.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use super::record::Container;
use super::state::{State, Status, lock_within};
use super::{exec, prepare, settle};
use crate::cli::Driver;
use crate::tool::Tool;

/// What the container itself sees, volumes among it. The lock: it may not be started meanwhile.
pub fn with_mounts(tool: &Tool, container: &Container) -> Result<(OwnedFd, Option<File>)> {
    let state = settle::state(tool, container)?;
    if state.is_some_and(|it| it.status == Status::Running) {
        return Ok((exec::root(exec::pid_of(tool, container)?)?, None));
    }
    let lock = lock(tool, container)?;
    Ok((prepare::with_volumes(tool, container)?, Some(lock)))
}

/// What it has of its image and has written itself, without volumes and all else that is mounted in it.
pub fn without_mounts(tool: &Tool, container: &Container) -> Result<(OwnedFd, Option<File>)> {
    let state = settle::state(tool, container)?.unwrap_or_default();
    if let (Status::Running, Some(process)) = (state.status, &state.process) {
        return Ok((alone(process.pid).with_context(|| format!("the files of container {}", container.name))?, None));
    }
    let monitor = Some(state).filter(State::live).and_then(|it| it.monitor);
    let dir = container.dir(tool)?.join("rootfs");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Some(monitor) = monitor {
        // Mounted in the monitor's mount namespace, copied for all to see otherwise.
        let seen = match container.driver(tool) {
            Driver::Overlay => format!("/proc/{}/root{}", monitor.pid, dir.display()),
            Driver::Vfs => dir.display().to_string(),
        };
        let root = rustix::fs::open(&seen, flags, Mode::empty());
        return Ok((root.with_context(|| format!("the files of container {}", container.name))?, None));
    }
    let lock = lock(tool, container)?;
    Ok((prepare::open_rootfs(tool, container)?, Some(lock)))
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
