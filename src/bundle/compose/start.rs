//! Starting containers: each service in a thread of its own, which first waits for what the service waits for. A
//! container is started by a process of its own, since each has its root in a mount namespace of its own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::board::Board;
use super::model::Project;
use super::model::{Condition, Dependency};
use super::plan;
use crate::container::record::Container;
use crate::container::state::{State, Status};
use crate::container::{lifecycle, settle};
use crate::tool::Tool;

/// A service's containers, and which of them are to be started.
pub struct Group {
    /// The service.
    pub service: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Those of them that do not run yet.
    pub to_start: Vec<Container>,
}

/// How often a container is looked at that is waited for.
const GLANCE: Duration = Duration::from_millis(10);

/// What has become of the services.
#[derive(Default)]
struct Fates {
    /// Started, or why not.
    known: Mutex<HashMap<String, Result<(), String>>>,
    changed: Condvar,
}

/// Starts all, those that wait for nothing first. The first error is what the others wait for in vain.
pub fn start(tool: &Tool, project: &Project, groups: &[Group], board: &Board) -> Result<()> {
    let fates = Fates::default();
    let root = tool.store()?.root().to_owned();
    let containers: BTreeMap<&str, &[Container]> =
        groups.iter().map(|it| (it.service.as_str(), it.containers.as_slice())).collect();
    let mut errors: Vec<anyhow::Error> = Vec::new();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for group in groups {
            let (fates, root, containers) = (&fates, &root, &containers);
            let own = tool.another();
            threads.push(scope.spawn(move || {
                let done = one(&own, project, root, group, containers, fates, board);
                let fate = done.as_ref().copied().map_err(|error| format!("{error:#}"));
                fates.known.lock().unwrap_or_else(PoisonError::into_inner).insert(group.service.clone(), fate);
                fates.changed.notify_all();
                done
            }));
        }
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => errors.push(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    // Who waited in vain says so, but the cause is what is asked for.
    errors.sort_by_key(|it| it.downcast_ref::<InVain>().is_some());
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    errors.filter(|it| it.downcast_ref::<InVain>().is_none()).for_each(|it| crate::complain(&it));
    Err(first)
}

/// A service was not started, since another one was not.
#[derive(Debug)]
struct InVain(String);

impl std::fmt::Display for InVain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InVain {}

fn one(
    tool: &Tool,
    project: &Project,
    root: &Path,
    group: &Group,
    containers: &BTreeMap<&str, &[Container]>,
    fates: &Fates,
    board: &Board,
) -> Result<()> {
    let service = project.parts.services.get(&group.service);
    if !group.to_start.is_empty() {
        for (other, how) in service.map(plan::dependencies).unwrap_or_default() {
            // What is not part of this command is not waited for.
            let Some(of) = containers.get(other.as_str()) else { continue };
            fates.wait(&group.service, &other, &how)?;
            if let Err(error) = until(tool, of, how.condition, board) {
                if how.required == Some(false) {
                    board.line(&format!("service {} goes on without {other}: {error:#}", group.service));
                    continue;
                }
                return Err(error.context(format!("service {} waits for {other}", group.service)));
            }
        }
    }
    std::thread::scope(|scope| {
        let start = |container: &Container| {
            let thing = format!("Container {}", container.name);
            board.begin(&thing, "Starting");
            settle::start_child(root, &container.id).with_context(|| format!("service {}", group.service))?;
            board.done(&thing, "Started");
            Ok(())
        };
        let Some((first, others)) = group.to_start.split_first() else { return Ok(()) };
        let threads: Vec<_> = others.iter().map(|it| scope.spawn(move || start(it))).collect();
        let mut result = start(first);
        for thread in threads {
            let done = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(done);
        }
        result
    })
}

impl Fates {
    /// Waits until another service is started.
    fn wait(&self, service: &str, other: &str, how: &Dependency) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match known.get(other) {
                Some(Ok(())) => return Ok(()),
                Some(Err(_)) if how.required == Some(false) => return Ok(()),
                Some(Err(why)) => {
                    return Err(InVain(format!("service {service} is not started, since {other} is not: {why}")).into());
                }
                None => known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Waits until containers are what a condition asks for.
pub fn until(tool: &Tool, containers: &[Container], condition: Condition, board: &Board) -> Result<()> {
    for container in containers {
        let thing = format!("Container {}", container.name);
        match condition {
            Condition::Started => {}
            Condition::Healthy => {
                board.begin(&thing, "Waiting");
                healthy(tool, container, None)?;
                board.done(&thing, "Healthy");
            }
            Condition::Completed => {
                board.begin(&thing, "Waiting");
                let status = lifecycle::wait(tool, container)?;
                if status != 0 {
                    bail!("container {} has ended with status {status}: `bundle logs {0}` says more", container.name);
                }
                board.done(&thing, "Exited");
            }
        }
    }
    Ok(())
}

/// Waits until a container's check has succeeded, up to a moment if one is given.
pub fn healthy(tool: &Tool, container: &Container, end: Option<Instant>) -> Result<()> {
    loop {
        let state = settle::state(tool, container)?.unwrap_or_default();
        match (&state.status, state.health.as_ref().map(|it| it.status.as_str())) {
            (Status::Running, Some("healthy")) => return Ok(()),
            (Status::Running, Some("unhealthy")) => {
                bail!("container {} is unhealthy: `bundle inspect --why {0}` says more", container.name)
            }
            (Status::Running, None) => {
                bail!("container {} has no health check, so it is never healthy: give it one", container.name)
            }
            (Status::Exited, _) => bail!(
                "container {} has ended with status {}: `bundle logs {0}` says more",
                container.name,
                state.exit.unwrap_or(0)
            ),
            (Status::Created, _) if state.error.is_some() => bail!("container {} could not be started", container.name),
            _ => {}
        }
        if end.is_some_and(|end| Instant::now() > end) {
            bail!("container {} is not healthy yet, and the time is over", container.name);
        }
        std::thread::sleep(GLANCE);
    }
}

/// Waits until a container runs, and is healthy where it has a check.
pub fn up(tool: &Tool, container: &Container, end: Option<Instant>) -> Result<()> {
    let state: State = settle::state(tool, container)?.unwrap_or_default();
    if state.health.is_some() {
        return healthy(tool, container, end);
    }
    match state.status {
        Status::Exited if state.exit != Some(0) => bail!(
            "container {} has ended with status {}: `bundle logs {0}` says more",
            container.name,
            state.exit.unwrap_or(0)
        ),
        _ => Ok(()),
    }
}
