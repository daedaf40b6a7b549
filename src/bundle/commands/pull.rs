//! `bundle pull`.

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::Pull;
use crate::events::{self, Kind};
use crate::image::Reference;
use crate::output::{self, progress::Progress};
use crate::tool::Tool;
use crate::transfer;

pub fn run(tool: &Tool, args: &Pull) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let platform = super::platform(args.platform.as_deref())?;
    let limit = super::limit(&args.limit)?;
    let names = args.images.iter().map(|it| it.parse()).collect::<Result<Vec<Reference>>>()?;
    let client = super::client(&args.registry)?;
    let mut wanted = Vec::new();
    for name in names {
        if !args.all_tags {
            wanted.push(name);
            continue;
        }
        if name.digest.is_some() {
            bail!("--all-tags: {} names one image by its digest", name.familiar());
        }
        wanted.extend(client.tags(&name)?.into_iter().map(|tag| Reference { tag: Some(tag), ..name.clone() }));
    }
    let progress = Progress::new(args.quiet);
    for name in wanted {
        progress.line(&format!("Pulling {}", name.familiar()));
        let image = transfer::pull(tool, &client, &name, &platform, limit, &progress)?;
        let familiar = name.familiar();
        events::append(tool.store()?.root(), Kind::Image, "pull", &familiar, &[("name", &name.familiar_name())]);
        progress.line(&format!("Digest: {}", image.digest));
        output::print(&match (as_json, args.quiet) {
            (true, _) => format!("{}\n", json!({"Id": image.id, "Digest": image.digest, "Name": name.to_string()})),
            (false, true) => format!("{}\n", image.id),
            (false, false) => format!("{name}\n"),
        })?;
    }
    Ok(())
}
