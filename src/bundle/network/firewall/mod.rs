//! The host's rules for networks and published ports, over nf_tables: one table of our own, changed in transactions,
//! each of which the kernel carries out whole or not at all. No other table is ever touched.
//!
//! What the table does is in `rules.rs`; networks and ports are elements of its sets (`elements.rs`).

mod connections;
mod elements;
mod expression;
mod rules;
mod sysctl;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::link::Links;
use super::netlink::{Attributes, Refusal, Reply, Socket};
pub use elements::range;
use wire::{Change, Element};

pub use sysctl::{forward, prepare_bridge};

/// A network's bridge as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The bridge's name.
    pub bridge: String,
    /// Its subnets, of both families. They overlap with no other network's.
    pub subnets: Vec<(IpAddr, u8)>,
    /// Whether it is shut off from everything else.
    pub internal: bool,
    /// Whether it is shut off from other networks, but for what those publish. Two that are not reach each other.
    pub isolated: bool,
    /// Whether its containers are seen elsewhere with the host's address.
    pub masquerade: bool,
}

/// What a port can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp].into_iter().find(|it| it.number() == number)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(if *self == Protocol::Tcp { "tcp" } else { "udp" })
    }
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Of what.
    pub protocol: Protocol,
    /// The host's address; `None`: all that it has, of the family of `to`.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The container's address and port.
    pub to: SocketAddr,
    /// The bridge of the container's network; only to be read again.
    pub bridge: String,
    /// Who may use it; nobody named: everybody. The host itself always may.
    pub sources: Vec<(IpAddr, u8)>,
}

impl std::fmt::Display for Published {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host {
            Some(host) => write!(to, "{}/{}", SocketAddr::new(host, self.port), self.protocol),
            None => write!(to, "{}/{}", self.port, self.protocol),
        }
    }
}

/// How long the kernel mostly takes to destroy what was removed.
const DESTROYED: Duration = Duration::from_millis(40);
/// How often a change is tried again that others' changes came between.
const TRIES: usize = 64;

/// The table.
pub struct Firewall {
    socket: Socket,
    links: Links,
    table: String,
}

impl Firewall {
    /// The table of this name of the calling thread's network namespace, which need not exist.
    pub fn open(table: &str) -> Result<Self> {
        let socket = Socket::netfilter().map_err(missing).context("opening the kernel's firewall")?;
        Ok(Self { socket, links: Links::here()?, table: table.into() })
    }

    /// Closes the socket when what was removed by it is destroyed. Before, the kernel would wait for that (RCU, about
    /// 10 ms), and anybody who changes rules of this machine for us (`nft_rcv_nl_event`, under the `commit_mutex`).
    pub fn close_later(self) {
        std::thread::sleep(DESTROYED);
        drop(self);
    }

    /// Makes sure that the table is whole and knows these networks; others that it knows stay. Whether it had to be
    /// made (anew): then published ports that it had lost must be published again ([`reload`](Self::reload)).
    pub fn ensure(&mut self, networks: &[Network]) -> Result<bool> {
        self.change("setting up the firewall", |it| {
            let whole = it.is_whole()?;
            let mut all = it.elements(rules::NETWORKS)?;
            let known = elements::networks(&all);
            let (mut old, mut new) = (Vec::new(), Vec::new());
            for network in networks {
                match known.iter().find(|it| it.bridge == network.bridge) {
                    Some(known) if known.same(network) => {}
                    Some(known) => {
                        old.extend(elements::of_network(known));
                        new.extend(elements::of_network(network));
                    }
                    None => new.extend(elements::of_network(network)),
                }
            }
            if whole {
                let mut changes = it.elements_changes(wire::DELETE_ELEMENT, old);
                changes.extend(it.elements_changes(wire::NEW_ELEMENT, new));
                return Ok((changes, false));
            }
            all.retain(|it| !old.contains(it));
            all.extend(new);
            all.extend(it.elements(rules::PORTS)?);
            Ok((it.anew(all), true))
        })
    }

