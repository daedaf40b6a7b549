//! What containers write, each line with its container's name in front of it.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use super::model::Project;
use crate::container::log::{self, Options};
use crate::container::record::Container;
use crate::container::{settle, spec};
use crate::tool::Tool;

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether names are in front of them.
    pub prefix: bool,
    /// Whether the names have colours.
    pub colors: bool,
    /// How wide the longest name is.
    pub width: usize,
}

/// A container's name without the project's in front.
pub fn short_name(project: &Project, container: &Container) -> String {
    let short = container.name.strip_prefix(&project.name).and_then(|it| it.strip_prefix('-'));
    short.unwrap_or(&container.name).to_owned()
}

/// SGR numbers (ECMA-48) that can be told apart on a dark and on a light ground.
const COLORS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// Who prints: one line at a time, whoever they come from.
pub struct Printer {
    style: Style,
    out: Mutex<()>,
}

impl Printer {
    /// A new one.
    pub fn new(style: Style) -> Self {
        Self { style, out: Mutex::new(()) }
    }

    /// What stands in front of a container's lines; `number` chooses the colour.
    fn prefix(&self, name: &str, number: usize) -> String {
        if !self.style.prefix {
            return String::new();
        }
        let padded = format!("{name:width$}  | ", width = self.style.width);
        if self.style.colors { format!("\x1b[{}m{padded}\x1b[0m", COLORS[number % COLORS.len()]) } else { padded }
    }

    /// A line of our own about a container.
    pub fn say(&self, name: &str, number: usize, text: &str) {
        let mut lines = Lines { printer: self, prefix: self.prefix(name, number), rest: Vec::new(), error: false };
        let _ = lines.write_all(format!("{text}\n").as_bytes());
    }
}

/// A stream of a container that is printed by lines.
struct Lines<'a> {
    printer: &'a Printer,
    prefix: String,
    rest: Vec<u8>,
    error: bool,
}

impl Lines<'_> {
    fn print(&mut self, upto: usize) -> io::Result<()> {
        let whole: Vec<u8> = self.rest.drain(..upto).collect();
        let mut text = Vec::with_capacity(whole.len() + self.prefix.len() * 8);
        for line in whole.split_inclusive(|it| *it == b'\n') {
            text.extend_from_slice(self.prefix.as_bytes());
            text.extend_from_slice(line);
        }
        let _one = self.printer.out.lock().unwrap_or_else(PoisonError::into_inner);
        if self.error {
            let mut out = io::stderr().lock();
            return out.write_all(&text).and_then(|()| out.flush());
        }
        let mut out = io::stdout().lock();
        out.write_all(&text).and_then(|()| out.flush())
    }

    /// A last line without an end gets one: another container's may come behind it.
    fn finish(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        self.rest.push(b'\n');
        self.print(self.rest.len())
    }
}

/// No line is longer in memory; what is longer is printed in parts.
const LONGEST: usize = 64 << 10;

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        if let Some(end) = memchr::memrchr(b'\n', &self.rest) {
            self.print(end + 1)?;
        }
        if self.rest.len() > LONGEST {
            self.finish()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a container's log; with `follow` until it has ended.
pub fn print(
    tool: &Tool,
    container: &Container,
    name: &str,
    number: usize,
    options: &Options,
    printer: &Printer,
) -> Result<()> {
    if spec::log_options(&container.settings.flags)?.driver != spec::LogDriver::Files {
        printer.say(name, number, "keeps no logs: its logging driver is none");
        return Ok(());
    }
    let dir = container.dir(tool)?.join("log");
    let lines = |error| Lines { printer, prefix: printer.prefix(name, number), rest: Vec::new(), error };
    let (mut out, mut err) = (lines(false), lines(true));
    let mut ended = || !matches!(settle::state(tool, container), Ok(Some(state)) if state.live());
    log::read(&dir, options, &mut out, &mut err, &mut ended)
        .and_then(|()| out.finish())
        .and_then(|()| err.finish())
        .or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
        .with_context(|| format!("the logs of container {}", container.name))
}
