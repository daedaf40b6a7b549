//! Tests of the room.

#[path = "../../../../integration/images/tree.rs"]
mod tree;

mod build;
mod hostile;
mod overlay;
mod random;
mod settle;
mod umoci;
mod unpack;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::overlay::Overlay;
use super::unpack::{self as unpacking, Limits, Options, Unpacked};

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
        let removed = super::remove::remove(above.as_fd(), self.0.file_name().unwrap().as_encoded_bytes());
        // What failed before is what is to be told.
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
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
    unpacking::unpack(&mut stream, directory.as_fd(), &OPTIONS).unwrap_or_else(|error| panic!("{name}: {error:#}"))
}

/// Everything below a directory, a line each, sorted: `dir/`, `file=content`, `link->target`, `name gone`,
/// `name==first` of a second hard link. Modes only where they are not usual.
pub fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, node) in tree::manifest(root, &[]) {
        if path.is_empty() {
            continue;
        }
        let numbers = || {
            let device = u64::from_str_radix(&node.content, 16).unwrap();
            format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
        };
        let mut line = match node.kind {
            _ if node.first != path && node.kind != "directory" => format!("{path}=={}", node.first),
            "directory" => format!("{path}/"),
            "file" => {
                let bytes = fs::read(root.join(unescape(&path))).unwrap();
                format!("{path}={}", bytes.escape_ascii())
            }
            "symlink" => format!("{path}->{}", node.content),
            "character" if node.content == "0" => format!("{path} gone"),
            "character" | "block" => format!("{path} {} {}", node.kind, numbers()),
            other => format!("{path} {other}"),
        };
        if node.mode & 0o7000 != 0 {
            line += &format!(" {:o}", node.mode);
        }
        for (name, value) in &node.xattrs {
            let opaque = name == Overlay::Trusted.opaque() && value == "y";
            line += &if opaque { " opaque".to_owned() } else { format!(" {name}={value}") };
        }
        lines.push(line);
    }
    lines.sort();
    lines
}

/// The bytes of an escaped path: only what the tests have in names.
fn unescape(path: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, next)) = rest.split_first() {
        let (byte, next) = match (byte, next) {
            (b'\\', [b'x', digits @ ..]) => {
                let hex = std::str::from_utf8(&digits[..2]).unwrap();
                (u8::from_str_radix(hex, 16).unwrap(), &digits[2..])
            }
            (b'\\', [b'n', next @ ..]) => (b'\n', next),
            _ => (byte, next),
        };
        bytes.push(byte);
        rest = next;
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// Runs a part of a test in a mount namespace of its own: whatever it mounts is gone when it ends.
pub fn in_own_mounts(act: impl FnOnce() + Send) {
    use nix::sched::{CloneFlags, unshare};
    use rustix::mount::{MountPropagationFlags, mount_change};
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        act();
    };
    let result = std::thread::scope(|scope| scope.spawn(inside).join());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
