//! Which networks there are and which containers are in them: the database's part.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::leases;
use super::mac::Mac;
use super::settings::{self, Settings};
use super::wanted::Wanted;
use super::wide;

/// The tables, before those of [`leases`].
pub const TABLES: &str = "
-- `device` is its bridge on the host, or what else stands for it there; `created` nanoseconds since 1970; `settings`
-- JSON.
CREATE TABLE networks(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, device TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL, settings TEXT NOT NULL) WITHOUT ROWID;
-- Who is in which: a container of ours, or a guest, which another runtime has. `position` is the number of the
-- container's device; `settings` JSON.
CREATE TABLE endpoints(container TEXT NOT NULL, network TEXT NOT NULL REFERENCES networks,
    position INTEGER NOT NULL, settings TEXT NOT NULL, PRIMARY KEY(container, network), UNIQUE(container, position)) WITHOUT ROWID;
CREATE INDEX endpoints_network ON endpoints(network);
CREATE TRIGGER containers_leave AFTER DELETE ON containers BEGIN
    DELETE FROM endpoints WHERE container = OLD.id;
END;
";

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its bridge, or what else stands for it on the host.
    pub device: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// How it was asked for.
    pub settings: Settings,
}

/// A container's part in a network.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The network.
    pub network: Network,
    /// The number of its device: `eth0`, `eth1`, ...
    pub position: u32,
    /// What was asked for.
    pub wanted: Wanted,
    /// Its addresses, at most one of each family, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

impl Endpoint {
    /// Its Ethernet address.
    pub fn mac(&self) -> Mac {
        self.wanted.mac.unwrap_or_else(|| self.addresses.first().map_or(Mac([2, 0, 0, 0, 0, 1]), |it| Mac::of(*it)))
    }
}

const COLUMNS: &str = "networks.id, networks.name, device, networks.created, networks.settings";

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn network(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network {
        id: row.get(0)?,
        name: row.get(1)?,
        device: row.get(2)?,
        created: row.get(3)?,
        settings: json(row, 4)?,
    })
}

/// All, by name.
pub fn all(db: &Connection) -> Result<Vec<Network>> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM networks ORDER BY name"))?;
    let rows = statement.query_map([], network)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A network by its name or the beginning of its id.
pub fn look_up(db: &Connection, text: &str) -> Result<Option<Network>> {
    let sql = format!("SELECT {COLUMNS} FROM networks WHERE name = ?1");
    if let Some(found) = db.prepare_cached(&sql)?.query_row([text], network).optional()? {
        return Ok(Some(found));
    }
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM networks WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
    let mut statement = db.prepare_cached(&sql)?;
    let mut found = statement.query_map([text], network)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if found.len() > 1 {
        bail!("{text:?} is the beginning of several networks' ids: give more digits");
    }
    Ok(found.pop())
}

/// The same; an error where there is none.
pub fn find(db: &Connection, text: &str) -> Result<Network> {
    look_up(db, text)?.with_context(|| {
        format!("no such network: {text}; `bundle network ls` lists all, `bundle network create {text}` makes it")
    })
}

/// Whether a name and addresses are nobody's.
pub fn may_be(db: &Connection, name: &str, settings: &Settings) -> Result<()> {
    if db.prepare_cached("SELECT 1 FROM networks WHERE name = ?1")?.exists([name])? {
        bail!("there is a network {name} already: `bundle network rm {name}` removes it");
    }
    for other in all(db)? {
        for net in other.settings.subnets.iter().map(|it| it.net) {
            if let Some(mine) = settings.subnets.iter().find(|it| settings::overlap(it.net, net)) {
                bail!("--subnet {}: overlaps {net} of network {}", mine.net, other.name);
            }
        }
    }
    Ok(())
}

/// Makes one, with a device of this name or of one of its own.
pub fn create(db: &Transaction<'_>, name: &str, device: Option<&str>, settings: &Settings) -> Result<Network> {
    may_be(db, name, settings)?;
    let id = crate::container::random_id()?;
    // The kernel's names of devices have up to 15 letters.
    let device = device.map_or_else(|| format!("br-{}", &id[..12]), str::to_owned);
    let network = Network {
        device,
        name: name.to_owned(),
        created: crate::container::state::now(),
        settings: settings.clone(),
        id,
    };
    let settings = serde_json::to_string(settings)?;
    db.execute(
        "INSERT INTO networks VALUES (?1, ?2, ?3, ?4, ?5)",
        params![network.id, network.name, network.device, network.created, settings],
    )?;
    Ok(network)
}

/// The subnets of all networks.
pub fn subnets(db: &Connection) -> Result<Vec<IpNet>> {
    Ok(all(db)?.iter().flat_map(|it| it.settings.subnets.iter().map(|it| it.net)).collect())
}

/// An error where a container is in it.
pub fn unused(db: &Connection, network: &Network) -> Result<()> {
    let names: Vec<String> = members(db, network)?.into_iter().map(|it| it.name).collect();
    if let [first, ..] = names.as_slice() {
        bail!(
            "network {} is in use by {}: remove them first (`bundle rm {first}`), or take them out (`bundle network disconnect {} {first}`)",
            network.name,
            names.join(", "),
            network.name
        );
    }
    Ok(())
}

/// Removes one that no container is in.
pub fn remove(db: &Transaction<'_>, network: &Network) -> Result<()> {
    unused(db, network)?;
    db.execute("DELETE FROM networks WHERE id = ?1", [&network.id])?;
    Ok(())
}

