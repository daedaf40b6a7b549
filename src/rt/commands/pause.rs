//! `pause` and `resume`

use std::path::Path;

use anyhow::{Result, bail};

use crate::cgroup::freezer;
use crate::state::store::{self, Entry};
use crate::state::{State, Status};

pub(super) fn pause(root: &Path, id: &str) -> Result<()> {
    with_status(root, id, |state, status| match status {
        Status::Created | Status::Running => freezer::freeze(&state.cgroups),
        _ => bail!("container not running"),
    })
}

pub(super) fn resume(root: &Path, id: &str) -> Result<()> {
    with_status(root, id, |state, status| match status {
        Status::Paused => freezer::thaw(&state.cgroups),
        // A pause that was cut short.
        Status::Created | Status::Running if freezer::is_asked(&state.cgroups) => freezer::thaw(&state.cgroups),
        _ => bail!("container not paused"),
    })
}

/// Under the container's lock: of two at once, the second sees what the first has done.
fn with_status(root: &Path, id: &str, then: impl FnOnce(&State<'_>, Status) -> Result<()>) -> Result<()> {
    let entry = Entry::open(root, id)?;
    let Some(text) = entry.read()? else { bail!("container not running: \"{id}\" is still being created") };
    let state = store::parse(&text, id)?;
    then(&state, entry.status(&state))
}
