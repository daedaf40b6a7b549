//! Blobs: files named by the digest of what is in them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Store, random_name, retry};
use crate::image::Digest;
use crate::image::digest::Hasher;
use crate::image::manifest::{Descriptor, LARGEST_DOCUMENT};

/// A blob in the making, under a name that says what it shall be: another process, or a later one,
/// goes on where this one ends. Locked; dropped without [`Store::adopt`] it stays as it is.
pub struct Ingest {
    file: File,
    name: String,
    /// How much of it was there already.
    pub offset: u64,
}

impl Ingest {
    /// What is there already, from the beginning.
    pub fn begin(&self) -> Result<FromStart> {
        Ok(FromStart { file: self.file.try_clone()?, at: 0 })
    }

    /// Throws away what there is: it was not what it should have been.
    pub fn restart(&mut self) -> Result<()> {
        rustix::fs::ftruncate(&self.file, 0).context("emptying a broken download")?;
        self.file.seek(SeekFrom::Start(0))?;
        self.offset = 0;
        Ok(())
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).map_err(told)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads a file from its start. A place of its own: what is written to the same descriptor goes on at another one.
pub struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A blob in the making whose digest is known only at its end. Removed when dropped.
pub struct Spool<'a> {
    store: &'a Store,
    file: File,
    name: String,
    hasher: Hasher,
    size: u64,
    kept: bool,
}

impl Spool<'_> {
    /// The file, from its beginning.
    pub fn begin(&self) -> Result<FromStart> {
        Ok(FromStart { file: self.file.try_clone()?, at: 0 })
    }

    /// Puts it in place; its digest and size.
    pub fn keep(mut self) -> Result<(Digest, u64)> {
        let digest = std::mem::take(&mut self.hasher).finish();
        self.store.place(&self.name, &digest)?;
        self.kept = true;
        Ok((digest, self.size))
    }
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes).map_err(told)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = rustix::fs::unlinkat(self.store.dir(), &self.name, AtFlags::empty());
        }
    }
}

/// Says what was written, and what to do where the disk is full.
fn told(error: std::io::Error) -> std::io::Error {
    use std::io::ErrorKind::{Interrupted, QuotaExceeded, StorageFull};
    let help = match error.kind() {
        // Tried again by whoever writes.
        Interrupted => return error,
        StorageFull | QuotaExceeded => "; make room, for example by `bundle prune`",
        _ => "",
    };
    std::io::Error::new(error.kind(), format!("writing to the store: {error}{help}"))
}

/// Where a blob lies below the store's directory.
pub fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

impl Store {
    /// Whether a blob is there whole. One of another length than the descriptor's is an error of the descriptor.
    pub fn has_blob(&self, wanted: &Descriptor) -> Result<bool> {
        match rustix::fs::statat(self.dir(), path(&wanted.digest), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_size as u64 == wanted.size => Ok(true),
            Ok(stat) => bail!(
                "blob {}: it has {} bytes, and {} are said of it; `bundle store check` says which is wrong",
                wanted.digest,
                stat.st_size,
                wanted.size
            ),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("blob {}", wanted.digest)),
        }
    }

    /// Whether the database knows a blob: only such a one was whole and synced when it was last seen.
    pub fn knows_blob(&self, digest: &Digest) -> Result<bool> {
        Ok(self.db().prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?.exists([digest.as_str()])?)
    }

    /// Opens a blob to read.
    pub fn blob(&self, digest: &Digest) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(self.dir(), path(digest), flags, Mode::empty()).with_context(|| {
            format!(
                "blob {digest} is missing from the store; pull or load its image again, or see `bundle store check`"
            )
        })?;
        Ok(File::from(file))
    }

    /// A small blob in memory, verified.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.blob(digest)?
            .take(LARGEST_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading blob {digest}"))?;
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            bail!("blob {digest} is damaged: `bundle store check --repair`, then pull or load its image again");
        }
        Ok(bytes)
    }

    /// Puts a small blob in place.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let mut spool = self.spool()?;
        spool.write_all(bytes).context("writing a blob")?;
        Ok(spool.keep()?.0)
    }

    /// A blob whose digest will be known at its end.
    pub fn spool(&self) -> Result<Spool<'_>> {
        let name = format!("ingest/new-{}", random_name()?);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.dir(), &name, flags, Mode::from_raw_mode(0o644))
            .context("making a file in the store")?;
        Ok(Spool { store: self, file: file.into(), name, hasher: Hasher::default(), size: 0, kept: false })
    }

    /// The blob in the making of a digest, alone: waits while another process has it.
    pub fn ingest(&self, wanted: &Descriptor) -> Result<Ingest> {
        let name = format!("ingest/{}-{}", wanted.digest.algorithm(), wanted.digest.hex());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            let file: OwnedFd = rustix::fs::openat(self.dir(), &name, flags, Mode::from_raw_mode(0o644))
                .context("making a file in the store")?;
            retry(|| rustix::fs::flock(&file, FlockOperation::LockExclusive)).context("locking a download")?;
            // Whoever had the lock may have put the file in its place: then this is no longer ours to write.
            let ours = rustix::fs::fstat(&file)?;
            match rustix::fs::statat(self.dir(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {}
                _ => continue,
            }
            let mut ingest = Ingest { file: file.into(), name, offset: ours.st_size as u64 };
            if ingest.offset > wanted.size {
                ingest.restart()?;
            }
            ingest.file.seek(SeekFrom::End(0))?;
            return Ok(ingest);
        }
    }

    /// Puts a finished download in its place. Its caller has computed the digest of every byte.
    pub fn adopt(&self, ingest: Ingest, digest: &Digest) -> Result<()> {
        self.place(&ingest.name, digest)
    }

    /// Removes a download that is not wanted: the blob is there.
    pub fn forget(&self, ingest: Ingest) {
        let _ = rustix::fs::unlinkat(self.dir(), &ingest.name, AtFlags::empty());
    }

    fn place(&self, name: &str, digest: &Digest) -> Result<()> {
        rustix::fs::renameat(self.dir(), name, self.dir(), path(digest))
            .with_context(|| format!("putting blob {digest} in its place"))
    }
}
