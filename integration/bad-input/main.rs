//! Bad documents and bad command lines: exit status 1 at once, one line that names the place, and
//! nothing left behind. And the unusual documents that have to work all the same.

mod documents;
mod generate;
mod generated;
#[path = "../harness/mod.rs"]
mod harness;
mod rows;
#[rustfmt::skip] // one row a line
mod fields;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Bundle, Done, Place};
use serde_json::{Value, json};

/// No answer may take longer, whatever the document.
const AT_ONCE: Duration = Duration::from_secs(10);

/// One bad document.
struct Case {
    name: &'static str,
    /// Merged into the document of `rt spec` (RFC 7396: null takes away).
    patch: Value,
    /// Pointer of the field that is wrong.
    at: &'static str,
    /// Part of what is said about it.
    says: &'static str,
}

fn case(name: &'static str, patch: Value, at: &'static str, says: &'static str) -> Case {
    Case { name, patch, at, says }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return into.clone_from(patch) };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key.as_str()], value);
        }
    }
}

/// What a bad document leads to, in all three commands. Returns what is wrong, so that one run shows
/// every case that fails.
fn refused(bundle: &Bundle<'_>, at: &str, says: &str) -> Result<(), String> {
    let place = bundle.place;
    let start = Instant::now();
    let create = create(bundle);
    if create.code == 0 {
        place.rt(&["delete", "--force", &place.id("bad")]).ok();
    }
    one_line(&create, at, says).map_err(|why| format!("create: {why}"))?;
    let left = place.leftovers();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}"));
    }
    let check = place.rt(&["check", bundle.path()]);
    // What only shows at work is named as a whole by `create`, and by its field by `check`.
    let names = |pointer: &str| pointer == at || (at.starts_with("/mounts/") && pointer.starts_with(&format!("{at}/")));
    let listed = check
        .stdout
        .lines()
        .filter_map(|line| line.split_once(": "))
        .any(|(pointer, message)| names(pointer) && message.contains(says));
    if check.code != 1 || !listed || !check.stderr.is_empty() {
        return Err(format!("check: {check:?}"));
    }
    let check = place.rt(&["check", "--format", "json", bundle.path()]);
    let findings: Vec<Value> = serde_json::from_str(&check.stdout).map_err(|error| format!("{error}: {check:?}"))?;
    let listed = findings.iter().any(|finding| {
        // The whole document is "" in a JSON pointer.
        let pointer = finding["pointer"].as_str().map(|pointer| if pointer.is_empty() { "/" } else { pointer });
        pointer.is_some_and(names) && finding["message"].as_str().is_some_and(|text| text.contains(says))
    });
    if check.code != 1 || !listed {
        return Err(format!("check --format json: {check:?}"));
    }
    if start.elapsed() > AT_ONCE {
        return Err(format!("took {:?}", start.elapsed()));
    }
    Ok(())
}

/// `rt create` of what is on disk. Standard error is a file: a container made by mistake would hold
/// a pipe open.
fn create(bundle: &Bundle<'_>) -> Done {
    let path = bundle.dir.join("err");
    let mut command = bundle.place.command(&["create", "--bundle", bundle.path(), &bundle.place.id("bad")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&path).unwrap());
    let mut done = harness::finish(command.spawn().unwrap());
    done.stderr = fs::read_to_string(path).unwrap();
    done
}

/// Exit status 1 and one line that names the place. Where several things are wrong only the first
/// is named, so that a case has to have one fault.
fn one_line(done: &Done, at: &str, says: &str) -> Result<(), String> {
    let lines = done.stderr.lines().count();
    let good = done.code == 1 && lines == 1 && done.stderr.contains(&format!("{at}: ")) && done.stderr.contains(says);
    if good { Ok(()) } else { Err(format!("wanted \"{at}: …{says}…\", got {done:?}")) }
}

