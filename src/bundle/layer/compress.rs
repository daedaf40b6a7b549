//! What a layer is wrapped in: gzip (RFC 1952), zstd (RFC 8878) or nothing.
//!
//! Both directions work on streams with buffers of a fixed size, so a hostile stream cannot make them
//! take more memory: gzip's window is 32 KiB, and a zstd frame that asks for a window above 128 MiB,
//! which is also the limit of zstd's own tools without `--long`, is refused.

use std::io::{self, BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, bail};
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

/// What is read and written at once, in bytes.
const BUFFER: usize = 128 << 10;
/// The largest window of a zstd frame, as a power of two.
const ZSTD_WINDOW: u32 = 27;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar archive.
    None,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream say. Formats that layers may not have are named in the error.
    fn of(start: &[u8]) -> Result<Self> {
        let skippable = |it: &[u8]| it.len() >= 4 && it[0] & 0xf0 == 0x50 && it[1..4] == [0x2a, 0x4d, 0x18];
        let other = match start {
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Self::Zstd),
            it if skippable(it) => return Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => "bzip2",
            [0xfd, b'7', b'z', b'X', b'Z', 0] => "xz",
            [b'P', b'K', 3, 4, ..] => "zip",
            [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
            [0x1f, 0x9d, ..] => "compress (.Z)",
            _ => return Ok(Self::None),
        };
        bail!("it is compressed with {other}; archives and layers are read plain, or compressed with gzip or zstd")
    }
}

/// Says by its first bytes how a stream is compressed, and gives the plain bytes. The stream is read to
/// its end, so that whoever counts or hashes it sees every byte: zeros after the last gzip member are
/// padding (RFC 1952 does not forbid it, tapes and some archivers do it), anything else there is an error.
pub fn decoder<'a>(mut stream: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let mut start = Vec::with_capacity(6);
    stream.by_ref().take(6).read_to_end(&mut start).context("cannot read the layer")?;
    let compression = Compression::of(&start)?;
    let whole = io::Cursor::new(start).chain(stream);
    let plain: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => {
            let member = GzDecoder::new(BufReader::with_capacity(BUFFER, whole));
            Box::new(Gzip { member: Some(member) })
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, whole))?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    };
    Ok((compression, plain))
}

/// All members of a gzip stream, one after the other.
struct Gzip<R> {
    /// None once the end has been seen.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(to)?;
            if count > 0 || to.is_empty() {
                return Ok(count);
            }
            let Some(member) = self.member.take() else { break };
            let mut rest = member.into_inner();
            match rest.fill_buf()? {
                [] => {}
                [0, ..] => only_zeros(&mut rest)?,
                _ => self.member = Some(GzDecoder::new(rest)),
            }
        }
        Ok(0)
    }
}

fn only_zeros(rest: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = rest.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is more behind the end of the gzip data"));
        }
        let count = bytes.len();
        rest.consume(count);
    }
}

/// Compresses what is written to it. Equal input gives equal output: gzip's header holds neither a time
/// nor a name. `finish` must be called, or the end is missing.
pub enum Encoder<W: Write> {
    /// Passes through.
    None(W),
    /// One gzip member.
    Gzip(GzEncoder<W>),
    /// One zstd frame with a checksum.
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// An encoder to `out`. Without a level: gzip's 6, zstd's 3.
pub fn encoder<W: Write>(compression: Compression, level: Option<u32>, out: W) -> Result<Encoder<W>> {
    Ok(match compression {
        Compression::None => Encoder::None(out),
        Compression::Gzip => Encoder::Gzip(GzEncoder::new(out, flate2::Compression::new(level.unwrap_or(6).min(9)))),
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out, level.unwrap_or(3).min(19) as i32)?;
            encoder.include_checksum(true)?;
            Encoder::Zstd(encoder)
        }
    })
}

impl<W: Write> Encoder<W> {
    /// Writes the end of the compressed stream and gives back what it was written to.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::None(out) => out.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = encoder(compression, None, Vec::new()).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn plain(bytes: &[u8]) -> Result<(Compression, Vec<u8>), String> {
        let (compression, mut reader) = decoder(bytes).map_err(|error| format!("{error:#}"))?;
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map_err(|error| error.to_string())?;
        Ok((compression, all))
    }

    #[test]
    fn what_was_packed_comes_out() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let once = packed(compression, &text);
            assert_eq!(once, packed(compression, &text), "equal input, equal output");
            assert_eq!(plain(&once).unwrap(), (compression, text.clone()));
            if compression == Compression::None {
                continue;
            }
            let twice = [once.clone(), packed(compression, b"more")].concat();
            assert_eq!(plain(&twice).unwrap().1, [&text[..], b"more"].concat());
            for cut in [5, 9, 100, once.len() / 2, once.len() - 1] {
                assert!(plain(&once[..cut]).is_err(), "{compression:?} cut at {cut}");
            }
            let mut broken = once.clone();
            let end = broken.len() - 3;
            broken[end] ^= 1;
            assert!(plain(&broken).is_err(), "{compression:?}: a checksum that does not fit");
            assert!(plain(&[&once[..], b"garbage"].concat()).is_err());
        }
        assert_eq!(plain(b"").unwrap(), (Compression::None, Vec::new()));
    }

    #[test]
    fn padding_and_skippable_frames_are_no_data() {
        let gzip = packed(Compression::Gzip, b"text");
        assert_eq!(plain(&[&gzip[..], &vec![0; 300_000]].concat()).unwrap().1, b"text");
        assert!(plain(&[&gzip[..], &vec![0; 300_000], b"x"].concat()).unwrap_err().contains("behind the end"));
        assert_eq!(gzip[4..8], [0; 4], "no time in the header");
        let zstd = packed(Compression::Zstd, b"text");
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], &zstd[..]].concat();
        assert_eq!(plain(&skipped).unwrap(), (Compression::Zstd, b"text".to_vec()));
    }

    #[test]
    fn a_window_that_takes_too_much_memory_is_refused() {
        // A frame header with a window descriptor of 2^28 (RFC 8878, 3.1.1.1.2), then one raw block.
        let frame = |exponent: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x00, (exponent - 10) << 3, 0x09, 0, 0, b'x'];
        assert_eq!(plain(&frame(27)).unwrap().1, b"x");
        assert!(plain(&frame(28)).is_err());
    }

    #[test]
    fn other_formats_are_named() {
        for (start, name) in [
            (&b"BZh91AY"[..], "bzip2"),
            (b"\xfd7zXZ\0\0", "xz"),
            (b"PK\x03\x04....", "zip"),
            (b"\x04\x22\x4d\x18....", "lz4"),
        ] {
            assert!(plain(start).unwrap_err().contains(name));
        }
    }
}
