//! Published ports, asked from everywhere: another host, this host by its address and by loopback, containers.

use std::net::{TcpListener, UdpSocket};

use crate::bed::{Host, Namespace, until};

/// A host on a wire with another one.
fn wired(name: &str) -> (Host, Namespace) {
    let (host, outside) = (Host::new(name), Namespace::new());
    host.net.wire("wan", "192.0.2.1/24", &outside, "wan", "192.0.2.2/24");
    host.net.sh("ip addr add 2001:db8::1/64 dev wan nodad");
    outside.sh("ip addr add 2001:db8::2/64 dev wan nodad");
    (host, outside)
}

fn asks(from: &Namespace, url: &str, wanted: &str) -> bool {
    from.does(&format!("curl -gsf -m 2 http://{url}/ | grep -qx {wanted}"))
}

#[test]
fn from_everywhere_in_both_families() {
    let (host, outside) = wired("ports");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:7::/64", "one"]).ok();
    host.run(&["network", "create", "--subnet", "10.2.0.0/24", "two"]).ok();
    host.web("web", &["--network", "one", "-p", "8080:80"]);
    host.detached("near", &["--network", "one"], "sleep 100");
    host.detached("far", &["--network", "two"], "sleep 100");
    until("it answers", || asks(&host.net, "127.0.0.1:8080", "web"));
    for url in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
        assert!(asks(&outside, url, "web"), "from outside: {url}");
        assert!(asks(&host.net, url, "web"), "from the host: {url}");
    }
    for from in ["near", "far", "web"] {
        let line = "timeout 3 wget -qO- http://192.0.2.1:8080/ | grep -qx web";
        assert!(host.does(from, line), "from {from}, by the host's address");
    }
    assert!(host.does("near", "timeout 3 wget -qO- http://[2001:db8::1]:8080/ | grep -qx web"));
    assert!(!host.does("near", "timeout 1 wget -qO- http://127.0.0.1:8080/"), "loopback is everybody's own");
    let ports = host.run(&["port", "web"]).ok().out;
    assert_eq!(ports, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
    assert_eq!(host.run(&["port", "web", "80"]).ok().out, "0.0.0.0:8080\n[::]:8080\n");
    host.run(&["port", "web", "81"]).fails(1, "no port 81/tcp");
    let column = host.run(&["ps", "--filter", "name=web", "--format", "{{.Ports}}"]).ok().out;
    assert_eq!(column, "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n");
    let shown = host.run(&["inspect", "web"]).ok().json();
    assert_eq!(shown[0]["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], "8080");
    host.run(&["stop", "-t", "0", "web"]).ok();
    assert!(!asks(&host.net, "192.0.2.1:8080", "web"));
    assert_eq!(host.run(&["port", "web"]).ok().out, "");
    host.run(&["rm", "-f", "web", "near", "far"]).ok();
    host.is_clean();
}

#[test]
fn addresses_ranges_datagrams_and_random_ports() {
    let (host, outside) = wired("kinds");
    host.web("local", &["-p", "127.0.0.1:8081:80", "-p", "192.0.2.1:8082:80"]);
    until("it answers", || asks(&host.net, "127.0.0.1:8081", "local"));
    assert!(!asks(&host.net, "192.0.2.1:8081", "local") && !asks(&outside, "192.0.2.1:8081", "local"));
    assert!(asks(&outside, "192.0.2.1:8082", "local") && !asks(&host.net, "127.0.0.1:8082", "local"));
    // A neighbour that sends packets for our loopback address does not get in.
    outside.sh("sysctl -qw net.ipv4.conf.wan.route_localnet=1; ip route add 127.0.0.1/32 via 192.0.2.1 table 77; ip rule add to 127.0.0.1 lookup 77 pref 0");
    assert!(!asks(&outside, "127.0.0.1:8081", "local"));
    host.detached("udp", &["-p", "5353:53/udp"], "sleep 100");
    // busybox has no server of datagrams: one in the container's network.
    let echoes = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53))\nwhile True: s.sendto(*s.recvfrom(99))";
    let server = host.beside("udp", &["python3", "-c", echoes]);
    let echo = "python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1); \
        s.sendto(b'hello', ('192.0.2.1', 5353)); print(s.recv(9))\" | grep -q hello";
    until("a datagram comes back", || outside.does(echo));
    host.web("many", &["-p", "9000-9004:80-84", "-p", "80"]);
    let ports = host.run(&["port", "many"]).ok().out;
    assert_eq!(ports.lines().count(), 6, "{ports}");
    until("the first of the range", || asks(&outside, "192.0.2.1:9000", "many"));
    let random =
        ports.lines().find(|it| it.starts_with("80/") && !it.contains("9000")).unwrap().rsplit(':').next().unwrap();
    assert!(asks(&outside, &format!("192.0.2.1:{random}"), "many"), "{random}");
    let column = host.run(&["ps", "--filter", "name=many", "--format", "{{.Ports}}"]).ok().out;
    assert!(column.contains("0.0.0.0:9000-9004->80-84/tcp"), "{column}");
    host.run(&["run", "-d", "--name", "exposed", "-P", "--expose", "80", "--expose", "53/udp", "it", "sleep", "100"])
        .ok();
    assert_eq!(host.run(&["port", "exposed"]).ok().out.lines().count(), 2);
    drop(server);
    host.run(&["rm", "-f", "local", "udp", "many", "exposed"]).ok();
    host.is_clean();
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_is_made() {
    let (host, _outside) = wired("taken");
    host.web("web", &["-p", "8080:80"]);
    let listener = host.net.spawn("python3 -m http.server --bind 0.0.0.0 8090");
    until("it listens", || host.net.does("curl -sf -m 1 http://127.0.0.1:8090/"));
    host.run(&["run", "--rm", "-p", "8080:81", "it", "true"]).fails(125, "leads to container web");
    host.run(&["run", "--rm", "-p", "127.0.0.1:8080:81", "it", "true"]).fails(125, "leads to container web");
    host.run(&["run", "--rm", "-p", "8090:80", "it", "true"]).fails(125, "python3");
    host.run(&["run", "--rm", "-p", "8091:80", "-p", "8091:81", "it", "true"]).fails(125, "asked for twice");
    host.run(&["run", "--rm", "-p", "203.0.113.9:8091:80", "it", "true"]).fails(125, "no address of this host");
    for (word, said) in [
        ("0:80", "1 to 65535"),
        ("80/sctp", "sctp"),
        ("80/icmp", "no protocol"),
        ("8080-8081:80-82", "as many"),
        ("x:80", "no port"),
        ("1.2.3:80:80", "--publish"),
        ("::1:80:80", "brackets"),
        ("80,via=magic", "nat or proxy"),
        ("80,from=x", "--publish"),
    ] {
        host.run(&["run", "--rm", "-p", word, "it", "true"]).fails(125, said);
    }
    assert_eq!(host.run(&["ps", "-aq"]).ok().out.lines().count(), 1);
    // And nobody else gets a port that is published.
    assert!(!host.net.does("timeout 2 python3 -m http.server --bind 0.0.0.0 8080"));
    drop(listener);
    host.run(&["run", "--rm", "-p", "8090:80", "it", "true"]).ok();
    host.run(&["rm", "-f", "web"]).ok();
    host.run(&["run", "--rm", "-p", "8080:80", "it", "true"]).ok();
    host.is_clean();
}

#[test]
fn limited_by_source() {
    let (host, outside) = wired("sources");
    outside.sh("ip addr add 192.0.2.66/24 dev wan");
    host.web("web", &["-p", "8080:80,from=192.0.2.64/26"]);
    until("the host itself may", || asks(&host.net, "127.0.0.1:8080", "web"));
    assert!(outside.does("curl -sf -m 2 --interface 192.0.2.66 http://192.0.2.1:8080/ | grep -qx web"));
    assert!(!outside.does("curl -sf -m 1 --interface 192.0.2.2 http://192.0.2.1:8080/"));
    host.run(&["rm", "-f", "web"]).ok();
    host.is_clean();
}

#[test]
fn through_a_process_the_hosts_own_rules_decide() {
    let (host, outside) = wired("proxy");
    host.web("web", &["-p", "8080:80,via=proxy", "-p", "[::1]:8081:80"]);
    until("it answers", || asks(&host.net, "127.0.0.1:8080", "web"));
    assert!(asks(&outside, "192.0.2.1:8080", "web"));
    assert!(asks(&host.net, "[::1]:8081", "web"), "NAT cannot do that");
    assert_eq!(host.run(&["port", "web"]).ok().out, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::1]:8081\n");
    // What an administrator forbids is forbidden, as for each program of the host.
    host.net.sh("nft add table inet mine; nft add chain inet mine input '{ type filter hook input priority 0; }'; \
        nft add rule inet mine input iifname wan tcp dport 8080 drop");
    assert!(!asks(&outside, "192.0.2.1:8080", "web") && asks(&host.net, "127.0.0.1:8080", "web"));
    host.net.sh("nft delete table inet mine");
    host.run(&["rm", "-f", "web"]).ok();
    host.is_clean();
}

/// What other programs on this machine do is nobody's business here: the sockets are of another namespace.
#[test]
fn ports_are_each_hosts_own() {
    let (one, two) = (Host::new("own1"), Host::new("own2"));
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    for host in [&one, &two] {
        let port = format!("{}:80", tcp.local_addr().unwrap().port());
        let other = format!("{}:80/udp", udp.local_addr().unwrap().port());
        host.run(&["run", "-d", "--name", "web", "-p", &port, "-p", &other, "it", "sleep", "100"]).ok();
    }
    for host in [&one, &two] {
        host.run(&["rm", "-f", "web"]).ok();
        host.is_clean();
    }
}
