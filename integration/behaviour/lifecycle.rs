//! create, start, run, state, kill, delete, list: the rules of runtime.md, errors included.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{Bundle, Place, finish, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[test]
fn create_start_kill_delete() {
    let place = Place::new();
    let bundle = place.bundle("echo started; exec sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    assert_eq!(place.state(&id)["status"], "created");
    assert_eq!(bundle.output(), "");
    place.rt(&["start", &id]).ok();
    assert_eq!(place.state(&id)["status"], "running");
    place.rt(&["delete", &id]).fails_with("that is not stopped: running");
    place.rt(&["kill", &id, "KILL"]).ok();
    place.wait_for(&id, "stopped");
    assert_eq!(bundle.output(), "started\n");
    place.rt(&["kill", &id]).fails_with("container not running");
    place.rt(&["start", &id]).fails_with("has stopped");
    place.rt(&["delete", &id]).ok();
    place.rt(&["state", &id]).fails_with("does not exist");
}

#[test]
fn the_exit_status_is_the_programs() {
    let place = Place::new();
    assert_eq!(place.bundle("exit 7").run("seven").code, 7);
    assert_eq!(
        place.bundle("kill -9 $$").run("nine").code,
        0,
        "the first process of a pid namespace cannot kill itself"
    );
    let mut bundle = place.bundle("kill -TERM $$; sleep 1");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    assert_eq!(bundle.run("term").code, 128 + 15);
}

#[test]
fn an_id_is_used_once() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.create("c", &[]).ok();
    let before = place.state(&place.id("c"));
    bundle.create("c", &[]).fails_with("exists already");
    bundle.run("c").fails_with("exists already");
    assert_eq!(place.state(&place.id("c")), before, "the first one is not touched");
}

#[test]
fn a_container_starts_once() {
    let place = Place::new();
    let bundle = place.bundle("echo once; exec sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).ok();
    place.rt(&["start", &id]).fails_with("already running");
    assert_eq!(place.state(&id)["status"], "running");
    wait_until("its line", || bundle.output() == "once\n");
}

#[test]
fn only_a_stopped_container_is_deleted_without_force() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    for status in ["created", "running"] {
        let before = place.state(&id);
        place.rt(&["delete", &id]).fails_with(status);
        assert_eq!(place.state(&id), before);
        if status == "created" {
            place.rt(&["start", &id]).ok();
        }
    }
    place.rt(&["delete", "--force", &id]).ok();
    place.rt(&["state", &id]).fails_with("does not exist");
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    let place = Place::new();
    let bundle = place.bundle("echo never");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["kill", &id, "KILL"]).ok();
    place.wait_for(&id, "stopped");
    assert_eq!(place.state(&id)["pid"], 0);
    place.rt(&["start", &id]).fails_with("stopped");
    place.rt(&["delete", &id]).ok();
    assert_eq!(bundle.output(), "");
}

#[test]
fn unknown_containers() {
    let place = Place::new();
    for verb in ["state", "start", "kill", "delete"] {
        place.rt(&[verb, "nobody"]).fails_with("does not exist");
    }
    let done = place.rt(&["delete", "--force", "nobody"]).ok();
    assert_eq!((done.stdout, done.stderr), (String::new(), String::new()));
    assert!(!place.root.exists(), "nothing was made to look for it");
}

#[test]
fn ids_that_name_no_container_are_refused_by_every_verb() {
    let place = Place::new();
    let bundle = place.bundle("true");
    bundle.write();
    fs::create_dir_all(&place.root).unwrap();
    let long = "a".repeat(1025);
    for id in ["", ".", "..", "../up", "a/b", "/abs", "a b", "ä", "a\n", "a:b", &long] {
        for verb in [
            vec!["create", "--bundle", bundle.path()],
            vec!["run", "--bundle", bundle.path()],
            vec!["state"],
            vec!["start"],
            vec!["kill"],
            vec!["delete"],
            vec!["delete", "--force"],
        ] {
            let mut args = verb.clone();
            args.extend(["--", id]);
            place.rt(&args).fails_with("invalid container ID");
        }
    }
    assert_eq!(fs::read_dir(&place.root).unwrap().count(), 0);
}

