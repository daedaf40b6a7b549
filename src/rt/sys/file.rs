//! Reading what the kernel makes up as it is read: files of /proc, /sys and the cgroups.

use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, Result};

/// Large enough for most of them in one read(2).
const USUAL: usize = 8 << 10;

/// The whole of a file. Such a one has no size that could be asked for: std's way is to do so, and then
/// to begin with small reads.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(USUAL);
    loop {
        match rustix::io::read(&file, spare_capacity(&mut text)) {
            Ok(0) => return Ok(text),
            Ok(_) | Err(Errno::INTR) => text.reserve(USUAL / 2),
            Err(error) => return Err(error),
        }
    }
}
