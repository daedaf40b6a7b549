//! `kill`

use std::path::Path;

use anyhow::{Result, anyhow, bail};

use crate::cgroup::freezer;
use crate::cgroup::tree::Group;
use crate::cli;
use crate::launch::destroy;
use crate::plan::names;
use crate::state::{State, Status, store};

pub(super) fn kill(root: &Path, args: &cli::Kill) -> Result<()> {
    let signal = names::signal(&args.signal).ok_or_else(|| {
        anyhow!(
            "unknown signal \"{}\": use a name such as TERM, a number 0..64, or RTMIN+n",
            args.signal.escape_debug()
        )
    })?;
    let (entry, text) = store::peek(root, &args.id)?;
    let Some(text) = text else { bail!("container not running: \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    let status = entry.status(&state);
    if args.all
        && let Some(group) = state.group()
    {
        // Also after init's end: without a pid namespace the others live on.
        let count = signal_everything(&state, group, signal)?;
        if count > 0 || status == Status::Stopped {
            return Ok(());
        }
    }
    if matches!(status, Status::Stopped | Status::Creating) || !destroy::signal_init(&state, signal)? {
        bail!("container not running");
    }
    if signal == libc::SIGKILL && status == Status::Paused {
        // On v1 a frozen process does not even die.
        freezer::thaw(&state.cgroups)?;
    }
    Ok(())
}

/// Signals the whole cgroup. SIGKILL must not be outrun by a fork: v2 kills a cgroup at once, on v1
/// it is frozen meanwhile.
fn signal_everything(state: &State<'_>, group: Group<'_>, signal: i32) -> Result<usize> {
    if signal != libc::SIGKILL {
        return group.signal(signal);
    }
    let count = group.processes()?.len();
    if count == 0 || group.kill_at_once() {
        return Ok(count);
    }
    // Without a freezer the signals alone have to do.
    let _ = freezer::freeze(&state.cgroups);
    let killed = group.signal(signal);
    freezer::thaw(&state.cgroups)?;
    killed
}
