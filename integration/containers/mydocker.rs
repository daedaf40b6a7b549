//! What the book's mydocker does, chapter by chapter, and each of its known faults as something that must not come
//! back. Where a test of another file shows a line in full, it is named here and not repeated.
//!
//! | chapter | shown by |
//! |---|---|
//! | 3 `run -ti -m --cpuset-cpus --cpu-shares` | [`limits_are_seen_by_inspect_and_in_the_cgroup`]; each flag: `flags::limits_of_memory_processors_and_processes_are_in_the_cgroup`; refused before the start: `flags::limits_that_not_every_machine_has_are_set_or_refused` |
//! | 3 a terminal | [`a_terminal_for_run_and_exec`]; attached to and left: `lifecycle::attach_by_several_and_detach_by_keys` |
//! | 4.1, 4.2 pivot_root, layers; 5.7 one image, several containers | [`containers_share_their_images_layers_and_nothing_else`] |
//! | 4.3 `-v` | `volumes::directories_of_the_host`, `volumes::a_new_volume_gets_the_images_files_with_their_owners`, `volumes::memory_as_a_mount` |
//! | 4.4 commit | `images` suite: `run::a_container_is_kept_committed_and_exported`; volumes stay out: `volumes::what_is_in_volumes_is_in_no_image` |
//! | 4.4 without overlayfs | [`without_overlayfs_changes_are_the_same`] |
//! | 5.1 `-d` | `lifecycle::a_detached_container_outlives_its_command` |
//! | 5.2 ps | `lifecycle::ps_filters_and_formats`; restarting: `monitor::policies_start_it_again`; paused: `lifecycle::pause_and_what_it_keeps_from_happening` |
//! | 5.3 logs | all of `logs` |
//! | 5.4 exec | `lifecycle::exec_is_in_the_container` |
//! | 5.5 stop | `lifecycle::stop_asks_first_and_kills_then` |
//! | 5.6 rm | [`rm_of_a_live_container_leaves_it_whole`], [`no_cgroup_mount_or_directory_leaks`] |
//! | 5.8 `-e` | `flags::who_and_where_the_program_is` |
//! | 7.1 nginx | [`nginx_is_imported_asked_committed_and_run_again`] |
//! | 7.2 the counter's data | [`data_on_a_volume_survive_restart_and_removal`] |
//! | 7.3 config.json | `images` suite: `run::a_bundle_runs_under_any_runtime`; `flags::a_bundle_on_disk_has_what_can_go_along` |
//! | 7.4 create, start | `lifecycle::create_start_and_their_exit_statuses` |
//!
//! | known fault | shown by |
//! |---|---|
//! | arguments joined by spaces | [`arguments_arrive_one_by_one`] |
//! | exit status always 0 | [`the_exit_status_is_the_programs`] |
//! | the host's environment and descriptors leak in | [`nothing_of_the_caller_leaks_in`] |
//! | empty /dev | [`dev_has_what_every_program_expects`] |
//! | host name of the host | [`the_host_name_is_its_own`] |
//! | full capabilities, no seccomp | `flags::what_the_program_may` |
//! | a missing image leaves a directory behind | [`a_missing_image_leaves_nothing`] |
//! | `-d` prints nothing and loses stderr | `lifecycle::a_detached_container_outlives_its_command` |
//! | `-m 10x` silently ignored | `flags::bad_values_are_errors_and_leave_nothing` |
//! | cgroups leak | [`no_cgroup_mount_or_directory_leaks`]; after kills: `faults::kills_at_a_hundred_moments` |
//! | a second container of the same name orphans the first | [`a_name_that_is_taken_costs_its_owner_nothing`] |
//! | a bad `-v` only logged | `volumes::directories_of_the_host` |
//! | without `-net` even lo is down | [`loopback_is_up_without_a_network`] |
//! | dead containers shown as running | [`what_is_dead_is_not_shown_as_running`]; with their monitor: `monitor::a_monitor_and_its_container_killed_together` |
//! | exec's own flags eaten | [`arguments_arrive_one_by_one`], `lifecycle::exec_is_in_the_container` |
//! | rm of a live container deletes its rootfs | [`rm_of_a_live_container_leaves_it_whole`] |

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::bed::{Bed, kill, names, until};
use crate::cgroup;
use crate::harness::{Done, sh};

