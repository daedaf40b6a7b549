//! Containers of a plain user: on the host with one id and no cgroup; in the guest with ranges of ids
//! from newuidmap, and with cgroups that were delegated. And containers inside containers.
//!
//! Run by root these tests drop to a user of their own for each command; in the guest the whole
//! program runs as that user ([`as_alice`] and its like), and once more by root ([`by_root_on_v2`]),
//! where a user has no cgroup to make any in.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use harness::cgroup::{dir_of, is_v2};
use harness::{Done, Place, RT, guest};
use serde_json::{Value, json};

/// A plain user with a directory, and `rt` in that user's hands.
struct User<'p> {
    place: &'p Place,
    dir: PathBuf,
    uid: u32,
    /// Somebody else than runs the tests.
    dropped: bool,
}

/// A bundle of the user's.
struct Bundle {
    dir: PathBuf,
    config: Value,
}

impl<'p> User<'p> {
    fn new(place: &'p Place) -> User<'p> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = fs::metadata("/proc/self").unwrap().uid();
        // A number that nobody has, nor another test.
        let stranger = 100_000_000 + std::process::id() * 100 + COUNT.fetch_add(1, Ordering::Relaxed) % 100;
        let dir = place.dir.join("user");
        fs::create_dir(&dir).unwrap();
        let user = User { place, dir, uid: if own == 0 { stranger } else { own }, dropped: own == 0 };
        user.own(&user.dir);
        user
    }

    /// Makes the user the owner of what is below a directory.
    fn own(&self, dir: &Path) {
        if self.dropped {
            harness::host(&format!("chown -R {0}:{0} {1}", self.uid, dir.display())).ok();
        }
    }

    /// Any program as the user.
    fn program(&self, program: &str) -> Command {
        if !self.dropped {
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
        done(self.command(args))
    }

    /// What `rt spec --rootless` writes, but for the terminal and the program.
    fn bundle(&self, name: &str, script: &str) -> Bundle {
        let dir = self.dir.join(name);
        harness::busybox_root(&dir.join("rootfs"));
        self.own(&dir);
        self.rt(&["spec", "--rootless", "--bundle", text(&dir)]).ok();
        let mut config: Value = serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
        config["process"]["terminal"] = json!(false);
        let mut bundle = Bundle { dir, config };
        bundle.script(script);
        bundle
    }

    fn run(&self, bundle: &Bundle) -> Done {
        bundle.write();
        self.rt(&["run", "--bundle", text(&bundle.dir), &self.id("r")])
    }

    /// `create`, or `run --detach`. What the container writes goes to files: a pipe would stay open.
    fn begin(&self, words: &[&str], bundle: &Bundle, name: &str) -> String {
        bundle.write();
        let id = self.id(name);
        let mut command = self.command(words);
        let file = |name: &str| bundle.dir.join(name);
        command.args(["--bundle", text(&bundle.dir), &id]).stdin(Stdio::null());
        command.stdout(fs::File::create(file("out")).unwrap()).stderr(fs::File::create(file("err")).unwrap());
        let done = harness::finish(command.spawn().unwrap());
        assert_eq!(done.code, 0, "{}", fs::read_to_string(file("err")).unwrap());
        id
    }

    /// A container that runs.
    fn start(&self, bundle: &Bundle) -> String {
        self.begin(&["run", "--detach"], bundle, "u")
    }

    fn id(&self, name: &str) -> String {
        self.place.id(name)
    }

    fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.rt(&["state", id]).ok().stdout).unwrap()
    }

    fn pid(&self, id: &str) -> i64 {
        self.state(id)["pid"].as_i64().unwrap()
    }

    #[track_caller]
    fn delete(&self, id: &str) {
        self.rt(&["delete", "--force", id]).ok();
    }

    /// Whether this user may hand out more ids than the own one.
    fn has_range(&self) -> bool {
        let name = std::env::var("USER").unwrap_or_default();
        let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
        !self.dropped && ranges.lines().any(|line| line.starts_with(&format!("{name}:")))
    }

    /// The cgroup beside the user's own, as /proc/self/cgroup has it, if the user may make some in there.
    fn delegated(&self) -> Option<String> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let above = own.lines().find_map(|line| line.strip_prefix("0::"))?.rsplit_once('/')?.0.to_owned();
        let dir = Path::new("/sys/fs/cgroup").join(above.trim_start_matches('/'));
        (is_v2() && fs::metadata(dir).unwrap().uid() == self.uid).then_some(above)
    }

    /// Processes of this user, zombies not counted.
    fn processes(&self) -> Vec<String> {
        let is_ours = |status: &str| {
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            field("Uid:").split('\t').next() == Some(&self.uid.to_string()) && !field("State:").starts_with('Z')
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let all = entries.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
        all.filter(|status| is_ours(status)).collect()
    }

    /// No state, cgroup, mount, and process.
    #[track_caller]
    fn nothing_left(&self) {
        let state = fs::read_dir(self.dir.join("state")).map_or(0, Iterator::count);
        assert_eq!((state, self.place.lasting_leftovers()), (0, Vec::new()));
        if self.dropped {
            harness::wait_until("the user's last process is gone", || self.processes().is_empty());
        }
    }
}

