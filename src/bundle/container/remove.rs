//! The end of a container: nothing of it is left.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rusqlite::Transaction;
use rustix::process::{Pid, Signal};

use super::record::{self, Container};
use super::settle;
use super::state::{State, Status, lock_within};
use crate::events::{self, Kind};
use crate::monitor::plan::Plan;
use crate::monitor::talk;
use crate::network::{rows, wide};
use crate::store::Store;
use crate::tool::Tool;
use crate::volume;

/// How long a monitor may take to end a container that is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes a container. One that runs is an error, or is killed with `force`; `volumes`: its anonymous volumes too.
pub fn remove(tool: &Tool, container: &Container, force: bool, volumes: bool) -> Result<()> {
    if !force {
        let Some(state) = settle::state(tool, container)? else { return Ok(()) };
        if state.live() {
            let how = if state.status == Status::Restarting { "is being restarted" } else { "is running" };
            bail!("container {} {how}: stop it first (`bundle stop {0}`), or remove it by force (-f)", container.name);
        }
    }
    let dir = container.dir(tool)?;
    let lock = match lock_within(&dir, Duration::from_millis(if force { 0 } else { 200 })) {
        Ok(Some(lock)) => lock,
        // Somebody else has removed it.
        Err(_) if !dir.exists() => return Ok(()),
        Err(error) => return Err(error),
        Ok(None) => match kill(tool, container)? {
            Some(lock) => lock,
            None => return Ok(()),
        },
    };
    if record::by_id(tool.store()?, &container.id)?.is_none() {
        return Ok(());
    }
    finish(tool, container, &lock, volumes)
}

/// Ends a container whose lock is held by its monitor, and takes the lock. `None`: it is removed by now.
fn kill(tool: &Tool, container: &Container) -> Result<Option<File>> {
    let dir = container.dir(tool)?;
    let gone = || !dir.exists();
    if let Some(socket) = talk::connect(&container.run_dir(tool))? {
        let stop = talk::Stop { signal: Some(Signal::KILL.as_raw()), timeout: Some(0) };
        let _ = talk::send(&socket, talk::STOP, &serde_json::to_vec(&stop)?);
    }
    match lock_within(&dir, PATIENCE) {
        Ok(Some(lock)) => return Ok(Some(lock)),
        Err(_) if gone() => return Ok(None),
        Err(error) => return Err(error),
        Ok(None) => {}
    }
    // A monitor that does not answer, such as one that somebody has stopped.
    if let Some(monitor) = State::read(&dir)?.monitor.filter(super::state::Process::lives)
        && let Some(pid) = Pid::from_raw(monitor.pid)
    {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let lock = lock_within(&dir, PATIENCE)?;
    Ok(Some(lock.with_context(|| format!("container {} is held by another bundle", container.name))?))
}

/// Removes a container whose lock is held: what runs of it, its row, its files.
pub fn finish(tool: &Tool, container: &Container, _lock: &File, volumes: bool) -> Result<()> {
    let run_dir = container.run_dir(tool);
    // Its monitor was killed, or has left something.
    if run_dir.exists() || State::read(&container.dir(tool)?).is_ok_and(|it| it.live()) {
        super::try_clear(tool, container);
    }
    // Ours, if we have prepared it or looked into it.
    super::prepare::unmount(&container.dir(tool)?);
    drop_row(tool, &container.id, volumes)?;
    let attributes = [("name", container.name.as_str()), ("image", container.image_name.as_str())];
    events::append(tool.store()?.root(), Kind::Container, "destroy", &container.id, &attributes);
    Ok(())
}

/// The row first: files without one are swept.
fn drop_row(tool: &Tool, id: &str, volumes: bool) -> Result<()> {
    let store = tool.store()?;
    let drop_it = || store.write(|db| drop_from(store, db, id, volumes));
    if let Err(error) = drop_it() {
        // On a full disk the database cannot even take a row away: what the container has written makes room.
        if error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code)
            != Some(rusqlite::ErrorCode::DiskFull)
        {
            return Err(error);
        }
        store.remove_files(&format!("containers/{id}/upper"))?;
        drop_it()?;
    }
    // Should others not be reached, it is owed: nothing is lost, and the container is gone all the same.
    let _ = wide::pay(tool, id);
    store.remove_files(&format!("containers/{id}"))
}

/// The row's part of it, in a transaction of the caller's. The files go afterwards.
pub fn drop_from(store: &Store, db: &Transaction<'_>, id: &str, volumes: bool) -> Result<()> {
    volume::release(store, db, id, volumes)?;
    for endpoint in rows::endpoints(db, id)? {
        wide::owe(db, &endpoint.network, id)?;
    }
    db.execute("DELETE FROM containers WHERE id = ?1", [id])?;
    Ok(())
}

/// Makes ready a container that has ended to be replaced: what is left of it outside of the store goes. Its lock, for
/// [`record::New::replaces`], and then [`replaced`].
pub fn to_replace(tool: &Tool, container: &Container) -> Result<File> {
    let Some(lock) = lock_within(&container.dir(tool)?, PATIENCE)? else {
        bail!("container {} is held by another bundle", container.name)
    };
    if State::read(&container.dir(tool)?)?.live() {
        bail!("container {} has just been started by somebody else", container.name);
    }
    if container.run_dir(tool).exists() {
        super::try_clear(tool, container);
    }
    super::prepare::unmount(&container.dir(tool)?);
    Ok(lock)
}

/// Removes the files of a container whose row has gone with [`record::New::replaces`].
pub fn replaced(tool: &Tool, container: &Container) -> Result<()> {
    let _ = wide::pay(tool, &container.id);
    tool.store()?.remove_files(&format!("containers/{}", container.id))?;
    let attributes = [("name", container.name.as_str()), ("image", container.image_name.as_str())];
    events::append(tool.store()?.root(), Kind::Container, "destroy", &container.id, &attributes);
    Ok(())
}

/// With --rm: the monitor's last step. It holds the lock.
pub struct Removal {
    tool: Tool,
    /// `None`: somebody has taken the row away.
    container: Option<Container>,
}

impl Removal {
    /// What can be done while the runtime is still at work: only our own mounts go, and nothing that a next command
    /// would have to know of.
    pub fn begin(plan: &Plan) -> Result<Self> {
        let tool = Tool::of_plan(plan);
        let container = record::by_id(tool.store()?, &plan.id)?;
        super::prepare::unmount(&record::dir(&plan.store, &plan.id));
        Ok(Self { tool, container })
    }

    /// The row and the files.
    pub fn finish(self) -> Result<()> {
        let Some(container) = self.container else { return Ok(()) };
        drop_row(&self.tool, &container.id, true)?;
        let attributes = [("name", container.name.as_str()), ("image", container.image_name.as_str())];
        events::append(self.tool.store()?.root(), Kind::Container, "destroy", &container.id, &attributes);
        Ok(())
    }
}
