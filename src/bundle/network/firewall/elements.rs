//! Networks and published ports to elements of sets, and back.

use std::net::{IpAddr, SocketAddr};

use super::rules::name_bytes;
use super::wire::Element;
use super::{Network, Protocol, Published};
use crate::network::netlink::{address, octets};

/// What stands for all addresses of a family, as the host's side of a limit.
fn anything(v4: bool) -> (IpAddr, u8) {
    if v4 { ([0; 4].into(), 0) } else { ([0; 16].into(), 0) }
}

/// The first and the last address of a subnet.
pub fn range((of, bits): (IpAddr, u8)) -> (IpAddr, IpAddr) {
    match of {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
            let it = u32::from(it);
            (IpAddr::V4((it & !mask).into()), IpAddr::V4((it | mask).into()))
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
            let it = u128::from(it);
            (IpAddr::V6((it & !mask).into()), IpAddr::V6((it | mask).into()))
        }
    }
}

/// The subnet of these bounds.
fn subnet(first: IpAddr, last: IpAddr) -> Option<(IpAddr, u8)> {
    let (same, all) = match (first, last) {
        (IpAddr::V4(one), IpAddr::V4(other)) => ((u32::from(one) ^ u32::from(other)).leading_zeros(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => ((u128::from(one) ^ u128::from(other)).leading_zeros(), 128),
        _ => return None,
    };
    Some((first, same.min(all) as u8))
}

/// The address behind the last one; `None` behind the last of all.
fn next(last: IpAddr) -> Option<IpAddr> {
    match last {
        IpAddr::V4(it) => u32::from(it).checked_add(1).map(|it| IpAddr::V4(it.into())),
        IpAddr::V6(it) => u128::from(it).checked_add(1).map(|it| IpAddr::V6(it.into())),
    }
}

fn element(set: &'static str, key: Vec<u8>) -> Element {
    Element { set, key, last: None, data: Vec::new(), comment: String::new(), behind: false }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// One of the two sets of a kind.
fn of(v4: bool, four: &'static str, six: &'static str) -> &'static str {
    if v4 { four } else { six }
}

/// A network's elements.
pub fn of_network(network: &Network) -> Vec<Element> {
    let name = name_bytes(&network.bridge);
    let mut all = vec![element("bridges", name.clone()), element("within", [name.clone(), name.clone()].concat())];
    if network.internal {
        all.push(element("internal", name.clone()));
    }
    if !network.isolated {
        all.push(element("open", name.clone()));
    }
    for subnet in &network.subnets {
        let v4 = subnet.0.is_ipv4();
        let (first, last) = range(*subnet);
        let mut inside = element(of(v4, "inside4", "inside6"), [name.clone(), octets(first)].concat());
        inside.last = Some([name.clone(), octets(last)].concat());
        all.push(inside);
        if network.masquerade {
            let set = of(v4, "masquerade4", "masquerade6");
            all.push(element(set, octets(first)));
            all.extend(next(last).map(|it| Element { behind: true, ..element(set, octets(it)) }));
        }
    }
    all
}

/// A published port's elements.
pub fn of_port(port: &Published) -> Vec<Element> {
    let v4 = port.to.is_ipv4();
    let host = port.host.map(octets);
    let number = [[port.protocol.number(), 0, 0, 0], padded(port.port)].concat();
    let to = [octets(port.to.ip()), padded(port.to.port()).to_vec()].concat();
    let key = [host.clone().unwrap_or_default(), number.clone()].concat();
    let map = if host.is_some() { of(v4, "ports4", "ports6") } else { of(v4, "any4", "any6") };
    let mut all = vec![Element { data: to, comment: port.bridge.clone(), ..element(map, key.clone()) }];
    if port.sources.is_empty() {
        return all;
    }
    let set = if host.is_some() { of(v4, "limited4", "limited6") } else { of(v4, "limited_any4", "limited_any6") };
    all.push(element(set, key));
    let (first_host, last_host) = range(port.host.map_or(anything(v4), |it| (it, 128)));
    for source in outermost(&port.sources, v4) {
        let (first, last) = range(source);
        let key = |host, from| [octets(host), number.clone(), octets(from)].concat();
        let set = of(v4, "sources4", "sources6");
        all.push(Element { last: Some(key(last_host, last)), ..element(set, key(first_host, first)) });
    }
    all
}

/// Subnets of one family without those within others of them: ranges of a set must not overlap.
fn outermost(all: &[(IpAddr, u8)], v4: bool) -> Vec<(IpAddr, u8)> {
    let mut sorted: Vec<_> = all.iter().filter(|it| it.0.is_ipv4() == v4).map(|it| (range(*it).0, it.1)).collect();
    sorted.sort_by_key(|it| (it.1, it.0));
    let mut kept: Vec<(IpAddr, u8)> = Vec::new();
    for it in sorted {
        if !kept.iter().any(|outer| range((it.0, outer.1)).0 == outer.0) {
            kept.push(it);
        }
    }
    kept
}

/// The networks that these elements stand for, by their bridges' names.
pub fn networks(all: &[Element]) -> Vec<Network> {
    let has = |set: &str, key: &[u8]| all.iter().any(|it| it.set == set && it.key == key);
    let of_bridge = |name: &Element| {
        let inside = all.iter().filter(|it| it.set.starts_with("inside") && it.key.starts_with(&name.key));
        let subnets: Vec<_> = inside.filter_map(|it| bounds(&it.key[16..], it.last.as_ref()?.get(16..)?)).collect();
        Network {
            bridge: String::from_utf8_lossy(&name.key).trim_end_matches('\0').to_owned(),
            internal: has("internal", &name.key),
            isolated: !has("open", &name.key),
            masquerade: subnets.iter().any(|it| has(of(it.0.is_ipv4(), "masquerade4", "masquerade6"), &octets(it.0))),
            subnets,
        }
    };
    all.iter().filter(|it| it.set == "bridges").map(of_bridge).collect()
}

fn bounds(first: &[u8], last: &[u8]) -> Option<(IpAddr, u8)> {
    subnet(address(first)?, address(last)?)
}

/// The published ports that these elements stand for.
pub fn ports(all: &[Element]) -> Vec<Published> {
    all.iter().filter_map(|it| port(it, all)).collect()
}

fn port(map: &Element, all: &[Element]) -> Option<Published> {
    let (size, specific) = match map.set {
        "ports4" => (4, true),
        "ports6" => (16, true),
        "any4" => (4, false),
        "any6" => (16, false),
        _ => return None,
    };
    let (host, number) = if specific { map.key.split_at_checked(size)? } else { (&[][..], &map.key[..]) };
    let protocol = Protocol::of(*number.first()?)?;
    let to = SocketAddr::new(address(map.data.get(..size)?)?, be16(map.data.get(size..)?)?);
    let host = address(host);
    let (host_first, host_last) = range(host.map_or(anything(size == 4), |it| (it, 128)));
    let (first, last) = ([&octets(host_first), number].concat(), [&octets(host_last), number].concat());
    let limits = all.iter().filter(|it| {
        it.set == of(size == 4, "sources4", "sources6")
            && it.key.starts_with(&first)
            && it.last.as_ref().is_some_and(|it| it.starts_with(&last))
    });
    let sources = limits.filter_map(|it| bounds(it.key.get(first.len()..)?, it.last.as_ref()?.get(first.len()..)?));
    let sources = sources.collect();
    Some(Published { protocol, host, port: be16(number.get(4..)?)?, to, bridge: map.comment.clone(), sources })
}

fn be16(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|it| u16::from_be_bytes(*it))
}
