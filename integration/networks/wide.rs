//! Networks across hosts: each host is a network namespace on one switch, where etcd runs, too.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::bed::{Host, Namespace, Running, sh, until};

/// A switch with so many hosts, 192.0.2.1 and following, and etcd at 192.0.2.254.
struct Site {
    hosts: Vec<Host>,
    switch: Namespace,
    etcd: Option<Running>,
}

impl Site {
    fn new(name: &str, count: usize) -> Self {
        let switch = Namespace::new();
        switch.sh("ip link add sw type bridge && ip addr add 192.0.2.254/24 dev sw && ip link set sw up");
        let mut site = Self { hosts: Vec::new(), switch, etcd: None };
        for number in 1..=count {
            site.add(name, number);
        }
        site.start_etcd();
        site
    }

    /// One host more.
    fn add(&mut self, name: &str, number: usize) {
        let host = Host::new(&format!("{name}{number}"));
        let (port, keeper) = (format!("p{number}"), self.switch.keeper());
        host.net.sh(&format!("ip link add wan type veth peer name {port} netns /proc/{keeper}/ns/net"));
        host.net.sh(&format!("ip addr add 192.0.2.{number}/24 dev wan && ip link set wan up"));
        self.switch.sh(&format!("ip link set {port} master sw up"));
        self.hosts.push(host);
    }

    fn start_etcd(&mut self) {
        let dir = self.hosts[0].bed.0.text("etcd");
        let url = "http://192.0.2.254:2379";
        self.etcd = Some(self.switch.spawn(&format!(
            "etcd --data-dir {dir} --listen-client-urls {url} --advertise-client-urls {url} \
             --listen-peer-urls http://127.0.0.1:2380 --log-level error"
        )));
        until("etcd answers", || self.switch.does(&format!("curl -sf -m 1 {url}/health")));
    }

    /// The network on all hosts.
    fn network(&self, flags: &[&str]) {
        for host in &self.hosts {
            Self::join(host, flags);
        }
    }

    fn join(host: &Host, flags: &[&str]) {
        let words = ["network", "create", "--driver", "vxlan", "--opt", "etcd=http://192.0.2.254:2379"];
        host.run(&[&words[..], flags, &["wide"]].concat()).ok();
    }

    /// All that etcd has, but for the values.
    fn keys(&self) -> String {
        let body = r#"{"key": "Lw==", "range_end": "MA==", "keys_only": true}"#;
        self.switch.sh(&format!("curl -sf -m 5 http://192.0.2.254:2379/v3/kv/range -d '{body}'"))
    }

    /// Takes all away; then etcd knows nothing any more.
    fn is_clean(&self) {
        for host in &self.hosts {
            let ids = host.run(&["ps", "-aq"]).ok().out;
            let ids: Vec<&str> = ids.split_whitespace().collect();
            if !ids.is_empty() {
                host.run(&[&["rm", "-f"], &ids[..]].concat()).ok();
            }
            host.run(&["network", "rm", "wide"]).ok();
            host.is_clean();
        }
        let keys = self.keys();
        assert!(!keys.contains("kvs"), "{keys}");
    }
}

fn reaches(from: &Host, name: &str, to: &str) -> bool {
    from.does(name, &format!("ping -c1 -W2 {to}"))
}

