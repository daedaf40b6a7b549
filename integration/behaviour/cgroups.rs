//! Limits of a running container: set, read back from the kernel's files, changed, seen in `events`,
//! and enforced. One list for every layout: cgroup v1 or hybrid on the host, v2 and v2 with systemd in
//! the guest, where [`on_v2`] and [`on_v2_with_systemd`] run this very program once more.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::cgroup::{dir_of, has, is_v2, read};
use harness::guest;
use harness::{Bundle, Done, Place};
use serde_json::{Value, json};

const LIMIT: (&str, &str, &str) = ("memory", "memory.limit_in_bytes", "memory.max");
const PIDS: (&str, &str, &str) = ("pids", "pids.max", "pids.max");

/// A container that runs, with these limits.
struct Running<'p> {
    place: &'p Place,
    bundle: Bundle<'p>,
    id: String,
}

impl<'p> Running<'p> {
    fn new(place: &'p Place, script: &str, resources: &Value) -> Running<'p> {
        let mut bundle = place.bundle(script);
        bundle.set("/linux/resources", resources.clone());
        bundle.set("/root/readonly", json!(false));
        Running::start(place, bundle)
    }

    fn start(place: &'p Place, bundle: Bundle<'p>) -> Running<'p> {
        let id = place.id("c");
        bundle.create("c", &[]).ok();
        place.rt(&["start", &id]).ok();
        Running { place, bundle, id }
    }

    fn pid(&self) -> i64 {
        self.place.state(&self.id)["pid"].as_i64().unwrap()
    }

    fn file(&self, file: (&str, &str, &str)) -> String {
        read(self.pid(), file)
    }

    fn update(&self, options: &[&str]) -> Done {
        let mut args = vec!["update"];
        args.extend(options);
        args.push(&self.id);
        self.place.rt(&args)
    }

    /// `rt update --resources -` with this object.
    fn update_with(&self, resources: &Value) -> Done {
        let path = self.place.dir.join("resources.json");
        fs::write(&path, resources.to_string()).unwrap();
        self.update(&["--resources", path.to_str().unwrap()])
    }

    fn exec(&self, script: &str) -> Done {
        self.place.rt(&["exec", &self.id, "sh", "-c", script])
    }

    fn stats(&self) -> Value {
        let text = self.place.rt(&["events", "--stats", &self.id]).ok().stdout;
        serde_json::from_str::<Value>(&text).unwrap()["data"].clone()
    }
}

#[test]
fn memory_is_limited_and_its_end_is_told() {
    if !has("memory") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({"memory": {"limit": 67_108_864}}));
    assert_eq!(it.file(LIMIT), "67108864");
    assert_eq!(it.stats()["memory"]["usage"]["limit"], 67_108_864);
    it.update(&["--memory", "16M"]).ok();
    assert_eq!(it.file(LIMIT), "16777216");
    assert_eq!(it.stats()["memory"]["usage"]["limit"], 16_777_216);

    let events = place.dir.join("events");
    let mut watcher = place
        .command(&["events", "--interval", "200ms", &it.id])
        .stdout(fs::File::create(&events).unwrap())
        .spawn()
        .unwrap();
    // At least one print says that it watches.
    harness::wait_until("statistics", || fs::read_to_string(&events).unwrap().contains("stats"));
    let hog = it.exec("x=aaaaaaaa; while true; do x=$x$x; done");
    assert_eq!(hog.code, 137, "{hog:?}");
    harness::wait_until("a notice", || fs::read_to_string(&events).unwrap().contains("\"oom\""));
    place.rt(&["delete", "--force", &it.id]).ok();
    assert!(watcher.wait().unwrap().success());
    let text = fs::read_to_string(&events).unwrap();
    let kinds: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert!(kinds.iter().all(|event| event["id"] == it.id.as_str()));
    assert_eq!(kinds.iter().filter(|event| event["type"] == "oom").count(), 1, "{text}");
}

#[test]
fn a_container_over_its_memory_limit_is_killed() {
    if !has("memory") {
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("x=aaaaaaaa; while true; do x=$x$x; done");
    bundle.set("/linux/resources", json!({"memory": {"limit": 16_777_216}}));
    let done = bundle.run("c");
    assert_eq!(done.code, 137, "{done:?}");
}

#[test]
fn memory_and_swap_change_together_in_both_directions() {
    if !has("memory") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({"memory": {"limit": 33_554_432}}));
    let swap = ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    let dir = dir_of(it.pid(), "memory");
    if !["memory.memsw.limit_in_bytes", "memory.swap.max"].iter().any(|file| dir.join(file).exists()) {
        return;
    }
    for (limit, both) in [(67_108_864_u64, 134_217_728_u64), (268_435_456, 536_870_912), (33_554_432, 33_554_432)] {
        it.update_with(&json!({"memory": {"limit": limit, "swap": both}})).ok();
        assert_eq!(it.file(LIMIT), limit.to_string());
        // v2 counts swap alone.
        let expected = if harness::cgroup::mount_of("memory").is_some() { both } else { both - limit };
        assert_eq!(it.file(swap), expected.to_string());
    }
    // Swap alone: the memory limit is the kernel's.
    it.update(&["--memory-swap", "64M"]).ok();
    assert_eq!(it.file(LIMIT), "33554432");
    it.update(&["--memory-swap", "16M"]).fails_with("/memory/swap");
    it.update(&["--memory", "lots"]).fails_with("--memory \"lots\"");
    // Less than is used, when asked not to.
    it.update_with(&json!({"memory": {"limit": 4096, "swap": 8192, "checkBeforeUpdate": true}}))
        .fails_with("is below the");
    assert_eq!(it.file(LIMIT), "33554432");
}

