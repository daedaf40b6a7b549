//! `rt checkpoint` and `rt restore` with a real CRIU (integration/criu/get), and what CRIU is told, by a
//! recorder in its place.

#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code, missing_docs)]
#[path = "../../src/rt/criu/rpc.rs"]
mod rpc;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use harness::cgroup::{dir_of, is_v2};
use harness::console::{read_terminal, receive};
use harness::{Bundle, Done, Place, finish, host, wait_until};
use prost::Message;
use serde_json::json;

/// A CRIU that works on this kernel.
static CRIU: LazyLock<String> = LazyLock::new(|| {
    let get = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/criu/get");
    let output = Command::new(get).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
});

/// Counts in memory and writes that to a file in memory.
const COUNTER: &str = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.02; done";

/// A running container, and what it takes to write it down and make it again.
struct Subject<'p> {
    place: &'p Place,
    bundle: Bundle<'p>,
    id: String,
    images: PathBuf,
}

impl<'p> Subject<'p> {
    fn new(place: &'p Place, script: &str, change: impl FnOnce(&mut Bundle<'p>)) -> Subject<'p> {
        let mut bundle = place.bundle(script);
        bundle.push("/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        change(&mut bundle);
        let it = Subject { place, id: place.id("c"), images: place.dir.join("images"), bundle };
        it.bundle.create("c", &[]).ok();
        place.rt(&["start", &it.id]).ok();
        it
    }

    fn checkpoint(&self, options: &[&str]) -> Done {
        let mut args = vec!["--criu", &*CRIU, "checkpoint", "--image-path", self.images.to_str().unwrap()];
        args.extend(options);
        args.push(&self.id);
        self.place.rt(&args)
    }

    fn restore(&self, options: &[&str]) -> Done {
        let mut args = vec!["--criu", &*CRIU, "restore", "--detach", "--image-path", self.images.to_str().unwrap()];
        args.extend(["--bundle", self.bundle.path()]);
        args.extend(options);
        args.push(&self.id);
        // The restored processes would keep pipes open.
        let out = fs::OpenOptions::new().append(true).create(true).open(self.bundle.dir.join("out")).unwrap();
        let error_path = self.bundle.dir.join("err");
        let err = fs::File::create(&error_path).unwrap();
        let mut done = finish(self.place.command(&args).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap());
        done.stderr = fs::read_to_string(error_path).unwrap();
        done
    }

    fn exec(&self, script: &str) -> String {
        self.place.rt(&["exec", &self.id, "sh", "-c", script]).ok().stdout
    }

    fn count(&self) -> u64 {
        self.exec("until cat /tmp/n | grep .; do :; done").trim().parse().unwrap()
    }

    fn pid(&self) -> i64 {
        self.place.state(&self.id)["pid"].as_i64().unwrap()
    }

    fn is_unknown(&self) -> bool {
        let done = self.place.rt(&["state", &self.id]);
        done.code != 0 && done.stderr.contains("does not exist")
    }
}

#[test]
fn memory_files_limits_and_mounts_come_back() {
    let place = Place::new();
    let data = place.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("seed"), "seed\n").unwrap();
    let it = Subject::new(&place, COUNTER, |bundle| {
        let source = data.to_str().unwrap();
        bundle.push("/mounts", json!({"destination": "/a b", "type": "bind", "source": source, "options": ["rbind"]}));
        bundle.set("/linux/resources", json!({"memory": {"limit": 67_108_864}, "pids": {"limit": 40}}));
        bundle.set("/hostname", json!("frozen"));
        bundle.set("/process/capabilities/bounding", json!(["CAP_KILL"]));
        bundle.set("/process/noNewPrivileges", json!(true));
    });
    let mounts = || it.exec("cut -d ' ' -f 4,5,6 /proc/self/mountinfo | sort");
    let status = || it.exec("grep -E '^(Cap|NoNew|Seccomp:)' /proc/1/status; hostname; cat /proc/1/cgroup");
    wait_until("it counts", || it.count() > 3);
    let (before, mounts_before, status_before) = (it.count(), mounts(), status());
    it.checkpoint(&[]).ok();
    assert!(it.is_unknown(), "the container is gone");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());

    let pid_file = place.dir.join("pid");
    it.restore(&["--pid-file", pid_file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), it.pid().to_string());
    assert_eq!(place.state(&it.id)["status"], "running");
    let after = it.count();
    assert!(after >= before && after < before + 1000, "it counts on: {before}, {after}");
    wait_until("it goes on", || it.count() > after);
    assert_eq!(mounts(), mounts_before);
    assert_eq!(status(), status_before);
    assert_eq!(it.exec("cat '/a b/seed'"), "seed\n");
    let memory = dir_of(it.pid(), "memory").join(if is_v2() { "memory.max" } else { "memory.limit_in_bytes" });
    assert_eq!(fs::read_to_string(memory).unwrap(), "67108864\n");
    assert_eq!(fs::read_to_string(dir_of(it.pid(), "pids").join("pids.max")).unwrap(), "40\n");

    // A container like any other: it can be paused, written down again, and ended.
    place.rt(&["pause", &it.id]).ok();
    it.checkpoint(&[]).ok();
    assert!(it.is_unknown());
    it.restore(&[]).ok();
    place.rt(&["kill", &it.id, "KILL"]).ok();
    place.wait_for(&it.id, "stopped");
    place.rt(&["delete", &it.id]).ok();
    let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounted.contains(it.bundle.path()), "nothing is mounted on the host");
}

