//! Entries of tables that the kernel would else learn by itself: which host has an Ethernet address, and which
//! Ethernet address has an IP address.

use super::{IpAddr, Links, Mac, Message, Result, family, read};
use crate::network::netlink;

// `linux/neighbour.h`, and AF_BRIDGE.
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

/// What a host's packets that are for all go to: this entry may be there once for each host.
pub const ALL: Mac = [0; 6];

impl Links {
    /// Has a vxlan link send what is for an Ethernet address to this host; it may be entered already. For [`ALL`]
    /// hosts add up, for others the last one counts.
    pub fn add_forwarding(&mut self, index: u32, mac: Mac, host: IpAddr) -> Result<()> {
        let how = if mac == ALL { libc::NLM_F_APPEND } else { libc::NLM_F_REPLACE };
        let message = forwarding(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | how, index, mac, host);
        self.change(message, || format!("entering {} at host {host} for link {index}", text(mac)))
    }

    /// The opposite; the entry may be gone.
    pub fn remove_forwarding(&mut self, index: u32, mac: Mac, host: IpAddr) -> Result<()> {
        let message = forwarding(libc::RTM_DELNEIGH, 0, index, mac, host);
        self.gone(message, || format!("removing {} at host {host} from link {index}", text(mac)))
    }

    /// All entries of a vxlan link.
    pub fn forwardings(&mut self, index: u32) -> Result<Vec<(Mac, IpAddr)>> {
        let all = self.entries(AF_BRIDGE, index)?;
        Ok(all.into_iter().filter_map(|(mac, host)| Some((mac, host?))).collect())
    }

    /// Enters which Ethernet address an address has at a link, for good; another one is replaced.
    pub fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: Mac) -> Result<()> {
        let header = header(family(address), index, NUD_PERMANENT, 0);
        let mut message = Message::new(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &header);
        message.address(libc::NDA_DST, address).put(libc::NDA_LLADDR, &mac);
        self.change(message, || format!("entering {address} as {} for link {index}", text(mac)))
    }

    /// The opposite; the entry may be gone.
    pub fn remove_neighbour(&mut self, index: u32, address: IpAddr) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELNEIGH, 0, &header(family(address), index, 0, 0));
        message.address(libc::NDA_DST, address);
        self.gone(message, || format!("removing {address} from link {index}"))
    }

    /// The neighbours that were entered for good, of both families.
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<(IpAddr, Mac)>> {
        let mut all = self.entries(libc::AF_INET as u8, index)?;
        all.extend(self.entries(libc::AF_INET6 as u8, index)?);
        Ok(all.into_iter().filter_map(|(mac, address)| Some((address?, mac))).collect())
    }

    fn entries(&mut self, family: u8, index: u32) -> Result<Vec<(Mac, Option<IpAddr>)>> {
        let mut message = Message::new(libc::RTM_GETNEIGH, libc::NLM_F_DUMP, &header(family, 0, 0, 0));
        if family != AF_BRIDGE {
            message.number(libc::NDA_IFINDEX, index);
        }
        let replies = self.dump(message, "neighbours")?;
        let entry = |reply: &super::Reply| {
            let header: &[u8; 12] = reply.header()?;
            let link = u32::from_ne_bytes(*header[4..].first_chunk()?);
            let state = u16::from_ne_bytes(*header[8..].first_chunk()?);
            let attributes = reply.attributes(12);
            let mac = attributes.get(libc::NDA_LLADDR).and_then(read::mac)?;
            let address = attributes.get(libc::NDA_DST).and_then(netlink::address);
            (link == index && state & NUD_PERMANENT != 0).then_some((mac, address))
        };
        Ok(replies.iter().filter_map(entry).collect())
    }
}

fn forwarding(kind: u16, flags: i32, index: u32, mac: Mac, host: IpAddr) -> Message {
    let mut message = Message::new(kind, flags, &header(AF_BRIDGE, index, NUD_NOARP | NUD_PERMANENT, libc::NTF_SELF));
    message.put(libc::NDA_LLADDR, &mac).address(libc::NDA_DST, host);
    message
}

/// `struct ndmsg` (`linux/neighbour.h`).
fn header(family: u8, index: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// An Ethernet address as people write it.
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
