//! The recorder under the real runtimes: the profile it writes runs the container that it recorded,
//! and nothing else.

#[path = "../../../integration/harness/mod.rs"]
mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Bundle, Done, Place, RT, crun, finish, host, processes_named, wait_until};
use serde_json::{Value, json};

const HOOK: &str = env!("CARGO_BIN_EXE_oci-seccomp-record");

/// A bundle with the hook, and the profile that will come of it.
fn recorded<'p>(place: &'p Place, script: &str) -> (Bundle<'p>, PathBuf) {
    let mut bundle = place.bundle(script);
    bundle.set("/root/readonly", json!(false));
    // crun 1.8 refuses a document of a newer version.
    bundle.set("/ociVersion", json!("1.0.2"));
    // Limits above the hard ones are refused where CAP_SYS_RESOURCE is missing.
    bundle.set("/process/rlimits", json!([]));
    let profile = bundle.dir.join("profile.json");
    bundle.set("/annotations", json!({"io.containers.trace-syscall": format!("of:{}", profile.display())}));
    bundle.set("/hooks/createRuntime", json!([{"path": HOOK}]));
    (bundle, profile)
}

/// `RUNTIME run` to the end.
fn run(runtime: &str, bundle: &Bundle<'_>, name: &str) -> Done {
    bundle.write();
    let id = bundle.place.id(name);
    let mut command = Command::new(runtime);
    command.args(["--root", bundle.place.dir.join(format!("state-{name}")).to_str().unwrap()]);
    command.args(["run", "--bundle", bundle.path(), &id]);
    finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for a profile, and for the end of the recorder that wrote it.
#[track_caller]
fn profile(path: &Path) -> Value {
    wait_until("the profile", || path.exists());
    wait_until("the recorder's end", || processes_named(path.to_str().unwrap()).is_empty());
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn names(profile: &Value) -> BTreeSet<&str> {
    let rules = profile["syscalls"].as_array().unwrap();
    rules.iter().flat_map(|rule| rule["names"].as_array().unwrap()).map(|name| name.as_str().unwrap()).collect()
}

/// Has the container run under a profile instead of being recorded.
fn replay(bundle: &mut Bundle<'_>, profile: &Value) {
    bundle.set("/linux/seccomp", profile.clone());
    bundle.config.as_object_mut().unwrap().remove("hooks");
}

/// One container, recorded and run again, with and without no_new_privs: that decides when the
/// filter is loaded.
fn records_and_runs(place: &Place, runtime: &str) {
    for no_new_privileges in [true, false] {
        let (mut bundle, path) = recorded(place, "echo hello; (echo child); cat /etc/passwd | wc -l");
        bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
        let done = run(runtime, &bundle, "recorded").ok();
        assert_eq!(done.stdout, "hello\nchild\n2\n");
        let profile = profile(&path);
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(profile["syscalls"].as_array().unwrap().len(), 1);
        let names = names(&profile);
        for name in ["execve", "write", "exit_group", "read"] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        for name in ["mkdir", "mkdirat", "mount", "pivot_root", "sethostname"] {
            assert!(!names.contains(name), "{name} is in {names:?}");
        }

        replay(&mut bundle, &profile);
        for round in 0..5 {
            let done = run(runtime, &bundle, "again");
            assert_eq!((done.code, &*done.stdout), (0, "hello\nchild\n2\n"), "round {round}: {}", done.stderr);
        }
        bundle.script("mkdir /new; echo status $?");
        let done = run(runtime, &bundle, "other").ok();
        assert_eq!(done.stdout, "status 1\n");
        assert!(done.stderr.contains("Operation not permitted"), "{}", done.stderr);
        assert!(!bundle.rootfs("/new").exists());
    }
}

#[test]
fn under_rt() {
    records_and_runs(&Place::new(), RT);
}

#[test]
fn under_runc() {
    records_and_runs(&Place::new(), "runc");
}

#[test]
fn under_crun() {
    let place = Place::new();
    records_and_runs(&place, &crun(&place));
}

/// Recorded under rt, which needs little between filter and execve, and run by all.
#[test]
fn a_profile_of_one_runtime_is_good_for_the_others() {
    let place = Place::new();
    let (mut bundle, path) = recorded(&place, "echo hello");
    run(RT, &bundle, "recorded").ok();
    let profile = profile(&path);
    replay(&mut bundle, &profile);
    for runtime in [RT, "runc", &crun(&place)] {
        for no_new_privileges in [true, false] {
            bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
            assert_eq!(run(runtime, &bundle, "again").ok().stdout, "hello\n", "{runtime}");
        }
    }
}

/// A container that has a filter already: the call that loads it is the runtime's, not the program's.
#[test]
fn loading_a_filter_is_not_recorded() {
    let place = Place::new();
    for runtime in [RT, "runc", &crun(&place)] {
        for no_new_privileges in [true, false] {
            let (mut bundle, path) = recorded(&place, "echo hello");
            bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
            bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}));
            run(runtime, &bundle, "recorded").ok();
            let profile = profile(&path);
            assert!(!names(&profile).contains("seccomp"), "{runtime}: {profile}");
            replay(&mut bundle, &profile);
            assert_eq!(run(runtime, &bundle, "again").ok().stdout, "hello\n", "{runtime}");
        }
    }
}

