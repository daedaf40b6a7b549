//! A further program in a container that runs: the runtime does it, of a process object that is made of the
//! container's own.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use serde_json::{Value, json};

use super::record::Container;
use super::runtime::{Runtime, null, status_of};
use super::state::{State, Status};
use super::{lifecycle, settle, units, users};
use crate::tool::Tool;

/// What runs, and how.
#[derive(Default)]
pub struct Exec<'a> {
    /// The program and its arguments.
    pub words: &'a [String],
    /// Variables beside the container's.
    pub env: Vec<String>,
    /// Its directory.
    pub workdir: Option<&'a str>,
    /// Who runs it, in place of the container's user.
    pub user: Option<&'a str>,
    /// Give it a terminal: ours.
    pub terminal: bool,
    /// Give it our input.
    pub interactive: bool,
    /// Do not wait for it.
    pub detach: bool,
    /// With all capabilities.
    pub privileged: bool,
}

/// The pid of a container's first process; an error where it does not run.
pub fn pid_of(tool: &Tool, container: &Container) -> Result<i32> {
    let state = settle::state(tool, container)?;
    match state {
        Some(State { status: Status::Running, process: Some(process), .. }) => Ok(process.pid),
        Some(State { status: Status::Starting, .. }) => {
            // Until it runs, or does not.
            std::thread::sleep(std::time::Duration::from_millis(2));
            pid_of(tool, container)
        }
        _ => bail!("container {} is not running", container.name),
    }
}

/// Runs it; its exit status.
pub fn exec(tool: &Tool, container: &Container, what: &Exec<'_>) -> Result<u8> {
    let pid = pid_of(tool, container)?;
    if State::read(&container.dir(tool)?)?.paused {
        bail!("container {} is paused: unpause it first", container.name);
    }
    if what.terminal && !what.detach && !rustix::termios::isatty(std::io::stdin()) {
        bail!("-t: the standard input is no terminal; leave -t away");
    }
    let process = process(tool, container, what, pid)?;
    // Nothing to remove afterwards, however we end.
    let file = memory_file(&serde_json::to_vec(&process)?)?;
    let log = memory_file(&[])?;
    let runtime = container.runtime(tool);
    let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let mut command = std::process::Command::new(&runtime.program);
    command.arg("--root").arg(runtime.run_dir.join("runtime"));
    command.args(["--log", &path(&log), "--log-format", "json", "exec", "--process", &path(&file)]);
    if what.detach {
        command.arg("--detach").stdout(null()).stderr(null());
    }
    command.arg(&container.id);
    let input = what.interactive || what.terminal;
    command.stdin(if input && !what.detach { Stdio::inherit() } else { null() });
    for fd in [&file, &log] {
        rustix::io::fcntl_setfd(fd.as_fd(), rustix::io::FdFlags::empty())?;
    }
    let words = what.words.join(" ");
    lifecycle::event(tool, container, &format!("exec_start: {words}"), &[]);
    let status = command.status().with_context(|| format!("starting the runtime {}", runtime.program.display()))?;
    let code = std::os::unix::process::ExitStatusExt::signal(&status)
        .map_or_else(|| status.code().unwrap_or(255), |signal| 128 + signal);
    let text = code.to_string();
    lifecycle::event(tool, container, "exec_die", &[("exitCode", &text)]);
    // What the runtime says on the standard error the person has seen; its log tells whose the status is.
    if code != 0
        && let Some(said) = Runtime::failure_in(path(&log).as_ref())
    {
        return Ok(status_of(&said));
    }
    Ok(code as u8)
}

fn memory_file(bytes: &[u8]) -> Result<OwnedFd> {
    let file = rustix::fs::memfd_create("exec", MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    Ok(file.into())
}

/// The process object: the container's own, with what is asked for in its place.
fn process(tool: &Tool, container: &Container, what: &Exec<'_>, pid: i32) -> Result<Value> {
    let path = container.dir(tool)?.join("config.json");
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut document: Value = serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut process = document["process"].take();
    process["args"] = json!(what.words);
    process["terminal"] = json!(what.terminal);
    if let Some(dir) = what.workdir {
        if !dir.starts_with('/') {
            bail!("--workdir {dir:?}: not an absolute path");
        }
        process["cwd"] = json!(dir);
    }
    let mut environment: Vec<String> = serde_json::from_value(process["env"].take()).unwrap_or_default();
    if what.terminal && !environment.iter().any(|it| it.starts_with("TERM=")) {
        environment.push("TERM=xterm".to_owned());
    }
    units::set_env(&mut environment, &what.env).context("--env")?;
    process["env"] = json!(environment);
    if let Some(user) = what.user {
        let root = root(pid)?;
        let who = users::look_up(root.as_fd(), user, &container.settings.flags.group_add)?;
        let mut groups = vec![who.gid];
        groups.extend(who.groups.iter().filter(|it| **it != who.gid));
        process["user"] = json!({"uid": who.uid, "gid": who.gid, "additionalGids": groups});
        let bounding = process["capabilities"]["bounding"].clone();
        let effective = if who.uid == 0 { bounding } else { json!([]) };
        process["capabilities"]["effective"] = effective.clone();
        process["capabilities"]["permitted"] = effective;
    }
    if what.privileged {
        let all = super::spec::all_capabilities();
        process["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all});
    }
    Ok(process)
}

/// The files that a process sees.
pub fn root(pid: i32) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())
        .context("the container's files: has it just ended?")
}
