//! `linux.resources` on cgroup v1: every limit is in its file, and the kernel keeps it.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::{Bundle, Place, host};
use serde_json::{Value, json};

/// Where a v1 controller is mounted; the tests skip what this host does not have.
fn mount_of(controller: &str) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().find_map(|line| {
        let (before, after) = line.split_once(" - cgroup ")?;
        let options = after.split(' ').next_back()?;
        options.split(',').any(|word| word == controller).then(|| PathBuf::from(before.split(' ').nth(4).unwrap()))
    })
}

/// Says so and is false if the controller, or one of its files, is not there.
fn has(controller: &str, file: &str) -> bool {
    let there = mount_of(controller).is_some_and(|mount| file.is_empty() || mount.join(file).exists());
    if !there {
        eprintln!("skipped: this host has no {controller} {file}");
    }
    there
}

/// A control file of a container's group.
fn read(place: &Place, controller: &str, file: &str) -> String {
    let path = mount_of(controller).unwrap().join(place.id("c")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Creates a container with these resources, compares files, and deletes it.
fn lands(resources: Value, files: &[(&str, &str, &str)]) {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    bundle.set("/linux/resources", resources.clone());
    bundle.create("c", &[]).ok();
    for (controller, file, value) in files {
        assert_eq!(read(&place, controller, file), *value, "{file} of {resources}");
    }
    // The process is in its group in every hierarchy.
    let pid = place.state(&place.id("c"))["pid"].to_string();
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let v1 = groups.lines().filter(|line| !line.starts_with("0::"));
    assert!(v1.clone().count() > 0);
    for line in v1 {
        assert!(line.ends_with(&format!(":/{}", place.id("c"))), "{line}");
    }
}

#[test]
fn memory_limits() {
    if !has("memory", "") {
        return;
    }
    lands(
        json!({"memory": {"limit": 67_108_864, "reservation": 33_554_432, "swappiness": 20, "disableOOMKiller": true}}),
        &[
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.swappiness", "20"),
        ],
    );
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864, "disableOOMKiller": true}));
    bundle.create("c", &[]).ok();
    assert!(read(&place, "memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    drop(bundle);
}

#[test]
fn memory_and_swap() {
    if !has("memory", "") {
        return;
    }
    if !mount_of("memory").unwrap().join("memory.memsw.limit_in_bytes").exists() {
        let place = Place::new();
        let mut bundle = place.bundle("true");
        bundle.set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 134_217_728}));
        bundle.run("c").fails_with("/linux/resources/memory/swap");
        return;
    }
    lands(
        json!({"memory": {"limit": 67_108_864, "swap": 134_217_728}}),
        &[("memory", "memory.limit_in_bytes", "67108864"), ("memory", "memory.memsw.limit_in_bytes", "134217728")],
    );
    lands(
        json!({"memory": {"limit": 67_108_864, "swap": 67_108_864}}),
        &[("memory", "memory.memsw.limit_in_bytes", "67108864")],
    );
    lands(json!({"memory": {"limit": 67_108_864, "swap": -1}}), &[("memory", "memory.limit_in_bytes", "67108864")]);
    lands(json!({"memory": {"limit": -1}}), &[("memory", "memory.limit_in_bytes", "9223372036854771712")]);
    // Less memory with swap than without is a contradiction that the kernel refuses.
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.set("/linux/resources/memory", json!({"limit": 67_108_864, "swap": 1_048_576}));
    bundle.run("c").fails_with("/linux/resources/memory/swap");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn cpu_limits() {
    if !has("cpu", "cpu.shares") {
        return;
    }
    lands(
        json!({"cpu": {"shares": 512, "period": 50_000, "quota": 25_000}}),
        &[("cpu", "cpu.shares", "512"), ("cpu", "cpu.cfs_period_us", "50000"), ("cpu", "cpu.cfs_quota_us", "25000")],
    );
    lands(json!({"cpu": {"quota": -1}}), &[("cpu", "cpu.cfs_quota_us", "-1")]);
    if has("cpu", "cpu.cfs_burst_us") {
        lands(
            json!({"cpu": {"period": 100_000, "quota": 50_000, "burst": 10_000}}),
            &[("cpu", "cpu.cfs_burst_us", "10000")],
        );
    }
    if has("cpu", "cpu.idle") {
        lands(json!({"cpu": {"idle": 1}}), &[("cpu", "cpu.idle", "1")]);
    }
}

