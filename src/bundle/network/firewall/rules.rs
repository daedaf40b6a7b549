//! What is in the table, in the order of a packet's way. All of it is fixed: a network or a port is elements of
//! sets and maps, so that a packet's cost does not grow with them.
//!
//! Other tables see every packet, too: one that another table drops is dropped, whatever this one says, and what this
//! one lets through it only does not drop.
//!
//! Names of sets and chains are for those who read `nft list table inet bundle`.

use super::expression::Part::{
    self, Accept, Destination, Drop, FirstByteFrom, FirstByteTo, Found, From, Goto, In, Is, Jump, Known, L4, Local,
    Mapped, Masquerade, Of, Out, PortTo, Return, To, Translated,
};
use super::expression::{Family, V4, V6};

/// A field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// A link's name.
    Name,
    /// An address of this family.
    Address(Family),
    /// TCP, UDP…
    Protocol,
    /// A port.
    Port,
}

impl Field {
    /// How many bytes of it count.
    pub const fn size(self) -> u32 {
        match self {
            Field::Name => 16,
            Field::Address(family) => family.size,
            Field::Protocol => 1,
            Field::Port => 2,
        }
    }

    /// The number that `nft` knows it by.
    const fn number(self) -> u32 {
        match self {
            Field::Name => 41,
            Field::Address(family) => family.kind,
            Field::Protocol => 12,
            Field::Port => 13,
        }
    }
}

/// A set, or a map.
pub struct Set {
    pub name: &'static str,
    pub key: &'static [Field],
    /// What keys lead to, in maps.
    pub data: &'static [Field],
    /// Whether elements are ranges.
    pub ranges: bool,
}

impl Set {
    pub fn key_size(&self) -> u32 {
        size(self.key)
    }

    pub fn data_size(&self) -> u32 {
        size(self.data)
    }

    pub fn key_type(&self) -> u32 {
        kind(self.key)
    }

    pub fn data_type(&self) -> u32 {
        kind(self.data)
    }
}

/// Fields begin at multiples of four.
fn size(fields: &[Field]) -> u32 {
    fields.iter().map(|it| it.size().next_multiple_of(4)).sum()
}

fn kind(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |sum, field| sum << 6 | field.number())
}

/// Where the kernel calls a chain.
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Before routing, …
    pub number: u32,
    /// Lower ones first.
    pub priority: i32,
}

/// A chain; without a hook it is called by others.
pub struct Chain {
    pub name: &'static str,
    pub hook: Option<Hook>,
}

/// A rule.
pub struct Rule {
    pub chain: &'static str,
    pub comment: String,
    pub parts: Vec<Part>,
}

const ADDRESS4: Field = Field::Address(V4);
const ADDRESS6: Field = Field::Address(V6);

const fn set(name: &'static str, key: &'static [Field], ranges: bool) -> Set {
    Set { name, key, data: &[], ranges }
}

const fn map(name: &'static str, key: &'static [Field], data: &'static [Field]) -> Set {
    Set { name, key, data, ranges: false }
}

use Field::{Name, Port, Protocol};

/// All sets.
pub fn sets() -> impl Iterator<Item = &'static Set> {
    NETWORKS.iter().chain(PORTS)
}

/// The sets of networks.
pub const NETWORKS: &[Set] = &[
    // All bridges; the internal ones; those that are open to other open ones.
    set("bridges", &[Name], false),
    set("internal", &[Name], false),
    set("open", &[Name], false),
    // From a bridge to the same.
    set("within", &[Name, Name], false),
    // The networks' own addresses behind their bridges.
    set("inside4", &[Name, ADDRESS4], true),
    set("inside6", &[Name, ADDRESS6], true),
    // The addresses of networks that are hidden behind the host's.
    set("masquerade4", &[ADDRESS4], true),
    set("masquerade6", &[ADDRESS6], true),
];

/// The sets of published ports.
pub const PORTS: &[Set] = &[
    // Of one address of the host, and of all.
    map("ports4", &[ADDRESS4, Protocol, Port], &[ADDRESS4, Port]),
    map("ports6", &[ADDRESS6, Protocol, Port], &[ADDRESS6, Port]),
    map("any4", &[Protocol, Port], &[ADDRESS4, Port]),
    map("any6", &[Protocol, Port], &[ADDRESS6, Port]),
    // Those of them that not everybody may use, and who may: (the host's address, protocol, port, who).
    set("limited4", &[ADDRESS4, Protocol, Port], false),
    set("limited6", &[ADDRESS6, Protocol, Port], false),
    set("limited_any4", &[Protocol, Port], false),
    set("limited_any6", &[Protocol, Port], false),
    set("sources4", &[ADDRESS4, Protocol, Port, ADDRESS4], true),
    set("sources6", &[ADDRESS6, Protocol, Port, ADDRESS6], true),
];

const PREROUTING: u32 = 0;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

const fn chain(name: &'static str, kind: &'static str, number: u32, priority: i32) -> Chain {
    Chain { name, hook: Some(Hook { kind, number, priority }) }
}

