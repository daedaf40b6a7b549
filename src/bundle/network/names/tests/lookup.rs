//! Whose name is it.

use domain::base::iana::Rtype;
use ipnet::IpNet;
use serde_json::json;

use super::super::network::HERE;
use super::super::reverse;
use super::world::{SERVER, SERVER6, World, answer, ask, ask_for, code, found, have, write};

const WEB: &str = "10.88.0.2";
const DB: &str = "10.88.0.3";

#[test]
fn names_aliases_and_ids_of_one_network() {
    let mut world = World::new("names");
    world.container("web", "aaaaaaaaaaaa11", &[WEB, "fd00:88::2"], &["web", "www", "aaaaaaaaaaaa"], &json!({}));
    world.container("web", "bbbbbbbbbbbb22", &[DB], &["db", "store", "bbbbbbbbbbbb"], &json!({}));
    world.serve("web");
    for name in ["db", "DB", "dB.", "store", "bbbbbbbbbbbb"] {
        assert_eq!(ask(WEB, name), found(&[DB]), "{name}");
    }
    assert_eq!(ask_for(WEB, SERVER, "db", Rtype::A).0, "NOERROR");
    assert_eq!(ask_for("fd00:88::2", SERVER6, "web", Rtype::AAAA), found(&["fd00:88::2"]));
    // Known, and without an address of that family: others are not asked.
    assert_eq!(ask_for(WEB, SERVER, "db", Rtype::AAAA), found(&[]));
    assert_eq!(ask_for(WEB, SERVER, "db", Rtype::MX), found(&[]));
    assert_eq!(ask_for(WEB, SERVER, "web", Rtype::ANY).1.len(), 2);
    // The host may ask, others may not.
    assert_eq!(ask(SERVER, "db"), found(&[DB]));
    have("10.88.0.99");
    assert_eq!(ask("10.88.0.99", "db"), code("REFUSED"));
    assert_eq!(ask("127.0.0.1", "db"), code("REFUSED"));
}

#[test]
fn addresses_have_names_and_are_no_business_of_others() {
    let mut world = World::new("reverse");
    let asked =
        world.upstream("127.0.0.9", |question, _| vec![answer(question, domain::base::iana::Rcode::NXDOMAIN, 0, &[])]);
    world.resolvers(&["127.0.0.9"]);
    world.container("web", "a1", &[WEB, "fd00:88::2"], &["web", "www"], &json!({}));
    world.network("other", &["10.89.0.1"], &json!({"subnets": ["10.89.0.0/24"]}));
    world.container("other", "c1", &["10.89.0.2"], &["hidden"], &json!({}));
    world.serve("web");
    let ptr = |name: &str| ask_for(WEB, SERVER, name, Rtype::PTR);
    assert_eq!(ptr("2.0.88.10.in-addr.arpa"), found(&["web"]));
    let six = format!("2.{}8.8.0.0.0.0.d.f.ip6.arpa", "0.".repeat(23));
    assert_eq!(ptr(&six), found(&["web"]), "{six}");
    for name in ["9.9.88.10.in-addr.arpa", "88.10.in-addr.arpa", "2.0.89.10.in-addr.arpa", "0.89.10.in-addr.arpa"] {
        assert_eq!(ptr(name), code("NXDOMAIN"), "{name}");
    }
    assert!(asked.lock().unwrap().is_empty());
    // What is not ours is asked elsewhere, and so is the zone that ours lie in.
    for name in ["1.2.0.192.in-addr.arpa", "10.in-addr.arpa", "89.10.in-addr.arpa"] {
        assert_eq!(ptr(name), code("NXDOMAIN"), "{name}");
    }
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[test]
fn one_name_of_several_containers_goes_round() {
    let mut world = World::new("rotate");
    for at in 2..5 {
        world.container("web", &format!("c{at}"), &[&format!("10.88.0.{at}")], &[&format!("c{at}"), "app"], &json!({}));
    }
    world.serve("web");
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let (_, mut all) = ask(WEB, "app");
        first.insert(all[0].clone());
        all.sort();
        assert_eq!(all, ["10.88.0.2", "10.88.0.3", "10.88.0.4"]);
    }
    assert_eq!(first.len(), 3);
}

