//! `compose start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm` and `wait`.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::mpsc::channel;

use anyhow::{Context, Result, bail};

use super::lists::of_services;
use super::{board, project};
use crate::cli::compose::{Kill, Restart, Rm, Services, Stop, Wait, Which as Flags};
use crate::compose::board::Board;
use crate::compose::down::{self, each, waits, waves};
use crate::compose::found::Found;
use crate::compose::model::Project;
use crate::compose::plan;
use crate::compose::start::{self as starting, Group};
use crate::container::lifecycle;
use crate::monitor::talk;
use crate::output;
use crate::tool::Tool;

pub fn start(tool: &Tool, flags: &Flags, args: &Services) -> Result<()> {
    let project = project(flags)?;
    let found = of_services(tool, &project, &args.services)?;
    if found.is_empty() {
        bail!("project {} has no containers: `bundle compose up` makes them", project.name);
    }
    start_all(tool, &project, &found, &board(flags))
}

/// Starts those of them that do not run, in order.
fn start_all(tool: &Tool, project: &Project, found: &[Found], board: &Board) -> Result<()> {
    let order = plan::order(&project.parts.services).map_err(|it| it.1)?;
    let groups: Vec<Group> = order
        .into_iter()
        .map(|service| {
            let own: Vec<&Found> = found.iter().filter(|it| it.service == service && !it.one_off).collect();
            Group {
                service,
                containers: own.iter().map(|it| it.container.clone()).collect(),
                to_start: own.iter().filter(|it| !it.state.live()).map(|it| it.container.clone()).collect(),
            }
        })
        .filter(|it| !it.containers.is_empty())
        .collect();
    starting::start(tool, project, &groups, board)
}

pub fn stop(tool: &Tool, flags: &Flags, args: &Stop) -> Result<()> {
    let project = project(flags)?;
    let found = of_services(tool, &project, &args.services)?;
    stop_all(tool, &project, &found, args.timeout, &board(flags))
}

fn stop_all(tool: &Tool, project: &Project, found: &[Found], timeout: Option<i64>, board: &Board) -> Result<()> {
    let how = talk::Stop { signal: None, timeout };
    for mut wave in waves(found, |it| waits(Some(project), it)) {
        wave.retain(|it| it.state.live());
        down::stop(tool, &wave, &how, board)?;
    }
    Ok(())
}

pub fn restart(tool: &Tool, flags: &Flags, args: &Restart) -> Result<()> {
    let project = project(flags)?;
    let mut names: BTreeSet<String> = if args.services.is_empty() {
        project.parts.services.keys().cloned().collect()
    } else {
        args.services.iter().cloned().collect()
    };
    // Those that ask for it are restarted with what they wait for.
    loop {
        let more: Vec<String> = project
            .parts
            .services
            .iter()
            .filter(|it| !args.no_deps && !names.contains(it.0))
            .filter(|it| it.1.depends_on.iter().any(|(other, how)| how.restart && names.contains(other)))
            .map(|it| it.0.clone())
            .collect();
        if more.is_empty() {
            break;
        }
        names.extend(more);
    }
    let names: Vec<String> = names.into_iter().collect();
    if let Some(name) = args.services.iter().find(|it| !project.parts.services.contains_key(*it)) {
        bail!("no such service: {name}");
    }
    let found = of_services(tool, &project, &names)?;
    if found.is_empty() {
        bail!("project {} has no containers: `bundle compose up` makes them", project.name);
    }
    let board = board(flags);
    stop_all(tool, &project, &found, args.timeout, &board)?;
    let found = of_services(tool, &project, &names)?;
    start_all(tool, &project, &found, &board)?;
    for it in found.iter().filter(|it| !it.one_off) {
        lifecycle::event(tool, &it.container, "restart", &[]);
    }
    Ok(())
}

pub fn kill(tool: &Tool, flags: &Flags, args: &Kill) -> Result<()> {
    let signal = lifecycle::signal("--signal", &args.signal)?;
    let project = project(flags)?;
    let mut found = of_services(tool, &project, &args.services)?;
    found.retain(|it| args.remove_orphans || project.parts.services.contains_key(&it.service));
    let board = board(flags);
    let live: Vec<&Found> = found.iter().filter(|it| it.state.live()).collect();
    if live.is_empty() {
        bail!("no container to kill");
    }
    each(tool, &live, |tool, container| {
        let thing = format!("Container {}", container.name);
        board.begin(&thing, "Killing");
        lifecycle::kill(tool, container, signal)?;
        if signal == rustix::process::Signal::KILL.as_raw() {
            lifecycle::wait(tool, container)?;
        }
        board.done(&thing, "Killed");
        Ok(())
    })
}

pub fn pause(tool: &Tool, flags: &Flags, args: &Services, pause: bool) -> Result<()> {
    let project = project(flags)?;
    let found = of_services(tool, &project, &args.services)?;
    let board = board(flags);
    // What is so already is what was asked for.
    let those: Vec<&Found> = found.iter().filter(|it| it.state.live() && it.state.paused != pause).collect();
    let word = if pause { "Paused" } else { "Unpaused" };
    each(tool, &those, |tool, container| {
        lifecycle::pause(tool, container, pause)?;
        board.done(&format!("Container {}", container.name), word);
        Ok(())
    })
}

pub fn rm(tool: &Tool, flags: &Flags, args: &Rm) -> Result<()> {
    let project = project(flags)?;
    let board = board(flags);
    let mut found = of_services(tool, &project, &args.services)?;
    if args.stop {
        stop_all(tool, &project, &found, None, &board)?;
        found = of_services(tool, &project, &args.services)?;
    }
    found.retain(|it| !it.state.live());
    if found.is_empty() {
        board.line("No stopped containers");
        return Ok(());
    }
    if !args.force {
        let names: Vec<&str> = found.iter().map(|it| it.container.name.as_str()).collect();
        eprint!("Going to remove {}. Are you sure? [y/N] ", names.join(", "));
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("reading the answer; -f does not ask")?;
        if !answer.trim().to_lowercase().starts_with('y') {
            return Ok(());
        }
    }
    let those: Vec<&Found> = found.iter().collect();
    down::remove(tool, &those, None, args.volumes, &board)
}

/// Prints the exit statuses; the last one is ours, or with `--down-project` the first one.
pub fn wait(tool: &Tool, flags: &Flags, args: &Wait) -> Result<u8> {
    let project = project(flags)?;
    let found = of_services(tool, &project, &args.services)?;
    if found.is_empty() {
        bail!("services {} have no containers: `bundle compose up` makes them", args.services.join(", "));
    }
    let (sender, ends) = channel();
    for it in &found {
        let (own, container, sender) = (tool.another(), it.container.clone(), sender.clone());
        std::thread::spawn(move || {
            let _ = sender.send((container.name.clone(), lifecycle::wait(&own, &container)));
        });
    }
    drop(sender);
    let mut last = 0;
    for (name, status) in ends {
        last = status?;
        output::print(&format!("container {name:?} exited with status code {last}\n"))?;
        if args.down_project {
            let what = down::Down {
                name: &project.name,
                project: Some(&project),
                services: &[],
                volumes: false,
                remove_orphans: false,
                timeout: None,
            };
            down::down(tool, &what, &board(flags))?;
            break;
        }
    }
    Ok(last as u8)
}
