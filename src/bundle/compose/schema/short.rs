//! Short forms to long ones: ports, volumes, devices, and lines of words.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};

use crate::compose::yaml::{Entry, Node, Value};

fn mapping(of: &Node, fields: &[(&str, String)]) -> Node {
    let entry = |(key, value): &(&str, String)| Entry {
        key: (*key).to_owned(),
        at: of.at.clone(),
        value: Node::text(&of.at, value),
    };
    Node::new(&of.at, Value::Map(fields.iter().filter(|it| !it.1.is_empty()).map(entry).collect()))
}

/// `[[ADDRESS:]HOST:]PORT[/PROTOCOL]`, with ranges: one of each port of the container.
pub fn port(item: &Node) -> Result<Vec<Node>> {
    let text = item.as_text().unwrap_or_default();
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (front, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    let targets = range(target).with_context(|| format!("{text:?}: the container's port"))?;
    // An address of IPv6 may stand in brackets, or have its colons alone.
    let (address, published) = match front.rsplit_once(':') {
        Some((address, published)) => (address.trim_start_matches('[').trim_end_matches(']'), published),
        None => ("", front),
    };
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        bail!("{text:?}: {address:?} is no address of the host");
    }
    let count = targets.clone().count();
    let each: Vec<String> = if published.is_empty() {
        vec![String::new(); count]
    } else {
        let range = range(published).with_context(|| format!("{text:?}: the host's port"))?;
        match range.clone().count() {
            same if same == count => range.map(|it| it.to_string()).collect(),
            // Any of these.
            _ if count == 1 => vec![published.to_owned()],
            other => bail!("{text:?}: {other} ports of the host for {count} of the container: as many are needed"),
        }
    };
    let port = |(target, published): (u16, String)| {
        let fields = [
            ("target", target.to_string()),
            ("published", published),
            ("host_ip", address.to_owned()),
            ("protocol", protocol.to_ascii_lowercase()),
            ("mode", "ingress".to_owned()),
        ];
        mapping(item, &fields)
    };
    Ok(targets.zip(each).map(port).collect())
}

fn range(text: &str) -> Result<RangeInclusive<u16>> {
    let number = |it: &str| {
        it.parse::<u16>().ok().filter(|it| *it != 0).with_context(|| format!("{it:?} is no number from 1 to 65535"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        bail!("{text:?}: the last is before the first");
    }
    Ok(first..=last)
}

/// Whether a source is a path of the host, not the name of a volume.
pub fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
}

/// `[SOURCE:]TARGET[:OPTIONS]`.
pub fn volume(item: &Node) -> Result<Vec<Node>> {
    let text = item.as_text().unwrap_or_default();
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, words) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, words] => (source, target, words),
        _ => bail!("{text:?}: not of the form [SOURCE:]TARGET[:OPTIONS]; the long form takes paths with a colon"),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty()) {
        bail!("{text:?}: not of the form [SOURCE:]TARGET[:OPTIONS]");
    }
    let path = is_path(source);
    let mut fields = vec![("type", if path { "bind" } else { "volume" }.to_owned()), ("source", source.to_owned())];
    fields.push(("target", target.to_owned()));
    let mut below: Vec<(&str, String)> = Vec::new();
    for word in words.split(',').filter(|it| !it.is_empty()) {
        match word {
            "ro" => fields.push(("read_only", "true".to_owned())),
            "z" | "Z" if path => below.push(("selinux", word.to_owned())),
            "rw" | "consistent" | "cached" | "delegated" | "z" | "Z" => {}
            "nocopy" if !path => below.push(("nocopy", "true".to_owned())),
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" if path => {
                below.push(("propagation", word.to_owned()));
            }
            _ => bail!("{text:?}: the option {word:?} is not known, or not for this kind of source"),
        }
    }
    if path {
        // What the short form has always done.
        below.push(("create_host_path", "true".to_owned()));
    }
    let mut node = mapping(item, &fields);
    if !below.is_empty() {
        node.set(if path { "bind" } else { "volume" }, mapping(item, &below));
    }
    Ok(vec![node])
}

/// `SOURCE[:TARGET[:PERMISSIONS]]`.
pub fn device(item: &Node) -> Result<Vec<Node>> {
    let text = item.as_text().unwrap_or_default();
    let mut parts = text.splitn(3, ':');
    let source = parts.next().filter(|it| !it.is_empty()).with_context(|| format!("{text:?}: a device is missing"))?;
    let target = parts.next().unwrap_or(source);
    let permissions = parts.next().unwrap_or("rwm");
    let fields =
        [("source", source.to_owned()), ("target", target.to_owned()), ("permissions", permissions.to_owned())];
    Ok(vec![mapping(item, &fields)])
}

/// The words of a line as a shell parts them: quotes and `\`, nothing else.
pub fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(it) = chars.next() {
        match it {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(other) => word.push(other),
                        None => bail!("{line:?}: a ' without its second one"),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(other @ ('"' | '\\' | '$' | '`')) => word.push(other),
                            Some('\n') => {}
                            Some(other) => word.extend(['\\', other]),
                            None => bail!("{line:?}: a \" without its second one"),
                        },
                        Some(other) => word.push(other),
                        None => bail!("{line:?}: a \" without its second one"),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(other) => word.get_or_insert_default().push(other),
                None => bail!("{line:?}: a \\ at the end"),
            },
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}
