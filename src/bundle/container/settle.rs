//! The truth about a container. Its file says what was; its lock says whether somebody still looks after it. Where
//! nobody does, whoever asks puts that right: what still runs gets a new monitor, what does not is ended.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::record::{self, Container};
use super::spec::{self, Restart};
use super::state::{State, Status, now, try_lock};
use super::{remove, start};
use crate::tool::Tool;

/// How long a monitor may take to notice that its container has ended.
const NOTICE: Duration = Duration::from_secs(2);

/// The state of a container, checked against the machine. `None`: it was to be removed, and is.
pub fn state(tool: &Tool, container: &Container) -> Result<Option<State>> {
    let dir = container.dir(tool)?;
    let end = Instant::now() + NOTICE;
    loop {
        if !dir.exists() {
            return Ok(None);
        }
        let state = State::read(&dir)?;
        if !state.live() && !container.remove {
            return Ok(Some(state));
        }
        if let Some(lock) = try_lock(&dir)? {
            // Who had it may have written its last word in between.
            let state = State::read(&dir)?;
            return settle(tool, container, state, lock);
        }
        let over = state.status == Status::Running && state.process.as_ref().is_some_and(|it| !it.lives());
        if !over || Instant::now() > end {
            return Ok(Some(state));
        }
        // It has just ended: its monitor is about to say so.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A container whose lock was free.
fn settle(tool: &Tool, container: &Container, state: State, lock: File) -> Result<Option<State>> {
    if record::by_id(tool.store()?, &container.id)?.is_none() {
        return Ok(None);
    }
    let process_lives = state.process.as_ref().is_some_and(super::state::Process::lives);
    if state.status == Status::Running && process_lives {
        start::adopt(tool, container, lock)?;
        return Ok(Some(state));
    }
    if !state.live() {
        // It has just ended, and its monitor with it.
        let stays = !container.remove;
        // Made by `create`, to be started some day.
        let waits = state.status == Status::Created && state.error.is_none() && State::exists(&container.dir(tool)?);
        if stays || waits {
            return Ok(Some(state));
        }
        // With --rm: the command or the monitor that would have removed it was killed.
        remove::finish(tool, container, &lock, true)?;
        return Ok(None);
    }
    let dir = container.dir(tool)?;
    // After the machine's start it is `up-again` that starts them: who only looks does not wait for all of them.
    let same_boot = state.process.as_ref().or(state.monitor.as_ref()).is_some_and(|it| it.boot == super::state::boot());
    let runs_again = same_boot && wants_to_run(container, &state);
    let ended = end_of(state);
    super::try_clear(tool, container);
    ended.write(&dir, !container.remove)?;
    if container.remove {
        remove::finish(tool, container, &lock, true)?;
        return Ok(None);
    }
    drop(lock);
    if runs_again && start_by_child(tool, &container.id).is_ok() {
        return State::read(&dir).map(Some);
    }
    Ok(Some(ended))
}

/// What becomes of the state of a container whose monitor was killed, and which does not run.
fn end_of(mut state: State) -> State {
    let killed = "its monitor was killed";
    match state.status {
        Status::Starting if state.started == 0 => {
            state.status = Status::Created;
            state.error = Some(format!("{killed} before the program ran"));
        }
        Status::Starting | Status::Restarting => {
            state.status = Status::Exited;
            state.error = Some(format!("{killed} before it could be started anew"));
        }
        _ => {
            state.status = Status::Exited;
            (state.exit, state.finished) = (Some(255), now());
            let lost = match &state.process {
                Some(process) if process.boot != super::state::boot() => "the machine went down while it ran",
                _ => "and it ended while nobody looked after it",
            };
            state.error = Some(format!("{killed}, {lost}: its exit status is lost, 255 stands for it"));
        }
    }
    state.paused = false;
    state
}

/// Whether its policy has a container run that has ended without our seeing it.
fn wants_to_run(container: &Container, state: &State) -> bool {
    match spec::restart(&container.settings.flags).unwrap_or(Restart::No) {
        Restart::No => false,
        Restart::OnFailure(most) => !state.stopped && most.is_none_or(|most| state.restarts < most),
        Restart::Always | Restart::UnlessStopped => !state.stopped,
    }
}

/// Puts right what commands and monitors left that were killed: of those containers that have a run directory, and of
/// those that were to be removed, which hold names and volumes.
pub fn sweep(tool: &Tool) -> Result<()> {
    let store = tool.store()?;
    // Directories before rows, which are made the other way round. One question for all: each locks the database.
    let dirs = std::fs::read_dir(tool.state_dir()).into_iter().flatten().flatten();
    let mut dirs: HashMap<OsString, PathBuf> = dirs.map(|it| (it.file_name(), it.path())).collect();
    let mut ids = record::ids(store)?;
    ids.retain(|it| dirs.remove(OsStr::new(&it[..32])).is_some());
    // Another store's containers have their directories here too.
    let strangers: Vec<PathBuf> = dirs.into_values().collect();
    ids.extend(record::to_be_removed(store)?);
    for id in ids {
        if is_locked(&record::dir(store.root(), &id)) {
            continue;
        }
        if let Some(container) = record::by_id(store, &id)?
            && let Some(state) = state(tool, &container)?
            && !state.live()
            && container.run_dir(tool).exists()
            && let Some(_lock) = try_lock(&container.dir(tool)?)?
            && !State::read(&container.dir(tool)?)?.live()
        {
            // What its monitor could not take away.
            super::try_clear(tool, &container);
        }
    }
    crate::network::make::sweep(tool)?;
    crate::network::guest::sweep(tool, &strangers)?;
    crate::network::wide::pay_old(tool)
}

fn is_locked(dir: &Path) -> bool {
    matches!(try_lock(dir), Ok(None))
}

/// Runs `bundle start` of ourselves: each container's root is mounted in a mount namespace of its own.
pub fn start_by_child(tool: &Tool, id: &str) -> Result<String> {
    start_child(tool.store()?.root(), id)
}

/// The same for who has the store's directory alone, as threads have.
pub fn start_child(store: &Path, id: &str) -> Result<String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(store);
    command.args(["start", id]).stdin(Stdio::null());
    let output = command.output().context("starting a bundle of our own")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        bail!("{}", said.strip_prefix("bundle: ").unwrap_or(said).to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
