//! A network and its members, by their files.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest file that is read, in bytes.
const MOST_FILE: u64 = 64 << 10;
/// The directories of a network that have containers: those of this host, and those of others.
pub const HERE: &str = "containers";
pub const THERE: &str = "remote";

/// A network's file `network`.
#[derive(Debug, Default, Deserialize)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The addresses of its name server.
    #[serde(default)]
    pub listen: Vec<IpAddr>,
    /// Whether nothing goes in or out.
    #[serde(default)]
    pub internal: bool,
    /// The domain of its names, which may stand behind them.
    #[serde(default)]
    pub domain: Option<String>,
    /// Its subnets: questions about their addresses are not sent to others.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
}

/// A container's file.
#[derive(Debug, Default, Deserialize)]
pub struct Record {
    /// Its addresses in this network.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// What others call it; the first is what its addresses are called.
    #[serde(default)]
    pub names: Vec<String>,
    /// What it alone calls others.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// Whom its questions are sent to, instead of the host's servers.
    #[serde(default)]
    pub servers: Option<Vec<IpAddr>>,
}

/// A network and its members. A member is named by the path of its file below the network's directory.
#[derive(Debug, Default)]
pub struct Network {
    /// Its directory.
    pub dir: PathBuf,
    /// Its settings.
    pub config: Config,
    /// Which of its two directories of members are watched.
    pub watched: [bool; 2],
    /// Whether the members' files are read, or only their names are known.
    pub loaded: bool,
    members: HashMap<Box<str>, Option<Record>>,
    names: HashMap<Box<str>, Vec<Box<str>>>,
    addresses: HashMap<IpAddr, Box<str>>,
}

impl Network {
    /// Nothing of its members yet; and of its settings only if they are there.
    pub fn open(dir: &Path) -> Self {
        let config = read(&dir.join("network")).unwrap_or_default();
        Self { dir: dir.into(), config, ..Self::default() }
    }

    /// The addresses of a name, which is in lower case; `None` if nobody is called that.
    pub fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let members = self.names.get(name)?.iter().filter_map(|it| self.record(it));
        let mut found = Vec::new();
        for address in members.flat_map(|it| &it.addresses) {
            if !found.contains(address) {
                found.push(*address);
            }
        }
        Some(found)
    }

    /// Who has an address.
    pub fn member(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address).map(AsRef::as_ref)
    }

    /// What is known of a member.
    pub fn record(&self, member: &str) -> Option<&Record> {
        self.members.get(member)?.as_ref()
    }

    /// Whether this is a member.
    pub fn has(&self, member: &str) -> bool {
        self.members.contains_key(member)
    }

    /// Puts a member in the place of what it was before.
    pub fn put(&mut self, member: &str) {
        self.remove(member);
        let mut record = None;
        if self.loaded {
            match read::<Record>(&self.dir.join(member)) {
                Ok(it) => record = Some(it),
                // It may be gone again.
                Err(error) if !self.dir.join(member).exists() => drop(error),
                Err(error) => super::log(&format!("{error:#}; it has no name")),
            }
        }
        if let Some(record) = &record {
            for name in record.names.iter().map(|it| it.to_ascii_lowercase().into_boxed_str()) {
                let called = self.names.entry(name).or_default();
                if !called.iter().any(|it| **it == *member) {
                    called.push(member.into());
                }
            }
            for address in &record.addresses {
                // No other host says who is here.
                let taken = self.addresses.get(address).is_some_and(|it| it.starts_with(HERE));
                if !taken || member.starts_with(HERE) {
                    self.addresses.insert(*address, member.into());
                }
            }
        }
        self.members.insert(member.into(), record);
    }

    /// Takes a member out.
    pub fn remove(&mut self, member: &str) {
        let Some(Some(record)) = self.members.remove(member) else { return };
        for name in record.names.iter().map(|it| it.to_ascii_lowercase()) {
            if let Some(called) = self.names.get_mut(name.as_str()) {
                called.retain(|it| **it != *member);
                if called.is_empty() {
                    self.names.remove(name.as_str());
                }
            }
        }
        for address in &record.addresses {
            if self.addresses.get(address).is_some_and(|it| **it == *member) {
                self.addresses.remove(address);
            }
        }
    }

    /// Looks through the directories again, as if nothing were known.
    pub fn scan(&mut self) {
        self.members.clear();
        self.names.clear();
        self.addresses.clear();
        for place in [HERE, THERE] {
            for entry in std::fs::read_dir(self.dir.join(place)).into_iter().flatten().flatten() {
                if let Some(name) = entry.file_name().to_str().filter(|it| !it.starts_with('.')) {
                    self.put(&format!("{place}/{name}"));
                }
            }
        }
    }

    /// The containers of this host in it, by their ids.
    pub fn here(&self) -> impl Iterator<Item = (&str, &Record)> {
        let all = self.members.iter().filter_map(|(member, it)| Some((member, it.as_ref()?)));
        all.filter_map(|(member, it)| Some((member.strip_prefix(HERE)?.strip_prefix('/')?, it)))
    }

    /// Whether a container of this host is in it.
    pub fn in_use(&self) -> bool {
        self.members.keys().any(|it| it.starts_with(HERE))
    }
}

/// Reads a file that is no longer than [`MOST_FILE`].
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut bytes = Vec::new();
    let told = || format!("reading {}", path.display());
    File::open(path).and_then(|it| it.take(MOST_FILE).read_to_end(&mut bytes)).with_context(told)?;
    serde_json::from_slice(&bytes).with_context(told)
}
