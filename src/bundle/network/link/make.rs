//! Links that are made.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::bail;

use super::{Context, Errno, Links, Mac, Message, NEW, Refusal, Result, link_header, octets};

// Attributes of `linux/if_link.h` and `linux/veth.h` that libc has not.
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_STATE: u16 = 1;
const BR_STATE_DISABLED: u8 = 0;
const BRPORT_FLUSH: u16 = 24;
const BRPORT_HAIRPIN: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const VETH_PEER: u16 = 1;
const MACVLAN_MODE: u16 = 1;
const VXLAN_ID: u16 = 1;
const VXLAN_LINK: u16 = 3;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PROXY: u16 = 11;
const VXLAN_PORT: u16 = 15;
const VXLAN_LOCAL6: u16 = 17;

/// A container's cable to a bridge.
pub struct Veth<'a> {
    /// The end on the host, set up in the bridge.
    pub name: &'a str,
    /// The bridge's number.
    pub bridge: u32,
    /// The end in the container, which is born there; the pair goes with the namespace. It cannot be set up before
    /// both are there (`veth_open` in the kernel): that is left to the caller.
    pub peer: &'a str,
    /// The container's network namespace.
    pub namespace: BorrowedFd<'a>,
    /// Its Ethernet address; `None`: one of the kernel's choice.
    pub mac: Option<Mac>,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Whether the container can reach itself by a published port.
    pub hairpin: bool,
    /// Whether it is kept from other isolated ones of the bridge.
    pub isolated: bool,
}

/// A bridge's way to other hosts.
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network's number, of 24 bits.
    pub vni: u32,
    /// This host's address to the others.
    pub local: IpAddr,
    /// The UDP port of all of them; 4789 by the standard.
    pub port: u16,
    /// The number of the device that carries it; 0: as routes say.
    pub underlay: u32,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Whether senders are remembered.
    pub learning: bool,
    /// Whether questions for an address are answered from the neighbours that are entered.
    pub proxy: bool,
    /// The bridge's number.
    pub bridge: u32,
}

impl Links {
    /// A bridge, set up, with these addresses. Whether it was made: one that is there gets what it lacks. Another link
    /// of its name is an error. What was made is removed if the rest fails.
    pub fn bridge(&mut self, name: &str, mtu: u32, mac: Mac, addresses: &[(IpAddr, u8)]) -> Result<bool> {
        let what = || format!("making the bridge {name}");
        let mut message = Message::new(libc::RTM_NEWLINK, NEW, &link_header(0, libc::IFF_UP as u32));
        message.text(libc::IFLA_IFNAME, name).number(libc::IFLA_MTU, mtu).put(libc::IFLA_ADDRESS, &mac);
        message.within(libc::IFLA_LINKINFO, |it| {
            it.text(libc::IFLA_INFO_KIND, "bridge");
        });
        let made = match self.0.request(message) {
            Ok(_) => true,
            Err(Refusal { errno: Errno::EXIST, .. }) => false,
            Err(Refusal { errno: Errno::OPNOTSUPP, .. }) => {
                bail!("{}: the kernel has no bridges (CONFIG_BRIDGE): use --network none or host", what())
            }
            Err(error) => return Err(error).with_context(what),
        };
        let completed = self.complete_bridge(name, mtu, mac, addresses).with_context(what);
        if made && completed.is_err() {
            let _ = self.remove(name);
        }
        completed.map(|()| made)
    }

    fn complete_bridge(&mut self, name: &str, mtu: u32, mac: Mac, addresses: &[(IpAddr, u8)]) -> Result<()> {
        let Some(link) = self.find(name)? else { bail!("somebody has removed it") };
        if link.kind != "bridge" {
            bail!("there is a link of this name that is no bridge: remove it, or name the network otherwise");
        }
        if (link.mtu, link.mac, link.up) != (mtu, Some(mac), true) {
            let mut message = Message::new(libc::RTM_NEWLINK, 0, &link_header(link.index, libc::IFF_UP as u32));
            message.number(libc::IFLA_MTU, mtu).put(libc::IFLA_ADDRESS, &mac);
            self.change(message, || "its size, Ethernet address and state".into())?;
        }
        addresses.iter().try_for_each(|(address, prefix)| self.address(link.index, *address, *prefix))
    }