/// A pipe that an engine and its runtime forgot to close ends all the same.
#[test]
fn the_recorder_holds_nothing_of_its_caller_open() {
    use std::io::Write;
    use std::os::fd::{AsFd, AsRawFd};
    let place = Place::new();
    let output = place.dir.join("profile.json");
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::fcntl_setfd(writer.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    let pipe = fs::read_link(format!("/proc/self/fd/{}", reader.as_raw_fd())).unwrap();
    let mut container = Command::new("sleep").arg("100").spawn().unwrap();
    let mut hook = Command::new(HOOK)
        .arg("--output")
        .arg(&output)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = json!({"id": "c", "status": "created", "pid": container.id()});
    hook.stdin.take().unwrap().write_all(state.to_string().as_bytes()).unwrap();
    let done = finish(hook);
    let found = processes_named(output.to_str().unwrap());
    let open: Vec<PathBuf> = found
        .iter()
        .flat_map(|line| fs::read_dir(format!("/proc/{}/fd", line.split([' ', ':']).nth(1).unwrap())).unwrap())
        .map(|fd| fs::read_link(fd.unwrap().path()).unwrap())
        .collect();
    container.kill().unwrap();
    container.wait().unwrap();
    wait_until("the recorder's end", || processes_named(output.to_str().unwrap()).is_empty());
    done.ok();
    assert!(!open.is_empty() && !open.contains(&pipe), "{open:?}");
}

#[test]
fn a_killed_container_and_its_children_give_a_profile() {
    let place = Place::new();
    let (bundle, path) = recorded(&place, "(mkdir /made; echo > /ready; exec sleep 100) & exec sleep 100");
    let id = place.id("killed");
    bundle.create("killed", &[]).ok();
    place.rt(&["start", &id]).ok();
    wait_until("the child", || bundle.rootfs("/ready").exists());
    assert!(!path.exists());
    assert_eq!(processes_named(path.to_str().unwrap()).len(), 1, "one recorder");
    place.rt(&["kill", &id, "KILL"]).ok();
    let profile = profile(&path);
    assert!(names(&profile).contains("mkdir"), "{profile}");
    place.rt(&["delete", &id]).ok();
}

/// A program whose second thread alone makes a call, and that is sent a real-time signal.
#[test]
fn threads_are_recorded_and_signals_arrive() {
    let place = Place::new();
    let (mut bundle, path) = recorded(&place, "");
    let source = bundle.dir.join("threads.c");
    fs::write(
        &source,
        "#include <pthread.h>\n#include <signal.h>\n#include <stdio.h>\n#include <sys/stat.h>\n#include <unistd.h>\n\
         static volatile int seen;\n\
         static void handler(int number) { seen = number == SIGRTMIN; }\n\
         static void *work(void *none) { mkdir(\"/made\", 0700); return none; }\n\
         int main(void) {\n\
           pthread_t thread;\n\
           signal(SIGRTMIN, handler);\n\
           pthread_create(&thread, 0, work, 0);\n\
           pthread_join(thread, 0);\n\
           raise(SIGRTMIN);\n\
           puts(seen ? \"seen\" : \"lost\");\n\
           return 0;\n\
         }\n",
    )
    .unwrap();
    let program = bundle.rootfs("/bin/threads");
    host(&format!("gcc -static -pthread -o {} {}", program.display(), source.display())).ok();
    bundle.set("/process/args", json!(["/bin/threads"]));
    assert_eq!(run(RT, &bundle, "threads").ok().stdout, "seen\n");
    assert!(bundle.rootfs("/made").is_dir());
    let profile = profile(&path);
    assert!(names(&profile).contains("mkdir"), "{profile}");
}

/// The 32-bit calling convention is an architecture of its own. The program is the machine's bytes
/// for int 0x80 with getppid and exit_group, for which no 32-bit library is needed.
#[test]
#[cfg(target_arch = "x86_64")]
fn compat_calls_are_recorded_with_their_architecture() {
    let place = Place::new();
    let (mut bundle, path) = recorded(&place, "");
    let source = bundle.dir.join("compat.s");
    fs::write(&source, ".globl _start\n_start:\nmov $64, %eax\nint $0x80\nmov $252, %eax\nmov $7, %ebx\nint $0x80\n")
        .unwrap();
    let program = bundle.rootfs("/bin/compat");
    host(&format!("gcc -nostdlib -static -o {} {}", program.display(), source.display())).ok();
    bundle.set("/process/args", json!(["/bin/compat"]));
    assert_eq!(run(RT, &bundle, "compat").code, 7);
    let profile = profile(&path);
    assert_eq!(profile["architectures"], json!(["SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]));
    assert!(names(&profile).contains("getppid"), "{profile}");
    replay(&mut bundle, &profile);
    assert_eq!(run(RT, &bundle, "again").code, 7);
}

#[test]
fn an_input_profile_is_extended() {
    let place = Place::new();
    let (mut bundle, path) = recorded(&place, "true");
    run(RT, &bundle, "first").ok();
    let first = profile(&path);
    let second = bundle.dir.join("second.json");
    let annotation = format!("if:{};of:{}", path.display(), second.display());
    bundle.set("/annotations", json!({"io.containers.trace-syscall": annotation}));
    bundle.script("mkdir /made");
    run(RT, &bundle, "second").ok();
    let second = profile(&second);
    assert_eq!(second["syscalls"][0], first["syscalls"][0]);
    assert!(second["syscalls"][1]["names"].as_array().unwrap().contains(&json!("mkdir")), "{second}");
}

/// What cannot be recorded is an error before the container exists, in one line.
#[test]
fn wrong_settings_stop_the_container() {
    let place = Place::new();
    for (annotation, words) in [
        ("of:relative", "not an absolute path"),
        ("/no/prefix", "neither if:/FILE nor of:/FILE"),
        ("of:/no/such/folder/file", "no file can be made"),
        ("if:/no/such;of:/tmp/rt-test-never", "input profile /no/such"),
    ] {
        let (mut bundle, _) = recorded(&place, "echo ran");
        bundle.set("/annotations", json!({"io.containers.trace-syscall": annotation}));
        let done = bundle.run("wrong");
        assert_eq!((done.code, &*done.stdout), (1, ""), "{annotation}");
        let state = json!({"id": "x", "status": "created", "pid": 1, "annotations": bundle.config["annotations"]});
        let done = host(&format!("echo '{state}' | {HOOK}")).fails_with(words);
        assert!(done.stderr.starts_with("oci-seccomp-record: "), "{}", done.stderr);
    }
    host(&format!("echo nonsense | {HOOK}")).fails_with("not the state of a container");
    host(&format!("echo '{{\"id\":\"x\",\"status\":\"stopped\"}}' | {HOOK} --output /tmp/rt-test-never"))
        .fails_with("names no process");
}

/// The hooks.d file that ships, under Podman.
#[test]
fn hooks_d_file_names_what_podman_reads() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("oci-seccomp-record.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(file["version"], "1.0.0");
    assert_eq!(file["hook"]["path"], "/usr/libexec/oci/hooks.d/oci-seccomp-record");
    let pattern = file["when"]["annotations"].as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(pattern, r"^io\.containers\.trace-syscall$");
    assert_eq!(file["stages"], json!(["createRuntime"]));
}

/// By its hooks.d file, as it is installed.
#[test]
fn under_podman() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(top.join("integration/engines/podman"))
        .args([harness::RT, "--only", "hook: seccomp"])
        .env("RT_HOOKS", Path::new(HOOK).parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.ends_with("podman: 1 passed, 0 failed\n"), "{text}");
}
