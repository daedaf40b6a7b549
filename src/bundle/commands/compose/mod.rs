//! `bundle compose`: one short function a command, in files by what they are about.

mod config;
mod images;
mod lists;
mod manage;
mod run;
mod up;

use anyhow::Result;

use crate::cli::compose::{Command, Compose, Look, When, Which as Flags};
use crate::compose::board::{self, Board};
use crate::compose::load::{Options, load};
use crate::compose::model::Project;
use crate::tool::Tool;

/// The exit status.
pub fn run(tool: &Tool, args: &Compose) -> Result<u8> {
    let flags = &args.project;
    match &args.command {
        Command::Up(args) => return up::up(tool, flags, args),
        Command::Create(args) => up::create(tool, flags, args),
        Command::Down(args) => up::down(tool, flags, args),
        Command::Ps(args) => lists::ps(tool, flags, args),
        Command::Logs(args) => lists::logs(tool, flags, args),
        Command::Images(args) => lists::images(tool, flags, args),
        Command::Ls(args) => lists::ls(tool, args),
        Command::Port(args) => lists::port(tool, flags, args),
        Command::Top(args) => lists::top(tool, flags, args),
        Command::Events(args) => lists::events(tool, flags, args),
        Command::Exec(args) => return Ok(run::exec(tool, flags, args)),
        Command::Run(args) => return Ok(run::run(tool, flags, args)),
        Command::Build(args) => images::build(tool, flags, args),
        Command::Pull(args) => images::pull(tool, flags, args),
        Command::Start(args) => manage::start(tool, flags, args),
        Command::Stop(args) => manage::stop(tool, flags, args),
        Command::Restart(args) => manage::restart(tool, flags, args),
        Command::Kill(args) => manage::kill(tool, flags, args),
        Command::Pause(args) => manage::pause(tool, flags, args, true),
        Command::Unpause(args) => manage::pause(tool, flags, args, false),
        Command::Rm(args) => manage::rm(tool, flags, args),
        Command::Wait(args) => return manage::wait(tool, flags, args),
        Command::Config(args) => config::run(flags, args),
    }?;
    Ok(0)
}

/// The project that the flags name.
fn project(flags: &Flags) -> Result<Project> {
    load(&options(flags))
}

fn options(flags: &Flags) -> Options {
    Options {
        files: flags.file.clone(),
        name: flags.project_name.clone(),
        profiles: flags.profile.clone(),
        env_files: flags.env_file.clone(),
        directory: flags.project_directory.clone(),
        no_interpolate: false,
    }
}

fn board(flags: &Flags) -> Board {
    let terminal = || rustix::termios::isatty(std::io::stderr()) && flags.ansi != When::Never;
    Board::new(match flags.progress {
        Look::Tty => board::Look::Terminal,
        Look::Auto if terminal() => board::Look::Terminal,
        Look::Auto | Look::Plain => board::Look::Plain,
        Look::Quiet => board::Look::Quiet,
    })
}

/// Whether output has colours.
fn colors(flags: &Flags, no_color: bool) -> bool {
    match flags.ansi {
        _ if no_color => false,
        When::Always => true,
        When::Never => false,
        When::Auto => rustix::termios::isatty(std::io::stdout()) && std::env::var_os("NO_COLOR").is_none(),
    }
}
