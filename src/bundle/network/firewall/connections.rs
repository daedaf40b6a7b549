//! Streams of UDP that the kernel follows (connection tracking): where one goes is decided by its first datagram. So a
//! client that keeps its port would go on to where it went before the port was published, or to a container that is
//! gone, for as long as it sends. Connections of TCP end by themselves.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rustix::io::Errno;

use super::{Protocol, Published};
use crate::network::link::Links;
use crate::network::netlink::{self, Attributes, Message, Refusal, Socket};

/// `NFNL_SUBSYS_CTNETLINK`, and its messages (`linux/netfilter/nfnetlink_conntrack.h`).
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
/// Attributes of a connection: addresses and ports as the first packet had them, and as an answer has; its number.
const ORIGINAL: u16 = 1;
const ANSWER: u16 = 2;
const ID: u16 = 12;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;

/// The streams that are to be forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those of the port that go to its container.
    Here,
    /// Those that do not.
    Elsewhere,
}

/// Forgets streams of these ports; those of TCP have none. Both arguments are of the same network namespace.
pub fn forget(socket: &mut Socket, links: &mut Links, ports: &[Published], which: Which) -> Result<()> {
    for v4 in [true, false] {
        let ports: Vec<_> = ports.iter().filter(|it| it.protocol == Protocol::Udp && it.to.is_ipv4() == v4).collect();
        if !ports.is_empty() {
            forget_of(socket, links, &ports, v4, which)
                .context("having the kernel forget streams of UDP to published ports")?;
        }
    }
    Ok(())
}

fn forget_of(socket: &mut Socket, links: &mut Links, ports: &[&Published], v4: bool, which: Which) -> Result<()> {
    let family = (if v4 { libc::AF_INET } else { libc::AF_INET6 }) as u8;
    let message = |kind, flags| Message::new(SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0]);
    let replies = match socket.request(message(GET, libc::NLM_F_DUMP)) {
        Ok(replies) => replies,
        // Without this part of the kernel nothing can be done; an interrupted list lacks what is new.
        Err(Refusal { errno: Errno::OPNOTSUPP | Errno::INTR, .. }) => return Ok(()),
        Err(error) => return Err(error).context("reading them"),
    };
    let own: Vec<IpAddr> = links.addresses(None)?.into_iter().map(|it| it.ip).collect();
    for reply in &replies {
        let stream = reply.attributes(super::wire::HEADER);
        let Some((original, answer)) = side(&stream, ORIGINAL).zip(side(&stream, ANSWER)) else { continue };
        let of = |port: &&&Published| {
            let here = match port.host {
                Some(host) => host == original.to,
                None => original.to.is_loopback() || own.contains(&original.to),
            };
            let goes_here = answer.from == port.to.ip() && answer.from_port == port.to.port();
            here && original.to_port == port.port && goes_here == (which == Which::Here)
        };
        if original.protocol == libc::IPPROTO_UDP as u8 && ports.iter().any(|it| of(&it)) {
            let mut delete = message(DELETE, 0);
            delete.within(ORIGINAL, |it| {
                it.raw(stream.get(ORIGINAL).unwrap_or_default());
            });
            if let Some(id) = stream.get(ID) {
                delete.put(ID, id);
            }
            match socket.request(delete) {
                Ok(_) | Err(Refusal { errno: Errno::NOENT, .. }) => {}
                Err(error) => return Err(error).context("forgetting one"),
            }
        }
    }
    Ok(())
}

/// One side's view.
struct Side {
    protocol: u8,
    from: IpAddr,
    to: IpAddr,
    from_port: u16,
    to_port: u16,
}

fn side(stream: &Attributes<'_>, which: u16) -> Option<Side> {
    let side = stream.within(which);
    let (addresses, ports) = (side.within(ADDRESSES), side.within(PORTS));
    // Source and destination of IPv4, then of IPv6.
    let address = |four, six| addresses.get(four).or_else(|| addresses.get(six)).and_then(netlink::address);
    let port = |kind| ports.get(kind)?.first_chunk().map(|it| u16::from_be_bytes(*it));
    Some(Side {
        protocol: *ports.get(1)?.first()?,
        from: address(1, 3)?,
        to: address(2, 4)?,
        from_port: port(2)?,
        to_port: port(3)?,
    })
}
