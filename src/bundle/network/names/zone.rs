//! Whose name is it: what a question of a container means, by what its networks have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::data::Networks;
use super::network::{HERE, Network};
use super::reverse;
use super::wire::Query;

/// How often a link may lead to a link.
const MOST_LINKS: usize = 4;

/// What there is to a question.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// Somebody is called that, and has these addresses.
    Addresses(Vec<IpAddr>),
    /// The address has this name.
    Name(String),
    /// The name is one of ours, and nobody is called that.
    Nobody,
    /// Others are to be asked: these, or the host's if there are none.
    Elsewhere(Vec<IpAddr>),
    /// Others are not to be asked.
    Internal,
}

/// Who asks.
#[derive(Debug, PartialEq)]
pub enum Asker {
    /// The host itself.
    Host,
    /// A container, by its name as a member.
    Container(String),
}

/// Who has this address; `None` for somebody who has nothing to ask here.
pub fn asker(networks: &Networks, source: IpAddr) -> Option<Asker> {
    let own = networks.own();
    if let Some(member) = own.member(source).filter(|it| it.starts_with(HERE)) {
        return Some(Asker::Container(member.into()));
    }
    own.config.listen.contains(&source).then_some(Asker::Host)
}

/// What the asker is to be told.
pub fn find(networks: &mut Networks, asker: &Asker, query: &Query) -> Found {
    let member = match asker {
        Asker::Host => None,
        Asker::Container(member) => Some(member.as_str()),
    };
    let text = query.text();
    let views = networks.of(member);
    let known = text.as_deref().and_then(|it| within(&views, member, it));
    if let Some(found) = known {
        return found;
    }
    let internal = views.iter().all(|it| it.config.internal);
    let servers = views.iter().find_map(|it| it.record(member?)?.servers.clone()).unwrap_or_default();
    let ours = |it: &IpNet| networks.all().any(|network| network.config.subnets.iter().any(|net| net.contains(it)));
    if text.as_deref().and_then(reverse::subnet_of).is_some_and(|it| ours(&it)) {
        return Found::Nobody;
    }
    if internal { Found::Internal } else { Found::Elsewhere(servers) }
}

/// What the asker's networks know.
fn within(views: &[&Network], member: Option<&str>, name: &str) -> Option<Found> {
    if let Some(address) = reverse::address_of(name) {
        let told = |it: &&Network| {
            let name = it.record(it.member(address)?)?.names.first()?.clone();
            Some(it.config.domain.as_ref().map_or(name.clone(), |domain| format!("{name}.{domain}")))
        };
        return views.iter().find_map(told).map(Found::Name);
    }
    let records: Vec<_> = views.iter().filter_map(|it| it.record(member?)).collect();
    if let Some(target) = records.iter().find_map(|it| link(&it.links, name)) {
        return Some(addresses(views, &target.to_ascii_lowercase()).map_or(Found::Nobody, Found::Addresses));
    }
    if let Some(found) = addresses(views, name) {
        return Some(Found::Addresses(found));
    }
    // The domain is ours alone: what is not there is nowhere.
    let of_ours = |it: &&Network| it.config.domain.as_deref().is_some_and(|domain| stem(name, domain).is_some());
    views.iter().any(of_ours).then_some(Found::Nobody)
}

fn link<'a>(links: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let mut target = None;
    for _ in 0..MOST_LINKS {
        let called = target.unwrap_or(name);
        match links.iter().find(|it| it.0.eq_ignore_ascii_case(called)) {
            Some((_, next)) => target = Some(next.as_str()),
            None => break,
        }
    }
    target
}

/// The addresses of a name in the first network that has it, with its domain or without.
fn addresses(views: &[&Network], name: &str) -> Option<Vec<IpAddr>> {
    let told = |it: &&Network| {
        let short = it.config.domain.as_deref().and_then(|domain| stem(name, domain)).filter(|it| !it.is_empty());
        it.addresses(name).or_else(|| it.addresses(short?))
    };
    views.iter().find_map(told)
}

/// What stands before a domain; empty for the domain itself.
fn stem<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let at = name.len().checked_sub(domain.len())?;
    let (stem, rest) = name.split_at_checked(at)?;
    if !rest.eq_ignore_ascii_case(domain) {
        return None;
    }
    if stem.is_empty() { Some(stem) } else { stem.strip_suffix('.') }
}
