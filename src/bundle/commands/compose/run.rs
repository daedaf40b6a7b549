//! `compose exec` and `compose run`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::images::{self, How};
use super::lists::one;
use super::{board, project};
use crate::cli::compose::{Exec, Run, Which as Flags};
use crate::cli::containers::Attaching;
use crate::cli::flags::Flags as ContainerFlags;
use crate::compose::create::{self, One};
use crate::compose::{plan, site, up};
use crate::container::attach::{self, Signals};
use crate::container::exec::{self, exec as run_in};
use crate::container::runtime::FAILED;
use crate::container::{remove, settle, spec, start};
use crate::output;
use crate::tool::Tool;

/// The program's exit status; 125 where there was none.
pub fn exec(tool: &Tool, flags: &Flags, args: &Exec) -> u8 {
    said(exec_it(tool, flags, args))
}

/// The program's exit status; 125 where there was none.
pub fn run(tool: &Tool, flags: &Flags, args: &Run) -> u8 {
    said(run_it(tool, flags, args))
}

fn said(result: Result<u8>) -> u8 {
    result.unwrap_or_else(|error| {
        crate::complain(&error);
        FAILED
    })
}

fn exec_it(tool: &Tool, flags: &Flags, args: &Exec) -> Result<u8> {
    let (service, words) = super::super::behind_flags(&args.words)?;
    let found = one(tool, &project(flags)?, service, args.index)?;
    let what = exec::Exec {
        words,
        env: spec::settled_environment(&[], &args.env)?,
        workdir: args.workdir.as_deref(),
        user: args.user.as_deref(),
        terminal: terminal(args.no_tty, args.detach),
        interactive: true,
        detach: args.detach,
        privileged: args.privileged,
    };
    run_in(tool, &found.container, &what)
}

/// Both ends have to be one.
fn terminal(no_tty: bool, detach: bool) -> bool {
    let both = rustix::termios::isatty(std::io::stdin()) && rustix::termios::isatty(std::io::stdout());
    !no_tty && !detach && both
}

fn run_it(tool: &Tool, flags: &Flags, args: &Run) -> Result<u8> {
    let project = project(flags)?;
    let (service, command) = super::super::behind_flags(&args.words)?;
    let names = BTreeSet::from([service.to_owned()]);
    let all = plan::chosen(&project, &[service.to_owned()], args.no_deps)?;
    let others: BTreeSet<String> = all.difference(&names).cloned().collect();
    let how = How { build: args.build, no_build: false, pull: args.pull, quiet: false };
    let image = images::ensure(tool, &project, &names, &how)?;
    let terminal = terminal(args.no_tty, args.detach);
    let edit = |it: &mut ContainerFlags| edit(it, args, terminal);
    let asked = create::read(tool, &project, service, &image, command, &edit)?;
    let board = board(flags);
    let others_how = How { build: false, no_build: false, pull: None, quiet: false };
    let others = up::Up {
        project: &project,
        images: images::ensure(tool, &project, &others, &others_how)?,
        named: BTreeSet::new(),
        services: others,
        scale: std::collections::BTreeMap::new(),
        recreate: up::Recreate::Changed,
        // What runs is left alone.
        recreate_others: up::Recreate::Never,
        renew_volumes: false,
        remove_orphans: false,
        start: true,
        timeout: None,
    };
    let groups = if others.services.is_empty() { Vec::new() } else { up::up(tool, &others, &board)? };
    up::wait_for(tool, &project, service, &groups, &board)?;
    settle::sweep(tool)?;
    crate::transfer::unpacked(tool, &asked.image)?;
    site::ensure(tool, &project, &names, &board)?;
    let name = if let Some(name) = &args.name {
        name.clone()
    } else {
        let id = crate::container::random_id()?;
        format!("{}-{service}-run-{}", project.name, &id[..12])
    };
    let one = One {
        container_name: &name,
        number: 1,
        by_run: true,
        remove: args.rm,
        replaces: None,
        renew_volumes: false,
        attached: !args.detach,
        command,
    };
    let (container, lock) = create::make(tool, &project, &asked, &one)?;
    let attaching = Attaching { detach_keys: "ctrl-p,ctrl-q".to_owned(), sig_proxy: true };
    let options = super::super::run::options(&attaching, !args.detach, terminal)?;
    let signals = Signals::take(!args.detach && options.signals, terminal)?;
    let size = terminal.then(attach::size).flatten();
    let socket = match start::start(tool, &container, lock, size, !args.detach) {
        Ok(socket) => socket,
        Err(error) => {
            if container.remove {
                let _ = remove::remove(tool, &container, true, true);
            }
            return Err(error).with_context(|| format!("service {service}"));
        }
    };
    if args.detach {
        return match start::until_started(tool, &container, &socket)? {
            Some(end) => Ok(super::super::run::failed(&end)),
            None => output::print(&format!("{}\n", container.name)).map(|()| 0),
        };
    }
    super::super::attach::stay(tool, &container, socket, &signals, &options)
}

/// What the command line says over what the service says.
fn edit(it: &mut ContainerFlags, args: &Run, terminal: bool) {
    it.env.extend(args.env.iter().cloned());
    it.label.extend(args.label.iter().cloned());
    it.volume.extend(args.volume.iter().cloned());
    it.cap_add.extend(args.cap_add.iter().cloned());
    it.cap_drop.extend(args.cap_drop.iter().cloned());
    it.user = args.user.clone().or(it.user.take());
    it.workdir = args.workdir.clone().or(it.workdir.take());
    it.entrypoint = args.entrypoint.clone().or(it.entrypoint.take());
    it.tty = terminal;
    // It runs once.
    it.restart = None;
    // The service's own containers have its ports and names.
    if !args.service_ports {
        it.publish.clear();
    }
    it.publish.extend(args.publish.iter().cloned());
    if !args.use_aliases {
        for network in &mut it.network {
            let own = |it: &&str| !["alias=", "ip=", "ip6=", "mac-address="].iter().any(|word| it.starts_with(word));
            let all: Vec<&str> = network.split(',').filter(own).collect();
            *network = all.join(",");
        }
    }
}
