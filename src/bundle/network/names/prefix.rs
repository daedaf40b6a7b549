//! Subnets, and the names of their addresses below in-addr.arpa and ip6.arpa (RFC 1035, 3.5; RFC 3596, 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Error};
use serde::Deserialize;

/// An address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl TryFrom<String> for Prefix {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let told = || format!("{text}: no subnet");
        let (address, length) = text.split_once('/').with_context(told)?;
        let address: IpAddr = address.parse().with_context(told)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|it| *it <= most).with_context(told)?;
        Ok(Self { address, length })
    }
}

impl Prefix {
    /// Whether all of another prefix is within this one.
    pub fn holds(&self, other: &Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && bits(self.address, self.length) == bits(other.address, self.length)
    }

    /// The address, if all of its bits count.
    pub fn whole(&self) -> Option<IpAddr> {
        (self.length == if self.address.is_ipv4() { 32 } else { 128 }).then_some(self.address)
    }

    /// What a name of the reverse zones is about; `None` for another name. It is in lower case, without the last dot.
    pub fn of_name(name: &str) -> Option<Self> {
        if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
            let mut bytes = [0; 4];
            let mut count = 0;
            for label in labels.rsplit('.') {
                *bytes.get_mut(count)? = label.parse().ok()?;
                count += 1;
            }
            return Some(Self { address: Ipv4Addr::from(bytes).into(), length: 8 * count as u8 });
        }
        let labels = name.strip_suffix(".ip6.arpa")?;
        let (mut value, mut count) = (0, 0);
        for label in labels.rsplit('.') {
            let digit = u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1 && count < 32)?;
            count += 1;
            value |= digit << (128 - 4 * count);
        }
        Some(Self { address: Ipv6Addr::from(value).into(), length: 4 * count as u8 })
    }
}

/// The first bits of an address, the others zero.
fn bits(address: IpAddr, length: u8) -> u128 {
    let value = match address {
        IpAddr::V4(it) => u128::from(u32::from(it)) << 96,
        IpAddr::V6(it) => u128::from(it),
    };
    value & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}
