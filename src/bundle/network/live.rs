//! Changes of networks while containers run.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::attach::{self, networks_dir, table};
use super::firewall::{Firewall, Published};
use super::host;
use super::link::Links;
use super::record::{self, Device, Record};
use super::rows::{self, Network};
use super::settings::Driver;
use super::wanted::Wanted;
use super::wide;
use crate::container::record::Container;
use crate::container::spec::{Mode, Modes};
use crate::container::{exec, files, settle};
use crate::tool::Tool;

/// Puts a container into a network; into its namespace too if it runs.
pub fn connect(tool: &Tool, network: &Network, container: &Container, wanted: &Wanted) -> Result<()> {
    let flags = &container.settings.flags;
    if Modes::parse(flags)?.network != Mode::Own || super::wanted::cni(flags).is_some() {
        bail!("its network is {}: there is nothing of its own to connect", flags.network.join(","));
    }
    let store = tool.store()?;
    let running = settle::state(tool, container)?.is_some_and(|it| it.live());
    let leased = wide::lease(tool, network, &container.id, wanted)?;
    let joined = store.write(|db| rows::join(db, network, &container.id, wanted, &leased));
    if joined.is_err() {
        let _ = wide::pay(tool, &container.id);
    }
    joined?;
    if !running {
        return Ok(());
    }
    if let Err(error) = plug(tool, network, container) {
        disconnect(tool, network, container)?;
        return Err(error);
    }
    Ok(())
}

/// The device of a running container whose row is there already.
fn plug(tool: &Tool, network: &Network, container: &Container) -> Result<()> {
    let mut links = Links::here()?;
    host::ensure(&mut links, &mut Firewall::open(&table(tool)?)?, tool, network)?;
    change(tool, container, |record, run_dir, namespace| {
        let endpoints = rows::endpoints(tool.store()?.db(), &container.id)?;
        let endpoint = endpoints.iter().find(|it| it.network.id == network.id).context("it has just been removed")?;
        // Packets for the world go on taking the way that they take.
        let outward = record.devices.iter().all(|it| it.gateways.is_empty()) && !network.settings.internal;
        let device = attach::device(container, endpoint, outward);
        record.devices.push(device.clone());
        record.write(run_dir)?;
        attach::plug_live(record, &mut links, namespace, &device)?;
        if outward { lead_ports(record, run_dir, &device) } else { Ok(()) }
    })
}

/// Takes a container out of a network. Whether it was in it.
pub fn disconnect(tool: &Tool, network: &Network, container: &Container) -> Result<bool> {
    let store = tool.store()?;
    let runs = || Ok::<_, anyhow::Error>(settle::state(tool, container)?.is_some_and(|it| it.live()));
    if runs()? {
        let unplugged = change(tool, container, |record, run_dir, namespace| {
            let Some(at) = record.devices.iter().position(|it| it.network == network.id) else { return Ok(()) };
            let is_here = |it: IpAddr| record.devices[at].entry.addresses.contains(&it);
            if let Some(port) = record.forwarded.iter().find(|it| is_here(it.to.ip())) {
                bail!(
                    "a process forwards {}/{} to its address there: `bundle stop {}` first, and start it again afterwards",
                    port.listen,
                    port.protocol,
                    container.name
                );
            }
            // First of all: the address may be another container's in a moment.
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                record.published.iter().cloned().partition(|it| is_here(it.to.ip()));
            Firewall::open(&record.table)?.withdraw(&here)?;
            record.published = elsewhere;
            record.waiting.extend(here);
            let device = record.devices.remove(at);
            attach::unplug_live(record, &mut Links::here()?, namespace, &device)?;
            if !device.gateways.is_empty() {
                // Another network is the way to the world now.
                let rest = rows::endpoints(store.db(), &container.id)?;
                let mut rest = rest.iter().filter(|it| it.network.id != network.id && !it.network.settings.internal);
                if let Some(next) = rest.next()
                    && let Some(device) = record.devices.iter_mut().find(|it| it.network == next.network.id)
                {
                    device.gateways = next.network.settings.subnets.iter().map(|it| it.gateway).collect();
                    let mut inside = Links::inside(namespace.as_fd())?;
                    device.gateways.iter().try_for_each(|it| inside.default_route(*it))?;
                    let device = device.clone();
                    lead_ports(record, run_dir, &device)?;
                }
            }
            Ok(())
        });
        // Where it has ended meanwhile there is nothing to take it out of.
        if unplugged.is_err() && runs()? {
            unplugged?;
        }
    }
    let was_in = store.write(|db| rows::leave(db, network, &container.id))?;
    wide::pay(tool, &container.id)?;
    Ok(was_in)
}

