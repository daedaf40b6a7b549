//! `create`, and all that `run` has in common with it.

use std::mem::ManuallyDrop;
use std::path::Path;

use anyhow::{Result, bail};

use super::prepare;
use crate::cli;
use crate::config::problem::Problems;
use crate::config::types::{Spec, Str};
use crate::launch::parent::{Launched, Options, launch};
use crate::launch::terminal;
use crate::plan::{Plan, Request, plan};
use crate::state::store::Entry;
use crate::state::{Agent, Cgroup, Ownership, State, time};
use crate::sys;
use crate::sys::error::At;
use crate::sys::signals::Signals;

/// `rt create`
pub(super) fn create(root: &Path, args: &cli::Create) -> Result<()> {
    make(root, &args.common, How::Create, args.timeline.as_deref(), |_| Ok(()))
}

/// What becomes of the container when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// It waits for `start`.
    Create,
    /// It runs, and the command returns.
    Detach,
    /// It runs, and the command waits.
    Foreground,
}

/// A container that was made.
pub(super) struct Made<'m, 'p> {
    pub(super) entry: Entry,
    pub(super) state: &'m State<'p>,
    pub(super) launched: Launched,
}

/// From a bundle to a container: read, validate, plan, and only then act. `then` gets what was made.
pub(super) fn make<T>(
    root: &Path,
    common: &cli::Common,
    how: How,
    timeline: Option<&Path>,
    then: impl FnOnce(Made<'_, '_>) -> Result<T>,
) -> Result<T> {
    let (text, bundle) = prepare::read(&common.bundle)?;
    let request = prepare::request(common, &bundle)?;
    // Taking them apart at the end would copy their pages, which init shares, for nothing.
    let spec = ManuallyDrop::new(prepare::good_document(&text)?);
    let (host, manager) = prepare::host(&spec, common.cgroup_manager)?;
    let host = ManuallyDrop::new(host);
    let mut problems = ManuallyDrop::new(Problems::default());
    let plan = ManuallyDrop::new(plan(&spec, &request, &host, &mut problems));
    prepare::settle(&problems)?;
    tracing::debug!("planned {} steps below the root", plan.steps.len());
    let has_terminal = plan.process.as_ref().is_some_and(|process| process.terminal.is_some());
    check_terminal(common.console_socket.as_deref(), how, has_terminal)?;
    if how != How::Create && plan.process.is_none() {
        bail!("config.json: /process: is required and missing: there is nothing to run");
    }
    if !plan.root.path.is_dir() {
        bail!("config.json: /root/path: {} is no directory", plan.root.path.display());
    }
    // Whatever the caller left open is not for hooks, nor for the container.
    sys::cloexec_from(3).at(|| "closing descriptors".into())?;
    let console = common.console_socket.as_deref().map(terminal::connect).transpose()?;

    let signals = Signals::ending()?;
    let entry = Entry::create(root, &request.id)?;
    let mut state = ManuallyDrop::new(new_state(&spec, &request, &plan));
    let options = Options {
        wait_for_start: how == How::Create,
        console,
        pid_file: common.pid_file.as_deref(),
        timeline: timeline.is_some(),
        process: spec.process.as_ref(),
        manager,
    };
    let (launched, entry) = launch(&plan, entry, &mut state, options, &signals)?;
    if let Some(path) = timeline {
        let text = if path.extension().is_some_and(|extension| extension == "json") {
            launched.timeline.chrome_trace(&launched.init_spans)
        } else {
            launched.timeline.text(&launched.init_spans)
        };
        if path == Path::new("-") {
            eprint!("{text}");
        } else {
            std::fs::write(path, text).at(|| format!("--timeline {}", path.display()))?;
        }
    }
    then(Made { entry, state: &state, launched })
}

/// A terminal needs somebody who holds its other side.
pub(super) fn check_terminal(socket: Option<&Path>, how: How, has_terminal: bool) -> Result<()> {
    match (has_terminal, socket.is_some(), how) {
        (true, false, How::Create | How::Detach) => {
            bail!("/process/terminal is true, so the terminal needs a taker: give --console-socket, or set it to false")
        }
        (false, true, _) => bail!("--console-socket: there is no terminal to send, /process/terminal is not true"),
        (_, true, How::Foreground) => {
            bail!("--console-socket goes with --detach or create only: in the foreground the terminal is the caller's")
        }
        _ => Ok(()),
    }
}

pub(super) fn new_state<'p>(spec: &Spec<'p>, request: &Request, plan: &Plan<'_>) -> State<'p> {
    State {
        id: Str::from(request.id.clone()),
        pid: 0,
        start_time: 0,
        bundle: Str::from(request.bundle.to_string_lossy().into_owned()),
        rootfs: Str::from(plan.root.path.to_string_lossy().into_owned()),
        created: Str::from(time::now()),
        owner: rustix::process::geteuid().as_raw(),
        cgroups: plan
            .cgroup
            .dirs
            .iter()
            .map(|dir| Cgroup {
                path: Str::from(dir.path.clone()),
                controllers: Str::from(dir.controllers.clone()),
                owner: Ownership::Unknown,
            })
            .collect(),
        rdt: plan
            .rdt
            .iter()
            .flat_map(crate::launch::rdt::Plan::removable)
            .map(|path| Str::from(path.to_string_lossy().into_owned()))
            .collect(),
        unit: plan.cgroup.scope.as_ref().map(|scope| scope.unit.clone()),
        schemata: plan.rdt.as_ref().map(|rdt| Str::from(rdt.group.join("schemata").to_string_lossy().into_owned())),
        namespaces: plan.namespaces.all(),
        keyring: plan.keyring.is_some(),
        seccomp: plan.seccomp.is_some(),
        agent: plan.seccomp.as_ref().filter(|filter| filter.notifies()).and_then(|_| {
            let profile = spec.linux.seccomp.as_ref()?;
            Some(Agent { path: profile.listener_path.clone()?, metadata: profile.listener_metadata.clone() })
        }),
        personality: plan.personality,
        memory_policy: plan.memory_policy.clone(),
        startable: plan.process.is_some(),
        annotations: spec.annotations.clone(),
        poststart: spec.hooks.poststart.clone(),
        poststop: spec.hooks.poststop.clone(),
    }
}
