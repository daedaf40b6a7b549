//! Moves network devices of the host into the container (`linux.netDevices`; config-linux.md,
//! "Network Devices"), over rtnetlink(7).

mod netlink;

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Result, anyhow, bail, ensure};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys::error::{At, errno};
use netlink::{Message, Socket, c_string, link_header};

/// Attributes of links (`linux/if_link.h`).
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

/// How long a name can be (`IFNAMSIZ`, with the NUL byte).
const NAME_SIZE: usize = 16;

/// How many names of a template are tried; the kernel's own limit is eight pages full.
const MOST_NUMBERED: u32 = 32768;

/// What of an address's flags is a setting, not a state (`linux/if_addr.h`).
const ADDRESS_SETTINGS: u32 = libc::IFA_F_NODAD | libc::IFA_F_HOMEADDRESS | libc::IFA_F_NOPREFIXROUTE;

/// Moves the device `host_name` of the caller's network namespace to `netns` as `new_name`, in
/// which a `%d` stands for the lowest number that makes the name unique there.
///
/// The device keeps its permanent addresses of global scope, and is up afterwards. If a device of
/// that name is there already, or the device cannot be moved at all, nothing has changed. If it
/// fails later, the device stays in the container, and goes back when that one's namespace ends.
pub fn move_device(host_name: &str, new_name: &str, netns: BorrowedFd<'_>) -> Result<()> {
    try_move(host_name, new_name, netns).map_err(|error| anyhow!("netDevices: moving {host_name}: {error:#}"))
}

fn try_move(host_name: &str, new_name: &str, netns: BorrowedFd<'_>) -> Result<()> {
    let mut host = Socket::open().at(|| "opening a netlink socket".into())?;
    let mut container = socket_in(netns)?;

    let index = link_index(&mut host, host_name)?.ok_or_else(|| anyhow!(errno(Errno::NODEV)))?;
    let addresses = addresses(&mut host, index)?;
    let name = unused_name(&mut container, new_name)?;

    // The kernel takes the device down as part of the move, once it is sure that it can be moved
    // (`dev_change_net_namespace`). Doing so beforehand would lose the device's routes and IPv6
    // addresses on the host even if the move fails.
    let mut message = Message::new(libc::RTM_NEWLINK, 0, &link_header(index, 0));
    message.attribute(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    message.attribute(IFLA_IFNAME, &c_string(&name));
    host.request(message).map_err(|error| anyhow!(errno(error)))?;

    // It has another index if its own was taken in the container.
    let index = link_index(&mut container, &name)?
        .ok_or_else(|| anyhow!("{name} in the container: {}", errno(Errno::NODEV)))?;
    for address in &addresses {
        let message = address.message(index);
        container.request(message).at(|| format!("adding {address} to {name}"))?;
    }
    let up = Message::new(libc::RTM_NEWLINK, 0, &link_header(index, libc::IFF_UP as u32));
    container.request(up).at(|| format!("setting {name} up"))?;
    Ok(())
}

/// A socket for the network namespace `netns`.
///
/// A socket stays in the namespace it was made in, and setns(2) moves a single thread. So a thread
/// of its own makes the socket, and this process remains where it is. (The other way, naming the
/// namespace in every message, needs an id of it, which would have to be assigned first.)
fn socket_in(netns: BorrowedFd<'_>) -> Result<Socket> {
    let open = || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Socket::open()
    };
    let result = std::thread::scope(|scope| scope.spawn(open).join());
    let result = result.map_err(|_| anyhow!("a thread could not be started"))?;
    result.at(|| "opening a netlink socket in the container".into())
}

/// The index of the link that has this name, be it an alternative one.
fn link_index(socket: &mut Socket, name: &str) -> Result<Option<i32>> {
    if name.is_empty() || name.len() >= NAME_SIZE {
        bail!("{name:?} is not a name for a device, expected 1 to 15 bytes");
    }
    let mut message = Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0));
    message.attribute(IFLA_IFNAME, &c_string(name));
    match socket.request(message) {
        Ok(replies) => {
            let index = replies.iter().find_map(|reply| reply.i32_at(4));
            index.map(Some).ok_or_else(|| anyhow!("looking for {name}: no answer"))
        }
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(anyhow!("looking for {name}: {}", errno(error))),
    }
}

