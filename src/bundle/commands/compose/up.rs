//! `compose up`, `create` and `down`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::images::{self, How};
use super::{board, colors, options, project};
use crate::cli::compose::{Create, Down, Making, Rmi, Up, Which as Flags};
use crate::compose::board::Board;
use crate::compose::down;
use crate::compose::follow::{self, Follow};
use crate::compose::found;
use crate::compose::load::load;
use crate::compose::model::Project;
use crate::compose::start::{self, Group};
use crate::compose::up::{self as making, Recreate};
use crate::compose::{create as created, plan};
use crate::tool::Tool;

/// The exit status: of the container that was asked for, 130 where we were interrupted.
pub fn up(tool: &Tool, flags: &Flags, args: &Up) -> Result<u8> {
    let project = project(flags)?;
    for name in args.attach.iter().chain(&args.no_attach).chain(&args.exit_code_from) {
        if !project.parts.services.contains_key(name) {
            bail!("no such service: {name}");
        }
    }
    let board = board(flags);
    let asked = Asked {
        making: &args.making,
        services: &args.services,
        alone: args.no_deps,
        recreate_others: args.always_recreate_deps,
        renew_volumes: args.renew_anon_volumes,
        start: !args.no_start,
        timeout: args.timeout,
    };
    let groups = converge(tool, &project, &asked, &board)?;
    if args.wait && !args.no_start {
        let end = args.wait_timeout.map(|it| Instant::now() + Duration::from_secs(it));
        for container in groups.iter().flat_map(|it| &it.containers) {
            start::up(tool, container, end)?;
        }
    }
    if args.detach || args.wait || args.no_start {
        return Ok(0);
    }
    let shown = |name: &str| {
        let wanted = project.parts.services.get(name).is_none_or(|it| it.attach != Some(false));
        let named = args.attach.is_empty() || args.attach.iter().any(|it| it == name);
        (wanted || !args.attach.is_empty()) && named && !args.no_attach.iter().any(|it| it == name)
    };
    let follow = Follow {
        project: &project,
        groups: &groups,
        shown: &shown,
        prefix: !args.no_log_prefix,
        colors: colors(flags, args.no_color),
        timestamps: args.timestamps,
        ends_with_one: args.abort_on_container_exit || args.exit_code_from.is_some(),
        ends_with_failure: args.abort_on_container_failure,
        status_of: args.exit_code_from.as_deref(),
        timeout: args.timeout,
    };
    follow::follow(tool, &follow, &board)
}

pub fn create(tool: &Tool, flags: &Flags, args: &Create) -> Result<()> {
    let project = project(flags)?;
    let asked = Asked {
        making: &args.making,
        services: &args.services,
        alone: false,
        recreate_others: false,
        renew_volumes: false,
        start: false,
        timeout: None,
    };
    converge(tool, &project, &asked, &board(flags)).map(drop)
}

struct Asked<'a> {
    making: &'a Making,
    services: &'a [String],
    alone: bool,
    recreate_others: bool,
    renew_volumes: bool,
    start: bool,
    timeout: Option<i64>,
}

fn converge(tool: &Tool, project: &Project, asked: &Asked<'_>, board: &Board) -> Result<Vec<Group>> {
    let scale = scale(project, &asked.making.scale)?;
    let services = plan::chosen(project, asked.services, asked.alone)?;
    let named: BTreeSet<String> =
        if asked.services.is_empty() { services.clone() } else { asked.services.iter().cloned().collect() };
    let recreate = match (asked.making.force_recreate, asked.making.no_recreate) {
        (true, _) => Recreate::Always,
        (_, true) => Recreate::Never,
        _ => Recreate::Changed,
    };
    let recreate_others = match recreate {
        Recreate::Always if !asked.recreate_others => Recreate::Changed,
        other => other,
    };
    let images = images::ensure(tool, project, &services, &How::of(asked.making))?;
    let up = making::Up {
        project,
        services,
        named,
        images,
        scale,
        recreate,
        recreate_others,
        renew_volumes: asked.renew_volumes,
        remove_orphans: asked.making.remove_orphans || is_set(project, "COMPOSE_REMOVE_ORPHANS"),
        start: asked.start,
        timeout: asked.timeout,
    };
    making::up(tool, &up, board)
}

fn is_set(project: &Project, name: &str) -> bool {
    project.environment.get(name).is_some_and(|it| matches!(it.as_str(), "1" | "true"))
}

/// `--scale SERVICE=NUMBER`.
fn scale(project: &Project, list: &[String]) -> Result<BTreeMap<String, u32>> {
    let mut scale = BTreeMap::new();
    for text in list {
        let wrong = || format!("--scale {text:?}: SERVICE=NUMBER is wanted");
        let (name, number) = text.split_once('=').with_context(wrong)?;
        let number: u32 = number.parse().ok().with_context(wrong)?;
        let Some(service) = project.parts.services.get(name) else { bail!("--scale {text:?}: no such service") };
        if service.container_name.is_some() && number > 1 {
            bail!("--scale {text:?}: the service names its container, and several cannot have one name");
        }
        scale.insert(name.to_owned(), number);
    }
    Ok(scale)
}

pub fn down(tool: &Tool, flags: &Flags, args: &Down) -> Result<()> {
    // A project that is known by its name can be removed where its files are not.
    let (name, project) = match (load(&options(flags)), &flags.project_name) {
        (Ok(project), _) => (project.name.clone(), Some(project)),
        (Err(_), Some(name)) if flags.file.is_empty() => (name.clone(), None),
        (Err(error), _) => return Err(error),
    };
    if let Some(project) = &project
        && !args.services.is_empty()
    {
        plan::chosen(project, &args.services, true)?;
    }
    let found = found::containers(tool, &name)?;
    let what = down::Down {
        name: &name,
        project: project.as_ref(),
        services: &args.services,
        volumes: args.volumes,
        remove_orphans: args.remove_orphans,
        timeout: args.timeout,
    };
    let board = board(flags);
    down::down(tool, &what, &board)?;
    let Some(which) = args.rmi else { return Ok(()) };
    let mut names = BTreeSet::new();
    for it in &found {
        let service = project.as_ref().and_then(|project| project.parts.services.get(&it.service));
        let named = service.is_some_and(|it| it.image.is_some());
        if (args.services.is_empty() || args.services.contains(&it.service)) && (which == Rmi::All || !named) {
            names.insert(it.container.image_name.clone());
        }
    }
    if let Some(project) = &project {
        for (name, service) in &project.parts.services {
            if service.image.is_none() && (args.services.is_empty() || args.services.contains(name)) {
                names.insert(created::built_name(project, name));
            }
        }
    }
    for name in names {
        if tool.store()?.look_up(&name)?.is_none() {
            continue;
        }
        let thing = format!("Image {name}");
        board.begin(&thing, "Removing");
        match super::super::rmi::silently(tool, &name) {
            Ok(()) => board.done(&thing, "Removed"),
            Err(error) => {
                board.done(&thing, "Still in use");
                board.line(&format!("{error:#}"));
            }
        }
    }
    Ok(())
}