    /// A pair of links: the peer in its namespace, the other set up in the bridge.
    pub fn veth(&mut self, veth: &Veth<'_>) -> Result<()> {
        let mut pair = Message::new(libc::RTM_NEWLINK, NEW, &link_header(0, libc::IFF_UP as u32));
        pair.text(libc::IFLA_IFNAME, veth.name).number(libc::IFLA_MTU, veth.mtu);
        pair.number(libc::IFLA_MASTER, veth.bridge);
        pair.within(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth").within(libc::IFLA_INFO_DATA, |data| {
                data.within(VETH_PEER, |peer| {
                    peer.raw(&link_header(0, 0)).text(libc::IFLA_IFNAME, veth.peer).number(libc::IFLA_MTU, veth.mtu);
                    peer.number(libc::IFLA_NET_NS_FD, veth.namespace.as_raw_fd() as u32);
                    if let Some(mac) = veth.mac {
                        peer.put(libc::IFLA_ADDRESS, &mac);
                    }
                });
            });
        });
        let what = || format!("making the links {} and {} (in the container)", veth.name, veth.peer);
        self.change(pair, what)?;
        if !veth.hairpin && !veth.isolated {
            return Ok(());
        }
        // A port's own settings are not taken with the request that makes it.
        let mut port = Message::new(libc::RTM_NEWLINK, 0, &link_header(0, 0));
        port.text(libc::IFLA_IFNAME, veth.name).within(libc::IFLA_LINKINFO, |info| {
            info.text(INFO_SLAVE_KIND, "bridge").within(INFO_SLAVE_DATA, |data| {
                data.put(BRPORT_HAIRPIN, &[veth.hairpin.into()]).put(BRPORT_ISOLATED, &[veth.isolated.into()]);
            });
        });
        let set = self.change(port, what);
        if set.is_err() {
            let _ = self.remove(veth.name);
        }
        set
    }

    /// Puts the host's end of a pair into a bridge that was made anew. One that has just gone with its container is none.
    pub fn put_into(&mut self, name: &str, bridge: &str) -> Result<()> {
        let what = || format!("putting the link {name} into the bridge {bridge}");
        if self.find(name)?.is_none() {
            return Ok(());
        }
        let Some(bridge) = self.find(bridge)? else { bail!("{}: there is no such bridge", what()) };
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &link_header(0, libc::IFF_UP as u32));
        message.text(libc::IFLA_IFNAME, name).number(libc::IFLA_MASTER, bridge.index);
        self.change(message, what)
    }

    /// Has a bridge's port carry no packet any more, and forget who is behind it: at once, where removing a link waits
    /// for the whole machine. One that is gone is fine.
    pub fn silence(&mut self, name: &str) -> Result<()> {
        let mut port = Message::new(libc::RTM_NEWLINK, 0, &link_header(0, 0));
        port.text(libc::IFLA_IFNAME, name).within(libc::IFLA_LINKINFO, |info| {
            info.text(INFO_SLAVE_KIND, "bridge").within(INFO_SLAVE_DATA, |data| {
                data.put(BRPORT_STATE, &[BR_STATE_DISABLED]).put(BRPORT_FLUSH, &[]);
            });
        });
        self.gone(port, || format!("silencing the link {name}"))
    }

    /// A link in a container that stands beside the parent on its wire, where others of the parent reach it, too. It is
    /// set up.
    pub fn macvlan(
        &mut self,
        parent: u32,
        name: &str,
        namespace: BorrowedFd<'_>,
        mac: Option<Mac>,
        mtu: Option<u32>,
    ) -> Result<()> {
        /// `MACVLAN_MODE_BRIDGE`.
        const BETWEEN_THEM: u32 = 4;
        let mut message = Message::new(libc::RTM_NEWLINK, NEW, &link_header(0, libc::IFF_UP as u32));
        message.text(libc::IFLA_IFNAME, name).number(libc::IFLA_LINK, parent);
        message.number(libc::IFLA_NET_NS_FD, namespace.as_raw_fd() as u32);
        if let Some(mac) = mac {
            message.put(libc::IFLA_ADDRESS, &mac);
        }
        if let Some(mtu) = mtu {
            message.number(libc::IFLA_MTU, mtu);
        }
        message.within(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "macvlan").within(libc::IFLA_INFO_DATA, |data| {
                data.number(MACVLAN_MODE, BETWEEN_THEM);
            });
        });
        self.change(message, || format!("making the macvlan link {name} of link {parent} in the container"))
    }

    /// A bridge's way to other hosts, set up in it. Whether it was made: one of its name that is there is kept.
    pub fn vxlan(&mut self, vxlan: &Vxlan<'_>) -> Result<bool> {
        let mut message = Message::new(libc::RTM_NEWLINK, NEW, &link_header(0, libc::IFF_UP as u32));
        message.text(libc::IFLA_IFNAME, vxlan.name).number(libc::IFLA_MTU, vxlan.mtu);
        message.number(libc::IFLA_MASTER, vxlan.bridge);
        message.within(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "vxlan").within(libc::IFLA_INFO_DATA, |data| {
                let local = if vxlan.local.is_ipv4() { VXLAN_LOCAL } else { VXLAN_LOCAL6 };
                data.number(VXLAN_ID, vxlan.vni).put(local, &octets(vxlan.local));
                data.put(VXLAN_PORT, &vxlan.port.to_be_bytes());
                data.put(VXLAN_LEARNING, &[vxlan.learning.into()]).put(VXLAN_PROXY, &[vxlan.proxy.into()]);
                if vxlan.underlay != 0 {
                    data.number(VXLAN_LINK, vxlan.underlay);
                }
            });
        });
        let what = || format!("making the vxlan link {} of VNI {}", vxlan.name, vxlan.vni);
        match self.0.request(message) {
            Ok(_) => Ok(true),
            Err(Refusal { errno: Errno::EXIST, words, .. }) => {
                // The same words are said of the name and of a VNI that another link has.
                if self.find(vxlan.name)?.is_some_and(|it| it.kind == "vxlan" && it.master == Some(vxlan.bridge)) {
                    return Ok(false);
                }
                bail!("{}: another link has this name, or this VNI and port ({words})", what())
            }
            Err(Refusal { errno: Errno::OPNOTSUPP, .. }) => {
                bail!("{}: the kernel has no vxlan links (CONFIG_VXLAN)", what())
            }
            Err(error) => Err(error).with_context(what),
        }
    }
}
