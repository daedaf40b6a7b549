//! The host's sockets of published ports. The firewall would turn packets away from a program that listens at the same
//! port without a word: so that no other program can take it, and that a conflict is known before anything is made,
//! each port is bound for as long as the container runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::owner::{Owner, owner};
use super::parse::{HostPorts, Publish};
use crate::network::firewall::{Protocol, Published};

/// How often another random port is tried.
const TRIES: usize = 64;
/// Descriptors that the command needs besides.
const OTHERS: u64 = 256;

/// Which addresses the container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Families {
    /// One of IPv4.
    pub v4: bool,
    /// One of IPv6.
    pub v6: bool,
}

/// A port of one address of the host that is kept for a container.
#[derive(Debug)]
pub struct Held {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's address and port; `0.0.0.0` and `::` are all addresses of the family.
    pub host: SocketAddr,
    /// The container's port.
    pub container: u16,
    /// Whether a process must forward: it was asked for, or the firewall cannot do it (from `::1`, and from one family
    /// to the other).
    pub proxy: bool,
    /// Who may use it; nobody named: everybody.
    pub sources: Vec<(IpAddr, u8)>,
    /// Bound, and for TCP not listening.
    pub socket: OwnedFd,
}

impl Held {
    /// What the firewall is told, where it does it, of a container with this address of the host's address's family.
    pub fn published(&self, to: IpAddr, bridge: &str) -> Published {
        Published {
            protocol: self.protocol,
            host: Some(self.host.ip()).filter(|it| !it.is_unspecified()),
            port: self.host.port(),
            to: SocketAddr::new(to, self.container),
            bridge: bridge.into(),
            sources: self.sources.clone(),
        }
    }
}

/// Takes all ports that are asked for, or none. They are in the order of the flags, and of the ports in each.
pub fn hold(wanted: &[Publish], families: Families) -> Result<Vec<Held>> {
    let count: usize = wanted.iter().map(|it| it.container.len() * addresses(it, families).len()).sum();
    allow(count as u64)?;
    let mut held: Vec<(usize, Held)> = Vec::with_capacity(count);
    // A port of the kernel's choice must not be one that another flag asks for.
    let rank = |it: &Publish| match it.ports {
        HostPorts::Each(_) => 0,
        HostPorts::FirstFree(_) => 1,
        HostPorts::Random => 2,
    };
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|it| rank(&wanted[*it]));
    for index in order {
        let publish = &wanted[index];
        for (offset, container) in publish.container.clone().enumerate() {
            let sockets = take(publish, offset, families, &held)
                .with_context(|| format!("publishing port {container}/{} of the container", publish.protocol))?;
            held.extend(sockets.into_iter().map(|(host, socket)| {
                let same = if host.is_ipv4() { families.v4 } else { families.v6 };
                let proxy = publish.proxy || !same || host.ip() == Ipv6Addr::LOCALHOST;
                let sources = publish.sources.clone();
                (index, Held { protocol: publish.protocol, host, container, proxy, sources, socket })
            }));
        }
    }
    held.sort_by_key(|it| it.0);
    Ok(held.into_iter().map(|it| it.1).collect())
}

/// What a container has published, for another monitor of it to hold. Whatever somebody has taken meanwhile is left out.
pub fn hold_again<'a>(published: impl Iterator<Item = &'a Published>) -> Vec<OwnedFd> {
    let host = |it: &Published| {
        let all = if it.to.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        SocketAddr::new(it.host.unwrap_or(all), it.port)
    };
    published.filter_map(|it| bound(it.protocol, host(it)).ok()).map(|it| it.1).collect()
}

/// A port that a process is to forward again, if it is free.
pub fn hold_forwarded(protocol: Protocol, host: SocketAddr, container: u16, sources: &[(IpAddr, u8)]) -> Option<Held> {
    let (host, socket) = bound(protocol, host).ok()?;
    Some(Held { protocol, host, container, proxy: true, sources: sources.to_vec(), socket })
}

/// The host's addresses of one port.
fn addresses(publish: &Publish, families: Families) -> Vec<IpAddr> {
    let all = [(families.v4, Ipv4Addr::UNSPECIFIED.into()), (families.v6, Ipv6Addr::UNSPECIFIED.into())];
    match publish.host {
        Some(host) => vec![host],
        None => all.into_iter().filter(|it| it.0).map(|it| it.1).collect(),
    }
}

