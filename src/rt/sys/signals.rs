//! Signals as something to read: while a container is half made, none may end this process.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::At;

/// Blocks signals and gives them out one by one.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Those that ask this process to end.
    pub fn ending() -> Result<Signals> {
        Signals::take(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT])
    }

    /// All that can be blocked, for passing them on.
    pub fn all() -> Result<Signals> {
        let mut set = SigSet::all();
        // Faults of our own are not for the container, and that it has ended its descriptor says.
        for signal in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
            Signal::SIGTRAP,
            Signal::SIGCHLD,
        ] {
            set.remove(signal);
        }
        Signals::block(set)
    }

    fn take(list: &[Signal]) -> Result<Signals> {
        Signals::block(list.iter().copied().collect())
    }

    fn block(set: SigSet) -> Result<Signals> {
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before)).at(|| "blocking signals".into())?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .at(|| "reading signals".into())?;
        Ok(Signals { fd, before })
    }

    /// The next signal that has come, if any.
    pub fn next(&self) -> Option<i32> {
        self.fd.read_signal().ok().flatten().map(|info| info.ssi_signo as i32)
    }

    /// Waits until the other side of `socket` is gone, whatever it says before, or a signal comes.
    pub fn wait_for_end(&self, socket: impl AsFd) -> Result<Waited> {
        // POLLHUP is told without being asked for.
        self.wait([socket.as_fd()], PollFlags::empty(), None)
    }

    /// Waits until `fd` can be read, or a signal comes.
    pub fn wait_for(&self, fd: impl AsFd, limit: Option<&Timespec>) -> Result<Waited> {
        self.wait_for_any([fd.as_fd()], limit)
    }

    /// Waits until one of them can be read, or a signal comes.
    pub fn wait_for_any<const N: usize>(&self, fds: [BorrowedFd<'_>; N], limit: Option<&Timespec>) -> Result<Waited> {
        self.wait(fds, PollFlags::IN, limit)
    }

    fn wait<const N: usize>(
        &self,
        fds: [BorrowedFd<'_>; N],
        events: PollFlags,
        limit: Option<&Timespec>,
    ) -> Result<Waited> {
        loop {
            let mut list: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, events)).collect();
            list.push(PollFd::new(&self.fd, PollFlags::IN));
            match poll(&mut list, limit) {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(0) => return Ok(Waited::TooLong),
                other => other.at(|| "waiting".into())?,
            };
            if list[..N].iter().any(|polled| !polled.revents().is_empty()) {
                return Ok(Waited::Readable);
            }
            if let Some(signal) = self.next() {
                return Ok(Waited::Signal(signal));
            }
        }
    }
}

/// What [`Signals::wait_for`] saw first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The descriptor can be read, or its other side is gone.
    Readable,
    /// A signal came.
    Signal(i32),
    /// The limit has passed.
    TooLong,
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
