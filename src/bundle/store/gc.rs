//! What nothing leads to any more: collected when an image goes, swept when its maker is gone.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use rusqlite::Transaction;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::{Store, blobs};
use crate::image::Digest;

/// What a collection gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Freed {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Downloads that were not finished, and what a killed command left.
    pub unfinished: u64,
    /// Bytes of all of them, as far as they are known without a walk through every directory.
    pub bytes: u64,
}

impl Freed {
    /// Counts another collection in.
    pub fn add(&mut self, other: &Self) {
        self.blobs += other.blobs;
        self.layers += other.layers;
        self.unfinished += other.unfinished;
        self.bytes += other.bytes;
    }
}

/// Blobs of no image, and of no step of a build.
const DEAD_BLOBS: &str = "SELECT digest, size FROM blobs WHERE digest NOT IN (SELECT blob FROM image_blobs)
    AND digest NOT IN (SELECT blob FROM build_cache WHERE blob IS NOT NULL)";

/// Layers below no image, no container and no step of a build, the topmost first, so that no row loses its parent.
const DEAD_LAYERS: &str = "
WITH RECURSIVE live(chain) AS (
    SELECT chain FROM images UNION SELECT chain FROM containers WHERE chain IS NOT NULL
    UNION SELECT chain FROM build_cache
    UNION SELECT layers.parent FROM layers JOIN live ON layers.chain = live.chain WHERE layers.parent IS NOT NULL
), depth(chain, above) AS (
    SELECT chain, 0 FROM layers WHERE chain NOT IN (SELECT chain FROM live)
    UNION ALL SELECT layers.parent, above + 1 FROM layers JOIN depth ON layers.chain = depth.chain
        WHERE layers.parent IS NOT NULL AND layers.parent NOT IN (SELECT chain FROM live)
)
SELECT layers.chain, layers.dir, layers.size FROM layers JOIN depth ON layers.chain = depth.chain
GROUP BY layers.chain ORDER BY max(above)";

impl Store {
    /// Removes the blobs and layers that no image and no container leads to. Does nothing, and says so with `None`,
    /// while another command makes something: it may be counting on them.
    pub fn collect(&self) -> Result<Option<Freed>> {
        let Some(_alone) = self.alone()? else { return Ok(None) };
        let freed = self.write(|db| {
            let (blobs, layers) = dead(db)?;
            let mut freed = Freed::default();
            for (digest, size) in blobs {
                self.to_trash(&blobs::path(&digest), &format!("blob-{}-{}", digest.algorithm(), digest.hex()))?;
                db.prepare_cached("DELETE FROM blobs WHERE digest = ?1")?.execute([digest.as_str()])?;
                freed.blobs += 1;
                freed.bytes += size;
            }
            for (chain, dir, size) in layers {
                self.to_trash(&format!("layers/{dir}"), &format!("layer-{dir}"))?;
                db.prepare_cached("DELETE FROM layers WHERE chain = ?1")?.execute([chain])?;
                freed.layers += 1;
                freed.bytes += size;
            }
            Ok(freed)
        })?;
        self.empty_trash()?;
        Ok(Some(freed))
    }

