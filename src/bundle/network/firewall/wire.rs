//! The messages of nf_tables (`linux/netfilter/nf_tables.h`), each with the words for what it does.

use crate::network::netlink::Message;

use super::rules::{Chain, Field, Rule, Set};

/// `NFPROTO_INET`: both IPv4 and IPv6.
const FAMILY: u8 = 1;
const SUBSYSTEM: u16 = 10;
/// What an attribute of a list is.
const LIST_ELEMENT: u16 = 1;
/// An attribute has at most 65,535 bytes, so elements come in several messages.
const MOST: usize = 60_000;

pub const NEW_TABLE: u16 = 0;
pub const DELETE_TABLE: u16 = 2;
pub const NEW_CHAIN: u16 = 3;
pub const GET_CHAIN: u16 = 4;
pub const NEW_RULE: u16 = 6;
pub const GET_RULE: u16 = 7;
pub const NEW_SET: u16 = 9;
pub const GET_SET: u16 = 10;
pub const NEW_ELEMENT: u16 = 12;
pub const GET_ELEMENT: u16 = 13;
pub const DELETE_ELEMENT: u16 = 14;
pub const GET_GENERATION: u16 = 16;

/// The size of `struct nfgenmsg`, which every message begins with.
pub const HEADER: usize = 4;
/// The attribute of all objects that names their table, but for tables and generations, where it is the object's own.
pub const TABLE: u16 = 1;
pub const GENERATION_ID: u16 = 1;
pub const CHAIN_NAME: u16 = 3;
pub const RULE_CHAIN: u16 = 2;
pub const RULE_EXPRESSIONS: u16 = 4;
pub const RULE_COMMENT: u16 = 7;
pub const SET_NAME: u16 = 2;
pub const ELEMENTS: u16 = 3;
pub const ELEMENT_KEY: u16 = 1;
pub const ELEMENT_DATA: u16 = 2;
pub const ELEMENT_FLAGS: u16 = 3;
pub const ELEMENT_COMMENT: u16 = 6;
pub const ELEMENT_KEY_END: u16 = 10;
pub const DATA_VALUE: u16 = 1;
/// Of an element: the first value behind a range.
pub const RANGE_END: u32 = 1;

/// A set's element: a key or a range of keys, and in a map what it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    /// The set's name.
    pub set: &'static str,
    /// The key's fields, each padded to four bytes.
    pub key: Vec<u8>,
    /// In ranges: the last key.
    pub last: Option<Vec<u8>>,
    /// In maps.
    pub data: Vec<u8>,
    /// What `nft list` shows beside it.
    pub comment: String,
    /// Whether this is the first key behind a range of a set with a single field.
    pub behind: bool,
}

/// One part of a transaction, and what it does in words.
pub struct Change {
    pub message: Message,
    pub what: String,
}

pub fn message(kind: u16, flags: i32) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &[FAMILY, 0, 0, 0])
}

/// The two messages around a transaction. With a generation it fails with `ERESTART` if rules have changed since.
pub fn frame(generation: Option<u32>) -> (Message, Message) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let mut begin = Message::new(libc::NLMSG_MIN_TYPE as u16, 0, &[0, 0, high, low]);
    if let Some(generation) = generation {
        begin.be(1, generation);
    }
    (begin, Message::new(libc::NLMSG_MIN_TYPE as u16 + 1, 0, &[0, 0, high, low]))
}

pub fn new_table(table: &str) -> Change {
    let mut message = message(NEW_TABLE, libc::NLM_F_CREATE);
    message.text(TABLE, table);
    Change { message, what: "making the table".into() }
}

pub fn delete_table(table: &str) -> Change {
    let mut message = message(DELETE_TABLE, 0);
    message.text(TABLE, table);
    Change { message, what: "removing the table".into() }
}

pub fn new_chain(table: &str, chain: &Chain) -> Change {
    let mut message = message(NEW_CHAIN, libc::NLM_F_CREATE);
    message.text(TABLE, table).text(CHAIN_NAME, chain.name);
    if let Some(hook) = &chain.hook {
        message.within(4, |it| {
            it.be(1, hook.number).be(2, hook.priority as u32);
        });
        const ACCEPT: u32 = 1;
        message.be(5, ACCEPT).text(7, hook.kind);
    }
    Change { message, what: format!("making the chain {}", chain.name) }
}

