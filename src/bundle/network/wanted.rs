//! What the flags of `run` ask of networks: which ones, and what of each. No effects, no machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::mac::Mac;
use crate::cli::flags::Flags;
use crate::container::record::check_name;
use crate::container::spec::{Mode, Modes};

/// The name of the network that is made at its first use.
pub const USUAL: &str = "bridge";

/// Words of `--network` that are no network's name.
const WORDS: [&str; 6] = ["none", "host", "default", "private", "container", "ns"];

/// A network that a container is to be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// Its name, or the beginning of its id.
    #[serde(skip)]
    pub network: String,
    /// Further names that the container has there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// See `ip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip6: Option<Ipv6Addr>,
    /// Its Ethernet address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Of a guest: what its runtime calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// Other containers, under names that this one alone sees: (container, name).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(String, String)>,
}

/// Whether somebody may give a network this name.
pub fn check_network_name(name: &str) -> Result<()> {
    check_name("the network's name", name)?;
    if WORDS.contains(&name) {
        bail!("the network's name {name:?}: this word of --network means something else");
    }
    Ok(())
}

/// The networks that the flags name. None with `none`, `host` and other containers' networks.
pub fn wanted(flags: &Flags) -> Result<Vec<Wanted>> {
    let modes = Modes::parse(flags)?;
    let special = match flags.network.as_slice() {
        [word] if modes.network != Mode::Own || word == "none" || word.is_empty() || cni(flags).is_some() => Some(word),
        _ => None,
    };
    if let Some(word) = special {
        refuse(flags, word)?;
        return Ok(Vec::new());
    }
    let mut list: Vec<Wanted> = Vec::new();
    for text in &flags.network {
        let wanted = parse(text)?;
        if list.iter().any(|it| it.network == wanted.network) {
            bail!("--network {}: given twice", wanted.network);
        }
        list.push(wanted);
    }
    let several = list.len() > 1;
    let Some(first) = list.first_mut() else { return Ok(list) };
    let address = |flag: &str, given: bool, there: bool| {
        if given && several {
            bail!("{flag}: with several networks it is given to one of them: --network name=NETWORK,{}=…", &flag[2..]);
        }
        if given && there {
            bail!("{flag}: --network has one already");
        }
        Ok(())
    };
    address("--ip", flags.ip.is_some(), first.ip.is_some())?;
    address("--ip6", flags.ip6.is_some(), first.ip6.is_some())?;
    address("--mac-address", flags.mac_address.is_some(), first.mac.is_some())?;
    if let Some(text) = &flags.ip {
        first.ip = Some(ip("--ip", text)?);
    }
    if let Some(text) = &flags.ip6 {
        first.ip6 = Some(ip6("--ip6", text)?);
    }
    if let Some(text) = &flags.mac_address {
        first.mac = Some(text.parse().context("--mac-address")?);
    }
    let links = flags.link.iter().map(|it| link(it)).collect::<Result<Vec<_>>>()?;
    for wanted in &mut list {
        for alias in &flags.network_alias {
            check_alias("--network-alias", alias)?;
            wanted.aliases.push(alias.clone());
        }
        wanted.links.extend(links.iter().cloned());
    }
    Ok(list)
}

/// The networks of `--network cni:NAME`: configurations of the Container Network Interface.
pub fn cni(flags: &Flags) -> Option<&str> {
    match flags.network.as_slice() {
        [word] => word.strip_prefix("cni:"),
        _ => None,
    }
}

/// What needs a network of ours.
fn refuse(flags: &Flags, word: &str) -> Result<()> {
    let ports = !flags.publish.is_empty() || flags.publish_all;
    let given = [
        ("--network-alias", !flags.network_alias.is_empty()),
        ("--ip", flags.ip.is_some()),
        ("--ip6", flags.ip6.is_some()),
        ("--mac-address", flags.mac_address.is_some()),
        ("--link", !flags.link.is_empty()),
        ("--publish", ports && word != "host" && !word.starts_with("cni:")),
    ];
    match given.iter().find(|it| it.1) {
        Some((flag, _)) if word.starts_with("container:") => {
            bail!("{flag}: the network is that of {word}: give it there")
        }
        Some((flag, _)) => bail!("{flag}: not with --network {word}, where it means nothing"),
        None => Ok(()),
    }
}

