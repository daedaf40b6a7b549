//! `rt exec` on the real kernel: who the process is, where it is, what it is given, how it ends, and
//! that neither the container's files nor a storm of calls brings it off its course.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::{Bundle, Done, Place};
use serde_json::{Value, json};

/// A running container.
struct Running<'p> {
    bundle: Bundle<'p>,
    id: String,
}

impl<'p> Running<'p> {
    fn new(place: &'p Place) -> Running<'p> {
        Running::with(place, |_| {})
    }

    fn with(place: &'p Place, change: impl FnOnce(&mut Bundle<'p>)) -> Running<'p> {
        let mut bundle = place.bundle("exec sleep 1000");
        bundle.set("/root/readonly", json!(false));
        change(&mut bundle);
        let it = Running { id: place.id("c"), bundle };
        it.bundle.create("c", &[]).ok();
        place.rt(&["start", &it.id]).ok();
        it
    }

    fn exec(&self, args: &[&str]) -> Done {
        self.exec_with(&[], args)
    }

    fn exec_with(&self, options: &[&str], args: &[&str]) -> Done {
        let mut all = vec!["exec"];
        all.extend(options);
        all.push(&self.id);
        all.extend(args);
        self.bundle.place.rt(&all)
    }

    fn sh(&self, options: &[&str], script: &str) -> Done {
        self.exec_with(options, &["sh", "-c", script])
    }

    /// `exec --process` with this object.
    fn process(&self, process: &Value, options: &[&str]) -> Done {
        let path = self.file(process);
        let mut all = vec!["--process", path.to_str().unwrap()];
        all.extend(options);
        self.exec_with(&all, &[])
    }

    fn file(&self, process: &Value) -> PathBuf {
        let path = self.bundle.dir.join("process.json");
        fs::write(&path, process.to_string()).unwrap();
        path
    }

    fn start(&self, options: &[&str], args: &[&str]) -> Child {
        let mut all = vec!["exec"];
        all.extend(options);
        all.push(&self.id);
        all.extend(args);
        let mut command = self.bundle.place.command(&all);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn init(&self) -> i64 {
        self.bundle.place.state(&self.id)["pid"].as_i64().unwrap()
    }

    fn stop(&self) {
        self.bundle.place.rt(&["kill", &self.id, "KILL"]).ok();
        self.bundle.place.wait_for(&self.id, "stopped");
    }
}

trait Refused {
    fn refused(self, words: &str);
}

impl Refused for Done {
    /// Exit status 255 and one line that holds `words`.
    #[track_caller]
    fn refused(self, words: &str) {
        assert_eq!(self.code, 255, "{self:?}");
        assert!(self.stderr.contains(words), "\"{words}\" is not in: {}", self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}", self.stderr);
        assert_eq!(self.stdout, "");
    }
}

#[test]
fn the_status_is_the_programs() {
    let place = Place::new();
    let it = Running::new(&place);
    for code in [0, 1, 7, 126, 127, 254, 255] {
        assert_eq!(it.sh(&[], &format!("exit {code}")).code, code);
    }
    for signal in [1, 9, 11, 15] {
        assert_eq!(it.sh(&[], &format!("kill -{signal} $$")).code, 128 + signal);
    }
}

#[test]
fn streams_are_the_callers() {
    let place = Place::new();
    let it = Running::new(&place);
    let mut command = place.command(&["exec", &it.id, "sh", "-c", "cat; echo err >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let done = harness::finish(child).ok();
    assert_eq!((&*done.stdout, &*done.stderr), ("in\n", "err\n"));
}

#[test]
fn arguments_arrive_as_they_are() {
    let place = Place::new();
    let it = Running::new(&place);
    let done = it.exec(&["printf", "%s|", "a b", "", "-t", "--user", "$HOME", "*"]).ok();
    assert_eq!(done.stdout, "a b||-t|--user|$HOME|*|");
}

#[test]
fn users_by_number_and_by_name() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.set("/process/user", json!({"uid": 5, "gid": 6, "additionalGids": [7]}));
        fs::write(
            bundle.rootfs("/etc/group"),
            "root:x:0:\nuser:x:1000:\nadm:x:4:user,root\nodd:x:+9:user\ndaemon:x:2:user\n",
        )
        .unwrap();
    });
    let ids = "echo $(id -u):$(id -g) $(id -G) $HOME";
    for (user, wanted) in [
        (None, "5:6 6 7 /\n"),
        (Some("1000"), "1000:6 6 7 /home/user\n"),
        (Some("1000:20"), "1000:20 20 7 /home/user\n"),
        (Some("4242:4243"), "4242:4243 4243 7 /\n"),
        (Some("0"), "0:6 6 7 /root\n"),
        (Some("user"), "1000:1000 1000 2 4 /home/user\n"),
        (Some("user:adm"), "1000:4 4 2 /home/user\n"),
        (Some("root:1"), "0:1 1 4 /root\n"),
        (Some("4294967294"), "4294967294:6 6 7 /\n"),
    ] {
        let options: Vec<&str> = user.iter().flat_map(|user| ["--user", user]).collect();
        assert_eq!(it.sh(&options, ids).ok().stdout, wanted, "{user:?}");
    }
    assert_eq!(it.sh(&["-u", "user", "-g", "77", "-g", "78"], "id -G").ok().stdout, "1000 2 4 77 78\n");
}

