//! `bundle exec`.

use anyhow::Result;

use crate::cli::containers::Exec as Args;
use crate::container::exec::{Exec, exec};
use crate::container::runtime::FAILED;
use crate::container::{record, spec};
use crate::tool::Tool;

/// The program's exit status; 125 where there was none.
pub fn run(tool: &Tool, args: &Args) -> u8 {
    run_it(tool, args).unwrap_or_else(|error| {
        crate::complain(&error);
        FAILED
    })
}

fn run_it(tool: &Tool, args: &Args) -> Result<u8> {
    let (name, words) = super::behind_flags(&args.words)?;
    let container = record::find(tool.store()?, name)?;
    let env = spec::settled_environment(&args.env_file, &args.env)?;
    let what = Exec {
        words,
        env,
        workdir: args.workdir.as_deref(),
        user: args.user.as_deref(),
        terminal: args.tty,
        interactive: args.interactive,
        detach: args.detach,
        privileged: args.privileged,
    };
    exec(tool, &container, &what)
}
