//! `stats`, `metrics`, `top`, `events`, and the first process of `--init`.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::bed::{Bed, read_until, until};
use crate::harness::sh;

#[test]
fn what_a_container_uses_is_counted() {
    let bed = Bed::new("stats");
    bed.detached("busy", &["-m", "64m", "--cpus", "0.3", "--pids-limit", "50"], "while true; do true; done");
    bed.detached("idle", &[], "sleep 100");
    bed.run(&["create", "--name", "made", "it"]).ok();
    let rows = |words: &[&str]| -> Vec<Value> {
        let words = [&["stats", "--no-stream", "--format", "json"], words].concat();
        bed.run(&words).ok().out.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    let all = rows(&[]);
    assert_eq!(all.len(), 2, "{all:?}");
    let busy = all.iter().find(|it| it["Name"] == "busy").unwrap();
    let percent: f64 = busy["CPUPerc"].as_str().unwrap().trim_end_matches('%').parse().unwrap();
    assert!(percent > 5.0 && percent < 60.0, "{percent}");
    assert!(busy["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"), "{busy}");
    let counters = &busy["Counters"];
    assert!(counters["cpu"]["throttled_periods"].as_u64().unwrap() > 0, "{counters}");
    assert_eq!((counters["memory"]["limit"].as_u64(), counters["pids"]["limit"].as_u64()), (Some(64 << 20), Some(50)));
    assert!(counters["memory"]["usage"].as_u64().unwrap() > 0);
    // Ended ones only when asked for, and then without numbers.
    assert_eq!(rows(&["-a"]).len(), 3);
    assert_eq!(rows(&["made"])[0]["CPUPerc"], "--");
    bed.run(&["stats", "--no-stream", "nobody"]).fails(1, "no such container");
    bed.run(&["stats", "--no-stream", "--format", "{{.Nothing}}"]).fails(1, "Nothing");
    bed.run(&["stats", "--no-stream", "--format", "{{.ID"]).fails(1, "--format");
    let table = bed.run(&["stats", "--no-stream", "idle"]).ok().out;
    assert!(table.starts_with("CONTAINER ID   NAME   CPU %   MEM USAGE / LIMIT"), "{table}");
    // It goes on, and redraws on a terminal only.
    let mut child = bed.command(&["stats", "--format", "{{.Name}}", "idle"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(read_until(&mut child, "idle\nidle\n"), "idle\nidle\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let line = format!("timeout 3 {} stats idle", crate::harness::bundle().display());
    let screen = sh(&format!("BUNDLE_ROOT={} script -qec '{line}' /dev/null || true", bed.0.text("store")));
    assert!(screen.matches("\x1b[H").count() >= 2 && screen.contains("idle"), "{screen:?}");
    let metrics = bed.run(&["metrics"]).ok().out;
    let value = |name: &str, container: &str| -> f64 {
        let line = metrics.lines().find(|it| {
            it.starts_with(&format!("bundle_container_{name}{{")) && it.contains(&format!("name=\"{container}\""))
        });
        line.unwrap_or_else(|| panic!("{name} of {container}: {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("cpu_seconds_total", "busy") > 0.05 && value("cpu_throttled_periods_total", "busy") > 0.0);
    assert!((value("memory_limit_bytes", "busy") - f64::from(64 << 20)).abs() < 1.0);
    assert!(value("running", "idle") > 0.5 && value("running", "made") < 0.5);
}

#[test]
fn top_shows_the_processes_by_their_numbers_on_the_host() {
    let bed = Bed::new("top");
    bed.detached("tt", &["-u", "web"], "sleep 111 & exec sleep 222");
    until("both run", || bed.run(&["top", "tt"]).ok().out.lines().count() == 3);
    let rows: Vec<Value> = bed
        .run(&["top", "--format", "json", "tt", "-o", "pid,nspid,ppid,uid,stat,cmd"])
        .ok()
        .out
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let first = rows.iter().find(|it| it["NSPID"] == "1").unwrap();
    assert_eq!((&first["CMD"], &first["UID"]), (&"sleep 222".into(), &"33".into()));
    assert_eq!(first["PID"], bed.pid("tt").to_string());
    let second = rows.iter().find(|it| it["CMD"] == "sleep 111").unwrap();
    assert_eq!(second["PPID"], first["PID"]);
    assert!(bed.run(&["top", "tt"]).ok().out.starts_with("USER"));
    assert!(bed.run(&["top", "tt", "aux"]).ok().out.contains("RSS"));
    bed.run(&["top", "tt", "-o", "pid,nothing"]).fails(1, "nothing");
    bed.run(&["stop", "-t", "0", "tt"]).ok();
    bed.run(&["top", "tt"]).fails(1, "not running");
}

#[test]
fn events_tell_what_happens() {
    let bed = Bed::new("events");
    let follow = ["events", "--filter", "container=ee", "--format", "{{.Action}}"];
    let mut child = bed.command(&follow).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    bed.run(&["run", "-d", "--name", "other", "it", "true"]).ok();
    bed.run(&["create", "--name", "ee", "--label", "tier=front", "it", "sleep", "100"]).ok();
    bed.run(&["start", "ee"]).ok();
    bed.run(&["kill", "ee"]).ok();
    bed.run(&["wait", "ee"]).ok();
    bed.run(&["rm", "ee"]).ok();
    let seen = read_until(&mut child, "destroy\n");
    child.kill().unwrap();
    child.wait().unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    let place = |action: &str| seen.iter().position(|it| *it == action).unwrap_or_else(|| panic!("{action}: {seen:?}"));
    assert!(place("create") < place("start") && place("start") < place("die") && place("die") < place("destroy"));
    // The same from the past, whole.
    let past = |filters: &[&str]| -> Vec<Value> {
        let words = [&["events", "--since", "5m", "--until", "0s", "--format", "json"], filters].concat();
        bed.run(&words).ok().out.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    let died = past(&["--filter", "event=die", "--filter", "container=ee"]);
    assert_eq!(died.len(), 1, "{died:?}");
    assert_eq!((&died[0]["Type"], &died[0]["Actor"]["Attributes"]["exitCode"]), (&"container".into(), &"137".into()));
    assert!(past(&["--filter", "type=image", "--filter", "event=load"]).len() == 1);
    assert!(past(&["--filter", "image=it"]).len() > 4);
    bed.run(&["events", "--until", "0s", "--filter", "nothing=1"]).fails(1, "known are");
    bed.run(&["events", "--until", "0s", "--format", "{{.X"]).fails(1, "--format");
    bed.run(&["events", "--since", "x"]).fails(1, "--since");
}

#[test]
fn the_first_process_of_init_buries_and_passes_on() {
    let bed = Bed::new("init");
    let run = |words: &[&str]| bed.run(&[&["run", "--rm", "--init", "it"], words].concat());
    assert_eq!(run(&["sh", "-c", "exit 7"]).status, 7);
    assert_eq!(run(&["sh", "-c", "kill -9 $$"]).status, 137);
    let done = run(&["nothere"]);
    assert_eq!(done.status, 127, "{}", done.err);
    assert_eq!(run(&["/bin/noexec"]).status, 126);
    // The program has no signal blocked, and is not the first process.
    let out = run(&["sh", "-c", "grep SigBlk /proc/self/status; echo $$"]).ok().out;
    assert!(out.starts_with("SigBlk:\t0000000000000000\n") && !out.ends_with("\n1\n"), "{out}");
    let orphans = "(sleep 0.1 &); (sleep 0.1 &); exec sleep 100";
    bed.detached("with", &["--init"], orphans);
    bed.detached("without", &[], orphans);
    let dead = |name: &str| {
        let list = "for it in /proc/[0-9]*; do grep '^State:.Z' $it/status; done; true";
        bed.run(&["exec", name, "sh", "-c", list]).ok().out.lines().count()
    };
    until("nobody buries them", || dead("without") == 2);
    until("they are buried", || dead("with") == 0 && bed.run(&["top", "with"]).ok().out.lines().count() == 3);
    bed.detached("term", &["--init"], "trap 'echo bye; exit 3' TERM; echo ready; while true; do sleep 0.05; done");
    until("it is ready", || bed.run(&["logs", "term"]).ok().out == "ready\n");
    bed.run(&["stop", "term"]).ok();
    assert_eq!(
        (bed.inspect("term", ".State.ExitCode"), bed.run(&["logs", "term"]).ok().out),
        ("3".into(), "ready\nbye\n".into())
    );
    // What is no signal with a name is passed on too.
    bed.detached("real", &["--init"], "trap 'exit 4' 37; echo ready; while true; do sleep 0.05; done");
    until("it is ready", || bed.run(&["logs", "real"]).ok().out == "ready\n");
    bed.run(&["kill", "-s", "37", "real"]).ok();
    assert_eq!(bed.run(&["wait", "real"]).ok().out, "4\n");
}

#[test]
fn the_program_under_init_has_the_terminal() {
    let bed = Bed::new("init-tty");
    let line = "run --rm -it --init it sh -c 'tty; read x; echo got $x'";
    let script = format!("{} {line}\n", crate::harness::bundle().display());
    std::fs::write(bed.0.path("script"), script).unwrap();
    let (store, rt, path) = (bed.0.text("store"), crate::harness::rt(), bed.0.text("script"));
    let out = sh(&format!(
        "export BUNDLE_NETWORK=none BUNDLE_ROOT={store} BUNDLE_RUNTIME={}; (sleep 1; echo hello) | timeout 20 script -qec 'sh {path}' /dev/null",
        rt.display()
    ));
    assert!(out.contains("got hello"), "{out:?}");
}