/// By which `delete` and all others tell init from a later process of its number; found without asking /proc
/// where the clock can tell.
#[test]
fn the_start_time_kept_is_the_kernels() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    for n in 0..40 {
        let (name, id) = (format!("c{n}"), place.id(&format!("c{n}")));
        bundle.create(&name, &[]).ok();
        let kept: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(place.root.join(&id).join("state.json")).unwrap()).unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", kept["pid"])).unwrap();
        let kernels = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap();
        assert_eq!(kept["startTime"].to_string(), kernels);
        place.rt(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn the_state_says_what_the_spec_asks() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    bundle.config["annotations"] = json!({"org.example.a": "ä \"quoted\"", "b": ""});
    let id = place.id("c");
    bundle.create("c", &["--pid-file", place.dir.join("pid").to_str().unwrap()]).ok();
    let state = place.state(&id);
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], *id);
    assert_eq!(state["bundle"], bundle.path());
    assert_eq!(state["annotations"], bundle.config["annotations"]);
    let pid = fs::read_to_string(place.dir.join("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid, "digits, and no newline");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert!(inside.trim().ends_with("\t1"), "the pid is init's: {inside}");
}

#[test]
fn a_pid_file_is_gone_after_a_failed_create() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.set("/process/args", json!(["/no/such/program"]));
    let pid_file = place.dir.join("pid");
    bundle.create("c", &["--pid-file", pid_file.to_str().unwrap()]).fails_with("no such file or directory");
    let left: Vec<_> = fs::read_dir(&place.dir)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .filter(|n| n.to_string_lossy().contains("pid"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    // One that cannot be written fails the create.
    bundle.script("true");
    bundle.create("c", &["--pid-file", "/no/such/directory/pid"]).fails_with("--pid-file");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn a_detached_run_returns_while_the_container_runs() {
    let place = Place::new();
    let bundle = place.bundle("echo here; exec sleep 100");
    bundle.write();
    let (id, pid_file) = (place.id("c"), place.dir.join("pid"));
    let mut command =
        place.command(&["run", "-d", "--bundle", bundle.path(), "--pid-file", pid_file.to_str().unwrap(), &id]);
    let out = fs::File::create(bundle.dir.join("out")).unwrap();
    finish(command.stdin(Stdio::null()).stdout(out).spawn().unwrap()).ok();
    let state = place.state(&id);
    assert_eq!(state["status"], "running");
    assert_eq!(fs::read_to_string(pid_file).unwrap(), state["pid"].to_string());
    wait_until("its line", || bundle.output() == "here\n");
}

#[test]
fn run_with_keep_leaves_a_stopped_container() {
    let place = Place::new();
    let bundle = place.bundle("exit 3");
    let id = place.id("c");
    assert_eq!(bundle.run_with("c", &["--keep"]).code, 3);
    assert_eq!(place.state(&id)["status"], "stopped");
    place.rt(&["delete", &id]).ok();
    assert_eq!(bundle.run("c").code, 3);
    place.rt(&["state", &id]).fails_with("does not exist");
}

#[test]
fn lists() {
    let place = Place::new();
    let header = place.rt(&["list"]).ok().stdout;
    assert_eq!(header.split_whitespace().collect::<Vec<_>>(), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(place.rt(&["list", "-q"]).ok().stdout, "");
    assert_eq!(place.rt(&["list", "--format", "json"]).ok().stdout.trim(), "[]");
    assert!(!place.root.exists(), "list makes no directory");
    let bundle = place.bundle("exec sleep 100");
    bundle.create("a", &[]).ok();
    bundle.create("b", &[]).ok();
    place.rt(&["kill", &place.id("b"), "KILL"]).ok();
    place.wait_for(&place.id("b"), "stopped");
    let (a, b) = (place.id("a"), place.id("b"));
    assert_eq!(place.rt(&["list", "--quiet"]).ok().stdout, format!("{a}\n{b}\n"));
    let table = place.rt(&["list"]).ok().stdout;
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let pid = place.state(&a)["pid"].to_string();
    assert_eq!(rows[0][..4], [&*a, &pid, "created", bundle.path()]);
    assert_eq!(rows[1][..4], [&*b, "0", "stopped", bundle.path()]);
    assert_eq!((rows[0][5], rows[0].len()), ("root", 6));
    let list: serde_json::Value = serde_json::from_str(&place.rt(&["list", "-f", "json"]).ok().stdout).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    for (entry, id, status) in [(&list[0], &a, "created"), (&list[1], &b, "stopped")] {
        assert_eq!((entry["id"].as_str(), entry["status"].as_str()), (Some(&**id), Some(status)));
    }
}

/// A container that writes the name of each signal it gets.
fn trapping(bundle: &mut Bundle<'_>) {
    bundle.script("for s in HUP USR1 USR2 TERM RTMIN 37; do trap \"echo $s\" $s 2>/dev/null; done; trap 'echo +3' 37; echo ready; while :; do sleep 0.02; done");
}

#[test]
fn signals_have_names_and_numbers() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    trapping(&mut bundle);
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).ok();
    wait_until("ready", || bundle.output() == "ready\n");
    let mut expected = "ready\n".to_owned();
    for (signal, trap) in [
        ("HUP", "HUP"),
        ("SIGUSR1", "USR1"),
        ("usr2", "USR2"),
        ("10", "USR1"),
        ("RTMIN+3", "+3"),
        ("37", "+3"),
        ("SIGRTMIN+3", "+3"),
    ] {
        place.rt(&["kill", &id, signal]).ok();
        expected += &format!("{trap}\n");
        wait_until(signal, || bundle.output() == expected);
    }
    // Without a signal it is TERM.
    place.rt(&["kill", &id]).ok();
    expected += "TERM\n";
    wait_until("TERM", || bundle.output() == expected);
    for bad in ["NOSUCH", "65", "-1", "RTMIN+31", "0x9", "9 ", ""] {
        place.rt(&["kill", &id, "--", bad]).fails_with("unknown signal");
    }
    assert_eq!(place.state(&id)["status"], "running");
}

#[test]
fn kill_all_reaches_every_process_without_a_pid_namespace() {
    let place = Place::new();
    let mut bundle = place.bundle("sleep 7771 & setsid sleep 7772 & echo $!; exec sleep 7773");
    bundle.namespace("pid", None);
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).ok();
    let cgroup = Path::new("/sys/fs/cgroup/pids").join(&id).join("cgroup.procs");
    let count = || fs::read_to_string(&cgroup).map_or(0, |text| text.lines().count());
    wait_until("three processes", || count() == 3);
    place.rt(&["kill", &id, "KILL"]).ok();
    place.wait_for(&id, "stopped");
    assert_eq!(count(), 2, "kill is for init alone");
    // Also when init is gone.
    place.rt(&["kill", "--all", &id, "9"]).ok();
    wait_until("no process", || count() == 0);
    place.rt(&["delete", &id]).ok();
}

#[test]
fn deleting_a_stopped_container_kills_what_it_left_running() {
    let place = Place::new();
    let mut bundle = place.bundle("setsid sleep 7774 & exit 4");
    bundle.namespace("pid", None);
    assert_eq!(bundle.run("c").code, 4);
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    assert_eq!(harness::processes_named("sleep 7774"), Vec::<String>::new());
}

#[test]
fn options_may_stand_after_the_id() {
    let place = Place::new();
    let bundle = place.bundle("exit 6");
    bundle.write();
    let id = place.id("c");
    let out = fs::File::create(bundle.dir.join("out")).unwrap();
    let mut command = place.command(&["create", &id, "--bundle", bundle.path()]);
    finish(command.stdin(Stdio::null()).stdout(out).spawn().unwrap()).ok();
    place.rt(&["kill", &id, "--all", "KILL"]).ok();
    place.rt(&["delete", &id, "--force"]).ok();
    assert_eq!(place.rt(&["run", &id, "-b", bundle.path()]).code, 6);
}

#[test]
fn an_init_that_dies_before_start_is_stopped() {
    let place = Place::new();
    let bundle = place.bundle("echo never");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let pid = place.state(&id)["pid"].as_i64().unwrap() as i32;
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    place.wait_for(&id, "stopped");
    place.rt(&["start", &id]).fails_with("stopped");
    place.rt(&["delete", &id]).ok();
    assert_eq!(bundle.output(), "");
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    let place = Place::new();
    let bind = |source: &str, options: &[&str]| json!({"destination": "/mnt", "type": "bind", "source": source, "options": options});
    let mut cases = Vec::new();
    for (words, pointer, value) in [
        ("executable file not found in $PATH", "/process/args", json!(["no-such-program"])),
        ("stat /no/such: no such file or directory", "/process/args", json!(["/no/such"])),
        ("permission denied", "/process/args", json!(["/etc/passwd"])),
        ("/process/cwd", "/process/cwd", json!("/etc/passwd")),
        ("/mounts/7", "/mounts/7", bind("/no/such/source", &["bind"])),
        ("/mounts/7", "/mounts/7", json!({"destination": "/mnt", "type": "tmpfs", "options": ["no-such-option=1"]})),
        ("/mounts/7", "/mounts/7", json!({"destination": "/mnt", "type": "no-such-fs", "source": "x"})),
        (
            "not a directory",
            "/mounts/7",
            json!({"destination": "/etc/passwd", "type": "bind", "source": "/tmp", "options": ["bind"]}),
        ),
        ("/linux/resources/cpu/cpus", "/linux/resources/cpu", json!({"cpus": "4000"})),
        ("/linux/namespaces/6", "/linux/namespaces/6", json!({"type": "user", "path": "/etc/passwd"})),
        ("/linux/sysctl", "/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"})),
        ("/root/path", "/root/path", json!("nowhere")),
    ] {
        cases.push((words, pointer, value));
    }
    for (words, pointer, value) in cases {
        let mut bundle = place.bundle("true");
        if let Some(list) = pointer.strip_suffix(|c: char| c.is_ascii_digit()) {
            bundle.push(list.trim_end_matches('/'), value);
        } else {
            bundle.set(pointer, value);
        }
        bundle.create("c", &[]).fails_with(words);
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{pointer}");
        bundle.run("c").fails_with(words);
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{pointer}");
    }
}

