//! The words of `-p`, and sockets in a namespace of the test's own.

use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::network::firewall::Protocol::{Tcp, Udp};
use crate::network::testbed::{Space, ip};

const BOTH: Families = Families { v4: true, v6: true };

fn plain(host: Option<&str>, ports: HostPorts, container: std::ops::RangeInclusive<u16>) -> Publish {
    Publish { protocol: Tcp, host: host.map(ip), ports, container, proxy: false, sources: vec![] }
}

#[test]
fn what_docker_takes_is_taken() {
    use HostPorts::{Each, FirstFree, Random};
    for (text, expected) in [
        ("80", plain(None, Random, 80..=80)),
        ("8080:80", plain(None, Each(8080..=8080), 80..=80)),
        ("3000-3002", plain(None, Random, 3000..=3002)),
        ("8000-8002:80-82", plain(None, Each(8000..=8002), 80..=82)),
        ("8000-8010:80", plain(None, FirstFree(8000..=8010), 80..=80)),
        ("127.0.0.1:8080:80", plain(Some("127.0.0.1"), Each(8080..=8080), 80..=80)),
        ("127.0.0.1::80", plain(Some("127.0.0.1"), Random, 80..=80)),
        ("0.0.0.0:80:80", plain(Some("0.0.0.0"), Each(80..=80), 80..=80)),
        ("[::1]:8080:80", plain(Some("::1"), Each(8080..=8080), 80..=80)),
        ("[2001:db8::1]::80", plain(Some("2001:db8::1"), Random, 80..=80)),
        ("1-65535:1-65535", plain(None, Each(1..=65535), 1..=65535)),
        ("53:53/udp", Publish { protocol: Udp, ..plain(None, Each(53..=53), 53..=53) }),
        ("53/UDP", Publish { protocol: Udp, ..plain(None, Random, 53..=53) }),
        ("80:80/tcp,via=proxy", Publish { proxy: true, ..plain(None, Each(80..=80), 80..=80) }),
        (
            "80:80,from=192.0.2.0/24,from=2001:db8::7",
            Publish {
                sources: vec![(ip("192.0.2.0"), 24), (ip("2001:db8::7"), 128)],
                ..plain(None, Each(80..=80), 80..=80)
            },
        ),
    ] {
        assert_eq!(parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, part) in [
        ("", "\"\" is no port"),
        ("0", "\"0\" is no port"),
        ("65536", "\"65536\""),
        ("+80", "\"+80\""),
        ("80:", "\"\" is no port"),
        ("a:80", "\"a\""),
        ("80:b", "\"b\""),
        ("80-70", "before its beginning"),
        ("80-82:80-81", "3 ports of the host for 2"),
        ("80:80-81", "1 ports of the host for 2"),
        ("80:80/sctp", "sctp"),
        ("80:80/icmp", "\"icmp\""),
        ("300.0.0.1:80:80", "300.0.0.1"),
        ("web:80:80", "\"web\""),
        ("224.0.0.1:80:80", "224.0.0.1"),
        ("::1:80:80", "[::1]"),
        ("[::1:80:80", "]"),
        ("[::1]80:80", ": is missing"),
        ("[127.0.0.1]:80:80", "127.0.0.1"),
        ("80:80,", "\"\" is no option"),
        ("80:80,via=magic", "via=magic"),
        ("80:80,from=10.0.0.1/8", "10.0.0.0/8"),
        ("80:80,from=10.0.0.0/33", "10.0.0.0/33"),
        ("80:80,from=office", "office"),
        ("80:80,for=10.0.0.0/8", "\"for=10.0.0.0/8\""),
    ] {
        let said = format!("{:#}", parse(text).expect_err(text));
        assert!(said.contains(part) && said.starts_with("--publish"), "{text}: {said}");
    }
}

/// Numbers of a seeded generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// The words that mean this.
fn words(it: &Publish) -> String {
    let range = |it: &std::ops::RangeInclusive<u16>| {
        if it.len() == 1 { it.start().to_string() } else { format!("{}-{}", it.start(), it.end()) }
    };
    let host = match it.host {
        Some(host) if host.is_ipv6() => format!("[{host}]:"),
        Some(host) => format!("{host}:"),
        None => String::new(),
    };
    let ports = match &it.ports {
        HostPorts::Random => String::new(),
        HostPorts::Each(ports) | HostPorts::FirstFree(ports) => range(ports),
    };
    let between = if host.is_empty() && ports.is_empty() { "" } else { ":" };
    let sources: String = it.sources.iter().map(|(address, bits)| format!(",from={address}/{bits}")).collect();
    let proxy = if it.proxy { ",via=proxy" } else { "" };
    format!("{host}{ports}{between}{}/{}{proxy}{sources}", range(&it.container), it.protocol)
}

#[test]
fn whatever_is_meant_is_read_and_whatever_is_read_does_no_harm() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut alphabet = "0123456789:[]-/.,=".chars().cycle();
    for _ in 0..20_000 {
        let count = 1 + random.below(3) as u16;
        let first = 1 + random.below(65_000) as u16;
        let host = 1 + random.below(65_000) as u16;
        let ports = match random.below(3) {
            0 => HostPorts::Random,
            1 => HostPorts::Each(host..=host + count - 1),
            _ if count == 1 => HostPorts::FirstFree(host..=host + 1 + random.below(9) as u16),
            _ => HostPorts::Random,
        };
        let meant = Publish {
            protocol: if random.below(2) == 0 { Tcp } else { Udp },
            host: [None, Some(ip("192.0.2.1")), Some(ip("::1"))][random.below(3) as usize],
            ports,
            container: first..=first + count - 1,
            proxy: random.below(2) == 0,
            sources: [(ip("10.0.0.0"), 8), (ip("fd00::"), 8)][..random.below(3) as usize].to_vec(),
        };
        let text = words(&meant);
        assert_eq!(parse(&text).unwrap(), meant, "{text}");
        // One character less, more, or another.
        let mut broken: Vec<char> = text.chars().collect();
        let at = random.below(broken.len() as u64) as usize;
        match random.below(3) {
            0 => drop(broken.remove(at)),
            1 => broken.insert(at, alphabet.next().unwrap()),
            _ => broken[at] = alphabet.next().unwrap(),
        }
        let broken: String = broken.into_iter().collect();
        if let Ok(read) = parse(&broken) {
            assert_eq!(parse(&words(&read)).unwrap(), read, "{broken}");
        }
    }
}

