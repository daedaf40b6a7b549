//! `bundle push`.

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::Push;
use crate::events::{self, Kind};
use crate::image::Reference;
use crate::output::{self, progress::Progress};
use crate::tool::Tool;
use crate::transfer;

pub fn run(tool: &Tool, args: &Push) -> Result<()> {
    let as_json = super::as_json(&args.format)?;
    let store = tool.store()?;
    let name: Reference = args.destination.as_ref().unwrap_or(&args.image).parse()?;
    let client = super::client(&args.registry)?;
    let progress = Progress::new(args.quiet);
    let mut pushes = Vec::new();
    if args.all_tags {
        for image in store.images()? {
            let names = store.names(&image)?.into_iter().map(|(it, _)| it);
            pushes
                .extend(names.filter(|it| it.name() == name.name() && it.tag.is_some()).map(|it| (image.clone(), it)));
        }
        if pushes.is_empty() {
            bail!("no image here is called {}", name.familiar_name());
        }
    } else {
        pushes.push((super::find(tool, &args.image)?, name));
    }
    for (image, name) in pushes {
        progress.line(&format!("Pushing {}", name.familiar()));
        let digest = transfer::push(tool, &client, &image, &name, &progress)?;
        events::append(store.root(), Kind::Image, "push", &name.familiar(), &[("name", &name.familiar_name())]);
        if as_json {
            output::print(&format!("{}\n", json!({"Id": image.id, "Digest": digest, "Name": name.to_string()})))?;
        } else if !args.quiet {
            output::print(&format!("{name} {digest}\n"))?;
        }
    }
    Ok(())
}
