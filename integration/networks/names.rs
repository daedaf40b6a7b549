//! Names of containers.

use crate::bed::{Host, Namespace, until};

/// Who has a name: the addresses that a container is told.
fn asked(host: &Host, from: &str, name: &str) -> Vec<String> {
    let said = host.run(&["exec", from, "nslookup", name]).out;
    let behind = said.lines().skip_while(|it| !it.starts_with("Name:"));
    let mut found: Vec<String> =
        behind.filter_map(|it| it.strip_prefix("Address: ")).map(|it| it.trim().to_owned()).collect();
    found.sort();
    found
}

#[test]
fn names_aliases_ids_and_addresses() {
    let host = Host::new("names");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "--ipv6", "one"]).ok();
    host.run(&["network", "create", "--subnet", "10.2.0.0/24", "two"]).ok();
    let flags = ["--network", "one", "--network-alias", "www", "--network-alias", "shop.example", "--hostname", "box"];
    host.detached("web", &flags, "sleep 100");
    host.detached("web2", &["--network", "one", "--network-alias", "www"], "sleep 100");
    host.detached("asker", &["--network", "one"], "sleep 100");
    host.detached("apart", &["--network", "two"], "sleep 100");
    let id = host.inspect("web", ".Id");
    let six = host.inspect("web", ".NetworkSettings.GlobalIPv6Address");
    for name in ["web", "WEB", "shop.example", "box", &id[..12]] {
        assert_eq!(asked(&host, "asker", name), ["10.1.0.2".to_owned(), six.clone()], "{name}");
    }
    assert_eq!(asked(&host, "asker", "www").len(), 4);
    let back = host.exec("asker", "nslookup 10.1.0.2");
    assert!(back.contains("name = web"), "{back}");
    // What another network has is not known here.
    assert!(asked(&host, "asker", "apart").is_empty() && asked(&host, "apart", "web").is_empty());
    assert!(asked(&host, "asker", "none-such").is_empty());
    host.run(&["stop", "-t", "0", "web"]).ok();
    assert!(asked(&host, "asker", "web").is_empty(), "it does not run");
    host.run(&["start", "web"]).ok();
    assert_eq!(asked(&host, "asker", "web").len(), 2);
    host.run(&["rename", "web", "site"]).ok();
    assert_eq!((asked(&host, "asker", "site").len(), asked(&host, "asker", "web").len()), (2, 0));
    host.run(&["rm", "-f", "site", "web2", "asker", "apart"]).ok();
    until("the servers end with the last container", || host.servers().is_empty());
    host.is_clean();
}

/// The very first thing that a container does is to ask.
#[test]
fn names_are_there_before_the_first_instruction() {
    let host = Host::new("ready");
    for round in 0..5 {
        let name = format!("self{round}");
        let done = host.run(&["run", "--rm", "--name", &name, "it", "nslookup", &name]).ok();
        assert!(done.out.contains("Address: 10.80.0."), "{}", done.out);
    }
    host.detached("first", &[], "sleep 100");
    for _ in 0..5 {
        host.run(&["run", "--rm", "it", "ping", "-c1", "-W2", "first"]).ok();
    }
    host.run(&["rm", "-f", "first"]).ok();
    host.is_clean();
}

#[test]
fn links_of_the_old_docker() {
    let host = Host::new("links");
    host.detached("db", &[], "sleep 100");
    host.detached("app", &["--link", "db:store", "--link", "db"], "sleep 100");
    host.detached("other", &[], "sleep 100");
    assert_eq!(asked(&host, "app", "store"), [host.address("db")]);
    assert!(asked(&host, "other", "store").is_empty(), "only who has linked it calls it so");
    host.run(&["rm", "-f", "db", "app", "other"]).ok();
    host.is_clean();
}

