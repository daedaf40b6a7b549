//! `must.md` names a test for each sentence of the specification; here is the proof that those tests
//! exist, and the tests for what nothing else shows.

#[path = "../../integration/harness/mod.rs"]
mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Place, RT};
use serde_json::{Value, json};

/// The validation programs of the OCI runtime-tools.
const PROGRAMS: &str = "config_updates_without_affect create default delete delete_only_create_resources delete_resources hooks \
    hooks_stdin hostname kill kill_no_effect killsig linux_cgroups_blkio linux_cgroups_cpus linux_cgroups_devices \
    linux_cgroups_hugetlb linux_cgroups_memory linux_cgroups_network linux_cgroups_pids linux_cgroups_relative_blkio \
    linux_cgroups_relative_cpus linux_cgroups_relative_devices linux_cgroups_relative_hugetlb linux_cgroups_relative_memory \
    linux_cgroups_relative_network linux_cgroups_relative_pids linux_devices linux_masked_paths linux_mount_label linux_ns_itype \
    linux_ns_nopath linux_ns_path linux_ns_path_type linux_process_apparmor_profile linux_readonly_paths linux_rootfs_propagation \
    linux_seccomp linux_sysctl linux_uid_mappings misc_props mounts pidfile poststart poststart_fail poststop poststop_fail \
    prestart prestart_fail process process_capabilities process_capabilities_fail process_oom_score_adj process_rlimits \
    process_rlimits_fail process_user root_readonly_true start state";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The test programs of the crate: name to source file.
fn test_programs() -> BTreeMap<String, PathBuf> {
    let manifest = fs::read_to_string(top().join("src/rt/Cargo.toml")).unwrap();
    let value = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.trim().strip_prefix('=')?.trim().trim_matches('"').to_owned())
    };
    let mut programs = BTreeMap::new();
    for test in manifest.split("[[test]]").skip(1) {
        let name = test.lines().find_map(|line| value(line, "name")).unwrap();
        let path = test.lines().find_map(|line| value(line, "path")).unwrap();
        programs.insert(name, top().join("src/rt").join(path));
    }
    programs
}

/// Whether a source file has a test function of this name.
fn has_test(source: &Path, name: &str) -> bool {
    let Ok(text) = fs::read_to_string(source) else { return false };
    text.split("#[test]").skip(1).any(|after| {
        let head = after.split('{').next().unwrap();
        head.trim_end().ends_with(&format!("fn {name}()"))
    })
}

/// Why a row's test shows nothing.
fn fault(test: &str, programs: &BTreeMap<String, PathBuf>, failing: &BTreeSet<String>) -> Option<String> {
    let Some((place, name)) = test.split_once("::") else { return Some(format!("\"{test}\" is no program::test")) };
    let source = match place {
        "validation" if !PROGRAMS.split_whitespace().any(|known| known == name) => {
            return Some(format!("there is no validation program {name}"));
        }
        "validation" if failing.contains(name) => return Some(format!("the validation program {name} cannot pass")),
        "validation" => return None,
        _ if place.contains('/') => top().join(place),
        _ => match programs.get(place) {
            Some(source) => source.clone(),
            None => return Some(format!("there is no test program {place}")),
        },
    };
    (!has_test(&source, name)).then(|| format!("{place} has no test {name}"))
}

#[test]
fn every_sentence_has_a_test() {
    let programs = test_programs();
    assert_eq!(PROGRAMS.split_whitespace().count(), 58);
    let failing: BTreeSet<String> = fs::read_to_string(top().join("spec-tests/validation/expected"))
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect();
    let table = fs::read_to_string(top().join("spec-tests/table/must.md")).unwrap();
    let mut faults = Vec::new();
    let mut rows = 0;
    for line in table
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| ---") && !line.starts_with("| section"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        rows += 1;
        // Names stand between backticks: every second piece.
        let tests: Vec<&str> =
            cells.get(2).map(|cell| cell.split('`').skip(1).step_by(2).collect()).unwrap_or_default();
        if cells.len() != 3 || tests.is_empty() {
            faults.push(format!("no test: {line}"));
        }
        faults.extend(tests.iter().filter_map(|test| fault(test, &programs, &failing)));
    }
    assert!(rows > 100, "only {rows} rows were read");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The table's guard sees what it is there to see.
