//! What several hosts agree on.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::etcd::{Client, Op};
use super::super::members::{Host, Lease, Overlay};
use super::world::{Etcd, config, ip, own_namespace, ready, settings, silent, temporary};

const HERE: &str = "http://127.0.0.1:2379";

fn etcd(test: &str) -> (Etcd, Overlay) {
    own_namespace();
    let etcd = Etcd::start(temporary(test), "http", &[]);
    ready(&Client::new(&settings(HERE)).unwrap());
    (etcd, open("web"))
}

fn open(name: &str) -> Overlay {
    Overlay::open(&settings(HERE), name).unwrap()
}

fn of(host: &str, container: &str) -> impl Fn(IpAddr) -> Lease + use<> {
    let (host, container) = (host.to_owned(), container.to_owned());
    move |address| Lease { host: host.clone(), container: container.clone(), mac: super::world::mac(address) }
}

fn subnets(it: &str) -> Vec<String> {
    vec![it.into()]
}

#[test]
fn a_network_is_the_same_everywhere() {
    let (_etcd, web) = etcd("same");
    assert_eq!(config(&web), None);
    let error = format!("{:#}", web.join("host1", &host(1)).unwrap_err());
    assert!(error.contains("not in etcd"), "{error}");
    // Many at once: they all get the same.
    let all: HashSet<u32> = std::thread::scope(|scope| {
        let make = || scope.spawn(|| open("web").create(&subnets("10.99.0.0/16"), None, 1450, 4789).unwrap().vni);
        let all: Vec<_> = (0..8).map(|_| make()).collect();
        all.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(all.len(), 1);
    let vni = *all.iter().next().unwrap();
    assert_eq!(web.create(&subnets("10.99.0.0/16"), Some(vni), 1450, 4789).unwrap(), config(&web).unwrap());
    for (subnet, vni, mtu, port) in [
        ("10.98.0.0/16", None, 1450, 4789),
        ("10.99.0.0/16", Some(vni ^ 1), 1450, 4789),
        ("10.99.0.0/16", None, 1400, 4789),
        ("10.99.0.0/16", None, 1450, 8472),
    ] {
        let error = format!("{:#}", web.create(&subnets(subnet), vni, mtu, port).unwrap_err());
        assert!(error.contains("network web") && error.contains("10.99.0.0/16") && error.contains("1450"), "{error}");
    }
    // Another network cannot have its number.
    let error = format!("{:#}", open("db").create(&subnets("10.97.0.0/16"), Some(vni), 1450, 4789).unwrap_err());
    assert!(error.contains("network db") && error.contains("vni"), "{error}");
    assert_ne!(open("db").create(&subnets("10.97.0.0/16"), None, 1450, 4789).unwrap().vni, vni);
    for vni in [0, 1 << 24] {
        assert!(open("x").create(&subnets("10.96.0.0/16"), Some(vni), 1450, 4789).is_err());
    }
    // It is not removed while a host is in it, and then with all that it had.
    web.join("host1", &host(1)).unwrap();
    assert!(!web.remove().unwrap());
    web.leave("host1").unwrap();
    assert!(web.remove().unwrap() && web.remove().unwrap());
    assert_eq!(config(&web), None);
    assert!(config(&open("db")).is_some());
    assert_eq!(open("x").create(&subnets("10.96.0.0/16"), Some(vni), 1450, 4789).unwrap().vni, vni);
}

fn host(at: u8) -> Host {
    Host { underlay: ip(&format!("192.0.2.{at}")), addresses: vec![ip("10.99.0.1")], mac: [2, 0, 0, 0, 0, at] }
}

#[test]
fn names_that_would_be_somebody_elses_keys() {
    for name in ["", "a/b", "../x", "a b", "\u{e9}"] {
        assert!(Overlay::open(&settings(HERE), name).is_err(), "{name}");
    }
}

#[test]
fn no_address_is_leased_twice() {
    let (_etcd, web) = etcd("lease");
    let range = (ip("10.99.0.2"), ip("10.99.0.62"));
    let skip = [ip("10.99.0.3")];
    // Eight hosts at once, until there are none left.
    let all: Vec<IpAddr> = std::thread::scope(|scope| {
        let run = |host: usize| {
            scope.spawn(move || {
                let (web, mut mine) = (open("web"), Vec::new());
                for at in 0.. {
                    match web.lease(range, None, &skip, of(&format!("host{host}"), &format!("c{at}"))) {
                        Ok(it) => mine.push(it),
                        Err(error) => {
                            let error = format!("{error:#}");
                            assert!(error.contains("all 61 addresses from 10.99.0.2 to 10.99.0.62"), "{error}");
                            break;
                        }
                    }
                }
                mine
            })
        };
        let all: Vec<_> = (0..8).map(run).collect();
        all.into_iter().flat_map(|it| it.join().unwrap()).collect()
    });
    assert_eq!(all.len(), 60);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 60);
    assert!(!all.contains(&skip[0]));
    let per_host: usize = (0..8).map(|it| web.mine(&format!("host{it}")).unwrap().len()).sum();
    assert_eq!(per_host, 60);
    // One that is wanted, by who has it and by others; given back only by who has it.
    let mine = web.mine("host1").unwrap().first().cloned();
    let Some((address, lease)) = mine else { panic!("host1 got none") };
    assert_eq!(web.lease(range, Some(address), &[], of("host1", &lease.container)).unwrap(), address);
    let error = format!("{:#}", web.lease(range, Some(address), &[], of("host2", "x")).unwrap_err());
    assert!(error.contains(&address.to_string()) && error.contains("host1"), "{error}");
    web.release(address, "host2").unwrap();
    assert!(web.lease(range, None, &skip, of("host2", "x")).is_err());
    web.release(address, "host1").unwrap();
    web.release(address, "host1").unwrap();
    assert_eq!(web.lease(range, None, &skip, of("host2", "x")).unwrap(), address);
    // Other networks have their own.
    assert_eq!(open("db").lease(range, Some(address), &[], of("host2", "x")).unwrap(), address);
}

#[test]
fn large_ranges_are_quick() {
    let (_etcd, web) = etcd("large");
    let client = Client::new(&settings(HERE)).unwrap();
    let prefix = "/bundle/networks/web/addresses/";
    let lease = serde_json::to_vec(&of("host9", "c")(ip("10.99.0.1"))).unwrap();
    // 30,000 of 65,533 are taken.
    let keys: Vec<String> = (1..=30_000_u32).map(|it| format!("{prefix}10.99.{}.{}", it / 256, it % 256)).collect();
    for some in keys.chunks(100) {
        client.apply(&some.iter().map(|it| Op::Put(it, &lease, 0)).collect::<Vec<_>>()).unwrap();
    }
    assert_eq!(web.mine("host9").unwrap().len(), 30_000);
    assert!(web.mine("host1").unwrap().is_empty());
    // But the last one of those that a later range has.
    let range = (ip("10.99.0.1"), ip("10.99.255.253"));
    let skip = [ip("10.99.117.49")];
    let began = Instant::now();
    for at in 0..100 {
        web.lease(range, None, &skip, of("host1", &format!("c{at}"))).unwrap();
    }
    println!("an address of a /16: {:?}", began.elapsed() / 100);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Nearly full: the one that is left is found.
    let range = (ip("10.99.0.1"), ip("10.99.117.49"));
    let left = web.lease(range, None, &[], of("host1", "last")).unwrap();
    assert_eq!(left, ip("10.99.117.49"));
    assert!(web.lease(range, None, &[], of("host1", "none")).is_err());
    let six = (ip("fd00::2"), ip("fd00::ffff:ffff:ffff:ffff"));
    assert!(matches!(web.lease(six, None, &[], of("host1", "six")).unwrap(), IpAddr::V6(_)));
}

#[test]
fn etcd_that_is_not_there() {
    own_namespace();
    let (_listener, silent) = silent();
    let range = (ip("10.99.0.1"), ip("10.99.0.9"));
    for endpoints in [
        vec!["http://127.0.0.1:1".into()],
        vec![format!("http://{silent}")],
        vec![format!("http://{silent}"), format!("http://{silent}"), "http://127.0.0.1:1".into()],
        vec!["http://192.0.2.1".into()],
    ] {
        let settings = super::super::Settings { endpoints, ..Default::default() };
        let web = Overlay::open(&settings, "web").unwrap();
        let began = Instant::now();
        let error = format!("{:#}", web.lease(range, None, &[], of("host1", "c")).unwrap_err());
        println!("{:?}: {error}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10));
        assert!(error.contains("network web") && error.contains("etcd does not answer: http://"), "{error}");
    }
}
