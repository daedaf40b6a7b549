//! Networks across hosts: on each host a bridge with a vxlan link in it. What the kernel would learn by broadcast, which
//! host has a container, and which Ethernet address an address has, is entered for good from what the hosts tell each
//! other through etcd (`members`), so nothing is flooded. A thread in the network's name server keeps it up to date
//! (`agent`), from the network's first container on this host to the last.
//!
//! While etcd is away all stays as it was: containers that run keep talking, leasing an address is an error. Of a host
//! that vanishes the names of its containers go after a minute, with etcd's lease; its addresses and the entries of
//! them stay until somebody takes it away ([`Overlay::leave`]), since its containers may still be running.
//!
//! Without etcd the hosts can be named by hand ([`peers`]): then packets for all go to each of them, and the vxlan link
//! learns who is where.

pub mod agent;
mod entries;
mod etcd;
mod members;
mod publish;
mod watch;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use anyhow::{Context, Result, bail};

pub use agent::{Agent, LIFE};
pub use etcd::Settings;
pub use members::{Host, Lease, Overlay};

use super::link::{ALL, Links};

/// What vxlan puts before a packet, in bytes: an Ethernet header, its own, and UDP's and IP's.
const HEADERS: u32 = 14 + 8 + 8 + 20;
const HEADERS6: u32 = HEADERS + 20;

/// The largest packet of containers whose hosts reach each other by a link with packets of `underlay` bytes.
pub fn mtu(underlay: u32, host: IpAddr) -> u32 {
    underlay.saturating_sub(if host.is_ipv4() { HEADERS } else { HEADERS6 })
}

/// The address that this host has on its way to the first of etcd's endpoints that is another host.
pub fn local_address(endpoints: &[String]) -> Result<IpAddr> {
    for endpoint in endpoints {
        let host = endpoint.split_once("://").map_or(endpoint.as_str(), |it| it.1);
        let host = host.split('/').next().unwrap_or_default();
        let host = if host.rsplit_once(':').is_some_and(|it| !it.1.ends_with(']')) {
            host.to_owned()
        } else {
            format!("{host}:2379")
        };
        for to in host.to_socket_addrs().with_context(|| format!("looking up {host}"))? {
            let any: IpAddr = if to.is_ipv4() { [0_u8; 4].into() } else { [0_u8; 16].into() };
            let socket = UdpSocket::bind((any, 0))?;
            // No packet is sent.
            if socket.connect(to).is_ok()
                && let Ok(own) = socket.local_addr()
                && !own.ip().is_loopback()
            {
                return Ok(own.ip());
            }
        }
    }
    bail!("the way to etcd does not tell which address of this host the others reach it by")
}

/// Has a vxlan link send packets for all to these hosts, and to no others.
pub fn peers(links: &mut Links, index: u32, peers: &[IpAddr]) -> Result<()> {
    let there = links.forwardings(index)?;
    let there: Vec<IpAddr> = there.into_iter().filter(|it| it.0 == ALL).map(|it| it.1).collect();
    for peer in there.iter().filter(|it| !peers.contains(it)) {
        links.remove_forwarding(index, ALL, *peer)?;
    }
    for peer in peers.iter().filter(|it| !there.contains(it)) {
        links.add_forwarding(index, ALL, *peer)?;
    }
    Ok(())
}
