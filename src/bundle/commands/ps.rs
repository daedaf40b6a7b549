//! `bundle ps`.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::containers::Ps;
use crate::container::record::{self, Container};
use crate::container::state::{State, now};
use crate::container::{changes, settle, shown, spec, units};
use crate::network::{rows, shown as shown_ports};
use crate::output;
use crate::tool::Tool;

const COLUMNS: [(&str, &str); 7] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

pub fn run(tool: &Tool, args: &Ps) -> Result<()> {
    let store = tool.store()?;
    let filters = args.filter.iter().map(|it| Filter::parse(tool, it)).collect::<Result<Vec<_>>>()?;
    let most = if args.latest { Some(1) } else { args.last };
    // Who asks for a state means those in it, whether they run or not.
    let all =
        args.all || most.is_some() || filters.iter().any(|it| matches!(it, Filter::Status(_) | Filter::Exited(_)));
    let mut rows = Vec::new();
    for container in record::all(store)? {
        let Some(state) = settle::state(tool, &container)? else { continue };
        if (all || state.live()) && Filter::fit(&filters, &container, &state)? {
            rows.push(row(tool, &container, &state, args)?);
        }
        if most.is_some_and(|most| rows.len() >= most) {
            break;
        }
    }
    if args.quiet {
        let ids = rows.iter().filter_map(|it| it["ID"].as_str());
        return output::print(&ids.map(|it| format!("{it}\n")).collect::<String>());
    }
    let mut columns = COLUMNS.to_vec();
    if args.size {
        columns.push(("SIZE", "Size"));
    }
    output::rows(args.format.as_deref(), &columns, &rows)
}

fn row(tool: &Tool, container: &Container, state: &State, args: &Ps) -> Result<Value> {
    let settings = &container.settings;
    let words = spec::arguments(&settings.image, settings.flags.entrypoint.as_deref(), &settings.command)?;
    let labels = spec::labels(&settings.image, &settings.flags)?;
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut row = json!({
        "ID": if args.no_trunc { container.id.as_str() } else { container.short() },
        "Image": container.image_name,
        "Command": shown::command(&words, args.no_trunc),
        "CreatedAt": shown::time(container.created),
        "RunningFor": format!("{} ago", output::age((now() - container.created).max(0) / 1_000_000_000)),
        "State": shown::state(state),
        "Status": shown::status(state, now()),
        "Ports": ports(tool, container, state)?,
        "Names": container.name,
        "Labels": labels.join(","),
        "Networks": settings.flags.network.join(","),
    });
    if args.size {
        let upper = changes::upper(tool, container)?;
        row["Size"] = json!(units::human(crate::store::check::tree_size(upper.as_fd())?));
    }
    Ok(row)
}

/// The column of ports: those that lead to it from the host, and those that it has in its own network.
pub(super) fn ports(tool: &Tool, container: &Container, state: &State) -> Result<String> {
    if !state.live() || !container.settings.flags.network.iter().any(|it| it != "none" && it != "host") {
        return Ok(String::new());
    }
    let settings = &container.settings;
    let mut exposed: Vec<String> = settings.image.exposed_ports.iter().flatten().map(|it| it.0.clone()).collect();
    exposed
        .extend(settings.flags.expose.iter().map(|it| if it.contains('/') { it.clone() } else { format!("{it}/tcp") }));
    Ok(shown_ports::column(&shown_ports::ports(tool, container)?, &exposed))
}

/// What `--filter` asks for. Those of one kind are alternatives, those of different kinds have all to fit.
enum Filter {
    Id(String),
    Name(String),
    Label(String, Option<String>),
    Status(String),
    Exited(i32),
    /// An image: its name or manifest's digest.
    Ancestor(String, Option<String>),
    Before(i64),
    Since(i64),
    Health(String),
    Volume(String),
    /// The ids of those that are in a network.
    Network(Vec<String>),
}

impl Filter {
    fn parse(tool: &Tool, text: &str) -> Result<Self> {
        let (key, value) =
            text.split_once('=').with_context(|| format!("--filter {text:?}: not of the form KEY=VALUE"))?;
        let owned = value.to_owned();
        let created = |name: &str| {
            let other = record::find(tool.store()?, name).with_context(|| format!("--filter {text:?}"))?;
            Ok::<_, anyhow::Error>(other.created)
        };
        let one_of = |known: &[&str]| {
            if !known.contains(&value) {
                bail!("--filter {text:?}: known are {}", known.join(", "));
            }
            Ok(owned.clone())
        };
        Ok(match key {
            "id" => Self::Id(owned),
            "name" => Self::Name(owned.trim_start_matches('/').to_owned()),
            "label" => match value.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(owned, None),
            },
            "status" => Self::Status(one_of(&["created", "starting", "running", "paused", "restarting", "exited"])?),
            "exited" => Self::Exited(
                value.parse().ok().with_context(|| format!("--filter {text:?}: an exit status is a number"))?,
            ),
            "ancestor" => Self::Ancestor(owned, tool.store()?.look_up(value)?.map(|it| it.digest.to_string())),
            "before" => Self::Before(created(value)?),
            "since" => Self::Since(created(value)?),
            "health" => Self::Health(one_of(&["starting", "healthy", "unhealthy", "none"])?),
            "volume" => Self::Volume(owned),
            "network" => {
                let db = tool.store()?.db();
                let network = rows::find(db, value).with_context(|| format!("--filter {text:?}"))?;
                Self::Network(rows::members(db, &network)?.into_iter().map(|it| it.id).collect())
            }
            _ => bail!(
                "--filter {text:?}: known are id, name, label, status, exited, ancestor, before, since, health, volume, network"
            ),
        })
    }

    fn fit(filters: &[Self], container: &Container, state: &State) -> Result<bool> {
        let labels = spec::labels(&container.settings.image, &container.settings.flags)?;
        let one = |filter: &Self| match filter {
            Self::Id(text) => container.id.starts_with(text.as_str()),
            Self::Name(text) => container.name.contains(text.as_str()),
            Self::Label(key, value) => labels.get(key).is_some_and(|it| value.as_ref().is_none_or(|value| value == it)),
            Self::Status(text) => shown::state(state) == text,
            Self::Exited(status) => !state.live() && state.started != 0 && state.exit == Some(*status),
            Self::Ancestor(name, digest) => {
                container.image_name == *name || digest.as_ref().is_some_and(|it| *it == container.image)
            }
            Self::Before(created) => container.created < *created,
            Self::Since(created) => container.created > *created,
            Self::Health(text) => state.health.as_ref().map_or("none", |it| &it.status) == text,
            Self::Volume(text) => container.settings.uses(text),
            Self::Network(ids) => ids.contains(&container.id),
        };
        let kind = std::mem::discriminant::<Self>;
        Ok(filters.iter().all(|filter| {
            // Every label is wanted, of the others of one kind any.
            if matches!(filter, Self::Label(..)) {
                return one(filter);
            }
            filters.iter().filter(|it| kind(it) == kind(filter)).any(one)
        }))
    }
}
