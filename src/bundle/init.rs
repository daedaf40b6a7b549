//! The first process of a container that was asked for with `--init`: it starts the program, passes every signal on
//! to it, buries the dead that nobody else does, and ends as the program has ended.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open};

/// The hidden word that it is called with.
pub const WORD: &str = "init";

const USAGE: &str = "init -- PROGRAM ARGUMENT...: this is the first process of a container, not a command";
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// `init -- PROGRAM ARGUMENT...`: runs the program and gives its exit status, 128 and the number for a signal.
pub fn run(words: impl Iterator<Item = OsString>) -> Result<u8> {
    let words: Vec<OsString> = words.collect();
    let [dashes, program, arguments @ ..] = &words[..] else { bail!(USAGE) };
    if dashes != "--" {
        bail!(USAGE);
    }
    // From here on no signal is lost: what comes before the program runs waits.
    let signals = relayed();
    signals.thread_block().context("blocking signals")?;
    let queue = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("a descriptor for signals")?;
    if std::process::id() != 1 {
        // With the host's processes in view, orphans come to us only if we ask for them.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("becoming a reaper")?;
    }
    let child = match start(program, arguments) {
        Ok(child) => child,
        Err(error) => {
            let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
            crate::complain(&anyhow::Error::new(error).context(format!("starting {}", program.display())));
            return Ok(status);
        }
    };
    let pid = Pid::from_child(&child);
    let process = pidfd_open(pid, PidfdFlags::empty()).context("a descriptor of the program")?;
    give_terminal(pid);
    loop {
        let Some(signal) = queue.read_signal().context("reading signals")? else { continue };
        if signal.ssi_signo == Named::SIGCHLD as u32 {
            if let Some(status) = bury(pid)? {
                return Ok(status);
            }
        } else {
            // It may have ended just now: then its end is the next that we read.
            crate::sys::send_signal(&process, signal.ssi_signo as i32);
        }
    }
}

/// All signals but those that a fault of our own raises.
fn relayed() -> SigSet {
    let mut signals = SigSet::all();
    for own in
        [Named::SIGFPE, Named::SIGILL, Named::SIGSEGV, Named::SIGBUS, Named::SIGABRT, Named::SIGTRAP, Named::SIGSYS]
    {
        signals.remove(own);
    }
    signals
}

/// Starts the program in a process group of its own, with no signal blocked. In this thread, since another one that
/// had no signals blocked would take the program's end from us.
fn start(program: &OsStr, arguments: &[OsString]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    crate::sys::unblock_signals(&mut command);
    command.spawn()
}

/// Where there is a terminal and it is ours, the program is who reads from it. It may have tried to already.
fn give_terminal(child: Pid) {
    let stdin = std::io::stdin();
    let ours = rustix::termios::tcgetpgrp(&stdin).is_ok_and(|it| it == rustix::process::getpgrp());
    if ours && rustix::termios::tcsetpgrp(&stdin, child).is_ok() {
        let _ = rustix::process::kill_process_group(child, Signal::CONT);
    }
}

/// Takes the status of all who have ended; the program's own, if it is among them.
fn bury(child: Pid) -> Result<Option<u8>> {
    let mut ours = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => ours = Some(exit_status(status.as_raw())),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            // Whoever started us ignores the end of children, and so nobody knows how ours ended.
            Err(Errno::CHILD) if ours.is_none() => bail!("the program's exit status is lost: SIGCHLD is ignored"),
            Ok(None) | Err(Errno::CHILD) => return Ok(ours),
            Err(error) => return Err(error).context("waiting for processes"),
        }
    }
}

fn exit_status(raw: i32) -> u8 {
    let status = ExitStatus::from_raw(raw);
    status.code().or_else(|| Some(128 + status.signal()?)).map_or(u8::MAX, |it| it as u8)
}
