//! `linux.resources` as properties of a unit (systemd.resource-control(5),
//! org.freedesktop.systemd1(5)). Pure.
//!
//! Systemd is told all that it has a word for, as it writes the files of a unit anew whenever it
//! thinks fit, with what it knows. What it has no word for, and the exact value where it rounds, is
//! written to the files themselves after the unit has started.

use std::collections::BTreeMap;

use super::wire::Value;
use super::{annotation, devices};
use crate::cgroup::{BASE, v2};
use crate::config::problem::{Problems, token};
use crate::config::types::{BlockIo, Cpu, Memory, Resources, Str};
use crate::config::validate::cpu_list;

/// No limit (`USEC_INFINITY`, `CGROUP_LIMIT_MAX`).
const UNLIMITED: u64 = u64::MAX;

/// The kernel's period, in microseconds, when none is given (cgroup-v2.rst, `cpu.max`).
const PERIOD: u64 = 100_000;

/// One property of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Such as `MemoryMax`.
    pub name: String,
    /// Such as `Uint64(4096)`.
    pub value: Value,
    /// Where in the document it comes from.
    pub pointer: String,
    /// A systemd that does not know it goes without: the value is written to files as well.
    pub optional: bool,
}

/// Everything that the document says of the unit when it is made: annotations, devices, limits.
/// `version` is systemd's.
pub fn properties(
    resources: &Resources<'_>,
    annotations: &BTreeMap<Str<'_>, Str<'_>>,
    v2: bool,
    version: u32,
    problems: &mut Problems,
) -> Vec<Property> {
    let mut list = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(annotation::PREFIX) else { continue };
        let pointer = format!("/annotations/{}", token(key));
        match annotation::property(name, text) {
            Ok((name, value)) => list.push(Property { name, value, pointer, optional: false }),
            Err(why) => problems.invalid(pointer, why),
        }
    }
    // Systemd takes the last of two, so that an annotation cannot lift a limit.
    if !v2 {
        list.extend(devices::allowed(resources, version));
    }
    list.extend(limits(resources, v2, version));
    list
}

/// What `update` changes: the limits, and the devices where there is a word on them.
pub fn changes(resources: &Resources<'_>, v2: bool, version: u32) -> Vec<Property> {
    let mut list = limits(resources, v2, version);
    if !v2 && !resources.devices.is_empty() {
        list.extend(devices::allowed(resources, version));
    }
    list
}

/// The limits alone.
fn limits(resources: &Resources<'_>, v2: bool, version: u32) -> Vec<Property> {
    let mut limits = Limits { v2, version, list: Vec::new() };
    limits.memory(resources.memory.as_ref());
    limits.cpu(resources.cpu.as_ref());
    // systemd refuses 0, so it hears of the nearest; the file gets what was asked for.
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        limits.put("TasksMax", or_unlimited(if limit == 0 { 1 } else { limit }), "pids/limit");
    }
    limits.block_io(resources.block_io.as_ref());
    if v2 {
        for (key, text) in &resources.unified {
            limits.unified(key, text, &format!("unified/{}", token(key)));
        }
    }
    limits.list
}

struct Limits {
    v2: bool,
    version: u32,
    list: Vec<Property>,
}

/// -1 is no limit.
fn or_unlimited(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(UNLIMITED)
}

impl Limits {
    /// Sets a number. Of two fields that say the same the later one counts.
    fn put(&mut self, name: &str, value: u64, pointer: &str) {
        self.set(name, Value::Uint64(value), pointer);
    }

    fn set(&mut self, name: &str, value: Value, pointer: &str) {
        self.list.retain(|property| property.name != name);
        self.add(name, value, pointer);
    }

    fn add(&mut self, name: &str, value: Value, pointer: &str) {
        let pointer = format!("{BASE}/{pointer}");
        self.list.push(Property { name: name.to_owned(), value, pointer, optional: true });
    }

