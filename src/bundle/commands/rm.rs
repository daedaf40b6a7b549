//! `bundle rm`, of containers that have ended.

use anyhow::{Result, bail};

use crate::cli::Rm;
use crate::container::run::{find, remove, sweep};
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Rm) -> Result<()> {
    sweep(tool)?;
    let mut failed = None;
    for name in &args.containers {
        let removed = find(tool, name).and_then(|container| {
            if container.running {
                bail!("container {name} is running: end it first");
            }
            remove(tool.store()?, &container.id)
        });
        match removed {
            Ok(()) => output::print(&format!("{name}\n"))?,
            Err(error) => {
                if let Some(before) = failed.replace(error) {
                    crate::complain(&before);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
