//! Whether the store holds what its database says, and what to do where it does not.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::AsFd;

use anyhow::Result;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Store;
use crate::image::Digest;

/// A fault, in words, and what `--repair` does about it.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Fault {
    /// What it is about: a digest, a layer, an image.
    pub subject: String,
    /// What is wrong.
    #[serde(rename = "Fault")]
    pub words: String,
    /// What was done, or would be.
    pub repair: String,
    /// Whether it was done.
    pub repaired: bool,
}

impl Store {
    /// Looks at everything: the database itself, each blob against its digest, each layer's directory, each
    /// image's manifest. `each` hears of each blob's size as it is read. With `repair` what is damaged goes, and
    /// each image that needs it with its names: they are listed, to be pulled again.
    pub fn check(&self, repair: bool, each: &mut dyn FnMut(u64)) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        for line in self.integrity()? {
            faults.push(fault("the database", &line, "restore bundle.db from a backup; it cannot be repaired"));
        }
        // Whoever makes something at this moment has files without rows: only what has rows is looked at.
        let mut bad_blobs = BTreeSet::new();
        let mut statement = self.db().prepare("SELECT digest, size FROM blobs ORDER BY digest")?;
        let rows = statement.query_map([], |row| Ok((super::layers::digest(row, 0)?, row.get::<_, i64>(1)? as u64)))?;
        for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
            let (digest, size) = row;
            if let Some(words) = self.blob_fault(&digest, size)? {
                // Removed meanwhile by another command?
                if self.knows_blob(&digest)? {
                    faults.push(fault(digest.as_str(), &words, "its images are removed, to be pulled or loaded again"));
                    bad_blobs.insert(digest);
                }
            }
            each(size);
        }
        let mut bad_layers = BTreeSet::new();
        let mut statement = self.db().prepare("SELECT chain, dir, size FROM layers ORDER BY chain")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)? as u64))
        })?;
        for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
            let (chain, dir, size) = row;
            let words = match self.open_layer(&dir) {
                Err(_) => Some("its directory is missing".to_owned()),
                Ok(fd) => match tree_size(fd.as_fd()) {
                    Ok(found) if found == size => None,
                    Ok(found) => Some(format!("its files have {found} bytes, and had {size} when it was unpacked")),
                    Err(error) => Some(format!("reading it: {error:#}")),
                },
            };
            if let Some(words) = words
                && self.db().prepare_cached("SELECT 1 FROM layers WHERE chain = ?1")?.exists([&chain])?
            {
                faults.push(fault(&format!("layer {chain}"), &words, "it and what is above it are unpacked again"));
                bad_layers.insert(chain);
            }
        }
        for image in self.images()? {
            if let Err(error) = self.read(&image)
                && self.look_up(image.digest.as_str())?.is_some()
            {
                let known = bad_blobs.contains(&image.digest) || bad_blobs.contains(&image.id);
                if !known {
                    faults.push(fault(
                        &format!("image {}", image.id.short()),
                        &format!("{error:#}"),
                        "it is removed, to be pulled or loaded again",
                    ));
                    bad_blobs.insert(image.digest);
                }
            }
        }
        let unfinished = self.sweep(false, !repair)?;
        if let Some(unfinished) = unfinished.filter(|it| it.unfinished > 0) {
            let words = format!("{} directories or files that a killed command left", unfinished.unfinished);
            faults.push(Fault { repaired: repair, ..fault("the store", &words, "they are removed") });
        }
        if repair {
            self.repair(&bad_blobs, &bad_layers)?;
            for fault in &mut faults {
                fault.repaired = fault.subject != "the database";
            }
        }
        Ok(faults)
    }

    fn integrity(&self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for (query, column) in [("PRAGMA integrity_check", 0), ("PRAGMA foreign_key_check", 0)] {
            let mut statement = self.db().prepare(query)?;
            let rows = statement.query_map([], |row| row.get::<_, String>(column))?;
            lines.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().filter(|it| it != "ok"));
        }
        Ok(lines)
    }

    fn blob_fault(&self, digest: &Digest, size: u64) -> Result<Option<String>> {
        let Ok(mut file) = self.blob(digest) else { return Ok(Some("its file is missing".to_owned())) };
        let length = file.metadata()?.len();
        if length != size {
            return Ok(Some(format!("its file has {length} bytes, not {size}")));
        }
        let mut hasher = digest.hasher();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) => return Ok(Some(format!("reading its file: {error}"))),
            }
        }
        Ok((hasher.finish() != *digest).then(|| "what is in its file has another digest".to_owned()))
    }

    /// Removes rows and files of what is damaged. Layers above a damaged one go with it: all of them are unpacked
    /// again from their blobs when their image, or a container of it, is next used.
    fn repair(&self, blobs: &BTreeSet<Digest>, layers: &BTreeSet<String>) -> Result<()> {
        let mut dirs: Vec<String> = Vec::new();
        self.write(|db| {
            for digest in blobs {
                let digest = digest.as_str();
                db.execute("DELETE FROM images WHERE digest IN (SELECT image FROM image_blobs WHERE blob = ?1) OR digest = ?1", [digest])?;
            }
            for chain in layers {
                let mut statement = db.prepare_cached(
                    "WITH RECURSIVE above(chain) AS (VALUES (?1) UNION SELECT layers.chain FROM layers JOIN above ON layers.parent = above.chain)
                     DELETE FROM layers WHERE chain IN above RETURNING dir",
                )?;
                for dir in statement.query_map([chain], |row| row.get(0))? {
                    dirs.push(dir?);
                }
            }
            Ok(())
        })?;
        for dir in dirs {
            self.discard_layer(&dir);
        }
        self.collect()?;
        Ok(())
    }
}

fn fault(subject: &str, words: &str, repair: &str) -> Fault {
    Fault { subject: subject.to_owned(), words: words.to_owned(), repair: repair.to_owned(), repaired: false }
}

/// The bytes of all files of a tree, a file with several names counted at each of them.
pub fn tree_size(top: std::os::fd::BorrowedFd<'_>) -> Result<u64> {
    let mut total = 0;
    let mut paths = vec![std::ffi::CString::new(".")?];
    while let Some(path) = paths.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = match rustix::fs::openat(top, path.as_c_str(), flags, Mode::empty()) {
            // Of a container that runs: it has removed it just now.
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let mut below = path.to_bytes().to_vec();
                    below.push(b'/');
                    below.extend_from_slice(name.to_bytes());
                    paths.push(std::ffi::CString::new(below)?);
                }
                FileType::RegularFile => total += stat.st_size as u64,
                _ => {}
            }
        }
    }
    Ok(total)
}
