//! The files of a container's cgroups. A machine has version 1, with a tree for each controller or some of them,
//! version 2, with one tree, or both.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Block, Cpu, Memory, Pids, Pressure, Read, TICK};

/// Version 1 says that there is no limit by one that no machine reaches.
const NO_LIMIT: u64 = 1 << 60;

/// Where a container's cgroups are.
pub struct Cgroups<'a> {
    read: Read<'a>,
    /// Version 1: directories by controller.
    first: BTreeMap<String, String>,
    /// Version 2.
    second: Option<String>,
}

impl<'a> Cgroups<'a> {
    /// By what /proc says of a process (cgroups(7)). Both lists are of our own cgroup namespace.
    pub fn of(read: Read<'a>, pid: i32, id: &str) -> Option<Self> {
        let mounts = read("/proc/self/mountinfo")?;
        let mut found = Self { read, first: BTreeMap::new(), second: None };
        for line in read(&format!("/proc/{pid}/cgroup"))?.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            // What is not its own counts others as well.
            let Some(path) = upto(path, id) else { continue };
            if controllers.is_empty() {
                found.second = directory(&mounts, None, path);
            }
            for controller in controllers.split(',').filter(|it| !it.is_empty()) {
                if let Some(directory) = directory(&mounts, Some(controller), path) {
                    found.first.insert(controller.to_owned(), directory);
                }
            }
        }
        Some(found)
    }

    /// One of the directories.
    pub fn any(&self) -> Option<&String> {
        self.first.get("pids").or(self.second.as_ref()).or_else(|| self.first.values().next())
    }

    /// A file of version 1, `None` where the controller is not there.
    fn first(&self, controller: &str, file: &str) -> Option<String> {
        (self.read)(&format!("{}/{file}", self.first.get(controller)?))
    }

    /// A file of version 2.
    fn second(&self, file: &str) -> Option<String> {
        (self.read)(&format!("{}/{file}", self.second.as_ref()?))
    }

    pub fn cpu(&self) -> Cpu {
        let online = (self.read)("/sys/devices/system/cpu/online").map_or(0, |it| count(it.trim()));
        if let Some(total) = self.first("cpuacct", "cpuacct.usage") {
            let times = pairs(self.first("cpuacct", "cpuacct.stat"));
            let periods = pairs(self.first("cpu", "cpu.stat"));
            let each = self.first("cpuacct", "cpuacct.usage_percpu").unwrap_or_default();
            return Cpu {
                total: number(&total).unwrap_or(0),
                user: value(&times, "user") * TICK,
                system: value(&times, "system") * TICK,
                each: each.split_whitespace().filter_map(number).collect(),
                online,
                periods: value(&periods, "nr_periods"),
                throttled_periods: value(&periods, "nr_throttled"),
                throttled: value(&periods, "throttled_time"),
            };
        }
        let stat = pairs(self.second("cpu.stat"));
        Cpu {
            total: value(&stat, "usage_usec") * 1000,
            user: value(&stat, "user_usec") * 1000,
            system: value(&stat, "system_usec") * 1000,
            each: Vec::new(),
            online,
            periods: value(&stat, "nr_periods"),
            throttled_periods: value(&stat, "nr_throttled"),
            throttled: value(&stat, "throttled_usec") * 1000,
        }
    }

    pub fn memory(&self) -> Memory {
        let machine = pairs((self.read)("/proc/meminfo").map(|it| it.replace(':', " ")));
        let machine = value(&machine, "MemTotal") * 1024;
        let limit = |text: Option<String>| {
            text.and_then(|it| number(&it)).filter(|it| *it < NO_LIMIT).map_or(machine, |it| it.min(machine))
        };
        if let Some(usage) = self.first("memory", "memory.usage_in_bytes") {
            let file = |name: &str| self.first("memory", name).and_then(|it| number(&it));
            let usage = number(&usage).unwrap_or(0);
            let inactive_file = value(&pairs(self.first("memory", "memory.stat")), "total_inactive_file");
            return Memory {
                usage: usage.saturating_sub(inactive_file),
                inactive_file,
                limit: limit(self.first("memory", "memory.limit_in_bytes")),
                swap: file("memory.memsw.usage_in_bytes").map(|both| both.saturating_sub(usage)),
                peak: file("memory.max_usage_in_bytes"),
                failures: file("memory.failcnt").unwrap_or(0),
                oom_kills: value(&pairs(self.first("memory", "memory.oom_control")), "oom_kill"),
            };
        }
        let file = |name: &str| self.second(name).and_then(|it| number(&it));
        let inactive_file = value(&pairs(self.second("memory.stat")), "inactive_file");
        let events = pairs(self.second("memory.events"));
        Memory {
            usage: file("memory.current").unwrap_or(0).saturating_sub(inactive_file),
            inactive_file,
            limit: limit(self.second("memory.max")),
            swap: file("memory.swap.current"),
            peak: file("memory.peak"),
            failures: value(&events, "max"),
            oom_kills: value(&events, "oom_kill"),
        }
    }

    pub fn pids(&self) -> Pids {
        let file = |name| self.first("pids", name).or_else(|| self.second(name)).and_then(|it| number(&it));
        Pids { current: file("pids.current").unwrap_or(0), limit: file("pids.max") }
    }

    pub fn block(&self) -> Block {
        let mut block = Block::default();
        // Which of the two counts depends on the scheduler of the disk.
        for name in ["blkio.throttle.io_service_bytes_recursive", "blkio.bfq.io_service_bytes_recursive"] {
            let Some(text) = self.first("blkio", name) else { continue };
            // `8:0 Read 4096`
            let mut this = Block::default();
            for line in text.lines() {
                match line.split_whitespace().collect::<Vec<_>>()[..] {
                    [_, "Read", bytes] => this.read += number(bytes).unwrap_or(0),
                    [_, "Write", bytes] => this.written += number(bytes).unwrap_or(0),
                    _ => {}
                }
            }
            block = Block { read: block.read.max(this.read), written: block.written.max(this.written) };
        }
        if self.first.contains_key("blkio") {
            return block;
        }
        // `8:0 rbytes=4096 wbytes=0 rios=1 ...`
        for word in self.second("io.stat").unwrap_or_default().split_whitespace() {
            match word.split_once('=') {
                Some(("rbytes", bytes)) => block.read += number(bytes).unwrap_or(0),
                Some(("wbytes", bytes)) => block.written += number(bytes).unwrap_or(0),
                _ => {}
            }
        }
        block
    }

    pub fn pressure(&self) -> Vec<Pressure> {
        let mut all = Vec::new();
        for resource in ["cpu", "memory", "io"] {
            // `some avg10=0.12 avg60=0.00 avg300=0.00 total=1234`
            let Some(text) = self.second(&format!("{resource}.pressure")) else { continue };
            let mut pressure = Pressure { resource, ..Pressure::default() };
            for line in text.lines() {
                let fields: BTreeMap<&str, &str> =
                    line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
                let total = fields.get("total").and_then(|it| number(it)).unwrap_or(0);
                if line.starts_with("some ") {
                    pressure.some = total;
                    pressure.some_10s = fields.get("avg10").and_then(|it| it.parse().ok()).unwrap_or(0.0);
                } else if line.starts_with("full ") {
                    pressure.full = total;
                }
            }
            all.push(pressure);
        }
        all
    }
}

