//! The cache of steps: rows of the store's database, from a key to the layer that the step has made. A row holds its
//! layer and its blob; what has none is collected like all else.
//!
//! Of a row that was written while its layer was not yet surely on the disk the machine's start is known (`boot`):
//! after another one it counts no more. Who makes the same step at the same time waits for the other
//! ([`Claim`]): a byte of the file `build.lock`, at the key's place, which the kernel gives back whatever happens.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use rusqlite::{OptionalExtension, params};
use rustix::fs::{Mode, OFlags};

use crate::container::state::boot;
use crate::image::Digest;
use crate::image::manifest::Descriptor;
use crate::store::{Freed, Store, now};

/// The tables.
pub const TABLES: &str = "
-- What a step of a build has made. `chain` is the topmost layer behind it, '' without any; `diff_id` and the blob are
-- its own layer's, NULL where it has made none. `boot`: '' where all of it is on the disk. `created` and `used` are
-- seconds since 1970, `what` is for people.
CREATE TABLE build_cache(key TEXT PRIMARY KEY, chain TEXT NOT NULL, diff_id TEXT, blob TEXT, size INTEGER,
    media_type TEXT, boot TEXT NOT NULL, created INTEGER NOT NULL, used INTEGER NOT NULL,
    what TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX build_cache_chain ON build_cache(chain);
CREATE INDEX build_cache_blob ON build_cache(blob);
-- Directories of RUN --mount=type=cache.
CREATE TABLE build_mounts(id TEXT PRIMARY KEY, dir TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
    used INTEGER NOT NULL) WITHOUT ROWID;
";

/// How old the time of use may become before it is written anew, in seconds: not each build has to write.
const OLD: i64 = 3600;

/// What a step has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The topmost layer behind it; none where there is no layer at all.
    pub chain: Option<Digest>,
    /// Its own layer: the digest of its tar, and its blob.
    pub layer: Option<(Digest, Descriptor)>,
    /// When, in seconds since 1970.
    pub created: i64,
}

/// The step of a key, where it is known and its layer is there.
pub fn find(store: &Store, key: &Digest) -> Result<Option<Made>> {
    let sql = "SELECT chain, diff_id, blob, size, media_type, created, used FROM build_cache
        WHERE key = ?1 AND boot IN ('', ?2)
        AND (chain = '' OR EXISTS (SELECT 1 FROM layers WHERE layers.chain = build_cache.chain))";
    let row = store.db().prepare_cached(sql)?.query_row(params![key.as_str(), boot()], |row| {
        let text = |column: usize| row.get::<_, Option<String>>(column);
        Ok((text(0)?, text(1)?, text(2)?, row.get::<_, Option<i64>>(3)?, text(4)?, row.get(5)?, row.get::<_, i64>(6)?))
    });
    let Some((chain, diff_id, blob, size, media_type, created, used)) = row.optional()? else { return Ok(None) };
    let chain = chain.filter(|it| !it.is_empty()).map(|it| it.parse()).transpose()?;
    let layer = match (diff_id, blob, size, media_type) {
        (Some(diff_id), Some(blob), Some(size), Some(media_type)) => {
            let blob = Descriptor::new(&media_type, blob.parse()?, size as u64);
            if !store.has_blob(&blob)? {
                return Ok(None);
            }
            Some((diff_id.parse()?, blob))
        }
        _ => None,
    };
    if used + OLD < now() {
        store.write(|db| {
            Ok(db.execute("UPDATE build_cache SET used = ?2 WHERE key = ?1", params![key.as_str(), now()])?)
        })?;
    }
    Ok(Some(Made { chain, layer, created }))
}

/// A new layer, as the table of layers has it.
pub struct NewLayer<'a> {
    /// Its chain id.
    pub chain: &'a Digest,
    /// The one below.
    pub parent: Option<&'a Digest>,
    /// Its directory's name.
    pub dir: &'a str,
    /// What its files take, in bytes.
    pub size: u64,
    /// How long its tar is, in bytes.
    pub tar_size: u64,
}

/// Writes down what a step has made, with its layer if that is new. Whether the layer's directory is in use now: not
/// where there was the same layer already.
pub fn keep(store: &Store, keys: &[Digest], what: &str, made: &Made, new: Option<&NewLayer<'_>>) -> Result<bool> {
    store.write(|db| {
        let mut in_use = false;
        if let Some(new) = new
            && let Some((diff_id, blob)) = &made.layer
        {
            db.prepare_cached("INSERT OR IGNORE INTO blobs VALUES (?1, ?2)")?
                .execute(params![blob.digest.as_str(), blob.size as i64])?;
            let values = params![
                new.chain.as_str(),
                new.parent.map(Digest::as_str),
                diff_id.as_str(),
                new.dir,
                new.size as i64,
                new.tar_size as i64
            ];
            let sql = "INSERT OR IGNORE INTO layers VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            in_use = db.prepare_cached(sql)?.execute(values)? > 0;
        }
        let sql = "INSERT OR REPLACE INTO build_cache VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9)";
        for key in keys {
            db.prepare_cached(sql)?.execute(params![
                key.as_str(),
                made.chain.as_ref().map_or("", Digest::as_str),
                made.layer.as_ref().map(|it| it.0.as_str()),
                made.layer.as_ref().map(|it| it.1.digest.as_str()),
                made.layer.as_ref().map(|it| it.1.size as i64),
                made.layer.as_ref().map(|it| it.1.media_type.as_str()),
                boot(),
                made.created,
                what
            ])?;
        }
        Ok(in_use)
    })
}

