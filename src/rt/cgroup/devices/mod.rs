//! Which devices a container may use: `linux.resources.devices` as a list of rules, the default
//! ones behind the document's. cgroup v1 takes them as lines ([`list`]), v2 as a program
//! ([`program`]).

pub mod list;
pub mod program;

use crate::config::types::Resources;

/// One rule. Of two that match, the later one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allow, or deny.
    pub allow: bool,
    /// Which nodes.
    pub kind: Kind,
    /// `None` is any.
    pub major: Option<u32>,
    /// `None` is any.
    pub minor: Option<u32>,
    /// Bits of [`MKNOD`], [`READ`], [`WRITE`].
    pub access: u8,
    /// Its place in the document; none for a default rule.
    pub index: Option<usize>,
}

/// Which nodes a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    All,
    Character,
    Block,
}

/// The kernel's bits (linux/bpf.h, `BPF_DEVCG_ACC_…`).
pub const MKNOD: u8 = 1;
/// See [`MKNOD`].
pub const READ: u8 = 2;
/// See [`MKNOD`].
pub const WRITE: u8 = 4;
/// All three.
pub const ALL: u8 = MKNOD | READ | WRITE;

/// Devices that every container may use beside those of the document: creating any node, and the
/// default devices with the pseudo-terminals (config-linux.md, "Default Devices").
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, u8); 11] = [
    (Kind::Character, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Character, Some(1), Some(3), ALL),
    (Kind::Character, Some(1), Some(5), ALL),
    (Kind::Character, Some(1), Some(7), ALL),
    (Kind::Character, Some(1), Some(8), ALL),
    (Kind::Character, Some(1), Some(9), ALL),
    (Kind::Character, Some(5), Some(0), ALL),
    (Kind::Character, Some(5), Some(1), ALL),
    (Kind::Character, Some(5), Some(2), ALL),
    (Kind::Character, Some(136), None, ALL),
];

impl Rule {
    /// Every device, whatever is done with it.
    pub fn is_everything(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// Deny everything, then the document's rules in their order, then the default devices.
pub fn rules(resources: &Resources<'_>) -> Vec<Rule> {
    let nothing = Rule { allow: false, kind: Kind::All, major: None, minor: None, access: ALL, index: None };
    let mut rules = vec![nothing];
    for (index, rule) in resources.devices.iter().enumerate() {
        // -1 is how older engines write "any".
        let number = |number: Option<i64>| number.filter(|n| *n >= 0).map(|n| n as u32);
        let rule = Rule {
            allow: rule.allow,
            kind: match rule.kind.as_deref().unwrap_or_default() {
                "c" => Kind::Character,
                "b" => Kind::Block,
                _ => Kind::All,
            },
            major: number(rule.major),
            minor: number(rule.minor),
            access: match rule.access.as_deref().unwrap_or_default() {
                "" => ALL,
                text => text.bytes().fold(0, |bits, byte| bits | bit(byte)),
            },
            index: Some(index),
        };
        // Most documents start with "deny all", as we have done.
        if !(index == 0 && !rule.allow && rule.is_everything()) {
            rules.push(rule);
        }
    }
    rules.extend(DEFAULTS.map(|(kind, major, minor, access)| Rule {
        allow: true,
        kind,
        major,
        minor,
        access,
        index: None,
    }));
    rules
}

/// Whether the document itself allows or denies anything beside "deny all".
pub fn asks(resources: &Resources<'_>) -> bool {
    resources.devices.iter().any(|rule| rule.allow)
}

fn bit(letter: u8) -> u8 {
    match letter {
        b'm' => MKNOD,
        b'r' => READ,
        b'w' => WRITE,
        _ => 0,
    }
}
