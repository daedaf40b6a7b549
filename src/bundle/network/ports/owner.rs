//! Which program has a port.

use std::net::{IpAddr, SocketAddr};

use crate::network::firewall::Protocol;

/// What the kernel shows of a connection that has ended.
const TIME_WAIT: &str = "06";

/// The program that has a port of this address, or of one that it conflicts with: `nginx (pid 17)`. `None` if it cannot
/// be seen: another user's, or a socket that does not listen.
pub fn owner(protocol: Protocol, host: SocketAddr) -> Option<String> {
    let sockets: Vec<String> =
        ["", "6"].iter().filter_map(|family| table(protocol, family)).flat_map(|it| inodes(&it, host)).collect();
    if sockets.is_empty() {
        return None;
    }
    let links: Vec<_> = sockets.iter().map(|it| format!("socket:[{it}]")).collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|it| it.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has = |file: std::fs::DirEntry| {
            std::fs::read_link(file.path()).is_ok_and(|to| links.iter().any(|it| to.as_os_str() == it.as_str()))
        };
        if files.flatten().any(has) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    Some("a program that cannot be seen from here".into())
}

/// Not /proc/net: that is the first thread's.
fn table(protocol: Protocol, family: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}")).ok()
}

/// The inodes of sockets in a table (proc(5)) that keep this address from being bound.
fn inodes(table: &str, host: SocketAddr) -> Vec<String> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, inode) = (*fields.get(1)?, *fields.get(3)?, *fields.get(9)?);
        let (address, port) = local.split_once(':')?;
        let (address, port) = (parse(address)?, u16::from_str_radix(port, 16).ok()?);
        let meets = address == host.ip()
            || address.is_unspecified() && (address.is_ipv6() || host.is_ipv4())
            || host.ip().is_unspecified() && address.is_ipv4() == host.is_ipv4();
        (port == host.port() && meets && state != TIME_WAIT && inode != "0").then(|| inode.to_owned())
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
