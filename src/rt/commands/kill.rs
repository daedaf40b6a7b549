//! `kill`

use std::path::Path;

use anyhow::{Result, anyhow, bail};

use crate::cgroup::tree;
use crate::cli;
use crate::launch::destroy;
use crate::plan::names;
use crate::state::{Ownership, Status, store};

pub(super) fn kill(root: &Path, args: &cli::Kill) -> Result<()> {
    let signal = names::signal(&args.signal).ok_or_else(|| {
        anyhow!(
            "unknown signal \"{}\": use a name such as TERM, a number 1..64, or RTMIN+n",
            args.signal.escape_debug()
        )
    })?;
    let (entry, text) = store::peek(root, &args.id)?;
    let Some(text) = text else { bail!("container not running: \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    let status = entry.status(&state);
    if args.all && state.cgroups_are == Ownership::Ours {
        // Also after init's end: without a pid namespace the others live on.
        if let Some(path) = state.cgroups.first() {
            let count = tree::signal_all(Path::new(&**path), signal)?;
            if count > 0 || status == Status::Stopped {
                return Ok(());
            }
        }
    }
    if matches!(status, Status::Stopped | Status::Creating) || !destroy::signal_init(&state, signal)? {
        bail!("container not running");
    }
    Ok(())
}
