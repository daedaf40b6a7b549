//! `delete`

use std::path::Path;

use anyhow::{Result, bail};

use crate::cli;
use crate::launch::destroy;
use crate::log;
use crate::state::store::{self, Entry};
use crate::state::{State, Status};

pub(super) fn delete(root: &Path, args: &cli::Delete) -> Result<()> {
    let id = &*args.id;
    store::check_id(id)?;
    // What cannot be looked at is not gone.
    let gone = || root.join(id).try_exists().is_ok_and(|there| !there);
    if args.force && gone() {
        return Ok(());
    }
    let entry = match Entry::open(root, id) {
        // Another `delete` was faster.
        Err(_) if args.force && gone() => return Ok(()),
        other => other?,
    };
    let text = entry.read()?;
    let state = match text.as_deref().map(|text| store::parse(text, id)) {
        Some(Ok(state)) => state,
        Some(Err(error)) if !args.force => return Err(error),
        None if !args.force => {
            bail!("cannot delete container \"{id}\" that is not stopped: creating (--force deletes what is left of it)")
        }
        // `create` was killed before it did anything, or the file is damaged: nothing is known but
        // the directory.
        other => {
            if let Some(Err(error)) = other {
                log::warn(format_args!("{error:#}"));
            }
            State::default()
        }
    };
    if !args.force {
        let status = entry.status(&state);
        if status != Status::Stopped {
            bail!("cannot delete container \"{id}\" that is not stopped: {}", status.word());
        }
    }
    destroy::kill(&state)?;
    destroy::remove(entry, &state)
}
