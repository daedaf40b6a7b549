//! `bundle store check`.

use anyhow::Result;
use serde_json::json;

use crate::cli::StoreCheck;
use crate::output;
use crate::tool::Tool;

/// Exit status 1 where there is a fault that was not repaired.
pub fn run(tool: &Tool, args: &StoreCheck) -> Result<u8> {
    let as_json = super::as_json(&args.format)?;
    let mut bytes = 0;
    let faults = tool.store()?.check(args.repair, &mut |size| bytes += size)?;
    let left = faults.iter().filter(|it| !it.repaired).count();
    if as_json {
        output::print(&format!("{}\n", json!({"Faults": faults, "BytesRead": bytes})))?;
    } else {
        for fault in &faults {
            let what = if fault.repaired { "repaired" } else { "repair" };
            output::print(&format!("{}: {} ({what}: {})\n", fault.subject, fault.words, fault.repair))?;
        }
        let words = match (faults.len(), left) {
            (0, _) => "the store is whole".to_owned(),
            (all, 0) => format!("{all} faults, all repaired"),
            (all, left) => format!("{all} faults, {left} of them left: bundle store check --repair"),
        };
        output::print(&format!("{words}\n"))?;
    }
    Ok(u8::from(left > 0))
}