/// Fails with every case that went wrong.
#[track_caller]
fn none_failed(failed: &[String]) {
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

#[test]
fn every_broken_field_is_named() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    let good = bundle.config.clone();
    let cases = fields::cases();
    let mut failed = Vec::new();
    for case in &cases {
        bundle.config = good.clone();
        merge(&mut bundle.config, &case.patch);
        bundle.write();
        if let Err(why) = refused(&bundle, case.at, case.says) {
            failed.push(format!("{}: {why}", case.name));
        }
    }
    none_failed(&failed);
}

#[test]
fn what_is_no_json_is_said_to_be_none() {
    let place = Place::new();
    let bundle = place.bundle("true");
    let mut failed = Vec::new();
    for (name, bytes, at, says) in documents::documents(&bundle.config) {
        fs::write(bundle.dir.join("config.json"), bytes).unwrap();
        if let Err(why) = refused(&bundle, at, says) {
            failed.push(format!("{name}: {why}"));
        }
    }
    none_failed(&failed);
}

/// A name, how to make a thing of that kind, and what is said about it.
type Make<'m> = (&'m str, &'m dyn Fn(), &'m str);

/// What cannot be read at all has no pointer: the file is named.
#[test]
fn what_is_no_file_is_not_waited_for() {
    let place = Place::new();
    let bundle = place.bundle("true");
    let path = bundle.dir.join("config.json");
    let fifo = |path: &std::path::Path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let kinds: [Make<'_>; 7] = [
        ("missing", &|| (), "no such file"),
        ("a FIFO", &|| fifo(&path), "not a regular file"),
        ("a directory", &|| fs::create_dir(&path).unwrap(), "not a regular file"),
        ("a link to /dev/zero", &|| symlink("/dev/zero", &path).unwrap(), "not a regular file"),
        ("a link to itself", &|| symlink("config.json", &path).unwrap(), "symbolic links"),
        (
            "larger than any document",
            &|| fs::File::create(&path).unwrap().set_len(1 << 30).unwrap(),
            "bytes, more than",
        ),
        ("not UTF-8", &|| fs::write(&path, b"{\"ociVersion\": \"\xff\xfe\"}").unwrap(), "byte 16 is not UTF-8"),
    ];
    for (name, make, says) in kinds {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        make();
        let start = Instant::now();
        for args in [&["create", "--bundle", bundle.path(), &place.id("bad")][..], &["check", bundle.path()]] {
            let done = place.rt(args).fails_with(says);
            assert!(done.stderr.contains("config.json"), "{name}: {}", done.stderr);
        }
        assert!(start.elapsed() < AT_ONCE, "{name}");
        assert_eq!(place.leftovers(), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn check_lists_every_fault() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    merge(
        &mut bundle.config,
        &json!({
            "ociVersion": "one",
            "hostname": "h".repeat(65),
            "process": {"cwd": "tmp", "user": {"uid": "root"}, "args": ["sh", 1], "rlimits": [{"type": "RLIMIT_X", "soft": 2, "hard": 1}]},
            "hooks": {"poststop": [{"path": "x", "timeout": 0}]},
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "mount"}, {"type": "uts"}, {"type": "network"}],
                "sysctl": {"kernel.core_pattern": "x", "net.a/b": "1"},
                "resources": {"memory": {"limit": -2}, "rdma": {"a/b": {}}},
                "seccomp": {"defaultAction": "NO", "syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "?"}]}]}
            }
        }),
    );
    bundle.write();
    let wanted = [
        "/ociVersion",
        "/hostname",
        "/process/cwd",
        "/process/user/uid",
        "/process/args/1",
        "/process/rlimits/0/type",
        "/process/rlimits/0/soft",
        "/hooks/poststop/0/path",
        "/hooks/poststop/0/timeout",
        "/linux/namespaces/1/type",
        "/linux/sysctl/kernel.core_pattern",
        "/linux/resources/memory/limit",
        "/linux/resources/rdma/a~1b",
        "/linux/seccomp/defaultAction",
        "/linux/seccomp/syscalls/0/names",
        "/linux/seccomp/syscalls/0/args/0/index",
        "/linux/seccomp/syscalls/0/args/0/op",
    ];
    let text = place.rt(&["check", bundle.path()]);
    assert_eq!(text.code, 1);
    let found: Vec<&str> = text.stdout.lines().filter_map(|line| Some(line.split_once(": ")?.0)).collect();
    for pointer in wanted {
        assert_eq!(found.iter().filter(|at| **at == pointer).count(), 1, "{pointer} in {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    let json = place.rt(&["check", "--format", "json", bundle.path()]);
    let findings: Vec<Value> = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(findings.iter().map(|finding| finding["pointer"].as_str().unwrap()).collect::<Vec<_>>(), found);
    // create names one and says how many more there are.
    let create = place.rt(&["create", "--bundle", bundle.path(), &place.id("bad")]).fails_with("config.json: /");
    assert!(create.stderr.contains(&format!("and {} more", wanted.len() - 1)), "{}", create.stderr);
}

#[test]
fn bad_command_lines() {
    let place = Place::new();
    let bundle = place.bundle("true");
    bundle.write();
    let long = "x".repeat(2000);
    let table: [(&[&str], &str); 24] = [
        (&["create", "--no-such-flag", "x"], "--no-such-flag"),
        (&["--no-such-flag", "list"], "--no-such-flag"),
        (&["no-such-command"], "no-such-command"),
        (&["create"], "ID"),
        (&["start"], "ID"),
        (&["state"], "ID"),
        (&["kill"], "ID"),
        (&["delete"], "ID"),
        (&["state", "a", "b"], "'b'"),
        (&["state", "../x"], "\"../x\""),
        (&["delete", "--force", ".."], "\"..\""),
        (&["delete", "."], "\".\""),
        (&["state", ""], "\"\""),
        (&["kill", "a/b", "KILL"], "\"a/b\""),
        (&["start", "a b"], "\"a b\""),
        (&["create", "--bundle", bundle.path(), "a\nb"], "a\\nb"),
        (&["create", "--bundle", bundle.path(), "ä"], "\"ä\""),
        (&["create", "--bundle", bundle.path(), &long], "id"),
        (&["create", "--bundle", bundle.path(), "--preserve-fds", "-1", "x"], "-1"),
        (&["create", "--bundle", bundle.path(), "--preserve-fds", "1000000", "x"], "--preserve-fds"),
        (&["create", "--bundle", bundle.path(), "--preserve-fds", "4294967296", "x"], "4294967296"),
        (&["create", "--bundle", bundle.path(), "--console-socket", "/no/such", "x"], "--console-socket"),
        (&["--log-format", "xml", "list"], "xml"),
        (&["check", "--format", "yaml"], "yaml"),
    ];
    for (args, says) in table {
        let done = place.rt(args);
        let good = done.code == 1 && done.stderr.lines().count() == 1 && done.stderr.contains(says);
        assert!(good, "{args:?}: {done:?}");
        assert_eq!(place.leftovers(), Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn bad_signals() {
    let place = Place::new();
    let bundle = place.bundle("sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    for signal in ["", "65", "-1", "SIG", "KILL9", "RTMIN+31", "99999999999999999999", "KILL\n", "0x9", "9.0"] {
        let done = place.rt(&["kill", "--", &id, signal]).fails_with("signal");
        assert!(done.stderr.contains(&format!("\"{}\"", signal.escape_debug())), "{}", done.stderr);
    }
    assert_eq!(place.state(&id)["status"], "created");
}

/// config.md, "Extensibility": unknown properties, here in every object of the document.
#[test]
fn unknown_properties_are_ignored() {
    fn extend(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(extend);
                map.insert("com.example.unknown".into(), json!([{"deep": [null, -1, 1e300, "\u{1F600}", {}]}]));
            }
            Value::Array(list) => list.iter_mut().for_each(extend),
            _ => {}
        }
    }
    let place = Place::new();
    let mut bundle = place.bundle("echo works");
    bundle.config["hooks"] = json!({"poststop": [{"path": "/bin/true"}]});
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 1 << 30});
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]});
    extend(&mut bundle.config);
    assert_eq!(bundle.run("c").ok(), Done { code: 0, stdout: "works\n".into(), stderr: String::new() });
}