/// Starts `rt create` or `rt run` without waiting for it.
fn begin(bundle: &Bundle<'_>, verb: &str, id: &str) -> Child {
    let mut command = bundle.place.command(&[verb, "--bundle", bundle.path(), id]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills the command after a while, and looks whether `delete --force` finds all that it had made.
fn kill_after(bundle: &Bundle<'_>, verb: &str, delay: Duration) {
    let place = bundle.place;
    let id = place.id("killed");
    let mut child = begin(bundle, verb, &id);
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let done = place.rt(&["delete", "--force", &id]);
    assert_eq!((done.code, &*done.stderr), (0, ""), "{verb}, killed after {delay:?}");
    remove_parents(place);
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{verb}, killed after {delay:?}");
}

#[test]
fn a_create_killed_at_any_moment_can_be_deleted() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.write();
    for step in 0..60 {
        kill_after(&bundle, "create", Duration::from_micros(250 * step));
    }
    bundle.create("killed", &[]).ok();
}

#[test]
fn a_run_killed_at_any_moment_can_be_deleted() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    bundle.with_user_namespace();
    bundle.set("/linux/cgroupsPath", json!(place.id("parent/child")));
    bundle.write();
    for step in 0..60 {
        kill_after(&bundle, "run", Duration::from_micros(300 * step));
    }
    bundle.script("exit 5");
    assert_eq!(bundle.run("killed").code, 5);
    remove_parents(&place);
}

