//! The rules, with real packets.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::network::testbed::{Bed, Space, ip, network};

use Protocol::{Tcp, Udp};

const BOTH: [Protocol; 2] = [Tcp, Udp];

fn published(protocol: Protocol, host: Option<&str>, port: u16, to: &str) -> Published {
    let bridge = if to.contains("89") { "br-b" } else { "br-a" }.into();
    Published { protocol, host: host.map(ip), port, to: to.parse().unwrap(), bridge, sources: vec![] }
}

/// The address as whom a server sees us.
fn seen(space: &Space, protocol: Protocol, to: &str) -> String {
    space.ask(protocol, to.parse().unwrap())
}

fn open(bed: &Bed) -> Firewall {
    bed.host.run(|| Firewall::open("bundle")).unwrap()
}

/// Ports 8080 (all addresses) and 8081 (one) of both protocols and families to `a`.
fn usual() -> Vec<Published> {
    let of = |protocol| {
        [
            published(protocol, None, 8080, "10.88.0.2:80"),
            published(protocol, None, 8080, "[fd88::2]:80"),
            published(protocol, Some("192.0.2.1"), 8081, "10.88.0.2:80"),
            published(protocol, Some("2001:db8::1"), 8081, "[fd88::2]:80"),
            published(protocol, Some("127.0.0.1"), 8082, "10.88.0.2:80"),
        ]
    };
    BOTH.into_iter().flat_map(of).collect()
}

fn every_way(bed: &Bed) {
    for protocol in BOTH {
        for (from, who) in [(&bed.near, "near"), (&bed.host, "host"), (&bed.a, "a"), (&bed.b, "b"), (&bed.c, "c")] {
            for to in ["192.0.2.1:8080", "192.0.2.1:8081", "[2001:db8::1]:8080", "[2001:db8::1]:8081"] {
                assert_eq!(from.who(protocol, to), "a", "{who} {protocol} {to}");
            }
        }
        for to in ["10.88.0.1:8080", "[fd88::1]:8080"] {
            assert_eq!(bed.b.who(protocol, to), "a", "{protocol} {to}");
            assert_eq!(bed.a.who(protocol, to), "a", "{protocol} {to}");
            assert_eq!(bed.host.who(protocol, to), "a", "{protocol} {to}");
        }
        assert_eq!(bed.host.who(protocol, "127.0.0.1:8080"), "a");
        assert_eq!(bed.host.who(protocol, "127.0.0.1:8082"), "a");
        assert_eq!(bed.host.who(protocol, "127.0.0.7:8080"), "a");
        // Only the address that was named.
        assert_eq!(bed.near.who(protocol, "192.0.2.1:8082"), "no");
        assert_eq!(bed.host.who(protocol, "127.0.0.1:8081"), "no");
        assert_eq!(bed.host.who(protocol, "10.88.0.1:8081"), "no");
        // The one asks whom it saw.
        assert_eq!(seen(&bed.near, protocol, "192.0.2.1:8080"), "a 192.0.2.2".replace("192", "::ffff:192"));
        assert_eq!(seen(&bed.near, protocol, "[2001:db8::1]:8080"), "a 2001:db8::2");
    }
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let bed = Bed::new();
    let mut firewall = open(&bed);
    assert!(firewall.ensure(&bed.networks).unwrap());
    firewall.publish(&usual()).unwrap();
    every_way(&bed);
    // The same where bridges do not show us what they carry.
    bed.host.sh(
        "cd /proc/sys/net/bridge && for it in bridge-nf-call-iptables bridge-nf-call-ip6tables; do echo 0 > $it; done",
    );
    every_way(&bed);
}

