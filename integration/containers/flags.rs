//! Every flag of `run` that is config.json's: seen from inside, and from outside in /proc and cgroup files; and every
//! bad value, which leaves nothing.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::bed::{Bed, names};
use crate::cgroup;
use crate::harness::{Place, sh};

/// Runs a script of the shell in a container and gives what it says.
#[track_caller]
fn says(bed: &Bed, flags: &[&str], script: &str) -> String {
    bed.run(&[&["run", "--rm"], flags, &["it", "sh", "-c", script]].concat()).ok().out.trim_end().to_owned()
}

/// Starts a container that sleeps, looks at it from outside, and removes it.
#[track_caller]
fn outside<T>(bed: &Bed, flags: &[&str], look: impl FnOnce(i64) -> T) -> T {
    bed.detached("outside", flags, "exec sleep 1000");
    let seen = look(i64::from(bed.pid("outside")));
    bed.run(&["rm", "-f", "-v", "outside"]).ok();
    seen
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn limits_of_memory_processors_and_processes_are_in_the_cgroup() {
    let bed = Bed::new("limits");
    let v2 = |controller: &str| cgroup::mount_of(controller).is_none();
    let cpuset = cgroup::has("cpuset");
    let mut flags = vec![
        "-m",
        "64m",
        "--memory-swap",
        "96m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--pids-limit",
        "77",
    ];
    let of_cpuset = ["--cpuset-cpus", "0", "--cpuset-mems", "0"];
    if cpuset {
        flags.extend(of_cpuset);
    } else {
        bed.run(&[&["run"], &of_cpuset[..], &["it", "true"]].concat()).fails(125, "no cgroup controller cpuset");
    }
    outside(&bed, &flags, |pid| {
        let see = |file| cgroup::read(pid, file);
        assert_eq!(see(("memory", "memory.limit_in_bytes", "memory.max")), (64 << 20).to_string());
        let swap = if v2("memory") { 32 << 20 } else { 96 << 20 };
        assert_eq!(see(("memory", "memory.memsw.limit_in_bytes", "memory.swap.max")), swap.to_string());
        assert_eq!(see(("memory", "memory.soft_limit_in_bytes", "memory.low")), (32 << 20).to_string());
        let cpus = if v2("cpu") { "50000 100000" } else { "50000" };
        assert_eq!(see(("cpu", "cpu.cfs_quota_us", "cpu.max")), cpus);
        let shares = see(("cpu", "cpu.shares", "cpu.weight"));
        assert!(if v2("cpu") { shares != "100" } else { shares == "512" }, "{shares}");
        for file in ["cpuset.cpus", "cpuset.mems"].into_iter().filter(|_| cpuset) {
            assert_eq!(see(("cpuset", file, file)), "0");
        }
        assert_eq!(see(("pids", "pids.max", "pids.max")), "77");
    });
    outside(&bed, &["-m", "64m", "--memory-swap", "-1", "--cpu-period", "50000", "--cpu-quota", "25000"], |pid| {
        let swap = cgroup::read(pid, ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"));
        assert!(if v2("memory") { swap == "max" } else { swap.parse::<u64>().unwrap() > 1 << 60 }, "{swap}");
        let quota = if v2("cpu") { "25000 50000" } else { "25000" };
        assert_eq!(cgroup::read(pid, ("cpu", "cpu.cfs_quota_us", "cpu.max")), quota);
    });
    // Without a limit of swap there is as much again as of memory.
    outside(&bed, &["-m", "64m", "--pids-limit", "-1"], |pid| {
        let swap = if v2("memory") { 64 << 20 } else { 128 << 20 };
        let file = ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        assert_eq!(cgroup::read(pid, file), swap.to_string());
        assert_eq!(cgroup::read(pid, ("pids", "pids.max", "pids.max")), "max");
    });
    bed.is_clean();
}

/// What only cgroup v1 has, and what the kernel may be built without: set where it is, refused with the reason where
/// it is not.
#[test]
fn limits_that_not_every_machine_has_are_set_or_refused() {
    let bed = Bed::new("some");
    let device = block_device();
    let (weight, bps) = (format!("{device}:300"), format!("{device}:1m"));
    type Case<'a> = (&'a [&'a str], &'a str, &'a [&'a str], &'a [&'a str], &'a str);
    let cases: [Case<'_>; 9] = [
        (&["--memory-swappiness", "7"], "memory", &["memory.swappiness"], &[], "7"),
        (&["-m", "64m", "--oom-kill-disable"], "memory", &["memory.oom_control"], &[], "oom_kill_disable 1"),
        (&["--cpu-rt-period", "900000"], "cpu", &["cpu.rt_period_us"], &[], "900000"),
        (
            &["--blkio-weight", "300"],
            "blkio",
            &["blkio.weight", "blkio.bfq.weight"],
            &["io.weight", "io.bfq.weight"],
            "300",
        ),
        (
            &["--blkio-weight-device", &weight],
            "blkio",
            &["blkio.weight_device", "blkio.bfq.weight_device"],
            &["io.weight", "io.bfq.weight"],
            "300",
        ),
        (&["--device-read-bps", &bps], "blkio", &["blkio.throttle.read_bps_device"], &["io.max"], "1048576"),
        (&["--device-write-bps", &bps], "blkio", &["blkio.throttle.write_bps_device"], &["io.max"], "1048576"),
        (
            &["--device-read-iops", &format!("{device}:50")],
            "blkio",
            &["blkio.throttle.read_iops_device"],
            &["io.max"],
            "50",
        ),
        (
            &["--device-write-iops", &format!("{device}:50")],
            "blkio",
            &["blkio.throttle.write_iops_device"],
            &["io.max"],
            "50",
        ),
    ];
    for (flags, controller, v1, v2, wanted) in cases {
        let done = bed.run(&[&["run", "-d", "--name", "some"], flags, &["it", "sleep", "1000"]].concat());
        if done.status != 0 {
            // A runtime may not know the file by its other name.
            if crate::bed::runtime().is_some() && done.err.contains("blkio.") {
                bed.run(&["rm", "-f", "some"]);
                continue;
            }
            assert_eq!(done.status, 125, "{flags:?}: {}", done.err);
            // Whether a disk's scheduler knows weights, the kernel says only when one is set.
            let of_disk = done.err.contains("blockIO/weightDevice") && done.err.contains("not supported");
            // Whether a kernel of v2 knows them, only a cgroup shows, and this may be the first.
            let of_kernel = done.err.contains("blockIO/weight") && done.err.contains("has no io.");
            if of_disk || of_kernel {
                bed.run(&["rm", "some"]).ok();
                continue;
            }
            let said = flags.iter().any(|it| it.starts_with("--") && done.err.contains(it));
            assert!(said && done.err.contains("leave the flag away"), "{flags:?}: {}", done.err);
            assert_eq!(bed.run(&["ps", "-aq"]).ok().out, "", "{flags:?}: it was made");
            continue;
        }
        let dir = cgroup::dir_of(i64::from(bed.pid("some")), controller);
        let files = if cgroup::mount_of(controller).is_some() { v1 } else { v2 };
        let there: Vec<PathBuf> = files.iter().map(|it| dir.join(it)).filter(|it| it.exists()).collect();
        assert!(there.iter().any(|it| read(it).contains(wanted)), "{flags:?}: {wanted} is not in {there:?}");
        bed.run(&["rm", "-f", "some"]).ok();
    }
    bed.is_clean();
}

/// A block device of this machine.
fn block_device() -> String {
    let names = sh("ls /sys/block");
    let found = names.lines().find(|it| !it.starts_with("ram") && Path::new("/dev").join(it).exists());
    format!("/dev/{}", found.expect("this machine has no block device"))
}

#[test]
fn who_and_where_the_program_is() {
    let bed = Bed::with(
        "identity",
        json!({"Env": ["PATH=/bin", "GONE=1", "KEPT=1"], "Entrypoint": ["/bin/busybox"], "Cmd": ["pwd"], "Labels": {"of": "image"}}),
    );
    let run = |words: &[&str]| bed.run(&[&["run", "--rm"], words].concat()).ok().out;
    assert_eq!(run(&["-w", "/srv/../tmp/.", "it"]), "/tmp\n");
    assert_eq!(run(&["-u", "web", "--group-add", "7", "--group-add", "log", "it", "id", "-G"]), "34 4 7\n");
    assert_eq!(run(&["-u", "5:6", "it", "id", "-G"]), "6\n");
    assert_eq!(run(&["--entrypoint", "", "it", "echo", "x"]), "x\n");
    assert_eq!(run(&["--entrypoint", "sh", "it", "-c", "echo $0"]), "sh\n");
    bed.0.text("env");
    std::fs::write(bed.0.path("env"), "# c\nA=file\nB=file\nFROM_CALLER\n\nGONE\n").unwrap();
    let words = ["run", "--rm", "--env-file", &bed.0.text("env"), "-e", "B=flag", "-e", "C=a b=c", "it", "env"];
    let mut command = bed.command(&words);
    let env = String::from_utf8(command.env("FROM_CALLER", "caller's").output().unwrap().stdout).unwrap();
    for line in ["A=file", "B=flag", "C=a b=c", "FROM_CALLER=caller's", "KEPT=1", "PATH=/bin"] {
        assert!(env.lines().any(|it| it == line), "{line}: {env}");
    }
    // A name that the caller has not takes it away, as with Docker.
    assert!(!env.contains("GONE") && !env.contains("BUNDLE_"), "{env}");

    std::fs::write(bed.0.path("labels"), "team=web\n# c\nof=file\n").unwrap();
    let file = bed.0.text("labels");
    bed.run(&["create", "--name", "ll", "--label-file", &file, "-l", "mine=1", "--annotation", "org.x=y", "it"]).ok();
    let labels = bed.run(&["inspect", "--format", "{{json .Config.Labels}}", "ll"]).ok().json();
    assert_eq!(labels, json!({"of": "file", "team": "web", "mine": "1"}));
    // The files are not asked for again.
    std::fs::remove_file(bed.0.path("labels")).unwrap();
    bed.run(&["start", "ll"]).ok();
    bed.run(&["wait", "ll"]).ok();
    let config = bed.0.path("store/containers").join(bed.inspect("ll", ".Id")).join("config.json");
    let config: serde_json::Value = serde_json::from_str(&read(config)).unwrap();
    assert_eq!((&config["annotations"]["org.x"], &config["annotations"]["team"]), (&json!("y"), &json!("web")));
    bed.run(&["rm", "ll"]).ok();
    bed.is_clean();
}

#[test]
fn names_of_hosts() {
    let bed = Bed::new("names");
    let flags = ["-h", "box", "--domainname", "lan", "--add-host", "db:10.0.0.9", "--add-host", "v6=fd00::1"];
    let hosts = says(&bed, &flags, "hostname; cat /proc/sys/kernel/domainname /etc/hostname /etc/hosts");
    assert!(hosts.starts_with("box\nlan\nbox\n"), "{hosts}");
    assert!(hosts.contains("127.0.1.1\tbox.lan box\n10.0.0.9\tdb\nfd00::1\tv6"), "{hosts}");
    let flags = ["--dns", "9.9.9.9", "--dns", "fd00::53", "--dns-search", "a.org", "--dns-option", "ndots:3"];
    let wanted = "nameserver 9.9.9.9\nnameserver fd00::53\nsearch a.org\noptions ndots:3";
    assert_eq!(says(&bed, &flags, "cat /etc/resolv.conf"), wanted);
    // The host's network comes with the host's names.
    let hosts = says(&bed, &["--network", "host", "--add-host", "x:1.2.3.4"], "cat /etc/hosts");
    assert!(hosts.starts_with(&read("/etc/hosts")) && hosts.ends_with("1.2.3.4\tx"), "{hosts}");
    assert_eq!(
        says(&bed, &["--uts", "host"], "hostname; cat /etc/hostname").lines().next(),
        Some(read("/proc/sys/kernel/hostname").as_str())
    );
    bed.is_clean();
}

#[test]
fn what_the_program_may() {
    let bed = Bed::new("may");
    let status =
        |flags: &[&str], field: &str| says(&bed, flags, &format!("grep -E '^{field}:' /proc/self/status | cut -f 2"));
    assert_eq!(status(&[], "CapBnd"), "00000000a80425fb");
    assert_eq!(status(&["--cap-drop", "all", "--cap-add", "NET_ADMIN"], "CapEff"), "0000000000001000");
    assert_eq!(status(&["--cap-drop", "CAP_CHOWN"], "CapEff"), "00000000a80425fa");
    assert_eq!(status(&["--cap-add", "ALL"], "CapBnd"), status(&["--privileged"], "CapBnd"));
    assert_eq!(status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!(status(&[], "Seccomp"), "2");
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
    assert_eq!(status(&["--privileged"], "Seccomp"), "0");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]});
    std::fs::write(bed.0.path("profile"), profile.to_string()).unwrap();
    let option = format!("seccomp={}", bed.0.text("profile"));
    let error = says(&bed, &["--security-opt", &option], "mkdir /x 2>&1; true");
    assert!(error.contains("No space left"), "{error}");

    assert_eq!(says(&bed, &[], "cat /proc/timer_list | wc -c"), "0");
    assert_ne!(says(&bed, &["--security-opt", "unmask=/proc/timer_list"], "cat /proc/timer_list | wc -c"), "0");
    assert_ne!(says(&bed, &["--security-opt", "systempaths=unconfined"], "cat /proc/timer_list | wc -c"), "0");
    assert_eq!(says(&bed, &["--security-opt", "mask=/etc/passwd:/srv"], "cat /etc/passwd; ls /srv"), "");
    let tried = says(&bed, &[], "echo 1 2>/dev/null >/proc/sys/kernel/domainname && echo written; true");
    assert_eq!(tried, "");
    let tried = says(
        &bed,
        &["--security-opt", "unmask=/proc/sys", "--cap-add", "SYS_ADMIN"],
        "echo d >/proc/sys/kernel/domainname; cat /proc/sys/kernel/domainname",
    );
    assert_eq!(tried, "d");

    assert!(
        says(&bed, &["--read-only"], "touch /x 2>&1; touch /etc/hosts 2>&1; true").matches("Read-only").count() == 2
    );
    assert_eq!(says(&bed, &["--oom-score-adj", "321"], "cat /proc/self/oom_score_adj"), "321");
    let limits = ["--ulimit", "nofile=50:60", "--ulimit", "core=0", "--ulimit", "nofile=40:70"];
    assert_eq!(says(&bed, &limits, "ulimit -n; ulimit -Hn; ulimit -c"), "40\n70\n0");
    let sysctls = ["--sysctl", "net.ipv4.ip_default_ttl=7", "--sysctl", "kernel.msgmax=9000"];
    assert_eq!(says(&bed, &sysctls, "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax"), "7\n9000");
    assert_eq!(says(&bed, &["-u", "web"], "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "0");
    assert!(says(&bed, &["--shm-size", "2m"], "mount | grep /dev/shm").contains("size=2048k"));
    assert!(says(&bed, &["--tmpfs", "/t:size=1m,mode=1770"], "mount | grep ' /t '").contains("size=1024k,mode=1770"));
    bed.is_clean();
}

#[test]
fn an_init_of_our_own_is_the_first_process() {
    let bed = Bed::new("init");
    let seen = says(&bed, &["--init"], "tr '\\0' ' ' </proc/1/cmdline; echo; echo $$");
    let mut lines = seen.lines();
    assert!(lines.next().unwrap().starts_with("/dev/bundle-init init -- sh -c"), "{seen}");
    assert_ne!(lines.next(), Some("1"));
    assert!(says(&bed, &["--init"], "touch /dev/bundle-init 2>&1; true").contains("Read-only"));
    // However short the program is, its end is noticed.
    for _ in 0..20 {
        assert_eq!(bed.run(&["run", "--rm", "--init", "it", "sh", "-c", "exit 7"]).status, 7);
    }
    assert_eq!(says(&bed, &["--init"], "grep SigBlk /proc/self/status | cut -f 2"), "0000000000000000");
    bed.is_clean();
}

#[test]
fn namespaces_are_ones_own_the_hosts_or_anothers() {
    let bed = Bed::new("spaces");
    let space = |flags: &[&str], kind: &str| says(&bed, flags, &format!("readlink /proc/self/ns/{kind}"));
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
    for (flag, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--network", "net")]
    {
        assert_eq!(space(&[flag, "host"], kind), own(kind), "{flag}");
        if flag != "--network" {
            assert_ne!(space(&[flag, "private"], kind), own(kind), "{flag}");
        }
    }
    assert_eq!(says(&bed, &["--network", "none"], "ls /sys/class/net"), "lo");
    assert_eq!(says(&bed, &["--ipc", "none"], "ls -d /dev/shm 2>/dev/null; true"), "");
    assert_eq!(says(&bed, &["--userns", "host"], "readlink /proc/self/ns/user"), own("user"));

    bed.detached("first", &["--ipc", "shareable"], "echo shared >/dev/shm/file; exec sleep 1000");
    let pid = bed.pid("first");
    let of_first =
        |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
    for (flag, kind) in [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")] {
        assert_eq!(space(&[flag, "container:first"], kind), of_first(kind), "{flag}");
    }
    crate::bed::until("it has written", || {
        says(&bed, &["--ipc", "container:first"], "cat /dev/shm/file 2>/dev/null; true") == "shared"
    });
    says(&bed, &["--ipc", "container:first"], "echo back >/dev/shm/file");
    assert_eq!(bed.run(&["exec", "first", "cat", "/dev/shm/file"]).ok().out, "back\n");
    // Its names go with its network.
    let hosts = says(&bed, &["--network", "container:first"], "cat /etc/hosts");
    assert!(hosts.contains(&bed.inspect("first", ".Id")[..12]), "{hosts}");
    bed.run(&["run", "--rm", "--pid", "container:nobody", "it", "true"]).fails(125, "container:nobody");
    bed.run(&["rm", "-f", "first"]).ok();
    bed.is_clean();
}

#[test]
fn devices_are_there_and_allowed_as_asked_for() {
    let bed = Bed::new("devices");
    assert_eq!(
        says(&bed, &["--device", "/dev/zero:/dev/nil"], "head -c 3 /dev/nil | wc -c; stat -c '%t %T' /dev/nil"),
        "3\n1 5"
    );
    // Its rights are those that were asked for.
    let tried = "(echo x >/dev/kmsg2) 2>/dev/null && echo written; head -c 0 /dev/kmsg2 && echo read";
    assert_eq!(says(&bed, &["--device", "/dev/kmsg:/dev/kmsg2:r", "--cap-add", "SYSLOG"], tried), "read");
    let made = "mknod /k c 1 11 && head -c 0 /k && echo read";
    assert_eq!(says(&bed, &["--cap-add", "SYSLOG"], &format!("({made}) 2>/dev/null; true")), "");
    assert_eq!(says(&bed, &["--cap-add", "SYSLOG", "--device-cgroup-rule", "c 1:11 rw"], made), "read");
    // A directory with devices in it.
    sh(&format!(
        "mkdir -p {0}/sub && mknod {0}/a c 1 3 && mknod {0}/sub/b c 1 5 && touch {0}/file",
        bed.0.text("nodes")
    ));
    let flag = format!("{}:/dev/mine", bed.0.text("nodes"));
    assert_eq!(says(&bed, &["--device", &flag], "find /dev/mine -type c | sort"), "/dev/mine/a\n/dev/mine/sub/b");
    let kmsg = says(&bed, &["--privileged"], "stat -c '%t %T' /dev/kmsg; head -c 0 /dev/kmsg && echo read");
    assert_eq!(kmsg, "1 b\nread");
    bed.is_clean();
}

#[test]
fn the_cgroup_is_in_its_parent() {
    let bed = Bed::new("parent");
    let parent = format!("rt-bundle-parent-{}", std::process::id());
    let dir = outside(&bed, &["--cgroup-parent", &format!("/{parent}/deep"), "-m", "64m"], |pid| {
        let dir = cgroup::dir_of(pid, "memory");
        assert!(dir.to_str().unwrap().contains(&format!("/{parent}/deep/bundle-")), "{}", dir.display());
        dir
    });
    assert!(!dir.exists());
    // The parent was asked for by somebody, and is theirs.
    sh(&format!("find /sys/fs/cgroup -depth -path '*/{parent}*' -type d -exec rmdir {{}} + || true"));
    bed.is_clean();
}

#[test]
fn a_container_has_users_of_its_own() {
    let bed = Bed::new("users");
    let ids = |pid: i64| {
        let map = read(format!("/proc/{pid}/uid_map"));
        let numbers: Vec<u32> = map.split_whitespace().map(|it| it.parse().unwrap()).collect();
        (numbers[0], numbers[1], numbers[2])
    };
    let (inside, first, count) = outside(&bed, &["--userns", "auto"], |pid| {
        let status = read(format!("/proc/{pid}/status"));
        let (_, first, _) = ids(pid);
        assert!(status.contains(&format!("Uid:\t{first}")), "{status}");
        ids(pid)
    });
    assert!(inside == 0 && first >= 65_536 && count == 65_536, "{inside} {first} {count}");
    // Two at once do not share, and what has been given back is used again.
    bed.detached("one", &["--userns", "auto:size=1000"], "exec sleep 1000");
    let (_, one, count) = ids(i64::from(bed.pid("one")));
    let other = outside(&bed, &["--userns", "auto:size=1000"], ids);
    assert!(count == 1000 && (other.1 >= one + 1000 || one >= other.1 + 1000), "{one} {other:?}");
    bed.run(&["stop", "-t", "0", "one"]).ok();
    let while_stopped = outside(&bed, &["--userns", "auto:size=1000"], ids);
    assert_ne!(while_stopped.1, one, "a stopped container keeps its ids");
    bed.run(&["rm", "one"]).ok();
    assert_eq!(outside(&bed, &["--userns", "auto:size=1000"], ids).1, first.min(one));
    let given = outside(&bed, &["--uidmap", "0:300000:100", "--uidmap", "1000:400000:1"], |pid| {
        read(format!("/proc/{pid}/uid_map"))
    });
    assert_eq!(given.split_whitespace().collect::<Vec<_>>(), ["0", "300000", "100", "1000", "400000", "1"]);

    // Its files have the image's owners, and what it writes is the same with any mapping, committed too.
    assert_eq!(says(&bed, &["--userns", "auto"], "stat -c '%u %g %a' /srv /srv/file"), "33 33 750\n33 33 640");
    let script = "touch /srv/new && chown 33:34 /srv/new && chmod 4711 /srv/new && cat /srv/file";
    let words = ["run", "--name", "uu", "--userns", "auto", "it", "sh", "-c", script];
    assert_eq!(bed.run(&words).ok().out, "content\n");
    bed.run(&["start", "uu"]).ok();
    bed.run(&["wait", "uu"]).ok();
    bed.run(&["commit", "uu", "mine"]).ok();
    let seen = bed.run(&["run", "--rm", "mine", "stat", "-c", "%u %g %a", "/srv/new"]).ok().out;
    assert_eq!(seen, "33 34 4711\n");
    assert_eq!(says(&bed, &["--uidmap", "0:300000:1000", "--storage-driver", "vfs"], "stat -c %u /srv"), "33");
    // Whatever a runtime does with the streams of a container: the machine's null device is nobody's but root's.
    bed.detached("null", &["--userns", "auto", "-u", "web"], "exec sleep 1000");
    bed.run(&["exec", "null", "true"]).ok();
    bed.run(&["exec", "-d", "null", "true"]).ok();
    bed.run(&["rm", "-f", "null"]).ok();
    says(&bed, &["-u", "web"], "true");
    let device = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&device), std::os::unix::fs::MetadataExt::gid(&device)), (0, 0));
    bed.run(&["rm", "uu"]).ok();
    for (flags, words) in [
        (&["--userns", "x"][..], "--userns"),
        (&["--userns", "auto:size=0"], "--userns"),
        (&["--userns", "auto", "--privileged"], "--privileged"),
        (&["--userns", "auto", "--uidmap", "0:1:1"], "--uidmap"),
        (&["--uidmap", "1:100000:10"], "--uidmap"),
        (&["--gidmap", "0:100000:10"], "--gidmap"),
        (&["--uidmap", "0:100000:10", "-u", "10"], "user 10"),
        (&["--userns", "auto", "--network", "container:x"], "container x"),
    ] {
        bed.run(&[&["run", "--rm"], flags, &["it", "true"]].concat()).fails(125, words);
    }
    bed.is_clean();
}

