//! What has happened: a line of JSON for each event in `ROOT/events`, with Docker's fields. Commands and monitors
//! write it, each line at once; at 4 MiB the file becomes `events.1`, and what that was goes.

mod filter;
mod read;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

pub use filter::Filters;
pub use read::{Query, read};

/// The file becomes no larger.
const MAX_SIZE: u64 = 4 << 20;
const FILE: &str = "events";
const OLD_FILE: &str = "events.1";
/// How long somebody who holds the file may keep others waiting.
const PATIENCE: Duration = Duration::from_millis(200);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// Adds an event to those of a store. `action` and `attributes` are Docker's (`start`, `die`, ...; `name`, `image`,
/// `exitCode`, labels). Whoever does something does not fail since it cannot be written down: errors are let go.
pub fn append(root: &Path, kind: Kind, action: &str, id: &str, attributes: &[(&str, &str)]) {
    let now = Timestamp::now();
    let attributes: Map<String, Value> =
        attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let event = json!({
        "Type": kind.name(),
        "Action": action,
        "Actor": {"ID": id, "Attributes": attributes},
        "scope": "local",
        "time": now.as_second(),
        "timeNano": now.as_nanosecond() as i64,
    });
    let _ = append_line(root, format!("{event}\n").as_bytes());
}

fn append_line(root: &Path, line: &[u8]) -> io::Result<()> {
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        let file = open(&root)?;
        lock(&file, FlockOperation::NonBlockingLockExclusive);
        if !is_current(&root, &file)? {
            continue;
        }
        let size = file.metadata()?.len();
        if size > 0 && size + line.len() as u64 > MAX_SIZE {
            rustix::fs::renameat(&root, FILE, &root, OLD_FILE)?;
            continue;
        }
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, line))?;
        // A full disk: half a line would spoil the next.
        if written < line.len() {
            rustix::fs::ftruncate(&file, size)?;
        }
        return Ok(());
    }
}

fn open(root: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(root, FILE, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Locks a file, or does without after a while: a line that is written at once is whole also so.
fn lock(file: &File, how: FlockOperation) {
    const NAP: Duration = Duration::from_millis(2);
    for _ in 0..PATIENCE.as_millis() / NAP.as_millis() {
        match rustix::fs::flock(file, how) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(NAP),
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

/// Whether the name is still this file's.
fn is_current(root: impl AsFd, file: &File) -> io::Result<bool> {
    let open = rustix::fs::fstat(file)?;
    match rustix::fs::statat(root, FILE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((open.st_dev, open.st_ino) == (named.st_dev, named.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
