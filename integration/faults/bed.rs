//! A container with everything in it that takes a step, and the certainty that nothing of it stays.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Bundle, Done, Place, RT, cgroups_named};
use crate::trace::LIMIT;

/// Names another runtime to put through the same.
pub const RUNTIME: &str = "RT_FAULTS_RUNTIME";

/// Where other runtimes find an empty directory instead of cgroup v2.
const HIDDEN: &str = "/sys/fs/cgroup/unified/";

/// The runtime, and whether it is another than ours.
pub fn runtime() -> (String, bool) {
    match std::env::var(RUNTIME) {
        Ok(other) if !other.is_empty() => (other, true),
        _ => (RT.to_owned(), false),
    }
}

/// What a program can see of what it was given. Numbers that differ from container to container
/// (ids of mounts, of devices without a disk, of namespaces) are taken out, or compared with the host's.
const FINGERPRINT: &str = r#"
grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign|Cgt)|Cap|NoNewPrivs|Seccomp)' /proc/self/status
# A device that could not be made is the host's, bound: that is as good.
grep -v ' devtmpfs ' /proc/self/mountinfo | awk '{ gsub(/master:[0-9]+/, "master"); gsub(/shared:[0-9]+/, "shared"); $1 = $2 = $3 = ""; print }'
cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj
cut -d ' ' -f 4-7 /proc/1/stat
for name in cgroup ipc mnt net pid uts; do
    case " HOST " in *" $(readlink /proc/self/ns/$name) "*) echo "$name is the host's" ;; *) echo "$name is its own" ;; esac
