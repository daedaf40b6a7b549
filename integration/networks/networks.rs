//! `bundle network`: what is made, refused, connected, removed.

use crate::bed::{Host, Namespace, until};

#[test]
fn made_listed_shown_and_removed() {
    let host = Host::new("made");
    let id = host.run(&["network", "create", "--subnet", "10.7.0.0/24", "--label", "team=web", "front"]).ok().out;
    let id = id.trim();
    assert_eq!(id.len(), 64);
    host.run(&["network", "create", "--ipv6", "back"]).ok();
    let list = host.run(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Subnets}}"]).ok().out;
    assert!(list.contains("front bridge 10.7.0.0/24\n"), "{list}");
    assert!(list.contains("back bridge 10.96.0.0/24, fd"), "{list}");
    assert_eq!(host.run(&["network", "ls", "-q", "-f", "label=team=web"]).ok().out, "front\n");
    assert_eq!(host.run(&["network", "ls", "-q", "-f", "name=ack"]).ok().out, "back\n");
    assert_eq!(host.run(&["network", "ls", "-q", "-f", "dangling=false"]).ok().out, "");
    host.run(&["network", "ls", "-f", "colour=red"]).fails(1, "--filter");
    host.detached("web", &["--network", "front", "--network-alias", "www"], "sleep 100");
    let shown = host.run(&["network", "inspect", "front", &id[..12]]).ok().json();
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0]["IPAM"]["Config"][0]["Gateway"], "10.7.0.1");
    let containers = shown[0]["Containers"].as_object().unwrap();
    let web = containers.values().next().unwrap();
    assert_eq!(web["Name"], "web");
    assert_eq!(web["IPv4Address"], "10.7.0.2/24");
    assert_eq!(web["MacAddress"], "02:42:0a:07:00:02");
    assert_eq!(host.run(&["inspect", "--type", "network", "front"]).ok().json()[0]["Id"], id);
    assert_eq!(host.run(&["ps", "-q", "--filter", "network=front"]).ok().out.lines().count(), 1);
    assert_eq!(host.run(&["ps", "-q", "--filter", "network=back"]).ok().out, "");
    host.run(&["network", "rm", "front"]).fails(1, "in use by web");
    host.run(&["network", "rm", "none-such"]).fails(1, "no such network");
    host.run(&["network", "rm", "-f", "none-such"]).ok();
    host.run(&["rm", "-f", "web"]).ok();
    let dry = host.run(&["network", "prune", "--dry-run"]).ok();
    assert!(dry.err.contains("network back") && dry.err.contains("2 networks"), "{}", dry.err);
    host.run(&["network", "rm", "front", "back"]).ok();
    host.is_clean();
}

#[test]
fn what_cannot_be_is_refused_with_nothing_left() {
    let host = Host::new("refused");
    host.net.sh("ip link add wan type bridge && ip addr add 192.0.2.7/24 dev wan && ip link set wan up");
    host.net.sh("ip route add 10.50.0.0/16 dev wan");
    host.run(&["network", "create", "--subnet", "10.7.0.0/24", "there"]).ok();
    for (words, said) in [
        (&["--subnet", "10.7.0.0/16", "xx"][..], "overlaps 10.7.0.0/24 of network there"),
        (&["--subnet", "10.7.0.128/25", "xx"], "overlaps"),
        (&["--subnet", "192.0.2.0/28", "xx"], "by wan"),
        (&["--subnet", "10.50.3.0/24", "xx"], "by wan"),
        (&["there"], "a network there already"),
        (&["none"], "means something else"),
        (&["a b"], "the network's name"),
        (&["--subnet", "10.9.0.0/31", "xx"], "--subnet"),
        (&["--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1", "xx"], "--gateway"),
        (&["--subnet", "10.9.0.0/24", "--ip-range", "10.8.0.0/28", "xx"], "--ip-range"),
        (&["--opt", "mtu=9", "xx"], "mtu"),
        (&["--driver", "macvlan", "--subnet", "10.9.0.0/24", "--opt", "parent=none-such", "xx"], "none-such"),
    ] {
        host.run(&[&["network", "create"], words].concat()).fails(1, said);
    }
    assert_eq!(host.run(&["network", "ls", "-q"]).ok().out, "there\n");
    assert_eq!(host.net.sh("ip -o link | wc -l"), "2\n");
    host.is_clean();
}

