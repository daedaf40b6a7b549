//! What is on disk: blobs by digest as an OCI image layout has them, unpacked layers, and a database
//! of what belongs to whom. This room knows no registry, no archive and no container runtime.
//!
//! ```text
//! ROOT/bundle.db       what there is; what has no row here is garbage or in the making
//! ROOT/blobs/ALG/HEX   whole blobs, put in place by rename
//! ROOT/ingest/         blobs in the making: what a broken download left is gone on with
//! ROOT/layers/NAME/    a layer's own files, for overlay
//! ROOT/containers/ID/  a container's own files
//! ROOT/volumes/NAME/   a volume's files, in `_data`
//! ROOT/caches/NAME/    what commands of builds keep for each other
//! ROOT/trash/          what the database has let go of and the disk has not yet
//! ROOT/lock            held shared by whoever makes something without a row, alone by the sweep
//! ```
//!
//! **How nothing is lost and nothing left.** Blobs and layers first come to be without rows. When all
//! of an image are there, the file system is synced, and one transaction writes the rows of the blobs,
//! the layers, the image and its name; before, it makes sure that everything which it counts on is
//! still there. So a kill at any moment leaves either no image or a whole one. What is removed goes
//! the other way: one transaction removes the rows and renames the files into the trash, which is
//! emptied afterwards, by whoever comes next if need be.

mod blobs;
pub mod check;
mod gc;
mod images;
mod layers;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use rustix::fs::{FlockOperation, Mode, OFlags};

pub use blobs::Ingest;
pub use gc::Freed;
pub use images::{Image, NewImage};
pub use layers::{Layer, NewLayer};

/// The version of the tables that this program writes (`PRAGMA user_version`).
const VERSION: i64 = 4;

/// How long others' transactions are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many pages the journal may have.
const JOURNAL_PAGES: u32 = 50;

