//! From keys to entries, without etcd and without a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::entries::{Effect, Entry, Members};
use super::super::etcd::Pair;
use super::super::members::{Host, Lease};
use super::super::mtu;
use super::world::ip;

fn pair(value: &impl serde::Serialize) -> Pair {
    Pair { key: String::new(), value: serde_json::to_vec(value).unwrap(), modified: 1 }
}

fn host(underlay: &str, bridge: &str, at: u8) -> Pair {
    pair(&Host { underlay: ip(underlay), addresses: vec![ip(bridge)], mac: [2, 0, 0, 0, 1, at] })
}

fn lease(host: &str, at: u8) -> Pair {
    pair(&Lease { host: host.into(), container: "c".into(), mac: [2, 0, 0, 0, 0, at] })
}

const fn container(at: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, at]
}

#[test]
fn what_follows_from_keys() {
    let mut members = Members::new("own");
    let far = ip("192.0.2.2");
    // An address before its host is known; ours are none of its business.
    assert_eq!(members.set("addresses/10.0.0.9", Some(&lease("far", 9))), []);
    assert_eq!(members.set("hosts/own", Some(&host("192.0.2.1", "10.0.0.1", 1))), []);
    assert_eq!(members.set("addresses/10.0.0.8", Some(&lease("own", 8))), []);
    let effects = members.set("hosts/far", Some(&host("192.0.2.2", "10.0.0.2", 2)));
    let bridge = [2, 0, 0, 0, 1, 2];
    assert_eq!(
        effects.into_iter().collect::<Vec<_>>(),
        [
            Effect::Add(Entry::Forward(bridge, far)),
            Effect::Add(Entry::Neighbour(ip("10.0.0.2"), bridge)),
            Effect::Add(Entry::Forward(container(9), far)),
            Effect::Add(Entry::Neighbour(ip("10.0.0.9"), container(9))),
        ]
    );
    // A second address of the container: its Ethernet address stays until both are gone.
    members.set("addresses/fd00::9", Some(&lease("far", 9)));
    assert_eq!(
        members.set("addresses/10.0.0.9", None),
        [Effect::Remove(Entry::Neighbour(ip("10.0.0.9"), container(9)))]
    );
    // What cannot be read is nothing, and so is an Ethernet address of all, or of several.
    for wrong in [pair(&"x"), pair(&1), lease("nowhere", 9)] {
        assert_eq!(members.set("addresses/10.0.0.7", Some(&wrong)), []);
    }
    for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let wrong = pair(&Lease { host: "far".into(), container: "c".into(), mac });
        assert_eq!(members.set("addresses/10.0.0.7", Some(&wrong)), []);
    }
    assert_eq!(members.set("addresses/nonsense", Some(&lease("far", 9))), []);
    assert_eq!(members.set("else", Some(&lease("far", 9))), []);
    // The host goes, and all with it.
    let gone: BTreeSet<Entry> = members.entries().collect();
    let effects = members.set("hosts/far", None);
    assert!(effects.iter().all(|it| matches!(it, Effect::Remove(it) if gone.contains(it))));
    assert_eq!((effects.len(), members.entries().count()), (4, 0));
}

/// Whatever the order of changes, the entries that the effects have left are those that the last keys mean.
#[test]
fn any_order_of_changes() {
    let mut random = crate::network::names::tests::wire::Random(4711);
    for _ in 0..200 {
        let mut members = Members::new("host0");
        let mut kernel: BTreeSet<Entry> = BTreeSet::new();
        let mut neighbours: BTreeMap<IpAddr, [u8; 6]> = BTreeMap::new();
        let mut keys: BTreeMap<String, Pair> = BTreeMap::new();
        for _ in 0..100 {
            let (which, at) = (random.next() % 4, random.next() % 3);
            let (key, value) = if random.next().is_multiple_of(4) {
                let underlay = format!("192.0.2.{}", random.next() % 3);
                (format!("hosts/host{which}"), host(&underlay, &format!("10.1.0.{which}"), which as u8))
            } else {
                // One Ethernet address is of one container, wherever it is.
                (format!("addresses/10.0.0.{at}"), lease(&format!("host{which}"), at as u8))
            };
            let value = (!random.next().is_multiple_of(3)).then_some(value);
            let effects = members.set(&key, value.as_ref());
            for effect in effects {
                match effect {
                    Effect::Remove(it) => {
                        kernel.remove(&it);
                        if let Entry::Neighbour(address, _) = it {
                            neighbours.remove(&address);
                        }
                    }
                    // As the kernel has it: one host for each Ethernet address.
                    Effect::Add(Entry::Forward(mac, to)) => {
                        kernel.retain(|it| !matches!(it, Entry::Forward(other, _) if *other == mac));
                        kernel.insert(Entry::Forward(mac, to));
                    }
                    Effect::Add(it @ Entry::Neighbour(address, mac)) => {
                        kernel.insert(it);
                        neighbours.insert(address, mac);
                    }
                }
            }
            match value {
                Some(it) => keys.insert(key, it),
                None => keys.remove(&key),
            };
        }
        let mut anew = Members::new("host0");
        for (key, it) in &keys {
            anew.set(key, Some(it));
        }
        let wanted: BTreeSet<Entry> = anew.entries().collect();
        assert_eq!(members.entries().collect::<BTreeSet<_>>(), wanted);
        assert_eq!(kernel, wanted);
        assert_eq!(neighbours.len(), wanted.iter().filter(|it| matches!(it, Entry::Neighbour(..))).count());
    }
}

#[test]
fn the_size_of_packets() {
    assert_eq!((mtu(1500, ip("192.0.2.1")), mtu(1500, ip("2001:db8::1"))), (1450, 1430));
    assert_eq!(mtu(9000, ip("192.0.2.1")), 8950);
    assert_eq!(mtu(20, ip("192.0.2.1")), 0);
}
