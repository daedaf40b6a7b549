//! `update`

use std::io::Read;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use crate::cgroup::layout::Layout;
use crate::cgroup::systemd::{self, Manager, Unit};
use crate::cgroup::{Plan, freezer, update};
use crate::cli;
use crate::config::load;
use crate::config::problem::Problems;
use crate::config::types::{BlockIo, Resources, Str};
use crate::config::validate;
use crate::state::store::{self, Entry};
use crate::state::{State, Status};
use crate::sys::error::At;

pub(super) fn update(root: &Path, args: &cli::Update) -> Result<()> {
    let text = args.resources.as_deref().map(read).transpose()?;
    let mut problems = Problems::default();
    let mut resources = match &text {
        Some(text) => load::parse::<Resources<'_>>(text, &mut problems).unwrap_or_default(),
        None => Resources::default(),
    };
    let place = args.resources.as_deref().map_or("update".to_owned(), |path| format!("--resources {}", path.display()));
    settle(&place, &problems)?;
    take_flags(&mut resources, args)?;
    let schemata: Vec<&str> =
        [&args.l3_cache_schema, &args.mem_bw_schema].into_iter().flatten().map(|it| &**it).collect();
    // Under the lock: two updates at once must not undo each other's half.
    let entry = Entry::open(root, &args.id)?;
    let Some(text) = entry.read()? else { bail!("container not running: \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    let status = entry.status(&state);
    if matches!(status, Status::Stopped | Status::Creating) {
        bail!("container not running");
    }
    if !schemata.is_empty() && state.schemata.is_none() {
        bail!("update: the container has no resctrl group (linux.intelRdt)");
    }
    if state.cgroups.is_empty() && resources != Resources::default() {
        bail!("update: the container has no cgroup, so it has no limits that could be changed");
    }
    let layout = update::layout(&state.cgroups)?;
    update::complete(&mut resources, &layout);
    let mut problems = Problems::default();
    validate::resources(&resources, &mut problems);
    settle(&place, &problems)?;
    let mut problems = Problems::default();
    let plan = update::plan(&resources, &layout, &mut problems);
    settle(&place, &problems)?;
    let change = Change { state: &state, status, resources: &resources, layout: &layout, plan: &plan };
    change.make(&schemata).map_err(|error| said(&place, &format!("{error:#}")))
}

/// What is to become of which container.
struct Change<'c> {
    state: &'c State<'c>,
    status: Status,
    resources: &'c Resources<'c>,
    layout: &'c Layout,
    plan: &'c Plan,
}

impl Change<'_> {
    /// The kernel's files first: what the kernel refuses goes no further.
    fn make(&self, schemata: &[&str]) -> Result<()> {
        update::check_usage(self.resources, self.layout)?;
        let undo = update::apply(self.plan)?;
        let rest = || {
            match &self.state.unit {
                Some(unit) => self.in_unit(unit)?,
                None => self.devices()?,
            }
            schemata.iter().try_for_each(|schema| {
                let path = self.state.schemata.as_deref().unwrap_or_default();
                std::fs::write(path, format!("{schema}\n")).at(|| format!("writing \"{schema}\" to {path}"))
            })
        };
        rest().inspect_err(|_| undo.undo())
    }

    fn devices(&self) -> Result<()> {
        if self.resources.devices.is_empty() { Ok(()) } else { update::devices(self.resources, self.layout) }
    }

    /// Tells systemd, which would bring the old limits back with its next reload.
    fn in_unit(&self, unit: &Unit) -> Result<()> {
        let mut manager = Manager::connect(unit.user)?;
        let v2 = self.layout.v1.is_empty();
        let mut tell = || {
            manager.set(unit, &systemd::changes(self.resources, v2, manager.version))?;
            // It has written what it was told, which it rounds, by the time it answers the next question.
            manager.control_group()?;
            update::apply(self.plan)?;
            self.devices()
        };
        // On v1 it empties the list of devices to write it anew: nobody may look meanwhile.
        if v2 || self.status == Status::Paused {
            return tell();
        }
        freezer::freeze(&self.state.cgroups)?;
        let told = tell();
        freezer::thaw(&self.state.cgroups).and(told)
    }
}

fn read(path: &Path) -> Result<String> {
    if path != Path::new("-") {
        return load::read(path);
    }
    let mut text = String::new();
    std::io::stdin()
        .take(load::MAX_BYTES)
        .read_to_string(&mut text)
        .at(|| "--resources -: reading standard input".into())?;
    Ok(text)
}

/// The document here is what stands below /linux/resources in config.json.
fn said(place: &str, words: &str) -> anyhow::Error {
    anyhow!("{place}: {}", words.replace("/linux/resources/", "/"))
}

fn settle(place: &str, problems: &Problems) -> Result<()> {
    problems.fatal().next().map_or(Ok(()), |first| Err(said(place, &first.to_string())))
}

/// Flags stand above the file.
fn take_flags<'a>(resources: &mut Resources<'a>, args: &'a cli::Update) -> Result<()> {
    let size = |flag: &str, text: &Option<String>| -> Result<Option<i64>> {
        let Some(text) = text else { return Ok(None) };
        let bytes = update::size(text);
        bytes
            .map(Some)
            .ok_or_else(|| anyhow!("--{flag} \"{}\": must be a size such as 512M, or -1", text.escape_debug()))
    };
    let limit = size("memory", &args.memory)?;
    let reservation = size("memory-reservation", &args.memory_reservation)?;
    let swap = size("memory-swap", &args.memory_swap)?;
    for (flag, text) in [("kernel-memory", &args.kernel_memory), ("kernel-memory-tcp", &args.kernel_memory_tcp)] {
        size(flag, text)?;
    }
    if limit.or(reservation).or(swap).is_some() {
        let memory = resources.memory.get_or_insert_default();
        memory.limit = limit.or(memory.limit);
        memory.reservation = reservation.or(memory.reservation);
        memory.swap = swap.or(memory.swap);
    }
    let cpus = args.cpuset_cpus.as_deref().map(Str::from);
    let mems = args.cpuset_mems.as_deref().map(Str::from);
    let numbers = [args.cpu_period, args.cpu_burst, args.cpu_share, args.cpu_rt_period];
    let signed = [args.cpu_quota, args.cpu_rt_runtime, args.cpu_idle];
    if cpus.is_some() || mems.is_some() || numbers.iter().any(Option::is_some) || signed.iter().any(Option::is_some) {
        let cpu = resources.cpu.get_or_insert_default();
        cpu.cpus = cpus.or(cpu.cpus.take());
        cpu.mems = mems.or(cpu.mems.take());
        cpu.period = args.cpu_period.or(cpu.period);
        cpu.quota = args.cpu_quota.or(cpu.quota);
        cpu.burst = args.cpu_burst.or(cpu.burst);
        cpu.shares = args.cpu_share.or(cpu.shares);
        cpu.realtime_period = args.cpu_rt_period.or(cpu.realtime_period);
        cpu.realtime_runtime = args.cpu_rt_runtime.or(cpu.realtime_runtime);
        cpu.idle = args.cpu_idle.or(cpu.idle);
    }
    if let Some(limit) = args.pids_limit {
        resources.pids.get_or_insert_default().limit = Some(limit);
    }
    if let Some(weight) = args.blkio_weight {
        resources.block_io.get_or_insert_with(BlockIo::default).weight = Some(weight);
    }
    Ok(())
}
