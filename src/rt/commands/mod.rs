//! One file a command, each short: it names the steps and calls the rooms.

mod check;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod foreground;
mod kill;
mod list;
mod pause;
mod prepare;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::cli::{Cli, Command, Global};
use crate::plan::host;
use crate::sys::error::At;

/// Runs the command of a command line.
pub fn run(cli: Cli) -> Result<u8> {
    let global = &cli.global;
    let Some(command) = cli.command else { bail!("a command is needed; see --help") };
    let done = match command {
        Command::Create(mut args) => {
            args.common.cgroup_manager = global.manager();
            create::create(&root(global)?, &args)
        }
        Command::Start(args) => start::start(&root(global)?, &args.id),
        Command::Run(mut args) => {
            args.common.cgroup_manager = global.manager();
            return run::run(&root(global)?, &args);
        }
        Command::Exec(args) => return Ok(exec::exec(&root(global)?, &args)),
        Command::Ps(args) => ps::ps(&root(global)?, &args),
        Command::Pause(args) => pause::pause(&root(global)?, &args.id),
        Command::Resume(args) => pause::resume(&root(global)?, &args.id),
        Command::Update(args) => update::update(&root(global)?, &args),
        Command::Events(args) => events::events(&root(global)?, &args),
        Command::State(args) => state::state(&root(global)?, &args.id),
        Command::Kill(args) => kill::kill(&root(global)?, &args),
        Command::Delete(args) => delete::delete(&root(global)?, &args),
        Command::List(args) => list::list(&root(global)?, &args),
        Command::Checkpoint(args) => checkpoint::checkpoint(&root(global)?, &args, global.criu.as_deref()),
        Command::Restore(mut args) => {
            args.common.cgroup_manager = global.manager();
            return restore::restore(&root(global)?, &args, global.criu.as_deref());
        }
        Command::Spec(args) => spec::spec(&args),
        Command::Features => features::features(),
        Command::Check(args) => return check::check(&args, global.manager()),
        Command::Plan(args) => check::plan(&args, global.manager()),
    };
    done.map(|()| 0)
}

/// Where state is kept.
fn root(global: &Global) -> Result<PathBuf> {
    if let Some(root) = &global.root {
        return std::path::absolute(root).at(|| format!("--root {}", root.display()));
    }
    // An empty variable counts as none: engines run by root pass one.
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match runtime_dir {
        Some(dir) if !host::is_root() => Ok(PathBuf::from(dir).join("rt")),
        None if !rustix::process::geteuid().is_root() => {
            bail!("where to keep state: set XDG_RUNTIME_DIR, or give --root")
        }
        _ => Ok(PathBuf::from("/run/rt")),
    }
}

/// Standard output may be a full disk or a closed pipe.
fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).at(|| "writing to standard output".into())
}