#[test]
fn a_fork_over_the_limit_of_processes_fails() {
    if !has("pids") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({"pids": {"limit": 20}}));
    assert_eq!(it.file(PIDS), "20");
    it.update(&["--pids-limit", "6"]).ok();
    assert_eq!(it.file(PIDS), "6");
    let stats = it.stats();
    assert_eq!((stats["pids"]["limit"].as_i64(), stats["pids"]["current"].as_i64()), (Some(6), Some(1)));
    let done = it.exec("for n in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo all");
    assert!(done.code != 0 && done.stderr.contains("fork"), "{done:?}");
    it.update(&["--pids-limit", "-1"]).ok();
    assert_eq!(it.file(PIDS), "max");
    it.exec("for n in 1 2 3 4 5 6 7 8; do sleep 0 & done; wait").ok();
}

#[test]
fn a_quota_slows_by_its_ratio() {
    if !has("cpu") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "while true; do :; done", &json!({"cpu": {"quota": 20_000, "period": 100_000}}));
    let used = || it.stats()["cpu"]["usage"]["total"].as_u64().unwrap() as f64 / 1e9;
    let share = |seconds: f64| {
        let (start, before) = (Instant::now(), used());
        std::thread::sleep(Duration::from_secs_f64(seconds));
        (used() - before) / start.elapsed().as_secs_f64()
    };
    let slow = share(2.0);
    assert!(slow < 0.30, "with a quota of 0.2 it used {slow}");
    assert!(it.stats()["cpu"]["throttling"]["throttledPeriods"].as_u64().unwrap_or(0) > 5);
    it.update(&["--cpu-quota", "-1"]).ok();
    let quota = it.file(("cpu", "cpu.cfs_quota_us", "cpu.max"));
    assert!(quota == "-1" || quota == "max 100000", "{quota}");
    let fast = share(2.0);
    assert!(fast > slow * 1.5, "with the quota {slow}, without {fast}");
}

#[test]
fn parts_of_the_cpu_limits_change_alone() {
    if !has("cpu") {
        return;
    }
    let place = Place::new();
    let it =
        Running::new(&place, "exec sleep 100", &json!({"cpu": {"shares": 2048, "quota": 50_000, "period": 100_000}}));
    let shares = ("cpu", "cpu.shares", "cpu.weight");
    let quota = |it: &Running<'_>| {
        if harness::cgroup::mount_of("cpu").is_some() {
            let part = |file| it.file(("cpu", file, ""));
            format!("{} {}", part("cpu.cfs_quota_us"), part("cpu.cfs_period_us"))
        } else {
            it.file(("cpu", "", "cpu.max"))
        }
    };
    let v2 = harness::cgroup::mount_of("cpu").is_none();
    assert_eq!(it.file(shares), if v2 { "174" } else { "2048" });
    assert_eq!(quota(&it), "50000 100000");
    it.update(&["--cpu-period", "50000"]).ok();
    assert_eq!(quota(&it), "50000 50000");
    it.update(&["--cpu-quota", "25000"]).ok();
    assert_eq!(quota(&it), "25000 50000");
    it.update(&["--cpu-share", "1024"]).ok();
    assert_eq!(it.file(shares), if v2 { "100" } else { "1024" });
    assert_eq!(quota(&it), "25000 50000");
    if dir_of(it.pid(), "cpu").join("cpu.idle").exists() {
        it.update(&["--cpu-idle", "1"]).ok();
        assert_eq!(it.file(("cpu", "cpu.idle", "cpu.idle")), "1");
        it.update(&["--cpu-idle", "2"]).fails_with("/cpu/idle");
    }
    let burst = ("cpu", "cpu.cfs_burst_us", "cpu.max.burst");
    if dir_of(it.pid(), "cpu").join(if v2 { burst.2 } else { burst.1 }).exists() {
        it.update(&["--cpu-burst", "10000"]).ok();
        assert_eq!(it.file(burst), "10000");
        // A smaller quota together with a smaller burst: one order alone works.
        it.update_with(&json!({"cpu": {"quota": 5000, "burst": 2000}})).ok();
        assert_eq!((it.file(burst), quota(&it)), ("2000".to_owned(), "5000 50000".to_owned()));
    }
}

#[test]
fn cpus_can_be_chosen() {
    if !has("cpuset") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({"cpu": {"cpus": "0"}}));
    assert_eq!(it.exec("grep Cpus_allowed_list /proc/self/status").ok().stdout, "Cpus_allowed_list:\t0\n");
    it.update(&["--cpuset-cpus", "0-1"]).ok();
    assert_eq!(it.file(("cpuset", "cpuset.cpus", "cpuset.cpus")), "0-1");
    it.update(&["--cpuset-cpus", "0-9999"]).fails_with("/cpu/cpus");
    it.update(&["--cpuset-cpus", "1,"]).fails_with("/cpu/cpus");
}

/// A block device of this machine, as `major:minor`.
fn disk() -> Option<String> {
    let entries = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = entries.map(|entry| fs::read_to_string(entry.path().join("dev")).unwrap_or_default());
    numbers.map(|text| text.trim().to_owned()).find(|text| !text.is_empty() && !text.starts_with("7:"))
}

#[test]
fn block_io_is_throttled_by_device() {
    let Some(disk) = disk().filter(|_| has("blkio")) else { return };
    let (major, minor) = disk.split_once(':').unwrap();
    let device = |rate: u64| json!([{"major": major.parse::<u64>().unwrap(), "minor": minor.parse::<u64>().unwrap(), "rate": rate}]);
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({"blockIO": {"throttleWriteBpsDevice": device(1_048_576)}}));
    let file = ("blkio", "blkio.throttle.write_bps_device", "io.max");
    let lines = it.file(file);
    assert!(lines.contains(&format!("{disk} ")) && lines.contains("1048576"), "{lines}");
    it.update_with(&json!({"blockIO": {"throttleWriteBpsDevice": device(2_097_152)}})).ok();
    assert!(it.file(file).contains("2097152"));
    // 0 takes it off.
    it.update_with(&json!({"blockIO": {"throttleWriteBpsDevice": device(0)}})).ok();
    assert_eq!(it.file(file), "");
    it.update_with(&json!({"blockIO": {"throttleReadIOPSDevice": [{"major": 9999, "minor": 1, "rate": 5}]}}))
        .fails_with("/blockIO/throttleReadIOPSDevice/0");
}

