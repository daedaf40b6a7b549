//! `bundle search` and `bundle tags`.

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::{Search, Tags};
use crate::image::Reference;
use crate::output;

/// How long a description may be in a table.
const WIDTH: usize = 45;

pub fn search(args: &Search) -> Result<()> {
    if !(1..=100).contains(&args.limit) {
        bail!("--limit {}: not between 1 and 100", args.limit);
    }
    let (registry, term) = match args.term.split_once('/') {
        Some((host, term)) if host.contains(['.', ':']) || host == "localhost" => (host, term),
        _ => (crate::image::reference::DEFAULT_REGISTRY, args.term.as_str()),
    };
    let found = super::client(&args.registry)?.search(registry, term, args.limit)?;
    let rows: Vec<_> = found
        .iter()
        .map(|it| {
            let whole = args.no_trunc || it.description.chars().count() <= WIDTH;
            let description = if whole { it.description.clone() } else { format!("{}…", it.description.chars().take(WIDTH - 1).collect::<String>()) };
            json!({"Name": it.name, "Description": description, "StarCount": it.stars, "IsOfficial": if it.official { "[OK]" } else { "" }})
        })
        .collect();
    let columns =
        [("NAME", "Name"), ("DESCRIPTION", "Description"), ("STARS", "StarCount"), ("OFFICIAL", "IsOfficial")];
    output::rows(args.format.as_deref(), &columns, &rows)
}

pub fn tags(args: &Tags) -> Result<()> {
    let reference: Reference = args.name.parse()?;
    let tags = super::client(&args.registry)?.tags(&reference)?;
    let rows: Vec<_> = tags.iter().map(|tag| json!({"Repository": reference.familiar_name(), "Tag": tag})).collect();
    output::rows(args.format.as_deref(), &[("TAG", "Tag")], &rows)
}