#[test]
fn what_is_not_exactly_a_user_is_refused() {
    let place = Place::new();
    let it = Running::new(&place);
    for bad in [
        "",
        ":",
        "1:",
        ":1",
        "1x",
        "1 ",
        " 1",
        "+1",
        "-1",
        "1:-1",
        "1:1x",
        "1:1:1",
        "4294967295",
        "4294967296",
        "0x0",
        "18446744073709551616",
        "1.0",
        "1,2",
        "us er",
        "root ",
        "1:4294967296",
    ] {
        it.exec_with(&["--user", bad], &["id"]).refused("--user: ");
    }
    for unknown in ["nobody", "user:nogroup", "ROOT"] {
        it.exec_with(&["--user", unknown], &["id"]).refused("is not in the container's /etc/");
    }
    for bad in ["x", "-1", "", "4294967295"] {
        it.exec_with(&["-g", bad], &["id"]).refused("--additional-gids");
    }
}

#[test]
fn a_hostile_passwd_is_no_trap() {
    let place = Place::new();
    let it = Running::new(&place);
    for make in [
        "rm /etc/passwd; mkfifo /etc/passwd",
        "rm /etc/passwd; ln -s /etc/passwd /etc/passwd",
        "rm /etc/passwd; ln -s /dev/zero /etc/passwd",
        "rm /etc/passwd; mkdir /etc/passwd",
        "rmdir /etc/passwd; head -c 3000000 /dev/zero > /etc/passwd; echo user:x:1:1::/: >> /etc/passwd",
        "printf 'user:x:1 :1::/:\\nuser:x:-1:1::/:\\nuser:x:4294967296:0::/:\\nuser:x::0::/:\\nuser:x:0x1:0::/:\\n' > /etc/passwd",
    ] {
        it.sh(&[], make).ok();
        let start = Instant::now();
        it.exec_with(&["--user", "user"], &["id"]).refused("is not in the container's /etc/passwd");
        let done = it.exec_with(&["--user", "12"], &["grep", "Uid", "/proc/self/status"]).ok();
        assert_eq!(done.stdout, "Uid:\t12\t12\t12\t12\n");
        assert!(start.elapsed() < Duration::from_secs(5), "{make}");
    }
}

#[test]
fn the_environment_is_the_containers_with_changes() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.set("/process/env", json!(["PATH=/bin", "A=1", "B=2"]));
    });
    let mut command = place.command(&["exec", "-e", "B=3", "--env", "C=4=5", "-e", "D=", &it.id, "env"]);
    command.env("HOST", "x").stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = harness::finish(command.spawn().unwrap()).ok();
    let mut lines: Vec<&str> = done.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=3", "C=4=5", "D=", "HOME=/root", "PATH=/bin"]);
    for bad in ["novalue", "=x", ""] {
        it.exec_with(&["-e", bad], &["env"]).refused("--env");
    }
}

