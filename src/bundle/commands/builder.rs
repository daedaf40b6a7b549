//! `bundle builder`.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::build::cache::{self, Prune};
use crate::cli::build::{Builder, BuilderDu, BuilderPrune};
use crate::container::units;
use crate::output;
use crate::store::now;
use crate::tool::Tool;

pub fn run(tool: &Tool, command: &Builder) -> Result<()> {
    match command {
        Builder::Prune(args) => prune(tool, args),
        Builder::Du(args) => du(tool, args),
    }
}

fn prune(tool: &Tool, args: &BuilderPrune) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let mut wanted = Prune { all: args.all, before: None };
    for text in &args.filter {
        let Some(age) = text.strip_prefix("until=") else { bail!("--filter {text}: known is until=24h") };
        let age = units::duration(age).with_context(|| format!("--filter {text}"))?;
        wanted.before = Some(now().saturating_sub(age.as_secs() as i64));
    }
    let store = tool.store()?;
    let entries = cache::entries(store)?;
    let taken: Vec<_> = entries.iter().filter(|it| wanted.takes(it)).collect();
    let bytes: u64 = taken.iter().map(|it| it.size).sum();
    if !args.force && !taken.is_empty() {
        eprint!("Remove {} entries of the build cache ({})? [y/N] ", taken.len(), units::human(bytes));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("nothing was removed");
        }
    }
    let freed = cache::remove(store, &taken)?;
    let known = freed.unwrap_or_default();
    output::print(&if as_json {
        format!("{}\n", json!({"Entries": taken.len(), "Blobs": known.blobs, "Layers": known.layers, "Bytes": bytes}))
    } else {
        format!("Removed {} entries, {} layers, {}\n", taken.len(), known.layers, units::human(bytes))
    })
}

fn du(tool: &Tool, args: &BuilderDu) -> Result<()> {
    let rows: Vec<_> = cache::entries(tool.store()?)?
        .into_iter()
        .map(|it| {
            let id = it.key.strip_prefix("sha256:").unwrap_or(&it.key).chars().take(24).collect::<String>();
            json!({
                "ID": id,
                "Size": units::human(it.size),
                "Bytes": it.size,
                "Shared": it.shared,
                "Type": if it.dir.is_some() { "cachemount" } else { "step" },
                "Created": output::time(it.created),
                "LastUsed": output::time(it.used),
                "Description": it.what,
            })
        })
        .collect();
    let columns = [
        ("ID", "ID"),
        ("TYPE", "Type"),
        ("SIZE", "Size"),
        ("SHARED", "Shared"),
        ("LAST USED", "LastUsed"),
        ("DESCRIPTION", "Description"),
    ];
    output::rows(args.format.as_deref(), &columns, &rows)
}