/// All that this start of the machine has written is on the disk now: who calls has written it out.
pub fn settled(store: &Store) -> Result<()> {
    let sql = "UPDATE build_cache SET boot = '' WHERE boot = ?1";
    store.write(|db| Ok(db.execute(sql, [boot()])?)).map(drop)
}

/// The right to make a step, until it is dropped.
pub struct Claim(#[allow(dead_code)] File);

/// Waits until nobody else makes the step of a key. `stop` is asked meanwhile, and ends the wait by its error.
pub fn claim(store: &Store, key: &Digest, stop: impl Fn() -> Result<()>) -> Result<Claim> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(store.dir(), "build.lock", flags, Mode::from_raw_mode(0o600));
    let file = File::from(file.context("opening the lock of builds")?);
    // A byte of its own among 2^60; two keys of one byte only wait for each other.
    let place = i64::from_str_radix(&key.hex()[..15], 16).context("the key's place")?;
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place,
        l_len: 1,
        l_pid: 0,
    };
    loop {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => return Ok(Claim(file)),
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => {}
            Err(error) => bail!("the lock of builds (descriptor {}): {error}", file.as_raw_fd()),
        }
        stop()?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// What `builder prune` removes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prune {
    /// Also what an image of today has, and directories of cache mounts.
    pub all: bool,
    /// Only what was last used before, in seconds since 1970.
    pub before: Option<i64>,
}

/// One entry of the cache.
pub struct Entry {
    /// Its key, or the id of a cache mount.
    pub key: String,
    /// For people.
    pub what: String,
    /// Bytes on the disk.
    pub size: u64,
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970.
    pub used: i64,
    /// Whether an image has the layer anyway.
    pub shared: bool,
    /// The directory of a cache mount.
    pub dir: Option<String>,
}

/// All entries, those used last first.
pub fn entries(store: &Store) -> Result<Vec<Entry>> {
    let sql = "WITH RECURSIVE live(chain) AS (
            SELECT chain FROM images
            UNION SELECT layers.parent FROM layers JOIN live ON layers.chain = live.chain WHERE layers.parent IS NOT NULL)
        SELECT key, what, coalesce(layers.size, 0), build_cache.created, used, build_cache.chain IN (SELECT chain FROM live)
        FROM build_cache LEFT JOIN layers ON layers.chain = build_cache.chain AND build_cache.diff_id IS NOT NULL
        ORDER BY used DESC, key";
    let mut statement = store.db().prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Entry {
            key: row.get(0)?,
            what: row.get(1)?,
            size: row.get::<_, i64>(2)? as u64,
            created: row.get(3)?,
            used: row.get(4)?,
            shared: row.get(5)?,
            dir: None,
        })
    })?;
    let mut entries = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut statement = store.db().prepare("SELECT id, dir, created, used FROM build_mounts ORDER BY used DESC, id")?;
    let rows = statement.query_map([], |row| {
        Ok(Entry {
            key: row.get(0)?,
            what: "cache mount".to_owned(),
            size: 0,
            created: row.get(2)?,
            used: row.get(3)?,
            shared: false,
            dir: Some(row.get(1)?),
        })
    })?;
    for row in rows {
        let mut entry = row?;
        if let Some(dir) = &entry.dir {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            if let Ok(fd) = rustix::fs::openat(store.dir(), format!("caches/{dir}"), flags, Mode::empty()) {
                entry.size = crate::layer::size(std::os::fd::AsFd::as_fd(&fd))?;
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl Prune {
    /// Whether it takes an entry.
    pub fn takes(&self, entry: &Entry) -> bool {
        let old = self.before.is_none_or(|before| entry.used < before);
        old && (self.all || entry.dir.is_none() && !entry.shared)
    }
}

/// Removes entries, and collects what nothing leads to any more. `None` in the place of what came free: another command
/// is making something, and the next collection frees it.
pub fn remove(store: &Store, entries: &[&Entry]) -> Result<Option<Freed>> {
    store.write(|db| {
        for entry in entries {
            match &entry.dir {
                None => db.execute("DELETE FROM build_cache WHERE key = ?1", [&entry.key])?,
                Some(_) => db.execute("DELETE FROM build_mounts WHERE id = ?1", [&entry.key])?,
            };
        }
        Ok(())
    })?;
    // Rows of an earlier start of the machine lead to nothing that is surely there.
    store.write(|db| Ok(db.execute("DELETE FROM build_cache WHERE boot NOT IN ('', ?1)", [boot()])?))?;
    store.sweep(false, false)?;
    store.collect()
}
