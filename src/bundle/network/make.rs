//! Networks that come and go: their rows, checked against the machine.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;

use super::firewall::Firewall;
use super::link::Links;
use super::record::Record;
use super::rows::{self, Network};
use super::settings::{self, Missing, Settings};
use super::wanted::USUAL;
use super::{attach, host, names, proxy, wide};
use crate::cli::network::Create;
use crate::tool::Tool;

/// `network create`.
pub fn create(tool: &Tool, args: &Create) -> Result<Network> {
    let store = tool.store()?;
    let routes = routes(tool)?;
    let mut taken: Vec<IpNet> = routes.iter().map(|it| it.0).collect();
    taken.extend(rows::subnets(store.db())?);
    let mut settings = settings::read(args, &mut |missing| match missing {
        Missing::V4 => settings::free_v4(&taken, false).context("--subnet: none of the private ones is free: name one"),
        Missing::V6 => settings::free_v6(&taken, &mut random),
    })?;
    not_the_hosts(&settings, &routes)?;
    // What is wrong here is found before other hosts hear of it.
    rows::may_be(store.db(), &args.name, &settings)?;
    wide::create(tool, &args.name, &mut settings).with_context(|| format!("network {}", args.name))?;
    let device = usual_device(tool, &args.name)?;
    store.write(|db| rows::create(db, &args.name, device, &settings))
}

/// The network that containers are in where nobody names one.
pub fn usual(tool: &Tool) -> Result<Network> {
    let store = tool.store()?;
    if let Some(network) = rows::look_up(store.db(), USUAL)? {
        return Ok(network);
    }
    let mut taken: Vec<IpNet> = routes(tool)?.iter().map(|it| it.0).collect();
    store.write(|db| {
        // Somebody may have been quicker.
        if let Some(network) = rows::look_up(db, USUAL)? {
            return Ok(network);
        }
        taken.extend(rows::subnets(db)?);
        let subnet = settings::free_v4(&taken, true);
        let subnet = subnet.with_context(|| {
            format!("network {USUAL}: no private subnet is free here: `bundle network create --subnet … {USUAL}`")
        })?;
        rows::create(db, USUAL, usual_device(tool, USUAL)?, &settings::usual(settings::subnet(subnet, None, None)?))
    })
}

/// The device of the usual network has a name that people know; another store on this machine has another one.
fn usual_device(tool: &Tool, name: &str) -> Result<Option<&'static str>> {
    Ok((name == USUAL && attach::table(tool)? == attach::TABLE).then_some("bundle0"))
}

/// Where the host sends packets, and by which device; not by those of our own networks.
fn routes(tool: &Tool) -> Result<Vec<(IpNet, String)>> {
    let own: Vec<String> = rows::all(tool.store()?.db())?.into_iter().map(|it| it.device).collect();
    let mut links = Links::here()?;
    let names = links.list()?;
    let mut routes = Vec::new();
    for route in links.routes()? {
        let name = names.iter().find(|it| Some(it.index) == route.index).map(|it| it.name.clone()).unwrap_or_default();
        // The default route overlaps everything, and link-local addresses are each device's own.
        if let Ok(net) = IpNet::new(route.to.0, route.to.1)
            && net.prefix_len() > 0
            && !own.contains(&name)
        {
            routes.push((net, name));
        }
    }
    Ok(routes)
}

fn not_the_hosts(settings: &Settings, routes: &[(IpNet, String)]) -> Result<()> {
    if let Some(parent) = &settings.parent {
        if Links::here()?.find(parent)?.is_none() {
            bail!("--opt parent={parent}: the host has no such device");
        }
        // A macvlan is in its parent's own subnet.
        return Ok(());
    }
    for subnet in &settings.subnets {
        if let Some((net, device)) = routes.iter().find(|it| settings::overlap(it.0, subnet.net)) {
            bail!("--subnet {}: the host reaches {net} by {device}, which overlaps it", subnet.net);
        }
    }
    Ok(())
}

/// Whether a network's addresses have not become somebody else's since it was made: its devices would take packets
/// from him, or he from them. A wider route is none's loss: the narrower one counts.
pub fn is_still_free(tool: &Tool, settings: &Settings) -> Result<()> {
    let routes = routes(tool)?;
    for subnet in settings.subnets.iter().map(|it| it.net) {
        if let Some((net, device)) = routes.iter().find(|it| subnet.contains(&it.0)) {
            bail!(
                "the host reaches {net} by {device} now, which is within its subnet {subnet}: end that, or make the network anew with another subnet"
            );
        }
    }
    Ok(())
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("random bytes")?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Removes what a killed `network rm` has left on the host and names of containers that are gone, and puts name servers
/// and forwarders back that were killed.
pub fn sweep(tool: &Tool) -> Result<()> {
    let store = tool.store()?;
    let table = attach::table(tool)?;
    for entry in std::fs::read_dir(tool.state_dir()).into_iter().flatten().flatten() {
        let run_dir = entry.path();
        // Another store's may be in another network namespace.
        if proxy::is_killed(&run_dir)?
            && Record::read(&run_dir)?.is_some_and(|it| it.table == table)
            && let Err(error) = attach::forward_again(&run_dir)
        {
            crate::complain(&error.context("published ports that a process forwards"));
        }
    }
    let dir = attach::networks_dir(tool);
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let Some(config) = host::Config::read(&entry.path())? else { continue };
        // Other stores have their networks here too.
        if config.store != store.root() {
            continue;
        }
        if rows::look_up(store.db(), &config.id)?.is_some() {
            remove_strays(tool, &config.id, &entry.path())?;
            if let Err(error) = names::restart_if_dead(&entry.path()) {
                crate::complain(&error.context(format!("the names of network {}", config.name)));
            }
        } else {
            let mut firewall = Firewall::open(&table)?;
            host::remove(&mut Links::here()?, &mut firewall, &dir, &config.id, &config.bridge)
                .with_context(|| format!("what is left of network {}", config.name))?;
        }
    }
    Ok(())
}

/// Removes the names of those who have no row in a network: it is there before the name, and goes after it.
fn remove_strays(tool: &Tool, network: &str, dir: &Path) -> Result<()> {
    let store = tool.store()?;
    let dir = dir.join(names::HERE);
    let names: Vec<String> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    // Names before rows.
    for name in names {
        if !rows::is_in(store.db(), network, &name)? {
            // Nobody comes in meanwhile.
            store.write(|db| {
                if !rows::is_in(db, network, &name)? {
                    let _ = std::fs::remove_file(dir.join(&name));
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Removes a network that no container is in: its row, then what it has on the host. A kill between the two leaves what
/// the next sweep takes away.
pub fn remove(tool: &Tool, network: &Network) -> Result<()> {
    let store = tool.store()?;
    rows::unused(store.db(), network)?;
    wide::leave(tool, network).with_context(|| format!("network {}: telling the other hosts", network.name))?;
    store.write(|db| rows::remove(db, network))?;
    let mut firewall = Firewall::open(&attach::table(tool)?)?;
    host::remove(&mut Links::here()?, &mut firewall, &attach::networks_dir(tool), &network.id, &network.device)
        .with_context(|| format!("network {}", network.name))
}
