//! Limits: `linux.resources` of config.json. What this machine cannot limit is refused here.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::host::{self, Host, Limit};
use crate::cli::flags::Flags;
use crate::container::units;

/// Docker's least: nothing starts in less memory.
const LEAST_MEMORY: u64 = 6 << 20;

const fn limit(
    flag: &'static str,
    controller: &'static str,
    v1: &'static [&'static str],
    v2: &'static [&'static str],
) -> Limit {
    Limit { flag, controller, v1, v2 }
}

const MEMORY: Limit = limit("--memory", "memory", &["memory.limit_in_bytes"], &["memory.max"]);
const SWAP: Limit = limit("--memory-swap", "memory", &["memory.memsw.limit_in_bytes"], &["memory.swap.max"]);
const RESERVATION: Limit = limit("--memory-reservation", "memory", &["memory.soft_limit_in_bytes"], &["memory.low"]);
const SWAPPINESS: Limit = limit("--memory-swappiness", "memory", &["memory.swappiness"], &[]);
const OOM_KILL: Limit = limit("--oom-kill-disable", "memory", &["memory.oom_control"], &[]);
const CPUS: Limit = limit("--cpus", "cpu", &["cpu.cfs_quota_us"], &["cpu.max"]);
const CPU_SHARES: Limit = limit("--cpu-shares", "cpu", &["cpu.shares"], &["cpu.weight"]);
const CPU_PERIOD: Limit = limit("--cpu-period", "cpu", &["cpu.cfs_period_us"], &["cpu.max"]);
const CPU_QUOTA: Limit = limit("--cpu-quota", "cpu", &["cpu.cfs_quota_us"], &["cpu.max"]);
const RT_RUNTIME: Limit = limit("--cpu-rt-runtime", "cpu", &["cpu.rt_runtime_us"], &[]);
const RT_PERIOD: Limit = limit("--cpu-rt-period", "cpu", &["cpu.rt_period_us"], &[]);
const CPUSET_CPUS: Limit = limit("--cpuset-cpus", "cpuset", &["cpuset.cpus"], &["cpuset.cpus"]);
const CPUSET_MEMS: Limit = limit("--cpuset-mems", "cpuset", &["cpuset.mems"], &["cpuset.mems"]);
// A root has no limit of processes to look for.
const PIDS: Limit = limit("--pids-limit", "pids", &["cgroup.procs"], &["pids.max"]);
const WEIGHTS: [&[&str]; 2] = [&["blkio.weight", "blkio.bfq.weight"], &["io.weight", "io.bfq.weight"]];
const BLKIO_WEIGHT: Limit = limit("--blkio-weight", "blkio", WEIGHTS[0], WEIGHTS[1]);
const BLKIO_WEIGHT_DEVICE: Limit = limit("--blkio-weight-device", "blkio", WEIGHTS[0], WEIGHTS[1]);

/// All but the devices' list.
pub fn resources(flags: &Flags, host: &Host) -> Result<Map<String, Value>> {
    let mut resources = Map::new();
    for (key, part) in [("memory", memory(flags, host)?), ("cpu", cpu(flags, host)?), ("blockIO", block(flags, host)?)]
    {
        if !part.is_empty() {
            resources.insert(key.into(), part.into());
        }
    }
    match flags.pids_limit {
        None | Some(0) => {}
        Some(limit) if limit >= -1 => {
            host.require(&PIDS)?;
            resources.insert("pids".into(), json!({"limit": limit}));
        }
        Some(limit) => bail!("--pids-limit {limit}: -1 is unlimited, and there is nothing below"),
    }
    Ok(resources)
}