/// What is not ours is asked of the host's resolvers, or of those that --dns names.
#[test]
fn the_rest_is_asked_of_others() {
    let host = Host::new("upstream");
    let outside = Namespace::new();
    host.net.wire("wan", "192.0.2.1/24", &outside, "wan", "192.0.2.2/24");
    let zone = host.bed.0.text("resolver.py");
    std::fs::write(
        &zone,
        r#"
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.2", 53))
while True:
    q, a = s.recvfrom(512)
    i = 12
    while q[i]:
        i += q[i] + 1
    kind = struct.unpack(">H", q[i+1:i+3])[0]
    question = q[12:i+5]
    known = kind == 1 and b"known" in question
    flags = 0x8180 if b"known" in question else 0x8183
    answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([198, 51, 100, 7]) if known else b""
    s.sendto(q[:2] + struct.pack(">HHHHH", flags, 1, int(known), 0, 0) + question + answer, a)
"#,
    )
    .unwrap();
    let _server = outside.spawn(&format!("python3 {zone}"));
    host.detached("asker", &["--dns", "192.0.2.2"], "sleep 100");
    until("it is answered", || asked(&host, "asker", "known.example") == ["198.51.100.7"]);
    assert!(asked(&host, "asker", "absent.example").is_empty());
    // Without a host's resolver that answers, our own names go on.
    host.detached("plain", &[], "sleep 100");
    assert_eq!(asked(&host, "plain", "asker"), [host.address("asker")]);
    // A network that is shut off asks nobody.
    host.run(&["network", "create", "--internal", "shut"]).ok();
    host.detached("inner", &["--network", "shut", "--dns", "192.0.2.2"], "sleep 100");
    assert!(asked(&host, "inner", "known.example").is_empty());
    host.run(&["rm", "-f", "asker", "plain", "inner"]).ok();
    host.is_clean();
}

/// A resolver of the host that takes port 53 of all addresses.
#[test]
fn where_the_hosts_port_is_taken() {
    let host = Host::new("taken53");
    let line = "python3 -c \"import socket, time; u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('', 53)); \
        t = socket.socket(); t.bind(('', 53)); t.listen(); time.sleep(1000)\"";
    let _resolver = host.net.spawn(line);
    // Looked for, not tried: whoever tries holds the port at the moment at which the resolver wants it.
    until("it has the port", || host.net.does("ss -Hltn | grep -q ':53 '"));
    host.detached("first", &[], "sleep 100");
    host.detached("second", &[], "sleep 100");
    assert_eq!(asked(&host, "first", "second"), [host.address("second")]);
    host.run(&["rm", "-f", "first", "second"]).ok();
    // The next server is at another port.
    host.detached("first", &[], "sleep 100");
    assert_eq!(asked(&host, "first", "first"), [host.address("first")]);
    host.run(&["rm", "-f", "first"]).ok();
    host.is_clean();
}

#[test]
fn the_files_of_a_container() {
    let host = Host::new("files");
    let flags = [
        "--hostname",
        "box",
        "--domainname",
        "lan",
        "--add-host",
        "gate:host-gateway",
        "--add-host",
        "x:192.0.2.9",
        "--dns-search",
        "example.org",
        "--dns-opt",
        "ndots:3",
    ];
    host.detached("it", &flags, "sleep 100");
    let hosts = host.exec("it", "cat /etc/hosts");
    for line in ["10.80.0.2\tbox.lan box", "10.80.0.1\tgate", "192.0.2.9\tx"] {
        assert!(hosts.lines().any(|it| it == line), "{line}: {hosts}");
    }
    assert_eq!(host.exec("it", "cat /etc/hostname"), "box\n");
    let resolver = host.exec("it", "cat /etc/resolv.conf");
    for line in ["nameserver 10.80.0.1", "search example.org", "options ndots:3"] {
        assert!(resolver.lines().any(|it| it == line), "{line}: {resolver}");
    }
    host.run(&["rm", "-f", "it"]).ok();
    host.is_clean();
}
