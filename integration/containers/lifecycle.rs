//! `create`, `start`, `stop`, `restart`, `kill`, `pause`, `wait`, `rm`, `rename`, `ps`, `exec`, `attach`, `update`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{Bed, kill, names, read_until, until};
use crate::harness::sh;

#[test]
fn a_detached_container_outlives_its_command() {
    let bed = Bed::new("detached");
    let done = bed.run(&["run", "-d", "--name", "dd", "it", "sh", "-c", "echo out; echo err >&2; sleep 100"]).ok();
    let id = done.out.trim().to_owned();
    assert_eq!((id.len(), done.err.as_str()), (64, ""));
    assert!(bed.status("dd").starts_with("Up "), "{}", bed.status("dd"));
    // By name, by id, by the beginning of the id.
    for name in ["dd", &id, &id[..12], &id[..7]] {
        assert_eq!(bed.inspect(name, ".Id"), id);
    }
    until("its output is kept", || bed.run(&["logs", "dd"]).ok().err == "err\n");
    assert_eq!(bed.run(&["logs", "dd"]).ok().out, "out\n");
    bed.run(&["rm", "dd"]).fails(1, "stop it first");
    assert_eq!(bed.run(&["stop", "-t", "0", "dd"]).ok().out, "dd\n");
    assert_eq!(
        (bed.inspect("dd", ".State.ExitCode"), bed.inspect("dd", ".State.Status")),
        ("137".into(), "exited".into())
    );
    assert!(bed.status("dd").starts_with("Exited (137)"));
    // Stopping what is stopped is done already.
    bed.run(&["stop", "dd"]).ok();
    assert_eq!(bed.run(&["ps", "-q"]).ok().out, "");
    assert_eq!(bed.run(&["wait", "dd"]).ok().out, "137\n");
    bed.run(&["rm", "dd"]).ok();
    bed.run(&["rm", "dd"]).fails(1, "no such container");
    bed.is_clean();
}

#[test]
fn create_start_and_their_exit_statuses() {
    let bed = Bed::new("create");
    let file = bed.0.text("cid");
    let id = bed.run(&["create", "--cidfile", &file, "--name", "cc", "it", "sh", "-c", "echo ran; exit 3"]).ok().out;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id.trim());
    bed.run(&["create", "--cidfile", &file, "it"]).fails(1, "--cidfile");
    assert_eq!((bed.status("cc"), bed.run(&["ps", "-q"]).ok().out.as_str()), ("Created".into(), ""));
    let started = bed.run(&["start", "-a", "cc"]);
    assert_eq!((started.status, started.out.as_str()), (3, "ran\n"));
    bed.run(&["start", "cc"]).ok();
    assert_eq!(bed.run(&["wait", "cc"]).ok().out, "3\n");
    assert_eq!(bed.run(&["logs", "cc"]).ok().out, "ran\nran\n");
    // One that is to be removed at its end is there until then.
    bed.run(&["create", "--rm", "--name", "once", "it", "echo", "ran"]).ok();
    assert_eq!(bed.status("once"), "Created");
    assert_eq!(bed.run(&["start", "-a", "once"]).ok().out, "ran\n");
    assert_eq!(bed.status("once"), "");
    // What cannot be started says why and stays.
    bed.run(&["run", "-d", "--name", "no", "it", "nothere"]).fails(127, "nothere");
    assert_eq!(bed.status("no"), "Created");
    assert!(bed.run(&["inspect", "--why", "no"]).ok().out.contains("not found"));
    bed.run(&["run", "--name", "noexec", "it", "/bin/noexec"]).fails(126, "ermission denied");
    bed.run(&["start", "no"]).fails(1, "nothere");
    bed.run(&["start", "nobody"]).fails(1, "no such container: nobody");
    // Several at once, and the good ones in spite of the bad one.
    bed.run(&["create", "--name", "c1", "it", "sleep", "100"]).ok();
    bed.run(&["create", "--name", "c2", "it", "sleep", "100"]).ok();
    let done = bed.run(&["start", "c1", "no", "c2"]).fails(1, "nothere");
    assert_eq!(done.out, "c1\nc2\n");
    assert_eq!(bed.run(&["ps", "--format", "{{.Names}}"]).ok().out, "c2\nc1\n");
    assert_eq!(bed.run(&["rm", "-f", "c1", "c2", "no", "cc", "noexec"]).ok().out, "c1\nc2\nno\ncc\nnoexec\n");
    bed.is_clean();
}

