//! The state directory is full, cannot be written, is none, or holds what a kill has left there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Done, Place, RT, host};

/// A command that answers at once: success, or one line.
#[track_caller]
fn answers(done: &Done, what: &str) {
    let good = done.code == 0 || (done.code == 1 && done.stderr.trim_end().lines().count() == 1);
    assert!(good, "{what}: {done:?}");
}

/// Creates and deletes a container with a tmpfs of these options as state directory, in a mount
/// namespace of its own. Prints what is left of it, and ends as `create` did.
fn on_tmpfs(place: &Place, bundle: &Path, id: &str, options: &str) -> Done {
    let root = place.root.display();
    let script = format!(
        "mount -t tmpfs -o {options} none {root} || exit 99
        {RT} --root {root} create --bundle {} {id} >/dev/null
        status=$?
        {RT} --root {root} delete --force {id} || echo 'not deleted'
        ls {root}
        exit $status",
        bundle.display()
    );
    host(&format!("unshare --mount sh -c \"{}\"", script.replace('$', "\\$")))
}

#[test]
fn a_full_state_directory_is_an_error_that_leaves_nothing() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.write();
    fs::create_dir(&place.root).unwrap();
    let id = place.id("c");
    let sizes = (1..=6).map(|pages| format!("size={}k", 4 * pages));
    let inodes = (1..=8).map(|count| format!("nr_inodes={count}"));
    let mut codes = Vec::new();
    for options in sizes.chain(inodes).chain(["ro".to_owned()]) {
        let done = on_tmpfs(&place, &bundle.dir, &id, &options);
        answers(&done, &options);
        assert_eq!(done.stdout, "", "{options}: {done:?}");
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{options}");
        if done.code == 1 {
            let words = ["no space left on device", "read-only file system"];
            assert!(words.iter().any(|words| done.stderr.contains(words)), "{options}: {}", done.stderr);
            assert!(done.stderr.contains(place.root.to_str().unwrap()), "{options}: {}", done.stderr);
        }
        codes.push(done.code);
    }
    // Otherwise the sizes have missed what they are for.
    assert!(codes.contains(&0) && codes.contains(&1), "{codes:?}");
}

#[test]
fn a_state_directory_that_is_a_file_is_named() {
    let place = Place::new();
    let bundle = place.bundle("true");
    fs::write(&place.root, "").unwrap();
    let path = place.root.to_str().unwrap();
    assert!(bundle.create("c", &[]).fails_with("not a directory").stderr.contains(path));
    for verb in ["state", "start", "kill", "delete"] {
        answers(&place.rt(&[verb, &place.id("c")]), verb);
    }
    place.rt(&["list"]).fails_with(path);
    fs::remove_file(&place.root).unwrap();
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn what_a_killed_create_leaves_is_no_hindrance() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    let dir = place.root.join(&id);
    bundle.create("c", &[]).ok();
    let whole = fs::read(dir.join("state.json")).unwrap();
    place.rt(&["delete", "--force", &id]).ok();
    let mut first: Value = serde_json::from_slice(&whole).unwrap();
    first["pid"] = json!(0);
    first["startTime"] = json!(0);
    let first = first.to_string().into_bytes();
    let files: [&[(&str, &[u8])]; 6] = [
        &[],
        &[("state.json", b"")],
        &[("state.json", &first[..first.len() / 2])],
        &[("state.json", &first)],
        &[("state.json", &first), ("state.json.new", &whole[..20])],
        &[("state.json", &first), ("start.sock.new", b""), ("process.json", b"{"), ("seccomp.bpf", b"")],
    ];
    for files in files {
        fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).unwrap();
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let start = Instant::now();
        place.rt(&["list"]).ok();
        for verb in ["state", "start", "kill", "delete", "pause", "ps"] {
            answers(&place.rt(&[verb, &id]), &format!("{verb} with {names:?}"));
        }
        bundle.create("c", &[]).fails_with("exists already");
        place.rt(&["delete", "--force", &id]).ok();
        assert!(start.elapsed() < Duration::from_secs(10), "{names:?}");
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{names:?}");
        bundle.create("c", &[]).ok();
        place.rt(&["delete", "--force", &id]).ok();
    }
}

/// Cut at any place, the state of a container that lives is read as damaged: nobody is hit by mistake.
#[test]
fn a_cut_state_is_named_by_every_verb() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let file = place.root.join(&id).join("state.json");
    let whole = fs::read(&file).unwrap();
    for eighth in 0..8 {
        fs::write(&file, &whole[..whole.len() * eighth / 8]).unwrap();
        for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps", "update"] {
            let done = place.rt(&[verb, &id]).fails_with(&id);
            assert!(done.stderr.contains("damaged"), "{verb}: {}", done.stderr);
        }
        place.rt(&["list"]).ok();
    }
    fs::write(&file, &whole).unwrap();
    assert_eq!(place.state(&id)["status"], "created");
    place.rt(&["delete", "--force", &id]).ok();
}

/// The number of an init that is gone may be another's by now, also that of another container's init.
#[test]
fn whoever_has_got_the_number_of_init_is_let_alone() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    bundle.create("other", &[]).ok();
    let other = place.state(&place.id("other"))["pid"].clone();
    let mut stranger = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    for pid in [json!(stranger.id()), other, json!(std::process::id()), json!(1)] {
        let id = place.id("c");
        bundle.create("c", &[]).ok();
        let file = place.root.join(&id).join("state.json");
        let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        state["pid"] = pid.clone();
        // Hundredths of a second are coarse: these processes were started at nearly the same time.
        state["startTime"] = json!(state["startTime"].as_u64().unwrap() + 1000);
        fs::write(&file, state.to_string()).unwrap();
        assert_eq!(place.state(&id)["status"], "stopped", "{pid}");
        for args in [&["kill", &id, "KILL"][..], &["start", &id], &["exec", &id, "true"], &["pause", &id]] {
            let done = place.rt(args);
            assert!(done.code != 0 && done.stderr.trim_end().lines().count() == 1, "{pid}, {args:?}: {done:?}");
        }
        place.rt(&["delete", "--force", &id]).ok();
        assert_eq!(place.state(&place.id("other"))["status"], "created", "{pid}");
        assert!(stranger.try_wait().unwrap().is_none(), "{pid}: the stranger lives");
    }
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    place.rt(&["delete", "--force", &place.id("other")]).ok();
}