    fn memory(&mut self, memory: Option<&Memory>) {
        let Some(memory) = memory else { return };
        // 0 is how engines write "not set".
        let set = |value: Option<i64>| value.filter(|value| *value != 0);
        let limit = set(memory.limit);
        if let Some(limit) = limit {
            self.put(if self.v2 { "MemoryMax" } else { "MemoryLimit" }, or_unlimited(limit), "memory/limit");
        }
        if !self.v2 {
            return;
        }
        match (limit, set(memory.swap)) {
            (_, Some(-1)) => self.put("MemorySwapMax", UNLIMITED, "memory/swap"),
            // Here swap is a limit of its own, there it is memory and swap together.
            (Some(limit), Some(swap)) if 0 < limit && limit <= swap => {
                self.put("MemorySwapMax", (swap - limit) as u64, "memory/swap");
            }
            // Memory without a limit and no word on swap: swap has none either.
            (Some(-1), None) => self.put("MemorySwapMax", UNLIMITED, "memory/limit"),
            _ => {}
        }
        if let Some(reservation) = set(memory.reservation) {
            self.put("MemoryLow", or_unlimited(reservation), "memory/reservation");
        }
    }

    fn cpu(&mut self, cpu: Option<&Cpu<'_>>) {
        let Some(cpu) = cpu else { return };
        if let Some(shares) = cpu.shares.filter(|value| *value != 0) {
            if self.v2 {
                self.put("CPUWeight", v2::cpu_weight(shares), "cpu/shares");
            } else {
                // What is outside the kernel moves to the end, systemd refuses it.
                self.put("CPUShares", shares.clamp(2, 262_144), "cpu/shares");
            }
        }
        if cpu.idle == Some(1) {
            self.idle("cpu/idle");
        }
        let (quota, period) = (cpu.quota.filter(|value| *value != 0), cpu.period.filter(|value| *value != 0));
        if quota.is_some() || period.is_some() {
            let field = if quota.is_some() { "cpu/quota" } else { "cpu/period" };
            self.quota(quota.unwrap_or(-1), period, field);
        }
        for (name, list, pointer) in
            [("AllowedCPUs", &cpu.cpus, "cpu/cpus"), ("AllowedMemoryNodes", &cpu.mems, "cpu/mems")]
        {
            self.set_of(name, list.as_deref().unwrap_or_default(), pointer);
        }
    }

    /// Weight 0 is systemd's word for `cpu.idle`, since version 252.
    fn idle(&mut self, pointer: &str) {
        if self.v2 && self.version >= 252 {
            self.put("CPUWeight", 0, pointer);
        }
    }

