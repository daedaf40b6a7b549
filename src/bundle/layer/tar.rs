//! Reads tar archives as a stream: ustar (POSIX.1-1988), pax (POSIX.1-2001) and GNU tar's formats, with
//! every size bounded. The archive may come from anybody.
//!
//! Where archivers differ in what bytes mean, this follows Go's archive/tar, by which images are made and
//! read nearly everywhere, so that a layer means here what it means there: links, devices and directories
//! have no data whatever their size field says, and an old-style file whose name ends in a slash is a
//! directory. Two differences: global headers count, and what is not understood is an error.

use std::io::{ErrorKind, Read};

use ::tar::Header;
use anyhow::{Context, Result, bail};
use rustix::fs::Timespec;

use super::pax::{Records, digits};
use super::shown;

/// Everything in a tar archive is a multiple of this, in bytes.
pub const BLOCK: usize = 512;
/// The longest name and target of a link, in bytes: the kernel takes no longer ones (PATH_MAX).
pub const LONGEST_NAME: usize = 4096;
/// The largest header of an extension, in bytes: names, extended attributes, maps of sparse files.
const LARGEST_EXTENSION: u64 = 1 << 20;
/// What is read at once and so the most that is written at once, in bytes.
const BUFFER: usize = 256 << 10;
/// What a piece of a file has at least, if the file has as much.
const PIECE: usize = 128 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, sparse or not.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// One more name of an earlier entry.
    HardLink,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Fifo,
}

/// A piece of a sparse file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// How long, in bytes.
    pub length: u64,
}

/// One entry of an archive, its names as they stand there.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name; without NUL, up to [`LONGEST_NAME`] bytes, not checked in any other way.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target, for both kinds of links.
    pub link: Vec<u8>,
    /// Permissions with setuid, setgid and sticky; no other bits.
    pub mode: u32,
    /// The owner; never the -1 that means no change to chown(2).
    pub uid: u32,
    /// The group, likewise.
    pub gid: u32,
    /// When the content changed.
    pub mtime: Timespec,
    /// When it was read, if the archive says.
    pub atime: Option<Timespec>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// The size of a file when unpacked, in bytes.
    pub size: u64,
    /// What of a sparse file is in the archive, in order, without overlap, within `size`.
    pub extents: Option<Vec<Extent>>,
}

/// An archive in the reading.
pub struct Reader<R> {
    stream: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the current entry's data that were not handed out yet, and what fills up its last block.
    left: u64,
    padding: u64,
    global: Records,
    finished: bool,
}

