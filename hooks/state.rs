//! What a runtime gives its hooks on standard input (runtime.md, "State"), as far as these need it.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The state of a container.
#[derive(Debug, Deserialize)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: String,
    /// Its first process as this process sees it; none or 0 once it is gone.
    #[serde(default)]
    pub pid: i32,
    /// Of the container's document.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// Reads standard input.
    pub fn read() -> Result<State> {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading the state from standard input")?;
        let state: State = serde_json::from_str(&text).context("standard input is not the state of a container")?;
        ensure!(!state.id.is_empty(), "the state names no container");
        Ok(state)
    }

    /// The first process, which must be there.
    pub fn process(&self) -> Result<i32> {
        ensure!(
            self.pid > 0 && self.status != "stopped",
            "the state of {} names no process: this hook is for createRuntime or prestart",
            self.id
        );
        Ok(self.pid)
    }
}