/// A container of a network.
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its part.
    pub endpoint: Endpoint,
}

/// The containers of a network, by name.
pub fn members(db: &Connection, of: &Network) -> Result<Vec<Member>> {
    let mut statement = db.prepare_cached(
        "SELECT container, coalesce(containers.name, json_extract(endpoints.settings, '$.guest'), container) AS shown, \
         position, endpoints.settings FROM endpoints \
         LEFT JOIN containers ON containers.id = container WHERE network = ?1 ORDER BY shown",
    )?;
    let rows = statement.query_map([&of.id], |row| {
        Ok(Member {
            id: row.get(0)?,
            name: row.get(1)?,
            endpoint: Endpoint {
                network: of.clone(),
                position: row.get(2)?,
                wanted: json(row, 3)?,
                addresses: Vec::new(),
            },
        })
    })?;
    let mut members = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for member in &mut members {
        member.endpoint.addresses = addresses(db, &member.id, &of.id)?;
    }
    Ok(members)
}

/// Whether a container is in a network, both by their whole ids.
pub fn is_in(db: &Connection, network: &str, container: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM endpoints WHERE container = ?1 AND network = ?2";
    Ok(db.prepare_cached(sql)?.exists([container, network])?)
}

/// The networks that a container is in, in the order of its devices.
pub fn endpoints(db: &Connection, container: &str) -> Result<Vec<Endpoint>> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, position, endpoints.settings FROM endpoints JOIN networks ON networks.id = network \
         WHERE container = ?1 ORDER BY position"
    ))?;
    let rows = statement.query_map([container], |row| {
        Ok(Endpoint { network: network(row)?, position: row.get(5)?, wanted: json(row, 6)?, addresses: Vec::new() })
    })?;
    let mut endpoints = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for endpoint in &mut endpoints {
        endpoint.addresses = addresses(db, container, &endpoint.network.id)?;
    }
    Ok(endpoints)
}

fn addresses(db: &Connection, container: &str, network: &str) -> Result<Vec<IpAddr>> {
    let sql = "SELECT address FROM leases WHERE container = ?1 AND network = ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([container, network], |row| Ok(row.get::<_, leases::Key>(0)?.address()))?;
    let mut addresses = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

/// Puts a container into a network: a row, and an address of each family. `leased` are those that the store which
/// several hosts share has given.
pub fn join(
    db: &Transaction<'_>,
    network: &Network,
    container: &str,
    wanted: &Wanted,
    leased: &[IpAddr],
) -> Result<Endpoint> {
    for v6 in [false, true] {
        if let Some(address) = wanted.address(v6)
            && network.settings.subnet_of(address).is_none()
        {
            bail!("address {address}: network {} has no subnet with it", network.name);
        }
    }
    // The lowest number that is free: a device may have been taken away.
    let mut statement = db.prepare_cached("SELECT position FROM endpoints WHERE container = ?1 ORDER BY position")?;
    let taken = statement.query_map([container], |row| row.get::<_, u32>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let position = (0..).zip(&taken).take_while(|(at, taken)| at == *taken).count() as u32;
    let inserted = db.prepare_cached("INSERT OR IGNORE INTO endpoints VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        container,
        network.id,
        position,
        serde_json::to_string(wanted)?
    ])?;
    if inserted == 0 {
        bail!("the container is in network {} already", network.name);
    }
    if let Some(mac) = wanted.mac {
        mac_is_free(db, network, container, mac)?;
    }
    wide::owe_no_more(db, &network.id, container)?;
    let mut addresses = Vec::new();
    for subnet in &network.settings.subnets {
        let wanted = wanted.address(subnet.net.addr().is_ipv6());
        match leased.iter().find(|it| subnet.net.contains(*it)) {
            Some(address) => {
                leases::keep(db, &network.id, container, *address)?;
                addresses.push(*address);
            }
            None => addresses.push(leases::lease(db, (&network.id, &network.name), subnet, container, wanted)?),
        }
    }
    let endpoint = Endpoint { network: network.clone(), position, wanted: wanted.clone(), addresses };
    match wanted.mac {
        Some(mac)
            if network.settings.is_made_of_an_address(mac)
                && Some(mac) != endpoint.addresses.first().map(|it| Mac::of(*it)) =>
        {
            bail!(
                "--mac-address {mac}: it belongs to another address of network {}: take one that does not begin with {}",
                network.name,
                &mac.to_string()[..5]
            )
        }
        _ => Ok(endpoint),
    }
}

/// Two devices with one Ethernet address on a bridge would take each other's packets.
fn mac_is_free(db: &Connection, network: &Network, container: &str, mac: Mac) -> Result<()> {
    let other = members(db, network)?.into_iter().find(|it| it.id != container && it.endpoint.mac() == mac);
    if let Some(other) = other {
        bail!("--mac-address {mac}: container {} has it in network {}", other.name, network.name);
    }
    Ok(())
}

/// Takes a container out of a network. Whether it was in it.
pub fn leave(db: &Transaction<'_>, network: &Network, container: &str) -> Result<bool> {
    wide::owe(db, network, container)?;
    let sql = "DELETE FROM endpoints WHERE container = ?1 AND network = ?2";
    Ok(db.execute(sql, [container, &network.id])? == 1)
}