#[test]
fn stop_asks_first_and_kills_then() {
    let bed = Bed::new("stop");
    let script = "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.02; done";
    bed.detached("polite", &[], script);
    until("it is up", || bed.run(&["logs", "polite"]).out == "up\n");
    bed.run(&["stop", "polite"]).ok();
    assert_eq!(
        (bed.inspect("polite", ".State.ExitCode"), bed.run(&["logs", "polite"]).out),
        ("5".into(), "up\nasked\n".into())
    );
    // Its own signal and time, and those of the flags.
    bed.detached(
        "own",
        &["--stop-signal", "USR1", "--stop-timeout", "1"],
        "trap 'exit 6' USR1; trap '' TERM; echo up; while :; do sleep 0.02; done",
    );
    until("it is up", || bed.run(&["logs", "own"]).out == "up\n");
    bed.run(&["stop", "own"]).ok();
    assert_eq!(bed.inspect("own", ".State.ExitCode"), "6");
    bed.run(&["start", "own"]).ok();
    until("it is up again", || bed.run(&["logs", "own"]).out == "up\nup\n");
    let began = Instant::now();
    bed.run(&["stop", "--signal", "TERM", "own"]).ok();
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    assert_eq!(bed.inspect("own", ".State.ExitCode"), "137");
    assert!(bed.run(&["inspect", "--why", "own"]).ok().out.contains("did not end in time"));
    bed.run(&["stop", "--signal", "NONE", "own"]).fails(1, "--signal");
}

#[test]
fn restart_kill_and_signals() {
    let bed = Bed::new("restart");
    bed.detached("rr", &[], "trap 'echo hup' HUP; echo up; while :; do sleep 0.02; done");
    until("it is up", || bed.run(&["logs", "rr"]).out == "up\n");
    let before = bed.pid("rr");
    bed.run(&["restart", "-t", "0", "rr"]).ok();
    assert_ne!(bed.pid("rr"), before);
    until("it is up again", || bed.run(&["logs", "rr"]).out == "up\nup\n");
    bed.run(&["kill", "-s", "HUP", "rr"]).ok();
    until("it was told", || bed.run(&["logs", "rr"]).out == "up\nup\nhup\n");
    bed.run(&["kill", "rr"]).ok();
    assert_eq!(bed.run(&["wait", "rr"]).ok().out, "137\n");
    bed.run(&["kill", "rr"]).fails(1, "not running");
    bed.run(&["restart", "rr"]).ok();
    assert!(bed.status("rr").starts_with("Up"));
}

#[test]
fn pause_and_what_it_keeps_from_happening() {
    let bed = Bed::new("pause");
    bed.detached("pp", &[], "while :; do echo x; sleep 0.01; done");
    until("it writes", || !bed.run(&["logs", "pp"]).out.is_empty());
    bed.run(&["pause", "pp"]).ok();
    assert!(bed.status("pp").ends_with("(Paused)"), "{}", bed.status("pp"));
    assert_eq!(bed.inspect("pp", ".State.Status"), "paused");
    let lines = || bed.run(&["logs", "pp"]).out.lines().count();
    let before = lines();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(lines(), before, "it writes though it is frozen");
    bed.run(&["pause", "pp"]).fails(1, "paused already");
    bed.run(&["exec", "pp", "true"]).fails(125, "paused");
    bed.run(&["unpause", "pp"]).ok();
    bed.run(&["unpause", "pp"]).fails(1, "not paused");
    until("it goes on", || lines() > before);
    // A frozen container can be stopped and removed.
    bed.run(&["pause", "pp"]).ok();
    bed.run(&["stop", "-t", "1", "pp"]).ok();
    bed.run(&["start", "pp"]).ok();
    bed.run(&["pause", "pp"]).ok();
    bed.run(&["rm", "-f", "pp"]).ok();
    bed.is_clean();
}