    /// Microseconds of CPU in each period, to systemd's in each second.
    fn quota(&mut self, quota: i64, period: Option<u64>, pointer: &str) {
        if let Some(period) = period.filter(|_| self.version >= 242) {
            self.put("CPUQuotaPeriodUSec", period, pointer);
        }
        let per_second = u64::try_from(quota).map_or(UNLIMITED, |quota| {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(PERIOD));
            // Systemd counts in whole percents of a CPU, and must not be the stricter one.
            u64::try_from(exact.next_multiple_of(10_000)).unwrap_or(UNLIMITED)
        });
        self.put("CPUQuotaPerSecUSec", per_second, pointer);
    }

    /// CPUs or memory nodes as a mask of bytes, the least significant first. Systemd knows cpuset
    /// on v2 only, since version 244.
    fn set_of(&mut self, name: &str, list: &str, pointer: &str) {
        if !self.v2 || self.version < 244 || list.is_empty() {
            return;
        }
        let Ok(words) = cpu_list(list) else { return };
        let mut bytes: Vec<Value> = words.iter().flat_map(|word| word.to_le_bytes()).map(Value::Byte).collect();
        while bytes.last() == Some(&Value::Byte(0)) {
            bytes.pop();
        }
        self.set(name, Value::Array("y".to_owned(), bytes), pointer);
    }

    fn block_io(&mut self, block_io: Option<&BlockIo>) {
        let Some(block_io) = block_io else { return };
        if let Some(weight) = block_io.weight.filter(|value| *value != 0) {
            if self.v2 {
                self.put("IOWeight", v2::io_weight(weight), "blockIO/weight");
            } else {
                self.put("BlockIOWeight", u64::from(weight.clamp(10, 1000)), "blockIO/weight");
            }
        }
        for (index, device) in block_io.weight_device.iter().enumerate() {
            if let Some(weight) = device.weight.filter(|value| *value != 0 && self.v2) {
                let node = format!("{}:{}", device.major, device.minor);
                self.device_weight(&node, v2::io_weight(weight), &format!("blockIO/weightDevice/{index}"));
            }
        }
    }

    fn device_weight(&mut self, node: &str, weight: u64, pointer: &str) {
        let entry = Value::Struct(vec![Value::String(format!("/dev/block/{node}")), Value::Uint64(weight)]);
        self.add("IODeviceWeight", Value::Array("(st)".to_owned(), vec![entry]), pointer);
    }

    /// A file of v2 with the text for it. What cannot be read here is left to the kernel, which
    /// says what is wrong with it when the file is written.
    fn unified(&mut self, file: &str, text: &str, pointer: &str) {
        let limit = |name| bytes(text).map(|limit| (name, limit));
        let since = |version, found: Option<(&'static str, u64)>| found.filter(|_| self.version >= version);
        let found = match file {
            "memory.max" => limit("MemoryMax"),
            "memory.high" => limit("MemoryHigh"),
            "memory.low" => limit("MemoryLow"),
            "memory.min" => limit("MemoryMin"),
            "memory.swap.max" => limit("MemorySwapMax"),
            "memory.zswap.max" => since(253, limit("MemoryZSwapMax")),
            "pids.max" => limit("TasksMax").filter(|(_, limit)| *limit != 0),
            "cpu.weight" => whole(text).map(|weight| ("CPUWeight", weight)),
            "cpu.idle" => {
                if text.trim() == "1" {
                    self.idle(pointer);
                }
                None
            }
            "cpu.max" => {
                if let Some((quota, period)) = cpu_max(text) {
                    self.quota(quota, period, pointer);
                }
                None
            }
            "cpuset.cpus" | "cpuset.mems" => {
                let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
                self.set_of(name, text.trim(), pointer);
                None
            }
            "io.weight" => {
                for line in text.lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    match (&words[..], words.last().and_then(|weight| whole(weight))) {
                        (["default", _] | [_], Some(weight)) => self.put("IOWeight", weight, pointer),
                        ([node, _], Some(weight)) => self.device_weight(node, weight, pointer),
                        _ => {}
                    }
                }
                None
            }
            "memory.oom.group" if self.version >= 253 => {
                match text.trim() {
                    "0" => self.set("OOMPolicy", "continue".into(), pointer),
                    "1" => self.set("OOMPolicy", "kill".into(), pointer),
                    _ => {}
                }
                None
            }
            _ => None,
        };
        if let Some((name, value)) = found {
            self.put(name, value, pointer);
        }
    }
}