#[test]
fn bad_values_are_errors_and_leave_nothing() {
    let bed = Bed::new("bad");
    let nodes = names(&bed.0.path("store"));
    let cases: &[(&[&str], &str)] = &[
        (&["-m", "10x"], "--memory"),
        (&["-m", "1m"], "6m is the least"),
        (&["-m", "64m", "--memory-swap", "32m"], "--memory-swap"),
        (&["--memory-swap", "1g"], "--memory-swap"),
        (&["-m", "64m", "--memory-reservation", "1g"], "--memory-reservation"),
        (&["--memory-swappiness", "101"], "--memory-swappiness"),
        (&["--kernel-memory", "1g"], "--kernel-memory"),
        (&["--oom-kill-disable"], "--oom-kill-disable"),
        (&["--oom-score-adj", "2000"], "--oom-score-adj"),
        (&["--cpus", "x"], "--cpus"),
        (&["--cpus", "1000"], "processors that there are"),
        (&["--cpus", "1", "--cpu-period", "5000"], "--cpu-period"),
        (&["--cpu-period", "1"], "--cpu-period"),
        (&["--cpu-quota", "1"], "--cpu-quota"),
        (&["--cpu-shares", "1"], "--cpu-shares"),
        (&["--cpu-shares", "x"], "--cpu-shares"),
        (&["--cpuset-cpus", "99"], "processor 99 is not there"),
        (&["--cpuset-cpus", "2-1"], "--cpuset-cpus"),
        (&["--cpuset-mems", "99"], "memory node 99"),
        (&["--pids-limit", "-2"], "--pids-limit"),
        (&["--blkio-weight", "5"], "--blkio-weight"),
        (&["--blkio-weight-device", "/dev/nowhere:100"], "/dev/nowhere"),
        (&["--device-read-bps", "/dev/null:1m"], "no block device"),
        (&["--device-write-iops", "/dev/null"], "--device-write-iops"),
        (&["--device", "/dev/nowhere"], "/dev/nowhere"),
        (&["--device", "/etc/passwd"], "no device"),
        (&["--device-cgroup-rule", "c 1"], "--device-cgroup-rule"),
        (&["--ulimit", "nofile=2:1"], "--ulimit"),
        (&["--ulimit", "x=1"], "--ulimit"),
        (&["--sysctl", "kernel.panic=1"], "whole machine's"),
        (&["--sysctl", "net.ipv4.ip_forward=1", "--network", "host"], "the host's"),
        (&["--shm-size", "x"], "--shm-size"),
        (&["--shm-size", "1m", "--ipc", "host"], "--shm-size"),
        (&["--tmpfs", "rel"], "--tmpfs"),
        (&["--tmpfs", "/t:what"], "--tmpfs"),
        (&["--cap-add", "x"], "--cap-add"),
        (&["--cap-drop", "x"], "--cap-drop"),
        (&["--security-opt", "x"], "--security-opt"),
        (&["--security-opt", "seccomp=/nowhere"], "/nowhere"),
        (&["--security-opt", "mask=rel"], "absolute path"),
        (&["-u", "nobody-here"], "not in the image's /etc/passwd"),
        (&["--group-add", "nobody-here"], "not in the image's /etc/group"),
        (&["--uts", "x"], "--uts"),
        (&["--uts", "host", "-h", "x"], "--uts host"),
        (&["--ipc", "x"], "--ipc"),
        (&["--pid", "x"], "--pid"),
        (&["--cgroupns", "x"], "--cgroupns"),
        (&["--cgroup-parent", "/a/../.."], "--cgroup-parent"),
        (&["--network", "bridge7"], "--network"),
        (&["-h", "a/b"], "--hostname"),
        (&["--add-host", "x"], "--add-host"),
        (&["--add-host", "x:host-gateway"], "host-gateway"),
        (&["--dns", "x"], "--dns"),
        (&["--dns-search", "a b"], "--dns-search"),
        (&["--dns-option", "a\nb"], "--dns-option"),
        (&["-e", "=x"], "--env"),
        (&["--env-file", "/nowhere"], "/nowhere"),
        (&["--env-file", "/dev/zero"], "--env-file /dev/zero: it has more than 4194304 bytes"),
        (&["-l", "=x"], "--label"),
        (&["--label-file", "/nowhere"], "/nowhere"),
        (&["--label-file", "/dev/zero"], "--label-file /dev/zero: it has more than 4194304 bytes"),
        (&["--annotation", "x"], "--annotation"),
        (&["-w", "rel"], "--workdir"),
        (&["--stop-signal", "SIGNO"], "--stop-signal"),
        (&["--stop-timeout", "-5"], "--stop-timeout"),
        (&["--no-healthcheck", "--health-cmd", "x"], "--no-healthcheck"),
        (&["--health-cmd", "x", "--health-interval", "5"], "--health-interval"),
        (&["--health-interval", "5s"], "--health-cmd"),
        (&["--health-cmd", "x", "--health-timeout", "1us"], "--health-timeout"),
        (&["--log-driver", "syslog"], "--log-driver"),
        (&["--log-opt", "x=1"], "--log-opt"),
        (&["--log-opt", "max-size=1"], "--log-opt"),
        (&["--log-opt", "max-file=0"], "--log-opt"),
        (&["--volume-driver", "nfs"], "--volume-driver"),
        (&["--gpus", "all"], "--gpus"),
        (&["--isolation", "hyperv"], "--isolation"),
        (&["--storage-opt", "size=1g"], "--storage-opt"),
    ];
    for (flags, words) in cases {
        for volumes in [&[][..], &["-v", "made:/made"]] {
            bed.run(&[&["run", "--rm"], volumes, *flags, &["it", "true"]].concat()).fails(125, words);
        }
    }
    bed.run(&["run", "--rm", "--restart", "always", "it", "true"]).fails(125, "--restart");
    for policy in ["x", "always:1", "on-failure:x"] {
        bed.run(&["run", "--restart", policy, "it", "true"]).fails(125, "--restart");
    }
    assert_eq!(bed.run(&["ps", "-aq"]).ok().out, "");
    assert_eq!(names(&bed.0.path("store")), nodes);
    // A user is looked up in the container's own files, and its volumes are there by then.
    assert!(["", "made\n"].contains(&bed.run(&["volume", "ls", "-q"]).ok().out.as_str()));
    bed.is_clean();
}