#[test]
fn names_are_one_containers_each() {
    let bed = Bed::new("names");
    bed.detached("first", &[], "sleep 100");
    bed.run(&["run", "-d", "--name", "first", "it", "true"]).fails(125, "is taken");
    bed.run(&["create", "--name", "second", "it", "true"]).ok();
    bed.run(&["rename", "second", "first"]).fails(1, "is taken");
    bed.run(&["rename", "second", "x y"]).fails(1, "letters");
    bed.run(&["rename", "first", "other"]).ok();
    assert!(bed.status("other").starts_with("Up"));
    bed.run(&["inspect", "first"]).fails(1, "no such container");
    bed.run(&["rename", "second", "first"]).ok();
    assert_eq!(bed.run(&["port", "other"]).ok().out, "");
    bed.run(&["port", "other", "80"]).fails(1, "no port 80/tcp of container other is published");
    bed.run(&["port", "other", "x"]).fails(1, "no port");
    bed.run(&["stop", "-t", "0", "other"]).ok();
    let events = bed.run(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=die",
        "--format",
        "{{.Actor.Attributes.name}}",
    ]);
    assert_eq!(events.ok().out, "other\n", "the monitor knows the new name");
}

#[test]
fn exec_is_in_the_container() {
    let bed = Bed::new("exec");
    bed.detached("ee", &["-e", "A=own", "-w", "/srv", "-u", "web", "--cap-drop", "ALL"], "sleep 100");
    let exec = |words: &[&str]| bed.run(&[&["exec"], words].concat());
    assert_eq!(exec(&["ee", "sh", "-c", "pwd; id -u; echo $A"]).ok().out, "/srv\n33\nown\n");
    assert_eq!(
        exec(&[
            "-e",
            "A=new",
            "-e",
            "B=b c",
            "-u",
            "0:4",
            "-w",
            "/tmp",
            "ee",
            "sh",
            "-c",
            "pwd; id -u; id -g; echo $A $B"
        ])
        .ok()
        .out,
        "/tmp\n0\n4\nnew b c\n"
    );
    assert_eq!(exec(&["ee", "sh", "-c", "exit 9"]).status, 9);
    assert_eq!(exec(&["ee", "sh", "-c", "kill -KILL $$"]).status, 137);
    exec(&["ee", "nothere"]).fails(127, "nothere");
    exec(&["ee", "/bin/noexec"]).fails(126, "ermission denied");
    exec(&["-u", "nobody", "ee", "true"]).fails(125, "nobody");
    exec(&["-w", "rel", "ee", "true"]).fails(125, "--workdir");
    exec(&["nobody", "true"]).fails(125, "no such container");
    // Flags behind the container are the program's.
    assert_eq!(exec(&["ee", "echo", "-e", "-it"]).ok().out, "-it\n");
    // Its capabilities, its filter, its cgroup.
    let status =
        |flags: &[&str]| exec(&[flags, &["ee", "cat", "/proc/self/status", "/proc/self/cgroup"]].concat()).ok().out;
    let text = status(&["-u", "0"]);
    assert!(text.contains("CapBnd:\t0000000000000000") && text.contains("Seccomp:\t2"), "{text}");
    assert!(!status(&["--privileged", "-u", "0"]).contains("CapEff:\t0000000000000000"));
    let pid = bed.pid("ee");
    let cgroup = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    exec(&["-d", "ee", "sh", "-c", "echo $$ >/tmp/pid; exec sleep 77"]).ok();
    until("it runs", || {
        sh("pgrep -f '^sleep 77$' || true").trim().lines().any(|it| cgroup(it.parse().unwrap()) == cgroup(pid))
    });
    let mut child =
        bed.command(&["exec", "-i", "ee", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"in\0put").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"in\0put");
    bed.run(&["stop", "-t", "0", "ee"]).ok();
    exec(&["ee", "true"]).fails(125, "not running");
}

