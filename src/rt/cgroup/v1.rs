//! `linux.resources` to the control files of cgroup v1. Pure: the file names and values only.
//! Sources: config-linux.md, Documentation/admin-guide/cgroup-v1.

use super::layout::Layout;
use super::{BASE, Dir, Plan, Write, devices};
use crate::config::problem::{Problems, token};
use crate::config::types::{Resources, ThrottleDevice};

/// Adds the container's cgroup at `path` (cleaned, absolute) in every v1 hierarchy to the plan.
pub fn plan(plan: &mut Plan, path: &str, resources: &Resources<'_>, layout: &Layout, problems: &mut Problems) {
    plan.dirs.extend(layout.v1.iter().map(|hierarchy| Dir {
        mount: hierarchy.mount.clone(),
        path: format!("{}{path}", hierarchy.mount.trim_end_matches('/')),
        controllers: hierarchy.controllers.join(","),
    }));
    let mut writes = Writes { layout, problems, list: &mut plan.writes };
    writes.devices(resources);
    writes.memory(resources);
    writes.cpu(resources);
    writes.other(resources);
}

/// Collects the writes, and a problem for each field whose controller is not there.
struct Writes<'a> {
    layout: &'a Layout,
    problems: &'a mut Problems,
    list: &'a mut Vec<Write>,
}