/// `NETWORK`, or Docker's `name=NETWORK,alias=NAME,ip=ADDRESS,...`.
fn parse(text: &str) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    if text.contains('=') {
        for part in text.split(',') {
            let wrong = || format!("--network {text:?}: {part:?} is not of the form KEY=VALUE");
            let (key, value) = part.split_once('=').with_context(wrong)?;
            let told = || format!("--network {text:?}: {key}");
            match key {
                "name" => value.clone_into(&mut wanted.network),
                "alias" => {
                    check_alias(key, value).with_context(|| format!("--network {text:?}"))?;
                    wanted.aliases.push(value.to_owned());
                }
                "ip" => wanted.ip = Some(ip(key, value).with_context(|| format!("--network {text:?}"))?),
                "ip6" => wanted.ip6 = Some(ip6(key, value).with_context(|| format!("--network {text:?}"))?),
                "mac" | "mac-address" => wanted.mac = Some(value.parse().with_context(told)?),
                _ => bail!("--network {text:?}: known are name, alias, ip, ip6 and mac-address"),
            }
        }
    } else {
        text.clone_into(&mut wanted.network);
    }
    if wanted.network == "default" {
        USUAL.clone_into(&mut wanted.network);
    }
    check_name("--network", &wanted.network)?;
    if WORDS.contains(&wanted.network.as_str()) {
        bail!("--network {text:?}: {} cannot be one of several, and has no options", wanted.network);
    }
    Ok(wanted)
}

fn ip(flag: &str, text: &str) -> Result<Ipv4Addr> {
    text.parse().ok().with_context(|| format!("{flag} {text:?}: not an IPv4 address"))
}

fn ip6(flag: &str, text: &str) -> Result<Ipv6Addr> {
    text.parse().ok().with_context(|| format!("{flag} {text:?}: not an IPv6 address"))
}

/// Labels of letters, digits, '-' and '_', parted by dots (RFC 1035, and what people use).
fn check_alias(flag: &str, name: &str) -> Result<()> {
    let label = |it: &str| {
        (1..=63).contains(&it.len()) && it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        bail!("{flag} {name:?}: letters, digits, '-', '_' and '.' are a host's name");
    }
    Ok(())
}

/// `CONTAINER[:NAME]`.
fn link(text: &str) -> Result<(String, String)> {
    let (container, name) = text.split_once(':').unwrap_or((text, text));
    check_name("--link", container)?;
    check_alias("--link", name)?;
    Ok((container.to_owned(), name.to_owned()))
}

/// What `network connect` asks for.
pub fn connected(args: &crate::cli::network::Connect) -> Result<Wanted> {
    for alias in &args.alias {
        check_alias("--alias", alias)?;
    }
    Ok(Wanted {
        guest: None,
        network: args.network.clone(),
        aliases: args.alias.clone(),
        ip: args.ip.as_deref().map(|it| ip("--ip", it)).transpose()?,
        ip6: args.ip6.as_deref().map(|it| ip6("--ip6", it)).transpose()?,
        mac: args.mac_address.as_deref().map(|it| it.parse().context("--mac-address")).transpose()?,
        links: args.link.iter().map(|it| link(it)).collect::<Result<_>>()?,
    })
}

/// What `network hook` asks for.
pub fn of_guest(args: &crate::cli::network::Hook) -> Result<Wanted> {
    for alias in &args.alias {
        check_alias("--alias", alias)?;
    }
    let ip = args.ip.as_deref().map(|it| ip("--ip", it)).transpose()?;
    Ok(Wanted { aliases: args.alias.clone(), ip, ..Wanted::default() })
}

