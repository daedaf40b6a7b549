//! Unpacked layers: each a directory of its own files, to be stacked by overlay.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rusqlite::{OptionalExtension, Row};
use rustix::fs::{Mode, OFlags};

use super::{Store, random_name};
use crate::image::Digest;

/// An unpacked layer that the database knows.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The layer below.
    pub parent: Option<Digest>,
    /// The directory's name below `layers/`.
    pub dir: String,
    /// What its files take, in bytes.
    pub size: u64,
}

/// A layer that has been unpacked and has no row yet.
#[derive(Clone, Debug)]
pub struct NewLayer {
    /// The directory's name below `layers/`.
    pub dir: String,
    /// What its files take, in bytes.
    pub size: u64,
    /// How long it is as a tar.
    pub tar_size: u64,
}

/// Reads a digest that this program wrote.
pub fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: anyhow::Error| {
        let error = std::io::Error::other(format!("{error:#}"));
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

impl Store {
    /// The layer of a chain id.
    pub fn layer(&self, chain: &Digest) -> Result<Option<Layer>> {
        let mut statement = self.db().prepare_cached("SELECT parent, dir, size FROM layers WHERE chain = ?1")?;
        Ok(statement
            .query_row([chain.as_str()], |row| {
                Ok(Layer {
                    parent: row.get::<_, Option<String>>(0)?.and_then(|it| it.parse().ok()),
                    dir: row.get(1)?,
                    size: row.get::<_, i64>(2)? as u64,
                })
            })
            .optional()?)
    }

    /// A layer and all below it, the lowest first.
    pub fn layers(&self, top: &Digest) -> Result<Vec<Layer>> {
        let mut found = Vec::new();
        let mut next = Some(top.clone());
        while let Some(chain) = next.take() {
            let layer = self.layer(&chain)?.with_context(|| {
                format!(
                    "layer {} is missing from the store: pull or load its image again, or see `bundle store check`",
                    chain.short()
                )
            })?;
            next.clone_from(&layer.parent);
            found.push(layer);
        }
        found.reverse();
        Ok(found)
    }

    /// Makes an empty directory for a layer; its name.
    pub fn make_layer(&self) -> Result<(String, OwnedFd)> {
        let name = random_name()?;
        let path = format!("layers/{name}");
        rustix::fs::mkdirat(self.dir(), &path, Mode::from_raw_mode(0o755)).context("making a layer's directory")?;
        let dir = self.open_layer(&name)?;
        // The mode of `/` in a container, whatever the umask of who typed the command.
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755))?;
        Ok((name, dir))
    }

    /// Opens a layer's directory.
    pub fn open_layer(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(self.dir(), format!("layers/{name}"), flags, Mode::empty())
            .with_context(|| format!("opening the layer's directory {name}"))
    }
}
