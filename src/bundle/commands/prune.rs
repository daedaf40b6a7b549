//! `bundle prune`.

use std::io::BufRead;

use anyhow::Result;
use serde_json::json;

use crate::cli::Prune;
use crate::container::record::Container;
use crate::container::settle::sweep;
use crate::container::{record, remove, settle, units};
use crate::network::make;
use crate::network::rows::{self, Network};
use crate::output;
use crate::store::Freed;
use crate::tool::Tool;

/// Says what would go, asks, and does it.
pub fn run(tool: &Tool, args: &Prune) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let store = tool.store()?;
    sweep(tool)?;
    let containers = if args.containers { ended(tool)? } else { Vec::new() };
    let mut images = Vec::new();
    for image in store.images()? {
        let named = !store.names(&image)?.is_empty();
        let of = store.containers_of(&image)?;
        let used = of.iter().any(|name| !containers.iter().any(|it| it.name == *name));
        if !used && (args.all || !named) {
            images.push(image);
        }
    }
    let networks = if args.networks { unused(tool, &containers)? } else { Vec::new() };
    let waste = store.collectable()?;
    let unfinished = store.sweep(true, true)?;
    let nothing = images.is_empty()
        && containers.is_empty()
        && networks.is_empty()
        && waste == Freed::default()
        && unfinished.as_ref().is_none_or(|it| it.unfinished == 0);
    if !as_json && (args.dry_run || !args.force && !nothing) {
        for container in &containers {
            eprintln!("container {}", container.name);
        }
        for network in &networks {
            eprintln!("network {}", network.name);
        }
        for image in &images {
            let names: Vec<String> = store.names(image)?.iter().map(|it| it.0.familiar()).collect();
            eprintln!("image {} {} ({})", image.id.short(), names.join(" "), units::human(image.size));
        }
        let left = unfinished.clone().unwrap_or_default();
        eprintln!(
            "{} blobs and {} layers of no image, {} unfinished downloads and the like ({})",
            waste.blobs,
            waste.layers,
            left.unfinished,
            units::human(waste.bytes + left.bytes)
        );
    }
    if args.dry_run {
        let ids: Vec<_> = images.iter().map(|it| &it.id).collect();
        let names: Vec<_> = containers.iter().map(|it| &it.name).collect();
        let of_networks: Vec<_> = networks.iter().map(|it| &it.name).collect();
        return if as_json {
            output::print(&format!(
                "{}\n",
                json!({"Containers": names, "Networks": of_networks, "Images": ids, "Waste": waste, "Unfinished": unfinished})
            ))
        } else {
            Ok(())
        };
    }
    if !args.force && !nothing && !agreed()? {
        return Ok(());
    }
    let mut busy = false;
    for container in &containers {
        remove::remove(tool, container, false, false)?;
    }
    for network in &networks {
        make::remove(tool, network)?;
    }
    for image in &images {
        store.remove(image)?;
    }
    let mut freed = Freed::default();
    for part in [store.collect()?, store.sweep(true, false)?] {
        match part {
            Some(part) => freed.add(&part),
            None => busy = true,
        }
    }
    if busy {
        eprintln!("bundle: another bundle is making something: what belongs to no image yet was left alone");
    }
    if as_json {
        return output::print(&format!(
            "{}\n",
            json!({"Containers": containers.len(), "Networks": networks.len(), "Images": images.len(), "Freed": freed})
        ));
    }
    output::print(&format!(
        "Removed {} images, {} containers, {} networks; freed {}\n",
        images.len(),
        containers.len(),
        networks.len(),
        units::human(freed.bytes)
    ))
}

/// Without a terminal nobody can agree: then --force has to be given.
pub fn agreed() -> Result<bool> {
    if !rustix::termios::isatty(std::io::stdin()) {
        anyhow::bail!("this would be removed: say so by --force, or use --dry-run");
    }
    eprint!("Remove all of this? [y/N] ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// The networks that no container is in, but for those that go too.
fn unused(tool: &Tool, containers: &[Container]) -> Result<Vec<Network>> {
    let db = tool.store()?.db();
    let mut unused = Vec::new();
    for network in rows::all(db)? {
        if rows::members(db, &network)?.iter().all(|it| containers.iter().any(|gone| gone.id == it.id)) {
            unused.push(network);
        }
    }
    Ok(unused)
}

/// The containers that do not run.
fn ended(tool: &Tool) -> Result<Vec<Container>> {
    let mut list = record::all(tool.store()?)?;
    let mut failed = None;
    list.retain(|it| match settle::state(tool, it) {
        Ok(state) => state.is_some_and(|it| !it.live()),
        Err(error) => {
            failed = Some(error);
            false
        }
    });
    failed.map_or(Ok(list), Err)
}