impl Drop for User<'_> {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.dir.join("state")).into_iter().flatten().flatten() {
            self.rt(&["delete", "--force", entry.file_name().to_str().unwrap()]);
        }
        // What other ids own lies in directories of the user's.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Bundle {
    fn write(&self) {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
    }

    fn script(&mut self, script: &str) {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
    }

    fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The same bundle with another document.
    fn with(&self, change: impl FnOnce(&mut Value)) -> Bundle {
        let mut config = self.config.clone();
        change(&mut config);
        Bundle { dir: self.dir.clone(), config }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn done(mut command: Command) -> Done {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    harness::finish(command.spawn().unwrap())
}

/// Takes a namespace out of a document.
fn without(config: &mut Value, kind: &str) {
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
}

/// Puts one in, to be joined where there is a path.
fn namespace(config: &mut Value, kind: &str, path: Option<String>) {
    without(config, kind);
    config["linux"]["namespaces"].as_array_mut().unwrap().push(match path {
        Some(path) => json!({"type": kind, "path": path}),
        None => json!({"type": kind}),
    });
}

fn mount(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

fn map(config: &mut Value, ranges: &Value) {
    for kind in ["uidMappings", "gidMappings"] {
        config["linux"][kind] = ranges.clone();
    }
}

/// `container` is the host's `own` id, alone.
fn one_id(config: &mut Value, container: u32, own: u32) {
    map(config, &json!([{"containerID": container, "hostID": own, "size": 1}]));
}

/// Maps the own id to root, and a range behind it.
fn with_range(config: &mut Value, uid: u32) {
    map(
        config,
        &json!([{"containerID": 0, "hostID": uid, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 65_536}]),
    );
}

/// The cgroup's file system, at its usual place, for writing.
fn mount_cgroup(config: &mut Value) {
    mount(config, json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}));
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
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let place = Place::new();
    let user = User::new(&place);
    // The document as it was written.
    let dir = user.bundle("b", "").dir;
    fs::remove_file(dir.join("config.json")).unwrap();
    user.rt(&["spec", "--rootless", "--bundle", text(&dir)]).ok();
    let line = format!("{RT} --root {}/state run --bundle {} {}", user.dir.display(), dir.display(), user.id("r"));
    let mut command = user.program("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"tty; id -u; exit 4\n").unwrap();
    let done = harness::finish(child);
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
    user.nothing_left();
}

#[test]
fn a_life_with_all_commands() {
    let place = Place::new();
    let user = User::new(&place);
    let bundle = user.bundle("b", "trap 'exit 3' TERM; echo $$ here; while :; do sleep 0.05; done");
    let id = user.begin(&["create"], &bundle, "u");
    let state = user.state(&id);
    let owner = state["owner"].as_str().unwrap().to_owned();
    assert_eq!(state["status"], "created");
    if user.dropped {
        assert_eq!(owner, user.uid.to_string());
    } else {
        assert_eq!(Ok(&owner), std::env::var("USER").as_ref());
    }
    assert_eq!(fs::read_to_string(bundle.dir.join("out")).unwrap(), "");
    user.rt(&["start", &id]).ok();
    harness::wait_until("the program", || fs::read_to_string(bundle.dir.join("out")).unwrap() == "1 here\n");

    assert_eq!(user.rt(&["exec", &id, "id", "-u"]).ok().stdout, "0\n");
    assert_eq!(user.rt(&["exec", "--user", "0:0", &id, "cat", "/proc/1/comm"]).ok().stdout, "sh\n");
    assert_eq!(user.rt(&["exec", &id, "sh", "-c", "exit 9"]).code, 9);
    // Only one id is there.
    for (option, words) in [
        (["--user", "5"], "/process/user/uid: 5 is in none of the ranges"),
        (["--user", "0:5"], "/process/user/gid: 5 is in none of the ranges"),
        (["--additional-gids", "5"], "/process/user/additionalGids: this user namespace does not let groups be set"),
    ] {
        let refused = user.rt(&["exec", option[0], option[1], &id, "id"]);
        assert!(refused.code == 255 && refused.stderr.contains(words), "{refused:?}");
    }
    let listed: Value = serde_json::from_str(&user.rt(&["list", "--format", "json"]).ok().stdout).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["status"]), (&json!(id), &json!("running")));
    let table = user.rt(&["list"]).ok().stdout;
    assert!(table.lines().nth(1).unwrap().ends_with(&format!(" {owner}")), "{table}");
    let pids: Vec<i64> = serde_json::from_str(&user.rt(&["ps", "--format", "json", &id]).ok().stdout).unwrap();
    assert!(pids.contains(&user.pid(&id)), "{pids:?}");
    user.rt(&["create", "--bundle", text(&bundle.dir), &id]).fails_with("exists already");
    user.rt(&["delete", &id]).fails_with("that is not stopped: running");
    assert_eq!(user.rt(&["events", "--stats", &id]).ok().stdout.lines().count(), 1);

    user.rt(&["kill", &id, "TERM"]).ok();
    harness::wait_until("the end", || user.state(&id)["status"] == "stopped");
    assert_eq!(user.rt(&["exec", &id, "true"]).code, 255);
    user.rt(&["delete", &id]).ok();
    user.nothing_left();
    // And by force.
    let id = user.start(&bundle);
    user.delete(&id);
    user.nothing_left();
}

