//! `bundle network create`, `ls`, `inspect`, `rm`, `prune`, `connect`, `disconnect`, `reload`.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::cli::network::{Connect, Create, Disconnect, Inspect, Ls, Network as Command, Prune};
use crate::container::{record, settle};
use crate::events::{self, Kind};
use crate::network::rows::{self, Network};
use crate::network::{guest, live, make, wanted, wide};
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, command: &Command) -> Result<()> {
    if tool.plain_user && !matches!(command, Command::Ls(_) | Command::Inspect(_)) {
        bail!(
            "only root may make devices and rules on the host: a plain user's containers have --network none or host"
        );
    }
    // What is gone is in no network.
    settle::sweep(tool)?;
    match command {
        Command::Create(args) => create(tool, args),
        Command::Ls(args) => list(tool, args),
        Command::Inspect(args) => inspect(tool, args),
        Command::Rm(args) => super::each(&args.networks, |name| remove_one(tool, name, args.force)),
        Command::Prune(args) => prune(tool, args),
        Command::Connect(args) => connect(tool, args),
        Command::Disconnect(args) => disconnect(tool, args),
        Command::Hook(args) => guest::hook(tool, args),
        Command::Reload => live::reload(tool),
    }
}

fn event(tool: &Tool, action: &str, network: &Network, more: &[(&str, &str)]) -> Result<()> {
    let mut attributes = vec![("name", network.name.as_str()), ("type", network.settings.driver.word())];
    attributes.extend_from_slice(more);
    events::append(tool.store()?.root(), Kind::Network, action, &network.id, &attributes);
    Ok(())
}

fn create(tool: &Tool, args: &Create) -> Result<()> {
    wanted::check_network_name(&args.name)?;
    let network = make::create(tool, args)?;
    event(tool, "create", &network, &[])?;
    output::print(&format!("{}\n", network.id))
}

fn list(tool: &Tool, args: &Ls) -> Result<()> {
    let store = tool.store()?;
    let filters = Filters::parse(&args.filter, &["name", "id", "driver", "dangling", "label"])?;
    let mut rows = Vec::new();
    for network in rows::all(store.db())? {
        if filters.fit(tool, &network)? {
            rows.push(row(&network));
        }
    }
    if args.quiet {
        let names: String = rows.iter().filter_map(|it| it["Name"].as_str()).map(|it| format!("{it}\n")).collect();
        return output::print(&names);
    }
    const COLUMNS: [(&str, &str); 4] =
        [("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SUBNETS", "Subnets")];
    output::rows(args.format.as_deref(), &COLUMNS, &rows)
}

fn row(network: &Network) -> Value {
    let settings = &network.settings;
    let labels: Vec<String> = settings.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let subnets: Vec<String> = settings.subnets.iter().map(|it| it.net.to_string()).collect();
    json!({
        "ID": &network.id[..12],
        "Name": network.name,
        "Driver": settings.driver.word(),
        "Subnets": subnets.join(", "),
        "IPv6": settings.has_v6(),
        "Internal": settings.internal,
        "Labels": labels.join(","),
        "CreatedAt": output::time(network.created / 1_000_000_000),
        "Scope": if settings.vxlan.is_some() { "global" } else { "local" },
    })
}

fn inspect(tool: &Tool, args: &Inspect) -> Result<()> {
    let mut documents = Vec::new();
    for name in &args.networks {
        documents.push(document(tool, &rows::find(tool.store()?.db(), name)?)?);
    }
    output::documents(args.format.as_deref(), &documents)
}

/// Docker's names of all that is known of a network.
pub fn document(tool: &Tool, network: &Network) -> Result<Value> {
    let settings = &network.settings;
    let mut containers = Map::new();
    for member in rows::members(tool.store()?.db(), network)? {
        let address = |v6: bool| {
            let found = member.endpoint.addresses.iter().find(|it| it.is_ipv6() == v6);
            let prefix = found.and_then(|it| settings.subnet_of(*it)).map(|it| it.net.prefix_len());
            found.zip(prefix).map(|(address, prefix)| format!("{address}/{prefix}")).unwrap_or_default()
        };
        let shown = json!({
            "Name": member.name,
            "MacAddress": member.endpoint.mac(),
            "IPv4Address": address(false),
            "IPv6Address": address(true),
            "Aliases": member.endpoint.wanted.aliases,
        });
        containers.insert(member.id, shown);
    }
    let config: Vec<Value> = settings
        .subnets
        .iter()
        .map(|it| json!({"Subnet": it.net, "Gateway": it.gateway, "IPRange": it.range, "Reserved": it.reserved}))
        .collect();
    Ok(json!({
        "Id": network.id,
        "Name": network.name,
        "Created": output::time(network.created / 1_000_000_000),
        "Scope": if settings.vxlan.is_some() { "global" } else { "local" },
        "Driver": settings.driver,
        "Device": network.device,
        "EnableIPv6": settings.has_v6(),
        "Subnets": settings.subnets.iter().map(|it| it.net.to_string()).collect::<Vec<_>>().join(", "),
        "IPAM": {"Driver": "default", "Config": config},
        "Internal": settings.internal,
        "Isolate": settings.isolate,
        "Dns": settings.names,
        "Mtu": settings.mtu,
        "Parent": settings.parent,
        "Vxlan": settings.vxlan,
        "Hosts": wide::hosts(network).unwrap_or_default(),
        "Options": settings.options,
        "Labels": settings.labels,
        "Containers": containers,
    }))
}

