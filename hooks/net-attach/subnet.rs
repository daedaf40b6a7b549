//! An IPv4 subnet: the bridge has its first address, containers the others.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// `10.99.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    network: u32,
    pub prefix: u8,
}

impl Subnet {
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network + 1)
    }

    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network | (u32::MAX >> self.prefix))
    }

    /// The addresses that containers can have, in order.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.network + 2..self.broadcast().to_bits()).map(Ipv4Addr::from_bits)
    }

    pub fn is_host(self, address: Ipv4Addr) -> bool {
        (self.gateway() < address) && (address < self.broadcast())
    }
}

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a subnet, expected such as 10.99.0.0/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let network = address.parse::<Ipv4Addr>().map_err(|_| wrong())?.to_bits();
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=30).contains(&prefix) {
            return Err(format!("/{prefix}: a prefix of 8 to 30 bits leaves room for containers"));
        }
        if network & (u32::MAX >> prefix) != 0 {
            return Err(format!("{text:?} has bits behind the prefix"));
        }
        Ok(Subnet { network, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_a_gateway_hosts_and_a_broadcast_address() {
        let subnet: Subnet = "10.99.0.0/29".parse().unwrap();
        let text = |address: Ipv4Addr| address.to_string();
        assert_eq!(text(subnet.gateway()), "10.99.0.1");
        assert_eq!(text(subnet.broadcast()), "10.99.0.7");
        let hosts: Vec<Ipv4Addr> = subnet.hosts().collect();
        assert_eq!((hosts.len(), text(hosts[0]), text(hosts[4])), (5, "10.99.0.2".into(), "10.99.0.6".into()));
        assert!(hosts.iter().all(|host| subnet.is_host(*host)));
        assert!(!subnet.is_host(subnet.gateway()) && !subnet.is_host(subnet.broadcast()));
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in ["10.99.0.0", "10.99.0.1/24", "10.99.0.0/31", "0.0.0.0/0", "300.1.1.0/24", "a/b", ""] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }
}
