//! Runs one hook (config.md, "POSIX-platform Hooks").
//!
//! Standard input and output are memory files, not pipes: a hook that does not read its state, that
//! writes megabytes, or that leaves a grandchild with the descriptor open, cannot block us.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::config::types::Hook;
use crate::sys::error::{At, text};
use crate::sys::signals::{Signals, Waited};

/// How much of a failed hook's output goes into the error.
const TAIL: u64 = 2048;

/// Runs the hooks of one kind in their order, up to the first that fails. With `signals`, one that
/// asks this process to end is such a failure.
pub fn run_all(kind: &str, hooks: &[Hook<'_>], state: &str, signals: Option<&Signals>) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run(hook, state, signals).map_err(|error| anyhow!("/hooks/{kind}/{index}: {} {error:#}", hook.path))?;
    }
    Ok(())
}

/// Runs one hook to its end, or to its timeout. Errors read on from the hook's path.
pub fn run(hook: &Hook<'_>, state: &str, signals: Option<&Signals>) -> Result<()> {
    let mut stdin = memory_file()?;
    stdin.write_all(state.as_bytes()).at(|| "writing the state".into())?;
    stdin.seek(SeekFrom::Start(0)).at(|| "writing the state".into())?;
    let output = memory_file()?;
    let copy = || output.try_clone().at(|| "could not get a descriptor for its output".into());
    let mut command = Command::new(&*hook.path);
    command
        .arg0(hook.args.first().map_or(&*hook.path, |name| name))
        .args(hook.args.iter().skip(1).map(|arg| &**arg))
        .env_clear()
        .envs(hook.env.iter().filter_map(|entry| entry.split_once('=')))
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(copy()?))
        .stderr(Stdio::from(copy()?))
        .process_group(0);
    let mut child = command.spawn().map_err(|error| anyhow!("could not be started: {}", text(&error)))?;
    let group = Pid::from_child(&child);
    let limit = hook.timeout.map(|seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
    let pidfd = pidfd_open(group, PidfdFlags::empty()).at(|| "could not be watched".into())?;
    let stopped = match wait(&pidfd, limit.as_ref(), signals)? {
        Waited::Readable => None,
        Waited::TooLong => Some(format!("did not end within its timeout of {} s", hook.timeout.unwrap_or(0))),
        Waited::Signal(signal) => Some(format!("was cut short by signal {signal}")),
    };
    if let Some(why) = stopped {
        // Not an error: the group may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
        let _ = child.wait();
        bail!("{why} and was killed{}", said(&output));
    }
    let status = child.wait().at(|| "could not be waited for".into())?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => bail!("failed with exit status {code}{}", said(&output)),
        (None, signal) => bail!("was killed by signal {}{}", signal.unwrap_or(0), said(&output)),
    }
}

fn wait(pidfd: &OwnedFd, limit: Option<&Timespec>, signals: Option<&Signals>) -> Result<Waited> {
    if let Some(signals) = signals {
        return signals.wait_for(pidfd, limit);
    }
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], limit) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return Ok(Waited::TooLong),
            other => return other.at(|| "could not be watched".into()).map(|_| Waited::Readable),
        }
    }
}

fn memory_file() -> Result<File> {
    Ok(memfd_create("hook", MemfdFlags::CLOEXEC).at(|| "could not get a memory file".into())?.into())
}

/// The end of what the hook wrote, on one line.
fn said(output: &File) -> String {
    use std::os::unix::fs::FileExt;
    let length = output.metadata().map_or(0, |meta| meta.len());
    let start = length.saturating_sub(TAIL);
    let mut bytes = vec![0; (length - start) as usize];
    let read = output.read_at(&mut bytes, start).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { String::new() } else { format!("; it wrote: {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, timeout: Option<i64>) -> Result<()> {
        let args: Vec<_> = ["sh", "-c", script].iter().map(|arg| (*arg).into()).collect();
        let env = vec!["A=b".into()];
        run(&Hook { path: "/bin/sh".into(), args, env, timeout }, "{\"id\":\"x\"}", None)
    }

    #[test]
    fn state_environment_and_descriptors() {
        sh(r#"read s; test "$s" = '{"id":"x"}' && test "$A" = b && test -z "$PATH_OF_CALLER""#, None).unwrap();
        // As `create` does: what the caller left open is not for hooks.
        crate::sys::cloexec_from(3).unwrap();
        sh("for f in /proc/self/fd/*; do case $f in */[0-3]) ;; *) exit 3;; esac; done", None).unwrap();
        sh("true", None).unwrap();
    }

    #[test]
    fn failures_say_what_was_written() {
        let error = sh("echo one; echo two >&2; exit 7", None).unwrap_err().to_string();
        assert_eq!(error, "failed with exit status 7; it wrote: one two");
        let error = sh("kill -9 $$", None).unwrap_err().to_string();
        assert_eq!(error, "was killed by signal 9");
    }

    #[test]
    fn a_hook_that_writes_much_or_hangs_does_not_hold_us() {
        sh("head -c 4000000 /dev/zero", None).unwrap();
        sh("sleep 3 & exit 0", None).unwrap();
        let start = std::time::Instant::now();
        assert!(sh("sleep 60 & sleep 60", Some(1)).unwrap_err().to_string().contains("timeout of 1 s"));
        assert!(start.elapsed().as_secs() < 10);
    }
}
