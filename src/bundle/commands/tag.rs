//! `bundle tag`.

use anyhow::{Result, bail};

use crate::cli::Tag;
use crate::events::{self, Kind};
use crate::image::Reference;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Tag) -> Result<()> {
    let name: Reference = args.name.parse()?;
    if name.digest.is_some() {
        bail!("{}: a digest is no name to give", args.name);
    }
    let image = super::find(tool, &args.image)?;
    let store = tool.store()?;
    store.tag(&image, &name.to_string())?;
    events::append(store.root(), Kind::Image, "tag", image.id.as_str(), &[("name", &name.familiar())]);
    Ok(())
}
