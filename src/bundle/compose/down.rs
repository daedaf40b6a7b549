//! Stopping and removing: containers, those that others wait for last, then networks, volumes and images.

use std::collections::BTreeMap;

use anyhow::Result;

use super::board::Board;
use super::found::{self, Found};
use super::model::{Dependency, Project};
use super::plan;
use crate::container::record::Container;
use crate::container::{lifecycle, remove as removal};
use crate::events::{self, Kind};
use crate::monitor::talk;
use crate::network::make;
use crate::tool::Tool;
use crate::volume;

/// Stops containers, all at once. Who is interrupted has stopped some.
pub fn stop(tool: &Tool, containers: &[&Found], how: &talk::Stop, board: &Board) -> Result<()> {
    each(tool, containers, |tool, container| {
        let thing = format!("Container {}", container.name);
        board.begin(&thing, "Stopping");
        lifecycle::stop(tool, container, how)?;
        board.done(&thing, "Stopped");
        Ok(())
    })
}

/// Does something with each container in a thread of its own; the first error is given back, the others are said.
pub fn each(tool: &Tool, containers: &[&Found], act: impl Fn(&Tool, &Container) -> Result<()> + Sync) -> Result<()> {
    let mut failed = None;
    std::thread::scope(|scope| {
        let threads: Vec<_> = containers
            .iter()
            .map(|it| {
                let (own, container, act) = (tool.another(), &it.container, &act);
                scope.spawn(move || act(&own, container))
            })
            .collect();
        for thread in threads {
            if let Err(error) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                && let Some(before) = failed.replace(error)
            {
                crate::complain(&before);
            }
        }
    });
    failed.map_or(Ok(()), Err)
}

/// Stops and removes containers.
pub fn remove(tool: &Tool, containers: &[&Found], timeout: Option<i64>, volumes: bool, board: &Board) -> Result<()> {
    let live: Vec<&Found> = containers.iter().copied().filter(|it| it.state.live()).collect();
    stop(tool, &live, &talk::Stop { signal: None, timeout }, board)?;
    for it in containers {
        let thing = format!("Container {}", it.container.name);
        board.begin(&thing, "Removing");
        removal::remove(tool, &it.container, true, volumes)?;
        board.done(&thing, "Removed");
    }
    Ok(())
}

/// The containers in the order in which they are stopped: nobody before those that wait for him. Each list at once.
pub fn waves(found: &[Found], waits: impl Fn(&Found) -> Vec<String>) -> Vec<Vec<&Found>> {
    let mut left: Vec<&Found> = found.iter().collect();
    let mut waves = Vec::new();
    while !left.is_empty() {
        let needed: Vec<String> = left.iter().flat_map(|it| waits(it)).collect();
        let (mut wave, rest): (Vec<&Found>, Vec<&Found>) = left.iter().partition(|it| !needed.contains(&it.service));
        left = rest;
        if wave.is_empty() {
            // The files have changed meanwhile, and what is there goes in a circle.
            wave = std::mem::take(&mut left);
        }
        waves.push(wave);
    }
    waves
}

/// What a container's service waits for: by the files, or where they have it no more, by its label.
pub fn waits(project: Option<&Project>, found: &Found) -> Vec<String> {
    if let Some(service) = project.and_then(|it| it.parts.services.get(&found.service)) {
        let all: BTreeMap<String, Dependency> = plan::dependencies(service);
        return all.into_keys().collect();
    }
    let label = found::label(&found.container, "com.docker.compose.depends_on").unwrap_or_default();
    label.split(',').filter_map(|it| it.split(':').next()).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// What `down` is asked for.
pub struct Down<'a> {
    /// The project's name.
    pub name: &'a str,
    /// The project, where there are files.
    pub project: Option<&'a Project>,
    /// Only these services; none named: all.
    pub services: &'a [String],
    /// Named and anonymous volumes go too.
    pub volumes: bool,
    /// Containers of services that are gone go too.
    pub remove_orphans: bool,
    /// Seconds that a container has to end in.
    pub timeout: Option<i64>,
}

/// Does it.
pub fn down(tool: &Tool, down: &Down<'_>, board: &Board) -> Result<()> {
    let mut found = found::containers(tool, down.name)?;
    found.retain(|it| {
        let known = down.project.is_none_or(|project| project.parts.services.contains_key(&it.service));
        let asked = down.services.is_empty() || down.services.contains(&it.service);
        asked && (known || down.remove_orphans)
    });
    for wave in waves(&found, |it| waits(down.project, it)) {
        remove(tool, &wave, down.timeout, down.volumes, board)?;
    }
    if !down.services.is_empty() {
        return Ok(());
    }
    let store = tool.store()?;
    for network in found::networks(tool, down.name)? {
        let thing = format!("Network {}", network.name);
        board.begin(&thing, "Removing");
        match make::remove(tool, &network) {
            Ok(()) => {
                let attributes = [("name", network.name.as_str()), ("type", network.settings.driver.word())];
                events::append(store.root(), Kind::Network, "destroy", &network.id, &attributes);
                board.done(&thing, "Removed");
            }
            // Somebody else's containers, or orphans, are in it.
            Err(error) => {
                board.done(&thing, "Still in use");
                board.line(&format!("{error:#}"));
            }
        }
    }
    if down.volumes {
        for it in found::volumes(tool, down.name)? {
            let thing = format!("Volume {}", it.name);
            board.begin(&thing, "Removing");
            match volume::remove(store, &it.name) {
                Ok(_) => {
                    events::append(store.root(), Kind::Volume, "destroy", &it.name, &[]);
                    board.done(&thing, "Removed");
                }
                Err(error) => {
                    board.done(&thing, "Still in use");
                    board.line(&format!("{error:#}"));
                }
            }
        }
    }
    Ok(())
}
