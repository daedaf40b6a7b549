//! What a container uses, in runc's words (its `events`): the names and units of cgroup v1, also on v2.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::v2;
use crate::state::Cgroup;

/// Clock ticks of cpuacct.stat in nanoseconds (sysconf(3), `_SC_CLK_TCK` is 100 on Linux).
const TICK: u64 = 10_000_000;

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn zero(value: &u64) -> bool {
    *value == 0
}

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident : $ty:ty,)* })*) => {
        $(
            #[derive(Debug, Clone, Default, PartialEq, Serialize)]
            $(#[$doc])*
            pub struct $name { $($(#[$attr])* #[allow(missing_docs)] pub $field: $ty,)* }
        )*
    };
}

figures! {
    /// Everything.
    Stats {
        cpu: Cpu,
        cpuset: Sets,
        memory: Memory,
        pids: Pids,
        blkio: BlockIo,
        hugetlb: BTreeMap<String, Pages>,
        intel_rdt: BTreeMap<String, String>,
        network_interfaces: Option<Vec<String>>,
    }

    /// CPU time.
    Cpu {
        usage: CpuUsage,
        throttling: Throttling,
        #[serde(skip_serializing_if = "Option::is_none")] psi: Option<Pressures>,
    }

    /// In nanoseconds.
    CpuUsage {
        #[serde(skip_serializing_if = "zero")] total: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")] percpu: Vec<u64>,
        #[serde(skip_serializing_if = "Vec::is_empty")] percpu_kernel: Vec<u64>,
        #[serde(skip_serializing_if = "Vec::is_empty")] percpu_user: Vec<u64>,
        kernel: u64,
        user: u64,
    }

    /// How often the quota was used up, and for how many nanoseconds.
    #[serde(rename_all = "camelCase")]
    Throttling {
        #[serde(skip_serializing_if = "zero")] periods: u64,
        #[serde(skip_serializing_if = "zero")] throttled_periods: u64,
        #[serde(skip_serializing_if = "zero")] throttled_time: u64,
    }

    /// The files of v1's cpuset; zeros on v2.
    Sets {
        #[serde(skip_serializing_if = "Vec::is_empty")] cpus: Vec<u64>,
        cpu_exclusive: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")] mems: Vec<u64>,
        mem_hardwall: u64,
        mem_exclusive: u64,
        memory_migrate: u64,
        memory_spread_page: u64,
        memory_spread_slab: u64,
        memory_pressure: u64,
        sched_load_balance: u64,
        sched_relax_domain_level: i64,
    }

    /// In bytes.
    Memory {
        #[serde(skip_serializing_if = "zero")] cache: u64,
        usage: Limited,
        swap: Limited,
        kernel: Limited,
        #[serde(rename = "kernelTCP")] kernel_tcp: Limited,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")] raw: BTreeMap<String, u64>,
        #[serde(skip_serializing_if = "Option::is_none")] psi: Option<Pressures>,
    }

    /// Something with a limit. No limit is the largest number that the kernel's file can hold.
    Limited {
        limit: u64,
        #[serde(skip_serializing_if = "zero")] usage: u64,
        #[serde(skip_serializing_if = "zero")] max: u64,
        failcnt: u64,
    }

    /// Huge pages of one size, in bytes.
    Pages {
        #[serde(skip_serializing_if = "zero")] usage: u64,
        #[serde(skip_serializing_if = "zero")] max: u64,
        failcnt: u64,
    }

    /// Processes and threads. No limit is left out.
    Pids {
        #[serde(skip_serializing_if = "zero")] current: u64,
        #[serde(skip_serializing_if = "zero")] limit: u64,
    }

    /// Block I/O, by device.
    #[serde(rename_all = "camelCase")]
    BlockIo {
        #[serde(skip_serializing_if = "Vec::is_empty")] io_service_bytes_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Vec::is_empty")] io_serviced_recursive: Vec<Device>,
        #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")] io_queued_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Vec::is_empty")] io_service_time_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Vec::is_empty")] io_wait_time_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Vec::is_empty")] io_merged_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Vec::is_empty")] io_time_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Vec::is_empty")] sectors_recursive: Vec<Device>,
        #[serde(skip_serializing_if = "Option::is_none")] psi: Option<Pressures>,
    }

    /// One figure of one device.
    Device {
        #[serde(skip_serializing_if = "zero")] major: u64,
        #[serde(skip_serializing_if = "zero")] minor: u64,
        #[serde(skip_serializing_if = "String::is_empty")] op: String,
        #[serde(skip_serializing_if = "zero")] value: u64,
    }

    /// Pressure stall information (Documentation/accounting/psi.rst).
    Pressures {
        some: Pressure,
        full: Pressure,
    }

    /// Percent of the time, and microseconds in all.
    Pressure {
        avg10: f64,
        avg60: f64,
        avg300: f64,
        total: u64,
    }
}

/// A cgroup directory to read from. A file that is not there counts as empty: kernels differ.
struct Files(PathBuf);

impl Files {
    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    fn number(&self, file: &str) -> u64 {
        number(self.text(file).trim())
    }

    /// `key value` lines.
    fn table(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file);
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(key, value)| (key.to_owned(), number(value)))
            .collect()
    }

    fn pressures(&self, file: &str) -> Option<Pressures> {
        let text = self.text(file);
        let line = |name: &str| {
            let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
            let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            let average = |key: &str| value(key).and_then(|text| text.parse().ok()).unwrap_or_default();
            let total = value("total").map_or(0, number);
            Some(Pressure { avg10: average("avg10"), avg60: average("avg60"), avg300: average("avg300"), total })
        };
        Some(Pressures { some: line("some")?, full: line("full").unwrap_or_default() })
    }

    /// Page sizes that files of hugetlb are there for.
    fn page_sizes(&self, suffix: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| Some(name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned()))
            .filter(|size| !size.contains('.'))
            .collect()
    }
}

