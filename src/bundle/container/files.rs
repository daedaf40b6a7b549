//! Files of a container's own that are mounted over the image's: /etc/hosts, /etc/hostname, /etc/resolv.conf.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::ids::Ids;
use super::spec::{Mode, Modes};
use crate::cli::flags::Flags;
use crate::network::wanted::wanted;

/// Their paths in the container, and their names in its directory.
pub const FILES: [(&str, &str); 3] =
    [("/etc/hosts", "hosts"), ("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf")];

/// What a container's networks say of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The name servers of its networks.
    pub servers: Vec<IpAddr>,
    /// The host's addresses in them.
    pub gateways: Vec<IpAddr>,
}

/// Reads what the flags say of them.
pub fn check(flags: &Flags) -> Result<()> {
    let modes = Modes::parse(flags)?;
    let any = !flags.add_host.is_empty()
        || !flags.dns.is_empty()
        || !flags.dns_search.is_empty()
        || !flags.dns_option.is_empty();
    if let (Mode::Container(name), true) = (modes.network, any) {
        bail!("--add-host and --dns flags: container {name}, whose network this is, has these files: give them there");
    }
    let gateways = match modes.network {
        // Where it will be is not known yet, and that it will be somewhere is.
        Mode::Own if !wanted(flags)?.is_empty() => vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        mode => gateways(mode, &Site::default()),
    };
    hosts_lines(flags, &gateways)?;
    Resolver::of(flags).map(drop)
}

/// The addresses that stand for `host-gateway`.
fn gateways(network: Mode<'_>, site: &Site) -> Vec<IpAddr> {
    if network == Mode::Host { vec![Ipv4Addr::LOCALHOST.into()] } else { site.gateways.clone() }
}

/// Writes the files into a container's directory: where each is seen, and where it lies. `name` is the container's
/// host name if the flags give none. Where the network is another container's, `network_of` is that one's directory:
/// its hosts and resolv.conf are this one's too.
pub fn write(
    dir: &Path,
    flags: &Flags,
    name: &str,
    site: &Site,
    network_of: Option<&Path>,
) -> Result<Vec<(&'static str, String)>> {
    let texts = texts(flags, name, site)?;
    let mut files = Vec::new();
    for ((destination, name), text) in FILES.into_iter().zip(texts) {
        let others = network_of.filter(|_| name != "hostname").map(|it| it.join(name));
        let path = if let Some(others) = others {
            others
        } else {
            let path = dir.join(name);
            // In place: a container that runs has this very file mounted.
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            path
        };
        files.push((destination, path.to_str().context("the store's path is no UTF-8")?.to_owned()));
    }
    Ok(files)
}

/// Gives the files to the root of a container that has users of its own.
pub fn give(files: &[(&'static str, String)], ids: &Ids) -> Result<()> {
    let (uid, gid) = ids.on_host(0, 0);
    for (_, path) in files {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).with_context(|| format!("giving {path} to its owner"))?;
    }
    Ok(())
}

/// Their texts, in the order of [`FILES`].
fn texts(flags: &Flags, name: &str, site: &Site) -> Result<[String; 3]> {
    let modes = Modes::parse(flags)?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hostname = match (modes.uts, &flags.hostname) {
        (Mode::Host, _) => read("/proc/sys/kernel/hostname").trim().to_owned(),
        (_, Some(given)) => given.clone(),
        (_, None) => name.to_owned(),
    };
    let host = modes.network == Mode::Host;
    let mut hosts = if host {
        let text = read("/etc/hosts");
        if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
    } else {
        let long = flags.domainname.as_ref().map(|it| format!("{hostname}.{it} ")).unwrap_or_default();
        let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
        // Without a network it is itself all the same.
        let alone = [IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1))];
        for address in if site.addresses.is_empty() { &alone } else { site.addresses.as_slice() } {
            let _ = writeln!(text, "{address}\t{long}{hostname}");
        }
        text
    };
    hosts += &hosts_lines(flags, &gateways(modes.network, site))?;
    let mut resolver = Resolver::of(flags)?;
    let resolver = if host {
        resolver.over(&host_resolver())
    } else if site.servers.is_empty() {
        resolver.over(&if site.addresses.is_empty() { String::new() } else { beyond_loopback(&host_resolver()) })
    } else {
        // Those that the flags name are asked by the network's server, for this container.
        resolver.servers.clear();
        let servers: String = site.servers.iter().map(|it| format!("nameserver {it}\n")).collect();
        let host = host_resolver();
        let others = host.lines().filter(|it| it.starts_with("search") || it.starts_with("options"));
        resolver.over(&(servers + &others.map(|it| format!("{it}\n")).collect::<String>()))
    };
    Ok([hosts, format!("{hostname}\n"), resolver])
}

