//! The small process beside each container. It starts the container through the runtime, keeps what it writes, tells
//! its clients, keeps its exit status, and starts it anew where its policy says so. One thread, one loop.
//!
//! It is started by the command that has prepared the container, and inherits three things: a mount namespace with the
//! root file system in it, the container's lock, and one end of a socket pair. It outlives the command. When it is
//! killed the lock is free, and the next command puts another one in its place (`container/settle.rs`).
//!
//! The order of an end: the exit status is on the disk before anybody is told; what the runtime has is gone before
//! the status is called final.

mod clients;
mod health;
mod oom;
pub mod plan;
mod restart;
mod run;
mod serve;
mod stdio;
pub mod talk;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::container::log::{Limits, Stream, Writer};
use crate::container::remove::Removal;
use crate::container::runtime::Runtime;
use crate::container::state::{Process, State};
use crate::network::firewall::Firewall;
use clients::Client;
use health::Checker;
use oom::Oom;
use plan::Plan;
use stdio::{Got, Streams};
use talk::PACKET;

/// The hidden word that it is called with, before the descriptors of the lock and the socket and the container's
/// directory.
pub const WORD: &str = "monitor";

/// The container's first process.
struct Init {
    pid: Pid,
    pidfd: OwnedFd,
    /// Whether the kernel tells us of its end as its parent.
    ours: bool,
}

/// How far the present run has come.
enum Phase {
    /// The runtime is at work.
    Starting(Pid),
    /// The program runs; with its status: it has ended, and its last output is still being read.
    Running(Option<i32>),
    /// Until the next run.
    Waiting(Instant),
    /// There is none.
    Over,
}

/// A stop that was asked for.
struct Stopping {
    /// What is asked first.
    signal: i32,
    /// When to kill; `None` for never.
    kill: Option<Instant>,
    killed: bool,
}

struct Monitor {
    plan: Plan,
    dir: PathBuf,
    runtime: Runtime,
    state: State,
    phase: Phase,
    streams: Streams,
    init: Option<Init>,
    /// Children that ended while the runtime was still at work: the first process may be one of them.
    ended_early: Vec<(Pid, i32)>,
    log: Option<Writer>,
    clients: Vec<Client>,
    stopping: Option<Stopping>,
    /// Whether the container is frozen for a client.
    held: bool,
    health: Option<Checker>,
    oom: Oom,
    delay: Option<Duration>,
    began: Instant,
    /// When to look at a terminal again that nobody has open.
    quiet: Option<Instant>,
    /// With --rm, once the program has ended.
    removal: Option<Removal>,
    /// What is there as long as somebody has it open: the container's network namespace, and the host's ports.
    kept: Vec<OwnedFd>,
    signals: SignalFd,
    listener: Option<OwnedFd>,
    buffer: Box<[u8]>,
    #[allow(dead_code)]
    lock: File,
    /// By what published ports were withdrawn.
    released: Option<Firewall>,
}

/// The monitor's life.
pub fn run(words: &[String]) -> Result<()> {
    let [lock, socket, dir] = words else { bail!("{WORD} LOCK SOCKET DIR: not for people") };
    let (lock, socket) = (number(lock)?, number(socket)?);
    crate::sys::close_all_but(&[lock.min(socket), lock.max(socket)]);
    let (lock, socket) = (File::from(crate::sys::take_fd(lock)?), crate::sys::take_fd(socket)?);
    // No terminal's signals, and no signal of a command that is done.
    rustix::process::setsid().context("a session of our own")?;
    rustix::process::chdir("/").context("leaving our caller's directory")?;
    rustix::process::set_child_subreaper(Pid::from_raw(1)).context("becoming the reaper of what the runtime starts")?;
    let signals = block_signals()?;
    let mut buffer = vec![0; 1 + PACKET].into_boxed_slice();
    let mut kept = Vec::new();
    let attached = loop {
        match talk::receive_first(&socket, &mut buffer, &mut kept)? {
            Some((talk::KEEP, _)) => number_the_first(&mut kept)?,
            Some((talk::GO, length)) => break length > 1,
            // The command could not prepare it.
            _ => return Ok(()),
        }
    };
    let dir = PathBuf::from(dir);
    let plan = Plan::read(&dir)?;
    let runtime = Runtime { program: plan.runtime.clone(), run_dir: plan.run_dir.clone(), id: plan.id.clone() };
    let mut first = Client::new(socket);
    (first.first, first.attached, first.lossless) = (true, attached, attached);
    let mut monitor = Monitor {
        state: State::read(&dir)?,
        phase: Phase::Over,
        streams: Streams::default(),
        init: None,
        ended_early: Vec::new(),
        log: None,
        clients: vec![first],
        stopping: None,
        held: false,
        health: None,
        oom: Oom::default(),
        delay: None,
        began: Instant::now(),
        quiet: None,
        removal: None,
        kept,
        signals,
        listener: None,
        buffer,
        lock,
        released: None,
        plan,
        dir,
        runtime,
    };
    let done = monitor.live();
    if let Err(error) = &done {
        monitor.give_up(error);
    }
    if let Some(firewall) = monitor.released.take() {
        // Our clients have heard of the end, and the container is free: nobody waits for what is left.
        drop(monitor);
        firewall.close_later();
    }
    done
}