fn number(text: &str) -> u64 {
    if text == "max" { u64::MAX } else { text.parse().unwrap_or_default() }
}

/// Reads what these directories say.
pub fn read(cgroups: &[Cgroup<'_>]) -> Stats {
    let mut stats = Stats::default();
    for dir in cgroups {
        let files = Files(Path::new(&*dir.path).to_owned());
        for controller in dir.controllers.split(',') {
            match controller {
                v2::UNIFIED => unified(&files, &mut stats),
                "cpu" => stats.cpu.throttling = throttling(&files.table("cpu.stat"), "throttled_time", 1),
                "cpuacct" => cpuacct(&files, &mut stats.cpu.usage),
                "cpuset" => stats.cpuset = cpuset(&files),
                "memory" => stats.memory = memory(&files),
                "pids" => stats.pids = pids(&files),
                "blkio" => stats.blkio = blkio(&files),
                "hugetlb" => stats.hugetlb = hugetlb(&files),
                _ => {}
            }
        }
    }
    stats
}

fn throttling(table: &BTreeMap<String, u64>, time: &str, unit: u64) -> Throttling {
    let of = |key: &str| table.get(key).copied().unwrap_or_default();
    Throttling { periods: of("nr_periods"), throttled_periods: of("nr_throttled"), throttled_time: of(time) * unit }
}

fn cpuacct(files: &Files, usage: &mut CpuUsage) {
    usage.total = files.number("cpuacct.usage");
    usage.percpu = files.text("cpuacct.usage_percpu").split_whitespace().map(number).collect();
    let ticks = files.table("cpuacct.stat");
    let of = |key: &str| ticks.get(key).copied().unwrap_or_default() * TICK;
    (usage.user, usage.kernel) = (of("user"), of("system"));
    for line in files.text("cpuacct.usage_all").lines().skip(1) {
        let mut words = line.split_whitespace().skip(1).map(number);
        usage.percpu_user.extend(words.next());
        usage.percpu_kernel.extend(words.next());
    }
}

fn cpuset(files: &Files) -> Sets {
    Sets {
        cpus: list(&files.text("cpuset.cpus")),
        cpu_exclusive: files.number("cpuset.cpu_exclusive"),
        mems: list(&files.text("cpuset.mems")),
        mem_hardwall: files.number("cpuset.mem_hardwall"),
        mem_exclusive: files.number("cpuset.mem_exclusive"),
        memory_migrate: files.number("cpuset.memory_migrate"),
        memory_spread_page: files.number("cpuset.memory_spread_page"),
        memory_spread_slab: files.number("cpuset.memory_spread_slab"),
        memory_pressure: files.number("cpuset.memory_pressure"),
        sched_load_balance: files.number("cpuset.sched_load_balance"),
        sched_relax_domain_level: files.text("cpuset.sched_relax_domain_level").trim().parse().unwrap_or_default(),
    }
}

/// `0-2,7` as numbers: of CPUs and nodes, of which no kernel has more.
fn list(text: &str) -> Vec<u64> {
    const MOST: usize = 8192;
    let ranges = text.trim().split(',').filter(|range| !range.is_empty());
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            number(first)..=number(last)
        })
        .take(MOST)
        .collect()
}

fn memory(files: &Files) -> Memory {
    let limited = |name: &str| {
        let of = |what: &str| files.number(&format!("memory.{name}{what}"));
        Limited {
            limit: of("limit_in_bytes"),
            usage: of("usage_in_bytes"),
            max: of("max_usage_in_bytes"),
            failcnt: of("failcnt"),
        }
    };
    let raw = files.table("memory.stat");
    Memory {
        cache: raw.get("cache").copied().unwrap_or_default(),
        usage: limited(""),
        swap: limited("memsw."),
        kernel: limited("kmem."),
        kernel_tcp: limited("kmem.tcp."),
        raw,
        psi: None,
    }
}

fn pids(files: &Files) -> Pids {
    let limit = files.number("pids.max");
    Pids { current: files.number("pids.current"), limit: if limit == u64::MAX { 0 } else { limit } }
}

