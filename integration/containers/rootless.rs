//! Containers of a plain user: in a mount namespace where /etc has one more user with subordinate ids.

use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use crate::bed::{Bed, until};
use crate::harness::{Done, Place, bundle, rt, sh};

/// The user's own id; nobody on the host has it.
const ID: u32 = 43_211;
/// The first of the ids behind it.
const RANGE: u32 = 71_000_000;

struct User(Place);

impl User {
    fn new(name: &str) -> Self {
        let place = Place::new(name);
        let etc = place.path("etc");
        std::fs::create_dir_all(&etc).unwrap();
        for (file, line) in [("passwd", format!("tester:x:{ID}:{ID}::/:/bin/sh")), ("group", format!("tester:x:{ID}:"))]
        {
            let old = std::fs::read_to_string(format!("/etc/{file}")).unwrap();
            std::fs::write(etc.join(file), format!("{}\n{line}\n", old.trim_end())).unwrap();
        }
        for file in ["subuid", "subgid"] {
            std::fs::write(etc.join(file), format!("tester:{RANGE}:65536\n")).unwrap();
        }
        std::fs::create_dir(place.path("home")).unwrap();
        chown(place.path("home"), Some(ID), Some(ID)).unwrap();
        Self(place)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        let script = r#"for file in passwd group subuid subgid; do mount --bind "$0/etc/$file" /etc/$file; done
            exec setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}""#;
        command.args(["--mount", "--propagation", "private", "bash", "-euc", script]).arg(&self.0.0);
        command.arg(ID.to_string()).arg(bundle()).args(words).current_dir("/").stdin(Stdio::null());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("HOME", self.0.path("home")).env_remove("BUNDLE_ROOT").env("BUNDLE_RUNTIME", rt());
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        Done::of(&mut self.command(words), words)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let ids = self.run(&["ps", "-aq"]).out;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            self.run(&[&["rm", "-f", "-v"], &ids[..]].concat());
        }
    }
}

#[test]
fn a_plain_users_containers_live_as_roots_do() {
    let user = User::new("plain");
    // Its image, made by root for it.
    let bed = Bed::new("plain-image");
    bed.run(&["save", "-o", &user.0.text("it.tar"), "it"]).ok();
    user.run(&["load", "-q", "-i", &user.0.text("it.tar")]).ok();
    user.run(&["run", "-d", "--name", "pp", "-v", "data:/srv", "it", "sh", "-c", "echo up; id -u; sleep 100"]).ok();
    until("its output is kept", || user.run(&["logs", "pp"]).out == "up\n0\n");
    let ps = user.run(&["ps", "--format", "{{.Names}} {{.State}}"]).ok().out;
    assert_eq!(ps, "pp running\n");
    // The container is the user's: nothing of it runs as root of the host.
    let pid = user.run(&["inspect", "--format", "{{.State.Pid}}", "pp"]).ok().out;
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    assert!(status.contains(&format!("Uid:\t{ID}\t{ID}")), "{status}");
    // What is done with it is done in its own user namespace, also as one of the subordinate ids.
    assert_eq!(
        user.run(&["exec", "-u", "web", "pp", "sh", "-c", "id -u; cat /srv/file; echo more >/srv/more"]).ok().out,
        "33\ncontent\n"
    );
    assert_eq!(user.run(&["exec", "pp", "stat", "-c", "%u", "/srv/more"]).ok().out, "33\n");
    let monitor = user.run(&["inspect", "--format", "{{.State.MonitorPid}}", "pp"]).ok().out;
    let namespace = |pid: &str| sh(&format!("readlink /proc/{}/ns/user", pid.trim()));
    assert_eq!(namespace(&pid), namespace(&monitor));
    // A second container shares it.
    user.run(&["run", "-d", "--name", "qq", "--volumes-from", "pp", "it", "sleep", "100"]).ok();
    let other = user.run(&["inspect", "--format", "{{.State.Pid}}", "qq"]).ok().out;
    assert_eq!(namespace(&pid), namespace(&other));
    assert_eq!(user.run(&["exec", "qq", "cat", "/srv/more"]).ok().out, "more\n");
    user.run(&["restart", "-t", "0", "pp"]).ok();
    user.run(&["commit", "qq", "mine"]).ok();
    user.run(&["cp", "qq:/srv/more", "/dev/null"]);
    // A killed monitor is replaced here too.
    let monitor = user.run(&["inspect", "--format", "{{.State.MonitorPid}}", "qq"]).ok().out;
    sh(&format!("kill -KILL {}", monitor.trim()));
    until("it has another", || {
        let now = user.run(&["inspect", "--format", "{{.State.MonitorPid}}", "qq"]).ok().out;
        now != monitor && user.run(&["ps", "-q"]).out.lines().count() == 2
    });
    user.run(&["stop", "-t", "0", "pp", "qq"]).ok();
    user.run(&["rm", "pp", "qq"]).ok();
    user.run(&["volume", "rm", "data"]).ok();
    // What the kernel does not allow is said before anything is made.
    let done = user.run(&["run", "-d", "--name", "limited", "-m", "64m", "it", "sleep", "100"]);
    assert!(done.status == 125 && done.err.contains("--memory"), "{} {}", done.status, done.err);
    assert_eq!(user.run(&["ps", "-aq"]).ok().out, "");
}
