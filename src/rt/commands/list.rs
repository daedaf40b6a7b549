//! `list`

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::cli::{self, ListFormat};
use crate::config::types::Str;
use crate::state::store::{self, Entry};
use crate::state::{Status, owner_name};
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

pub(super) fn list(root: &Path, args: &cli::List) -> Result<()> {
    let ids = store::ids(root)?;
    if args.quiet {
        return super::print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    let is_json = args.format == ListFormat::Json;
    let mut table = Table::default();
    table.row(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let mut objects = Vec::new();
    let mut states = store::Reader::new(root);
    let mut owner = (0, owner_name(0));
    for id in &ids {
        // One that is deleted meanwhile, or damaged, does not keep the others from being shown.
        let Some(text) = states.read(id) else { continue };
        let Ok(brief) = serde_json::from_str::<Brief<'_>>(text) else { continue };
        let is_alive = Stat::is_alive(brief.pid, brief.start_time);
        // Mostly they have ended, and then no more of the state is needed.
        let full = (is_json || is_alive).then(|| store::parse(text, id)).transpose();
        let Ok(full) = full else { continue };
        let status = match &full {
            _ if brief.pid == 0 => Status::Creating,
            Some(state) if is_alive => Entry::unlocked(root, id).status_of_living(state),
            _ => Status::Stopped,
        };
        let pid = if status == Status::Stopped { 0 } else { brief.pid };
        if let Some(state) = full.filter(|_| is_json) {
            objects.push(serde_json::from_str::<serde_json::Value>(&state.spec_json(status, pid))?);
        } else {
            if owner.0 != brief.owner {
                owner = (brief.owner, owner_name(brief.owner));
            }
            table.row([id, &pid.to_string(), status.word(), &brief.bundle, &brief.created, &owner.1]);
        }
    }
    if is_json {
        return super::print(&format!("{}\n", serde_json::Value::Array(objects)));
    }
    super::print(&table.text())
}

/// Columns padded to their widest cell, three blanks apart, at least 12 wide as runc has them.
#[derive(Default)]
struct Table {
    /// All cells, one behind the other.
    cells: String,
    /// Of each cell, where it ends in `cells`, and its width.
    ends: Vec<(usize, usize)>,
}

impl Table {
    const COLUMNS: usize = 6;

    fn row(&mut self, cells: [&str; Table::COLUMNS]) {
        for cell in cells {
            self.cells.push_str(cell);
            self.ends.push((self.cells.len(), cell.chars().count()));
        }
    }

    fn text(&self) -> String {
        let mut widths = [12; Table::COLUMNS];
        for row in self.ends.chunks_exact(Table::COLUMNS) {
            for (widest, (_, width)) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width + 3);
            }
        }
        let mut text = String::with_capacity(self.ends.len() / Table::COLUMNS * (widths.iter().sum::<usize>() + 1));
        let mut from = 0;
        for row in self.ends.chunks_exact(Table::COLUMNS) {
            let mut missing = 0;
            for ((end, width), column) in row.iter().zip(widths) {
                text.extend(std::iter::repeat_n(' ', missing));
                text.push_str(&self.cells[from..*end]);
                from = *end;
                missing = column - width;
            }
            text.push('\n');
        }
        text
    }
}
