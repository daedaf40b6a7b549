//! One record of a log: its head has the same length always.

use std::io::Write;

use jiff::Timestamp;

/// Which of the two a program has written to. A terminal is all standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b"stdout",
            Self::Stderr => b"stderr",
        }
    }
}

/// A time as records have it: RFC 3339 in UTC with nine digits. Their order as bytes is their order in time.
pub type Stamp = [u8; 30];

/// Bytes of a record in front of what the program has written: time, stream, tag, each with a space behind it.
pub const HEAD: usize = 30 + 1 + 6 + 1 + 1 + 1;

/// One line of a log file.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was written down.
    pub stamp: &'a Stamp,
    /// By which way it came.
    pub stream: Stream,
    /// Whether the program's line ends here.
    pub full: bool,
    /// What the program wrote, without the line's end.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// A line of the file, without its end. `None` is what no writer of ours has written whole.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (head, content) = line.split_at_checked(HEAD)?;
        let (stamp, rest) = head.split_first_chunk()?;
        let (stream, full) = match rest {
            b" stdout F " => (Stream::Stdout, true),
            b" stdout P " => (Stream::Stdout, false),
            b" stderr F " => (Stream::Stderr, true),
            b" stderr P " => (Stream::Stderr, false),
            _ => return None,
        };
        (stamp[10] == b'T' && stamp[29] == b'Z').then_some(Self { stamp, stream, full, content })
    }

    /// Puts the record behind what the buffer has.
    pub fn put(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(self.stamp);
        buffer.push(b' ');
        buffer.extend_from_slice(self.stream.name());
        buffer.extend_from_slice(if self.full { b" F " } else { b" P " });
        buffer.extend_from_slice(self.content);
        buffer.push(b'\n');
    }

    /// How many bytes of the program's it stands for.
    pub fn written(&self) -> u64 {
        self.content.len() as u64 + u64::from(self.full)
    }
}

/// A time as records have it.
pub fn stamp(time: Timestamp) -> Stamp {
    let mut stamp = *b"0000-01-01T00:00:00.000000000Z";
    // Times before the year 0 and after 9999 do not fit: they stay before all records.
    let _ = write!(&mut stamp[..], "{time:.9}");
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_were_put() {
        let time: Timestamp = "2026-11-21T17:40:00.5Z".parse().unwrap();
        let stamp = stamp(time);
        assert_eq!(&stamp, b"2026-11-21T17:40:00.500000000Z");
        for (stream, full, content) in [
            (Stream::Stdout, true, &b"the line"[..]),
            (Stream::Stderr, false, b""),
            (Stream::Stdout, false, b"\0 \xff"),
        ] {
            let record = Record { stamp: &stamp, stream, full, content };
            let mut buffer = Vec::new();
            record.put(&mut buffer);
            assert_eq!(buffer.len(), HEAD + content.len() + 1);
            assert_eq!(Record::parse(&buffer[..buffer.len() - 1]), Some(record));
        }
        for bad in ["", "2026-11-21T17:40:00.500000000Z stdout F", "2026-11-21T17:40:00.500000000Z stdxxx F a", "x"] {
            assert_eq!(Record::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
