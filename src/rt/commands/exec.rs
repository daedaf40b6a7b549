//! `exec`

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::create::{How, check_terminal};
use super::{foreground, prepare};
use crate::cgroup::{layout::Layout, tree};
use crate::cli;
use crate::config::load;
use crate::config::problem::Problems;
use crate::config::types::{Process, Str};
use crate::config::validate::{self, cpu_list};
use crate::launch::exec::{Exec, V2, exec as launch};
use crate::launch::terminal;
use crate::launch::users::{Asked, Id};
use crate::plan::process::{Surroundings, plan};
use crate::plan::{Request, host, names, options};
use crate::state::store::{self, Entry};
use crate::state::{Cgroup, State, Status};
use crate::sys;
use crate::sys::error::At;
use crate::sys::signals::Signals;

/// What runc leaves with when the program could not be run.
const NOT_RUN: u8 = 255;

pub(super) fn exec(root: &Path, args: &cli::Exec) -> u8 {
    run(root, args).unwrap_or_else(|error| {
        crate::log::error(&format!("{error:#}"));
        NOT_RUN
    })
}

fn run(root: &Path, args: &cli::Exec) -> Result<u8> {
    let asked = args.user.as_deref().map(Asked::parse).transpose().map_err(|error| anyhow!("--user: {error}"))?;
    let (entry, text) = store::peek(root, &args.id)?;
    let Some(text) = text else { bail!("container \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    check_status(&entry, &state, args)?;

    // The process object: a file's, or what the container's own process had.
    let own = if state.startable { entry.read_process()? } else { String::new() };
    let file = args.process.as_deref().map(load::read).transpose()?;
    let mut problems = Problems::default();
    let (mut process, place) = match (&args.process, &file) {
        (Some(path), Some(text)) => (parse(text, &mut problems), format!("--process {}", path.display())),
        _ if own.is_empty() => bail!("the container's config.json has no process to take after; give --process"),
        _ => (parse(&own, &mut problems), "exec".to_owned()),
    };
    prepare::settle_at(&place, &problems)?;
    let Some(process) = &mut process else { bail!("{place}: it cannot be read") };
    if args.process.is_some() {
        if !own.is_empty() {
            inherit(process, serde_json::from_str(&own).map_err(|error| anyhow!("process.json is damaged: {error}"))?);
        }
        process.terminal |= args.tty;
    } else {
        override_with(process, args, asked.as_ref())?;
    }
    let mut problems = Problems::default();
    validate::process(process, "/process", &mut problems);
    prepare::settle_at(&place, &problems)?;

    let how = if args.detach { How::Detach } else { How::Foreground };
    check_terminal(args.console_socket.as_deref(), how, process.terminal)?;
    let (preserve_fds, listen_fds) = prepare::descriptors(args.preserve_fds)?;
    let user_namespace = state.namespaces & libc::CLONE_NEWUSER as u64 != 0;
    let surroundings = Surroundings {
        user_namespace,
        capabilities: rustix::thread::capabilities(None).at(|| "reading our capabilities".into())?.permitted.bits(),
        apparmor: process.apparmor_profile.is_some() && host::apparmor(),
        selinux: process.selinux_label.is_some() && host::selinux(),
    };
    let mut problems = Problems::default();
    let request = Request { listen_fds, ..Request::default() };
    let planned = plan(process, &surroundings, &request, &mut problems);
    prepare::settle_at(&place, &problems)?;
    let affinity = |list: Option<&str>| list.filter(|list| !list.is_empty()).and_then(|list| cpu_list(list).ok());
    let cpus = process.exec_cpu_affinity.as_ref();
    let affinity =
        (affinity(cpus.and_then(|it| it.initial.as_deref())), affinity(cpus.and_then(|it| it.last.as_deref())));
    let (v1, v2) = cgroups(&state, &args.cgroup)?;

    // Whatever the caller left open is not for the container.
    sys::cloexec_from(3).at(|| "closing descriptors".into())?;
    let console = args.console_socket.as_deref().map(terminal::connect).transpose()?;
    let filter = if state.seccomp { Some(entry.read_filter()?) } else { None };
    let signals = Signals::ending()?;
    let user = asked.filter(|_| args.process.is_none());
    let work = Exec {
        state: &state,
        process: planned,
        user,
        filter,
        preserve_fds,
        v1,
        v2,
        affinity,
        console,
        limits_from_outside: user_namespace && host::is_root(),
    };
    let running = launch(work, args.pid_file.as_deref(), &signals)?;
    if args.detach {
        return Ok(0);
    }
    foreground::wait(running.pidfd.as_fd(), running.terminal)
}

fn check_status(entry: &Entry, state: &State<'_>, args: &cli::Exec) -> Result<()> {
    match entry.status(state) {
        Status::Created | Status::Running => Ok(()),
        Status::Paused if args.ignore_paused => Ok(()),
        Status::Paused => bail!("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => bail!("cannot exec in a stopped container"),
        Status::Creating => bail!("container \"{}\" is still being created", args.id),
    }
}

fn parse<'a>(text: &'a str, problems: &mut Problems) -> Option<Process<'a>> {
    load::parse::<Process<'a>>(text, problems)
}

/// What a process object leaves out is the container's, as both peers have it.
fn inherit<'a>(process: &mut Process<'a>, own: Process<'a>) {
    process.capabilities = process.capabilities.take().or(own.capabilities);
    process.apparmor_profile = process.apparmor_profile.take().or(own.apparmor_profile);
    process.selinux_label = process.selinux_label.take().or(own.selinux_label);
    process.scheduler = process.scheduler.take().or(own.scheduler);
    process.io_priority = process.io_priority.take().or(own.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.take().or(own.exec_cpu_affinity);
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.user.umask = process.user.umask.or(own.user.umask);
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
    }
}