#[test]
fn huge_pages_are_limited_where_the_kernel_counts_them() {
    if !has("hugetlb") || !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        return;
    }
    let place = Place::new();
    let it =
        Running::new(&place, "exec sleep 100", &json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}));
    assert_eq!(it.file(("hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max")), "4194304");
    assert!(it.stats()["hugetlb"]["2MB"].is_object());
}

fn device_bundle<'p>(place: &'p Place, script: &str, rules: Value) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/linux/resources", json!({"devices": rules}));
    bundle.set("/root/readonly", json!(false));
    let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    bundle.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    bundle
}

/// Nodes without a driver: who may use one is told "No such device", who may not is not told.
#[test]
fn a_denied_device_cannot_be_opened_and_an_allowed_one_can() {
    let place = Place::new();
    let script = "mknod /dev/a c 240 7; mknod /dev/b b 240 7; for d in a b zero null; do for m in '<' '>'; do \
        if sh -c \": $m /dev/$d\" 2>/tmp/e; then echo $d $m opens; else sed -n \"s,.*: ,$d $m ,p\" /tmp/e; fi; done; done";
    let deny = json!({"allow": false, "access": "rwm"});
    let rule = |kind: &str, minor: Value, access: &str| json!({"allow": true, "type": kind, "major": 240, "minor": minor, "access": access});
    let (no, none) = ("Operation not permitted", "No such device or address");
    for (rules, [read_a, write_a, read_b]) in [
        (json!([deny]), [no, no, no]),
        (json!([deny, rule("c", json!(7), "rw")]), [none, none, no]),
        (json!([deny, rule("c", json!(7), "r")]), [none, no, no]),
        (json!([rule("c", json!(7), "r"), rule("c", json!(7), "w")]), [none, none, no]),
        (json!([deny, rule("b", json!(-1), "rwm")]), [no, no, none]),
        (json!([deny, rule("a", Value::Null, "wmr")]), [none, none, none]),
        (json!([deny, {"allow": true, "access": "rwm"}]), [none, none, none]),
        (json!([rule("c", json!(8), "rwm"), rule("c", json!(7), "m")]), [no, no, no]),
        (
            json!([rule("c", json!(7), "rwm"), {"allow": false, "type": "c", "major": 240, "minor": 7, "access": "w"}]),
            [none, no, no],
        ),
    ] {
        let text = device_bundle(&place, script, rules.clone()).run("c").ok().stdout;
        let wanted = format!(
            "a < {read_a}\na > {write_a}\nb < {read_b}\nb > {read_b}\nzero < opens\nzero > opens\nnull < opens\nnull > opens\n"
        );
        assert_eq!(text, wanted, "{rules}");
    }
}

#[test]
fn devices_change_without_a_gap() {
    let place = Place::new();
    let script = "mknod /dev/a c 240 7; while :; do : < /dev/zero || exit 9; : < /dev/null || exit 8; done";
    let bundle = device_bundle(&place, script, json!([{"allow": false, "access": "rwm"}]));
    let it = Running::start(&place, bundle);
    let is_denied = || it.exec("(: < /dev/a) 2>&1").stdout.contains("not permitted");
    harness::wait_until("the node", || it.exec("test -e /dev/a").code == 0);
    let allow = json!({"devices": [{"allow": true, "type": "c", "major": 240, "minor": 7, "access": "r"}]});
    let deny = json!({"devices": [{"allow": false, "access": "rwm"}]});
    for _ in 0..10 {
        assert!(is_denied());
        it.update_with(&allow).ok();
        assert!(!is_denied());
        it.update_with(&deny).ok();
    }
    // The default ones were never denied.
    assert_eq!(place.state(&it.id)["status"], "running");
    // Another limit leaves them alone.
    it.update_with(&allow).ok();
    if has("pids") {
        it.update(&["--pids-limit", "99"]).ok();
    }
    assert!(!is_denied());
}

#[test]
fn what_cannot_be_set_changes_nothing() {
    if !has("memory") || !has("pids") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 30}}));
    it.update_with(&json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 10}, "cpu": {"period": 5}}))
        .fails_with("/cpu");
    assert_eq!((it.file(LIMIT), it.file(PIDS)), ("67108864".to_owned(), "30".to_owned()));
    for (bad, words) in [
        (json!({"memory": {"limit": "much"}}), "/memory/limit: must be a whole number"),
        (json!({"memory": {"limit": -2}}), "/memory/limit"),
        (json!({"pids": []}), "/pids: must be an object"),
        (json!([]), "must be an object"),
        (json!({"blockIO": {"weight": 5}}), "/blockIO/weight"),
        (json!({"cpu": {"cpus": "a-b"}}), "/cpu/cpus"),
    ] {
        it.update_with(&bad).fails_with(words);
    }
    // Nothing to change is no error: engines send empty objects.
    it.update(&[]).ok();
    it.update_with(&json!({})).ok();
    it.update(&["--l3-cache-schema", "L3:0=f", "--pids-limit", "7"]).fails_with("no resctrl group");
    it.update(&["--resources", "/nonexistent"]).fails_with("no such file or directory");
    assert_eq!((it.file(LIMIT), it.file(PIDS)), ("67108864".to_owned(), "30".to_owned()));
    place.rt(&["update", "--pids-limit", "1", "nobody"]).fails_with("does not exist");
    place.rt(&["kill", &it.id, "KILL"]).ok();
    place.wait_for(&it.id, "stopped");
    it.update(&["--pids-limit", "9"]).fails_with("container not running");
}

/// Files that hold more than the one value are put back as well.
#[test]
fn what_was_set_before_a_failure_is_taken_back() {
    if harness::cgroup::mount_of("memory").is_none() || !has("cpu") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({}));
    let control = || it.file(("memory", "memory.oom_control", ""));
    it.update_with(&json!({"memory": {"disableOOMKiller": true}, "cpu": {"quota": 5}})).fails_with("/cpu");
    assert!(control().starts_with("oom_kill_disable 0"), "{}", control());
    it.update_with(&json!({"memory": {"disableOOMKiller": true}})).ok();
    assert!(control().starts_with("oom_kill_disable 1"));
    it.update_with(&json!({"memory": {"disableOOMKiller": false}})).ok();
    assert!(control().starts_with("oom_kill_disable 0"));
}

