//! One run of the container, from the runtime's start to the decision whether there is a next one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags};

use super::clients::Client;
use super::health::Checker;
use super::oom::Oom;
use super::stdio::{Got, Streams};
use super::talk::{self, End};
use super::{Init, Monitor, Phase, restart};
use crate::container::remove::Removal;
use crate::container::runtime;
use crate::container::state::{Process, Status, now};
use crate::network::detach;

impl Monitor {
    /// One run: what goes before the runtime, and the runtime itself.
    pub(super) fn start(&mut self) -> Result<()> {
        self.state.status = Status::Starting;
        (self.state.paused, self.state.process, self.state.oom, self.state.error) = (false, None, false, None);
        self.state.health = None;
        self.note();
        self.runtime.forget();
        let pid_file = self.pid_file();
        let _ = std::fs::remove_file(&pid_file);
        let mut command = self.runtime.command();
        command.args(["run", "--detach", "--bundle"]).arg(&self.dir).arg("--pid-file").arg(pid_file);
        self.streams = Streams::make(&self.plan, &mut command)?;
        command.arg(&self.plan.id);
        crate::sys::unblock_signals(&mut command);
        crate::sys::die_with_us(&mut command);
        let child = command.spawn();
        let child = child.with_context(|| format!("starting the runtime {}", self.plan.runtime.display()))?;
        self.phase = Phase::Starting(Pid::from_child(&child));
        Ok(())
    }

    fn pid_file(&self) -> PathBuf {
        self.plan.run_dir.join("pid")
    }

    /// A container whose monitor was killed.
    pub(super) fn adopt(&mut self) -> Result<()> {
        let process = self.state.process.clone().context("a container without a process cannot be adopted")?;
        let pid = Pid::from_raw(process.pid).context("a process without a number")?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("its first process has ended")?;
        // The descriptor may be of another that has got the number since.
        if !process.lives() {
            bail!("its first process has ended");
        }
        self.streams = Streams::find(&self.plan);
        self.oom = Oom::of(process.pid);
        // What was counted before has been told.
        self.oom.again();
        self.init = Some(Init { pid, pidfd, ours: false });
        self.health = self.plan.health.as_ref().map(Checker::new);
        self.phase = Phase::Running(None);
        self.note();
        Ok(())
    }

