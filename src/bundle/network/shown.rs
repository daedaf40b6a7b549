//! What people are told of a container's networks and ports.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::firewall::Protocol;
use super::record::Record;
use super::rows;
use crate::container::record::Container;
use crate::tool::Tool;

/// A port of a container, and one of the host that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The container's.
    pub inside: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The host's address; `0.0.0.0` and `::` are all.
    pub host: String,
    /// The host's port.
    pub outside: u16,
}

/// The ports of the host that lead to a container as long as it runs.
pub fn ports(tool: &Tool, container: &Container) -> Result<Vec<Port>> {
    let record = Record::read(&container.run_dir(tool))?.filter(|it| !it.ended);
    let Some(record) = record else { return Ok(Vec::new()) };
    let word = |it| if it == Protocol::Tcp { "tcp" } else { "udp" };
    let mut ports: Vec<Port> = Vec::new();
    for it in &record.published {
        let all = if it.to.is_ipv6() { "::" } else { "0.0.0.0" };
        ports.push(Port {
            inside: it.to.port(),
            protocol: word(it.protocol),
            host: it.host.map_or_else(|| all.to_owned(), |it| it.to_string()),
            outside: it.port,
        });
    }
    for it in &record.forwarded {
        ports.push(Port {
            inside: it.to.port(),
            protocol: word(it.protocol),
            host: it.listen.ip().to_string(),
            outside: it.listen.port(),
        });
    }
    ports.sort();
    ports.dedup();
    Ok(ports)
}

/// An address with its port, as in URLs.
pub fn address(port: &Port) -> String {
    if port.host.contains(':') {
        format!("[{}]:{}", port.host, port.outside)
    } else {
        format!("{}:{}", port.host, port.outside)
    }
}

/// The column of `ps`: Docker's, ports in a row as one.
pub fn column(ports: &[Port], exposed: &[String]) -> String {
    let mut groups: Vec<(Port, u16)> = Vec::new();
    let mut sorted = ports.to_vec();
    sorted.sort_by(|a, b| (&a.host, a.protocol, a.outside).cmp(&(&b.host, b.protocol, b.outside)));
    for port in sorted {
        match groups.last_mut() {
            Some((first, count))
                if first.host == port.host
                    && first.protocol == port.protocol
                    && first.outside.checked_add(*count) == Some(port.outside)
                    && first.inside.checked_add(*count) == Some(port.inside) =>
            {
                *count += 1;
            }
            _ => groups.push((port, 1)),
        }
    }
    let range =
        |first: u16, count: u16| if count > 1 { format!("{first}-{}", first + (count - 1)) } else { first.to_string() };
    let mut words: Vec<String> = groups
        .iter()
        .map(|(port, count)| {
            let host = if port.host.contains(':') { format!("[{}]", port.host) } else { port.host.clone() };
            format!("{host}:{}->{}/{}", range(port.outside, *count), range(port.inside, *count), port.protocol)
        })
        .collect();
    let shown = |text: &String| ports.iter().any(|it| *text == format!("{}/{}", it.inside, it.protocol));
    words.extend(exposed.iter().filter(|it| !shown(it)).cloned());
    words.join(", ")
}

/// Docker's `NetworkSettings`.
pub fn document(tool: &Tool, container: &Container) -> Result<Value> {
    let ports = ports(tool, container)?;
    let mut by_port: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in &ports {
        let it = json!({"HostIp": port.host, "HostPort": port.outside.to_string()});
        by_port.entry(format!("{}/{}", port.inside, port.protocol)).or_default().push(it);
    }
    let endpoints = rows::endpoints(tool.store()?.db(), &container.id)?;
    let mut networks = Map::new();
    for endpoint in &endpoints {
        let of = |v6: bool| endpoint.addresses.iter().find(|it| it.is_ipv6() == v6);
        let subnet = |v6: bool| of(v6).and_then(|it| endpoint.network.settings.subnet_of(*it));
        let text = |v6: bool| of(v6).map(ToString::to_string).unwrap_or_default();
        let gateway = |v6: bool| subnet(v6).map(|it| it.gateway.to_string()).unwrap_or_default();
        let length = |v6: bool| subnet(v6).map_or(0, |it| it.net.prefix_len());
        let it = json!({
            "NetworkID": endpoint.network.id,
            "Aliases": endpoint.wanted.aliases,
            "Links": endpoint.wanted.links,
            "MacAddress": endpoint.mac(),
            "IPAddress": text(false),
            "IPPrefixLen": length(false),
            "Gateway": gateway(false),
            "GlobalIPv6Address": text(true),
            "GlobalIPv6PrefixLen": length(true),
            "IPv6Gateway": gateway(true),
        });
        networks.insert(endpoint.network.name.clone(), it);
    }
    let first = endpoints.first();
    let of = |v6: bool| {
        let found = first.and_then(|it| it.addresses.iter().find(|it| it.is_ipv6() == v6));
        found.map(ToString::to_string).unwrap_or_default()
    };
    Ok(json!({
        "IPAddress": of(false),
        "GlobalIPv6Address": of(true),
        "MacAddress": first.map(|it| it.mac().to_string()).unwrap_or_default(),
        "Ports": by_port,
        "Networks": networks,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_has_ranges() {
        let port = |outside, inside, host: &str, protocol| Port { inside, protocol, host: host.to_owned(), outside };
        let mut list: Vec<Port> = (0..3).map(|it| port(8000 + it, 80 + it, "0.0.0.0", "tcp")).collect();
        list.push(port(53, 53, "::1", "udp"));
        list.push(port(9000, 9000, "127.0.0.1", "tcp"));
        assert_eq!(
            column(&list, &["80/tcp".to_owned(), "443/tcp".to_owned()]),
            "0.0.0.0:8000-8002->80-82/tcp, 127.0.0.1:9000->9000/tcp, [::1]:53->53/udp, 443/tcp"
        );
        assert_eq!(address(&list[3]), "[::1]:53");
        let top: Vec<Port> = [65534, 65535].map(|it| port(it, it, "0.0.0.0", "tcp")).to_vec();
        assert_eq!(column(&top, &[]), "0.0.0.0:65534-65535->65534-65535/tcp");
    }
}