fn flags(all: &[&str]) -> Vec<Publish> {
    all.iter().map(|it| parse(it).unwrap()).collect()
}

/// The ports as people read them, or the error.
fn held(space: &Space, all: &[&str]) -> Result<(Vec<String>, Vec<Held>), String> {
    let held = space.run(|| hold(&flags(all), BOTH)).map_err(|it| format!("{it:#}"))?;
    Ok((held.iter().map(|it| format!("{} {} {}", it.host, it.protocol, it.container)).collect(), held))
}

#[test]
fn held_ports_are_taken() {
    let mut space = Space::new();
    space.links.up("lo").unwrap();
    let (shown, sockets) = held(&space, &["8080:80", "127.0.0.1:5353:53/udp", "8081-8082:81-82"]).unwrap();
    let expected = ["0.0.0.0:8080 tcp 80", "[::]:8080 tcp 80", "127.0.0.1:5353 udp 53", "0.0.0.0:8081 tcp 81"];
    assert_eq!(shown[..4], expected);
    space.run(|| {
        for at in ["127.0.0.1:8080", "0.0.0.0:8080", "[::]:8080", "[::1]:8082"] {
            assert_eq!(TcpListener::bind(at).unwrap_err().kind(), std::io::ErrorKind::AddrInUse, "{at}");
            assert_eq!(TcpStream::connect(at).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{at}");
        }
        UdpSocket::bind("127.0.0.1:5353").unwrap_err();
        UdpSocket::bind("127.0.0.1:8080").unwrap();
    });
    for (again, port) in
        [("127.0.0.1:8080:1", "127.0.0.1:8080/tcp"), ("8082:1", "0.0.0.0:8082/tcp"), ("5353:1/udp", "5353/udp")]
    {
        let said = held(&space, &[again]).unwrap_err();
        // The kernel lists no socket of TCP that does not listen.
        let owner =
            if again.ends_with("udp") { format!("(pid {})", std::process::id()) } else { "another container".into() };
        assert!(said.contains(port) && said.contains(&owner), "{said}");
    }
    let said = held(&space, &["9000:1", "9000:2"]).unwrap_err();
    assert!(said.contains("twice"), "{said}");
    let said = held(&space, &["9001:1", "192.0.2.77:80:80"]).unwrap_err();
    assert!(said.contains("192.0.2.77 is no address"), "{said}");
    // What was taken before the error is free again, and all is when the sockets are closed.
    held(&space, &["9000-9001:1-2"]).unwrap();
    drop(sockets);
    held(&space, &["8080-8082:80-82", "5353:53/udp"]).unwrap();
}

#[test]
fn the_program_that_has_a_port_is_named() {
    let mut space = Space::new();
    space.links.up("lo").unwrap();
    let (listener, socket) =
        space.run(|| (TcpListener::bind("127.0.0.1:8080").unwrap(), UdpSocket::bind("[::]:53").unwrap()));
    let us = format!("(pid {})", std::process::id());
    for taken in ["8080:80", "127.0.0.1:8080:80", "53:53/udp", "[::1]:53:53/udp", "127.0.0.1:53:53/udp"] {
        let said = held(&space, &[taken]).unwrap_err();
        assert!(said.contains(&us), "{taken}: {said}");
    }
    held(&space, &["127.0.0.2:8080:80", "[::1]:8080:80"]).unwrap();
    drop((listener, socket));
}

#[test]
fn ended_connections_are_no_conflict() {
    let mut space = Space::new();
    space.links.up("lo").unwrap();
    let local = space.run(|| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let client = TcpStream::connect("127.0.0.1:8080").unwrap();
        // Who closes first is left with the connection.
        drop(listener.accept().unwrap());
        drop(client);
        std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap()
    });
    assert!(local.contains(":1F90 ") && local.contains(" 06 "), "{local}");
    let (_, sockets) = held(&space, &["8080:80"]).unwrap();
    // And it is held all the same.
    space.run(|| TcpListener::bind("127.0.0.1:8080").unwrap_err());
    held(&space, &["8080:80"]).unwrap_err();
    drop(sockets);
}

