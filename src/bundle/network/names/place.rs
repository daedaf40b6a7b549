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

/// The lock, if it is free.
pub fn try_lock(dir: &Path) -> Result<Option<File>> {
    locked(open(dir, "lock")?)
}

/// The lock.
pub fn lock(dir: &Path) -> Result<File> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(lock) = try_lock(dir)? {
            return Ok(lock);
        }
        std::thread::sleep(GLANCE);
    }
    bail!("{} is held by another bundle for more than {} s", dir.join("lock").display(), PATIENCE.as_secs())
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
