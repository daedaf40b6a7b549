//! Containers of several hosts talk: hosts come and go, etcd is away, a host vanishes.

use std::time::{Duration, Instant};

use super::super::etcd::Op;
use super::super::watch::Said;
use super::super::{mtu, peers};
use super::world::{ETCD, World, config, ip, ready, settings, until};
use crate::network::link::{ALL, Vxlan};

const SHORT: Duration = Duration::from_millis(600);

#[test]
fn two_hosts() {
    let mut world = World::new("two", 2);
    world.machines[0].run("c1", "web").unwrap();
    world.machines[1].run("c2", "db").unwrap();
    assert!(world.all_talk());
    let [one, two] = &mut world.machines[..] else { panic!() };
    let (web, db) = (&one.containers[0], &two.containers[0]);
    until("they have names", || {
        web.ask(one.bridge, "db") == [db.four.to_string()] && db.ask(two.bridge, "web") == [web.four.to_string()]
    });
    assert_eq!(web.ask(one.bridge, "web"), [web.four.to_string()]);
    // One for the container, one for the bridge, and three addresses.
    assert_eq!((one.entries(), two.entries()), ((2, 3), (2, 3)));
    // It goes, and nothing of it stays.
    two.remove("c2");
    two.ended();
    until("its entries go", || one.entries() == (1, 1));
    until("its name goes", || one.containers[0].ask(one.bridge, "db").is_empty());
    two.inside(|it| it.overlay.leave(&it.id)).unwrap();
    until("the host goes", || one.entries() == (0, 0));
    assert!(!one.inside(|it| it.overlay.remove()).unwrap());
}

#[test]
fn three_hosts_and_one_more() {
    let mut world = World::new("three", 3);
    for (at, machine) in world.machines.iter_mut().enumerate() {
        machine.run(&format!("c{at}a"), &format!("a{at}")).unwrap();
        machine.run(&format!("c{at}b"), "all").unwrap();
    }
    assert!(world.all_talk());
    let one = &world.machines[0];
    until("three have one name", || one.containers[0].ask(one.bridge, "all").len() == 3);
    // A host that joins finds everybody, with its first container.
    until("the first has a name", || one.containers[0].ask(one.bridge, "a1").len() == 1);
    let four = world.join();
    four.run("c3a", "a3").unwrap();
    let bridge = four.bridge;
    assert_eq!(four.containers[0].ask(bridge, "a1").len(), 1);
    assert!(world.all_talk());
    // And leaves.
    let mut four = world.machines.pop().unwrap();
    four.remove("c3a");
    four.ended();
    four.inside(|it| it.overlay.leave(&it.id)).unwrap();
    for machine in &mut world.machines {
        until("it is gone", || machine.entries() == (4 + 2, 8 + 2));
    }
    assert!(world.all_talk());
}

#[test]
fn five_hosts() {
    let mut world = World::new("five", 5);
    for (at, machine) in world.machines.iter_mut().enumerate() {
        machine.run(&format!("c{at}"), &format!("n{at}")).unwrap();
    }
    assert!(world.all_talk());
    // A host that moves.
    let moved = ip("192.0.2.99");
    let machine = &mut world.machines[4];
    let index = machine.links.find("u0").unwrap().unwrap().index;
    machine.links.address(index, moved, 24).unwrap();
    let vxlan = machine.links.find("v0").unwrap().unwrap();
    machine.links.remove(&vxlan.name).unwrap();
    let bridge = machine.links.find("br0").unwrap().unwrap().index;
    let vni = machine.inside(|it| config(&it.overlay)).unwrap().vni;
    let (name, local, port, underlay) = ("v0", moved, 4789, 0);
    let (learning, proxy, mtu) = (false, true, 1450);
    machine.links.vxlan(&Vxlan { name, vni, local, port, underlay, mtu, learning, proxy, bridge }).unwrap();
    machine.underlay = moved;
    machine.inside(|it| it.tell()).unwrap();
    // Its own agent notices that the link is another one by what fails.
    world.machines[0].run("c9", "n9").unwrap();
    until("it has all entries again", || world.machines[4].entries().0 >= 5 + 4);
    assert!(world.all_talk());
}

