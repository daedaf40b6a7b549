//! What the tests of the real binary share: a place of their own for each test, bundles made on the
//! spot, and the certainty that nothing stays behind, also when a test fails.

#![allow(dead_code)] // each test program uses its part

pub mod cgroup;
pub mod console;
pub mod guest;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The binary under test: the one that ships where the environment names it (`contrib/test` does),
/// else the debug build; for the tests of another crate, which cannot name that, the one in PATH.
pub const RT: &str = match (option_env!("RT_BINARY"), option_env!("CARGO_BIN_EXE_rt")) {
    (Some(path), _) | (None, Some(path)) => path,
    (None, None) => "rt",
};

/// No command may take longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Every name that a test gives to something of the machine starts with this.
pub const PREFIX: &str = "rt-test-";

/// Programs of the test root file system, all of them busybox.
const APPLETS: &str = "sh true false cat ls mount umount ps id env sleep hostname ip mkdir rm ln echo test stat grep \
    head tail tr wc kill chmod chown touch dd seq sort od readlink nc date awk sed mknod find stty tty ulimit nproc \
    df mv cp printf expr sync uname pwd dnsdomainname renice nice taskset setsid xargs cut md5sum ionice usleep mkfifo";

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Exit status, or 128 and the signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command failed with exit status 1 and one line that holds `words`.
    #[track_caller]
    pub fn fails_with(self, words: &str) -> Self {
        assert_eq!(self.code, 1, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.contains(words), "\"{words}\" is not in: {}", self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "more than one line: {}", self.stderr);
        self
    }
}

/// A place of its own: bundles, a state directory, and ids that no other test uses.
pub struct Place {
    pub dir: PathBuf,
    pub root: PathBuf,
    name: String,
}

impl Place {
    pub fn new() -> Place {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(is_root() || guest::is_inside(), "these tests make containers: run them as root");
        // Padded, so that none is the beginning of another.
        let name = format!("{PREFIX}{}-{:03}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        // A mapped root must be able to come through.
        fs::DirBuilder::new().mode(0o755).create(&dir).unwrap();
        Place { root: dir.join("state"), dir, name }
    }

    /// An id that belongs to this place.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A bundle with busybox and the document of `rt spec`, without a terminal, running `sh -c script`.
    pub fn bundle(&self, script: &str) -> Bundle<'_> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let dir = self.dir.join(format!("bundle{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        busybox_root(&dir.join("rootfs"));
        self.rt(&["spec", "--bundle", dir.to_str().unwrap()]).ok();
        let text = fs::read_to_string(dir.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        Bundle { place: self, dir, config }
    }

    /// Runs `rt --root <this place's> args`.
    pub fn rt(&self, args: &[&str]) -> Done {
        finish(self.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The same, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(RT);
        command.arg("--root").arg(&self.root);
        if systemd() {
            command.arg("--systemd-cgroup");
        }
        command.args(args);
        command
    }

    /// The state that `rt state` prints.
    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.rt(&["state", id]).ok().stdout).unwrap()
    }

    /// Waits until a container has this status.
    #[track_caller]
    pub fn wait_for(&self, id: &str, status: &str) {
        let start = Instant::now();
        loop {
            let state = self.state(id);
            if state["status"] == status {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{id} does not become {status}: {state}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is left of this place's containers: state, cgroups, processes, mounts of the host.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Ok(entries) = fs::read_dir(&self.root) {
            left.extend(entries.flatten().map(|entry| entry.path().display().to_string()));
        }
        left.extend(cgroups_named(&self.name).iter().map(|path| path.display().to_string()));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|line| line.contains(&self.name)).map(str::to_owned));
        left.extend(processes_named(&self.name));
        left
    }

    /// The same, once dying processes have had a moment: what is listed then stays.
    pub fn lasting_leftovers(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = self.leftovers();
            if left.is_empty() || start.elapsed() > Duration::from_secs(3) {
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ids: Vec<String> = fs::read_dir(&self.root)
            .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        for id in ids {
            let done = self.rt(&["delete", "--force", &id]);
            assert!(done.code == 0 || std::thread::panicking(), "delete --force {id}: {}", done.stderr);
        }
        let left = self.lasting_leftovers();
        for path in left.iter().filter(|path| path.starts_with("/sys/fs/cgroup/")) {
            let _ = fs::remove_dir(path);
        }
        let _ = fs::remove_dir_all(&self.dir);
        assert!(left.is_empty() || std::thread::panicking(), "left behind: {left:#?}");
    }
}

