//! `rt run` and `runc run` of the same bundle: what the program sees is the same. Where rt differs on
//! purpose, just that is put right here, with the reason.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::process::{Command, Stdio};

use harness::{Bundle, Done, Place, finish, host};
use serde_json::{Value, json};

/// Runs the bundle with both; none if this machine has no runc.
fn both(bundle: &Bundle<'_>) -> Option<(Done, Done)> {
    if host("runc --version").code != 0 {
        eprintln!("skipped: this machine has no runc");
        return None;
    }
    let ours = bundle.run("same");
    let id = bundle.place.id("same");
    let mut command = Command::new("runc");
    command.arg("--root").arg(bundle.place.dir.join("runc")).args(["run", "--bundle", bundle.path(), &id]);
    let theirs = finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    Some((ours, theirs))
}

/// The document of `rt spec`, as this runc takes it. With a path of its own for the cgroup: without
/// one, runc goes below the cgroups of its caller, and the spec leaves that to the runtime.
fn bundle<'p>(place: &'p Place, script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/ociVersion", json!("1.0.2"));
    bundle.set("/linux/cgroupsPath", json!(format!("/{}", place.id("same"))));
    bundle
}

/// Variants of the document that both runtimes must treat alike.
fn variants<'p>(place: &'p Place, script: &str) -> Vec<(&'static str, Bundle<'p>)> {
    let plain = bundle(place, script);
    let mut host_cgroups = bundle(place, script);
    host_cgroups.namespace("cgroup", None);
    let mut user = bundle(place, script);
    user.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o27}));
    user.set("/process/noNewPrivileges", json!(false)).set("/root/readonly", json!(false));
    let mut powerful = bundle(place, script);
    let all = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_KILL"];
    powerful.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all, "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}));
    powerful.set("/process/oomScoreAdj", json!(500));
    let mut mapped = bundle(place, script);
    mapped.with_user_namespace();
    let mut filtered = bundle(place, script);
    filtered.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    vec![
        ("plain", plain),
        ("host's cgroups", host_cgroups),
        ("user", user),
        ("powerful", powerful),
        ("mapped", mapped),
        ("filtered", filtered),
    ]
}

/// Runs every variant and compares what `normal` leaves of the output.
fn compare(script: &str, normal: impl Fn(&str, bool) -> String) {
    let place = Place::new();
    for (name, bundle) in variants(&place, script) {
        let Some((ours, theirs)) = both(&bundle) else { return };
        assert_eq!((ours.code, &*ours.stderr), (theirs.code, &*theirs.stderr), "{name}");
        assert_eq!(normal(&ours.stdout, true), normal(&theirs.stdout, false), "{name}");
        assert!(!ours.stdout.is_empty(), "{name}");
    }
}

/// Lines that say the same of two runs.
fn as_it_is(text: &str, _: bool) -> String {
    text.to_owned()
}

#[test]
fn status_of_the_process() {
    // Not compared: what the kernel counts (memory, page faults, switches) and process ids, as the two
    // start a different number of processes before the program.
    // SigIgn not either: the Go runtime leaves a real-time signal ignored in runc's programs.
    compare(
        "grep -E '^(Name|Umask|State|TracerPid|Uid|Gid|Groups|SigPnd|SigBlk|SigCgt|ShdPnd|Cap.*|NoNewPrivs|Seccomp|Seccomp_filters|Speculation.*|Cpus_allowed|Mems_allowed|Threads):' /proc/self/status",
        as_it_is,
    );
}

#[test]
fn mounts() {
    compare("cat /proc/self/mountinfo", |text, ours| {
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                let (before, after) = line.split_once(" - ").unwrap();
                let before: Vec<&str> = before.split(' ').collect();
                let after: Vec<&str> = after.split(' ').collect();
                let (root, point, mut options, mut fstype, mut superblock) =
                    (before[3], before[4], before[5].to_owned(), after[0], after[2].to_owned());
                let masked = [
                    "/proc/acpi",
                    "/proc/asound",
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/latency_stats",
                    "/proc/timer_list",
                    "/proc/timer_stats",
                    "/proc/sched_debug",
                    "/sys/firmware",
                    "/proc/scsi",
                ];
                if masked.contains(&point) {
                    // rt masks with the host's null device, which the container cannot have prepared, and
                    // with one small tmpfs for all directories.
                    (options, fstype, superblock) = (String::new(), "", String::new());
                }
                if point == "/sys/fs/cgroup" && !ours {
                    // The document asks for ro; runc 1.1 forgets it for the upper directory beside a cgroup namespace.
                    options = options.replacen("rw", "ro", 1);
                }
                format!("{point} {root} {options} {} {fstype} {superblock}\n", before[6..].join(" "))
            })
            .collect();
        // runc binds the default devices of a user namespace in an order that changes from run to run.
        let devices = ["/dev/null ", "/dev/zero ", "/dev/full ", "/dev/random ", "/dev/urandom ", "/dev/tty "];
        let is_device = |line: &String| devices.iter().any(|device| line.starts_with(device));
        if let (Some(first), Some(last)) = (lines.iter().position(is_device), lines.iter().rposition(is_device)) {
            lines[first..=last].sort();
        }
        lines.concat()
    });
}