#[test]
fn files_that_come_and_go_are_seen_by_the_next_question() {
    let mut world = World::new("changes");
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    have(DB);
    world.serve("web");
    for turn in 0..300 {
        world.container("web", "b1", &["10.88.0.3"], &["db", &format!("db-{turn}")], &json!({}));
        assert_eq!(ask(WEB, &format!("db-{turn}")), found(&[DB]));
        // A file in the place of another.
        world.container("web", "b1", &["10.88.0.4"], &["db"], &json!({}));
        assert_eq!(ask(WEB, "db"), found(&["10.88.0.4"]));
        world.leave("web", "b1");
        assert_eq!(ask(WEB, "db"), code("SERVFAIL"));
    }
}

#[test]
fn the_domain_of_a_network() {
    let mut world = World::new("domain");
    let more = json!({"domain": "web.test", "subnets": ["10.88.0.0/16"]});
    world.network("web", &[SERVER, SERVER6], &more);
    world.container("web", "a1", &[WEB], &["web", "my.app"], &json!({}));
    world.serve("web");
    for name in ["web", "web.web.test", "WEB.Web.Test", "my.app", "my.app.web.test"] {
        assert_eq!(ask(WEB, name), found(&[WEB]), "{name}");
    }
    for name in ["db.web.test", "web.test", "x.web.web.test"] {
        assert_eq!(ask(WEB, name), code("NXDOMAIN"), "{name}");
    }
    assert_eq!(ask_for(WEB, SERVER, "2.0.88.10.in-addr.arpa", Rtype::PTR), found(&["web.web.test"]));
    // Not the domain: it only ends the same.
    assert_eq!(ask(WEB, "dbweb.test"), code("SERVFAIL"));
}

#[test]
fn a_container_in_two_networks_sees_both_and_nobody_else_does() {
    let mut world = World::new("two");
    world.network("data", &["10.89.0.1"], &json!({"subnets": ["10.89.0.0/24"]}));
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    world.container("web", "b1", &[DB], &["front"], &json!({}));
    world.container("data", "c1", &["10.89.0.3"], &["db"], &json!({}));
    world.serve("web");
    world.serve("data");
    assert_eq!(ask(WEB, "db"), code("SERVFAIL"));
    // It is connected while it runs.
    world.container("data", "a1", &["10.89.0.2"], &["web"], &json!({}));
    assert_eq!(ask(WEB, "db"), found(&["10.89.0.3"]));
    assert_eq!(ask_for("10.89.0.2", "10.89.0.1", "front", Rtype::A), found(&[DB]));
    assert_eq!(ask_for(WEB, SERVER, "3.0.89.10.in-addr.arpa", Rtype::PTR), found(&["db"]));
    // Its own name is that of the network that it asks.
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
    assert_eq!(ask_for("10.89.0.2", "10.89.0.1", "web", Rtype::A), found(&["10.89.0.2"]));
    assert_eq!(ask(DB, "db"), code("SERVFAIL"));
    assert_eq!(ask_for("10.89.0.3", "10.89.0.1", "front", Rtype::A), code("SERVFAIL"));
    // Who is in another network is nobody in this one.
    assert_eq!(ask("10.89.0.3", "web"), code("REFUSED"));
    world.leave("data", "a1");
    assert_eq!(ask(WEB, "db"), code("SERVFAIL"));
    // A network that comes later, in any order of its files.
    let late = world.dir("late");
    std::fs::create_dir_all(&late).unwrap();
    assert_eq!(ask(WEB, "cache"), code("SERVFAIL"));
    world.network("late", &["10.90.0.1"], &json!({}));
    world.container("late", "d1", &["10.90.0.9"], &["cache"], &json!({}));
    world.container("late", "a1", &["10.90.0.2"], &["web"], &json!({}));
    assert_eq!(ask(WEB, "cache"), found(&["10.90.0.9"]));
}

#[test]
fn links_are_of_one_container() {
    let mut world = World::new("links");
    let links = json!({"links": {"Storage": "db", "other": "storage", "db": "db", "gone": "nobody", "round": "round"}});
    world.container("web", "a1", &[WEB], &["web"], &links);
    world.container("web", "b1", &[DB], &["db"], &json!({}));
    world.serve("web");
    for name in ["storage", "STORAGE", "other", "db"] {
        assert_eq!(ask(WEB, name), found(&[DB]), "{name}");
    }
    assert_eq!(ask(WEB, "gone"), code("NXDOMAIN"));
    assert_eq!(ask(WEB, "round"), code("NXDOMAIN"));
    assert_eq!(ask(DB, "storage"), code("SERVFAIL"));
}

