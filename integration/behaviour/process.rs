//! The process object of config.json: what the program is given, and what it says when it cannot be
//! started.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::{Bundle, Done, Place, RT, finish, has_capability, host, wait_until};
use rustix::termios::{OutputModes, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use serde_json::{Value, json};

/// A bundle whose root can be written, for tests that prepare files or leave some.
fn writable<'p>(place: &'p Place, script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/root/readonly", json!(false));
    bundle
}

/// A field of /proc/self/status as the container sees it.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
}

#[test]
fn arguments_arrive_as_they_are() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    let args = ["a b", "", "line\nbreak", "'q' \"d\" \\ $HOME *", "ä→", "--", "-x"];
    let mut all = vec!["sh", "-c", "for a in \"$@\"; do printf '%s\\0' \"$a\"; done", "sh"];
    all.extend(args);
    bundle.set("/process/args", json!(all));
    let wanted: String = args.iter().map(|arg| format!("{arg}\0")).collect();
    assert_eq!(bundle.run("c").ok().stdout, wanted);
}

#[test]
fn the_environment_is_the_documents_and_a_home() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/environ"]));
    let env = ["A=1", "EMPTY=", "WITH=a=b c\nd", "A=2"];
    bundle.set("/process/env", json!(env));
    let run = |bundle: &Bundle<'_>| {
        bundle.write();
        let mut command = place.command(&["run", "--bundle", bundle.path(), &place.id("c")]);
        command.env("OF_THE_HOST", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let text = finish(command.spawn().unwrap()).ok().stdout;
        let mut list: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        list.sort();
        list
    };
    let mut wanted: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
    wanted.push("HOME=/root".into());
    wanted.sort();
    assert_eq!(run(&bundle), wanted);
    bundle.set("/process/user/uid", json!(1000)).set("/process/env", json!([]));
    assert_eq!(run(&bundle), ["HOME=/home/user"]);
    bundle.set("/process/user/uid", json!(4321));
    assert_eq!(run(&bundle), ["HOME=/"], "no entry in /etc/passwd");
    bundle.set("/process/env", json!(["HOME=/mine"]));
    assert_eq!(run(&bundle), ["HOME=/mine"]);
}

#[test]
fn the_working_directory_is_made() {
    let place = Place::new();
    let mut bundle = writable(&place, "pwd; stat -c '%a %u:%g' .");
    bundle.set("/process/cwd", json!("/made/for/this"));
    assert_eq!(bundle.run("c").ok().stdout, "/made/for/this\n755 0:0\n");
    bundle.set("/process/cwd", json!("/bin/../tmp/./x"));
    assert_eq!(bundle.run("c").ok().stdout.lines().next(), Some("/tmp/x"));
    // A link leads where it leads inside the container.
    symlink("/etc", bundle.rootfs("/to-etc")).unwrap();
    bundle.set("/process/cwd", json!("/to-etc"));
    bundle.script("ls passwd; pwd -P");
    assert_eq!(bundle.run("c").ok().stdout, "passwd\n/etc\n");
}

