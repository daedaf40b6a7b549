//! What of a container's networks is on the machine: a file in its run directory, written before any of it is made and
//! removed after all of it is gone. Whoever finds it and no container that runs can undo what it says.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::IpNet;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::cni::Attached;
use super::firewall::{Protocol, Published};
use super::mac::Mac;
use crate::tool::Tool;

/// Its name.
pub const FILE: &str = "network";

/// See the head of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The container's id.
    pub container: String,
    /// The table of rules.
    pub table: String,
    /// Where the networks' own run-time files lie.
    pub networks: PathBuf,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Ports that the kernel forwards.
    pub published: Vec<Published>,
    /// Ports that would be published, were the container in a network that leads out: it has left the last one.
    #[serde(default)]
    pub waiting: Vec<Published>,
    /// Ports that a process forwards.
    #[serde(default)]
    pub forwarded: Vec<Forwarded>,
    /// Nobody gets to the container any more: only its devices are left.
    #[serde(default)]
    pub ended: bool,
    /// What plugins have made in our place.
    #[serde(default)]
    pub cni: Option<Attached>,
}

/// A port of the host that a process forwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarded {
    /// Of what.
    pub protocol: Protocol,
    /// The host's address and port.
    pub listen: SocketAddr,
    /// The container's.
    pub to: SocketAddr,
    /// Who may use it; nobody named: everybody.
    pub sources: Vec<(IpAddr, u8)>,
}

/// A device of the container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// The network's id.
    pub network: String,
    /// Its name in the container.
    pub name: String,
    /// The name of its other end on the host; of a macvlan, the parent's.
    pub host: String,
    /// Whether it is a macvlan, which has no other end.
    pub macvlan: bool,
    /// The bridge that the other end is in.
    pub bridge: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Greatest packet.
    pub mtu: Option<u32>,
    /// Its addresses with their subnets' prefixes.
    pub addresses: Vec<IpNet>,
    /// By which it leaves its networks; none where another device does it, or nothing may.
    pub gateways: Vec<IpAddr>,
    /// Whether others in its network may find it by name.
    pub named: bool,
    /// What its name server is told of it.
    pub entry: Entry,
}

/// A container in a network, as the network's name server reads it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entry {
    /// The container's id.
    pub container: String,
    /// Its addresses in the network.
    pub addresses: Vec<IpAddr>,
    /// What others call it.
    pub names: Vec<String>,
    /// Names that it alone sees, and the containers' that they stand for.
    pub links: BTreeMap<String, String>,
    /// Who answers what it asks of the outside, where not the host's own resolvers do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
}

impl Record {
    /// Reads the one in a run directory; `None`: nothing of any network is there.
    pub fn read(run_dir: &Path) -> Result<Option<Self>> {
        let path = run_dir.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Puts it there, whole or not at all.
    pub fn write(&self, run_dir: &Path) -> Result<()> {
        let path = run_dir.join(FILE);
        let new = run_dir.join(".network");
        let write = || -> std::io::Result<()> {
            std::fs::write(&new, serde_json::to_vec(self)?)?;
            std::fs::rename(&new, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// All of it is gone.
    pub fn remove(run_dir: &Path) -> Result<()> {
        std::fs::remove_file(run_dir.join(FILE))
            .with_context(|| format!("removing the record below {}", run_dir.display()))
    }

    /// The ports whose sockets of the host are kept for the firewall.
    pub fn ports(&self) -> impl Iterator<Item = &Published> {
        self.published.iter().chain(&self.waiting)
    }

    /// The directory of a network's run-time files.
    pub fn network_dir(&self, network: &str) -> PathBuf {
        run_dir_of(&self.networks, network)
    }
}

/// The directory of a network's run-time files.
pub fn run_dir_of(networks: &Path, network: &str) -> PathBuf {
    networks.join(&network[..12])
}

/// The records of all containers of this store that are in networks, each with its lock.
pub fn all(tool: &Tool) -> Result<Vec<(Record, File)>> {
    let table = super::attach::table(tool)?;
    let entries = std::fs::read_dir(tool.state_dir()).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|it| it.path()).filter(|it| it.join(FILE).exists()).collect();
    // Everybody who takes several takes them in this order.
    dirs.sort();
    let mut records = Vec::new();
    for dir in dirs {
        // Another store's containers have another table.
        if Record::read(&dir)?.is_some_and(|it| it.table == table) {
            let Ok(lock) = lock(&dir) else { continue };
            // As it is now.
            records.extend(Record::read(&dir)?.filter(|it| !it.ended).map(|it| (it, lock)));
        }
    }
    Ok(records)
}

/// Held by whoever changes the record of a container that may be running: a command that connects it, or who looks
/// after its end.
pub fn lock(run_dir: &Path) -> Result<File> {
    let file = File::open(run_dir).with_context(|| format!("opening {}", run_dir.display()))?;
    crate::store::retry(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
    Ok(file)
}