/// A bundle whose document is still in memory.
pub struct Bundle<'p> {
    pub place: &'p Place,
    pub dir: PathBuf,
    pub config: Value,
}

impl Bundle<'_> {
    /// A path inside the root file system, as the host sees it.
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path.trim_start_matches('/'))
    }

    pub fn path(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    /// Puts the document on disk.
    pub fn write(&self) -> &Self {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        self
    }

    /// `rt run` to the end.
    pub fn run(&self, name: &str) -> Done {
        self.run_with(name, &[])
    }

    /// The same with options.
    pub fn run_with(&self, name: &str, options: &[&str]) -> Done {
        self.write();
        let id = self.place.id(name);
        let mut args = vec!["run", "--bundle", self.path()];
        args.extend(options);
        args.push(&id);
        self.place.rt(&args)
    }

    /// `rt create`. What the container writes goes to `<bundle>/out`: a pipe would stay open.
    pub fn create(&self, name: &str, options: &[&str]) -> Done {
        self.write();
        let id = self.place.id(name);
        let mut args = vec!["create", "--bundle", self.path()];
        args.extend(options);
        args.push(&id);
        let out = fs::File::create(self.dir.join("out")).unwrap();
        let error_path = self.dir.join("err");
        let err = fs::File::create(&error_path).unwrap();
        let child = self.place.command(&args).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let mut done = finish(child);
        done.stderr = fs::read_to_string(error_path).unwrap();
        done
    }

    /// What a created container has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.join("out")).unwrap_or_default()
    }

    /// Changes a value of the document: `set("/process/cwd", json!("/tmp"))`. Objects on the way are made.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let mut place = &mut self.config;
        for key in pointer.trim_start_matches('/').split('/') {
            place = match key.parse::<usize>() {
                Ok(index) if place.is_array() => &mut place[index],
                _ => &mut place[key],
            };
        }
        *place = value;
        self
    }

    /// Takes a namespace out of the document, or with a path has it joined.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Self {
        let list = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != kind);
        if let Some(path) = path {
            list.push(json!({"type": kind, "path": path}));
        }
        self
    }

    /// Runs this script in the container instead.
    pub fn script(&mut self, script: &str) -> &mut Self {
        self.set("/process/args", json!(["sh", "-c", script]))
    }

    /// Adds to a list of the document: `push("/mounts", json!({...}))`.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        self.config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value);
        self
    }

    /// Gives the container a user namespace: 0.. inside is 100000.. outside.
    pub fn with_user_namespace(&mut self) -> &mut Self {
        self.push("/linux/namespaces", json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
        self
    }
}

/// Waits for a command, but not for ever.
#[track_caller]
pub fn finish(mut child: Child) -> Done {
    use std::os::unix::process::ExitStatusExt;
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("a command hangs");
        }
        std::thread::sleep(Duration::from_micros(500));
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Done { code, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A root file system of busybox alone.
pub fn busybox_root(root: &Path) {
    for dir in ["bin", "etc", "root", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.expect("busybox-static is installed"), root.join("bin/busybox")).unwrap();
    for applet in APPLETS.split_whitespace() {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n").unwrap();
}

/// Directories below the cgroup mounts whose name starts with `name`.
pub fn cgroups_named(name: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: u32, name: &str, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if depth > 0 {
                walk(&entry.path(), depth - 1, name, found);
            }
            if entry.file_name().to_string_lossy().starts_with(name) {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 4, name, &mut found);
    found
}

/// Processes whose command line names `name`, as `pid command line`: rt's own (an init that has not
/// yet executed its program keeps rt's command line) and what the test started with paths of its place.
pub fn processes_named(name: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| *pid != own && pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(name).then(|| format!("process {pid}: {line}"))
        })
        .collect()
}

/// A program that is crun. That of Debian 12 refuses a host with both cgroup versions: v2 is hidden from it.
pub fn crun(place: &Place) -> String {
    let path = place.dir.join("crun");
    let hide = "umount /sys/fs/cgroup/unified 2>/dev/null; exec crun \"$@\"";
    fs::write(&path, format!("#!/bin/sh\nexec unshare --mount sh -c '{hide}' sh \"$@\"\n")).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// Runs a line of the host's shell.
pub fn host(script: &str) -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap())
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Whether systemd makes the cgroups of these tests.
pub fn systemd() -> bool {
    std::env::var("RT_TEST_IN").is_ok_and(|place| place == "systemd")
}

/// Whether this process has a capability by number, for tests that need one.
pub fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap() & (1 << number) != 0
}
