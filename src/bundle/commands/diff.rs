//! `bundle diff`.

use anyhow::Result;
use serde_json::json;

use crate::cli::containers::Diff;
use crate::container::{changes, record};
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Diff) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let container = record::find(tool.store()?, &args.container)?;
    let changes = changes::list(tool, &container)?;
    if as_json {
        let list: Vec<_> = changes.iter().map(|(kind, path)| json!({"Kind": kind.to_string(), "Path": path})).collect();
        return output::print(&format!("{}\n", serde_json::to_string_pretty(&list)?));
    }
    output::print(&changes.iter().map(|(kind, path)| format!("{kind} {path}\n")).collect::<String>())
}
