//! Links, addresses, routes, and forwarding entries of one network namespace, over rtnetlink(7). Everything here is
//! one request and its answer, and leaves nothing half made where it fails; what takes several says so.

mod entries;
mod make;
mod namespace;
mod read;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;

use super::netlink::{Message, Refusal, Reply, Socket, octets};
pub use entries::ALL;
pub use make::{Veth, Vxlan};
pub use namespace::{inside, new_namespace};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// New, and an error if it is there.
const NEW: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// The links of one network namespace.
pub struct Links(Socket);

impl Links {
    /// Those of the calling thread's namespace.
    pub fn here() -> Result<Links> {
        Ok(Links(Socket::route().context("opening a netlink socket")?))
    }

    /// Removes a link; it may be gone.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELLINK, 0, &link_header(0, 0));
        message.text(libc::IFLA_IFNAME, name);
        self.gone(message, || format!("removing the link {name}"))
    }

    /// Sets a link up.
    pub fn up(&mut self, name: &str) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &link_header(0, libc::IFF_UP as u32));
        message.text(libc::IFLA_IFNAME, name);
        self.change(message, || format!("setting the link {name} up"))
    }

    /// Gives a link an address; it may have it already. One of IPv6 can be used at once: whether somebody else has it
    /// is not asked.
    pub fn address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let mut header = [family(address), prefix, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWADDR, NEW, &header);
        message.address(libc::IFA_LOCAL, address).address(libc::IFA_ADDRESS, address);
        match address {
            IpAddr::V4(it) if prefix < 31 => {
                let broadcast = u32::from(it) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                message.number(libc::IFA_BROADCAST, broadcast.to_be());
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(_) => {
                message.number(libc::IFA_FLAGS, libc::IFA_F_NODAD);
            }
        }
        match self.0.request(message) {
            Ok(_) | Err(Refusal { errno: Errno::EXIST, .. }) => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("giving link {index} the address {address}/{prefix}"))),
        }
    }

    /// The way to everywhere; it may be there already.
    pub fn default_route(&mut self, gateway: IpAddr) -> Result<()> {
        let mut header = [0; 12];
        header[0] = family(gateway);
        header[4..8].copy_from_slice(&[
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
        ]);
        let mut message = Message::new(libc::RTM_NEWROUTE, NEW, &header);
        message.address(libc::RTA_GATEWAY, gateway);
        match self.0.request(message) {
            Ok(_) | Err(Refusal { errno: Errno::EXIST, .. }) => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("the default route by {gateway}"))),
        }
    }

    fn change(&mut self, message: Message, what: impl Fn() -> String) -> Result<()> {
        self.0.request(message).map(drop).with_context(what)
    }

    /// What removes something that may be gone.
    fn gone(&mut self, message: Message, what: impl Fn() -> String) -> Result<()> {
        match self.0.request(message) {
            Ok(_)
            | Err(Refusal {
                errno: Errno::NODEV | Errno::NXIO | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL,
                ..
            }) => Ok(()),
            Err(error) => Err(anyhow!(error).context(what())),
        }
    }
}

/// `struct ifinfomsg` (`linux/rtnetlink.h`), where these bits of its flags are to be set. Without a number the link is
/// meant that an attribute names.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}