#[test]
fn the_working_directory() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.set("/process/cwd", json!("/tmp"));
    });
    assert_eq!(it.exec(&["pwd"]).ok().stdout, "/tmp\n");
    assert_eq!(it.exec_with(&["-w", "/etc"], &["pwd"]).ok().stdout, "/etc\n");
    it.exec_with(&["--cwd", "etc"], &["pwd"]).refused("/process/cwd: must be absolute");
    it.exec_with(&["--cwd", "/nowhere"], &["pwd"])
        .refused("/process/cwd: entering /nowhere: no such file or directory");
    for fd in 3..12 {
        let out = it.exec_with(&["--cwd", &format!("/proc/self/fd/{fd}")], &["pwd"]);
        assert_eq!(out.code, 255, "{out:?}");
    }
    // A directory that the user alone may search.
    let own = it.bundle.rootfs("/tmp/own");
    fs::create_dir(&own).unwrap();
    harness::host(&format!("chown 1000 {0} && chmod 700 {0}", own.display())).ok();
    assert_eq!(it.exec_with(&["-u", "1000", "-w", "/tmp/own"], &["pwd"]).ok().stdout, "/tmp/own\n");
}

#[test]
fn capabilities_are_the_containers_and_those_added() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        let caps = json!(["CAP_KILL"]);
        bundle.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    });
    let sets = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | sed 's/.*\\t0*//' | tr '\\n' ' '";
    // CAP_KILL is bit 5, CAP_CHOWN bit 0.
    assert_eq!(it.sh(&[], sets).ok().stdout, " 20 20 20  ");
    assert_eq!(it.sh(&["--cap", "CAP_CHOWN"], sets).ok().stdout, " 21 21 21  ");
    assert_eq!(it.sh(&["-c", "chown", "-c", "KILL"], sets).ok().stdout, " 21 21 21  ");
    it.exec_with(&["--cap", "CAP_FLY"], &["id"]).refused("--cap CAP_FLY: no such capability");
    // Another user has them permitted by nothing.
    assert_eq!(it.sh(&["-u", "1000"], sets).ok().stdout, "   20  ");
    // A process object without any takes after the container; with an empty one it has none.
    let object = |caps: Value| {
        let mut object =
            json!({"cwd": "/", "args": ["sh", "-c", sets], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
        if !caps.is_null() {
            object["capabilities"] = caps;
        }
        object
    };
    assert_eq!(it.process(&object(Value::Null), &[]).ok().stdout, " 20 20 20  ");
    assert_eq!(it.process(&object(json!({})), &[]).ok().stdout.trim(), "");
}

#[test]
fn no_new_privileges_limits_and_umask() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.set("/process/noNewPrivileges", json!(false));
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 456}]));
        bundle.set("/process/user/umask", json!(0o077));
        bundle.set("/process/oomScoreAdj", json!(500));
    });
    let show = "grep NoNewPrivs /proc/self/status; ulimit -Sn; ulimit -Hn; umask; cat /proc/self/oom_score_adj";
    assert_eq!(it.sh(&[], show).ok().stdout, "NoNewPrivs:\t0\n123\n456\n0077\n500\n");
    assert!(it.sh(&["--no-new-privs"], show).ok().stdout.starts_with("NoNewPrivs:\t1\n"));
    let mut object = json!({"cwd": "/", "args": ["sh", "-c", show], "env": ["PATH=/bin"], "noNewPrivileges": true,
        "oomScoreAdj": 600, "user": {"uid": 0, "gid": 0, "umask": 2},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 30}]});
    assert_eq!(it.process(&object, &[]).ok().stdout, "NoNewPrivs:\t1\n20\n30\n0002\n600\n");
    object["rlimits"][0]["soft"] = json!(40);
    it.process(&object, &[]).refused("/process/rlimits/0/soft");
}

#[test]
fn the_filter_is_the_containers() {
    let place = Place::new();
    // Profiles that differ in nothing but the error number are two all the same.
    for (no_new_privileges, errno, says) in [
        (false, 38, "Function not implemented"),
        (true, 38, "Function not implemented"),
        (true, 13, "Permission denied"),
    ] {
        let it = Running::with(&place, |bundle| {
            bundle.set("/process/noNewPrivileges", json!(no_new_privileges));
            bundle.set(
                "/linux/seccomp",
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]}),
            );
        });
        // The document may change, the container does not.
        fs::remove_file(it.bundle.dir.join("config.json")).unwrap();
        let done = it.sh(&[], "grep Seccomp: /proc/self/status; mkdir /tmp/x");
        assert_eq!((done.code, &*done.stdout), (1, "Seccomp:\t2\n"), "{done:?}");
        assert!(done.stderr.contains(says), "{}", done.stderr);
        place.rt(&["delete", "--force", &it.id]).ok();
    }
}