fn memory(flags: &Flags, host: &Host) -> Result<Map<String, Value>> {
    let mut memory = Map::new();
    let amount = |flag: &str, text: &str| units::bytes(text).with_context(|| format!("{flag} {text:?}"));
    if flags.kernel_memory.is_some() {
        bail!("--kernel-memory: no kernel has this limit any more: kernel memory counts in --memory");
    }
    let mut most = None;
    if let Some(text) = &flags.memory {
        let limit = amount("--memory", text)?;
        if limit < LEAST_MEMORY {
            bail!("--memory {text:?}: 6m is the least");
        }
        host.require(&MEMORY)?;
        memory.insert("limit".into(), json!(limit));
        let swap = match flags.memory_swap.as_deref() {
            Some("-1") => Some(json!(-1)),
            // Docker's word for "as without the flag".
            Some("0") | None => None,
            Some(text) => {
                let swap = amount("--memory-swap", text)?;
                if swap < limit {
                    bail!("--memory-swap {text:?}: it counts memory and swap together, so it is not below --memory");
                }
                Some(json!(swap))
            }
        };
        if let Some(swap) = swap {
            host.require(&SWAP)?;
            memory.insert("swap".into(), swap);
        } else if host.can(&SWAP) {
            memory.insert("swap".into(), json!(limit.saturating_mul(2).min(i64::MAX as u64)));
        }
        most = Some(limit);
    } else if let Some(text) = &flags.memory_swap {
        bail!("--memory-swap {text:?}: only together with --memory");
    }
    if let Some(text) = &flags.memory_reservation {
        let reservation = amount("--memory-reservation", text)?;
        if most.is_some_and(|most| reservation > most) {
            bail!("--memory-reservation {text:?}: more than --memory allows");
        }
        host.require(&RESERVATION)?;
        memory.insert("reservation".into(), json!(reservation));
    }
    match flags.memory_swappiness {
        // Docker's word for "as the host has it".
        None | Some(-1) => {}
        Some(number @ 0..=100) => {
            host.require(&SWAPPINESS)?;
            memory.insert("swappiness".into(), json!(number));
        }
        Some(number) => bail!("--memory-swappiness {number}: not between 0 and 100"),
    }
    if flags.oom_kill_disable {
        if most.is_none() {
            bail!("--oom-kill-disable: only together with --memory: else it is the host that waits for memory");
        }
        host.require(&OOM_KILL)?;
        memory.insert("disableOOMKiller".into(), json!(true));
    }
    Ok(memory)
}

fn cpu(flags: &Flags, host: &Host) -> Result<Map<String, Value>> {
    let mut cpu = Map::new();
    if let Some(text) = &flags.cpus {
        if flags.cpu_period.is_some() || flags.cpu_quota.is_some() {
            bail!("--cpus {text:?}: it is a --cpu-period and a --cpu-quota: give the one or the others");
        }
        let thousandths = units::cpus(text).context("--cpus")?;
        let there = host::processors();
        if thousandths.div_ceil(1000) > there {
            bail!("--cpus {text:?}: more than the {there} processors that there are: from 0.01 to {there} can be had");
        }
        host.require(&CPUS)?;
        cpu.insert("period".into(), json!(100_000));
        cpu.insert("quota".into(), json!(thousandths * 100));
    }
    if let Some(period) = flags.cpu_period.filter(|it| *it != 0) {
        if !(1000..=1_000_000).contains(&period) {
            bail!("--cpu-period {period}: not between 1000 and 1000000 microseconds");
        }
        host.require(&CPU_PERIOD)?;
        cpu.insert("period".into(), json!(period));
    }
    match flags.cpu_quota {
        None | Some(0) => {}
        Some(quota @ (-1 | 1000..)) => {
            host.require(&CPU_QUOTA)?;
            cpu.insert("quota".into(), json!(quota));
        }
        Some(quota) => bail!("--cpu-quota {quota}: 1000 microseconds are the least, and -1 is unlimited"),
    }
    if let Some(shares) = flags.cpu_shares.filter(|it| *it != 0) {
        if !(2..=262_144).contains(&shares) {
            bail!("--cpu-shares {shares}: not between 2 and 262144");
        }
        host.require(&CPU_SHARES)?;
        cpu.insert("shares".into(), json!(shares));
    }
    real_time(flags, host, &mut cpu)?;
    for (limit, key, value, what, path) in [
        (CPUSET_CPUS, "cpus", &flags.cpuset_cpus, "processor", "/sys/devices/system/cpu/online"),
        (CPUSET_MEMS, "mems", &flags.cpuset_mems, "memory node", "/sys/devices/system/node/online"),
    ] {
        if let Some(value) = value {
            host::within(limit.flag, value, what, path)?;
            host.require(&limit)?;
            cpu.insert(key.into(), json!(value));
        }
    }
    Ok(cpu)
}

fn real_time(flags: &Flags, host: &Host, cpu: &mut Map<String, Value>) -> Result<()> {
    if let Some(period) = flags.cpu_rt_period.filter(|it| *it != 0) {
        host.require(&RT_PERIOD)?;
        cpu.insert("realtimePeriod".into(), json!(period));
    }
    if let Some(runtime) = flags.cpu_rt_runtime.filter(|it| *it != 0) {
        if runtime < 0 {
            bail!("--cpu-rt-runtime {runtime}: less than nothing");
        }
        if flags.cpu_rt_period.is_some_and(|period| runtime as u64 > period) {
            bail!("--cpu-rt-runtime {runtime}: more than --cpu-rt-period");
        }
        host.require(&RT_RUNTIME)?;
        cpu.insert("realtimeRuntime".into(), json!(runtime));
    }
    Ok(())
}