#[test]
fn realtime_limits() {
    if !has("cpu", "cpu.rt_runtime_us") {
        return;
    }
    let parent: i64 =
        fs::read_to_string(mount_of("cpu").unwrap().join("cpu.rt_runtime_us")).unwrap().trim().parse().unwrap();
    if parent < 10_000 {
        eprintln!("skipped: this host gives no realtime to its groups");
        return;
    }
    lands(
        json!({"cpu": {"realtimePeriod": 500_000, "realtimeRuntime": 5_000}}),
        &[("cpu", "cpu.rt_period_us", "500000"), ("cpu", "cpu.rt_runtime_us", "5000")],
    );
}

#[test]
fn cpu_sets() {
    if !has("cpuset", "cpuset.cpus") {
        return;
    }
    lands(
        json!({"cpu": {"cpus": "0", "mems": "0"}}),
        &[("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0")],
    );
    let place = Place::new();
    let mut bundle = place.bundle("grep Cpus_allowed_list /proc/self/status");
    bundle.set("/linux/resources/cpu", json!({"cpus": "0"}));
    assert_eq!(bundle.run("c").ok().stdout, "Cpus_allowed_list:\t0\n");
    // A path with new parents: each of them has to get processors too.
    bundle.set("/linux/cgroupsPath", json!(format!("/{}/{}", place.id("parent"), place.id("c"))));
    assert_eq!(bundle.run("c").ok().stdout, "Cpus_allowed_list:\t0\n");
    remove_parents(&place);
}

/// The upper part of a cgroupsPath stays: it may have come to be somebody else's too.
fn remove_parents(place: &Place) {
    for parent in harness::cgroups_named(&place.id("parent")) {
        fs::remove_dir(parent).unwrap();
    }
}

#[test]
fn process_limit() {
    if !has("pids", "") {
        return;
    }
    lands(json!({"pids": {"limit": 33}}), &[("pids", "pids.max", "33")]);
    lands(json!({"pids": {"limit": -1}}), &[("pids", "pids.max", "max")]);
    let place = Place::new();
    let mut bundle = place.bundle("for i in 1 2 3 4 5 6; do sleep 1 & done; echo reached");
    bundle.set("/linux/resources/pids", json!({"limit": 4}));
    let done = bundle.run("c");
    assert!(done.code != 0 && !done.stdout.contains("reached") && done.stderr.contains("can't fork"), "{done:?}");
}

#[test]
fn throttles() {
    if !has("blkio", "blkio.throttle.read_bps_device") {
        return;
    }
    // Some disk of this machine.
    let Some(device) = host("cat /sys/block/*/dev").stdout.lines().next().map(str::to_owned) else { return };
    let (major, minor) = device.split_once(':').unwrap();
    let numbers = |rate: u64| json!([{"major": major.parse::<i64>().unwrap(), "minor": minor.parse::<i64>().unwrap(), "rate": rate}]);
    lands(
        json!({"blockIO": {"throttleReadBpsDevice": numbers(1_000_000), "throttleWriteBpsDevice": numbers(2_000_000),
            "throttleReadIOPSDevice": numbers(300), "throttleWriteIOPSDevice": numbers(400)}}),
        &[
            ("blkio", "blkio.throttle.read_bps_device", &format!("{device} 1000000")),
            ("blkio", "blkio.throttle.write_bps_device", &format!("{device} 2000000")),
            ("blkio", "blkio.throttle.read_iops_device", &format!("{device} 300")),
            ("blkio", "blkio.throttle.write_iops_device", &format!("{device} 400")),
        ],
    );
}