#[test]
fn what_must_not_be_reached() {
    let mut bed = Bed::new();
    let mut firewall = open(&bed);
    // Without any rule a host that forwards lets everything through.
    assert_eq!(bed.near.who(Tcp, "10.88.0.2:80"), "a");
    firewall.ensure(&bed.networks).unwrap();
    firewall.publish(&usual()).unwrap();
    // Nobody on the host is to answer these by himself.
    for at in ["127.0.0.1:8090", "[::1]:8090"] {
        for protocol in BOTH {
            bed.host.serve("host", protocol, at.parse().unwrap());
        }
    }
    for protocol in BOTH {
        for container in ["10.88.0.2:80", "[fd88::2]:80"] {
            assert_eq!(bed.near.who(protocol, container), "nothing", "{protocol} directly");
            assert_eq!(bed.c.who(protocol, container), "nothing", "{protocol} from another network");
            assert_eq!(bed.b.who(protocol, container), "a", "{protocol} within the network");
            assert_eq!(bed.host.who(protocol, container), "a", "{protocol} from the host");
        }
    }
    // Packets for the loopback address from machines and containers that have none themselves.
    for space in [&mut bed.near, &mut bed.b] {
        space.sh("ip addr del 127.0.0.1/8 dev lo; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.0/8 via $(ip route show default | cut -d' ' -f3)");
    }
    for protocol in BOTH {
        for (who, from) in [("near", &bed.near), ("b", &bed.b)] {
            for to in ["127.0.0.1:8080", "127.0.0.1:8082", "127.0.0.1:8090"] {
                assert_eq!(from.who(protocol, to), "nothing", "{who} {protocol} {to}");
            }
        }
    }
}

/// Programs of the host trust whoever speaks from its own addresses.
#[test]
fn nobody_speaks_from_the_hosts_loopback() {
    let bed = Bed::new();
    open(&bed).ensure(&bed.networks).unwrap();
    let program = bed.host.run(|| UdpSocket::bind("10.88.0.1:9999")).unwrap();
    program.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    bed.b.sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip addr del 127.0.0.1/8 dev lo; ip addr add 127.0.0.2/32 dev eth0");
    for (from, heard) in [("10.88.0.3:0", true), ("127.0.0.2:0", false)] {
        bed.b.run(|| UdpSocket::bind(from).and_then(|it| it.send_to(b"hello", "10.88.0.1:9999"))).unwrap();
        assert_eq!(program.recv(&mut [0; 9]).is_ok(), heard, "{from}");
    }
}

#[test]
fn open_internal_and_isolated_networks() {
    let mut bed = Bed::new();
    let mut firewall = open(&bed);
    let ask = |from: &Space, to: &str| BOTH.map(|it| from.who(it, to)).join(" ");
    let [mut one, mut two] = bed.networks.clone();
    for (isolated, expected) in [([false, true], "nothing nothing"), ([false, false], "c c")] {
        [one.isolated, two.isolated] = isolated;
        firewall.ensure(&[one.clone(), two.clone()]).unwrap();
        for to in ["10.89.0.2:80", "[fd89::2]:80"] {
            assert_eq!(ask(&bed.a, to), expected, "{isolated:?} {to}");
        }
    }
    // Neighbours see each other as they are.
    assert_eq!(seen(&bed.a, Tcp, "10.89.0.2:80"), "c ::ffff:10.88.0.2");
    two.internal = true;
    firewall.ensure(&[one.clone(), two.clone()]).unwrap();
    firewall.publish(&[published(Tcp, None, 8080, "10.89.0.2:80")]).unwrap();
    for to in ["10.89.0.2:80", "192.0.2.1:8080"] {
        assert_eq!(bed.a.who(Tcp, to), "nothing", "{to}");
        assert_eq!(bed.near.who(Tcp, to), "nothing", "{to}");
    }
    for to in ["192.0.2.2:7", "[2001:db8::2]:7", "10.88.0.2:80", "[fd88::2]:80"] {
        assert_eq!(ask(&bed.c, to), "nothing nothing", "{to}");
    }
    // Within it, and with the host, all is as ever.
    let d = crate::network::testbed::container(&mut bed.host, "br-b", 3, &two.subnets);
    assert_eq!(ask(&d, "10.89.0.2:80"), "c c");
    assert_eq!(ask(&d, "[fd89::2]:80"), "c c");
    assert_eq!(ask(&bed.host, "10.89.0.2:80"), "c c");
    assert_eq!(bed.host.who(Tcp, "127.0.0.1:8080"), "c");
}

