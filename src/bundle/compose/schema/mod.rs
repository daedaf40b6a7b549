//! The compose specification's fields: which there are, of what kind, and what is done with each. What a file says is
//! brought into one shape (short forms become long ones) and checked at the same time; merging and the model know only
//! that shape.

pub mod short;
pub mod tables;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Number, Value as Json};

use super::yaml::{Entry, Node, Special, Value};
use crate::container::units;

/// What a value may be.
pub enum Kind {
    /// Any text, numbers and truths too.
    Text,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// `true` or `false`.
    Truth,
    /// A size such as `64m`; -1 where that has a meaning. In the model a number of bytes.
    Bytes,
    /// A time such as `1m30s`.
    Duration,
    /// Permissions of a file, octal.
    Mode,
    /// Whatever it is: nobody looks at it.
    Any,
    /// A program and its arguments: a list, or a line as a shell has it. Never merged.
    Command,
    /// The same, but that a line is one for the shell: `CMD-SHELL`.
    Test,
    /// A list.
    List(&'static Self, Unique),
    /// A list, or its only item.
    OneOrMany(&'static Self),
    /// A list whose short items are taken apart, one or several long ones of each.
    Short(fn(&Node) -> Result<Vec<Node>>, &'static Self, Unique),
    /// Names and what each means.
    Map(&'static Self),
    /// `KEY: VALUE`, or a list of `KEY=VALUE`; nothing as a value where there is no `=`.
    Pairs,
    /// Names of hosts and their addresses: as pairs, of which there may be several of a name.
    Hosts,
    /// Names with settings, or a list of names.
    Named(&'static Self),
    /// A mapping with these fields.
    Object(&'static [Field]),
    /// The same, or the value of the field that is named here.
    ShortObject(&'static str, &'static [Field]),
}

/// When two items of a list are the same, so that a later file's takes the place of an earlier one's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    /// When all of them is.
    Whole,
    /// When these fields are.
    Fields(&'static [&'static str]),
    /// When the field `target` is, or without one `source`.
    Target,
}

/// A field of a mapping.
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What is done with it.
    pub fate: Fate,
}

/// What is done with a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// What it says.
    Used,
    /// Nothing, which harms nobody here.
    Ignored,
    /// It is refused, for this reason.
    Refused(&'static str),
}

/// Checks a value and brings it into its one shape. `path` is what people call it, such as `services.web`.
pub fn check(node: &mut Node, kind: &Kind, path: &str) -> Result<()> {
    if node.special == Some(Special::Reset) {
        return Ok(());
    }
    let wrong = |node: &Node, wanted: &str| -> Result<()> {
        bail!("{}: {path}: {wanted} is wanted, not {}", node.at, node.kind())
    };
    match kind {
        Kind::Any => {}
        Kind::Text | Kind::Whole | Kind::Number | Kind::Truth | Kind::Bytes | Kind::Duration | Kind::Mode => {
            if !matches!(node.value, Value::Scalar { .. }) {
                return wrong(node, word(kind));
            }
            scalar(node, kind).with_context(|| format!("{}: {path}", node.at))?;
        }
        Kind::Command => match &node.value {
            Value::Scalar { text, .. } => {
                let words = short::words(text).with_context(|| format!("{}: {path}", node.at))?;
                node.value = Value::List(words.iter().map(|it| Node::text(&node.at, it)).collect());
            }
            Value::List(_) => items(node, &Kind::Text, path)?,
            _ => return wrong(node, "a line or a list of words"),
        },
        Kind::Test => match &node.value {
            Value::Scalar { text, .. } => {
                let words = ["CMD-SHELL", text].map(|it| Node::text(&node.at, it));
                node.value = Value::List(words.into());
            }
            Value::List(_) => items(node, &Kind::Text, path)?,
            _ => return wrong(node, "a line or a list of words"),
        },
        Kind::List(of, _) => match node.value {
            Value::List(_) => items(node, of, path)?,
            _ => return wrong(node, "a list"),
        },
        Kind::OneOrMany(of) => match &node.value {
            Value::List(_) => items(node, of, path)?,
            Value::Null => return wrong(node, "a text or a list"),
            _ => {
                let one = Node::new(&node.at, node.value.clone());
                node.value = Value::List(vec![one]);
                items(node, of, path)?;
            }
        },
        Kind::Short(apart, of, _) => {
            let Value::List(list) = &mut node.value else { return wrong(node, "a list") };
            let mut all = Vec::new();
            for item in std::mem::take(list) {
                match item.value {
                    Value::Scalar { .. } => {
                        all.extend(apart(&item).with_context(|| format!("{}: {path}", item.at))?);
                    }
                    _ => all.push(item),
                }
            }
            *list = all;
            items(node, of, path)?;
        }
        Kind::Map(of) => match &mut node.value {
            Value::Map(entries) => each(entries, of, path)?,
            _ => return wrong(node, "a mapping"),
        },
        Kind::Pairs => pairs(node, path)?,
        Kind::Hosts => hosts(node, path)?,
        Kind::Named(of) => {
            if let Value::List(list) = &node.value {
                let mut entries: Vec<Entry> = Vec::new();
                for item in list {
                    let Some(name) = item.as_text() else { return wrong(item, "a name") };
                    if entries.iter().any(|it| it.key == name) {
                        bail!("{}: {path}: {name:?} is named twice", item.at);
                    }
                    let value = Node::new(&item.at, Value::Map(Vec::new()));
                    entries.push(Entry { key: name.to_owned(), at: item.at.clone(), value });
                }
                node.value = Value::Map(entries);
            }
            let Value::Map(entries) = &mut node.value else { return wrong(node, "a list of names or a mapping") };
            for entry in entries.iter_mut().filter(|it| it.value.special.is_none()) {
                if entry.value.value == Value::Null {
                    entry.value.value = Value::Map(Vec::new());
                }
            }
            each(entries, of, path)?;
        }
        Kind::ShortObject(field, fields) => {
            if let Value::Scalar { .. } = node.value {
                let value = Node::new(&node.at, node.value.clone());
                let entry = Entry { key: (*field).to_owned(), at: node.at.clone(), value };
                node.value = Value::Map(vec![entry]);
            }
            object(node, fields, path)?;
        }
        Kind::Object(fields) => object(node, fields, path)?,
    }
    Ok(())
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Whole => "a whole number",
        Kind::Number => "a number",
        Kind::Truth => "true or false",
        Kind::Bytes => "a size such as 64m",
        Kind::Duration => "a time such as 1m30s",
        Kind::Mode => "an octal number such as 0440",
        _ => "a text",
    }
}

fn items(node: &mut Node, of: &Kind, path: &str) -> Result<()> {
    let Value::List(list) = &mut node.value else { return Ok(()) };
    for (number, item) in list.iter_mut().enumerate() {
        check(item, of, &format!("{path}[{number}]"))?;
    }
    Ok(())
}

fn each(entries: &mut [Entry], of: &Kind, path: &str) -> Result<()> {
    for entry in entries {
        check(&mut entry.value, of, &join(path, &entry.key))?;
    }
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn object(node: &mut Node, fields: &[Field], path: &str) -> Result<()> {
    let at = node.at.clone();
    let kind = node.kind();
    let Value::Map(entries) = &mut node.value else {
        let path = if path.is_empty() { "the file" } else { path };
        bail!("{at}: {path}: a mapping is wanted, not {kind}")
    };
    // What is empty says nothing.
    entries.retain(|it| it.value.value != Value::Null || it.value.special.is_some() || !is_known(fields, &it.key));
    for entry in entries {
        if entry.key.starts_with("x-") {
            continue;
        }
        let Some(field) = fields.iter().find(|it| it.name == entry.key) else {
            let of = if path.is_empty() { String::new() } else { format!(" of {path}") };
            let near = fields.iter().map(|it| it.name).min_by_key(|it| distance(it, &entry.key));
            let near = near.filter(|it| distance(it, &entry.key) <= 1 + entry.key.len() / 3);
            let hint = near
                .map_or_else(|| "names of one's own begin with x-".to_owned(), |near| format!("did you mean {near}?"));
            bail!("{}: {:?}{of} is no field of a compose file: {hint}", entry.at, entry.key)
        };
        if let Fate::Refused(why) = field.fate {
            bail!("{}: {}: {why}", entry.at, join(path, &entry.key));
        }
        check(&mut entry.value, &field.kind, &join(path, &entry.key))?;
    }
    Ok(())
}

fn is_known(fields: &[Field], name: &str) -> bool {
    fields.iter().any(|it| it.name == name)
}

fn pairs(node: &mut Node, path: &str) -> Result<()> {
    if let Value::List(list) = &node.value {
        let mut entries: Vec<Entry> = Vec::new();
        for item in list {
            let Some(text) = item.as_text() else {
                bail!("{}: {path}: KEY=VALUE is wanted, not {}", item.at, item.kind())
            };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Node::text(&item.at, value)),
                None => (text, Node::new(&item.at, Value::Null)),
            };
            entries.retain(|it| it.key != key);
            entries.push(Entry { key: key.to_owned(), at: item.at.clone(), value });
        }
        node.value = Value::Map(entries);
    }
    let Value::Map(entries) = &node.value else {
        bail!("{}: {path}: a mapping or a list of KEY=VALUE is wanted, not {}", node.at, node.kind())
    };
    for entry in entries {
        if entry.key.is_empty() {
            bail!("{}: {path}: a name is empty", entry.at);
        }
        if !matches!(entry.value.value, Value::Null | Value::Scalar { .. }) {
            bail!("{}: {path}.{}: a text is wanted, not {}", entry.value.at, entry.key, entry.value.kind());
        }
    }
    Ok(())
}

fn hosts(node: &mut Node, path: &str) -> Result<()> {
    if let Value::List(list) = &node.value {
        let mut entries: Vec<Entry> = Vec::new();
        for item in list {
            let parts = item.as_text().and_then(|it| it.split_once('=').or_else(|| it.split_once(':')));
            let Some((name, address)) = parts else { bail!("{}: {path}: NAME=ADDRESS is wanted", item.at) };
            let address = Node::text(&item.at, address);
            match entries.iter_mut().find(|it| it.key == name).map(|it| &mut it.value.value) {
                Some(Value::List(list)) => list.push(address),
                _ => entries.push(Entry {
                    key: name.to_owned(),
                    at: item.at.clone(),
                    value: Node::new(&item.at, Value::List(vec![address])),
                }),
            }
        }
        node.value = Value::Map(entries);
    }
    match &mut node.value {
        Value::Map(entries) => each(entries, &Kind::OneOrMany(&Kind::Text), path),
        _ => bail!("{}: {path}: a mapping or a list of NAME=ADDRESS is wanted, not {}", node.at, node.kind()),
    }
}

/// A scalar as the model has it.
fn scalar(node: &Node, kind: &Kind) -> Result<Json> {
    let Value::Scalar { text, plain } = &node.value else { return Ok(Json::Null) };
    let wrong = || format!("{text:?}: {} is wanted", word(kind));
    Ok(match kind {
        Kind::Whole => text.replace('_', "").parse::<i64>().ok().with_context(wrong)?.into(),
        Kind::Number => {
            let whole = text.parse::<i64>().ok().map(Number::from);
            let number = whole.or_else(|| text.parse().ok().and_then(Number::from_f64));
            Json::Number(number.with_context(wrong)?)
        }
        Kind::Truth => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => true.into(),
            "false" | "no" | "off" | "n" => false.into(),
            _ => bail!(wrong()),
        },
        Kind::Bytes if text == "-1" => (-1).into(),
        Kind::Bytes => i64::try_from(units::bytes(text)?).ok().with_context(wrong)?.into(),
        Kind::Duration => {
            units::duration(text)?;
            text.as_str().into()
        }
        Kind::Mode => {
            let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0').filter(|it| !it.is_empty()));
            let number = match octal {
                Some(digits) => u32::from_str_radix(digits, 8).ok(),
                None if *plain => text.parse().ok(),
                None => u32::from_str_radix(text, 8).ok(),
            };
            number.filter(|it| *it <= 0o7777).with_context(wrong)?.into()
        }
        _ => {
            if text.contains('\0') {
                bail!("{text:?}: a NUL in a text");
            }
            text.as_str().into()
        }
    })
}

