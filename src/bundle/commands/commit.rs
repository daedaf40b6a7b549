//! `bundle commit`.

use anyhow::Result;
use serde_json::json;

use crate::archive;
use crate::cli::Commit;
use crate::container::{lifecycle, record};
use crate::image::Reference;
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Commit) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let name: Option<Reference> = args.name.as_ref().map(|it| it.parse()).transpose()?;
    let container = record::find(tool.store()?, &args.container)?;
    // It goes on when this is dropped, however that comes.
    let _still = match args.pause {
        Some(false) => None,
        Some(true) => lifecycle::hold(tool, &container)?,
        None => lifecycle::hold(tool, &container).unwrap_or_else(|error| {
            crate::complain(&error.context("its files may change while they are read"));
            None
        }),
    };
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
    lifecycle::event(tool, &container, "commit", &[]);
    let json = || format!("{}\n", json!({"Id": id, "Name": name.as_ref().map(Reference::to_string)}));
    output::print(&if as_json { json() } else { format!("{id}\n") })
}
