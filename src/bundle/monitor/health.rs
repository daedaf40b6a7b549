//! Health checks: a command that is run in the container again and again.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Pid;

use super::plan::Health as Plan;
use crate::container::runtime::{Runtime, null};
use crate::container::state::{Health, Probe, now};

/// How much of what a check prints is kept, in bytes, and how many checks.
const OUTPUT: usize = 4096;
const CHECKS: usize = 5;

/// The checks of one run of a container.
pub struct Checker {
    began: Instant,
    next: Instant,
    current: Option<Check>,
}

/// A check at work.
struct Check {
    pid: Pid,
    started: i64,
    deadline: Instant,
    output: File,
    text: Vec<u8>,
    late: bool,
}

impl Checker {
    /// For a container that has just started.
    pub fn new(plan: &Plan) -> Self {
        let began = Instant::now();
        Self { began, next: began + first_interval(plan), current: None }
    }

    /// When there is something to do.
    pub fn due(&self) -> Instant {
        match &self.current {
            Some(check) if !check.late => check.deadline,
            // It has been killed: its end comes as a signal.
            Some(_) => Instant::now() + Duration::from_secs(1),
            None => self.next,
        }
    }

    /// Does what is due: starts a check, or ends one that takes too long.
    pub fn act(&mut self, plan: &Plan, runtime: &Runtime) {
        let now = Instant::now();
        if let Some(check) = &mut self.current {
            check.collect();
            if now >= check.deadline && !check.late {
                check.late = true;
                kill(check.pid, runtime);
            }
        } else if now >= self.next {
            match Check::start(plan, runtime) {
                Ok(check) => self.current = Some(check),
                Err(_) => self.next = now + plan.check.interval,
            }
        }
    }

    /// A child of the monitor has ended. If it was the check: what it has found.
    pub fn ended(&mut self, pid: Pid, status: i32, plan: &Plan, health: &mut Health) -> bool {
        let Some(mut check) = self.current.take_if(|it| it.pid == pid) else { return false };
        check.collect();
        let exit_code = if check.late { -1 } else { status };
        let mut output = String::from_utf8_lossy(&check.text).into_owned();
        if check.late {
            output = format!("Health check exceeded timeout ({} s)", plan.check.timeout.as_secs_f64());
        }
        let starting = self.began.elapsed() < plan.check.start_period && health.status == "starting";
        judge(health, Probe { start: check.started, end: now(), exit_code, output }, starting, plan.check.retries);
        let starting = self.began.elapsed() < plan.check.start_period && health.status == "starting";
        self.next = Instant::now() + if starting { plan.check.start_interval } else { plan.check.interval };
        true
    }

    /// The container has ended: what still runs of a check is of no use.
    pub fn stop(&mut self) {
        if let Some(check) = self.current.take() {
            let _ = rustix::process::kill_process(check.pid, rustix::process::Signal::KILL);
        }
    }
}

fn first_interval(plan: &Plan) -> Duration {
    if plan.check.start_period.is_zero() { plan.check.interval } else { plan.check.start_interval }
}

/// What a check's result makes of a container's health.
fn judge(health: &mut Health, probe: Probe, starting: bool, retries: u32) {
    if probe.exit_code == 0 {
        health.failing_streak = 0;
        "healthy".clone_into(&mut health.status);
    } else if !starting {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            "unhealthy".clone_into(&mut health.status);
        }
    }
    health.log.push(probe);
    if health.log.len() > CHECKS {
        health.log.remove(0);
    }
}

/// Ends a check: its process in the container, whose end the runtime then reports. Where there is none yet, the
/// runtime.
fn kill(pid: Pid, runtime: &Runtime) {
    let inside = std::fs::read_to_string(pid_file(runtime)).ok().and_then(|it| Pid::from_raw(it.trim().parse().ok()?));
    let _ = rustix::process::kill_process(inside.unwrap_or(pid), rustix::process::Signal::KILL);
    if inside.is_some() {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

fn pid_file(runtime: &Runtime) -> std::path::PathBuf {
    runtime.run_dir.join("health.pid")
}

impl Check {
    fn start(plan: &Plan, runtime: &Runtime) -> Result<Self> {
        let process = runtime.run_dir.join("health.json");
        if !process.exists() {
            std::fs::write(&process, serde_json::to_vec(&plan.process)?)?;
        }
        let _ = std::fs::remove_file(pid_file(runtime));
        let (output, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        let mut command = runtime.command();
        command.arg("exec").arg("--process").arg(process).arg("--pid-file").arg(pid_file(runtime)).arg(&runtime.id);
        command.stdin(null()).stdout(theirs.try_clone()?).stderr(theirs);
        crate::sys::die_with_us(&mut command);
        let child = command.spawn().context("starting the runtime")?;
        let (started, deadline) = (now(), Instant::now() + plan.check.timeout);
        let (pid, output) = (Pid::from_child(&child), File::from(output));
        Ok(Self { pid, started, deadline, output, text: Vec::new(), late: false })
    }

    /// Takes what has been printed; more than is kept is thrown away, so that nobody waits for us.
    fn collect(&mut self) {
        let mut buffer = [0; OUTPUT];
        while let Ok(count @ 1..) = self.output.read(&mut buffer) {
            let room = OUTPUT - self.text.len();
            self.text.extend_from_slice(&buffer[..count.min(room)]);
        }
    }

    /// Where its output comes from.
    fn output(&self) -> &File {
        &self.output
    }
}

impl Checker {
    /// What to wait for besides the time.
    pub fn output(&self) -> Option<&File> {
        self.current.as_ref().map(Check::output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(results: &[i32], starting: bool) -> Health {
        let mut health = Health { status: "starting".into(), ..Health::default() };
        for exit_code in results {
            let still = starting && health.status == "starting";
            judge(&mut health, Probe { exit_code: *exit_code, ..Probe::default() }, still, 3);
        }
        health
    }

    #[test]
    fn three_failures_in_a_row_and_one_success() {
        assert_eq!(after(&[], false).status, "starting");
        assert_eq!(after(&[1, 1], false).status, "starting");
        assert_eq!(after(&[1, 1, 1], false).status, "unhealthy");
        assert_eq!(after(&[1, 1, 0, 1, 1], false).status, "healthy");
        assert_eq!(after(&[0, 1, -1, 1], false).status, "unhealthy");
        assert_eq!(after(&[1, 1, 1, 1, 1, 1, 0], false).log.len(), 5);
        // While it starts failures do not count.
        assert_eq!(after(&[1; 9], true).failing_streak, 0);
        assert_eq!(after(&[1, 1, 0, 1, 1, 1], true).status, "unhealthy");
    }
}
