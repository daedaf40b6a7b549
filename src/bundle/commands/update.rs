//! `bundle update`.

use anyhow::{Result, bail};

use crate::cli::containers::Update;
use crate::cli::flags::Flags;
use crate::container::{lifecycle, record, settle, spec};
use crate::monitor::talk::{self, Change};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Update) -> Result<()> {
    super::each(&args.containers, |name| update(tool, args, name))
}

fn update(tool: &Tool, args: &Update, name: &str) -> Result<()> {
    let store = tool.store()?;
    let container = record::find(store, name)?;
    let mut settings = container.settings.clone();
    change(&mut settings.flags, args);
    if settings.flags == container.settings.flags {
        bail!("nothing to change is named; see --help");
    }
    spec::check(&settings.image, &settings.flags, tool.plain_user)?;
    let restart = spec::restart(&settings.flags)?;
    if container.remove && restart != spec::Restart::No {
        bail!("--restart: the container is removed when it ends (--rm)");
    }
    let policy_alone = Flags { restart: settings.flags.restart.clone(), ..container.settings.flags.clone() };
    let live = settle::state(tool, &container)?.is_some_and(|it| it.live());
    // A policy is the monitor's: a container that is between two runs has no limits to be changed.
    if live && settings.flags != policy_alone {
        // The kernel may refuse; then nothing has changed.
        let resources = spec::update(&settings.flags, tool.plain_user)?;
        let path = container.run_dir(tool).join("resources.json");
        std::fs::write(&path, serde_json::to_vec(&resources)?)?;
        let file = path.to_string_lossy();
        container.runtime(tool).run(&["update", "--resources", &file, &container.id])?;
    }
    record::update(store, &container.id, &settings)?;
    if let Some(socket) = talk::connect(&container.run_dir(tool))? {
        let change = Change { name: None, restart: Some(restart) };
        let _ = talk::send(&socket, talk::CHANGE, &serde_json::to_vec(&change)?);
    }
    lifecycle::event(tool, &container, "update", &[]);
    Ok(())
}

/// Lays what is asked for over the flags that the container was made with.
fn change(flags: &mut Flags, args: &Update) {
    fn lay<T: Clone>(over: &mut Option<T>, new: Option<&T>) {
        if new.is_some() {
            *over = new.cloned();
        }
    }
    lay(&mut flags.memory, args.memory.as_ref());
    lay(&mut flags.memory_swap, args.memory_swap.as_ref());
    lay(&mut flags.memory_reservation, args.memory_reservation.as_ref());
    // Two ways to say the same: the new one is meant.
    if args.cpus.is_some() {
        (flags.cpu_quota, flags.cpu_period) = (None, None);
    }
    if args.cpu_quota.is_some() || args.cpu_period.is_some() {
        flags.cpus = None;
    }
    lay(&mut flags.cpus, args.cpus.as_ref());
    lay(&mut flags.cpu_shares, args.cpu_shares.as_ref());
    lay(&mut flags.cpu_quota, args.cpu_quota.as_ref());
    lay(&mut flags.cpu_period, args.cpu_period.as_ref());
    lay(&mut flags.cpuset_cpus, args.cpuset_cpus.as_ref());
    lay(&mut flags.cpuset_mems, args.cpuset_mems.as_ref());
    lay(&mut flags.pids_limit, args.pids_limit.as_ref());
    lay(&mut flags.blkio_weight, args.blkio_weight.as_ref());
    lay(&mut flags.restart, args.restart.as_ref());
}
