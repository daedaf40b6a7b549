//! Files that the kernel makes up: of /proc, /sys and the cgroups.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, Result};

/// Large enough for most of them in one read(2).
const USUAL: usize = 8 << 10;

/// The whole of a file. Such a one has no size that could be asked for: std's way is to do so, and then
/// to begin with small reads.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    read_into(&mut text, CWD, path)?;
    Ok(text)
}

/// The same, from a directory on, in the place of what `text` holds.
pub fn read_into(text: &mut Vec<u8>, dir: impl AsFd, path: &Path) -> Result<()> {
    let file = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    text.clear();
    text.reserve(USUAL);
    loop {
        match rustix::io::read(&file, spare_capacity(text)) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => text.reserve(USUAL / 2),
            Err(error) => return Err(error),
        }
    }
}

/// A control file, to write to. musl's open(2), below std's, makes a second call for the flag that closes it.
pub fn control(path: &Path) -> std::io::Result<File> {
    Ok(openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}