#[test]
fn containers_are_hidden_behind_the_host_elsewhere() {
    let mut bed = Bed::new();
    let mut firewall = open(&bed);
    let [mut one, two] = bed.networks.clone();
    firewall.ensure(&[one.clone(), two]).unwrap();
    for protocol in BOTH {
        assert_eq!(seen(&bed.a, protocol, "192.0.2.2:7"), "near ::ffff:192.0.2.1");
        assert_eq!(seen(&bed.a, protocol, "[2001:db8::2]:7"), "near 2001:db8::1");
        assert_eq!(seen(&bed.a, protocol, "10.88.0.3:80"), "b ::ffff:10.88.0.2");
        assert_eq!(seen(&bed.a, protocol, "[fd88::3]:80"), "b fd88::2");
        // The host itself sees who it is.
        assert_eq!(seen(&bed.a, protocol, "10.88.0.1:7"), "host ::ffff:10.88.0.2");
    }
    one.masquerade = false;
    firewall.ensure(&[one]).unwrap();
    assert_eq!(seen(&bed.a, Tcp, "192.0.2.2:7"), "near ::ffff:10.88.0.2");
    assert_eq!(seen(&bed.a, Tcp, "[2001:db8::2]:7"), "near fd88::2");
    assert_eq!(seen(&bed.c, Tcp, "192.0.2.2:7"), "near ::ffff:192.0.2.1");
    // A published port of the own network works all the same.
    firewall.publish(&usual()).unwrap();
    every_way(&bed);
    drop(bed.a.links.remove("eth0"));
}

#[test]
fn limits_of_sources() {
    let bed = Bed::new();
    let mut firewall = open(&bed);
    firewall.ensure(&bed.networks).unwrap();
    let mut ports = usual();
    for port in &mut ports {
        // Several that overlap, with bits beyond the prefix.
        port.sources = ["192.0.2.2/32", "192.0.2.2/31", "10.89.0.77/24", "2001:db8::2/128", "fd89::1:0/112"]
            .map(|it| it.split_once('/').map(|(address, bits)| (ip(address), bits.parse().unwrap())).unwrap())
            .to_vec();
    }
    // .2/31 is .2 and .3.
    firewall.publish(&ports).unwrap();
    for protocol in BOTH {
        for to in ["192.0.2.1:8080", "192.0.2.1:8081"] {
            assert_eq!([&bed.near, &bed.far, &bed.c, &bed.host].map(|it| it.who(protocol, to)), ["a", "a", "a", "a"]);
            assert_eq!(bed.b.who(protocol, to), "nothing");
        }
        for to in ["[2001:db8::1]:8080", "[2001:db8::1]:8081"] {
            assert_eq!([&bed.near, &bed.host].map(|it| it.who(protocol, to)), ["a", "a"], "{protocol} {to}");
            assert_eq!([&bed.far, &bed.b, &bed.c].map(|it| it.who(protocol, to)), ["nothing"; 3], "{protocol} {to}");
        }
        assert_eq!(bed.host.who(protocol, "127.0.0.1:8080"), "a");
    }
    let (_, listed) = firewall.list().unwrap();
    let found = listed.iter().find(|it| it.port == 8080 && it.to.is_ipv4() && it.protocol == Tcp).unwrap();
    let mut sources = found.sources.clone();
    sources.sort();
    assert_eq!(sources, [(ip("10.89.0.0"), 24), (ip("192.0.2.2"), 31)]);
    firewall.withdraw(&ports).unwrap();
    assert_eq!(firewall.elements(rules::PORTS).unwrap(), []);
    // Only sources of the other family: nobody but the host.
    let mut port = published(Tcp, None, 8080, "10.88.0.2:80");
    port.sources = vec![(ip("2001:db8::2"), 128)];
    firewall.publish(&[port]).unwrap();
    assert_eq!([&bed.near, &bed.host].map(|it| it.who(Tcp, "192.0.2.1:8080")), ["nothing", "a"]);
}

