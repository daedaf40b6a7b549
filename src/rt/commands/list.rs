//! `list`

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::cli::{self, ListFormat};
use crate::config::types::Str;
use crate::state::{Status, owner_name, store};
use crate::sys::proc::Stat;

/// What of a state makes a line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Brief<'a> {
    pid: i32,
    start_time: u64,
    bundle: Str<'a>,
    created: Str<'a>,
    owner: u32,
}

impl Brief<'_> {
    fn is_alive(&self) -> bool {
        Stat::is_alive(self.pid, self.start_time)
    }

    /// Of one that is not alive.
    fn status(&self) -> Status {
        if self.pid == 0 { Status::Creating } else { Status::Stopped }
    }
}

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
        let Ok(brief) = serde_json::from_str::<Brief<'_>>(&text) else { continue };
        let is_json = args.format == ListFormat::Json;
        // Mostly they have ended, and then no more of the state is needed.
        let full = (is_json || brief.is_alive()).then(|| store::parse(&text, id)).transpose();
        let Ok(full) = full else { continue };
        let status = full.as_ref().map_or_else(|| brief.status(), |state| entry.status(state));
        let pid = if status == Status::Stopped { 0 } else { brief.pid };
        if let Some(state) = full.filter(|_| is_json) {
            objects.push(serde_json::from_str::<serde_json::Value>(&state.spec_json(status, pid))?);
        } else {
            rows.push([
                id.clone(),
                pid.to_string(),
                status.word().to_owned(),
                brief.bundle.to_string(),
                brief.created.to_string(),
                owner_name(brief.owner),
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
