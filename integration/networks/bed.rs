//! What the tests of networks share: hosts, wires between them, a store each.

use std::process::{Child, Command, Stdio};

pub use crate::containers::{Bed, kill, until};
pub use crate::harness::{Done, sh};

/// A network namespace that stands for a machine. It goes with this value, and with the test.
pub struct Namespace(Child);

impl Namespace {
    /// A new one, with nothing but loopback.
    pub fn new() -> Self {
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--net",
            "sh",
            "-c",
            "ip link set lo up && echo up && exec sleep infinity",
        ]);
        Self::started(&mut command)
    }

    /// The same one again, for another user of it. It goes with the last of both.
    pub fn shared(&self) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(self.enter()).args(["sh", "-c", "echo up && exec sleep infinity"]);
        Self::started(&mut command)
    }

    fn started(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut word = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        Self(child)
    }

    /// The words before those of a command that is to run in it.
    pub fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.0.id()), "--".to_owned()]
    }

    /// Runs a line of the shell in it, which has to succeed; its output.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let enter = self.enter().join(" ");
        sh(&format!("{enter} bash -euo pipefail -c '{}'", line.replace('\'', r"'\''")))
    }

    /// Whether a line of the shell succeeds in it.
    pub fn does(&self, line: &str) -> bool {
        let mut command = Command::new("nsenter");
        command.args(&self.enter()[1..]).args(["bash", "-c", line]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }

    /// A wire to another one: a device in each, with these addresses.
    pub fn wire(&self, device: &str, address: &str, other: &Self, its_device: &str, its_address: &str) {
        let (mine, its) = (self.0.id(), other.0.id());
        self.sh(&format!("ip link add {device} type veth peer name {its_device} netns {its}"));
        assert_ne!(mine, its);
        self.sh(&format!("ip addr add {address} dev {device} nodad && ip link set {device} up"));
        other.sh(&format!("ip addr add {its_address} dev {its_device} nodad && ip link set {its_device} up"));
    }

    /// A program that goes on in it until the value is dropped.
    pub fn spawn(&self, line: &str) -> Running {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(self.enter()).args(["bash", "-c", &format!("exec {line}")]);
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The number of the process that keeps it.
    pub fn keeper(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that a test has started.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host with a store of its own.
pub struct Host {
    /// Its containers.
    pub bed: Bed,
    /// Where they are.
    pub net: Namespace,
}

impl Host {
    /// A new one, with the image `it`.
    pub fn new(name: &str) -> Self {
        Self { bed: Bed::new(name), net: Namespace::new() }
    }

    /// A command of `bundle` on it.
    pub fn command(&self, words: &[&str]) -> Command {
        let inner = self.bed.command(words);
        let mut command = Command::new("nsenter");
        command.args(&self.net.enter()[1..]).arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("BUNDLE_NETWORK");
        command
    }

    /// `bundle` with these words, to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).stdin(Stdio::null()), words)
    }

    /// A detached container that runs a script of the shell.
    #[track_caller]
    pub fn detached(&self, name: &str, flags: &[&str], script: &str) {
        let words = [&["run", "-d", "--name", name], flags, &["it", "sh", "-c", script]].concat();
        self.run(&words).ok();
    }

    /// A container that answers with its name over HTTP on port 80, on all of its addresses.
    #[track_caller]
    pub fn web(&self, name: &str, flags: &[&str]) {
        let script = format!("mkdir /www; echo {name} >/www/index.html; exec httpd -f -p [::]:80 -h /www");
        self.detached(name, flags, &script);
    }

    /// A program of this machine that goes on in a container's network until the value is dropped.
    pub fn beside(&self, name: &str, words: &[&str]) -> Running {
        let mut command = Command::new("setpriv");
        let net = format!("--net=/proc/{}/ns/net", self.bed.pid(name));
        command.args(["--pdeathsig", "KILL", "nsenter", &net, "--"]).args(words);
        Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// What a line of the shell says in a container.
    #[track_caller]
    pub fn exec(&self, name: &str, line: &str) -> String {
        self.run(&["exec", name, "sh", "-c", line]).ok().out
    }

    /// Whether it succeeds there.
    pub fn does(&self, name: &str, line: &str) -> bool {
        self.run(&["exec", name, "sh", "-c", line]).status == 0
    }

    /// A field of what `inspect` says.
    #[track_caller]
    pub fn inspect(&self, name: &str, field: &str) -> String {
        self.run(&["inspect", "--format", &format!("{{{{{field}}}}}"), name]).ok().out.trim().to_owned()
    }

    /// A container's address in its first network.
    #[track_caller]
    pub fn address(&self, name: &str) -> String {
        self.inspect(name, ".NetworkSettings.IPAddress")
    }

    /// Nothing of any container or network is left: in the store, in the namespace, among the processes, in files.
    #[track_caller]
    pub fn is_clean(&self) {
        let ids = self.run(&["ps", "-aq"]).ok().out;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        assert!(ids.is_empty(), "{ids:?}");
        self.bed.is_clean();
        self.run(&["network", "prune", "-f"]).ok();
        let networks = self.run(&["network", "ls", "-q"]).ok().out;
        assert_eq!(networks, "");
        until("the devices are gone", || {
            self.net
                .sh("ip -o link")
                .lines()
                .all(|it| !it.contains(" br-") && !it.contains("bundle0") && !it.contains(": v"))
        });
        assert_eq!(self.net.sh("nft list tables").trim(), "");
        until("the name servers have ended", || self.servers().is_empty());
        let store = self.bed.0.text("store");
        for entry in std::fs::read_dir("/run/bundle/networks").into_iter().flatten().flatten() {
            let config = std::fs::read_to_string(entry.path().join("network")).unwrap_or_default();
            assert!(!config.contains(&store), "{} is left", entry.path().display());
        }
    }

    /// The name servers and forwarders in this namespace.
    pub fn servers(&self) -> Vec<i32> {
        let here = std::fs::read_link(format!("/proc/{}/ns/net", self.net.keeper())).unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = line.contains(" names ") || line.contains(" forward ");
            if ours && std::fs::read_link(entry.path().join("ns/net")).is_ok_and(|it| it == here) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Host {
    /// Also where a test fails, nothing stays; the bed's own end is in another namespace.
    fn drop(&mut self) {
        let ids = self.run(&["ps", "-aq"]).out;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            self.run(&[&["rm", "-f", "-v"], &ids[..]].concat());
        }
        self.run(&["network", "prune", "-f"]);
        for pid in self.servers() {
            kill("KILL", pid);
        }
    }
}

/// Programs of this machine with the libraries that they load, as a root file system in an archive.
pub fn archive(host: &Host, name: &str, programs: &str, more: &str) -> String {
    let root = host.bed.0.text(name);
    sh(&format!(
        "mkdir -p {root}/tmp {root}/run {root}/etc {root}/bin {root}/var/log
        for it in {programs}; do
            cp -L --parents $it {root}
            (ldd $it | grep -o '/[^ ]*' || true) | while read -r lib; do cp -L --parents $lib {root}; done
        done
        echo root:x:0:0::/:/none >{root}/etc/passwd; echo root:x:0: >{root}/etc/group
        cd {root}; {more}
        tar -C {root} --owner 0 --group 0 -cf {root}.tar ."
    ));
    format!("{root}.tar")
}