#[test]
fn a_working_directory_outside_is_refused() {
    let place = Place::new();
    let mut bundle = writable(&place, "pwd; ls");
    // What the caller leaves open on the host must not be a way out (CVE-2024-21626).
    for fd in 3..12 {
        let cwd = format!("/proc/self/fd/{fd}");
        bundle.set("/process/cwd", json!(cwd)).write();
        let line = format!(
            "exec 7</ 8</etc; exec {RT} --root {} run --bundle {} {}",
            place.root.display(),
            bundle.path(),
            place.id("c")
        );
        let done = host(&line);
        assert_eq!((done.code, &*done.stdout), (1, ""), "{cwd}: {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
    fs::create_dir_all(bundle.rootfs("/w")).unwrap();
    symlink("/proc/self/fd/7", bundle.rootfs("/w/link")).unwrap();
    bundle.set("/process/cwd", json!("/w/link"));
    let done = bundle.run("c");
    assert_eq!((done.code, &*done.stdout), (1, ""), "{done:?}");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn a_directory_that_only_the_user_may_search() {
    let place = Place::new();
    let mut bundle = writable(&place, "pwd");
    fs::create_dir_all(bundle.rootfs("/private/in")).unwrap();
    fs::set_permissions(bundle.rootfs("/private"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(bundle.rootfs("/private"), Some(1000), Some(1000)).unwrap();
    bundle.set("/process/cwd", json!("/private/in")).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(bundle.run("c").ok().stdout, "/private/in\n");
}

#[test]
fn user_groups_and_umask() {
    let place = Place::new();
    let mut bundle =
        writable(&place, "grep -E '^(Uid|Gid|Groups|Umask)' /proc/self/status; touch /tmp/f; stat -c %a:%u:%g /tmp/f");
    fs::set_permissions(bundle.rootfs("/tmp"), fs::Permissions::from_mode(0o777)).unwrap();
    let text = bundle.run("c").ok().stdout;
    assert_eq!(
        (field(&text, "Groups"), field(&text, "Umask")),
        (String::new(), "0022".into()),
        "no group of the host stays"
    );
    fs::remove_file(bundle.rootfs("/tmp/f")).unwrap();
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 5, 4_294_967_294_u32], "umask": 0o27}),
    );
    let text = bundle.run("c").ok().stdout;
    assert_eq!(field(&text, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&text, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(field(&text, "Groups"), "5 7 4294967294");
    assert_eq!(field(&text, "Umask"), "0027");
    assert!(text.ends_with("640:1000:1001\n"), "{text}");
}

const SETS: [(&str, &str); 5] = [
    ("CapInh", "inheritable"),
    ("CapPrm", "permitted"),
    ("CapEff", "effective"),
    ("CapBnd", "bounding"),
    ("CapAmb", "ambient"),
];

/// The five sets of a run, by the names of the document.
fn capabilities(bundle: &Bundle<'_>) -> Vec<(String, u64)> {
    let text = bundle.run("c").ok().stdout;
    SETS.iter()
        .map(|(line, name)| ((*name).to_owned(), u64::from_str_radix(&field(&text, line), 16).unwrap()))
        .collect()
}

fn sets(inheritable: u64, permitted: u64, effective: u64, bounding: u64, ambient: u64) -> Vec<(String, u64)> {
    let values = [inheritable, permitted, effective, bounding, ambient];
    SETS.iter().zip(values).map(|((_, name), value)| ((*name).to_owned(), value)).collect()
}

#[test]
fn capability_sets_are_exact() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/status"]));
    let (chown, kill, net) = (1_u64, 1 << 5, 1 << 10);
    let document = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"]
    });
    bundle.set("/process/capabilities", document);
    // A set is what execve makes of it (capabilities(7)): root gets its bounding set, and with
    // no_new_privs what of that it had; another user gets its ambient set.
    assert_eq!(capabilities(&bundle), sets(kill, chown | kill, chown | kill, chown | kill | net, kill));
    bundle.set("/process/noNewPrivileges", json!(false));
    assert_eq!(capabilities(&bundle), sets(kill, chown | kill | net, chown | kill | net, chown | kill | net, kill));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(capabilities(&bundle), sets(kill, kill, kill, chown | kill | net, kill));
    // Without ambient, nothing is left to a plain user.
    bundle.set("/process/capabilities/ambient", json!([]));
    assert_eq!(capabilities(&bundle), sets(kill, 0, 0, chown | kill | net, 0));
    // An empty object, and none at all.
    for nothing in [json!({}), Value::Null] {
        bundle.set("/process/capabilities", nothing);
        for uid in [0, 1000] {
            bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
            assert_eq!(capabilities(&bundle), sets(0, 0, 0, 0, 0));
        }
    }
    // With every capability that this process may hand on.
    bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
    bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]}),
    );
    let admin = 1 << 21;
    assert_eq!(capabilities(&bundle), sets(0, admin, admin, admin, 0));
}

