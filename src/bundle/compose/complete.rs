//! The last step of reading: what a project does not say gets its default, files of variables are read, and what is
//! named has to be there.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value as Json, json};

use super::dotenv::{self, Variables};
use super::load::bounded;
use super::model::{Parts, Project, place};
use super::schema::{self, tables};
use super::yaml::Node;
use crate::container::units;

/// The network of services that name none.
pub const DEFAULT: &str = "default";

/// Makes the model of the tree.
pub fn complete(mut project: Project) -> Result<Project> {
    let mut document = schema::model(&project.tree, &tables::FILE)?;
    document["name"] = json!(project.name);
    let services = section(&mut document, "services");
    if services.is_empty() {
        bail!("{}: there are no services", project.tree.at);
    }
    let mut needs_default = false;
    for (name, service) in services.iter_mut() {
        let at = |field: &str| place(&project.tree, &["services", name, field]);
        check_service_name(name).with_context(|| at("").to_string())?;
        if service.get("image").is_none() && service.get("build").is_none() {
            bail!("{}: services.{name}: neither an image nor a build", at(""));
        }
        environment(service, &project.environment)
            .with_context(|| format!("{}: services.{name}.env_file", at("env_file")))?;
        labels(service).with_context(|| format!("{}: services.{name}.label_file", at("label_file")))?;
        let fields = service.as_object_mut().context("a service is a mapping")?;
        let has = |fields: &Map<String, Json>, key: &str| fields.get(key).is_some();
        if has(fields, "network_mode") && fields.get("networks").is_some_and(|it| it != &json!({})) {
            bail!("{}: services.{name}: network_mode and networks: one of them", at("network_mode"));
        }
        if !has(fields, "network_mode") && fields.get("networks").is_none_or(|it| it == &json!({})) {
            fields.insert("networks".to_owned(), json!({DEFAULT: {}}));
        }
        needs_default |= fields.get("networks").is_some_and(|it| it.get(DEFAULT).is_some());
    }
    for kind in ["networks", "volumes"] {
        let parts = section(&mut document, kind);
        if kind == "networks" && needs_default && !parts.contains_key(DEFAULT) {
            parts.insert(DEFAULT.to_owned(), json!({}));
        }
        for (key, part) in parts.iter_mut() {
            if part.get("name").is_none() {
                let external = part.get("external") == Some(&Json::Bool(true));
                part["name"] = json!(if external { key.clone() } else { format!("{}_{key}", project.name) });
            }
        }
    }
    for kind in ["networks", "volumes", "secrets", "configs"] {
        if section(&mut document, kind).is_empty() {
            document.as_object_mut().map(|it| it.remove(kind));
        }
    }
    // Each kind and number was checked by the schema; what does not fit is too large or below zero.
    project.parts = Parts::default();
    for kind in ["services", "networks", "volumes", "secrets", "configs"] {
        for (name, part) in document.get(kind).and_then(Json::as_object).into_iter().flatten() {
            let told = || format!("{}: {kind}.{name}", place(&project.tree, &[kind, name]));
            let part = part.clone();
            match kind {
                "services" => {
                    let (service, path) = typed(part);
                    let service = service.with_context(|| match path.split(['.', '[']).next() {
                        Some(field) if !field.is_empty() => {
                            format!("{}: {kind}.{name}.{path}", place(&project.tree, &[kind, name, field]))
                        }
                        _ => told(),
                    })?;
                    project.parts.services.insert(name.clone(), service);
                }
                "networks" => drop(project.parts.networks.insert(name.clone(), typed(part).0.with_context(told)?)),
                "volumes" => drop(project.parts.volumes.insert(name.clone(), typed(part).0.with_context(told)?)),
                "secrets" => drop(project.parts.secrets.insert(name.clone(), typed(part).0.with_context(told)?)),
                _ => drop(project.parts.configs.insert(name.clone(), typed(part).0.with_context(told)?)),
            }
        }
    }
    project.document = document;
    super::check::check(&project)?;
    Ok(project)
}

/// A part of the model, and where in it something does not fit.
fn typed<T: serde::de::DeserializeOwned>(part: Json) -> (Result<T>, String) {
    // Each field alone tells which one does not fit.
    match serde_json::from_value(part.clone()) {
        Ok(it) => (Ok(it), String::new()),
        Err(error) => {
            let bad = part
                .as_object()
                .into_iter()
                .flatten()
                .find(|(key, value)| serde_json::from_value::<T>(json!({key.as_str(): value})).is_err());
            let path = bad.map(|it| it.0.clone()).unwrap_or_default();
            (Err(anyhow::anyhow!("{error}")), path)
        }
    }
}

fn section<'a>(document: &'a mut Json, name: &str) -> &'a mut Map<String, Json> {
    if !document.get(name).is_some_and(Json::is_object) {
        document[name] = json!({});
    }
    match &mut document[name] {
        Json::Object(map) => map,
        _ => unreachable!("it has just been made"),
    }
}

/// Names of services become parts of containers' names and names of hosts.
fn check_service_name(name: &str) -> Result<()> {
    let good = |it: u8| it.is_ascii_alphanumeric() || b"._-".contains(&it);
    if !name.bytes().all(good) || !name.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric()) || name.len() > 63 {
        bail!("services.{name}: a name has letters, digits, '.', '_' and '-', a letter or digit first, 63 at most");
    }
    Ok(())
}

/// Variables of files go under those of the service; a name without a value takes the caller's, or is left out.
fn environment(service: &mut Json, callers: &Variables) -> Result<()> {
    let mut all = Map::new();
    if let Some(Json::Array(files)) = service.as_object_mut().and_then(|it| it.remove("env_file")) {
        for file in files {
            let path = file["path"].as_str().unwrap_or_default().to_owned();
            let raw = match file["format"].as_str() {
                None => false,
                Some("raw") => true,
                Some(other) => bail!("{path}: format {other:?}: raw is known, without it variables are filled in"),
            };
            if !Path::new(&path).exists() && file["required"] == Json::Bool(false) {
                continue;
            }
            let text = bounded(Path::new(&path))?;
            let read = dotenv::parse(&text, raw, &|name| callers.get(name).cloned()).with_context(|| path.clone())?;
            all.extend(read.into_iter().map(|(key, value)| (key, json!(value))));
        }
    }
    if let Some(Json::Object(own)) = service.get("environment") {
        for (key, value) in own {
            match (value, callers.get(key)) {
                (Json::Null, None) => drop(all.remove(key)),
                (Json::Null, Some(value)) => drop(all.insert(key.clone(), json!(value))),
                (value, _) => drop(all.insert(key.clone(), value.clone())),
            }
        }
    }
    if !all.is_empty() {
        service["environment"] = all.into();
    } else if let Some(fields) = service.as_object_mut() {
        fields.remove("environment");
    }
    Ok(())
}

fn labels(service: &mut Json) -> Result<()> {
    let Some(Json::Array(files)) = service.as_object_mut().and_then(|it| it.remove("label_file")) else {
        return Ok(());
    };
    let mut all = Map::new();
    for file in files {
        let path = file.as_str().unwrap_or_default();
        let read = units::lines_of(path).and_then(|it| units::labels(&it)).with_context(|| path.to_owned())?;
        all.extend(read.into_iter().map(|(key, value)| (key, json!(value))));
    }
    if let Some(Json::Object(own)) = service.get("labels") {
        all.extend(own.clone());
    }
    service["labels"] = all.into();
    Ok(())
}

/// Where a part of a service stands, for errors.
pub fn at(tree: &Node, service: &str, field: &str) -> String {
    format!("{}: services.{service}.{field}", place(tree, &["services", service, field]))
}
