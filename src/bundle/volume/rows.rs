//! Which volumes there are and which containers hold them: the database's part.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::data::Data;
use super::{Mount, New, Source, options, parse};
use crate::store::Store;

/// A volume that the database knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since 1970: no two of one name are the same.
    pub created: i64,
    /// Nobody has given it a name.
    pub anonymous: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver `local`.
    pub options: BTreeMap<String, String>,
}

const COLUMNS: &str = "name, created, anonymous, labels, options";

fn volume(row: &Row<'_>) -> rusqlite::Result<Volume> {
    let map = |column: usize| -> rusqlite::Result<BTreeMap<String, String>> {
        let text: String = row.get(column)?;
        serde_json::from_str(&text).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
        })
    };
    Ok(Volume { name: row.get(0)?, created: row.get(1)?, anonymous: row.get(2)?, labels: map(3)?, options: map(4)? })
}

/// All, by name.
pub fn all(db: &Connection) -> Result<Vec<Volume>> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM volumes ORDER BY name"))?;
    let rows = statement.query_map([], volume)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The one of a name.
pub fn find(db: &Connection, name: &str) -> Result<Option<Volume>> {
    let mut statement = db.prepare_cached(&format!("SELECT {COLUMNS} FROM volumes WHERE name = ?1"))?;
    Ok(statement.query_row([name], volume).optional()?)
}

/// The names of the containers that hold a volume.
pub fn holders(db: &Connection, name: &str) -> Result<Vec<String>> {
    let mut statement = db.prepare_cached(
        "SELECT containers.name FROM container_volumes JOIN containers ON containers.id = container \
         WHERE volume = ?1 ORDER BY containers.name",
    )?;
    let rows = statement.query_map([name], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn insert(db: &Transaction<'_>, name: &str, anonymous: bool, new: &New) -> Result<()> {
    db.prepare_cached("INSERT INTO volumes VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        name,
        nanoseconds(),
        anonymous,
        serde_json::to_string(&new.labels)?,
        serde_json::to_string(&new.options)?
    ])?;
    Ok(())
}

fn nanoseconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |it| it.as_nanos() as i64)
}

/// Makes rows of the volumes that a container is the first to name, and says that it holds all of them: in the
/// transaction that registers the container. Their directories come at the first start.
pub fn claim(db: &Transaction<'_>, container: &str, mounts: &[Mount]) -> Result<()> {
    for mount in mounts {
        let Source::Volume { name, anonymous, new, .. } = &mount.source else { continue };
        match find(db, name)? {
            None => insert(db, name, *anonymous, new)?,
            Some(there) => {
                if !new.options.is_empty() && new.options != there.options {
                    bail!("volume {name} is there already, with other options: see `bundle volume inspect {name}`");
                }
                // Each container has mounts of its own, so memory cannot be the same in two of them.
                let memory = options::local(&there.options)?.is_some_and(|it| it.kind == "tmpfs");
                if let (true, Some(other)) = (memory, holders(db, name)?.first()) {
                    bail!("volume {name} is memory, and container {other} has it: two cannot share it");
                }
            }
        }
        db.prepare_cached("INSERT OR IGNORE INTO container_volumes VALUES (?1, ?2)")?.execute([container, name])?;
    }
    Ok(())
}

/// Lets go of a container's volumes, in the transaction that removes it; with `anonymous` those that have no name of
/// somebody's, and that no other container holds, go too. Call [`Store::empty_trash`] afterwards.
pub fn release(store: &Store, db: &Transaction<'_>, container: &str, anonymous: bool) -> Result<()> {
    let mut statement = db.prepare_cached("SELECT volume FROM container_volumes WHERE container = ?1")?;
    let names: Vec<String> = statement.query_map([container], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    db.prepare_cached("DELETE FROM container_volumes WHERE container = ?1")?.execute([container])?;
    for name in names {
        if let Some(volume) = find(db, &name)?
            && anonymous
            && volume.anonymous
            && holders(db, &name)?.is_empty()
        {
            delete(store, db, &volume)?;
        }
    }
    Ok(())
}

/// The row and the directory go together: what a kill leaves in the trash goes back where the row is still there.
fn delete(store: &Store, db: &Transaction<'_>, volume: &Volume) -> Result<()> {
    // What its options have mounted there is not in it.
    crate::namespace::unmount_below(&store.root().join("volumes").join(&volume.name));
    store.to_trash(&format!("volumes/{}", volume.name), &format!("volume-{}-{}", volume.created, volume.name))?;
    db.prepare_cached("DELETE FROM volumes WHERE name = ?1")?.execute([&volume.name])?;
    Ok(())
}

/// Makes a volume; one of that name with the same options is left as it is. Its name, and whether it is new.
pub fn create(store: &Store, name: Option<&str>, new: &New) -> Result<(String, bool)> {
    options::local(&new.options)?;
    let anonymous = name.is_none();
    let name = match name {
        Some(name) => parse::name(name)?.to_owned(),
        None => crate::container::random_id()?,
    };
    let made = store.write(|db| match find(db, &name)? {
        None => insert(db, &name, anonymous, new).map(|()| true),
        Some(there) if new.options.is_empty() || there.options == new.options => Ok(false),
        Some(_) => bail!("volume {name} is there already, with other options: remove it or take another name"),
    })?;
    Data::open(store, &name)?;
    Ok((name, made))
}

/// Removes a volume that no container holds. False where there is none.
pub fn remove(store: &Store, name: &str) -> Result<bool> {
    let removed = store.write(|db| {
        let Some(volume) = find(db, name)? else { return Ok(false) };
        let holders = holders(db, name)?;
        if let Some(first) = holders.first() {
            bail!("volume {name} is used by container {}: remove that first (`bundle rm {first}`)", holders.join(", "));
        }
        delete(store, db, &volume)?;
        Ok(true)
    })?;
    store.empty_trash()?;
    Ok(removed)
}

/// What a volume's files take on the disk, in bytes.
pub fn size(store: &Store, name: &str) -> Result<u64> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(store.dir(), format!("volumes/{name}"), flags, Mode::empty()) {
        Ok(dir) => Ok(crate::layer::size(dir.as_fd())?),
        // Nothing has been put there yet.
        Err(Errno::NOENT) => Ok(0),
        Err(error) => Err(error).with_context(|| format!("looking at the volume {name}")),
    }
}

/// Gives a row to a directory that has lost its own, as a loss of power can do: what is in it is somebody's.
pub fn adopt(db: &Transaction<'_>, name: &str) -> Result<()> {
    parse::name(name).context("a directory of volumes")?;
    // An id is what a volume without a name is called.
    let anonymous = name.len() == 64 && name.bytes().all(|it| it.is_ascii_hexdigit());
    insert(db, name, anonymous, &New::default())
}