#[test]
fn two_containers_know_nothing_of_each_other() {
    let place = Place::new();
    let user = User::new(&place);
    let bundle = user.bundle("b", "exec sleep 100");
    let ids = ["a", "b"].map(|name| user.begin(&["run", "--detach"], &bundle, name));
    let links = ids.clone().map(|id| {
        let pid = user.pid(&id);
        ["user", "pid", "mnt"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
    });
    assert!(links[0].iter().all(|link| !links[1].contains(link)), "{links:?}");
    assert_eq!(user.rt(&["exec", &ids[0], "sh", "-c", "kill -9 -1; ps | grep -c [s]leep"]).ok().stdout, "1\n");
    user.delete(&ids[0]);
    assert_eq!(user.rt(&["list", "--quiet"]).ok().stdout, format!("{}\n", ids[1]));
    assert_eq!(user.rt(&["exec", &ids[1], "echo", "alive"]).ok().stdout, "alive\n");
    user.delete(&ids[1]);
    user.nothing_left();
}

#[test]
fn a_network_namespace_can_be_had() {
    let place = Place::new();
    let user = User::new(&place);
    let script = "ip -o link | grep -c ether; ip -o link show lo | grep -o ,UP,; \
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net/lo/mtu";
    let mut bundle = user.bundle("b", script);
    namespace(&mut bundle.config, "network", None);
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "80"});
    // With it comes the right to a sysfs.
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys");
    mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
    assert_eq!(user.run(&bundle).ok().stdout, "0\n,UP,\n80\n/sys/class/net/lo/mtu\n");
    user.nothing_left();
}

#[test]
fn what_takes_a_cgroup_is_an_error_only_when_asked_for() {
    let place = Place::new();
    let user = User::new(&place);
    if user.delegated().is_some() {
        return;
    }
    let bundle = user.bundle("b", "exec sleep 100");
    let limited = |resources: Value| bundle.with(|config| config["linux"]["resources"] = resources);
    // Devices that may not be used are such as a plain user may not use anyhow.
    for resources in [json!({}), json!({"devices": [{"allow": false, "access": "rwm"}]})] {
        let id = user.start(&limited(resources));
        user.rt(&["pause", &id]).fails_with("no cgroup");
        user.rt(&["update", "--pids-limit", "5", &id]).fails_with("no cgroup");
        user.delete(&id);
        user.nothing_left();
    }
    for (resources, words) in [
        (json!({"pids": {"limit": 5}}), "/linux/resources/pids/limit: making cgroup /sys/fs/cgroup/"),
        (json!({"memory": {"limit": 50_000_000}}), "/linux/resources/memory/limit: making cgroup /sys/fs/cgroup/"),
        (json!({"cpu": {"shares": 100}}), "/linux/resources/cpu/shares: making cgroup /sys/fs/cgroup/"),
        (json!({"unified": {"pids.max": "5"}}), "/linux/resources/unified/pids.max: "),
    ] {
        user.run(&limited(resources)).fails_with(words);
        user.nothing_left();
    }
    for path in [format!("/{}", user.id("x")), user.id("x")] {
        let named = bundle.with(|config| config["linux"]["cgroupsPath"] = json!(path));
        user.run(&named).fails_with("/linux/cgroupsPath: making cgroup /sys/fs/cgroup/");
        user.nothing_left();
    }
    // A file system to make cgroups in is the container's, whether it is put into one or not.
    let mut with_mount = bundle.with(mount_cgroup);
    with_mount.script("test -d /sys/fs/cgroup");
    user.run(&with_mount).ok();
    user.nothing_left();
}

#[test]
fn the_own_id_can_be_any_number_inside() {
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "id -u; id -g; stat -c %u /; cat /proc/self/oom_score_adj; ulimit -n");
    one_id(&mut bundle.config, 1000, user.uid);
    bundle.config["process"]["oomScoreAdj"] = json!(500);
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 1000}]);
    // There is no root then.
    user.run(&bundle).fails_with("/process/user/gid: 0 is in none of the ranges");
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    assert_eq!(user.run(&bundle).ok().stdout, "1000\n1000\n1000\n500\n500\n");
    user.nothing_left();
}

type Change = fn(&mut Value);