#[test]
fn what_cannot_be_granted_is_a_warning_in_the_log_alone() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/status"]));
    bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL", "CAP_OF_THE_FUTURE"], "permitted": ["CAP_KILL"],
        "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]}),
    );
    bundle.write();
    let log = place.dir.join("log");
    let id = place.id("c");
    let args = ["--log", log.to_str().unwrap(), "--log-format", "json", "run", "--bundle", bundle.path(), &id];
    let done = place.rt(&args).ok();
    assert_eq!(done.stderr, "", "the container's stderr is not ours to write on");
    assert_eq!(field(&done.stdout, "CapBnd"), "0000000000000020");
    assert_eq!(field(&done.stdout, "CapAmb"), "0000000000000000", "ambient needs inheritable, which is not filled in");
    let lines: Vec<Value> =
        fs::read_to_string(&log).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["level"] == "warning"), "{lines:?}");
    let all = lines.iter().map(|line| line["msg"].as_str().unwrap()).collect::<Vec<_>>().join("\n");
    assert!(all.contains("CAP_OF_THE_FUTURE") && all.contains("/process/capabilities/ambient/0"), "{all}");
    assert_eq!(bundle.run("c").ok().stderr, "");
}

#[test]
fn limits_of_the_process() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/limits"]));
    bundle.set(
        "/process/rlimits",
        json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_CPU", "soft": 100, "hard": 300},
        {"type": "RLIMIT_NPROC", "soft": 500, "hard": 501},
        {"type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608},
        {"type": "RLIMIT_AS", "soft": 1_073_741_824_u64, "hard": 2_147_483_648_u64},
        {"type": "RLIMIT_FSIZE", "soft": 4096, "hard": 8192},
        {"type": "RLIMIT_SIGPENDING", "soft": 3, "hard": 5}]),
    );
    let text = bundle.run("c").ok().stdout;
    for (name, soft, hard) in [
        ("Max open files", "100", "200"),
        ("Max core file size", "0", "0"),
        ("Max cpu time", "100", "300"),
        ("Max processes", "500", "501"),
        ("Max stack size", "4194304", "8388608"),
        ("Max address space", "1073741824", "2147483648"),
        ("Max file size", "4096", "8192"),
        ("Max pending signals", "3", "5"),
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{name}");
    }
    // What is not named stays the caller's.
    bundle.set("/process/rlimits", json!([]));
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    assert_eq!(bundle.run("c").ok().stdout, own);
}

#[test]
fn raising_a_hard_limit_without_the_right_is_an_error() {
    const CAP_SYS_RESOURCE: u32 = 24;
    if has_capability(CAP_SYS_RESOURCE) {
        eprintln!("skipped: this process may raise limits");
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 4_000_000_000_u64, "hard": 4_000_000_000_u64}]),
    );
    let done = bundle.run("c").fails_with("RLIMIT_NOFILE");
    assert!(done.stderr.contains("CAP_SYS_RESOURCE"), "{}", done.stderr);
}

#[test]
fn very_few_descriptors() {
    let place = Place::new();
    let mut bundle = place.bundle("ulimit -n; ulimit -Hn");
    for (soft, hard) in [(4, 4), (4, 100), (63, 63), (5, 5)] {
        bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]));
        assert_eq!(bundle.run("c").ok().stdout, format!("{soft}\n{hard}\n"));
    }
}

#[test]
fn no_new_privileges_is_as_said() {
    let place = Place::new();
    let mut bundle = place.bundle("grep NoNewPrivs /proc/self/status");
    for (value, shown) in [(json!(true), "1"), (json!(false), "0"), (Value::Null, "0")] {
        bundle.set("/process/noNewPrivileges", value);
        assert_eq!(field(&bundle.run("c").ok().stdout, "NoNewPrivs"), shown);
    }
}

#[test]
fn oom_score() {
    let place = Place::new();
    let mut bundle = place.bundle("cat /proc/self/oom_score_adj");
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    assert_eq!(bundle.run("c").ok().stdout, own, "inherited where the document says nothing");
    bundle.set("/process/oomScoreAdj", json!(777));
    assert_eq!(bundle.run("c").ok().stdout, "777\n");
}

#[test]
fn scheduling() {
    let place = Place::new();
    // Fields 19 and 41 of /proc/self/stat are nice value and policy; blanks in the name are not to be feared here.
    let mut bundle = place.bundle("cut -d' ' -f19,41 /proc/self/stat");
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    assert_eq!(bundle.run("c").ok().stdout, "5 3\n");
    bundle.set("/process/scheduler", json!({"policy": "SCHED_IDLE"}));
    assert_eq!(bundle.run("c").ok().stdout.trim().split(' ').next_back(), Some("5"));
    bundle.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 19}));
    assert_eq!(bundle.run("c").ok().stdout, "19 0\n");
}

