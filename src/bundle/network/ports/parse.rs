//! `-p [ADDRESS:][HOST_PORTS:]CONTAINER_PORTS[/PROTOCOL][,via=proxy][,from=SUBNET]...`

use std::net::IpAddr;
use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail, ensure};

use crate::network::firewall::Protocol;

/// What is asked for on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// Any free one for each of the container's.
    Random,
    /// These, in the order of the container's, of which there are as many.
    Each(RangeInclusive<u16>),
    /// The first of these that is free, for the container's only one.
    FirstFree(RangeInclusive<u16>),
}

/// One `-p`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's address; `None`: all.
    pub host: Option<IpAddr>,
    /// The host's ports.
    pub ports: HostPorts,
    /// The container's ports.
    pub container: RangeInclusive<u16>,
    /// Whether a process forwards instead of the firewall.
    pub proxy: bool,
    /// Who may use it; nobody named: everybody. First addresses of subnets, and bits.
    pub sources: Vec<(IpAddr, u8)>,
}

/// Reads one; the error names the flag and the part that is wrong.
pub fn parse(text: &str) -> Result<Publish> {
    read(text).with_context(|| format!("--publish {text:?}"))
}

fn read(text: &str) -> Result<Publish> {
    let mut parts = text.split(',');
    let (ports, protocol) = match parts.next().unwrap_or_default().rsplit_once('/') {
        Some((ports, protocol)) => (ports, protocol),
        None => (text.split(',').next().unwrap_or_default(), "tcp"),
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => bail!(
            "ports of sctp cannot be published: only tcp and udp; containers of one network reach each other by all protocols"
        ),
        _ => bail!("{protocol:?} is no protocol: tcp or udp"),
    };
    let (front, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let container = range(container).context("the container's port")?;
    let (host, wanted) = address(front)?;
    let ports = match wanted {
        "" => HostPorts::Random,
        wanted => {
            let wanted = range(wanted).context("the host's port")?;
            match (wanted.len(), container.len()) {
                (host, inside) if host == inside => HostPorts::Each(wanted),
                (_, 1) => HostPorts::FirstFree(wanted),
                (host, inside) => bail!("{host} ports of the host for {inside} of the container: as many are needed"),
            }
        }
    };
    let mut publish = Publish { protocol, host, ports, container, proxy: false, sources: vec![] };
    for option in parts {
        match option.split_once('=') {
            Some(("via", "proxy")) => publish.proxy = true,
            Some(("via", "nat")) => publish.proxy = false,
            Some(("via", how)) => bail!("via={how}: nat or proxy"),
            Some(("from", from)) => publish.sources.push(subnet(from)?),
            _ => bail!("{option:?} is no option: via=proxy, from=SUBNET"),
        }
    }
    Ok(publish)
}

/// What stands before the container's port: an address, with brackets where it is one of IPv6, and the host's port.
fn address(front: &str) -> Result<(Option<IpAddr>, &str)> {
    let (address, port) = if let Some(rest) = front.strip_prefix('[') {
        let (address, port) = rest.split_once(']').context("the host's address: a ] is missing")?;
        let port =
            port.strip_prefix(':').with_context(|| format!("{port:?} after the host's address: a : is missing"))?;
        let address: std::net::Ipv6Addr =
            address.parse().ok().with_context(|| format!("the host's address: [{address}] is none of IPv6"))?;
        (IpAddr::from(address), port)
    } else {
        let Some((address, port)) = front.rsplit_once(':') else { return Ok((None, front)) };
        ensure!(!address.contains(':'), "the host's address: one of IPv6 is written in brackets: [{address}]");
        // Docker's words for all addresses of the family.
        let address = address.parse().ok();
        (
            address.with_context(|| {
                format!("the host's address: {:?} is none", front.rsplit_once(':').unwrap_or_default().0)
            })?,
            port,
        )
    };
    ensure!(!address.is_multicast(), "the host's address: {address} is one of many hosts");
    Ok((Some(address), port))
}

fn range(text: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "{text:?}: the range's end is before its beginning");
    Ok(first..=last)
}

fn number(text: &str) -> Result<u16> {
    // Numbers with signs are read otherwise.
    let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let number = text.parse().ok().filter(|it| digits && *it != 0);
    number.with_context(|| format!("{text:?} is no port: 1 to 65535"))
}

/// A subnet, or one address.
fn subnet(text: &str) -> Result<(IpAddr, u8)> {
    let what = || format!("from={text}: a subnet is needed, such as 192.0.2.0/24 or 2001:db8::/64, or an address");
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok().with_context(what)?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => all,
        Some(bits) => bits.parse().ok().filter(|it| *it <= all).with_context(what)?,
    };
    let (first, _) = crate::network::firewall::range((address, bits));
    ensure!(first == address, "from={text}: bits beyond the prefix are set; {first}/{bits} is meant?");
    Ok((address, bits))
}