#[test]
fn limits_cgroups_and_environment() {
    compare("cat /proc/self/limits", as_it_is);
    // On a hybrid host runc joins the group of cgroup v2 too, which holds no controller; rt leaves it alone.
    compare("grep -v ^0:: /proc/self/cgroup", as_it_is);
    compare(
        "env; pwd; id; hostname; umask; cat /proc/self/oom_score_adj /proc/self/setgroups /proc/self/uid_map /proc/self/gid_map; cat /proc/self/personality; cut -d' ' -f4-7,19,41 /proc/1/stat",
        as_it_is,
    );
}

#[test]
fn devices_and_links() {
    compare(
        "for f in /dev/*; do stat -c '%n %F %a %u:%g %t:%T' $f; done; for l in /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx; do readlink $l; done",
        |text, _| {
            // runc makes this link only where the host has /proc/kcore: rt as the other kernels have it.
            // In a user namespace /dev/mqueue belongs to who made the IPC namespace: to the host's root where
            // one clone makes all, to the mapped one where runc makes them one by one. Its mode is 1777.
            let known = ["/dev/core ", "/dev/mqueue "];
            text.lines()
                .filter(|line| !known.iter().any(|known| line.starts_with(known)))
                .map(|line| line.to_owned() + "\n")
                .collect()
        },
    );
}

#[test]
fn descriptors() {
    compare("for n in 0 1 2 3 4 5 6 7 8 9 20 100; do test -e /proc/$$/fd/$n && echo $n; done; true", as_it_is);
}

#[test]
fn exit_status_and_signals() {
    let place = Place::new();
    for script in ["exit 0", "exit 1", "exit 77", "exit 255", "kill -TERM $$", "kill -KILL $$"] {
        for own_pids in [true, false] {
            let mut bundle = bundle(&place, script);
            if !own_pids {
                bundle.namespace("pid", None);
            }
            let Some((ours, theirs)) = both(&bundle) else { return };
            assert_eq!(ours.code, theirs.code, "{script}, own pid namespace {own_pids}");
        }
    }
}

/// The first words of what cannot be started are runc's, which engines look for.
#[test]
fn errors_of_the_program() {
    let place = Place::new();
    // Not "/etc": Go has said "is a directory" since 1.20, and before that "permission denied".
    for program in ["no-such", "/no/such", "/etc/passwd", "/etc/passwd/x", "../x"] {
        let mut bundle = bundle(&place, "");
        bundle.set("/process/args", json!([program]));
        let Some((ours, theirs)) = both(&bundle) else { return };
        assert_eq!((ours.code, theirs.code), (1, 1));
        // "…exec: \"no-such\": executable file not found in $PATH"
        let words = theirs
            .stderr
            .rsplit_once("exec: ")
            .map(|(_, words)| words.trim_end().trim_end_matches('"').replace("\\\"", "\""))
            .unwrap();
        assert!(ours.stderr.contains(&format!("exec: {words}")), "{words:?} is not in {}", ours.stderr);
    }
}

/// What `state` prints has the same fields.
#[test]
fn state() {
    if host("runc --version").code != 0 {
        eprintln!("skipped: this machine has no runc");
        return;
    }
    let place = Place::new();
    let mut bundle = bundle(&place, "exec sleep 100");
    bundle.set("/annotations", json!({"a": "b"}));
    bundle.create("c", &[]).ok();
    let id = place.id("c");
    let ours = place.state(&id);
    let (root, other) = (place.dir.join("runc"), place.id("d"));
    let runc = |args: &str| host(&format!("runc --root {} {args}", root.display()));
    host(&format!(
        "runc --root {} create --bundle {} {other} </dev/null >/dev/null 2>&1",
        root.display(),
        bundle.path()
    ))
    .ok();
    let theirs: Value = serde_json::from_str(&runc(&format!("state {other}")).ok().stdout).unwrap();
    runc(&format!("delete --force {other}")).ok();
    let keys = |state: &Value| {
        let mut keys: Vec<String> = state.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&ours), keys(&theirs));
    for key in ["bundle", "rootfs", "status", "annotations"] {
        assert_eq!(ours[key], theirs[key], "{key}");
    }
    // runc's is empty for root; an engine that shows it is served better with a name.
    assert_eq!(ours["owner"], "root");
    let _ = fs::remove_dir_all(root);
}
