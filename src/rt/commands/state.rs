//! `state`

use std::path::Path;

use anyhow::{Result, bail};

use crate::state::Status;
use crate::state::store;

pub(super) fn state(root: &Path, id: &str) -> Result<()> {
    let (entry, text) = store::peek(root, id)?;
    let Some(text) = text else { bail!("container \"{id}\" is still being created, or was never finished") };
    let state = store::parse(&text, id)?;
    let status = entry.status(&state);
    let pid = if status == Status::Stopped { 0 } else { state.pid };
    super::print(&(state.spec_json(status, pid) + "\n"))
}