    /// Removes blobs that were made and then not wanted, if no image has them. While another command makes something
    /// they stay, and are `prune`'s.
    pub fn discard_blobs<'a>(&self, blobs: impl IntoIterator<Item = &'a Digest>) {
        if let Ok(Some(_alone)) = self.alone() {
            for digest in blobs {
                if let Ok(false) = self.knows_blob(digest) {
                    let _ = rustix::fs::unlinkat(self.dir(), blobs::path(digest), AtFlags::empty());
                }
            }
        }
    }

    /// What [`Self::collect`] would give back now.
    pub fn collectable(&self) -> Result<Freed> {
        self.write(|db| {
            let (blobs, layers) = dead(db)?;
            Ok(Freed {
                blobs: blobs.len() as u64,
                layers: layers.len() as u64,
                unfinished: 0,
                bytes: blobs.iter().map(|it| it.1).sum::<u64>() + layers.iter().map(|it| it.2).sum::<u64>(),
            })
        })
    }

    /// Removes what killed commands left without a row: directories of layers and containers; with
    /// `downloads` also broken downloads and finished ones whose image never came to be. Does nothing, and
    /// says so with `None`, while another command makes something.
    pub fn sweep(&self, downloads: bool, dry: bool) -> Result<Option<Freed>> {
        let Some(_alone) = self.alone()? else { return Ok(None) };
        let mut freed = Freed::default();
        freed.add(&self.sweep_dir("layers", dry, |name| self.has_row("SELECT 1 FROM layers WHERE dir = ?1", name))?);
        freed.add(
            &self.sweep_dir("containers", dry, |name| self.has_row("SELECT 1 FROM containers WHERE id = ?1", name))?,
        );
        freed.add(&self.sweep_volumes(dry)?);
        freed.add(
            &self.sweep_dir("caches", dry, |name| self.has_row("SELECT 1 FROM build_mounts WHERE dir = ?1", name))?,
        );
        // A spool has no name that anybody could go on with.
        freed.add(&self.sweep_dir("ingest", dry, |name| Ok(!downloads && !name.starts_with("new-")))?);
        if downloads {
            for algorithm in ["sha256", "sha512"] {
                let keep =
                    |name: &str| self.has_row("SELECT 1 FROM blobs WHERE digest = ?1", &format!("{algorithm}:{name}"));
                freed.add(&self.sweep_dir(&format!("blobs/{algorithm}"), dry, keep)?);
            }
        }
        if !dry {
            self.empty_trash()?;
        }
        Ok(Some(freed))
    }

    /// A volume's directory without a row goes where it is empty. Else a loss of power has taken the row, and what is
    /// in it is somebody's: it gets one again.
    fn sweep_volumes(&self, dry: bool) -> Result<Freed> {
        let mut freed = Freed::default();
        for name in self.list("volumes")? {
            let known = |name: &str| self.has_row("SELECT 1 FROM volumes WHERE name = ?1", name);
            if known(&name)? || dry {
                continue;
            }
            self.write(|db| {
                if known(&name)? {
                    return Ok(());
                }
                let path = format!("volumes/{name}");
                let empty = match self.list(&format!("{path}/_data")) {
                    Ok(names) => names.is_empty(),
                    Err(_) => true,
                };
                if empty {
                    freed.unfinished += 1;
                    return self.to_trash(&path, &format!("swept-{}", super::random_name()?));
                }
                crate::volume::adopt(db, &name)
            })?;
        }
        Ok(freed)
    }

    fn sweep_dir(&self, dir: &str, dry: bool, keep: impl Fn(&str) -> Result<bool>) -> Result<Freed> {
        let mut freed = Freed::default();
        for name in self.list(dir)? {
            if keep(&name)? {
                continue;
            }
            let path = format!("{dir}/{name}");
            if let Ok(stat) = rustix::fs::statat(self.dir(), &path, AtFlags::SYMLINK_NOFOLLOW) {
                freed.bytes += stat.st_blocks as u64 * 512;
            }
            freed.unfinished += 1;
            if !dry {
                self.to_trash(&path, &format!("swept-{}", super::random_name()?))?;
            }
        }
        Ok(freed)
    }

    /// The name of `CREATED-NAME` where the very volume has a row, not a later one of its name.
    fn volume_row<'a>(&self, text: &'a str) -> Result<Option<&'a str>> {
        let Some((created, name)) = text.split_once('-') else { return Ok(None) };
        let mut statement = self.db().prepare_cached("SELECT 1 FROM volumes WHERE name = ?1 AND created = ?2")?;
        Ok(statement.exists([name, created])?.then_some(name))
    }

    fn has_row(&self, query: &str, value: &str) -> Result<bool> {
        Ok(self.db().prepare_cached(query)?.exists([value])?)
    }

    /// The names in one of the store's directories.
    pub fn list(&self, dir: &str) -> Result<Vec<String>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.dir(), dir, flags, Mode::empty())
            .with_context(|| format!("opening the store's {dir}/"))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Removes a directory of the store with all in it, at one stroke as others see it.
    pub fn remove_files(&self, path: &str) -> Result<()> {
        self.to_trash(path, &format!("swept-{}", super::random_name()?))?;
        self.empty_trash()
    }

    /// Puts something of the store into the trash: in the transaction that takes its row.
    pub fn to_trash(&self, path: &str, name: &str) -> Result<()> {
        match rustix::fs::renameat(self.dir(), path, self.dir(), format!("trash/{name}")) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("moving {path} into the trash")),
        }
    }

    /// Finishes what a killed collection began. Renames come before the transaction's end: what still
    /// has a row was not let go of and goes back.
    pub(super) fn recover(&self) -> Result<()> {
        if self.list("trash")?.is_empty() {
            return Ok(());
        }
        self.write(|_| {
            for name in self.list("trash")? {
                let back = if let Some((algorithm, hex)) = name.strip_prefix("blob-").and_then(|it| it.split_once('-'))
                {
                    let known = self.has_row("SELECT 1 FROM blobs WHERE digest = ?1", &format!("{algorithm}:{hex}"))?;
                    known.then(|| format!("blobs/{algorithm}/{hex}"))
                } else if let Some(dir) = name.strip_prefix("layer-") {
                    self.has_row("SELECT 1 FROM layers WHERE dir = ?1", dir)?.then(|| format!("layers/{dir}"))
                } else if let Some(volume) = name.strip_prefix("volume-") {
                    self.volume_row(volume)?.map(|name| format!("volumes/{name}"))
                } else {
                    None
                };
                if let Some(back) = back {
                    match rustix::fs::renameat(self.dir(), format!("trash/{name}"), self.dir(), &back) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(error) => return Err(error).with_context(|| format!("putting {back} back")),
                    }
                }
            }
            Ok(())
        })?;
        self.empty_trash()
    }

    /// Removes what is in the trash. Several may do this at once: what another one has removed is no error.
    pub fn empty_trash(&self) -> Result<()> {
        for name in self.list("trash")? {
            // A collection that is at work has renamed and not yet committed.
            let row = match name.split_once('-') {
                Some(("blob", rest)) => {
                    self.has_row("SELECT 1 FROM blobs WHERE digest = ?1", &rest.replacen('-', ":", 1))?
                }
                Some(("volume", rest)) => self.volume_row(rest)?.is_some(),
                Some(("layer", dir)) => self.has_row("SELECT 1 FROM layers WHERE dir = ?1", dir)?,
                _ => false,
            };
            if !row {
                remove_tree(self.dir(), &format!("trash/{name}")).with_context(|| format!("removing trash/{name}"))?;
            }
        }
        Ok(())
    }
}

type DeadBlob = (Digest, u64);
type DeadLayer = (String, String, u64);

fn dead(db: &Transaction<'_>) -> Result<(Vec<DeadBlob>, Vec<DeadLayer>)> {
    let mut blobs = db.prepare_cached(DEAD_BLOBS)?;
    let blobs = blobs.query_map([], |row| Ok((super::layers::digest(row, 0)?, row.get::<_, i64>(1)? as u64)))?;
    let mut layers = db.prepare_cached(DEAD_LAYERS)?;
    let layers = layers.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)? as u64)))?;
    Ok((blobs.collect::<rusqlite::Result<_>>()?, layers.collect::<rusqlite::Result<_>>()?))
}

/// Removes a file or a tree that another process may be removing too.
pub fn remove_tree(dir: BorrowedFd<'_>, path: &str) -> Result<()> {
    for _ in 0..100 {
        match crate::layer::remove::remove(dir, path.as_bytes()) {
            // The other one was quicker with something in it.
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
    }
    Ok(())
}
