//! What `create`, `run`, `check` and `plan` share: from a bundle's directory to a document and a
//! request.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use crate::cgroup::systemd::Manager;
use crate::cli::CgroupManager;
use crate::config::problem::Problems;
use crate::config::types::Spec;
use crate::config::{load, validate};
use crate::log;
use crate::plan::Request;
use crate::plan::host::{Host, Systemd, is_root};
use crate::sys;
use crate::sys::error::At;

/// The text of a bundle's config.json, and the bundle's absolute path.
pub(super) fn read(bundle: &Path) -> Result<(String, PathBuf)> {
    let bundle = std::path::absolute(bundle).at(|| format!("--bundle {}", bundle.display()))?;
    Ok((load::read(&bundle.join("config.json"))?, bundle))
}

/// Parses and validates; everything that is wrong goes to `problems`.
pub(super) fn document<'a>(text: &'a str, problems: &mut Problems) -> Option<Spec<'a>> {
    let spec = load::parse::<Spec<'a>>(text, problems);
    match &spec {
        Some(spec) => validate::validate(spec, problems),
        // Some types are wrong; what can still be understood is looked at as well.
        None => {
            if let Some(rest) = load::salvage(text) {
                let mut more = Problems::default();
                if let Ok(spec) = serde_json::from_str::<Spec<'_>>(&rest) {
                    validate::validate(&spec, &mut more);
                }
                let known: Vec<String> = problems.0.iter().map(|problem| problem.pointer.clone()).collect();
                // What was cut out is missing now: that is no news.
                let echo = |at: &str| known.iter().any(|known| known.starts_with(at) || at.starts_with(known.as_str()));
                problems.0.extend(more.0.into_iter().filter(|problem| !echo(&problem.pointer)));
            }
        }
    }
    spec
}

/// A document without faults, or the first of them as an error.
pub(super) fn good_document(text: &str) -> Result<Spec<'_>> {
    let mut problems = Problems::default();
    let spec = document(text, &mut problems);
    settle(&problems)?;
    spec.ok_or_else(|| anyhow!("config.json cannot be read"))
}

/// The first thing that is wrong as an error of one line; warnings go to the log.
pub(super) fn settle(problems: &Problems) -> Result<()> {
    settle_at("config.json", problems)
}

/// The same for another document than config.json.
pub(super) fn settle_at(place: &str, problems: &Problems) -> Result<()> {
    for warning in problems.0.iter().filter(|p| p.kind == crate::config::problem::Kind::Warning) {
        log::warn(warning);
    }
    let mut fatal = problems.fatal();
    let Some(first) = fatal.next() else { return Ok(()) };
    match fatal.count() {
        0 => bail!("{place}: {first}"),
        more if place == "config.json" => Err(anyhow!("{place}: {first} (and {more} more; `rt check` lists them all)")),
        more => Err(anyhow!("{place}: {first} (and {more} more)")),
    }
}

/// The host, and the systemd that makes cgroups where it is asked for.
pub(super) fn host(spec: &Spec<'_>, cgroups: CgroupManager) -> Result<(Host, Option<Manager>)> {
    let mut host = Host::read(spec)?;
    let connect = || {
        Manager::connect(!is_root())
            .map_err(|error| anyhow!("--systemd-cgroup: {error:#}; without the flag rt makes cgroups itself"))
    };
    let mut manager = (cgroups == CgroupManager::Systemd).then(connect).transpose()?;
    host.without_cgroups = cgroups == CgroupManager::Disabled;
    host.systemd = manager.as_mut().map(Systemd::ask).transpose()?;
    Ok((host, manager))
}

/// What the command line and the caller's environment add.
pub(super) fn request(common: &crate::cli::Common, bundle: &Path) -> Result<Request> {
    crate::state::store::check_id(&common.id)?;
    let (preserve_fds, listen_fds) = descriptors(common.preserve_fds)?;
    Ok(Request {
        id: common.id.clone(),
        bundle: bundle.to_owned(),
        no_pivot: common.no_pivot,
        no_new_keyring: common.no_new_keyring,
        preserve_fds,
        listen_fds,
        notify_socket: std::env::var("NOTIFY_SOCKET").ok().filter(|socket| !socket.is_empty()),
    })
}

/// How many descriptors from 3 on are for the program, and how many of them systemd has passed.
pub(super) fn descriptors(asked: u32) -> Result<(u32, u32)> {
    // sd_listen_fds(3): only when they are meant for this process.
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    let listen_fds = if ours { number("LISTEN_FDS").unwrap_or(0) } else { 0 };
    let preserve_fds = asked.saturating_add(listen_fds);
    if preserve_fds > 65_536 {
        bail!("--preserve-fds {preserve_fds}: more descriptors than a process can have");
    }
    for fd in 3..3 + preserve_fds as i32 {
        if !sys::is_open(fd) {
            bail!("--preserve-fds {preserve_fds}: descriptor {fd} is not open");
        }
    }
    Ok((preserve_fds, listen_fds))
}