#[test]
fn two_hosts_are_one_network() {
    let site = Site::new("two", 2);
    site.network(&["--subnet", "10.5.0.0/24", "--subnet", "fd00:5::/64"]);
    let [one, two] = &site.hosts[..] else { panic!() };
    one.web("web", &["--network", "wide"]);
    two.detached("asks", &["--network", "wide", "--network-alias", "who"], "sleep 1000");
    assert!(two.exec("asks", "ip link show eth0").contains("mtu 1450"));
    assert_ne!(one.address("web"), two.address("asks"));
    until("by name, over the wire", || two.does("asks", "timeout 3 wget -qO- http://web/ | grep -qx web"));
    assert!(reaches(two, "asks", &one.address("web")) && reaches(one, "web", &two.address("asks")));
    assert!(reaches(one, "web", "asks") && reaches(one, "web", "who"));
    assert!(reaches(one, "web", &two.inspect("asks", ".NetworkSettings.GlobalIPv6Address")));
    let back = one.exec("web", &format!("nslookup {}", two.address("asks")));
    assert!(back.contains("name = asks"), "{back}");
    // The largest packet, and more of them than fit into any buffer.
    assert!(two.does("asks", "ping -c1 -W2 -s 1422 web"));
    one.exec("web", "dd if=/dev/zero of=/www/large bs=1M count=20 2>/dev/null");
    assert_eq!(two.exec("asks", "timeout 60 wget -qO- http://web/large | wc -c"), "20971520\n");
    // No packet is flooded: nobody is sent what is for all, and who has an address is known without a question.
    let link = two.net.sh("ip -o link show type vxlan | cut -d: -f2").trim().to_owned();
    assert!(!two.net.sh(&format!("bridge fdb show dev {link}")).contains("00:00:00:00:00:00"));
    let known = two.net.sh(&format!("ip neigh show dev {link} nud permanent"));
    assert!(known.contains(&one.address("web")), "{known}");
    let inspected = two.run(&["network", "inspect", "wide"]).ok().json();
    assert_eq!(inspected[0]["Hosts"].as_array().unwrap().len(), 2);
    assert_eq!(inspected[0]["Scope"], "global");
    // Who has gone is not found any more; who moves is found there.
    one.run(&["rm", "-f", "web"]).ok();
    until("the name is gone", || !reaches(two, "asks", "web"));
    two.web("web", &["--network", "wide"]);
    one.detached("asks1", &["--network", "wide"], "sleep 1000");
    until("it is found where it is now", || one.does("asks1", "timeout 3 wget -qO- http://web/ | grep -qx web"));
    one.run(&[
        "network",
        "create",
        "--driver",
        "vxlan",
        "--subnet",
        "10.6.0.0/24",
        "--opt",
        "etcd=http://192.0.2.254:2379",
        "wide2",
    ])
    .ok();
    two.run(&[
        "network",
        "create",
        "--driver",
        "vxlan",
        "--subnet",
        "10.7.0.0/24",
        "--opt",
        "etcd=http://192.0.2.254:2379",
        "wide2",
    ])
    .fails(1, "10.6.0.0/24");
    site.is_clean_but(&["wide2"]);
}

impl Site {
    fn is_clean_but(&self, networks: &[&str]) {
        for name in networks {
            self.hosts[0].run(&["network", "rm", name]).ok();
        }
        self.is_clean();
    }
}

#[test]
fn five_hosts_that_come_and_go() {
    let mut site = Site::new("five", 3);
    site.network(&["--subnet", "10.5.0.0/24"]);
    for (number, host) in site.hosts.iter().enumerate() {
        host.detached(&format!("n{number}"), &["--network", "wide"], "sleep 1000");
    }
    for number in 4..=5 {
        site.add("five", number);
        let host = site.hosts.last().unwrap();
        Site::join(host, &["--subnet", "10.5.0.0/24"]);
        host.detached(&format!("n{}", number - 1), &["--network", "wide"], "sleep 1000");
    }
    for from in 0..5 {
        for to in 0..5 {
            until(&format!("{from} reaches {to}"), || {
                reaches(&site.hosts[from], &format!("n{from}"), &format!("n{to}"))
            });
        }
    }
    // One leaves.
    site.hosts[2].run(&["rm", "-f", "n2"]).ok();
    site.hosts[2].run(&["network", "rm", "wide"]).ok();
    assert!(reaches(&site.hosts[0], "n0", "n4"));
    until("it is known to have gone", || !reaches(&site.hosts[0], "n0", "n2"));
    Site::join(&site.hosts[2], &["--subnet", "10.5.0.0/24"]);
    site.hosts[2].detached("n2", &["--network", "wide"], "sleep 1000");
    until("and to have come back", || reaches(&site.hosts[0], "n0", "n2"));
    site.is_clean();
}

