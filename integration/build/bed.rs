//! What the tests of builds share: a store with an image of busybox in it, contexts, and what a build has made.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Done, Place, layout, sh};

/// A store with the image `base:1`: busybox, two users.
pub struct Bed(pub Place);

impl Bed {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let place = Place::new(name);
        let config = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
        layout(&place.path("layout"), "base:1", &[base()], config);
        let bed = Self(place);
        bed.run(&["load", "-q", "-i", &bed.0.text("layout")]).ok();
        bed
    }

    /// `bundle` with these words, to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).stdin(Stdio::null()), words)
    }

    /// The command itself.
    pub fn command(&self, words: &[&str]) -> Command {
        self.0.command("store", words)
    }

    /// A context with these files; a path that ends with `/` is a directory, a content that begins with `->` a link.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> String {
        let dir = self.0.path(name);
        std::fs::create_dir_all(&dir).unwrap();
        for (path, content) in files {
            let path = dir.join(path);
            if path.to_str().unwrap().ends_with('/') {
                std::fs::create_dir_all(&path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("->") {
                Some(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
                None => std::fs::write(&path, content).unwrap(),
            }
        }
        dir.to_str().unwrap().to_owned()
    }

    /// Builds a Dockerfile with a context of these files, as the image `t`.
    pub fn build(&self, dockerfile: &str, files: &[(&str, &str)], flags: &[&str]) -> Done {
        let context = self.context("context", files);
        std::fs::write(format!("{context}/Dockerfile"), dockerfile).unwrap();
        self.run(&[&["build", "-t", "t"], flags, &[&context]].concat())
    }

    /// What a script of the shell says in a container of an image.
    #[track_caller]
    pub fn in_image(&self, image: &str, script: &str) -> String {
        self.run(&["run", "--rm", image, "sh", "-c", script]).ok().out
    }

    /// A field of what `inspect` says of an image.
    #[track_caller]
    pub fn inspect(&self, image: &str) -> Value {
        self.run(&["inspect", image]).ok().json()[0].clone()
    }

    /// The files of an image as a directory.
    #[track_caller]
    pub fn files(&self, image: &str) -> PathBuf {
        let dir = self.0.path("files");
        let _ = std::fs::remove_dir_all(&dir);
        self.run(&["export-bundle", image, dir.to_str().unwrap(), "x"]).ok();
        dir.join("rootfs")
    }

    /// Nothing is left of any build but what its row holds.
    #[track_caller]
    pub fn is_clean(&self) {
        // What a killed command has left goes with the next ones.
        self.run(&["ps", "-a"]).ok();
        self.run(&["prune", "-f"]).ok();
        let store = self.0.path("store");
        let left = || {
            let mut left = Vec::new();
            for dir in ["containers", "ingest", "trash"] {
                left.extend(std::fs::read_dir(store.join(dir)).unwrap().flatten().map(|it| it.path()));
            }
            left
        };
        until(&format!("the store is empty: {:?}", left()), || left().is_empty());
        let rows = self.rows("SELECT count(*) FROM layers");
        let dirs = std::fs::read_dir(store.join("layers")).unwrap().count().to_string();
        assert_eq!(rows, dirs, "directories of layers");
        assert_eq!(self.rows("SELECT count(*) FROM containers"), "0");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(store.to_str().unwrap()), "{mounts}");
    }

    /// What the store's database says.
    pub fn rows(&self, query: &str) -> String {
        let script = "import sqlite3,sys\nfor row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]): print(*row)";
        let store = self.0.text("store/bundle.db");
        let output = Command::new("python3").args(["-c", script, &store, query]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// The tar of `base:1`.
pub fn base() -> Vec<u8> {
    let busybox = std::fs::read(sh("command -v busybox").trim()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header.set_entry_type(if path.ends_with('/') { tar::EntryType::Directory } else { tar::EntryType::Regular });
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    for dir in ["bin/", "dev/", "etc/", "proc/", "root/", "run/", "srv/", "sys/", "usr/", "usr/share/", "var/"] {
        add(dir, b"", 0o755);
    }
    add("bin/busybox", &busybox, 0o755);
    add("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n", 0o644);
    add("etc/group", b"root:x:0:\nweb:x:34:\nstaff:x:50:web\n", 0o644);
    add("tmp/", b"", 0o1777);
    let applets = "sh cat id pwd env hostname grep sleep wc rm true false echo ls stat mkdir touch dd seq kill ps head \
        tail test mount ln chmod chown cp mv readlink find tr cut printf od sync ip sort awk sed md5sum sha256sum \
        uname date tar gzip tee mktemp rmdir expr xargs basename dirname df mknod";
    for name in applets.split_whitespace() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        builder.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    builder.into_inner().unwrap()
}

/// Waits until something is true, ten seconds at most.
#[track_caller]
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < end, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
