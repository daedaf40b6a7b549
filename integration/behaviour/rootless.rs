//! Containers of a plain user: on the host with one id and no cgroup; in the guest with ranges of ids
//! from newuidmap, and with cgroups that were delegated. And containers inside containers.
//!
//! Run by root these tests drop to a user of their own for each command; in the guest the whole
//! program runs as that user ([`as_alice`] and its like).

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::cgroup::{dir_of, is_v2};
use harness::{Done, Place, RT, guest};
use serde_json::{Value, json};

/// A number that nobody has.
const STRANGER: u32 = 54_321;

/// A plain user with a directory, and `rt` in that user's hands.
struct User<'p> {
    place: &'p Place,
    dir: PathBuf,
    uid: u32,
}

/// A bundle of the user's.
struct Bundle {
    dir: PathBuf,
    config: Value,
}

impl<'p> User<'p> {
    fn new(place: &'p Place) -> User<'p> {
        let own = fs::metadata("/proc/self").unwrap().uid();
        let dir = place.dir.join("user");
        fs::create_dir(&dir).unwrap();
        let user = User { place, dir, uid: if own == 0 { STRANGER } else { own } };
        if own == 0 {
            harness::host(&format!("chown {0}:{0} {1}", user.uid, user.dir.display())).ok();
        }
        user
    }

    /// Any program as the user.
    fn program(&self, program: &str) -> Command {
        if self.uid != STRANGER {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        let id = self.uid.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", program]);
        command
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(RT);
        command.arg("--root").arg(self.dir.join("state"));
        if harness::systemd() {
            command.arg("--systemd-cgroup");
        }
        command.args(args);
        command
    }

    fn rt(&self, args: &[&str]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        harness::finish(command.spawn().unwrap())
    }

    /// What `rt spec --rootless` writes, but for the terminal and the program.
    fn bundle(&self, name: &str, script: &str) -> Bundle {
        let dir = self.dir.join(name);
        harness::busybox_root(&dir.join("rootfs"));
        if self.uid == STRANGER {
            harness::host(&format!("chown -R {0}:{0} {1}", self.uid, dir.display())).ok();
        }
        self.rt(&["spec", "--rootless", "--bundle", dir.to_str().unwrap()]).ok();
        let mut config: Value = serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        Bundle { dir, config }
    }

    fn run(&self, bundle: &Bundle) -> Done {
        bundle.write();
        self.rt(&["run", "--bundle", bundle.dir.to_str().unwrap(), &self.id()])
    }

    /// A container that was created and started.
    fn start(&self, bundle: &Bundle) -> String {
        bundle.write();
        let id = self.id();
        let mut command = self.command(&["run", "--detach", "--bundle", bundle.dir.to_str().unwrap(), &id]);
        let out = fs::File::create(self.place.dir.join("out")).unwrap();
        let err = fs::File::create(self.place.dir.join("err")).unwrap();
        let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(self.place.dir.join("err")).unwrap());
        id
    }

    fn id(&self) -> String {
        self.place.id("u")
    }

    fn pid(&self, id: &str) -> i64 {
        serde_json::from_str::<Value>(&self.rt(&["state", id]).ok().stdout).unwrap()["pid"].as_i64().unwrap()
    }

    /// Whether this user may hand out more ids than the own one.
    fn has_range(&self) -> bool {
        let name = std::env::var("USER").unwrap_or_default();
        let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
        self.uid != STRANGER && ranges.lines().any(|line| line.starts_with(&format!("{name}:")))
    }

    #[track_caller]
    fn nothing_left(&self) {
        let state = fs::read_dir(self.dir.join("state")).map_or(0, Iterator::count);
        assert_eq!((state, self.place.lasting_leftovers()), (0, Vec::new()));
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.dir.join("state")).into_iter().flatten().flatten() {
            self.rt(&["delete", "--force", entry.file_name().to_str().unwrap()]);
        }
        // Files of other ids inside are the user namespace's.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Bundle {
    fn write(&self) {
        // By another name: the user's own file is not root's to change in place in the guest's shares.
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }
}

#[test]
fn what_spec_writes_runs_as_it_is() {
    let place = Place::new();
    let user = User::new(&place);
    let bundle =
        user.bundle("b", "id -u; id -g; cat /proc/self/uid_map /proc/self/setgroups; hostname; stat -c %u /; exit 7");
    let done = user.run(&bundle);
    assert_eq!(done.code, 7, "{done:?}");
    let words: Vec<&str> = done.stdout.split_whitespace().collect();
    let uid = user.uid.to_string();
    assert_eq!(words, ["0", "0", "0", &uid, "1", "deny", "rt", "0"]);
    user.nothing_left();
}

#[test]
fn on_a_terminal_of_the_users_nothing_need_be_changed() {
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "");
    // The document as it was written.
    let dir = bundle.dir.to_str().unwrap().to_owned();
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    user.rt(&["spec", "--rootless", "--bundle", &dir]).ok();
    bundle.config = Value::Null;
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let line = format!("{RT} --root {} run --bundle {dir} {}", user.dir.join("state").display(), user.id());
    let mut command = user.program("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"tty; id -u; exit 4\n").unwrap();
    let done = harness::finish(child);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
}

#[test]
fn a_life_with_all_commands() {
    let place = Place::new();
    let user = User::new(&place);
    let bundle = user.bundle("b", "trap 'exit 3' TERM; while :; do sleep 0.05; done");
    let id = user.start(&bundle);
    assert_eq!(user.rt(&["exec", &id, "id", "-u"]).ok().stdout, "0\n");
    assert_eq!(user.rt(&["exec", &id, "sh", "-c", "exit 9"]).code, 9);
    // Only one id is there.
    let other = user.rt(&["exec", "--user", "5", &id, "id"]);
    assert_eq!(other.code, 255, "{other:?}");
    assert!(other.stderr.contains("5 is in none of the ranges"), "{other:?}");
    let listed: Value = serde_json::from_str(&user.rt(&["list", "--format", "json"]).ok().stdout).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["status"]), (&json!(id), &json!("running")));
    let pids: Vec<i64> = serde_json::from_str(&user.rt(&["ps", "--format", "json", &id]).ok().stdout).unwrap();
    assert!(pids.contains(&user.pid(&id)), "{pids:?}");
    let state = |status: &str| user.rt(&["state", &id]).stdout.contains(&format!("\"{status}\""));
    user.rt(&["kill", &id, "TERM"]).ok();
    harness::wait_until("the end", || state("stopped"));
    user.rt(&["delete", &id]).ok();
    user.nothing_left();
    // And by force.
    let id = user.start(&bundle);
    user.rt(&["delete", "--force", &id]).ok();
    user.nothing_left();
}