impl<R: Read> Reader<R> {
    /// A reader at the first header of an archive that is not compressed.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            left: 0,
            padding: 0,
            global: Records::default(),
            finished: false,
        }
    }

    /// The next entry; what of the last one's data was not read is passed over. None at the end, which is
    /// two blocks of zeros, one before the end of the stream, or the end of the stream between two entries:
    /// archives without the blocks are common enough.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut records = self.global.clone();
        let mut long = Records::default();
        let mut extended = false;
        loop {
            let Some(header) = self.header()? else {
                if extended {
                    bail!("the archive ends behind an extended header, where its entry should be");
                }
                return Ok(None);
            };
            let size = number(&header.as_old().size).and_then(|it| u64::try_from(it).ok());
            let kind = header.entry_type().as_byte();
            match kind {
                b'x' => {
                    records = self.global.clone();
                    records.read(&self.extension(size)?)?;
                }
                b'g' => {
                    let bytes = self.extension(size)?;
                    self.global.read(&bytes)?;
                    if self.global.weight() as u64 > 2 * LARGEST_EXTENSION {
                        bail!("the archive's global headers are larger than {} MiB together", LARGEST_EXTENSION >> 19);
                    }
                    records = self.global.clone();
                }
                b'L' => long.path = Some(until_nul(&self.extension(size)?).to_vec()),
                b'K' => long.link = Some(until_nul(&self.extension(size)?).to_vec()),
                _ => {
                    records.path = records.path.or(long.path);
                    records.link = records.link.or(long.link);
                    return self.entry(&header, records).map(Some);
                }
            }
            extended = kind != b'g';
        }
    }

    /// The next bytes of the current entry's data, as they stand in the archive: at most `most`, none at its
    /// end. They stay in the buffer until the next call.
    pub fn data(&mut self, most: u64) -> Result<&[u8]> {
        let wanted = self.left.min(most);
        if wanted == 0 {
            return Ok(&[]);
        }
        let there = self.fill(wanted.min(PIECE as u64) as usize)?;
        if there == 0 {
            bail!("the archive ends in the middle of a file, {} bytes too early", self.left);
        }
        let count = wanted.min(there as u64) as usize;
        let start = self.start;
        self.start += count;
        self.left -= count as u64;
        Ok(&self.buffer[start..start + count])
    }

    /// Reads what follows the end of the archive, so that the stream is at its end too.
    pub fn drain(&mut self) -> Result<()> {
        while self.fill(1)? > 0 {
            self.start = self.end;
        }
        Ok(())
    }

    /// Has at least `least` bytes in the buffer unless the stream ends; tells how many there are.
    fn fill(&mut self, least: usize) -> Result<usize> {
        if self.end - self.start < least && self.start + least > self.buffer.len() || self.start == self.end {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < least {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read the layer"),
            }
        }
        Ok(self.end - self.start)
    }

    fn skip(&mut self, mut count: u64) -> Result<()> {
        while count > 0 {
            let there = self.fill(1)?;
            if there == 0 {
                bail!("the archive ends in the middle of an entry, {count} bytes too early");
            }
            let step = count.min(there as u64);
            self.start += step as usize;
            count -= step;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let there = self.fill(BLOCK)?;
        if there == 0 {
            return Ok(None);
        }
        let Some(block) = self.buffer[self.start..self.end].first_chunk() else {
            bail!("the archive ends in the middle of a header, after {there} bytes of it");
        };
        let block = *block;
        self.start += BLOCK;
        Ok(Some(block))
    }

    /// The next header whose checksum fits, or none at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.finished {
            return Ok(None);
        }
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        let Some(block) = self.block()? else {
            self.finished = true;
            return Ok(None);
        };
        if block == [0; BLOCK] {
            self.finished = true;
            return match self.block()? {
                Some(block) if block != [0; BLOCK] => bail!("the archive goes on behind a block of zeros"),
                _ => Ok(None),
            };
        }
        let header = Header::from_byte_slice(&block);
        let expected = number(&header.as_old().cksum);
        // Its own field counts as spaces. Old archivers added bytes as signed numbers.
        let rest = || block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]);
        let unsigned: i128 = rest().map(|&byte| i128::from(byte)).sum();
        if expected != Some(unsigned) {
            let signed: i128 = rest().map(|&byte| i128::from(byte as i8)).sum();
            if expected != Some(signed) {
                bail!("this is no tar archive, or a damaged one: the checksum of a header does not fit");
            }
        }
        Ok(Some(header.clone()))
    }

    fn extension(&mut self, size: Option<u64>) -> Result<Vec<u8>> {
        let size = size.context("the size of an extended header is no number")?;
        if size > LARGEST_EXTENSION {
            bail!("an extended header of {size} bytes is larger than {} MiB", LARGEST_EXTENSION >> 20);
        }
        (self.left, self.padding) = (size, size.wrapping_neg() % BLOCK as u64);
        let mut bytes = Vec::with_capacity(size as usize);
        while self.left > 0 {
            bytes.extend_from_slice(self.data(u64::MAX)?);
        }
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, records: Records) -> Result<Entry> {
        let sparse = records.sparse;
        let path = sparse.name.or(records.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let told = shown(&path);
        if path.len() > LONGEST_NAME {
            bail!("entry {told}: a name of {} bytes is longer than {LONGEST_NAME}", path.len());
        }
        let kind = match header.entry_type().as_byte() {
            0 if path.ends_with(b"/") => Kind::Directory,
            // A contiguous file differs in how it was to lie on disk.
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'M' => bail!("entry {told} continues on another volume; archives of several volumes are not read"),
            b'V' => bail!("entry {told} is a volume's label (tar --label), which a layer cannot hold"),
            b'D' => bail!("entry {told} is from an incremental backup, which a layer cannot be"),
            other => bail!("entry {told} is of the unknown type {:?}", char::from(other)),
        };
        let old = header.as_old();
        let field = |name: &str, bytes: &[u8]| {
            number(bytes).with_context(|| format!("entry {told}: its field {name} is no number"))
        };
        let id = |name: &str, record: Option<u64>, bytes: &[u8]| {
            let value = record.map_or_else(|| field(name, bytes), |it| Ok(i128::from(it)))?;
            // The last one means no change.
            match u32::try_from(value) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => bail!("entry {told}: the {name} {value} is out of range"),
            }
        };
        let link = match kind {
            Kind::HardLink | Kind::Symlink => {
                records.link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned())
            }
            _ => Vec::new(),
        };
        if matches!(kind, Kind::HardLink | Kind::Symlink) && (link.is_empty() || link.len() > LONGEST_NAME) {
            bail!("entry {told}: a link whose target has {} bytes; 1 to {LONGEST_NAME} it may have", link.len());
        }
        let seconds = || {
            let seconds = i64::try_from(field("mtime", &old.mtime)?);
            Ok(Timespec { tv_sec: seconds.with_context(|| format!("entry {told}: its time"))?, tv_nsec: 0 })
        };
        let mtime = records.mtime.map_or_else(seconds, anyhow::Ok)?;
        let mut device = (0, 0);
        if let (Kind::Character | Kind::Block, Some(ustar)) = (kind, header.as_ustar()) {
            device = (device_number(&ustar.dev_major, &told)?, device_number(&ustar.dev_minor, &told)?);
        } else if let (Kind::Character | Kind::Block, Some(gnu)) = (kind, header.as_gnu()) {
            device = (device_number(&gnu.dev_major, &told)?, device_number(&gnu.dev_minor, &told)?);
        }
        let mut stored = 0;
        if kind == Kind::File {
            let size = records.size.map_or_else(|| field("size", &old.size), |it| Ok(i128::from(it)))?;
            // More than a file's offsets can count is a lie, and sums with it would overflow.
            let possible = i64::try_from(size).ok().and_then(|it| u64::try_from(it).ok());
            stored = possible.with_context(|| format!("entry {told}: no file has a size of {size} bytes"))?;
        }
        (self.left, self.padding) = (stored, stored.wrapping_neg() % BLOCK as u64);
        let mut entry = Entry {
            path,
            kind,
            link,
            mode: (field("mode", &old.mode)? & 0o7777) as u32,
            uid: id("uid", records.uid, &old.uid)?,
            gid: id("gid", records.gid, &old.gid)?,
            mtime,
            atime: records.atime,
            xattrs: records.xattrs.into_iter().collect(),
            device,
            size: stored,
            extents: None,
        };
        if kind == Kind::File {
            if header.entry_type().as_byte() == b'S' {
                self.gnu_sparse(header, &mut entry)?;
            } else if sparse.version == (1, 0) {
                let size = sparse.size.with_context(|| format!("entry {told}: a sparse file without its size"))?;
                let numbers = self.map_in_data().with_context(|| format!("entry {told}"))?;
                self.sparse(&mut entry, size, &numbers)?;
            } else if let (Some(size), false) = (sparse.size, sparse.map.is_empty()) {
                self.sparse(&mut entry, size, &sparse.map)?;
            }
        }
        Ok(entry)
    }

    /// GNU tar's old format: four extents in the header, 21 in each block that follows it.
    fn gnu_sparse(&mut self, header: &Header, entry: &mut Entry) -> Result<()> {
        let told = shown(&entry.path);
        let gnu = header.as_gnu().with_context(|| format!("entry {told}: a sparse file without GNU tar's header"))?;
        let bad = || format!("entry {told}: the map of a sparse file is malformed");
        let mut numbers = Vec::new();
        let mut take = |slots: &[::tar::GnuSparseHeader]| -> Option<()> {
            for slot in slots.iter().take_while(|slot| slot.offset[0] != 0 || slot.numbytes[0] != 0) {
                numbers.push(u64::try_from(number(&slot.offset)?).ok()?);
                numbers.push(u64::try_from(number(&slot.numbytes)?).ok()?);
            }
            Some(())
        };
        take(&gnu.sparse).with_context(bad)?;
        let mut more = gnu.isextended[0] == 1;
        let mut blocks = 0;
        while more {
            blocks += 1;
            if blocks * BLOCK as u64 > LARGEST_EXTENSION {
                bail!("entry {told}: the map of a sparse file is larger than {} MiB", LARGEST_EXTENSION >> 20);
            }
            let block = self.block()?.with_context(bad)?;
            let mut extension = ::tar::GnuExtSparseHeader::new();
            extension.as_mut_bytes().copy_from_slice(&block);
            take(&extension.sparse).with_context(bad)?;
            more = extension.isextended[0] == 1;
        }
        let size = number(&gnu.realsize).and_then(|it| u64::try_from(it).ok()).with_context(bad)?;
        self.sparse(entry, size, &numbers)
    }

    /// The map of pax format 1.0: decimal numbers, a line each, the count of extents first, filled up to a
    /// block.
    fn map_in_data(&mut self) -> Result<Vec<u64>> {
        let mut taken = 0;
        let mut numbers = Vec::new();
        let mut expected = None;
        let mut line: Vec<u8> = Vec::new();
        while expected.is_none_or(|count| (numbers.len() as u64) < count) {
            if taken >= LARGEST_EXTENSION {
                bail!("the map of a sparse file is larger than {} MiB", LARGEST_EXTENSION >> 20);
            }
            let mut block = Vec::with_capacity(BLOCK);
            while block.len() < BLOCK {
                let piece = self.data((BLOCK - block.len()) as u64)?;
                if piece.is_empty() {
                    bail!("the map of a sparse file is cut off");
                }
                block.extend_from_slice(piece);
            }
            taken += BLOCK as u64;
            for byte in block {
                if expected.is_some_and(|count| numbers.len() as u64 == count) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number = digits(&line).context("the map of a sparse file holds what is no number")?;
                line.clear();
                match expected {
                    None if number > LARGEST_EXTENSION => bail!("the map of a sparse file is too large"),
                    None => expected = Some(2 * number),
                    Some(_) => numbers.push(number),
                }
            }
        }
        Ok(numbers)
    }

    /// Checks a map against the sizes and gives it to the entry.
    fn sparse(&mut self, entry: &mut Entry, size: u64, numbers: &[u64]) -> Result<()> {
        let told = shown(&entry.path);
        let mut extents = Vec::with_capacity(numbers.len() / 2);
        let (mut end, mut stored) = (0_u64, 0_u64);
        for pair in numbers.chunks(2) {
            let &[offset, length] = pair else { bail!("entry {told}: the map of a sparse file has an odd end") };
            let next = offset.checked_add(length).filter(|&it| offset >= end && it <= size);
            end =
                next.with_context(|| format!("entry {told}: the map of a sparse file overlaps itself or its size"))?;
            stored += length;
            extents.push(Extent { offset, length });
        }
        if stored != self.left || i64::try_from(size).is_err() {
            bail!("entry {told}: the map of a sparse file counts {stored} bytes, the archive has {}", self.left);
        }
        entry.size = size;
        entry.extents = Some(extents);
        Ok(())
    }
}

fn device_number(bytes: &[u8], told: &str) -> Result<u32> {
    let value = number(bytes).and_then(|it| u32::try_from(it).ok());
    value.with_context(|| format!("entry {told}: the number of the device is none"))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// A number of a header: octal digits between spaces and NULs, none of which is 0, or GNU tar's base 256, a
/// two's complement number behind a bit that is set.
fn number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        // Bit 6 is the sign. Twelve bytes are the longest field: nothing overflows.
        let first =
            if field[0] & 0x40 != 0 { -1 << 6 | i128::from(field[0] & 0x3f) } else { i128::from(field[0] & 0x3f) };
        return Some(field[1..].iter().fold(first, |sum, &byte| sum << 8 | i128::from(byte)));
    }
    let filler = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !filler(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(filler).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0, |sum, &byte| match byte {
        b'0'..=b'7' => Some(sum << 3 | i128::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_headers() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000698\0", None),
            (b"-000644\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\x01\0\0\0\0\0\0\0", Some(1 << 56)),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }
}
