//! `compose ps`, `logs`, `images`, `ls`, `port`, `top` and `events`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{colors, project};
use crate::cli::compose::{Events, Images, Logs, Ls, PortOf, Ps, Services, Which as Flags};
use crate::compose::flags::{ONE_OFF, PROJECT, SERVICE};
use crate::compose::found::{self, Found, label};
use crate::compose::logs::{self, Printer, Style};
use crate::compose::model::Project;
use crate::container::processes::Chosen;
use crate::container::state::now;
use crate::container::watched::watched;
use crate::container::{record, settle, shown, spec, units};
use crate::events::{self, Filters, Query};
use crate::network::shown as ports;
use crate::output;
use crate::tool::Tool;

/// The containers of these services, or of all; a service that is not in the files is an error.
pub fn of_services(tool: &Tool, project: &Project, names: &[String]) -> Result<Vec<Found>> {
    let mut found = found::containers(tool, &project.name)?;
    for name in names {
        if !project.parts.services.contains_key(name) && !found.iter().any(|it| it.service == *name) {
            bail!("no such service: {name}");
        }
    }
    found.retain(|it| names.is_empty() || names.contains(&it.service));
    Ok(found)
}

pub fn ps(tool: &Tool, flags: &Flags, args: &Ps) -> Result<()> {
    let project = project(flags)?;
    let mut found = of_services(tool, &project, &args.names)?;
    found.retain(|it| {
        let state = shown::state(&it.state);
        if args.status.is_empty() { args.all || it.state.live() } else { args.status.iter().any(|it| it == state) }
    });
    found.retain(|it| args.all || !it.one_off || it.state.live());
    if args.quiet {
        return output::print(&found.iter().map(|it| format!("{}\n", it.container.id)).collect::<String>());
    }
    if args.services {
        let mut names: Vec<&String> = found.iter().map(|it| &it.service).collect();
        names.dedup();
        return output::print(&names.iter().map(|it| format!("{it}\n")).collect::<String>());
    }
    const COLUMNS: [(&str, &str); 7] = [
        ("NAME", "Name"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("SERVICE", "Service"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
    ];
    let rows = found.iter().map(|it| row(tool, &project, it)).collect::<Result<Vec<_>>>()?;
    output::rows(args.format.as_deref(), &COLUMNS, &rows)
}

fn row(tool: &Tool, project: &Project, it: &Found) -> Result<Value> {
    let (container, state) = (&it.container, &it.state);
    let settings = &container.settings;
    let words = spec::arguments(&settings.image, settings.flags.entrypoint.as_deref(), &settings.command)?;
    let publishers: Vec<Value> = ports::ports(tool, container)?
        .iter()
        .map(
            |it| json!({"URL": it.host, "TargetPort": it.inside, "PublishedPort": it.outside, "Protocol": it.protocol}),
        )
        .collect();
    Ok(json!({
        "ID": container.id,
        "Name": container.name,
        "Names": container.name,
        "Service": it.service,
        "Project": project.name,
        "Image": container.image_name,
        "Command": shown::command(&words, false),
        "CreatedAt": shown::time(container.created),
        "RunningFor": format!("{} ago", output::age((now() - container.created).max(0) / 1_000_000_000)),
        "State": shown::state(state),
        "Status": shown::status(state, now()),
        "Health": state.health.as_ref().map(|it| it.status.clone()).unwrap_or_default(),
        "ExitCode": state.exit.filter(|_| !state.live()).unwrap_or(0),
        "Ports": super::super::ps::ports(tool, container, state)?,
        "Publishers": publishers,
        "Labels": settings.flags.label.join(","),
    }))
}

pub fn logs(tool: &Tool, flags: &Flags, args: &Logs) -> Result<()> {
    let project = project(flags)?;
    let (since, until) = (args.since.as_deref(), args.until.as_deref());
    let options = super::super::logs::lines(args.follow, args.timestamps, &args.tail, since, until)?;
    let found = of_services(tool, &project, &args.services)?;
    let name = |it: &Found| logs::short_name(&project, &it.container);
    let width = found.iter().map(|it| name(it).len()).max().unwrap_or(0);
    let colors = colors(flags, args.no_color);
    let printer = Printer::new(Style { prefix: !args.no_log_prefix, colors, width });
    if !args.follow {
        for (number, it) in found.iter().enumerate() {
            logs::print(tool, &it.container, &name(it), number, &options, &printer)?;
        }
        return Ok(());
    }
    std::thread::scope(|scope| {
        for (number, it) in found.iter().enumerate() {
            let (own, name, options, printer) = (tool.another(), name(it), &options, &printer);
            scope.spawn(move || {
                if let Err(error) = logs::print(&own, &it.container, &name, number, options, printer) {
                    crate::complain(&error);
                }
            });
        }
    });
    Ok(())
}

pub fn images(tool: &Tool, flags: &Flags, args: &Images) -> Result<()> {
    let project = project(flags)?;
    let found = of_services(tool, &project, &args.services)?;
    let mut rows = Vec::new();
    for it in &found {
        let image = tool.store()?.look_up(&it.image)?;
        let name = it.container.image_name.parse::<crate::image::Reference>().ok();
        let id = it.image.trim_start_matches("sha256:");
        rows.push(json!({
            "ContainerName": it.container.name,
            "Repository": name.as_ref().map(crate::image::Reference::familiar_name).unwrap_or_default(),
            "Tag": name.and_then(|it| it.tag).unwrap_or_else(|| "latest".to_owned()),
            "ID": id.get(..12).unwrap_or(id),
            "Size": image.map(|it| units::human(it.size)).unwrap_or_default(),
        }));
    }
    if args.quiet {
        let mut ids: Vec<&str> = found.iter().map(|it| it.image.trim_start_matches("sha256:")).collect();
        ids.sort_unstable();
        ids.dedup();
        return output::print(&ids.iter().map(|it| format!("{it}\n")).collect::<String>());
    }
    const COLUMNS: [(&str, &str); 5] = [
        ("CONTAINER", "ContainerName"),
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("IMAGE ID", "ID"),
        ("SIZE", "Size"),
    ];
    output::rows(args.format.as_deref(), &COLUMNS, &rows)
}

pub fn ls(tool: &Tool, args: &Ls) -> Result<()> {
    let mut projects: BTreeMap<String, (BTreeMap<&str, u32>, String)> = BTreeMap::new();
    for container in record::all(tool.store()?)? {
        let Some(project) = label(&container, PROJECT).map(str::to_owned) else { continue };
        if label(&container, ONE_OFF) == Some("True") {
            continue;
        }
        let Some(state) = settle::state(tool, &container)? else { continue };
        let files = label(&container, "com.docker.compose.project.config_files").unwrap_or_default().to_owned();
        let entry = projects.entry(project).or_insert_with(|| (BTreeMap::new(), files));
        *entry.0.entry(shown::state(&state)).or_default() += 1;
    }
    projects.retain(|_, it| args.all || it.0.contains_key("running"));
    if args.quiet {
        return output::print(&projects.keys().map(|it| format!("{it}\n")).collect::<String>());
    }
    let row = |(name, (states, files)): (&String, &(BTreeMap<&str, u32>, String))| {
        let states: Vec<String> = states.iter().map(|(state, count)| format!("{state}({count})")).collect();
        json!({"Name": name, "Status": states.join(", "), "ConfigFiles": files})
    };
    let rows: Vec<Value> = projects.iter().map(row).collect();
    const COLUMNS: [(&str, &str); 3] = [("NAME", "Name"), ("STATUS", "Status"), ("CONFIG FILES", "ConfigFiles")];
    output::rows(args.format.as_deref(), &COLUMNS, &rows)
}

/// A service's container by its number.
pub fn one(tool: &Tool, project: &Project, service: &str, index: u32) -> Result<Found> {
    let found = of_services(tool, project, &[service.to_owned()])?;
    let found = found.into_iter().filter(|it| !it.one_off).find(|it| it.number == index);
    found.with_context(|| format!("service {service} has no container {index}: `bundle compose up` makes it"))
}

pub fn port(tool: &Tool, flags: &Flags, args: &PortOf) -> Result<()> {
    if !["tcp", "udp"].contains(&args.protocol.as_str()) {
        bail!("--protocol {:?}: tcp or udp", args.protocol);
    }
    let it = one(tool, &project(flags)?, &args.service, args.index)?;
    let ports = ports::ports(tool, &it.container)?;
    let found: Vec<_> = ports.iter().filter(|it| it.inside == args.port && it.protocol == args.protocol).collect();
    if found.is_empty() {
        bail!("no port {}/{} of container {} is published", args.port, args.protocol, it.container.name);
    }
    output::print(&found.iter().map(|it| format!("{}\n", ports::address(it))).collect::<String>())
}

pub fn top(tool: &Tool, flags: &Flags, args: &Services) -> Result<()> {
    let project = project(flags)?;
    let chosen = Chosen::parse(&[])?;
    let headings = chosen.headings();
    let mut text = String::new();
    for it in of_services(tool, &project, &args.services)?.iter().filter(|it| it.state.live()) {
        for container in watched(tool, std::slice::from_ref(&it.container.id), true)? {
            let Some(pid) = container.pid else { continue };
            let row = |line: Vec<String>| -> Value {
                headings
                    .iter()
                    .zip(line)
                    .map(|(name, text)| ((*name).to_owned(), text.into()))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            };
            let rows: Vec<Value> = chosen.lines(pid, &container.id).into_iter().map(row).collect();
            let columns: Vec<(&str, &str)> = headings.iter().map(|it| (*it, *it)).collect();
            text += &format!("{}\n{}\n", it.container.name, output::rows_text(None, &columns, &rows)?);
        }
    }
    output::print(&text)
}

pub fn events(tool: &Tool, flags: &Flags, args: &Events) -> Result<()> {
    let project = project(flags)?;
    let now = Timestamp::now();
    let moment = |flag: &str, text: &Option<String>| {
        text.as_ref().map(|it| super::super::moment::parse(it, now).with_context(|| flag.to_owned())).transpose()
    };
    let query = Query {
        since: moment("--since", &args.since)?,
        until: moment("--until", &args.until)?,
        filters: Filters::parse(&["type=container".to_owned()])?,
    };
    // A container that is gone is still known by its name.
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    events::read(tool.store()?.root(), &query, &mut |event| {
        let id = event["Actor"]["ID"].as_str().unwrap_or_default().to_owned();
        let name = event["Actor"]["Attributes"]["name"].as_str().unwrap_or_default().to_owned();
        let service = known.entry(id.clone()).or_insert_with(|| service_of(tool, &project, &id, &name)).clone();
        let Some(service) = service else { return Ok(()) };
        if !args.services.is_empty() && !args.services.contains(&service) {
            return Ok(());
        }
        let time = Timestamp::from_nanosecond(event["timeNano"].as_i64().unwrap_or(0).into()).unwrap_or_default();
        let action = event["Action"].as_str().unwrap_or_default();
        let line = if args.json {
            let it = json!({"time": format!("{time:.9}"), "type": "container", "service": service, "id": id, "action": action,
                "attributes": event["Actor"]["Attributes"]});
            format!("{it}\n")
        } else {
            format!("{time:.6} container {action} {id} (name={name}, service={service})\n")
        };
        output::print(&line).map_err(std::io::Error::other)
    })
    .context("reading the events")
}

/// The service of a container, if it is the project's.
fn service_of(tool: &Tool, project: &Project, id: &str, name: &str) -> Option<String> {
    if let Ok(Some(container)) = record::by_id(tool.store().ok()?, id) {
        return (label(&container, PROJECT) == Some(&project.name))
            .then(|| label(&container, SERVICE).unwrap_or_default().to_owned());
    }
    let rest = name.strip_prefix(&project.name)?.strip_prefix('-')?;
    let (service, _) = rest.rsplit_once('-')?;
    project.parts.services.contains_key(service).then(|| service.to_owned())
}