/// Has the ports that wait for it lead to a container's device.
fn lead_ports(record: &mut Record, run_dir: &Path, to: &Device) -> Result<()> {
    let mut led = Vec::new();
    record.waiting.retain(|port| {
        let address = to.entry.addresses.iter().find(|it| it.is_ipv4() == port.to.is_ipv4());
        led.extend(address.map(|it| {
            let to_port = SocketAddr::new(*it, port.to.port());
            Published { to: to_port, bridge: to.bridge.clone(), ..port.clone() }
        }));
        address.is_none()
    });
    record.published.extend(led.iter().cloned());
    record.write(run_dir)?;
    Firewall::open(&record.table)?.publish(&led)
}

/// Changes what a running container has, and its files.
fn change(
    tool: &Tool,
    container: &Container,
    what: impl FnOnce(&mut Record, &Path, &File) -> Result<()>,
) -> Result<()> {
    let run_dir = container.run_dir(tool);
    let _lock = record::lock(&run_dir)?;
    let mut record = Record::read(&run_dir)?.unwrap_or(Record {
        container: container.id.clone(),
        table: table(tool)?,
        networks: networks_dir(tool),
        ..Record::default()
    });
    if record.ended {
        bail!("container {} has just ended", container.name);
    }
    let pid = exec::pid_of(tool, container)?;
    let namespace = File::open(format!("/proc/{pid}/ns/net")).context("the container's network namespace")?;
    let done = what(&mut record, &run_dir, &namespace);
    record.write(&run_dir)?;
    done?;
    let endpoints = rows::endpoints(tool.store()?.db(), &container.id)?;
    let here: Vec<_> = endpoints
        .into_iter()
        .filter(|it| record.devices.iter().any(|device| device.network == it.network.id))
        .collect();
    let flags = &container.settings.flags;
    files::write(&container.dir(tool)?, flags, container.short(), &attach::site(&here), None).map(drop)
}

/// Gives a container another name in its networks, if it runs.
pub fn rename(tool: &Tool, container: &Container, name: &str) -> Result<()> {
    let run_dir = container.run_dir(tool);
    if !run_dir.exists() {
        return Ok(());
    }
    let _lock = record::lock(&run_dir)?;
    let Some(mut record) = Record::read(&run_dir)?.filter(|it| !it.ended) else { return Ok(()) };
    for device in &mut record.devices {
        for it in device.entry.names.iter_mut().filter(|it| **it == container.name) {
            name.clone_into(it);
        }
    }
    record.write(&run_dir)?;
    attach::announce_again(&record)
}

/// Puts back what somebody has taken away from the host: bridges, rules, name servers.
pub fn reload(tool: &Tool) -> Result<()> {
    let store = tool.store()?;
    let networks = rows::all(store.db())?;
    // Nobody ends meanwhile: what it has taken away would be put back.
    let records = record::all(tool)?;
    let used: Vec<&Network> = networks
        .iter()
        .filter(|it| records.iter().any(|(record, _)| record.devices.iter().any(|d| d.network == it.id)))
        .collect();
    let mut links = Links::here()?;
    let mut firewall = Firewall::open(&table(tool)?)?;
    let published: Vec<_> = records.iter().flat_map(|it| it.0.published.iter().cloned()).collect();
    let rules: Vec<_> =
        used.iter().filter(|it| it.settings.driver != Driver::Macvlan).map(|it| host::rules(it)).collect();
    firewall.reload(&rules, &published)?;
    for network in used {
        host::devices(&mut links, tool, network)?;
    }
    for (record, _) in &records {
        attach::plug_again(record, &mut links)?;
    }
    Ok(())
}
