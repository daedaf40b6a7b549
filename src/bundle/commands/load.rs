//! `bundle load`.

use anyhow::{Result, bail};
use serde_json::json;

use crate::archive;
use crate::cli::Load;
use crate::events::{self, Kind};
use crate::output::{self, progress::Progress};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Load) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let platform = super::platform(args.platform.as_deref())?;
    let limit = super::limit(&args.limit)?;
    if args.input.is_none() && rustix::termios::isatty(std::io::stdin()) {
        bail!("name an archive by --input, or give it on the standard input");
    }
    for loaded in archive::load(tool, args.input.as_deref(), &platform, limit, &Progress::new(args.quiet))? {
        let id = loaded.id.to_string();
        let name = loaded.names.first().map_or_else(|| id.clone(), crate::image::Reference::familiar);
        events::append(tool.store()?.root(), Kind::Image, "load", &id, &[("name", &name)]);
        if as_json {
            let names: Vec<String> = loaded.names.iter().map(crate::image::Reference::familiar).collect();
            output::print(&format!("{}\n", json!({"Id": loaded.id, "Names": names})))?;
        } else if loaded.names.is_empty() {
            output::print(&format!("Loaded image ID: {}\n", loaded.id))?;
        } else {
            output::print(
                &loaded.names.iter().map(|it| format!("Loaded image: {}\n", it.familiar())).collect::<String>(),
            )?;
        }
    }
    Ok(())
}