#[test]
fn attach_by_several_and_detach_by_keys() {
    let bed = Bed::new("attach");
    bed.run(&[
        "run",
        "-d",
        "-i",
        "--name",
        "aa",
        "it",
        "sh",
        "-c",
        "while read line; do echo got $line; done; echo over",
    ])
    .ok();
    let attach = |flags: &[&str]| {
        let words = [&["attach"], flags, &["aa"]].concat();
        bed.command(&words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    // An attach takes a moment: until the monitor has one more socket, and has read what it is for.
    let monitor = format!("/proc/{}/fd", bed.monitor("aa"));
    let sockets = || names(monitor.as_ref()).len();
    let before = sockets();
    let attached = |count: usize| {
        until("they are attached", || sockets() == before + count);
        std::thread::sleep(Duration::from_millis(100));
    };
    // Both see what either is answered.
    let (mut one, mut two) = (attach(&[]), attach(&["--no-stdin"]));
    attached(2);
    std::io::Write::write_all(one.stdin.as_mut().unwrap(), b"first\n").unwrap();
    assert!(read_until(&mut one, "\n").contains("got first"));
    assert!(read_until(&mut two, "\n").contains("got first"));
    // One that is killed is nobody's loss, and neither is the end of one's input.
    one.kill().unwrap();
    one.wait().unwrap();
    attached(1);
    let mut three = attach(&[]);
    attached(2);
    std::io::Write::write_all(three.stdin.as_mut().unwrap(), b"second\n").unwrap();
    assert!(read_until(&mut two, "\n").contains("got second"));
    bed.run(&["kill", "aa"]).ok();
    assert_eq!((two.wait().unwrap().code(), three.wait().unwrap().code()), (Some(137), Some(137)));
    assert_eq!(bed.run(&["logs", "aa"]).ok().out, "got first\ngot second\n");

    // On a terminal: its size, and the keys.
    bed.run(&["run", "-dit", "--name", "tt", "it", "sh"]).ok();
    let line = format!("stty rows 33 cols 99; {} attach tt; echo left $?", crate::harness::bundle().display());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    script.envs(bed.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keyboard = script.stdin.take().unwrap();
    let mut press = |keys: &[u8]| std::io::Write::write_all(&mut keyboard, keys).unwrap();
    // A line may come before we are attached. The keys may not: the terminal would take one for its own.
    press(b"stty size\n");
    read_until(&mut script, "33 99");
    press(b"\x10\x11");
    read_until(&mut script, "left 0");
    script.wait().unwrap();
    assert!(bed.status("tt").starts_with("Up"));
    assert!(bed.run(&["logs", "tt"]).ok().out.contains("33 99"));
}

#[test]
fn the_foreground_passes_streams_signals_and_the_status() {
    let bed = Bed::new("foreground");
    let words = [
        "run",
        "--rm",
        "--name",
        "ff",
        "it",
        "sh",
        "-c",
        "trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.02; done",
    ];
    let mut child = bed.command(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    read_until(&mut child, "up\n");
    kill("TERM", child.id() as i32);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(9), &b"term\n"[..]));
    bed.is_clean();
    // When its command is killed it goes on, and is removed when it ends.
    let mut child = bed.command(&words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    read_until(&mut child, "up\n");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(bed.status("ff").starts_with("Up"));
    bed.run(&["stop", "ff"]).ok();
    bed.is_clean();
    // All of a large output, through a slow reader.
    let count = sh(&format!(
        "BUNDLE_NETWORK=none BUNDLE_ROOT={} BUNDLE_RUNTIME={} {} run --rm it sh -c 'seq 1 300000' | (sleep 0.5; wc -l)",
        bed.0.text("store"),
        crate::bed::runtime().unwrap_or_else(|| crate::harness::rt().display().to_string()),
        crate::harness::bundle().display(),
    ));
    assert_eq!(count.trim(), "300000");
}

#[test]
fn ps_filters_and_formats() {
    let bed = Bed::new("ps");
    bed.detached("up", &["--label", "tier=web", "--label", "x"], "sleep 100");
    bed.run(&["run", "--name", "done", "--label", "tier=db", "it", "sh", "-c", "exit 4"]);
    bed.run(&["create", "--name", "new", "it", "a  long command with many words"]).ok();
    let names =
        |words: &[&str]| bed.run(&[&["ps", "--format", "{{.Names}}"], words].concat()).ok().out.replace('\n', " ");
    assert_eq!(names(&[]), "up ");
    assert_eq!(names(&["-a"]), "new done up ");
    assert_eq!(names(&["--filter", "status=exited"]), "done ");
    assert_eq!(names(&["--filter", "status=exited", "--filter", "status=created"]), "new done ");
    assert_eq!(names(&["-a", "--filter", "label=tier"]), "done up ");
    assert_eq!(names(&["-a", "--filter", "label=tier=web", "--filter", "label=x"]), "up ");
    assert_eq!(names(&["--filter", "exited=4"]), "done ");
    assert_eq!(names(&["-a", "--filter", "name=o"]), "done ");
    assert_eq!(names(&["-a", "--filter", "ancestor=it"]), "new done up ");
    assert_eq!(names(&["-a", "--filter", "before=done"]), "up ");
    assert_eq!(names(&["-a", "--filter", "since=up"]), "new done ");
    assert_eq!((names(&["-l"]), names(&["-n", "2"])), ("new ".into(), "new done ".into()));
    bed.run(&["ps", "--filter", "what=x"]).fails(1, "known are");
    bed.run(&["ps", "--filter", "status=x"]).fails(1, "known are");
    bed.run(&["ps", "--filter", "before=nobody"]).fails(1, "--filter");
    // Sizes, with either driver.
    bed.run(&["--storage-driver", "vfs", "run", "--name", "vfs", "it", "sh", "-c", "echo 12345 >/new"]).ok();
    let sizes = bed.run(&["ps", "-a", "-s", "--format", "{{.Names}} {{.Size}}"]).ok().out;
    assert!(sizes.contains("vfs 6B\n") && sizes.contains("up 0B\n"), "{sizes}");
    bed.run(&["rm", "vfs"]).ok();
    bed.run(&["ps", "--format", "{{.What}}"]).fails(1, "--format");
    let json: serde_json::Value = serde_json::from_str(bed.run(&["ps", "--format", "json"]).ok().out.trim()).unwrap();
    assert_eq!((&json["Names"], &json["State"], &json["Image"]), (&"up".into(), &"running".into(), &"it".into()));
    let table = bed.run(&["ps", "-a"]).ok().out;
    assert!(table.starts_with("CONTAINER ID   IMAGE") && table.contains("\"a  long command wit…\""), "{table}");
}

#[test]
fn limits_are_changed_while_it_runs() {
    let bed = Bed::new("update");
    bed.detached("uu", &["-m", "64m", "--pids-limit", "50"], "sleep 100");
    bed.run(&[
        "update",
        "-m",
        "128m",
        "--memory-swap",
        "256m",
        "--pids-limit",
        "70",
        "--restart",
        "on-failure:3",
        "uu",
    ])
    .ok();
    let text = bed.inspect("uu", "json .HostConfig");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&json["Resources"]["memory"]["limit"], &json["Resources"]["pids"]["limit"]),
        (&(128u64 << 20).into(), &70.into())
    );
    assert_eq!(json["RestartPolicy"]["Name"], "on-failure");
    let pid = bed.pid("uu");
    let limit = sh(&format!(
        "c=$(sed -n 's/.*:memory://p' /proc/{pid}/cgroup); cat /sys/fs/cgroup/memory$c/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/memory.max"
    ));
    assert_eq!(limit.trim(), (128 << 20).to_string());
    // Kept for the next start.
    bed.run(&["restart", "-t", "0", "uu"]).ok();
    assert_eq!(bed.run(&["exec", "uu", "cat", "/proc/1/cgroup"]).ok().status, 0);
    bed.run(&["update", "-m", "1k", "uu"]).fails(1, "--memory");
    bed.run(&["update", "uu"]).fails(1, "nothing to change");
    assert_eq!(bed.inspect("uu", ".HostConfig.Resources.pids.limit"), "70");
}

#[test]
fn a_reader_that_goes_away_ends_the_foreground() {
    let bed = Bed::new("pipe");
    let began = Instant::now();
    let out = sh(&format!(
        "(BUNDLE_NETWORK=none BUNDLE_ROOT={} BUNDLE_RUNTIME={} {} run --rm it yes || true) | head -n 1",
        bed.0.text("store"),
        crate::bed::runtime().unwrap_or_else(|| crate::harness::rt().display().to_string()),
        crate::harness::bundle().display(),
    ));
    assert_eq!(out, "y\n");
    assert!(began.elapsed() < Duration::from_secs(8));
    bed.is_clean();
}
