//! Network namespaces: a netlink socket stays in the one that it was made in.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Links;

/// Runs something in another network namespace, in this thread, which is in its own again afterwards.
pub fn inside<T>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T) -> Result<T> {
    let own = own()?;
    enter(namespace).context("entering a container's network namespace")?;
    let result = work();
    enter(own.as_fd()).context("going back to the own network namespace")?;
    Ok(result)
}

/// Makes a network namespace that lives as long as the descriptor, or a process or link that is bound to it.
pub fn new_namespace() -> Result<(OwnedFd, Links)> {
    let home = own()?;
    unshare(CloneFlags::CLONE_NEWNET)
        .context("making a network namespace (see --network host, and user.max_net_namespaces)")?;
    let made = own().and_then(|it| Ok((it.into(), Links::here()?)));
    enter(home.as_fd()).context("going back to the own network namespace")?;
    made
}

impl Links {
    /// Those of another namespace.
    pub fn inside(namespace: BorrowedFd<'_>) -> Result<Links> {
        inside(namespace, Links::here)?
    }
}

/// Not /proc/self: that is the first thread's.
fn own() -> Result<File> {
    const PATH: &str = "/proc/thread-self/ns/net";
    File::open(PATH).context(PATH)
}

fn enter(namespace: BorrowedFd<'_>) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}