/// What engines send for privileged containers with every change.
#[test]
fn a_container_that_may_use_everything_loses_nothing_for_a_moment() {
    let place = Place::new();
    let all = json!([{"allow": true, "access": "rwm"}]);
    let script = "while :; do : < /dev/zero || exit 9; : < /dev/null || exit 8; done";
    let it = Running::start(&place, device_bundle(&place, script, all.clone()));
    if let Some(mount) = harness::cgroup::mount_of("devices").filter(|_| !harness::systemd()) {
        // One below would refuse "deny all".
        fs::create_dir(mount.join(&it.id).join("kid")).unwrap();
    }
    for limit in 0..20 {
        let mut resources = json!({"devices": all});
        if has("pids") {
            resources["pids"] = json!({"limit": 70 + limit});
        }
        it.update_with(&resources).ok();
    }
    assert_eq!(place.state(&it.id)["status"], "running");
}

#[test]
fn standard_input_gives_limits_as_engines_send_them() {
    if !has("memory") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({}));
    let mut command = place.command(&["update", "--resources", "-", &it.id]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    use std::io::Write;
    let text = r#"{"memory":{"limit":134217728,"swap":268435456},"cpu":{"quota":25000,"period":100000},"blockIO":{"weight":0}}"#;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    harness::finish(child).ok();
    assert_eq!(it.file(LIMIT), "134217728");
}

#[test]
fn paused_processes_stand_still() {
    let place = Place::new();
    let it = Running::new(&place, "n=0; while :; do n=$((n+1)); echo $n > /tmp/n; done", &json!({}));
    let bundle = &it.bundle;
    let count = || fs::read_to_string(bundle.rootfs("/tmp/n")).unwrap_or_default();
    harness::wait_until("work", || !count().is_empty());
    place.rt(&["resume", &it.id]).fails_with("container not paused");
    place.rt(&["pause", &it.id]).ok();
    assert_eq!(place.state(&it.id)["status"], "paused");
    place.rt(&["pause", &it.id]).fails_with("container not running");
    let before = count();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(count(), before);
    it.exec("true").clone_code(255, "cannot exec in a paused container");
    place.rt(&["start", &it.id]).fails_with("cannot start an already running container");
    place.rt(&["delete", &it.id]).fails_with("not stopped: paused");
    place.rt(&["resume", &it.id]).ok();
    assert_eq!(place.state(&it.id)["status"], "running");
    harness::wait_until("work again", || count() != before && !count().is_empty());
    // A paused one dies all the same.
    place.rt(&["pause", &it.id]).ok();
    place.rt(&["kill", &it.id, "KILL"]).ok();
    place.wait_for(&it.id, "stopped");
    place.rt(&["pause", &it.id]).fails_with("container not running");
    place.rt(&["delete", &it.id]).ok();
    // Created ones can be paused as well, and go on waiting for start.
    let bundle = place.bundle("exec sleep 100");
    bundle.create("c", &[]).ok();
    place.rt(&["pause", &it.id]).ok();
    assert_eq!(place.state(&it.id)["status"], "paused");
    place.rt(&["start", &it.id]).fails_with("cannot start a paused container");
    place.rt(&["resume", &it.id]).ok();
    assert_eq!(place.state(&it.id)["status"], "created");
    place.rt(&["start", &it.id]).ok();
    // Or are forced away.
    place.rt(&["pause", &it.id]).ok();
    place.rt(&["delete", "--force", &it.id]).ok();
}

/// Exit status and words of a command that passes a program's status on.
trait Code {
    fn clone_code(self, code: i32, words: &str);
}

impl Code for Done {
    #[track_caller]
    fn clone_code(self, code: i32, words: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(words), "{}", self.stderr);
    }
}

#[test]
fn without_a_pid_namespace_all_are_killed() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "(while :; do sleep 1 & done) 2>/dev/null & for n in 1 2 3 4 5; do setsid sleep 100 & done; sleep 2; exit 3",
    );
    bundle.namespace("pid", None);
    if has("pids") {
        bundle.set("/linux/resources/pids", json!({"limit": 40}));
    }
    let it = Running::start(&place, bundle);
    let pid = it.pid();
    let dir = dir_of(pid, "pids");
    place.wait_for(&it.id, "stopped");
    let left = || fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines().count();
    assert!(left() >= 5, "{}", left());
    // What is left of it is listed.
    let listed = place.rt(&["ps", "--format", "json", &it.id]).ok().stdout;
    assert!(serde_json::from_str::<Vec<i64>>(&listed).unwrap().len() >= 5, "{listed}");
    place.rt(&["kill", "--all", &it.id, "9"]).ok();
    harness::wait_until("an empty cgroup", || left() == 0);
    // Again: nothing is there, and that is no error.
    place.rt(&["kill", "--all", &it.id, "9"]).ok();
    place.rt(&["delete", &it.id]).ok();
    assert!(!dir.exists());
}