#[test]
fn it_can_be_left_running() {
    let place = Place::new();
    let it = Subject::new(&place, COUNTER, |_| {});
    let pid = it.pid();
    it.checkpoint(&["--leave-running", "--work-path", place.dir.join("work").to_str().unwrap()]).ok();
    assert!(place.dir.join("work/dump.log").exists() && !it.images.join("dump.log").exists());
    let state = place.state(&it.id);
    assert_eq!((state["status"].as_str(), state["pid"].as_i64()), (Some("running"), Some(pid)));
    let count = it.count();
    wait_until("it counts on", || it.count() > count);
    // Paused it stays as it was, too.
    place.rt(&["pause", &it.id]).ok();
    it.checkpoint(&["-R"]).ok();
    assert_eq!(place.state(&it.id)["status"], "paused");
    place.rt(&["resume", &it.id]).ok();
    // While one of that name is there, it cannot be made again.
    it.restore(&[]).fails_with("exists already");
    assert_eq!(it.pid(), pid);
    place.rt(&["delete", "--force", &it.id]).ok();
    it.restore(&[]).ok();
    assert!(it.count() >= count);
}

#[test]
fn in_a_fresh_root_mount_points_are_made() {
    let place = Place::new();
    let data = place.dir.join("data");
    fs::create_dir(&data).unwrap();
    let it = Subject::new(&place, COUNTER, |bundle| {
        bundle.set("/root/readonly", json!(false));
        bundle.push(
            "/mounts",
            json!({"destination": "/deep/in", "type": "bind", "source": data.to_str().unwrap(), "options": ["bind"]}),
        );
    });
    it.checkpoint(&[]).ok();
    let root = it.bundle.rootfs("");
    fs::remove_dir_all(&root).unwrap();
    harness::busybox_root(&root);
    it.restore(&[]).ok();
    assert_eq!(it.exec("echo x >/deep/in/file && echo there"), "there\n");
    assert!(data.join("file").exists());
}