fn host_resolver() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// Without the servers that only the host itself reaches.
fn beyond_loopback(text: &str) -> String {
    let local = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words.next().and_then(|it| it.parse::<IpAddr>().ok()).is_some_and(|it| it.is_loopback())
    };
    text.lines().filter(|it| !local(it)).map(|it| format!("{it}\n")).collect()
}

/// The lines of `--add-host`.
fn hosts_lines(flags: &Flags, gateways: &[IpAddr]) -> Result<String> {
    let mut lines = String::new();
    for text in &flags.add_host {
        let (name, address) = text
            .split_once(['=', ':'])
            .with_context(|| format!("--add-host {text:?}: not of the form NAME:ADDRESS"))?;
        if name.is_empty() || name.contains(|it: char| it.is_whitespace() || it == '#' || it == '\0') {
            bail!("--add-host {text:?}: {name:?} is no host's name");
        }
        if address == "host-gateway" {
            if gateways.is_empty() {
                bail!("--add-host {text:?}: the container is in no network that leads to the host; give an address");
            }
            for gateway in gateways {
                let _ = writeln!(lines, "{gateway}\t{name}");
            }
            continue;
        }
        let bare = address.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr =
            bare.parse().ok().with_context(|| format!("--add-host {text:?}: {address:?} is no address"))?;
        let _ = writeln!(lines, "{address}\t{name}");
    }
    Ok(lines)
}

/// What the flags say of resolv.conf.
struct Resolver<'a> {
    servers: Vec<IpAddr>,
    search: &'a [String],
    options: &'a [String],
}

impl<'a> Resolver<'a> {
    fn of(flags: &'a Flags) -> Result<Self> {
        let servers = flags.dns.iter().map(|text| {
            text.parse::<IpAddr>().ok().with_context(|| format!("--dns {text:?}: not an address of a name server"))
        });
        let one_word = |flag: &str, list: &[String]| match list
            .iter()
            .find(|it| it.is_empty() || it.len() > 253 || it.contains(|it: char| it.is_whitespace() || it.is_control()))
        {
            Some(bad) => bail!("{flag} {bad:?}: not one word"),
            None => Ok(()),
        };
        one_word("--dns-search", &flags.dns_search)?;
        one_word("--dns-option", &flags.dns_option)?;
        Ok(Self { servers: servers.collect::<Result<_>>()?, search: &flags.dns_search, options: &flags.dns_option })
    }

