//! `bundle attach`, and how `run` and `start` stay with their container.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};

use super::run::{failed, options};
use crate::cli::containers::Attach;
use crate::container::attach::{self, Options, Outcome, Signals};
use crate::container::record::{self, Container};
use crate::container::{lifecycle, settle};
use crate::monitor::talk;
use crate::tool::Tool;

/// The exit status of the container, 0 if it was left alone.
pub fn run(tool: &Tool, args: &Attach) -> Result<u8> {
    let container = record::find(tool.store()?, &args.container)?;
    let socket = lifecycle::running(tool, &container)?;
    if settle::state(tool, &container)?.is_some_and(|it| it.paused) {
        bail!("container {} is paused: unpause it first", container.name);
    }
    let terminal = container.settings.flags.tty;
    let options = options(&args.attaching, container.settings.interactive && !args.no_stdin, terminal)?;
    let signals = Signals::take(options.signals, terminal)?;
    talk::send(&socket, talk::ATTACH, &[])?;
    if terminal {
        attach::send_size(&socket);
    }
    lifecycle::event(tool, &container, "attach", &[]);
    stay(tool, &container, socket, &signals, &options)
}

/// Stays attached to a container until it ends; with the next monitor if its own is killed meanwhile.
pub fn stay(
    tool: &Tool,
    container: &Container,
    mut socket: OwnedFd,
    signals: &Signals,
    options: &Options,
) -> Result<u8> {
    loop {
        match attach::attach(&socket, signals, options)? {
            Outcome::Ended(end) => return Ok(failed(&end)),
            Outcome::Detached => {
                lifecycle::event(tool, container, "detach", &[]);
                return Ok(0);
            }
            Outcome::Lost => {
                let Some(next) = lifecycle::connect(tool, container)? else {
                    let state = settle::state(tool, container)?.unwrap_or_default();
                    let lost = state.error.unwrap_or_else(|| "its monitor was killed, and it is removed".to_owned());
                    bail!("container {}: {lost}", container.name)
                };
                talk::send(&next, talk::ATTACH, b"1")?;
                socket = next;
            }
        }
    }
}