    /// Whether the table is there and knows a network: one question, however much it holds. Whether somebody has taken
    /// single rules out of it is not asked: [`ensure`](Self::ensure) finds that.
    pub fn knows(&mut self, network: &Network) -> bool {
        let mut name = elements::of_network(network);
        name.retain(|it| it.set == "bridges");
        let questions = wire::elements(wire::GET_ELEMENT, &self.table, &name);
        questions.into_iter().all(|it| self.socket.request(it.message).is_ok())
    }

    /// Publishes ports: all of them or none. One that is published already is fine if it leads to the same place.
    pub fn publish(&mut self, ports: &[Published]) -> Result<()> {
        let changes = self.elements_changes(wire::NEW_ELEMENT, ports.iter().flat_map(elements::of_port).collect());
        self.transaction(None, changes).map_err(|(error, what)| match error.errno {
            Errno::BUSY | Errno::EXIST => {
                anyhow!("publishing {}: one of these leads to another container already", list(ports))
            }
            Errno::NOENT => anyhow!(
                "publishing {}: the firewall's table {} is gone or not whole: call bundle network reload",
                list(ports),
                self.table
            ),
            _ => missing(error).context(what).context(format!("publishing {}", list(ports))),
        })?;
        connections::forget(&mut self.socket, &mut self.links, ports, connections::Which::Elsewhere)
    }

    /// Takes published ports back; what is gone, or leads elsewhere by now, is left.
    pub fn withdraw(&mut self, ports: &[Published]) -> Result<()> {
        let wanted: Vec<_> = ports.iter().flat_map(elements::of_port).collect();
        // Mostly all are there, and nothing needs to be looked up.
        let changes = self.elements_changes(wire::DELETE_ELEMENT, wanted.clone());
        if self.transaction(None, changes).is_ok() {
            return connections::forget(&mut self.socket, &mut self.links, ports, connections::Which::Here);
        }
        self.change("withdrawing ports", |it| {
            let there = it.elements(rules::PORTS)?;
            let gone = ports.iter().filter(|port| {
                let own = elements::of_port(port);
                // The map's element comes first: where it leads decides whose the others are.
                own.first().is_some_and(|it| there.iter().any(|other| it.leads_as(other)))
            });
            let mut gone: Vec<_> = gone.flat_map(elements::of_port).collect();
            gone.retain(|it| there.iter().any(|other| it.is_at(other)));
            Ok((it.elements_changes(wire::DELETE_ELEMENT, gone), ()))
        })?;
        connections::forget(&mut self.socket, &mut self.links, ports, connections::Which::Here)
    }

    /// Forgets a network, and with the last one the table.
    pub fn forget(&mut self, bridge: &str) -> Result<()> {
        self.change(&format!("forgetting the network of {bridge}"), |it| {
            let there = it.elements(rules::NETWORKS)?;
            let known = elements::networks(&there);
            if known.iter().all(|it| it.bridge == bridge) {
                return Ok((if it.is_there()? { vec![wire::delete_table(&it.table)] } else { vec![] }, ()));
            }
            let mut gone: Vec<_> =
                known.iter().filter(|it| it.bridge == bridge).flat_map(elements::of_network).collect();
            gone.retain(|it| there.iter().any(|other| it.is_at(other)));
            Ok((it.elements_changes(wire::DELETE_ELEMENT, gone), ()))
        })
    }

    /// Puts these in the place of all that is there, in one step: no packet finds less than one of both.
    pub fn reload(&mut self, networks: &[Network], ports: &[Published]) -> Result<()> {
        let mut all: Vec<_> = networks.iter().flat_map(elements::of_network).collect();
        all.extend(ports.iter().flat_map(elements::of_port));
        self.change("loading the firewall's rules", |it| {
            if all.is_empty() {
                return Ok((if it.is_there()? { vec![wire::delete_table(&it.table)] } else { vec![] }, ()));
            }
            Ok((it.anew(all.clone()), ()))
        })
    }

    /// The networks and published ports that the table knows; none where it is not there.
    pub fn list(&mut self) -> Result<(Vec<Network>, Vec<Published>)> {
        let all = [self.elements(rules::NETWORKS)?, self.elements(rules::PORTS)?].concat();
        Ok((elements::networks(&all), elements::ports(&all)))
    }

