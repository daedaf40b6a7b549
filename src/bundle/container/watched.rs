//! Containers as those see them who only look at them.

use anyhow::Result;

use super::record::{self, Container};
use super::settle;
use super::state::Status;
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
    let store = tool.store()?;
    let found = match names {
        [] => record::all(store)?,
        names => names.iter().map(|name| record::find(store, name)).collect::<Result<Vec<_>>>()?,
    };
    let all = found.into_iter().map(|it| look(tool, it)).collect::<Result<Vec<_>>>()?;
    let wanted = |it: &Watched| even_ended || !names.is_empty() || it.pid.is_some();
    Ok(all.into_iter().flatten().filter(wanted).collect())
}

/// `None` where it has ended and removed itself.
fn look(tool: &Tool, container: Container) -> Result<Option<Watched>> {
    let Some(state) = settle::state(tool, &container)? else { return Ok(None) };
    let process = state.process.filter(|it| state.status == Status::Running && it.lives());
    let Container { id, name, image_name: image, .. } = container;
    Ok(Some(Watched { id, name, image, pid: process.map(|it| it.pid) }))
}