#[test]
fn network_and_huge_pages() {
    if has("net_cls", "") {
        lands(json!({"network": {"classID": 1_048_577}}), &[("net_cls", "net_cls.classid", "1048577")]);
    }
    if has("hugetlb", "hugetlb.2MB.limit_in_bytes") {
        lands(
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
            &[("hugetlb", "hugetlb.2MB.limit_in_bytes", "4194304")],
        );
    }
}

#[test]
fn too_much_memory_is_the_end() {
    if !has("memory", "") {
        return;
    }
    let place = Place::new();
    // tail keeps what it has read: an endless line.
    let mut bundle = place.bundle("tail /dev/zero");
    bundle.set("/linux/resources/memory", json!({"limit": 20_971_520}));
    if mount_of("memory").unwrap().join("memory.memsw.limit_in_bytes").exists() {
        bundle.set("/linux/resources/memory/swap", json!(20_971_520));
    }
    assert_eq!(bundle.run("child").code, 137, "the shell says how its child ended");
    bundle.script("exec tail /dev/zero");
    assert_eq!(bundle.run("init").code, 137);
}

#[test]
fn a_memory_limit_that_is_too_small_to_start_is_said() {
    if !has("memory", "") {
        return;
    }
    let place = Place::new();
    for limit in [4096, 65_536] {
        let mut bundle = place.bundle("true");
        bundle.set("/linux/resources/memory", json!({"limit": limit}));
        let done = bundle.run("c");
        // It may just be enough for this program, or the kernel may refuse the limit: all but a
        // silence, a hang, or a rest is fine.
        if done.code != 0 && done.code != 137 {
            assert!(
                done.stderr.lines().count() == 1 && done.stderr.contains("/linux/resources/memory/limit"),
                "{limit}: {done:?}"
            );
        }
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    }
}

/// A container that opens device nodes. It writes to none of them.
fn device_bundle(place: &Place, rules: Value) -> Bundle<'_> {
    let mut bundle = place.bundle(
        "t() { (: <$1) 2>/dev/null && echo $1 yes || echo $1 no; }; w() { (: >$1) 2>/dev/null && echo $1 written || echo $1 refused; }; t /dev/zero; t /dev/kmsg; w /dev/kmsg; w /dev/null; t /dev/urandom",
    );
    bundle.set("/linux/resources/devices", rules);
    // Reading the kernel's log may take this right beside that to the device.
    for set in ["bounding", "permitted", "effective"] {
        bundle.push(&format!("/process/capabilities/{set}"), json!("CAP_SYSLOG"));
    }
    bundle
        .set("/linux/devices", json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]));
    bundle
}

#[test]
fn devices_are_refused_or_allowed() {
    if !has("devices", "") {
        return;
    }
    let place = Place::new();
    let deny = json!({"allow": false, "access": "rwm"});
    for (rules, wanted) in [
        (json!([deny]), "/dev/kmsg no\n/dev/kmsg refused\n"),
        (json!([]), "/dev/kmsg no\n/dev/kmsg refused\n"),
        (
            json!([deny, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]),
            "/dev/kmsg yes\n/dev/kmsg refused\n",
        ),
        (
            json!([deny, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}]),
            "/dev/kmsg yes\n/dev/kmsg refused\n",
        ),
        // Later rules win, so what is denied after all is denied.
        (
            json!([{"allow": true, "type": "c", "major": 1, "minor": -1, "access": "rwm"}, deny]),
            "/dev/kmsg no\n/dev/kmsg refused\n",
        ),
    ] {
        let bundle = device_bundle(&place, rules.clone());
        let text = bundle.run("c").ok().stdout;
        assert_eq!(text, format!("/dev/zero yes\n{wanted}/dev/null written\n/dev/urandom yes\n"), "{rules}");
    }
}

