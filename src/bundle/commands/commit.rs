//! `bundle commit`.

use anyhow::{Result, bail};
use serde_json::json;

use crate::archive;
use crate::cli::Commit;
use crate::container::run::{find, sweep};
use crate::image::Reference;
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Commit) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    sweep(tool)?;
    let name: Option<Reference> = args.name.as_ref().map(|it| it.parse()).transpose()?;
    let container = find(tool, &args.container)?;
    if container.running {
        bail!("container {} is running: its files are still changing", args.container);
    }
    let id = archive::commit(
        tool,
        &archive::Commit {
            container: &container,
            changes: &args.change,
            message: args.message.as_deref(),
            author: args.author.as_deref(),
            name: name.as_ref(),
        },
    )?;
    let json = || format!("{}\n", json!({"Id": id, "Name": name.as_ref().map(Reference::to_string)}));
    output::print(&if as_json { json() } else { format!("{id}\n") })
}