#[test]
fn all_namespaces_and_cgroups_are_inits() {
    let place = Place::new();
    let has_time = std::path::Path::new("/proc/self/ns/time").exists();
    let kinds = if has_time { "cgroup ipc mnt net pid time user uts" } else { "cgroup ipc mnt net pid user uts" };
    for with_user in [false, true] {
        let it = Running::with(&place, |bundle| {
            if has_time {
                bundle.push("/linux/namespaces", json!({"type": "time"}));
            }
            if with_user {
                bundle.with_user_namespace();
            }
        });
        let script = format!("for n in {kinds}; do readlink /proc/self/ns/$n; done");
        let inside = it.sh(&[], &script).ok().stdout;
        let init: String = kinds
            .split(' ')
            .map(|kind| fs::read_link(format!("/proc/{}/ns/{kind}", it.init())).unwrap().display().to_string() + "\n")
            .collect();
        assert_eq!(inside, init);
        let mut child = it.start(&[], &["sleep", "1000"]);
        let other = second(&it, "sleep");
        let cgroups = |pid: i64| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert_eq!(cgroups(other), cgroups(it.init()));
        child.kill().unwrap();
        child.wait().unwrap();
        place.rt(&["delete", "--force", &it.id]).ok();
    }
}

fn listed(it: &Running<'_>) -> Vec<i64> {
    serde_json::from_str(&it.bundle.place.rt(&["ps", "--format", "json", &it.id]).ok().stdout).unwrap()
}

/// The process beside init, once it executes that program: before, it is the runtime's own.
fn second(it: &Running<'_>, program: &str) -> i64 {
    let mut found = None;
    harness::wait_until("the second process", || {
        let named =
            |pid: &i64| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == program);
        found = listed(it).into_iter().find(|pid| *pid != it.init() && named(pid));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn in_a_user_namespace_it_is_root_inside() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.with_user_namespace();
    });
    let done = it.sh(&[], "id -u; cat /proc/self/uid_map; ulimit -n");
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "1024"], "{done:?}");
    assert_eq!(it.sh(&["-u", "user"], "id -u; id -G").ok().stdout, "1000\n1000\n");
    it.exec_with(&["-u", "70000"], &["id"]).refused("70000 is in none of the ranges");
    let object = json!({"cwd": "/", "args": ["sh", "-c", "ulimit -n"], "env": ["PATH=/bin"],
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]});
    assert_eq!(it.process(&object, &[]).ok().stdout, "99\n");
}

#[test]
fn containers_that_share_namespaces_with_the_host() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        for kind in ["pid", "network", "ipc", "uts", "cgroup"] {
            bundle.namespace(kind, None);
        }
        bundle.config.as_object_mut().unwrap().remove("hostname");
    });
    let done = it.sh(&[], "readlink /proc/self/ns/pid; readlink /proc/self/ns/net; hostname; ls /").ok();
    let link = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let host = harness::host("uname -n").stdout;
    assert_eq!(done.stdout, format!("{}\n{}\n{host}bin\ndev\netc\nproc\nroot\nsys\ntmp\n", link("pid"), link("net")));
}

#[test]
fn without_a_mount_namespace_the_root_is_the_containers() {
    let place = Place::new();
    let mut bundle = place.bundle("exec sleep 1000");
    bundle.namespace("mount", None);
    let id = place.id("c");
    if bundle.create("c", &[]).stderr.contains("6.15") || !place.root.join(&id).exists() {
        return; // older kernels cannot build such a tree
    }
    place.rt(&["start", &id]).ok();
    assert_eq!(place.rt(&["exec", &id, "ls", "/"]).ok().stdout, "bin\ndev\netc\nproc\nroot\nsys\ntmp\n");
}

#[test]
fn no_descriptor_comes_along_unasked() {
    let place = Place::new();
    let it = Running::new(&place);
    let list = "cd /proc/self/fd && echo *";
    let with_leaks = |options: &str| {
        let root = place.root.display();
        let rt = harness::RT;
        harness::host(&format!(
            "exec 3</etc/hostname 4<&3 5<&3 9<&3; exec {rt} --root {root} exec {options} {} sh -c '{list}'",
            it.id
        ))
    };
    // The shell has its own one for the directory.
    assert_eq!(with_leaks("").ok().stdout, "0 1 2 3\n");
    assert_eq!(with_leaks("--preserve-fds 2").ok().stdout, "0 1 2 3 4 5\n");
    it.exec_with(&["--preserve-fds", "7"], &["true"]).refused("is not open");
}