#[test]
fn a_bundle_on_disk_has_what_can_go_along() {
    let bed = Bed::new("disk");
    let place: &Place = &bed.0;
    let dir = place.text("b");
    bed.run(&["export-bundle", "-v", "/etc:/host-etc:ro", "--tmpfs", "/t", "-m", "64m", "it", &dir]).ok();
    let config: serde_json::Value = serde_json::from_str(&read(place.path("b/config.json"))).unwrap();
    let text = config["mounts"].to_string();
    assert!(text.contains("/host-etc") && text.contains("\"/t\""), "{text}");
    for (flags, words) in [
        (&["-v", "name:/x"][..], "volume"),
        (&["-v", "/x"], "volume"),
        (&["--volumes-from", "x"], "--volumes-from"),
        (&["--userns", "auto"], "--userns"),
        (&["-m", "x"], "--memory"),
        (&["--restart", "always"], "--restart"),
        (&["--health-cmd", "true"], "--health-cmd"),
        (&["--no-healthcheck"], "--no-healthcheck"),
        (&["--log-driver", "none"], "--log-driver"),
        (&["--log-opt", "max-size=1m"], "--log-opt"),
        (&["--stop-timeout", "5"], "--stop-timeout"),
        (&["--cgroup-parent", "/x"], "--cgroup-parent"),
        (&["--add-host", "x:1.2.3.4"], "--add-host"),
        (&["--dns", "1.2.3.4"], "--dns"),
        (&["--network", "container:x"], "container:x"),
    ] {
        bed.run(&[&["export-bundle"], flags, &["it", &place.text("b2")]].concat()).fails(1, words);
        assert!(!place.path("b2").exists());
    }
}