/// The processes in a cgroup and below it.
pub fn processes(top: PathBuf) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut ahead = vec![top];
    while let Some(directory) = ahead.pop() {
        let list = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        pids.extend(list.lines().filter_map(|it| it.parse::<i32>().ok()));
        let below = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        ahead.extend(below.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()));
    }
    pids
}

/// A cgroup's path up to the part that ends with the container's id: further down it is what the container has made
/// itself. `None` where none does.
fn upto<'p>(path: &'p str, id: &str) -> Option<&'p str> {
    let mut end = 0;
    for part in path.split_inclusive('/') {
        end += part.len();
        let part = part.trim_end_matches('/').trim_end_matches(".scope");
        if part.ends_with(id) {
            return Some(path[..end].trim_end_matches('/'));
        }
    }
    None
}

/// The directory of a cgroup: where its tree is mounted, and its path below what is mounted there (proc(5),
/// /proc/PID/mountinfo). No controller is version 2.
fn directory(mounts: &str, controller: Option<&str>, path: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let fits = match (kind.next()?, controller) {
            ("cgroup2", None) => true,
            ("cgroup", Some(controller)) => kind.nth(1)?.split(',').any(|it| it == controller),
            _ => false,
        };
        let mut fields = place.split(' ').skip(3);
        let (root, mounted) = (fields.next()?, fields.next()?);
        let below = if root == "/" { path } else { path.strip_prefix(root)? };
        fits.then(|| format!("{mounted}{}", below.trim_end_matches('/')))
    })
}

/// `max` and what else is no number is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines of a name and a number.
fn pairs(text: Option<String>) -> BTreeMap<String, u64> {
    let text = text.unwrap_or_default();
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), number(words.next()?)?))
    };
    text.lines().filter_map(pair).collect()
}

fn value(pairs: &BTreeMap<String, u64>, name: &str) -> u64 {
    pairs.get(name).copied().unwrap_or(0)
}

/// How many numbers a list such as `0-3,8` has.
fn count(list: &str) -> u64 {
    let part = |it: &str| {
        let (first, last) = it.split_once('-').unwrap_or((it, it));
        Some(number(last)?.checked_sub(number(first)?)? + 1)
    };
    list.split(',').filter_map(part).sum()
}
