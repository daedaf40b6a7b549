//! Reads a log, from its last lines on if asked, and goes on while it is written if asked.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::inotify::WatchFlags;

use super::follow::{self, Collector};
use super::record::{Record, Stamp, Stream, stamp};
use super::tail::{self, Position};

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Wait for more, until the container has ended.
    pub follow: bool,
    /// Only so many lines from the end, of both streams together.
    pub tail: Option<u64>,
    /// Only lines that begin at this time or later.
    pub since: Option<Timestamp>,
    /// Only lines that begin at this time or before.
    pub until: Option<Timestamp>,
    /// Each line's time in front of it.
    pub timestamps: bool,
    /// Only what came this way.
    pub only: Option<Stream>,
}

/// How long it takes at most to see that a container has ended, where nothing is written in its directory.
const PATIENCE: Duration = Duration::from_secs(1);
/// Larger than any record.
const BUFFER: usize = 128 << 10;

/// Reads the log in a directory: the standard output's lines go to `out`, the standard error's to `err`. `ended`
/// says whether nobody writes it any more; what was written before is still read. A reader of ours who has gone
/// away ends it in silence.
pub fn read(
    dir: &Path,
    options: &Options,
    out: &mut dyn Write,
    err: &mut dyn Write,
    ended: &mut dyn FnMut() -> bool,
) -> io::Result<()> {
    let mut printer = Printer::new(options, out, err);
    match read_to(dir, options, &mut printer, ended).and_then(|()| printer.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn read_to(
    path: &Path,
    options: &Options,
    printer: &mut Printer<'_>,
    ended: &mut dyn FnMut() -> bool,
) -> io::Result<()> {
    let Some(dir) = wait_for(path, options.follow, ended)? else { return Ok(()) };
    let mut files = follow::snapshot(&dir)?;
    if let Some(count) = options.tail {
        printer.begin = tail::begin(&files, count, |record| printer.wants(record))?;
    }
    let begin = printer.begin[0].min(printer.begin[1]);
    let collector = if options.follow { Some(Collector::start(rustix::io::dup(&dir)?, files.last())?) } else { None };
    let newest = files.last().map_or(0, |it| it.number);
    files.retain(|it| it.number >= begin.0 && (it.number == newest || !is_older(&it.file, options.since)));
    let mut cursor = Cursor::new();
    for file in files {
        let start = if file.number == begin.0 { begin.1 } else { 0 };
        cursor.open(file.number, file.file, start);
        cursor.drain(printer)?;
    }
    if let Some(collector) = collector {
        follow_on(&dir, path, options, collector, &mut cursor, printer, ended)?;
    }
    cursor.rest(printer)
}

/// Goes on from a file's end: with what is added to it, then with the next file.
fn follow_on(
    dir: &OwnedFd,
    path: &Path,
    options: &Options,
    mut collector: Collector,
    cursor: &mut Cursor,
    printer: &mut Printer<'_>,
    ended: &mut dyn FnMut() -> bool,
) -> io::Result<()> {
    let above = path.parent().map(follow::open_dir).transpose()?.flatten();
    let mut watched = vec![(dir, WatchFlags::MODIFY)];
    // The container's state is a file there.
    watched.extend(above.as_ref().map(|it| (it, WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::DELETE)));
    let watch = follow::watch(&watched)?;
    loop {
        // Asked first: what was written before the end is read below.
        let over = ended() || options.until.is_some_and(|until| Timestamp::now() > until);
        if over {
            collector.finish()?;
        }
        cursor.drain(printer)?;
        while let Some(next) = collector.next() {
            // Since there is a next one, this one is whole.
            cursor.drain(printer)?;
            if next.missed > 0 {
                let text = format!("bundle: {} log files were removed before they could be read\n", next.missed);
                printer.say(text.as_bytes())?;
            }
            cursor.open(next.number, next.file, 0);
            cursor.drain(printer)?;
        }
        printer.flush()?;
        if over {
            return Ok(());
        }
        follow::wait(&[&watch, collector.arrived()], Some(PATIENCE))?;
        follow::drain(&watch);
    }
}

/// The directory, which a container that has not been started may not have.
fn wait_for(path: &Path, follow: bool, ended: &mut dyn FnMut() -> bool) -> io::Result<Option<OwnedFd>> {
    loop {
        let over = !follow || ended();
        if let Some(dir) = follow::open_dir(path)? {
            return Ok(Some(dir));
        }
        if over {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether nothing was written to a file at this time or later.
fn is_older(file: &File, since: Option<Timestamp>) -> bool {
    let Some(since) = since else { return false };
    let written = file.metadata().and_then(|it| it.modified()).ok().and_then(|it| Timestamp::try_from(it).ok());
    written.is_some_and(|it| it < since)
}

/// Reads at a place of a file until the buffer is full or the file ends.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[done..], offset + done as u64))? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// How far the log has been read.
struct Cursor {
    file: Option<(u64, File)>,
    /// The place in the file of what the buffer begins with.
    offset: u64,
    buffer: Vec<u8>,
    /// So much of the buffer has been read.
    filled: usize,
}

impl Cursor {
    fn new() -> Self {
        Self { file: None, offset: 0, buffer: vec![0; BUFFER], filled: 0 }
    }

    fn open(&mut self, number: u64, file: File, offset: u64) {
        self.file = Some((number, file));
        self.offset = offset;
        self.filled = 0;
    }

    /// Prints all records to the file's end, as far as they are whole.
    fn drain(&mut self, printer: &mut Printer<'_>) -> io::Result<()> {
        let Some((number, file)) = &self.file else { return Ok(()) };
        loop {
            let count = read_at(file, &mut self.buffer[self.filled..], self.offset + self.filled as u64)?;
            if count == 0 {
                return Ok(());
            }
            self.filled += count;
            let mut done = 0;
            while let Some(length) = memchr::memchr(b'\n', &self.buffer[done..self.filled]) {
                if let Some(record) = Record::parse(&self.buffer[done..done + length]) {
                    printer.print((*number, self.offset + done as u64), &record)?;
                }
                done += length + 1;
            }
            // No record is as long as the buffer: it is none.
            if done == 0 && self.filled == self.buffer.len() {
                done = self.filled;
            }
            self.buffer.copy_within(done..self.filled, 0);
            self.filled -= done;
            self.offset += done as u64;
        }
    }

    /// Prints the record that its writer has not ended: it was killed, or is just at it.
    fn rest(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        match (&self.file, Record::parse(&self.buffer[..self.filled])) {
            (Some((number, _)), Some(record)) => {
                printer.print((*number, self.offset), &Record { full: false, ..record })
            }
            _ => Ok(()),
        }
    }
}

/// Turns records into what a person sees.
struct Printer<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// What goes next, all of it to `buffered`.
    buffer: Vec<u8>,
    buffered: Stream,
    /// The places from which on each stream is shown.
    begin: [Position; 2],
    /// Whether the last record of each stream has left its line open, and whether that line is shown.
    open: [Option<bool>; 2],
    since: Option<Stamp>,
    until: Option<Stamp>,
    timestamps: bool,
    only: Option<Stream>,
}

impl<'a> Printer<'a> {
    fn new(options: &Options, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self {
            out,
            err,
            buffer: Vec::with_capacity(BUFFER),
            buffered: Stream::Stdout,
            begin: [(0, 0); 2],
            open: [None; 2],
            since: options.since.map(stamp),
            until: options.until.map(stamp),
            timestamps: options.timestamps,
            only: options.only,
        }
    }

    /// Whether a line that begins with this record may be shown.
    fn wants(&self, record: &Record<'_>) -> bool {
        self.only.is_none_or(|it| it == record.stream) && self.until.is_none_or(|until| *record.stamp <= until)
    }

    fn print(&mut self, position: Position, record: &Record<'_>) -> io::Result<()> {
        let stream = usize::from(record.stream == Stream::Stderr);
        if position < self.begin[stream] {
            return Ok(());
        }
        let begins = self.open[stream].is_none();
        let shown = self.open[stream]
            .unwrap_or_else(|| self.wants(record) && self.since.is_none_or(|since| *record.stamp >= since));
        self.open[stream] = (!record.full).then_some(shown);
        if !shown {
            return Ok(());
        }
        if self.buffered != record.stream || self.buffer.len() + record.content.len() + 64 > BUFFER {
            self.flush()?;
            self.buffered = record.stream;
        }
        if begins && self.timestamps {
            self.buffer.extend_from_slice(record.stamp);
            self.buffer.push(b' ');
        }
        self.buffer.extend_from_slice(record.content);
        if record.full {
            self.buffer.push(b'\n');
        }
        Ok(())
    }

    /// Says something of our own.
    fn say(&mut self, text: &[u8]) -> io::Result<()> {
        self.flush()?;
        self.err.write_all(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        let to = match self.buffered {
            Stream::Stdout => &mut *self.out,
            Stream::Stderr => &mut *self.err,
        };
        to.write_all(&self.buffer)?;
        self.buffer.clear();
        to.flush()
    }
}
