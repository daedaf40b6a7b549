//! Ethernet addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// An address of one device (not of a group), six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The one of a container, made of its first address: whoever gets that address next gets this one too, so what
    /// others remember of the pair (ARP) stays true.
    pub fn of(address: IpAddr) -> Self {
        let last = match address {
            IpAddr::V4(it) => it.octets(),
            IpAddr::V6(it) => {
                let octets = it.octets();
                [octets[12], octets[13], octets[14], octets[15]]
            }
        };
        // Locally administered (IEEE 802).
        Self([0x02, if address.is_ipv6() { 0x46 } else { 0x42 }, last[0], last[1], last[2], last[3]])
    }
}

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("{text:?} is not of the form 02:42:0a:00:00:05");
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let bytes = parts.iter().map(|it| u8::from_str_radix(it, 16).ok().filter(|_| it.len() == 2));
        let bytes: Vec<u8> = bytes.collect::<Option<_>>().with_context(wrong)?;
        let bytes: [u8; 6] = bytes.try_into().ok().with_context(wrong)?;
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            bail!("{text:?} is no single device's address");
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if at > 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{error:#}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mac: Mac = "02:42:0A:00:00:05".parse().unwrap();
        assert_eq!(mac, Mac::of("10.0.0.5".parse().unwrap()));
        assert_eq!(mac.to_string(), "02:42:0a:00:00:05");
        for bad in ["", "02:42", "02:42:0a:00:00:0g", "01:00:5e:00:00:01", "00:00:00:00:00:00", "2:42:0a:0:0:5"] {
            bad.parse::<Mac>().unwrap_err();
        }
    }
}