#[test]
fn what_only_root_may_says_so() {
    let place = Place::new();
    let user = User::new(&place);
    let bundle = user.bundle("b", "true");
    let cases: [(Change, &str); 12] = [
        (
            |config| {
                without(config, "user");
                for kind in ["uidMappings", "gidMappings"] {
                    config["linux"].as_object_mut().unwrap().remove(kind);
                }
            },
            "/linux/namespaces: cloning the first process: operation not permitted; a plain user needs a user namespace",
        ),
        (
            |config| without(config, "pid"),
            "/mounts/0: mounting /proc: operation not permitted; it takes a new pid namespace",
        ),
        (|config| without(config, "mount"), "it takes rights over the mount namespace"),
        (|config| one_id(config, 0, 0), "/linux/uidMappings: "),
        (|config| config["linux"]["gidMappings"][0]["hostID"] = json!(0), "/linux/gidMappings: "),
        (
            |config| mount(config, json!({"destination": "/tmp", "type": "sysfs", "source": "sysfs"})),
            "/mounts/6: mounting /tmp: sysfs: operation not permitted; it takes a new network namespace",
        ),
        (
            |config| {
                let ids = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
                let bind = json!({"destination": "/tmp", "source": "/usr", "options": ["bind", "idmap"],
                    "uidMappings": ids, "gidMappings": ids});
                mount(config, bind);
            },
            "/mounts/6: mounting /tmp: idmap: it takes CAP_SYS_ADMIN",
        ),
        (
            |config| {
                config["linux"]["devices"] = json!([{"path": "/dev/rt-test", "type": "c", "major": 1, "minor": 3}]);
            },
            "making device /dev/rt-test: opening the host's /dev/rt-test",
        ),
        (|config| config["process"]["oomScoreAdj"] = json!(-500), "/process/oomScoreAdj: setting it to -500: "),
        (
            |config| config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9_999_999}]),
            "/process/rlimits: setting RLIMIT_NOFILE",
        ),
        (
            |config| config["process"]["scheduler"] = json!({"policy": "SCHED_FIFO", "priority": 5}),
            "/process/scheduler: ",
        ),
        (|config| config["process"]["user"]["additionalGids"] = json!([5]), "/process/user/additionalGids: "),
    ];
    for (change, words) in cases {
        user.run(&bundle.with(change)).fails_with(words);
    }
    if Path::new("/proc/self/ns/time").exists() {
        let timed = bundle.with(|config| namespace(config, "time", None));
        user.run(&timed).fails_with("/linux/namespaces: making a time namespace: operation not permitted; it takes");
    }
    user.nothing_left();
}

#[test]
fn more_ids_come_from_newuidmap_or_not_at_all() {
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "id -u; id -G; cat /proc/self/setgroups; touch /tmp/file; stat -c %u /tmp/file");
    with_range(&mut bundle.config, user.uid);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
    if !user.has_range() {
        user.run(&bundle).fails_with("/linux/uidMappings");
        one_id(&mut bundle.config, 0, user.uid);
        bundle.config["linux"]["gidMappings"][0]["size"] = json!(2);
        user.run(&bundle).fails_with("/linux/gidMappings");
        return user.nothing_left();
    }
    fs::set_permissions(bundle.rootfs().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let words = user.run(&bundle).ok().stdout;
    assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["1000", "1000", "7", "allow", "1000"]);
    assert_eq!(fs::metadata(bundle.rootfs().join("tmp/file")).unwrap().uid(), 100_999);
    // Somebody else's range.
    for kind in ["uidMappings", "gidMappings"] {
        let other = bundle.with(|config| config["linux"][kind][1]["hostID"] = json!(500_000));
        user.run(&other).fails_with(&format!("/linux/{kind}: new{}map refused: ", &kind[..3]));
    }
    // All from the range, the own id not among them.
    let mut all = bundle.with(|config| map(config, &json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}])));
    all.script("id -u; stat -c %u /; grep -c . /proc/self/uid_map");
    assert_eq!(user.run(&all).ok().stdout, "1000\n65534\n1\n");
    // One kind alone, and then groups can be set or not.
    for (kind, setgroups) in [("uidMappings", "allow"), ("gidMappings", "deny")] {
        let mut part = bundle.with(|config| {
            config["linux"][kind].as_array_mut().unwrap().truncate(1);
            config["process"]["user"] = json!({"uid": 0, "gid": 0});
        });
        part.script("cat /proc/self/setgroups");
        assert_eq!(user.run(&part).ok().stdout, format!("{setgroups}\n"));
    }
    user.nothing_left();
}

