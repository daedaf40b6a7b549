//! Which container has which address: the database's part of it. An address is a container's from the moment when it
//! is put into the network until it leaves it or is removed, whether it runs or not.
//!
//! A pool is used from its low end to its high end; how far it has been is its `water`. Below it, each address is
//! either leased or in the list of those that were given back, whose oldest is taken when the water has come to the
//! end. So neither step looks at more than one row, however many leases there are, and an address rests as long as
//! others are free. The database keeps the list itself (trigger `given_back`): whatever removes a lease feeds it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, Transaction, params};

use super::settings::Subnet;

/// The tables. An address is 16 bytes, the more significant first; those of IPv4 as RFC 4291, 2.5.5.2 maps them.
pub const TABLES: &str = "
CREATE TABLE pools(network TEXT NOT NULL REFERENCES networks ON DELETE CASCADE, v6 INTEGER NOT NULL,
    water BLOB NOT NULL, PRIMARY KEY(network, v6)) WITHOUT ROWID;
CREATE TABLE leases(network TEXT NOT NULL, address BLOB NOT NULL, container TEXT NOT NULL,
    PRIMARY KEY(network, address),
    FOREIGN KEY(container, network) REFERENCES endpoints ON DELETE CASCADE) WITHOUT ROWID;
CREATE INDEX leases_endpoint ON leases(container, network);
CREATE TABLE given_back(sequence INTEGER PRIMARY KEY, network TEXT NOT NULL, v6 INTEGER NOT NULL,
    address BLOB NOT NULL, FOREIGN KEY(network, v6) REFERENCES pools ON DELETE CASCADE, UNIQUE(network, address));
CREATE INDEX given_back_oldest ON given_back(network, v6, sequence);
CREATE TRIGGER give_back AFTER DELETE ON leases BEGIN
    INSERT OR IGNORE INTO given_back(network, v6, address) SELECT network, v6, OLD.address FROM pools
        WHERE network = OLD.network AND v6 = (substr(OLD.address, 1, 12) <> x'00000000000000000000ffff')
            AND OLD.address < water;
END;
";

/// An address as the tables have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u128);

impl Key {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(it) => it.to_ipv6_mapped().to_bits(),
            IpAddr::V6(it) => it.to_bits(),
        })
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        let it = Ipv6Addr::from_bits(self.0);
        it.to_ipv4_mapped().map_or(IpAddr::V6(it), IpAddr::V4)
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_be_bytes().to_vec().into())
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(u128::from_be_bytes(<[u8; 16]>::column_result(value)?)))
    }
}

/// Leases an address of a subnet to a container: `wanted`, or any of the subnet's range.
pub fn lease(
    db: &Transaction<'_>,
    network: (&str, &str),
    subnet: &Subnet,
    container: &str,
    wanted: Option<IpAddr>,
) -> Result<IpAddr> {
    let address = match wanted {
        Some(address) => given(db, network, subnet, container, address)?,
        None => any(db, network, subnet)?,
    };
    let id = network.0;
    db.prepare_cached("INSERT INTO leases VALUES (?1, ?2, ?3)")?.execute(params![id, Key::of(address), container])?;
    Ok(address)
}

