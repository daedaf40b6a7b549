//! `compose up` and `compose create`: from what is there to what the files say, with as little change as can be.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::board::Board;
use super::create::{self, Asked, Images, One};
use super::found::{self, Found};
use super::model::Project;
use super::start::{self, Group};
use super::{contents, down, flags, plan, site};
use crate::container::record::Container;
use crate::container::settle;
use crate::monitor::talk;
use crate::tool::Tool;

/// When containers that are there are made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recreate {
    /// When their service or image has changed.
    Changed,
    /// All.
    Always,
    /// None.
    Never,
}

/// What is asked for.
pub struct Up<'a> {
    /// The project.
    pub project: &'a Project,
    /// The services, with those that they wait for.
    pub services: BTreeSet<String>,
    /// Those of them that were asked for.
    pub named: BTreeSet<String>,
    /// Their images.
    pub images: Images,
    /// How many containers a service has.
    pub scale: BTreeMap<String, u32>,
    /// When those that were asked for are made anew.
    pub recreate: Recreate,
    /// When those that they wait for are.
    pub recreate_others: Recreate,
    /// Anonymous volumes are not kept.
    pub renew_volumes: bool,
    /// Containers of services that are gone go too.
    pub remove_orphans: bool,
    /// Start them.
    pub start: bool,
    /// Seconds that a container has to end in.
    pub timeout: Option<i64>,
}

/// What becomes of one container.
struct Step<'a> {
    asked: &'a Asked,
    number: u32,
    old: Option<&'a Found>,
}

/// Does it. All services are read before anything is changed. The containers of the services, in order.
pub fn up(tool: &Tool, up: &Up<'_>, board: &Board) -> Result<Vec<Group>> {
    let project = up.project;
    let order = plan::order(&project.parts.services).map_err(|it| it.1)?;
    let order: Vec<&String> = order.iter().filter(|it| up.services.contains(*it)).collect();
    let mut all_asked = BTreeMap::new();
    for name in &order {
        all_asked.insert((*name).clone(), create::read(tool, project, name, &up.images, &[], &|_| {})?);
    }
    settle::sweep(tool)?;
    for asked in all_asked.values() {
        crate::transfer::unpacked(tool, &asked.image)?;
    }
    let found = found::containers(tool, &project.name)?;
    site::ensure(tool, project, &up.services, board)?;
    let orphans: Vec<&Found> =
        found.iter().filter(|it| !it.one_off && !project.parts.services.contains_key(&it.service)).collect();
    if up.remove_orphans {
        down::remove(tool, &orphans, up.timeout, false, board)?;
    } else if !orphans.is_empty() {
        let names: Vec<&str> = orphans.iter().map(|it| it.container.name.as_str()).collect();
        board.line(&format!(
            "containers of services that are not in the files any more: {}; --remove-orphans removes them",
            names.join(", ")
        ));
    }

    let mut groups: BTreeMap<&String, Vec<Container>> = BTreeMap::new();
    let mut steps = Vec::new();
    let mut surplus = Vec::new();
    let mut anew: BTreeSet<&String> = BTreeSet::new();
    for name in &order {
        let asked = &all_asked[*name];
        let scale = up.scale.get(*name).copied().unwrap_or_else(|| project.parts.services[*name].scale());
        let own: Vec<&Found> = found.iter().filter(|it| !it.one_off && it.service == **name).collect();
        let recreate = if up.named.contains(*name) { up.recreate } else { up.recreate_others };
        // Whose namespaces it has is another one now.
        let joined = needs_namespaces_of(project, name).into_iter().any(|it| anew.contains(&it));
        let (kept, too_many) = own.split_at(own.len().min(scale as usize));
        surplus.extend_from_slice(too_many);
        for found in kept {
            let changed = found.hash != asked.hash || found.container.image != asked.image.digest.as_str();
            if recreate == Recreate::Always || (recreate == Recreate::Changed && (changed || joined)) {
                anew.insert(*name);
                steps.push(Step { asked, number: found.number, old: Some(found) });
            } else {
                groups.entry(*name).or_default().push(found.container.clone());
            }
        }
        let mut numbers = (1..).filter(|number| kept.iter().all(|it| it.number != *number));
        for number in numbers.by_ref().take(scale as usize - kept.len()) {
            steps.push(Step { asked, number, old: None });
        }
    }

    down::remove(tool, &surplus, up.timeout, false, board)?;
    let how = talk::Stop { signal: None, timeout: up.timeout };
    let mut ending: Vec<&Found> = steps.iter().filter_map(|it| it.old).filter(|it| it.state.live()).collect();
    // Those that are to be restarted with what they wait for.
    ending.extend(found.iter().filter(|it| it.state.live() && restarts_with(project, &it.service, &anew)));
    ending.dedup_by_key(|it| it.container.id.clone());
    down::stop(tool, &ending, &how, board)?;
    let mut started_anew = BTreeSet::new();
    for step in &steps {
        let name = flags::container_name(project, &step.asked.name, step.number);
        let thing = format!("Container {name}");
        board.begin(&thing, if step.old.is_some() { "Recreating" } else { "Creating" });
        let one = One {
            container_name: &name,
            number: step.number,
            by_run: false,
            remove: false,
            replaces: step.old,
            renew_volumes: up.renew_volumes,
            attached: false,
            command: &[],
        };
        let (container, _lock) = create::make(tool, project, step.asked, &one)?;
        board.done(&thing, if step.old.is_some() { "Recreated" } else { "Created" });
        started_anew.insert(container.id.clone());
        groups.entry(&step.asked.name).or_default().push(container);
    }

    let runs = |it: &Container| {
        let before = found.iter().find(|found| found.container.id == it.id);
        before.is_some_and(|it| it.state.live()) && !ending.iter().any(|found| found.container.id == it.id)
    };
    let groups: Vec<Group> = order
        .iter()
        .map(|name| {
            let containers = groups.remove(name).unwrap_or_default();
            let to_start = containers.iter().filter(|it| !runs(it)).cloned().collect();
            Group { service: (*name).clone(), containers, to_start }
        })
        .collect();
    if up.start {
        for container in groups.iter().flat_map(|it| &it.containers).filter(|it| runs(it)) {
            board.done(&format!("Container {}", container.name), "Running");
        }
        start::start(tool, project, &groups, board)?;
    }
    Ok(groups)
}

