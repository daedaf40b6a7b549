//! `bundle volume create`, `ls`, `inspect`, `rm`, `prune`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::volume::{Create, Inspect, Ls, Prune, Volume as Command};
use crate::container::units;
use crate::events::{self, Kind};
use crate::output;
use crate::store::Store;
use crate::tool::Tool;
use crate::volume::{self, New, Volume};

pub fn run(tool: &Tool, command: &Command) -> Result<()> {
    let store = tool.store()?;
    if matches!(command, Command::Rm(_) | Command::Prune(_)) {
        // What is gone holds no volume.
        crate::container::settle::sweep(tool)?;
    }
    match command {
        Command::Create(args) => create(store, args),
        Command::Ls(args) => list(store, args),
        Command::Inspect(args) => inspect(store, args),
        Command::Rm(args) => super::each(&args.volumes, |name| remove(store, name, args.force)),
        Command::Prune(args) => prune(store, args),
    }
}

fn create(store: &Store, args: &Create) -> Result<()> {
    if args.driver != "local" {
        bail!("--driver {}: there is only the driver local", args.driver);
    }
    let mut options = BTreeMap::new();
    for text in &args.opt {
        let (key, value) =
            text.split_once('=').with_context(|| format!("--opt {text:?}: not of the form KEY=VALUE"))?;
        options.insert(key.to_owned(), value.to_owned());
    }
    let new = New { labels: units::labels(&args.label).context("--label")?.into_iter().collect(), options };
    let (name, made) = volume::create(store, args.name.as_deref(), &new)?;
    if made {
        events::append(store.root(), Kind::Volume, "create", &name, &[("driver", "local")]);
    }
    output::print(&format!("{name}\n"))
}

fn list(store: &Store, args: &Ls) -> Result<()> {
    let filters = Filters::parse(&args.filter, &["dangling", "name", "label", "driver"])?;
    let mut rows = Vec::new();
    for volume in volume::all(store.db())? {
        if filters.fit(store, &volume)? {
            rows.push(row(store, &volume));
        }
    }
    if args.quiet {
        let names: String = rows.iter().filter_map(|it| it["Name"].as_str()).map(|it| format!("{it}\n")).collect();
        return output::print(&names);
    }
    output::rows(args.format.as_deref(), &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")], &rows)
}

fn row(store: &Store, volume: &Volume) -> Value {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "Driver": "local",
        "Labels": labels.join(","),
        "Mountpoint": mountpoint(store, volume),
        "Name": volume.name,
        "Scope": "local",
    })
}

fn mountpoint(store: &Store, volume: &Volume) -> PathBuf {
    store.root().join("volumes").join(&volume.name).join("_data")
}

fn inspect(store: &Store, args: &Inspect) -> Result<()> {
    let mut documents = Vec::new();
    for name in &args.volumes {
        let volume = volume::find(store.db(), name)?.with_context(|| format!("no such volume: {name}"))?;
        documents.push(document(store, &volume)?);
    }
    output::documents(args.format.as_deref(), &documents)
}

/// Docker's names of all that is known of a volume.
pub fn document(store: &Store, volume: &Volume) -> Result<Value> {
    Ok(json!({
        "CreatedAt": output::time(volume.created / 1_000_000_000),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": mountpoint(store, volume),
        "Name": volume.name,
        "Options": volume.options,
        "Scope": "local",
        "Anonymous": volume.anonymous,
        "Containers": volume::holders(store.db(), &volume.name)?,
    }))
}

fn remove(store: &Store, name: &str, force: bool) -> Result<()> {
    if volume::remove(store, name)? {
        events::append(store.root(), Kind::Volume, "destroy", name, &[("driver", "local")]);
    } else if !force {
        bail!("no such volume: {name}");
    }
    Ok(())
}

/// Says what would go and what it takes, asks, and does it.
fn prune(store: &Store, args: &Prune) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let filters = Filters::parse(&args.filter, &["label", "label!"])?;
    let mut found = Vec::new();
    for volume in volume::all(store.db())? {
        let free = volume::holders(store.db(), &volume.name)?.is_empty();
        if free && (args.all || volume.anonymous) && filters.fit(store, &volume)? {
            let size = volume::size(store, &volume.name)?;
            found.push((volume.name, size));
        }
    }
    let total: u64 = found.iter().map(|it| it.1).sum();
    if !as_json && (args.dry_run || !args.force && !found.is_empty()) {
        for (name, size) in &found {
            eprintln!("volume {name} ({})", units::human(*size));
        }
        eprintln!("{} volumes, {}", found.len(), units::human(total));
    }
    let names = |list: &[(String, u64)]| list.iter().map(|it| it.0.clone()).collect::<Vec<_>>();
    if args.dry_run {
        let document = json!({"Volumes": names(&found), "Bytes": total});
        return if as_json { output::print(&format!("{document}\n")) } else { Ok(()) };
    }
    if !args.force && !found.is_empty() && !super::prune::agreed()? {
        return Ok(());
    }
    // A container may have taken one meanwhile: that one stays.
    let mut gone = Vec::new();
    for (name, size) in found {
        match volume::remove(store, &name) {
            Ok(true) => {
                events::append(store.root(), Kind::Volume, "destroy", &name, &[("driver", "local")]);
                gone.push((name, size));
            }
            Ok(false) => {}
            Err(error) => crate::complain(&error),
        }
    }
    let freed = gone.iter().map(|it| it.1).sum();
    if as_json {
        return output::print(&format!("{}\n", json!({"Volumes": names(&gone), "Freed": freed})));
    }
    let lines: String = names(&gone).iter().map(|it| format!("{it}\n")).collect();
    output::print(&format!("{lines}Removed {} volumes; freed {}\n", gone.len(), units::human(freed)))
}

/// All kinds have to fit; of one kind, one word of it, but for labels, which all have to.
#[derive(Default)]
struct Filters {
    dangling: Option<bool>,
    names: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    no_labels: Vec<(String, Option<String>)>,
}

impl Filters {
    fn parse(texts: &[String], known: &[&str]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let (key, value) =
                text.split_once('=').with_context(|| format!("--filter {text:?}: not of the form KEY=VALUE"))?;
            if !known.contains(&key) {
                bail!("--filter {text:?}: known are {}", known.join(", "));
            }
            let label = || {
                let (key, value) = value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
                (key.to_owned(), value.map(str::to_owned))
            };
            match key {
                "dangling" => {
                    filters.dangling = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => bail!("--filter {text:?}: true or false"),
                    });
                }
                "name" => filters.names.push(value.to_owned()),
                "label" => filters.labels.push(label()),
                "label!" => filters.no_labels.push(label()),
                _ if value == "local" => {}
                _ => bail!("--filter {text:?}: there is only the driver local"),
            }
        }
        Ok(filters)
    }

    fn fit(&self, store: &Store, volume: &Volume) -> Result<bool> {
        let has = |(key, value): &(String, Option<String>)| {
            volume.labels.get(key).is_some_and(|it| value.as_ref().is_none_or(|value| value == it))
        };
        let dangling = match self.dangling {
            None => true,
            Some(wanted) => volume::holders(store.db(), &volume.name)?.is_empty() == wanted,
        };
        Ok(dangling
            && (self.names.is_empty() || self.names.iter().any(|it| volume.name.contains(it.as_str())))
            && self.labels.iter().all(has)
            && !self.no_labels.iter().any(has))
    }
}
