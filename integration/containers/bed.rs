//! What the tests of containers share: a store with an image of busybox in it, and runtimes.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Done, Place, layout, sh};

/// The runtime under test: `BUNDLE_TEST_RUNTIME`, or the one beside `bundle`.
pub fn runtime() -> Option<String> {
    std::env::var("BUNDLE_TEST_RUNTIME").ok().filter(|it| it != "rt")
}

/// A place whose store has the image `it`: busybox, three users, a volume's directory with content.
pub struct Bed(pub Place);

impl Bed {
    /// A new one.
    pub fn new(name: &str) -> Self {
        Self::with(name, json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}))
    }

    /// With another configuration of the image.
    pub fn with(name: &str, config: Value) -> Self {
        let place = Place::new(name);
        layout(&place.path("layout"), "it:latest", &[base()], config);
        let bed = Self(place);
        bed.run(&["load", "-q", "-i", &bed.0.text("layout")]).ok();
        bed
    }

    /// `bundle` with these words, to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).stdin(Stdio::null()), words)
    }

    /// The command itself.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.0.command("store", words);
        if let Some(runtime) = runtime() {
            command.env("BUNDLE_RUNTIME", runtime);
        }
        command
    }

    /// A detached container that runs a script of the shell.
    pub fn detached(&self, name: &str, flags: &[&str], script: &str) {
        let words = [&["run", "-d", "--name", name], flags, &["it", "sh", "-c", script]].concat();
        self.run(&words).ok();
    }

    /// A field of what `inspect` says.
    pub fn inspect(&self, name: &str, field: &str) -> String {
        self.run(&["inspect", "--format", &format!("{{{{{field}}}}}"), name]).ok().out.trim().to_owned()
    }

    /// What `ps -a` says of a container.
    pub fn status(&self, name: &str) -> String {
        let filter = format!("name={name}");
        self.run(&["ps", "-a", "--filter", &filter, "--format", "{{.Status}}"]).ok().out.trim().to_owned()
    }

    /// The process of a container's monitor.
    pub fn monitor(&self, name: &str) -> i32 {
        self.inspect(name, ".State.MonitorPid").parse().unwrap()
    }

    /// A container's first process.
    pub fn pid(&self, name: &str) -> i32 {
        self.inspect(name, ".State.Pid").parse().unwrap()
    }

    /// Nothing is left of any container: no directory, no process, no cgroup, no mount.
    #[track_caller]
    pub fn is_clean(&self) {
        // What a killed command has left goes with the next one.
        self.run(&["ps", "-a"]).ok();
        let store = self.0.path("store");
        let left = || {
            let mut left: Vec<String> = Vec::new();
            for dir in ["containers", "trash"] {
                left.extend(names(&store.join(dir)).into_iter().map(|it| format!("{dir}/{it}")));
            }
            left
        };
        if !left().is_empty() {
            // One that has no row yet is found when the store is gone through.
            self.run(&["prune", "-f"]).ok();
        }
        until(&format!("the store is empty: {:?}", left()), || left().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(store.to_str().unwrap()), "{mounts}");
        until("its processes have ended", || self.processes().is_empty());
    }

    /// The monitors of this store.
    pub fn processes(&self) -> Vec<i32> {
        let store = self.0.text("store");
        let mut found = Vec::new();
        for name in names("/proc".as_ref()) {
            let Ok(pid) = name.parse::<i32>() else { continue };
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(" monitor ") && line.contains(&store) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Bed {
    /// Also where a test fails, no container stays.
    fn drop(&mut self) {
        let ids = self.run(&["ps", "-aq"]).out;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            self.run(&[&["rm", "-f", "-v"], &ids[..]].concat());
        }
        // A monitor that is still at its last lines would write into a directory that is being removed.
        let start = Instant::now();
        while !self.processes().is_empty() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn base() -> Vec<u8> {
    let busybox = std::fs::read(sh("command -v busybox").trim()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8], mode: u32, owner: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    add("bin/busybox", &busybox, 0o755, 0);
    add("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n", 0o644, 0);
    add("etc/group", b"root:x:0:\nweb:x:34:\nlog:x:4:web\n", 0o644, 0);
    add("tmp/", b"", 0o1777, 0);
    add("srv/", b"", 0o750, 33);
    add("srv/file", b"content\n", 0o640, 33);
    add("bin/noexec", b"x", 0o644, 0);
    let applets = "sh cat id pwd env hostname grep sleep wc rm true false echo ls stat mkdir touch dd seq yes kill ps \
        head tail test mount ln chmod chown cp mv readlink find tr cut printf nc stty tee mknod awk sort od sync \
        ip ping wget nslookup httpd timeout";
    for name in applets.split_whitespace() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        builder.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    builder.into_inner().unwrap()
}

/// The names in a directory, sorted.
pub fn names(dir: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until something is true, ten seconds at most.
#[track_caller]
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < end, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads from a child's output until some text has come.
#[track_caller]
pub fn read_until(child: &mut Child, text: &str) -> String {
    let out = child.stdout.as_mut().unwrap();
    let mut got = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&got).contains(text) {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the end came after {:?}", String::from_utf8_lossy(&got));
        got.push(byte[0]);
    }
    String::from_utf8_lossy(&got).into_owned()
}

/// Sends a process a signal by kill(1).
pub fn kill(signal: &str, pid: i32) {
    sh(&format!("kill -{signal} {pid}"));
}
