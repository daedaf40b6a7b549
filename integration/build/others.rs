//! Other builders, each with a store of its own: Debian's Docker and Buildah.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::image::{self, Image};

/// The cgroup that the daemon's containers are in.
fn cgroup() -> String {
    format!("build-compare-{}", std::process::id())
}

/// A daemon of Docker's.
pub struct Docker {
    dir: PathBuf,
    daemon: Child,
}

impl Docker {
    /// Starts it; it has the image `base:1`.
    pub fn start(dir: &Path, base: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let socket = format!("unix://{}/docker.sock", dir.display());
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid")).args(["--host", &socket]);
        // Nothing of the machine's network is touched.
        command.args(["--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
        command.arg("--add-runtime").arg(format!("tested={}", crate::harness::rt().display()));
        command.args(["--default-runtime", "tested"]);
        // BuildKit never removes the one above its containers'.
        command.args(["--cgroup-parent", &format!("/{}", cgroup())]);
        let daemon = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let docker = Self { dir: dir.to_owned(), daemon };
        let end = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while docker.run(&["version"]).is_err() {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(std::time::Instant::now() < end, "dockerd does not answer: {}", log());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let base = base.to_str().unwrap();
        docker.run(&["import", "--change", "ENV PATH=/bin", "--change", "CMD [\"sh\"]", base, "base:1"]).unwrap();
        docker
    }

    fn command(&self, words: &[&str]) -> Command {
        // Debian's own: a newer one has no BuildKit without a further program.
        let program = if Path::new("/usr/bin/docker").exists() { "/usr/bin/docker" } else { "docker" };
        let mut command = Command::new(program);
        command.args(["--host", &format!("unix://{}/docker.sock", self.dir.display())]).args(words);
        command.env("DOCKER_CONFIG", self.dir.join("config")).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Result<String, String> {
        said(self.command(words).output().unwrap())
    }

    /// Builds by BuildKit, or by the builder before it.
    pub fn build(&self, name: &str, context: &Path, flags: &[&str], buildkit: bool) -> Result<Image, String> {
        let tag = format!("{name}:{}", if buildkit { "kit" } else { "classic" });
        let mut command = self.command(&["build", "-t", &tag, "--network", "none"]);
        command.args(flags).arg(context).current_dir(context).env("DOCKER_BUILDKIT", if buildkit { "1" } else { "0" });
        said(command.output().unwrap())?;
        let file = self.dir.join(format!("{tag}.tar"));
        self.run(&["save", "-o", file.to_str().unwrap(), &tag])?;
        Ok(image::read(file.to_str().unwrap()))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        // Its snapshots' mounts are its own; what a crash has left would keep the directory.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in table.lines().filter_map(|it| it.split(' ').nth(4)) {
            if point.starts_with(self.dir.to_str().unwrap()) {
                let _ = Command::new("umount").args(["-l", point]).status();
            }
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let ours = hierarchy.path().join(cgroup());
            let _ = std::fs::remove_dir(ours.join("buildkit"));
            let _ = std::fs::remove_dir(ours);
        }
    }
}

/// Buildah, which needs no daemon.
pub struct Buildah {
    dir: PathBuf,
}

impl Buildah {
    /// With the image `base:1`.
    pub fn new(dir: &Path, base: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let buildah = Self { dir: dir.to_owned() };
        let container = buildah.run(&["from", "scratch"]).unwrap().trim().to_owned();
        buildah.run(&["add", &container, base.to_str().unwrap(), "/"]).unwrap();
        buildah.run(&["config", "--env", "PATH=/bin", "--cmd", "[\"sh\"]", &container]).unwrap();
        buildah.run(&["commit", "--rm", &container, "base:1"]).unwrap();
        buildah
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command.args(["--storage-driver", "overlay"]).args(words);
        command.env("BUILDAH_ISOLATION", "chroot").env("TMPDIR", &self.dir).env("HOME", &self.dir);
        command.env("STORAGE_OPTS", "").stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Result<String, String> {
        said(self.command(words).output().unwrap())
    }

    /// Builds, and gives the image.
    pub fn build(&self, name: &str, context: &Path, flags: &[&str]) -> Result<Image, String> {
        let tag = format!("{name}:buildah");
        let flags_of_ours =
            ["bud", "--pull-never", "--identity-label=false", "--format", "docker", "--network", "none"];
        let mut command = self.command(&[&flags_of_ours[..], &["-t", &tag]].concat());
        said(command.args(flags).arg(context).current_dir(context).output().unwrap())?;
        let file = self.dir.join(name).to_str().unwrap().to_owned();
        self.run(&["push", "--quiet", &format!("localhost/{tag}"), &format!("docker-archive:{file}")])?;
        Ok(image::read(&file))
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--all"]);
        let _ = Command::new("umount").args(["-l"]).arg(self.dir.join("root/overlay")).stderr(Stdio::null()).status();
    }
}

/// A command's output; of one that has failed the last lines.
fn said(output: std::process::Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let all = text + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = all.lines().collect();
    Err(lines[lines.len().saturating_sub(8)..].join("\n"))
}
