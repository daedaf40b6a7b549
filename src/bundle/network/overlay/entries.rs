//! What follows from the keys in etcd: the entries of a vxlan link. Pure; `agent` brings them into the kernel.

use std::collections::HashMap;
use std::net::IpAddr;

use super::etcd::Pair;
use super::members::{Host, Lease, read};
use crate::network::link::{ALL, Mac};

/// An entry of a vxlan link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// Packets for this Ethernet address go to this host.
    Forward(Mac, IpAddr),
    /// This address has this Ethernet address.
    Neighbour(IpAddr, Mac),
}

/// What is to be done about an entry. What goes is before what comes, which may be in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It goes.
    Remove(Entry),
    /// It comes.
    Add(Entry),
}

/// The hosts and leases of a network, seen from one host.
#[derive(Default)]
pub struct Members {
    /// Our own id.
    own: String,
    hosts: HashMap<String, Host>,
    leases: HashMap<IpAddr, Lease>,
    /// The entries, and how many keys each follows from.
    entries: HashMap<Entry, usize>,
}

impl Members {
    /// Nobody yet, seen from this host.
    pub fn new(own: &str) -> Self {
        Self { own: own.into(), ..Self::default() }
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries.keys().copied()
    }

    /// Takes up a key, by its name below the network's; `None`: it has been removed. One that cannot be read is none.
    pub fn set(&mut self, key: &str, pair: Option<&Pair>) -> Vec<Effect> {
        if let Some(id) = key.strip_prefix("hosts/") {
            return self.set_host(id, pair.and_then(|it| read(it).ok()));
        }
        let address = key.strip_prefix("addresses/").and_then(|it| it.parse().ok());
        address.map_or_else(Vec::new, |it| self.set_lease(it, pair.and_then(|it| read(it).ok())))
    }

    fn set_host(&mut self, id: &str, host: Option<Host>) -> Vec<Effect> {
        let before = self.of_host(id);
        match host {
            Some(it) => self.hosts.insert(id.into(), it),
            None => self.hosts.remove(id),
        };
        let after = self.of_host(id);
        self.change(&before, &after)
    }

    fn set_lease(&mut self, address: IpAddr, lease: Option<Lease>) -> Vec<Effect> {
        let before = self.of_lease(address);
        match lease {
            Some(it) => self.leases.insert(address, it),
            None => self.leases.remove(&address),
        };
        let after = self.of_lease(address);
        self.change(&before, &after)
    }

    /// The entries of a host: its bridge, and all who are on it.
    fn of_host(&self, id: &str) -> Vec<Entry> {
        let Some(host) = self.hosts.get(id).filter(|_| id != self.own) else { return Vec::new() };
        let mut entries = Vec::new();
        if usable(host.mac) {
            entries.push(Entry::Forward(host.mac, host.underlay));
            entries.extend(host.addresses.iter().map(|it| Entry::Neighbour(*it, host.mac)));
        }
        let leases = self.leases.iter().filter(|it| it.1.host == id);
        entries.extend(leases.flat_map(|it| self.of_lease(*it.0)));
        entries
    }

    /// The entries of an address; none before its host is known. That of a bridge is the host's.
    fn of_lease(&self, address: IpAddr) -> Vec<Entry> {
        let Some(lease) = self.leases.get(&address).filter(|it| it.host != self.own) else { return Vec::new() };
        let Some(host) = self.hosts.get(&lease.host) else { return Vec::new() };
        if lease.container.is_empty() || !usable(lease.mac) {
            return Vec::new();
        }
        vec![Entry::Forward(lease.mac, host.underlay), Entry::Neighbour(address, lease.mac)]
    }

    fn change(&mut self, before: &[Entry], after: &[Entry]) -> Vec<Effect> {
        for entry in after {
            *self.entries.entry(*entry).or_default() += 1;
        }
        let (mut effects, mut gone) = (Vec::new(), Vec::new());
        for entry in before {
            if let Some(count) = self.entries.get_mut(entry) {
                *count -= 1;
                if *count == 0 {
                    self.entries.remove(entry);
                    gone.push(*entry);
                }
            }
        }
        effects.extend(gone.into_iter().map(Effect::Remove));
        // Entering one again that is there changes nothing.
        effects.extend(after.iter().filter(|it| !before.contains(it)).map(|it| Effect::Add(*it)));
        effects
    }
}

/// An Ethernet address of one link: packets for all, or for several, are not sent to one host.
fn usable(mac: Mac) -> bool {
    mac != ALL && mac[0] & 1 == 0
}
