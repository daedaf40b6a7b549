//! Writes tar archives: ustar (POSIX.1-1988), with extended headers (POSIX.1-2001) where a field is too small
//! and for extended attributes. Equal entries give equal bytes.

use std::io::Write;

use ::tar::{EntryType, Header};
use anyhow::{Context, Result, bail};
use rustix::fs::Timespec;

use super::fs::Xattr;
use super::pax::{record, time_text};
use super::shown;
use super::tar::BLOCK;

/// What a field of eleven octal digits holds at most, and one of seven.
const ELEVEN_DIGITS: u64 = (1 << 33) - 1;
const SEVEN_DIGITS: u64 = (1 << 21) - 1;
/// The name of an extended header, which those see who do not know such headers.
const EXTENDED_NAME: &[u8] = b"././@PaxHeader";

/// What an entry's header says.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The name; a directory's ends in a slash.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryType,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permissions, setuid, setgid and sticky.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content changed.
    pub mtime: Timespec,
    /// The bytes that follow.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, sorted.
    pub xattrs: Vec<Xattr>,
}

/// An archive in the making.
pub struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes a header; `meta.size` bytes of data are to follow.
    pub fn header(&mut self, meta: &Meta) -> Result<()> {
        let told = || format!("cannot archive {}", shown(&meta.path));
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        let mut extend = |key: &str, value: &[u8]| records.extend(record(key.as_bytes(), value));
        if !set_path(&mut header, &meta.path) {
            extend("path", &meta.path);
        }
        if !set(&mut header.as_old_mut().linkname, &meta.link) {
            extend("linkpath", &meta.link);
        }
        let mut number = |key: &str, value: u64, most: u64| {
            if value > most {
                extend(key, value.to_string().as_bytes());
            }
            if value > most { 0 } else { value }
        };
        header.set_uid(number("uid", meta.uid.into(), SEVEN_DIGITS));
        header.set_gid(number("gid", meta.gid.into(), SEVEN_DIGITS));
        header.set_size(number("size", meta.size, ELEVEN_DIGITS));
        let seconds = u64::try_from(meta.mtime.tv_sec).ok().filter(|&it| it <= ELEVEN_DIGITS);
        header.set_mtime(seconds.unwrap_or(0));
        if seconds.is_none() || meta.mtime.tv_nsec != 0 {
            extend("mtime", time_text(meta.mtime).as_bytes());
        }
        header.set_mode(meta.mode);
        header.set_entry_type(meta.kind);
        for (number, what) in [(meta.device.0, "major"), (meta.device.1, "minor")] {
            if u64::from(number) > SEVEN_DIGITS {
                bail!("{}: its device's {what} number {number} is too large for an archive", told());
            }
        }
        header.set_device_major(meta.device.0)?;
        header.set_device_minor(meta.device.1)?;
        for (name, value) in &meta.xattrs {
            let key = [b"SCHILY.xattr.", &name[..]].concat();
            if name.contains(&b'=') {
                bail!("{}: an archive cannot hold the extended attribute {}; remove it", told(), shown(name));
            }
            records.extend(record(&key, value));
        }
        if !records.is_empty() {
            let mut extended = Header::new_ustar();
            set(&mut extended.as_old_mut().name, EXTENDED_NAME);
            extended.set_entry_type(EntryType::XHeader);
            extended.set_mode(0o644);
            extended.set_uid(0);
            extended.set_gid(0);
            extended.set_mtime(0);
            extended.set_size(records.len() as u64);
            extended.set_cksum();
            self.out.write_all(extended.as_bytes())?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes()).context("cannot write the archive")
    }

    /// Writes a part of the data that a header announced.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context("cannot write the archive")
    }

    /// Fills up the last block of data of `size` bytes.
    pub fn pad(&mut self, size: u64) -> Result<()> {
        let zeros = [0; BLOCK];
        let count = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.out.write_all(&zeros[..count]).context("cannot write the archive")
    }

    /// Writes the archive's end.
    pub fn finish(mut self) -> Result<()> {
        self.out.write_all(&[0; 2 * BLOCK]).context("cannot write the archive")?;
        self.out.flush().context("cannot write the archive")
    }
}

/// Puts text in a field if it has room.
fn set(field: &mut [u8], text: &[u8]) -> bool {
    let fits = text.len() <= field.len();
    if fits {
        field[..text.len()].copy_from_slice(text);
    } else {
        // Those who do not know extended headers see the beginning.
        field.copy_from_slice(&text[..field.len()]);
    }
    fits
}

/// Puts a name in its field, or in two, which a slash parts.
fn set_path(header: &mut Header, path: &[u8]) -> bool {
    if set(&mut header.as_old_mut().name, path) {
        return true;
    }
    let Some(ustar) = header.as_ustar_mut() else { return false };
    // The last slash that leaves something behind it, and the rest fits in front.
    let slash = path.len().saturating_sub(ustar.name.len() + 1);
    let slash = (slash..path.len() - 1).find(|&at| path[at] == b'/' && at > 0 && at <= ustar.prefix.len());
    let Some(slash) = slash else { return false };
    ustar.name.fill(0);
    set(&mut ustar.prefix, &path[..slash]) && set(&mut ustar.name, &path[slash + 1..])
}