    /// The runtime has done its work.
    pub(super) fn runtime_ended(&mut self, status: i32) -> Result<()> {
        if status != 0 {
            return self.not_started(status);
        }
        let text = std::fs::read_to_string(self.pid_file()).context("the runtime has written no pid file")?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("the runtime's pid file says {text:?}"))?;
        self.streams.accept_terminal(&self.plan)?;
        let early = self.ended_early.iter().find(|it| it.0 == pid).map(|it| it.1);
        self.ended_early.clear();
        self.phase = Phase::Running(early);
        self.state.status = Status::Running;
        self.state.process = Process::of(pid.as_raw_nonzero().get());
        (self.state.started, self.state.finished) = (now(), 0);
        self.began = Instant::now();
        if early.is_none() {
            let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("the first process")?;
            self.init = Some(Init { pid, pidfd, ours: true });
            self.oom = Oom::of(pid.as_raw_nonzero().get());
            if let Some(health) = &self.plan.health {
                self.health = Some(Checker::new(health));
                self.state.health =
                    Some(crate::container::state::Health { status: "starting".to_owned(), ..Default::default() });
            }
        }
        self.note();
        self.event("start", &[]);
        for client in &mut self.clients {
            client.send(&[talk::STARTED]);
        }
        // Asked for while the runtime was at work.
        if let Some(stopping) = &self.stopping {
            self.signal(stopping.signal);
        }
        Ok(())
    }

    /// The runtime could not start the program.
    fn not_started(&mut self, status: i32) -> Result<()> {
        let said = self.runtime.failure().or_else(|| self.said());
        let said = said.unwrap_or_else(|| {
            format!("the runtime {} gave status {status} and said nothing", self.plan.runtime.display())
        });
        self.runtime.delete();
        self.end_cgroups();
        let status = i32::from(runtime::status_of(&said));
        let first = self.state.restarts == 0 && self.delay.is_none();
        self.state.error = Some(said.clone());
        self.state.exit = Some(status);
        self.state.status = if first { Status::Created } else { Status::Exited };
        // A program that cannot be started at all will not be the next time; one that has run before may.
        let again = if first { None } else { self.next_run(status) };
        if again.is_some() {
            self.state.status = Status::Restarting;
        }
        self.keep()?;
        self.over(End { status, error: Some(said), again: again.is_some() }, again);
        Ok(())
    }

    /// A container whose first monitor was killed is started anew by a command, as by hand: what had been mounted for
    /// it is gone with that monitor.
    pub(super) fn hand_over(&mut self) -> Result<()> {
        self.state.status = Status::Exited;
        self.keep()?;
        self.listener = None;
        detach::detach(&self.plan.run_dir)?;
        self.kept.clear();
        runtime::remove_run_dir(&self.plan.run_dir);
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg("--root").arg(&self.plan.store).args(["start", &self.plan.id]);
        crate::sys::unblock_signals(&mut command);
        // The lock is closed by this; it is never taken by two at once.
        Err(std::os::unix::process::CommandExt::exec(&mut command).into())
    }

    /// What the runtime wrote where the program would have.
    fn said(&mut self) -> Option<String> {
        let source = self.streams.sources.iter().find(|it| it.kind == talk::ERROR)?;
        let Got::Bytes(count) = source.read(&mut self.buffer) else { return None };
        let text = String::from_utf8_lossy(&self.buffer[1..=count]);
        text.lines().rev().find(|it| !it.trim().is_empty()).map(|it| it.trim().to_owned())
    }

    /// The first process has ended and its output is read.
    pub(super) fn ended(&mut self, status: i32) -> Result<()> {
        if let Some(health) = &mut self.health {
            health.stop();
        }
        (self.health, self.init) = (None, None);
        if self.oom.again() {
            self.oom_noticed();
        }
        self.oom = Oom::default();
        (self.state.exit, self.state.finished) = (Some(status), now());
        (self.state.paused, self.held) = (false, false);
        self.state.status = Status::Exited;
        let again = self.next_run(status);
        if again.is_some() {
            self.state.status = Status::Restarting;
        }
        // Nobody asks for the status of what is removed in a moment.
        self.keep()?;
        let text = status.to_string();
        self.event("die", &[("exitCode", &text)]);
        // Two processes have something to do, and nobody waits for one after the other.
        self.removal =
            self.runtime.delete_during(|| self.plan.remove.then(|| Removal::begin(&self.plan).ok())).flatten();
        self.end_cgroups();
        self.over(End { status, error: None, again: again.is_some() }, again);
        Ok(())
    }

    /// Some runtimes leave a cgroup in which somebody is just dying.
    fn end_cgroups(&self) {
        if let Some(path) = &self.plan.cgroup {
            crate::container::leftover::remove_cgroups(path);
        }
    }

    /// After how long the container is started anew, if it is.
    fn next_run(&mut self, status: i32) -> Option<Duration> {
        if self.stopping.is_some() || self.plan.remove {
            return None;
        }
        let delay = restart::delay(self.plan.restart, status, self.state.restarts, self.began.elapsed(), self.delay);
        self.delay = delay;
        delay
    }

    /// The end of one run, which the state on the disk says already; of the monitor's work too where there is no next
    /// one.
    pub(super) fn over(&mut self, end: End, again: Option<Duration>) {
        self.streams = Streams::default();
        if let Some(delay) = again {
            self.phase = Phase::Waiting(Instant::now() + delay);
        } else {
            self.stopping = None;
            self.phase = Phase::Over;
        }
        for client in &mut self.clients {
            client.tell(&end);
        }
    }

    /// The last steps. What is told is told when the sockets close: by then nothing is left to wait for, but for devices
    /// that carry nothing any more.
    pub(super) fn leave(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.clients.iter().any(|it| it.is_stuck() && !it.is_gone()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
            self.clients.iter_mut().for_each(Client::retry);
        }
        self.listener = None;
        let released = detach::release(&self.plan.run_dir);
        // Only now: whoever gets a port finds no rule for it that leads to us. The namespace is nobody's after this.
        self.kept.clear();
        if let Err(error) = &released {
            // Its record stays, for the next command to go on.
            self.state.error = Some(format!("leaving its networks: {error:#}"));
            self.note();
        }
        let networks = self.plan.run_dir.join(crate::network::record::FILE).exists();
        if !networks {
            runtime::remove_run_dir(&self.plan.run_dir);
        }
        if self.plan.remove {
            let removal = self.removal.take().map_or_else(|| Removal::begin(&self.plan), Ok);
            if let Err(error) = removal.and_then(Removal::finish) {
                // The next command does it.
                self.state.error = Some(format!("removing it: {error:#}"));
                self.note();
            }
        }
        self.clients.clear();
        if networks && released.is_ok() && detach::remove_devices(&self.plan.run_dir).is_ok() {
            runtime::remove_run_dir(&self.plan.run_dir);
        }
        self.released = released.ok().flatten();
    }

    /// Something that we count on is not there: nothing may stay half done.
    pub(super) fn give_up(&mut self, error: &anyhow::Error) {
        self.runtime.delete();
        self.end_cgroups();
        let error = format!("{error:#}");
        self.state.status = if self.state.started == 0 { Status::Created } else { Status::Exited };
        self.state.exit = Some(i32::from(runtime::FAILED));
        self.state.error = Some(error.clone());
        self.state.finished = now();
        let _ = self.keep();
        let end = End { status: i32::from(runtime::FAILED), error: Some(error), again: false };
        for client in &mut self.clients {
            client.tell(&end);
        }
        self.leave();
    }
}
