//! `bundle start`.

use anyhow::{Result, bail};

use super::run::{failed, options};
use crate::cli::containers::Start;
use crate::container::attach::{self, Signals};
use crate::container::record::{self, Container};
use crate::container::{settle, start};
use crate::output;
use crate::tool::Tool;

/// With `--attach` the container's exit status, else 0 when all run.
pub fn run(tool: &Tool, args: &Start) -> Result<u8> {
    let attached = args.attach || args.interactive;
    if let ([name], true) = (&args.containers[..], attached) {
        return attach_to(tool, args, &record::find(tool.store()?, name)?);
    }
    if attached {
        bail!("--attach and --interactive: one container at a time");
    }
    if let [name] = &args.containers[..] {
        let container = record::find(tool.store()?, name)?;
        if let Some(lock) = start::lock_to_start(tool, &container)? {
            let socket = start::start(tool, &container, lock, None, false)?;
            if let Some(end) = start::until_started(tool, &container, &socket)? {
                failed(&end);
                return Ok(1);
            }
        }
        output::print(&format!("{name}\n"))?;
        return Ok(0);
    }
    // The root file system of each is mounted in a mount namespace of its own.
    super::each(&args.containers, |name| settle::start_by_child(tool, name).map(drop))?;
    Ok(0)
}

fn attach_to(tool: &Tool, args: &Start, container: &Container) -> Result<u8> {
    let terminal = container.settings.flags.tty;
    let options = options(&args.attaching, args.interactive && container.settings.interactive, terminal)?;
    let signals = Signals::take(options.signals, terminal)?;
    let Some(lock) = start::lock_to_start(tool, container)? else {
        bail!("container {} runs already: `bundle attach {0}` attaches to it", container.name)
    };
    let size = terminal.then(attach::size).flatten();
    let socket = start::start(tool, container, lock, size, true)?;
    super::attach::stay(tool, container, socket, &signals, &options)
}
