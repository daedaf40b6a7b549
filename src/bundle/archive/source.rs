//! The files of an archive or directory that is read. They come in any order, and a pipe cannot be read twice: so
//! each file goes into the store as a blob, whose digest is then known, and what is not wanted goes again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::image::Digest;
use crate::image::manifest::LARGEST_DOCUMENT;
use crate::layer::compress;
use crate::layer::tar::{Kind, Reader};
use crate::store::Store;
use crate::transfer::Limit;

/// No archive of images has more files.
const MOST_FILES: usize = 100_000;
/// How many links may lead from one to the next.
const MOST_LINKS: usize = 16;

/// Where files are read from.
pub enum Source<'a> {
    /// All is read, what is a link leads to another path.
    Archive { store: &'a Store, files: BTreeMap<String, (Digest, u64)>, links: BTreeMap<String, String> },
    /// Read as it is asked for.
    Directory { store: &'a Store, dir: OwnedFd, seen: BTreeMap<String, (Digest, u64)> },
}

impl<'a> Source<'a> {
    /// An archive, of which nothing has been read.
    pub fn archive(store: &'a Store) -> Self {
        Self::Archive { store, files: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// Reads an archive, compressed or not, to its end.
    pub fn read(&mut self, stream: impl Read, limit: Limit) -> Result<()> {
        let Self::Archive { store, files, links } = self else { return Ok(()) };
        let taken = Cell::new(0);
        let (_, plain) = compress::decoder(Counted { stream, taken: &taken })?;
        let room = Room { limit, taken: &taken, total: 0 };
        read_all(store, &mut Reader::new(plain), files, links, room)
    }

    /// Reads from a directory.
    pub fn directory(store: &'a Store, path: &std::path::Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir =
            rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self::Directory { store, dir, seen: BTreeMap::new() })
    }

    fn store(&self) -> &'a Store {
        match self {
            Self::Archive { store, .. } | Self::Directory { store, .. } => store,
        }
    }

    /// A file as a blob of the store: its digest and size.
    pub fn blob(&mut self, path: &str) -> Result<Option<(Digest, u64)>> {
        match self {
            Self::Archive { files, links, .. } => {
                let mut path = normal(path)?;
                for _ in 0..MOST_LINKS {
                    if let Some(found) = files.get(&path) {
                        return Ok(Some(found.clone()));
                    }
                    let Some(target) = links.get(&path) else { return Ok(None) };
                    path.clone_from(target);
                }
                bail!("{path}: too many links")
            }
            Self::Directory { store, dir, seen } => {
                if let Some(found) = seen.get(path) {
                    return Ok(Some(found.clone()));
                }
                let Some(mut file) = open_below(dir, path)? else { return Ok(None) };
                let mut spool = store.spool()?;
                std::io::copy(&mut file, &mut spool).with_context(|| format!("reading {path}"))?;
                let found = spool.keep()?;
                seen.insert(path.to_owned(), found.clone());
                Ok(Some(found))
            }
        }
    }

    /// Opens a blob that [`Self::blob`] has given.
    pub fn open(&self, digest: &Digest) -> Result<File> {
        self.store().blob(digest)
    }

    /// A small file in memory.
    pub fn document(&mut self, path: &str) -> Result<Option<Vec<u8>>> {
        let mut file = match self {
            Self::Archive { .. } => match self.blob(path)? {
                Some((digest, _)) => self.store().blob(&digest)?,
                None => return Ok(None),
            },
            Self::Directory { dir, .. } => match open_below(dir, path)? {
                Some(file) => file,
                None => return Ok(None),
            },
        };
        let mut bytes = Vec::new();
        Read::by_ref(&mut file)
            .take(LARGEST_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading {path}"))?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            bail!("{path}: more than {LARGEST_DOCUMENT} bytes");
        }
        Ok(Some(bytes))
    }

    /// Lets go of the blobs that no image has taken. The caller makes nothing any more.
    pub fn discard(self) {
        let (store, files) = match self {
            Self::Archive { store, files, .. } => (store, files),
            Self::Directory { store, seen, .. } => (store, seen),
        };
        store.discard_blobs(files.values().map(|it| &it.0));
    }
}

/// Counts what is read of the archive as it came, compressed or not.
struct Counted<'a, R> {
    stream: R,
    taken: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.taken.set(self.taken.get() + count as u64);
        Ok(count)
    }
}

