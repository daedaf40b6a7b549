//! What is wrong with a bundle: one line a problem, with the place and what to do.

use std::fmt;

use serde::Serialize;

/// Why a bundle cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The document breaks the runtime-spec, on every host.
    Invalid,
    /// The document is right, but this host cannot give what it asks for.
    Unavailable,
    /// Something asked for that the spec lets a runtime go without; the container runs.
    Warning,
}

/// One finding about a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON pointer (RFC 6901) of the field, `""` for the whole document.
    pub pointer: String,
    /// What is wrong and what to do about it, in one line.
    pub message: String,
    /// Whose fault it is.
    pub kind: Kind,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "{}: {}", one_line(pointer), one_line(&self.message))
    }
}

/// What comes of a hostile document must neither break the one line nor speak to the terminal, nor fill it.
fn one_line(text: &str) -> String {
    const MOST: usize = 400;
    let mut line: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        line.push('…');
    }
    line
}

/// The findings so far. A room that checks a field is handed one of these.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The document breaks the spec at `pointer`.
    pub fn invalid(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.push(pointer, message, Kind::Invalid);
    }

    /// This host lacks what `pointer` asks for.
    pub fn unavailable(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.push(pointer, message, Kind::Unavailable);
    }

    /// Worth a line in the log, no more.
    pub fn warn(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.push(pointer, message, Kind::Warning);
    }

    fn push(&mut self, pointer: impl Into<String>, message: impl Into<String>, kind: Kind) {
        self.0.push(Problem { pointer: pointer.into(), message: message.into(), kind });
    }

    /// Whether anything stands in the way of `create`.
    pub fn fatal(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|problem| problem.kind != Kind::Warning)
    }
}

/// Escapes a map's key for use in a JSON pointer (RFC 6901 section 3).
pub fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