/// A descriptor that the command has left open for us.
fn number(text: &str) -> Result<i32> {
    let number = text.parse().ok().filter(|it| *it > 2);
    number.with_context(|| format!("{text:?} is no descriptor that we were given"))
}

/// The network namespace's descriptor has a number that config.json names.
fn number_the_first(kept: &mut [OwnedFd]) -> Result<()> {
    if let Some(first) = kept.first_mut()
        && first.as_raw_fd() != talk::NETWORK
    {
        *first = rustix::io::fcntl_dupfd_cloexec(&*first, talk::NETWORK)?;
    }
    Ok(())
}

fn block_signals() -> Result<SignalFd> {
    let mut set = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT] {
        set.remove(fault);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// A packet with something in JSON.
fn packet(kind: u8, what: &impl serde::Serialize) -> Vec<u8> {
    let mut packet = vec![kind];
    packet.extend(serde_json::to_vec(what).unwrap_or_default());
    packet
}

impl Monitor {
    fn live(&mut self) -> Result<()> {
        self.listener = Some(talk::listen(&self.plan.run_dir)?);
        self.state.monitor = Process::of(std::process::id() as i32);
        if let Some(limits) = self.plan.log {
            let limits = Limits { max_size: limits.max_size, max_file: limits.max_file };
            self.log = Some(Writer::open(&self.dir.join("log"), limits)?);
        }
        if self.plan.adopt {
            self.adopt()?;
        } else {
            self.start()?;
        }
        while !matches!(self.phase, Phase::Over) {
            self.wait()?;
            self.read_signals()?;
            self.serve_clients();
            self.copy_output();
            if self.oom.rang().is_some() && self.oom.again() {
                self.oom_noticed();
            }
            self.keep_time()?;
            if let Phase::Running(Some(status)) = self.phase
                && self.streams.sources.is_empty()
            {
                self.ended(status)?;
            }
        }
        self.leave();
        Ok(())
    }

    fn event(&self, action: &str, more: &[(&str, &str)]) {
        let mut attributes = vec![("name", self.plan.name.as_str()), ("image", self.plan.image.as_str())];
        attributes.extend_from_slice(more);
        crate::events::append(&self.plan.store, crate::events::Kind::Container, action, &self.plan.id, &attributes);
    }

    fn oom_noticed(&mut self) {
        self.state.oom = true;
        self.event("oom", &[]);
        self.note();
    }

    /// Writes the state down for others to see. Where the disk is full the container goes on all the same.
    fn note(&self) {
        let _ = self.state.write(&self.dir, false);
    }

    /// Writes it down for good: nobody is told of an end before. On a full disk it waits for room, but not for ever.
    fn keep(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match self.state.write(&self.dir, !self.plan.remove) {
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
                written => return written,
            }
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> Result<()> {
        // A slow client holds the output back, not the signals and not the other clients.
        let held = self.clients.iter().any(Client::is_stuck);
        let quiet = self.quiet.is_some_and(|it| it > Instant::now());
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Phase::Running(_) = self.phase
            && !held
            && !quiet
        {
            fds.extend(self.streams.sources.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        }
        if let Some(input) = &self.streams.input
            && !self.streams.waiting.is_empty()
        {
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        let fed = self.streams.waiting.is_empty();
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, fed || !client.attached);
            flags.set(PollFlags::OUT, client.is_stuck());
            fds.push(PollFd::new(client, flags));
        }
        if let Some(output) = self.health.as_ref().and_then(Checker::output) {
            fds.push(PollFd::new(output, PollFlags::IN));
        }
        let alarm = self.oom.alarm();
        if let Some(alarm) = &alarm {
            fds.push(PollFd::new(alarm, PollFlags::IN));
        }
        if let Some(Init { ours: false, pidfd, .. }) = &self.init {
            fds.push(PollFd::new(pidfd, PollFlags::IN));
        }
        let timeout = self.next_time().map(|it| {
            let left = it.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("waiting for the container"),
        }
    }

    /// When there is something to do at the latest.
    fn next_time(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut times = vec![
            self.stopping.as_ref().and_then(|it| it.kill.filter(|_| !it.killed && self.init.is_some())),
            self.quiet.filter(|it| *it > now),
        ];
        if let Phase::Waiting(until) = self.phase {
            times.push(Some(until));
        }
        if !self.state.paused && matches!(self.phase, Phase::Running(None)) {
            times.push(self.health.as_ref().map(Checker::due));
        }
        if self.oom.is_awaited() {
            times.push(Some(now + Duration::from_millis(50)));
        }
        if self.clients.iter().any(Client::is_stuck) {
            times.push(Some(now + Duration::from_millis(500)));
        }
        times.into_iter().flatten().min()
    }

    fn read_signals(&mut self) -> Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            // The machine goes down, or somebody wants us to end: the container ends as by `stop`, but it is not
            // its user who has stopped it.
            if info.ssi_signo == Signal::SIGTERM as u32 {
                self.stop(&talk::Stop { signal: None, timeout: None }, false)?;
            }
        }
        // Signals of children that end at the same moment come as one.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = status.exit_status().or_else(|| status.terminating_signal().map(|it| 128 + it)).unwrap_or(255);
            self.child_ended(pid, code)?;
        }
        if let Some(Init { ours: false, pid, pidfd }) = &self.init
            && let Phase::Running(None) = self.phase
            && has_ended(pidfd)
        {
            let raw = status_of_stranger(*pid, pidfd);
            if raw.is_none() {
                self.state.error = Some(format!(
                    "its monitor was killed before it ended, and this kernel does not keep the exit status of process {} for others: 255 stands for it",
                    pid.as_raw_nonzero()
                ));
            }
            let status = raw.map_or(255, |raw| match raw & 0x7f {
                0 => raw >> 8 & 0xff,
                signal => 128 + signal,
            });
            self.phase = Phase::Running(Some(status));
        }
        Ok(())
    }

    fn child_ended(&mut self, pid: Pid, status: i32) -> Result<()> {
        if let Phase::Starting(runtime) = self.phase {
            if pid == runtime {
                // What it has left to us may have ended before: they are waited for first.
                while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    let code = status.exit_status().or_else(|| status.terminating_signal().map(|it| 128 + it));
                    self.ended_early.push((pid, code.unwrap_or(255)));
                }
                return self.runtime_ended(status);
            }
            self.ended_early.push((pid, status));
        } else if self.init.as_ref().is_some_and(|it| it.pid == pid) {
            self.phase = Phase::Running(Some(status));
        } else if let (Some(checker), Some(plan), Some(health)) =
            (&mut self.health, &self.plan.health, &mut self.state.health)
        {
            let before = health.status.clone();
            if checker.ended(pid, status, plan, health) {
                let action = (before != health.status).then(|| format!("health_status: {}", health.status));
                self.note();
                if let Some(action) = action {
                    self.event(&action, &[]);
                }
            }
        }
        Ok(())
    }

    /// From the container to the log and to who is attached.
    fn copy_output(&mut self) {
        if !matches!(self.phase, Phase::Running(_)) || self.quiet.is_some_and(|it| it > Instant::now()) {
            return;
        }
        self.quiet = None;
        let over = matches!(self.phase, Phase::Running(Some(_)));
        let mut at = 0;
        while at < self.streams.sources.len() {
            if self.clients.iter().any(Client::is_stuck) {
                return;
            }
            let source = &self.streams.sources[at];
            match source.read(&mut self.buffer) {
                Got::Bytes(count) => {
                    self.buffer[0] = source.kind;
                    let stream = if source.kind == talk::OUTPUT { Stream::Stdout } else { Stream::Stderr };
                    if let Some(log) = &mut self.log {
                        log.write(stream, &self.buffer[1..=count]);
                    }
                    for client in self.clients.iter_mut().filter(|it| it.attached) {
                        client.send(&self.buffer[..=count]);
                    }
                    // The other stream is not kept waiting, and at the end all is read.
                    at += usize::from(!over);
                }
                Got::Nothing if !over => at += 1,
                Got::Hung if !over => {
                    self.quiet = Some(Instant::now() + Duration::from_millis(20));
                    at += 1;
                }
                Got::Nothing | Got::Hung | Got::End => drop(self.streams.sources.remove(at)),
            }
        }
    }

    /// What is due.
    fn keep_time(&mut self) -> Result<()> {
        let now = Instant::now();
        if let Phase::Waiting(until) = self.phase
            && until <= now
        {
            if self.plan.adopt {
                return self.hand_over();
            }
            self.state.restarts += 1;
            return self.start();
        }
        // While the runtime is at work there is nobody to kill yet.
        if self.init.is_some()
            && let Some(stopping) = &mut self.stopping
            && !stopping.killed
            && stopping.kill.is_some_and(|it| it <= now)
        {
            stopping.killed = true;
            self.signal(Signal::SIGKILL as i32);
            self.thaw();
        }
        if !self.state.paused
            && let (Phase::Running(None), Some(checker), Some(plan)) =
                (&self.phase, &mut self.health, &self.plan.health)
        {
            checker.act(plan, &self.runtime);
        }
        Ok(())
    }
}

/// How a process ended that is another's child, in the form of wait(2): by what its zombie shows (proc(5),
/// /proc/PID/stat, field 52), or when its parent has taken that away, by the pidfd.
fn status_of_stranger(pid: Pid, pidfd: &OwnedFd) -> Option<i32> {
    for _ in 0..100 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        let zombie = stat.rsplit(") ").next().is_some_and(|it| it.starts_with('Z'));
        let shown = stat.split_whitespace().last().filter(|_| zombie).and_then(|it| it.parse().ok());
        if let Some(status) = shown.or_else(|| crate::sys::exit_of(pidfd)) {
            return Some(status);
        }
        if stat.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    crate::sys::exit_of(pidfd)
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
}
