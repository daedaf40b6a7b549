//! `bundle`: images, layers and containers for a person, on top of any OCI runtime. From argv to a
//! command, from an error to an exit status and a line; nothing else. The map of the rooms is in
//! ../README.md.

mod archive;
mod build;
mod cli;
mod commands;
mod compose;
mod container;
mod events;
mod image;
mod init;
mod layer;
mod monitor;
mod namespace;
mod network;
mod output;
mod probe;
mod registry;
mod store;
mod sys;
mod tool;
mod transfer;
mod volume;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let first = words.next();
    let first = first.as_ref().and_then(|it| it.to_str());
    if first == Some(init::WORD) {
        return init::run(words).map_or_else(
            |error| {
                complain(&error);
                ExitCode::from(container::runtime::FAILED)
            },
            ExitCode::from,
        );
    }
    let words = words.map(|it| it.to_string_lossy().into_owned());
    if first == Some(monitor::WORD) {
        // Nobody reads what it says but in the container's state.
        return monitor::run(&words.collect::<Vec<_>>()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if first == Some(network::attach::HOOK) {
        return network::attach::attach_from_hook(&words.collect::<Vec<_>>()).map_or_else(
            |error| {
                complain(&error);
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    if first == Some(network::proxy::WORD) {
        // Nobody reads what it says.
        return network::proxy::run(&words.collect::<Vec<_>>()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if first == Some(network::names::WORD) {
        return network::names::run(&words.collect::<Vec<_>>()).map_or_else(
            |error| {
                complain(&error);
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        );
    }
    // In a container of the demonstration there is nothing else to find out first.
    if first == Some("probe") {
        return probe::run(&words.collect::<Vec<_>>()).map_or_else(
            |error| {
                complain(&error);
                ExitCode::FAILURE
            },
            ExitCode::from,
        );
    }
    if first == Some(namespace::HOLDER) {
        return namespace::hold().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    if first == Some(namespace::HELPER) {
        // Its caller reads our output and says it as its own.
        return match namespace::help(&words.collect::<Vec<_>>()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                print!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match commands::run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// An error is one line.
fn complain(error: &anyhow::Error) {
    eprintln!("bundle: {}", format!("{error:#}").replace('\n', " "));
}

/// Help goes to the standard output; a wrong command line is Docker's exit status 125, one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return if error.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    let said = |it: &&str| !it.is_empty() && !it.starts_with("For more information");
    let mut line = String::new();
    for it in text.lines().map(str::trim).take_while(|it| !it.starts_with("Usage:")).filter(said) {
        let between = if line.is_empty() || line.ends_with(':') { " " } else { "; " };
        line = format!("{line}{between}{it}");
    }
    eprintln!("bundle: {}; see --help", line.trim_start().trim_start_matches("error: "));
    ExitCode::from(125)
}
