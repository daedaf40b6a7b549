//! `bundle run`.

use anyhow::{Context, Result};

use crate::cli::{PullWhen, Run};
use crate::container::run::{FAILED, Options, run as run_container};
use crate::output::progress::Progress;
use crate::store::Image;
use crate::tool::Tool;
use crate::transfer::{self, Limit};

/// The container's exit status; 125 where there was none.
pub fn run(tool: &Tool, args: &Run) -> u8 {
    let result = super::behind_flags(&args.words).and_then(|(name, command)| {
        let image = image(tool, args, name)?;
        let options = Options {
            flags: &args.flags,
            command,
            name: args.name.as_deref(),
            remove: args.rm,
            interactive: args.interactive,
        };
        run_container(tool, &image, name, &options)
    });
    result.unwrap_or_else(|error| {
        crate::complain(&error);
        FAILED
    })
}

fn image(tool: &Tool, args: &Run, name: &str) -> Result<Image> {
    let platform = super::platform(args.platform.as_deref())?;
    if args.pull != PullWhen::Always {
        if super::is_demo(name) {
            return super::find(tool, name);
        }
        if let Some(image) = tool.store()?.look_up(name)? {
            return Ok(image);
        }
    }
    if args.pull == PullWhen::Never {
        return tool.store()?.find(name);
    }
    let client = super::client(&args.registry)?;
    let progress = Progress::new(args.quiet);
    progress.line(&format!("{name} is not here: fetching it"));
    transfer::pull(tool, &client, &name.parse()?, &platform, Limit(None), &progress)
        .with_context(|| format!("no image {name}"))
}
