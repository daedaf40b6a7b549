//! Containers as those see them who only look at them.

use anyhow::Result;

use super::run::{all, find};
use crate::tool::Tool;

/// A container, and its first process while it runs.
pub struct Watched {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its image is called.
    pub image: String,
    /// The number of its first process.
    pub pid: Option<i32>,
}

/// The containers of these names; without names those that run, or all.
pub fn watched(tool: &Tool, names: &[String], even_ended: bool) -> Result<Vec<Watched>> {
    let found = match names {
        [] => all(tool)?.into_iter().filter(|it| even_ended || it.running).collect(),
        names => names.iter().map(|name| find(tool, name)).collect::<Result<Vec<_>>>()?,
    };
    let watched = |it: super::run::Known| {
        let pid = if it.running { pid(tool, &it.id) } else { None };
        Watched { pid, id: it.id, name: it.name, image: it.image }
    };
    Ok(found.into_iter().map(watched).collect())
}

/// What the runtime says.
fn pid(tool: &Tool, id: &str) -> Option<i32> {
    let root = tool.state_dir().join(id);
    let output = std::process::Command::new(&tool.runtime).arg("--root").arg(root).args(["state", id]).output().ok()?;
    let state: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(state["pid"].as_i64().filter(|it| *it > 0)? as i32)
}