    /// The file: each kind of line that the flags give comes in the place of all of its kind in the text that there is.
    fn over(&self, text: &str) -> String {
        let replaced = |line: &str| match line.split_whitespace().next() {
            Some("nameserver") => !self.servers.is_empty(),
            Some("search" | "domain") => !self.search.is_empty(),
            Some("options") => !self.options.is_empty(),
            _ => false,
        };
        let mut out: String = text.lines().filter(|it| !replaced(it)).map(|it| format!("{it}\n")).collect();
        for server in &self.servers {
            let _ = writeln!(out, "nameserver {server}");
        }
        // A single dot is Docker's word for no search at all.
        let search: Vec<&str> = self.search.iter().map(String::as_str).filter(|it| *it != ".").collect();
        if !search.is_empty() {
            let _ = writeln!(out, "search {}", search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(out, "options {}", self.options.join(" "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn hosts_and_resolver_follow_the_flags() {
        let flags = Flags {
            network: words(&["none"]),
            hostname: Some("box".into()),
            domainname: Some("lan".into()),
            add_host: words(&["a:10.0.0.1", "b=fe80::1", "c:[::2]", "d:::3"]),
            dns: words(&["9.9.9.9", "::1"]),
            dns_search: words(&["x.org", "."]),
            dns_option: words(&["ndots:2"]),
            ..Flags::default()
        };
        check(&flags).unwrap();
        let [hosts, hostname, resolver] = texts(&flags, "abc", &Site::default()).unwrap();
        assert!(hosts.contains("127.0.1.1\tbox.lan box\n"), "{hosts}");
        assert!(hosts.ends_with("10.0.0.1\ta\nfe80::1\tb\n::2\tc\n::3\td\n"), "{hosts}");
        assert_eq!(hostname, "box\n");
        assert_eq!(resolver, "nameserver 9.9.9.9\nnameserver ::1\nsearch x.org\noptions ndots:2\n");
        let plain = texts(&Flags { network: words(&["none"]), ..Flags::default() }, "abc", &Site::default()).unwrap();
        assert_eq!((plain[1].as_str(), plain[2].as_str()), ("abc\n", ""));
        let over = Resolver::of(&Flags { dns: words(&["1.1.1.1"]), ..Flags::default() })
            .unwrap()
            .over("# c\nnameserver 8.8.8.8\nsearch a b\n");
        assert_eq!(over, "# c\nsearch a b\nnameserver 1.1.1.1\n");
    }

    #[test]
    fn networks_are_in_them() {
        let site = Site {
            addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            servers: vec!["10.0.0.1".parse().unwrap()],
            gateways: vec!["10.0.0.1".parse().unwrap()],
        };
        let flags = Flags {
            network: words(&["front"]),
            add_host: words(&["host.lan:host-gateway"]),
            dns: words(&["9.9.9.9"]),
            dns_search: words(&["x.org"]),
            ..Flags::default()
        };
        check(&flags).unwrap();
        let [hosts, _, resolver] = texts(&flags, "abc", &site).unwrap();
        assert!(hosts.ends_with("10.0.0.5\tabc\nfd00::5\tabc\n10.0.0.1\thost.lan\n"), "{hosts}");
        assert!(resolver.starts_with("nameserver 10.0.0.1\n") && !resolver.contains("9.9.9.9"), "{resolver}");
        assert!(resolver.contains("search x.org\n"), "{resolver}");
        assert_eq!(beyond_loopback("nameserver 127.0.0.53\nsearch a\n"), "search a\n");
        let host = Flags { network: words(&["host"]), add_host: words(&["me:host-gateway"]), ..Flags::default() };
        check(&host).unwrap();
        assert!(texts(&host, "abc", &Site::default()).unwrap()[0].ends_with("127.0.0.1\tme\n"));
    }

    #[test]
    fn bad_words_are_errors() {
        type Edit = fn(&mut Flags);
        let cases: [(Edit, &str); 8] = [
            (|it| it.add_host = words(&["a"]), "NAME:ADDRESS"),
            (|it| it.add_host = words(&["a:b"]), "no address"),
            (|it| it.add_host = words(&["a\nb:1.1.1.1"]), "no host's name"),
            (
                |it| {
                    it.network = words(&["none"]);
                    it.add_host = words(&["a:host-gateway"]);
                },
                "leads to the host",
            ),
            (|it| it.dns = words(&["a"]), "--dns"),
            (|it| it.dns_search = words(&["a b"]), "--dns-search"),
            (|it| it.dns_option = words(&["a\nnameserver 1.1.1.1"]), "--dns-option"),
            (
                |it| {
                    it.network = words(&["container:x"]);
                    it.dns = words(&["1.1.1.1"]);
                },
                "container x",
            ),
        ];
        for (edit, text) in cases {
            let mut flags = Flags::default();
            edit(&mut flags);
            let error = format!("{:#}", check(&flags).unwrap_err());
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
