//! The documents that real engines wrote, with their paths put right: `check` finds nothing, and
//! `run` runs them.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::path::Path;

use harness::{Place, has_capability};
use serde_json::{Value, json};

const CAP_SYS_RESOURCE: u32 = 24;

/// Gives a document what the engine's machine had: sources, hooks, namespaces, a program.
fn put_right(document: &mut Value, dir: &Path, root: &Path, cgroup: &str) {
    document["root"]["path"] = json!(root);
    document["process"]["args"] = json!(["sh", "-c", "echo ran as $$ in $(pwd); exit 5"]);
    document["linux"]["cgroupsPath"] = json!(cgroup);
    if document["process"]["oomScoreAdj"].as_i64().is_some_and(|score| score < 0) && !has_capability(CAP_SYS_RESOURCE) {
        document["process"]["oomScoreAdj"] = json!(0);
    }
    for namespace in document["linux"]["namespaces"].as_array_mut().unwrap() {
        // The pod that it was to join is long gone: its own instead.
        namespace.as_object_mut().unwrap().remove("path");
    }
    for (index, mount) in document["mounts"].as_array_mut().unwrap().iter_mut().enumerate() {
        let bind = mount["options"].as_array().is_some_and(|list| list.iter().any(|o| o == "bind" || o == "rbind"));
        if !bind {
            continue;
        }
        let source = dir.join(format!("source{index}"));
        if mount["destination"].as_str().unwrap().ends_with("shm") {
            fs::create_dir(&source).unwrap();
        } else {
            fs::write(&source, "content").unwrap();
        }
        mount["source"] = json!(source);
    }
    if let Some(hooks) = document.get_mut("hooks").and_then(Value::as_object_mut) {
        for hook in hooks.values_mut().flat_map(|list| list.as_array_mut().unwrap().iter_mut()) {
            hook["path"] = json!("/bin/true");
        }
    }
}

fn runs(engine: &str) {
    let place = Place::new();
    let mut bundle = place.bundle("");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("plan/testdata").join(format!("{engine}.json"));
    bundle.config = serde_json::from_str(&fs::read_to_string(data).unwrap()).unwrap();
    let (dir, root, cgroup) = (bundle.dir.clone(), bundle.rootfs("/"), format!("/{}", place.id("cgroup")));
    put_right(&mut bundle.config, &dir, &root, &cgroup);
    bundle.write();
    let check = place.rt(&["check", bundle.path()]);
    assert_eq!((check.code, &*check.stderr), (0, ""), "{}", check.stdout);
    let done = bundle.run("c");
    assert_eq!(done.code, 5, "{} {}", done.stdout, done.stderr);
    assert!(done.stdout.starts_with("ran as 1 in /"), "{}", done.stdout);
    assert_eq!(done.stderr, "");
}

#[test]
fn docker() {
    runs("docker");
}

#[test]
fn containerd() {
    runs("containerd");
}

#[test]
fn cri_sandbox() {
    runs("cri-sandbox");
}

#[test]
fn cri_container() {
    runs("cri-container");
}

#[test]
fn podman() {
    runs("podman");
}

#[test]
fn buildah() {
    runs("buildah");
}
