//! The store: names, what is shared, what goes, what is damaged, many at once, kills.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::json;

use crate::harness::{Place, layout, sh, tar};

/// Loads an image of some layers, each of one file of its own.
fn load(place: &Place, name: &str, layers: &[&str]) -> String {
    let tars: Vec<Vec<u8>> = layers.iter().map(|it| tar(&[(it, it, 0o644)])).collect();
    let dir = place.path(&format!("layout-{}", name.replace(['/', ':'], "-")));
    layout(&dir, name, &tars, json!({"Cmd": [name]}));
    place.bundle(&["load", "-q", "-i", dir.to_str().unwrap()]).ok();
    place.bundle(&["inspect", "--format", "{{.Id}}", name]).ok().last().to_owned()
}

fn count(place: &Place, dir: &str) -> usize {
    std::fs::read_dir(place.path("store").join(dir)).unwrap().count()
}

#[test]
fn layers_are_shared_and_go_with_the_last_image() {
    let place = Place::new("shared");
    load(&place, "a:1", &["base", "a"]);
    load(&place, "b:1", &["base", "b"]);
    // One base, two tops; two manifests and configurations besides three layers.
    assert_eq!((count(&place, "layers"), count(&place, "blobs/sha256")), (3, 7));
    place.bundle(&["rmi", "a:1"]).ok();
    assert_eq!((count(&place, "layers"), count(&place, "blobs/sha256")), (2, 4));
    place.bundle(&["store", "check"]).ok();
    place.bundle(&["rmi", "b:1"]).ok();
    assert_eq!((count(&place, "layers"), count(&place, "blobs/sha256"), count(&place, "trash")), (0, 0, 0));
}

