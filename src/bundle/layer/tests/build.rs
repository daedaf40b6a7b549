//! Archives made by hand, also such as no archiver makes.

use ::tar::{EntryType, Header};

use super::super::pax::record;

/// An archive in memory.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// Any header, with a checksum that fits, and data.
    pub fn raw(mut self, header: &mut Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.data(data)
    }

    /// Bytes, filled up to a block.
    pub fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A header of any type.
    pub fn entry(self, kind: u8, name: impl AsRef<[u8]>, link: impl AsRef<[u8]>, data: &[u8]) -> Self {
        self.raw(&mut header(kind, name.as_ref(), link.as_ref(), data.len() as u64), data)
    }

    /// A file that holds a text.
    pub fn file(self, name: impl AsRef<[u8]>, text: &str) -> Self {
        self.entry(b'0', name, "", text.as_bytes())
    }

    /// A directory of mode 0755.
    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.raw(header(b'5', name.as_ref(), b"", 0).set_mode_to(0o755), b"")
    }

    /// A symbolic link.
    pub fn link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(b'2', name, target, b"")
    }

    /// A hard link.
    pub fn hard(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(b'1', name, target, b"")
    }

    /// A device.
    pub fn device(self, kind: u8, name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        let mut header = header(kind, name.as_ref(), b"", 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.raw(&mut header, b"")
    }

    /// An extended header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let bytes: Vec<u8> = records.iter().flat_map(|(key, value)| record(key.as_bytes(), value)).collect();
        self.entry(b'x', "PaxHeaders/x", "", &bytes)
    }

    /// The archive with its end.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A header of root's, mode 0644, of 1970.
pub fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

trait SetMode {
    fn set_mode_to(&mut self, mode: u32) -> &mut Self;
}

impl SetMode for Header {
    fn set_mode_to(&mut self, mode: u32) -> &mut Self {
        self.set_mode(mode);
        self
    }
}