#[test]
fn networks_are_isolated_and_internal_ones_shut_off() {
    let host = Host::new("isolated");
    let outside = Namespace::new();
    host.net.wire("wan", "192.0.2.1/24", &outside, "wan", "192.0.2.2/24");
    for (name, flags) in [
        ("one", &["--subnet", "10.1.0.0/24"][..]),
        ("two", &["--subnet", "10.2.0.0/24"]),
        ("open1", &["--subnet", "10.3.0.0/24", "--opt", "isolate=false"]),
        ("open2", &["--subnet", "10.4.0.0/24", "--opt", "isolate=false"]),
        ("shut", &["--subnet", "10.5.0.0/24", "--internal"]),
    ] {
        host.run(&[&["network", "create"], flags, &[name]].concat()).ok();
        host.web(&format!("{name}-a"), &["--network", name]);
        host.web(&format!("{name}-b"), &["--network", name]);
    }
    let address = |name: &str| host.inspect(name, ".NetworkSettings.IPAddress");
    let reaches = |from: &str, to: &str| host.does(from, &format!("timeout 1 wget -qO- http://{to}/ | grep -q ."));
    for name in ["one", "two", "open1", "open2", "shut"] {
        let (a, b) = (format!("{name}-a"), address(&format!("{name}-b")));
        until("neighbours reach each other", || reaches(&a, &b));
        assert!(host.net.does(&format!("curl -sf -m 2 http://{b}/")), "the host reaches {name}");
        // From elsewhere nobody gets at what is not published, whatever routes they have.
        let subnet = format!("{}.0/24", b.rsplit_once('.').unwrap().0);
        outside.sh(&format!("ip route add {subnet} via 192.0.2.1"));
        assert!(!outside.does(&format!("curl -sf -m 1 http://{b}/")), "{name}");
    }
    assert!(!reaches("one-a", &address("two-a")) && !reaches("two-a", &address("one-a")));
    assert!(!reaches("one-a", &address("open1-a")) && !reaches("open1-a", &address("one-a")));
    assert!(reaches("open1-a", &address("open2-a")) && reaches("open2-a", &address("open1-a")));
    assert!(!reaches("one-a", &address("shut-a")) && !reaches("shut-a", &address("one-a")));
    // The world sees the host's address, and nothing of the internal network.
    let server = outside.spawn("python3 -m http.server --bind 192.0.2.2 80");
    until("the world answers", || outside.does("curl -sf -m 1 http://192.0.2.2/"));
    outside.sh("ip route del 10.1.0.0/24");
    assert!(host.does("one-a", "ping -c1 -W2 192.0.2.2"), "by the host's address");
    assert!(!host.does("shut-a", "ping -c1 -W1 192.0.2.2") && !host.does("shut-a", "ping -c1 -W1 192.0.2.1"));
    assert!(!host.exec("shut-a", "ip route").contains("default"));
    drop(server);
    let all: Vec<String> =
        ["one", "two", "open1", "open2", "shut"].iter().flat_map(|it| [format!("{it}-a"), format!("{it}-b")]).collect();
    let mut words = vec!["rm", "-f"];
    words.extend(all.iter().map(String::as_str));
    host.run(&words).ok();
    host.is_clean();
}

#[test]
fn connected_and_disconnected_while_it_runs() {
    let host = Host::new("live");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    host.run(&["network", "create", "--subnet", "10.2.0.0/24", "--ipv6", "two"]).ok();
    host.detached("still", &["--network", "none"], "sleep 100");
    host.detached("other", &["--network", "two"], "sleep 100");
    assert!(!host.exec("still", "ip -o link").contains("eth0"));
    host.run(&["network", "connect", "one", "still"]).ok();
    assert!(host.exec("still", "ip -o -4 addr; ip route").contains("default via 10.1.0.1"));
    assert!(host.does("still", "ping -c1 -W2 10.1.0.1"));
    assert!(host.exec("still", "cat /etc/resolv.conf").contains("nameserver 10.1.0.1"));
    host.run(&["network", "connect", "--ip", "10.2.0.77", "--alias", "calm", "two", "still"]).ok();
    assert!(host.exec("still", "ip -o -4 addr show eth1").contains("10.2.0.77/24"));
    assert_eq!(host.exec("still", "ip route").matches("default").count(), 1);
    assert!(host.does("other", "ping -c1 -W2 calm") && host.does("still", "ping -c1 -W2 other"));
    assert!(host.does("other", "nslookup -type=aaaa calm | grep -q fd"), "in both families");
    host.run(&["network", "connect", "two", "still"]).fails(1, "already");
    host.run(&["network", "connect", "none-such", "still"]).fails(1, "none-such");
    host.run(&["network", "connect", "two", "none-such"]).fails(1, "none-such");
    host.run(&["network", "disconnect", "two", "still"]).ok();
    assert!(!host.exec("still", "ip -o link").contains("eth1"));
    assert!(!host.does("other", "ping -c1 -W1 calm"));
    host.run(&["network", "disconnect", "two", "still"]).fails(1, "not in network two");
    host.run(&["network", "disconnect", "-f", "two", "still"]).ok();
    // The way to the world goes over to another network.
    host.run(&["network", "connect", "two", "still"]).ok();
    host.run(&["network", "disconnect", "one", "still"]).ok();
    assert!(host.exec("still", "ip route").contains("default via 10.2.0.1"));
    host.run(&["network", "connect", "one", "still"]).ok();
    host.run(&["network", "disconnect", "two", "still"]).ok();
    // What was changed while it ran is so after the next start; and it can be changed while it does not.
    host.run(&["stop", "-t", "0", "still"]).ok();
    host.run(&["network", "connect", "two", "still"]).ok();
    host.run(&["start", "still"]).ok();
    assert!(host.exec("still", "ip -o -4 addr").contains("eth1    inet 10.2.0."));
    host.run(&["network", "rm", "-f", "two"]).ok();
    assert!(!host.exec("still", "ip -o link").contains("eth1"));
    assert!(!host.exec("other", "ip -o link").contains("eth0"));
    host.run(&["rm", "-f", "still", "other"]).ok();
    host.is_clean();
}

