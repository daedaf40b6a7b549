//! New limits for a cgroup that is in use: what is not named stays, and on an error everything does.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::devices::{self, Rule, list, program};
use super::layout::{Hierarchy, Layout};
use super::tree::{self, refused};
use super::{Dir, Plan, Write, v2};
use crate::config::problem::Problems;
use crate::config::types::Resources;
use crate::state::Cgroup;
use crate::sys;
use crate::sys::error::{At, errno, text};

/// A container's own directories as a host of its own: its limits are planned for the path `""`.
pub fn layout(cgroups: &[Cgroup<'_>]) -> Result<Layout> {
    let mut layout = Layout::default();
    for dir in cgroups {
        if &*dir.controllers == v2::UNIFIED {
            layout.v2 = Some(dir.path.to_string());
        } else {
            let controllers = dir.controllers.split(',').map(str::to_owned).collect();
            layout.v1.push(Hierarchy { mount: dir.path.to_string(), controllers });
        }
    }
    layout.read_controllers()?;
    Ok(layout)
}

/// Adds what a limit needs beside itself and was not said: it is as the kernel has it now.
pub fn complete(resources: &mut Resources<'_>, layout: &Layout) {
    let read = |controller: &str, v1: &str, v2: &str| -> Option<String> {
        let (dir, file) = match layout.find(controller) {
            Some(index) => (&layout.v1[index].mount, v1),
            None => (layout.v2.as_ref()?, v2),
        };
        fs::read_to_string(Path::new(dir).join(file)).ok()
    };
    // A limit that is none, in any of the ways the files have for that.
    let number = |text: &str| text.trim().parse::<i64>().ok().filter(|value| *value < i64::MAX - 4096).unwrap_or(-1);
    if let Some(memory) = &mut resources.memory
        && memory.swap.is_some_and(|swap| swap != 0)
        && memory.limit.is_none_or(|limit| limit == 0)
    {
        memory.limit = read("memory", "memory.limit_in_bytes", "memory.max").map(|text| number(&text));
    }
    // v2 has both in one file, and systemd wants both to work out its own.
    if let Some(cpu) = &mut resources.cpu
        && cpu.quota.is_some() != cpu.period.is_some()
    {
        let both = read("cpu", "cpu.cfs_quota_us", "cpu.max").unwrap_or_default();
        let quota = both.split_whitespace().next().map(number);
        let period = match both.split_whitespace().nth(1) {
            Some(period) => period.parse().ok(),
            None => read("cpu", "cpu.cfs_period_us", "").and_then(|text| text.trim().parse().ok()),
        };
        cpu.quota = cpu.quota.or(quota);
        cpu.period = cpu.period.or(period);
    }
}

/// `checkBeforeUpdate`: a memory limit below what is used now would have processes killed.
pub fn check_usage(resources: &Resources<'_>, layout: &Layout) -> Result<()> {
    let Some(memory) = resources.memory.as_ref().filter(|it| it.check_before_update == Some(true)) else {
        return Ok(());
    };
    let Some(limit) = memory.limit.filter(|limit| *limit > 0) else { return Ok(()) };
    let path = match (layout.find("memory"), &layout.v2) {
        (Some(index), _) => Path::new(&layout.v1[index].mount).join("memory.usage_in_bytes"),
        (None, Some(dir)) => Path::new(dir).join("memory.current"),
        (None, None) => return Ok(()),
    };
    let usage = fs::read_to_string(&path).at(|| format!("reading {}", path.display()))?;
    match usage.trim().parse::<i64>() {
        Ok(usage) if usage > limit => {
            bail!("/linux/resources/memory/limit: {limit} is below the {usage} bytes that the container uses now")
        }
        _ => Ok(()),
    }
}

/// Plans the new limits, without devices, which go their own way.
pub fn plan(resources: &Resources<'_>, layout: &Layout, problems: &mut Problems) -> Plan {
    let mut plan = super::plan("", resources, layout, problems);
    plan.writes.retain(|write| !write.file.starts_with("devices."));
    if let (Some(false), Some(dir)) =
        (resources.memory.as_ref().and_then(|memory| memory.disable_oom_killer), layout.find("memory"))
    {
        // A new group has it on, so only here can it have been off.
        plan.writes.push(Write {
            dir,
            file: "memory.oom_control".to_owned(),
            fallback: None,
            optional: false,
            value: "0".to_owned(),
            pointer: "/linux/resources/memory/disableOOMKiller".to_owned(),
        });
    }
    plan
}

/// How to get back to the limits that were.
pub struct Undo<'p> {
    plan: &'p Plan,
    done: Vec<(&'p Write, String)>,
}

impl Undo<'_> {
    /// Goes back, as far as the kernel lets us.
    pub fn undo(&self) {
        for (write, old) in self.done.iter().rev() {
            let back = Write { value: old.clone(), ..(*write).clone() };
            let _ = tree::write_one(&self.plan.dirs[write.dir], &back);
        }
    }
}