fn whole(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Bytes as the kernel reads them (`memparse`): `max`, or a number that may end in K, M, G, T, P or E.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    if text == "max" {
        return Some(UNLIMITED);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `cpu.max`: a quota or `max`, and a period or none.
fn cpu_max(text: &str) -> Option<(i64, Option<u64>)> {
    let mut words = text.split_whitespace();
    let quota = match words.next()? {
        "max" => -1,
        number => number.parse().ok().filter(|quota| *quota > 0)?,
    };
    let period =
        words.next().map(|word| word.parse().ok().filter(|period| *period > 0)).map_or(Some(None), |p| p.map(Some))?;
    words.next().is_none().then_some((quota, period))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Properties in one line each, as `systemctl show` would have them.
    pub(in super::super) fn show(list: &[Property]) -> Vec<String> {
        fn text(value: &Value) -> String {
            match value {
                Value::Uint64(UNLIMITED) => "infinity".to_owned(),
                Value::Uint64(number) => number.to_string(),
                Value::Byte(number) => format!("{number:02x}"),
                Value::String(text) => text.clone(),
                Value::Array(_, items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
                Value::Struct(fields) => fields.iter().map(text).collect::<Vec<_>>().join(","),
                other => format!("{other:?}"),
            }
        }
        list.iter().map(|property| format!("{}={}", property.name, text(&property.value))).collect()
    }

    fn of(json: &str, v2: bool, version: u32) -> Vec<String> {
        show(&limits(&serde_json::from_str(json).unwrap(), v2, version))
    }

    const FULL: &str = r#"{"cpu":{"shares":2048,"period":100000,"quota":50000,"burst":10000,"cpus":"0-1,9","mems":"0"},
        "pids":{"limit":7},"memory":{"limit":1048576,"swap":2097152,"reservation":4096},
        "blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10},{"major":8,"minor":16,"weight":20}]}}"#;

    #[test]
    fn limits_on_v2() {
        let expected = [
            "MemoryMax=1048576",
            "MemorySwapMax=1048576",
            "MemoryLow=4096",
            "CPUWeight=174",
            "CPUQuotaPeriodUSec=100000",
            "CPUQuotaPerSecUSec=500000",
            "AllowedCPUs=03 02",
            "AllowedMemoryNodes=01",
            "TasksMax=7",
            "IOWeight=4950",
            "IODeviceWeight=/dev/block/8:0,1",
            "IODeviceWeight=/dev/block/8:16,102",
        ];
        assert_eq!(of(FULL, true, 252), expected);
        let old: Vec<_> =
            expected.into_iter().filter(|line| !line.starts_with("Allowed") && !line.contains("Period")).collect();
        assert_eq!(of(FULL, true, 239), old);
    }

    #[test]
    fn limits_on_v1() {
        assert_eq!(
            of(FULL, false, 252),
            [
                "MemoryLimit=1048576",
                "CPUShares=2048",
                "CPUQuotaPeriodUSec=100000",
                "CPUQuotaPerSecUSec=500000",
                "TasksMax=7",
                "BlockIOWeight=500",
            ]
        );
        assert_eq!(of(r#"{"cpu":{"shares":1},"unified":{"memory.max":"5"}}"#, false, 252), ["CPUShares=2"]);
        assert_eq!(of(r#"{"cpu":{"shares":18446744073709551615}}"#, false, 252), ["CPUShares=262144"]);
    }

    #[test]
    fn no_limits() {
        for nothing in [
            "{}",
            r#"{"memory":{"limit":0,"swap":0,"reservation":0},"blockIO":{"weight":0}}"#,
            r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":"","idle":0}}"#,
            r#"{"memory":{"swap":5}}"#,
            r#"{"unified":{"misc.max":"x","pids.max":"0","cpu.idle":"0","memory.max":"lots","cpu.max":"1 2 3"}}"#,
        ] {
            assert_eq!(of(nothing, true, 252), Vec::<String>::new(), "{nothing}");
        }
        assert_eq!(
            of(r#"{"memory":{"limit":-1},"pids":{"limit":-1},"cpu":{"quota":-1}}"#, true, 252),
            ["MemoryMax=infinity", "MemorySwapMax=infinity", "CPUQuotaPerSecUSec=infinity", "TasksMax=infinity"]
        );
        assert_eq!(of(r#"{"memory":{"limit":4096,"swap":-1}}"#, true, 252)[1], "MemorySwapMax=infinity");
        assert_eq!(of(r#"{"memory":{"limit":4096,"swap":4096}}"#, true, 252)[1], "MemorySwapMax=0");
        assert_eq!(
            of(r#"{"cpu":{"period":50000}}"#, true, 252),
            ["CPUQuotaPeriodUSec=50000", "CPUQuotaPerSecUSec=infinity"]
        );
    }

    #[test]
    fn quotas_round_up_to_a_percent() {
        let per_second = |quota: i64, period: u64| {
            let lines = of(&format!(r#"{{"cpu":{{"quota":{quota},"period":{period}}}}}"#), true, 252);
            lines[1].strip_prefix("CPUQuotaPerSecUSec=").unwrap().parse::<u64>().unwrap()
        };
        for (quota, period, expected) in
            [(1, 100_000, 10_000), (33_333, 100_000, 340_000), (250_000, 100_000, 2_500_000)]
        {
            assert_eq!(per_second(quota, period), expected);
        }
        assert_eq!(of(r#"{"cpu":{"quota":150000}}"#, true, 252), ["CPUQuotaPerSecUSec=1500000"]);
        for quota in (1..2_000_000_i64).step_by(777) {
            for period in [1000, 99_999, 1_000_000] {
                let (got, exact) = (u128::from(per_second(quota, period)), quota as u128 * 1_000_000);
                assert!(got % 10_000 == 0 && got * u128::from(period) + u128::from(period) > exact);
                assert!((got - 10_000) * u128::from(period) <= exact);
            }
        }
        // Too much for any number is no limit.
        assert_eq!(per_second_text(i64::MAX, 1), "infinity");
        fn per_second_text(quota: i64, period: u64) -> String {
            let lines = of(&format!(r#"{{"cpu":{{"quota":{quota},"period":{period}}}}}"#), true, 252);
            lines[1].split_once('=').unwrap().1.to_owned()
        }
    }

    #[test]
    fn idle_is_weight_zero() {
        let json = r#"{"cpu":{"shares":2048,"idle":1}}"#;
        assert_eq!(of(json, true, 252), ["CPUWeight=0"]);
        assert_eq!(of(json, true, 251), ["CPUWeight=174"]);
        assert_eq!(of(json, false, 252), ["CPUShares=2048"]);
        assert_eq!(of(r#"{"unified":{"cpu.idle":"1"}}"#, true, 252), ["CPUWeight=0"]);
    }

    #[test]
    fn unified_files() {
        let json = r#"{"memory":{"limit":1},"unified":{"cpu.max":"max 50000","cpu.weight":" 7\n","cpuset.cpus":"8",
            "cpuset.mems":"0","memory.high":"1G","memory.low":"max","memory.max":"4096","memory.min":"2k",
            "memory.oom.group":"1","memory.swap.max":"0","memory.zswap.max":"5","pids.max":"max",
            "io.weight":"default 50\n8:0 60","io.max":"8:0 rbps=1","memory.peak":"1"}}"#;
        let expected = [
            "CPUQuotaPeriodUSec=50000",
            "CPUQuotaPerSecUSec=infinity",
            "CPUWeight=7",
            "AllowedCPUs=00 01",
            "AllowedMemoryNodes=01",
            "IOWeight=50",
            "IODeviceWeight=/dev/block/8:0,60",
            "MemoryHigh=1073741824",
            "MemoryLow=infinity",
            "MemoryMax=4096",
            "MemoryMin=2048",
            "OOMPolicy=kill",
            "MemorySwapMax=0",
            "MemoryZSwapMax=5",
            "TasksMax=infinity",
        ];
        assert_eq!(of(json, true, 256), expected);
        assert_eq!(of(json, true, 252).len(), expected.len() - 2);
        assert_eq!(of(r#"{"unified":{"cpu.max":"25000"}}"#, true, 252), ["CPUQuotaPerSecUSec=250000"]);
    }

    #[test]
    fn annotations_come_first_and_are_wanted() {
        let annotations: BTreeMap<Str<'_>, Str<'_>> = [
            ("org.systemd.property.MemoryMax", "uint64 5"),
            ("org.systemd.property.RuntimeMaxSec", "60"),
            ("org.systemd.property.Bad/Name", "1"),
            ("org.systemd.property.After", "nothing"),
            ("org.example", "x"),
        ]
        .into_iter()
        .map(|(key, value)| (Str::from(key), Str::from(value)))
        .collect();
        let mut problems = Problems::default();
        let list = properties(
            &serde_json::from_str(r#"{"memory":{"limit":9}}"#).unwrap(),
            &annotations,
            true,
            252,
            &mut problems,
        );
        let lines = show(&list);
        assert_eq!(lines, ["MemoryMax=5", "RuntimeMaxUSec=60000000", "MemoryMax=9"]);
        assert!(list.iter().all(|property| property.optional != property.pointer.starts_with("/annotations/")));
        let pointers: Vec<&str> = problems.0.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/annotations/org.systemd.property.After", "/annotations/org.systemd.property.Bad~1Name"]
        );
        assert_eq!(problems.fatal().count(), 2);
    }
}
