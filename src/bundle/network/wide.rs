//! Networks across hosts (driver `vxlan`): what the hosts share, in etcd or by hand.
//!
//! An address of such a network is leased in etcd before the container's row says so, and given back after the row is
//! gone. So that a kill in between loses none, the debt is written down first (table `debts`) and struck out with the
//! row, or with the lease's end. What is left of it is paid by a later command.

use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use rusqlite::{Transaction, params};

use super::link::{self, Links};
use super::mac::Mac;
use super::overlay::{self, Agent, Host, Lease, Overlay};
use super::rows::{self, Network};
use super::settings::{Settings, Subnet, Vxlan};
use super::wanted::Wanted;
use crate::store::now;
use crate::tool::Tool;

/// The table. `since` is when it was made or last tried to be paid, in seconds since 1970.
pub const TABLES: &str = "
CREATE TABLE debts(network TEXT NOT NULL REFERENCES networks ON DELETE CASCADE, container TEXT NOT NULL,
    since INTEGER NOT NULL, PRIMARY KEY(network, container)) WITHOUT ROWID;
";

/// How long a debt may be somebody's who is just at work, in seconds.
const YOUNG: i64 = 60;

/// The part of a network's settings that etcd has, if it has any.
fn shared(settings: &Settings) -> Option<&Vxlan> {
    settings.vxlan.as_ref().filter(|it| !it.etcd.is_empty())
}

fn etcd(vxlan: &Vxlan) -> Result<overlay::Settings> {
    let password = |path: &String| {
        let text = std::fs::read_to_string(path).with_context(|| format!("--opt etcd-password-file={path}"))?;
        Ok::<_, anyhow::Error>(text.trim_end_matches('\n').to_owned())
    };
    let user = vxlan.user.clone().zip(vxlan.password_file.as_ref().map(password).transpose()?);
    Ok(overlay::Settings {
        endpoints: vxlan.etcd.clone(),
        authorities: vxlan.ca.iter().map(PathBuf::from).collect(),
        client: vxlan.cert.as_ref().zip(vxlan.key.as_ref()).map(|(cert, key)| (cert.into(), key.into())),
        user,
    })
}

/// What etcd has of a network; `None` where it has nothing to do with it.
fn open(name: &str, settings: &Settings) -> Result<Option<Overlay>> {
    shared(settings).map(|vxlan| Overlay::open(&etcd(vxlan)?, name)).transpose()
}

/// The name of this host among the others: one for the life of a store.
fn host_id(tool: &Tool) -> Result<String> {
    let store = tool.store()?;
    if let Some(id) = store.fact("host")? {
        return Ok(id);
    }
    let id = crate::container::random_id()?[..32].to_owned();
    store.write(|db| {
        db.execute("INSERT OR IGNORE INTO facts VALUES ('host', ?1)", [&id])?;
        Ok(db.query_row("SELECT value FROM facts WHERE key = 'host'", [], |row| row.get(0))?)
    })
}

fn kept(subnet: &Subnet) -> Vec<IpAddr> {
    let (first, last) = match subnet.net {
        IpNet::V4(it) => (IpAddr::V4(it.network()), IpAddr::V4(it.broadcast())),
        IpNet::V6(it) => (IpAddr::V6(it.network()), IpAddr::V6(it.network())),
    };
    subnet.reserved.iter().copied().chain([first, last]).collect()
}

