//! `start`

use std::path::Path;

use anyhow::{Result, bail};

use crate::launch::sync::{Channel, Go, Said};
use crate::launch::{destroy, hook, listener};
use crate::state::store::{self, Entry};
use crate::state::{State, Status};

pub(super) fn start(root: &Path, id: &str) -> Result<()> {
    let entry = Entry::try_open(root, id)?;
    let Some(text) = entry.read()? else { bail!("container \"{id}\" is still being created") };
    let state = store::parse(&text, id)?;
    match entry.status(&state) {
        Status::Created if state.startable => {}
        Status::Created => bail!("container \"{id}\" cannot be started: its config.json has no process"),
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Creating => bail!("container \"{id}\" is still being created"),
        Status::Paused if entry.has_start_socket() => bail!("cannot start a paused container; resume it first"),
        Status::Running | Status::Paused => bail!("cannot start an already running container"),
    }
    let Some(socket) = entry.connect_start()? else { bail!("cannot start a container that has stopped") };
    let init = Channel::of(socket);
    if !init.go(Go::Start)? {
        bail!("cannot start a container that has stopped");
    }
    let started = follow(&init, &state);
    entry.remove_start_socket();
    if started.is_err() {
        // Init ends now; the container is stopped when we return.
        destroy::kill(&state)?;
    }
    started?;
    poststart(&state)
}

/// Hears init out until it runs the program: it answers, and then its end of the socket is closed by execve.
fn follow(init: &Channel, state: &State<'_>) -> Result<()> {
    let mut heard = false;
    loop {
        match init.listen()? {
            Said::Ready => heard = true,
            Said::Listener(fd) => listener::hand_on(&fd, state, Status::Created, state.pid, init)?,
            Said::Failed(line) => bail!(line),
            Said::End if heard => return Ok(()),
            Said::End => bail!("the container's first process ended before it could be started"),
            _ => bail!("init said a word that is not its to say"),
        }
    }
}

/// runtime.md of 1.3.0: a poststart hook that fails is an error, and stops the container.
pub(super) fn poststart(state: &State<'_>) -> Result<()> {
    if state.poststart.is_empty() {
        return Ok(());
    }
    let json = state.spec_json(Status::Running, state.pid);
    hook::run_all("poststart", &state.poststart, &json, None).or_else(|error| {
        destroy::kill(state)?;
        Err(error)
    })
}