#[test]
fn etcd_is_away_for_a_while() {
    let mut world = World::new("away", 2);
    world.machines[0].run("c1", "web").unwrap();
    world.machines[1].run("c2", "db").unwrap();
    assert!(world.all_talk());
    let one = &world.machines[0];
    until("they have names", || one.containers[0].ask(one.bridge, "db").len() == 1);
    world.etcd.kill();
    assert!(world.all_talk());
    // No container can be made, and it is said at once.
    let began = Instant::now();
    let error = format!("{:#}", world.machines[0].run("c3", "x").err().unwrap());
    assert!(began.elapsed() < Duration::from_secs(8) && error.contains("etcd does not answer"), "{error}");
    assert!(error.contains("network web") && error.contains("192.0.2.1:2379"), "{error}");
    std::thread::sleep(Duration::from_secs(4));
    assert!(world.all_talk());
    let one = &world.machines[0];
    assert_eq!(one.containers[0].ask(one.bridge, "db").len(), 1);
    // It is back: what comes now is seen, and what was there.
    world.etcd.restart();
    ready(&super::super::etcd::Client::new(&settings(ETCD)).unwrap());
    world.machines[1].run("c4", "new").unwrap();
    let one = &world.machines[0];
    until("the new one is known", || one.containers[0].ask(one.bridge, "new").len() == 1);
    until("and the old one is", || one.containers[0].ask(one.bridge, "db").len() == 1);
    assert!(world.all_talk());
}

#[test]
fn a_host_that_vanishes() {
    let mut world = World::new("vanish", 3);
    for (at, machine) in world.machines.iter_mut().enumerate() {
        machine.run(&format!("c{at}"), &format!("n{at}")).unwrap();
    }
    assert!(world.all_talk());
    let gone = world.machines[2].containers[0].four;
    let one = &world.machines[0];
    until("it has a name", || one.containers[0].ask(one.bridge, "n2").len() == 1);
    world.wire.remove("host3").unwrap();
    let one = &world.machines[0];
    // Its name goes with etcd's lease; its addresses are still its own.
    until("its name goes", || one.containers[0].ask(one.bridge, "n2").is_empty());
    let mut vanished = world.machines.pop().unwrap();
    assert!(world.all_talk());
    let one = &mut world.machines[0];
    assert_eq!(one.entries(), (4, 6));
    let taken = |_| super::super::Lease { host: "host1".into(), container: "x".into(), mac: [2; 6] };
    let range = (ip("10.99.0.1"), ip("10.99.0.9"));
    let error = format!("{:#}", one.overlay.lease(range, Some(gone), &[], taken).unwrap_err());
    assert!(error.contains("c2") && error.contains("host3"), "{error}");
    // Somebody takes it away.
    one.overlay.leave("host3").unwrap();
    until("its entries go", || one.entries() == (2, 3));
    one.overlay.lease(range, Some(gone), &[], taken).unwrap();
    one.overlay.release(gone, "host1").unwrap();
    std::fs::remove_dir_all(vanished.dir.join("containers")).unwrap();
    vanished.ended();
}

/// A host is cut off while much happens, and etcd has forgotten how it came to what there is now.
#[test]
fn a_host_that_comes_back_late() {
    let mut world = World::new("late", 2);
    world.machines[0].run("c1", "web").unwrap();
    world.machines[1].run("c2", "db").unwrap();
    world.machines[1].run("c3", "store").unwrap();
    let one = &world.machines[0];
    until("they have names", || one.containers[0].ask(one.bridge, "store").len() == 1);
    assert!(world.all_talk());
    // Its watch breaks, and it cannot make another one.
    world.etcd.kill();
    set_link("host1", "down");
    world.etcd.restart();
    let client = super::super::etcd::Client::new(&settings(ETCD)).unwrap();
    ready(&client);
    world.machines[1].remove("c2");
    world.machines[1].run("c4", "new").unwrap();
    until("it has a name", || client.range("/", true).unwrap().0.iter().any(|it| it.key.ends_with("running/c4")));
    let (_, revision) = client.range("/", true).unwrap();
    client.ask("/v3/kv/compaction", &serde_json::json!({"revision": revision.to_string()})).unwrap();
    let mut watch = client.watch("/", 1).unwrap();
    let forgotten = loop {
        match watch.next().unwrap() {
            Said::Begun(_) => {}
            other => break other,
        }
    };
    assert!(matches!(forgotten, Said::Forgotten), "{forgotten:?}");
    let one = &mut world.machines[0];
    assert_eq!((one.entries(), one.containers[0].ask(one.bridge, "db").len()), ((3, 5), 1));
    set_link("host1", "up");
    until("the new one is known", || one.containers[0].ask(one.bridge, "new").len() == 1);
    assert_eq!((one.entries(), one.containers[0].ask(one.bridge, "db").len()), ((3, 5), 0));
    assert!(world.all_talk());
}

fn set_link(name: &str, state: &str) {
    let done = std::process::Command::new("ip").args(["link", "set", name, state]).status().unwrap();
    assert!(done.success());
}

