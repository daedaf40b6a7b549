//! `compose up` in the foreground: all that the containers write, until they have ended or somebody interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::board::Board;
use super::down;
use super::found::{self, Found};
use super::logs::{self, Printer, Style};
use super::model::Project;
use super::start::Group;
use crate::container::log::Options;
use crate::container::record::Container;
use crate::container::{lifecycle, settle};
use crate::monitor::talk;
use crate::tool::Tool;

/// What is followed, and when it ends.
pub struct Follow<'a> {
    /// The project.
    pub project: &'a Project,
    /// The containers.
    pub groups: &'a [Group],
    /// Whether what a service writes is shown.
    pub shown: &'a dyn Fn(&str) -> bool,
    /// Names in front of lines.
    pub prefix: bool,
    /// Colours.
    pub colors: bool,
    /// Times in front of lines.
    pub timestamps: bool,
    /// One that ends stops all.
    pub ends_with_one: bool,
    /// One that fails stops all.
    pub ends_with_failure: bool,
    /// Whose exit status is ours.
    pub status_of: Option<&'a str>,
    /// Seconds that containers have to end in.
    pub timeout: Option<i64>,
}

/// The exit status of who was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;
/// How long an interrupt may go unseen.
const GLANCE: Duration = Duration::from_millis(50);

/// Follows until all have ended. The first interrupt stops them, the second kills them.
pub fn follow(tool: &Tool, what: &Follow<'_>, board: &Board) -> Result<u8> {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let mask: SigSet = signals.into_iter().collect();
    // Before there are threads: none of them is to be ended by one.
    mask.thread_block().context("holding signals back")?;
    let interrupts = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let containers: Vec<(&str, &Container)> =
        what.groups.iter().flat_map(|group| group.containers.iter().map(|it| (group.service.as_str(), it))).collect();
    let width = containers.iter().map(|it| logs::short_name(what.project, it.1).len()).max().unwrap_or(0);
    let printer = Printer::new(Style { prefix: what.prefix, colors: what.colors, width });
    let stopping = AtomicBool::new(false);
    let (sender, ends) = channel();
    let mut interrupted = 0;
    let mut first: Option<(String, i32)> = None;
    let mut wanted: Option<i32> = None;
    std::thread::scope(|scope| -> Result<()> {
        for (number, (service, container)) in containers.iter().enumerate() {
            let (own, sender, printer, stopping) = (tool.another(), sender.clone(), &printer, &stopping);
            let shown = (what.shown)(service);
            let since = settle::state(tool, container)?.map_or(0, |it| it.started);
            let options = Options {
                follow: true,
                // Only this run: what was written before has been seen.
                since: jiff::Timestamp::from_nanosecond(since.into()).ok(),
                timestamps: what.timestamps,
                ..Options::default()
            };
            let name = logs::short_name(what.project, container);
            scope.spawn(move || {
                if shown && let Err(error) = logs::print(&own, container, &name, number, &options, printer) {
                    crate::complain(&error);
                }
                // Of one whose status went with it nothing says that it ended well.
                let status = lifecycle::wait(&own, container).unwrap_or_else(|error| {
                    crate::complain(&error);
                    1
                });
                if !stopping.load(Ordering::Relaxed) || shown {
                    printer.say(&name, number, &format!("exited with code {status}"));
                }
                let _ = sender.send(((*service).to_owned(), status));
            });
        }
        drop(sender);
        loop {
            match ends.recv_timeout(GLANCE) {
                Ok((service, status)) => {
                    if what.status_of == Some(service.as_str()) && wanted.is_none() {
                        wanted = Some(status);
                    }
                    let ends = what.ends_with_one || (what.ends_with_failure && status != 0);
                    if ends && first.is_none() {
                        first = Some((service, status));
                        if !stopping.swap(true, Ordering::Relaxed) {
                            board.line("Stopping all, since one container has ended");
                            stop(scope, tool, what, board)?;
                        }
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            while matches!(interrupts.read_signal(), Ok(Some(_))) {
                interrupted += 1;
                if interrupted == 1 {
                    stopping.store(true, Ordering::Relaxed);
                    board.line("Stopping gracefully; once more kills");
                    stop(scope, tool, what, board)?;
                } else {
                    board.line("Killing");
                    for (_, container) in &containers {
                        let _ = lifecycle::kill(tool, container, Signal::SIGKILL as i32);
                    }
                }
            }
        }
    })?;
    if let Some(status) = wanted {
        return Ok(status as u8);
    }
    Ok(match first {
        _ if interrupted > 0 => INTERRUPTED,
        Some((_, status)) => status as u8,
        None => 0,
    })
}

/// Stops all in a thread of its own, so that another interrupt is heard.
fn stop<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    tool: &Tool,
    what: &'scope Follow<'_>,
    board: &'scope Board,
) -> Result<()> {
    let own = tool.another();
    let mut found = found::containers(tool, &what.project.name)?;
    found.retain(|it| {
        it.state.live() && what.groups.iter().any(|group| group.containers.iter().any(|c| c.id == it.container.id))
    });
    let how = talk::Stop { signal: None, timeout: what.timeout };
    let waits: Vec<Vec<String>> = found.iter().map(|it| down::waits(Some(what.project), it)).collect();
    scope.spawn(move || {
        let waits_of = |it: &Found| {
            let at = found.iter().position(|other| other.container.id == it.container.id);
            at.map(|at| waits[at].clone()).unwrap_or_default()
        };
        for wave in down::waves(&found, waits_of) {
            if let Err(error) = down::stop(&own, &wave, &how, board) {
                crate::complain(&error);
            }
        }
    });
    Ok(())
}
