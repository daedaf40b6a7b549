//! `linux.resources` to the control files of cgroup v2. Pure: the file names and values only.
//! Sources: config-linux.md, Documentation/admin-guide/cgroup-v2.rst.

use super::layout::Layout;
use super::{BASE, Dir, Plan, Write, devices};
use crate::config::problem::{Problems, token};
use crate::config::types::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

/// What `controllers` says of the one directory of v2.
pub const UNIFIED: &str = "unified";

/// Adds the container's cgroup at `path` (cleaned, absolute) in the unified hierarchy to the plan.
pub fn plan(plan: &mut Plan, path: &str, resources: &Resources<'_>, layout: &Layout, problems: &mut Problems) {
    let Some(mount) = &layout.v2 else { return };
    plan.dirs.push(Dir {
        mount: mount.clone(),
        path: format!("{}{path}", mount.trim_end_matches('/')),
        controllers: UNIFIED.to_owned(),
    });
    plan.enable.clone_from(&layout.controllers);
    if layout.find("devices").is_none() {
        plan.device_program = Some(devices::program::compile(&devices::rules(resources)));
    }
    let mut writes = Writes { dir: plan.dirs.len() - 1, layout, problems, list: &mut plan.writes };
    writes.memory(resources.memory.as_ref());
    writes.cpu(resources.cpu.as_ref());
    writes.block_io(resources.block_io.as_ref());
    writes.other(resources);
    writes.unified(resources);
}

/// `cpu.weight` (1..10000, 100 when nothing is set) for `cpu.shares` (2..262144, 1024).
///
/// The formula that runc 1.3 and crun 1.23 took up: a parabola of the logarithms through both ends
/// and both defaults. The straight line that was used before made 39 of the default 1024, so that a
/// container with shares lost to everything without.
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            // A hair above a whole number is the arithmetic's, not the formula's.
            (10f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// `io.weight` (1..10000) for a `blockIO` weight (10..1000): a straight line, as both peers have it.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).max(10) - 10) * 9999 / 990
}

/// Collects the writes, and a problem for each field that v2 has no place for.
struct Writes<'a> {
    dir: usize,
    layout: &'a Layout,
    problems: &'a mut Problems,
    list: &'a mut Vec<Write>,
}

/// -1 is no limit.
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

