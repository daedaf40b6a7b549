//! The host's own resolvers: /etc/resolv.conf (resolv.conf(5)), read again when it has changed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::net::netdevice::name_to_index;

/// A name server's port.
pub const PORT: u16 = 53;
/// How many servers count.
const MOST_SERVERS: usize = 6;

/// What it says, as of the last look.
pub struct Resolvers {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    servers: Vec<SocketAddr>,
}

impl Resolvers {
    /// Of this file; it is read when the servers are asked for.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, servers: Vec::new() }
    }

    /// Takes up what has changed. Whether anything has.
    pub fn update(&mut self) -> bool {
        let seen = std::fs::metadata(&self.path).ok().and_then(|it| Some((it.modified().ok()?, it.len())));
        if seen == self.seen && !self.servers.is_empty() {
            return false;
        }
        let before =
            std::mem::replace(&mut self.servers, parse(&std::fs::read_to_string(&self.path).unwrap_or_default()));
        self.seen = seen;
        before != self.servers
    }

    /// The servers in their order.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }
}

/// The servers that a text names; the host itself where it names none, as its own resolver does.
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() == Some("nameserver")
            && let Some(server) = words.next().and_then(server)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers.truncate(MOST_SERVERS);
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

/// An address, which may name its link: `fe80::1%eth0`.
fn server(word: &str) -> Option<SocketAddr> {
    let Some((address, link)) = word.split_once('%') else {
        return Some((word.parse::<IpAddr>().ok()?, PORT).into());
    };
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).ok()?;
    let index = link.parse().ok().or_else(|| name_to_index(&socket, link).ok())?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_file() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 192.0.2.1 # first\n nameserver 2001:db8::1\n\
            nameserver 192.0.2.1\nnameserver x\nnameserver fe80::1%lo\nnameserver fe80::2%3\noptions ndots:2\n";
        let lo: SocketAddr = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 1).into();
        let third: SocketAddr = SocketAddrV6::new("fe80::2".parse().unwrap(), 53, 0, 3).into();
        let expected = vec!["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap(), lo, third];
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), ["127.0.0.1:53".parse().unwrap()]);
        let many: String = (0..99).map(|it| format!("nameserver 192.0.2.{it}\n")).collect();
        assert_eq!(parse(&many).len(), MOST_SERVERS);
    }

    #[test]
    fn a_file_that_changes_is_read_again() {
        let path = std::env::temp_dir().join(format!("bundle-resolv-{}", std::process::id()));
        let mut resolvers = Resolvers::new(path.clone());
        assert!(resolvers.update());
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert!(resolvers.update());
        assert!(!resolvers.update());
        std::fs::write(&path, "nameserver 192.0.2.10\n").unwrap();
        assert!(resolvers.update());
        assert_eq!(resolvers.servers(), ["192.0.2.10:53".parse().unwrap()]);
        std::fs::remove_file(&path).unwrap();
    }
}
