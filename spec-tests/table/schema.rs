//! The runtime-spec's own test documents: what its schema refuses `rt check` refuses, and in what
//! its schema accepts `rt check` finds nothing but what this host or this runtime cannot give.

#[path = "../../integration/harness/mod.rs"]
mod harness;

use std::fs;
use std::path::PathBuf;

use harness::{Done, Place};

/// Runs `rt check` on every document of a folder, each in a bundle with a root file system.
fn check_all(folder: &str) -> Vec<(String, Done)> {
    let place = Place::new();
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../spec-tests/schema").join(folder);
    let mut done = Vec::new();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bundle = place.dir.join(&name);
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::copy(path, bundle.join("config.json")).unwrap();
        done.push((name, place.rt(&["check", bundle.to_str().unwrap()])));
    }
    done
}

/// Findings against the document itself, not against what this host has.
fn about_the_document(done: &Done) -> Vec<&str> {
    done.stdout
        .lines()
        .filter(|line| !line.ends_with(" [this host]") && !line.ends_with(" [warning]") && *line != "ok")
        .collect()
}

#[test]
fn bad_documents_are_refused() {
    let all = check_all("bad");
    assert_eq!(all.len(), 5);
    for (name, done) in all {
        assert_eq!(done.code, 1, "{name}: {done:?}");
        assert_ne!(about_the_document(&done), Vec::<&str>::new(), "{name}: {done:?}");
    }
}

#[test]
fn good_documents_are_accepted() {
    let all = check_all("good");
    assert_eq!(all.len(), 9);
    for (name, done) in all {
        assert_eq!(about_the_document(&done), Vec::<&str>::new(), "{name}");
        // Refused only for what it says.
        assert_eq!(done.code, i32::from(done.stdout.contains("[this host]")), "{name}: {done:?}");
    }
}
