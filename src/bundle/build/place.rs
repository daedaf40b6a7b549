//! A build's own directory in the store, where nothing outlives it: `ingest/new-build-NAME/`. What a killed build has
//! left there goes with the next command that makes something.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::fs::Mode;

use crate::store::{Store, random_name};

/// See the head of the file.
pub struct Place {
    store: PathBuf,
    name: String,
    count: AtomicU32,
}

impl Place {
    /// A new one. The caller makes something: [`Store::making`].
    pub fn new(store: &Store) -> Result<Self> {
        let name = format!("ingest/new-build-{}", random_name()?);
        rustix::fs::mkdirat(store.dir(), &name, Mode::RWXU).context("making a directory for the build")?;
        Ok(Self { store: store.root().to_owned(), name, count: AtomicU32::new(0) })
    }

    /// A new directory in it, by its path below the store.
    pub fn dir(&self, what: &str) -> Result<PathBuf> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let name = Path::new(&self.name).join(format!("{what}-{number}"));
        std::fs::create_dir(self.store.join(&name)).context("making a directory for the build")?;
        Ok(name)
    }

    /// A path below the store, whole.
    pub fn whole(&self, name: &Path) -> PathBuf {
        self.store.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        crate::namespace::unmount_below(&self.store.join(&self.name));
        let Ok(store) = rustix::fs::open(
            &self.store,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            Mode::empty(),
        ) else {
            return;
        };
        let _ = crate::layer::remove::remove(std::os::fd::AsFd::as_fd(&store), self.name.as_bytes());
    }
}
