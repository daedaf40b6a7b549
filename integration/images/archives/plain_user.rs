//! All of it by a plain user: in a mount namespace where /etc has one more user, with or without subordinate ids.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Done, Place, bundle, layout, rt, sh};

/// The user's own id; nobody on the host has it.
const ID: u32 = 43_210;
/// The first of the ids behind it.
const RANGE: u32 = 70_000_000;

/// A user with a directory.
struct User {
    place: Place,
    ranges: bool,
}

impl User {
    fn new(name: &str, ranges: bool) -> Self {
        let place = Place::new(name);
        let etc = place.path("etc");
        std::fs::create_dir_all(&etc).unwrap();
        for (file, line) in [("passwd", format!("tester:x:{ID}:{ID}::/:/bin/sh")), ("group", format!("tester:x:{ID}:"))]
        {
            let old = std::fs::read_to_string(format!("/etc/{file}")).unwrap();
            std::fs::write(etc.join(file), format!("{}\n{line}\n", old.trim_end())).unwrap();
        }
        let range = if ranges { format!("tester:{RANGE}:65536\n") } else { "somebody:1000000:65536\n".to_owned() };
        for file in ["subuid", "subgid"] {
            std::fs::write(etc.join(file), &range).unwrap();
        }
        std::fs::create_dir(place.path("home")).unwrap();
        chown(place.path("home"), Some(ID), Some(ID)).unwrap();
        Self { place, ranges }
    }

    /// `bundle` as the user, the store where a user has it.
    fn bundle(&self, words: &[&str]) -> Done {
        let mut command = Command::new("unshare");
        let script = r#"for file in passwd group subuid subgid; do mount --bind "$0/etc/$file" /etc/$file; done
            exec setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}""#;
        command.args(["--mount", "--propagation", "private", "bash", "-euc", script]).arg(&self.place.0);
        command.arg(ID.to_string()).arg(bundle()).args(words).current_dir("/").stdin(Stdio::null());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("HOME", self.place.path("home")).env_remove("BUNDLE_ROOT").env("BUNDLE_RUNTIME", rt());
        Done::of(&mut command, words)
    }

    fn store(&self) -> PathBuf {
        self.place.path("home/.local/share/bundle")
    }

    /// No image, no layer, no container, nothing mounted, no process.
    #[track_caller]
    fn nothing_left(&self) {
        self.bundle(&["store", "check"]).ok();
        for dir in ["layers", "blobs/sha256", "ingest", "trash", "containers"] {
            if let Ok(entries) = std::fs::read_dir(self.store().join(dir)) {
                assert_eq!(entries.count(), 0, "{dir}");
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.place.0.to_str().unwrap()), "{mounts}");
        let own = |uid: u32| self.ranges && (RANGE..RANGE + 65536).contains(&uid);
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let number = entry.file_name().to_string_lossy().parse::<u32>().is_ok();
            if number && entry.metadata().is_ok_and(|it| own(it.uid())) {
                let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
                assert!(!command.contains(self.place.0.to_str().unwrap()), "{command}");
            }
        }
    }
}

/// An image whose files have several owners, made by root.
fn owned(user: &User) -> String {
    let dir = user.place.text("root");
    sh(&format!(
        r#"mkdir -p {dir}/bin {dir}/etc {dir}/srv {dir}/tmp; cd {dir}; cp "$(command -v busybox)" bin/busybox
        for name in sh stat id cat touch ls; do ln -s busybox bin/$name; done
        echo web > srv/web; chown 33:34 srv/web; echo high > srv/high; chown 65535:65000 srv/high
        echo closed > srv/closed; chown 1:1 srv/closed; chmod 600 srv/closed; chown 33:33 srv; chmod 1777 tmp
        echo tool > bin/tool; chown 33:4 bin/tool; chmod 6755 bin/tool; mkdir -m 700 dir; chown 8:8 dir; echo in > dir/in
        echo removed > srv/removed
        printf 'root:x:0:0:::\nweb:x:33:33:::\n' > etc/passwd
        tar --format=pax --numeric-owner -C {dir} -cf ../1.tar .
        mkdir ../2 ../2/srv ../2/dir; cd ../2; touch srv/.wh.removed; echo 2 > dir/second; chown 8:8 dir/second
        touch dir/.wh..wh..opq; tar --format=pax --numeric-owner --no-recursion -cf ../2.tar srv/.wh.removed dir/.wh..wh..opq dir/second"#
    ));
    let tars = [1, 2].map(|it| std::fs::read(user.place.path(&format!("{it}.tar"))).unwrap());
    layout(&user.place.path("layout"), "owned:1", &tars, json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}));
    user.place.text("layout")
}