fn given(
    db: &Transaction<'_>,
    (network, name): (&str, &str),
    subnet: &Subnet,
    container: &str,
    address: IpAddr,
) -> Result<IpAddr> {
    if !subnet.net.contains(&address) {
        bail!("address {address}: not within {}, which network {name} has", subnet.net);
    }
    if subnet.keeps(address) {
        bail!("address {address}: no container's: it is the gateway, reserved, or the first or last of {}", subnet.net);
    }
    let sql = "SELECT container, coalesce(name, container) FROM leases LEFT JOIN containers ON id = container
        WHERE network = ?1 AND address = ?2";
    let key = Key::of(address);
    let holder =
        db.query_row(sql, params![network, key], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    if let Some((id, holder)) = holder.optional()? {
        if id == container {
            bail!("address {address} of network {name}: this container has it already");
        }
        bail!(
            "address {address} of network {name} is container {holder}'s: remove that one (`bundle rm {holder}`), or take another address"
        );
    }
    db.execute("DELETE FROM given_back WHERE network = ?1 AND address = ?2", params![network, key])?;
    Ok(address)
}

fn any(db: &Transaction<'_>, (network, name): (&str, &str), subnet: &Subnet) -> Result<IpAddr> {
    let v6 = subnet.net.addr().is_ipv6();
    let (first, last) = subnet.bounds();
    let (first, last) = (Key::of(first).0, Key::of(last).0);
    let water: Option<Key> = db
        .prepare_cached("SELECT water FROM pools WHERE network = ?1 AND v6 = ?2")?
        .query_row(params![network, v6], |row| row.get(0))
        .optional()?;
    let mut at = water.map_or(first, |it| it.0);
    let mut taken = db.prepare_cached("SELECT 1 FROM leases WHERE network = ?1 AND address = ?2")?;
    while at <= last && (subnet.keeps(Key(at).address()) || taken.exists(params![network, Key(at)])?) {
        at += 1;
    }
    if at <= last {
        // Not replaced: the list would go with the row.
        let set = match water {
            None => "INSERT INTO pools VALUES (?1, ?2, ?3)",
            Some(_) => "UPDATE pools SET water = ?3 WHERE network = ?1 AND v6 = ?2",
        };
        db.prepare_cached(set)?.execute(params![network, v6, Key(at + 1)])?;
        return Ok(Key(at).address());
    }
    let oldest: Option<(i64, Key)> = db
        .prepare_cached(
            // Who asked for an address may have had one from before the range.
            "SELECT sequence, address FROM given_back WHERE network = ?1 AND v6 = ?2 AND address >= ?3
             ORDER BY sequence LIMIT 1",
        )?
        .query_row(params![network, v6, Key(first)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((sequence, key)) = oldest else {
        let count: i64 = db.query_row("SELECT count(*) FROM leases WHERE network = ?1", [network], |row| row.get(0))?;
        bail!(
            "network {name} has no free address left in {}: {count} are held, also by containers that have ended; remove some (`bundle ps -a --filter network={name}`), or make a larger network",
            subnet.range
        );
    };
    db.prepare_cached("DELETE FROM given_back WHERE sequence = ?1")?.execute([sequence])?;
    Ok(key.address())
}

/// A lease that another place has decided on: the store that several hosts share.
pub fn keep(db: &Transaction<'_>, network: &str, container: &str, address: IpAddr) -> Result<()> {
    db.prepare_cached("INSERT INTO leases VALUES (?1, ?2, ?3)")?
        .execute(params![network, Key::of(address), container])
        .with_context(|| format!("keeping the address {address}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use rusqlite::Connection;
    use std::collections::{BTreeSet, VecDeque};

    const AROUND: &str = "
CREATE TABLE containers(id TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID;
CREATE TABLE networks(id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE endpoints(container TEXT NOT NULL, network TEXT NOT NULL REFERENCES networks,
    PRIMARY KEY(container, network)) WITHOUT ROWID;
CREATE TRIGGER containers_leave AFTER DELETE ON containers BEGIN DELETE FROM endpoints WHERE container = OLD.id; END;
INSERT INTO networks VALUES ('n');
";

    fn open() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "foreign_keys", true).unwrap();
        db.execute_batch(AROUND).unwrap();
        db.execute_batch(TABLES).unwrap();
        db
    }

    fn subnet(text: &str) -> Subnet {
        super::super::settings::subnet(text.parse().unwrap(), None, None).unwrap()
    }

    fn take(db: &mut Connection, subnet: &Subnet, id: &str, wanted: Option<&str>) -> Result<IpAddr> {
        let db = db.transaction()?;
        db.execute("INSERT INTO containers VALUES (?1, ?1)", [id])?;
        db.execute("INSERT INTO endpoints VALUES (?1, 'n')", [id])?;
        let address = lease(&db, ("n", "net"), subnet, id, wanted.map(|it| it.parse().unwrap()))?;
        db.commit()?;
        Ok(address)
    }

    fn remove(db: &Connection, id: &str) {
        db.execute("DELETE FROM containers WHERE id = ?1", [id]).unwrap();
    }

    #[test]
    fn a_whole_24_is_handed_out_and_comes_back() {
        let (mut db, subnet) = (open(), subnet("10.0.0.0/24"));
        let mut all = BTreeSet::new();
        for number in 0..253 {
            assert!(all.insert(take(&mut db, &subnet, &format!("c{number}"), None).unwrap()));
        }
        assert_eq!(all.first().unwrap().to_string(), "10.0.0.2");
        assert_eq!(all.last().unwrap().to_string(), "10.0.0.254");
        let error = format!("{:#}", take(&mut db, &subnet, "more", None).unwrap_err());
        assert!(error.contains("no free address left") && error.contains("253 are held"), "{error}");
        for id in ["c7", "c100", "c3"] {
            remove(&db, id);
        }
        // The one that has rested longest comes first.
        for (id, address) in [("x", "10.0.0.9"), ("y", "10.0.0.102"), ("z", "10.0.0.5")] {
            assert_eq!(take(&mut db, &subnet, id, None).unwrap().to_string(), address);
        }
        take(&mut db, &subnet, "more", None).unwrap_err();
    }

    #[test]
    fn the_smallest_the_largest_and_parts() {
        let mut db = open();
        let smallest = subnet("10.0.0.0/30");
        assert_eq!(take(&mut db, &smallest, "a", None).unwrap().to_string(), "10.0.0.2");
        take(&mut db, &smallest, "b", None).unwrap_err();
        let mut db = open();
        assert_eq!(
            take(&mut db, &subnet("10.0.0.0/8"), "a", Some("10.255.255.254")).unwrap().to_string(),
            "10.255.255.254"
        );
        let mut part = subnet("10.0.0.0/8");
        part.range = "10.7.0.254/31".parse::<IpNet>().unwrap().trunc();
        let mut db = open();
        assert_eq!(take(&mut db, &part, "a", None).unwrap().to_string(), "10.7.0.254");
        assert_eq!(take(&mut db, &part, "b", None).unwrap().to_string(), "10.7.0.255");
        take(&mut db, &part, "c", None).unwrap_err();
        let mut db = open();
        let v6 = subnet("fd00::/64");
        assert_eq!(take(&mut db, &v6, "a", None).unwrap().to_string(), "fd00::2");
        assert_eq!(
            take(&mut db, &v6, "b", Some("fd00::ffff:ffff:ffff:ffff")).unwrap().to_string(),
            "fd00::ffff:ffff:ffff:ffff"
        );
    }

    #[test]
    fn who_asks_for_one_gets_it_if_it_can_be() {
        let (mut db, subnet) = (open(), subnet("10.0.0.0/24"));
        take(&mut db, &subnet, "a", Some("10.0.0.3")).unwrap();
        for (wanted, text) in [
            ("10.0.0.3", "container a's"),
            ("10.0.0.0", "no container's"),
            ("10.0.0.1", "no container's"),
            ("10.0.0.255", "no container's"),
            ("10.0.1.5", "not within"),
        ] {
            let error = format!("{:#}", take(&mut db, &subnet, "b", Some(wanted)).unwrap_err());
            assert!(error.contains(text), "{wanted}: {error}");
        }
        // The row is passed by, and is free again where it lay before the water came.
        assert_eq!(take(&mut db, &subnet, "b", None).unwrap().to_string(), "10.0.0.2");
        remove(&db, "a");
        assert_eq!(take(&mut db, &subnet, "c", None).unwrap().to_string(), "10.0.0.3");
    }

    #[test]
    fn what_was_asked_for_outside_of_the_range_stays_outside() {
        let (mut db, mut subnet) = (open(), subnet("10.0.0.0/24"));
        subnet.range = "10.0.0.8/30".parse().unwrap();
        take(&mut db, &subnet, "first", None).unwrap();
        take(&mut db, &subnet, "outside", Some("10.0.0.5")).unwrap();
        remove(&db, "outside");
        for id in ["b", "c", "d"] {
            take(&mut db, &subnet, id, None).unwrap();
        }
        take(&mut db, &subnet, "e", None).unwrap_err();
        take(&mut db, &subnet, "e", Some("10.0.0.5")).unwrap();
        remove(&db, "first");
        assert_eq!(take(&mut db, &subnet, "f", None).unwrap().to_string(), "10.0.0.8");
    }

    /// Against a model: a set of what is held.
    #[test]
    fn never_twice_and_never_lost() {
        for seed in 0..20_u64 {
            let (mut db, subnet) = (open(), subnet("10.0.0.0/27"));
            let mut held: VecDeque<(String, IpAddr)> = VecDeque::new();
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for step in 0..400 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let id = format!("s{step}");
                match random % 5 {
                    0 | 1 => match take(&mut db, &subnet, &id, None) {
                        Ok(address) => {
                            assert!(!held.iter().any(|it| it.1 == address) && !subnet.keeps(address));
                            held.push_back((id, address));
                        }
                        Err(_) => assert_eq!(held.len(), 29),
                    },
                    2 => {
                        let wanted = format!("10.0.0.{}", random >> 8 & 31);
                        let address = wanted.parse().unwrap();
                        let free = !held.iter().any(|it| it.1 == address) && !subnet.keeps(address);
                        assert_eq!(take(&mut db, &subnet, &id, Some(&wanted)).is_ok(), free);
                        if free {
                            held.push_back((id, address));
                        }
                    }
                    _ if !held.is_empty() => {
                        let at = (random >> 8) as usize % held.len();
                        remove(&db, &held.remove(at).unwrap().0);
                    }
                    _ => {}
                }
            }
        }
    }

    /// The price of one address does not grow with those that are held: the same number of rows is looked at.
    #[test]
    fn sixty_five_thousand_stay_fast() {
        let (mut db, subnet) = (open(), subnet("10.0.0.0/16"));
        let run = db.transaction().unwrap();
        let mut times = Vec::new();
        for number in 0..65_533 {
            let id = format!("c{number}");
            run.prepare_cached("INSERT INTO containers VALUES (?1, ?1)").unwrap().execute([&id]).unwrap();
            run.prepare_cached("INSERT INTO endpoints VALUES (?1, 'n')").unwrap().execute([&id]).unwrap();
            let before = std::time::Instant::now();
            lease(&run, ("n", "net"), &subnet, &id, None).unwrap();
            times.push(before.elapsed());
        }
        let mean = |part: &[std::time::Duration]| part.iter().sum::<std::time::Duration>() / part.len() as u32;
        eprintln!("the first thousand: {:?} each, the last: {:?}", mean(&times[..1000]), mean(&times[64_533..]));
        run.execute("DELETE FROM containers WHERE id = 'c40000'", []).unwrap();
        run.execute("INSERT INTO containers VALUES ('x', 'x')", []).unwrap();
        run.execute("INSERT INTO endpoints VALUES ('x', 'n')", []).unwrap();
        let before = std::time::Instant::now();
        let address = lease(&run, ("n", "net"), &subnet, "x", None).unwrap();
        eprintln!("the one that was given back: {:?}", before.elapsed());
        assert_eq!(address.to_string(), "10.0.156.66");
        assert!(lease(&run, ("n", "net"), &subnet, "x", None).is_err());
    }
}