impl Writes<'_> {
    fn put(&mut self, file: &str, value: impl ToString, pointer: &str) -> Option<&mut Write> {
        let pointer = format!("{BASE}/{pointer}");
        let controller = file.split('.').next().unwrap_or_default();
        if controller != "cgroup" && !self.layout.controllers.iter().any(|known| known == controller) {
            let why = if self.layout.find(controller).is_some() {
                format!("this host has its {controller} controller on cgroup v1; use the field's own place in {BASE}")
            } else {
                format!("this host has no {controller} cgroup controller; take the field out or enable the controller")
            };
            self.problems.unavailable(pointer, why);
            return None;
        }
        self.list.push(Write {
            dir: self.dir,
            file: file.to_owned(),
            fallback: None,
            optional: false,
            value: value.to_string(),
            pointer,
        });
        self.list.last_mut()
    }

    fn nothing_like_it(&mut self, field: &str, hint: &str) {
        self.problems.unavailable(format!("{BASE}/{field}"), format!("cgroup v2 has nothing like it; {hint}"));
    }

    fn memory(&mut self, memory: Option<&Memory>) {
        let Some(memory) = memory else { return };
        // 0 is how engines write "not set".
        let set = |value: Option<i64>| value.filter(|value| *value != 0);
        let limit = set(memory.limit);
        if let Some(limit) = limit {
            self.put("memory.max", or_max(limit), "memory/limit");
        }
        match (limit, set(memory.swap)) {
            (_, Some(-1)) => drop(self.put("memory.swap.max", "max", "memory/swap")),
            // Here swap is a limit of its own, there it is memory and swap together.
            (Some(limit), Some(swap)) if limit > 0 => {
                self.put("memory.swap.max", swap - limit, "memory/swap");
            }
            // Memory without a limit and no word on swap: swap has none either.
            (Some(-1), None) => {
                if let Some(write) = self.put("memory.swap.max", "max", "memory/limit") {
                    write.optional = true;
                }
            }
            (_, Some(_)) => self.problems.invalid(
                format!("{BASE}/memory/swap"),
                "is memory and swap together, and without a limit for memory swap's own cannot be told from it",
            ),
            (_, None) => {}
        }
        if let Some(reservation) = set(memory.reservation) {
            self.put("memory.low", or_max(reservation), "memory/reservation");
        }
        // -1 asks for nothing.
        if set(memory.kernel).is_some_and(|value| value != -1) {
            self.nothing_like_it("memory/kernel", "memory/limit counts the kernel's memory as well");
        }
        if set(memory.kernel_tcp).is_some_and(|value| value != -1) {
            self.nothing_like_it("memory/kernelTCP", "memory/limit counts the kernel's memory as well");
        }
        if memory.swappiness.is_some_and(|value| value != u64::MAX) {
            self.nothing_like_it("memory/swappiness", "memory/swap of the same size as memory/limit forbids swap");
        }
        if memory.disable_oom_killer == Some(true) {
            self.nothing_like_it("memory/disableOOMKiller", "unified/memory.high slows a container down instead");
        }
    }

    fn cpu(&mut self, cpu: Option<&Cpu<'_>>) {
        let Some(cpu) = cpu else { return };
        if let Some(shares) = cpu.shares.filter(|value| *value != 0) {
            self.put("cpu.weight", cpu_weight(shares), "cpu/shares");
        }
        let (quota, period) = (cpu.quota.filter(|value| *value != 0), cpu.period.filter(|value| *value != 0));
        match (quota, period) {
            (None, None) => {}
            // The first number alone leaves the period as it is.
            (Some(quota), None) => drop(self.put("cpu.max", or_max(quota), "cpu/quota")),
            (quota, Some(period)) => {
                let field = if quota.is_some() { "cpu" } else { "cpu/period" };
                self.put("cpu.max", format!("{} {period}", or_max(quota.unwrap_or(-1))), field);
            }
        }
        if let Some(burst) = cpu.burst {
            self.put("cpu.max.burst", burst, "cpu/burst");
        }
        if let Some(idle) = cpu.idle {
            self.put("cpu.idle", idle, "cpu/idle");
        }
        if cpu.realtime_runtime.is_some_and(|value| value != 0) {
            self.nothing_like_it("cpu/realtimeRuntime", "process/scheduler makes a real-time process");
        }
        if cpu.realtime_period.is_some_and(|value| value != 0) {
            self.nothing_like_it("cpu/realtimePeriod", "process/scheduler makes a real-time process");
        }
        if let Some(list) = cpu.cpus.as_deref().filter(|list| !list.is_empty()) {
            self.put("cpuset.cpus", list, "cpu/cpus");
        }
        if let Some(list) = cpu.mems.as_deref().filter(|list| !list.is_empty()) {
            self.put("cpuset.mems", list, "cpu/mems");
        }
    }

    fn block_io(&mut self, block_io: Option<&BlockIo>) {
        let Some(block_io) = block_io else { return };
        // The BFQ scheduler has a file of its own where it is loaded, with v1's range.
        let mut weight = |value: u16, node: &str, pointer: &str| {
            if let Some(write) = self.put("io.bfq.weight", format!("{node}{value}"), pointer) {
                write.fallback = Some(("io.weight".to_owned(), format!("{node}{}", io_weight(value))));
            }
        };
        if let Some(value) = block_io.weight.filter(|value| *value != 0) {
            weight(value, "", "blockIO/weight");
        }
        for (index, device) in block_io.weight_device.iter().enumerate() {
            if let Some(value) = device.weight.filter(|value| *value != 0) {
                let node = format!("{}:{} ", device.major, device.minor);
                weight(value, &node, &format!("blockIO/weightDevice/{index}"));
            }
        }
        let leaf = block_io.leaf_weight.into_iter().chain(block_io.weight_device.iter().filter_map(|d| d.leaf_weight));
        if leaf.max().is_some_and(|value| value != 0) {
            self.nothing_like_it("blockIO/leafWeight", "processes live in leaves only, whose weight is blockIO/weight");
        }
        self.throttle("rbps", "ReadBps", &block_io.throttle_read_bps_device);
        self.throttle("wbps", "WriteBps", &block_io.throttle_write_bps_device);
        self.throttle("riops", "ReadIOPS", &block_io.throttle_read_iops_device);
        self.throttle("wiops", "WriteIOPS", &block_io.throttle_write_iops_device);
    }

    fn throttle(&mut self, key: &str, field: &str, list: &[ThrottleDevice]) {
        for (index, device) in list.iter().enumerate() {
            // On v1, 0 takes a limit off.
            let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
            self.put(
                "io.max",
                format!("{}:{} {key}={rate}", device.major, device.minor),
                &format!("blockIO/throttle{field}Device/{index}"),
            );
        }
    }

    fn other(&mut self, resources: &Resources<'_>) {
        if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
            self.put("pids.max", or_max(limit), "pids/limit");
        }
        for (index, limit) in resources.hugepage_limits.iter().enumerate() {
            let pointer = format!("hugepageLimits/{index}");
            self.put(&format!("hugetlb.{}.max", limit.page_size), limit.limit, &pointer);
            // Reservations, which newer kernels count as well.
            if self.layout.controllers.iter().any(|known| known == "hugetlb")
                && let Some(write) = self.put(&format!("hugetlb.{}.rsvd.max", limit.page_size), limit.limit, &pointer)
            {
                write.optional = true;
            }
        }
        for (device, limit) in &resources.rdma {
            self.put("rdma.max", super::rdma(device, limit), &format!("rdma/{}", token(device)));
        }
        if let Some(network) = &resources.network {
            if network.class_id.is_some_and(|id| id != 0) {
                self.nothing_like_it("network/classID", "filter by the cgroup itself (nftables: socket cgroupv2)");
            }
            if !network.priorities.is_empty() {
                self.nothing_like_it("network/priorities", "filter by the cgroup itself (nftables: socket cgroupv2)");
            }
        }
    }

    /// As they stand in the document, line by line: that is how such files take several values.
    fn unified(&mut self, resources: &Resources<'_>) {
        for (key, value) in &resources.unified {
            let pointer = format!("unified/{}", token(key));
            for line in value.lines().filter(|line| !line.trim().is_empty()) {
                self.put(key, line, &pointer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[&str] = &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

    fn lines(json: &str, controllers: &[&str]) -> (Vec<String>, Vec<String>) {
        let resources: Resources<'_> = serde_json::from_str(json).unwrap();
        let mut problems = Problems::default();
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        let layout = Layout { v2: Some("/sys/fs/cgroup".to_owned()), controllers, ..Layout::default() };
        let mut made = Plan::default();
        plan(&mut made, "/c", &resources, &layout, &mut problems);
        assert_eq!(made.dirs[0].path, "/sys/fs/cgroup/c");
        assert!(made.device_program.is_some());
        let writes = made.writes.iter().map(|w| format!("{} {}", w.file, w.value)).collect();
        (writes, problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn shares_keep_their_ends_and_their_default() {
        for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (262_143, 10_000), (u64::MAX, 10_000)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        // More shares are never less weight.
        let weights: Vec<u64> = (2..262_144).step_by(37).map(cpu_weight).collect();
        assert!(weights.is_sorted());
        assert_eq!((io_weight(10), io_weight(1000), io_weight(500)), (1, 10_000, 4950));
    }

    #[test]
    fn limits_reach_their_files() {
        let (writes, problems) = lines(
            r#"{"cpu":{"shares":2048,"period":100000,"quota":50000,"burst":10000,"idle":1,"cpus":"0-1","mems":"0"},
                "pids":{"limit":-1},"memory":{"limit":1048576,"swap":2097152,"reservation":4096},
                "blockIO":{"weight":500,"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":9}],
                           "throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":0}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":7}],"rdma":{"mlx":{"hcaHandles":3}},
                "unified":{"memory.high":"9","io.max":"8:0 rbps=1\n8:16 rbps=2\n"}}"#,
            ALL,
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            writes,
            [
                "memory.max 1048576",
                "memory.swap.max 1048576",
                "memory.low 4096",
                "cpu.weight 174",
                "cpu.max 50000 100000",
                "cpu.max.burst 10000",
                "cpu.idle 1",
                "cpuset.cpus 0-1",
                "cpuset.mems 0",
                "io.bfq.weight 500",
                "io.max 8:0 wbps=max",
                "io.max 8:0 riops=9",
                "pids.max max",
                "hugetlb.2MB.max 7",
                "hugetlb.2MB.rsvd.max 7",
                "rdma.max mlx hca_handle=3",
                "io.max 8:0 rbps=1",
                "io.max 8:16 rbps=2",
                "memory.high 9",
            ]
        );
    }

    #[test]
    fn memory_and_swap() {
        let of = |json: &str| lines(&format!("{{\"memory\":{json}}}"), ALL);
        assert_eq!(of(r#"{"limit":-1}"#).0, ["memory.max max", "memory.swap.max max"]);
        assert_eq!(of(r#"{"limit":4096,"swap":-1}"#).0, ["memory.max 4096", "memory.swap.max max"]);
        assert_eq!(of(r#"{"limit":4096,"swap":4096}"#).0, ["memory.max 4096", "memory.swap.max 0"]);
        assert_eq!(of(r#"{"limit":0,"swap":0,"kernel":-1,"swappiness":18446744073709551615}"#), (vec![], vec![]));
        assert_eq!(of(r#"{"limit":-1,"swap":4096}"#).1.len(), 1);
    }

    #[test]
    fn what_v2_lacks_is_said_by_its_pointer() {
        let (_, problems) = lines(
            r#"{"memory":{"swappiness":60,"kernel":1,"disableOOMKiller":true},"cpu":{"realtimeRuntime":1},
                "network":{"classID":1},"blockIO":{"leafWeight":10}}"#,
            ALL,
        );
        let pointers: Vec<&str> = problems.iter().filter_map(|line| line.split(':').next()).collect();
        let fields = [
            "memory/kernel",
            "memory/swappiness",
            "memory/disableOOMKiller",
            "cpu/realtimeRuntime",
            "blockIO/leafWeight",
            "network/classID",
        ];
        assert_eq!(pointers, fields.map(|field| format!("{BASE}/{field}")));
        let (writes, problems) =
            lines(r#"{"unified":{"misc.max":"1","cgroup.max.depth":"3"},"pids":{"limit":5}}"#, &["memory"]);
        assert_eq!(writes, ["cgroup.max.depth 3"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