/// `bundle` with these words, called by a shell that has done something first: opened descriptors, set variables.
fn after(bed: &Bed, first: &str, words: &[&str]) -> Done {
    let inner = bed.command(words);
    let mut outer = Command::new("bash");
    outer.args(["-c", &format!("{first}; exec \"$@\""), "bash"]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    Done::of(outer.stdin(Stdio::null()), words)
}

/// The same on a terminal, with keys that are pressed.
fn on_a_terminal(bed: &Bed, keys: &str, words: &[&str]) -> Done {
    let words = [&["script", "-qec", "exec \"$0\" \"$@\"", "/dev/null"], words].concat();
    // `script` has a shell run a line: the words go there as one, in quotes.
    let line: Vec<String> = std::iter::once(crate::harness::bundle().display().to_string())
        .chain(words[4..].iter().map(|it| (*it).to_owned()))
        .map(|it| format!("'{}'", it.replace('\'', "'\\''")))
        .collect();
    let environment = bed.command(&[]);
    let mut script = Command::new("bash");
    script.args(["-c", "(sleep 0.7; printf \"$1\"; sleep 0.7) | script -qec \"$2\" /dev/null", "bash", keys]);
    script.arg(line.join(" "));
    script.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::of(script.stdin(Stdio::null()), &words)
}

/// Directories of cgroups with a container's id in their name, in all hierarchies.
fn cgroups(id: &str) -> String {
    sh(&format!(
        "find /sys/fs/cgroup -type d -name '*{}*' '(' -fstype cgroup -o -fstype cgroup2 ')' 2>/dev/null || true",
        id.trim()
    ))
}

#[test]
fn limits_are_seen_by_inspect_and_in_the_cgroup() {
    let bed = Bed::new("row3");
    let flags = ["-m", "100m", "--cpuset-cpus", "0", "--cpu-shares", "512", "--cpus", "0.5", "--pids-limit", "30"];
    bed.detached("ll", &flags, "exec sleep 1000");
    let resources: serde_json::Value = serde_json::from_str(&bed.inspect("ll", "json .HostConfig.Resources")).unwrap();
    assert_eq!(resources["memory"]["limit"], 100 << 20);
    assert_eq!((&resources["cpu"]["cpus"], &resources["cpu"]["shares"]), (&"0".into(), &512.into()));
    assert_eq!((&resources["cpu"]["quota"], &resources["pids"]["limit"]), (&50_000.into(), &30.into()));
    let file = ("memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(cgroup::read(i64::from(bed.pid("ll")), file), (100 << 20).to_string());
    // The limit holds: a program that takes more is ended, and it is said why.
    let eater = ["run", "--name", "eater", "-m", "16m", "--memory-swap", "16m", "it", "sh", "-c", "tail /dev/zero"];
    assert_eq!(bed.run(&eater).status, 137);
    until("it is told", || bed.inspect("eater", ".State.OOMKilled") == "true");
    bed.run(&["rm", "-f", "ll", "eater"]).ok();
    bed.is_clean();
}

#[test]
fn a_terminal_for_run_and_exec() {
    let bed = Bed::new("row3-tty");
    let script = "stty size >/dev/null && test -t 0 && echo terminal; read line; echo got $line; exit 3";
    let done = on_a_terminal(&bed, "word\\n", &["run", "-it", "--name", "tt", "it", "sh", "-c", script]);
    assert!(done.status == 3 && done.out.contains("terminal") && done.out.contains("got word"), "{}", done.out);
    bed.detached("ee", &[], "exec sleep 1000");
    let done = on_a_terminal(&bed, "word\\n", &["exec", "-it", "ee", "sh", "-c", script]);
    assert!(done.status == 3 && done.out.contains("terminal") && done.out.contains("got word"), "{}", done.out);
    // Without one on our side it is an error, and not a program without a terminal.
    bed.run(&["exec", "-it", "ee", "true"]).fails(125, "-t");
    bed.run(&["rm", "-f", "tt", "ee"]).ok();
    bed.is_clean();
}

#[test]
fn containers_share_their_images_layers_and_nothing_else() {
    let bed = Bed::new("row4");
    let before = names(&bed.0.path("store/layers"));
    for name in ["one", "two"] {
        bed.detached(name, &[], &format!("echo {name} >/mine; echo {name} >>/srv/file; rm /tmp/none; exec sleep 1000"));
        until("it has written", || bed.run(&["exec", name, "grep", name, "/srv/file"]).status == 0);
    }
    assert_eq!(names(&bed.0.path("store/layers")), before, "no layer is copied");
    for name in ["one", "two"] {
        let seen = bed.run(&["exec", name, "cat", "/mine", "/srv/file"]).ok().out;
        assert_eq!(seen, format!("{name}\ncontent\n{name}\n"));
        // Its root is its own: the old one is not mounted anywhere below.
        let mounts = bed.run(&["exec", name, "cat", "/proc/1/mountinfo"]).ok().out;
        assert!(!mounts.contains(&bed.0.text("host-file")), "{mounts}");
        let roots: Vec<&str> = mounts.lines().filter(|it| it.split(' ').nth(4) == Some("/")).collect();
        assert!(roots.len() == 1 && roots[0].contains(" overlay "), "{mounts}");
        std::fs::write(bed.0.path("host-file"), "the host's").unwrap();
        let path = bed.0.text("host-file");
        assert_ne!(bed.run(&["exec", name, "cat", &path]).status, 0);
        assert_ne!(bed.run(&["exec", name, "cat", &format!("/../../../..{path}")]).status, 0);
    }
    // What was written is each one's own, and the same file of the image is one on the disk.
    let upper = |name: &str| bed.0.path("store/containers").join(bed.inspect(name, ".Id")).join("upper");
    assert_eq!(names(&upper("one").join("srv")), ["file"]);
    assert!(!upper("one").join("bin").exists());
    let lower = |name: &str| {
        let meta = std::fs::metadata(format!("/proc/{}/root/bin/busybox", bed.pid(name))).unwrap();
        (meta.ino(), meta.size())
    };
    assert_eq!(lower("one"), lower("two"));
    assert_eq!(bed.run(&["run", "--rm", "it", "cat", "/srv/file"]).ok().out, "content\n");
    bed.run(&["rm", "-f", "one", "two"]).ok();
    bed.is_clean();
}

#[test]
fn data_on_a_volume_survive_restart_and_removal() {
    let bed = Bed::new("row7");
    let count = "n=$(cat /data/count 2>/dev/null || echo 0); echo $((n + 1)) >/data/count; cat /data/count";
    bed.detached("counter", &["-v", "counts:/data"], &format!("{count}; exec sleep 1000"));
    let last = |name: &str| bed.run(&["logs", "--tail", "1", name]).ok().out;
    until("it has counted", || last("counter") == "1\n");
    bed.run(&["restart", "-t", "0", "counter"]).ok();
    until("it has counted on", || last("counter") == "2\n");
    // A volume that is held is not removed, and the data are there when the container is not.
    bed.run(&["volume", "rm", "counts"]).fails(1, "counter");
    bed.run(&["rm", "-f", "-v", "counter"]).ok();
    assert_eq!(bed.run(&["run", "--rm", "-v", "counts:/data", "it", "sh", "-c", count]).ok().out, "3\n");
    bed.run(&["volume", "rm", "counts"]).ok();
    bed.is_clean();
}

#[test]
fn arguments_arrive_one_by_one() {
    let bed = Bed::new("arguments");
    let words = ["a b", "", "$HOME", "*", "-it", "--", "x\ty", "\"q\"", "last"];
    let shown = ["sh", "-c", "for it; do printf '[%s]' \"$it\"; done", "sh"];
    let wanted: String = words.iter().map(|it| format!("[{it}]")).collect();
    let run = |start: &[&str]| bed.run(&[start, &shown[..], &words[..]].concat()).ok().out;
    assert_eq!(run(&["run", "--rm", "it"]), wanted);
    bed.detached("ee", &[], "exec sleep 1000");
    assert_eq!(run(&["exec", "ee"]), wanted);
    assert_eq!(run(&["exec", "-w", "/tmp", "-e", "A=b c", "ee"]), wanted);
    // Created and started later they are the same.
    bed.run(&[&["create", "--name", "later", "it"], &shown[..], &words[..]].concat()).ok();
    assert_eq!(bed.run(&["start", "-a", "later"]).ok().out, wanted);
    bed.run(&["rm", "-f", "ee", "later"]).ok();
    bed.is_clean();
}

#[test]
fn the_exit_status_is_the_programs() {
    let bed = Bed::new("status");
    let run = |script: &str| bed.run(&["run", "--rm", "it", "sh", "-c", script]).status;
    for status in [0, 1, 42, 125, 255] {
        assert_eq!(run(&format!("exit {status}")), status);
    }
    // The first process of a pid namespace does not die of a signal of its own; of its child's the shell tells.
    assert_eq!(run("sh -c 'kill -TERM $$'; exit $?"), 143);
    assert_eq!(bed.run(&["run", "--rm", "it", "nothere"]).status, 127);
    assert_eq!(bed.run(&["run", "--rm", "it", "/bin/noexec"]).status, 126);
    assert_eq!(bed.run(&["run", "--rm", "--what", "it"]).status, 125);
    // A detached one's is kept for who asks later.
    bed.detached("dd", &[], "exit 7");
    assert_eq!(bed.run(&["wait", "dd"]).ok().out, "7\n");
    assert!(bed.status("dd").starts_with("Exited (7)"));
    bed.run(&["rm", "dd"]).ok();
    bed.is_clean();
}

#[test]
fn nothing_of_the_caller_leaks_in() {
    let bed = Bed::new("leak");
    // Descriptors that a shell has left open, one of them a directory of the host's: the way out of many a container.
    let open = "exec 3</ 4</etc/passwd 7<>/dev/null 9>&1 99</proc/1; export SECRET=of-the-host LD_X=1; cd /proc/1";
    // What /proc/self/fd has of `ls` itself is 3, the directory that it lists.
    let look = "ls /proc/self/fd; ls /proc/1/fd; pwd; env";
    let check = |what: &str, out: &str| {
        assert!(!out.contains("SECRET") && !out.contains("LD_X") && !out.contains("BUNDLE_"), "{what}: {out}");
        let numbers: Vec<u32> = out.lines().filter_map(|it| it.parse().ok()).collect();
        assert!(numbers.iter().all(|it| *it <= 3 || *it == 10), "{what}: {out}");
        assert!(out.lines().any(|it| it == "/"), "{what}: {out}");
    };
    let done = after(&bed, open, &["run", "--name", "ff", "it", "sh", "-c", look]).ok();
    check("run", &done.out);
    after(&bed, open, &["run", "-d", "--name", "dd", "it", "sh", "-c", &format!("{look}; exec sleep 1000")]).ok();
    until("it has looked", || bed.run(&["logs", "dd"]).ok().out.contains("PATH="));
    check("run -d", &bed.run(&["logs", "dd"]).ok().out);
    check("exec", &after(&bed, open, &["exec", "dd", "sh", "-c", look]).ok().out);
    // Neither do the container's process and its monitor keep them from outside.
    for pid in [bed.pid("dd"), bed.monitor("dd")] {
        let held = sh(&format!("ls -l /proc/{pid}/fd"));
        for path in ["/etc/passwd", "/proc/1\n"] {
            assert!(!held.contains(&format!("-> {path}")), "{pid}: {held}");
        }
        // The null device is seen by a mount of its own, whose root it is: `/` too, but no directory.
        let directories = sh(&format!("find -L /proc/{pid}/fd -maxdepth 1 -mindepth 1 -type d -exec readlink {{}} +"));
        assert!(!directories.lines().any(|it| it == "/"), "{pid}: {held}");
    }
    after(&bed, open, &["restart", "-t", "0", "dd"]).ok();
    until("it has looked again", || bed.run(&["logs", "dd"]).ok().out.matches("PATH=").count() == 2);
    check("restart", &bed.run(&["logs", "dd"]).ok().out);
    bed.run(&["rm", "-f", "ff", "dd"]).ok();
    bed.is_clean();
}

#[test]
fn dev_has_what_every_program_expects() {
    let bed = Bed::new("dev");
    let script = "ls /dev; for it in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$it; done; \
        echo x >/dev/null && head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full; \
        for it in fd stdin stdout stderr ptmx; do readlink /dev/$it; done; mount | grep -c ' /dev/pts \\| /dev/shm \\| /dev/mqueue '; \
        touch /dev/shm/it && echo shm";
    let out = bed.run(&["run", "--rm", "it", "sh", "-c", script]).ok().out;
    for name in ["fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stdin", "tty", "urandom", "zero"] {
        assert!(out.lines().any(|it| it == name), "{name}: {out}");
    }
    for line in [
        "/dev/null character special file 1:3 666",
        "/dev/zero character special file 1:5 666",
        "/dev/full character special file 1:7 666",
        "/dev/random character special file 1:8 666",
        "/dev/urandom character special file 1:9 666",
        "/dev/tty character special file 5:0 666",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let links = "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n3\nshm\n";
    assert!(out.contains("4\n4\nfull\n") && out.ends_with(links), "{out}");
    // None of the host's disks is among them.
    assert!(!out.lines().any(|it| !it.starts_with('/') && Path::new("/sys/block").join(it).exists()), "{out}");
    bed.is_clean();
}

#[test]
fn the_host_name_is_its_own() {
    let bed = Bed::new("hostname");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let id = bed.run(&["run", "-d", "--name", "hh", "--cap-add", "SYS_ADMIN", "it", "sleep", "1000"]).ok().out;
    let named = |words: &[&str]| bed.run(&[&["exec", "hh"], words].concat()).ok().out;
    assert_eq!(named(&["hostname"]).trim(), &id[..12]);
    assert_eq!(named(&["cat", "/etc/hostname"]).trim(), &id[..12]);
    assert!(named(&["cat", "/etc/hosts"]).contains(&id[..12]));
    // A change of it is the container's alone.
    named(&["hostname", "changed"]);
    assert_eq!(named(&["hostname"]), "changed\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), host);
    bed.run(&["rm", "-f", "hh"]).ok();
    bed.is_clean();
}

#[test]
fn a_missing_image_leaves_nothing() {
    let bed = Bed::new("missing");
    let before = names(&bed.0.path("store"));
    for command in ["run", "create"] {
        let words = [command, "--pull", "never", "--name", "ghost", "-v", "new:/new", "-m", "64m", "nothere:1", "true"];
        bed.run(&words).fails(if command == "run" { 125 } else { 1 }, "nothere:1");
    }
    assert_eq!(bed.run(&["ps", "-aq"]).ok().out, "");
    assert_eq!(bed.run(&["volume", "ls", "-q"]).ok().out, "");
    assert_eq!(names(&bed.0.path("store")), before);
    // The name is free.
    bed.run(&["run", "--rm", "--name", "ghost", "it", "true"]).ok();
    bed.is_clean();
}

#[test]
fn no_cgroup_mount_or_directory_leaks() {
    let bed = Bed::new("leftover");
    let mounts = || sh("grep -c . /proc/self/mountinfo");
    let before = mounts();
    // In each way that a container may end, one of them with cgroups that it has made itself.
    let own =
        "for it in /sys/fs/cgroup/memory /sys/fs/cgroup; do mkdir -p $it/own/deep 2>/dev/null; done; exec sleep 1000";
    bed.detached("own", &["--privileged", "-m", "64m"], own);
    bed.detached("killed", &[], "exec sleep 1000");
    bed.run(&["run", "--name", "ended", "it", "true"]).ok();
    bed.run(&["run", "--name", "failed", "it", "nothere"]).fails(127, "nothere");
    bed.run(&["create", "--name", "new", "it", "true"]).ok();
    let ids: Vec<String> =
        ["own", "killed", "ended", "failed", "new"].iter().map(|it| bed.inspect(it, ".Id")).collect();
    assert_ne!(cgroups(&ids[0]), "");
    // With the end goes the cgroup, not with rm.
    assert_eq!(cgroups(&ids[2]) + &cgroups(&ids[3]) + &cgroups(&ids[4]), "");
    kill("KILL", bed.pid("killed"));
    bed.run(&["wait", "killed"]).ok();
    until("its cgroup has gone", || cgroups(&ids[1]).is_empty());
    bed.run(&["stop", "-t", "0", "own"]).ok();
    until("its cgroups have gone", || cgroups(&ids[0]).is_empty());
    bed.run(&["rm", "own", "killed", "ended", "failed", "new"]).ok();
    for id in &ids {
        assert!(!bed.0.path("store/containers").join(id).exists());
        let state = sh(&format!("find /run /tmp -maxdepth 3 -name '*{id}*' 2>/dev/null || true"));
        assert_eq!(state, "");
    }
    assert_eq!(mounts(), before);
    bed.is_clean();
}

#[test]
fn a_name_that_is_taken_costs_its_owner_nothing() {
    let bed = Bed::new("taken");
    bed.detached("mine", &[], "echo first >/mine; exec sleep 1000");
    let (id, pid) = (bed.inspect("mine", ".Id"), bed.pid("mine"));
    for command in [&["run", "-d"][..], &["run", "--rm"], &["create"]] {
        let done = bed.run(&[command, &["--name", "mine", "-v", "new:/new", "it", "sleep", "1000"]].concat());
        assert!(done.status != 0 && done.err.contains("is taken"), "{} {}", done.status, done.err);
    }
    assert_eq!((bed.inspect("mine", ".Id"), bed.pid("mine")), (id.clone(), pid));
    assert_eq!(bed.run(&["exec", "mine", "cat", "/mine"]).ok().out, "first\n");
    assert_eq!(names(&bed.0.path("store/containers")), [id]);
    assert_eq!(bed.run(&["volume", "ls", "-q"]).ok().out, "");
    bed.run(&["rm", "-f", "mine"]).ok();
    bed.is_clean();
}

#[test]
fn loopback_is_up_without_a_network() {
    let bed = Bed::new("lo");
    let script = "cat /sys/class/net/lo/flags; (echo asked | nc -l -p 7070 127.0.0.1 >/dev/null) & \
        until sleep 0.3 | nc 127.0.0.1 7070; do :; done; ls /sys/class/net";
    for flags in [&[][..], &["--net", "none"]] {
        let out = bed.run(&[&["run", "--rm"], flags, &["it", "sh", "-c", script]].concat()).ok().out;
        // IFF_UP, IFF_LOOPBACK, IFF_RUNNING are 0x49 (netdevice(7)); flags of the file have no IFF_RUNNING.
        assert!(out.starts_with("0x9\n") && out.contains("asked\n") && out.contains("lo\n"), "{flags:?}: {out}");
    }
    bed.is_clean();
}

#[test]
fn what_is_dead_is_not_shown_as_running() {
    let bed = Bed::new("dead");
    bed.detached("init", &[], "exec sleep 1000");
    bed.detached("itself", &[], "sleep 0.2; exit 4");
    assert!(bed.status("init").starts_with("Up"));
    kill("KILL", bed.pid("init"));
    until("its end is seen", || bed.status("init").starts_with("Exited (137)"));
    until("its end is seen", || bed.status("itself").starts_with("Exited (4)"));
    assert_eq!(bed.run(&["ps", "-q"]).ok().out, "");
    assert_eq!(
        (bed.inspect("init", ".State.Pid"), bed.inspect("init", ".State.Running")),
        ("0".into(), "false".into())
    );
    bed.run(&["exec", "init", "true"]).fails(125, "not running");
    bed.run(&["rm", "init", "itself"]).ok();
    bed.is_clean();
}

#[test]
fn rm_of_a_live_container_leaves_it_whole() {
    let bed = Bed::new("live");
    bed.detached("ll", &["-v", "data:/data"], "echo kept >/own; echo kept >/data/own; exec sleep 1000");
    until("it has written", || bed.run(&["exec", "ll", "grep", "-q", "kept", "/data/own"]).status == 0);
    let (pid, id) = (bed.pid("ll"), bed.inspect("ll", ".Id"));
    bed.run(&["rm", "ll"]).fails(1, "stop it first");
    bed.run(&["rm", "-v", &id]).fails(1, "stop it first");
    assert_eq!(bed.pid("ll"), pid);
    assert_eq!(bed.run(&["exec", "ll", "cat", "/own", "/data/own", "/srv/file"]).ok().out, "kept\nkept\ncontent\n");
    bed.run(&["restart", "-t", "0", "ll"]).ok();
    until("it has written again", || bed.run(&["exec", "ll", "grep", "-q", "kept", "/data/own"]).status == 0);
    // Asked for, it goes with all that it has, but for the volume that has a name.
    bed.run(&["rm", "-f", "-v", "ll"]).ok();
    until("the process has ended", || !Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(cgroups(&id), "");
    assert_eq!(std::fs::read_to_string(bed.0.path("store/volumes/data/_data/own")).unwrap(), "kept\n");
    bed.run(&["volume", "rm", "data"]).ok();
    bed.is_clean();
}

/// Where overlayfs is missing, what a container has changed is found by comparing: the same, to the last byte.
#[test]
fn without_overlayfs_changes_are_the_same() {
    let bed = Bed::new("vfs");
    let script = "echo more >>/srv/file; chmod 700 /tmp; rm /bin/noexec; echo new >/new; ln /new /linked; ln -s new /symbolic; \
        mkdir -p /a/b/c; echo deep >/a/b/c/d; chown -R 33:34 /a; rm /bin/tee; mkdir /bin/tee; chmod 600 /etc/group; \
        nc -l -U /sock 2>/dev/null & sleep 0.2; kill $!; exit 0";
    let mut seen = Vec::new();
    for driver in ["overlay", "vfs"] {
        let run = |words: &[&str]| bed.run(&[&["--storage-driver", driver], words].concat());
        run(&["create", "--name", driver, "it", "sh", "-c", script]).ok();
        assert_eq!(run(&["diff", driver]).ok().out, "", "{driver}: it has not been started");
        run(&["start", "-a", driver]).ok();
        let diff = run(&["diff", driver]).ok().out;
        for line in
            ["C /srv/file", "C /tmp", "D /bin/noexec", "A /new", "A /linked", "A /symbolic", "A /a/b/c/d", "C /bin/tee"]
        {
            assert!(diff.lines().any(|it| it == line), "{driver}: {line}: {diff}");
        }
        assert!(!diff.contains("busybox") && !diff.contains("passwd") && !diff.contains("hosts"), "{driver}: {diff}");
        let mut commit = bed.command(&["commit", driver, &format!("{driver}:1")]);
        let id = Done::of(commit.env("SOURCE_DATE_EPOCH", "1600000000"), &["commit"]).ok().out;
        assert_ne!(bed.run(&["inspect", "-s", "--format", "{{.SizeRw}}", driver]).ok().out, "0\n");
        let own = bed.0.path("store/containers").join(bed.inspect(driver, ".Id"));
        assert!(!names(&own).iter().any(|it| it.starts_with("changes")), "{:?}", names(&own));
        seen.push((diff, id));
    }
    assert_eq!(seen[0], seen[1]);
    let look = [
        "run",
        "--rm",
        "vfs:1",
        "sh",
        "-c",
        "cat /srv/file /linked /a/b/c/d; stat -c %h /new; ls /bin/noexec 2>/dev/null",
    ];
    assert_eq!(bed.run(&look).out, "content\nmore\nnew\ndeep\n2\n");
    // While it runs, with users of its own, what is its own is the same.
    let flags =
        ["--storage-driver", "vfs", "run", "-d", "--userns", "auto", "-v", "data:/data", "--name", "users", "it"];
    bed.run(&[&flags[..], &["sh", "-c", "touch /w /data/w && chown 33:34 /w; exec sleep 1000"]].concat()).ok();
    until("it has written", || bed.run(&["diff", "users"]).ok().out == "A /data\nA /w\n");
    bed.run(&["commit", "users", "users:1"]).ok();
    assert_eq!(bed.run(&["run", "--rm", "users:1", "stat", "-c", "%u:%g", "/w", "/srv"]).ok().out, "33:34\n33:33\n");
    bed.run(&["rm", "-f", "-v", "overlay", "vfs", "users"]).ok();
    bed.run(&["volume", "rm", "data"]).ok();
    bed.is_clean();
}

/// A root file system with nginx, the libraries that it needs, and a page.
fn nginx(bed: &Bed, port: u16) -> String {
    let root = bed.0.text("root");
    sh(&format!(
        "nginx=$(command -v nginx || echo /usr/sbin/nginx); mkdir -p {root}/usr/sbin {root}/etc/nginx {root}/run {root}/var/log/nginx \
            {root}/var/lib/nginx {root}/var/www
        cp $nginx {root}/usr/sbin/nginx
        ldd $nginx | grep -o '/[^ ]*' | while read -r it; do cp -L --parents $it {root}; done
        echo root:x:0:0::/:/none >{root}/etc/passwd; echo www:x:33:33::/:/none >>{root}/etc/passwd
        echo root:x:0: >{root}/etc/group; echo www:x:33: >>{root}/etc/group
        echo 'the first page' >{root}/var/www/index.html"
    ));
    let config = format!(
        "user www www; worker_processes 1; pid /run/nginx.pid; error_log stderr notice; events {{}}\n\
         http {{ access_log /dev/stdout; server {{ listen 127.0.0.1:{port}; root /var/www; }} }}\n"
    );
    std::fs::write(format!("{root}/etc/nginx/nginx.conf"), config).unwrap();
    sh(&format!("tar -C {root} --owner 0 --group 0 -cf {root}.tar ."));
    format!("{root}.tar")
}

#[test]
fn nginx_is_imported_asked_committed_and_run_again() {
    let bed = Bed::new("nginx");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let archive = nginx(&bed, port);
    let changes = ["-c", r#"CMD ["nginx", "-g", "daemon off;"]"#, "-c", "ENV PATH=/usr/sbin", "-c", "STOPSIGNAL QUIT"];
    bed.run(&[&["import"], &changes[..], &[&archive, "web:1"]].concat()).ok();
    let ask = || {
        let output =
            Command::new("curl").args(["-sS", "-m", "5", &format!("http://127.0.0.1:{port}/")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    bed.run(&["run", "-d", "--net", "host", "--name", "web", "web:1"]).ok();
    until("it answers", || ask() == "the first page\n");
    // The worker is another user; what is asked is in the log.
    let top = bed.run(&["top", "web", "-o", "uid,cmd"]).ok().out;
    assert!(top.lines().any(|it| it.starts_with("33") && it.contains("worker")), "{top}");
    until("the log has it", || bed.run(&["logs", "web"]).ok().out.contains("GET / HTTP/1.1\" 200"));
    std::fs::write(bed.0.path("page"), "the second page\n").unwrap();
    bed.run(&["cp", &bed.0.text("page"), "web:/var/www/index.html"]).ok();
    assert_eq!(ask(), "the second page\n");
    bed.run(&["commit", "web", "web:2"]).ok();
    assert_eq!(ask(), "the second page\n", "it goes on after it was frozen for the commit");
    // SIGQUIT lets it end in peace.
    bed.run(&["stop", "web"]).ok();
    assert_eq!(bed.inspect("web", ".State.ExitCode"), "0");
    assert_eq!(ask(), "");
    bed.run(&["run", "-d", "--net", "host", "--name", "again", "web:2"]).ok();
    until("it answers", || ask() == "the second page\n");
    bed.run(&["rm", "-f", "again", "web"]).ok();
    bed.run(&["rmi", "web:2", "web:1"]).ok();
    bed.is_clean();
}