/// A directory that was there before is not removed, but what runs in it is the container's.
#[test]
fn in_a_cgroup_of_others_all_processes_are_killed_as_well() {
    if harness::systemd() {
        return;
    }
    let place = Place::new();
    let mut mounts: Vec<_> =
        ["cpu", "cpuset", "memory", "pids", "freezer", "devices", "blkio", "cpuacct", "name=systemd"]
            .iter()
            .filter_map(|controller| harness::cgroup::mount_of(controller))
            .collect();
    if is_v2() {
        mounts = vec!["/sys/fs/cgroup".into()];
    }
    mounts.dedup();
    let parents: Vec<_> = mounts.iter().map(|mount| mount.join(place.id("parent"))).collect();
    for dir in &parents {
        fs::create_dir(dir).unwrap();
    }
    let mut bundle = place.bundle("sleep 1000 & setsid sleep 1001 & exec sleep 1002");
    bundle.namespace("pid", None);
    bundle.set("/linux/cgroupsPath", json!(format!("/{}", place.id("parent"))));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let it = Running::start(&place, bundle);
        let count = || fs::read_to_string(parents[0].join("cgroup.procs")).unwrap().lines().count();
        harness::wait_until("three processes", || count() == 3);
        // Below may be somebody else's.
        let mut stranger = Command::new("sleep").arg("100").spawn().unwrap();
        let below = (!is_v2()).then(|| parents[0].join("kid"));
        if let Some(dir) = &below {
            fs::create_dir(dir).unwrap();
            let _ = fs::write(dir.join("cgroup.procs"), stranger.id().to_string());
        }
        place.rt(&["kill", "--all", &it.id, "9"]).ok();
        place.wait_for(&it.id, "stopped");
        harness::wait_until("no process", || count() == 0);
        place.rt(&["delete", "--force", &it.id]).ok();
        let lives = stranger.try_wait().unwrap().is_none();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        if let Some(dir) = &below {
            harness::wait_until("an empty group", || fs::remove_dir(dir).is_ok());
        }
        assert!(lives, "a process below was killed");
        assert!(parents.iter().all(|dir| dir.is_dir()), "a cgroup that was there before was removed");
    }));
    for dir in &parents {
        let _ = fs::remove_dir(dir);
    }
    outcome.unwrap();
}