#[test]
fn what_takes_a_cgroup_is_an_error_only_when_asked_for() {
    if is_v2() {
        return;
    }
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "exec sleep 100");
    let id = user.start(&bundle);
    user.rt(&["pause", &id]).fails_with("no cgroup");
    user.rt(&["update", "--pids-limit", "5", &id]).fails_with("no cgroup");
    user.rt(&["delete", "--force", &id]).ok();
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 5}});
    user.run(&bundle).fails_with("permission denied");
    user.nothing_left();
    bundle.config["linux"]["resources"] = json!({});
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", user.id()));
    user.run(&bundle).fails_with("/linux/cgroupsPath");
    user.nothing_left();
}

#[test]
fn groups_cannot_be_had_with_one_id() {
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "true");
    bundle.config["process"]["user"]["additionalGids"] = json!([5]);
    user.run(&bundle).fails_with("/process/user/additionalGids");
    user.nothing_left();
}

/// Maps the own id to root, and a range behind it.
fn with_range(bundle: &mut Bundle, uid: u32) {
    let map =
        json!([{"containerID": 0, "hostID": uid, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65_536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
}

#[test]
fn more_ids_come_from_newuidmap_or_not_at_all() {
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "id -u; id -G; cat /proc/self/setgroups; touch /tmp/file; stat -c %u /tmp/file");
    with_range(&mut bundle, user.uid);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
    if !user.has_range() {
        user.run(&bundle).fails_with("/linux/uidMappings");
        return user.nothing_left();
    }
    fs::set_permissions(bundle.dir.join("rootfs/tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let words = user.run(&bundle).ok().stdout;
    assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["1000", "1000", "7", "allow", "1000"]);
    assert_eq!(fs::metadata(bundle.dir.join("rootfs/tmp/file")).unwrap().uid(), 100_999);
    // Somebody else's range.
    for map in ["uidMappings", "gidMappings"] {
        let good = bundle.config["linux"][map].clone();
        bundle.config["linux"][map][1]["hostID"] = json!(500_000);
        user.run(&bundle).fails_with(&format!("/linux/{map}"));
        bundle.config["linux"][map] = good;
    }
    let id = {
        bundle.config["process"]["args"] = json!(["sleep", "100"]);
        user.start(&bundle)
    };
    assert_eq!(user.rt(&["exec", "-u", "user", &id, "sh", "-c", "id -u; id -G"]).ok().stdout, "1000\n1000\n");
}

#[test]
fn limits_in_a_delegated_cgroup() {
    // bob has no ids to give, but a cgroup all the same.
    if !is_v2() {
        return;
    }
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "exec sleep 100");
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 9}, "cpu": {"quota": 50_000, "period": 100_000}});
    let id = user.start(&bundle);
    let dir = dir_of(user.pid(&id), "pids");
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
    assert_eq!([read("memory.max"), read("pids.max"), read("cpu.max")], ["33554432", "9", "50000 100000"]);
    assert_eq!(fs::metadata(&dir).unwrap().uid(), user.uid);
    user.rt(&["update", "--pids-limit", "7", "--memory", "32M", &id]).ok();
    assert_eq!(read("pids.max"), "7");
    let hog = user.rt(&["exec", &id, "sh", "-c", "x=aaaaaaaa; while true; do x=$x$x; done"]);
    assert_eq!(hog.code, 137, "{hog:?}");
    user.rt(&["pause", &id]).ok();
    assert_eq!(read("cgroup.freeze"), "1");
    user.rt(&["resume", &id]).ok();
    let inside = user.rt(&["exec", &id, "cat", "/proc/self/cgroup"]).ok().stdout;
    assert_eq!(inside, "0::/\n");
    // Last, since this init does not reap what they leave.
    let forks = user.rt(&["exec", &id, "sh", "-c", "for n in 1 2 3 4 5 6 7 8; do sleep 9 & done; echo all"]);
    assert!(forks.code != 0 && forks.stderr.contains("fork"), "{forks:?}");
    let full = user.rt(&["exec", &id, "true"]);
    assert!(full.code == 255 && full.stderr.contains("pids/limit"), "{full:?}");
    user.rt(&["delete", "--force", &id]).ok();
    assert!(!dir.exists());
    user.nothing_left();
}

