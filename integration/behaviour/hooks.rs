//! Hooks: when each kind runs and where, what it is given, and what its failure does (config.md,
//! "POSIX-platform Hooks"; runtime.md, "Lifecycle").

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::time::{Duration, Instant};

use harness::{Bundle, Place, processes_named};
use serde_json::{Value, json};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that is a line of the shell.
fn sh(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// A bundle whose root can be written: startContainer hooks leave their traces there.
fn writable<'p>(place: &'p Place, script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/root/readonly", json!(false));
    bundle
}

/// The name of a file on the host, as a hook of this kind finds it: in the root for one that runs there.
fn trace(bundle: &Bundle<'_>, kind: &str, name: &str) -> String {
    if kind == "startContainer" { format!("/{name}") } else { bundle.rootfs(name).display().to_string() }
}

/// What hooks have left in the root.
fn read(bundle: &Bundle<'_>, name: &str) -> String {
    fs::read_to_string(bundle.rootfs(name)).unwrap_or_default()
}

fn namespace(pid: &str, file: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string()
}

/// Hooks of every kind that note that they have run.
fn noting(bundle: &mut Bundle<'_>) {
    for kind in KINDS {
        let log = trace(bundle, kind, "log");
        bundle.set(
            &format!("/hooks/{kind}"),
            json!([sh(&format!("echo {kind} 1 >>{log}")), sh(&format!("echo {kind} 2 >>{log}"))]),
        );
    }
}

const WHOLE_ORDER: &str = "prestart 1\nprestart 2\ncreateRuntime 1\ncreateRuntime 2\ncreateContainer 1\ncreateContainer 2\n\
    startContainer 1\nstartContainer 2\n";

#[test]
fn hooks_run_in_their_order() {
    let place = Place::new();
    let mut bundle = writable(&place, "echo program >>/log; exec sleep 100");
    noting(&mut bundle);
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let until_created = WHOLE_ORDER.split_once("startContainer").unwrap().0;
    assert_eq!(read(&bundle, "log"), until_created);
    place.rt(&["start", &id]).ok();
    harness::wait_until("the program", || read(&bundle, "log").contains("program"));
    let log = read(&bundle, "log");
    assert!(log.starts_with(WHOLE_ORDER), "{log}");
    // poststart runs beside the program: after it was started, whatever it does meanwhile.
    assert_eq!(
        log.lines().filter(|line| line.starts_with("poststart")).collect::<Vec<_>>(),
        ["poststart 1", "poststart 2"]
    );
    place.rt(&["kill", &id, "KILL"]).ok();
    place.wait_for(&id, "stopped");
    assert!(!read(&bundle, "log").contains("poststop"));
    place.rt(&["delete", &id]).ok();
    assert!(read(&bundle, "log").ends_with("poststop 1\npoststop 2\n"), "{}", read(&bundle, "log"));
}

#[test]
fn hooks_run_in_their_order_with_run() {
    let place = Place::new();
    let mut bundle = writable(&place, "sleep 0.2; exit 3");
    noting(&mut bundle);
    assert_eq!(bundle.run("c").code, 3);
    let rest = "poststart 1\npoststart 2\npoststop 1\npoststop 2\n";
    assert_eq!(read(&bundle, "log"), format!("{WHOLE_ORDER}{rest}"));
}