#[test]
fn one_transaction_or_nothing() {
    let bed = Bed::new();
    let mut firewall = open(&bed);
    assert_eq!(firewall.list().unwrap(), (vec![], vec![]));
    let said = format!("{:#}", firewall.publish(&usual()).unwrap_err());
    assert!(said.contains("network reload") && said.contains("8080/tcp") && said.contains("7 more"), "{said}");
    assert!(firewall.ensure(&bed.networks).unwrap());
    assert!(!firewall.ensure(&bed.networks).unwrap());
    firewall.publish(&usual()).unwrap();
    firewall.publish(&usual()).unwrap();
    let sorted = |mut all: Vec<Published>| {
        all.sort_by_key(ToString::to_string);
        all
    };
    let (mut networks, ports) = firewall.list().unwrap();
    networks.sort_by(|one, other| one.bridge.cmp(&other.bridge));
    assert_eq!(networks, bed.networks);
    assert_eq!(sorted(ports), sorted(usual()));
    // The second leads elsewhere already: the first is not published either.
    let two = [published(Tcp, None, 9000, "10.88.0.2:80"), published(Tcp, None, 8080, "10.88.0.3:80")];
    let said = format!("{:#}", firewall.publish(&two).unwrap_err());
    assert!(said.contains("9000/tcp") && said.contains("another container"), "{said}");
    assert_eq!(firewall.list().unwrap().1.len(), usual().len());
    // What leads elsewhere is not withdrawn, what is gone is fine.
    firewall.withdraw(&two).unwrap();
    assert_eq!(firewall.list().unwrap().1.len(), usual().len());
    firewall.withdraw(&usual()[..3]).unwrap();
    firewall.withdraw(&usual()).unwrap();
    firewall.withdraw(&usual()).unwrap();
    assert_eq!(firewall.list().unwrap().1, []);
    assert_eq!(bed.host.who(Tcp, "127.0.0.1:8080"), "no");
    firewall.forget("br-a").unwrap();
    firewall.forget("br-a").unwrap();
    assert_eq!(firewall.list().unwrap().0, bed.networks[1..]);
    firewall.forget("br-b").unwrap();
    firewall.forget("br-b").unwrap();
    assert_eq!(bed.host.sh("nft list ruleset"), "");
    firewall.withdraw(&usual()).unwrap();
}

#[test]
fn what_others_have_taken_away_comes_back() {
    let bed = Bed::new();
    let mut firewall = open(&bed);
    firewall.reload(&bed.networks, &usual()).unwrap();
    let whole = bed.host.sh("nft list ruleset");
    for damage in [
        "nft flush table inet bundle",
        "nft flush chain inet bundle forward",
        "nft delete rule inet bundle forward handle $(nft -a list chain inet bundle forward | sed -n 's/.*answers.*handle //p')",
        "nft insert rule inet bundle forward accept",
        "nft flush chain inet bundle forward && nft delete chain inet bundle forward",
    ] {
        bed.host.sh(damage);
        assert!(firewall.ensure(&bed.networks).unwrap(), "{damage}");
        every_way(&bed);
        assert_eq!(bed.near.who(Tcp, "10.88.0.2:80"), "nothing");
    }
    bed.host.sh("nft flush ruleset");
    assert!(firewall.ensure(&bed.networks).unwrap());
    assert_eq!(firewall.list().unwrap().1, [], "these cannot be known any more");
    firewall.reload(&bed.networks, &usual()).unwrap();
    let sorted = |text: &str| {
        let mut lines: Vec<_> =
            text.lines().map(|it| it.trim().trim_start_matches("elements = { ").to_owned()).collect();
        lines.sort();
        lines
    };
    // Maps tell their elements in no order.
    let ends = |text: &str| text.replace([',', '}'], "");
    assert_eq!(sorted(&ends(&bed.host.sh("nft list ruleset"))), sorted(&ends(&whole)));
    firewall.reload(&[], &[]).unwrap();
    firewall.reload(&[], &[]).unwrap();
    assert_eq!(bed.host.sh("nft list ruleset"), "");
}

