//! Kills at any moment, many at once, a store that cannot be written: the next command sees the truth and can
//! clean up.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::bed::{Bed, names, runtime, until};
use crate::harness::{Done, sh};

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The directories of cgroups that have a container's id in their name.
fn cgroups(id: &str) -> Vec<String> {
    let out = sh(&format!(
        "find /sys/fs/cgroup -maxdepth 3 -type d -name 'bundle-{id}' \\( -fstype cgroup -o -fstype cgroup2 \\) 2>/dev/null || true"
    ));
    out.lines().map(str::to_owned).collect()
}

/// The processes in them.
fn processes(id: &str) -> Vec<i32> {
    let mut found: Vec<i32> = cgroups(id)
        .iter()
        .flat_map(|it| {
            std::fs::read_to_string(format!("{it}/cgroup.procs"))
                .unwrap_or_default()
                .lines()
                .map(|it| it.parse().unwrap_or(0))
                .collect::<Vec<_>>()
        })
        .filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| !it.contains(") Z ")))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn kill_now(pid: i32) {
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// What `ps` says is what is: a container that runs has a process, one that does not has none.
#[track_caller]
fn is_true(bed: &Bed, what: &str) {
    let list = || bed.run(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]).ok().out;
    let lie = |text: &str| {
        text.lines().find_map(|line| {
            let (id, state) = line.split_once(' ').unwrap();
            let there = processes(id);
            let wrong = match state {
                "running" | "paused" => there.is_empty(),
                "exited" | "created" => !there.is_empty(),
                _ => false,
            };
            wrong.then(|| format!("{what}: {line}: {there:?}"))
        })
    };
    // Somebody may still be at work for a killed command: only what stays so is a lie.
    for _ in 0..20 {
        let text = list();
        match lie(&text) {
            None => return,
            Some(lie) if text == list() && self::list_is_stable(&list, &text) => panic!("{lie}"),
            Some(_) => {}
        }
    }
    panic!("{what}: it does not come to rest: {}", list());
}

fn list_is_stable(list: &dyn Fn() -> String, text: &str) -> bool {
    std::thread::sleep(Duration::from_millis(300));
    list() == text
}

#[test]
fn kills_at_a_hundred_moments() {
    let bed = Bed::new("kills");
    let mut random = Random(7);
    let (mut committed, mut seen) = (Vec::new(), Vec::new());
    for round in 0..100 {
        let operation = ["run", "stop", "restart", "commit", "rm"][random.below(5) as usize];
        let victim = ["command", "monitor", "init"][random.below(3) as usize];
        let what = format!("round {round}: {operation}, {victim} killed");
        let name = format!("c{round}");
        let run = [
            "run",
            "-d",
            "--name",
            &name,
            "it",
            "sh",
            "-c",
            "echo x >/written; trap 'exit 3' TERM; while :; do sleep 0.01; done",
        ];
        if operation != "run" {
            bed.run(&run).ok();
        }
        if operation != "run" {
            seen.push(bed.inspect(&name, ".Id"));
        }
        let image = format!("image{round}");
        let (monitor, init) = if operation == "run" { (0, 0) } else { (bed.monitor(&name), bed.pid(&name)) };
        let words: Vec<&str> = match operation {
            "run" => run.to_vec(),
            "stop" | "restart" => vec![operation, "-t", "0", &name],
            "commit" => vec!["commit", &name, &image],
            _ => vec!["rm", "-f", &name],
        };
        let mut child: Child =
            bed.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(if operation == "commit" { 60_000 } else { 30_000 })));
        match victim {
            "command" => kill_now(child.id() as i32),
            "monitor" if operation == "run" => bed.processes().into_iter().for_each(kill_now),
            "monitor" => kill_now(monitor),
            _ if operation == "run" => {
                let ids = names(&bed.0.path("store/containers"));
                ids.iter().filter_map(|id| processes(id).first().copied()).for_each(kill_now);
            }
            _ => kill_now(init),
        }
        let status = child.wait().unwrap();
        if operation == "commit" && status.success() {
            committed.push(image);
        }
        is_true(&bed, &what);
        let ids = bed.run(&["ps", "-aq", "--no-trunc"]).ok().out;
        for id in ids.lines() {
            Done::of(&mut bed.command(&["rm", "-f", id]), &["rm", "-f", &what]).ok();
            assert!(cgroups(id).is_empty(), "{what}: {:?}", cgroups(id));
        }
        assert_eq!(bed.run(&["ps", "-aq"]).ok().out, "", "{what}");
    }
    assert!(!committed.is_empty());
    for image in committed {
        assert_eq!(bed.run(&["run", "--rm", &image, "cat", "/written"]).ok().out, "x\n", "{image}");
    }
    bed.run(&["store", "check"]).ok();
    until("no monitor is left", || bed.processes().is_empty());
    // Also of those that were removed by the very command that was killed.
    for id in seen {
        assert!(cgroups(&id).is_empty(), "{:?}", cgroups(&id));
    }
    // What a killed command has half made goes with the next.
    bed.run(&["prune", "-f"]).ok();
    bed.is_clean();
}

