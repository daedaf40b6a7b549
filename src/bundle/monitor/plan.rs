//! What a monitor is told: decided by the command that starts it, read once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::Driver;
use crate::container::spec::{self, LogOptions, Restart};

/// The plan's name in the container's directory.
pub const FILE: &str = "monitor.json";

/// See the head of the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// Its name, for events.
    pub name: String,
    /// Its image's name, for events.
    pub image: String,
    /// Where the store is.
    pub store: PathBuf,
    /// How layers become one.
    pub driver: Driver,
    /// Whether we are in a plain user's namespace.
    pub plain_user: bool,
    /// Where sockets, FIFOs and the runtime's state lie.
    pub run_dir: PathBuf,
    /// The runtime's program.
    pub runtime: PathBuf,
    /// The container's cgroup, in every hierarchy; none of its own for a plain user.
    pub cgroup: Option<String>,
    /// Whether the program gets a terminal.
    pub terminal: bool,
    /// That terminal's first size, rows and columns.
    pub size: Option<(u16, u16)>,
    /// Whether the program gets an input.
    pub input: bool,
    /// Whether the input ends when the first client's does.
    pub input_once: bool,
    /// Remove the container when it has ended.
    pub remove: bool,
    /// Where its output is kept; nowhere if `None`.
    pub log: Option<LogOptions>,
    /// When to start it anew.
    pub restart: Restart,
    /// How to find out whether it is well.
    pub health: Option<Health>,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// How long it may take, in seconds; negative for ever.
    pub stop_timeout: i64,
    /// It runs already: its monitor was killed.
    pub adopt: bool,
}

/// A health check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// The process object of the runtime specification.
    pub process: Value,
    /// When, and what its results mean.
    pub check: spec::Health,
}

impl Plan {
    /// Reads the plan in a container's directory.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes it there.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        std::fs::write(&path, serde_json::to_vec(self)?).with_context(|| format!("writing {}", path.display()))
    }
}