#[test]
fn containers_of_other_hosts_have_names_and_no_say() {
    let mut world = World::new("remote");
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    let remote = world.dir("web").join("remote");
    std::fs::create_dir(&remote).unwrap();
    world.serve("web");
    have("10.88.0.50");
    // It says that it has our address too.
    write(&remote, "r1", &json!({"container": "r1", "addresses": ["10.88.0.50", WEB], "names": ["far"]}));
    let (_, mut far) = ask(WEB, "far");
    far.sort();
    assert_eq!(far, [WEB, "10.88.0.50"]);
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
    assert_eq!(ask_for(WEB, SERVER, "2.0.88.10.in-addr.arpa", Rtype::PTR), found(&["web"]));
    assert_eq!(ask("10.88.0.50", "web"), code("REFUSED"));
    // The same of another network, whose server has nothing of it yet when it gets a container of ours.
    world.network("far", &["10.91.0.1"], &json!({}));
    world.container("far", "a1", &["10.91.0.2"], &["web"], &json!({}));
    assert_eq!(ask(WEB, "away"), code("SERVFAIL"));
    let late = world.dir("far").join("remote");
    std::fs::create_dir(&late).unwrap();
    write(&late, "r2", &json!({"container": "r2", "addresses": ["10.91.0.9"], "names": ["away"]}));
    assert_eq!(ask(WEB, "away"), found(&["10.91.0.9"]));
    write(&late, "r3", &json!({"container": "r3", "addresses": ["10.91.0.8"], "names": ["afar"]}));
    assert_eq!(ask(WEB, "afar"), found(&["10.91.0.8"]));
    std::fs::remove_file(late.join("r2")).unwrap();
    assert_eq!(ask(WEB, "away"), code("SERVFAIL"));
    // It does not keep the server alive.
    world.leave("web", "a1");
    world.end("web").unwrap();
}

#[test]
fn bad_files_are_nobody_and_harm_nobody() {
    let mut world = World::new("bad");
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    let dir = world.dir("web").join(HERE);
    std::fs::write(dir.join("x1"), "{").unwrap();
    std::fs::write(dir.join("x2"), vec![0xff; 200_000]).unwrap();
    std::fs::write(dir.join("x3"), r#"{"addresses": ["not one"], "names": ["x3"]}"#).unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.join("x4")).unwrap();
    std::fs::create_dir(dir.join("x5")).unwrap();
    let long = "x".repeat(300);
    world.container("web", "x6", &["10.88.0.6"], &["", ".", "a..b", &long, "\u{e9}", "fine"], &json!({}));
    world.serve("web");
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
    assert_eq!(ask(WEB, "fine"), found(&["10.88.0.6"]));
    assert_eq!(ask(WEB, "x3"), code("SERVFAIL"));
    // It has no name that could be told.
    assert_eq!(ask_for(WEB, SERVER, "6.0.88.10.in-addr.arpa", Rtype::PTR).0, "NOERROR");
}

#[test]
fn subnets_and_the_names_of_their_addresses() {
    let net = |it: &str| it.parse::<IpNet>().ok();
    assert_eq!(reverse::subnet_of("4.3.2.1.in-addr.arpa"), net("1.2.3.4/32"));
    assert_eq!(reverse::subnet_of("2.1.in-addr.arpa"), net("1.2.0.0/16"));
    assert_eq!(reverse::address_of("2.1.in-addr.arpa"), None);
    for name in ["in-addr.arpa", "x.in-addr.arpa", "5.4.3.2.1.in-addr.arpa", "256.in-addr.arpa", "00.ip6.arpa", "web"] {
        assert_eq!(reverse::subnet_of(name), None, "{name}");
    }
    assert_eq!(reverse::subnet_of(&format!("{}ip6.arpa", "0.".repeat(33))), None);
    assert_eq!(reverse::subnet_of(&format!("{}ip6.arpa", "0.".repeat(32))), net("::/128"));
    // All addresses there and back.
    for step in 0..1000_u32 {
        let address = std::net::Ipv4Addr::from(step.wrapping_mul(2_654_435_761));
        let [a, b, c, d] = address.octets();
        assert_eq!(reverse::address_of(&format!("{d}.{c}.{b}.{a}.in-addr.arpa")), Some(address.into()));
    }
}
