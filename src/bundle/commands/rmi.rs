//! `bundle rmi`.

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::cli::{FormatFlag, Rmi};
use crate::container::settle::sweep;
use crate::events::{self, Kind};
use crate::image::Reference;
use crate::output;
use crate::store::{Image, Store};
use crate::tool::Tool;

/// Each image for itself: one that cannot go keeps no other one. The last error is the command's.
pub fn run(tool: &Tool, args: &Rmi) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let store = tool.store()?;
    sweep(tool)?;
    let mut failed = None;
    for name in &args.images {
        match remove(store, name, args) {
            Ok(lines) => {
                for (what, subject) in lines {
                    event(store, what, &subject);
                    output::print(&if as_json {
                        format!("{}\n", json!({what: subject}))
                    } else {
                        format!("{what}: {subject}\n")
                    })?;
                }
            }
            Err(error) => {
                if let Some(before) = failed.replace(error) {
                    crate::complain(&before);
                }
            }
        }
    }
    store.collect()?;
    failed.map_or(Ok(()), Err)
}

fn event(store: &Store, what: &str, subject: &str) {
    let action = if what == "Deleted" { "delete" } else { "untag" };
    events::append(store.root(), Kind::Image, action, subject, &[("name", subject)]);
}

/// One image by its name, and nothing is printed.
pub fn silently(tool: &Tool, name: &str) -> Result<()> {
    let store = tool.store()?;
    let args = Rmi { force: false, no_prune: false, format: FormatFlag::default(), images: Vec::new() };
    for (what, subject) in remove(store, name, &args)? {
        event(store, what, &subject);
    }
    store.collect().map(drop)
}

fn remove(store: &Store, text: &str, args: &Rmi) -> Result<Vec<(&'static str, String)>> {
    let image = store.look_up(text)?.with_context(|| format!("no such image: {text}"))?;
    let names = store.names(&image)?;
    let given: Option<String> = text.parse::<Reference>().ok().and_then(|reference| {
        names
            .iter()
            .find(|(name, target)| {
                *name == reference || name.name() == reference.name() && reference.digest.as_ref() == Some(target)
            })
            .map(|it| it.0.to_string())
    });
    let mut lines = Vec::new();
    if let Some(name) = &given
        && (names.len() > 1 || args.no_prune)
    {
        store.untag(name)?;
        lines.push(("Untagged", short(name)));
        return Ok(lines);
    }
    if given.is_none() && names.len() > 1 && !args.force {
        let list: Vec<String> = names.iter().map(|it| it.0.familiar()).collect();
        bail!(
            "image {} has several names ({}): remove them by name, or all with --force",
            image.id.short(),
            list.join(", ")
        );
    }
    in_use(store, &image, args.force)?;
    store.remove(&image)?;
    lines.extend(names.iter().map(|(name, _)| ("Untagged", name.familiar())));
    lines.push(("Deleted", image.id.to_string()));
    Ok(lines)
}

fn in_use(store: &Store, image: &Image, force: bool) -> Result<()> {
    let containers = store.containers_of(image)?;
    if containers.is_empty() || force {
        return Ok(());
    }
    bail!(
        "image {} is used by container {}: remove it first, or use --force (the container keeps its layers)",
        image.id.short(),
        containers.join(", ")
    )
}

fn short(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |it| it.familiar())
}