/// How large the files may be: each of them where the user has said so, else all of them by what has come of the
/// archive so far.
struct Room<'a> {
    limit: Limit,
    taken: &'a Cell<u64>,
    total: u64,
}

impl Room<'_> {
    fn take(&mut self, path: &str, file: u64, more: u64) -> Result<()> {
        self.total += more;
        let most = self.limit.bytes(self.taken.get());
        if (if self.limit.0.is_some() { file } else { self.total }) > most {
            bail!("{path}: more than {most} bytes unpacked; if you trust the archive, raise it by --max-layer-size");
        }
        Ok(())
    }
}

fn read_all(
    store: &Store,
    reader: &mut Reader<impl Read>,
    files: &mut BTreeMap<String, (Digest, u64)>,
    links: &mut BTreeMap<String, String>,
    mut room: Room<'_>,
) -> Result<()> {
    while let Some(entry) = reader.next()? {
        if files.len() + links.len() > MOST_FILES {
            bail!("the archive has more than {MOST_FILES} files: no archive of images");
        }
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        match entry.kind {
            Kind::File => {
                let path = normal(&name)?;
                let mut spool = store.spool()?;
                let mut size = 0;
                loop {
                    let bytes = reader.data(u64::MAX)?;
                    if bytes.is_empty() {
                        break;
                    }
                    size += bytes.len() as u64;
                    room.take(&path, size, bytes.len() as u64)?;
                    spool.write_all(bytes).context("writing into the store")?;
                }
                links.remove(&path);
                files.insert(path, spool.keep()?);
            }
            // Docker's archives have one layer's file under several names.
            Kind::Symlink | Kind::HardLink => {
                let path = normal(&name)?;
                let target = String::from_utf8_lossy(&entry.link).into_owned();
                let target = match (entry.kind, path.rsplit_once('/')) {
                    (Kind::Symlink, Some((dir, _))) if !target.starts_with('/') => format!("{dir}/{target}"),
                    _ => target,
                };
                files.remove(&path);
                links.insert(path, normal(&target)?);
            }
            _ => {}
        }
    }
    reader.drain()
}

/// A path without `.` and `..`, which may not lead out.
fn normal(path: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    bail!("{path:?} leads out of the archive");
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn open_below(dir: &OwnedFd, path: &str) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve) {
        Ok(file) => {
            let file = File::from(file);
            if !file.metadata()?.is_file() {
                bail!("{path}: no regular file");
            }
            Ok(Some(file))
        }
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("opening {path}")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_stay_inside() {
        for (path, wanted) in [("./a//b/", "a/b"), ("a/../b", "b"), ("/x", "x")] {
            assert_eq!(super::normal(path).unwrap(), wanted);
        }
        assert!(super::normal("../x").is_err() && super::normal("a/../../x").is_err());
    }

    #[test]
    fn files_have_as_much_room_as_has_come_of_the_archive() {
        use super::{Cell, Limit, Room};
        let taken = Cell::new(1 << 20);
        // By themselves all files together, and never less than a GiB.
        let mut room = Room { limit: Limit(None), taken: &taken, total: 0 };
        room.take("a", 1 << 29, 1 << 29).unwrap();
        room.take("b", 1 << 29, 1 << 29).unwrap();
        let error = room.take("c", 1, 1).unwrap_err().to_string();
        assert!(error.starts_with("c: more than 1073741824 bytes") && error.contains("--max-layer-size"), "{error}");
        taken.set(20 << 20);
        room.take("d", 1, 1).unwrap();
        // As the user says, each of them.
        let mut room = Room { limit: Limit(Some(10)), taken: &taken, total: 0 };
        room.take("a", 10, 10).unwrap();
        room.take("b", 10, 10).unwrap();
        assert!(room.take("b", 11, 1).is_err());
    }
}