#[test]
fn programs_that_cannot_be_run_are_named() {
    let place = Place::new();
    let it = Running::new(&place);
    it.exec(&["nosuch"]).refused("exec: \"nosuch\": executable file not found in $PATH");
    it.exec(&["/no/such"]).refused("exec: \"/no/such\": stat /no/such: no such file or directory");
    it.exec(&["/etc/passwd"]).refused("exec: \"/etc/passwd\": permission denied");
    it.exec(&["/tmp"]).refused("exec: \"/tmp\": is a directory");
    it.exec(&[""]).refused("/process/args/0: must not be empty");
    it.exec(&[]).refused("nothing to run");
    it.sh(
        &[],
        "printf '#!/no/interpreter\\n' > /tmp/script; chmod +x /tmp/script; printf x > /tmp/junk; chmod +x /tmp/junk",
    )
    .ok();
    it.exec(&["/tmp/script"]).refused("no such file or directory");
    it.exec(&["/tmp/junk"]).refused("exec format error");
    // Nothing is left of them, and the container is none the worse.
    harness::wait_until("one process", || listed(&it).len() == 1);
}

#[test]
fn what_does_not_run_is_refused_in_engines_words() {
    let place = Place::new();
    place.rt(&["exec", "nobody", "true"]).refused("does not exist");
    place.rt(&["exec", "../x", "true"]).refused("invalid container ID");
    let it = Running::new(&place);
    it.stop();
    it.exec(&["true"]).refused("cannot exec in a stopped container");
    place.rt(&["delete", &it.id]).ok();
    // A created one can be entered before it starts.
    let bundle = place.bundle("exec sleep 1000");
    bundle.create("c", &[]).ok();
    assert_eq!(place.rt(&["exec", &place.id("c"), "echo", "early"]).ok().stdout, "early\n");
    assert_eq!(place.state(&place.id("c"))["status"], "created");
}

#[test]
fn a_paused_container_waits_for_resume() {
    let place = Place::new();
    let it = Running::new(&place);
    place.rt(&["pause", &it.id]).ok();
    it.exec(&["true"]).refused("cannot exec in a paused container (use --ignore-paused to override)");
    let mut child = it.start(&["--ignore-paused"], &["echo", "thawed"]);
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none());
    place.rt(&["resume", &it.id]).ok();
    assert_eq!(harness::finish(child).ok().stdout, "thawed\n");
}

#[test]
fn detached_it_runs_on() {
    let place = Place::new();
    let it = Running::new(&place);
    let file = place.dir.join("pid");
    let mut command = place.command(&["exec", "-d", "--pid-file", file.to_str().unwrap(), &it.id, "sleep", "1000"]);
    // A pipe would be held open by the process.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    let pid: i64 = text.parse().unwrap();
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, b"sleep\x001000\0");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let session = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(status.contains("SigBlk:\t0000000000000000") && status.contains("SigIgn:\t0000000000000000"), "{status}");
    assert_eq!(session.rsplit(')').next().unwrap().split_whitespace().nth(3), Some(&*text));
    assert!(listed(&it).contains(&pid));
    // A failure leaves no file.
    let other = place.dir.join("other");
    it.exec_with(&["-d", "--pid-file", other.to_str().unwrap()], &["nosuch"]).refused("executable file not found");
    assert!(!other.exists());
    it.exec_with(&["-d", "--pid-file", "/nonexistent/pid"], &["true"]).refused("--pid-file /nonexistent/pid");
}

#[test]
fn a_terminal_in_the_foreground() {
    let place = Place::new();
    let it = Running::new(&place);
    let done = it.sh(&["-t"], "tty; test -t 0 && test -t 1 && test -t 2 && echo all; exit 3");
    assert_eq!(done.code, 3, "{done:?}");
    let text = done.stdout.replace('\r', "");
    assert!(text.starts_with("/dev/pts/") && text.ends_with("all\n"), "{text:?}");
    it.exec_with(&["-t", "-d"], &["true"]).refused("--console-socket");
    it.exec_with(&["--console-socket", "/nonexistent"], &["true"]).refused("--console-socket");
    it.exec_with(&["-t", "-d", "--console-socket", "/nonexistent"], &["true"])
        .refused("connecting to --console-socket");
}