/// The sockets for one port of the container.
fn take(
    publish: &Publish,
    offset: usize,
    families: Families,
    held: &[(usize, Held)],
) -> Result<Vec<(SocketAddr, OwnedFd)>> {
    let addresses = addresses(publish, families);
    let at = |port| one(publish.protocol, &addresses, port, held);
    match &publish.ports {
        HostPorts::Each(range) => at(range.start() + offset as u16),
        HostPorts::FirstFree(range) => first_free(range, at),
        HostPorts::Random => {
            for _ in 0..TRIES {
                let (free, socket) = bound(publish.protocol, SocketAddr::new(addresses[0], 0))
                    .map_err(|error| failed(error, publish.protocol, SocketAddr::new(addresses[0], 0)))?;
                let rest = one(publish.protocol, &addresses[1..], free.port(), held);
                if let Ok(rest) = rest {
                    return Ok([(free, socket)].into_iter().chain(rest).collect());
                }
            }
            bail!("no free port of the host was found that both IPv4 and IPv6 have")
        }
    }
}

fn first_free<T>(range: &RangeInclusive<u16>, at: impl Fn(u16) -> Result<T>) -> Result<T> {
    let mut last = anyhow!("there are none");
    for port in range.clone() {
        match at(port) {
            Ok(taken) => return Ok(taken),
            Err(error) => last = error,
        }
    }
    Err(last)
        .with_context(|| format!("none of the host's ports {}-{} is free; of the last", range.start(), range.end()))
}

/// One port of all these addresses.
fn one(
    protocol: Protocol,
    addresses: &[IpAddr],
    port: u16,
    held: &[(usize, Held)],
) -> Result<Vec<(SocketAddr, OwnedFd)>> {
    let mut sockets = Vec::new();
    for address in addresses {
        let host = SocketAddr::new(*address, port);
        match bound(protocol, host) {
            Ok(it) => sockets.push(it),
            // A kernel without IPv6 has no address of it that could be asked for.
            Err(Errno::AFNOSUPPORT) if address.is_unspecified() && !sockets.is_empty() => {}
            Err(Errno::ADDRINUSE) if held.iter().any(|it| it.1.protocol == protocol && it.1.host.port() == port) => {
                bail!("{host}/{protocol} is asked for twice")
            }
            Err(error) => return Err(failed(error, protocol, host)),
        }
    }
    Ok(sockets)
}

/// A bound socket, and its address with the port that the kernel chose for 0.
fn bound(protocol: Protocol, at: SocketAddr) -> rustix::io::Result<(SocketAddr, OwnedFd)> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if at.is_ipv6() {
        // IPv4 has a socket of its own, with limits and conflicts of its own.
        set_ipv6_v6only(&socket, true)?;
    }
    match (bind(&socket, &at), protocol) {
        // What is left of connections that have ended is no conflict, but only to a socket that says so. Once bound it
        // must not say so, or the next one could bind the port, too.
        (Err(Errno::ADDRINUSE), Protocol::Tcp) => {
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &at)?;
            set_socket_reuseaddr(&socket, false)?;
        }
        (result, _) => result?,
    }
    if protocol == Protocol::Udp {
        // Nobody reads what comes here although the firewall should have had it. A process that forwards sets it back.
        set_socket_recv_buffer_size(&socket, 0)?;
    }
    let at = getsockname(&socket)?.try_into()?;
    Ok((at, socket))
}

fn failed(error: Errno, protocol: Protocol, host: SocketAddr) -> anyhow::Error {
    match error {
        Errno::ADDRINUSE => match owner(protocol, host) {
            Some(Owner::Program(owner)) => {
                anyhow!("{host}/{protocol} of the host is in use by {owner}: end it, or publish another port")
            }
            Some(Owner::Ended) => anyhow!(
                "{host}/{protocol} of the host is kept for a minute by connections of a program that has ended: wait, or \
                 publish another port"
            ),
            None => anyhow!(
                "{host}/{protocol} of the host is in use by another container or program: publish another port, or see \
                 bundle ps"
            ),
        },
        Errno::ADDRNOTAVAIL => anyhow!("{} is no address of this host", host.ip()),
        Errno::ACCESS => {
            anyhow!("{host}/{protocol}: {error}: ports below 1024 are root's (net.ipv4.ip_unprivileged_port_start)")
        }
        Errno::MFILE => anyhow!("{host}/{protocol}: too many open files: see ulimit -n"),
        _ => anyhow!("{host}/{protocol}: {}", std::io::Error::from(error)),
    }
}

/// Has the kernel allow so many descriptors.
fn allow(count: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = count + OTHERS;
    if count < OTHERS || limit.current.is_none_or(|it| it >= needed) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|it| it >= needed),
        "publishing {count} ports takes {needed} open files, and the limit is {}: raise it (ulimit -Hn), or publish \
         fewer ports",
        limit.maximum.unwrap_or_default()
    );
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("raising the number of open files")
}