#[test]
fn io_priority() {
    let place = Place::new();
    let mut bundle = place.bundle("ionice -p $$");
    for (class, priority, shown) in [
        ("IOPRIO_CLASS_BE", 6, "best-effort: prio 6"),
        ("IOPRIO_CLASS_IDLE", 0, "idle"),
        ("IOPRIO_CLASS_BE", 0, "best-effort: prio 0"),
    ] {
        bundle.set("/process/ioPriority", json!({"class": class, "priority": priority}));
        assert_eq!(bundle.run("c").ok().stdout.trim(), shown);
    }
}

#[test]
fn personality() {
    let place = Place::new();
    let mut bundle = place.bundle("uname -m");
    assert_eq!(bundle.run("c").ok().stdout, host("uname -m").stdout);
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let shown = bundle.run("c").ok().stdout;
    assert!(["i686\n", "armv8l\n"].contains(&&*shown), "{shown}");
    bundle.set("/linux/personality", json!({"domain": "LINUX"}));
    assert_eq!(bundle.run("c").ok().stdout, host("uname -m").stdout);
}

#[test]
fn memory_policy() {
    if fs::metadata("/proc/self/numa_maps").is_err() {
        eprintln!("skipped: this kernel shows no memory policy");
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("head -n1 /proc/self/numa_maps | cut -d' ' -f2");
    assert_eq!(bundle.run("c").ok().stdout, "default\n");
    for (policy, shown) in [
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"}), "interleave:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
    ] {
        bundle.set("/linux/memoryPolicy", policy);
        assert_eq!(bundle.run("c").ok().stdout.trim(), shown);
    }
}

#[test]
fn a_terminal_goes_to_the_console_socket() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "for f in 0 1 2; do readlink /proc/self/fd/$f; done; tty; stty size; stat -c '%t:%T' -L /dev/console; \
         stat -c '%t' -L /proc/self/fd/0; test -c /dev/console && echo console; cut -d' ' -f5-8 /proc/$$/stat; echo to-tty >/dev/tty; ls -1 /proc/self/fd",
    );
    bundle.set("/process/terminal", json!(true)).set("/process/consoleSize", json!({"height": 33, "width": 101}));
    let socket = place.dir.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    bundle.create("c", &["--console-socket", socket.to_str().unwrap()]).ok();
    let master = harness::console::receive(&listener);
    assert!(!tcgetattr(&master).unwrap().output_modes.contains(OutputModes::ONLCR), "no carriage returns are added");
    let size = tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (33, 101));
    place.rt(&["start", &place.id("c")]).ok();
    let text = harness::console::read_terminal(&master, "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["/dev/pts/0"; 3], "{text}");
    assert_eq!(lines[3..5], ["/dev/pts/0", "33 101"], "{text}");
    assert_eq!(lines[5..8], ["88:0", "88", "console"], "{text}");
    // Process group 1, session 1, controlling terminal 136:0, foreground group 1.
    assert_eq!(lines[8], "1 1 34816 1", "{text}");
    assert_eq!(lines[9..14], ["to-tty", "0", "1", "2", "3"], "ls itself holds 3: {text}");
}

#[test]
fn a_detached_run_sends_its_terminal_too() {
    let place = Place::new();
    let mut bundle = place.bundle("read line; echo \"got $line\"");
    bundle.set("/process/terminal", json!(true)).set("/process/user", json!({"uid": 1000, "gid": 1000})).write();
    let socket = place.dir.join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let id = place.id("c");
    place.rt(&["run", "--detach", "--bundle", bundle.path(), "--console-socket", socket.to_str().unwrap(), &id]).ok();
    let master = harness::console::receive(&listener);
    rustix::io::write(&master, b"hello\n").unwrap();
    assert!(harness::console::read_terminal(&master, "").contains("got hello\n"));
    // A terminal without a taker is an error, and so is a taker without a terminal.
    bundle.create("d", &[]).fails_with("--console-socket");
    bundle.set("/process/terminal", json!(false));
    bundle.create("d", &["--console-socket", socket.to_str().unwrap()]).fails_with("--console-socket");
    bundle.set("/process/terminal", json!(true));
    bundle.create("d", &["--console-socket", "/no/such/socket"]).fails_with("--console-socket");
}