#[test]
fn on_the_callers_terminal_it_is_raw_and_follows_its_size() {
    use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
    let place = Place::new();
    let it = Running::new(&place);
    let script = "stty size; trap 'echo resized; stty size; exit 3' WINCH; read line; echo \"got $line\"; while :; do sleep 0.05; done";
    let args = ["exec", "--tty", &it.id, "sh", "-c", script];
    let (master, child) = harness::console::on_terminal(&place, &args, 20, 70);
    harness::console::read_terminal(&master, "20 70\r\n");
    assert!(!tcgetattr(&master).unwrap().local_modes.contains(LocalModes::ICANON), "the caller's terminal is raw");
    rustix::io::write(&master, b"hello\r").unwrap();
    harness::console::read_terminal(&master, "got hello\r\n");
    tcsetwinsize(&master, Winsize { ws_row: 25, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    harness::console::read_terminal(&master, "resized\r\n25 80\r\n");
    assert_eq!(harness::finish(child).code, 3);
    assert!(
        tcgetattr(&master).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO),
        "and is so no more"
    );
    // Ctrl-C goes to the program, not to rt.
    let args = [
        "exec",
        "--tty",
        &it.id,
        "sh",
        "-c",
        "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done",
    ];
    let (master, child) = harness::console::on_terminal(&place, &args, 20, 70);
    harness::console::read_terminal(&master, "ready\r\n");
    rustix::io::write(&master, b"\x03").unwrap();
    harness::console::read_terminal(&master, "interrupted\r\n");
    assert_eq!(harness::finish(child).code, 5);
}

#[test]
fn a_terminal_through_a_console_socket() {
    let place = Place::new();
    let it = Running::new(&place);
    let socket = place.dir.join("console.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let object = json!({"cwd": "/", "terminal": true, "consoleSize": {"height": 33, "width": 77}, "env": ["PATH=/bin"],
        "args": ["sh", "-c", "stty size; read line; echo got $line; tty"]});
    let file = it.file(&object);
    let child = it.start(
        &["--process", file.to_str().unwrap(), "--detach", "--tty", "--console-socket", socket.to_str().unwrap()],
        &[],
    );
    let mut master = fs::File::from(harness::console::receive(&listener));
    harness::finish(child).ok();
    master.write_all(b"hello\n").unwrap();
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while let Ok(length) = master.read(&mut buffer) {
        text += &String::from_utf8_lossy(&buffer[..length]);
        if length == 0 || text.contains("/dev/pts") && text.ends_with('\n') {
            break;
        }
    }
    assert!(text.contains("33 77") && text.contains("got hello") && text.contains("/dev/pts/"), "{text:?}");
}

#[test]
fn signals_reach_the_program() {
    let place = Place::new();
    let it = Running::new(&place);
    let child = it.start(&[], &["sh", "-c", "trap 'exit 42' TERM; touch /tmp/trap; while :; do sleep 0.05; done"]);
    harness::wait_until("the trap", || it.bundle.rootfs("/tmp/trap").exists());
    harness::host(&format!("kill -TERM {}", child.id())).ok();
    assert_eq!(harness::finish(child).code, 42);
    // The process itself, hit from outside.
    let child = it.start(&[], &["sleep", "1000"]);
    let pid = second(&it, "sleep");
    harness::host(&format!("kill -USR1 {pid}")).ok();
    assert_eq!(harness::finish(child).code, 128 + 10);
}

#[test]
fn inits_end_is_the_end_of_all() {
    let place = Place::new();
    let it = Running::new(&place);
    let child = it.start(&[], &["sleep", "1000"]);
    second(&it, "sleep");
    it.stop();
    assert_eq!(harness::finish(child).code, 137);
}