/// Makes such a network known to the others, or joins what they have made. Each host's bridge gets an address of its
/// own, which is the gateway of its containers.
pub fn create(tool: &Tool, name: &str, settings: &mut Settings) -> Result<()> {
    let Some(vxlan) = &mut settings.vxlan else { return Ok(()) };
    if vxlan.local.is_unspecified() {
        vxlan.local = overlay::local_address(&vxlan.etcd).context("--opt local=ADDRESS is needed")?;
    }
    let vxlan = vxlan.clone();
    if settings.mtu.is_none() {
        settings.mtu = Some(underlay_mtu(vxlan.local)?);
    }
    let Some(overlay) = open(name, settings)? else { return Ok(()) };
    let nets: Vec<String> = settings.subnets.iter().map(|it| it.net.to_string()).collect();
    let vni = Some(vxlan.vni).filter(|it| *it != 0);
    let config = overlay.create(&nets, vni, settings.mtu.unwrap_or_default(), vxlan.port)?;
    let host = host_id(tool)?;
    // Of a `create` that was killed.
    let mine: Vec<IpAddr> =
        overlay.mine(&host)?.into_iter().filter(|it| it.1.container.is_empty()).map(|it| it.0).collect();
    let mut mac = None;
    for subnet in &mut settings.subnets {
        let lease = |address: IpAddr| Lease {
            host: host.clone(),
            container: String::new(),
            mac: mac.unwrap_or_else(|| Mac::of(address)).0,
        };
        subnet.gateway = match mine.iter().find(|it| subnet.net.contains(*it)) {
            Some(address) => *address,
            None => overlay.lease(subnet.bounds(), None, &kept(subnet), lease)?,
        };
        mac.get_or_insert(Mac::of(subnet.gateway));
    }
    if let Some(vxlan) = &mut settings.vxlan {
        vxlan.vni = config.vni;
    }
    let addresses = settings.subnets.iter().map(|it| it.gateway).collect();
    let mac = mac.context("a network has a subnet")?.0;
    overlay.join(&host, &Host { underlay: vxlan.local, addresses, mac })
}

fn underlay_mtu(local: IpAddr) -> Result<u32> {
    let mut links = Links::here()?;
    let address = links.addresses(None)?.into_iter().find(|it| it.ip == local);
    let address = address.with_context(|| format!("--opt local={local}: no device of this host has it"))?;
    let link = links.list()?.into_iter().find(|it| it.index == address.index).context("its device is gone")?;
    Ok(overlay::mtu(link.mtu, local))
}

/// Takes this host out of a network, and the network away with its last host.
pub fn leave(tool: &Tool, network: &Network) -> Result<()> {
    let Some(overlay) = open(&network.name, &network.settings)? else { return Ok(()) };
    overlay.leave(&host_id(tool)?)?;
    overlay.remove().map(drop)
}

/// The addresses by which the hosts of a network reach each other.
pub fn hosts(network: &Network) -> Result<Vec<IpAddr>> {
    match open(&network.name, &network.settings)? {
        Some(overlay) => Ok(overlay.hosts()?.into_iter().map(|it| it.1.underlay).collect()),
        None => Ok(network.settings.vxlan.iter().flat_map(|it| it.peers.iter().copied()).collect()),
    }
}

/// Leases an address of each family to a container that is about to be in a network. None where no others share it.
pub fn lease(tool: &Tool, network: &Network, container: &str, wanted: &Wanted) -> Result<Vec<IpAddr>> {
    let Some(overlay) = open(&network.name, &network.settings)? else { return Ok(Vec::new()) };
    tool.store()?.write(|db| owe(db, network, container))?;
    let host = host_id(tool)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for subnet in &network.settings.subnets {
        let wanted_address = wanted.address(subnet.net.addr().is_ipv6());
        if let Some(address) = wanted_address
            && (!subnet.net.contains(&address) || subnet.keeps(address))
        {
            bail!("address {address}: no container's in {}, which network {} has", subnet.net, network.name);
        }
        let first = addresses.first().copied();
        let lease = |address: IpAddr| Lease {
            host: host.clone(),
            container: container.to_owned(),
            mac: wanted.mac.unwrap_or_else(|| Mac::of(first.unwrap_or(address))).0,
        };
        addresses.push(overlay.lease(subnet.bounds(), wanted_address, &kept(subnet), lease)?);
    }
    Ok(addresses)
}