/// A pseudo-terminal of the host, and `rt run` on it.
fn run_on_terminal(bundle: &Bundle<'_>, rows: u16, columns: u16) -> (OwnedFd, Child) {
    bundle.write();
    let id = bundle.place.id("c");
    harness::console::on_terminal(bundle.place, &["run", "--bundle", bundle.path(), &id], rows, columns)
}

#[test]
fn a_foreground_run_is_on_the_callers_terminal() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "tty; stty size; trap 'echo resized; stty size; exit 3' WINCH; read line; echo \"got $line\"; while :; do sleep 0.05; done",
    );
    bundle.set("/process/terminal", json!(true));
    let (master, child) = run_on_terminal(&bundle, 20, 70);
    let text = harness::console::read_terminal(&master, "20 70\r\n");
    assert!(text.starts_with("/dev/pts/0\r\n20 70\r\n"), "{text}");
    rustix::io::write(&master, b"hello\r").unwrap();
    harness::console::read_terminal(&master, "got hello\r\n");
    tcsetwinsize(&master, Winsize { ws_row: 25, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    harness::console::read_terminal(&master, "resized\r\n25 80\r\n");
    assert_eq!(finish(child).code, 3);
    let modes = tcgetattr(&master).unwrap();
    assert!(
        modes.local_modes.contains(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO),
        "the terminal is as before"
    );
}

/// From its first instruction on: set a moment later it would come with a signal.
#[test]
fn a_terminal_has_its_size_before_the_program_runs() {
    let place = Place::new();
    let mut bundle = place.bundle("trap 'echo signalled' WINCH; stty size; sleep 0.05; echo end");
    bundle.set("/process/terminal", json!(true));
    for _ in 0..20 {
        let (master, child) = run_on_terminal(&bundle, 20, 70);
        let text = harness::console::read_terminal(&master, "end\r\n");
        assert_eq!(text, "20 70\r\nend\r\n");
        assert_eq!(finish(child).code, 0);
    }
}

#[test]
fn all_of_a_terminals_output_arrives() {
    let place = Place::new();
    let mut bundle = place.bundle("seq 20000");
    bundle.set("/process/terminal", json!(true));
    let (master, child) = run_on_terminal(&bundle, 20, 70);
    let text = harness::console::read_terminal(&master, "\r\n20000\r\n");
    assert_eq!(text.lines().count(), 20000);
    assert_eq!(finish(child).code, 0);
    // The caller's output may be a pipe all the same.
    let done = bundle.run("c");
    assert_eq!((done.code, done.stdout.lines().count()), (0, 20000));
}

#[test]
fn descriptors_of_the_caller_stay_outside() {
    let place = Place::new();
    // The directory is read by the shell itself: what it holds for reading is the last one.
    let mut bundle = place.bundle("cd /proc/self/fd; echo *; for f in 3 4; do test -e $f && readlink $f; done; true");
    bundle.write();
    let run = |options: &str, verb: &str| {
        let line = format!(
            "exec 3</etc/hostname 4</etc/passwd 5</ 9</tmp; exec {RT} --root {} {verb} --bundle {} {options} {}",
            place.root.display(),
            bundle.path(),
            place.id("c")
        );
        host(&line)
    };
    let inside = |done: Done| done.ok().stdout.lines().next().unwrap().to_owned();
    assert_eq!(inside(run("", "run")), "0 1 2 3", "three, and the directory being read");
    assert_eq!(inside(run("--preserve-fds 2", "run")), "0 1 2 3 4 5");
    let done = run("--preserve-fds 1", "run").ok();
    assert!(done.stdout.contains("/etc/hostname") && !done.stdout.contains("/etc/passwd"), "{}", done.stdout);
    run("--preserve-fds 4", "run").fails_with("descriptor 6 is not open");
    // The waiting init of a created container holds none of them either.
    assert_eq!(run(">/dev/null 2>&1", "create").code, 0);
    let pid = place.state(&place.id("c"))["pid"].to_string();
    let links: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .map(|entry| fs::read_link(entry.path()).unwrap().display().to_string())
        .filter(|link| link.starts_with('/'))
        .collect();
    assert!(links.iter().all(|link| link == "/dev/null"), "{links:?}");
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(cwd.to_str(), Some("/"));
    bundle.script("true");
}

#[test]
fn listening_sockets_are_passed_on() {
    let place = Place::new();
    let mut bundle = place.bundle("echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    bundle.write();
    fs::write(place.dir.join("passed"), "passed\n").unwrap();
    // LISTEN_PID must be rt's own, which exec keeps.
    let line = |pid: &str| {
        format!(
            "exec 3<{}; export LISTEN_FDS=1 LISTEN_PID={pid}; exec {RT} --root {} run --bundle {} {} 2>&1",
            place.dir.join("passed").display(),
            place.root.display(),
            bundle.path(),
            place.id("c")
        )
    };
    assert_eq!(host(&line("$$")).ok().stdout, "1 1\npassed\n");
    // Meant for somebody else.
    let done = host(&line("1"));
    assert!(done.code != 0 && !done.stdout.contains("passed"), "{done:?}");
    bundle.script("true");
}

#[test]
fn the_notify_socket_is_passed_on() {
    let place = Place::new();
    let mut bundle = place.bundle("test -S \"$NOTIFY_SOCKET\" && echo READY=1 | nc -u local:$NOTIFY_SOCKET 2>/dev/null; echo $NOTIFY_SOCKET; stat -c %i $NOTIFY_SOCKET");
    bundle.set("/root/readonly", json!(false)).write();
    let path = place.dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let id = place.id("c");
    let mut command = place.command(&["run", "--bundle", bundle.path(), &id]);
    command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let text = finish(command.spawn().unwrap()).ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "/run/notify/notify.sock");
    // The same socket, so that what is sent there arrives here.
    assert_eq!(lines[1], fs::metadata(&path).unwrap().ino().to_string());
    drop(socket);
}

#[test]
fn a_message_to_the_notify_socket_arrives() {
    let Some(sender) =
        ["/usr/bin/python3", "/usr/bin/perl", "/usr/bin/socat"].iter().find(|path| fs::metadata(path).is_ok())
    else {
        eprintln!("skipped: no program of this host can send a datagram from inside");
        return;
    };
    if !sender.ends_with("perl") && !sender.ends_with("python3") {
        eprintln!("skipped: only perl or python3 are known to this test");
        return;
    }
    let place = Place::new();
    let path = place.dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut bundle = place.bundle("exec sleep 100");
    bundle.set("/root/readonly", json!(false));
    bundle.write();
    let id = place.id("c");
    let mut command = place.command(&["run", "-d", "--bundle", bundle.path(), &id]);
    finish(command.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()).ok();
    // The busybox root has no program that sends datagrams: one of the host enters the container's root.
    let pid = place.state(&id)["pid"].to_string();
    let inside = format!("/proc/{pid}/root/run/notify/notify.sock");
    let script = if sender.ends_with("perl") {
        format!(
            "use Socket; socket(S, AF_UNIX, SOCK_DGRAM, 0); send(S, 'READY=1', 0, pack_sockaddr_un('{inside}')) or die $!"
        )
    } else {
        format!("import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', '{inside}')")
    };
    let flag = if sender.ends_with("perl") { "-e" } else { "-c" };
    finish(Command::new(sender).args([flag, &script]).stderr(Stdio::piped()).spawn().unwrap()).ok();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
}

#[test]
fn signals_are_as_a_new_program_expects_them() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/status"])).write();
    let line = format!(
        "exec env --ignore-signal=PIPE --ignore-signal=HUP --ignore-signal=TERM --block-signal=USR1 --block-signal=INT {RT} --root {} run --bundle {} {}",
        place.root.display(),
        bundle.path(),
        place.id("c")
    );
    let text = host(&line).ok().stdout;
    for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&text, name), "0000000000000000", "{name}");
    }
    // Nor does the caller's death kill the program.
    assert_eq!(field(&text, "NSpid").split_whitespace().next_back(), Some("1"));
}

