//! What the monitor does beside a container: policies, health, exit statuses; and what happens when it is killed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bed::{Bed, kill, until};
use crate::harness::sh;

#[test]
fn it_is_small() {
    let bed = Bed::new("small");
    bed.detached("ss", &[], "echo x; sleep 100");
    until("it has written", || bed.run(&["logs", "ss"]).out == "x\n");
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", bed.monitor("ss"))).unwrap();
    let kib = |name: &str| -> u64 {
        let line = rollup.lines().find(|it| it.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(kib("Private_Dirty:") < 1024, "{rollup}");
    // It holds nothing of its caller's: no terminal, no pipe, no directory.
    let fds = sh(&format!("ls -l /proc/{}/fd", bed.monitor("ss")));
    assert!(!fds.contains("pipe:") && !fds.contains("/dev/pts"), "{fds}");
    assert_eq!(sh(&format!("readlink /proc/{}/cwd", bed.monitor("ss"))), "/\n");
}

#[test]
fn policies_start_it_again() {
    let bed = Bed::new("policies");
    let runs = |name: &str| bed.run(&["logs", name]).out.lines().count();
    bed.detached("failing", &["--restart", "on-failure:2"], "echo run; exit 3");
    until("its tries are used up", || bed.inspect("failing", ".State.Status") == "exited");
    assert_eq!((runs("failing"), bed.inspect("failing", ".RestartCount")), (3, "2".into()));
    assert_eq!(bed.inspect("failing", ".State.ExitCode"), "3");
    bed.detached("fine", &["--restart", "on-failure"], "echo run");
    until("it has ended", || bed.inspect("fine", ".State.Status") == "exited");
    assert_eq!(runs("fine"), 1);
    bed.detached("always", &["--restart", "always"], "echo run");
    until("it has run thrice", || runs("always") >= 3);
    until("it is between two runs", || bed.status("always").starts_with("Restarting (0)"));
    until("rm leaves it alone then", || {
        let done = bed.run(&["rm", "always"]);
        assert_eq!(done.status, 1, "{}", done.out);
        done.err.contains("being restarted")
    });
    bed.run(&["stop", "always"]).ok();
    let (before, status) = (runs("always"), bed.status("always"));
    assert!(status.starts_with("Exited (0)"), "{status}");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(runs("always"), before, "stopped by hand");
    // A change of the policy counts from now on.
    bed.detached("changed", &[], "while [ ! -e /go ]; do sleep 0.02; done; sleep 0.3; exit 1");
    bed.run(&["update", "--restart", "always", "changed"]).ok();
    bed.run(&["exec", "changed", "touch", "/go"]).ok();
    until("it runs again", || bed.inspect("changed", ".RestartCount") != "0");
    bed.run(&["kill", "changed"]).ok();
    until("it has ended", || bed.inspect("changed", ".State.Status") == "exited");
    for bad in ["never", "on-failure:x", "always:3"] {
        bed.run(&["run", "--restart", bad, "it", "true"]).fails(125, "--restart");
    }
    bed.run(&["run", "--rm", "--restart", "always", "it", "true"]).fails(125, "--rm");
}

#[test]
fn the_wait_between_two_runs_grows() {
    let bed = Bed::new("backoff");
    bed.detached("bb", &["--restart", "always"], "cut -d' ' -f1 /proc/uptime; exit 1");
    until("it has run five times", || bed.run(&["logs", "bb"]).out.lines().count() >= 5);
    let out = bed.run(&["logs", "bb"]).out;
    let times: Vec<f64> = out.lines().map(|it| it.parse().unwrap()).collect();
    // 0.1, 0.2, 0.4, 0.8 s and what a start takes.
    let gaps: Vec<f64> = times.windows(2).map(|it| it[1] - it[0]).collect();
    assert!(gaps[0] >= 0.08 && gaps[1] >= 0.18 && gaps[2] >= 0.38 && gaps[3] >= 0.78, "{gaps:?}");
}

#[test]
fn health_is_checked() {
    let bed = Bed::new("health");
    let quick = ["--health-interval", "100ms", "--health-timeout", "2s", "--health-retries", "2"];
    let flags = [&["--health-cmd", "cat /tmp/well"], &quick[..]].concat();
    bed.detached("hh", &flags, "touch /tmp/well; sleep 100");
    until("it is well", || bed.inspect("hh", ".State.Health.Status") == "healthy");
    assert!(bed.status("hh").ends_with("(healthy)"));
    bed.run(&["exec", "hh", "rm", "/tmp/well"]).ok();
    until("it is not well", || bed.inspect("hh", ".State.Health.Status") == "unhealthy");
    let health: Value = serde_json::from_str(&bed.inspect("hh", "json .State.Health")).unwrap();
    let last = health["Log"].as_array().unwrap().last().unwrap();
    assert_eq!(last["ExitCode"], 1);
    assert!(last["Output"].as_str().unwrap().contains("/tmp/well"), "{health}");
    assert!(bed.run(&["inspect", "--why", "hh"]).ok().out.contains("health check"));
    bed.run(&["exec", "hh", "touch", "/tmp/well"]).ok();
    until("it is well again", || bed.inspect("hh", ".State.Health.Status") == "healthy");
    let events = bed.run(&["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]).ok().out;
    let of_health: Vec<&str> = events.lines().filter(|it| it.starts_with("health_status")).collect();
    assert_eq!(of_health, ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]);
    // A check that takes too long is ended, with what it has started.
    let slow = [
        "--health-cmd",
        "sleep 4321",
        "--health-interval",
        "50ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ];
    bed.detached("slow", &slow, "sleep 100");
    until("it is called unhealthy", || bed.inspect("slow", ".State.Health.Status") == "unhealthy");
    assert!(bed.inspect("slow", "json .State.Health.Log").contains("timeout"));
    bed.run(&["rm", "-f", "slow"]).ok();
    until("its sleep has ended", || sh("pgrep -xf 'sleep 4321' || true").is_empty());
    // While it starts, failures do not count.
    let starting = ["--health-cmd", "false", "--health-start-period", "30s", "--health-start-interval", "50ms"];
    bed.detached("starting", &[&starting[..], &["--health-retries", "1"]].concat(), "sleep 100");
    until("it was checked", || bed.inspect("starting", "json .State.Health.Log").contains("ExitCode"));
    assert!(bed.status("starting").ends_with("(health: starting)"));
    bed.detached("none", &["--no-healthcheck"], "sleep 100");
    bed.run(&["inspect", "--format", "{{.State.Health}}", "none"]).fails(1, "Health");
}

#[test]
fn the_kernel_ends_what_takes_too_much_memory() {
    let bed = Bed::new("oom");
    let hungry = "x=0123456789; while :; do x=$x$x; done";
    let done = bed.run(&["run", "--name", "oo", "-m", "16m", "--memory-swap", "16m", "it", "sh", "-c", hungry]);
    assert_eq!(done.status, 137, "{}", done.err);
    assert_eq!(bed.inspect("oo", ".State.OOMKilled"), "true");
    assert!(bed.run(&["inspect", "--why", "oo"]).ok().out.contains("memory"));
    let events =
        bed.run(&["events", "--since", "1h", "--until", "0s", "--filter", "container=oo", "--format", "{{.Action}}"]);
    assert!(events.ok().out.contains("oom\n"));
    // One of its processes alone is noticed while the rest goes on.
    let script = format!("sh -c '{hungry}'; echo survived; sleep 100");
    bed.detached("part", &["-m", "16m", "--memory-swap", "16m"], &script);
    until("it goes on", || bed.run(&["logs", "part"]).out.contains("survived"));
    until("it is noticed", || bed.inspect("part", ".State.OOMKilled") == "true");
    assert!(bed.status("part").starts_with("Up"));
}

#[test]
fn a_killed_monitor_loses_nothing() {
    let bed = Bed::new("adopt");
    bed.detached("kk", &["--restart", "no"], "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done");
    until("it writes", || bed.run(&["logs", "kk"]).out.lines().count() > 5);
    let (monitor, pid) = (bed.monitor("kk"), bed.pid("kk"));
    kill("KILL", monitor);
    until("it is dead", || !std::path::Path::new(&format!("/proc/{monitor}")).exists());
    // The container does not notice; the next command gives it another monitor.
    assert!(bed.status("kk").starts_with("Up"), "{}", bed.status("kk"));
    assert_eq!(bed.pid("kk"), pid);
    until("the new one is there", || bed.monitor("kk") != monitor);
    let before = bed.run(&["logs", "kk"]).out.lines().count();
    until("its output is kept again", || bed.run(&["logs", "kk"]).out.lines().count() > before + 20);
    // Not a line is lost.
    let out = bed.run(&["logs", "kk"]).out;
    for (number, line) in out.lines().enumerate() {
        assert_eq!(line, number.to_string());
    }
    bed.run(&["exec", "kk", "true"]).ok();
    bed.run(&["pause", "kk"]).ok();
    bed.run(&["unpause", "kk"]).ok();
    bed.run(&["commit", "kk", "of-adopted"]).ok();
    assert!(bed.run(&["export", "-o", &bed.0.text("files.tar"), "kk"]).ok().status == 0);
    assert!(sh(&format!("tar -tf {}", bed.0.text("files.tar"))).contains("bin/busybox\n"));
    bed.run(&["stop", "-t", "0", "kk"]).ok();
    let status = bed.inspect("kk", ".State.ExitCode");
    // Linux 6.15 keeps it for whoever has a pidfd; before, it is seen when the monitor looks before init has reaped.
    let kernel: Vec<u32> = sh("uname -r").split(['.', '-']).take(2).map(|it| it.trim().parse().unwrap()).collect();
    let old = (kernel[0], kernel[1]) < (6, 15);
    assert!(status == "137" || old && status == "255", "{status}");
    bed.run(&["start", "kk"]).ok();
    bed.run(&["rm", "-f", "kk"]).ok();
    bed.is_clean();
}

#[test]
fn the_policy_outlives_the_monitor() {
    let bed = Bed::new("policy");
    bed.detached("pp", &["--restart", "always", "-v", "data:/srv"], "cat /srv/file; sleep 0.5");
    until("it runs", || bed.run(&["logs", "pp"]).out.lines().count() == 1);
    let monitor = bed.monitor("pp");
    kill("KILL", monitor);
    // While it dies it still holds the lock, and who asks then has nothing to put right.
    until("it is dead", || !std::path::Path::new(&format!("/proc/{monitor}")).exists());
    assert!(bed.status("pp").starts_with("Up") || bed.status("pp").starts_with("Restarting"));
    until("it was started again, with its root and its volume", || bed.run(&["logs", "pp"]).out.lines().count() >= 4);
    assert!(bed.run(&["logs", "pp"]).ok().out.lines().all(|it| it == "content"));
    bed.run(&["rm", "-f", "-v", "pp"]).ok();
    bed.run(&["volume", "rm", "data"]).ok();
    bed.is_clean();
}

#[test]
fn a_monitor_and_its_container_killed_together() {
    let bed = Bed::new("both");
    bed.detached("gone", &[], "sleep 100");
    bed.detached("again", &["--restart", "always"], "echo run; sleep 100");
    bed.run(&["run", "-d", "--rm", "--name", "removed", "it", "sleep", "100"]).ok();
    for name in ["gone", "again", "removed"] {
        let (monitor, pid) = (bed.monitor(name), bed.pid(name));
        kill("KILL", monitor);
        kill("KILL", pid);
    }
    until("its end is seen", || bed.status("gone").starts_with("Exited (255)"));
    assert!(bed.inspect("gone", ".State.Error").contains("monitor was killed"));
    until("it is removed", || bed.status("removed").is_empty());
    until("its policy has started it", || bed.status("again").starts_with("Up"));
    bed.run(&["start", "gone"]).ok();
    bed.run(&["rm", "-f", "gone", "again"]).ok();
    bed.is_clean();
}

/// A container's id, out of its state, so that nobody looks after it.
fn id_of(bed: &Bed, name: &str) -> String {
    let out = sh(&format!(
        "python3 -c \"import sqlite3; print(sqlite3.connect('{}/bundle.db').execute('SELECT id FROM containers WHERE name=?', ['{name}']).fetchone()[0])\"",
        bed.0.text("store")
    ));
    out.trim().to_owned()
}

#[test]
fn what_should_run_runs_after_the_machines_start() {
    let bed = Bed::new("reboot");
    bed.detached("always", &["--restart", "always"], "sleep 100");
    bed.detached("unless", &["--restart", "unless-stopped"], "sleep 100");
    bed.detached("stopped", &["--restart", "unless-stopped"], "sleep 100");
    bed.detached("hand", &["--restart", "always"], "sleep 100");
    bed.detached("never", &[], "sleep 100");
    bed.run(&["stop", "-t", "0", "stopped", "hand"]).ok();
    // The machine goes down: all are killed at once, and nobody of before is there any more.
    for name in ["always", "unless", "never"] {
        let (monitor, pid) = (bed.monitor(name), bed.pid(name));
        kill("KILL", monitor);
        kill("KILL", pid);
        let id = bed.0.path("store/containers");
        let state = sh(&format!("grep -l '\"pid\":{pid},' {}/*/state", id.display()));
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        sh(&format!("sed -i s/{}/00000000-0000-0000-0000-000000000000/g {}", boot.trim(), state.trim()));
    }
    // What was to be removed holds neither its name nor its volume.
    bed.run(&["run", "-d", "--rm", "--name", "once", "-v", "data:/srv", "it", "sleep", "100"]).ok();
    let (monitor, pid) = (bed.monitor("once"), bed.pid("once"));
    kill("KILL", monitor);
    kill("KILL", pid);
    until("they are dead", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    sh(&format!("rm -rf /run/bundle/{}", &id_of(&bed, "once")[..32]));
    assert_eq!(bed.run(&["run", "--rm", "--name", "once", "it", "echo", "new"]).ok().out, "new\n");
    bed.run(&["volume", "rm", "data"]).ok();
    assert_eq!(bed.run(&["ps", "-q"]).ok().out, "", "looking starts nothing after a start of the machine");
    assert!(bed.inspect("never", ".State.Error").contains("machine went down"));
    assert_eq!(bed.run(&["up-again", "--dry-run"]).ok().out, "always\nunless\nhand\n");
    assert_eq!(bed.run(&["up-again"]).ok().out, "always\nunless\nhand\n");
    assert_eq!(bed.run(&["ps", "--format", "{{.Names}}"]).ok().out, "hand\nunless\nalways\n");
    assert_eq!(bed.run(&["up-again"]).ok().out, "");
}

/// Who has read that it runs finds its lock free, since it has ended meanwhile: nobody's monitor was killed.
#[test]
fn it_ends_while_somebody_looks() {
    let bed = Bed::new("looked-at");
    bed.detached("it", &[], "while [ ! -e /go ]; do sleep 0.02; done; sleep 0.3; exit 7");
    let lock = bed.0.path("store/containers").join(bed.inspect("it", ".Id")).join("lock");
    let calls = bed.0.path("calls");
    let look = bed.command(&["inspect", "--format", "{{.State.Status}}", "it"]);
    let mut held = Command::new("strace");
    held.args(["-f", "-e", "trace=flock", "-e", "inject=flock:delay_enter=2000000", "-P"]).arg(lock);
    held.arg("-o").arg(&calls).arg(look.get_program()).args(look.get_args());
    held.envs(look.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let held = held.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    until("it is about to try the lock", || std::fs::read_to_string(&calls).is_ok_and(|it| it.contains("flock(")));
    bed.run(&["exec", "it", "touch", "/go"]).ok();
    assert_eq!(String::from_utf8_lossy(&held.wait_with_output().unwrap().stdout), "exited\n");
    assert!(bed.status("it").starts_with("Exited (7)"), "{}", bed.status("it"));
    bed.run(&["rm", "it"]).ok();
    bed.is_clean();
}

#[test]
fn a_stopped_monitor_does_not_keep_rm_from_its_work() {
    let bed = Bed::new("stuck");
    bed.detached("ss", &[], "sleep 100");
    kill("STOP", bed.monitor("ss"));
    let began = Instant::now();
    bed.run(&["rm", "-f", "ss"]).ok();
    assert!(began.elapsed() < Duration::from_secs(25));
    bed.is_clean();
}
