//! The containers that the database knows: who they are and how they were asked for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::runtime::Runtime;
use super::{ids, state};
use crate::cli::Driver;
use crate::cli::flags::Flags;
use crate::image::config::Execution;
use crate::network;
use crate::network::rows;
use crate::network::wanted::{USUAL, Wanted, wanted};
use crate::store::{Image, Store};
use crate::tool::Tool;
use crate::volume;

/// How a container was asked for. It is all that a start needs besides the layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The flags that config.json is made of. Nothing of the caller's environment is asked for again.
    pub flags: Flags,
    /// The words behind the image's name.
    pub command: Vec<String>,
    /// What is mounted into it.
    pub mounts: Vec<volume::Mount>,
    /// The image's configuration when the container was made.
    pub image: Execution,
    /// The OCI runtime that runs it, and how its layers become one: those of the command that made it.
    pub runtime: Option<PathBuf>,
    /// See `runtime`.
    pub driver: Option<Driver>,
    /// Whether the program gets an input.
    pub interactive: bool,
    /// Whether that ends with the first client's.
    pub input_once: bool,
}

impl Settings {
    /// Whether a volume, by name or by where it is seen, is among the mounts.
    pub fn uses(&self, volume: &str) -> bool {
        self.mounts.iter().any(|it| {
            it.destination == volume || matches!(&it.source, volume::Source::Volume { name, .. } if name == volume)
        })
    }
}

/// A container. See the table in `store/mod.rs`.
#[derive(Clone, Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The digest of its image's manifest.
    pub image: String,
    /// What the image was called.
    pub image_name: String,
    /// The topmost layer.
    pub chain: Option<String>,
    /// How it was asked for.
    pub settings: Settings,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// Whether it is removed when it has ended.
    pub remove: bool,
}

const COLUMNS: &str = "id, name, image, image_name, chain, settings, created, remove";

impl Container {
    fn of(row: &Row<'_>) -> rusqlite::Result<Result<Self>> {
        let settings: String = row.get(5)?;
        let id: String = row.get(0)?;
        let settings = match serde_json::from_str(&settings).with_context(|| format!("the settings of container {id}"))
        {
            Ok(settings) => settings,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Self {
            id,
            name: row.get(1)?,
            image: row.get(2)?,
            image_name: row.get(3)?,
            chain: row.get(4)?,
            settings,
            created: row.get(6)?,
            remove: row.get(7)?,
        }))
    }

    /// Its directory in the store.
    pub fn dir(&self, tool: &Tool) -> Result<PathBuf> {
        Ok(dir(tool.store()?.root(), &self.id))
    }

    /// Where what is gone with the next start of the machine lies. The paths of sockets are short.
    pub fn run_dir(&self, tool: &Tool) -> PathBuf {
        tool.state_dir().join(&self.id[..32])
    }

    /// The runtime, as this container sees it.
    pub fn runtime(&self, tool: &Tool) -> Runtime {
        let program = self.settings.runtime.as_ref().unwrap_or(&tool.runtime).clone();
        Runtime { program, run_dir: self.run_dir(tool), id: self.id.clone() }
    }

    /// How its layers become one.
    pub fn driver(&self, tool: &Tool) -> Driver {
        self.settings.driver.unwrap_or(tool.driver)
    }

    /// Its id as people read it.
    pub fn short(&self) -> &str {
        &self.id[..12]
    }
}

/// The directory of a container in a store.
pub fn dir(store: &Path, id: &str) -> PathBuf {
    store.join("containers").join(id)
}

/// All containers, the newest first.
pub fn all(store: &Store) -> Result<Vec<Container>> {
    let sql = format!("SELECT {COLUMNS} FROM containers ORDER BY created DESC, id");
    let mut statement = store.db().prepare_cached(&sql)?;
    let rows = statement.query_map([], Container::of)?;
    rows.map(|it| it?).collect()
}