fn block(flags: &Flags, host: &Host) -> Result<Map<String, Value>> {
    let mut block = Map::new();
    let weight = |flag: &str, weight: u64| {
        if !(10..=1000).contains(&weight) {
            bail!("{flag} {weight}: not between 10 and 1000");
        }
        Ok(json!(weight))
    };
    if let Some(number) = flags.blkio_weight.filter(|it| *it != 0) {
        let number = weight("--blkio-weight", u64::from(number))?;
        host.require(&BLKIO_WEIGHT)?;
        block.insert("weight".into(), number);
    }
    let mut devices = Vec::new();
    for text in &flags.blkio_weight_device {
        let (major, minor, number) = block_device("--blkio-weight-device", text)?;
        let number = number.parse().ok().with_context(|| format!("--blkio-weight-device {text:?}: no number"))?;
        devices.push(json!({"major": major, "minor": minor, "weight": weight("--blkio-weight-device", number)?}));
    }
    if !devices.is_empty() {
        host.require(&BLKIO_WEIGHT_DEVICE)?;
        let by_cost = host.can(&Limit { v1: &[], v2: &["io.weight"], ..BLKIO_WEIGHT_DEVICE });
        if let Some(text) = flags.blkio_weight_device.iter().find(|it| !by_cost && !has_weights(it)) {
            bail!(
                "--blkio-weight-device {text}: the device's I/O scheduler has no weights, which bfq has: leave the flag away, or choose bfq in /sys/block/NAME/queue/scheduler"
            );
        }
        block.insert("weightDevice".into(), devices.into());
    }
    for (limit, key, list, bytes) in [
        (
            limit("--device-read-bps", "blkio", &["blkio.throttle.read_bps_device"], &["io.max"]),
            "throttleReadBpsDevice",
            &flags.device_read_bps,
            true,
        ),
        (
            limit("--device-write-bps", "blkio", &["blkio.throttle.write_bps_device"], &["io.max"]),
            "throttleWriteBpsDevice",
            &flags.device_write_bps,
            true,
        ),
        (
            limit("--device-read-iops", "blkio", &["blkio.throttle.read_iops_device"], &["io.max"]),
            "throttleReadIOPSDevice",
            &flags.device_read_iops,
            false,
        ),
        (
            limit("--device-write-iops", "blkio", &["blkio.throttle.write_iops_device"], &["io.max"]),
            "throttleWriteIOPSDevice",
            &flags.device_write_iops,
            false,
        ),
    ] {
        let mut rates = Vec::new();
        for text in list {
            let (major, minor, rate) = block_device(limit.flag, text)?;
            let rate = if bytes { units::bytes(rate) } else { rate.parse().context("no number") };
            let rate = rate.with_context(|| format!("{} {text:?}", limit.flag))?;
            if rate == 0 {
                bail!("{} {text:?}: a rate of nothing", limit.flag);
            }
            rates.push(json!({"major": major, "minor": minor, "rate": rate}));
        }
        if !rates.is_empty() {
            host.require(&limit)?;
            block.insert(key.into(), rates.into());
        }
    }
    Ok(block)
}

/// `DEVICE:REST`: the numbers of a block device, and the rest.
fn block_device<'a>(flag: &str, text: &'a str) -> Result<(u32, u32, &'a str)> {
    let (path, rest) =
        text.rsplit_once(':').with_context(|| format!("{flag} {text:?}: not of the form DEVICE:RATE"))?;
    let about = std::fs::metadata(path).with_context(|| format!("{flag} {text:?}: {path}"))?;
    if !about.file_type().is_block_device() {
        bail!("{flag} {text:?}: {path} is no block device");
    }
    Ok((rustix::fs::major(about.rdev()), rustix::fs::minor(about.rdev()), rest))
}

/// Whether the scheduler of a block device, `DEVICE:WEIGHT`, knows weights.
fn has_weights(text: &str) -> bool {
    let Ok((major, minor, _)) = block_device("", text) else { return false };
    // A partition has its disk's.
    let scheduler = ["queue", "../queue"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{queue}/scheduler")).ok());
    scheduler.is_some_and(|it| it.contains("[bfq]") || it.contains("[cfq]"))
}
