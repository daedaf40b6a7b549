//! `bundle rm`.

use anyhow::Result;

use crate::cli::containers::Rm;
use crate::container::{record, remove};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Rm) -> Result<()> {
    super::each(&args.containers, |name| {
        remove::remove(tool, &record::find(tool.store()?, name)?, args.force, args.volumes)
    })
}