impl Writes<'_> {
    fn put(&mut self, controller: &str, file: &str, value: impl ToString, pointer: &str) {
        self.put_either(controller, file, None, value, pointer);
    }

    fn put_either(
        &mut self,
        controller: &str,
        file: &str,
        fallback: Option<&str>,
        value: impl ToString,
        pointer: &str,
    ) {
        let pointer = format!("{BASE}/{pointer}");
        match self.layout.find(controller) {
            Some(dir) => self.list.push(Write {
                dir,
                file: file.to_owned(),
                fallback: fallback.map(|file| (file.to_owned(), value.to_string())),
                optional: false,
                value: value.to_string(),
                pointer,
            }),
            None => self.problems.unavailable(
                pointer,
                format!("this host has no {controller} cgroup controller; take the field out or mount the controller"),
            ),
        }
    }

    /// Denies everything, then applies the list in its order, then allows the default devices.
    fn devices(&mut self, resources: &Resources<'_>) {
        if self.layout.find("devices").is_none() {
            // cgroup v2 is asked instead, where there is one.
            if devices::asks(resources) && self.layout.v2.is_none() {
                self.put("devices", "devices.allow", "", "devices");
            }
            return;
        }
        for rule in devices::rules(resources) {
            let (file, lines) = devices::list::lines(&rule);
            let pointer = rule.index.map_or("devices".to_owned(), |index| format!("devices/{index}"));
            for line in lines {
                self.put("devices", file, line, &pointer);
            }
        }
    }

    fn memory(&mut self, resources: &Resources<'_>) {
        let Some(memory) = &resources.memory else { return };
        let mut put = |file: &str, value: Option<i64>, field: &str| {
            // 0 is how engines write "not set".
            if let Some(value) = value.filter(|value| *value != 0) {
                self.put("memory", file, value, &format!("memory/{field}"));
            }
        };
        put("memory.limit_in_bytes", memory.limit, "limit");
        // In a new group memory alone is set first: the kernel keeps it below memory and swap.
        put("memory.memsw.limit_in_bytes", memory.swap, "swap");
        put("memory.soft_limit_in_bytes", memory.reservation, "reservation");
        // -1 is what the files hold anyway, and newer kernels have no such files.
        put("memory.kmem.limit_in_bytes", memory.kernel.filter(|value| *value != -1), "kernel");
        put("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp.filter(|value| *value != -1), "kernelTCP");
        if let Some(value) = memory.swappiness.filter(|value| *value != u64::MAX) {
            self.put("memory", "memory.swappiness", value, "memory/swappiness");
        }
        if memory.disable_oom_killer == Some(true) {
            self.put("memory", "memory.oom_control", 1, "memory/disableOOMKiller");
        }
        if let Some(value) = memory.use_hierarchy {
            self.put("memory", "memory.use_hierarchy", u8::from(value), "memory/useHierarchy");
        }
    }

    fn cpu(&mut self, resources: &Resources<'_>) {
        let Some(cpu) = &resources.cpu else { return };
        if let Some(value) = cpu.shares.filter(|value| *value != 0) {
            self.put("cpu", "cpu.shares", value, "cpu/shares");
        }
        // The period first: a quota is checked against it.
        if let Some(value) = cpu.period.filter(|value| *value != 0) {
            self.put("cpu", "cpu.cfs_period_us", value, "cpu/period");
        }
        if let Some(value) = cpu.quota.filter(|value| *value != 0) {
            self.put("cpu", "cpu.cfs_quota_us", value, "cpu/quota");
        }
        if let Some(value) = cpu.burst {
            self.put("cpu", "cpu.cfs_burst_us", value, "cpu/burst");
        }
        if let Some(value) = cpu.realtime_period.filter(|value| *value != 0) {
            self.put("cpu", "cpu.rt_period_us", value, "cpu/realtimePeriod");
        }
        if let Some(value) = cpu.realtime_runtime.filter(|value| *value != 0) {
            self.put("cpu", "cpu.rt_runtime_us", value, "cpu/realtimeRuntime");
        }
        if let Some(value) = cpu.idle {
            self.put("cpu", "cpu.idle", value, "cpu/idle");
        }
        if let Some(list) = cpu.cpus.as_deref().filter(|list| !list.is_empty()) {
            self.put("cpuset", "cpuset.cpus", list, "cpu/cpus");
        }
        if let Some(list) = cpu.mems.as_deref().filter(|list| !list.is_empty()) {
            self.put("cpuset", "cpuset.mems", list, "cpu/mems");
        }
    }

    fn other(&mut self, resources: &Resources<'_>) {
        if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
            let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
            self.put("pids", "pids.max", value, "pids/limit");
        }
        if let Some(block_io) = &resources.block_io {
            if let Some(value) = block_io.weight.filter(|value| *value != 0) {
                self.put_either("blkio", "blkio.weight", Some("blkio.bfq.weight"), value, "blockIO/weight");
            }
            if let Some(value) = block_io.leaf_weight.filter(|value| *value != 0) {
                self.put("blkio", "blkio.leaf_weight", value, "blockIO/leafWeight");
            }
            for (index, device) in block_io.weight_device.iter().enumerate() {
                let node = format!("{}:{}", device.major, device.minor);
                let pointer = format!("blockIO/weightDevice/{index}");
                if let Some(weight) = device.weight {
                    self.put_either(
                        "blkio",
                        "blkio.weight_device",
                        Some("blkio.bfq.weight_device"),
                        format!("{node} {weight}"),
                        &pointer,
                    );
                }
                if let Some(weight) = device.leaf_weight {
                    self.put("blkio", "blkio.leaf_weight_device", format!("{node} {weight}"), &pointer);
                }
            }
            self.throttle("read_bps", "Read", "Bps", &block_io.throttle_read_bps_device);
            self.throttle("write_bps", "Write", "Bps", &block_io.throttle_write_bps_device);
            self.throttle("read_iops", "Read", "IOPS", &block_io.throttle_read_iops_device);
            self.throttle("write_iops", "Write", "IOPS", &block_io.throttle_write_iops_device);
        }
        for (index, limit) in resources.hugepage_limits.iter().enumerate() {
            let pointer = format!("hugepageLimits/{index}");
            // Page faults, which every kernel with the controller counts, and reservations, which
            // newer ones do as well.
            self.put("hugetlb", &format!("hugetlb.{}.limit_in_bytes", limit.page_size), limit.limit, &pointer);
            if self.layout.find("hugetlb").is_none() {
                continue;
            }
            self.put("hugetlb", &format!("hugetlb.{}.rsvd.limit_in_bytes", limit.page_size), limit.limit, &pointer);
            if let Some(write) = self.list.last_mut().filter(|write| write.file.contains(".rsvd.")) {
                write.optional = true;
            }
        }
        if let Some(network) = &resources.network {
            if let Some(class) = network.class_id {
                self.put("net_cls", "net_cls.classid", class, "network/classID");
            }
            for (index, priority) in network.priorities.iter().enumerate() {
                self.put(
                    "net_prio",
                    "net_prio.ifpriomap",
                    format!("{} {}", priority.name, priority.priority),
                    &format!("network/priorities/{index}"),
                );
            }
        }
        for (device, limit) in &resources.rdma {
            self.put("rdma", "rdma.max", super::rdma(device, limit), &format!("rdma/{}", token(device)));
        }
        for key in resources.unified.keys() {
            self.problems.unavailable(
                format!("{BASE}/unified/{}", token(key)),
                "needs cgroup v2, which is not mounted on this host; use the field's own place in /linux/resources",
            );
        }
    }

    fn throttle(&mut self, file: &str, way: &str, unit: &str, list: &[ThrottleDevice]) {
        for (index, device) in list.iter().enumerate() {
            self.put(
                "blkio",
                &format!("blkio.throttle.{file}_device"),
                format!("{}:{} {}", device.major, device.minor, device.rate),
                &format!("blockIO/throttle{way}{unit}Device/{index}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Hierarchy;
    use super::*;

    fn host(names: &[&str]) -> Layout {
        let v1 = names
            .iter()
            .map(|name| Hierarchy { mount: format!("/sys/fs/cgroup/{name}"), controllers: vec![(*name).to_owned()] })
            .collect();
        Layout { v1, ..Layout::default() }
    }

    fn lines(json: &str, names: &[&str]) -> (Vec<String>, Vec<String>) {
        let resources: Resources<'_> = serde_json::from_str(json).unwrap();
        let mut problems = Problems::default();
        let mut made = Plan::default();
        plan(&mut made, "/c", &resources, &host(names), &mut problems);
        let writes = made.writes.iter().map(|w| format!("{} {}", w.file, w.value)).collect();
        (writes, problems.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn devices_start_from_nothing_and_keep_their_order() {
        let (writes, _) = lines(
            r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":-1,"access":"rmw"},
                {"allow":false,"type":"a","major":8}]}"#,
            &["devices"],
        );
        assert_eq!(
            writes[..4],
            ["devices.deny a", "devices.allow c 10:* rwm", "devices.deny c 8:* rwm", "devices.deny b 8:* rwm"]
        );
        assert_eq!(writes.len(), 4 + 11);
    }

    #[test]
    fn a_limit_without_its_controller_is_named() {
        let (writes, problems) = lines(
            r#"{"pids":{"limit":5},"memory":{"limit":1},"rdma":{"a/b":{"hcaHandles":1}},"unified":{"cpu.max":"1"}}"#,
            &["memory"],
        );
        assert_eq!(writes, ["memory.limit_in_bytes 1"]);
        assert!(problems[0].starts_with("/linux/resources/pids/limit: "), "{problems:?}");
        assert!(problems[1].starts_with("/linux/resources/rdma/a~1b: "), "{problems:?}");
        assert!(problems[2].starts_with("/linux/resources/unified/cpu.max: "), "{problems:?}");
    }

    #[test]
    fn what_engines_write_for_not_set_is_left_out() {
        let (writes, problems) = lines(
            r#"{"cpu":{"shares":0,"quota":0,"cpus":""},"memory":{"limit":0,"swap":0,"kernel":-1,"swappiness":18446744073709551615,
                "disableOOMKiller":false},"blockIO":{"weight":0}}"#,
            &["cpu", "memory", "blkio", "cpuset"],
        );
        assert_eq!((writes, problems), (vec![], vec![]));
    }

    #[test]
    fn limits_reach_their_files() {
        let (writes, _) = lines(
            r#"{"cpu":{"period":100000,"quota":50000,"burst":10000,"idle":1,"cpus":"0-1"},"pids":{"limit":-1},
                "memory":{"limit":1048576,"swap":2097152,"reservation":4096},
                "blockIO":{"weight":500,"throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":9}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":7}]}"#,
            &["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb"],
        );
        assert_eq!(
            writes,
            [
                "memory.limit_in_bytes 1048576",
                "memory.memsw.limit_in_bytes 2097152",
                "memory.soft_limit_in_bytes 4096",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us 50000",
                "cpu.cfs_burst_us 10000",
                "cpu.idle 1",
                "cpuset.cpus 0-1",
                "pids.max max",
                "blkio.weight 500",
                "blkio.throttle.read_iops_device 8:0 9",
                "hugetlb.2MB.limit_in_bytes 7",
                "hugetlb.2MB.rsvd.limit_in_bytes 7",
            ]
        );
    }
}
