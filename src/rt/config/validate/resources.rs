//! The rules of `linux.resources`.

use std::collections::BTreeSet;

use super::{cpu_list, keyed, linux::device_name};
use crate::config::problem::Problems;
use crate::config::types::{BlockIo, Cpu, Memory, Resources};

const BASE: &str = "/linux/resources";

pub fn resources(resources: &Resources<'_>, problems: &mut Problems) {
    for (index, rule) in resources.devices.iter().enumerate() {
        let at = |field: &str| format!("{BASE}/devices/{index}/{field}");
        if let Some(kind) = rule.kind.as_deref().filter(|kind| !["", "a", "b", "c"].contains(kind)) {
            problems.invalid(at("type"), format!("must be a, b or c, is \"{kind}\""));
        }
        let access = rule.access.as_deref().unwrap_or("rwm");
        if access.contains(|c| !"rwm".contains(c)) {
            problems.invalid(at("access"), format!("must be made of r, w and m, is \"{access}\""));
        }
        for (field, number) in [("major", rule.major), ("minor", rule.minor)] {
            // -1 is how older engines write "all".
            if let Some(number) = number.filter(|number| !(-1..=i64::from(u32::MAX)).contains(number)) {
                problems.invalid(at(field), format!("must be -1..4294967295, is {number}"));
            }
        }
    }
    if let Some(memory) = &resources.memory {
        self::memory(memory, problems);
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(cpu, problems);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit).filter(|limit| *limit < -1) {
        problems.invalid(format!("{BASE}/pids/limit"), format!("must be -1 (no limit) or more, is {limit}"));
    }
    if let Some(block_io) = &resources.block_io {
        self::block_io(block_io, problems);
    }
    let mut sizes = BTreeSet::new();
    for (index, limit) in resources.hugepage_limits.iter().enumerate() {
        let pointer = format!("{BASE}/hugepageLimits/{index}/pageSize");
        if !page_size(&limit.page_size) {
            problems.invalid(pointer, format!("must be a size such as 64KB, 2MB or 1GB, is \"{}\"", limit.page_size));
        } else if !sizes.insert(&*limit.page_size) {
            problems.invalid(pointer, format!("{} stands in the list twice", limit.page_size));
        }
    }
    if let Some(network) = &resources.network {
        for (index, priority) in network.priorities.iter().enumerate() {
            if !device_name(&priority.name) {
                problems.invalid(
                    format!("{BASE}/network/priorities/{index}/name"),
                    format!("\"{}\" is no name of a network device", priority.name),
                );
            }
        }
    }
    for (device, limit) in &resources.rdma {
        // It becomes the first word of a line in rdma.max.
        if device.is_empty() || device.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            problems.invalid(keyed(&format!("{BASE}/rdma"), device), format!("\"{device}\" is no name of a device"));
        } else if limit.hca_handles.is_none() && limit.hca_objects.is_none() {
            problems.invalid(keyed(&format!("{BASE}/rdma"), device), "must hold hcaHandles or hcaObjects");
        }
    }
    for key in resources.unified.keys() {
        let is_name = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !is_name || !key.contains('.') || key.starts_with('.') {
            problems.invalid(
                keyed(&format!("{BASE}/unified"), key),
                format!("must be the name of a control file such as memory.high, is \"{key}\""),
            );
        }
    }
}

/// `<number><K|M|G>B`, as the kernel names the hugetlb files.
fn page_size(text: &str) -> bool {
    let digits = text.strip_suffix("KB").or_else(|| text.strip_suffix("MB")).or_else(|| text.strip_suffix("GB"));
    digits.is_some_and(|digits| {
        !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn memory(memory: &Memory, problems: &mut Problems) {
    let at = |field: &str| format!("{BASE}/memory/{field}");
    for (field, value) in [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ] {
        if let Some(value) = value.filter(|value| *value < -1) {
            problems.invalid(at(field), format!("must be -1 (no limit) or a number of bytes, is {value}"));
        }
    }
    if let (Some(limit), Some(swap)) = (memory.limit, memory.swap)
        && limit > 0
        && swap > 0
        && swap < limit
    {
        problems.invalid(
            at("swap"),
            format!("is memory and swap together, so it must not be below limit ({limit}), is {swap}"),
        );
    }
    if memory.swap.is_some_and(|swap| swap > 0) && memory.limit.is_none_or(|limit| limit == 0) {
        problems.invalid(at("swap"), "needs a limit as well");
    }
    // The largest number is how some engines write "not set".
    if let Some(value) = memory.swappiness.filter(|value| *value > 100 && *value != u64::MAX) {
        problems.invalid(at("swappiness"), format!("must be 0..100, is {value}"));
    }
}

fn cpu(cpu: &Cpu<'_>, problems: &mut Problems) {
    let at = |field: &str| format!("{BASE}/cpu/{field}");
    for (field, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        if let Some(Err(why)) = list.as_deref().filter(|list| !list.is_empty()).map(cpu_list) {
            problems.invalid(at(field), why);
        }
    }
    if let (Some(burst), Some(quota)) = (cpu.burst, cpu.quota)
        && quota > 0
        && burst > quota as u64
    {
        problems.invalid(at("burst"), format!("must not be above quota ({quota}), is {burst}"));
    }
    if let Some(idle) = cpu.idle.filter(|idle| ![0, 1].contains(idle)) {
        problems.invalid(at("idle"), format!("must be 0 or 1, is {idle}"));
    }
}

fn block_io(block_io: &BlockIo, problems: &mut Problems) {
    let at = |field: &str| format!("{BASE}/blockIO/{field}");
    let weight_range = |field: String, weight: Option<u16>, problems: &mut Problems| {
        // 0 is how engines write "not set".
        if let Some(weight) = weight.filter(|weight| *weight != 0 && !(10..=1000).contains(weight)) {
            problems.invalid(field, format!("must be 10..1000, is {weight}"));
        }
    };
    weight_range(at("weight"), block_io.weight, problems);
    weight_range(at("leafWeight"), block_io.leaf_weight, problems);
    for (index, device) in block_io.weight_device.iter().enumerate() {
        if device.weight.is_none() && device.leaf_weight.is_none() {
            problems.invalid(at(&format!("weightDevice/{index}")), "must hold weight or leafWeight");
        }
        weight_range(at(&format!("weightDevice/{index}/weight")), device.weight, problems);
        weight_range(at(&format!("weightDevice/{index}/leafWeight")), device.leaf_weight, problems);
    }
    let majors = block_io.weight_device.iter().enumerate().map(|(i, d)| ("weightDevice", i, d.major, d.minor));
    let throttles = [
        ("throttleReadBpsDevice", &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &block_io.throttle_write_iops_device),
    ];
    let throttles =
        throttles.iter().flat_map(|(field, list)| list.iter().enumerate().map(|(i, d)| (*field, i, d.major, d.minor)));
    for (field, index, major, minor) in majors.chain(throttles) {
        for (name, number) in [("major", major), ("minor", minor)] {
            if !(0..=i64::from(u32::MAX)).contains(&number) {
                problems.invalid(at(&format!("{field}/{index}/{name}")), format!("must be 0..4294967295, is {number}"));
            }
        }
    }
}