#[test]
fn the_session_keyring_is_new() {
    if fs::metadata("/proc/keys").is_err() {
        eprintln!("skipped: this kernel has no keyrings");
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("cat /proc/keys");
    bundle.set("/linux/maskedPaths", json!([]));
    let name = format!("_ses.{}", place.id("c"));
    assert!(bundle.run("c").ok().stdout.contains(&name));
    // Another name: keyrings of the dead are collected some time later.
    let name = format!("_ses.{}", place.id("d"));
    assert!(!bundle.run_with("d", &["--no-new-keyring"]).ok().stdout.contains(&name));
}

/// Runs with these arguments and wants exit status 1 and one line with all of `words`.
fn refused(bundle: &mut Bundle<'_>, program: &str, words: &[&str]) {
    bundle.set("/process/args", json!([program]));
    let done = bundle.run("c").fails_with(&format!("exec: \"{program}\": "));
    for word in words {
        assert!(done.stderr.contains(word), "\"{word}\" is not in: {}", done.stderr);
    }
    // create says it as well, not start.
    bundle.create("c", &[]).fails_with(words[0]);
}

/// Puts a program into the root file system.
fn program(bundle: &Bundle<'_>, path: &str, content: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(bundle.rootfs(path).parent().unwrap()).unwrap();
    fs::write(bundle.rootfs(path), content).unwrap();
    fs::set_permissions(bundle.rootfs(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_program_that_is_not_found() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    refused(&mut bundle, "no-such", &["executable file not found in $PATH", "PATH is \"/usr/local/sbin:"]);
    refused(&mut bundle, "/no/such/program", &["no such file or directory", "the directory /no does not exist"]);
    refused(&mut bundle, "/bin/no-such", &["no such file or directory", "/bin/no-such does not exist"]);
    symlink("/gone", bundle.rootfs("/bin/dangling")).unwrap();
    refused(&mut bundle, "/bin/dangling", &["no such file or directory", "symbolic link to /gone"]);
    refused(&mut bundle, "/etc/passwd/x", &["not a directory"]);
    symlink("loop", bundle.rootfs("/bin/loop")).unwrap();
    refused(&mut bundle, "/bin/loop", &["too many levels of symbolic links"]);
    bundle.set("/process/args", json!([""]));
    bundle.run("c").fails_with("/process/args/0");
    // The container's PATH, not the host's.
    program(&bundle, "/opt/only-here", "#!/bin/sh\necho found\n", 0o755);
    bundle.set("/process/args", json!(["only-here"])).set("/process/env", json!(["PATH=/opt:/bin"]));
    assert_eq!(bundle.run("c").ok().stdout, "found\n");
}

#[test]
fn a_program_that_may_not_be_executed() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    program(&bundle, "/bin/no-x", "#!/bin/sh\n", 0o644);
    refused(&mut bundle, "/bin/no-x", &["permission denied", "no execute bit"]);
    refused(&mut bundle, "/bin", &["is a directory"]);
    program(&bundle, "/closed/program", "#!/bin/sh\n", 0o755);
    fs::set_permissions(bundle.rootfs("/closed"), fs::Permissions::from_mode(0o700)).unwrap();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    refused(&mut bundle, "/closed/program", &["permission denied", "/closed cannot be searched"]);
    program(&bundle, "/bin/others", "#!/bin/sh\n", 0o700);
    refused(&mut bundle, "/bin/others", &["permission denied", "not executable for this user"]);
    bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
    program(&bundle, "/src/program", "#!/bin/sh\n", 0o755);
    bundle.push(
        "/mounts",
        json!({"destination": "/src", "type": "bind", "source": bundle.rootfs("/src"), "options": ["bind", "noexec"]}),
    );
    refused(&mut bundle, "/src/program", &["permission denied", "noexec"]);
}

/// The first bytes of an ELF file of 64 bits for a machine, without segments.
fn elf(machine: u8) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    file.resize(64, 0);
    (file[16], file[18], file[20], file[52], file[54]) = (2, machine, 1, 64, 56);
    file
}

#[test]
fn a_program_that_the_kernel_cannot_execute() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    let errors: [(&str, Vec<u8>, &[&str]); 6] = [
        ("/bin/no-interpreter", b"#!/no/python3 -x\n".to_vec(), &["no such file or directory", "/no/python3"]),
        ("/bin/crlf", b"#!/bin/sh\r\necho x\r\n".to_vec(), &["no such file or directory", "carriage return"]),
        ("/bin/no-line", b"echo x\n".to_vec(), &["exec format error", "#!"]),
        ("/bin/riscv", elf(243), &["exec format error", "a program for riscv64, this machine is"]),
        ("/bin/empty", Vec::new(), &["exec format error", "empty"]),
        ("/bin/script-of-directory", b"#!/etc\n".to_vec(), &["permission denied", "/etc"]),
    ];
    for (path, content, words) in errors {
        program(&bundle, path, content, 0o755);
        bundle.set("/process/args", json!([path]));
        let done = bundle.run("c").fails_with(&format!("exec: \"{path}\": "));
        for word in words {
            assert!(done.stderr.contains(word), "\"{word}\" is not in: {}", done.stderr);
        }
        // The kernel refuses at `start` only, which says it then.
        bundle.create("c", &[]).ok();
        place.rt(&["start", &place.id("c")]).fails_with(words[0]);
        assert_eq!(place.state(&place.id("c"))["status"], "stopped");
        place.rt(&["delete", &place.id("c")]).ok();
    }
}

