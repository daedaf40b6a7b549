//! Joining namespaces that exist already.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Result, anyhow, bail};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, WaitId, WaitIdOptions, chroot, fchdir, set_dumpable_behavior,
    set_parent_process_death_signal, waitid,
};

use super::rootfs;
use super::sync::{Channel, Said, pair};
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

/// Whether a namespace can still be joined when all the others are: it belongs to the user namespace that the
/// container is in.
pub(super) fn stays_ours(namespace: &OwnedFd, namespaces: &Namespaces, join: &[(u64, OwnedFd)]) -> bool {
    let Some((_, user)) = join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWUSER as u64) else {
        return !namespaces.makes(libc::CLONE_NEWUSER);
    };
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_ino);
    sys::namespace_owner(namespace).and_then(|owner| Ok(inode(&owner)? == inode(user)?)).unwrap_or(false)
}

/// Makes a mount of procfs that shows a pid namespace which is joined. A procfs shows the namespace of
/// who makes it, so that somebody has to be in there for a moment: a process with an empty root and no
/// descriptor of the host's, cloned by one that has neither and is not in there yet.
pub(super) fn procfs(join: &[(u64, OwnedFd)], make: impl Fn() -> Result<OwnedFd>) -> Result<OwnedFd> {
    let (ours, theirs) = pair()?;
    let sys::Cloned::Parent { pidfd, .. } = sys::clone3(0, None).at(|| "cloning".into())? else {
        let done = from_inside(join, &theirs, make);
        if let Err(error) = done {
            let _ = theirs.say(&Said::Failed(format!("{error:#}")));
        }
        std::process::exit(0);
    };
    drop(theirs);
    let said = ours.listen();
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    match said? {
        Said::Mount(mount) => Ok(mount),
        Said::Failed(line) => bail!(line),
        _ => bail!("the process that makes it died"),
    }
}

fn from_inside(join: &[(u64, OwnedFd)], sync: &Channel, make: impl Fn() -> Result<OwnedFd>) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).at(|| "asking for the parent's death signal".into())?;
    // Of the others, only what the right to mount hangs on.
    let kinds = [libc::CLONE_NEWPID, libc::CLONE_NEWUSER].map(|kind| kind as u64);
    let mut join = join
        .iter()
        .filter(|(kind, _)| kinds.contains(kind))
        .map(|(kind, fd)| Ok((*kind, fd.try_clone()?)))
        .collect::<std::io::Result<Vec<_>>>()
        .at(|| "keeping namespaces".into())?;
    self::join(&mut join)?;
    // A mount namespace in which it may mount.
    sys::unshare(libc::CLONE_NEWNS).at(|| "making a mount namespace".into())?;
    let empty = rootfs::empty_directory()?;
    fchdir(&empty).at(|| "entering an empty root".into())?;
    chroot(".").at(|| "entering an empty root".into())?;
    drop(empty);
    sys::close_all_but(&mut [sync.as_fd().as_raw_fd()]).at(|| "closing descriptors".into())?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(|| "making the process undumpable".into())?;
    let sys::Cloned::Parent { pidfd, .. } = sys::clone3(0, None).at(|| "cloning into the pid namespace".into())? else {
        sync.say(&make().map_or_else(|error| Said::Failed(format!("{error:#}")), Said::Mount))?;
        std::process::exit(0);
    };
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).at(|| "waiting for it".into()).map(drop)
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
