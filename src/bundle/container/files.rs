//! Files of a container's own that are mounted over the image's: /etc/hosts, /etc/hostname, /etc/resolv.conf.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::ids::Ids;
use super::spec::{Mode, Modes};
use crate::cli::flags::Flags;

/// Their paths in the container, and their names in its directory.
pub const FILES: [(&str, &str); 3] =
    [("/etc/hosts", "hosts"), ("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf")];

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
    hosts_lines(flags)?;
    Resolver::of(flags).map(drop)
}

/// Writes the files into a container's directory: where each is seen, and where it lies. `name` is the container's
/// host name if the flags give none. Where the network is another container's, `network_of` is that one's directory:
/// its hosts and resolv.conf are this one's too.
pub fn write(dir: &Path, flags: &Flags, name: &str, network_of: Option<&Path>) -> Result<Vec<(&'static str, String)>> {
    let texts = texts(flags, name)?;
    let mut files = Vec::new();
    for ((destination, name), text) in FILES.into_iter().zip(texts) {
        let others = network_of.filter(|_| name != "hostname").map(|it| it.join(name));
        let path = if let Some(others) = others {
            others
        } else {
            let path = dir.join(name);
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
fn texts(flags: &Flags, name: &str) -> Result<[String; 3]> {
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
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{long}{hostname}\n")
    };
    hosts += &hosts_lines(flags)?;
    let resolver = Resolver::of(flags)?.over(if host { &host_resolver } else { &String::new });
    Ok([hosts, format!("{hostname}\n"), resolver])
}

fn host_resolver() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

/// The lines of `--add-host`.
fn hosts_lines(flags: &Flags) -> Result<String> {
    let mut lines = String::new();
    for text in &flags.add_host {
        let (name, address) = text
            .split_once(['=', ':'])
            .with_context(|| format!("--add-host {text:?}: not of the form NAME:ADDRESS"))?;
        if name.is_empty() || name.contains(|it: char| it.is_whitespace() || it == '#' || it == '\0') {
            bail!("--add-host {text:?}: {name:?} is no host's name");
        }
        if address == "host-gateway" {
            bail!("--add-host {text:?}: there is no gateway to the host: no network has one yet; give an address");
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
    fn over(&self, text: &dyn Fn() -> String) -> String {
        let text = text();
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
            hostname: Some("box".into()),
            domainname: Some("lan".into()),
            add_host: words(&["a:10.0.0.1", "b=fe80::1", "c:[::2]", "d:::3"]),
            dns: words(&["9.9.9.9", "::1"]),
            dns_search: words(&["x.org", "."]),
            dns_option: words(&["ndots:2"]),
            ..Flags::default()
        };
        check(&flags).unwrap();
        let [hosts, hostname, resolver] = texts(&flags, "abc").unwrap();
        assert!(hosts.contains("127.0.1.1\tbox.lan box\n"), "{hosts}");
        assert!(hosts.ends_with("10.0.0.1\ta\nfe80::1\tb\n::2\tc\n::3\td\n"), "{hosts}");
        assert_eq!(hostname, "box\n");
        assert_eq!(resolver, "nameserver 9.9.9.9\nnameserver ::1\nsearch x.org\noptions ndots:2\n");
        let plain = texts(&Flags::default(), "abc").unwrap();
        assert_eq!((plain[1].as_str(), plain[2].as_str()), ("abc\n", ""));
        let over = Resolver::of(&Flags { dns: words(&["1.1.1.1"]), ..Flags::default() })
            .unwrap()
            .over(&|| "# c\nnameserver 8.8.8.8\nsearch a b\n".to_owned());
        assert_eq!(over, "# c\nsearch a b\nnameserver 1.1.1.1\n");
    }

    #[test]
    fn bad_words_are_errors() {
        type Edit = fn(&mut Flags);
        let cases: [(Edit, &str); 8] = [
            (|it| it.add_host = words(&["a"]), "NAME:ADDRESS"),
            (|it| it.add_host = words(&["a:b"]), "no address"),
            (|it| it.add_host = words(&["a\nb:1.1.1.1"]), "no host's name"),
            (|it| it.add_host = words(&["a:host-gateway"]), "gateway"),
            (|it| it.dns = words(&["a"]), "--dns"),
            (|it| it.dns_search = words(&["a b"]), "--dns-search"),
            (|it| it.dns_option = words(&["a\nnameserver 1.1.1.1"]), "--dns-option"),
            (
                |it| {
                    it.network = "container:x".into();
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
