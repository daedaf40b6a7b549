//! `restore`

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Result;

use super::{checkpoint, create, foreground, prepare};
use crate::cli;
use crate::config::problem::Problems;
use crate::config::types::Str;
use crate::launch::destroy;
use crate::launch::parent::Options;
use crate::launch::restore::{Labels, restore as launch};
use crate::launch::terminal;
use crate::plan::plan;
use crate::state::store::Entry;
use crate::sys;
use crate::sys::error::At;
use crate::sys::signals::Signals;

pub(super) fn restore(root: &Path, args: &cli::Restore, criu: Option<&Path>) -> Result<u8> {
    let (text, bundle) = prepare::read(&args.common.bundle)?;
    let request = prepare::request(&args.common, &bundle)?;
    let spec = prepare::good_document(&text)?;
    let (host, manager) = prepare::host(&spec, args.common.cgroup_manager)?;
    let mut problems = Problems::default();
    let plan = plan(&spec, &request, &host, &mut problems);
    prepare::settle(&problems)?;
    let how = if args.detach { create::How::Detach } else { create::How::Foreground };
    let has_terminal = plan.process.as_ref().is_some_and(|process| process.terminal.is_some());
    create::check_terminal(args.common.console_socket.as_deref(), how, has_terminal)?;
    let annotation = spec.annotations.get(&Str::from("org.criu.config")).map(|path| &**path);
    let images = checkpoint::images(&args.images, criu, annotation)?;
    sys::cloexec_from(3).at(|| "closing descriptors".into())?;
    let console = args.common.console_socket.as_deref().map(terminal::connect).transpose()?;

    let signals = Signals::ending()?;
    let entry = Entry::create(root, &request.id)?;
    let mut state = create::new_state(&spec, &request, &plan);
    let options = Options {
        console,
        pid_file: args.common.pid_file.as_deref(),
        process: spec.process.as_ref(),
        manager,
        ..Options::default()
    };
    let labels = Labels { profile: args.lsm_profile.clone(), mount_context: args.lsm_mount_context.clone() };
    let (launched, entry) = launch(&plan, entry, &mut state, &images, &labels, options, &signals)?;
    drop(signals);
    if args.detach {
        return Ok(0);
    }
    let status = foreground::wait(launched.pidfd.as_fd(), launched.terminal)?;
    destroy::kill(&state)?;
    destroy::remove(entry, &state)?;
    Ok(status)
}
