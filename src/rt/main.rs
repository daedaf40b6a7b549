//! `rt`, an OCI container runtime. From argv to a command, from an error to an exit status and a
//! line; nothing else. The map of the rooms is in ../README.md.

#![cfg_attr(not(test), no_main)]

mod cgroup;
mod cli;
mod commands;
mod config;
mod launch;
mod log;
mod plan;
mod seccomp;
mod state;
mod sys;

use std::io::Write;

use clap::Parser;
use clap::error::ErrorKind;

/// Called by [`sys::entry`]; see there why this is not `fn main`.
#[cfg_attr(test, allow(dead_code))]
fn run() -> i32 {
    let cli = match cli::Cli::try_parse() {
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
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => print(&text),
        _ => {
            let words: Vec<&str> = text
                .lines()
                .take_while(|line| !line.starts_with("Usage:"))
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
