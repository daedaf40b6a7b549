//! Limits that belong to the process, not to its cgroup: rlimits, scheduler, I/O priority.
//!
//! Init sets its own, as one of its last steps. In a user namespace it has no right to raise any,
//! so there the parent sets them from outside.

use anyhow::{Result, anyhow};

use crate::plan::names::RLIMITS;
use crate::plan::process::Process;
use crate::sys;
use crate::sys::error::{At, text};

/// Below this many descriptors the set-up itself cannot go on: a smaller limit is set only right
/// before the program is executed.
const ENOUGH_FILES: u64 = 64;

// musl has it in another type than glibc.
#[allow(clippy::unnecessary_cast)]
const NOFILE: u32 = libc::RLIMIT_NOFILE as u32;

/// Sets what can be set while init still works. `pid` 0 is the caller.
pub(super) fn apply(process: &Process<'_>, pid: i32) -> Result<()> {
    for &(resource, soft, hard) in &process.rlimits {
        if resource == NOFILE && soft < ENOUGH_FILES {
            if hard >= ENOUGH_FILES {
                set(pid, resource, ENOUGH_FILES, hard)?;
            }
        } else {
            set(pid, resource, soft, hard)?;
        }
    }
    if let Some(scheduler) = &process.scheduler {
        sys::sched_setattr(pid, scheduler).at(|| "/process/scheduler".into())?;
    }
    if let Some((class, level)) = process.io_priority {
        sys::ioprio_set(pid, class, level).at(|| "/process/ioPriority".into())?;
    }
    Ok(())
}

/// Sets what [`apply`] had to leave: lowering a limit is always allowed.
pub(super) fn apply_last(process: &Process<'_>) -> Result<()> {
    for &(resource, soft, hard) in &process.rlimits {
        if resource == NOFILE && soft < ENOUGH_FILES {
            set(0, resource, soft, hard)?;
        }
    }
    Ok(())
}

fn set(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    sys::prlimit(pid, resource, soft, hard).map_err(|error| {
        let name = RLIMITS.get(resource as usize).unwrap_or(&"a limit");
        let hint = match error {
            rustix::io::Errno::PERM => "; raising a hard limit takes CAP_SYS_RESOURCE",
            _ => "",
        };
        anyhow!("/process/rlimits: setting {name} to {soft} (hard {hard}): {}{hint}", text(&error.into()))
    })
}
