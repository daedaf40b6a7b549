//! YAML to a tree whose every node knows where it stands. Anchors, aliases and merge keys are resolved here; what a
//! plain scalar means is left to whoever knows what is wanted.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

/// Most nodes of a file, aliases counted as often as they stand for something.
const MOST_NODES: usize = 100_000;
/// How deep a file may be nested.
const DEEPEST: usize = 64;

/// Where something stands: lines and columns from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the person named it.
    pub file: Arc<str>,
    /// See [`Place`].
    pub line: usize,
    /// See [`Place`].
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text; `plain` without quotes, so that it may also be a number or a truth.
    Scalar {
        /// As it is written, without quotes.
        text: String,
        /// See [`Value::Scalar`].
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// What a tag of Compose says of merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `!reset`: what earlier files say is taken away.
    Reset,
    /// `!override`: this stands in the place of what earlier files say.
    Override,
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it is.
    pub value: Value,
    /// Its tag.
    pub special: Option<Special>,
}

/// A key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where that stands.
    pub at: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// A node that stands for another one at its place.
    pub fn new(at: &Place, value: Value) -> Self {
        Self { at: at.clone(), value, special: None }
    }

    /// Text that needs no quotes to be one.
    pub fn text(at: &Place, text: &str) -> Self {
        Self::new(at, Value::Scalar { text: text.to_owned(), plain: false })
    }

    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|it| it.key == key).map(|it| &it.value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|it| it.key == key).map(|it| &mut it.value),
            _ => None,
        }
    }

    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a scalar.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Puts a value under a key, in the place of what is there.
    pub fn set(&mut self, key: &str, value: Self) {
        if let Some(there) = self.get_mut(key) {
            *there = value;
        } else if let Value::Map(entries) = &mut self.value {
            entries.push(Entry { key: key.to_owned(), at: value.at.clone(), value });
        }
    }

    /// Takes a key away; what was there.
    pub fn take(&mut self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|it| it.key == key)?;
        Some(entries.remove(at).value)
    }

    /// What it is, for a person.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a text or number",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// How many nodes and how deep.
    fn size(&self) -> (usize, usize) {
        let of = |parts: &mut dyn Iterator<Item = &Self>| {
            let (count, deep) = parts.map(Self::size).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1.max(it.1)));
            (count + 1, deep + 1)
        };
        match &self.value {
            Value::List(items) => of(&mut items.iter()),
            Value::Map(entries) => of(&mut entries.iter().map(|it| &it.value)),
            _ => (1, 1),
        }
    }
}

/// Reads a file's only document. `file` is what the person calls it.
pub fn parse(file: &str, text: &str) -> Result<Node> {
    let mut builder = Builder::new(file);
    let mut last = Place { file: Arc::clone(&builder.file), line: 1, column: 1 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            anyhow::anyhow!("{file}:{}:{}: {}", mark.line(), mark.col() + 1, error.info())
        })?;
        last = builder.place(&span);
        builder.take(event, &last).with_context(|| last.to_string())?;
    }
    Ok(builder.root.unwrap_or_else(|| Node::new(&last, Value::Null)))
}

/// A list or mapping in the making.
struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<(String, Place)>,
    /// The lines of the keys that are there: a mapping may have very many.
    lines: HashMap<String, usize>,
    /// What `<<` brings in.
    merged: Vec<Node>,
}

struct Builder {
    file: Arc<str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    documents: usize,
    nodes: usize,
}

impl Builder {
    fn new(file: &str) -> Self {
        Self { file: file.into(), open: Vec::new(), anchors: HashMap::new(), root: None, documents: 0, nodes: 0 }
    }

    fn place(&self, span: &Span) -> Place {
        Place { file: Arc::clone(&self.file), line: span.start.line(), column: span.start.col() + 1 }
    }