#[test]
fn while_init_ends_it_runs_or_says_so() {
    let place = Place::new();
    for round in 0..30 {
        let mut bundle = place.bundle("");
        bundle.set("/process/args", json!(["sleep", format!("0.0{}", round % 10)]));
        bundle.create("c", &[]).ok();
        let id = place.id("c");
        let start = place.command(&["start", &id]).spawn().unwrap();
        loop {
            let done = place.rt(&["exec", &id, "true"]);
            match done.code {
                0 | 137 => {}
                255 => {
                    assert!(
                        done.stderr.contains("cannot exec in a stopped container")
                            || done.stderr.contains("was killed"),
                        "{}",
                        done.stderr
                    );
                    break;
                }
                other => panic!("{other}: {done:?}"),
            }
        }
        harness::finish(start).ok();
        place.rt(&["delete", "--force", &id]).ok();
    }
}

#[test]
fn two_hundred_at_once() {
    let place = Place::new();
    let it = Running::new(&place);
    let said = place.dir.join("said");
    let children: Vec<Child> = (0..200)
        .map(|n| {
            let mut command = place.command(&["exec", &it.id, "sh", "-c", &format!("exit {}", n % 100)]);
            let said = fs::File::options().create(true).append(true).open(&said).unwrap();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap()
        })
        .collect();
    let codes: Vec<Option<i32>> = children.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    let wanted: Vec<Option<i32>> = (0..200).map(|n| Some(n % 100)).collect();
    assert_eq!(codes, wanted, "{}", fs::read_to_string(&said).unwrap());
    // No process of theirs is left, not even a dead one.
    assert_eq!(listed(&it), [it.init()]);
    let seen = it.sh(&[], "ls -d /proc/[0-9]* | wc -l").ok().stdout;
    assert!(seen.trim().parse::<u32>().unwrap() <= 4, "{seen}");
}