done
for fd in 0 1 2 3 4 5 6 7 8 9; do [ ! -e /proc/self/fd/$fd ] || echo "descriptor $fd"; done
pwd; hostname; env | sort; umask
cat /proc/sys/net/ipv4/ip_unprivileged_port_start /sys/class/net/lo/flags
stat -c '%n %F %a %u:%g %t:%T' /dev/* /tmp /data
for file in memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares memory.max pids.max cpu.weight; do
    [ ! -e /sys/fs/cgroup/$file ] || echo "$file $(cat /sys/fs/cgroup/$file)"
done
head -c 1 /proc/keys | wc -c; ls /sys/firmware | wc -l
touch /bin/x /data/x /proc/sys/x 2>&1; mkfifo /tmp/fifo 2>&1; cat /dev/extra | wc -c
echo END
"#;

/// A container to be, and its place.
pub struct Bed<'p> {
    pub bundle: Bundle<'p>,
    pub id: String,
    /// Where the container writes.
    pub out: PathBuf,
    runtime: String,
    /// Where its terminal goes, if it has one.
    pub console: Option<PathBuf>,
}

impl<'p> Bed<'p> {
    pub fn new(place: &'p Place) -> Bed<'p> {
        let mut bundle = place.bundle("");
        let id = place.id("c");
        let script = FINGERPRINT.replace("HOST", &host_namespaces());
        fs::write(bundle.rootfs("bin/fingerprint"), script).unwrap();
        fs::create_dir(bundle.rootfs("data")).unwrap();
        let data = bundle.dir.join("data");
        fs::create_dir(&data).unwrap();
        let busybox = bundle.rootfs("bin/busybox");
        // It reads its state: crun dies of a hook that does not.
        let hook = json!([{"path": busybox, "args": ["sh", "-c", "cat >/dev/null", id]}]);
        bundle
            // One that every runtime knows.
            .set("/ociVersion", json!("1.0.2"))
            .set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 23}))
            .set("/process/oomScoreAdj", json!(100))
            .set("/hostname", json!("faults"))
            .set("/hooks", json!({"createRuntime": hook, "poststop": hook}))
            .set("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "80"}))
            .set("/linux/resources/memory", json!({"limit": 64 << 20}))
            .set("/linux/resources/pids", json!({"limit": 64}))
            .set("/linux/resources/cpu", json!({"shares": 512}))
            .set("/linux/seccomp", seccomp())
            .set("/linux/devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}]))
            .push("/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]}))
            .push("/mounts", json!({"destination": "/data", "type": "bind", "source": data, "options": ["bind", "ro"]}))
            .push("/process/rlimits", json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0}));
        // The name stands in the command line, so that a process that is left can be told.
        bundle.set("/process/args", json!(["sh", "/bin/fingerprint", id]));
        let out = bundle.dir.join("out");
        Bed { bundle, id, out, runtime: runtime().0, console: None }
    }

    /// The container's program waits instead of ending.
    pub fn waits(&mut self) {
        let args = json!(["sh", "-c", "echo END; exec sleep 1000", self.id]);
        self.bundle.set("/process/args", args).write();
    }

    pub fn fingerprints(&mut self) {
        let args = json!(["sh", "/bin/fingerprint", self.id]);
        self.bundle.set("/process/args", args).write();
    }

    /// A command of the runtime as a shell has it.
    pub fn line(&self, verb: &str, options: &str) -> String {
        let bundle = match verb {
            "create" | "run" => format!("--bundle {}", self.bundle.path()),
            _ => String::new(),
        };
        let root = self.bundle.place.root.display();
        let after = if ["exec", "kill"].contains(&verb) { options } else { "" };
        let before = if after.is_empty() { options } else { "" };
        let console = match &self.console {
            Some(socket) if verb == "create" => format!("--console-socket {}", socket.display()),
            _ => String::new(),
        };
        format!("{} --root {root} {verb} {bundle} {console} {before} {} {after}", self.runtime, self.id)
    }

    /// Runs a command of the runtime by itself. What it starts writes to the container's file.
    pub fn command(&self, verb: &str, options: &str) -> Done {
        let error_path = self.bundle.dir.join("other-errors");
        let out = if verb == "create" || verb == "run" { self.out.clone() } else { self.bundle.dir.join("other-out") };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {}", self.line(verb, options))]).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&error_path).unwrap());
        let code = answer(command.spawn().unwrap());
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Done { code, stdout: read(&out), stderr: read(&error_path) }
    }

    /// The same, but it has to work.
    pub fn works(&self, verb: &str, options: &str) -> Result<(), String> {
        let done = self.command(verb, options);
        if done.code == 0 { Ok(()) } else { Err(format!("{verb} {options}: {}: {}", done.code, done.stderr.trim())) }
    }

    /// The status that `state` gives.
    pub fn status(&self) -> String {
        let done = self.command("state", "");
        let state: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
        state["status"].as_str().map_or_else(|| format!("{}: {}", done.code, done.stderr.trim()), str::to_owned)
    }

    /// Waits for a status.
    pub fn becomes(&self, status: &str) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let is = self.status();
            if is == status {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err(format!("does not become {status}, is {is}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// All that the container's program has written, to its last word.
    pub fn output(&self) -> Result<String, String> {
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(&self.out).unwrap_or_default();
            if text.trim_end().ends_with("END") {
                return Ok(text);
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err(format!("the program did not come to its end: {text:?}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What is left after `delete --force`, once dying processes have had a moment.
    pub fn leftovers(&self) -> Result<(), String> {
        // cgroup v2 is hidden from other runtimes on a host with both versions. What Debian's crun makes
        // in the empty directory instead, and never takes away, is no cgroup.
        if runtime().1 {
            for path in self.bundle.place.leftovers().iter().filter(|path| path.starts_with(HIDDEN)) {
                let _ = fs::remove_dir_all(path);
            }
        }
        let left = self.bundle.place.lasting_leftovers();
        if left.is_empty() { Ok(()) } else { Err(format!("left: {}", left.join(", "))) }
    }

    /// Takes away what a runtime has left, so that the next point finds a clean bed.
    pub fn sweep(&self) {
        for _ in 0..50 {
            let name = self.bundle.place.id("");
            let groups = cgroups_named(&name);
            let tasks = groups.iter().map(|path| fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default());
            let mut pids: Vec<i32> =
                tasks.flat_map(|text| text.lines().flat_map(str::parse).collect::<Vec<_>>()).collect();
            for line in crate::harness::processes_named(&name) {
                pids.extend(line.split([' ', ':']).nth(1).and_then(|pid| pid.parse::<i32>().ok()));
            }
            for path in &groups {
                let _ = fs::write(path.join("freezer.state"), "THAWED");
                let _ = fs::write(path.join("cgroup.freeze"), "0");
            }
            for pid in pids {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            for path in &groups {
                let _ = fs::remove_dir(path);
            }
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            for line in mounts.lines().filter(|line| line.contains(&name)) {
                let _ = Command::new("umount").arg(line.split(' ').nth(4).unwrap()).status();
            }
            let _ = fs::remove_dir_all(&self.bundle.place.root);
            if self.bundle.place.leftovers().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The exit status of a command; 124 when it gives no answer.
fn answer(mut child: Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            return 124;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// The ids of this process's namespaces, in one line.
fn host_namespaces() -> String {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    let links = names.map(|name| fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap_or_default());
    links.map(|link| link.display().to_string()).join(" ")
}

/// Refuses to make device nodes and FIFOs.
fn seccomp() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["mknod", "mknodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]
    })
}