#[test]
fn a_test_that_is_not_there_is_noticed() {
    let programs = test_programs();
    let failing = BTreeSet::from(["start".to_owned()]);
    let fault = |test: &str| fault(test, &programs, &failing);
    assert_eq!(fault("must::every_sentence_has_a_test"), None);
    assert_eq!(fault("validation::create"), None);
    for test in [
        "must::top",
        "must::no_such_test",
        "nowhere::x",
        "validation::nothing",
        "validation::start",
        "src/rt/none.rs::x",
        "words",
    ] {
        assert!(fault(test).is_some(), "{test}");
    }
}

#[test]
fn no_status_but_the_four_of_the_spec() {
    let place = Place::new();
    let bundle = place.bundle("exec sleep 100");
    let id = place.id("c");
    let state = |wanted: &str| {
        let state = place.state(&id);
        assert_eq!(state["status"], wanted);
        // schema/state-schema.json: required, and of these types.
        for key in ["ociVersion", "id", "status", "bundle"] {
            assert!(state[key].is_string(), "{key}: {state}");
        }
        assert!(state["pid"].as_u64().is_some() || wanted == "stopped", "{state}");
        let annotations = state.get("annotations").and_then(Value::as_object);
        assert!(annotations.is_none_or(|map| map.values().all(Value::is_string)), "{state}");
    };
    bundle.create("c", &[]).ok();
    state("created");
    place.rt(&["start", &id]).ok();
    state("running");
    place.rt(&["kill", &id, "KILL"]).ok();
    place.wait_for(&id, "stopped");
    state("stopped");
}

/// runtime.md, "Create". As with runc, the working directory is the bundle when none is named.
#[test]
fn create_needs_a_bundle_and_an_id() {
    let place = Place::new();
    place.rt(&["create"]).fails_with("ID");
    place.rt(&["create", "--bundle"]).fails_with("--bundle");
    place.rt(&["create", "--bundle", "", &place.id("c")]).fails_with("--bundle");
    let mut command = place.command(&["create", &place.id("c")]);
    command.current_dir(&place.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    harness::finish(command.spawn().unwrap()).fails_with("config.json");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn a_container_without_a_process_cannot_be_started() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.config.as_object_mut().unwrap().remove("process");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    assert_eq!(place.state(&id)["status"], "created");
    // All but the process is applied.
    let pid = place.state(&id)["pid"].to_string();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.contains(" /dev/mqueue "), "{mounts}");
    place.rt(&["start", &id]).fails_with("process");
    assert_eq!(place.state(&id)["status"], "created");
    place.rt(&["delete", "--force", &id]).ok();
    bundle.run("d").fails_with("/process");
}

#[test]
fn a_console_size_without_a_terminal_is_ignored() {
    let place = Place::new();
    let mut bundle = place.bundle("echo works");
    bundle.config["process"]["consoleSize"] = json!({"height": 4_000_000, "width": 0});
    assert_eq!(bundle.run("c").ok().stdout, "works\n");
    bundle.config["process"].as_object_mut().unwrap().remove("terminal");
    assert_eq!(bundle.run("c").ok().stdout, "works\n");
}

#[test]
fn a_relative_destination_starts_at_the_root() {
    let place = Place::new();
    // Not at the working directory, nor at the bundle.
    let mut bundle = place.bundle("grep -o ' /here/below ' /proc/self/mountinfo");
    bundle.config["process"]["cwd"] = json!("/tmp");
    bundle.push("/mounts", json!({"destination": "here/below", "type": "tmpfs"}));
    assert_eq!(bundle.run("c").ok().stdout, " /here/below \n");
}

/// The container's group in the hierarchy of the pids controller, as the host sees it.
fn pids_group(pid: &Value) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|line| line.split_once(":pids:")).unwrap().1.to_owned()
}

