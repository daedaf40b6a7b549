//! Containers of a plain user: in a mount namespace where /etc has one more user with subordinate ids.

use std::os::unix::fs::{MetadataExt, chown};
use std::process::{Command, Stdio};

use crate::bed::{Bed, until};
use crate::harness::{Done, Place, bundle, rt, sh};

/// The user's own id; nobody on the host has it.
const ID: u32 = 43_211;
/// The first of the ids behind it.
const RANGE: u32 = 71_000_000;

struct User(Place);

impl User {
    fn new(name: &str) -> Self {
        let place = Place::new(name);
        let etc = place.path("etc");
        std::fs::create_dir_all(&etc).unwrap();
        for (file, line) in [("passwd", format!("tester:x:{ID}:{ID}::/:/bin/sh")), ("group", format!("tester:x:{ID}:"))]
        {
            let old = std::fs::read_to_string(format!("/etc/{file}")).unwrap();
            std::fs::write(etc.join(file), format!("{}\n{line}\n", old.trim_end())).unwrap();
        }
        for file in ["subuid", "subgid"] {
            std::fs::write(etc.join(file), format!("tester:{RANGE}:65536\n")).unwrap();
        }
        std::fs::create_dir(place.path("home")).unwrap();
        chown(place.path("home"), Some(ID), Some(ID)).unwrap();
        Self(place)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        let script = r#"for file in passwd group subuid subgid; do mount --bind "$0/etc/$file" /etc/$file; done
            exec setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}""#;
        command.args(["--mount", "--propagation", "private", "bash", "-euc", script]).arg(&self.0.0);
        command.arg(ID.to_string()).arg(bundle()).args(words).current_dir("/").stdin(Stdio::null());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("HOME", self.0.path("home")).env_remove("BUNDLE_ROOT").env("BUNDLE_RUNTIME", rt());
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        Done::of(&mut self.command(words), words)
    }

    /// One who has the image `it`, made by root.
    fn with_image(name: &str) -> Self {
        let user = Self::new(name);
        let bed = Bed::new(&format!("{name}-image"));
        bed.run(&["save", "-o", &user.0.text("it.tar"), "it"]).ok();
        user.run(&["load", "-q", "-i", &user.0.text("it.tar")]).ok();
        // A directory that is theirs.
        std::fs::create_dir(user.0.path("own")).unwrap();
        chown(user.0.path("own"), Some(ID), Some(ID)).unwrap();
        user
    }

    fn detached(&self, name: &str, flags: &[&str], script: &str) {
        self.run(&[&["run", "-d", "--name", name], flags, &["it", "sh", "-c", script]].concat()).ok();
    }

    fn inspect(&self, name: &str, field: &str) -> String {
        self.run(&["inspect", "--format", &format!("{{{{{field}}}}}"), name]).ok().out.trim().to_owned()
    }

    /// Nothing is left: no container, no volume, no process of theirs.
    #[track_caller]
    fn is_clean(&self) {
        assert_eq!(self.run(&["ps", "-aq"]).ok().out, "");
        assert_eq!(self.run(&["volume", "ls", "-q"]).ok().out, "");
        for dir in ["containers", "trash"] {
            let dir = self.0.path("home/.local/share/bundle").join(dir);
            until("the store is empty", || crate::bed::names(&dir).is_empty());
        }
        let owned = || sh(&format!("pgrep -u {ID} -af '{}' || true", self.0.0.display()));
        until("their processes have ended", || owned().is_empty());
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let ids = self.run(&["ps", "-aq"]).out;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            self.run(&[&["rm", "-f", "-v"], &ids[..]].concat());
        }
    }
}