/// What a process may set for itself, but the runtime not for the process of another id.
#[test]
fn attributes_of_a_process_of_another_id() {
    let place = Place::new();
    let user = User::new(&place);
    if !user.has_range() {
        return;
    }
    let mut bundle = user.bundle("b", "exec sleep 100");
    with_range(&mut bundle.config, user.uid);
    let script = "id -u; cat /proc/self/oom_score_adj; cut -d ' ' -f 19,41 /proc/self/stat; ionice; ulimit -n";
    let mut process = bundle.config["process"].clone();
    process["user"] = json!({"uid": 1000, "gid": 1000});
    process["oomScoreAdj"] = json!(300);
    process["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 1000}]);
    process["args"] = json!(["sh", "-c", script]);
    let wanted = "1000\n300\n5 3\nbest-effort: prio 6\n500\n";
    assert_eq!(user.run(&bundle.with(|config| config["process"] = process.clone())).ok().stdout, wanted);
    let id = user.start(&bundle);
    let path = user.dir.join("process.json");
    fs::write(&path, process.to_string()).unwrap();
    assert_eq!(user.rt(&["exec", "--process", text(&path), &id]).ok().stdout, wanted);
    assert_eq!(user.rt(&["exec", "-u", "user", &id, "sh", "-c", "id -u; id -G"]).ok().stdout, "1000\n1000\n");
    let own = user.rt(&["exec", "-u", "5:6", "--additional-gids", "7", &id, "sh", "-c", "id -u; id -G"]).ok().stdout;
    assert_eq!(own, "5\n6 7\n");
    // A process that is not the user's own by its number, and still the user's.
    // Not with our pipes, which we would wait for.
    let quiet = "exec sleep 100 >/dev/null 2>&1";
    user.rt(&["exec", "--detach", "-u", "1000", &id, "sh", "-c", quiet]).ok();
    let pids: Vec<i64> = serde_json::from_str(&user.rt(&["ps", "--format", "json", &id]).ok().stdout).unwrap();
    assert_eq!(pids.len(), 2, "{pids:?}");
    user.delete(&id);
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists()));
    user.nothing_left();
}

#[test]
fn limits_in_a_delegated_cgroup() {
    // bob has no ids to give, but a cgroup all the same.
    let place = Place::new();
    let user = User::new(&place);
    if user.delegated().is_none() {
        return;
    }
    let mut bundle = user.bundle("b", "exec sleep 100");
    bundle.config["linux"]["resources"] =
        json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 9}, "cpu": {"quota": 50_000, "period": 100_000}});
    let id = user.start(&bundle);
    let dir = dir_of(user.pid(&id), "pids");
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
    assert_eq!([read("memory.max"), read("pids.max"), read("cpu.max")], ["33554432", "9", "50000 100000"]);
    assert_eq!(fs::metadata(&dir).unwrap().uid(), user.uid);
    user.rt(&["update", "--pids-limit", "7", "--memory", "32M", "--cpu-quota", "80000", &id]).ok();
    assert_eq!([read("pids.max"), read("cpu.max")], ["7", "80000 100000"]);
    user.rt(&["update", "--cpuset-cpus", "0", &id]).fails_with("/cpu/cpus");
    let hog = user.rt(&["exec", &id, "sh", "-c", "x=aaaaaaaa; while true; do x=$x$x; done"]);
    assert_eq!(hog.code, 137, "{hog:?}");
    user.rt(&["pause", &id]).ok();
    assert_eq!((read("cgroup.freeze"), &user.state(&id)["status"]), ("1".to_owned(), &json!("paused")));
    user.rt(&["resume", &id]).ok();
    assert_eq!((read("cgroup.freeze"), &user.state(&id)["status"]), ("0".to_owned(), &json!("running")));
    let inside = user.rt(&["exec", &id, "cat", "/proc/self/cgroup"]).ok().stdout;
    assert_eq!(inside, "0::/\n");
    // Last, since this init does not reap what they leave.
    let forks = user.rt(&["exec", &id, "sh", "-c", "for n in 1 2 3 4 5 6 7 8; do sleep 9 & done; echo all"]);
    assert!(forks.code != 0 && forks.stderr.contains("fork"), "{forks:?}");
    let full = user.rt(&["exec", &id, "true"]);
    assert!(full.code == 255 && full.stderr.contains("pids/limit"), "{full:?}");
    user.delete(&id);
    assert!(!dir.exists());
    user.nothing_left();
    // The container's own process.
    bundle.script("x=aaaaaaaa; while true; do x=$x$x; done");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 16_777_216}});
    assert_eq!(user.run(&bundle).code, 137);
    user.nothing_left();
}

#[test]
fn cgroups_inside_a_delegated_cgroup() {
    let place = Place::new();
    let user = User::new(&place);
    if user.delegated().is_none() {
        return;
    }
    let script = "cd /sys/fs/cgroup && mkdir x && echo 0 >x/cgroup.procs && cat /proc/self/cgroup";
    let mut bundle = user.bundle("b", script);
    mount_cgroup(&mut bundle.config);
    assert_eq!(user.run(&bundle).ok().stdout, "0::/x\n");
    user.nothing_left();
    if user.has_range() {
        // Whose it is remains the user's: no reason not to run.
        with_range(&mut bundle.config, user.uid);
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        bundle.script("mkdir /sys/fs/cgroup/x 2>/dev/null || echo no");
        assert_eq!(user.run(&bundle).ok().stdout, "no\n");
        user.nothing_left();
    }
}

