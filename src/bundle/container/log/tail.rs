//! Where the last lines of a log begin, found from its end: what is before them is not read.

use std::fs::File;
use std::io;

use super::Generation;
use super::record::{Record, Stream};

/// A record's place: file and byte.
pub type Position = (u64, u64);

const BLOCK: usize = 64 << 10;
/// Longer than any record: what has no line's end in so many bytes is not of our making.
const LONGEST: usize = 1 << 20;

/// The places from which on each stream's records belong to the last `count` lines of both together. Records that
/// `counts` refuses are no lines.
pub fn begin(files: &[Generation], count: u64, counts: impl Fn(&Record<'_>) -> bool) -> io::Result<[Position; 2]> {
    let mut search = Search { left: count, begin: [None; 2], within: [false; 2], seen: [false; 2] };
    let mut end = files.last().map_or(Ok((0, 0)), |it| it.file.metadata().map(|meta| (it.number, meta.len())))?;
    let mut first = true;
    for file in files.iter().rev() {
        let goes_on = backwards(&file.file, |offset, line| {
            // What is behind the last whole record is still being written: it comes after all of them.
            if std::mem::take(&mut first) {
                end = (file.number, offset + line.len() as u64 + 1);
            }
            match Record::parse(line) {
                Some(record) if counts(&record) => search.take((file.number, offset), &record),
                _ => true,
            }
        })?;
        if !goes_on {
            break;
        }
    }
    Ok(search.begin.map(|it| it.unwrap_or(end)))
}

struct Search {
    /// Lines that are still wanted.
    left: u64,
    begin: [Option<Position>; 2],
    /// Whether the stream's earliest record so far may be the middle of a line that is wanted.
    within: [bool; 2],
    seen: [bool; 2],
}

impl Search {
    /// Takes one record more from the end; whether there are more to take.
    fn take(&mut self, position: Position, record: &Record<'_>) -> bool {
        let stream = usize::from(record.stream == Stream::Stderr);
        let ends_line = record.full || !std::mem::replace(&mut self.seen[stream], true);
        self.seen[stream] = true;
        if ends_line {
            self.within[stream] = self.left > 0;
            self.left = self.left.saturating_sub(1);
        }
        if self.within[stream] {
            self.begin[stream] = Some(position);
        }
        self.left > 0 || self.within.contains(&true)
    }
}

/// Gives all lines of a file from its last one on, each with its place and without its end, while they are wanted.
/// What follows the last line's end is left out.
fn backwards(file: &File, mut each: impl FnMut(u64, &[u8]) -> bool) -> io::Result<bool> {
    let mut start = file.metadata()?.len();
    // Bytes of the file from `start` on, to the end of a line that has not been given.
    let mut pending: Vec<u8> = Vec::new();
    let mut at_end = true;
    while start > 0 {
        let length = start.min(BLOCK as u64);
        start -= length;
        let mut block = vec![0; length as usize];
        let read = super::reader::read_at(file, &mut block, start)?;
        block.truncate(read);
        block.append(&mut pending);
        pending = block;
        if at_end {
            let Some(end) = memchr::memrchr(b'\n', &pending) else {
                pending.clear();
                continue;
            };
            pending.truncate(end + 1);
            at_end = false;
        }
        // Each turn gives the line between the last two ends, which has to be whole.
        while let [before @ .., b'\n'] = &pending[..] {
            let begin = match memchr::memrchr(b'\n', before) {
                Some(end) => end + 1,
                None if start == 0 => 0,
                None => break,
            };
            if !each(start + begin as u64, &before[begin..]) {
                return Ok(false);
            }
            pending.truncate(begin);
        }
        if pending.len() > LONGEST {
            pending.clear();
            at_end = true;
        }
    }
    Ok(true)
}
