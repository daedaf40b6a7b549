//! What is done to a container, and what has to be so when it is said to have worked.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::bed::Bed;
use crate::harness::{self, cgroup, console};

/// A command in whose course faults happen.
pub struct Case {
    pub name: &'static str,
    /// Makes the bed.
    pub make: fn(&mut Bed<'_>),
    /// What has to be there before.
    pub before: fn(&Bed<'_>) -> Result<(), String>,
    /// The command.
    pub script: fn(&Bed<'_>) -> String,
    /// Whether it has done what it said.
    pub after: fn(&Bed<'_>) -> Result<Option<String>, String>,
    /// The processes of the runtime to put faults into, in order of birth.
    pub processes: &'static [usize],
    /// Init goes on behind the command's success, waiting for `start`: what befalls it there stops the
    /// container.
    pub outlived: bool,
}

const ALL: &[usize] = &[0, 1, 2, 3, 4, 5];

fn nothing(bed: &Bed<'_>) -> Result<(), String> {
    bed.leftovers()
}

fn created(bed: &Bed<'_>) -> Result<(), String> {
    bed.works("create", "")
}

fn running(bed: &Bed<'_>) -> Result<(), String> {
    bed.works("create", "")?;
    bed.works("start", "")?;
    bed.output().map(drop)
}

fn paused(bed: &Bed<'_>) -> Result<(), String> {
    running(bed)?;
    bed.works("pause", "")
}

fn stopped(bed: &Bed<'_>) -> Result<(), String> {
    running(bed)?;
    bed.works("kill", "KILL")?;
    bed.becomes("stopped")
}

fn printed(bed: &Bed<'_>) -> Result<Option<String>, String> {
    bed.output().map(Some)
}

fn gone(bed: &Bed<'_>) -> Result<Option<String>, String> {
    bed.leftovers().map(|()| None)
}

/// The limits that `update` has asked for, read where init is.
fn updated(bed: &Bed<'_>) -> Result<Option<String>, String> {
    let state: serde_json::Value = serde_json::from_str(&bed.command("state", "").stdout).unwrap_or_default();
    let pid = state["pid"].as_i64().ok_or("state has no pid")?;
    let memory = cgroup::read(pid, ("memory", "memory.limit_in_bytes", "memory.max"));
    let pids = cgroup::read(pid, ("pids", "pids.max", "pids.max"));
    if (&*memory, &*pids) == ("33554432", "50") { Ok(None) } else { Err(format!("limits are {memory} and {pids}")) }
}

fn user_namespace(bed: &mut Bed<'_>) {
    bed.bundle.with_user_namespace();
    // A device can only be the host's, bound.
    bed.bundle.set("/linux/devices", serde_json::json!([]));
    bed.fingerprints();
}

/// Others live in its pid namespace: init is cloned into it late, by a process that ends then.
fn joined(bed: &mut Bed<'_>) {
    let words = ["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "sleep", "1000"];
    let mut holder = Command::new("setpriv").args(words).stdout(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/ns/pid_for_children", holder.id());
    std::thread::spawn(move || holder.wait());
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    harness::wait_until("somebody is in it", || fs::read_link(&path).is_ok_and(|it| it != own));
    bed.bundle.namespace("pid", Some(&path));
    bed.fingerprints();
}

/// The master is taken by a thread, and read to its end into the container's file.
fn terminal(bed: &mut Bed<'_>) {
    let socket = bed.bundle.dir.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let out = bed.out.clone();
    std::thread::spawn(move || {
        loop {
            // A runtime that was killed before has sent none.
            let Ok(master) = console::take(&listener) else { continue };
            let out = out.clone();
            std::thread::spawn(move || fs::write(out, console::read_terminal(&master, "")));
        }
    });
    bed.console = Some(socket);
    bed.bundle.set("/process/terminal", serde_json::json!(true));
    bed.fingerprints();
}

pub fn find(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).unwrap()
}

/// The table's rows.
pub static CASES: &[Case] = &[
    Case {
        name: "create",
        make: |bed| bed.fingerprints(),
        before: nothing,
        script: |bed| format!("exec {}", bed.line("create", "")),
        after: |bed| {
            bed.becomes("created")?;
            bed.works("start", "")?;
            printed(bed)
        },
        processes: ALL,
        outlived: true,
    },
    Case {
        name: "create beside others",
        make: joined,
        before: nothing,
        script: |bed| format!("exec {}", bed.line("create", "")),
        after: |bed| {
            bed.becomes("created")?;
            bed.works("start", "")?;
            printed(bed)
        },
        processes: ALL,
        outlived: true,
    },
    Case {
        name: "create with a user namespace",
        make: user_namespace,
        before: nothing,
        script: |bed| format!("exec {}", bed.line("create", "")),
        after: |bed| {
            bed.works("start", "")?;
            printed(bed)
        },
        processes: ALL,
        outlived: true,
    },
    Case {
        name: "create with a terminal",
        make: terminal,
        before: nothing,
        script: |bed| format!("exec {}", bed.line("create", "")),
        after: |bed| {
            bed.works("start", "")?;
            printed(bed)
        },
        processes: ALL,
        outlived: true,
    },
    Case {
        name: "create and start",
        make: |bed| bed.fingerprints(),
        before: nothing,
        script: |bed| format!("{} && exec {}", bed.line("create", ""), bed.line("start", "")),
        after: printed,
        // The first is create's, above.
        processes: &[1, 2],
        outlived: false,
    },
    Case {
        name: "run",
        make: |bed| bed.fingerprints(),
        before: nothing,
        script: |bed| format!("exec {}", bed.line("run", "")),
        after: printed,
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "start",
        make: |bed| bed.fingerprints(),
        before: created,
        script: |bed| format!("exec {}", bed.line("start", "")),
        after: printed,
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "exec",
        make: |bed| bed.waits(),
        before: running,
        script: |bed| format!("exec {}", bed.line("exec", &format!("sh /bin/fingerprint {}", bed.id))),
        after: printed,
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "kill",
        make: |bed| bed.waits(),
        before: running,
        script: |bed| format!("exec {}", bed.line("kill", "KILL")),
        after: |bed| bed.becomes("stopped").map(|()| None),
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "delete",
        make: |bed| bed.waits(),
        before: stopped,
        script: |bed| format!("exec {}", bed.line("delete", "")),
        after: gone,
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "delete --force",
        make: |bed| bed.waits(),
        before: running,
        script: |bed| format!("exec {}", bed.line("delete", "--force")),
        after: gone,
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "update",
        make: |bed| bed.waits(),
        before: running,
        script: |bed| format!("exec {}", bed.line("update", "--memory 33554432 --pids-limit 50")),
        after: updated,
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "pause",
        make: |bed| bed.waits(),
        before: running,
        script: |bed| format!("exec {}", bed.line("pause", "")),
        after: |bed| bed.becomes("paused").map(|()| None),
        processes: ALL,
        outlived: false,
    },
    Case {
        name: "resume",
        make: |bed| bed.waits(),
        before: paused,
        script: |bed| format!("exec {}", bed.line("resume", "")),
        after: |bed| bed.becomes("running").map(|()| None),
        processes: ALL,
        outlived: false,
    },
];