#[test]
fn paths_of_a_delegated_cgroup() {
    let place = Place::new();
    let user = User::new(&place);
    let Some(beside) = user.delegated().filter(|_| !harness::systemd()) else { return };
    let bundle = user.bundle("b", "exec sleep 100");
    let at = |path: &str| bundle.with(|config| config["linux"]["cgroupsPath"] = json!(path));
    let id = user.id("u");
    for (path, wanted) in [
        (String::new(), format!("{beside}/{id}")),
        (format!("{id}-x"), format!("{beside}/{id}-x")),
        (format!("../../{id}-x"), format!("{beside}/{id}-x")),
        (format!("{beside}/{id}-y"), format!("{beside}/{id}-y")),
    ] {
        user.start(&at(&path));
        assert_eq!(dir_of(user.pid(&id), "pids"), Path::new("/sys/fs/cgroup").join(wanted.trim_start_matches('/')));
        user.delete(&id);
    }
    user.run(&at(&format!("/{id}"))).fails_with(&format!("/linux/cgroupsPath: making cgroup /sys/fs/cgroup/{id}: "));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    user.run(&at(own.trim().strip_prefix("0::").unwrap())).fails_with("is in use");
    user.nothing_left();
}

#[test]
fn the_users_systemd_makes_a_scope() {
    if !harness::systemd() {
        return;
    }
    let place = Place::new();
    let user = User::new(&place);
    let mut bundle = user.bundle("b", "exec sleep 100");
    bundle.config["linux"]["cgroupsPath"] = json!(format!("user.slice:rttest:{}", user.id("u")));
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 33_554_432}, "pids": {"limit": 9}});
    let unit = format!("rttest-{}.scope", user.id("u"));
    let get = |property: &str| {
        let line = format!("systemctl --user show --value --property {property} {unit}");
        harness::host(&line).ok().stdout.trim().to_owned()
    };
    let id = user.start(&bundle);
    let found = ["ActiveState", "Slice", "MemoryMax", "TasksMax"].map(get);
    assert_eq!(found, ["active", "user.slice", "33554432", "9"]);
    user.rt(&["update", "--pids-limit", "7", &id]).ok();
    assert_eq!(get("TasksMax"), "7");
    user.delete(&id);
    assert_eq!(get("ActiveState"), "inactive");
    bundle.config["linux"]["cgroupsPath"] = json!("/x");
    user.run(&bundle).fails_with("/linux/cgroupsPath: must be slice:prefix:name");
    let mut alone = user.command(&["run", "--bundle", text(&bundle.dir), &id]);
    bundle.with(|config| config["linux"]["cgroupsPath"] = json!("")).write();
    alone.env_remove("DBUS_SESSION_BUS_ADDRESS").env_remove("XDG_RUNTIME_DIR");
    done(alone).fails_with("no connection to this user's systemd");
    user.nothing_left();
}

#[test]
fn a_user_namespace_that_exists_can_be_joined() {
    let place = Place::new();
    let user = User::new(&place);
    let mut first = user.bundle("a", "exec sleep 100");
    namespace(&mut first.config, "network", None);
    if user.has_range() {
        with_range(&mut first.config, user.uid);
    }
    let id = user.start(&first);
    let pid = user.pid(&id);
    let files =
        [("user", "user"), ("ipc", "ipc"), ("uts", "uts"), ("network", "net"), ("pid", "pid"), ("cgroup", "cgroup")];
    let link = |file: &str| fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string();
    let second = user.bundle("b", "for n in user ipc uts net pid cgroup; do readlink /proc/self/ns/$n; done; id -u");
    for joined in [&["user"][..], &["user", "ipc", "network"], &["user", "ipc", "uts", "network", "pid", "cgroup"]] {
        let bundle = second.with(|config| {
            for (kind, file) in files.iter().filter(|(kind, _)| joined.contains(kind)) {
                namespace(config, kind, Some(format!("/proc/{pid}/ns/{file}")));
            }
            for name in ["uidMappings", "gidMappings"] {
                config["linux"].as_object_mut().unwrap().remove(name);
            }
            if joined.contains(&"uts") {
                config.as_object_mut().unwrap().remove("hostname");
            }
            if user.has_range() {
                config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            }
        });
        let out = user.run(&bundle).ok().stdout;
        let lines: Vec<&str> = out.lines().collect();
        for ((kind, file), line) in files.iter().zip(&lines) {
            assert_eq!(*line == link(file), joined.contains(kind), "{kind} of {joined:?}: {out}");
        }
        assert_eq!(lines[6], if user.has_range() { "1000" } else { "0" });
    }
    // What belongs to it cannot be joined without it.
    for kind in ["network", "ipc", "pid"] {
        let file = files.iter().find(|(known, _)| *known == kind).unwrap().1;
        let alone = second.with(|config| namespace(config, kind, Some(format!("/proc/{pid}/ns/{file}"))));
        user.run(&alone).fails_with(&format!("/linux/namespaces: joining the {kind} namespace: "));
    }
    let other = second.with(|config| namespace(config, "ipc", Some(format!("/proc/{pid}/ns/uts"))));
    user.run(&other).fails_with("is a namespace of another type");
    user.delete(&id);
    user.nothing_left();
}