/// The command line's words over the container's.
fn override_with<'a>(process: &mut Process<'a>, args: &'a cli::Exec, user: Option<&Asked>) -> Result<()> {
    if args.args.is_empty() {
        bail!("exec: nothing to run: give a program, or --process FILE");
    }
    process.args = args.args.iter().map(|arg| Str::from(&**arg)).collect();
    process.terminal = args.tty;
    process.console_size = None;
    for entry in &args.env {
        let Some((name, _)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("--env \"{}\": must be NAME=VALUE", entry.escape_debug());
        };
        process.env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        process.env.push(Str::from(&**entry));
    }
    if let Some(cwd) = &args.cwd {
        process.cwd = Str::from(&**cwd);
    }
    if let Some(user) = user {
        // HOME was that of another user, and is found anew.
        if !args.env.iter().any(|entry| entry.starts_with("HOME=")) {
            process.env.retain(|entry| !entry.starts_with("HOME="));
        }
        if matches!(user.user, Id::Name(_)) {
            // Its groups are looked up with it.
            process.user.additional_gids.clear();
        }
    }
    for gid in &args.additional_gids {
        match Asked::parse(gid) {
            Ok(Asked { user: Id::Number(gid), group: None }) => process.user.additional_gids.push(gid),
            _ => bail!("--additional-gids \"{}\": must be 0..4294967294", gid.escape_debug()),
        }
    }
    for name in &args.cap {
        let name = if name.starts_with("CAP_") { name.clone() } else { format!("CAP_{name}") }.to_uppercase();
        if names::capability(&name).is_none() {
            bail!("--cap {name}: no such capability");
        }
        // Not the inheritable set: a program without the file's consent shall not pass it on.
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !set.iter().any(|known| **known == *name) {
                set.push(Str::from(name.clone()));
            }
        }
    }
    process.no_new_privileges |= args.no_new_privs;
    if let Some(profile) = &args.apparmor {
        process.apparmor_profile = Some(Str::from(&**profile));
    }
    if let Some(label) = &args.process_label {
        process.selinux_label = Some(Str::from(&**label));
    }
    Ok(())
}

/// The cgroups that the process enters: the container's, or those below it that were asked for.
fn cgroups(state: &State<'_>, asked: &[String]) -> Result<(Vec<String>, Option<V2>)> {
    let is_v2 = |dir: &&Cgroup<'_>| &*dir.controllers == crate::cgroup::v2::UNIFIED;
    let mut below = Vec::new();
    for words in asked {
        // Cleaned as if it were the root, so that no ".." leads out.
        let (controllers, path) = words.split_once(':').map_or((None, &**words), |(names, path)| (Some(names), path));
        let clean = options::clean(path);
        let mut used = false;
        for dir in &state.cgroups {
            let named = |name: &str| dir.controllers.split(',').any(|known| known == name);
            if controllers.is_none_or(|names| names.split(',').any(named)) {
                used = true;
                let full = if clean == "/" { dir.path.to_string() } else { format!("{}{clean}", dir.path) };
                if !Path::new(&full).is_dir() {
                    bail!("--cgroup {words}: there is no cgroup {full}; it must be made before");
                }
                below.push((&*dir.path, full));
            }
        }
        if !used {
            bail!("--cgroup {words}: the container has no cgroup of that kind");
        }
    }
    let at = |dir: &Cgroup<'_>| {
        let chosen = below.iter().rev().find(|(of, _)| *of == &*dir.path);
        chosen.map_or_else(|| dir.path.to_string(), |(_, path)| path.clone())
    };
    let v1 = state.cgroups.iter().filter(|dir| !is_v2(dir)).map(&at).collect();
    let v2 = match state.cgroups.iter().find(is_v2) {
        None => None,
        Some(dir) => {
            // A container that has made cgroups below its own has left that one empty.
            let fallback = if asked.is_empty() { of_init(state, dir)? } else { None };
            Some(V2 { path: at(dir), fallback, unit: state.unit.clone() })
        }
    };
    Ok((v1, v2))
}

/// Where init is now, if it is below the container's cgroup.
fn of_init(state: &State<'_>, dir: &Cgroup<'_>) -> Result<Option<String>> {
    let Some(path) = tree::unified_path(&state.pid.to_string()) else { return Ok(None) };
    let Some(mount) = Layout::read()?.v2 else { return Ok(None) };
    let full = format!("{}{path}", mount.trim_end_matches('/'));
    Ok(full.strip_prefix(&*dir.path).is_some_and(|rest| rest.starts_with('/')).then_some(full))
}
