//! Waits for a container in the foreground: passes signals on, and bytes between the caller's
//! terminal and the container's.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::sys;
use crate::sys::error::At;
use crate::sys::signals::Signals;

/// Until init ends. The result is its exit status, or 128 and the signal that ended it.
pub(super) fn wait(init: BorrowedFd<'_>, terminal: Option<OwnedFd>) -> Result<u8> {
    let signals = Signals::all()?;
    let mut relay = terminal.map(Relay::new).transpose()?;
    loop {
        let ended = if let Some(relay) = &mut relay {
            relay.turn(init, &signals)?
        } else {
            let mut list = [PollFd::new(&init, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
            poll_again(&mut list)?;
            !list[0].revents().is_empty()
        };
        while let Some(signal) = signals.next() {
            match (signal, &relay) {
                (libc::SIGURG, _) => {}
                (libc::SIGWINCH, Some(relay)) => relay.resize(),
                // Init may have ended just now.
                _ => drop(sys::pidfd_send_signal(init, signal)),
            }
        }
        if ended {
            break;
        }
    }
    if let Some(relay) = &mut relay {
        relay.drain();
    }
    let status = waitid(WaitId::PidFd(init), WaitIdOptions::EXITED).at(|| "waiting for the container".into())?;
    let code = status.map_or(0, |status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, signal) => 128 + signal.unwrap_or(0),
    });
    Ok(code as u8)
}

fn poll_again(list: &mut [PollFd<'_>]) -> Result<()> {
    loop {
        match poll(list, None) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).at(|| "waiting for the container".into()),
        }
    }
}

/// The caller's terminal on one side, the container's on the other.
struct Relay {
    master: OwnedFd,
    /// To be restored.
    modes: Option<Termios>,
    to_container: VecDeque<u8>,
    input_open: bool,
    output_open: bool,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay> {
        let flags = rustix::fs::fcntl_getfl(&master).at(|| "preparing the terminal".into())?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK)
            .at(|| "preparing the terminal".into())?;
        let mut modes = None;
        if isatty(stdin()) {
            let before = tcgetattr(stdin()).at(|| "preparing the terminal".into())?;
            let mut raw = before.clone();
            raw.make_raw();
            // The container's output comes without carriage returns: this side adds them.
            raw.output_modes |= rustix::termios::OutputModes::OPOST | rustix::termios::OutputModes::ONLCR;
            tcsetattr(stdin(), OptionalActions::Drain, &raw).at(|| "preparing the terminal".into())?;
            modes = Some(before);
        }
        let relay = Relay { master, modes, to_container: VecDeque::new(), input_open: true, output_open: true };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Moves what can be moved; says whether init has ended.
    fn turn(&mut self, init: BorrowedFd<'_>, signals: &Signals) -> Result<bool> {
        let none = PollFlags::empty();
        let input = if self.input_open && self.to_container.is_empty() { PollFlags::IN } else { none };
        let mut master = if self.output_open { PollFlags::IN } else { none };
        if !self.to_container.is_empty() {
            master |= PollFlags::OUT;
        }
        let mut list = vec![PollFd::new(&init, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        let master_at = (!master.is_empty()).then(|| {
            list.push(PollFd::from_borrowed_fd(self.master.as_fd(), master));
            list.len() - 1
        });
        let input_at = (!input.is_empty()).then(|| {
            list.push(PollFd::from_borrowed_fd(stdin(), input));
            list.len() - 1
        });
        poll_again(&mut list)?;
        let ended = !list[0].revents().is_empty();
        let ready = |at: Option<usize>| at.is_some_and(|at| !list[at].revents().is_empty());
        let (from_master, from_input) = (ready(master_at), ready(input_at));
        if from_input {
            self.read_input();
        }
        if from_master {
            self.write_container();
            self.copy_output();
        }
        Ok(ended)
    }

    fn read_input(&mut self) {
        let mut buffer = [0; 4096];
        match read(stdin(), &mut buffer) {
            Ok(0) | Err(Errno::IO | Errno::BADF) => {
                self.input_open = false;
                // The end of input, as a terminal says it.
                self.to_container.push_back(4);
            }
            Ok(length) => self.to_container.extend(&buffer[..length]),
            Err(_) => {}
        }
    }

    fn write_container(&mut self) {
        while !self.to_container.is_empty() {
            match write(&self.master, self.to_container.make_contiguous()) {
                Ok(length) => drop(self.to_container.drain(..length)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => self.to_container.clear(),
            }
        }
    }

    /// Copies one buffer of output. EIO says that the other side is closed.
    fn copy_output(&mut self) -> bool {
        let mut buffer = [0; 16384];
        match read(&self.master, &mut buffer) {
            Ok(0) | Err(Errno::IO) => {
                self.output_open = false;
                false
            }
            Ok(length) => {
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match write(stdout(), rest) {
                        Ok(length) => rest = &rest[length..],
                        Err(Errno::INTR | Errno::AGAIN) => {}
                        // Nobody reads any more: the container need not know.
                        Err(_) => break,
                    }
                }
                true
            }
            Err(_) => false,
        }
    }

    /// What the container wrote before it ended.
    fn drain(&mut self) {
        while self.copy_output() {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, modes);
        }
    }
}
