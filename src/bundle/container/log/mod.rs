//! What a container has written: `containers/ID/log/1`, `2`, ... The highest number is being written. Rotation
//! makes the next one and removes the oldest; nothing is ever renamed or changed, so that a reader who has a
//! file open has all of it.
//!
//! The format is the one that Kubernetes has for the logs of a CRI:
//!
//! ```text
//! 2026-11-21T17:40:00.123456789Z stdout F the line
//! ```
//!
//! with `P` in the place of `F` where the line goes on in the stream's next record, or has not ended at all. What
//! a stream has had written to it comes out byte for byte.

mod follow;
mod reader;
mod record;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Dir, Mode, OFlags};

pub use reader::{Options, read};
pub use record::Stream;
pub use writer::{Limits, Writer};

/// One file of a log.
struct Generation {
    number: u64,
    file: File,
    /// How many files were removed between the one before and this one, unseen.
    missed: u64,
}

/// The numbers of a log's files, in order.
fn numbers(dir: impl AsFd) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = Vec::new();
    for entry in Dir::read_from(dir)? {
        numbers.extend(entry?.file_name().to_str().ok().and_then(|it| it.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens one file of a log, `None` where it is gone.
fn open(dir: impl AsFd, number: u64) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match rustix::fs::openat(dir, number.to_string(), flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