#[test]
fn a_plain_users_containers_live_as_roots_do() {
    let user = User::with_image("plain");
    user.run(&["run", "-d", "--name", "pp", "-v", "data:/srv", "it", "sh", "-c", "echo up; id -u; sleep 100"]).ok();
    until("its output is kept", || user.run(&["logs", "pp"]).out == "up\n0\n");
    let ps = user.run(&["ps", "--format", "{{.Names}} {{.State}}"]).ok().out;
    assert_eq!(ps, "pp running\n");
    // The container is the user's: nothing of it runs as root of the host.
    let pid = user.run(&["inspect", "--format", "{{.State.Pid}}", "pp"]).ok().out;
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    assert!(status.contains(&format!("Uid:\t{ID}\t{ID}")), "{status}");
    // What is done with it is done in its own user namespace, also as one of the subordinate ids.
    assert_eq!(
        user.run(&["exec", "-u", "web", "pp", "sh", "-c", "id -u; cat /srv/file; echo more >/srv/more"]).ok().out,
        "33\ncontent\n"
    );
    assert_eq!(user.run(&["exec", "pp", "stat", "-c", "%u", "/srv/more"]).ok().out, "33\n");
    let monitor = user.run(&["inspect", "--format", "{{.State.MonitorPid}}", "pp"]).ok().out;
    let namespace = |pid: &str| sh(&format!("readlink /proc/{}/ns/user", pid.trim()));
    assert_eq!(namespace(&pid), namespace(&monitor));
    // A second container shares it.
    user.run(&["run", "-d", "--name", "qq", "--volumes-from", "pp", "it", "sleep", "100"]).ok();
    let other = user.run(&["inspect", "--format", "{{.State.Pid}}", "qq"]).ok().out;
    assert_eq!(namespace(&pid), namespace(&other));
    assert_eq!(user.run(&["exec", "qq", "cat", "/srv/more"]).ok().out, "more\n");
    user.run(&["restart", "-t", "0", "pp"]).ok();
    user.run(&["commit", "qq", "mine"]).ok();
    user.run(&["cp", "qq:/srv/more", "/dev/null"]);
    // A killed monitor is replaced here too.
    let monitor = user.run(&["inspect", "--format", "{{.State.MonitorPid}}", "qq"]).ok().out;
    sh(&format!("kill -KILL {}", monitor.trim()));
    until("it has another", || {
        let now = user.run(&["inspect", "--format", "{{.State.MonitorPid}}", "qq"]).ok().out;
        now != monitor && user.run(&["ps", "-q"]).out.lines().count() == 2
    });
    user.run(&["stop", "-t", "0", "pp", "qq"]).ok();
    user.run(&["rm", "pp", "qq"]).ok();
    user.run(&["volume", "rm", "data"]).ok();
    // What the kernel does not allow is said before anything is made.
    let done = user.run(&["run", "-d", "--name", "limited", "-m", "64m", "it", "sleep", "100"]);
    assert!(done.status == 125 && done.err.contains("--memory"), "{} {}", done.status, done.err);
    assert_eq!(user.run(&["ps", "-aq"]).ok().out, "");
}

