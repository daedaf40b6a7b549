//! Where messages go. Errors: one line on standard error, and one in `--log`. Warnings: `--log`
//! only, since standard error is the container's. Everything below is a [`tracing`] event, and a
//! subscriber exists only when it was asked for.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::cli::{Global, LogFormat, LogLevel};
use crate::state::time;

struct Log {
    path: Option<PathBuf>,
    format: LogFormat,
    level: LogLevel,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Takes the flags in. Must come before any other call here.
pub fn init(global: &Global) {
    let level = if global.debug { LogLevel::Debug } else { global.log_level };
    let _ = LOG.set(Log { path: global.log.clone(), format: global.log_format, level });
    if level >= LogLevel::Info {
        let _ = tracing::subscriber::set_global_default(Lines);
    }
}

/// The command failed.
pub fn error(message: &str) {
    let line = one_line(message);
    // Nowhere is left to complain if this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
    to_file("error", &line);
}

/// The command goes on. Nothing is put into words where nobody reads it.
pub fn warn(message: impl Display) {
    if LOG.get().is_some_and(|log| log.level >= LogLevel::Warn && log.path.is_some()) {
        to_file("warning", &one_line(&message.to_string()));
    }
}

fn one_line(message: &str) -> String {
    message.replace(['\n', '\r', '\0'], " ").trim().to_owned()
}

fn format(level: &str, message: &str) -> Option<String> {
    let time = time::now();
    Some(match LOG.get()?.format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time}))
        }
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
    })
}

/// The file is opened for each line: a descriptor that stayed open would be one more to keep from
/// the container.
fn to_file(level: &str, message: &str) {
    let (Some(log), Some(line)) = (LOG.get(), format(level, message)) else { return };
    let Some(path) = &log.path else { return };
    if let Ok(mut file) = File::options().append(true).create(true).open(path) {
        let _ = file.write_all(line.as_bytes());
    }
}

/// Writes tracing events as log lines: to `--log`, or else to standard error.
struct Lines;

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        use std::fmt::Write;
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let debug = LOG.get().is_some_and(|log| log.level >= LogLevel::Debug);
        *metadata.level() <= if debug { Level::DEBUG } else { Level::INFO }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let line = one_line(&message.0);
        if LOG.get().is_some_and(|log| log.path.is_some()) {
            to_file(&level, &line);
        } else if let Some(line) = format(&level, &line) {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