#[test]
fn a_run_in_the_foreground_keeps_no_other_command_waiting() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.write();
    let id = place.id("front");
    let mut child = begin(&bundle, "run", &id);
    let until = Instant::now() + Duration::from_secs(20);
    while !place.rt(&["state", &id]).stdout.contains("\"running\"") {
        assert!(Instant::now() < until, "it does not run");
        std::thread::sleep(Duration::from_millis(5));
    }
    let began = Instant::now();
    place.rt(&["pause", &id]).ok();
    place.rt(&["resume", &id]).ok();
    place.rt(&["delete", "--force", &id]).ok();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

/// The upper part of a cgroupsPath is not the container's to remove, as another may have come to use
/// it: it stays, empty, and the test takes it away.
fn remove_parents(place: &Place) {
    for parent in harness::cgroups_named(&place.id("parent")) {
        fs::remove_dir(parent).unwrap();
    }
}

#[test]
fn a_delete_killed_at_any_moment_can_be_repeated() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    for step in 0..30 {
        bundle.create("c", &[]).ok();
        let mut child = place.command(&["delete", "--force", &id]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(200 * step));
        child.kill().unwrap();
        child.wait().unwrap();
        let done = place.rt(&["delete", "--force", &id]);
        assert_eq!((done.code, &*done.stderr), (0, ""), "after {} us", 200 * step);
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "after {} us", 200 * step);
    }
}