/// What another host may write into etcd does not leave its place here.
#[test]
fn keys_that_are_no_files() {
    let mut world = World::new("hostile", 1);
    world.machines[0].run("c1", "web").unwrap();
    let client = super::super::etcd::Client::new(&settings(ETCD)).unwrap();
    let prefix = format!("/bundle/networks/{}/", super::world::NETWORK);
    let running = br#"{"host": "evil", "addresses": ["10.99.0.99"], "names": ["bad"]}"#;
    let long = "x".repeat(200);
    for id in ["../containers/x", "a/b", ".x", "..", "", "a b", &long] {
        client.apply(&[Op::Put(&format!("{prefix}running/{id}"), running, 0)]).unwrap();
    }
    for value in [&b"{"[..], b"null", b"", b"[1]", &[0xff; 100]] {
        for key in ["running/r1", "addresses/10.99.0.98", "addresses/x", "hosts/evil", "hosts/", "x"] {
            client.apply(&[Op::Put(&format!("{prefix}{key}"), value, 0)]).unwrap();
        }
    }
    client.apply(&[Op::Put(&format!("{prefix}running/good"), running, 0)]).unwrap();
    let one = &mut world.machines[0];
    until("the good one is known", || !one.containers[0].ask(one.bridge, "bad").is_empty());
    let names = |dir: &str| {
        let all = std::fs::read_dir(one.dir.join(dir)).unwrap();
        all.map(|it| it.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((names("remote"), names("containers")), (vec!["good".to_owned()], vec!["c1".to_owned()]));
    assert_eq!(one.entries(), (0, 0));
    // The network's own key is gone: what is known stays, and it is back when that is.
    let config = client.get(&format!("{prefix}config")).unwrap().unwrap();
    client.apply(&[Op::DeleteAll(&prefix)]).unwrap();
    client.apply(&[Op::Put(&config.key, &config.value, 0)]).unwrap();
    until("the good one is gone", || one.containers[0].ask(one.bridge, "bad").is_empty());
}

#[test]
fn hosts_that_are_named_by_hand() {
    let mut world = World::new("static", 0);
    let mut all = Vec::new();
    for at in 1..4_u8 {
        let (namespace, mut links) = crate::network::link::new_namespace().unwrap();
        let bridge = world.wire.find("wire").unwrap().unwrap().index;
        let name = format!("host{at}");
        super::world::cable(&mut world.wire, bridge, &name, "u0", &namespace, None);
        let underlay = ip(&format!("192.0.2.{at}0"));
        links.up("u0").unwrap();
        let index = links.find("u0").unwrap().unwrap().index;
        links.address(index, underlay, 24).unwrap();
        let size = mtu(1500, underlay);
        links.bridge("br0", size, [2, 0, 0, 0, 9, at], &[(ip(&format!("10.99.0.{at}")), 24)]).unwrap();
        let bridge = links.find("br0").unwrap().unwrap().index;
        let (name, vni, local, port) = ("v0", 77, underlay, 4789);
        let (learning, proxy, underlay) = (true, false, 0);
        links.vxlan(&Vxlan { name, vni, local, port, underlay, mtu: size, learning, proxy, bridge }).unwrap();
        all.push((namespace, links));
    }
    let named = |links: &mut crate::network::link::Links, hosts: &[&str]| {
        let index = links.find("v0").unwrap().unwrap().index;
        peers(links, index, &hosts.iter().map(|it| ip(it)).collect::<Vec<_>>()).unwrap();
        let mut there: Vec<String> =
            links.forwardings(index).unwrap().iter().filter(|it| it.0 == ALL).map(|it| it.1.to_string()).collect();
        there.sort();
        assert_eq!(there, hosts);
    };
    named(&mut all[0].1, &["192.0.2.20", "192.0.2.30", "192.0.2.40"]);
    named(&mut all[0].1, &["192.0.2.20", "192.0.2.30"]);
    named(&mut all[1].1, &["192.0.2.10"]);
    named(&mut all[2].1, &["192.0.2.10"]);
    use std::os::fd::AsFd;
    let reaches = |from: usize, to: &str, most: Duration| {
        let ping = || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((to, 9)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let began = Instant::now();
            // Nobody listens there: the host says so, and so it is reached.
            while began.elapsed() < most {
                let refused = socket.send(b"x").and_then(|_| socket.recv(&mut [0; 9]));
                if refused.is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionRefused) {
                    return true;
                }
            }
            false
        };
        crate::network::link::inside(all[from].0.as_fd(), ping).unwrap()
    };
    for (from, to) in [(0, "10.99.0.2"), (0, "10.99.0.3"), (1, "10.99.0.1"), (2, "10.99.0.1")] {
        assert!(reaches(from, to, Duration::from_secs(5)), "{from} {to}");
    }
    // These two have not been told of each other.
    assert!(!reaches(1, "10.99.0.3", SHORT));
}
