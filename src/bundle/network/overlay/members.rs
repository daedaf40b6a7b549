//! What the hosts of a network tell each other. Below `/bundle/networks/NAME/` there are
//!
//! - `config`: what the network is, on all hosts the same;
//! - `hosts/HOST`: where a host is to be reached, and its bridge;
//! - `addresses/IP`: who has an address, from a container's creation to its removal. It is made by a transaction that
//!   fails where the key exists, so no two hosts ever have the same;
//! - `running/CONTAINER`: the names of a container that runs. It goes by itself when its host vanishes.
//!
//! `/bundle/vnis/N` says which network has the number N: packets of two networks with one number would mix.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::etcd::{Client, If, Op, Pair, Settings};
use crate::network::link::Mac;

const ROOT: &str = "/bundle/networks/";
const VNIS: &str = "/bundle/vnis/";
/// A network's number has 24 bits (RFC 7348, 5).
const MOST_VNI: u32 = 0xff_ffff;
/// How often an address of chance is tried in a large range, before those are listed that are taken.
const TRIES: usize = 8;
/// A range of so many addresses is small: its first free one is taken.
const SMALL: u128 = 1024;

/// What a network is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its subnets, as `10.9.0.0/16`.
    pub subnets: Vec<String>,
    /// Its number.
    pub vni: u32,
    /// The largest packet of its containers, in bytes.
    pub mtu: u32,
    /// The UDP port that hosts send to.
    pub port: u16,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its address to the others.
    pub underlay: IpAddr,
    /// Its bridge's addresses in the network.
    pub addresses: Vec<IpAddr>,
    /// Its bridge's Ethernet address.
    pub mac: Mac,
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The host.
    pub host: String,
    /// The container's id; empty: the host's bridge.
    pub container: String,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The host.
    pub host: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What others call it.
    pub names: Vec<String>,
}

/// A network across hosts, as it is in etcd.
pub struct Overlay {
    client: Client,
    name: String,
    /// Where its keys are.
    pub(super) prefix: String,
}

