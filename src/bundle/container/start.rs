//! Starting a container: the monitor is started first, so that its program is being loaded while we prepare what it
//! will run, and is then told to go.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::record::Container;
use super::runtime::make_run_dir;
use super::state::{State, lock_within};
use crate::monitor::plan::Plan;
use crate::monitor::talk::End;
use crate::monitor::{self, talk};
use crate::network::attach::{self, Joining};
use crate::network::detach;
use crate::tool::Tool;

/// Starts a container whose lock we hold. The lock becomes the monitor's; what is returned is connected to it.
/// `size` is that of the terminal, rows and columns; `attach`: what it writes comes to us, all of it.
pub fn start(
    tool: &Tool,
    container: &Container,
    lock: File,
    size: Option<(u16, u16)>,
    attach: bool,
) -> Result<OwnedFd> {
    let dir = container.dir(tool)?;
    crate::namespace::own_mounts()?;
    let run_dir = container.run_dir(tool);
    // The last monitor was killed in its last steps. Its record is the only one that knows what there is of that run:
    // it goes when we write ours, or fail.
    if run_dir.exists() {
        super::clear(tool, container)?;
    }
    make_run_dir(&run_dir)?;
    // A port that is taken is known before anything else is done.
    let mut joining = Joining::plan(tool, container).inspect_err(|_| super::runtime::remove_run_dir(&run_dir))?;
    let (socket, monitor) = spawn(&dir, &lock)?;
    let prepared = prepare(tool, container, &mut joining, monitor).and_then(|mut plan| {
        plan.size = size;
        plan.write(&dir)?;
        joining.finish(&socket)
    });
    if let Err(error) = prepared {
        // What cannot be undone now is by the next command.
        if detach::detach(&run_dir).is_ok() {
            super::runtime::remove_run_dir(&run_dir);
        }
        return Err(error);
    }
    // Started by hand: what was said of earlier runs is over.
    let mut state = State::read(&dir)?;
    if state.stopped || state.restarts > 0 {
        (state.stopped, state.restarts) = (false, 0);
        state.write(&dir, false)?;
    }
    talk::send(&socket, talk::GO, if attach { b"1" } else { b"" })?;
    Ok(socket)
}

/// Networks, root file system, config.json.
fn prepare(tool: &Tool, container: &Container, joining: &mut Joining, monitor: u32) -> Result<Plan> {
    let ids = super::prepare::own_ids(tool, container)?;
    let later = ids.is_some();
    joining.begin(tool, &container.run_dir(tool), later)?;
    let net =
        super::prepare::Net { site: joining.site(), path: joining.path(monitor), later: later && !joining.is_alone() };
    let document = super::prepare::prepare(tool, container, ids.as_ref(), &net, monitor)?;
    super::plan(tool, container, &document)
}

/// Puts a monitor beside a container that runs without one.
pub fn adopt(tool: &Tool, container: &Container, lock: File) -> Result<()> {
    let dir = container.dir(tool)?;
    let mut plan = Plan::read(&dir)?;
    plan.adopt = true;
    plan.name.clone_from(&container.name);
    plan.restart = super::spec::restart(&container.settings.flags)?;
    plan.write(&dir)?;
    let (socket, _) = spawn(&dir, &lock)?;
    drop(lock);
    // Its ports are nobody's since that monitor's end, but the rules for them are still there.
    attach::hold_again(&container.run_dir(tool), &socket)?;
    talk::send(&socket, talk::GO, &[])?;
    Ok(())
}

/// The monitor's process and its number. It waits for the word to go.
fn spawn(dir: &Path, lock: &File) -> Result<(OwnedFd, u32)> {
    let (ours, theirs) = talk::pair()?;
    // The same open file: the lock is held until both of us have closed it.
    let lock = lock.try_clone()?;
    let mut command = Command::new("/proc/self/exe");
    command.args([monitor::WORD, &lock.as_raw_fd().to_string(), &theirs.as_raw_fd().to_string()]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Only what it is named stays open in it.
    for fd in [lock.as_fd(), theirs.as_fd()] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    let child = command.spawn().context("starting the container's monitor")?;
    Ok((ours, child.id()))
}

/// The lock of a container that is to be started; `None` for one that runs. Its last monitor may be about to end, and
/// somebody else about to start it.
pub fn lock_to_start(tool: &Tool, container: &Container) -> Result<Option<File>> {
    let dir = container.dir(tool)?;
    for _ in 0..200 {
        match super::settle::state(tool, container)? {
            Some(state) if state.live() => return Ok(None),
            Some(_) => {}
            None => bail!("container {} has just been removed", container.name),
        }
        if let Some(lock) = lock_within(&dir, Duration::from_millis(50))? {
            return Ok(Some(lock));
        }
    }
    bail!("container {} is held by another bundle for more than 10 s", container.name)
}

/// Waits until the program runs. What it says instead is why it does not.
pub fn until_started(tool: &Tool, container: &Container, socket: &OwnedFd) -> Result<Option<End>> {
    let mut buffer = vec![0; 1 + talk::PACKET];
    let mut end = None;
    loop {
        match talk::receive(socket, &mut buffer)? {
            Some((talk::STARTED, _)) => return Ok(None),
            Some((talk::END, length)) => {
                let it = serde_json::from_slice(&buffer[1..length]).context("what the monitor says of the end")?;
                end = Some(it);
            }
            Some(_) => {}
            None if end.is_some() => return Ok(end),
            None => {
                // Its monitor was killed: what is true now?
                return match super::settle::state(tool, container)? {
                    Some(state) if state.live() || state.started != 0 => Ok(None),
                    Some(state) => bail!("container {}: {}", container.name, state.error.unwrap_or_default()),
                    None => bail!("container {}: its monitor was killed, and it is removed", container.name),
                };
            }
        }
    }
}