/// A checked value as the model has it: fields that are ignored, and those of one's own, are left out.
pub fn model(node: &Node, kind: &Kind) -> Result<Json> {
    if node.value == Value::Null || node.special == Some(Special::Reset) {
        return Ok(Json::Null);
    }
    let list = |of: &Kind| -> Result<Json> {
        Ok(Json::Array(node.items().iter().map(|it| model(it, of)).collect::<Result<_>>()?))
    };
    let map = |of: &Kind| -> Result<Json> {
        let entries = node.entries().iter().filter(|it| it.value.special != Some(Special::Reset));
        let entries = entries.map(|it| Ok((it.key.clone(), model(&it.value, of)?)));
        Ok(Json::Object(entries.collect::<Result<Map<_, _>>>()?))
    };
    match kind {
        Kind::Any => Ok(Json::Null),
        Kind::Command | Kind::Test => list(&Kind::Text),
        Kind::List(of, _) | Kind::OneOrMany(of) | Kind::Short(_, of, _) => list(of),
        Kind::Map(of) | Kind::Named(of) => map(of),
        Kind::Pairs => map(&Kind::Text),
        Kind::Hosts => map(&Kind::OneOrMany(&Kind::Text)),
        Kind::Object(fields) | Kind::ShortObject(_, fields) => {
            let mut object = Map::new();
            for field in fields.iter().filter(|it| it.fate == Fate::Used) {
                if let Some(value) = node.get(field.name) {
                    let value = model(value, &field.kind)?;
                    if !value.is_null() {
                        object.insert(field.name.to_owned(), value);
                    }
                }
            }
            Ok(Json::Object(object))
        }
        _ => scalar(node, kind).with_context(|| node.at.to_string()),
    }
}

/// A part of the model as people read it, and as [`check`] reads it again: modes are octal.
pub fn show(value: &mut Json, kind: &Kind) {
    match (kind, value) {
        (Kind::Mode, value) => {
            if let Some(mode) = value.as_u64() {
                *value = format!("0{mode:o}").into();
            }
        }
        (Kind::List(of, _) | Kind::OneOrMany(of) | Kind::Short(_, of, _), Json::Array(items)) => {
            for it in items {
                show(it, of);
            }
        }
        (Kind::Map(of) | Kind::Named(of), Json::Object(map)) => {
            for it in map.values_mut() {
                show(it, of);
            }
        }
        (Kind::Object(fields) | Kind::ShortObject(_, fields), Json::Object(map)) => {
            for field in *fields {
                if let Some(value) = map.get_mut(field.name) {
                    show(value, &field.kind);
                }
            }
        }
        _ => {}
    }
}

/// How many letters one word is from another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let best = if x == *y { corner } else { 1 + corner.min(row[j]).min(row[j + 1]) };
            corner = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}