#[test]
fn paths_of_a_delegated_cgroup() {
    if !is_v2() || harness::systemd() {
        return;
    }
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "exec sleep 100");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let beside = own.trim().strip_prefix("0::").unwrap().rsplit_once('/').unwrap().0.to_owned();
    for (path, wanted) in [
        (String::new(), format!("{beside}/{}", user.id())),
        (format!("{}-x", user.id()), format!("{beside}/{}-x", user.id())),
        (format!("{beside}/{}-y", user.id()), format!("{beside}/{}-y", user.id())),
    ] {
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        let id = user.start(&bundle);
        assert_eq!(dir_of(user.pid(&id), "pids"), Path::new("/sys/fs/cgroup").join(wanted.trim_start_matches('/')));
        user.rt(&["delete", "--force", &id]).ok();
    }
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{}", user.id()));
    user.run(&bundle).fails_with("/linux/cgroupsPath: making cgroup /sys/fs/cgroup/");
    user.nothing_left();
}

#[test]
fn a_user_namespace_that_exists_can_be_joined() {
    let place = Place::new();
    let user = User::new(&place);
    let id = user.start(&user.bundle("a", "exec sleep 100"));
    let pid = user.pid(&id);
    let mut second = user.bundle("b", "readlink /proc/self/ns/user; readlink /proc/self/ns/ipc; id -u");
    let list = second.config["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in list.iter_mut() {
        let kind = namespace["type"].as_str().unwrap().to_owned();
        if ["user", "ipc"].contains(&&*kind) {
            namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
        }
    }
    for map in ["uidMappings", "gidMappings"] {
        second.config["linux"].as_object_mut().unwrap().remove(map);
    }
    second.write();
    let done = user.rt(&["run", "--bundle", second.dir.to_str().unwrap(), &place.id("second")]).ok();
    let link = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
    assert_eq!(done.stdout, format!("{}\n{}\n0\n", link("user"), link("ipc")));
}

