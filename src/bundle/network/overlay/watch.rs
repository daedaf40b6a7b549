//! An answer of etcd without an end: what changes below a prefix, a line of JSON each time.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::etcd::{LONGEST, Pair, number, pair};

/// A change.
#[derive(Debug)]
pub enum Change {
    /// A key was set.
    Put(Pair),
    /// It was removed.
    Deleted(String),
}

/// What a watch says.
#[derive(Debug)]
pub enum Said {
    /// It has begun; the store is at this revision.
    Begun(i64),
    /// These changes, which are all up to this revision.
    Changes(Vec<Change>, i64),
    /// The revision that it was to begin with has been forgotten: all is to be read again.
    Forgotten,
    /// Nothing has been said for a while: it is to be made anew.
    Quiet,
}

/// An answer that goes on as long as both live.
pub struct Watch {
    lines: BufReader<Box<dyn Read + Send>>,
}

impl Watch {
    /// The answer to the question for it.
    pub fn new(body: ureq::Body) -> Self {
        Self { lines: BufReader::new(Box::new(body.into_reader())) }
    }

    /// Waits for what it says next.
    pub fn next(&mut self) -> Result<Said> {
        let mut line = Vec::new();
        match (&mut self.lines).take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => bail!("etcd has ended the watch"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(Said::Quiet),
            Err(error) => return Err(error).context("watching etcd"),
        }
        let said: Value = serde_json::from_slice(&line).context("watching etcd: no JSON")?;
        let result = &said["result"];
        if number(&result["compact_revision"]) > 0 {
            return Ok(Said::Forgotten);
        }
        if result["canceled"] == true || !said["error"].is_null() {
            let error = said["error"]["message"].as_str().or(result["cancel_reason"].as_str());
            bail!("etcd has ended the watch: {}", error.unwrap_or("no reason is given"));
        }
        let events = result["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        // That of the answer is the store's: there may be more changes up to it.
        let Some(revision) = events.iter().map(|it| number(&it["kv"]["mod_revision"])).max() else {
            return Ok(Said::Begun(number(&result["header"]["revision"])));
        };
        let change = |it: &Value| {
            let pair = pair(&it["kv"])?;
            Ok(if it["type"] == "DELETE" { Change::Deleted(pair.key) } else { Change::Put(pair) })
        };
        Ok(Said::Changes(events.iter().map(change).collect::<Result<_>>()?, revision))
    }
}