#[test]
fn free_ports_are_found() {
    let space = Space::new();
    let (_, first) = held(&space, &["8000-8002:80"]).unwrap();
    let (shown, second) = held(&space, &["8000-8002:80", "8001:81"]).unwrap();
    assert_eq!(shown, ["0.0.0.0:8002 tcp 80", "[::]:8002 tcp 80", "0.0.0.0:8001 tcp 81", "[::]:8001 tcp 81"]);
    let said = held(&space, &["8000-8002:80"]).unwrap_err();
    assert!(said.contains("8000-8002") && said.contains("8002/tcp"), "{said}");
    drop((first, second));
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let range: Vec<u16> = range.split_whitespace().map(|it| it.parse().unwrap()).collect();
    let (_, random) = held(&space, &["80", "80/udp", "127.0.0.1::80"]).unwrap();
    assert_eq!(random.len(), 5);
    assert!(random.iter().all(|it| (range[0]..=range[1]).contains(&it.host.port())));
    assert_eq!(random[0].host.port(), random[1].host.port());
    assert_eq!(random[2].host.port(), random[3].host.port());
}

#[test]
fn some_ports_need_a_process() {
    let mut space = Space::new();
    space.links.up("lo").unwrap();
    let asked = flags(&["8080:80", "[::1]:8081:80", "8082:80,via=proxy", "[::]:8083:80"]);
    let proxies = |families| {
        let all = space.run(|| hold(&asked, families)).unwrap();
        all.iter().map(|it| (it.host.to_string(), it.proxy)).filter(|it| it.1).map(|it| it.0).collect::<Vec<_>>()
    };
    assert_eq!(proxies(BOTH), ["[::1]:8081", "0.0.0.0:8082", "[::]:8082"]);
    assert_eq!(proxies(Families { v4: true, v6: false }), ["[::1]:8081", "0.0.0.0:8082", "[::]:8083"]);
    let all = space.run(|| hold(&flags(&["0.0.0.0:1:2", "127.0.0.1:3:4"]), BOTH)).unwrap();
    let published: Vec<_> = all.iter().map(|it| it.published(ip("10.88.0.2"), "br-a")).collect();
    assert_eq!((published[0].host, published[1].host), (None, Some(ip("127.0.0.1"))));
    assert_eq!(published[1].to.to_string(), "10.88.0.2:4");
}

#[test]
fn thousands_of_ports() {
    let space = Space::new();
    let (_, sockets) = held(&space, &["10000-12999:10000-12999"]).unwrap();
    assert_eq!(sockets.len(), 6000);
    drop(sockets);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert!(limit.current.is_none_or(|it| it >= 6000));
    if limit.maximum.is_some_and(|it| it < 60_000) {
        let said = held(&space, &["1-65535:1-65535"]).unwrap_err();
        assert!(said.contains("ulimit"), "{said}");
    }
}

#[test]
fn connections_that_keep_their_port_are_named() {
    let mut space = Space::new();
    space.links.up("lo").unwrap();
    space.run(|| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        // Unlike the standard library, which says that others may follow.
        rustix::net::sockopt::set_socket_reuseaddr(&listener, false).unwrap();
        let client = TcpStream::connect("127.0.0.1:8080").unwrap();
        drop(listener.accept().unwrap());
        drop(client);
    });
    let said = held(&space, &["8080:80"]).unwrap_err();
    assert!(said.contains("a minute"), "{said}");
}