    fn take(&mut self, event: Event<'_>, at: &Place) -> Result<()> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    bail!("a second document: a file holds one; several files are given by several -f");
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    bail!("an alias of something that holds it itself");
                };
                let (count, deep) = node.size();
                if deep + self.open.len() > DEEPEST {
                    bail!("aliases nest deeper than {DEEPEST}");
                }
                // Cloned only when it is known not to be too much.
                self.nodes += count;
                if self.nodes > MOST_NODES {
                    return self.count(0);
                }
                let node = node.clone();
                self.put(node)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1)?;
                let mut plain = style == ScalarStyle::Plain;
                let special = special(tag.as_deref(), &mut plain)?;
                let value = match &*text {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Scalar { text: text.to_owned(), plain },
                };
                let node = Node { at: at.clone(), value, special };
                if anchor != 0 {
                    self.anchors.insert(anchor, node.clone());
                }
                self.put(node)?;
            }
            Event::SequenceStart(anchor, tag) => self.begin(at, Value::List(Vec::new()), anchor, tag.as_deref())?,
            Event::MappingStart(anchor, tag) => self.begin(at, Value::Map(Vec::new()), anchor, tag.as_deref())?,
            Event::SequenceEnd | Event::MappingEnd => {
                let done = self.open.pop().context("an end without a beginning")?;
                let node = with_merged(done.node, done.lines, done.merged);
                if done.anchor != 0 {
                    self.anchors.insert(done.anchor, node.clone());
                }
                self.put(node)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<()> {
        self.nodes += more;
        if self.nodes > MOST_NODES {
            bail!("more than {MOST_NODES} values, with what aliases stand for");
        }
        Ok(())
    }

    fn begin(&mut self, at: &Place, value: Value, anchor: usize, tag: Option<&Tag>) -> Result<()> {
        self.count(1)?;
        if self.open.len() >= DEEPEST {
            bail!("nested deeper than {DEEPEST}");
        }
        let special = special(tag, &mut false)?;
        let node = Node { at: at.clone(), value, special };
        self.open.push(Open { node, anchor, key: None, lines: HashMap::new(), merged: Vec::new() });
        Ok(())
    }

    fn put(&mut self, node: Node) -> Result<()> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let entries = match &mut open.node.value {
            Value::List(items) => {
                items.push(node);
                return Ok(());
            }
            Value::Map(entries) => entries,
            _ => bail!("a value in a scalar"),
        };
        let Some((key, at)) = open.key.take() else {
            let text = match node.value {
                Value::Scalar { text, .. } => text,
                Value::Null => "null".to_owned(),
                _ => bail!("a key is a text, not {}", node.kind()),
            };
            open.key = Some((text, node.at));
            return Ok(());
        };
        if key == "<<" {
            match node.value {
                Value::Map(_) => open.merged.push(node),
                Value::List(items) if items.iter().all(|it| matches!(it.value, Value::Map(_))) => {
                    open.merged.extend(items);
                }
                Value::Null => {}
                _ => bail!("{at}: << takes a mapping or a list of mappings, not {}", node.kind()),
            }
            return Ok(());
        }
        if let Some(first) = open.lines.insert(key.clone(), at.line) {
            bail!("the key {key:?} is given twice, first in line {first}");
        }
        entries.push(Entry { key, at, value: node });
        Ok(())
    }
}

/// What `<<` brings in gives way to the mapping's own keys, and later ones to earlier ones.
fn with_merged(mut node: Node, mut lines: HashMap<String, usize>, merged: Vec<Node>) -> Node {
    if let Value::Map(entries) = &mut node.value {
        for from in merged {
            for entry in from.entries() {
                if lines.insert(entry.key.clone(), entry.at.line).is_none() {
                    entries.push(entry.clone());
                }
            }
        }
    }
    node
}

fn special(tag: Option<&Tag>, plain: &mut bool) -> Result<Option<Special>> {
    let Some(tag) = tag else { return Ok(None) };
    if tag.is_yaml_core_schema() {
        match tag.suffix.as_str() {
            "str" | "binary" => *plain = false,
            "int" | "float" | "bool" | "null" => *plain = true,
            _ => {}
        }
        return Ok(None);
    }
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("!", "reset") => Ok(Some(Special::Reset)),
        ("!", "override") => Ok(Some(Special::Override)),
        ("!" | "", "") => {
            *plain = false;
            Ok(None)
        }
        _ => bail!("the tag {tag}: known are !reset and !override"),
    }
}