#[test]
fn each_kind_gets_the_state_in_the_right_namespaces() {
    let place = Place::new();
    let mut bundle = writable(&place, "exec sleep 100");
    bundle.set("/annotations", json!({"key": "value"}));
    for kind in KINDS {
        let (state, ns) = (trace(&bundle, kind, &format!("{kind}.state")), trace(&bundle, kind, &format!("{kind}.ns")));
        let script =
            format!("cat >{state}; for n in mnt pid net uts ipc; do readlink /proc/self/ns/$n; done >{ns}; pwd >>{ns}");
        bundle.set(&format!("/hooks/{kind}"), json!([sh(&script)]));
    }
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let pid = place.state(&id)["pid"].to_string();
    let inside: Vec<String> = ["mnt", "pid", "net", "uts", "ipc"].iter().map(|file| namespace(&pid, file)).collect();
    let outside: Vec<String> = ["mnt", "pid", "net", "uts", "ipc"].iter().map(|file| namespace("self", file)).collect();
    place.rt(&["start", &id]).ok();
    place.rt(&["delete", "--force", &id]).ok();
    for (kind, status, hook_pid, namespaces) in [
        ("prestart", "created", &*pid, &outside),
        ("createRuntime", "created", &pid, &outside),
        ("createContainer", "created", "1", &inside),
        ("startContainer", "created", "1", &inside),
        ("poststart", "running", &pid, &outside),
        ("poststop", "stopped", "0", &outside),
    ] {
        let state: Value = serde_json::from_str(&read(&bundle, &format!("{kind}.state")))
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
        // The spec names no moment at which the one word changes to the other for hooks of create:
        // runc says "creating" there, crun "created".
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["pid"].to_string(), hook_pid, "{kind}");
        assert_eq!((state["id"].as_str(), state["bundle"].as_str()), (Some(&*id), Some(bundle.path())), "{kind}");
        assert_eq!(state["annotations"], json!({"key": "value"}), "{kind}");
        let seen = read(&bundle, &format!("{kind}.ns"));
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen[..5], namespaces[..], "{kind}");
    }
}

/// createRuntime finds the mounts made but the root not yet changed; createContainer finds itself in
/// the container's mounts with the host's root; startContainer is in the container's root.
#[test]
fn each_kind_finds_its_moment() {
    let place = Place::new();
    let mut bundle = writable(&place, "exec sleep 100");
    let root = bundle.rootfs("/").display().to_string();
    let root = root.trim_end_matches('/');
    bundle.set("/hooks/createRuntime", json!([sh(&format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); grep -c ' {root}/dev/pts ' /proc/$pid/mountinfo >{root}/runtime; grep -c ' - proc ' /proc/$pid/mountinfo >>{root}/runtime; grep -c {root}/dev/pts /proc/self/mountinfo >>{root}/runtime; true"
    ))]));
    bundle.set(
        "/hooks/createContainer",
        json!([sh(&format!("test -c {root}/dev/null && test -d {root}/proc/1 && echo seen >{root}/container"))]),
    );
    bundle.set(
        "/hooks/startContainer",
        json!([sh("test -c /dev/null && test -d /proc/1 && echo $(cat /proc/1/comm) >/start")]),
    );
    bundle.create("c", &[]).ok();
    let runtime = read(&bundle, "runtime");
    let counts: Vec<&str> = runtime.lines().collect();
    assert_eq!(
        (counts[0], counts[2]),
        ("1", "0"),
        "mounted in the container's mount namespace, not in the runtime's: {runtime}"
    );
    assert_eq!(read(&bundle, "container"), "seen\n");
    assert_eq!(read(&bundle, "start"), "");
    place.rt(&["start", &place.id("c")]).ok();
    assert_ne!(read(&bundle, "start"), "");
    assert_ne!(read(&bundle, "start"), "sleep\n", "before the program");
}