/// Deeper than any path can say.
#[test]
fn deep_cgroups_are_killed_and_removed() {
    if harness::systemd() || !is_v2() && !has("cpu") {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({}));
    let name = "d".repeat(250);
    let dir = dir_of(it.pid(), "cpu");
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at = open(&dir, flags, Mode::empty()).unwrap();
    for _ in 0..20 {
        mkdirat(&at, &*name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, &*name, flags, Mode::empty()).unwrap();
    }
    let mut deep = Command::new("sleep").arg("1000").spawn().unwrap();
    let procs = openat(&at, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    rustix::io::write(&procs, deep.id().to_string().as_bytes()).unwrap();
    let listed = place.rt(&["ps", "--format", "json", &it.id]).ok().stdout;
    let pids: Vec<i64> = serde_json::from_str(&listed).unwrap();
    assert_eq!(pids.len(), 2, "{listed}");
    place.rt(&["delete", "--force", &it.id]).ok();
    assert!(!dir.exists());
    assert!(deep.try_wait().unwrap().is_some(), "the process deep down lives");
}

#[test]
fn a_cgroup_that_is_in_use_or_frozen_is_refused_before_anything_is_made() {
    if harness::systemd() {
        return;
    }
    let place = Place::new();
    let name = place.id("c");
    let first = place.bundle("exec sleep 100");
    first.create("c", &[]).ok();
    let pid = place.state(&name)["pid"].as_i64().unwrap();
    let dir = dir_of(pid, "pids");
    let mut second = place.bundle("true");
    second.set("/linux/cgroupsPath", json!(format!("/{name}")));
    let before = harness::cgroups_named(&place.id(""));
    second.create("d", &[]).fails_with(&format!("/{name} is in use"));
    assert_eq!(harness::cgroups_named(&place.id("")), before);
    assert_eq!(fs::read_dir(&place.root).unwrap().count(), 1);
    place.rt(&["delete", "--force", &name]).ok();

    // An empty one that somebody has frozen.
    let dir = dir.parent().unwrap().parent().map_or(dir.clone(), |_| dir.clone());
    let (frozen, file, word, back) = if is_v2() {
        (dir, "cgroup.freeze", "1", "0")
    } else {
        (harness::cgroup::mount_of("freezer").unwrap().join(&name), "freezer.state", "FROZEN", "THAWED")
    };
    fs::create_dir(&frozen).unwrap();
    fs::write(frozen.join(file), word).unwrap();
    let refused = second.create("d", &[]);
    fs::write(frozen.join(file), back).unwrap();
    fs::remove_dir(&frozen).unwrap();
    refused.fails_with(&format!("cgroup {} is frozen", frozen.display()));
}

#[test]
fn paths_of_every_form() {
    if harness::systemd() {
        return;
    }
    let place = Place::new();
    for (path, wanted) in [
        (format!("/{}/a/b", place.id("p")), format!("/{}/a/b", place.id("p"))),
        (format!("{}/relative", place.id("p")), format!("/{}/relative", place.id("p"))),
        (format!("/x/../{}/./c", place.id("p")), format!("/{}/c", place.id("p"))),
        (String::new(), format!("/{}", place.id("c"))),
    ] {
        let mut bundle = place.bundle("cat /proc/self/cgroup");
        bundle.namespace("cgroup", None);
        bundle.set("/linux/cgroupsPath", json!(path));
        let text = bundle.run("c").ok().stdout;
        assert!(text.lines().any(|line| line.ends_with(&format!(":{wanted}"))), "{path}: {text}");
    }
    // Parents stay: they may be another container's as well. Here they are this test's.
    for dir in harness::cgroups_named(&place.id("p")) {
        for child in ["a", ""] {
            let _ = fs::remove_dir(dir.join(child));
        }
    }
}

#[test]
fn children_that_the_container_made_go_with_it() {
    let place = Place::new();
    let mount = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let mut bundle =
        place.bundle(&format!("mkdir {mount}/a {mount}/a/b && echo $$ > {mount}/a/b/cgroup.procs && exec sleep 100"));
    bundle.set("/root/readonly", json!(false));
    for entry in bundle.config["mounts"].as_array_mut().unwrap() {
        if entry["type"] == "cgroup" {
            entry["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
        }
    }
    if !is_v2() && !has("pids") {
        return;
    }
    let it = Running::start(&place, bundle);
    let pid = it.pid();
    let at = |text: String| text.lines().any(|line| line.ends_with("/a/b"));
    harness::wait_until("the move", || at(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap()));
    // The container's cgroup is seen from its own root inside.
    assert!(
        it.exec("cat /proc/self/cgroup").ok().stdout.lines().any(|line| line.ends_with(":/") || line.ends_with("/a/b"))
    );
    let listed: Vec<i64> = serde_json::from_str(&place.rt(&["ps", "-f", "json", &it.id]).ok().stdout).unwrap();
    assert_eq!(listed, [pid]);
    let below = |path: &str| if is_v2() { path.to_owned() } else { format!("pids:{path}") };
    place.rt(&["exec", "--cgroup", &below("a/b"), &it.id, "cat", "/proc/self/cgroup"]).ok();
    let in_b = place.rt(&["exec", "--cgroup", &below("../../a/b"), &it.id, "cat", "/proc/self/cgroup"]).ok().stdout;
    assert!(at(in_b.clone()), "{in_b}");
    place.rt(&["exec", "--cgroup", "nothing", &it.id, "true"]).clone_code(255, "there is no cgroup");
    place.rt(&["kill", &it.id, "KILL"]).ok();
    place.wait_for(&it.id, "stopped");
    place.rt(&["delete", &it.id]).ok();
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn on_v2_exec_follows_init_out_of_a_cgroup_that_cannot_hold_processes() {
    if !is_v2() || !has("pids") {
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle(
        "mkdir /sys/fs/cgroup/leaf && echo $$ > /sys/fs/cgroup/leaf/cgroup.procs && \
         echo +pids > /sys/fs/cgroup/cgroup.subtree_control && touch /tmp/ready && exec sleep 100",
    );
    bundle.set("/root/readonly", json!(false));
    for entry in bundle.config["mounts"].as_array_mut().unwrap() {
        if entry["type"] == "cgroup" {
            entry["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
        }
    }
    let it = Running::start(&place, bundle);
    harness::wait_until("the move", || it.bundle.rootfs("/tmp/ready").exists());
    assert_eq!(it.exec("cat /proc/self/cgroup").ok().stdout, "0::/leaf\n");
}

#[test]
fn unified_values_go_to_their_files_as_they_stand() {
    if !is_v2() {
        return;
    }
    let place = Place::new();
    let it = Running::new(
        &place,
        "exec sleep 100",
        &json!({"unified": {"memory.high": "50331648", "memory.low": "4096", "pids.max": "77", "cpu.weight": "55",
            "cgroup.max.depth": "3"}}),
    );
    for (file, value) in [
        ("memory.high", "50331648"),
        ("memory.low", "4096"),
        ("pids.max", "77"),
        ("cpu.weight", "55"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(it.file(("memory", "", file)), value, "{file}");
    }
    it.update_with(&json!({"unified": {"memory.high": "max"}})).ok();
    assert_eq!(it.file(("memory", "", "memory.high")), "max");
    for (key, value, words) in [
        ("memory.nothing", "1", "this kernel has no memory.nothing"),
        ("memory.max", "much", "/unified/memory.max: writing \"much\""),
        ("nothing.max", "1", "no nothing cgroup controller"),
        ("../cgroup.procs", "1", "/unified/..~1cgroup.procs"),
        ("memory", "1", "must be the name of a control file"),
    ] {
        it.update_with(&json!({"unified": {key: value}})).fails_with(words);
        let mut bundle = place.bundle("true");
        bundle.set("/linux/resources/unified", json!({key: value}));
        bundle.run("d").fails_with(words);
    }
}

#[test]
fn on_a_hybrid_host_v2_is_used_for_what_is_only_there() {
    // systemd puts its units into all hierarchies that it knows.
    if is_v2() || !Path::new("/sys/fs/cgroup/unified").exists() || harness::systemd() {
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("cat /proc/self/cgroup");
    bundle.namespace("cgroup", None);
    let unified = |text: String| text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned)).unwrap();
    let name = place.id("c");
    assert!(!unified(bundle.run("c").ok().stdout).contains(&name));
    bundle.set("/linux/resources/unified", json!({"cgroup.max.descendants": "5"}));
    assert_eq!(unified(bundle.run("c").ok().stdout), format!("/{name}"));
    let it = Running::start(&place, bundle);
    drop(it);
}

#[test]
fn why_a_v2_cgroup_does_not_serve_is_said() {
    if !is_v2() || harness::systemd() {
        return;
    }
    let place = Place::new();
    let parent = Path::new("/sys/fs/cgroup").join(place.id("parent"));
    fs::create_dir(&parent).unwrap();
    let mut stranger = Command::new("sleep").arg("100").spawn().unwrap();
    fs::write(parent.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let mut bundle = place.bundle("true");
    bundle.set("/linux/cgroupsPath", json!(format!("/{}/c", place.id("parent"))));
    let free = bundle.run("c");
    bundle.set("/linux/resources", json!({"memory": {"limit": 33_554_432}}));
    let busy = bundle.run("c");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    harness::wait_until("an empty group", || fs::read_to_string(parent.join("cgroup.procs")).unwrap().is_empty());
    // A threaded cgroup holds threads, not containers.
    fs::create_dir(parent.join("threads")).unwrap();
    fs::write(parent.join("threads/cgroup.type"), "threaded").unwrap();
    bundle.set("/linux/resources", json!({}));
    let threaded = bundle.run("c");
    fs::remove_dir(parent.join("threads")).unwrap();
    fs::remove_dir(&parent).unwrap();
    free.ok();
    busy.fails_with("does not hand the memory controller down: processes live in it");
    assert!(
        threaded.code == 1 && threaded.stderr.contains("takes no process") && threaded.stderr.contains("domain"),
        "{threaded:?}"
    );
}

#[test]
fn a_cgroup_is_given_to_the_containers_user_where_it_may_write_there() {
    if !is_v2() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    for (option, wanted) in [("rw", 100_000), ("ro", 0)] {
        let mut bundle = place.bundle("mkdir /sys/fs/cgroup/own && echo made; exec sleep 100");
        bundle.with_user_namespace();
        for entry in bundle.config["mounts"].as_array_mut().unwrap() {
            if entry["type"] == "cgroup" {
                entry["options"] = json!(["nosuid", "noexec", "nodev", "relatime", option]);
            }
        }
        let it = Running::start(&place, bundle);
        let dir = dir_of(it.pid(), "pids");
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            assert_eq!(fs::metadata(dir.join(file)).unwrap().uid(), wanted, "{option} {file}");
        }
        // Not what would let it raise its own limits.
        for file in ["memory.max", "pids.max", "cgroup.freeze"] {
            assert_eq!(fs::metadata(dir.join(file)).unwrap().uid(), 0, "{option} {file}");
        }
        if option == "rw" {
            harness::wait_until("a cgroup of its own", || it.bundle.output() == "made\n");
        }
        place.rt(&["delete", "--force", &it.id]).ok();
    }
}

#[test]
fn a_user_namespace_without_a_cgroup_namespace_sees_cgroups_read_only() {
    let place = Place::new();
    let file = if is_v2() { "cgroup.procs" } else { "pids/cgroup.procs" };
    if !is_v2() && !has("pids") {
        return;
    }
    let mut bundle = place.bundle(&format!(
        "test -e /sys/fs/cgroup/{file} && echo there; (echo 1 > /sys/fs/cgroup/{file}) 2>&1 | sed 's/.*: //'"
    ));
    bundle.with_user_namespace();
    bundle.namespace("cgroup", None);
    assert_eq!(bundle.run("c").ok().stdout, "there\nRead-only file system\n");
}

#[test]
fn statistics_have_every_field_of_runcs() {
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({}));
    let ours: Value = serde_json::from_str(&place.rt(&["events", "--stats", &it.id]).ok().stdout).unwrap();
    if harness::systemd() || Command::new("runc").arg("--version").output().is_err() {
        return;
    }
    let (root, id) = (place.dir.join("runc"), place.id("runc"));
    let run = |args: &[&str]| {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&root).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        harness::finish(command.spawn().unwrap())
    };
    let created = Command::new("runc")
        .arg("--root")
        .arg(&root)
        .args(["run", "--detach", "--bundle", it.bundle.path(), &id])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let stats = run(&["events", "--stats", &id]);
    run(&["delete", "--force", &id]);
    assert!(created.success());
    let theirs: Value = serde_json::from_str(&stats.ok().stdout).unwrap();
    // A field of zero is left out by both, so only the shape of what may not be zero is compared.
    fn missing(theirs: &Value, ours: &Value, at: &str, found: &mut Vec<String>) {
        let Some(fields) = theirs.as_object() else { return };
        for (name, value) in fields {
            let here = format!("{at}/{name}");
            match ours.get(name) {
                Some(inner) => missing(value, inner, &here, found),
                // Which devices were read from is chance.
                None if here.starts_with("/data/blkio/") => {}
                None if value.is_number() && ["usage", "max", "cache", "periods"].contains(&name.as_str()) => {}
                None => found.push(here),
            }
        }
    }
    let mut found = Vec::new();
    missing(&theirs, &ours, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
    // Of the raw figures of memory and the limits, none is another.
    assert_eq!(ours["data"]["memory"]["usage"]["limit"], theirs["data"]["memory"]["usage"]["limit"]);
    assert_eq!(ours["data"]["cpuset"], theirs["data"]["cpuset"]);
}

#[test]
fn events_of_what_does_not_run() {
    let place = Place::new();
    place.rt(&["events", "--stats", "nobody"]).fails_with("does not exist");
    let it = Running::new(&place, "exec sleep 100", &json!({}));
    for bad in ["0s", "5", "-1s", "soon"] {
        place.rt(&["events", &format!("--interval={bad}"), &it.id]).fails_with("--interval");
    }
    place.rt(&["kill", &it.id, "KILL"]).ok();
    place.wait_for(&it.id, "stopped");
    place.rt(&["events", &it.id]).fails_with("is not running");
}

#[test]
fn the_list_names_owner_and_time() {
    let place = Place::new();
    let it = Running::new(&place, "exec sleep 100", &json!({}));
    let text = place.rt(&["list", "--format", "json"]).ok().stdout;
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list[0]["id"], it.id.as_str());
    assert_eq!(list[0]["owner"], "root");
    assert!(list[0]["created"].as_str().unwrap().ends_with('Z'), "{text}");
    let table = place.rt(&["list"]).ok().stdout;
    assert!(table.lines().nth(1).unwrap().ends_with("root"), "{table}");
}

#[test]
fn limits_wait_until_the_container_is_set_up() {
    if !has("memory") || !has("pids") {
        return;
    }
    let place = Place::new();
    // Just enough for the program itself: what rt used to get there is not counted any more.
    let mut bundle = place.bundle("true");
    bundle.set("/linux/resources", json!({"memory": {"limit": 1_048_576}, "pids": {"limit": 1}}));
    bundle.run("c").ok();
    // Too little for anything is an error that says so, or the program's death.
    bundle.set("/linux/resources", json!({"memory": {"limit": 4096}}));
    let done = bundle.run("c");
    assert!(done.code == 137 || (done.code == 1 && done.stderr.contains("/linux/resources/memory/limit")), "{done:?}");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

/// Podman's `--cgroups=disabled`: the container stays where the runtime is.
#[test]
fn without_a_manager_there_is_no_cgroup() {
    if harness::systemd() {
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("cat /proc/self/cgroup");
    bundle.namespace("cgroup", None).write();
    let run = || place.rt(&["--cgroup-manager", "disabled", "run", "--bundle", bundle.path(), &place.id("c")]);
    assert_eq!(run().ok().stdout, fs::read_to_string("/proc/self/cgroup").unwrap());
    bundle.set("/linux/resources", json!({"pids": {"limit": 9}})).write();
    let run = || place.rt(&["--cgroup-manager=disabled", "run", "--bundle", bundle.path(), &place.id("c")]);
    run().fails_with("/linux/resources/pids/limit: takes a cgroup, and --cgroup-manager is disabled");
    bundle.set("/linux/resources", json!({})).script("exec sleep 100");
    bundle.write();
    let (id, out) = (place.id("d"), fs::File::create(place.dir.join("out")).unwrap());
    let args = ["--cgroup-manager", "disabled", "create", "--bundle", bundle.path(), &id];
    let child = place.command(&args).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    assert_eq!(harness::finish(child).code, 0);
    place.rt(&["start", &id]).ok();
    place.rt(&["pause", &id]).fails_with("no cgroup");
    assert_eq!(place.rt(&["exec", &id, "echo", "in"]).ok().stdout, "in\n");
    place.rt(&["delete", "--force", &id]).ok();
    assert!(harness::cgroups_named(&place.id("")).is_empty());
}

/// A property of a unit, as systemd has it.
fn property(unit: &str, name: &str) -> String {
    harness::host(&format!("systemctl show --value --property {name} {unit}")).ok().stdout.trim().to_owned()
}

#[test]
fn systemd_knows_the_container_as_a_unit() {
    if !harness::systemd() {
        return;
    }
    let place = Place::new();
    let unit = format!("rttest-{}.scope", place.id("x"));
    let mut bundle = place.bundle("exec sleep 100");
    bundle.set("/linux/cgroupsPath", json!(format!("system-rttest.slice:rttest:{}", place.id("x"))));
    bundle.set("/linux/resources", json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 30}}));
    bundle.set(
        "/annotations",
        json!({"org.systemd.property.TimeoutStopUSec": "uint64 7000000",
        "org.systemd.property.Documentation": "['man:rt(1)']"}),
    );
    let it = Running::start(&place, bundle);
    let memory = if is_v2() { "MemoryMax" } else { "MemoryLimit" };
    let get = |name: &str| property(&unit, name);
    assert_eq!(
        [get("ActiveState"), get("Slice"), get(memory), get("TasksMax")],
        ["active", "system-rttest.slice", "67108864", "30"]
    );
    assert_eq!([get("TimeoutStopUSec"), get("Documentation"), get("Delegate")], ["7s", "\"man:rt(1)\"", "yes"]);
    let dir = dir_of(it.pid(), "pids");
    assert!(dir.ends_with(format!("system.slice/system-rttest.slice/{unit}")), "{}", dir.display());
    it.update(&["--memory", "32M", "--pids-limit", "20"]).ok();
    assert_eq!([get(memory), get("TasksMax")], ["33554432", "20"]);
    // What systemd writes anew is what was asked for.
    harness::host("systemctl daemon-reload").ok();
    assert_eq!([it.file(LIMIT), it.file(PIDS)], ["33554432", "20"]);
    // Its name is taken.
    let mut other = place.bundle("true");
    other.config = it.bundle.config.clone();
    other.set("/root/path", json!(it.bundle.rootfs("/")));
    other.create("d", &[]).fails_with("/linux/cgroupsPath");
    assert_eq!(get("ActiveState"), "active");
    place.rt(&["delete", "--force", &it.id]).ok();
    assert_eq!(get("ActiveState"), "inactive");
    assert!(!dir.exists());
    for (annotations, words) in [
        (json!({"org.systemd.property.TimeoutStopUSec": "soon"}), "/annotations/org.systemd.property.TimeoutStopUSec"),
        (json!({"org.systemd.property.TimeoutStopUSec": "'7s'"}), "another type"),
        (json!({"org.systemd.property.No Name": "1"}), "/annotations/org.systemd.property.No Name"),
        (json!({"org.systemd.property.Slice": "'x.slice'"}), "/annotations/org.systemd.property.Slice"),
    ] {
        other.set("/annotations", annotations);
        other.create("d", &[]).fails_with(words);
    }
    other.set("/annotations", json!({}));
    for path in
        ["system.slice:rt", "a:b:c:d", "system:rt:x", "/system.slice/x", "system.slice:rt:a/b", "a--b.slice:rt:x"]
    {
        other.set("/linux/cgroupsPath", json!(path));
        other.create("d", &[]).fails_with("/linux/cgroupsPath");
    }
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

/// The container's program is a process of its own, which sets itself up before: with a limit as small as
/// this it does not get far unless that takes next to nothing.
#[test]
fn half_a_mebibyte_of_memory_is_enough() {
    if !has("memory") {
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.config["process"]["args"] = json!(["/bin/true"]);
    bundle.set("/linux/resources", json!({"memory": {"limit": 524_288}}));
    assert_eq!(bundle.run("c").code, 0);
}

/// The guest is too slow for timings: there the kernel is asked less than by crun.
#[test]
fn on_v2_fewer_system_calls_than_crun_and_no_more_processes() {
    if !is_v2() {
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.config["process"]["args"] = json!(["/bin/true"]);
    // A version that crun knows.
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.write();
    let count = |runtime: &str| {
        let record = place.dir.join("calls");
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(&record).args([runtime, "--root"]).arg(place.dir.join("calls-root"));
        let done = command.args(["run", "--bundle", bundle.path(), &place.id("calls")]).output().unwrap();
        assert!(done.status.success(), "{runtime}: {}", String::from_utf8_lossy(&done.stderr));
        let text = fs::read_to_string(record).unwrap();
        let mut processes: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        let calls = processes.len();
        processes.sort_unstable();
        processes.dedup();
        (calls, processes.len())
    };
    let (ours, theirs) = (count(harness::RT), count("crun"));
    println!("system calls and processes of one run on v2: rt {ours:?}, crun {theirs:?}");
    assert!(ours.0 < theirs.0 && ours.1 <= theirs.1, "rt {ours:?}, crun {theirs:?}");
}

#[test]
fn on_v2() {
    guest::run_again(&[], &["RT_TEST_IN=v2"]);
}

#[test]
fn on_v2_with_systemd() {
    guest::run_again(&["--systemd"], &["RT_TEST_IN=systemd"]);
}

#[test]
fn on_v1_with_systemd() {
    guest::run_again(&["--systemd", "--v1"], &["RT_TEST_IN=systemd"]);
}