#[test]
fn process_objects_are_checked() {
    let place = Place::new();
    let it = Running::new(&place);
    let good = json!({"cwd": "/", "args": ["true"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    it.process(&good, &[]).ok();
    for (pointer, value, words) in [
        ("/cwd", json!("tmp"), "/process/cwd: must be absolute"),
        ("/cwd", Value::Null, "/cwd"),
        ("/args", json!([]), "/process/args"),
        ("/args/0", json!(5), "/args/0: must be a string"),
        ("/user/uid", json!(-1), "/user/uid: must be a whole number 0..4294967295, is integer -1"),
        ("/user/uid", json!(4_294_967_295_u32), "/process/user/uid"),
        ("/env", json!(["=x"]), "/process/env/0"),
        ("/env", json!(["A\u{0}=x"]), "must not hold a NUL character"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        it.process(&bad, &[]).refused(words);
    }
    for (name, text) in [("cut", "{\"cwd\":"), ("list", "[]"), ("empty", "")] {
        let path = place.dir.join(name);
        fs::write(&path, text).unwrap();
        let done = it.exec_with(&["--process", path.to_str().unwrap()], &[]);
        assert_eq!((done.code, done.stderr.trim_end().lines().count()), (255, 1), "{name}: {done:?}");
    }
    let fifo = place.dir.join("fifo");
    harness::host(&format!("mkfifo {}", fifo.display())).ok();
    it.exec_with(&["--process", fifo.to_str().unwrap()], &[]).refused("not a regular file");
    it.exec_with(&["--process", "/nonexistent"], &[]).refused("no such file or directory");
}

#[test]
fn scheduling_affinity_and_io_priority() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7}));
    });
    let object = |args: &[&str]| json!({"cwd": "/", "args": args, "env": ["PATH=/bin"]});
    assert!(it.process(&object(&["ionice"]), &[]).ok().stdout.starts_with("idle"));
    let mut other = object(&["ionice"]);
    other["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 3});
    assert!(it.process(&other, &[]).ok().stdout.starts_with("best-effort: prio 3"));
    let mut nice = object(&["sh", "-c", "cut -d' ' -f19 /proc/self/stat"]);
    nice["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 5});
    assert_eq!(it.process(&nice, &[]).ok().stdout, "5\n");
    let cpus = "grep Cpus_allowed_list /proc/self/status";
    let mut pinned = object(&["sh", "-c", cpus]);
    pinned["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    assert_eq!(it.process(&pinned, &[]).ok().stdout, "Cpus_allowed_list:\t0\n");
    pinned["execCPUAffinity"] = json!({"final": "1000"});
    it.process(&pinned, &[]).refused("/process/execCPUAffinity/final");
    pinned["execCPUAffinity"] = json!({"final": "x"});
    it.process(&pinned, &[]).refused("/process/execCPUAffinity/final");
}

#[test]
fn affinity_of_the_container_is_for_exec_alone() {
    let place = Place::new();
    let it = Running::with(&place, |bundle| {
        bundle.set("/process/execCPUAffinity", json!({"final": "0"}));
    });
    let cpus = "grep Cpus_allowed_list /proc/self/status";
    assert_eq!(it.sh(&[], cpus).ok().stdout, "Cpus_allowed_list:\t0\n");
    let init = fs::read_to_string(format!("/proc/{}/status", it.init())).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let line = |text: &str| text.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap().to_owned();
    assert_eq!(line(&init), line(&own));
}

#[test]
fn labels_that_the_kernel_cannot_set_are_errors() {
    if std::path::Path::new("/sys/module/apparmor").exists() || std::path::Path::new("/sys/fs/selinux/enforce").exists()
    {
        return;
    }
    let place = Place::new();
    let it = Running::new(&place);
    it.exec_with(&["--apparmor", "docker-default"], &["true"]).refused("needs AppArmor");
    it.exec_with(&["--process-label", "a:b:c:d"], &["true"]).refused("needs SELinux");
    it.exec_with(&["--apparmor", "unconfined"], &["true"]).ok();
}

#[test]
fn the_table_of_processes() {
    let place = Place::new();
    let it = Running::new(&place);
    let init = it.init();
    assert_eq!(listed(&it), [init]);
    if harness::host("ps -ef").code == 0 {
        let table = place.rt(&["ps", &it.id]).ok().stdout;
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert!(lines[0].contains("PID") && lines[1].contains("sleep 1000"), "{table}");
        let table = place.rt(&["ps", &it.id, "-eo", "pid,comm"]).ok().stdout;
        assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND", &init.to_string(), "sleep"]);
        place.rt(&["ps", &it.id, "-eo", "comm"]).fails_with("no column PID");
    }
    it.stop();
    assert_eq!(listed(&it), [0i64; 0]);
    place.rt(&["ps", "nobody"]).fails_with("does not exist");
}

/// A process of the container tries every process that it sees, again and again; also one that may
/// trace, which can open what others keep closed.
#[test]
fn nothing_inside_can_look_into_us() {
    let place = Place::new();
    let mark = place.dir.join("mark");
    fs::write(&mark, "").unwrap();
    // Only the host's root has this file.
    let spy = format!(
        "cd /; while :; do for p in /proc/[0-9]*; do [ -e $p/root{0} ] && echo \"$p root\" >> /tmp/seen; \
         l=$(readlink $p/cwd $p/fd/* 2>/dev/null); case \"$l\" in *rt-test*|*/proc|*cgroup*) echo \"$p $l\" >> /tmp/seen;; esac; done; done",
        mark.display()
    );
    for tracer in [false, true] {
        let it = Running::with(&place, |bundle| {
            if tracer && harness::has_capability(19) {
                let caps = json!(["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"]);
                bundle.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
            }
        });
        let mut child = it.start(&[], &["sh", "-c", &spy]);
        // The guest takes a fifth of a second for each.
        for _ in 0..if harness::guest::is_inside() { 30 } else { 150 } {
            it.exec(&["true"]).ok();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = fs::read_to_string(it.bundle.rootfs("/tmp/seen")).unwrap_or_default();
        assert_eq!(seen, "", "tracer: {tracer}");
        place.rt(&["delete", "--force", &it.id]).ok();
    }
}

#[test]
fn a_signal_ends_an_exec_that_cannot_go_on() {
    let place = Place::new();
    let it = Running::new(&place);
    place.rt(&["pause", &it.id]).ok();
    // Not a pipe: the frozen process keeps its end open.
    let said = place.dir.join("said");
    let mut command = place.command(&["exec", "--ignore-paused", &it.id, "true"]);
    let said_to = fs::File::create(&said).unwrap();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said_to).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    harness::host(&format!("kill -INT {}", child.id())).ok();
    assert_eq!(harness::finish(child).code, 255);
    assert!(fs::read_to_string(&said).unwrap().contains("cut short by signal 2"));
    assert!(start.elapsed() < Duration::from_secs(5));
    place.rt(&["resume", &it.id]).ok();
    harness::wait_until("one process", || listed(&it).len() == 1);
}

#[test]
fn on_v2() {
    harness::guest::run_again(&[], &["RT_TEST_IN=v2"]);
}