fn remove_one(tool: &Tool, name: &str, force: bool) -> Result<()> {
    let store = tool.store()?;
    let Some(network) = rows::look_up(store.db(), name)? else {
        if force {
            return Ok(());
        }
        bail!("no such network: {name}");
    };
    if force {
        for member in rows::members(store.db(), &network)? {
            if let Some(container) = record::by_id(store, &member.id)? {
                live::disconnect(tool, &network, &container)?;
            }
        }
    }
    make::remove(tool, &network)?;
    event(tool, "destroy", &network, &[])
}

/// Says what would go, asks, and does it.
fn prune(tool: &Tool, args: &Prune) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let filters = Filters::parse(&args.filter, &["label", "label!"])?;
    let store = tool.store()?;
    let mut found = Vec::new();
    for network in rows::all(store.db())? {
        if rows::members(store.db(), &network)?.is_empty() && filters.fit(tool, &network)? {
            found.push(network);
        }
    }
    if !as_json && (args.dry_run || !args.force && !found.is_empty()) {
        for network in &found {
            eprintln!("network {}", network.name);
        }
        eprintln!("{} networks", found.len());
    }
    let names = |list: &[Network]| list.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    if args.dry_run {
        return if as_json { output::print(&format!("{}\n", json!({"Networks": names(&found)}))) } else { Ok(()) };
    }
    if !args.force && !found.is_empty() && !super::prune::agreed()? {
        return Ok(());
    }
    // A container may have come into one meanwhile: that one stays.
    let mut gone = Vec::new();
    for network in found {
        match make::remove(tool, &network) {
            Ok(()) => {
                event(tool, "destroy", &network, &[])?;
                gone.push(network);
            }
            Err(error) => crate::complain(&error),
        }
    }
    if as_json {
        return output::print(&format!("{}\n", json!({"Networks": names(&gone)})));
    }
    let lines: String = names(&gone).iter().map(|it| format!("{it}\n")).collect();
    output::print(&format!("{lines}Removed {} networks\n", gone.len()))
}

fn connect(tool: &Tool, args: &Connect) -> Result<()> {
    let wanted = wanted::connected(args)?;
    let store = tool.store()?;
    let container = record::find(store, &args.container)?;
    let network =
        if args.network == wanted::USUAL { make::usual(tool)? } else { rows::find(store.db(), &args.network)? };
    live::connect(tool, &network, &container, &wanted)
        .with_context(|| format!("connecting {} to network {}", container.name, network.name))?;
    event(tool, "connect", &network, &[("container", &container.id)])
}

fn disconnect(tool: &Tool, args: &Disconnect) -> Result<()> {
    let store = tool.store()?;
    let network = rows::find(store.db(), &args.network)?;
    let container = record::find(store, &args.container)?;
    if live::disconnect(tool, &network, &container)? {
        return event(tool, "disconnect", &network, &[("container", &container.id)]);
    }
    if !args.force {
        bail!("container {} is not in network {}", container.name, network.name);
    }
    Ok(())
}

/// All kinds have to fit; of one kind, one word of it, but for labels, which all have to.
#[derive(Default)]
struct Filters {
    names: Vec<String>,
    ids: Vec<String>,
    drivers: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<(bool, String, Option<String>)>,
}

impl Filters {
    fn parse(texts: &[String], known: &[&str]) -> Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let (key, value) =
                text.split_once('=').with_context(|| format!("--filter {text:?}: not of the form KEY=VALUE"))?;
            if !known.contains(&key) {
                bail!("--filter {text:?}: known are {}", known.join(", "));
            }
            match key {
                "name" => filters.names.push(value.to_owned()),
                "id" => filters.ids.push(value.to_owned()),
                "driver" if ["bridge", "macvlan", "vxlan"].contains(&value) => filters.drivers.push(value.to_owned()),
                "driver" => bail!("--filter {text:?}: known are bridge, macvlan and vxlan"),
                "dangling" => {
                    filters.dangling = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => bail!("--filter {text:?}: true or false"),
                    });
                }
                _ => {
                    let (label, value) = value.split_once('=').map_or((value, None), |it| (it.0, Some(it.1)));
                    filters.labels.push((key == "label", label.to_owned(), value.map(str::to_owned)));
                }
            }
        }
        Ok(filters)
    }

    fn fit(&self, tool: &Tool, network: &Network) -> Result<bool> {
        let one_of = |list: &[String], fits: &dyn Fn(&str) -> bool| list.is_empty() || list.iter().any(|it| fits(it));
        let labels = &network.settings.labels;
        let dangling = match self.dangling {
            None => true,
            Some(wanted) => rows::members(tool.store()?.db(), network)?.is_empty() == wanted,
        };
        Ok(dangling
            && one_of(&self.names, &|it| network.name.contains(it))
            && one_of(&self.ids, &|it| network.id.starts_with(it))
            && one_of(&self.drivers, &|it| network.settings.driver.word() == it)
            && self.labels.iter().all(|(wanted, key, value)| {
                let has = labels.get(key).is_some_and(|it| value.as_ref().is_none_or(|value| value == it));
                has == *wanted
            }))
    }
}
