//! What a container uses at a moment, as the kernel counts it: its cgroups, version 1 or 2, found through its first
//! process, and the devices of its network.

mod cgroup;
mod prometheus;
#[cfg(test)]
mod tests;

use serde::Serialize;

use cgroup::Cgroups;
pub use prometheus::{Subject, text as prometheus};

/// What a container has used up to a moment, and uses then.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Reads and writes of disks.
    pub block: Block,
    /// The devices of its own network but loopback. None where it has the host's.
    pub network: Vec<Interface>,
    /// How long its processes had to wait for what others had (cgroup version 2 only).
    pub pressure: Vec<Pressure>,
}

/// Processor time. Times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// Used in all.
    pub total: u64,
    /// Used by programs themselves.
    pub user: u64,
    /// Used by the kernel for them.
    pub system: u64,
    /// Used of each processor (cgroup version 1 only).
    pub each: Vec<u64>,
    /// Processors that the machine has in use.
    pub online: u64,
    /// Periods of a quota (`--cpus`) that have begun.
    pub periods: u64,
    /// Those of them in which it was used up.
    pub throttled_periods: u64,
    /// How long it was kept waiting then.
    pub throttled: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// In use, without files that could be dropped at once: what Docker shows.
    pub usage: u64,
    /// Files in memory that could be dropped at once.
    pub inactive_file: u64,
    /// The limit, or what the machine has.
    pub limit: u64,
    /// Swapped out.
    pub swap: Option<u64>,
    /// The most that was in use, files included.
    pub peak: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
    /// How many processes the kernel's out-of-memory killer has ended.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// There are.
    pub current: u64,
    /// There may be.
    pub limit: Option<u64>,
}

/// Reads and writes of disks, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Block {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// A network device (proc(5), /proc/net/dev).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Interface {
    /// Its name in the container.
    pub name: String,
    /// Bytes received.
    pub received: u64,
    /// Packets received, failed to be and dropped.
    pub received_packets: [u64; 3],
    /// Bytes sent.
    pub sent: u64,
    /// Packets sent, failed to be and dropped.
    pub sent_packets: [u64; 3],
}

/// Pressure stall information of one resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// `cpu`, `memory` or `io`.
    pub resource: &'static str,
    /// Percent of the last ten seconds in which some process waited.
    pub some_10s: f64,
    /// Microseconds in which some process waited.
    pub some: u64,
    /// Microseconds in which all waited.
    pub full: u64,
}

/// The kernel's unit of processor time for programs, in nanoseconds, on every machine that Linux runs on.
const TICK: u64 = 10_000_000;

/// Reads a file of the kernel's, which may not be there.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Sample {
    /// Of the container whose first process this is; `id` ends the name of its cgroups, below which it may have made
    /// further ones. Where it has none, a plain user's who was given none, its processes are counted one by one.
    /// `None` when the process is gone.
    pub fn take(pid: i32, id: &str) -> Option<Self> {
        let namespace = |whose: &str| std::fs::read_link(format!("/proc/{whose}/ns/net")).ok();
        let own_network = namespace(&pid.to_string()) != namespace("self");
        Self::read(&|path| std::fs::read_to_string(path).ok(), pid, id, own_network)
    }

    fn read(read: Read<'_>, pid: i32, id: &str, own_network: bool) -> Option<Self> {
        let network = if own_network { interfaces(&read(&format!("/proc/{pid}/net/dev"))?) } else { Vec::new() };
        let cgroups = Cgroups::of(read, pid, id)?;
        if cgroups.any().is_none() {
            return Self::of_processes(read, &processes(pid, id), &cgroups).map(|it| Self { network, ..it });
        }
        Some(Self {
            cpu: cgroups.cpu(),
            memory: cgroups.memory(),
            pids: cgroups.pids(),
            block: cgroups.block(),
            network,
            pressure: cgroups.pressure(),
        })
    }

    /// What can be known of processes without a cgroup: processor time of those that live and those that they have
    /// waited for, and memory that is theirs alone (proc(5), /proc/PID/stat and statm).
    fn of_processes(read: Read<'_>, pids: &[i32], cgroups: &Cgroups<'_>) -> Option<Self> {
        let mut sample = Self { cpu: cgroups.cpu(), memory: cgroups.memory(), ..Self::default() };
        for pid in pids {
            let (Some(stat), Some(statm)) = (read(&format!("/proc/{pid}/stat")), read(&format!("/proc/{pid}/statm")))
            else {
                continue;
            };
            // The name in parentheses may hold anything. Behind it stands the third field.
            let behind = stat.rsplit_once(')')?.1;
            let field = |text: &str, at: usize| -> u64 {
                text.split_whitespace().nth(at).and_then(|it| it.parse().ok()).unwrap_or(0)
            };
            let ticks = |own: usize, waited_for: usize| (field(behind, own - 3) + field(behind, waited_for - 3)) * TICK;
            sample.cpu.user += ticks(14, 16);
            sample.cpu.system += ticks(15, 17);
            sample.pids.current += field(behind, 20 - 3);
            let pages = field(&statm, 1).saturating_sub(field(&statm, 2));
            sample.memory.usage += pages * rustix::param::page_size() as u64;
        }
        sample.cpu.total = sample.cpu.user + sample.cpu.system;
        (sample.pids.current > 0).then_some(sample)
    }

    /// Percent of one processor that were used since an earlier sample, so many nanoseconds before.
    pub fn cpu_percent(&self, before: &Self, nanoseconds: u128) -> f64 {
        let used = self.cpu.total.saturating_sub(before.cpu.total);
        if nanoseconds == 0 { 0.0 } else { used as f64 * 100.0 / nanoseconds as f64 }
    }

    /// Percent of the limit, or of the machine's memory.
    pub fn memory_percent(&self) -> f64 {
        if self.memory.limit == 0 { 0.0 } else { self.memory.usage as f64 * 100.0 / self.memory.limit as f64 }
    }

    /// Bytes received and sent by all devices.
    pub fn network_total(&self) -> (u64, u64) {
        self.network.iter().fold((0, 0), |(received, sent), it| (received + it.received, sent + it.sent))
    }
}

/// The numbers of all processes of a container: those in its cgroup and below it, or, where it has none of its own,
/// those in the pid namespace of its first process.
pub fn processes(pid: i32, id: &str) -> Vec<i32> {
    let read: Read<'_> = &|path| std::fs::read_to_string(path).ok();
    if let Some(directory) = Cgroups::of(read, pid, id).and_then(|it| it.any().cloned()) {
        return cgroup::processes(directory.into());
    }
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(pid);
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|it| wanted.is_some() && namespace(*it) == wanted).collect()
}

fn interfaces(text: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|it| it.parse().ok()).collect();
        let [received, rp, re, rd, _, _, _, _, sent, sp, se, sd, ..] = numbers[..] else { return None };
        let name = name.trim().to_owned();
        let (received_packets, sent_packets) = ([rp, re, rd], [sp, se, sd]);
        (name != "lo").then_some(Interface { name, received, received_packets, sent, sent_packets })
    };
    text.lines().filter_map(parse).collect()
}