#[test]
fn names_are_given_moved_and_taken() {
    let place = Place::new("names");
    let id = load(&place, "a:1", &["x"]);
    place.bundle(&["tag", "a:1", "localhost:5000/team/b"]).ok();
    place.bundle(&["tag", &id[7..19], "c"]).ok();
    let list = place.bundle(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().out;
    assert_eq!(list, "a:1\nc:latest\nlocalhost:5000/team/b:latest\n");
    assert_eq!(place.bundle(&["images", "-q"]).ok().out, format!("{}\n", &id[7..19]));
    assert_eq!(place.bundle(&["images", "a"]).ok().out.lines().count(), 2);
    assert_eq!(place.bundle(&["images", "--filter", "reference=local*/team/*", "-q"]).ok().out.lines().count(), 1);
    assert_eq!(place.bundle(&["images", "--format", "json"]).ok().out.lines().count(), 3);
    place.bundle(&["rmi", &id[7..19]]).fails(1, "several names");
    place.bundle(&["rmi", "a:1", "nothing", "c"]).fails(1, "no such image: nothing");
    assert_eq!(place.bundle(&["images", "--format", "{{.Repository}}"]).ok().out, "localhost:5000/team/b\n");
    // A name that moves leaves its image without one.
    load(&place, "d:1", &["y"]);
    load(&place, "d:1", &["z"]);
    assert_eq!(place.bundle(&["images", "--filter", "dangling=true", "-q"]).ok().out.lines().count(), 1);
    assert!(place.bundle(&["prune", "--dry-run"]).ok().err.contains("image"));
    place.bundle(&["prune"]).fails(1, "--force");
    place.bundle(&["prune", "-f"]).ok();
    assert_eq!(place.bundle(&["images", "-q"]).ok().out.lines().count(), 2);
    place.bundle(&["prune", "-f", "--all"]).ok();
    assert_eq!(place.bundle(&["images", "-q"]).ok().out, "");
    assert_eq!((count(&place, "layers"), count(&place, "blobs/sha256")), (0, 0));
    for bad in ["UPPER", "a:b:c", "../x", ""] {
        place.bundle(&["tag", "a:1", bad]).fails(1, "image name");
    }
}

#[test]
fn history_and_inspect_say_what_is_there() {
    let place = Place::new("inspect");
    let id = load(&place, "a:1", &["one", "two"]);
    let about = place.bundle(&["inspect", "a:1"]).ok().json();
    assert_eq!((&about[0]["Id"], &about[0]["RepoTags"]), (&json!(id), &json!(["a:1"])));
    assert_eq!(about[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(place.bundle(&["history", "a:1"]).ok().out.lines().count(), 3);
    assert_eq!(place.bundle(&["history", "--format", "json", "a:1"]).ok().out.lines().count(), 2);
    place.bundle(&["inspect", "--format", "{{.Nothing}}", "a:1"]).fails(1, "Nothing");
    place.bundle(&["inspect", "nothing"]).fails(1, "no such container, image, network or volume");
}

#[test]
fn damage_is_found_and_repaired() {
    let place = Place::new("damage");
    load(&place, "a:1", &["base", "a"]);
    load(&place, "b:1", &["base", "b"]);
    let layer = |name: &str| place.bundle(&["inspect", "--format", "{{json .}}", name]).ok().json();
    // A byte of a layer's blob that only one image has.
    let blob = layer("a:1")["Layers"][1]["digest"].as_str().unwrap()[7..].to_owned();
    let path = place.path("store/blobs/sha256").join(blob);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let check = place.bundle(&["store", "check"]);
    assert!(check.status == 1 && check.out.contains("another digest"), "{}{}", check.out, check.err);
    place.bundle(&["store", "check", "--repair"]).ok();
    place.bundle(&["store", "check"]).ok();
    place.bundle(&["inspect", "a:1"]).fails(1, "no such container, image, network or volume");
    place.bundle(&["inspect", "b:1"]).ok();
    load(&place, "a:1", &["base", "a"]);
    // A layer's directory: it is unpacked again.
    let dirs = layer("b:1")["LayerDirectories"].clone();
    std::fs::remove_file(Path::new(dirs[0].as_str().unwrap()).join("base")).unwrap();
    assert_eq!(place.bundle(&["store", "check"]).status, 1);
    let repaired = place.bundle(&["store", "check", "--repair", "--format", "json"]).ok().json();
    assert_eq!(repaired["Faults"][0]["Repaired"], true);
    place.bundle(&["export-bundle", "--entrypoint", "x", "b:1", &place.text("b")]).ok();
    assert_eq!(std::fs::read_to_string(place.path("b/rootfs/base")).unwrap(), "base");
    // Files that are gone, and a manifest.
    sh(&format!("rm {}/blobs/sha256/*", place.text("store")));
    assert_eq!(place.bundle(&["store", "check"]).status, 1);
    place.bundle(&["store", "check", "--repair"]).ok();
    assert_eq!(place.bundle(&["images", "-q"]).ok().out, "");
    load(&place, "a:1", &["base", "a"]);
    place.bundle(&["store", "check"]).ok();
}

#[test]
fn a_newer_store_is_left_alone() {
    let place = Place::new("newer");
    load(&place, "a:1", &["x"]);
    sh(&format!(
        "python3 -c \"import sqlite3; c=sqlite3.connect('{}/bundle.db'); c.execute('pragma user_version=99')\"",
        place.text("store")
    ));
    place.bundle(&["images"]).fails(1, "newer bundle");
    place.bundle_in("/dev/null/x", &["images"]).fails(1, "opening the store");
}

#[test]
fn many_work_on_one_store() {
    let place = Place::new("many");
    let dirs: Vec<String> = (0..4)
        .map(|number| {
            let dir = place.path(&format!("l{number}"));
            let own = format!("own-{number}");
            let tars = [tar(&[("base", "base", 0o644)]), tar(&[(own.as_str(), "x", 0o644)])];
            layout(&dir, &format!("many:{number}"), &tars, json!({}));
            dir.to_str().unwrap().to_owned()
        })
        .collect();
    let commands: Vec<Vec<String>> = (0..32)
        .map(|number| {
            let image = number % 4;
            let words: Vec<String> = match number / 4 % 4 {
                0 | 1 => vec!["load".into(), "-q".into(), "-i".into(), dirs[image].clone()],
                2 => vec!["rmi".into(), format!("many:{image}")],
                _ => vec!["prune".into(), "-f".into()],
            };
            words
        })
        .collect();
    let mut children: Vec<_> = commands
        .iter()
        .map(|words| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = place.command("store", &words);
            (
                words[0].to_owned(),
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap(),
            )
        })
        .collect();
    for (word, child) in children.drain(..) {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        // What is removed may have been gone; nothing else fails.
        assert!(output.status.success() || word == "rmi" && errors.contains("no such image"), "{word}: {errors}");
    }
    place.bundle(&["store", "check"]).ok();
    for dir in &dirs {
        place.bundle(&["load", "-q", "-i", dir]).ok();
    }
    place.bundle(&["store", "check"]).ok();
}

/// Kills commands at 50 moments spread over how long they take; the store is whole or repairs, and the next
/// command does its work.
#[test]
fn a_kill_at_any_moment_loses_nothing() {
    let place = Place::new("kills");
    let content: String =
        (0..200_000).map(|it: u32| char::from(b'a' + (it.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    let tars: Vec<Vec<u8>> =
        (0..3).map(|it| tar(&[(format!("file{it}").as_str(), &content, 0o644), ("more", "x", 0o644)])).collect();
    layout(&place.path("l"), "k:1", &tars, json!({}));
    load(&place, "kept:1", &["kept"]);
    let load = ["load", "-q", "-i", &place.text("l")].map(str::to_owned);
    let began = Instant::now();
    place.bundle(&load.each_ref().map(String::as_str)).ok();
    let whole = began.elapsed();
    let commands: [&[&str]; 3] = [&["load", "-q", "-i", &load[3]], &["rmi", "k:1"], &["prune", "-f", "--all"]];
    for round in 0..50_u32 {
        let words = commands[round as usize % 3];
        let mut child = place
            .command("store", words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * (round / 3) / 12);
        let _ = child.kill();
        child.wait().unwrap();
        let check = place.bundle(&["store", "check"]);
        if check.status != 0 {
            // Only what was half made: no image of the database is damaged.
            assert!(!check.out.contains("sha256:"), "round {round} {words:?}: {}", check.out);
            place.bundle(&["store", "check", "--repair"]).ok();
        }
        place.bundle(&["store", "check"]).ok();
        place.bundle(&["load", "-q", "-i", &load[3]]).ok();
        if round % 3 == 2 {
            self::load(&place, "kept:1", &["kept"]);
        }
        place.bundle(&["inspect", "kept:1"]).ok();
    }
    place.bundle(&["prune", "-f", "--all"]).ok();
    assert_eq!(
        (count(&place, "layers"), count(&place, "blobs/sha256"), count(&place, "ingest"), count(&place, "trash")),
        (0, 0, 0, 0)
    );
}
