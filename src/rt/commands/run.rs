//! `run`

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Result;

use super::create::{How, make};
use super::{foreground, start};
use crate::cli;
use crate::launch::destroy;

pub(super) fn run(root: &Path, args: &cli::Run) -> Result<u8> {
    let how = if args.detach { How::Detach } else { How::Foreground };
    make(root, &args.common, how, args.timeline.as_deref(), |made| {
        let started = start::poststart(made.state);
        if args.detach && started.is_ok() {
            return Ok(0);
        }
        let mut status = 1;
        if started.is_ok() {
            // Others pause it, update it, delete it while we wait.
            made.entry.unlock()?;
            status = foreground::wait(made.launched.pidfd.as_fd(), made.launched.terminal)?;
        }
        if !args.keep
            && let Some(entry) = made.entry.lock_again()?
        {
            destroy::kill(made.state)?;
            destroy::remove(entry, made.state)?;
        }
        started.map(|()| status)
    })
}
