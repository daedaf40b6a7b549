//! `run`

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use super::create::{How, make};
use super::{foreground, start};
use crate::cli;
use crate::launch::destroy;

pub(super) fn run(root: &Path, args: &cli::Run) -> Result<ExitCode> {
    let how = if args.detach { How::Detach } else { How::Foreground };
    make(root, &args.common, how, args.timeline.as_deref(), |made| {
        let started = start::poststart(made.state);
        if args.detach && started.is_ok() {
            return Ok(ExitCode::SUCCESS);
        }
        let status = if started.is_ok() {
            foreground::wait(made.launched.pidfd.as_fd(), made.launched.terminal)?
        } else {
            ExitCode::FAILURE
        };
        if !args.keep {
            destroy::kill(made.state)?;
            destroy::remove(made.entry, made.state)?;
        }
        started.map(|()| status)
    })
}