#[test]
fn two_hosts_that_lease_at_once() {
    let site = Site::new("lease", 2);
    site.network(&["--subnet", "10.5.0.0/26"]);
    let mut children = Vec::new();
    for number in 0..20 {
        for host in &site.hosts {
            let name = format!("c{number}");
            let words = ["create", "--name", &name, "--network", "wide", "it"];
            children.push(host.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        }
    }
    for (number, child) in children.iter_mut().enumerate() {
        if number % 5 == 4 {
            let _ = child.kill();
        }
    }
    for (number, child) in children.iter_mut().enumerate() {
        let status = child.wait().unwrap();
        assert!(number % 5 == 4 || status.success(), "{number}: {status}");
    }
    let mut all = Vec::new();
    for host in &site.hosts {
        let shown = host.run(&["network", "inspect", "wide"]).ok().json();
        for container in shown[0]["Containers"].as_object().unwrap().values() {
            all.push(container["IPv4Address"].as_str().unwrap().to_owned());
        }
        all.push(shown[0]["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned() + "/26");
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert!(count >= 34 && all.len() == count, "{all:?}");
    // A fixed one that the other host has given away.
    let taken = all.iter().find(|it| !it.is_empty()).unwrap().trim_end_matches("/26").to_owned();
    for host in &site.hosts {
        host.run(&["create", "--network", "wide", "--ip", &taken, "it"]).fails(1, &taken);
    }
    site.is_clean();
}

#[test]
fn etcd_goes_away_and_comes_back() {
    let mut site = Site::new("away", 2);
    site.network(&["--subnet", "10.5.0.0/24"]);
    site.hosts[0].detached("n0", &["--network", "wide"], "sleep 1000");
    site.hosts[1].detached("n1", &["--network", "wide"], "sleep 1000");
    until("they talk", || reaches(&site.hosts[0], "n0", "n1"));
    drop(site.etcd.take());
    assert!(reaches(&site.hosts[0], "n0", "n1") && reaches(&site.hosts[1], "n1", "n0"), "those that run go on");
    let began = Instant::now();
    site.hosts[0].run(&["run", "--rm", "--network", "wide", "it", "true"]).fails(125, "etcd");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(site.hosts[0].run(&["ps", "-aq"]).ok().out.lines().count(), 1);
    // One that is removed now is given back later.
    site.hosts[1].run(&["rm", "-f", "n1"]).ok();
    site.start_etcd();
    site.hosts[1].detached("n2", &["--network", "wide"], "sleep 1000");
    until("the new one is reached", || reaches(&site.hosts[0], "n0", "n2"));
    // Its debt is a minute old when it is paid: here the row says so.
    let database = site.hosts[1].bed.0.text("store/bundle.db");
    sh(&format!(
        "python3 -c \"import sqlite3; it = sqlite3.connect('{database}'); it.execute('UPDATE debts SET since = 0'); it.commit()\""
    ));
    site.hosts[1].run(&["ps"]).ok();
    site.is_clean();
}

#[test]
fn a_host_that_vanishes() {
    let mut site = Site::new("vanish", 3);
    site.network(&["--subnet", "10.5.0.0/24"]);
    for (number, host) in site.hosts.iter().enumerate() {
        host.detached(&format!("n{number}"), &["--network", "wide"], "sleep 1000");
    }
    until("they talk", || reaches(&site.hosts[0], "n0", "n2") && reaches(&site.hosts[1], "n1", "n2"));
    // Its cable is pulled: it cannot say goodbye.
    site.switch.sh("ip link set p3 down");
    assert!(!reaches(&site.hosts[0], "n0", "n2"));
    assert!(reaches(&site.hosts[0], "n0", "n1"));
    site.hosts[0].detached("more", &["--network", "wide"], "sleep 1000");
    until("new ones are found", || reaches(&site.hosts[1], "n1", "more"));
    site.switch.sh("ip link set p3 up");
    until("it is back", || reaches(&site.hosts[0], "n0", "n2") && reaches(&site.hosts[2], "n2", "more"));
    site.is_clean();
    site.etcd.take();
}

/// Without etcd: each host has a part of the addresses, and is told of the others.
#[test]
fn peers_by_hand() {
    let site = Site::new("peers", 3);
    for (number, host) in site.hosts.iter().enumerate() {
        let local = format!("local=192.0.2.{}", number + 1);
        let (range, gateway) = (format!("10.5.0.{}/26", 64 * number), format!("10.5.0.{}", 64 * number + 1));
        let mut words = vec![
            "network",
            "create",
            "--driver",
            "vxlan",
            "--subnet",
            "10.5.0.0/24",
            "--ip-range",
            &range,
            "--gateway",
            &gateway,
            "--opt",
            "vni=5",
            "--opt",
            &local,
        ];
        let peers: Vec<String> = (0..3).filter(|it| *it != number).map(|it| format!("192.0.2.{}", it + 1)).collect();
        for peer in &peers {
            words.extend(["--peer", peer]);
        }
        words.push("wide");
        host.run(&words).ok();
        host.detached(&format!("n{number}"), &["--network", "wide"], "sleep 1000");
    }
    for from in 0..3 {
        for to in 0..3 {
            let address = site.hosts[to].address(&format!("n{to}"));
            until(&format!("{from} reaches {to}"), || reaches(&site.hosts[from], &format!("n{from}"), &address));
        }
    }
    site.is_clean();
}
