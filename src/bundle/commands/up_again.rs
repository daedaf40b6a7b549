//! `bundle up-again`: after the machine's start, what should run runs again.

use anyhow::Result;

use crate::cli::containers::UpAgain;
use crate::container::{record, settle, spec};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &UpAgain) -> Result<()> {
    let mut wanted = Vec::new();
    for container in record::all(tool.store()?)? {
        // What the machine's end has interrupted is put right by this.
        let Some(state) = settle::state(tool, &container)? else { continue };
        let again = match spec::restart(&container.settings.flags)? {
            spec::Restart::No => false,
            spec::Restart::Always => true,
            spec::Restart::UnlessStopped => !state.stopped,
            spec::Restart::OnFailure(_) => !state.stopped && state.exit.is_some_and(|it| it != 0),
        };
        if again && !state.live() && state.started != 0 {
            wanted.push(container.name);
        }
    }
    // The oldest first: later ones may count on them.
    wanted.reverse();
    super::each(&wanted, |name| if args.dry_run { Ok(()) } else { settle::start_by_child(tool, name).map(drop) })
}