#[test]
fn arguments_environment_and_descriptors() {
    let place = Place::new();
    let mut bundle = writable(&place, "true");
    for kind in KINDS {
        let out = trace(&bundle, kind, &format!("{kind}.out"));
        let script = format!(
            "{{ printf '[%s]' \"$0\" \"$@\"; echo; cat /proc/self/environ | tr '\\0' '\n' | grep -v -e ^PWD= -e ^SHLVL= -e ^PATH= | tr '\n' ' '; echo; echo; for f in /proc/self/fd/*; do n=${{f##*/}}; if test -e $f; then echo $n; fi; done; }} >{out}"
        );
        bundle.set(&format!("/hooks/{kind}"), json!([{"path": "/bin/sh", "args": ["/odd/sh", "-c", script, "zero", "a b", ""], "env": ["A=1", "B=two words"]}]));
    }
    bundle.write();
    let id = place.id("c");
    let mut command = place.command(&["run", "--bundle", bundle.path(), &id]);
    command.env("OF_THE_HOST", "x").stderr(std::process::Stdio::piped());
    harness::finish(command.spawn().unwrap()).ok();
    for kind in KINDS {
        let text = read(&bundle, &format!("{kind}.out"));
        let lines: Vec<&str> = text.lines().collect();
        // Both shells add something of their own, which is not compared.
        assert_eq!(lines[..2], ["[zero][a b][]", "A=1 B=two words "], "{kind}");
        // 3 is the directory that the shell itself reads, 10 and more are where it saves its streams.
        let open: Vec<&str> = lines[2..]
            .iter()
            .copied()
            .filter(|number| !number.is_empty() && number.parse::<u32>().unwrap() < 10)
            .collect();
        assert!(open.starts_with(&["0", "1", "2"]) && open.len() <= 4, "{kind}: {open:?}");
    }
}

#[test]
fn a_hook_without_arguments_or_environment() {
    let place = Place::new();
    let mut bundle = writable(&place, "true");
    let script = place.dir.join("hook.sh");
    let out = place.dir.join("out");
    fs::write(&script, format!("#!/bin/sh\necho $0 $# $(tr '\\0' ' ' </proc/$$/environ) >{}\n", out.display()))
        .unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.set("/hooks/createRuntime", json!([{"path": script}]));
    bundle.run("c").ok();
    assert_eq!(fs::read_to_string(out).unwrap(), format!("{} 0\n", script.display()));
}

#[test]
fn a_hook_of_create_that_fails_takes_the_container_with_it() {
    let place = Place::new();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for verb in ["create", "run"] {
            let mut bundle = writable(&place, "echo never >/program");
            noting(&mut bundle);
            let log = trace(&bundle, kind, "log");
            bundle.set(
                &format!("/hooks/{kind}"),
                json!([
                    sh(&format!("echo {kind} >>{log}; echo to-stdout; echo to-stderr >&2; exit 7")),
                    sh(&format!("echo second >>{log}"))
                ]),
            );
            let done = if verb == "create" { bundle.create("c", &[]) } else { bundle.run("c") };
            let done = done.fails_with(&format!("/hooks/{kind}/0"));
            assert!(
                done.stderr.contains("exit status 7") && done.stderr.contains("to-stdout to-stderr"),
                "{}",
                done.stderr
            );
            let log = read(&bundle, "log");
            assert!(log.ends_with(&format!("{kind}\npoststop 1\npoststop 2\n")), "{verb} {kind}: {log}");
            assert!(!log.contains("second") && !bundle.rootfs("program").exists());
            assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{verb} {kind}");
        }
    }
}

#[test]
fn a_start_container_hook_that_fails_keeps_the_program_from_running() {
    let place = Place::new();
    let mut bundle = writable(&place, "echo never >/program");
    noting(&mut bundle);
    bundle.set("/hooks/startContainer", json!([sh("exit 9")]));
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).fails_with("/hooks/startContainer/0");
    assert_eq!(place.state(&id)["status"], "stopped");
    assert!(!bundle.rootfs("program").exists());
    assert!(!read(&bundle, "log").contains("poststart"));
    place.rt(&["delete", &id]).ok();
    assert!(read(&bundle, "log").ends_with("poststop 1\npoststop 2\n"));
    bundle.run("c").fails_with("/hooks/startContainer/0");
    assert!(!bundle.rootfs("program").exists());
}