#[test]
fn the_demonstration() {
    let user = User::new("plain-demo", true);
    let done = user.bundle(&["run", "--rm", "demo"]).ok();
    assert!(done.out.contains("Hello from a container"), "{}", done.out);
    assert_eq!(user.bundle(&["images", "-q"]).ok().out.lines().count(), 1);
    assert_eq!(std::fs::metadata(user.store()).unwrap().uid(), ID);
    user.bundle(&["rmi", "demo"]).ok();
    user.nothing_left();
}

#[test]
fn files_of_several_owners() {
    let user = User::new("plain-owners", true);
    let input = owned(&user);
    for driver in ["overlay", "vfs"] {
        let bundle = |words: &[&str]| user.bundle(&[&["--storage-driver", driver], words].concat());
        bundle(&["load", "-q", "-i", &input]).ok();
        let run = |words: &[&str]| bundle(&[&["run", "--rm"], words].concat()).ok().out;
        let seen = run(&[
            "owned:1",
            "stat",
            "-c",
            "%n %u:%g %a",
            "/srv",
            "/srv/web",
            "/srv/high",
            "/srv/closed",
            "/bin/tool",
            "/dir",
            "/dir/second",
        ]);
        let wanted = "/srv 33:33 755\n/srv/web 33:34 644\n/srv/high 65535:65000 644\n/srv/closed 1:1 600\n/bin/tool 33:4 6755\n/dir 8:8 700\n/dir/second 8:8 644\n";
        assert_eq!(seen, wanted, "{driver}");
        assert_eq!(run(&["owned:1", "ls", "/srv", "/dir"]), "/dir:\nsecond\n\n/srv:\nclosed\nhigh\nweb\n", "{driver}");
        let script = "id -u; touch /srv/new /tmp/new; stat -c %u:%g /srv/new; cat /srv/closed 2>/dev/null || echo no";
        assert_eq!(run(&["-u", "web", "owned:1", "sh", "-c", script]), "33\n33:33\nno\n", "{driver}");
        assert_eq!(run(&["owned:1", "sh", "-c", "cat /srv/closed; touch /x && echo yes"]), "closed\nyes\n", "{driver}");
        // What the user saves is what root has made.
        let saved = user.place.text("home/saved");
        bundle(&["save", "-o", &saved, "owned:1"]).ok();
        assert_eq!(user.place.bundle(&["load", "-q", "-i", &saved]).ok().out, "Loaded image: owned:1\n");
        let digest = |done: Done| done.ok().last().to_owned();
        assert_eq!(
            digest(bundle(&["inspect", "--format", "{{.Digest}}", "owned:1"])),
            digest(user.place.bundle(&["inspect", "--format", "{{.Digest}}", "owned:1"]))
        );
        std::fs::remove_file(&saved).unwrap();
        // On the host they are the user's own range.
        let exported = user.place.text("home/exported");
        bundle(&["export-bundle", "owned:1", &exported]).ok();
        let owner = std::fs::metadata(format!("{exported}/rootfs/srv/web")).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (RANGE + 32, RANGE + 33), "{driver}");
        sh(&format!("rm -r {exported}"));
        assert!(bundle(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().out.contains("owned:1\n"));
        bundle(&["tag", "owned:1", "other"]).ok();
        bundle(&["rmi", "owned:1"]).ok();
        bundle(&["prune", "-f", "--all"]).ok();
        user.nothing_left();
    }
}

#[test]
fn a_container_that_stays_and_is_committed() {
    let user = User::new("plain-commit", true);
    let input = owned(&user);
    user.bundle(&["load", "-q", "-i", &input]).ok();
    user.bundle(&["run", "--name", "kept", "-u", "web", "owned:1", "sh", "-c", "echo mine > /srv/mine"]).ok();
    user.bundle(&["commit", "kept", "committed:1"]).ok();
    user.bundle(&["rm", "kept"]).ok();
    let seen = user.bundle(&["run", "--rm", "committed:1", "stat", "-c", "%u:%g", "/srv/mine", "/srv/web"]).ok().out;
    assert_eq!(seen, "33:33\n33:34\n");
    let words = ["import", &user.place.text("1.tar"), "imported"].map(str::to_owned);
    user.bundle(&words.each_ref().map(String::as_str)).ok();
    let seen = user.bundle(&["run", "--rm", "imported", "/bin/stat", "-c", "%u:%g", "/srv/web"]).ok().out;
    assert_eq!(seen, "33:34\n");
    user.bundle(&["prune", "-f", "--all", "--containers"]).ok();
    user.nothing_left();
}

#[test]
fn without_subordinate_ids_it_is_said_what_to_do() {
    let user = User::new("plain-none", false);
    for words in [&["run", "demo"][..], &["images"], &["load", "-i", "/x"]] {
        let done = user.bundle(words);
        let status = if words[0] == "run" { 125 } else { 1 };
        let done = done.fails(status, "usermod --add-subuids");
        assert!(done.err.contains("/etc/subuid has no line for \"tester\""), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    }
    // What needs no files needs no ids.
    user.bundle(&["--version"]).ok();
    assert!(!user.store().exists());
}
