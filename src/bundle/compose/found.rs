//! What of a project is there: its containers, networks and volumes, known by their labels.

use anyhow::Result;

use super::flags::{HASH, IMAGE, NUMBER, ONE_OFF, PROJECT, SERVICE};
use crate::container::record::{self, Container};
use crate::container::settle;
use crate::container::state::State;
use crate::network::rows::{self, Network};
use crate::tool::Tool;
use crate::volume::{self, Volume};

/// A container of a project.
pub struct Found {
    /// The container.
    pub container: Container,
    /// Its service.
    pub service: String,
    /// Its number among the service's, from 1.
    pub number: u32,
    /// Made by `run`.
    pub one_off: bool,
    /// The fingerprint of what it was made of.
    pub hash: String,
    /// The id of the image that it was made of.
    pub image: String,
    /// What it is doing.
    pub state: State,
}

/// A label's value.
pub fn label<'a>(container: &'a Container, key: &str) -> Option<&'a str> {
    container.settings.flags.label.iter().find_map(|it| it.strip_prefix(key)?.strip_prefix('='))
}

/// The containers of a project, by service and number.
pub fn containers(tool: &Tool, project: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for container in record::all(tool.store()?)? {
        if label(&container, PROJECT) != Some(project) {
            continue;
        }
        let Some(state) = settle::state(tool, &container)? else { continue };
        let text = |key: &str| label(&container, key).unwrap_or_default().to_owned();
        found.push(Found {
            service: text(SERVICE),
            number: text(NUMBER).parse().unwrap_or(0),
            one_off: text(ONE_OFF) == "True",
            hash: text(HASH),
            image: text(IMAGE),
            state,
            container,
        });
    }
    found.sort_by(|a, b| (&a.service, a.one_off, a.number).cmp(&(&b.service, b.one_off, b.number)));
    Ok(found)
}

/// The networks that were made for a project.
pub fn networks(tool: &Tool, project: &str) -> Result<Vec<Network>> {
    let mut all = rows::all(tool.store()?.db())?;
    all.retain(|it| it.settings.labels.get(PROJECT).is_some_and(|it| it == project));
    Ok(all)
}

/// The volumes that were made for a project.
pub fn volumes(tool: &Tool, project: &str) -> Result<Vec<Volume>> {
    let mut all = volume::all(tool.store()?.db())?;
    all.retain(|it| it.labels.get(PROJECT).is_some_and(|it| it == project));
    Ok(all)
}
