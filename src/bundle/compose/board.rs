//! What a command does with each thing, as people see it: a line that changes on a terminal, a line for each step else.
//! On the standard error, so that the output can be read by a program.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How steps are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Lines that change.
    Terminal,
    /// A line a step.
    Plain,
    /// Nothing.
    Quiet,
}

/// All lines of a command. Threads share it.
pub struct Board {
    look: Look,
    bars: MultiProgress,
    lines: Mutex<HashMap<String, ProgressBar>>,
}

impl Board {
    /// An empty one.
    pub fn new(look: Look) -> Self {
        let target =
            if look == Look::Terminal { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Self { look, bars: MultiProgress::with_draw_target(target), lines: Mutex::new(HashMap::new()) }
    }

    /// Something is being done with a thing, such as `Container web-1` and `Starting`.
    pub fn begin(&self, thing: &str, word: &str) {
        self.show(thing, word, false);
    }

    /// It is done.
    pub fn done(&self, thing: &str, word: &str) {
        self.show(thing, word, true);
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match self.look {
            Look::Terminal => drop(self.bars.println(text)),
            Look::Plain => eprintln!("{text}"),
            Look::Quiet => {}
        }
    }

    fn show(&self, thing: &str, word: &str, done: bool) {
        match self.look {
            Look::Quiet => {}
            Look::Plain => eprintln!(" {thing}  {word}"),
            Look::Terminal => {
                let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                let bar = lines.entry(thing.to_owned()).or_insert_with(|| {
                    let bar = self.bars.add(ProgressBar::new_spinner().with_prefix(thing.to_owned()));
                    if let Ok(style) = ProgressStyle::with_template(" {spinner} {prefix}  {msg}  {elapsed}") {
                        bar.set_style(style.tick_strings(&["-", "\\", "|", "/", "+"]));
                    }
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
                if done {
                    bar.finish_with_message(word.to_owned());
                } else {
                    bar.set_message(word.to_owned());
                }
            }
        }
    }
}