#[test]
fn cgroup_paths() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    let id = place.id("c");
    let mut group = |path: Option<&str>| {
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        bundle.create("c", &[]).ok();
        let group = pids_group(&place.state(&id)["pid"]);
        place.rt(&["delete", "--force", &id]).ok();
        group
    };
    let absolute = format!("/{}/a/b", place.id("group"));
    assert_eq!(group(Some(&absolute)), absolute);
    let relative = &absolute[1..];
    let first = group(Some(relative));
    assert!(first.ends_with(relative), "{first}");
    assert_eq!(group(Some(relative)), first, "the same place for the same value");
    // Never above the hierarchy.
    let climbing = format!("/../../{}/x/../y", place.id("group"));
    assert_eq!(group(Some(&climbing)), format!("/{}/y", place.id("group")));
    assert!(group(None).ends_with(&id), "named after the container where nothing is said");
    for path in ["a", ""] {
        for left in harness::cgroups_named(&place.id("group")) {
            let _ = fs::remove_dir(left.join(path));
        }
    }
}

#[test]
fn a_cgroup_that_was_there_stays() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    let name = place.id("mine");
    let group = Path::new("/sys/fs/cgroup/pids").join(&name);
    fs::create_dir(&group).unwrap();
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
    let done = bundle.run("c");
    let stays = group.exists();
    let _ = fs::remove_dir(&group);
    done.ok();
    assert!(stays, "delete has removed a cgroup that create had not made");
    for left in harness::cgroups_named(&name) {
        fs::remove_dir(left).unwrap();
    }
}

/// config-linux.md, "Cgroup ownership": on v1 they are not given away, so no file of them is either.
#[test]
fn cgroups_stay_the_hosts() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.with_user_namespace();
    bundle.create("c", &[]).ok();
    let groups = harness::cgroups_named(&place.id("c"));
    assert!(!groups.is_empty());
    for group in groups {
        assert_eq!(fs::metadata(&group).unwrap().uid(), 0, "{group:?}");
        assert_eq!(fs::metadata(group.join("cgroup.procs")).unwrap().uid(), 0, "{group:?}");
    }
}

#[test]
fn device_rules_are_in_their_order() {
    let place = Place::new();
    // Whether the kernel's log (1:11) can be opened is for the last rule that speaks of it.
    let mut bundle = place.bundle("(: </dev/kmsg) 2>/dev/null && echo open || echo closed");
    bundle.config["process"]["capabilities"] = json!({"bounding": ["CAP_SYSLOG"], "permitted": ["CAP_SYSLOG"], "effective": ["CAP_SYSLOG"],
        "inheritable": ["CAP_SYSLOG"], "ambient": ["CAP_SYSLOG"]});
    bundle.config["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    let rule = |allow: bool| json!({"allow": allow, "type": "c", "major": 1, "minor": 11, "access": "rwm"});
    for (rules, wanted) in
        [(json!([rule(false), rule(true)]), "open\n"), (json!([rule(true), rule(false)]), "closed\n")]
    {
        bundle.config["linux"]["resources"]["devices"] = rules;
        assert_eq!(bundle.run("c").ok().stdout, wanted);
    }
}

#[test]
fn a_memory_limit_is_enforced() {
    let place = Place::new();
    let mut bundle = place.bundle("head -c 100000000 /dev/zero | tail -c 100000000 >/dev/null; echo $?");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000});
    let done = bundle.run("c");
    assert_ne!(done.stdout, "0\n", "{done:?}");
    // One that nothing could start under is refused in one line, and nothing is left.
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 4096});
    bundle.run("c").fails_with("/linux/resources/memory/limit");
    assert_eq!(place.leftovers(), Vec::<String>::new());
}

#[test]
fn the_oom_score_is_inherited() {
    let place = Place::new();
    let bundle = place.bundle("cat /proc/self/oom_score_adj");
    bundle.write();
    let script = "echo 321 >/proc/self/oom_score_adj && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", RT, "--root"]).arg(&place.root);
    command.args(["run", "--bundle", bundle.path(), &place.id("c")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(harness::finish(command.spawn().unwrap()).ok().stdout, "321\n");
}
