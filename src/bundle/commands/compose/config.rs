//! `compose config`: the project as it is read.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::options;
use crate::cli::compose::{Config, ConfigFormat, Which as Flags};
use crate::compose::create::built_name;
use crate::compose::load::{Options, load};
use crate::compose::model::Project;
use crate::compose::schema::{self, tables};
use crate::compose::{emit, plan, up};
use crate::output;

pub fn run(flags: &Flags, args: &Config) -> Result<()> {
    let project = load(&Options { no_interpolate: args.no_interpolate, ..options(flags) })?;
    let chosen = plan::chosen(&project, &args.names, false)?;
    let text = if args.services {
        lines(chosen.iter())
    } else if args.volumes {
        lines(project.parts.volumes.keys())
    } else if args.networks {
        lines(project.parts.networks.keys())
    } else if args.images {
        let image =
            |name: &String| project.parts.services[name].image.clone().unwrap_or_else(|| built_name(&project, name));
        lines(chosen.iter().map(image))
    } else if args.profiles {
        let all: BTreeSet<&String> = project.parts.services.values().flat_map(|it| &it.profiles).collect();
        lines(all)
    } else if args.environment {
        lines(project.environment.iter().map(|(key, value)| format!("{key}={value}")))
    } else if let Some(name) = &args.hash {
        hashes(&project, name, &chosen)?
    } else {
        let document = shown(&project, &chosen);
        match args.format {
            ConfigFormat::Yaml => emit::yaml(&document),
            ConfigFormat::Json => format!("{}\n", serde_json::to_string_pretty(&document)?),
        }
    };
    match &args.output {
        _ if args.quiet => Ok(()),
        Some(path) => std::fs::write(path, text).with_context(|| format!("--output {}", path.display())),
        None => output::print(&text),
    }
}

fn lines<T: std::fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|it| format!("{it}\n")).collect()
}

fn hashes(project: &Project, name: &str, chosen: &BTreeSet<String>) -> Result<String> {
    if name != "*" && !project.parts.services.contains_key(name) {
        bail!("--hash {name}: no such service");
    }
    let names = chosen.iter().filter(|it| name == "*" || *it == name);
    let line = |name: &String| Ok(format!("{name} {}\n", up::hash(project, name)?));
    names.map(line).collect()
}

/// Only the services that were asked for.
fn shown(project: &Project, chosen: &BTreeSet<String>) -> Value {
    let mut document = project.document.clone();
    if let Some(services) = document["services"].as_object_mut() {
        services.retain(|name, _| chosen.contains(name));
    }
    schema::show(&mut document, &tables::FILE);
    // A $ that is meant would be filled in when it is read again.
    escape(&mut document);
    document
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = text.replace('$', "$$"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}