    /// Reads, decides, and changes, all on the same state: tried again if another one has changed rules meanwhile.
    fn change<T>(&mut self, what: &str, decide: impl Fn(&mut Self) -> Result<(Vec<Change>, T)>) -> Result<T> {
        for _ in 0..TRIES {
            let generation = self.generation().context(what.to_owned())?;
            let (changes, result) = decide(self).context(what.to_owned())?;
            match self.transaction(Some(generation), changes) {
                Ok(()) => return Ok(result),
                // RESTART is what the kernel says of a generation that has passed.
                Err((Refusal { errno, .. }, _)) if errno.raw_os_error() == ERESTART => {}
                Err((error, part)) => return Err(missing(error).context(part).context(what.to_owned())),
            }
        }
        bail!("{what}: others change the firewall's rules all the time")
    }

    /// The messages, or the first that was refused, and what it was for.
    fn transaction(&mut self, generation: Option<u32>, changes: Vec<Change>) -> Result<(), (Refusal, String)> {
        let (mut messages, mut words) = (Vec::with_capacity(changes.len()), Vec::with_capacity(changes.len()));
        for Change { message, what } in changes {
            messages.push(message);
            words.push(what);
        }
        let (begin, end) = wire::frame(generation);
        self.socket.transaction(messages, begin, end).map_err(|error| {
            let what = words.get(error.at).cloned().unwrap_or_default();
            (error, what)
        })
    }

    /// The table from nothing, in the place of what is there.
    fn anew(&self, all: Vec<Element>) -> Vec<Change> {
        let table = &self.table;
        // What is not there cannot be removed.
        let mut changes = vec![wire::new_table(table), wire::delete_table(table), wire::new_table(table)];
        changes.extend(rules::sets().zip(1..).map(|(set, number)| wire::new_set(table, set, number)));
        changes.extend(rules::CHAINS.iter().map(|it| wire::new_chain(table, it)));
        changes.extend(rules::rules().iter().map(|it| wire::new_rule(table, it)));
        changes.extend(self.elements_changes(wire::NEW_ELEMENT, all));
        changes
    }

    fn elements_changes(&self, kind: u16, mut all: Vec<Element>) -> Vec<Change> {
        // A range that ends where the next begins ends first.
        all.sort_by(|one, other| (one.set, &one.key, !one.behind).cmp(&(other.set, &other.key, !other.behind)));
        all.dedup();
        wire::elements(kind, &self.table, &all)
    }

    fn generation(&mut self) -> Result<u32> {
        let replies = self.socket.request(wire::message(wire::GET_GENERATION, 0)).map_err(missing)?;
        let id = replies.first().and_then(|it| it.attributes(wire::HEADER).be(wire::GENERATION_ID));
        id.context("the kernel does not say which rules it has")
    }

    fn is_there(&mut self) -> Result<bool> {
        Ok(!self.dump(wire::GET_CHAIN, None)?.is_empty() || !self.dump(wire::GET_SET, None)?.is_empty())
    }

    /// Whether all chains, sets and rules are there, as far as their names and comments say.
    fn is_whole(&mut self) -> Result<bool> {
        let chains = self.dump(wire::GET_CHAIN, None)?;
        let has = |all: &[Reply], kind, name: &str| {
            all.iter().any(|it| it.attributes(wire::HEADER).text(kind).as_deref() == Some(name))
        };
        let sets = self.dump(wire::GET_SET, None)?;
        let rules = self.dump(wire::GET_RULE, None)?;
        let rule = |it: &Reply| {
            let attributes = it.attributes(wire::HEADER);
            Some((attributes.text(wire::RULE_CHAIN)?, wire::read_comment(attributes.get(wire::RULE_COMMENT)?)?))
        };
        let mut there: Vec<_> = rules.iter().map(|it| rule(it).unwrap_or_default()).collect();
        let mut wanted: Vec<_> = rules::rules().into_iter().map(|it| (it.chain.to_owned(), it.comment)).collect();
        // Rules come chain by chain, in their order within each.
        there.sort_by(|one, other| one.0.cmp(&other.0));
        wanted.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(rules::CHAINS.iter().all(|it| has(&chains, wire::CHAIN_NAME, it.name))
            && rules::sets().all(|it| has(&sets, wire::SET_NAME, it.name))
            && there == wanted)
    }

