//! Many containers, one after another, at once, and alive together: nothing fails, nothing piles up, and
//! a thousand do not make a command slow. `integration/soak/run` does the whole by hand, with any
//! runtime; in the test run it is less of each.

#[path = "../harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Bundle, Place, RT, finish, wait_until};
use serde_json::json;

/// Names another runtime to do the same with.
const RUNTIME: &str = "RT_SOAK_RUNTIME";

/// Asks for the whole.
const WHOLE: &str = "RT_SOAK_WHOLE";

/// What unfreeable kernel memory may have grown by when the whole is over, in KiB. What others do on the
/// machine meanwhile is in it, which is why the short form does not look; a leak of some pages for each
/// of thousands of containers would be too.
const NOISE: u64 = 64 << 10;

fn is_whole() -> bool {
    std::env::var_os(WHOLE).is_some()
}

fn runtime() -> String {
    std::env::var(RUNTIME).unwrap_or_else(|_| RT.to_owned())
}

/// A command of the runtime; what it starts writes nowhere.
fn command(place: &Place, args: &[&str]) -> Command {
    let mut command = Command::new(runtime());
    command.arg("--root").arg(&place.root).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[track_caller]
fn works(place: &Place, args: &[&str]) {
    let done = finish(command(place, args).spawn().unwrap());
    assert_eq!(done.code, 0, "{args:?}");
}

/// A bundle that every runtime takes.
fn bundle<'p>(place: &'p Place, script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/ociVersion", json!("1.0.2")).set("/linux/resources/pids", json!({"limit": 16})).write();
    bundle
}

/// So many calls, so many of them at once.
fn each(count: usize, at_once: usize, call: impl Fn(usize) + Sync) -> Duration {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    call(index);
                }
            });
        }
    });
    start.elapsed()
}

/// What could pile up on the whole machine.
#[derive(Debug)]
struct Machine {
    /// Directories of each cgroup hierarchy.
    cgroups: BTreeMap<String, usize>,
    mounts: usize,
    processes: usize,
    dentries: u64,
    /// Kernel memory that it cannot give back, in KiB.
    kernel: u64,
}

impl Machine {
    fn now() -> Machine {
        // What can be given back is no growth.
        let _ = fs::write("/proc/sys/vm/drop_caches", "2");
        let names = |path: &str| fs::read_dir(path).unwrap().flatten().map(|entry| entry.file_name());
        let hierarchies = names("/sys/fs/cgroup").filter_map(|name| name.into_string().ok());
        let text = |path: &str| fs::read_to_string(path).unwrap();
        let memory = text("/proc/meminfo");
        let kib = |field: &str| -> u64 {
            let line = memory.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Machine {
            cgroups: hierarchies.map(|name| (name.clone(), directories(&format!("/sys/fs/cgroup/{name}")))).collect(),
            mounts: text("/proc/self/mountinfo").lines().count(),
            processes: names("/proc").filter(|name| name.to_string_lossy().parse::<u32>().is_ok()).count(),
            dentries: text("/proc/sys/fs/dentry-state").split_whitespace().next().unwrap().parse().unwrap(),
            kernel: kib("SUnreclaim") + kib("KernelStack") + kib("PageTables") + kib("Percpu"),
        }
    }

    /// A line of the table.
    fn print(&self, when: &str) {
        println!(
            "SOAK | {when} | {} cgroups | {} mounts | {} processes | {} dentries | {} KiB of the kernel's",
            self.cgroups.values().sum::<usize>(),
            self.mounts,
            self.processes,
            self.dentries,
            self.kernel
        );
    }
}

fn directories(path: &str) -> usize {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.map(|entry| 1 + directories(&entry.path().to_string_lossy())).sum()
}

/// Nothing of this place's, and no kernel memory that stays.
fn nothing_piled_up(place: &Place, before: &Machine) {
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    // The kernel takes namespaces and cgroups apart in its own time.
    let start = Instant::now();
    let mut after = Machine::now();
    while is_whole() && after.kernel > before.kernel + NOISE && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(500));
        after = Machine::now();
    }
    after.print("after");
    let more = after.kernel.saturating_sub(before.kernel);
    assert!(more <= NOISE || !is_whole(), "{more} KiB of kernel memory more than before");
}

#[test]
fn one_after_another_and_many_at_once() {
    let place = Place::new();
    let bundle = bundle(&place, "exit 0");
    let (count, at_once) = if is_whole() { (2000, 64) } else { (150, 16) };
    let run = |index: usize| works(&place, &["run", "--bundle", bundle.path(), &place.id(&format!("c{index}"))]);
    // What is made once for all is there before it is counted.
    run(0);
    let before = Machine::now();
    before.print("before");
    for at_once in [1, at_once] {
        let took = each(count, at_once, run);
        println!(
            "SOAK | {count} runs, {at_once} at once | {:.1} s | {:.1} ms each",
            took.as_secs_f64(),
            took.as_secs_f64() * 1000.0 / count as f64
        );
    }
    nothing_piled_up(&place, &before);
}

#[test]
fn many_alive_together() {
    let place = Place::new();
    let bundle = bundle(&place, "exec sleep 10000");
    let count = if is_whole() { 1000 } else { 60 };
    let ids: Vec<String> = (0..count).map(|index| place.id(&format!("c{index}"))).collect();
    let before = Machine::now();
    before.print("before");
    let report = |what: &str, took: Duration, times: usize| {
        println!(
            "SOAK | {what}, {count} alive | {:.1} s | {:.1} ms each",
            took.as_secs_f64(),
            took.as_secs_f64() * 1000.0 / times as f64
        );
    };
    let took = each(count, 8, |index| {
        works(&place, &["create", "--bundle", bundle.path(), &ids[index]]);
        works(&place, &["start", &ids[index]]);
    });
    report("create and start", took, count);
    Machine::now().print("alive");
    report("list", each(5, 1, |_| works(&place, &["list"])), 5);
    report("state", each(count, 1, |index| works(&place, &["state", &ids[index]])), count);
    let listed = Command::new(runtime()).arg("--root").arg(&place.root).args(["list", "-q"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), count);
    report("kill", each(count, 1, |index| works(&place, &["kill", &ids[index], "KILL"])), count);
    // A killed one is dead a moment later.
    let deleted = |id: &str| finish(command(&place, &["delete", id]).spawn().unwrap()).code == 0;
    let took = each(count, 1, |index| wait_until("its end", || deleted(&ids[index])));
    report("delete", took, count);
    nothing_piled_up(&place, &before);
}