#[test]
fn other_tables_hold_and_stay() {
    let bed = Bed::new();
    bed.host.sh("nft -f - <<'E'
table inet filter {
    chain input { type filter hook input priority filter; policy drop; ct state established accept; iif lo accept; }
    chain forward { type filter hook forward priority filter; policy accept; ip saddr 192.0.2.3 drop; }
    chain early { type filter hook prerouting priority mangle; policy accept; tcp dport 8081 drop; }
}
table ip nat {
    chain prerouting { type nat hook prerouting priority dstnat; policy accept; tcp dport 7777 dnat to 10.88.0.3:80; }
}
table inet bundle-other { set bridges { type ifname; elements = { br-x }; }; }
E");
    let before = bed.host.sh("nft list ruleset");
    let mut firewall = open(&bed);
    firewall.ensure(&bed.networks).unwrap();
    firewall.publish(&usual()).unwrap();
    assert_eq!(bed.near.who(Tcp, "192.0.2.1:8080"), "a", "published: the input chain is not asked");
    assert_eq!(bed.far.who(Tcp, "192.0.2.1:8080"), "nothing", "their drop holds in forward");
    assert_eq!(bed.near.who(Tcp, "192.0.2.1:8081"), "nothing", "and before");
    assert_eq!(bed.near.who(Udp, "192.0.2.1:8081"), "a");
    assert_eq!(bed.near.who(Tcp, "192.0.2.1:7777"), "b", "what the host's owner publishes by himself passes");
    let mut other = bed.host.run(|| Firewall::open("bundle-two")).unwrap();
    other.ensure(&bed.networks[1..]).unwrap();
    assert_eq!(firewall.list().unwrap().0.len(), 2);
    assert_eq!(other.list().unwrap().0, bed.networks[1..]);
    other.forget("br-b").unwrap();
    firewall.reload(&bed.networks, &[]).unwrap();
    firewall.reload(&[], &[]).unwrap();
    assert_eq!(bed.host.sh("nft list ruleset"), before);
}

#[test]
fn many_at_once_do_not_hinder_each_other() {
    let bed = Bed::new();
    std::thread::scope(|scope| {
        for number in 0..16_u16 {
            let bed = &bed;
            scope.spawn(move || {
                let mut firewall = open(bed);
                let own = network(&format!("br-{number}"), &format!("10.{number}.0.0/24 fd{number:02x}::/64"));
                let to = format!("10.{number}.0.2:80");
                for round in 0..6 {
                    // They go and come: the table does, too.
                    firewall.ensure(std::slice::from_ref(&own)).unwrap();
                    let port = [published(Tcp, None, 1000 + number, &to), published(Udp, None, 1000 + number, &to)];
                    firewall.publish(&port).unwrap();
                    if round < 5 {
                        firewall.withdraw(&port).unwrap();
                        firewall.forget(&own.bridge).unwrap();
                    }
                }
            });
        }
    });
    let (networks, ports) = open(&bed).list().unwrap();
    assert_eq!((networks.len(), ports.len()), (16, 32));
    let rules = bed.host.sh("nft list table inet bundle | grep -c comment");
    assert_eq!(rules.trim().parse::<usize>().unwrap(), rules::rules().len() + 32);
}

#[test]
fn neighbouring_subnets() {
    let bed = Bed::new();
    let mut firewall = open(&bed);
    let near = ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/23", "255.255.255.0/24", "0.0.0.0/8", "ffff::/16", "fffe::/16"];
    let mut networks: Vec<_> = near.iter().enumerate().map(|(at, it)| network(&format!("br-{at}"), it)).collect();
    firewall.ensure(&networks).unwrap();
    networks.remove(1);
    firewall.forget("br-1").unwrap();
    let mut listed = firewall.list().unwrap().0;
    listed.sort_by(|one, other| one.bridge.cmp(&other.bridge));
    assert_eq!(listed, networks);
    // The middle one is free again, and only that.
    firewall.ensure(&[network("br-1", "10.0.1.0/24")]).unwrap();
    firewall.ensure(&[network("br-9", "10.0.3.0/24")]).unwrap_err();
}

#[test]
fn the_kernels_switches() {
    let mut host = Space::new();
    host.links.bridge("wan", 1500, [2, 0, 0, 0, 0, 1], &[]).unwrap();
    host.links.bridge("br-a", 1500, [2, 0, 0, 0, 0, 2], &[]).unwrap();
    let read = |name: &str| host.sh(&format!("cat /proc/sys/net/{name}")).trim().to_owned();
    host.sh("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/wan/accept_ra");
    let changed = host.run(|| forward(true, true)).unwrap();
    let shown: Vec<_> = changed.iter().map(ToString::to_string).collect();
    for line in [
        "net.ipv4.ip_forward = 1 (was 0)",
        "net.ipv6.conf.all.forwarding = 1 (was 0)",
        "net.ipv6.conf.wan.accept_ra = 2 (was 1)",
        "net.ipv6.conf.default.accept_ra = 2 (was 1)",
    ] {
        assert!(shown.iter().any(|it| it == line), "{line}: {shown:?}");
    }
    assert_eq!((read("ipv4/conf/wan/forwarding"), read("ipv6/conf/wan/accept_ra")), ("1".into(), "2".into()));
    assert_eq!(host.run(|| forward(true, true)).unwrap(), []);
    let changed = host.run(|| prepare_bridge("br-a", true, true)).unwrap();
    let names: Vec<_> = changed.iter().map(|it| it.name.as_str()).collect();
    let expected = ["ipv4.conf.br-a.route_localnet", "ipv6.conf.br-a.accept_ra", "ipv6.conf.br-a.accept_dad"];
    assert_eq!(names, expected.map(|it| format!("net.{it}")));
    assert_eq!(host.run(|| prepare_bridge("br-a", true, true)).unwrap(), []);
    assert_eq!(read("ipv4/conf/wan/route_localnet"), "0");
    let changed = host.run(|| prepare_bridge("wan", false, false)).unwrap();
    assert_eq!(
        changed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["net.ipv6.conf.wan.disable_ipv6 = 1 (was 0)"]
    );
    let said = format!("{:#}", host.run(|| prepare_bridge("br-z", true, true)).unwrap_err());
    assert!(said.contains("/proc/sys/net/ipv4/conf/br-z/route_localnet"), "{said}");
}

/// A name server that could not have the usual port.
#[test]
fn a_port_of_the_host_itself_at_another_number() {
    let mut bed = Bed::new();
    let mut firewall = open(&bed);
    firewall.ensure(&bed.networks).unwrap();
    for protocol in BOTH {
        for at in ["10.88.0.1:5300", "[fd88::1]:5300"] {
            bed.host.serve("names", protocol, at.parse().unwrap());
        }
    }
    let moved = |protocol, host: &str| Published {
        port: 53,
        ..published(
            protocol,
            Some(host),
            53,
            &if host.contains(':') { format!("[{host}]:5300") } else { format!("{host}:5300") },
        )
    };
    let all = BOTH.map(|it| [moved(it, "10.88.0.1"), moved(it, "fd88::1")]).concat();
    firewall.publish(&all).unwrap();
    for protocol in BOTH {
        for to in ["10.88.0.1:53", "[fd88::1]:53"] {
            assert_eq!([&bed.a, &bed.b, &bed.host].map(|it| it.who(protocol, to)), ["names"; 3], "{protocol} {to}");
        }
        assert_eq!(seen(&bed.a, protocol, "10.88.0.1:53"), "names 10.88.0.2");
        assert_eq!(bed.a.who(protocol, "192.0.2.1:53"), "no");
    }
}

/// The time of one call in the middle of twenty.
fn median(mut work: impl FnMut(u16), numbers: std::ops::Range<u16>) -> Duration {
    let time = |number| {
        let begin = Instant::now();
        work(number);
        begin.elapsed()
    };
    let mut times: Vec<_> = numbers.map(time).collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn the_last_of_many_ports_is_as_quick_as_the_first() {
    let bed = Bed::new();
    let mut firewall = open(&bed);
    firewall.ensure(&bed.networks).unwrap();
    let limited = |number| Published {
        sources: vec![(ip("192.0.2.0"), 24)],
        ..published(Tcp, Some("192.0.2.1"), number, "10.88.0.2:80")
    };
    for port in [&(|number| published(Udp, None, number, "10.88.0.2:80")) as &dyn Fn(u16) -> Published, &limited] {
        let first = median(|it| firewall.publish(&[port(it)]).unwrap(), 1000..1021);
        let rest: Vec<_> = (2000..4000).map(port).collect();
        firewall.publish(&rest).unwrap();
        let last = median(|it| firewall.publish(&[port(it)]).unwrap(), 5000..5021);
        let again = median(|_| assert!(!firewall.ensure(&bed.networks).unwrap()), 0..21);
        let gone = median(|it| firewall.withdraw(&[port(it)]).unwrap(), 5000..5021);
        let short = |it: Duration, slack| it < first * 3 + Duration::from_millis(slack);
        assert!(short(last, 5) && short(again, 10), "{first:?}, then {last:?}, {again:?}");
        // The kernel's sets of ranges take long for this, but far from what would be felt.
        assert!(short(gone, 50), "{first:?}, then {gone:?}");
        let begin = Instant::now();
        firewall.withdraw(&rest[100..]).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(bed.near.who(Udp, "192.0.2.1:2099"), "a");
    assert_eq!(bed.near.who(Tcp, "192.0.2.1:2099"), "a");
}

#[test]
fn streams_of_datagrams_follow_their_port() {
    use std::net::UdpSocket;

    let bed = Bed::new();
    let mut firewall = open(&bed);
    firewall.ensure(&bed.networks).unwrap();
    for (host, to_a, to_b) in [
        (None, "10.88.0.2:80", "10.88.0.3:80"),
        (Some("192.0.2.1"), "10.88.0.2:80", "10.88.0.3:80"),
        (None, "[fd88::2]:80", "[fd88::3]:80"),
    ] {
        let (any, at) =
            if to_a.starts_with('[') { ("[::]:0", "[2001:db8::1]:8080") } else { ("0.0.0.0:0", "192.0.2.1:8080") };
        // A client that keeps its port, and an innocent stream to the same port elsewhere.
        let client = bed.near.run(|| UdpSocket::bind(any)).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let ask = || {
            bed.near.run(|| client.send_to(b"who", at)).unwrap();
            let mut buffer = [0; 64];
            client
                .recv(&mut buffer)
                .map(|it| String::from_utf8_lossy(&buffer[..it]).split(' ').next().unwrap().to_owned())
        };
        bed.a.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.0.2.2:8080")).unwrap();
        let innocent = || bed.host.sh("grep -c 'dst=192.0.2.2 .*dport=8080' /proc/thread-self/net/nf_conntrack");
        let streams = innocent();
        ask().unwrap_err();
        for to in [to_a, to_b, to_a] {
            let port = published(Udp, host, 8080, to);
            firewall.publish(std::slice::from_ref(&port)).unwrap();
            assert_eq!(ask().unwrap(), if to == to_a { "a" } else { "b" }, "{host:?}");
            assert_eq!(ask().unwrap(), if to == to_a { "a" } else { "b" });
            firewall.withdraw(&[port]).unwrap();
            ask().unwrap_err();
        }
        assert_eq!(innocent(), streams);
    }
}

#[test]
fn a_kernel_that_lacks_something_is_named() {
    for errno in [Errno::OPNOTSUPP, Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT, Errno::NOENT, Errno::PERM] {
        let said = format!("{:#}", missing(errno));
        assert!(said.contains("--network none or host"), "{said}");
    }
    assert_eq!(format!("{:#}", missing(Errno::INVAL)), "Invalid argument");
}

#[test]
fn elements_are_read_back_as_they_were() {
    for subnet in ["10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "fd00::/64", "::/0", "fd00::1/128", "255.255.255.255/32"] {
        let one = network("br-a", subnet);
        assert_eq!(elements::networks(&elements::of_network(&one)), [one]);
    }
    for host in [None, Some("192.0.2.1")] {
        for sources in [&[][..], &[(ip("0.0.0.0"), 0)], &[(ip("10.0.0.0"), 8), (ip("192.0.2.0"), 31)]] {
            let one = Published { sources: sources.to_vec(), ..published(Udp, host, 65535, "10.88.0.2:1") };
            assert_eq!(elements::ports(&elements::of_port(&one)), [one]);
        }
    }
}