#[test]
fn a_program_whose_loader_is_missing() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    // A dynamically linked program of the host in a root without libraries.
    let program_of_host = fs::read("/usr/bin/env").unwrap();
    program(&bundle, "/bin/dynamic", program_of_host, 0o755);
    bundle.set("/process/args", json!(["/bin/dynamic"]));
    let done = bundle.run("c").fails_with("no such file or directory");
    assert!(done.stderr.contains("/lib64/ld-linux") || done.stderr.contains("/lib/ld-"), "{}", done.stderr);
    assert!(done.stderr.contains("loader"), "{}", done.stderr);
}

#[test]
fn too_many_arguments_are_an_error_of_one_line() {
    let place = Place::new();
    let mut bundle = place.bundle("");
    bundle.set("/process/args", json!(["/bin/true", "x".repeat(200_000)]));
    bundle.run("c").fails_with("argument list too long");
}

/// The program's standard streams are the caller's own, whatever they are.
#[test]
fn standard_streams_are_the_callers() {
    let place = Place::new();
    let bundle = place.bundle("cat; echo err >&2");
    bundle.write();
    let id = place.id("c");
    let mut child = place
        .command(&["run", "--bundle", bundle.path(), &id])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let done = finish(child).ok();
    assert_eq!((&*done.stdout, &*done.stderr), ("through\n", "err\n"));
}

