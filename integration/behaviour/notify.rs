//! Filters that hand system calls to an agent (config-linux.md, "listenerPath"): the agent gets the
//! listener before the program's first instruction, in run, start and exec, whatever the filter holds.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::{Bundle, Place, wait_until};
use serde_json::{Value, json};

/// mkdir(2) here, or what the C library calls in its place.
const MKDIR: (&str, u32) = if cfg!(target_arch = "x86_64") { ("mkdir", 83) } else { ("mkdirat", 34) };

/// A process that decides over system calls.
struct Agent {
    process: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Agent {
    fn new(place: &Place) -> Agent {
        let (socket, log) = (place.dir.join("agent.sock"), place.dir.join("agent.log"));
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/behaviour/agent.py");
        let process = Command::new("python3")
            .arg(program)
            .arg(&socket)
            .arg(MKDIR.1.to_string())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let agent = Agent { process, socket, log };
        wait_until("the agent listens", || agent.lines().iter().any(|line| line["ready"] == true));
        agent
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The container process states that it was sent.
    fn states(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line.get("state").is_some()).collect()
    }

    fn was_asked(&self, number: u32) -> bool {
        self.lines().iter().any(|line| line["call"] == number)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A bundle whose calls of these names go to the agent.
fn notifying<'p>(place: &'p Place, agent: &Path, names: &[&str], script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/root/readonly", json!(false));
    bundle.set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": agent, "listenerMetadata": "what for",
            "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
        }),
    );
    bundle
}

const SCRIPT: &str = "mkdir /new; echo status $?; ls -d /new; echo $$";

#[test]
fn the_agent_decides() {
    let place = Place::new();
    let agent = Agent::new(&place);
    let mut bundle = notifying(&place, &agent.socket, &[MKDIR.0], SCRIPT);
    bundle.set("/annotations", json!({"key": "value"}));
    let done = bundle.run("c").ok();
    // The first process, and no other one in sight.
    assert_eq!(done.stdout, "status 1\n1\n");
    assert!(done.stderr.contains("uota exceeded"), "{}", done.stderr);
    assert!(!bundle.rootfs("new").exists());
    assert!(agent.was_asked(MKDIR.1));
    let [said] = &agent.states()[..] else { panic!("{:?}", agent.lines()) };
    let state = &said["state"];
    assert_eq!(said["descriptors"], 1);
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "what for");
    assert_eq!(state["state"]["id"], place.id("c"));
    assert_eq!(state["state"]["annotations"]["key"], "value");
    assert_eq!(state["state"]["bundle"], bundle.path());
    assert_eq!(state["pid"], state["state"]["pid"]);
    assert!(state["pid"].as_i64().unwrap() > 1 && state["ociVersion"].is_string());
}

#[test]
fn create_start_and_exec_each_bring_a_listener() {
    let place = Place::new();
    let agent = Agent::new(&place);
    let bundle = notifying(&place, &agent.socket, &[MKDIR.0], "mkdir /new; echo status $?; exec sleep 1000");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    assert_eq!(agent.states().len(), 0, "what is not loaded has no listener");
    let pid = place.state(&id)["pid"].clone();
    place.rt(&["start", &id]).ok();
    wait_until("it has run", || bundle.output().contains("status 1"));
    let states = agent.states();
    assert_eq!(states.len(), 1);
    assert_eq!((&states[0]["state"]["pid"], &states[0]["state"]["state"]["status"]), (&pid, &json!("created")));

    let done = place.rt(&["exec", &id, "sh", "-c", "mkdir /new; echo $?"]);
    assert_eq!(done.stdout, "1\n", "{}", done.stderr);
    let states = agent.states();
    assert_eq!(states.len(), 2);
    assert_eq!(
        (&states[1]["state"]["state"]["pid"], &states[1]["state"]["state"]["status"]),
        (&pid, &json!("running"))
    );
    assert_ne!(states[1]["state"]["pid"], pid);
    place.rt(&["delete", "--force", &id]).ok();
}

/// Also those that the runtime itself would need on the way to the program.
#[test]
fn any_call_can_be_handed_over() {
    let place = Place::new();
    let agent = Agent::new(&place);
    let mut bundle = notifying(&place, &agent.socket, &[MKDIR.0], SCRIPT);
    bundle.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOTIFY")).set("/linux/seccomp/syscalls", json!([]));
    for flags in [json!([]), json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"])] {
        bundle.set("/linux/seccomp/flags", flags);
        assert_eq!(bundle.run("c").ok().stdout, "status 1\n1\n");
    }
    let execve = if cfg!(target_arch = "x86_64") { 59 } else { 221 };
    assert!(agent.was_asked(execve));
    // And what is forbidden: the runtime needs none of it either.
    let forbidden = ["sendmsg", "recvmsg", "close", "wait4", "munmap", "poll", "clone3"];
    bundle.set("/linux/seccomp/defaultAction", json!("SCMP_ACT_ALLOW"));
    bundle.set(
        "/linux/seccomp/syscalls",
        json!([{"names": [MKDIR.0], "action": "SCMP_ACT_NOTIFY"}, {"names": forbidden, "action": "SCMP_ACT_ERRNO"}]),
    );
    bundle.script("mkdir /new; echo done");
    assert_eq!(bundle.run("c").ok().stdout, "done\n");
}

#[test]
fn a_user_namespace_and_no_new_privileges_change_nothing() {
    let place = Place::new();
    let agent = Agent::new(&place);
    let mut bundle = notifying(&place, &agent.socket, &[MKDIR.0], SCRIPT);
    assert_eq!(bundle.run("c").ok().stdout, "status 1\n1\n");
    bundle.set("/process/noNewPrivileges", json!(false));
    assert_eq!(bundle.run("c").ok().stdout, "status 1\n1\n");
    let root = bundle.rootfs("");
    harness::host(&format!("chown -R 100000:100000 {}", root.display())).ok();
    bundle.with_user_namespace();
    assert_eq!(bundle.run("c").ok().stdout, "status 1\n1\n");
    assert_eq!(agent.states().len(), 3);
}

#[test]
fn without_an_agent_the_program_does_not_run() {
    let place = Place::new();
    let socket = place.dir.join("nobody.sock");
    let bundle = notifying(&place, &socket, &[MKDIR.0], "echo ran >/ran; sleep 1000");
    let words = "/linux/seccomp/listenerPath: the agent at ";
    let done = bundle.run("c").fails_with(words);
    assert!(done.stderr.contains("no such file or directory"), "{}", done.stderr);
    assert_eq!(place.lasting_leftovers(), [] as [&str; 0]);

    // A socket that nobody listens at.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    let done = place.rt(&["start", &id]).fails_with(words);
    assert!(done.stderr.contains("connection refused"), "{}", done.stderr);
    assert_eq!(place.state(&id)["status"], "stopped");
    place.rt(&["delete", &id]).ok();
    assert!(!bundle.rootfs("ran").exists());

    // An agent that has gone by the time of an exec.
    let agent = Agent::new(&place);
    let bundle = notifying(&place, &agent.socket, &[MKDIR.0], "exec sleep 1000");
    bundle.create("d", &[]).ok();
    place.rt(&["start", &place.id("d")]).ok();
    drop(agent);
    let done = place.rt(&["exec", &place.id("d"), "true"]);
    assert!(done.code == 255 && done.stderr.contains(words), "{} {}", done.code, done.stderr);
    place.rt(&["delete", "--force", &place.id("d")]).ok();
}
