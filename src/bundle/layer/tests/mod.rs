//! Tests of the room.

#[path = "../../../../integration/images/tree.rs"]
mod tree;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::overlay::Overlay;
use super::unpack::{Limits, Options, Unpacked, unpack};

/// A directory of a test's own, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rt-bundle-layer-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A new directory in it.
    pub fn directory(&self, name: &str) -> OwnedFd {
        fs::create_dir(self.0.join(name)).unwrap();
        open(&self.0.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let above = open(self.0.parent().unwrap());
        super::remove::remove(above.as_fd(), self.0.file_name().unwrap().as_encoded_bytes()).unwrap();
    }
}

pub fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

pub const OPTIONS: Options = Options {
    overlay: Overlay::Trusted,
    limits: Limits { bytes: 1 << 30, entries: 1_000_000, remedy: "raise it" },
    devices: true,
};

/// Unpacks an archive into a new directory.
pub fn unpacked(scratch: &Scratch, name: &str, archive: &[u8]) -> Unpacked {
    let directory = scratch.directory(name);
    let (_, mut stream) = super::compress::decoder(archive).unwrap();
    unpack(&mut stream, directory.as_fd(), &OPTIONS).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}
