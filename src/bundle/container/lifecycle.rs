//! What is done with a container that runs: it is asked of its monitor.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::record::{self, Container};
use super::settle;
use super::state::{State, Status};
use crate::events::{self, Kind};
use crate::monitor::talk::{self, End, PACKET};
use crate::tool::Tool;

/// A signal by name, with or without SIG, or by number.
pub fn signal(flag: &str, text: &str) -> Result<i32> {
    super::spec::signal(text).with_context(|| format!("{flag} {text:?}"))
}

/// Writes what a command has done with a container into the events.
pub fn event(tool: &Tool, container: &Container, action: &str, more: &[(&str, &str)]) {
    let Ok(store) = tool.store() else { return };
    let mut attributes = vec![("name", container.name.as_str()), ("image", container.image_name.as_str())];
    attributes.extend_from_slice(more);
    events::append(store.root(), Kind::Container, action, &container.id, &attributes);
}

/// The monitor of a container that runs, or is about to; `None` for one that does not.
pub fn connect(tool: &Tool, container: &Container) -> Result<Option<OwnedFd>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let Some(state) = settle::state(tool, container)? else { return Ok(None) };
        if !state.live() {
            return Ok(None);
        }
        if let Some(socket) = talk::connect(&container.run_dir(tool))? {
            return Ok(Some(socket));
        }
        if Instant::now() > end {
            bail!("the monitor of container {} does not answer: `bundle rm -f` ends both", container.name);
        }
        // It is just beginning, or just ending.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The monitor of a container that must run.
pub fn running(tool: &Tool, container: &Container) -> Result<OwnedFd> {
    connect(tool, container)?.with_context(|| format!("container {} is not running", container.name))
}

/// Waits until a container has ended for good: its exit status. `None`: its monitor was killed before it could tell.
pub fn until_end(socket: &OwnedFd) -> Result<Option<End>> {
    let mut buffer = vec![0; 1 + PACKET];
    let mut last = None;
    while let Some((kind, length)) = talk::receive(socket, &mut buffer)? {
        if kind == talk::END {
            last = Some(serde_json::from_slice(&buffer[1..length]).context("what the monitor says of the end")?);
        }
    }
    Ok(last.filter(|it: &End| !it.again))
}

/// Stops a container; one that does not run is stopped already. Comes back when it has ended.
pub fn stop(tool: &Tool, container: &Container, stop: &talk::Stop) -> Result<()> {
    loop {
        let Some(socket) = connect(tool, container)? else { return Ok(()) };
        if talk::send(&socket, talk::STOP, &serde_json::to_vec(stop)?).is_ok() {
            // Asked again of the next monitor if this one was killed meanwhile.
            if until_end(&socket)?.is_some() {
                event(tool, container, "stop", &[]);
                return Ok(());
            }
        }
    }
}

/// Sends the first process a signal.
pub fn kill(tool: &Tool, container: &Container, signal: i32) -> Result<()> {
    let socket = running(tool, container)?;
    if signal == rustix::process::Signal::KILL.as_raw() {
        // Ended by hand: no policy starts it anew.
        let stop = talk::Stop { signal: Some(signal), timeout: Some(-1) };
        talk::send(&socket, talk::STOP, &serde_json::to_vec(&stop)?)?;
    } else {
        talk::send(&socket, talk::SIGNAL, &[signal as u8])?;
    }
    event(tool, container, "kill", &[("signal", &signal.to_string())]);
    Ok(())
}

/// Freezes a container, or thaws it.
pub fn pause(tool: &Tool, container: &Container, pause: bool) -> Result<()> {
    let socket = running(tool, container)?;
    let state = State::read(&container.dir(tool)?)?;
    if state.status != Status::Running {
        bail!("container {} is not running", container.name);
    }
    if state.paused == pause {
        bail!("container {} is {}", container.name, if pause { "paused already" } else { "not paused" });
    }
    let (word, action) = if pause { ("pause", "pause") } else { ("resume", "unpause") };
    container.runtime(tool).run(&[word, &container.id])?;
    talk::send(&socket, talk::PAUSED, if pause { b"1" } else { b"0" })?;
    // The monitor writes it down; who looks next finds it there.
    let dir = container.dir(tool)?;
    let end = Instant::now() + Duration::from_secs(5);
    while State::read(&dir)?.paused != pause && Instant::now() < end {
        std::thread::sleep(Duration::from_micros(200));
    }
    event(tool, container, action, &[]);
    Ok(())
}

/// Keeps a container that runs frozen until what is returned is dropped, or we are killed.
pub fn hold(tool: &Tool, container: &Container) -> Result<Option<OwnedFd>> {
    let Some(socket) = connect(tool, container)? else { return Ok(None) };
    talk::send(&socket, talk::HOLD, &[])?;
    let mut buffer = vec![0; 1 + PACKET];
    while let Some((kind, length)) = talk::receive(&socket, &mut buffer)? {
        match kind {
            talk::HELD if length == 1 => return Ok(Some(socket)),
            talk::HELD => {
                bail!("freezing container {}: {}", container.name, String::from_utf8_lossy(&buffer[1..length]))
            }
            // It has just ended: nothing changes its files.
            talk::END => break,
            _ => {}
        }
    }
    Ok(None)
}

/// Waits until a container does not run: its last exit status.
pub fn wait(tool: &Tool, container: &Container) -> Result<i32> {
    let mut removed = None;
    loop {
        let Some(socket) = connect(tool, container)? else { break };
        if let Some(end) = until_end(&socket)? {
            removed = Some(end.status);
        }
    }
    if record::by_id(tool.store()?, &container.id)?.is_none() {
        return removed.with_context(|| format!("container {} is gone, and its exit status with it", container.name));
    }
    Ok(State::read(&container.dir(tool)?)?.exit.unwrap_or(0))
}