/// The ids of containers that are removed when they end.
pub fn to_be_removed(store: &Store) -> Result<Vec<String>> {
    let mut statement = store.db().prepare_cached("SELECT id FROM containers WHERE remove")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The ids of all.
pub fn ids(store: &Store) -> Result<Vec<String>> {
    let mut statement = store.db().prepare_cached("SELECT id FROM containers")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A container by its whole id.
pub fn by_id(store: &Store, id: &str) -> Result<Option<Container>> {
    let mut statement = store.db().prepare_cached(&format!("SELECT {COLUMNS} FROM containers WHERE id = ?1"))?;
    statement.query_row([id], Container::of).optional()?.transpose()
}

/// A container by its name or the beginning of its id.
pub fn look_up(store: &Store, text: &str) -> Result<Option<Container>> {
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE name = ?1");
    if let Some(found) = store.db().prepare_cached(&sql)?.query_row([text], Container::of).optional()? {
        return found.map(Some);
    }
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM containers WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
    let mut statement = store.db().prepare_cached(&sql)?;
    let mut found = statement.query_map([text], Container::of)?.map(|it| it?).collect::<Result<Vec<_>>>()?;
    if found.len() > 1 {
        bail!("{text:?} is the beginning of several containers' ids: give more digits");
    }
    Ok(found.pop())
}

/// A container by its name or the beginning of its id; an error where there is none.
pub fn find(store: &Store, text: &str) -> Result<Container> {
    look_up(store, text)?.with_context(|| format!("no such container: {text}; `bundle ps -a` lists all"))
}

/// What a new container is called where nobody says.
pub fn usual_name(id: &str) -> String {
    format!("c-{}", &id[..12])
}

/// What is registered.
pub struct New<'a> {
    /// Its image.
    pub image: &'a Image,
    /// What that was called.
    pub image_name: &'a str,
    /// Its name.
    pub name: Option<&'a str>,
    /// Remove it when it has ended.
    pub remove: bool,
    /// How it was asked for.
    pub settings: Settings,
    /// Files that it gets beside its mounts, kept with it.
    pub files: &'a [Given],
    /// A container that goes in the same moment, with its name and addresses: it has ended, and its lock is held. Its
    /// anonymous volumes stay where the new one has them too.
    pub replaces: Option<&'a Container>,
}

/// A file whose content a container is given when it is made. It can be read there, and not be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its absolute path in the container.
    pub path: String,
    /// What is in it.
    pub content: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Makes a container that has not run: directory, lock and row, in this order, so that what has a row also has the
/// rest. The lock is the caller's.
pub fn register(tool: &Tool, new: New<'_>) -> Result<(Container, std::fs::File)> {
    let store = tool.store()?;
    let networks = wanted(&new.settings.flags)?;
    for (other, _) in networks.iter().flat_map(|it| &it.links) {
        find(store, other).context("--link")?;
    }
    if networks.iter().any(|it| it.network == USUAL) {
        network::make::usual(tool)?;
    }
    let making = store.announce()?;
    let id = super::random_id()?;
    let name = new.name.map_or_else(|| usual_name(&id), str::to_owned);
    check_name("--name", &name)?;
    let dir = dir(store.root(), &id);
    std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    for below in ["upper", "work", "rootfs"] {
        std::fs::create_dir(dir.join(below))?;
    }
    state::reserve(&dir)?;
    // The container's `/` is the upper directory's as soon as something is written there.
    rustix::fs::chmod(dir.join("upper"), rustix::fs::Mode::from_raw_mode(0o755))?;
    let lock = state::try_lock(&dir)?.context("a new container's lock is taken")?;
    let mut settings = new.settings;
    settings.mounts.extend(give(&dir, new.files)?);
    let container = Container {
        id,
        name,
        image: new.image.digest.as_str().to_owned(),
        image_name: new.image_name.to_owned(),
        chain: new.image.chain.as_ref().map(|it| it.as_str().to_owned()),
        settings,
        created: state::now(),
        remove: new.remove,
    };
    if let Err(error) = join_and_insert(tool, &container, &networks, new.replaces) {
        let _ = network::wide::pay(tool, &container.id);
        store.remove_files(&format!("containers/{}", container.id))?;
        return Err(error);
    }
    drop(making);
    Ok((container, lock))
}

/// Writes the files that a container is given into its directory: they go with it.
fn give(dir: &Path, files: &[Given]) -> Result<Vec<volume::Mount>> {
    let dir = dir.join("given");
    if !files.is_empty() {
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let put = |(number, file): (usize, &Given)| {
        let path = dir.join(number.to_string());
        std::fs::write(&path, &file.content).with_context(|| format!("writing {}", path.display()))?;
        std::os::unix::fs::chown(&path, Some(file.uid), Some(file.gid))
            .with_context(|| format!("giving {} to its owner", file.path))?;
        rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(file.mode))?;
        let path = path.to_str().context("the store's path is no UTF-8")?.to_owned();
        Ok(volume::Mount {
            source: volume::Source::Bind { path, recursive: false, writable_below: false },
            destination: file.path.clone(),
            read_only: true,
            propagation: None,
            options: Vec::new(),
            chown: false,
        })
    };
    files.iter().enumerate().map(put).collect()
}

/// The row, and what several hosts have to agree on before.
fn join_and_insert(tool: &Tool, it: &Container, networks: &[Wanted], replaces: Option<&Container>) -> Result<()> {
    let store = tool.store()?;
    let mut leased = Vec::new();
    for wanted in networks {
        let network = rows::find(store.db(), &wanted.network).context("--network")?;
        leased.push(network::wide::lease(tool, &network, &it.id, wanted)?);
    }
    insert(store, it, tool.plain_user, networks, &leased, replaces)
}

fn insert(
    store: &Store,
    it: &Container,
    plain_user: bool,
    networks: &[Wanted],
    leased: &[Vec<std::net::IpAddr>],
    replaces: Option<&Container>,
) -> Result<()> {
    let settings = row(&it.settings)?;
    store.write(|db| {
        if let Some(other) = replaces {
            super::remove::drop_from(store, db, &other.id, false)?;
        }
        name_is_free(db, &it.name)?;
        // Removed since we looked? The row holds them from now on.
        if let Some(chain) = &it.chain
            && !db.prepare_cached("SELECT 1 FROM layers WHERE chain = ?1")?.exists([chain])?
        {
            bail!("image {} has just been removed", it.image_name);
        }
        db.execute(
            "INSERT INTO containers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![it.id, it.name, it.image, it.image_name, it.chain, settings, it.created, it.remove],
        )?;
        ids::lease(db, &it.id, &ids::wanted(&it.settings.flags, plain_user)?)?;
        volume::claim(db, &it.id, &it.settings.mounts)?;
        for (wanted, leased) in networks.iter().zip(leased) {
            let network = rows::find(db, &wanted.network).context("--network")?;
            rows::join(db, &network, &it.id, wanted, leased).with_context(|| format!("--network {}", network.name))?;
        }
        Ok(())
    })
}

/// Settings as the row has them: what was not asked for is left out, which is most of it.
fn row(settings: &Settings) -> Result<String> {
    let mut value = serde_json::to_value(settings)?;
    for part in ["flags", "image"] {
        if let Value::Object(fields) = &mut value[part] {
            fields.retain(|_, it| match it {
                Value::Null | Value::Bool(false) => false,
                Value::Array(list) => !list.is_empty(),
                _ => true,
            });
        }
    }
    Ok(serde_json::to_string(&value)?)
}

fn name_is_free(db: &rusqlite::Transaction<'_>, name: &str) -> Result<()> {
    let sql = "SELECT id FROM containers WHERE name = ?1";
    let taken: Option<String> = db.query_row(sql, [name], |row| row.get(0)).optional()?;
    if let Some(other) = taken {
        bail!(
            "the name {name:?} is taken by container {}: remove it (`bundle rm {name}`) or take another",
            &other[..12]
        );
    }
    Ok(())
}

/// Gives a container another name.
pub fn rename(store: &Store, id: &str, name: &str) -> Result<()> {
    check_name("the new name", name)?;
    store.write(|db| {
        name_is_free(db, name)?;
        db.execute("UPDATE containers SET name = ?2 WHERE id = ?1", [id, name])?;
        Ok(())
    })
}

/// Keeps new settings of a container.
pub fn update(store: &Store, id: &str, settings: &Settings) -> Result<()> {
    let settings = row(settings)?;
    store.write(|db| {
        db.execute("UPDATE containers SET settings = ?2 WHERE id = ?1", [id, &settings])?;
        Ok(())
    })
}

/// Docker's rule for names.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    let rest = name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it));
    if !first || !rest || name.len() < 2 || name.len() > 128 {
        bail!("{what} {name:?}: 2 to 128 letters, digits, '_', '.' and '-', the first a letter or a digit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_all_that_was_asked_for() {
        let mut settings = Settings { command: vec![String::new()], interactive: true, ..Settings::default() };
        settings.flags.entrypoint = Some(String::new());
        settings.flags.network = vec!["none".to_owned()];
        settings.flags.read_only = true;
        settings.flags.pids_limit = Some(0);
        settings.image.env = vec!["A=".to_owned()];
        settings.image.volumes = Some([("/data".to_owned(), serde_json::json!({}))].into());
        settings.image.labels = Some([("empty".to_owned(), String::new())].into());
        let row = row(&settings).unwrap();
        assert!(row.len() < 400, "{row}");
        assert_eq!(serde_json::from_str::<Settings>(&row).unwrap(), settings);
    }

    #[test]
    fn names() {
        for good in ["ab", "a_b", "1.2-3", &"x".repeat(128)] {
            assert!(check_name("--name", good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a b", "a/b", "ä1", &"x".repeat(129)] {
            assert!(check_name("--name", bad).is_err(), "{bad}");
        }
    }
}
