//! `ps`

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow, bail};

use crate::cli::{self, ListFormat};
use crate::state::{State, Status, store};
use crate::sys::error::text;

pub(super) fn ps(root: &Path, args: &cli::Ps) -> Result<()> {
    let (entry, text) = store::peek(root, &args.id)?;
    let Some(text) = text else { bail!("container not running: \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    if entry.status(&state) == Status::Creating {
        bail!("container not running: \"{}\" is still being created", args.id);
    }
    let pids = processes(&state)?;
    match args.format {
        ListFormat::Json => super::print(&format!("{}\n", serde_json::to_string(&pids)?)),
        ListFormat::Table => table(&pids, &args.options),
    }
}

/// All processes of the cgroup; without one, those in init's pid namespace.
fn processes(state: &State<'_>) -> Result<Vec<i32>> {
    let mut pids = match state.group() {
        Some(group) => group.processes()?,
        None if state.is_alive() => same_namespace(state.pid),
        None => Vec::new(),
    };
    pids.sort_unstable();
    Ok(pids)
}

fn same_namespace(init: i32) -> Vec<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let (wanted, Ok(entries)) = (namespace(init), std::fs::read_dir("/proc")) else { return vec![init] };
    if wanted.is_none() || wanted == namespace(std::process::id() as i32) {
        return vec![init];
    }
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| namespace(*pid) == wanted).collect()
}

/// The lines of the host's ps(1) that are about these processes.
fn table(pids: &[i32], options: &[String]) -> Result<()> {
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default } else { options };
    let output = Command::new("ps")
        .args(options)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| anyhow!("running ps: {} (--format json goes without)", text(&error)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
        bail!("ps {}: {}", options.join(" "), said.trim());
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = lines.lines();
    let head = lines.next().unwrap_or_default();
    let Some(column) = head.split_whitespace().position(|name| name == "PID") else {
        bail!("ps {}: its table has no column PID, by which the container's lines are found", options.join(" "));
    };
    let ours = lines.filter(|line| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    });
    super::print(&ours.fold(format!("{head}\n"), |table, line| table + line + "\n"))
}
