//! `bundle events`.

use std::io::{self, Write};
use std::slice;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;

use super::moment;
use crate::cli::watch::Events;
use crate::events::{self, Filters, Query};
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Events) -> Result<()> {
    let now = Timestamp::now();
    let moment = |flag: &str, text: &Option<String>| {
        text.as_ref().map(|it| moment::parse(it, now).with_context(|| flag.to_owned())).transpose()
    };
    let query = Query {
        since: moment("--since", &args.since)?,
        until: moment("--until", &args.until)?,
        filters: Filters::parse(&args.filter)?,
    };
    let format = args.format.as_deref();
    if format.is_some_and(|it| it.starts_with("table")) {
        bail!("--format table: events have no end that a table could wait for; known are json and templates");
    }
    // A template with a mistake is not found only when something happens.
    output::rows_text(format, &[], &[])?;
    let mut failed = None;
    events::read(tool.store()?.root(), &query, &mut |event| {
        let text = match format {
            None => Ok(line(event)),
            format => output::rows_text(format, &[], slice::from_ref(event)),
        };
        let line = text.map_err(|error| {
            failed = Some(error);
            io::Error::from(io::ErrorKind::BrokenPipe)
        })?;
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.flush()
    })
    .context("reading the events")?;
    failed.map_or(Ok(()), Err)
}

/// `TIME TYPE ACTION ID (NAME=VALUE, ...)`, as Docker has it.
fn line(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let time = event["timeNano"].as_i64().and_then(|it| Timestamp::from_nanosecond(it.into()).ok()).unwrap_or_default();
    let attributes = event["Actor"]["Attributes"].as_object();
    let attributes: Vec<String> =
        attributes.into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value))).collect();
    let (kind, action, id) = (text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"]));
    format!("{time:.9} {kind} {action} {id} ({})\n", attributes.join(", "))
}