/// Waits for what a service waits for, as a start of it would: of the containers that are there.
pub fn wait_for(tool: &Tool, project: &Project, name: &str, groups: &[Group], board: &Board) -> Result<()> {
    for (other, how) in project.parts.services.get(name).map(plan::dependencies).unwrap_or_default() {
        let Some(group) = groups.iter().find(|it| it.service == other) else { continue };
        match start::until(tool, &group.containers, how.condition, board) {
            Err(error) if how.required != Some(false) => {
                return Err(error.context(format!("service {name} waits for {other}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The fingerprint that a service's containers have to have: see [`plan::hash`].
pub fn hash(project: &Project, name: &str) -> Result<String> {
    let service = project.parts.services.get(name).with_context(|| format!("no such service: {name}"))?;
    Ok(plan::hash(project, name, &contents::fingerprints(&contents::given(project, service)?)))
}

/// The services whose namespaces a service is in.
fn needs_namespaces_of<'a>(project: &'a Project, name: &str) -> Vec<&'a String> {
    let Some(service) = project.parts.services.get(name) else { return Vec::new() };
    let modes = [&service.network_mode, &service.ipc, &service.pid];
    let names = modes.into_iter().filter_map(|it| it.as_deref()?.strip_prefix("service:"));
    names.filter_map(|it| project.parts.services.get_key_value(it)).map(|it| it.0).collect()
}

/// Whether a service asks to be restarted when one that it waits for is made anew.
fn restarts_with(project: &Project, name: &str, anew: &BTreeSet<&String>) -> bool {
    let Some(service) = project.parts.services.get(name) else { return false };
    service.depends_on.iter().any(|(other, how)| how.restart && anew.contains(other))
}