#[test]
fn where_to_keep_state_has_to_be_known() {
    let place = Place::new();
    let user = User::new(&place);
    let mut command = user.program(RT);
    command.args(["state", "x"]).env_remove("XDG_RUNTIME_DIR").stdout(Stdio::piped()).stderr(Stdio::piped());
    harness::finish(command.spawn().unwrap()).fails_with("set XDG_RUNTIME_DIR, or give --root");
    let mut command = user.program(RT);
    command.args(["list", "-q"]).env("XDG_RUNTIME_DIR", &user.dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_eq!(harness::finish(command.spawn().unwrap()).ok().stdout, "");
}

/// Puts `rt` and a bundle into a root file system.
fn nest(rootfs: &Path, inner: &Value) {
    fs::copy(RT, rootfs.join("bin/rt")).unwrap();
    let bundle = rootfs.join("inner");
    harness::busybox_root(&bundle.join("rootfs"));
    fs::write(bundle.join("config.json"), inner.to_string()).unwrap();
}

#[test]
fn a_container_in_a_container_of_a_plain_user() {
    let place = Place::new();
    let user = User::new(&place);
    let mut outer = user.bundle("b", "rt --root /tmp/state run --bundle /inner in; echo status $?");
    let mut inner = outer.config.clone();
    inner["process"]["args"] = json!(["sh", "-c", "echo inner; id -u; exit 5"]);
    // Inside, root is the only id there is.
    for map in ["uidMappings", "gidMappings"] {
        inner["linux"][map] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    }
    outer.config["root"]["readonly"] = json!(false);
    // The kernel lets procfs be mounted only where nothing of it is hidden.
    for paths in ["maskedPaths", "readonlyPaths"] {
        outer.config["linux"][paths] = json!([]);
    }
    let caps = json!([
        "CAP_SYS_ADMIN",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_FOWNER"
    ]);
    outer.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    outer.config["process"]["noNewPrivileges"] = json!(false);
    nest(&outer.dir.join("rootfs"), &inner);
    if user.uid == STRANGER {
        harness::host(&format!("chown -R {0}:{0} {1}", user.uid, outer.dir.display())).ok();
    }
    let done = user.run(&outer).ok();
    assert_eq!(done.stdout, "inner\n0\nstatus 5\n", "{}", done.stderr);
}

#[test]
fn a_container_in_a_container_of_root() {
    if guest::is_inside() {
        return;
    }
    let place = Place::new();
    let mut outer = place.bundle("rt --root /tmp/state run --bundle /inner in; echo status $?; ls /tmp/state");
    let mut inner = outer.config.clone();
    inner["process"]["args"] = json!(["sh", "-c", "echo inner; cat /proc/1/comm; exit 5"]);
    inner["linux"]["resources"] = json!({"pids": {"limit": 9}});
    outer.set("/root/readonly", json!(false));
    for paths in ["/linux/maskedPaths", "/linux/readonlyPaths"] {
        outer.set(paths, json!([]));
    }
    let all: Vec<String> = capabilities();
    outer.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    outer.set("/process/noNewPrivileges", json!(false));
    for entry in outer.config["mounts"].as_array_mut().unwrap() {
        if entry["type"] == "cgroup" || entry["type"] == "sysfs" {
            entry["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    nest(&outer.rootfs("/"), &inner);
    let done = outer.run("c").ok();
    assert_eq!(done.stdout, "inner\nsh\nstatus 5\n", "{}", done.stderr);
}

/// Those that this process may hand on.
fn capabilities() -> Vec<String> {
    let names = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_ADMIN",
        "SYS_CHROOT",
        "SYS_ADMIN",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    ];
    names.iter().map(|name| format!("CAP_{name}")).collect()
}

#[test]
fn as_alice() {
    guest::run_again(&["--user", "alice"], &["RT_TEST_IN=v2"]);
}

#[test]
fn as_alice_beside_systemd() {
    guest::run_again(&["--systemd", "--user", "alice"], &["RT_TEST_IN=v2"]);
}

#[test]
fn as_alice_by_her_systemd() {
    guest::run_again(&["--systemd", "--user", "alice"], &["RT_TEST_IN=systemd"]);
}

#[test]
fn as_bob() {
    guest::run_again(&["--user", "bob"], &["RT_TEST_IN=v2"]);
}