impl Wanted {
    /// The address of a family that was asked for.
    pub fn address(&self, v6: bool) -> Option<IpAddr> {
        if v6 { self.ip6.map(IpAddr::from) } else { self.ip.map(IpAddr::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(networks: &[&str]) -> Flags {
        Flags { network: networks.iter().map(|it| (*it).to_owned()).collect(), ..Flags::default() }
    }

    #[test]
    fn networks_and_what_of_them() {
        assert_eq!(wanted(&flags(&["none"])).unwrap(), []);
        assert_eq!(wanted(&flags(&["host"])).unwrap(), []);
        assert_eq!(wanted(&flags(&["container:x"])).unwrap(), []);
        assert_eq!(wanted(&flags(&["cni:x"])).unwrap(), []);
        assert_eq!(wanted(&flags(&["ns:/proc/self/ns/net"])).unwrap(), []);
        assert_eq!(wanted(&flags(&["default"])).unwrap()[0].network, "bridge");
        let list =
            wanted(&flags(&["name=aa,alias=x,alias=y.z,ip=10.0.0.9,ip6=fd00::9,mac-address=02:42:00:00:00:01", "bb"]));
        let list = list.unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].network.as_str(), list[0].aliases.len(), list[1].network.as_str()), ("aa", 2, "bb"));
        assert_eq!(list[0].address(true), Some("fd00::9".parse().unwrap()));
        let mut given = flags(&["aa"]);
        given.network_alias = vec!["web".into()];
        given.ip = Some("10.0.0.8".into());
        given.link = vec!["db:store".into(), "cache".into()];
        let it = &wanted(&given).unwrap()[0];
        assert_eq!(it.links, [("db".into(), "store".into()), ("cache".into(), "cache".into())]);
        assert_eq!((it.aliases[0].as_str(), it.ip), ("web", Some("10.0.0.8".parse().unwrap())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Edit = fn(&mut Flags);
        let cases: [(&[&str], Edit, &str); 18] = [
            (&["aa", "aa"], |_| (), "twice"),
            (&["aa", "host"], |_| (), "one of several"),
            (&["none", "aa"], |_| (), "one of several"),
            (&["private"], |_| (), "private"),
            (&["a/b"], |_| (), "--network"),
            (&["name=aa,colour=red"], |_| (), "known are"),
            (&["name=aa,x"], |_| (), "KEY=VALUE"),
            (&["name=aa,ip=x"], |_| (), "IPv4"),
            (&["name=aa,ip6=10.0.0.1"], |_| (), "IPv6"),
            (&["name=aa,mac-address=01:00:00:00:00:00"], |_| (), "mac-address"),
            (&["name=aa,alias=a b"], |_| (), "host's name"),
            (&["alias=x"], |_| (), "--network"),
            (&["aa", "bb"], |it| it.ip = Some("10.0.0.1".into()), "several networks"),
            (&["name=aa,ip=10.0.0.1"], |it| it.ip = Some("10.0.0.1".into()), "already"),
            (&["host"], |it| it.ip = Some("10.0.0.1".into()), "--ip"),
            (&["none"], |it| it.publish = vec!["80".into()], "--publish"),
            (&["container:x"], |it| it.publish_all = true, "give it there"),
            (&["aa"], |it| it.link = vec!["a/b".into()], "--link"),
        ];
        for (networks, edit, text) in cases {
            let mut given = flags(networks);
            edit(&mut given);
            let error = format!("{:#}", wanted(&given).unwrap_err());
            assert!(error.contains(text), "{networks:?}: {error}");
        }
    }

    #[test]
    fn names_of_networks() {
        check_network_name("front").unwrap();
        for bad in ["none", "host", "default", "container", "a:b", "", "a b"] {
            check_network_name(bad).unwrap_err();
        }
    }
}