#[test]
fn a_create_that_is_asked_to_end_cleans_up_itself() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    let started = place.dir.join("hook-runs");
    let script = format!("touch {}; exec sleep 60", started.display());
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    bundle.write();
    for (verb, signal) in [
        ("create", Signal::TERM),
        ("create", Signal::INT),
        ("run", Signal::TERM),
        ("run", Signal::INT),
        ("create", Signal::HUP),
    ] {
        let child = begin(&bundle, verb, &place.id("c"));
        wait_until("the hook", || started.exists());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let start = Instant::now();
        assert_eq!(finish(child).code, 1, "{verb} {signal:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{verb} {signal:?}");
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{verb} {signal:?}");
        fs::remove_file(&started).unwrap();
    }
}

#[test]
fn of_twenty_creates_at_once_one_wins() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.write();
    let id = place.id("c");
    for _ in 0..3 {
        let children: Vec<Child> = (0..20).map(|_| begin(&bundle, "create", &id)).collect();
        let codes: Vec<i32> = children.into_iter().map(|child| finish(child).code).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        assert_eq!(place.state(&id)["status"], "created");
        place.rt(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn of_four_starts_at_once_one_wins() {
    let place = Place::new();
    let bundle = place.bundle("echo once; exec sleep 100");
    let id = place.id("c");
    for _ in 0..5 {
        bundle.create("c", &[]).ok();
        let start = Instant::now();
        let children: Vec<Child> =
            (0..4).map(|_| place.command(&["start", &id]).stderr(Stdio::piped()).spawn().unwrap()).collect();
        let done: Vec<_> = children.into_iter().map(finish).collect();
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(done.iter().filter(|done| done.code == 0).count(), 1, "{done:?}");
        for loser in done.into_iter().filter(|done| done.code != 0) {
            loser.fails_with("container");
        }
        assert_eq!(place.state(&id)["status"], "running");
        wait_until("its line", || bundle.output() == "once\n");
        place.rt(&["delete", "--force", &id]).ok();
    }
}

/// A shell line that runs rt with changed standard streams.
fn with_streams(bundle: &Bundle<'_>, verb: &str, id: &str, redirections: &str) -> harness::Done {
    bundle.write();
    let root = bundle.place.root.display();
    let bundle_option =
        if ["run", "create"].contains(&verb) { format!("--bundle {}", bundle.path()) } else { String::new() };
    harness::host(&format!("{} --root {root} {verb} {bundle_option} {id} {redirections}", harness::RT))
}

#[test]
fn standard_streams_may_be_closed() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    // The shell opens a file itself: if a closed stream's number went to something of ours, it would show.
    bundle.script("ls -l /proc/self/fd | grep -v -e /dev/null -e total -e '/fd$' | wc -l > /tmp/count; exit 9");
    bundle.set("/root/readonly", json!(false));
    let id = place.id("c");
    for redirections in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        assert_eq!(with_streams(&bundle, "run", &id, redirections).code, 9, "{redirections}");
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{redirections}");
    }
    bundle.script("exec sleep 100");
    assert_eq!(with_streams(&bundle, "create", &id, "<&- >&- 2>&-").code, 0);
    assert_eq!(place.state(&id)["status"], "created");
    assert_eq!(with_streams(&bundle, "start", &id, "<&- >&- 2>&-").code, 0);
    assert_eq!(with_streams(&bundle, "delete --force", &id, "<&- >&- 2>&-").code, 0);
}

