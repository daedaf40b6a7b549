//! Joining namespaces that exist already.

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow};
use rustix::io::Errno;

use super::sync::{Channel, Said};
use crate::plan::{Join, Namespaces, names};
use crate::sys;
use crate::sys::error::{At, errno};

/// Opens the namespace files, in the runtime's mount namespace, and checks what they are.
pub(super) fn open(list: &[Join]) -> Result<Vec<(u64, OwnedFd)>> {
    list.iter()
        .map(|join| {
            let what = || format!("{}: opening {}", join.pointer, join.path);
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
            let fd = rustix::fs::open(&*join.path, flags, rustix::fs::Mode::empty()).at(what)?;
            match sys::namespace_kind(&fd) {
                Ok(kind) if kind == join.kind => Ok((join.kind, fd)),
                Ok(_) => Err(anyhow!("{}: {} is a namespace of another type", join.pointer, join.path)),
                Err(_) => Err(anyhow!("{}: {} is no namespace file", join.pointer, join.path)),
            }
        })
        .collect()
}

/// Joins them all. Those of the host can be joined only before the user namespace is entered, those
/// that belong to the user namespace only afterwards, so what is refused at first is tried again.
pub(super) fn join(list: &mut Vec<(u64, OwnedFd)>) -> Result<()> {
    let user = libc::CLONE_NEWUSER as u64;
    let mut again = Vec::new();
    let has_user = list.iter().any(|(kind, _)| *kind == user);
    let mount_last = |kind: &u64| (*kind == libc::CLONE_NEWNS as u64, *kind == user);
    list.sort_by_key(|(kind, _)| mount_last(kind));
    let mut user_namespace = None;
    for (kind, fd) in list.drain(..) {
        if kind == user {
            user_namespace = Some(fd);
            continue;
        }
        match sys::setns(&fd, kind) {
            Err(Errno::PERM) if has_user => again.push((kind, fd)),
            other => other.map_err(|error| not_joined(kind, error))?,
        }
    }
    if let Some(fd) = user_namespace {
        sys::setns(&fd, user).map_err(|error| not_joined(user, error))?;
    }
    for (kind, fd) in again {
        sys::setns(&fd, kind).map_err(|error| not_joined(kind, error))?;
    }
    Ok(())
}

fn not_joined(kind: u64, error: Errno) -> anyhow::Error {
    let hint = match error {
        Errno::PERM if kind == libc::CLONE_NEWUSER as u64 => "; only who made it, or root, may",
        Errno::PERM => "; it is another user namespace's, which has to be joined as well",
        _ => "",
    };
    anyhow!("/linux/namespaces: joining the {} namespace: {}{hint}", names::namespace_word(kind), errno(error))
}

/// The extra process of [`Namespaces::staged`]: joins, then clones init as its own sibling, so that
/// init is the caller's child, and ends. In init it returns.
pub(super) fn clone_init(namespaces: &Namespaces, list: &mut Vec<(u64, OwnedFd)>, sync: &Channel) {
    let cloned = join(list).and_then(|()| {
        sys::clone3(namespaces.create | libc::CLONE_PARENT as u64, None)
            .map_err(|error| anyhow!("clone: {}", errno(error)))
    });
    let said = match cloned {
        Ok(sys::Cloned::Child) => return,
        // Who hears of no number gives up, which ends init.
        Ok(sys::Cloned::Parent { pid, .. }) => Said::Pid(pid),
        Err(error) => Said::Failed(format!("{error:#}")),
    };
    let _ = sync.say(&said);
    std::process::exit(0);
}
