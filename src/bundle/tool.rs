//! What every command works with: where the store is, how layers are stacked, which runtime runs.

use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};

use crate::cli::{Driver, Global};
use crate::layer::overlay::Overlay;
use crate::monitor::plan::Plan;
use crate::store::Store;

/// See the head of the file.
pub struct Tool {
    root: PathBuf,
    /// How layers become one.
    pub driver: Driver,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// Whether the caller is not root and all is done in a user namespace.
    pub plain_user: bool,
    store: OnceCell<Store>,
}

impl Tool {
    /// From the global flags. Touches nothing yet.
    pub fn new(global: &Global, plain_user: bool) -> Result<Self> {
        let root = match &global.root {
            Some(root) => std::path::absolute(root)?,
            None if plain_user => data_home()?.join("bundle"),
            None => PathBuf::from("/var/lib/bundle"),
        };
        let runtime = match &global.runtime {
            Some(name) => find_program(name)?,
            None => beside_us("rt").or_else(|| find_program("rt").ok()).unwrap_or_else(|| "rt".into()),
        };
        Ok(Self { root, driver: global.storage_driver, runtime, plain_user, store: OnceCell::new() })
    }

    /// As a monitor has it.
    pub fn of_plan(plan: &Plan) -> Self {
        Self {
            root: plan.store.clone(),
            driver: plan.driver,
            runtime: plan.runtime.clone(),
            plain_user: plan.plain_user,
            store: OnceCell::new(),
        }
    }

    /// The same for another thread, which opens the store anew.
    pub fn another(&self) -> Self {
        Self {
            root: self.root.clone(),
            driver: self.driver,
            runtime: self.runtime.clone(),
            plain_user: self.plain_user,
            store: OnceCell::new(),
        }
    }

    /// The program of a runtime that is asked for by its name or path.
    pub fn runtime_named(name: &str) -> Result<PathBuf> {
        find_program(name)
    }

    /// The store, opened at its first use.
    pub fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.root)?;
        if self.driver == Driver::Overlay && store.fact("overlay")?.is_none() {
            // Asked once in the life of a store: the kernel and the file system do not change under it.
            crate::layer::overlay::supported(self.dir_to_mount_in()?.as_fd(), self.overlay())?;
            store.write(|db| {
                db.execute("INSERT OR REPLACE INTO facts VALUES ('overlay', 'yes')", [])?;
                Ok(())
            })?;
        }
        Ok(self.store.get_or_init(|| store))
    }

    /// The store's directory as it is in a mount namespace of our own: overlay takes directories of the namespace
    /// that it is mounted in only.
    pub fn dir_to_mount_in(&self) -> Result<OwnedFd> {
        crate::namespace::own_mounts()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&self.root, flags, Mode::empty()).with_context(|| format!("opening {}", self.root.display()))
    }

    /// Which extended attributes overlay reads.
    pub fn overlay(&self) -> Overlay {
        if self.plain_user { Overlay::User } else { Overlay::Trusted }
    }

    /// Where what is gone with the next start of the machine lies: the runtime's state.
    pub fn state_dir(&self) -> PathBuf {
        if !self.plain_user {
            return PathBuf::from("/run/bundle");
        }
        match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|it| it.is_dir()) {
            Some(dir) => dir.join("bundle"),
            None => self.root.join("run"),
        }
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|it| it.is_absolute())
}

fn data_home() -> Result<PathBuf> {
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|it| it.is_absolute())
        .or_else(|| Some(home()?.join(".local/share")))
        .context("where the store should be is not known: neither --root nor HOME is set")
}

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(name);
    path.is_file().then_some(path)
}

fn find_program(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        let path = std::path::absolute(Path::new(name))?;
        if !path.is_file() {
            bail!("--runtime {name}: no such program");
        }
        return Ok(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|it| it.is_file())
        .with_context(|| format!("the runtime {name:?} is not in PATH: install it, or name it by --runtime"))
}