/// Writes down that a container has addresses in the others' eyes which no row says.
pub fn owe(db: &Transaction<'_>, network: &Network, container: &str) -> Result<()> {
    if shared(&network.settings).is_some() {
        let sql = "INSERT OR REPLACE INTO debts VALUES (?1, ?2, ?3)";
        db.prepare_cached(sql)?.execute(params![network.id, container, now()])?;
    }
    Ok(())
}

/// The row says it now.
pub fn owe_no_more(db: &Transaction<'_>, network: &str, container: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM debts WHERE network = ?1 AND container = ?2")?.execute([network, container])?;
    Ok(())
}

/// Gives back what a container that is gone, or is in a network no more, has in etcd.
pub fn pay(tool: &Tool, container: &str) -> Result<()> {
    for (network, owner) in debts(tool)? {
        if owner == container {
            give_back(tool, &network, container)?;
        }
    }
    Ok(())
}

/// The same for all that has been owed for a while. Who cannot be reached is asked again after another while.
pub fn pay_old(tool: &Tool) -> Result<()> {
    let store = tool.store()?;
    let old = now() - YOUNG;
    if !store.db().prepare_cached("SELECT 1 FROM debts WHERE since < ?1")?.exists([old])? {
        return Ok(());
    }
    store.write(|db| Ok(db.execute("UPDATE debts SET since = ?1 WHERE since < ?2", [now(), old])?))?;
    for (network, container) in debts(tool)? {
        if let Err(error) = give_back(tool, &network, &container) {
            crate::complain(&error.context(format!("addresses of container {container}, which is gone")));
            break;
        }
    }
    Ok(())
}

fn debts(tool: &Tool) -> Result<Vec<(Network, String)>> {
    let db = tool.store()?.db();
    let mut statement = db.prepare_cached("SELECT network, container FROM debts")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut debts = Vec::new();
    for (network, container) in rows {
        debts.push((rows::find(db, &network)?, container));
    }
    Ok(debts)
}

fn give_back(tool: &Tool, network: &Network, container: &str) -> Result<()> {
    let store = tool.store()?;
    let here = rows::endpoints(store.db(), container)?.into_iter().find(|it| it.network.id == network.id);
    let kept = here.map(|it| it.addresses).unwrap_or_default();
    if let Some(overlay) = open(&network.name, &network.settings)? {
        let host = host_id(tool)?;
        for (address, lease) in overlay.mine(&host)? {
            if lease.container == container && !kept.contains(&address) {
                overlay.release(address, &host)?;
            }
        }
    }
    store.write(|db| owe_no_more(db, &network.id, container))
}

/// The name of the link to the other hosts.
pub fn device(network: &str) -> String {
    format!("vx-{}", &network[..12])
}

/// The link to the other hosts, in a network's bridge; and what the agent in the network's name server reads.
pub fn ensure(tool: &Tool, links: &mut Links, network: &Network, bridge: u32, dir: &Path) -> Result<()> {
    let Some(vxlan) = &network.settings.vxlan else { return Ok(()) };
    let name = device(&network.id);
    let by_hand = vxlan.etcd.is_empty();
    let made = links.vxlan(&link::Vxlan {
        name: &name,
        vni: vxlan.vni,
        local: vxlan.local,
        port: vxlan.port,
        underlay: 0,
        mtu: network.settings.mtu.context("its MTU was not found out")?,
        learning: by_hand,
        proxy: !by_hand,
        bridge,
    })?;
    if by_hand {
        if made {
            let link = links.find(&name)?.with_context(|| format!("the link {name} is gone"))?;
            overlay::peers(links, link.index, &vxlan.peers)?;
        }
        return Ok(());
    }
    let path = dir.join(overlay::agent::FILE);
    if path.exists() {
        return Ok(());
    }
    let (host, etcd) = (host_id(tool)?, etcd(vxlan)?);
    let agent = Agent { network: network.name.clone(), host, device: name, etcd, life: overlay::LIFE };
    let new = dir.join(".overlay");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        std::io::Write::write_all(&mut file, &serde_json::to_vec(&agent)?)?;
        std::fs::rename(&new, &path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
