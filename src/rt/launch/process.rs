//! From inside the container's root to the program: the last steps, which init and the processes of
//! `exec` have in common.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{FileType, Mode, Uid, fchown, fstat, major, minor};
use rustix::io::Errno;
use rustix::process::{chdir, getcwd, umask};

use super::kernel::Label;
use super::listener::Courier;
use super::sync::Channel;
use super::{identity, limits, program, terminal, users};
use crate::plan::process::Process;
use crate::seccomp::Filter;
use crate::sys;
use crate::sys::error::At;

/// The capability that loading a filter without no_new_privs takes (seccomp(2)).
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// What the kernel keeps for a process, beside its identity.
#[derive(Debug, Clone, Default)]
pub(super) struct Traits<'p> {
    /// personality(2).
    pub(super) personality: Option<u32>,
    /// set_mempolicy(2).
    pub(super) memory_policy: Option<&'p (i32, Vec<u64>)>,
    /// Limits are set by the parent, for want of the right to.
    pub(super) limits_from_outside: bool,
}

/// What needs privileges but not the host: personality, memory policy, limits, labels, streams.
pub(super) fn attributes(
    process: &Process<'_>,
    traits: &Traits<'_>,
    slave: Option<&OwnedFd>,
    labels: &[Label],
) -> Result<()> {
    if let Some(domain) = traits.personality {
        nix::sys::personality::set(nix::sys::personality::Persona::from_bits_retain(domain as i32))
            .at(|| "/linux/personality".into())?;
    }
    if let Some((mode, nodes)) = traits.memory_policy {
        sys::set_mempolicy(*mode, nodes).at(|| "/linux/memoryPolicy".into())?;
    }
    if !traits.limits_from_outside {
        limits::apply(process, 0)?;
    }
    labels.iter().try_for_each(Label::set)?;
    if let Some(slave) = slave {
        terminal::take(slave)?;
    }
    own_streams(process.uid)?;
    umask(Mode::from_raw_mode(process.umask));
    Ok(())
}

/// A program that was found, ready to be executed.
#[derive(Debug)]
pub(super) struct Found {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Capabilities that loading the filter still takes.
    keep: u64,
}

/// Enters the working directory, becomes the user, and finds the program with that user's rights.
pub(super) fn become_user(process: &Process<'_>, filter: Option<&Filter>) -> Result<Found> {
    let env = environment(process)?;
    let argv = c_strings(process.args, "/process/args")?;
    let keep = if filter.is_some() && !process.no_new_privileges { CAP_SYS_ADMIN } else { 0 };
    let entered = enter_directory(process.cwd);
    identity::take_on(process, keep)?;
    if entered.is_err() {
        // A directory that only the user may search.
        enter_directory(process.cwd)?;
    }
    let path = program::find(&process.args[0], &process.env).map_err(anyhow::Error::msg)?;
    Ok(Found { path, argv, env, keep })
}

/// Closes the doors behind us and executes the program. It returns only to say why it could not.
/// `command` is where the listener of a filter goes that has one.
pub(super) fn execute(
    found: &Found,
    process: &Process<'_>,
    filter: Option<&Filter>,
    preserve_fds: u32,
    command: &Channel,
) -> Result<Infallible> {
    sys::cloexec_from(3).at(|| "closing descriptors".into())?;
    for fd in 3..3 + preserve_fds as RawFd {
        sys::keep_open(fd).at(|| format!("--preserve-fds: descriptor {fd}"))?;
    }
    limits::apply_last(process)?;
    sys::reset_signals().at(|| "resetting signals".into())?;
    if let Some(filter) = filter {
        let courier = if filter.notifies() { Some(Courier::send(command)?) } else { None };
        // As late as can be: whatever comes behind it must be allowed by the profile.
        let listener =
            sys::seccomp_load(&filter.program, filter.flags).at(|| "/linux/seccomp: loading the filter".into())?;
        if let Some(courier) = courier {
            courier.deliver(listener)?;
        }
        if found.keep & !(process.capabilities.effective & process.capabilities.permitted) != 0 {
            identity::set_exact(process.capabilities, 0)?;
        }
    }
    let error = nix::unistd::execve(&found.path, &found.argv, &found.env).unwrap_err();
    bail!("{}", program::explain(Path::new(OsStr::from_bytes(found.path.as_bytes())), error as i32))
}

/// Gives pipes, sockets and terminals on the standard streams to the user, who could not open
/// /dev/stderr otherwise. Never a file of the host's file systems, and never /dev/null.
fn own_streams(uid: u32) -> Result<()> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = fstat(stream).at(|| "looking at the standard streams".into())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let terminal = kind == FileType::CharacterDevice && (136..=143).contains(&major(stat.st_rdev));
        debug_assert!(!terminal || (major(stat.st_rdev), minor(stat.st_rdev)) != (1, 3));
        if stat.st_uid == uid || !(terminal || matches!(kind, FileType::Fifo | FileType::Socket)) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A stream of somebody else's, on something read-only, or of a kind that has no owner.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(error) => return Err(error).at(|| "giving the standard streams to the user".into()),
        }
    }
    Ok(())
}

/// chdir(2), and proof that the kernel still finds the way from the root to there: a directory
/// reached through a leaked descriptor of the host would have none.
fn enter_directory(path: &str) -> Result<()> {
    chdir(path).at(|| format!("/process/cwd: entering {path}"))?;
    let cwd = getcwd(Vec::new()).at(|| format!("/process/cwd: {path} leads outside the container"))?;
    if !cwd.to_bytes().starts_with(b"/") {
        bail!("/process/cwd: {path} leads outside the container");
    }
    Ok(())
}

/// The document's environment, with HOME from the container's /etc/passwd where it is missing.
fn environment(process: &Process<'_>) -> Result<Vec<CString>> {
    let mut env = c_strings(&process.env, "/process/env")?;
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(CString::new(format!("HOME={}", users::home(process.uid)?))?);
    }
    Ok(env)
}

fn c_strings(list: &[crate::config::types::Str<'_>], pointer: &str) -> Result<Vec<CString>> {
    list.iter()
        .enumerate()
        .map(|(index, text)| {
            CString::new(&**text).map_err(|_| anyhow!("{pointer}/{index}: must not hold a NUL character"))
        })
        .collect()
}
