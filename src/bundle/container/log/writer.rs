//! Writes a log, in the monitor: one buffer, no allocation for a line, no thread. Its caller reads from the
//! container in large pieces, each of which is in the file when `write` comes back.
//!
//! **A full disk does not stop the container.** What does not fit is counted and let go, but for the rest of the
//! record that is half in the file: it comes first when there is room again, then a record that says how much is
//! missing, then what follows.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::record::{HEAD, Record, Stamp, Stream, stamp};

/// How large a log may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of one file.
    pub max_size: u64,
    /// Most files; one at least.
    pub max_file: u32,
}

/// Most that one record has of a line, as Docker and the CRI have it.
const CHUNK: usize = 16 << 10;
/// So much is written at once.
const BUFFER: usize = 64 << 10;
/// What is kept beyond the limits at least for a reader who is about to open it.
const HELD: u64 = 16 << 20;

/// An open log.
pub struct Writer {
    dir: OwnedFd,
    limits: Limits,
    number: u64,
    oldest: u64,
    file: File,
    /// Bytes in the file.
    size: u64,
    /// Records that go into the file next. Empty between calls, but for the rest of a torn one.
    buffer: Vec<u8>,
    /// Whether the buffer begins in the middle of a record.
    torn: bool,
    /// Bytes of the program's that are in no record, and that none has told of.
    lost: u64,
}

impl Writer {
    /// Opens the log in a directory, which is made where it is missing, and goes on with it. A record that was torn
    /// when the last writer was killed ends here.
    pub fn open(dir: &Path, limits: Limits) -> io::Result<Self> {
        match rustix::fs::mkdir(dir, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let dir = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let numbers = super::numbers(&dir)?;
        let number = numbers.last().copied().unwrap_or(1);
        let file = create(&dir, number)?;
        let mut writer = Self {
            limits: Limits { max_file: limits.max_file.max(1), ..limits },
            number,
            oldest: numbers.first().copied().unwrap_or(1),
            size: file.metadata()?.len(),
            dir,
            file,
            buffer: Vec::with_capacity(BUFFER),
            torn: false,
            lost: 0,
        };
        let mut last = [b'\n'];
        if writer.size > 0 {
            rustix::io::pread(&writer.file, &mut last, writer.size - 1)?;
        }
        if last != *b"\n" {
            writer.buffer.push(b'\n');
            writer.torn = true;
            writer.flush();
        }
        // The limits may be lower than they were.
        writer.remove_old();
        Ok(writer)
    }

    /// Takes down what a program has written. A line that has not ended yet is there at once as well.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let stamp = stamp(Timestamp::now());
        if !self.recover(&stamp) {
            self.lost += bytes.len() as u64;
            return;
        }
        while !bytes.is_empty() {
            let piece = &bytes[..bytes.len().min(CHUNK)];
            let (content, full) = match memchr::memchr(b'\n', piece) {
                Some(end) => (&piece[..end], true),
                None => (piece, false),
            };
            if !self.put(&Record { stamp: &stamp, stream, full, content }) {
                self.lost += bytes.len() as u64;
                return;
            }
            bytes = &bytes[content.len() + usize::from(full)..];
        }
        self.flush();
    }

    /// Puts a record into the buffer, and the buffer into a file where one of the two is full.
    fn put(&mut self, record: &Record<'_>) -> bool {
        let more = HEAD + record.content.len() + 1;
        let in_file = self.size + self.buffer.len() as u64;
        if in_file > 0 && in_file + more as u64 > self.limits.max_size {
            if !self.flush() || self.rotate().is_err() {
                return false;
            }
        } else if self.buffer.len() + more > BUFFER && !self.flush() {
            return false;
        }
        record.put(&mut self.buffer);
        true
    }

    /// Writes the buffer to the file. Whether all of it is there.
    fn flush(&mut self) -> bool {
        let mut done = 0;
        while done < self.buffer.len() {
            match rustix::io::write(&self.file, &self.buffer[done..]) {
                Ok(count) => {
                    done += count;
                    self.size += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.give_up(done);
                    return false;
                }
            }
        }
        self.buffer.clear();
        self.torn = false;
        true
    }

    /// Keeps the rest of the record that is half in the file, lets go of those behind it.
    fn give_up(&mut self, done: usize) {
        self.torn = if done == 0 { self.torn } else { self.buffer[done - 1] != b'\n' };
        let rest = if self.torn {
            memchr::memchr(b'\n', &self.buffer[done..]).map_or(self.buffer.len(), |end| done + end + 1)
        } else {
            done
        };
        let records = self.buffer[rest..].split(|&byte| byte == b'\n').filter_map(Record::parse);
        self.lost += records.map(|it| it.written()).sum::<u64>();
        self.buffer.truncate(rest);
        self.buffer.drain(..done);
    }

    /// Where something did not fit before: whether there is room for it now.
    fn recover(&mut self, stamp: &Stamp) -> bool {
        if self.buffer.is_empty() && self.lost == 0 {
            return true;
        }
        if !self.flush() {
            return false;
        }
        let lost = self.lost;
        if lost > 0 {
            let text = format!("bundle: {lost} bytes of output are missing here: they could not be written");
            Record { stamp, stream: Stream::Stderr, full: true, content: text.as_bytes() }.put(&mut self.buffer);
            let whole = self.flush();
            // Our own words are no loss; they are said when a part of them is there.
            self.lost = if whole || self.torn { 0 } else { lost };
            return whole;
        }
        true
    }

    /// Begins the next file. The old one is whole by then: who sees the new one may leave the old one.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = create(&self.dir, self.number + 1)?;
        self.number += 1;
        self.size = 0;
        self.remove_old();
        Ok(())
    }

    /// Removes what is too much, from the oldest on. A reader who follows holds a lock on the newest file that it
    /// has open until it has opened the next: files from there on stay for the moment, but not without end.
    fn remove_old(&mut self) {
        let all = self.limits.max_size.saturating_mul(self.limits.max_file.into());
        while self.number - self.oldest >= self.limits.max_file.into() {
            let too_many = self.number + 1 - self.oldest - u64::from(self.limits.max_file);
            let held = too_many.saturating_mul(self.limits.max_size) <= all.max(HELD);
            if held && self.is_locked(self.oldest) {
                return;
            }
            let _ = rustix::fs::unlinkat(&self.dir, self.oldest.to_string(), AtFlags::empty());
            self.oldest += 1;
        }
    }

    fn is_locked(&self, number: u64) -> bool {
        let Ok(Some(file)) = super::open(&self.dir, number) else { return false };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
    }
}

fn create(dir: impl AsFd, number: u64) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, number.to_string(), flags, Mode::RUSR | Mode::WUSR)?.into())
}
