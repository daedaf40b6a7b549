//! One file a command: each names the steps and calls the rooms.

mod attach;
mod build;
mod builder;
mod check;
mod commit;
mod compose;
mod cp;
mod diff;
mod events;
mod exec;
mod export;
mod export_bundle;
mod history;
mod images;
mod import;
mod inspect;
mod load;
mod login;
mod logs;
mod manifest;
mod moment;
mod network;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod start;
mod stats;
mod stop;
mod tag;
mod top;
mod up_again;
mod update;
mod volume;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cli::{Cli, Command, FormatFlag, LimitFlag, Manifest, RegistryFlags, StoreCommand};
use crate::container::{demo, units};
use crate::image::manifest::Platform;
use crate::registry::{Client, Credentials, Settings};
use crate::store::Image;
use crate::tool::Tool;
use crate::transfer::Limit;

/// Does what the command line asks for, and gives the exit status.
pub fn run(cli: Cli) -> Result<u8> {
    let plain_user = !rustix::process::geteuid().is_root();
    let tool = Tool::new(&cli.global, plain_user || crate::namespace::in_user_namespace())?;
    // Images' files have many owners: a plain user has them in a user namespace only.
    if plain_user
        && touches_store(&cli.command)
        && let Err(error) = crate::namespace::become_root(&tool.state_dir())
    {
        // What keeps a container from running is never taken for its own exit status.
        if matches!(cli.command, Command::Run(_) | Command::Exec(_)) {
            crate::complain(&error);
            return Ok(crate::container::runtime::FAILED);
        }
        return Err(error);
    }
    match cli.command {
        Command::Run(args) => return Ok(run::run(&tool, &args)),
        Command::Create(args) => run::create(&tool, &args),
        Command::Start(args) => return start::run(&tool, &args),
        Command::Stop(args) => stop::stop(&tool, &args),
        Command::Restart(args) => stop::restart(&tool, &args),
        Command::Kill(args) => stop::kill(&tool, &args),
        Command::Pause(args) => stop::pause(&tool, &args, true),
        Command::Unpause(args) => stop::pause(&tool, &args, false),
        Command::Wait(args) => stop::wait(&tool, &args),
        Command::Ps(args) => ps::run(&tool, &args),
        Command::Exec(args) => return Ok(exec::run(&tool, &args)),
        Command::Attach(args) => return attach::run(&tool, &args),
        Command::Rename(args) => rename::run(&tool, &args),
        Command::Update(args) => update::run(&tool, &args),
        Command::Diff(args) => diff::run(&tool, &args),
        Command::Port(args) => port::run(&tool, &args),
        Command::UpAgain(args) => up_again::run(&tool, &args),
        Command::Build(args) => return build::run(&tool, &args),
        Command::Builder(command) => builder::run(&tool, &command),
        Command::Pull(args) => pull::run(&tool, &args),
        Command::Push(args) => push::run(&tool, &args),
        Command::Images(args) => images::run(&tool, &args),
        Command::Rmi(args) => rmi::run(&tool, &args),
        Command::Tag(args) => tag::run(&tool, &args),
        Command::Inspect(args) => inspect::run(&tool, &args),
        Command::History(args) => history::run(&tool, &args),
        Command::Save(args) => save::run(&tool, &args),
        Command::Load(args) => load::run(&tool, &args),
        Command::Import(args) => import::run(&tool, &args),
        Command::Export(args) => export::run(&tool, &args),
        Command::ExportBundle(args) => export_bundle::run(&tool, &args),
        Command::Commit(args) => commit::run(&tool, &args),
        Command::Rm(args) => rm::run(&tool, &args),
        Command::Cp(args) => cp::run(&tool, &args),
        Command::Stats(args) => stats::run(&tool, &args),
        Command::Metrics => stats::metrics(&tool),
        Command::Top(args) => top::run(&tool, &args),
        Command::Events(args) => events::run(&tool, &args),
        Command::Logs(args) => logs::run(&tool, &args),
        Command::Login(args) => login::login(&args),
        Command::Logout(args) => login::logout(&args),
        Command::Search(args) => search::search(&args),
        Command::Tags(args) => search::tags(&args),
        Command::Manifest(Manifest::Inspect(args)) => manifest::inspect(&args),
        Command::Compose(args) => return compose::run(&tool, &args),
        Command::Network(command) => network::run(&tool, &command),
        Command::Volume(command) => volume::run(&tool, &command),
        Command::Prune(args) => prune::run(&tool, &args),
        Command::Store(StoreCommand::Check(args)) => return check::run(&tool, &args),
    }?;
    Ok(0)
}

fn touches_store(command: &Command) -> bool {
    !matches!(
        command,
        Command::Login(_) | Command::Logout(_) | Command::Search(_) | Command::Tags(_) | Command::Manifest(_)
    )
}

/// A client of registries, by the configuration files and what the flags say.
fn client(flags: &RegistryFlags) -> Result<Client> {
    Ok(Client::new(Settings::usual(config_dir().as_deref(), flags.tls_verify)?))
}

/// The user's own configuration directory.
fn config_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|it: &PathBuf| it.is_absolute());
    absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config"))).map(|it| it.join("bundle"))
}

fn credentials() -> Option<Credentials> {
    Credentials::usual(|name| std::env::var_os(name))
}

fn platform(text: Option<&str>) -> Result<Platform> {
    text.map_or_else(|| Ok(Platform::host()), |text| Platform::parse(text).context("--platform"))
}

fn limit(flag: &LimitFlag) -> Result<Limit> {
    Ok(Limit(flag.max_layer_size.as_ref().map(|text| units::bytes(text).context("--max-layer-size")).transpose()?))
}

/// An image by name or id; the demonstration's is always there.
fn find(tool: &Tool, name: &str) -> Result<Image> {
    let store = tool.store()?;
    if is_demo(name)
        && let Some(image) = demo::ensure(store)?
    {
        return Ok(image);
    }
    store.find(name)
}

fn is_demo(name: &str) -> bool {
    name.parse::<crate::image::Reference>().is_ok_and(|it| it.to_string() == demo::NAME)
}

/// The first word behind the flags, and the rest, which is somebody else's.
fn behind_flags(words: &[String]) -> Result<(&str, &[String])> {
    match words {
        [first, ..] if first.starts_with('-') => bail!("unknown flag {first}; see --help"),
        [first, rest @ ..] => Ok((first, rest)),
        [] => bail!("a name is missing; see --help"),
    }
}

/// What `--format` may be where there are no fields to pick from.
fn as_json(flag: &FormatFlag) -> Result<bool> {
    match flag.format.as_deref() {
        None | Some("text") => Ok(false),
        Some("json") => Ok(true),
        Some(other) => bail!("--format {other:?}: known are text and json"),
    }
}

/// Does one thing with each of several, prints those with which it has succeeded, and goes on behind those with
/// which it has not.
fn each(names: &[String], mut what: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut failed = None;
    for name in names {
        match what(name) {
            Ok(()) => crate::output::print(&format!("{name}\n"))?,
            Err(error) => {
                if let Some(before) = failed.replace(error) {
                    crate::complain(&before);
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
