//! Who has which address: a file for each bridge, changed under a lock and replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// What is on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Leases {
    /// The bridge is ours, and goes with the last lease.
    pub made_bridge: bool,
    pub leases: BTreeMap<Ipv4Addr, Lease>,
}

/// An address that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The container's id.
    pub id: String,
    /// Its first process, and when that one started: a number may come again.
    pub pid: i32,
    pub started: u64,
    /// The device on the bridge.
    pub link: String,
}

/// The file of a bridge, locked until this is dropped. The kernel gives the lock back when a process dies.
pub struct Store {
    path: PathBuf,
    _lock: File,
}

impl Store {
    pub fn open(dir: &Path, bridge: &str) -> Result<Store> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let name = dir.join(format!("{bridge}.lock"));
        let lock = File::options().create(true).write(true).truncate(false).open(&name);
        let lock = lock.with_context(|| format!("opening {}", name.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("locking {}", name.display()))?;
        Ok(Store { path: dir.join(format!("{bridge}.json")), _lock: lock })
    }

    pub fn read(&self) -> Result<Leases> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Leases::default()),
            text => text
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(serde_json::from_slice(&text)?))
                .with_context(|| format!("reading {}", self.path.display())),
        }
    }

    /// An empty list is no file.
    pub fn write(&self, leases: &Leases) -> Result<()> {
        let write = || {
            if leases.leases.is_empty() {
                return match fs::remove_file(&self.path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
            let new = self.path.with_extension("new");
            fs::write(&new, serde_json::to_vec_pretty(leases)?)?;
            fs::rename(new, &self.path)
        };
        write().with_context(|| format!("writing {}", self.path.display()))
    }
}

/// When a process started, in the kernel's ticks since boot (proc_pid_stat(5), field 22); `None` if
/// there is none.
pub fn started(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, a name in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    // A zombie has no namespaces any more.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