/// Writers in Go give `null` for what is empty.
#[test]
fn null_is_absent() {
    let place = Place::new();
    let mut bundle = place.bundle("echo works");
    for (object, fields) in [
        ("", "hostname domainname mounts hooks annotations solaris windows vm zos freebsd new"),
        (
            "/process",
            "consoleSize capabilities rlimits apparmorProfile selinuxLabel oomScoreAdj scheduler ioPriority execCPUAffinity \
             noNewPrivileges terminal",
        ),
        ("/process/user", "umask additionalGids"),
        ("/root", "readonly"),
        (
            "/linux",
            "uidMappings gidMappings timeOffsets devices netDevices cgroupsPath intelRdt memoryPolicy sysctl seccomp \
             rootfsPropagation maskedPaths readonlyPaths mountLabel personality",
        ),
        ("/linux/resources", "devices memory cpu pids blockIO hugepageLimits network rdma unified"),
        ("/linux/namespaces/0", "path"),
    ] {
        for field in fields.split_whitespace() {
            bundle.config.pointer_mut(object).unwrap()[field] = Value::Null;
        }
    }
    // The program is found on the PATH of the root file system alone: nothing is mounted.
    assert_eq!(bundle.run("c").ok().stdout, "works\n");
}

#[test]
fn empty_lists_and_objects_ask_for_nothing() {
    let place = Place::new();
    let mut bundle = place.bundle("echo works");
    merge(
        &mut bundle.config,
        &json!({
            "annotations": {}, "mounts": [],
            "hooks": {"prestart": [], "createRuntime": [], "createContainer": [], "startContainer": [], "poststart": [], "poststop": []},
            "process": {"rlimits": [], "user": {"additionalGids": []}, "env": ["PATH=/bin"], "execCPUAffinity": {},
                "capabilities": {"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []}},
            "linux": {
                "uidMappings": [], "gidMappings": [], "timeOffsets": {}, "devices": [], "netDevices": {}, "sysctl": {},
                "maskedPaths": [], "readonlyPaths": [],
                "resources": {"devices": [], "memory": {}, "cpu": {}, "pids": {}, "hugepageLimits": [], "rdma": {}, "unified": {},
                    "network": {}, "blockIO": {"weightDevice": [], "throttleReadBpsDevice": []}},
                "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "flags": [], "syscalls": []}
            }
        }),
    );
    assert_eq!(bundle.run("c").ok().stdout, "works\n");
}

#[test]
fn sections_of_other_platforms_are_ignored() {
    let place = Place::new();
    let mut bundle = place.bundle("echo works");
    merge(
        &mut bundle.config,
        &json!({
            "solaris": {"milestone": 7, "limitpriv": ["x"]},
            "windows": {"layerFolders": [1], "network": "no"},
            "vm": {"hypervisor": {"path": 3}, "kernel": []},
            "zos": {"devices": "none"},
            "freebsd": {"devices": [{"path": "null", "mode": 438}], "jail": {"parent": "x", "vnet": "new"}},
            "process": {"user": {"username": "ContainerAdministrator"}, "commandLine": "cmd.exe"}
        }),
    );
    assert_eq!(bundle.run("c").ok().stdout, "works\n");
}

#[test]
fn masked_and_read_only_paths_that_do_not_exist_are_skipped() {
    let place = Place::new();
    let mut bundle = place.bundle("cat /proc/kcore; echo works");
    merge(
        &mut bundle.config,
        &json!({"linux": {"maskedPaths": ["/proc/no-such", "/no/such/dir", "/bin/busybox/below-a-file", "/proc/kcore"],
            "readonlyPaths": ["/proc/no-such", "/no/such/dir", "/bin/busybox/below-a-file"]}}),
    );
    assert_eq!(bundle.run("c").ok().stdout, "works\n");
}

#[test]
fn three_hundred_mounts() {
    let place = Place::new();
    let mut bundle = place.bundle("grep -c ' /m/' /proc/self/mountinfo");
    let source = bundle.dir.join("source");
    fs::create_dir(&source).unwrap();
    for number in 0..300 {
        let mount = json!({"destination": format!("/m/{number}"), "source": "source", "options": ["bind"]});
        bundle.push("/mounts", mount);
    }
    assert_eq!(bundle.run("c").ok().stdout, "300\n");
}

#[test]
fn ten_thousand_annotations_are_kept() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.config["annotations"] = (0..10_000).map(|n| (format!("com.example.{n}"), json!("x".repeat(20)))).collect();
    bundle.create("c", &[]).ok();
    assert_eq!(place.state(&place.id("c"))["annotations"], bundle.config["annotations"]);
}

#[test]
fn utf8_everywhere() {
    let place = Place::new();
    let mut bundle = place.bundle("echo \"$NAME\"; cat /données/ключ; pwd; echo /dev/у*");
    let name = "ü漢字\u{1F600} \"\\";
    fs::create_dir(bundle.dir.join("données 源")).unwrap();
    fs::write(bundle.dir.join("données 源/ключ"), "inside\n").unwrap();
    let id = place.id("utf8");
    merge(
        &mut bundle.config,
        &json!({
            "annotations": {name: name},
            "process": {"cwd": "/路径/ω", "env": ["PATH=/bin", format!("NAME={name}")]},
            "root": {"readonly": false},
            "linux": {"cgroupsPath": format!("/{id}-ящик"), "maskedPaths": ["/proc/нет"],
                "devices": [{"path": "/dev/устройство", "type": "c", "major": 1, "minor": 3}]}
        }),
    );
    bundle.push("/mounts", json!({"destination": "/données", "source": "données 源", "options": ["bind"]}));
    assert_eq!(bundle.run("c").ok().stdout, format!("{name}\ninside\n/路径/ω\n/dev/устройство\n"));
    assert_eq!(harness::cgroups_named(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn sysctls_with_slashes() {
    let place = Place::new();
    let mut bundle =
        place.bundle("cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/lo/rp_filter /proc/sys/kernel/msgmax");
    bundle.config["linux"]["sysctl"] =
        json!({"net/ipv4/ip_forward": "1", "net.ipv4.conf.lo.rp_filter": "2", "kernel/msgmax": "4096"});
    assert_eq!(bundle.run("c").ok().stdout, "1\n2\n4096\n");
}

#[test]
fn a_default_device_may_be_listed_again() {
    let place = Place::new();
    let mut bundle = place.bundle("stat -c '%t:%T %a %u:%g' /dev/null /dev/zero; echo gone >/dev/null; ls /dev/full");
    bundle.config["linux"]["devices"] = json!([
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0},
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 384, "uid": 0, "gid": 5}
    ]);
    assert_eq!(bundle.run("c").ok().stdout, "1:3 666 0:0\n1:5 600 0:5\n/dev/full\n");
}

/// An unknown capability is a warning (config.md, "Linux Process"): in the log, not on stderr.
#[test]
fn an_unknown_capability_is_not_granted_and_logged() {
    let place = Place::new();
    let mut bundle = place.bundle("grep CapBnd /proc/self/status");
    bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_FLY"]);
    bundle.write();
    let log = place.dir.join("log");
    let done = place.rt(&["--log", log.to_str().unwrap(), "run", "--bundle", bundle.path(), &place.id("c")]).ok();
    assert_eq!((&*done.stdout, &*done.stderr), ("CapBnd:\t0000000000000020\n", ""));
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("level=warning") && log.contains("/process/capabilities/bounding/1") && log.contains("CAP_FLY"),
        "{log}"
    );
}
