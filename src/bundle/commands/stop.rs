//! `bundle stop`, `restart`, `kill`, `pause`, `unpause` and `wait`.

use anyhow::Result;

use crate::cli::containers::{Containers, Kill, Stop};
use crate::container::{lifecycle, record, settle};
use crate::monitor::talk;
use crate::output;
use crate::tool::Tool;

pub fn stop(tool: &Tool, args: &Stop) -> Result<()> {
    let how = how(args)?;
    super::each(&args.containers, |name| lifecycle::stop(tool, &record::find(tool.store()?, name)?, &how))
}

pub fn restart(tool: &Tool, args: &Stop) -> Result<()> {
    let how = how(args)?;
    super::each(&args.containers, |name| {
        let container = record::find(tool.store()?, name)?;
        lifecycle::stop(tool, &container, &how)?;
        settle::start_by_child(tool, &container.id)?;
        lifecycle::event(tool, &container, "restart", &[]);
        Ok(())
    })
}

fn how(args: &Stop) -> Result<talk::Stop> {
    let signal = args.signal.as_ref().map(|it| lifecycle::signal("--signal", it)).transpose()?;
    Ok(talk::Stop { signal, timeout: args.time })
}

pub fn kill(tool: &Tool, args: &Kill) -> Result<()> {
    let signal = lifecycle::signal("--signal", &args.signal)?;
    super::each(&args.containers, |name| lifecycle::kill(tool, &record::find(tool.store()?, name)?, signal))
}

pub fn pause(tool: &Tool, args: &Containers, pause: bool) -> Result<()> {
    super::each(&args.containers, |name| lifecycle::pause(tool, &record::find(tool.store()?, name)?, pause))
}

/// Prints the exit statuses in the order in which they were asked for.
pub fn wait(tool: &Tool, args: &Containers) -> Result<()> {
    for name in &args.containers {
        let status = lifecycle::wait(tool, &record::find(tool.store()?, name)?)?;
        output::print(&format!("{status}\n"))?;
    }
    Ok(())
}