/// runtime.md of 1.3.0: an error, and the container is stopped; before, it was a warning.
#[test]
fn a_poststart_hook_that_fails_stops_the_container() {
    let place = Place::new();
    let mut bundle = writable(&place, "exec sleep 100");
    noting(&mut bundle);
    bundle.set("/hooks/poststart", json!([sh("exit 5"), sh(&format!("echo second >>{}", trace(&bundle, "", "log")))]));
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).fails_with("/hooks/poststart/0");
    assert_eq!(place.state(&id)["status"], "stopped");
    place.rt(&["delete", &id]).ok();
    assert!(read(&bundle, "log").ends_with("startContainer 2\npoststop 1\npoststop 2\n"), "{}", read(&bundle, "log"));
    bundle.run("c").fails_with("/hooks/poststart/0");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    let place = Place::new();
    let mut bundle = writable(&place, "true");
    let marker = place.dir.join("second");
    bundle.set("/hooks/poststop", json!([sh("echo why >&2; exit 5"), sh(&format!("touch {}", marker.display()))]));
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let log = place.dir.join("log");
    let done = place.rt(&["--log", log.to_str().unwrap(), "delete", "--force", &id]).ok();
    assert_eq!(done.stderr, "");
    assert!(marker.exists(), "the next one runs");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("level=warning") && log.contains("/hooks/poststop/0") && log.contains("why"), "{log}");
    place.rt(&["state", &id]).fails_with("does not exist");
}

#[test]
fn a_hook_that_cannot_be_started_is_a_failure() {
    let place = Place::new();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = place.bundle("true");
        bundle.set(&format!("/hooks/{kind}"), json!([{"path": "/no/such/hook"}]));
        let done = bundle.create("c", &[]).fails_with(&format!("/hooks/{kind}/0"));
        assert!(
            done.stderr.contains("/no/such/hook") && done.stderr.contains("no such file or directory"),
            "{}",
            done.stderr
        );
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_hook_is_killed_with_its_children_at_its_timeout() {
    let place = Place::new();
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = place.bundle("true");
        // The marker in the command line tells the grandchild from all other processes.
        let marker = format!("{}{kind}", place.id("sleeper"));
        let mut hook = sh(&format!("sh -c 'sleep 60; : {marker}' & sleep 60"));
        hook["timeout"] = json!(1);
        bundle.set(&format!("/hooks/{kind}"), json!([hook]));
        let start = Instant::now();
        bundle.create("c", &[]).fails_with("timeout");
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
        harness::wait_until("the grandchild's end", || processes_named(&marker).is_empty());
    }
}

#[test]
fn a_hook_may_write_much_and_read_nothing() {
    let place = Place::new();
    let mut bundle = writable(&place, "true");
    for kind in KINDS {
        bundle.set(
            &format!("/hooks/{kind}"),
            json!([sh("exec <&-; head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2")]),
        );
    }
    // A state that does not fit into a pipe.
    bundle.set("/annotations", json!({"big": "x".repeat(300_000)}));
    let done = bundle.run("c").ok();
    assert_eq!((done.stdout.len(), done.stderr.len()), (0, 0), "what hooks write is not the container's output");
}

#[test]
fn a_hook_may_leave_a_process_behind() {
    let place = Place::new();
    let mut bundle = writable(&place, "true");
    for kind in KINDS {
        bundle.set(&format!("/hooks/{kind}"), json!([sh("sleep 8 & exit 0")]));
    }
    let start = Instant::now();
    bundle.run("c").ok();
    assert!(start.elapsed() < Duration::from_secs(6), "nobody waits for what a grandchild holds open");
}

/// The program is executed before the first poststart hook runs, not merely cloned.
#[test]
fn poststart_hooks_find_the_program_executed() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    let log = bundle.dir.join("poststart");
    let look =
        format!("pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); readlink /proc/$pid/exe >{}", log.display());
    bundle.set("/hooks/poststart", json!([sh(&look)]));
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).ok();
    assert_eq!(fs::read_to_string(log).unwrap().trim(), "/bin/busybox");
}