impl Overlay {
    /// Of this name. Nobody is asked yet.
    pub fn open(settings: &Settings, name: &str) -> Result<Self> {
        // A name with a slash could be a part of another one.
        if name.is_empty() || !name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it)) {
            bail!("network {name:?}: only letters, digits, '_', '.' and '-' are possible in etcd");
        }
        Ok(Self { client: Client::new(settings)?, name: name.into(), prefix: format!("{ROOT}{name}/") })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Makes the network, or finds that another host has made the same one. Without a number one is chosen that is
    /// free.
    pub fn create(&self, subnets: &[String], vni: Option<u32>, mtu: u32, port: u16) -> Result<Config> {
        let told = || format!("network {}", self.name);
        if vni.is_some_and(|it| it == 0 || it > MOST_VNI) {
            bail!("network {}: its number (vni) must be from 1 to {MOST_VNI}", self.name);
        }
        for _ in 0..TRIES {
            let number = match vni {
                Some(it) => it,
                None => 1 + random()? as u32 % MOST_VNI,
            };
            let config = Config { subnets: subnets.to_vec(), vni: number, mtu, port };
            if let Some(made) = self.try_to_create(&config, vni.is_none()).with_context(told)? {
                return Ok(made);
            }
            if vni.is_some() {
                break;
            }
        }
        bail!("network {}: its number (vni) is that of another network in etcd; choose another one", self.name)
    }

    /// `None` if another network has the number.
    fn try_to_create(&self, config: &Config, any_number: bool) -> Result<Option<Config>> {
        let (key, vni) = (self.key("config"), format!("{VNIS}{}", config.vni));
        let (value, name) = (serde_json::to_vec(config)?, self.name.as_bytes());
        let outcome = self.client.transact(
            &[If::Missing(&key), If::Missing(&vni)],
            &[Op::Put(&key, &value, 0), Op::Put(&vni, name, 0)],
            &[Op::Get(&key)],
        )?;
        if outcome.held {
            return Ok(Some(config.clone()));
        }
        let Some(pair) = outcome.pairs.first() else { return Ok(None) };
        let there: Config = read(pair)?;
        let wanted = if any_number { Config { vni: there.vni, ..config.clone() } } else { config.clone() };
        if there != wanted {
            bail!(
                "it is in etcd already with subnets {}, vni {}, MTU {}, port {}: make it the same, or take another name",
                there.subnets.join(" "),
                there.vni,
                there.mtu,
                there.port
            );
        }
        Ok(Some(there))
    }

    /// Removes the network, if no host has anything in it any more. Whether it did.
    pub fn remove(&self) -> Result<bool> {
        let Some(config) = self.client.get(&self.key("config"))? else { return Ok(true) };
        let (hosts, _) = self.client.range(&self.key("hosts/"), true)?;
        let (addresses, _) = self.client.range(&self.key("addresses/"), true)?;
        if !hosts.is_empty() || !addresses.is_empty() {
            return Ok(false);
        }
        let vni = format!("{VNIS}{}", read::<Config>(&config)?.vni);
        // Who joins writes the configuration anew, so that it does not find itself in a network that is gone.
        let outcome = self.client.transact(
            &[If::Unchanged(&config.key, config.modified)],
            &[Op::DeleteAll(&self.prefix), Op::Delete(&vni)],
            &[],
        )?;
        Ok(outcome.held)
    }

    /// Tells the others of this host. To be called again when anything of it has changed.
    pub fn join(&self, host: &str, it: &Host) -> Result<()> {
        let told = || format!("joining the network {}", self.name);
        for _ in 0..TRIES {
            let config = self.client.get(&self.key("config")).with_context(told)?;
            let config = config.with_context(|| format!("network {}: it is not in etcd any more", self.name))?;
            let outcome = self.client.transact(
                &[If::Unchanged(&config.key, config.modified)],
                &[
                    Op::Put(&config.key, &config.value, 0),
                    Op::Put(&self.key(&format!("hosts/{host}")), &serde_json::to_vec(it)?, 0),
                ],
                &[],
            );
            if outcome.with_context(told)?.held {
                return Ok(());
            }
        }
        bail!("network {}: too many hosts join at once", self.name)
    }

    /// The hosts, by their ids.
    pub fn hosts(&self) -> Result<Vec<(String, Host)>> {
        let prefix = self.key("hosts/");
        let (pairs, _) = self.client.range(&prefix, false)?;
        pairs.iter().map(|it| Ok((it.key[prefix.len()..].to_owned(), read(it)?))).collect()
    }

    /// Takes a host away with all that it had. It may be one that has vanished, and is not there to say so itself.
    pub fn leave(&self, host: &str) -> Result<()> {
        for (address, _) in self.mine(host)? {
            self.release(address, host)?;
        }
        self.client.apply(&[Op::Delete(&self.key(&format!("hosts/{host}")))])
    }

    /// Leases an address from `range` (the first and the last one, both included) that is not in `skip`, or the one
    /// that is wanted. `lease` says who has it then; its Ethernet address may depend on it.
    pub fn lease(
        &self,
        range: (IpAddr, IpAddr),
        wanted: Option<IpAddr>,
        skip: &[IpAddr],
        lease: impl Fn(IpAddr) -> Lease,
    ) -> Result<IpAddr> {
        let told = || format!("an address of the network {}", self.name);
        if let Some(address) = wanted {
            return match self.take(address, &lease(address)).with_context(told)? {
                None => Ok(address),
                Some(other) if other.container.is_empty() => {
                    bail!("network {}: host {} has the address {address} itself", self.name, other.host)
                }
                Some(other) => bail!(
                    "network {}: container {} on host {} has the address {address}",
                    self.name,
                    other.container,
                    other.host
                ),
            };
        }
        let (first, last) = (value(range.0), value(range.1));
        let size = last.saturating_sub(first).saturating_add(1);
        let free = |it: &IpAddr| !skip.contains(it);
        // In a large range an address of chance is free more often than not.
        for _ in 0..if size > SMALL { TRIES } else { 0 } {
            let address = address(range.0, first + random()? % size);
            if free(&address) && self.take(address, &lease(address)).with_context(told)?.is_none() {
                return Ok(address);
            }
        }
        let prefix = self.key("addresses/");
        for _ in 0..64 {
            let (taken, _) = self.client.range(&prefix, true).with_context(told)?;
            let taken = taken.iter().filter_map(|it| it.key[prefix.len()..].parse().ok());
            let taken: std::collections::HashSet<IpAddr> = taken.collect();
            let mut all = (0..size).map(|it| address(range.0, first + it));
            let Some(address) = all.find(|it| !taken.contains(it) && free(it)) else {
                bail!("network {}: all {size} addresses from {} to {} are taken", self.name, range.0, range.1)
            };
            // Another host may be faster.
            if self.take(address, &lease(address)).with_context(told)?.is_none() {
                return Ok(address);
            }
        }
        bail!("network {}: other hosts take addresses faster than we can", self.name)
    }

    /// `None` if the address is ours now, else who has it.
    fn take(&self, address: IpAddr, lease: &Lease) -> Result<Option<Lease>> {
        let key = self.key(&format!("addresses/{address}"));
        let value = serde_json::to_vec(lease)?;
        let outcome = self.client.transact(&[If::Missing(&key)], &[Op::Put(&key, &value, 0)], &[Op::Get(&key)])?;
        match outcome.pairs.first() {
            _ if outcome.held => Ok(None),
            // A question that was asked again, since its answer was lost.
            Some(pair) if pair.value == value => Ok(None),
            Some(pair) => Ok(Some(read(pair)?)),
            None => bail!("etcd: {key} is there, and is not"),
        }
    }

    /// Gives an address back, if this host has it.
    pub fn release(&self, address: IpAddr, host: &str) -> Result<()> {
        let told = || format!("giving back {address} of the network {}", self.name);
        let key = self.key(&format!("addresses/{address}"));
        let Some(pair) = self.client.get(&key).with_context(told)? else { return Ok(()) };
        if read::<Lease>(&pair).is_ok_and(|it| it.host == host) {
            let unchanged = [If::Unchanged(&key, pair.modified)];
            self.client.transact(&unchanged, &[Op::Delete(&key)], &[]).with_context(told)?;
        }
        Ok(())
    }

    /// All addresses that a host has.
    pub fn mine(&self, host: &str) -> Result<Vec<(IpAddr, Lease)>> {
        let prefix = self.key("addresses/");
        let (pairs, _) = self.client.range(&prefix, false)?;
        let of_host = |it: &Pair| {
            let lease = read::<Lease>(it).ok().filter(|it| it.host == host)?;
            Some((it.key[prefix.len()..].parse().ok()?, lease))
        };
        Ok(pairs.iter().filter_map(of_host).collect())
    }
}

/// The document in a value.
pub fn read<T: DeserializeOwned>(pair: &Pair) -> Result<T> {
    serde_json::from_slice(&pair.value).with_context(|| format!("etcd: what is in {}", pair.key))
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(it) => u32::from(it).into(),
        IpAddr::V6(it) => it.into(),
    }
}

fn address(family: IpAddr, value: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => std::net::Ipv4Addr::from(value as u32).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::from(value).into(),
    }
}

fn random() -> Result<u128> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("random numbers")?;
    Ok(u128::from_ne_bytes(bytes))
}
