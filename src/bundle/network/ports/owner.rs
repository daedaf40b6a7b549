//! Which program has a port.

use std::net::{IpAddr, SocketAddr};

use crate::network::firewall::Protocol;

/// What the kernel shows of a connection that has ended.
const TIME_WAIT: &str = "06";

/// Who keeps a port.
#[derive(Debug, PartialEq, Eq)]
pub enum Owner {
    /// `nginx (pid 17)`, or that it cannot be seen.
    Program(String),
    /// Nobody: connections that have ended, of a program that did not allow others to follow it (`SO_REUSEADDR`).
    Ended,
}

/// Who has a port of this address, or of one that it conflicts with. `None` if the kernel does not tell: a socket of
/// TCP that does not listen.
pub fn owner(protocol: Protocol, host: SocketAddr) -> Option<Owner> {
    let tables = ["", "6"].iter().filter_map(|family| table(protocol, family));
    let sockets: Vec<Socket> = tables.flat_map(|it| sockets(&it, host)).collect();
    let links: Vec<_> = sockets.iter().filter(|it| !it.ended).map(|it| format!("socket:[{}]", it.inode)).collect();
    if links.is_empty() {
        return (!sockets.is_empty()).then_some(Owner::Ended);
    }
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|it| it.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| links.iter().any(|it| to.as_os_str() == it.as_str()))
        };
        if files.flatten().any(has) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Owner::Program(format!("{} (pid {pid})", name.trim())));
        }
    }
    Some(Owner::Program("a program that cannot be seen from here".into()))
}

/// Not /proc/net: that is the first thread's.
fn table(protocol: Protocol, family: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}")).ok()
}

/// What the kernel shows of a socket.
struct Socket {
    inode: String,
    /// Whether it is only what is left of a connection.
    ended: bool,
}

/// The sockets of a table (proc(5)) that keep this address from being bound.
fn sockets(table: &str, host: SocketAddr) -> Vec<Socket> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
        let (address, port) = local.split_once(':')?;
        let (address, port) = (parse(address)?, u16::from_str_radix(port, 16).ok()?);
        let meets = address == host.ip()
            || address.is_unspecified() && (address.is_ipv6() || host.is_ipv4())
            || host.ip().is_unspecified() && address.is_ipv4() == host.is_ipv4();
        // One that no program has any more has no inode.
        let ended = state == TIME_WAIT || inode == "0";
        (port == host.port() && meets).then(|| Socket { inode: inode.to_owned(), ended })
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Words of four bytes as numbers of the machine, in hexadecimal digits.
fn parse(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(digits.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match digits.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            let address = std::net::Ipv6Addr::from(bytes);
            Some(address.to_canonical())
        }
        _ => None,
    }
}
