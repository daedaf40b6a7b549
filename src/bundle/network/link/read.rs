//! What there is.

use super::{Context, Errno, IpAddr, Links, Mac, Message, Refusal, Reply, Result, link_header};
use crate::network::netlink::{self, Attributes};

/// `RTEXT_FILTER_SKIP_STATS` (`linux/rtnetlink.h`): no counters of packets.
const NO_STATISTICS: u32 = 8;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, `vxlan`…; empty for a real device.
    pub kind: String,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Whether it has been set up.
    pub up: bool,
    /// Whether packets go through: the other side is set up, too, and the kernel has taken notice, which it does in a
    /// moment of its own. Packets that are sent before are lost.
    pub running: bool,
    /// The bridge that it belongs to.
    pub master: Option<u32>,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// How many bits of it name the subnet.
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to: a subnet's first address and its bits. 0 bits: everywhere.
    pub to: (IpAddr, u8),
    /// By whom.
    pub gateway: Option<IpAddr>,
    /// By which link.
    pub index: Option<u32>,
}

impl Links {
    /// A link by its name.
    pub fn find(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0));
        message.text(libc::IFLA_IFNAME, name).number(libc::IFLA_EXT_MASK, NO_STATISTICS);
        match self.0.request(message) {
            Err(Refusal { errno: Errno::NODEV, .. }) => Ok(None),
            answer => Ok(answer.with_context(|| format!("looking for the link {name}"))?.iter().find_map(link)),
        }
    }

    /// All links.
    pub fn list(&mut self) -> Result<Vec<Link>> {
        let mut message = Message::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &link_header(0, 0));
        message.number(libc::IFLA_EXT_MASK, NO_STATISTICS);
        Ok(self.dump(message, "links")?.iter().filter_map(link).collect())
    }

    /// The addresses of a link, or of all.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>> {
        let mut header = [0; 8];
        header[4..].copy_from_slice(&index.unwrap_or(0).to_ne_bytes());
        let replies = self.dump(Message::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &header), "addresses")?;
        let all = replies.iter().filter_map(|reply| {
            let header: &[u8; 8] = reply.header()?;
            let attributes = reply.attributes(8);
            let address = attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS))?;
            let index = u32::from_ne_bytes(*header[4..].first_chunk()?);
            Some(Address { index, ip: netlink::address(address)?, prefix: header[1] })
        });
        // A kernel before 4.20 tells of all links.
        Ok(all.filter(|it| index.is_none_or(|index| it.index == index)).collect())
    }

    /// All routes of the main table, of both families.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut header = [0; 12];
            (header[0], header[4]) = (family as u8, libc::RT_TABLE_MAIN);
            let replies = match self.0.request(Message::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &header)) {
                // A kernel without IPv6; a namespace whose table nobody has used yet.
                Err(Refusal { errno: Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::NOENT, .. }) => continue,
                replies => replies.context("reading the routes")?,
            };
            routes.extend(replies.iter().filter_map(route));
        }
        Ok(routes)
    }

    /// A dump that changed while it was read is read again.
    pub(super) fn dump(&mut self, message: Message, what: &str) -> Result<Vec<Reply>> {
        for _ in 0..16 {
            match self.0.request(message.clone()) {
                Err(Refusal { errno: Errno::INTR, .. }) => {}
                replies => return replies.with_context(|| format!("reading the {what}")),
            }
        }
        anyhow::bail!("reading the {what}: they change all the time")
    }
}

fn link(reply: &Reply) -> Option<Link> {
    let header: &[u8; 16] = reply.header()?;
    let flags = u32::from_ne_bytes(*header[8..].first_chunk()?);
    let attributes = reply.attributes(16);
    Some(Link {
        index: u32::from_ne_bytes(*header[4..].first_chunk()?),
        name: attributes.text(libc::IFLA_IFNAME)?,
        kind: attributes.within(libc::IFLA_LINKINFO).text(libc::IFLA_INFO_KIND).unwrap_or_default(),
        mtu: attributes.number(libc::IFLA_MTU).unwrap_or_default(),
        mac: attributes.get(libc::IFLA_ADDRESS).and_then(mac),
        up: flags & libc::IFF_UP as u32 != 0,
        running: flags & libc::IFF_RUNNING as u32 != 0,
        master: attributes.number(libc::IFLA_MASTER),
    })
}

fn route(reply: &Reply) -> Option<Route> {
    let header: &[u8; 12] = reply.header()?;
    let attributes: Attributes<'_> = reply.attributes(12);
    let [family, bits, _, _, table, _, _, kind, ..] = *header;
    let any: IpAddr = match i32::from(family) {
        libc::AF_INET => [0; 4].into(),
        libc::AF_INET6 => [0; 16].into(),
        _ => return None,
    };
    // What is refused is used by somebody's plan, too; what is multicast is not.
    let used = matches!(kind, libc::RTN_UNICAST | libc::RTN_BLACKHOLE | libc::RTN_UNREACHABLE | libc::RTN_PROHIBIT);
    let to = attributes.get(libc::RTA_DST).map_or(Some(any), netlink::address)?;
    (table == libc::RT_TABLE_MAIN && used).then_some(Route {
        to: (to, bits),
        gateway: attributes.get(libc::RTA_GATEWAY).and_then(netlink::address),
        index: attributes.number(libc::RTA_OIF),
    })
}

pub(super) fn mac(bytes: &[u8]) -> Option<Mac> {
    (bytes.len() == 6).then(|| bytes.first_chunk().copied())?
}