#[test]
fn where_to_keep_state_has_to_be_known() {
    let place = Place::new();
    let user = User::new(&place);
    let mut command = user.program(RT);
    command.args(["state", "x"]).env_remove("XDG_RUNTIME_DIR");
    done(command).fails_with("set XDG_RUNTIME_DIR, or give --root");
    let bundle = user.bundle("b", "ls -d /proc");
    bundle.write();
    let mut command = user.program(RT);
    let id = user.id("r");
    command.args(["run", "--keep", "--bundle", text(&bundle.dir), &id]).env("XDG_RUNTIME_DIR", &user.dir);
    done(command).ok();
    let state = user.dir.join("rt");
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    assert!(state.join(&id).exists());
    let mut command = user.program(RT);
    command.args(["delete", &id]).env("XDG_RUNTIME_DIR", &user.dir);
    done(command).ok();
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
    // Somewhere that is root's.
    let mut command = user.program(RT);
    command.args(["--root", "/proc/rt-test", "run", "--bundle", text(&bundle.dir), &id]);
    done(command).fails_with("making the state directory /proc/rt-test: ");
    user.nothing_left();
}

/// Puts `rt` and a bundle into a root file system.
fn nest(outer: &mut Value, rootfs: &Path, inner: &Value) {
    let bundle = rootfs.join("inner");
    harness::busybox_root(&bundle.join("rootfs"));
    fs::write(bundle.join("config.json"), inner.to_string()).unwrap();
    mount(outer, json!({"destination": "/bin/rt", "source": RT, "options": ["bind", "ro"]}));
    outer["root"]["readonly"] = json!(false);
    outer["process"]["noNewPrivileges"] = json!(false);
    // The kernel lets procfs be mounted only where nothing of it is hidden.
    outer["linux"]["maskedPaths"] = json!([]);
    outer["linux"]["readonlyPaths"] = json!([]);
    capabilities(outer, &NESTING);
}

/// What `rt` wants to do all its work as the root of a container.
const NESTING: [&str; 16] = [
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
    "SYS_RESOURCE",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
];

