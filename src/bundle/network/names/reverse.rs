//! The names of addresses, below in-addr.arpa and ip6.arpa (RFC 1035, 3.5; RFC 3596, 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What a name of the reverse zones is about; `None` for another name. It is in lower case, without the last dot.
pub fn subnet_of(name: &str) -> Option<IpNet> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut bytes = [0; 4];
        let mut count = 0;
        for label in labels.rsplit('.') {
            *bytes.get_mut(count)? = label.parse().ok()?;
            count += 1;
        }
        return IpNet::new(Ipv4Addr::from(bytes).into(), 8 * count as u8).ok();
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let (mut value, mut count) = (0, 0);
    for label in labels.rsplit('.') {
        let digit = u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1 && count < 32)?;
        count += 1;
        value |= digit << (128 - 4 * count);
    }
    IpNet::new(Ipv6Addr::from(value).into(), 4 * count as u8).ok()
}

/// The address, if the name is about one.
pub fn address_of(name: &str) -> Option<IpAddr> {
    subnet_of(name).filter(|it| it.prefix_len() == it.max_prefix_len()).map(|it| it.addr())
}
