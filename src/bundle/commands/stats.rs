//! `bundle stats` and `bundle metrics`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cli::watch::Stats;
use crate::container::stats::{Sample, Subject, prometheus};
use crate::container::units;
use crate::container::watched::{Watched, watched};
use crate::output;
use crate::tool::Tool;

/// Between two looks; the first two are nearer to each other.
const INTERVAL: Duration = Duration::from_secs(1);
const FIRST_INTERVAL: Duration = Duration::from_millis(500);

const COLUMNS: [(&str, &str); 8] = [
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];

type Samples = HashMap<String, (Instant, Sample)>;

pub fn run(tool: &Tool, args: &Stats) -> Result<()> {
    let format = args.format.as_deref();
    // A template with a mistake, or a name that nobody has, is an error before anything is shown.
    output::rows_text(format, &COLUMNS, &[])?;
    let mut before = samples(&watched(tool, &args.containers, args.all)?);
    sleep(FIRST_INTERVAL);
    let live =
        !args.no_stream && rustix::termios::isatty(io::stdout()) && format.is_none_or(|it| it.starts_with("table"));
    loop {
        let containers = match watched(tool, &args.containers, args.all) {
            Ok(containers) => containers,
            // Removed while we look.
            Err(_) if !args.no_stream => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = samples(&containers);
        let rows: Vec<Value> = containers.iter().map(|it| row(it, &before, &now, args.no_trunc)).collect();
        let text = output::rows_text(format, &COLUMNS, &rows)?;
        if !show(&text, live)? || args.no_stream {
            return Ok(());
        }
        before = now;
        sleep(INTERVAL);
    }
}

fn samples(containers: &[Watched]) -> Samples {
    let sample = |it: &Watched| Some((it.id.clone(), (Instant::now(), Sample::take(it.pid?, &it.id)?)));
    containers.iter().filter_map(sample).collect()
}

/// Docker's fields, and all that was counted as `Counters`.
fn row(it: &Watched, before: &Samples, now: &Samples, whole_ids: bool) -> Value {
    let id = if whole_ids { &it.id } else { &it.id[..12] };
    let Some((taken, sample)) = now.get(&it.id) else {
        return json!({
            "Container": id, "ID": id, "Name": it.name, "CPUPerc": "--", "MemUsage": "-- / --", "MemPerc": "--",
            "NetIO": "--", "BlockIO": "--", "PIDs": "--", "Counters": null,
        });
    };
    let cpu = before.get(&it.id).map_or(0.0, |(then, before)| sample.cpu_percent(before, (*taken - *then).as_nanos()));
    let (received, sent) = sample.network_total();
    json!({
        "Container": id,
        "ID": id,
        "Name": it.name,
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", binary(sample.memory.usage), binary(sample.memory.limit)),
        "MemPerc": format!("{:.2}%", sample.memory_percent()),
        "NetIO": format!("{} / {}", units::human(received), units::human(sent)),
        "BlockIO": format!("{} / {}", units::human(sample.block.read), units::human(sample.block.written)),
        "PIDs": sample.pids.current.to_string(),
        "Counters": sample,
    })
}

/// Shows it, in the place of the last one on a terminal. Whether there is still somebody who reads.
fn show(text: &str, live: bool) -> Result<bool> {
    let mut screen = String::new();
    if live {
        // Each line is cleared behind its end, and the screen behind the last: nothing flickers.
        screen += "\x1b[H";
        for line in text.lines() {
            let _ = write!(screen, "{line}\x1b[K\r\n");
        }
        screen += "\x1b[J";
    }
    let text = if live { &screen } else { text };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("writing to the standard output"),
    }
}

/// Bytes in powers of 1024 with four digits, as Docker shows memory.
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = match value {
        ..10.0 => 3,
        ..100.0 => 2,
        ..1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// `bundle metrics`.
pub fn metrics(tool: &Tool) -> Result<()> {
    let containers = watched(tool, &[], true)?;
    let subject = |it| {
        let Watched { id, name, image, pid }: &Watched = it;
        Subject { id, name, image, sample: pid.and_then(|pid| Sample::take(pid, id)) }
    };
    let subjects: Vec<Subject<'_>> = containers.iter().map(subject).collect();
    output::print(&prometheus(&subjects))
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_shown_as_docker_does() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (5 << 20, "5MiB"),
            (1_293_942, "1.234MiB"),
            (512 << 20, "512MiB"),
            (16_384_000 << 10, "15.62GiB"),
        ] {
            assert_eq!(super::binary(bytes), text);
        }
    }
}
