//! `bundle import`.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::archive;
use crate::cli::Import;
use crate::events::{self, Kind};
use crate::image::Reference;
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Import) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let name: Option<Reference> = args.name.as_ref().map(|it| it.parse()).transpose()?;
    if name.as_ref().is_some_and(|it| it.digest.is_some()) {
        bail!("{}: a digest is no name to give", args.name.as_deref().unwrap_or_default());
    }
    let mut stream: Box<dyn Read> = match args.file.as_str() {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(File::open(path).with_context(|| format!("opening {path}"))?),
    };
    let id = archive::import(
        tool,
        archive::Import {
            stream: &mut stream,
            from: &args.file,
            changes: &args.change,
            message: args.message.as_deref(),
            platform: super::platform(args.platform.as_deref())?,
            limit: super::limit(&args.limit)?,
            name: name.as_ref(),
        },
    )?;
    let shown = name.as_ref().map_or_else(|| id.to_string(), Reference::familiar);
    events::append(tool.store()?.root(), Kind::Image, "import", &id.to_string(), &[("name", &shown)]);
    let json = || format!("{}\n", json!({"Id": id, "Name": name.as_ref().map(Reference::to_string)}));
    output::print(&if as_json { json() } else { format!("{id}\n") })
}
