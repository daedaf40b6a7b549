//! What else goes wrong around a runtime: hooks that kill, commands at random, few descriptors, other
//! clocks, nobody who reads.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Place, RT, finish, host, wait_until};

/// A hook of the host's shell.
fn hook(kind: &str, script: &str) -> serde_json::Value {
    json!({ kind: [{"path": "/bin/sh", "args": ["sh", "-c", script]}] })
}

#[test]
fn a_hook_that_kills_its_parent_leaves_nothing_that_cannot_be_deleted() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    for kind in ["prestart", "createRuntime"] {
        bundle.config["hooks"] = hook(kind, "kill -KILL $PPID");
        for verb in ["create", "run"] {
            let done = if verb == "create" { bundle.create("c", &[]) } else { bundle.run("c") };
            assert_eq!(done.code, 137, "{verb}, {kind}: {done:?}");
            place.rt(&["delete", "--force", &id]).ok();
            assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{verb}, {kind}");
        }
    }
    // Init's own hooks are in its pid namespace, from where the kernel lets nobody kill it.
    bundle.config["hooks"] = hook("createContainer", "kill -KILL $PPID");
    bundle.create("c", &[]).ok();
    assert_eq!(place.state(&id)["status"], "created");
    place.rt(&["delete", "--force", &id]).ok();
    bundle.namespace("pid", None);
    bundle.create("c", &[]).fails_with("killed by signal 9");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "without a pid namespace");
    bundle.push("/linux/namespaces", json!({"type": "pid"}));
    // Its parent is the command that starts or deletes; the container is what it was.
    bundle.config["hooks"] = hook("poststart", "kill -KILL $PPID");
    bundle.create("c", &[]).ok();
    assert_eq!(place.rt(&["start", &id]).code, 137);
    assert_eq!(place.state(&id)["status"], "running");
    place.rt(&["delete", "--force", &id]).ok();
    bundle.config["hooks"] = hook("poststop", "kill -KILL $PPID");
    bundle.create("c", &[]).ok();
    assert_eq!(place.rt(&["delete", "--force", &id]).code, 137);
    place.rt(&["delete", "--force", &id]).ok();
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

/// A start container hook runs inside and is init's child.
#[test]
fn a_hook_that_kills_init_is_told_by_start() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    // The last process but this shell: everything else in the container's pid namespace.
    bundle.config["hooks"] =
        json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -KILL -1; exit 3"]}]});
    bundle.create("c", &[]).ok();
    let done = place.rt(&["start", &id]);
    assert!(done.code == 1 && done.stderr.contains("startContainer"), "{done:?}");
    place.wait_for(&id, "stopped");
    place.rt(&["delete", &id]).ok();
}

/// Commands at random from four sides at once, on two containers.
#[test]
fn a_storm_of_commands_ends_in_a_clean_delete() {
    const VERBS: [&[&str]; 11] = [
        &["start"],
        &["kill", "KILL"],
        &["kill", "TERM"],
        &["delete"],
        &["delete", "--force"],
        &["state"],
        &["pause"],
        &["resume"],
        &["ps"],
        &["exec", "true"],
        &["update", "--pids-limit", "50"],
    ];
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.write();
    let ids = [place.id("a"), place.id("b")];
    let until = Instant::now() + Duration::from_secs(4);
    std::thread::scope(|scope| {
        for side in 0..4_usize {
            let (place, bundle, ids) = (&place, &bundle, &ids);
            scope.spawn(move || {
                let mut random = 88_172_645_463_325_252_u64 + side as u64;
                while Instant::now() < until {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let id = &*ids[random as usize % 2];
                    let choice = (random >> 8) as usize % (VERBS.len() + 3);
                    let mut args: Vec<&str> = Vec::new();
                    match VERBS.get(choice) {
                        Some([verb, options @ ..]) if ["kill", "exec"].contains(verb) => {
                            args.extend([verb, id]);
                            args.extend(options);
                        }
                        Some([verb, options @ ..]) => {
                            args.push(verb);
                            args.extend(options);
                            args.push(id);
                        }
                        _ => args.extend(["create", "--bundle", bundle.path(), id]),
                    }
                    // What it creates must not hold a pipe of ours open.
                    let errors = bundle.dir.join(format!("errors{side}"));
                    let mut command = place.command(&args);
                    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors).unwrap());
                    let began = Instant::now();
                    let code = finish(command.spawn().unwrap()).code;
                    let said = fs::read_to_string(errors).unwrap();
                    assert!([0, 1, 255, 137, 143].contains(&code), "{args:?}: {code}: {said}");
                    assert!(said.lines().count() <= 1 && !said.contains("panicked"), "{args:?}: {code}: {said}");
                    assert!(began.elapsed() < Duration::from_secs(10), "{args:?} took {:?}", began.elapsed());
                }
            });
        }
    });
    for id in &ids {
        place.rt(&["delete", "--force", id]).ok();
    }
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn few_descriptors_are_enough_or_an_error() {
    let place = Place::new();
    let mut bundle = place.bundle("exit 7");
    // Raising what was lowered takes a capability.
    bundle.set("/process/rlimits", json!([])).write();
    let id = place.id("c");
    let mut codes = Vec::new();
    for count in 3..=32 {
        let root = place.root.display();
        let line = format!("{RT} --root {root} run --bundle {} {id}", bundle.path());
        let done = host(&format!("prlimit --nofile={count} {line}"));
        let good = done.code == 7 || (done.code == 1 && done.stderr.trim_end().lines().count() == 1);
        assert!(good && !done.stderr.contains("panicked"), "{count} descriptors: {done:?}");
        place.rt(&["delete", "--force", &id]).ok();
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{count} descriptors");
        codes.push(done.code);
    }
    assert!(codes.first() == Some(&1) && codes.last() == Some(&7), "{codes:?}");
}

/// Who counts time from another moment sees another start time of the same process.
#[test]
fn other_clocks_change_nothing() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.write();
    let id = place.id("c");
    let root = place.root.display();
    let elsewhere = |line: &str| {
        host(&format!(
            "unshare --time --monotonic 90000000 --boottime 90000000 --fork sh -c '{RT} --root {root} {line}'"
        ))
    };
    let out = bundle.dir.join("out");
    let create = format!("create --bundle {} {id} >{out} 2>&1", bundle.path(), out = out.display());
    // All of a life with those clocks.
    elsewhere(&create).ok();
    elsewhere(&format!("start {id}")).ok();
    assert!(elsewhere(&format!("state {id}")).ok().stdout.contains("\"running\""));
    elsewhere(&format!("delete --force {id}")).ok();
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    // Created here, deleted there, and the other way round: whoever cannot tell init kills by the cgroup.
    bundle.create("c", &[]).ok();
    elsewhere(&format!("delete --force {id}")).ok();
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    elsewhere(&create).ok();
    place.rt(&["delete", "--force", &id]).ok();
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn nobody_who_reads_is_no_crash() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.create("c", &[]).ok();
    let id = place.id("c");
    for verb in ["state", "list", "ps", "features"] {
        let argument = if ["state", "ps"].contains(&verb) { &*id } else { "" };
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(RT);
        command.arg("--root").arg(&place.root).arg(verb);
        if !argument.is_empty() {
            command.arg(argument);
        }
        let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        finish(child).fails_with("broken pipe");
    }
    assert_eq!(place.state(&id)["status"], "created");
    place.rt(&["delete", "--force", &id]).ok();
    wait_until("its end", || place.leftovers().is_empty());
}