/// A plain user must be able to open /dev/stdout, and the host's /dev/null keeps its owner.
#[test]
fn streams_belong_to_the_user_but_never_a_device_of_the_host() {
    let place = Place::new();
    let mut bundle = place.bundle("echo again >/dev/stderr; stat -c %u -L /proc/self/fd/2; stat -c %u:%a /dev/null");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let done = bundle.run("c").ok();
    assert_eq!((&*done.stderr, &*done.stdout), ("again\n", "1000\n0:666\n"));
    let null = fs::metadata("/dev/null").unwrap();
    assert_eq!((null.uid(), null.mode() & 0o777), (0, 0o666));
    // A file of the host is not given away.
    let out = fs::File::create(place.dir.join("file")).unwrap();
    bundle.write();
    let id = place.id("c");
    finish(
        place
            .command(&["run", "--bundle", bundle.path(), &id])
            .stdout(Stdio::from(out))
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(fs::metadata(place.dir.join("file")).unwrap().uid(), 0);
}

#[test]
fn signals_reach_the_program_through_run() {
    let place = Place::new();
    let bundle = place.bundle("trap 'echo got; exit 11' TERM; echo ready; while :; do sleep 0.02; done");
    bundle.write();
    let out = place.dir.join("out");
    let id = place.id("c");
    let child = place
        .command(&["run", "--bundle", bundle.path(), &id])
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    wait_until("ready", || fs::read_to_string(&out).unwrap() == "ready\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(finish(child).code, 11);
    assert_eq!(fs::read_to_string(&out).unwrap(), "ready\ngot\n");
}
