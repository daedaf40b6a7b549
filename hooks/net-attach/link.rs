//! Bridges, pairs of devices, addresses and routes, over rtnetlink(7).

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Result, anyhow, bail};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Message, Socket, c_string, link_header};

// Attributes of `linux/if_link.h`, `linux/veth.h`, `linux/if_addr.h` and `linux/rtnetlink.h`.
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// The links of one network namespace.
pub struct Links(Socket);

impl Links {
    /// Those of this process's own namespace.
    pub fn here() -> Result<Links> {
        Ok(Links(Socket::open().map_err(|error| anyhow!("opening a netlink socket: {error}"))?))
    }

    /// Those of another namespace. A socket stays in the namespace it was made in, and setns(2) moves
    /// a single thread: so a thread of its own makes it.
    pub fn of(namespace: &File) -> Result<Links> {
        let open = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Socket::open()
        };
        let socket = std::thread::scope(|scope| scope.spawn(open).join()).map_err(|_| anyhow!("a thread died"))?;
        Ok(Links(socket.map_err(|error| anyhow!("entering the container's network namespace: {error}"))?))
    }

    /// The number of the link of this name, and its kind (`bridge`, `veth`; empty for a real device).
    pub fn find(&mut self, name: &str) -> Result<Option<(i32, String)>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0));
        message.attribute(IFLA_IFNAME, &c_string(name));
        let replies = match self.0.request(message) {
            Err(Errno::NODEV) => return Ok(None),
            replies => replies.map_err(|error| anyhow!("looking for {name}: {error}"))?,
        };
        let Some(reply) = replies.first() else { bail!("looking for {name}: no answer") };
        let index = reply.i32_at(4).ok_or_else(|| anyhow!("looking for {name}: a short answer"))?;
        let info = reply.attributes(16).into_iter().find(|(kind, _)| *kind == IFLA_LINKINFO);
        let kind = info.and_then(|(_, info)| attribute_of(info, IFLA_INFO_KIND)).unwrap_or_default();
        let kind = String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned();
        Ok(Some((index, kind)))
    }

    /// The number of a link that must be there.
    pub fn index(&mut self, name: &str) -> Result<i32> {
        Ok(self.find(name)?.ok_or_else(|| anyhow!("there is no link {name}"))?.0)
    }

    pub fn make_bridge(&mut self, name: &str) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, NEW, &link_header(0, 0));
        message.attribute(IFLA_IFNAME, &c_string(name));
        message.attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"bridge"));
        self.request(message, &format!("making the bridge {name}"))
    }

    /// Makes a pair of devices: `name` on the bridge, and `inside` in the namespace. The second is
    /// born there, so that the pair goes with the namespace, whatever happens to this process.
    pub fn make_pair(&mut self, name: &str, bridge: i32, inside: &str, namespace: &File) -> Result<()> {
        let mut peer = link_header(0, 0).to_vec();
        peer.extend(attribute(IFLA_IFNAME, &c_string(inside)));
        peer.extend(attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes()));
        let mut info = attribute(IFLA_INFO_KIND, b"veth");
        info.extend(attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer)));
        let mut message = Message::new(libc::RTM_NEWLINK, NEW, &link_header(0, libc::IFF_UP as u32));
        message.attribute(IFLA_IFNAME, &c_string(name));
        message.attribute(IFLA_MASTER, &bridge.to_ne_bytes());
        message.attribute(IFLA_LINKINFO, &info);
        self.request(message, &format!("making the pair {name} and {inside}"))
    }

    pub fn up(&mut self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        let message = Message::new(libc::RTM_NEWLINK, 0, &link_header(index, libc::IFF_UP as u32));
        self.request(message, &format!("setting {name} up"))
    }

    /// Gives a link an address; it may have it already.
    pub fn add_address(&mut self, name: &str, address: Ipv4Addr, prefix: u8, broadcast: Ipv4Addr) -> Result<()> {
        let mut header = [libc::AF_INET as u8, prefix, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&self.index(name)?.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWADDR, NEW, &header);
        message.attribute(IFA_LOCAL, &address.octets());
        message.attribute(IFA_ADDRESS, &address.octets());
        message.attribute(IFA_BROADCAST, &broadcast.octets());
        match self.0.request(message) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(anyhow!("giving {name} the address {address}/{prefix}: {error}")),
        }
    }

    pub fn add_default_route(&mut self, gateway: Ipv4Addr) -> Result<()> {
        let header = [
            libc::AF_INET as u8,
            0, // to everywhere
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let mut message = Message::new(libc::RTM_NEWROUTE, NEW, &header);
        message.attribute(RTA_GATEWAY, &gateway.octets());
        self.request(message, &format!("the default route by {gateway}"))
    }

    /// Removes a link; it may be gone.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let Some((index, _)) = self.find(name)? else { return Ok(()) };
        match self.0.request(Message::new(libc::RTM_DELLINK, 0, &link_header(index, 0))) {
            Ok(_) | Err(Errno::NODEV) => Ok(()),
            Err(error) => Err(anyhow!("removing {name}: {error}")),
        }
    }

    fn request(&mut self, message: Message, what: &str) -> Result<()> {
        self.0.request(message).map(drop).map_err(|error| anyhow!("{what}: {error}"))
    }
}

/// An attribute to stand inside another one.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of an attribute that stands inside another one.
fn attribute_of(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}