/// Writes the new limits, all or none.
pub fn apply(plan: &Plan) -> Result<Undo<'_>> {
    let mut undo = Undo { plan, done: Vec::new() };
    let mut pending: Vec<&Write> = plan.writes.iter().collect();
    // Some limits may be set only on one side of another one, which is about to change as well: what
    // is refused waits for the rest.
    while !pending.is_empty() {
        let mut later = Vec::new();
        let mut first_error = None;
        let before = pending.len();
        for write in pending {
            let dir = &plan.dirs[write.dir];
            let old = current(dir, write);
            match tree::write_one(dir, write) {
                Ok(()) => undo.done.extend(old.map(|old| (write, old))),
                Err(error) => {
                    first_error.get_or_insert_with(|| refused(dir, write, &error));
                    later.push(write);
                }
            }
        }
        if later.len() == before
            && let Some(error) = first_error
        {
            undo.undo();
            return Err(error);
        }
        pending = later;
    }
    Ok(undo)
}

/// What has to be written to get back to how it is now.
fn current(dir: &Dir, write: &Write) -> Option<String> {
    let path = Path::new(&dir.path);
    let read = |file: &str| fs::read_to_string(path.join(file)).ok();
    let text = read(&write.file).or_else(|| read(&write.fallback.as_ref()?.0))?;
    // Files of several lines take back one at a time: that of the device or interface in question.
    let key = write.value.split(' ').next().unwrap_or_default();
    let line = |key: &str| text.lines().find(|line| line.split(' ').next() == Some(key)).map(str::to_owned);
    Some(match write.file.as_str() {
        "memory.oom_control" => line("oom_kill_disable")?.split(' ').nth(1)?.to_owned(),
        "io.max" => line(key).unwrap_or_else(|| format!("{key} rbps=max wbps=max riops=max wiops=max")),
        "rdma.max" => line(key).unwrap_or_else(|| format!("{key} hca_handle=max hca_object=max")),
        "io.weight" | "io.bfq.weight" if key.contains(':') => line(key).unwrap_or_else(|| format!("{key} default")),
        "io.weight" | "io.bfq.weight" => line("default").unwrap_or_else(|| text.trim_end().to_owned()),
        _ if key.contains(':') || write.file == "net_prio.ifpriomap" => line(key).unwrap_or_else(|| format!("{key} 0")),
        // Writing nothing at all would be no write.
        _ if text.trim().is_empty() => "\n".to_owned(),
        _ => text.trim_end().to_owned(),
    })
}

/// Replaces the rules for devices, without a moment in which what both allow is denied.
pub fn devices(resources: &Resources<'_>, layout: &Layout) -> Result<()> {
    let rules = devices::rules(resources);
    match (layout.find("devices"), &layout.v2) {
        (Some(index), _) => devices_v1(&layout.v1[index].mount, &rules),
        (None, Some(dir)) => devices_v2(dir, &rules),
        (None, None) => bail!("/linux/resources/devices: the container has no cgroup that could decide over devices"),
    }
}

fn devices_v1(dir: &str, rules: &[Rule]) -> Result<()> {
    let path = Path::new(dir);
    let now = fs::read_to_string(path.join("devices.list")).at(|| format!("reading {dir}/devices.list"))?;
    let steps = list::transition(&now, rules);
    for (index, (file, line)) in steps.iter().enumerate() {
        if let Err(error) = tree::write_file(&path.join(file), line.as_bytes()) {
            for (file, line) in steps[..index].iter().rev().filter(|(_, line)| line != "a") {
                let opposite = if *file == "devices.allow" { "devices.deny" } else { "devices.allow" };
                let _ = tree::write_file(&path.join(opposite), line.as_bytes());
            }
            bail!("/linux/resources/devices: writing \"{line}\" to {dir}/{file}: {}", text(&error));
        }
    }
    Ok(())
}

fn devices_v2(dir: &str, rules: &[Rule]) -> Result<()> {
    let replace = || -> rustix::io::Result<()> {
        let cgroup = tree::open(dir)?;
        let new = sys::bpf::load_device_program(&program::compile(rules))?;
        let old = sys::bpf::device_programs(&cgroup)?;
        match old.split_first() {
            None => sys::bpf::attach_device_program(&cgroup, &new, None),
            Some((first, rest)) => {
                use std::os::fd::AsFd;
                sys::bpf::attach_device_program(&cgroup, &new, Some(first.as_fd()))?;
                // None of ours should be left beside it; all of them have to allow a device.
                rest.iter().try_for_each(|old| sys::bpf::detach_device_program(&cgroup, old))
            }
        }
    };
    replace().map_err(|error| {
        anyhow::anyhow!("/linux/resources/devices: replacing the program of cgroup {dir}: {}", errno(error))
    })
}

/// A size as people write it: bytes, or a number with K, M, G, T or P (powers of 1024), and -1.
pub fn size(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let unit = text[digits..].to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Some((whole, part)) = text[..digits].split_once('.') {
        // Half a gigabyte is a size, half a byte is none.
        let is_number = !whole.is_empty() && !part.is_empty() && !part.contains('.') && shift > 0;
        let bytes = text[..digits].parse::<f64>().ok().filter(|_| is_number)? * f64::from(1 << 10).powi(shift / 10);
        return (bytes < 9e18).then_some(bytes as i64);
    }
    let number: i64 = text[..digits].parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1k", 1024),
            ("64M", 64 << 20),
            ("2GiB", 2 << 30),
            ("3gb", 3 << 30),
            ("1.5g", 3 << 29),
            ("-1", -1),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "-2", "m", "1x", "1 m", "1.5", "1..5g", ".5g", "1.g", "9999999999999999999", "9000000p", "+1"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
