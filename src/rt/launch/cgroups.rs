//! The parent's work on a container's cgroup: is it free, making it, having systemd make it.

use anyhow::{Result, anyhow, bail};

use super::timeline::Timeline;
use crate::cgroup::systemd::Manager;
use crate::cgroup::{self, tree};
use crate::plan::host;
use crate::state::store::Entry;
use crate::state::{Ownership, State};
use crate::sys::error::text;

/// Refuses a unit whose cgroup is in use: what systemd puts there would be among strangers.
pub(super) fn check_free(plan: &cgroup::Plan, state: &mut State<'_>) -> Result<()> {
    plan.dirs.iter().try_for_each(tree::check_free).inspect_err(|_| {
        // Nothing of it is ours to remove.
        state.cgroups.clear();
        state.unit = None;
    })
}

/// Has systemd make the unit with init in it.
pub(super) fn enter_scope(
    manager: &mut Manager,
    scope: &cgroup::Scope,
    plan: &cgroup::Plan,
    id: &str,
    pid: i32,
) -> Result<()> {
    manager.start(&scope.unit, &format!("container {id}"), pid, &scope.properties)?;
    join_scope(scope, plan, pid).or_else(|error| {
        manager.stop(&scope.unit)?;
        Err(error)
    })
}

fn join_scope(scope: &cgroup::Scope, plan: &cgroup::Plan, pid: i32) -> Result<()> {
    let Some(dir) = plan.v2() else { return Ok(()) };
    if scope.unit.is_slice() {
        // systemd puts no process into a slice.
        return tree::join(&dir.path, pid);
    }
    let is = tree::unified_path(&pid.to_string()).unwrap_or_default();
    if dir.path != format!("{}{is}", dir.mount.trim_end_matches('/')) {
        bail!("/linux/cgroupsPath: systemd put the container into cgroup {is}, and {} was expected", dir.path);
    }
    Ok(())
}

/// The part of a cgroup's directories that is made in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    V1,
    V2,
}

/// Makes the directories; says whether there are any. The state learns which are new: what was there
/// before is neither emptied nor removed, in whichever hierarchy it is. One that is in use is refused.
pub(super) fn make(
    plan: &cgroup::Plan,
    which: Which,
    entry: &Entry,
    state: &mut State<'_>,
    steps: &mut Timeline,
) -> Result<bool> {
    let is_wanted = |dir: &cgroup::Dir| dir.is_v2() == (which == Which::V2);
    let made = steps.step("make cgroups", || {
        for (index, dir) in plan.dirs.iter().enumerate().filter(|(_, dir)| is_wanted(dir)) {
            match tree::make(dir, &plan.enable) {
                Ok(true) => state.cgroups[index].owner = Ownership::Ours,
                // systemd has made it, and init is in it.
                Ok(false) if plan.scope.is_some() => state.cgroups[index].owner = Ownership::Foreign,
                Ok(false) => {
                    state.cgroups[index].owner = Ownership::Foreign;
                    if let Err(error) = tree::check_free(dir) {
                        // The container has never been there: its poststop hooks have nothing to follow.
                        state.poststop.clear();
                        return give_back(state).and(Err(error));
                    }
                    // Not even after a kill may it be taken for ours.
                    entry.write(state)?;
                }
                Err(error) if plan.optional && may_not(&error) => return Ok(false),
                Err(error) => return Err(not_made(plan, dir, &error)),
            }
        }
        Ok(true)
    })?;
    if !made {
        give_back(state)?;
    }
    Ok(made)
}

/// Removes what was made so far, and has the state forget what was there before: those who live in it
/// are no processes of this container's.
fn give_back(state: &mut State<'_>) -> Result<()> {
    state.own_cgroups().try_for_each(tree::remove)?;
    state.cgroups.clear();
    Ok(())
}

/// Names what of the document takes a cgroup: its path, else the first limit.
fn not_made(plan: &cgroup::Plan, dir: &cgroup::Dir, error: &std::io::Error) -> anyhow::Error {
    let limit = plan.writes.iter().find(|write| !write.file.starts_with("devices."));
    let field = limit.filter(|_| !plan.named).map_or("/linux/cgroupsPath", |write| &write.pointer);
    let hint = match (may_not(error), plan.named) {
        (true, true) => "; a plain user may only below a delegated cgroup v2 (without a path: beside one's own)",
        (true, false) => "; a plain user may limit only with a delegated cgroup v2",
        _ => "",
    };
    anyhow!("{field}: making cgroup {}: {}{hint}", dir.path, text(error))
}

/// Without a path or a limit in the document, a user who may not make cgroups does without.
fn may_not(error: &std::io::Error) -> bool {
    let denied = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::ENOENT));
    denied && !host::is_root()
}