#[test]
fn fixed_addresses_and_sizes() {
    let host = Host::new("fixed");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:7::/64", "--opt", "mtu=1400", "one"])
        .ok();
    let flags = ["--network", "one", "--ip", "10.1.0.50", "--ip6", "fd00:7::50", "--mac-address", "02:11:22:33:44:55"];
    host.detached("fixed", &flags, "sleep 100");
    let shown = host.exec("fixed", "ip addr show eth0");
    for wanted in ["mtu 1400", "02:11:22:33:44:55", "inet 10.1.0.50/24", "inet6 fd00:7::50/64"] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(host.does("fixed", "ping -c1 -W2 fd00:7::1"));
    host.run(&["run", "--rm", "--network", "one", "--ip", "10.1.0.50", "it", "true"]).fails(125, "container fixed's");
    host.run(&["run", "--rm", "--network", "one", "--mac-address", "02:11:22:33:44:55", "it", "true"])
        .fails(125, "container fixed has it");
    host.run(&["rm", "-f", "fixed"]).ok();
    host.run(&["run", "--rm", "--network", "one", "--ip", "10.1.0.50", "it", "true"]).ok();
    host.is_clean();
}

/// After the machine's start nothing of a network is there but its row.
#[test]
fn what_somebody_took_away_comes_back() {
    let host = Host::new("reload");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    host.web("web", &["--network", "one"]);
    host.detached("other", &["--network", "one"], "sleep 100");
    let asks = || host.does("other", "timeout 2 wget -qO- http://web/ | grep -qx web");
    until("it answers", asks);
    // The rules: the next reload has them, and touches nobody else's.
    host.net
        .sh("nft add table inet theirs && nft add chain inet theirs input '{ type filter hook input priority 0; }'");
    let before = host.net.sh("nft list table inet theirs");
    let ours = |it: &Host| it.net.sh("nft list ruleset | grep -c 'table inet bundle' || true");
    assert_eq!(ours(&host), "1\n");
    host.net.sh("nft delete table inet $(nft list tables | grep -o 'bundle.*')");
    host.run(&["network", "reload"]).ok();
    assert_eq!(ours(&host), "1\n");
    assert_eq!(host.net.sh("nft list table inet theirs"), before);
    host.net.sh("nft flush ruleset");
    host.run(&["run", "--rm", "--network", "one", "it", "true"]).ok();
    assert_eq!(ours(&host), "1\n", "a start puts them back too");
    // The bridge.
    let bridge = host.run(&["network", "inspect", "--format", "{{.Device}}", "one"]).ok().out;
    host.net.sh(&format!("ip link del {bridge}"));
    assert!(!asks());
    host.run(&["network", "reload"]).ok();
    until("it answers again", asks);
    // The name server.
    for pid in host.servers() {
        crate::bed::kill("KILL", pid);
    }
    host.run(&["network", "reload"]).ok();
    until("names are answered again", asks);
    host.run(&["rm", "-f", "web", "other"]).ok();
    host.is_clean();
}

#[test]
fn addresses_of_their_own_on_the_hosts_wire() {
    let host = Host::new("macvlan");
    let outside = Namespace::new();
    host.net.wire("wan", "192.0.2.1/24", &outside, "wan", "192.0.2.2/24");
    let words = [
        "network",
        "create",
        "--driver",
        "macvlan",
        "--subnet",
        "192.0.2.0/24",
        "--gateway",
        "192.0.2.2",
        "--ip-range",
        "192.0.2.128/25",
        "--opt",
        "parent=wan",
        "wire",
    ];
    host.run(&words).ok();
    host.web("web", &["--network", "wire"]);
    let address = host.address("web");
    assert_eq!(address, "192.0.2.128");
    until("it answers to others on the wire", || {
        outside.does(&format!("curl -sf -m 2 http://{address}/ | grep -qx web"))
    });
    host.detached("other", &["--network", "wire"], "sleep 100");
    assert!(host.does("other", &format!("timeout 2 wget -qO- http://{address}/")));
    assert!(host.exec("web", "ip route").contains("default via 192.0.2.2"));
    host.run(&["rm", "-f", "web", "other"]).ok();
    host.is_clean();
}
