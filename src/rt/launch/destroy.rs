//! Takes a container apart: what `delete` does, and `create` when it fails.

use std::path::Path;

use anyhow::{Result, anyhow};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::hook;
use crate::cgroup::systemd::Manager;
use crate::cgroup::{freezer, tree};
use crate::log;
use crate::state::store::Entry;
use crate::state::{Ownership, State, Status};
use crate::sys;
use crate::sys::error::At;
use crate::sys::proc::Stat;

/// Sends a signal to init, and only to it: the descriptor is opened first and checked against the
/// start time then. Says whether init was there.
pub fn signal_init(state: &State<'_>, signal: i32) -> Result<bool> {
    let Some(pid) = Pid::from_raw(state.pid).filter(|_| state.pid > 0) else { return Ok(false) };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    if !state.is_alive() {
        return Ok(false);
    }
    match sys::pidfd_send_signal(&pidfd, signal) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error).at(|| format!("sending signal {signal} to process {pid}")),
    }
}

/// Kills init with everything in its cgroup and waits until init is gone.
pub fn kill(state: &State<'_>) -> Result<()> {
    if signal_init(state, libc::SIGKILL)? {
        let _ = freezer::thaw(&state.cgroups);
        for _ in 0..10_000 {
            if !state.is_alive() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if Stat::of(state.pid).is_some_and(|stat| stat.start_time == state.start_time && !stat.is_dead()) {
            return Err(anyhow!("container \"{}\": init (process {}) does not die", state.id, state.pid));
        }
    }
    // Any one hierarchy holds all the processes. Mostly none is left, and then the kernel lets the
    // directory go at once.
    if let Some(group) = state.group()
        && !(group.below && std::fs::remove_dir(group.path).is_ok())
        // One that cannot be looked at is not gone.
        && group.path.try_exists().unwrap_or(true)
    {
        let _ = freezer::thaw(&state.cgroups);
        group.kill()?;
    }
    Ok(())
}

/// Removes what is left of a container whose processes are gone: cgroups, groups of resctrl, the
/// state, then runs the poststop hooks. The first error does not keep the rest from being removed.
pub fn remove(entry: Entry, state: &State<'_>) -> Result<()> {
    let mut first = Ok(());
    let mut keep = |result: Result<()>| {
        if first.is_ok() {
            first = result;
        }
    };
    // Also when its directory is gone, as a scope's is with its last process: systemd may know it a
    // little longer, and another one of that name shall find the way free.
    if let Some(unit) = &state.unit {
        keep(Manager::connect(unit.user).and_then(|mut manager| manager.stop(unit)));
    }
    for dir in &state.cgroups {
        match dir.owner {
            Ownership::Ours => keep(tree::remove(Path::new(&*dir.path))),
            Ownership::Unknown => keep(tree::remove_if_empty(Path::new(&*dir.path))),
            Ownership::Foreign => {}
        }
    }
    for group in &state.rdt {
        match std::fs::remove_dir(&**group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                keep(Err(error).at(|| format!("removing the resctrl group {group}")));
            }
            _ => {}
        }
    }
    // While something is left, the state stays, so that `delete` can be called again.
    first?;
    entry.remove()?;
    let json = if state.poststop.is_empty() { String::new() } else { state.spec_json(Status::Stopped, 0) };
    for (index, poststop) in state.poststop.iter().enumerate() {
        // runtime.md, step 13: a warning, and the next ones run.
        if let Err(error) = hook::run(poststop, &json, None) {
            log::warn(format_args!("/hooks/poststop/{index}: {} {error:#}", poststop.path));
        }
    }
    Ok(())
}
