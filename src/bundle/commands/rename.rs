//! `bundle rename`.

use anyhow::Result;

use crate::cli::containers::Rename;
use crate::container::{lifecycle, record, settle};
use crate::monitor::talk::{self, Change};
use crate::network;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Rename) -> Result<()> {
    let store = tool.store()?;
    settle::sweep(tool)?;
    let mut container = record::find(store, &args.container)?;
    record::rename(store, &container.id, &args.name)?;
    network::live::rename(tool, &container, &args.name)?;
    // Its monitor writes the name into events.
    if let Some(socket) = talk::connect(&container.run_dir(tool))? {
        let change = Change { name: Some(args.name.clone()), restart: None };
        let _ = talk::send(&socket, talk::CHANGE, &serde_json::to_vec(&change)?);
    }
    let old = std::mem::replace(&mut container.name, args.name.clone());
    lifecycle::event(tool, &container, "rename", &[("oldName", &old)]);
    Ok(())
}
