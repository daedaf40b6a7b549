//! The files of a server in its network's directory.
//!
//! - `lock`: whoever has it decides whether the server is to be there.
//! - `server`: the server has it locked as long as it lives, whatever ends it, and writes into it when it answers.
//! - `port`: where it listens, if that is not port 53.
//! - `names.log`: what went wrong.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::store::retry;

const LOCK: &str = "lock";
/// How long a command waits for another that starts the server, or for the server to start.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
pub const GLANCE: Duration = Duration::from_micros(300);

/// Opens a file of a server, and makes it if it is missing.
pub fn open(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(name);
    let opened = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.with_context(|| format!("opening {}", path.display()))
}

/// Locks a file if nobody has it locked.
pub fn locked(file: File) -> Result<Option<File>> {
    match retry(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).context("locking"),
    }
}

/// The lock, for a command.
pub fn lock(dir: &Path) -> Result<File> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(lock) = locked(open(dir, LOCK)?)? {
            return Ok(lock);
        }
        std::thread::sleep(GLANCE);
    }
    bail!("{} is held by another bundle for more than {} s", dir.join(LOCK).display(), PATIENCE.as_secs())
}

/// What a server finds that wants to end.
pub enum Ending {
    /// It has the lock.
    Locked(File),
    /// A command has it.
    Held,
    /// The directory has been removed, or is being removed: nothing is made in it.
    Gone,
}

/// The lock, for a server that wants to end.
pub fn lock_to_end(dir: &Path) -> Result<Ending> {
    let path = dir.join(LOCK);
    match File::options().write(true).open(&path) {
        Ok(file) => Ok(locked(file)?.map_or(Ending::Held, Ending::Locked)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Ending::Gone),
        Err(error) => Err(error).with_context(|| format!("opening {}", path.display())),
    }
}

/// The file that says on which port the server listens.
pub fn port(dir: &Path) -> PathBuf {
    dir.join("port")
}

/// Writes down the port, or that it is the usual one.
pub fn write_port(dir: &Path, port_number: Option<u16>) -> Result<()> {
    let path = port(dir);
    let told = || format!("writing {}", path.display());
    match port_number {
        Some(it) => {
            let new = dir.join(".port");
            std::fs::write(&new, format!("{it}\n")).and_then(|()| std::fs::rename(&new, &path)).with_context(told)
        }
        None => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(told),
            _ => Ok(()),
        },
    }
}