/// All chains. Priorities are the standard ones, but for `limits`, which must see who asks for what before `arriving`
/// gives it another destination.
pub const CHAINS: &[Chain] = &[
    Chain { name: "sources4", hook: None },
    Chain { name: "sources6", hook: None },
    Chain { name: "published", hook: None },
    chain("limits", "filter", PREROUTING, -105),
    chain("arriving", "nat", PREROUTING, -100),
    chain("own", "nat", OUTPUT, -100),
    chain("forward", "filter", FORWARD, 0),
    chain("leaving", "nat", POSTROUTING, 100),
];

/// All rules.
pub fn rules() -> Vec<Rule> {
    let mut all = Vec::new();
    let mut rule = |chain: &'static str, comment: &str, parts: &[&[Part]]| {
        all.push(Rule { chain, comment: comment.into(), parts: parts.concat() });
    };

    rule("limits", "the host itself may ask for everything", &[&[In(0), Is(name_bytes("lo")), Accept]]);
    // `route_localnet` of bridges has the kernel route these.
    let loopback: &[Part] = &[Of(V4), FirstByteTo, Is(vec![127])];
    // Most packets end the rule before it looks into the set.
    rule("limits", "the host's loopback addresses are not for containers", &[loopback, &from("bridges"), &[Drop]]);
    // The same switch has the kernel take packets that say they come from there.
    let own: &[Part] = &[Of(V4), FirstByteFrom, Is(vec![127])];
    rule("limits", "nor do containers speak from one", &[&from("bridges"), own, &[Drop]]);
    rule("limits", "connections have been let in", &[&[Known, Accept]]);
    for (family, [limited, any, sources, _, _, _, _]) in families() {
        rule(
            "limits",
            "not everybody may use this port",
            &[&[Of(family)], &to_port(family, limited), &[Goto(sources)]],
        );
        rule("limits", "nor this one", &[&[Of(family), Local], &port(any), &[Goto(sources)]]);
        let who =
            [Of(family), To(family, 0), L4(family.after(0)), PortTo(family.after(1)), From(family, family.after(2))];
        rule(sources, "they may", &[&who, &[Found(sources), Accept]]);
        rule(sources, "others may not", &[&[Drop]]);
    }

    rule("arriving", "what comes from outside is not for the loopback address", &[loopback, &[Return]]);
    rule("arriving", "for the host", &[&[Jump("published")]]);
    // It could be sent to a container, but the answer would come to ::1 by the bridge, and the kernel takes nothing to
    // that address but from `lo`, where it looks after the bridge has translated it (br_netfilter).
    rule("own", "a process serves this one", &[&[Of(V6), To(V6, 0), Is([&[0; 15][..], &[1]].concat()), Return]]);
    rule("own", "from the host", &[&[Jump("published")]]);
    for (family, [_, _, _, ports, any, _, _]) in families() {
        let parts = [To(family, 0), L4(family.after(0)), PortTo(family.after(1)), Mapped(ports), Destination(family)];
        rule("published", "ports of one address", &[&[Of(family)], &parts]);
        let parts = [L4(0), PortTo(1), Mapped(any), Destination(family)];
        rule("published", "ports of all addresses", &[&[Of(family), Local], &parts]);
    }

    rule("forward", "answers", &[&[Known, Accept]]);
    // Only where br_netfilter shows us what a bridge carries.
    rule("forward", "within a network", &[&[In(0), Out(4), Found("within"), Accept]]);
    rule("forward", "nothing leaves an internal network", &[&from("internal"), &[Drop]]);
    rule("forward", "nothing enters an internal network", &[&to("internal"), &[Drop]]);
    rule("forward", "published ports", &[&to("bridges"), &[Translated, Accept]]);
    rule("forward", "between open networks", &[&from("open"), &to("open"), &[Accept]]);
    rule("forward", "nothing else enters a network", &[&to("bridges"), &[Drop]]);

    for (family, [_, _, _, _, _, inside, _]) in families() {
        let within: &[Part] = &[Of(family), Out(0), From(family, 4), Found(inside)];
        rule("leaving", "a published port of the own network", &[within, &[Translated, Masquerade]]);
        rule("leaving", "within a network", &[within, &[Accept]]);
    }
    rule("leaving", "from the host's loopback address", &[&to("bridges"), own, &[Masquerade]]);
    rule("leaving", "between networks", &[&to("bridges"), &[Accept]]);
    for (family, [_, _, _, _, _, _, masquerade]) in families() {
        rule("leaving", "to elsewhere", &[&[Of(family), From(family, 0), Found(masquerade), Masquerade]]);
    }
    all
}

/// Both families, with their sets: limited, limited_any, sources, ports, any, inside, masquerade.
fn families() -> [(Family, [&'static str; 7]); 2] {
    [
        (V4, ["limited4", "limited_any4", "sources4", "ports4", "any4", "inside4", "masquerade4"]),
        (V6, ["limited6", "limited_any6", "sources6", "ports6", "any6", "inside6", "masquerade6"]),
    ]
}

fn from(set: &'static str) -> [Part; 2] {
    [In(0), Found(set)]
}

fn to(set: &'static str) -> [Part; 2] {
    [Out(0), Found(set)]
}

fn to_port(family: Family, set: &'static str) -> [Part; 4] {
    [To(family, 0), L4(family.after(0)), PortTo(family.after(1)), Found(set)]
}

fn port(set: &'static str) -> [Part; 3] {
    [L4(0), PortTo(1), Found(set)]
}

/// A link's name as sets and packets have it.
pub fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
