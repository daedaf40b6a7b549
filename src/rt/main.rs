//! `rt`, an OCI container runtime. From argv to a command, from an error to an exit status and a
//! line; nothing else. The map of the rooms is in ../README.md.

#![cfg_attr(not(test), no_main)]

mod cgroup;
mod cli;
mod commands;
mod config;
mod criu;
#[cfg(test)]
mod fuzz;
mod launch;
mod log;
mod plan;
mod seccomp;
mod state;
mod sys;

use std::ffi::OsStr;
use std::io::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use sys::entry::Arguments;

/// Called by [`sys::entry`]; see there why this is not `fn main`.
#[cfg_attr(test, allow(dead_code))]
fn run(args: Arguments) -> i32 {
    // Before anything else, since it is all done again. A word too many is no harm.
    if args.iter().any(|arg| arg == "create" || arg == "run" || arg == "exec")
        && let Err(error) = launch::binary::protect(args)
    {
        log::error(&format!("{error:#}"));
        return 1;
    }
    // containerd's shim writes this one with one dash (containerd/go-runc).
    let dashes = |arg| if arg == "-no-subreaper" { OsStr::new("--no-subreaper") } else { arg };
    let cli = match cli::Cli::parse_words(args.iter().map(dashes)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    log::init(&cli.global);
    if cli.version {
        return print(&format!(
            "rt version {}\ncommit: {}\nspec: {}\n",
            env!("CARGO_PKG_VERSION"),
            option_env!("RT_COMMIT").unwrap_or("unknown"),
            state::SPEC_VERSION
        ));
    }
    match commands::run(cli) {
        Ok(code) => i32::from(code),
        Err(error) => {
            log::error(&format!("{error:#}"));
            1
        }
    }
}

/// Help goes to standard output; a wrong command line is one line and exit status 1, as runc has it.
fn usage(error: &clap::Error) -> i32 {
    let text = error.to_string();
    // Podman asks in this way whether a runtime knows a flag, and reads the answer.
    if let (ErrorKind::InvalidValue, Some(ContextValue::String(flag)), Some(ContextValue::String(value))) =
        (error.kind(), error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue))
        && value.is_empty()
    {
        log::error(&format!("flag needs an argument: {}; see --help", flag.split(' ').next().unwrap_or(flag)));
        return 1;
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => print(&text),
        _ => {
            let words: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .collect();
            log::error(&format!("{}; see --help", words.join(" ").trim_start_matches("error: ")));
            1
        }
    }
}

/// Standard output may be a full disk or a closed pipe.
fn print(text: &str) -> i32 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) => {
            log::error(&format!("writing to standard output: {}", sys::error::text(&error)));
            1
        }
    }
}