#[test]
fn many_at_once() {
    let bed = Bed::new("many");
    let children: Vec<Child> = (0..64)
        .map(|number| {
            let name = format!("m{number}");
            let words =
                ["run", "--rm", "--name", &name, "it", "sh", "-c", &format!("echo {number}; exit {}", number % 7)];
            bed.command(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), err.as_ref()), (Some(number as i32 % 7), ""), "{number}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{number}\n"));
    }
    bed.is_clean();
    // One name, many takers: one gets it.
    let takers: Vec<Child> = (0..8)
        .map(|_| {
            bed.command(&["run", "-d", "--name", "one", "it", "sleep", "100"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let won = takers.into_iter().map(|it| it.wait_with_output().unwrap()).filter(|it| it.status.success()).count();
    assert_eq!(won, 1);
    // Several remove it: all of them find it gone, one way or the other.
    let removers: Vec<Child> = (0..4)
        .map(|_| {
            bed.command(&["rm", "-f", "one"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for it in removers {
        let output = it.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || err.contains("no such container"), "{err}");
    }
    bed.is_clean();
    // Several start and stop one.
    bed.run(&["create", "--name", "two", "it", "sleep", "1000"]).ok();
    let all: Vec<Child> = (0..8)
        .map(|number| {
            let words: &[&str] = if number % 2 == 0 { &["start", "two"] } else { &["stop", "-t", "0", "two"] };
            bed.command(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for it in all {
        let output = it.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    is_true(&bed, "start and stop");
    // A stop, or a kill, that comes while the runtime is still at work is not lost: nothing waits for the program's end.
    for round in 0..12 {
        let mut start =
            bed.command(&["restart", "-t", "0", "two"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + 4 * round));
        let words: &[&str] = if round % 2 == 0 { &["stop", "-t", "0", "two"] } else { &["kill", "two"] };
        bed.run(words);
        start.wait().unwrap();
        bed.run(&["kill", "two"]);
        bed.run(&["wait", "two"]).ok();
    }
}

#[test]
fn five_hundred_alive() {
    if runtime().is_some() {
        // It is our own start-up that is looked at.
        return;
    }
    let bed = Bed::new("crowd");
    sh(&format!(
        "export BUNDLE_NETWORK=none BUNDLE_ROOT={} BUNDLE_RUNTIME={}; seq 1 500 | xargs -P 4 -I N {} run -d --name n-N it sleep 1000 >/dev/null",
        bed.0.text("store"),
        crate::harness::rt().display(),
        crate::harness::bundle().display()
    ));
    assert_eq!(bed.run(&["ps", "-q"]).ok().out.lines().count(), 500);
    let monitors = bed.processes();
    assert_eq!(monitors.len(), 500);
    bed.run(&["exec", "n-250", "true"]).ok();
    // A tenth of the monitors are killed at once.
    monitors.iter().take(50).for_each(|it| kill_now(*it));
    assert_eq!(bed.run(&["ps", "-q"]).ok().out.lines().count(), 500);
    until("all have a monitor", || bed.processes().len() == 500);
    let all: Vec<String> = (1..=500).map(|it| format!("n-{it}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    bed.run(&[&["rm", "-f"], &all[..]].concat()).ok();
    bed.is_clean();
}

#[test]
fn a_store_that_cannot_be_written() {
    let bed = Bed::new("readonly");
    bed.run(&["create", "--name", "old", "it", "true"]).ok();
    let store = bed.0.text("store");
    let environment = format!(
        "export BUNDLE_NETWORK=none BUNDLE_ROOT={store} BUNDLE_RUNTIME={}; bundle={}",
        runtime().unwrap_or_else(|| crate::harness::rt().display().to_string()),
        crate::harness::bundle().display()
    );
    let out = sh(&format!(
        "{environment}; unshare -m bash -c 'mount --bind {store} {store}; mount -o remount,bind,ro {store}; $0 run --rm it true 2>&1; echo status $?; $0 rm old 2>&1; echo status $?' $bundle"
    ));
    assert!(out.contains("status 125") && out.contains("status 1\n") && !out.contains("panicked"), "{out}");
    assert!(out.lines().filter(|it| it.starts_with("bundle: ")).count() == 2, "{out}");
    assert_eq!(bed.status("old"), "Created");
    // The database is held by another for a while: we wait.
    let hold = format!(
        "import sqlite3,time; db=sqlite3.connect('{store}/bundle.db',isolation_level=None); db.execute('BEGIN EXCLUSIVE'); print('held',flush=True); time.sleep(2)"
    );
    let mut holder = std::process::Command::new("python3").args(["-c", &hold]).stdout(Stdio::piped()).spawn().unwrap();
    crate::bed::read_until(&mut holder, "held");
    let began = std::time::Instant::now();
    bed.run(&["run", "--rm", "it", "true"]).ok();
    assert!(began.elapsed() > Duration::from_secs(1));
    holder.wait().unwrap();
    bed.run(&["rm", "old"]).ok();
    bed.is_clean();
}

#[test]
fn a_full_disk() {
    let bed = Bed::new("full");
    let environment = format!(
        "export BUNDLE_RUNTIME={}; bundle={}; image={}",
        runtime().unwrap_or_else(|| crate::harness::rt().display().to_string()),
        crate::harness::bundle().display(),
        bed.0.text("layout")
    );
    let dir = bed.0.text("small");
    std::fs::create_dir(&dir).unwrap();
    // A container fills the disk, goes on, ends with its own status; rm works, and gives the room back.
    let script = r"
        mount -t tmpfs -o size=24m none $DIR
        export BUNDLE_NETWORK=none BUNDLE_ROOT=$DIR/store
        $bundle load -q -i $image >/dev/null
        $bundle run --name filler it sh -c 'dd if=/dev/zero of=/big bs=1M 2>/dev/null; echo filled; seq 1 20000 >&2; exit 7' 2>/dev/null
        echo status $?
        $bundle ps -a --format '{{.State}} {{.Names}}' 2>&1
        $bundle rm filler 2>&1
        $bundle run --rm it echo again 2>&1
        $bundle ps -aq
        # The last monitor takes a moment to be gone.
        for it in $(seq 50); do umount $DIR 2>/dev/null && exit 0; sleep 0.1; done; umount $DIR";
    let out = sh(&format!(
        "{environment}; export bundle image DIR={dir}; unshare -m bash -c '{}'",
        script.replace('\'', "'\\''")
    ));
    assert_eq!(out, "filled\nstatus 7\nexited filler\nfiller\nagain\n");
}
