//! Docker itself reads what is saved, and what it saves is read: a daemon of the test's own, without a network.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Layout, by_umoci, known, load_from_pipe, same_files, tars};
use crate::harness::{Place, arch, sh};

/// A daemon with all that it has in a directory, mounts of its own, no bridge and no rules of a firewall.
struct Daemon {
    child: Child,
    socket: String,
}

impl Daemon {
    fn start(place: &Place) -> Self {
        let socket = format!("unix://{}", place.text("d.sock"));
        let log = std::fs::File::create(place.path("docker.log")).unwrap();
        std::fs::write(place.path("none.json"), "{}").unwrap();
        // unshare becomes the daemon: its pid is the child's.
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "dockerd", "--storage-driver", "vfs", "--bridge", "none"])
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"])
            .args(["--host", &socket, "--data-root", &place.text("data"), "--exec-root", &place.text("exec")])
            .args(["--pidfile", &place.text("docker.pid"), "--config-file", &place.text("none.json")])
            .env("HOME", place.path("home"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { child, socket };
        let began = Instant::now();
        let version = ["--host", &daemon.socket, "version"].map(str::to_owned);
        let ready = || {
            let mut command = Command::new("docker");
            command.args(&version).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
        };
        while !ready() {
            let waits = began.elapsed() < Duration::from_mins(1) && daemon.child.try_wait().unwrap().is_none();
            let log = || std::fs::read_to_string(place.path("docker.log")).unwrap_or_default();
            assert!(waits, "the daemon does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
        daemon
    }

    fn docker(&self, words: &str) -> String {
        sh(&format!("docker --host {} {words}", self.socket))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        let began = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if began.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn docker_loads_and_saves() {
    // Dropped in the reverse order: the daemon first.
    let place = Place::new("docker");
    let tars = tars(&place);
    let wanted = by_umoci(&place, &tars);
    let daemon = Daemon::start(&place);
    let version = daemon.docker("version --format '{{.Server.Version}}'");
    let version: u32 = version.split('.').next().unwrap().parse().unwrap();
    for (sample, compression) in [("gzip", "+gzip"), ("zstd", "+zstd"), ("plain", "")] {
        let mut made = Layout::new(place.path(sample));
        let image = made.image(&tars, compression, arch());
        let (one, two) = (format!("example.org/a/{sample}:1"), format!("team/{sample}:2"));
        made.add(&image, &[&one, &two]);
        place.bundle(&["load", "-q", "-i", &place.text(sample)]).ok();
        let (id, _, names) = known(&place, "store", &one);
        assert_eq!(names, [one.clone(), two.clone()]);
        // A daemon that keeps images as Docker always did wants its own list, which an OCI archive has not.
        for form in ["both", "docker-archive"] {
            let out = place.text("out");
            place.bundle(&["save", "--format", form, "-o", &out, &one, &two]).ok();
            println!("{sample} as {form}");
            // Before 23.0 it knows no zstd: for such a daemon there is the form whose layers are plain.
            if (sample, form) == ("zstd", "both") && version < 23 {
                continue;
            }
            let said = daemon.docker(&format!("load -i {out}"));
            assert!(said.contains(&one) && said.contains(&two), "{form}: {said}");
            assert_eq!(daemon.docker(&format!("image inspect --format '{{{{.Id}}}}' {two}")).trim(), id, "{form}");
            // Its files are looked at by what it saves, from a file and from a pipe.
            daemon.docker(&format!("save -o {out} {one} {two}"));
            let store = format!("{sample}-{form}");
            place.bundle_in(&store, &["load", "-q", "-i", &out]).ok();
            let found = known(&place, &store, &one);
            assert_eq!((&found.0, &found.2), (&id, &names), "{form}");
            same_files(&place, &store, &id, &wanted, &store);
            let piped = format!("{store}-piped");
            load_from_pipe(&place, &piped, &format!("docker --host {} save {one} | gzip", daemon.socket)).ok();
            assert_eq!(known(&place, &piped, &one).0, id);
            // Without a name, by its id.
            daemon.docker(&format!("save -o {out} {id}"));
            let bare = format!("{store}-bare");
            place.bundle_in(&bare, &["load", "-q", "-i", &out]).ok();
            assert_eq!(known(&place, &bare, &id), (id.clone(), found.1, Vec::new()), "{form}");
            daemon.docker(&format!("rmi {one} {two}"));
            std::fs::remove_file(&out).unwrap();
        }
    }
    let left = daemon.docker("images -aq");
    assert_eq!(left, "");
}
