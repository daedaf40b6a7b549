//! How far a transfer is: bars on a terminal, a line for each step else, nothing when asked to be quiet.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// All bars of a command. They are on the standard error, so that the output can be read by a program.
pub struct Progress {
    bars: Option<MultiProgress>,
    quiet: bool,
}

/// One transfer.
pub struct Step {
    name: String,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// Bars where the standard error is a terminal and nobody asked for quiet.
    pub fn new(quiet: bool) -> Self {
        let terminal = !quiet && rustix::termios::isatty(std::io::stderr());
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Self { bars, quiet }
    }

    /// A new transfer of so many bytes.
    pub fn step(&self, name: &str, what: &str, bytes: u64) -> Step {
        let bar = self.bars.as_ref().map(|bars| {
            let style =
                ProgressStyle::with_template("{prefix}: {msg:12} [{bar:30}] {decimal_bytes}/{decimal_total_bytes}");
            let bar = ProgressBar::new(bytes).with_prefix(name.to_owned()).with_message(what.to_owned());
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bars.add(bar)
        });
        let step = Step { name: name.to_owned(), bar, quiet: self.quiet };
        if step.bar.is_none() && !self.quiet {
            eprintln!("{name}: {what}");
        }
        step
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None if !self.quiet => eprintln!("{text}"),
            None => {}
        }
    }
}

impl Step {
    /// So many more bytes.
    pub fn advance(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// So many bytes in all.
    pub fn set(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    /// The transfer is over: the word says how.
    pub fn finish(&self, word: &str) {
        match &self.bar {
            Some(bar) => {
                if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg}") {
                    bar.set_style(style);
                }
                bar.finish_with_message(word.to_owned());
            }
            None if !self.quiet => eprintln!("{}: {word}", self.name),
            None => {}
        }
    }

    /// What it waits for, or does now.
    pub fn say(&self, word: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(word.to_owned());
            bar.enable_steady_tick(Duration::from_millis(500));
        }
    }
}
