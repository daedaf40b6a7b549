//! Extended headers of tar entries: the records of POSIX.1-2001 (pax, "pax Extended Header"), with what
//! GNU tar (sparse files) and star (extended attributes) add to them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rustix::fs::Timespec;

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What extended headers say of an entry. What is absent is as the plain header has it.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The name.
    pub path: Option<Vec<u8>>,
    /// The target of a link.
    pub link: Option<Vec<u8>>,
    /// The bytes in the archive.
    pub size: Option<u64>,
    /// The owner.
    pub uid: Option<u64>,
    /// The group.
    pub gid: Option<u64>,
    /// When the content changed.
    pub mtime: Option<Timespec>,
    /// When it was read.
    pub atime: Option<Timespec>,
    /// Names and values, which may be any bytes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// GNU tar's sparse files.
    pub sparse: Sparse,
}

/// GNU tar's records of a sparse file (its manual, "Storing Sparse Files"): formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    /// 1.0 has its map in front of the data.
    pub version: (u64, u64),
    /// The true name; `path` is one for archivers that know nothing of sparse files.
    pub name: Option<Vec<u8>>,
    /// The size when unpacked.
    pub size: Option<u64>,
    /// Offsets and lengths, one after the other: formats 0.0 and 0.1.
    pub map: Vec<u64>,
}

impl Records {
    /// Takes the records of one more header, `LENGTH KEY=VALUE\n` each; later ones win, an empty value takes
    /// an earlier one back. (Only of an extended attribute is empty a value: GNU tar writes such.)
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        // A header's own map is not a continuation of another's.
        self.sparse.map.clear();
        while !bytes.is_empty() {
            // Some archivers fill the header up to its block.
            if bytes.iter().all(|&byte| byte == 0) {
                break;
            }
            let (record, rest) = split(bytes).context("a record of an extended header is malformed")?;
            bytes = rest;
            let at = record.iter().position(|&byte| byte == b'=').context("a record of an extended header has no =")?;
            let (key, value) = (&record[..at], &record[at + 1..]);
            self.take(key, value).with_context(|| format!("the extended header's record {}", super::shown(key)))?;
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() || name.contains(&0) || name.len() > 255 {
                bail!("is no name of an extended attribute");
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" => self.mtime = time(value)?,
            b"atime" => self.atime = time(value)?,
            b"GNU.sparse.major" => self.sparse.version.0 = number(value)?.unwrap_or(0),
            b"GNU.sparse.minor" => self.sparse.version.1 = number(value)?.unwrap_or(0),
            b"GNU.sparse.name" => self.sparse.name = text(value)?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = number(value)?,
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.extend(number(value)?),
            b"GNU.sparse.map" => {
                for part in value.split(|&byte| byte == b',') {
                    self.sparse.map.push(number(part)?.context("an empty number in the map of a sparse file")?);
                }
            }
            // Comments, names of users and groups, the time of the last change of the inode, and what others
            // may have added: nothing that an unpacked layer holds.
            _ => {}
        }
        Ok(())
    }

    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        let names = [&self.path, &self.link, &self.sparse.name].into_iter().flatten().map(Vec::len);
        xattrs + names.sum::<usize>() + self.sparse.map.len() * 8
    }
}

/// The first record, without its length and end of line, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // The largest header has a length of seven digits.
    let space = bytes.iter().take(8).position(|&byte| byte == b' ')?;
    let length = digits(&bytes[..space])? as usize;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    Some((&bytes[space + 1..length - 1], &bytes[length..]))
}

/// A decimal number.
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        bail!("holds a NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn number(value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() {
        return Ok(None);
    }
    Ok(Some(digits(value).with_context(|| format!("{} is no number", super::shown(value)))?))
}

/// Seconds since 1970 with a fraction, negative before: what is finer than a nanosecond is cut off.
fn time(value: &[u8]) -> Result<Option<Timespec>> {
    if value.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{} is no time", super::shown(value));
    let (negative, rest) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let (whole, fraction) = match rest.iter().position(|&byte| byte == b'.') {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &b""[..]),
    };
    let seconds = digits(whole).and_then(|it| i64::try_from(it).ok()).with_context(wrong)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        bail!(wrong());
    }
    let nanoseconds = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = nanoseconds.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Ok(Some(match (negative, nanoseconds) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanoseconds },
    }))
}

/// One record as it stands in a header. Its length counts its own digits.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// A time as `time` reads it, without a fraction where there is none.
pub fn time_text(time: Timespec) -> String {
    let (seconds, nanoseconds) = match (time.tv_sec, time.tv_nsec) {
        (seconds, 0) => return seconds.to_string(),
        (seconds, nanoseconds) if seconds < 0 => (-(seconds + 1), 1_000_000_000 - nanoseconds),
        both => both,
    };
    let sign = if time.tv_sec < 0 { "-" } else { "" };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        for length in [0, 1, 85, 86, 87, 88, 89, 90, 985, 986, 987, 988, 989, 990, 5000] {
            let bytes = record(b"path", &vec![b'x'; length]);
            assert!(bytes.starts_with(format!("{} ", bytes.len()).as_bytes()), "{length}");
            let mut records = Records::default();
            records.read(&[&bytes[..], &record(b"SCHILY.xattr.user.a=", b"=\n\0\xff")].concat()).unwrap();
            assert_eq!(records.path.map_or(0, |it| it.len()), length);
            assert_eq!(records.xattrs[&b"user.a"[..]], b"==\n\0\xff");
        }
        let mut records = Records::default();
        records.read(&[record(b"uid", b"7"), record(b"uid", b""), record(b"gid", b"8"), vec![0; 9]].concat()).unwrap();
        assert_eq!((records.uid, records.gid), (None, Some(8)));
    }

    #[test]
    fn times_come_back() {
        for (text, sec, nsec) in [
            ("0", 0, 0),
            ("-1", -1, 0),
            ("1.5", 1, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("-0.25", -1, 750_000_000),
            ("1700000000.123456789", 1_700_000_000, 123_456_789),
        ] {
            let read = time(text.as_bytes()).unwrap().unwrap();
            assert_eq!((read.tv_sec, read.tv_nsec), (sec, nsec), "{text}");
            assert_eq!(time_text(read), text);
        }
        assert_eq!(time(b"1.9999999999").unwrap().unwrap().tv_nsec, 999_999_999);
        for bad in ["", "-", ".5", "1.x", "1e3", "99999999999999999999", "1 ", "+1"] {
            assert!(time(bad.as_bytes()).map_or(true, |it| it.is_none()), "{bad}");
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b\n",
            b"99 a=b\n",
            b"4 a=\n",
            b"0 a=b\n",
            b"-6 a=b\n",
            b"6 a=bx",
            b"5 ab\n",
            b"3 =\n",
            b"99999999999999999999 a=b\n",
            &record(b"path", b"a\0b"),
            &record(b"size", b"-1"),
            &record(b"size", b"18446744073709551616"),
            &record(b"SCHILY.xattr.", b"x"),
            &record(b"GNU.sparse.map", b"1,"),
        ] {
            assert!(Records::default().read(bad).is_err(), "{:?}", bad.escape_ascii().to_string());
        }
    }
}