    /// All elements of these sets, as far as they are there.
    fn elements(&mut self, sets: &[rules::Set]) -> Result<Vec<Element>> {
        let mut all = Vec::new();
        for set in sets {
            for reply in self.dump(wire::GET_ELEMENT, Some(set.name))? {
                let list = reply.attributes(wire::HEADER).within(wire::ELEMENTS);
                all.extend(list.filter_map(|(_, it)| read(set.name, Attributes(it))));
            }
        }
        Ok(all)
    }

    /// All objects of a kind of the table, or all elements of a set; none where there is no table.
    fn dump(&mut self, kind: u16, set: Option<&str>) -> Result<Vec<Reply>> {
        let mut message = wire::message(kind, libc::NLM_F_DUMP);
        message.text(wire::TABLE, &self.table);
        if let Some(set) = set {
            message.text(wire::SET_NAME, set);
        }
        for _ in 0..TRIES {
            match self.socket.request(message.clone()) {
                Err(Refusal { errno: Errno::NOENT, .. }) => return Ok(vec![]),
                Err(Refusal { errno: Errno::INTR, .. }) => {}
                replies => {
                    let mut replies = replies.map_err(missing).context("reading the firewall's rules")?;
                    // A dump of chains is of all tables.
                    replies.retain(|it| {
                        it.attributes(wire::HEADER).text(wire::TABLE).as_deref() == Some(self.table.as_str())
                    });
                    return Ok(replies);
                }
            }
        }
        bail!("reading the firewall's rules: others change them all the time")
    }
}

impl Network {
    /// Whether the rules need not change.
    fn same(&self, other: &Self) -> bool {
        let sorted = |it: &Self| {
            let mut all: Vec<_> = it.subnets.iter().map(|it| (elements::range(*it).0, it.1)).collect();
            all.sort();
            all
        };
        (self.internal, self.isolated, self.masquerade) == (other.internal, other.isolated, other.masquerade)
            && sorted(self) == sorted(other)
    }
}

impl Element {
    /// Whether only one of them can be there.
    fn is_at(&self, other: &Self) -> bool {
        (self.set, &self.key, self.behind) == (other.set, &other.key, other.behind)
    }

    fn leads_as(&self, other: &Self) -> bool {
        (self.set, &self.key, &self.data) == (other.set, &other.key, &other.data)
    }
}

fn read(set: &'static str, from: Attributes<'_>) -> Option<Element> {
    let value = |kind| from.within(kind).get(wire::DATA_VALUE).map(<[u8]>::to_vec);
    Some(Element {
        set,
        key: value(wire::ELEMENT_KEY)?,
        last: value(wire::ELEMENT_KEY_END),
        data: value(wire::ELEMENT_DATA).unwrap_or_default(),
        comment: from.get(wire::ELEMENT_COMMENT).and_then(wire::read_comment).unwrap_or_default(),
        behind: from.be(wire::ELEMENT_FLAGS).unwrap_or(0) & wire::RANGE_END != 0,
    })
}

/// What the kernel answers to a change of a generation that has passed; no program but this kind ever sees it.
const ERESTART: i32 = 85;

/// What the kernel says where it has no nf_tables, or only a part of it.
fn missing(error: impl Into<Refusal>) -> anyhow::Error {
    let error = error.into();
    match error.errno {
        Errno::OPNOTSUPP | Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT | Errno::NOENT => anyhow!(
            "the kernel has no nf_tables, or not with sets of ranges and NAT for IPv4 and IPv6 ({error}): \
             use --network none or host"
        ),
        Errno::PERM => anyhow!("{error}: this takes root (CAP_NET_ADMIN): use --network none or host"),
        _ => error.into(),
    }
}

/// A few of them, in words.
fn list(ports: &[Published]) -> String {
    let mut words: Vec<_> = ports.iter().take(3).map(ToString::to_string).collect();
    if ports.len() > words.len() {
        words.push(format!("{} more", ports.len() - words.len()));
    }
    words.join(", ")
}
