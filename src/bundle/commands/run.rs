//! `bundle run` and `bundle create`.

use std::io::Write;

use anyhow::{Context, Result};

use crate::cli::PullWhen;
use crate::cli::containers::{Attaching, Create, Making, Run};
use crate::container::attach::{self, Options, Signals};
use crate::container::record::{self, Container, New, Settings};
use crate::container::runtime::FAILED;
use crate::container::state::State;
use crate::container::{lifecycle, remove, settle, spec, start};
use crate::image::Reference;
use crate::output;
use crate::output::progress::Progress;
use crate::store::Image;
use crate::tool::Tool;
use crate::transfer::{self, Limit};
use crate::volume;

/// The container's exit status; 125 where there was none.
pub fn run(tool: &Tool, args: &Run) -> u8 {
    run_it(tool, args).unwrap_or_else(|error| {
        crate::complain(&error);
        FAILED
    })
}

/// Prints the new container's id.
pub fn create(tool: &Tool, args: &Create) -> Result<()> {
    let (container, _lock) = make(tool, &args.making, false)?;
    // With --rm: this tells it from one whose `run` was killed before it could start it.
    State::default().write(&container.dir(tool)?, false)?;
    output::print(&format!("{}\n", container.id))
}

fn run_it(tool: &Tool, args: &Run) -> Result<u8> {
    let making = &args.making;
    let terminal = making.flags.tty;
    let attached = !args.detach;
    let options = options(&args.attaching, attached && making.interactive, terminal)?;
    if attached && making.interactive && terminal && !rustix::termios::isatty(std::io::stdin()) {
        anyhow::bail!("-it: the standard input is no terminal; leave -t away");
    }
    let (container, lock) = make(tool, making, args.detach)?;
    // From here on a signal is for the program: it may not leave a container half started.
    let signals = Signals::take(attached && options.signals, terminal)?;
    let size = terminal.then(attach::size).flatten();
    let started = start::start(tool, &container, lock, size, attached);
    let socket = match started {
        Ok(socket) => socket,
        Err(error) => {
            // As with a program that cannot be started: it stays, unless it was to be removed.
            if container.remove {
                let _ = remove::remove(tool, &container, true, true);
            }
            return Err(error);
        }
    };
    if args.detach {
        return match start::until_started(tool, &container, &socket)? {
            Some(end) => Ok(failed(&end)),
            None => output::print(&format!("{}\n", container.id)).map(|()| 0),
        };
    }
    super::attach::stay(tool, &container, socket, &signals, &options)
}

/// What a person reads of a container that could not be started, and the exit status.
pub fn failed(end: &crate::monitor::talk::End) -> u8 {
    if let Some(error) = &end.error {
        crate::complain(&anyhow::anyhow!("{error}"));
    }
    end.status as u8
}

/// How we will be attached.
pub fn options(attaching: &Attaching, input: bool, terminal: bool) -> Result<Options> {
    Ok(Options {
        input,
        terminal,
        keys: if input && terminal { attach::keys(&attaching.detach_keys)? } else { Vec::new() },
        // A terminal in raw mode passes the keys themselves on.
        signals: attaching.sig_proxy && !(terminal && input),
        output: true,
    })
}

/// A container of the image and the flags, all of which are read before anything is made.
fn make(tool: &Tool, args: &Making, detached: bool) -> Result<(Container, std::fs::File)> {
    let (image_name, command) = super::behind_flags(&args.words)?;
    if let Some(name) = &args.name {
        record::check_name("--name", name)?;
    }
    let cid_file = args.cidfile.as_ref().map(|path| {
        // Also keeps two from writing the same.
        std::fs::File::create_new(path)
            .with_context(|| format!("--cidfile {}: it must not be there yet, in a directory that is", path.display()))
    });
    let cid_file = cid_file.transpose()?;
    let made = register(tool, args, image_name, command, detached);
    match (&made, cid_file, &args.cidfile) {
        (Ok((container, _)), Some(mut file), _) => file.write_all(container.id.as_bytes()).context("--cidfile")?,
        (Err(_), Some(_), Some(path)) => drop(std::fs::remove_file(path)),
        _ => {}
    }
    made
}

fn register(
    tool: &Tool,
    args: &Making,
    image_name: &str,
    command: &[String],
    detached: bool,
) -> Result<(Container, std::fs::File)> {
    let image = image(tool, args, image_name)?;
    let store = tool.store()?;
    let (_, config) = store.read(&image)?;
    let flags = spec::check(&config.config, &args.flags, tool.plain_user)?;
    if args.rm && !matches!(spec::restart(&flags)?, spec::Restart::No) {
        anyhow::bail!("--rm and --restart: what is removed when it ends cannot be started again; leave one away");
    }
    spec::arguments(&config.config, flags.entrypoint.as_deref(), command)?;
    settle::sweep(tool)?;
    crate::transfer::unpacked(tool, &image)?;
    let volumes = config.config.volumes.iter().flatten().map(|it| it.0.as_str());
    let mounts = volume::resolve(&flags, volumes, &mut |name| Ok(record::find(store, name)?.settings.mounts))?;
    let settings = Settings {
        flags,
        command: command.to_vec(),
        mounts,
        image: config.config,
        runtime: Some(tool.runtime.clone()),
        driver: Some(tool.driver),
        interactive: args.interactive,
        input_once: args.interactive && !detached,
    };
    let new = New {
        image: &image,
        image_name,
        name: args.name.as_deref(),
        remove: args.rm,
        settings,
        files: &[],
        replaces: None,
    };
    let (container, lock) = record::register(tool, new)?;
    lifecycle::event(tool, &container, "create", &[]);
    Ok((container, lock))
}

fn image(tool: &Tool, args: &Making, name: &str) -> Result<Image> {
    let platform = super::platform(args.platform.as_deref())?;
    if args.pull != PullWhen::Always {
        if super::is_demo(name) {
            return super::find(tool, name);
        }
        if let Some(image) = tool.store()?.look_up(name)? {
            return Ok(image);
        }
    }
    if args.pull == PullWhen::Never {
        return tool.store()?.find(name);
    }
    let client = super::client(&args.registry)?;
    let progress = Progress::new(args.quiet);
    progress.line(&format!("{name} is not here: fetching it"));
    let reference: Reference = name.parse()?;
    transfer::pull(tool, &client, &reference, &platform, Limit(None), &progress)
        .with_context(|| format!("no image {name}"))
}