#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.create("c", &[]).ok();
    let id = place.id("c");
    for verb in ["state", "list", "list -q", "list -f json", "features"] {
        let argument = if verb == "state" { &*id } else { "" };
        with_streams(&bundle, verb, argument, ">/dev/full").fails_with("no space left on device");
    }
    assert_eq!(place.state(&id)["status"], "created");
}

#[test]
fn a_damaged_state_file_is_named_and_can_be_cleared_away() {
    let place = Place::new();
    let id = place.id("c");
    for text in ["", "{", "null", "{\"id\":3}", "\u{1}\u{2}"] {
        fs::create_dir_all(place.root.join(&id)).unwrap();
        fs::write(place.root.join(&id).join("state.json"), text).unwrap();
        for verb in ["state", "start", "kill", "delete"] {
            place.rt(&[verb, &id]).fails_with(&id);
        }
        assert_eq!(place.rt(&["list"]).ok().stderr, "");
        place.rt(&["delete", "--force", &id]).ok();
        assert!(!place.root.join(&id).exists());
    }
}

#[test]
fn a_stranger_with_the_same_pid_is_not_hit() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let file = place.root.join(&id).join("state.json");
    // Two processes are told apart by their start time, which is counted in hundredths of a second.
    std::thread::sleep(Duration::from_millis(30));
    let mut stranger = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let original = state.clone();
    // As if init had died and its number had been given to another process.
    state["pid"] = json!(stranger.id());
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(place.state(&id)["status"], "stopped");
    place.rt(&["kill", &id, "KILL"]).fails_with("container not running");
    fs::write(&file, original.to_string()).unwrap();
    place.rt(&["delete", "--force", &id]).ok();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_timeline_shows_both_processes_as_text_and_as_a_trace() {
    let place = Place::new();
    let bundle = place.bundle("true");
    let text = bundle.run_with("c", &["--timeline"]).ok().stderr;
    assert!(text.lines().next().is_some_and(|line| line.ends_with("init")), "{text}");
    assert!(text.contains("clone") && text.contains("mount /proc") && text.contains("pivot_root"), "{text}");
    let trace = bundle.dir.join("trace.json");
    bundle.create("d", &["--timeline", trace.to_str().unwrap()]).ok();
    let trace: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(trace).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    for (thread, name) in [(1, "clone"), (2, "pivot_root")] {
        assert!(events.iter().any(|event| event["tid"] == thread && event["name"] == name), "{name}: {trace}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    let help = place.rt(&["--help"]).ok().stdout;
    for command in [
        "create", "start", "run", "state", "kill", "delete", "list", "spec", "features", "check", "plan", "exec", "ps",
        "pause", "resume", "update", "events",
    ] {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in: {help}");
        let own = place.rt(&[command, "--help"]).ok().stdout;
        assert!(own.contains("Usage: rt ") && own.contains("Example: rt "), "{own}");
    }
    let version = place.rt(&["--version"]).ok().stdout;
    let lines: Vec<&str> = version.lines().collect();
    assert!(lines[0].starts_with("rt version ") && lines[1].starts_with("commit: "), "{version}");
    assert_eq!(lines[2], "spec: 1.3.0");
}

#[test]
fn without_systemd_its_driver_is_refused_with_a_way_out() {
    if std::path::Path::new("/run/systemd/private").exists() {
        return;
    }
    let place = Place::new();
    let bundle = place.bundle("true");
    bundle.write();
    let id = place.id("c");
    place
        .rt(&["--systemd-cgroup", "create", "--bundle", bundle.path(), &id])
        .fails_with("without the flag rt makes cgroups itself");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn a_failed_create_leaves_a_pid_file_of_others_alone() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.config["process"]["args"] = serde_json::json!(["nosuch"]);
    let pid_file = bundle.dir.join("pid");
    std::fs::write(&pid_file, "1").unwrap();
    bundle.create("c", &["--pid-file", pid_file.to_str().unwrap()]).fails_with("executable file not found");
    assert_eq!(std::fs::read_to_string(pid_file).unwrap(), "1");
}