/// As Podman asks for it: a cgroup mount, no path, and no cgroup namespace.
#[test]
fn on_v1_without_a_cgroup_ones_own_is_shown() {
    let place = Place::new();
    let user = User::new(&place);
    let memory = Path::new("/sys/fs/cgroup/memory");
    if !memory.join("tasks").exists() {
        return;
    }
    let mut bundle = user.bundle("b", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; cat /proc/self/cgroup");
    without(&mut bundle.config, "cgroup");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
    let options = ["ro", "nosuid", "noexec", "nodev"];
    mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own.lines().find_map(|line| line.split_once(":memory:")).unwrap().1;
    let limit = fs::read_to_string(format!("{}{path}/memory.limit_in_bytes", memory.display())).unwrap();
    assert_eq!(user.run(&bundle).ok().stdout, limit + &own);
    user.nothing_left();
}

fn capabilities(config: &mut Value, names: &[&str]) {
    let list: Vec<String> = names.iter().map(|name| format!("CAP_{name}")).collect();
    config["process"]["capabilities"] = json!({"bounding": list, "effective": list, "permitted": list});
}

const INNER: &str = "rt --root /tmp/state run --bundle /inner in; echo status $?; ls /tmp/state";

#[test]
fn a_container_in_a_container_of_a_plain_user() {
    let place = Place::new();
    let user = User::new(&place);
    let mut outer = user.bundle("b", INNER);
    let mut plain = outer.config.clone();
    plain["process"]["args"] = json!(["sh", "-c", "echo inner; id -u; cat /proc/1/comm /proc/self/setgroups; exit 5"]);
    one_id(&mut plain, 0, 0);
    let rootfs = outer.rootfs();
    nest(&mut outer.config, &rootfs, &plain);
    user.own(&outer.dir);
    let run = |outer: &Bundle, inner: &Value| {
        fs::write(rootfs.join("inner/config.json"), inner.to_string()).unwrap();
        let done = user.run(outer).ok();
        done.stdout + &done.stderr
    };
    let worked = "inner\n0\nsh\ndeny\nstatus 5\n";
    assert_eq!(run(&outer, &plain), worked);
    // Also with none of the rights but the one to pass the id 0 on.
    assert_eq!(run(&outer.with(|config| capabilities(config, &["SETFCAP"])), &plain), worked);
    // Without a user namespace of its own.
    let mut sharing = plain.clone();
    without(&mut sharing, "user");
    for name in ["uidMappings", "gidMappings"] {
        sharing["linux"].as_object_mut().unwrap().remove(name);
    }
    sharing["process"]["oomScoreAdj"] = json!(700);
    assert_eq!(run(&outer, &sharing), worked);
    // By a plain user of the container.
    let as_plain = outer.with(|config| {
        one_id(config, 1000, user.uid);
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        capabilities(config, &[]);
    });
    let mut of_plain = plain.clone();
    one_id(&mut of_plain, 0, 1000);
    assert_eq!(run(&as_plain, &of_plain), worked);
    if user.has_range() {
        // A range of a range needs no newuidmap.
        let ranged = outer.with(|config| with_range(config, user.uid));
        let mut inner = plain.clone();
        map(
            &mut inner,
            &json!([{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 5001, "size": 1000}]),
        );
        inner["process"]["user"] = json!({"uid": 7, "gid": 7});
        assert_eq!(run(&ranged, &inner), "inner\n7\nsh\nallow\nstatus 5\n");
    }

    // What does not work says why.
    let failed = |outer: &Bundle, inner: &Value, words: &str| {
        let out = run(outer, inner);
        assert!(out.starts_with("status 1\n") && out.contains(words) && out.lines().count() == 2, "{words}: {out}");
    };
    let mut foreign = plain.clone();
    one_id(&mut foreign, 0, 5);
    failed(&outer, &foreign, "/linux/uidMappings: writing /proc/");
    let without_setfcap: Vec<&str> = NESTING.into_iter().filter(|name| *name != "SETFCAP").collect();
    failed(&outer.with(|config| capabilities(config, &without_setfcap)), &plain, "hostID 0 takes CAP_SETFCAP");
    let masking = outer.with(|config| config["linux"]["readonlyPaths"] = json!(["/proc/sys"]));
    failed(&masking, &plain, "it takes a new pid namespace, and in a container one without maskedPaths");
    let mut forbidding = outer.with(|_| ());
    forbidding.script(&format!("echo 0 >/proc/sys/user/max_user_namespaces; {INNER}"));
    failed(&forbidding, &plain, "/proc/sys/user/max_*_namespaces");
    let read_only = outer.with(|config| config["root"]["readonly"] = json!(true));
    failed(&read_only, &plain, "making the state directory /tmp/state");
    user.nothing_left();
}

#[test]
fn a_container_in_a_container_of_root() {
    let place = Place::new();
    if User::new(&place).uid == fs::metadata("/proc/self").unwrap().uid() {
        return;
    }
    let mut outer = place.bundle(INNER);
    let mut inner = outer.config.clone();
    inner["process"]["args"] = json!(["sh", "-c", "echo inner; cat /proc/1/comm; exit 5"]);
    let rootfs = outer.rootfs("/");
    nest(&mut outer.config, &rootfs, &inner);
    for entry in outer.config["mounts"].as_array_mut().unwrap() {
        if entry["type"] == "cgroup" || entry["type"] == "sysfs" {
            entry["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    assert_eq!(outer.run("c").ok().stdout, "inner\nsh\nstatus 5\n");
    inner["linux"]["resources"] = json!({"pids": {"limit": 9}});
    fs::write(rootfs.join("inner/config.json"), inner.to_string()).unwrap();
    if is_v2() {
        // The outer container's cgroup is the root of all that it sees, and not free of processes.
        let done = outer.run("c").ok();
        assert_eq!(done.stdout, "status 1\n");
        assert!(done.stderr.starts_with("/linux/resources/pids/limit: "), "{done:?}");
        let aside = "mkdir /sys/fs/cgroup/aside; echo 0 >/sys/fs/cgroup/aside/cgroup.procs";
        outer.script(&format!("{aside}; {INNER}"));
    }
    assert_eq!(outer.run("c").ok().stdout, "inner\nsh\nstatus 5\n");
    // With a user namespace, of ids that are the outer container's to give.
    namespace(&mut inner, "user", None);
    map(&mut inner, &json!([{"containerID": 0, "hostID": 5000, "size": 1000}]));
    inner["process"]["args"] = json!(["sh", "-c", "cat /proc/self/uid_map /proc/self/setgroups; exit 5"]);
    fs::write(rootfs.join("inner/config.json"), inner.to_string()).unwrap();
    let done = outer.run("c").ok();
    assert_eq!(done.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "5000", "1000", "allow", "status", "5"]);
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn as_alice() {
    guest::run_again(&["--user", "alice"], &["RT_TEST_IN=v2"]);
}

#[test]
fn as_alice_beside_systemd() {
    guest::run_filtered(&["--systemd", "--user", "alice"], &["RT_TEST_IN=v2"], &["cgroup", "as_it_is"]);
}

#[test]
fn as_alice_by_her_systemd() {
    let words = ["cgroup", "as_it_is", "systemd", "life", "joined", "another_id"];
    guest::run_filtered(&["--systemd", "--user", "alice"], &["RT_TEST_IN=systemd"], &words);
}

#[test]
fn as_bob() {
    let words = ["cgroup", "as_it_is", "newuidmap", "only_root"];
    guest::run_filtered(&["--user", "bob"], &["RT_TEST_IN=v2"], &words);
}

#[test]
fn by_root_on_v2() {
    guest::run_filtered(&[], &["RT_TEST_IN=v2"], &["cgroup", "as_it_is", "life", "of_root"]);
}
