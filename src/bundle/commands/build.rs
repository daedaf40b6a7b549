//! `bundle build`.

use anyhow::{Context, Result};
use serde_json::json;

use crate::build::cancel::Cancel;
use crate::build::request::Request;
use crate::build::{self};
use crate::cli::build::Build;
use crate::container::settle;
use crate::events::{self, Kind};
use crate::output;
use crate::tool::Tool;

/// What a program is said to have ended with that a signal has ended.
const SIGNAL: i32 = 128;

pub fn run(tool: &Tool, args: &Build) -> Result<u8> {
    let request = Request::new(args, tool.plain_user)?;
    let limit = super::limit(&args.limit)?;
    let client = super::client(&args.registry)?;
    settle::sweep(tool)?;
    let cancel = Cancel::take_signals()?;
    let done = match build::build(tool, args, &request, &client, limit, &cancel) {
        Ok(done) => done,
        Err(error) => match cancel.signal() {
            Some(signal) => {
                crate::complain(&error);
                return Ok((SIGNAL + signal) as u8);
            }
            None => return Err(error),
        },
    };
    if let Some(id) = &done.id {
        for name in &request.names {
            let shown = name.familiar();
            events::append(tool.store()?.root(), Kind::Image, "build", id.as_str(), &[("name", &shown)]);
        }
        if let Some(path) = &args.iidfile {
            std::fs::write(path, id.as_str()).with_context(|| format!("--iidfile {}", path.display()))?;
        }
        output::print(&format!("{id}\n"))?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = request.names.iter().map(ToString::to_string).collect();
        let document = json!({
            "containerimage.config.digest": done.id,
            "containerimage.digest": done.digest,
            "image.name": names.join(","),
        });
        std::fs::write(path, format!("{document:#}\n"))
            .with_context(|| format!("--metadata-file {}", path.display()))?;
    }
    Ok(0)
}