#[test]
fn a_terminal_is_connected_again() {
    let place = Place::new();
    let socket = place.dir.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut bundle = place.bundle("stty -echo; while read line; do echo \"got $line\"; done; exit 3");
    bundle.set("/process/terminal", json!(true));
    bundle.push("/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    let it = Subject { place: &place, id: place.id("c"), images: place.dir.join("images"), bundle };
    it.bundle.create("c", &["--console-socket", socket.to_str().unwrap()]).ok();
    let first = receive(&listener);
    place.rt(&["start", &it.id]).ok();
    rustix::io::write(&first, b"one\n").unwrap();
    assert!(read_terminal(&first, "got one\n").ends_with("got one\n"));
    it.checkpoint(&[]).ok();
    drop(first);
    it.restore(&[]).fails_with("--console-socket");
    it.restore(&["--console-socket", socket.to_str().unwrap()]).ok();
    let second = receive(&listener);
    rustix::io::write(&second, b"two\n").unwrap();
    assert!(read_terminal(&second, "got two\n").ends_with("got two\n"));
}

#[test]
fn in_the_foreground_it_is_waited_for() {
    let place = Place::new();
    let it = Subject::new(&place, "until [ -e /tmp/go ]; do sleep 0.02; done; echo end; exit 5", |_| {});
    it.checkpoint(&["--leave-running"]).ok();
    place.rt(&["exec", &it.id, "touch", "/tmp/go"]).ok();
    place.wait_for(&it.id, "stopped");
    place.rt(&["delete", &it.id]).ok();
    let args = ["--criu", &*CRIU, "restore", "--image-path", it.images.to_str().unwrap(), "--bundle"];
    let mut command = place.command(&args);
    command.arg(it.bundle.path()).arg(&it.id);
    let refused = finish(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    refused.fails_with("standard output was a file");
    let (out, err) = (place.dir.join("again"), place.dir.join("errors"));
    command.stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    let child = command.spawn().unwrap();
    wait_until("it runs", || place.rt(&["exec", &it.id, "touch", "/tmp/go"]).code == 0);
    assert_eq!(finish(child).code, 5);
    assert!(it.is_unknown());
    // Its standard output was a file of the host's; what it writes now goes where ours goes.
    assert_eq!(fs::read_to_string(&out).unwrap(), "end\n");
}

#[test]
fn pipes_are_replaced_by_those_of_restore() {
    let place = Place::new();
    let mut bundle = place.bundle("while read line; do echo \"got $line\"; done");
    bundle.push("/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    bundle.write();
    let it = Subject { place: &place, id: place.id("c"), images: place.dir.join("images"), bundle };
    let talk = |command: &mut Command, line: &str, then: &dyn Fn()| {
        use std::io::{BufRead, BufReader, Write};
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        writeln!(to, "{line}").unwrap();
        let mut answer = String::new();
        from.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("got {line}\n"));
        then();
        drop((to, from));
        finish(child);
    };
    let run = ["run", "--detach", "--bundle", it.bundle.path(), &it.id];
    talk(&mut place.command(&run), "one", &|| drop(it.checkpoint(&[]).ok()));
    let images = it.images.to_str().unwrap();
    let args = ["--criu", &*CRIU, "restore", "-d", "--image-path", images, "--bundle", it.bundle.path(), &it.id];
    talk(&mut place.command(&args), "two", &|| {});
}

#[test]
fn open_connections_are_asked_for() {
    let place = Place::new();
    let script = "busybox nc -l -p 99 -e sleep 1000 & until grep -q ' 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done; \
                  sleep 1000 | busybox nc 127.0.0.1 99 & \
                  until grep -q ' 01 ' /proc/net/tcp /proc/net/tcp6; do sleep 0.02; done; echo up >/tmp/state; wait";
    let it = Subject::new(&place, script, |_| {});
    wait_until("it is connected", || it.exec("cat /tmp/state 2>/dev/null || true") == "up\n");
    let done = it.checkpoint(&[]).fails_with("tcp");
    assert!(done.stderr.contains("dump.log") && done.stderr.lines().count() == 1, "{}", done.stderr);
    assert_eq!(place.state(&it.id)["status"], "running", "a failure changes nothing");
    assert_eq!(it.exec("cat /tmp/state"), "up\n");
    let done = it.checkpoint(&["--tcp-established"]);
    if done.stderr.contains("Can't get 1:16 opt") {
        // CRIU before 4.2 asks each socket for SO_PASSCRED, which Linux 6.16 and later refuse for TCP.
        assert_eq!(place.state(&it.id)["status"], "running");
        return;
    }
    done.ok();
    it.restore(&["--tcp-established"]).ok();
    assert!(it.exec("cat /proc/net/tcp /proc/net/tcp6").contains(" 01 "));
}

#[test]
fn shared_namespaces_are_joined_again() {
    let place = Place::new();
    let mut holder = host(&format!("ip netns add {0} && ip -n {0} link set lo up", place.id("net")));
    holder = holder.ok();
    drop(holder);
    let path = format!("/run/netns/{}", place.id("net"));
    let inode = |path: &str| fs::read_link(path).map(|link| link.to_string_lossy().into_owned());
    {
        let it = Subject::new(&place, COUNTER, |bundle| {
            bundle.namespace("network", Some(&path));
        });
        let before = inode(&format!("/proc/{}/ns/net", it.pid())).unwrap();
        it.checkpoint(&[]).ok();
        it.restore(&[]).ok();
        assert_eq!(inode(&format!("/proc/{}/ns/net", it.pid())).unwrap(), before);
        place.rt(&["delete", "--force", &it.id]).ok();
    }
    host(&format!("ip netns delete {}", place.id("net"))).ok();

    // With the host's, too, and with one that comes back empty.
    let it = Subject::new(&place, COUNTER, |bundle| {
        bundle.namespace("network", None);
    });
    it.checkpoint(&[]).ok();
    it.restore(&[]).ok();
    assert_eq!(inode(&format!("/proc/{}/ns/net", it.pid())).unwrap(), inode("/proc/self/ns/net").unwrap());
    place.rt(&["delete", "--force", &it.id]).ok();
    let it = Subject::new(&place, COUNTER, |_| {});
    it.checkpoint(&["--empty-ns", "network"]).ok();
    it.restore(&["--empty-ns", "network"]).ok();
    assert_ne!(inode(&format!("/proc/{}/ns/net", it.pid())).unwrap(), inode("/proc/self/ns/net").unwrap());
}

#[test]
fn in_a_user_namespace() {
    let place = Place::new();
    let it = Subject::new(&place, COUNTER, |bundle| {
        bundle.with_user_namespace();
    });
    for name in ["out", "err"] {
        // Opened again by the container's root, who is nobody here.
        fs::set_permissions(it.bundle.dir.join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    it.checkpoint(&[]).ok();
    it.restore(&[]).ok();
    assert_eq!(it.exec("id -u; cat /proc/self/uid_map"), "0\n         0     100000      65536\n");
}

#[test]
fn hooks_see_the_restored_container() {
    let place = Place::new();
    let seen = place.dir.join("seen");
    let hook = |word: &str| {
        let script = format!("echo {word} $(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*$') >>{}", seen.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let it = Subject::new(&place, COUNTER, |bundle| {
        bundle.set(
            "/hooks",
            json!({"prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop")}),
        );
    });
    it.checkpoint(&[]).ok();
    fs::remove_file(&seen).unwrap();
    it.restore(&[]).ok();
    let pid = it.pid();
    assert_eq!(fs::read_to_string(&seen).unwrap(), format!("prestart {pid}\ncreateRuntime {pid}\n"));
    place.rt(&["delete", "--force", &it.id]).ok();

    // One that fails takes everything back.
    let mut it = it;
    it.bundle.set("/hooks/createRuntime/0/args/2", json!("exit 9"));
    it.bundle.write();
    it.restore(&[]).fails_with("/hooks/createRuntime/0: /bin/sh");
    assert!(it.is_unknown());
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_changes_nothing() {
    let place = Place::new();
    let it = Subject::new(&place, COUNTER, |_| {});
    let images = it.images.to_str().unwrap();
    let bad: [(&[&str], &str); 9] = [
        (&["checkpoint", "--image-path", images, "nobody"], "does not exist"),
        (&["--criu", "/no/criu", "checkpoint", "--image-path", images, &it.id], "/no/criu"),
        (&["--criu", "/bin/false", "checkpoint", "--image-path", images, &it.id], "CRIU"),
        (&["checkpoint", "--image-path", images, "--parent-path", "/abs", &it.id], "--parent-path /abs"),
        (&["checkpoint", "--image-path", images, "--parent-path", "no", &it.id], "--parent-path no"),
        (&["checkpoint", "--image-path", images, "--page-server", "x", &it.id], "--page-server x"),
        (&["checkpoint", "--image-path", images, "--status-fd", "77", &it.id], "--status-fd 77"),
        (&["checkpoint", "--image-path", images, "--empty-ns", "pid", &it.id], "--empty-ns pid"),
        (&["checkpoint", "--image-path", images, "--manage-cgroups-mode", "hard", &it.id], "hard"),
    ];
    for (args, words) in bad {
        let done = place.rt(args).fails_with(words);
        assert_eq!((done.code, done.stderr.lines().count()), (1, 1), "{}", done.stderr);
    }
    assert_eq!(place.state(&it.id)["status"], "running");
    // Podman's way to ask whether a runtime has the flag.
    place.rt(&["restore", "--lsm-mount-context"]).fails_with("flag needs an argument");

    let created = place.bundle("true");
    created.create("d", &[]).ok();
    place.rt(&["checkpoint", "--image-path", images, &place.id("d")]).fails_with("container not running");
    place.rt(&["delete", "--force", &place.id("d")]).ok();

    // No images, half of them, or damaged ones.
    place.rt(&["delete", "--force", &it.id]).ok();
    let restored = |dir: &Path| {
        let args = ["--criu", &*CRIU, "restore", "-d", "--bundle", it.bundle.path(), "--image-path"];
        let done = finish(place.command(&args).arg(dir).arg(&it.id).stderr(Stdio::piped()).spawn().unwrap());
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
        done
    };
    restored(&place.dir.join("nowhere")).fails_with("--image-path");
    let half = place.dir.join("half");
    fs::create_dir(&half).unwrap();
    restored(&half).fails_with("finished checkpoint");
    fs::write(half.join("descriptors.json"), "{").unwrap();
    restored(&half).fails_with("descriptors.json");
    fs::write(half.join("descriptors.json"), r#"["","","","pipe:[1]"]"#).unwrap();
    restored(&half).fails_with("only three standard streams");
    fs::write(half.join("descriptors.json"), "[]").unwrap();
    restored(&half).fails_with("restore.log");
}

/// Killed at any moment, `restore` leaves nothing that `delete --force` does not find.
#[test]
fn restore_can_be_killed_at_any_moment() {
    let place = Place::new();
    let it = Subject::new(&place, COUNTER, |_| {});
    it.checkpoint(&[]).ok();
    let mut finished = 0;
    for step in 0..20u64 {
        let args = ["--criu", &*CRIU, "restore", "-d", "--bundle", it.bundle.path(), "--image-path"];
        let mut command = place.command(&args);
        command.arg(&it.images).arg(&it.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(step * 10));
        let _ = child.kill();
        finished += u32::from(child.wait().unwrap().success());
        place.rt(&["delete", "--force", &it.id]).ok();
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "after {} ms", step * 10);
    }
    it.restore(&[]).ok();
    assert!(it.count() > 0, "{finished} of 20 were done before");
}

/// A program in CRIU's place: keeps the one request it gets, and says yes (or no, with $NO).
const RECORDER: &str = r#"#!/usr/bin/python3
import os, socket, sys
s = socket.socket(fileno=int(sys.argv[2]))
data = s.recv(65536)
if data[1] == 9:                      # features: all of them
    s.send(b"\x08\x09\x10\x01\x42\x04\x08\x01\x10\x01")
    sys.exit()
open(os.environ["RECORD"], "wb").write(data)
if data[1] == 4 or os.environ.get("LAZY"):
    s.send(b"\x08\x06\x10\x01\x2a\x0e\x0a\x0cstatus-ready")
    answer = s.recv(65536)
    assert answer == b"\x08\x06\x18\x01", answer
s.send(bytes([8, data[1], 16, 1]))
"#;

#[test]
fn every_option_reaches_criu() {
    let place = Place::new();
    let it = Subject::new(&place, COUNTER, |bundle| {
        bundle.set("/annotations", json!({"org.criu.config": "/etc/criu/own.conf"}));
    });
    let program = place.dir.join("recorder");
    fs::write(&program, RECORDER).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let record = place.dir.join("record");
    fs::create_dir_all(it.images.join("../older")).unwrap();
    let ask = |verb: &[&str]| -> (Done, rpc::Request) {
        let args = ["--criu", program.to_str().unwrap()];
        let mut command = place.command(&args);
        command.args(verb).arg("--image-path").arg(&it.images).arg(&it.id);
        // What the container had as its streams were files.
        let file = |name: &str| fs::File::create(place.dir.join(name)).unwrap();
        command.env("RECORD", &record).stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        if verb.contains(&"--lazy-pages") {
            command.env("LAZY", "1");
        }
        let mut done = finish(command.spawn().unwrap());
        done.stdout = fs::read_to_string(place.dir.join("stdout")).unwrap();
        done.stderr = fs::read_to_string(place.dir.join("stderr")).unwrap();
        (done, rpc::Request::decode(&*fs::read(&record).unwrap_or_default()).unwrap())
    };

    fs::create_dir_all(&it.images).unwrap();
    let (done, request) = ask(&["checkpoint", "--pre-dump", "--parent-path", "../older"]);
    done.ok();
    let opts = request.opts.unwrap();
    assert_eq!(request.kind, rpc::Kind::PreDump as i32);
    assert_eq!((opts.parent_img.as_deref(), opts.track_mem), (Some("../older"), Some(true)));
    assert_eq!(opts.ext_mnt, vec![]);

    let (done, request) = ask(&["checkpoint", "--leave-running"]);
    done.ok();
    let opts = request.opts.unwrap();
    assert_eq!(request.kind, rpc::Kind::Dump as i32);
    assert_eq!(opts.pid, Some(it.pid() as i32));
    assert_eq!(opts.root.as_deref(), it.bundle.rootfs("").to_str().map(|root| root.trim_end_matches('/')));
    assert_eq!(opts.manage_cgroups_mode, Some(rpc::CgroupMode::Soft as i32));
    assert_eq!(opts.config_file.as_deref(), Some("/etc/criu/own.conf"));
    for (name, flag) in [
        ("leave_running", !opts.leave_running.unwrap()),
        ("ext_unix_sk", opts.ext_unix_sk.unwrap()),
        ("tcp_established", opts.tcp_established.unwrap()),
        ("shell_job", opts.shell_job.unwrap()),
        ("file_locks", opts.file_locks.unwrap()),
        ("auto_dedup", opts.auto_dedup.unwrap()),
        ("lazy_pages", opts.lazy_pages.unwrap()),
        ("link_remap", opts.link_remap.unwrap()),
        ("tcp_skip_in_flight", opts.tcp_skip_in_flight.unwrap()),
        ("track_mem", opts.track_mem.unwrap()),
    ] {
        assert!(!flag, "{name} was not asked for");
    }
    // Masked files are the host's null device; masked directories are file systems of their own.
    let masked: Vec<&str> = opts.ext_mnt.iter().filter(|it| it.val == "/dev/null").map(|it| &*it.key).collect();
    assert!(masked.iter().all(|path| Path::new(path).is_file()), "{masked:?}");

    let all = "checkpoint --leave-running --ext-unix-sk --tcp-established --shell-job --file-locks --auto-dedup \
               --lazy-pages --link-remap --tcp-skip-in-flight --parent-path ../older --page-server 127.0.0.1:27 \
               --manage-cgroups-mode strict --empty-ns network --status-fd 1";
    let (done, request) = ask(&all.split_whitespace().collect::<Vec<_>>());
    assert_eq!(done.ok().stdout, "\0", "the status descriptor is written to once");
    let opts = request.opts.unwrap();
    for (name, flag) in [
        ("leave_running", opts.leave_running),
        ("ext_unix_sk", opts.ext_unix_sk),
        ("tcp_established", opts.tcp_established),
        ("shell_job", opts.shell_job),
        ("file_locks", opts.file_locks),
        ("auto_dedup", opts.auto_dedup),
        ("lazy_pages", opts.lazy_pages),
        ("link_remap", opts.link_remap),
        ("tcp_skip_in_flight", opts.tcp_skip_in_flight),
        ("track_mem", opts.track_mem),
    ] {
        assert_eq!(flag, Some(true), "{name}");
    }
    assert_eq!(opts.manage_cgroups_mode, Some(rpc::CgroupMode::Strict as i32));
    assert_eq!(opts.empty_ns, Some(0x4000_0000));
    let server = opts.ps.unwrap();
    assert_eq!((server.address.as_deref(), server.port), (Some("127.0.0.1"), Some(27)));
    assert_eq!(place.state(&it.id)["status"], "running");

    // The recorder restores nothing, which must not pass for a restored container.
    place.rt(&["delete", "--force", &it.id]).ok();
    let bundle = it.bundle.path();
    let all = "--detach --lsm-profile apparmor:other --lsm-mount-context ctx --no-subreaper --lazy-pages --shell-job";
    let mut verb = vec!["restore", "--bundle", bundle];
    verb.extend(all.split_whitespace());
    let (done, request) = ask(&verb);
    done.fails_with("CRIU");
    let opts = request.opts.unwrap();
    assert_eq!(request.kind, rpc::Kind::Restore as i32);
    assert_eq!(opts.lsm_profile.as_deref(), Some("apparmor:other"));
    assert_eq!(opts.lsm_mount_context.as_deref(), Some("ctx"));
    assert_eq!((opts.rst_sibling, opts.shell_job, opts.lazy_pages), (Some(true), Some(true), Some(true)));
    assert!(!opts.cg_root.is_empty() && opts.cg_root.iter().any(|root| root.path.contains(&it.id)));
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    // As containerd's shim spells it.
    let restore = ["restore", "-no-subreaper", "--bundle", bundle, "--image-path", "/nowhere", "x"];
    place.rt(&[&["--criu", &*CRIU], &restore[..]].concat()).fails_with("/nowhere");
}
