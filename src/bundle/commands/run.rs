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
    let result = image(tool, args).and_then(|image| {
        let options = Options {
            flags: &args.flags,
            command: &args.command,
            name: args.name.as_deref(),
            remove: args.rm,
            interactive: args.interactive,
        };
        run_container(tool, &image, &args.image, &options)
    });
    result.unwrap_or_else(|error| {
        crate::complain(&error);
        FAILED
    })
}

fn image(tool: &Tool, args: &Run) -> Result<Image> {
    let platform = super::platform(args.platform.as_deref())?;
    if args.pull != PullWhen::Always {
        if super::is_demo(&args.image) {
            return super::find(tool, &args.image);
        }
        if let Some(image) = tool.store()?.look_up(&args.image)? {
            return Ok(image);
        }
    }
    if args.pull == PullWhen::Never {
        return tool.store()?.find(&args.image);
    }
    let client = super::client(&args.registry)?;
    let progress = Progress::new(args.quiet);
    progress.line(&format!("{} is not here: fetching it", args.image));
    transfer::pull(tool, &client, &args.image.parse()?, &platform, Limit(None), &progress)
        .with_context(|| format!("no image {}", args.image))
}
