//! `list`

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::cli::{self, ListFormat};
use crate::state::{Status, owner_name, store};

pub(super) fn list(root: &Path, args: &cli::List) -> Result<()> {
    let ids = store::ids(root)?;
    if args.quiet {
        return super::print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    let mut objects = Vec::new();
    for id in &ids {
        // One that is deleted meanwhile, or damaged, does not keep the others from being shown.
        let Ok((entry, Some(text))) = store::peek(root, id) else { continue };
        let Ok(state) = store::parse(&text, id) else { continue };
        let status = entry.status(&state);
        let pid = if status == Status::Stopped { 0 } else { state.pid };
        if args.format == ListFormat::Json {
            objects.push(serde_json::from_str::<serde_json::Value>(&state.spec_json(status, pid))?);
        } else {
            rows.push([
                state.id.to_string(),
                pid.to_string(),
                status.word().to_owned(),
                state.bundle.to_string(),
                state.created.to_string(),
                owner_name(state.owner),
            ]);
        }
    }
    if args.format == ListFormat::Json {
        return super::print(&format!("{}\n", serde_json::Value::Array(objects)));
    }
    super::print(&table(&rows))
}

/// Columns padded to their widest cell, three blanks apart, at least 12 wide as runc has them.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(9) + 3;
    let widths = [0, 1, 2, 3, 4, 5].map(width);
    let mut text = String::new();
    for row in rows {
        let start = text.len();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}");
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}