fn hugetlb(files: &Files) -> BTreeMap<String, Pages> {
    let of = |size: &str, what: &str| files.number(&format!("hugetlb.{size}.{what}"));
    let sizes = files.page_sizes(".usage_in_bytes").into_iter();
    sizes
        .map(|size| {
            let usage = Pages {
                usage: of(&size, "usage_in_bytes"),
                max: of(&size, "max_usage_in_bytes"),
                failcnt: of(&size, "failcnt"),
            };
            (size, usage)
        })
        .collect()
}

/// The scheduler's figures where it keeps any, else those of throttling.
fn blkio(files: &Files) -> BlockIo {
    for (head, tail) in [
        ("blkio.bfq.", "_recursive"),
        ("blkio.", "_recursive"),
        ("blkio.throttle.", "_recursive"),
        ("blkio.throttle.", ""),
    ] {
        let of = |name: &str| devices(&files.text(&format!("{head}{name}{tail}")));
        let serviced = of("io_serviced");
        if !serviced.is_empty() {
            return BlockIo {
                io_service_bytes_recursive: of("io_service_bytes"),
                io_serviced_recursive: serviced,
                io_queued_recursive: of("io_queued"),
                io_service_time_recursive: of("io_service_time"),
                io_wait_time_recursive: of("io_wait_time"),
                io_merged_recursive: of("io_merged"),
                io_time_recursive: of("time"),
                sectors_recursive: of("sectors"),
                psi: None,
            };
        }
    }
    BlockIo::default()
}

/// Lines such as `8:0 Read 4096` and `8:0 7`; the sum over all devices at the end is left out.
fn devices(text: &str) -> Vec<Device> {
    let device = |line: &str| {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let (op, value) = match words[..] {
            [_, _, op, value] => (op, value),
            [_, _, value] => ("", value),
            _ => return None,
        };
        let [major, minor] = [words[0], words[1]].map(str::parse);
        Some(Device { major: major.ok()?, minor: minor.ok()?, op: op.to_owned(), value: number(value) })
    };
    text.lines().filter_map(device).collect()
}

fn unified(files: &Files, stats: &mut Stats) {
    let cpu = files.table("cpu.stat");
    let of = |key: &str| cpu.get(key).copied().unwrap_or_default() * 1000;
    if !cpu.is_empty() {
        stats.cpu.usage.total = of("usage_usec");
        stats.cpu.usage.user = of("user_usec");
        stats.cpu.usage.kernel = of("system_usec");
        stats.cpu.throttling = throttling(&cpu, "throttled_usec", 1000);
        stats.cpu.psi = files.pressures("cpu.pressure");
    }
    if !files.text("memory.current").is_empty() {
        let limited = |name: &str| Limited {
            limit: files.number(&format!("memory.{name}max")),
            usage: files.number(&format!("memory.{name}current")),
            max: files.number(&format!("memory.{name}peak")),
            failcnt: 0,
        };
        let (usage, mut swap) = (limited(""), limited("swap."));
        // v1's figure is memory and swap together.
        swap.usage += usage.usage;
        swap.limit = swap.limit.saturating_add(usage.limit);
        let raw = files.table("memory.stat");
        let cache = raw.get("file").copied().unwrap_or_default();
        stats.memory = Memory { cache, usage, swap, raw, psi: files.pressures("memory.pressure"), ..Memory::default() };
    }
    if !files.text("pids.current").is_empty() {
        stats.pids = pids(files);
    }
    for line in files.text("io.stat").lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut stats.blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(Device { major: number(major), minor: number(minor), op: op.to_owned(), value: number(value) });
        }
    }
    stats.blkio.psi = files.pressures("io.pressure");
    for size in files.page_sizes(".current") {
        let failcnt = files.table(&format!("hugetlb.{size}.events")).get("max").copied().unwrap_or_default();
        let usage = Pages { usage: files.number(&format!("hugetlb.{size}.current")), max: 0, failcnt };
        stats.hugetlb.insert(size, usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_devices() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0u64; 0]);
        let found = devices("8:0 Read 4096\n8:0 Total 4096\n8:16 5\nTotal 4096\n");
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].major, &*found[0].op, found[0].value), (8, "Read", 4096));
        assert_eq!((found[2].minor, &*found[2].op, found[2].value), (16, "", 5));
    }

    #[test]
    fn the_form_is_runcs() {
        let text = serde_json::to_string(&Stats::default()).unwrap();
        assert!(
            text.starts_with(r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"cpuset":{"cpu_exclusive":0,"#),
            "{text}"
        );
        assert!(
            text.ends_with(r#""pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#),
            "{text}"
        );
    }

    #[test]
    fn fuzz_control_files() {
        let seeds: [&[u8]; 4] =
            [b"8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n", b"0-2,7\n", b"253:16 7\n", b"18446744073709551615\nmax\n"];
        crate::fuzz::fuzz(&seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let _ = (number(&text), list(&text), devices(&text));
        });
    }
}