const TABLES: &str = "
CREATE TABLE blobs(digest TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
-- An image of one platform. `digest` is its manifest's; `config` is the id that people are shown;
-- `chain` the topmost layer's, or '' without layers.
CREATE TABLE images(digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, config TEXT NOT NULL,
    chain TEXT NOT NULL, size INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
-- What an image's manifest points to, itself included.
CREATE TABLE image_blobs(image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    blob TEXT NOT NULL REFERENCES blobs, PRIMARY KEY(image, blob)) WITHOUT ROWID;
CREATE INDEX image_blobs_blob ON image_blobs(blob);
-- `target` is what a registry has under the name: the manifest, or the index that it was chosen from.
CREATE TABLE names(name TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    target TEXT NOT NULL, set_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX names_image ON names(image);
-- `size` is what the files take, `tar_size` what the layer has as a tar.
CREATE TABLE layers(chain TEXT PRIMARY KEY, parent TEXT REFERENCES layers, diff_id TEXT NOT NULL,
    dir TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, tar_size INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX layers_parent ON layers(parent);
-- Small facts, such as which program file the image of the demonstration was made of.
CREATE TABLE facts(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

/// The tables of containers and volumes.
const CONTAINERS: &str = "
-- What does not change by itself; what does is in the file `state` of the container's directory. `settings` is JSON,
-- `created` nanoseconds since 1970.
CREATE TABLE containers(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image TEXT NOT NULL,
    image_name TEXT NOT NULL, chain TEXT, settings TEXT NOT NULL, created INTEGER NOT NULL,
    remove INTEGER NOT NULL) WITHOUT ROWID;
-- `labels` and `options` are JSON.
CREATE TABLE volumes(name TEXT PRIMARY KEY, created INTEGER NOT NULL, anonymous INTEGER NOT NULL,
    labels TEXT NOT NULL, options TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE container_volumes(container TEXT NOT NULL REFERENCES containers ON DELETE CASCADE,
    volume TEXT NOT NULL REFERENCES volumes, PRIMARY KEY(container, volume)) WITHOUT ROWID;
CREATE INDEX container_volumes_volume ON container_volumes(volume);
-- Ids of the host that containers with users of their own have: `count` from `first` on, as users and as groups.
CREATE TABLE id_leases(container TEXT PRIMARY KEY REFERENCES containers ON DELETE CASCADE,
    first INTEGER NOT NULL UNIQUE, count INTEGER NOT NULL) WITHOUT ROWID;
";

/// Up to version 2 a container had one word for its network.
const FROM_2: &str = "
UPDATE containers SET settings = json_set(settings, '$.flags.network',
    json_array(coalesce(json_extract(settings, '$.flags.network'), 'none')));
";

/// Version 1 knew only containers in the foreground, which had ended.
const FROM_1: &str = "
INSERT INTO containers SELECT id, name, image, image_name, chain, json_object('command', json(command)),
    created * 1000000000, remove FROM old;
DROP TABLE old;
";

/// An open store.
pub struct Store {
    root: PathBuf,
    dir: OwnedFd,
    db: Connection,
}

/// While it is held nothing is swept that has no row yet.
pub struct Making(#[allow(dead_code)] File);

impl Store {
    /// Opens the store below a directory, which is made where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        let what = || format!("opening the store {}", root.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(root, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(rustix::io::Errno::NOENT) => {
                make_root(root).with_context(what)?;
                rustix::fs::open(root, flags, Mode::empty()).with_context(what)?
            }
            Err(error) => return Err(error).with_context(what),
        };
        let db = Connection::open(root.join("bundle.db")).with_context(what)?;
        db.busy_timeout(PATIENCE)?;
        db.pragma_update(None, "foreign_keys", true)?;
        let store = Self { root: root.to_owned(), dir, db };
        store.prepare().with_context(what)?;
        Ok(store)
    }

    /// Makes the tables of a new store; recovers what a killed collection had in hand.
    fn prepare(&self) -> Result<()> {
        let version: i64 = self.db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version > VERSION {
            bail!("it was written by a newer bundle (its version is {version}, this program knows {VERSION})");
        }
        if version < VERSION {
            // One at a time: the change of the journal's mode does not wait for others.
            let file = self.lock_file()?;
            retry(|| rustix::fs::flock(&file, FlockOperation::LockExclusive)).context("locking the store")?;
            self.db.pragma_update(None, "journal_mode", "wal")?;
            for name in [
                "blobs",
                "blobs/sha256",
                "blobs/sha512",
                "ingest",
                "layers",
                "containers",
                "volumes",
                "caches",
                "trash",
            ] {
                // Images hold programs that make root of whoever runs them: nobody else gets at them here.
                match rustix::fs::mkdirat(&self.dir, name, Mode::RWXU) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error).with_context(|| format!("making {name}/")),
                }
            }
            std::fs::write(self.root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
            self.write(|transaction| {
                let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
                if version == 0 {
                    transaction.execute_batch(TABLES)?;
                    transaction.execute_batch(CONTAINERS)?;
                } else if version == 1 {
                    transaction.execute_batch("ALTER TABLE containers RENAME TO old")?;
                    transaction.execute_batch(CONTAINERS)?;
                    self.keep_statuses(transaction)?;
                    transaction.execute_batch(FROM_1)?;
                }
                if version < 3 {
                    transaction.execute_batch(FROM_2)?;
                    transaction.execute_batch(crate::network::rows::TABLES)?;
                    transaction.execute_batch(crate::network::leases::TABLES)?;
                    transaction.execute_batch(crate::network::wide::TABLES)?;
                }
                if version < 4 {
                    transaction.execute_batch(crate::build::cache::TABLES)?;
                }
                transaction.pragma_update(None, "user_version", VERSION)?;
                Ok(())
            })?;
        }
        // A loss of power may undo the last transactions, but leaves the database whole: enough for all but images.
        self.db.pragma_update(None, "synchronous", "normal")?;
        // A short journal stays for the next command, which reads it through: quicker than three waits for the disk
        // at each command's end.
        self.db.pragma_update(None, "wal_autocheckpoint", JOURNAL_PAGES)?;
        self.db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        self.recover()
    }

    /// The exit statuses that version 1 had in the database go where they are looked for now.
    fn keep_statuses(&self, transaction: &Transaction<'_>) -> Result<()> {
        let mut rows = transaction.prepare("SELECT id, exit_status FROM old WHERE exit_status IS NOT NULL")?;
        let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i32>(1)?)))?;
        for row in rows {
            let (id, status) = row?;
            let dir = self.root.join("containers").join(id);
            if dir.is_dir() {
                std::fs::write(dir.join("state"), format!(r#"{{"status":"exited","exit":{status}}}"#))?;
            }
        }
        Ok(())
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its directory, for paths below it.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The database, for what only reads.
    pub fn db(&self) -> &Connection {
        &self.db
    }

    /// What SQLite has copied from the journal into the database is overwritten only by the process that has copied it,
    /// and most commands end then. Without this each would read, and copy, a longer journal than the one before.
    fn shorten_journal(&self) {
        let length = std::fs::metadata(self.root.join("bundle.db-wal")).map_or(0, |it| it.len());
        if length > u64::from(JOURNAL_PAGES) * 4120 {
            // Nobody is waited for who reads it just now: the next command finds it as long.
            let _ = self.db.busy_timeout(Duration::ZERO);
            let _ = self.db.query_row("PRAGMA wal_checkpoint(truncate)", [], |_| Ok(()));
            let _ = self.db.busy_timeout(PATIENCE);
        }
    }

    /// Does something in one transaction that may write; it is undone where `what` fails.
    pub fn write<T>(&self, what: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let transaction = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate)
            .context("the store's database is held by another bundle for more than 30 s")?;
        let result = what(&transaction)?;
        transaction.commit().context("writing the store's database")?;
        self.shorten_journal();
        Ok(result)
    }

    /// Announces that parts of images are being made. What a killed command has left goes first: its room may be
    /// needed.
    pub fn making(&self) -> Result<Making> {
        self.sweep(false, false)?;
        self.announce()
    }

    /// Announces that things without rows are being made. Waits while a sweep is at work.
    pub fn announce(&self) -> Result<Making> {
        let file = self.lock_file()?;
        retry(|| rustix::fs::flock(&file, FlockOperation::LockShared)).context("locking the store")?;
        Ok(Making(file))
    }

    /// The lock for the sweep alone, if nobody is making anything.
    fn alone(&self) -> Result<Option<Making>> {
        let file = self.lock_file()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Making(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).context("locking the store"),
        }
    }

    fn lock_file(&self) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, "lock", flags, Mode::from_raw_mode(0o600))
            .context("opening the store's lock")?;
        Ok(File::from(file))
    }

    /// Writes out all that is in memory of the store's file system.
    pub fn sync(&self) -> Result<()> {
        let dir = rustix::fs::open(&self.root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::syncfs(dir).context("writing the store to the disk")
    }

    /// A small fact kept between commands.
    pub fn fact(&self, key: &str) -> Result<Option<String>> {
        use rusqlite::OptionalExtension;
        Ok(self.db.query_row("SELECT value FROM facts WHERE key = ?1", [key], |row| row.get(0)).optional()?)
    }
}

fn make_root(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    Ok(std::fs::DirBuilder::new().recursive(true).mode(0o711).create(root)?)
}

/// Calls again what a signal interrupted.
pub fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Twelve random characters that may stand in a file name.
pub fn random_name() -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut bytes = [0; 12];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("random bytes")?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

/// Seconds since 1970.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |it| it.as_secs() as i64)
}