/// The name that the device gets in the container.
///
/// The kernel refuses a name in use only after it has moved the device, and does not say which
/// number it chose for a template. So both are settled beforehand.
fn unused_name(socket: &mut Socket, name: &str) -> Result<String> {
    let Some((start, end)) = name.split_once('%') else {
        ensure!(
            link_index(socket, name)?.is_none(),
            "there is a device named {name} in the container: {}",
            errno(Errno::EXIST)
        );
        return Ok(name.to_owned());
    };
    let end = end.strip_prefix('d').filter(|end| !end.contains('%'));
    let end = end.ok_or_else(|| anyhow!("{name:?} is not a template, expected one %d"))?;
    for number in 0..MOST_NUMBERED {
        let name = format!("{start}{number}{end}");
        if link_index(socket, &name)?.is_none() {
            return Ok(name);
        }
    }
    bail!("no name is left for {name}: {}", errno(Errno::NFILE))
}

/// An address of a device: `struct ifaddrmsg` (`linux/if_addr.h`) and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// `IFA_LOCAL`, `IFA_ADDRESS` and `IFA_BROADCAST` as they came. `IFA_LABEL` is not among them:
    /// it begins with the name of the device, which may change.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Reads a reply to `RTM_GETADDR`; `None` if it is not one of the addresses that move.
    fn parse(reply: &netlink::Reply, index: i32) -> Option<Self> {
        let [family, prefix, flags, scope] = *reply.header::<4>()?;
        let mut address = Address { family, prefix, flags: flags.into(), attributes: Vec::new() };
        for (kind, value) in reply.attributes(8) {
            match kind {
                libc::IFA_LOCAL | libc::IFA_ADDRESS | libc::IFA_BROADCAST => {
                    address.attributes.push((kind, value.to_vec()));
                }
                // The same flags and those that do not fit the header.
                libc::IFA_FLAGS => address.flags = u32::from_ne_bytes(value.try_into().ok()?),
                _ => {}
            }
        }
        let moves =
            reply.i32_at(4)? == index && scope == libc::RT_SCOPE_UNIVERSE && address.flags & libc::IFA_F_PERMANENT != 0;
        moves.then_some(address)
    }

    /// The request to add this address to the link with this index.
    fn message(&self, index: i32) -> Message {
        let flags = self.flags & ADDRESS_SETTINGS;
        let mut header = [self.family, self.prefix, flags as u8, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = Message::new(libc::RTM_NEWADDR, new as u16, &header);
        for (kind, value) in &self.attributes {
            message.attribute(*kind, value);
        }
        message.attribute(libc::IFA_FLAGS, &flags.to_ne_bytes());
        message
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let find = |wanted| self.attributes.iter().find(|(kind, _)| *kind == wanted);
        let Some((_, bytes)) = find(libc::IFA_LOCAL).or_else(|| find(libc::IFA_ADDRESS)) else {
            return f.write_str("an address");
        };
        if let Ok(bytes) = <[u8; 4]>::try_from(&**bytes) {
            write!(f, "{}/{}", std::net::Ipv4Addr::from(bytes), self.prefix)
        } else if let Ok(bytes) = <[u8; 16]>::try_from(&**bytes) {
            write!(f, "{}/{}", std::net::Ipv6Addr::from(bytes), self.prefix)
        } else {
            f.write_str("an address")
        }
    }
}

/// The addresses of a device that move with it, in their order: with IPv4, the first of a network
/// is the one that others are secondary to.
fn addresses(socket: &mut Socket, index: i32) -> Result<Vec<Address>> {
    let all = Message::new(libc::RTM_GETADDR, libc::NLM_F_DUMP as u16, &[0; 8]);
    let replies = socket.request(all).at(|| "reading the addresses".into())?;
    Ok(replies.iter().filter_map(|reply| Address::parse(reply, index)).collect())
}

#[cfg(test)]
mod tests;
