//! What a build shows while it is at work, on the standard error: lines that change on a terminal, all output line by
//! line, or JSON.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::cli::build::ProgressKind;

/// Lines of a failed step's output that are shown where its output was not.
const LAST_LINES: usize = 20;

/// See the head of the file.
pub struct Progress {
    kind: Kind,
    count: AtomicU32,
}

enum Kind {
    Quiet,
    Plain,
    Tty(MultiProgress),
    Json,
}

/// A step that is shown.
pub struct Step<'a> {
    progress: &'a Progress,
    number: u32,
    name: String,
    start: Instant,
    bar: Option<ProgressBar>,
    last: Mutex<VecDeque<String>>,
}

impl Progress {
    /// As the flags ask for it.
    pub fn new(kind: ProgressKind, quiet: bool) -> Self {
        let terminal = rustix::termios::isatty(std::io::stderr());
        let kind = match kind {
            _ if quiet => Kind::Quiet,
            ProgressKind::Quiet => Kind::Quiet,
            ProgressKind::Plain => Kind::Plain,
            ProgressKind::Json | ProgressKind::RawJson => Kind::Json,
            ProgressKind::Auto if !terminal => Kind::Plain,
            ProgressKind::Auto | ProgressKind::Tty => {
                Kind::Tty(MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15)))
            }
        };
        Self { kind, count: AtomicU32::new(0) }
    }

    /// Whether bars of transfers would be in the way.
    pub fn is_quiet(&self) -> bool {
        !matches!(self.kind, Kind::Plain)
    }

    /// A step begins.
    pub fn step(&self, name: &str) -> Step<'_> {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut step = Step {
            progress: self,
            number,
            name: name.to_owned(),
            start: Instant::now(),
            bar: None,
            last: Mutex::default(),
        };
        match &self.kind {
            Kind::Quiet => {}
            Kind::Plain => eprintln!("#{number} {name}"),
            Kind::Json => step.event("start", &[]),
            Kind::Tty(bars) => {
                let bar = bars.add(ProgressBar::no_length().with_prefix(name.to_owned()));
                if let Ok(style) = ProgressStyle::with_template("=> {prefix:.bold} {elapsed} {wide_msg:.dim}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(100));
                step.bar = Some(bar);
            }
        }
        step
    }

    /// A line that is no step's.
    pub fn line(&self, text: &str) {
        match &self.kind {
            Kind::Quiet => {}
            Kind::Plain => eprintln!("{text}"),
            Kind::Json => eprintln!("{}", json!({"event": "message", "text": text})),
            Kind::Tty(bars) => drop(bars.println(text)),
        }
    }
}

impl Step<'_> {
    fn event(&self, event: &str, more: &[(&str, serde_json::Value)]) {
        let mut line = json!({"step": self.number, "event": event});
        if event == "start" {
            line["name"] = json!(self.name);
        }
        for (key, value) in more {
            line[*key] = value.clone();
        }
        eprintln!("{line}");
    }

    /// A line of what the step's command writes.
    pub fn output(&self, line: &str) {
        let line = line.trim_end_matches(['\n', '\r']);
        match &self.progress.kind {
            Kind::Plain => {
                eprintln!("#{} {:.3} {line}", self.number, self.start.elapsed().as_secs_f64());
                return;
            }
            Kind::Json => {
                self.event("output", &[("text", json!(line))]);
                return;
            }
            _ => {}
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(line.to_owned());
        if last.len() > LAST_LINES {
            last.pop_front();
        }
        if let Some(bar) = &self.bar {
            // What a command writes must not move the cursor.
            bar.set_message(line.chars().filter(|it| !it.is_control()).collect::<String>());
        }
    }

    fn end(&self, word: &str, event: &str) {
        let seconds = self.start.elapsed().as_secs_f64();
        match &self.progress.kind {
            Kind::Quiet => {}
            Kind::Plain if event == "done" => eprintln!("#{} {word} {seconds:.1}s", self.number),
            Kind::Plain => eprintln!("#{} {word}", self.number),
            Kind::Json => self.event(event, &[("seconds", json!(seconds))]),
            Kind::Tty(_) => {
                if let Some(bar) = &self.bar {
                    bar.finish_with_message(word.to_owned());
                }
            }
        }
    }

    /// It has done its work.
    pub fn done(self) {
        self.end("DONE", "done");
    }

    /// It was done before.
    pub fn cached(self) {
        self.end("CACHED", "cached");
    }

    /// It has failed; what its command has written last is shown where it was not.
    pub fn failed(self) {
        self.end("ERROR", "error");
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for line in last.iter() {
            match &self.progress.kind {
                Kind::Tty(bars) => drop(bars.println(line)),
                _ => eprintln!("{line}"),
            }
        }
    }
}