/// `number` tells the sets of a transaction apart.
pub fn new_set(table: &str, set: &Set, number: u32) -> Change {
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    const CONCATENATED: u32 = 0x80;
    let mut flags = 0;
    if set.ranges {
        flags |= INTERVAL | if set.key.len() > 1 { CONCATENATED } else { 0 };
    }
    let mut message = message(NEW_SET, libc::NLM_F_CREATE);
    message.text(TABLE, table).text(SET_NAME, set.name);
    message.be(4, set.key_type()).be(5, set.key_size());
    if !set.data.is_empty() {
        flags |= MAP;
        message.be(6, set.data_type()).be(7, set.data_size());
    }
    message.be(3, flags).be(10, number);
    if set.key == [Field::Name] {
        // Only for `nft`: names are in the machine's order.
        const HOST_ORDER: u32 = 1;
        message.put(13, &[&[0, 4][..], &HOST_ORDER.to_ne_bytes()].concat());
    }
    if set.key.len() > 1 && set.ranges {
        message.within(9, |description| {
            description.within(2, |fields| {
                for field in set.key {
                    fields.within(LIST_ELEMENT, |it| {
                        it.be(1, field.size());
                    });
                }
            });
        });
    }
    Change { message, what: format!("making the set {} (Linux 5.6 or newer)", set.name) }
}

pub fn new_rule(table: &str, rule: &Rule) -> Change {
    let mut message = message(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND);
    message.text(TABLE, table).text(RULE_CHAIN, rule.chain);
    message.within(RULE_EXPRESSIONS, |list| {
        rule.parts.iter().for_each(|it| it.write(list));
    });
    message.put(RULE_COMMENT, &comment(&rule.comment));
    Change { message, what: format!("making the rule {:?} of the chain {}", rule.comment, rule.chain) }
}

/// Adds elements, or takes them away, which are sorted by their sets.
pub fn elements(kind: u16, table: &str, elements: &[Element]) -> Vec<Change> {
    let flags = if kind == NEW_ELEMENT { libc::NLM_F_CREATE } else { 0 };
    let mut changes = Vec::new();
    for run in elements.chunk_by(|one, other| one.set == other.set) {
        let mut rest = run;
        while let Some(first) = rest.first() {
            let mut message = message(kind, flags);
            message.text(TABLE, table).text(SET_NAME, first.set);
            let mut count = 0;
            message.within(ELEMENTS, |list| {
                while let Some(element) = rest.get(count)
                    && list.len() < MOST
                {
                    list.within(LIST_ELEMENT, |it| write(it, element, kind == NEW_ELEMENT));
                    count += 1;
                }
            });
            changes.push(Change { message, what: format!("changing the set {}", first.set) });
            rest = &rest[count..];
        }
    }
    changes
}

fn write(message: &mut Message, element: &Element, whole: bool) {
    let value = |it: &mut Message, kind, bytes: &[u8]| {
        it.within(kind, |it| {
            it.put(DATA_VALUE, bytes);
        });
    };
    value(message, ELEMENT_KEY, &element.key);
    if let Some(last) = &element.last {
        value(message, ELEMENT_KEY_END, last);
    }
    if element.behind {
        message.be(ELEMENT_FLAGS, RANGE_END);
    }
    if whole && !element.data.is_empty() {
        value(message, ELEMENT_DATA, &element.data);
    }
    if whole && !element.comment.is_empty() {
        message.put(ELEMENT_COMMENT, &comment(&element.comment));
    }
}

/// A comment as `nft` has it: type, length, text, NUL.
fn comment(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    let text = &text[..text.len().min(120)];
    [&[0, text.len() as u8 + 1], text, &[0]].concat()
}

/// The text of one.
pub fn read_comment(bytes: &[u8]) -> Option<String> {
    let [0, length, text @ ..] = bytes else { return None };
    let text = text.get(..usize::from(*length).checked_sub(1)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