#[test]
fn a_limit_that_the_kernel_cannot_give_is_an_error_that_names_it() {
    let place = Place::new();
    let mut cases = vec![
        (json!({"unified": {"memory.nothing": "1"}}), "/linux/resources/unified/memory.nothing"),
        (json!({"cpu": {"cpus": "9999"}}), "/linux/resources/cpu/cpus"),
        (json!({"cpu": {"period": 5}}), "/linux/resources/cpu/period"),
    ];
    for (controller, resources, pointer) in [
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}), "/linux/resources/hugepageLimits/0"),
        ("net_cls", json!({"network": {"classID": 1}}), "/linux/resources/network/classID"),
        (
            "net_prio",
            json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
            "/linux/resources/network/priorities/0",
        ),
        ("rdma", json!({"rdma": {"mlx5_0": {"hcaHandles": 1}}}), "/linux/resources/rdma/mlx5_0"),
        ("pids", json!({"pids": {"limit": 1}}), "/linux/resources/pids/limit"),
    ] {
        let unified = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
        if mount_of(controller).is_none() && !unified.contains(controller) {
            cases.push((resources, pointer));
        }
    }
    for (resources, pointer) in cases {
        let mut bundle = place.bundle("true");
        bundle.set("/linux/resources", resources);
        bundle.run("c").fails_with(pointer);
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{pointer}");
    }
}

#[test]
fn a_group_that_was_there_before_stays() {
    if !has("pids", "") {
        return;
    }
    let place = Place::new();
    let dir = |name: &str| Path::new(&mount_of("pids").unwrap()).join(place.id(name));
    fs::create_dir(dir("parent")).unwrap();
    let mut bundle = place.bundle("cat /proc/self/cgroup");
    bundle.set("/linux/cgroupsPath", json!(format!("/{}", place.id("parent"))));
    bundle.namespace("cgroup", None);
    let text = bundle.run("c").ok().stdout;
    assert!(text.contains(&format!(":pids:/{}\n", place.id("parent"))), "{text}");
    assert!(dir("parent").is_dir());
    // One that somebody is in keeps others out.
    let mut stranger = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    fs::write(dir("parent").join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let refused = bundle.create("d", &[]);
    let lives = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    refused.fails_with(&format!("cgroup {} is in use", dir("parent").display()));
    assert!(lives, "a process that is not the container's was killed");
    harness::wait_until("an empty group", || {
        fs::read_to_string(dir("parent").join("cgroup.procs")).unwrap().is_empty()
    });
    remove_parents(&place);
}

#[test]
fn a_path_with_dots_stays_below_the_mount() {
    let place = Place::new();
    let mut bundle = place.bundle("cat /proc/self/cgroup");
    bundle.namespace("cgroup", None);
    let name = place.id("c");
    bundle.set("/linux/cgroupsPath", json!(format!("../../../x/../../{name}")));
    let text = bundle.run("c").ok().stdout;
    assert!(text.contains(&format!(":/{name}\n")), "{text}");
    for bad in ["/", "..", "/../.."] {
        bundle.set("/linux/cgroupsPath", json!(bad));
        bundle.run("c").fails_with("/linux/cgroupsPath");
    }
}

#[test]
fn groups_are_removed_after_every_end() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    for _ in 0..20 {
        bundle.create("c", &[]).ok();
        assert!(harness::cgroups_named(&place.id("c")).len() > 1);
        place.rt(&["delete", "--force", &place.id("c")]).ok();
        assert_eq!(harness::cgroups_named(&place.id("c")), Vec::<PathBuf>::new());
    }
}

/// A cgroup that was there in one hierarchy alone stays; those that `rt` made beside it go.
#[test]
fn a_cgroup_that_exists_in_one_hierarchy_keeps_no_other_from_being_removed() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    let name = place.id("shared");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
    let before = std::path::Path::new("/sys/fs/cgroup/pids").join(&name);
    std::fs::create_dir(&before).unwrap();
    let done = bundle.run("c");
    let left = harness::cgroups_named(&name);
    std::fs::remove_dir(&before).unwrap();
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_eq!(left, [before]);
}