#[test]
fn a_plain_user_copies_files_both_ways() {
    let user = User::with_image("plain-cp");
    let own = |name: &str| user.0.text(&format!("own/{name}"));
    let script = "mkdir /d && echo x >/d/web && chown 33:34 /d/web && echo vol >/data/v; touch /ready; exec sleep 1000";
    user.detached("cc", &["-v", "data:/data", "--tmpfs", "/mem"], script);
    until("it is ready", || user.run(&["exec", "cc", "test", "-e", "/ready"]).status == 0);
    for state in ["running", "stopped"] {
        user.run(&["cp", "cc:/d", &own(state)]).ok();
        // What comes out is theirs, whosever it was.
        let meta = std::fs::metadata(user.0.path(&format!("own/{state}/web"))).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (ID, ID), "{state}");
        user.run(&["cp", "cc:/data/v", &own(&format!("{state}-v"))]).ok();
        user.run(&["cp", &own(state), &format!("cc:/data/{state}")]).ok();
        user.run(&["cp", &own(&format!("{state}/web")), &format!("cc:/tmp/{state}")]).ok();
        // An archive keeps the container's owners.
        for words in [&["cp", "cc:/d", "-"][..], &["export", "cc"]] {
            let archive = user.command(words).output().unwrap().stdout;
            std::fs::write(user.0.path("d.tar"), archive).unwrap();
            let list = sh(&format!("tar --numeric-owner -tvf {} | grep d/web", user.0.text("d.tar")));
            assert!(list.contains(" 33/34 "), "{state}: {list}");
        }
        user.run(&["stop", "-t", "0", "cc"]).ok();
    }
    user.run(&["start", "cc"]).ok();
    let paths = ["/data/running/web", "/data/stopped/web", "/tmp/running", "/tmp/stopped"];
    let owners = user.run(&[&["exec", "cc", "stat", "-c", "%u:%g"], &paths[..]].concat()).ok().out;
    assert_eq!(owners, "0:0\n0:0\n0:0\n0:0\n");
    // A file that they may not read is none of theirs through bundle either.
    std::fs::write(user.0.path("secret"), "root's").unwrap();
    std::fs::set_permissions(user.0.path("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    user.run(&["cp", &user.0.text("secret"), "cc:/tmp/secret"]).fails(1, "ermission denied");
    user.run(&["cp", "cc:/data/v", "/root/v"]).fails(1, "ermission denied");
    user.run(&["rm", "-f", "cc"]).ok();
    user.run(&["volume", "rm", "data"]).ok();
    user.is_clean();
}

#[test]
fn a_plain_user_watches_containers() {
    let user = User::with_image("plain-watch");
    user.detached("ww", &[], "echo out; echo err >&2; exec sleep 1000");
    let stats = user.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "ww"]).ok().out;
    assert!(stats.starts_with("ww "), "{stats}");
    let top = user.run(&["top", "ww", "-o", "pid,cmd"]).ok().out;
    assert!(top.contains("sleep 1000") && top.contains(&user.inspect("ww", ".State.Pid")), "{top}");
    let logs = user.run(&["logs", "ww"]).ok();
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("out\n", "err\n"));
    let dated = user.run(&["logs", "-t", "ww"]).ok().out;
    assert!(dated.contains('T') && dated.ends_with("Z out\n"), "{dated}");
    let events = user.run(&["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]).ok().out;
    assert!(events.contains("create\n") && events.contains("start\n"), "{events}");
    assert!(user.run(&["diff", "ww"]).ok().err.is_empty());
    assert!(user.run(&["metrics"]).ok().out.contains("ww"));
    user.run(&["rm", "-f", "ww"]).ok();
    user.is_clean();
}

#[test]
fn a_plain_users_volumes_have_the_images_files_and_owners() {
    let user = User::with_image("plain-volumes");
    let says = |flags: &[&str], script: &str| {
        user.run(&[&["run", "--rm"], flags, &["it", "sh", "-c", script]].concat()).ok().out
    };
    assert_eq!(
        says(&["-v", "filled:/srv"], "stat -c '%u:%g %a' /srv /srv/file; cat /srv/file"),
        "33:33 750\n33:33 640\ncontent\n"
    );
    assert_eq!(says(&["-v", "filled:/srv", "-u", "web"], "echo mine >/srv/web; cat /srv/web"), "mine\n");
    // On the host these are the subordinate ids, and neither theirs nor root's.
    let file = user.0.path("home/.local/share/bundle/volumes/filled/_data/web");
    assert_eq!(std::fs::metadata(file).unwrap().uid(), RANGE + 32);
    // A directory of theirs is root's inside.
    let bind = format!("{}:/in", user.0.text("own"));
    assert_eq!(says(&["-v", &bind], "stat -c %u /in; echo x >/in/new"), "0\n");
    assert_eq!(std::fs::metadata(user.0.path("own/new")).unwrap().uid(), ID);
    // One that is not cannot be written to.
    let bind = format!("{}:/in", user.0.0.display());
    assert_eq!(says(&["-v", &bind], "touch /in/new 2>/dev/null || echo refused"), "refused\n");
    user.run(&["volume", "rm", "filled"]).ok();
    user.is_clean();
}

#[test]
fn what_a_plain_user_cannot_have_is_refused_with_the_reason() {
    let user = User::with_image("plain-refused");
    for (flags, words) in [
        (&["--userns", "auto"][..], "users of their own anyway"),
        (&["--uidmap", "0:100000:10"], "users of their own anyway"),
        (&["-m", "64m"], "--memory"),
        (&["--cpus", "0.5"], "--cpus"),
        (&["--pids-limit", "10"], "--pids-limit"),
        (&["--cgroup-parent", "/x"], "--cgroup-parent"),
        (&["--oom-score-adj", "-500"], "--oom-score-adj"),
    ] {
        let done = user.run(&[&["run", "--name", "no", "-v", "no:/no"], flags, &["it", "true"]].concat());
        done.fails(125, words);
        assert_eq!(user.run(&["ps", "-aq"]).ok().out, "", "{flags:?}");
    }
    user.detached("pp", &[], "exec sleep 1000");
    let paused = user.run(&["pause", "pp"]);
    // Where they have no freezer; else it works.
    if paused.status == 0 {
        user.run(&["unpause", "pp"]).ok();
    } else {
        let paused = paused.fails(1, "freez");
        assert!(paused.err.contains("root") || paused.err.contains("cgroup"), "{}", paused.err);
        // What asks for it only where it can be goes on without.
        user.run(&["commit", "pp", "still"]).ok();
        user.run(&["commit", "--pause=true", "pp", "still"]).fails(1, "freez");
    }
    assert_eq!(user.inspect("pp", ".State.Status"), "running");
    user.run(&["rm", "-f", "pp"]).ok();
    // All that a user namespace gives is theirs with --privileged, and no more.
    let script = "grep CapEff /proc/self/status | cut -f 2; mkdir /m && mount -t tmpfs none /m && echo mounted; \
        cat /proc/sys/kernel/hostname >/dev/null; echo x 2>/dev/null >/proc/sys/kernel/panic || echo kept";
    let out = user.run(&["run", "--rm", "--privileged", "it", "sh", "-c", script]).ok().out;
    assert!(!out.starts_with("00000000a80425fb") && out.ends_with("mounted\nkept\n"), "{out}");
    user.is_clean();
}

#[test]
fn a_plain_users_monitors_restart_and_check() {
    let user = User::with_image("plain-monitor");
    user.detached("again", &["--restart", "on-failure:2"], "echo run; exit 3");
    until("its tries are used up", || user.inspect("again", ".State.Status") == "exited");
    assert_eq!(
        (user.run(&["logs", "again"]).out.lines().count(), user.inspect("again", ".RestartCount")),
        (3, "2".into())
    );
    let health = ["--health-cmd", "cat /tmp/well", "--health-interval", "100ms", "--health-retries", "2"];
    user.detached("hh", &health, "exec sleep 1000");
    until("it is unhealthy", || user.inspect("hh", ".State.Health.Status") == "unhealthy");
    user.run(&["exec", "hh", "touch", "/tmp/well"]).ok();
    until("it is healthy", || user.inspect("hh", ".State.Health.Status") == "healthy");
    user.run(&["rm", "-f", "again", "hh"]).ok();
    user.is_clean();
}

#[test]
fn a_plain_user_has_a_terminal_and_the_vfs_driver() {
    // Its home is longer than the address of a socket may be.
    let user = User::with_image("plain-with-a-terminal-and-a-home-that-lies-deep-in-a-tree-of-directories");
    let vfs = ["--storage-driver", "vfs"];
    user.run(
        &[
            &vfs[..],
            &["run", "-d", "--name", "tt", "it", "sh", "-c", "echo x >/srv/new; rm /bin/noexec; exec sleep 1000"],
        ]
        .concat(),
    )
    .ok();
    let wanted = "content\n33\n";
    assert_eq!(user.run(&["exec", "tt", "sh", "-c", "cat /srv/file; stat -c %u /srv"]).ok().out, wanted);
    let root =
        user.0.path("home/.local/share/bundle/containers").join(user.inspect("tt", ".Id")).join("rootfs/bin/busybox");
    assert!(root.exists(), "the files are copied");
    until("it has written", || user.run(&["diff", "tt"]).ok().out == "C /bin\nD /bin/noexec\nC /srv\nA /srv/new\n");
    user.run(&["commit", "tt", "changed"]).ok();
    let look = ["run", "--rm", "changed", "sh", "-c", "cat /srv/new; ls /bin/noexec 2>/dev/null || echo gone"];
    assert_eq!(user.run(&look).ok().out, "x\ngone\n");
    // `script` gives the caller a terminal.
    let plain = user.command(&["exec", "-it", "tt", "sh", "-c", "tty; stty size; read line; echo got $line; exit 4"]);
    let mut line: Vec<String> = vec!["stty rows 33 cols 99; exec".into()];
    line.extend(
        std::iter::once(plain.get_program())
            .chain(plain.get_args())
            .map(|it| format!("'{}'", it.to_str().unwrap().replace('\'', "'\\''"))),
    );
    let mut script = Command::new("bash");
    script.args(["-c", "(sleep 1.5; echo word; sleep 0.5) | script -qec \"$0\" /dev/null", &line.join(" ")]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let done = Done::of(&mut script, &["exec", "-it"]);
    assert_eq!(done.status, 4, "{}{}", done.out, done.err);
    assert!(
        done.out.contains("/dev/pts/0") && done.out.contains("33 99") && done.out.contains("got word"),
        "{}",
        done.out
    );
    user.run(&["rm", "-f", "tt"]).ok();
    user.is_clean();
}
