//! The OCI runtime of one container: its command line, and what its log says.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::mount::OpenTreeFlags;

/// Docker's exit statuses of a container that did not come to be.
pub const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Its program.
    pub program: PathBuf,
    /// The container's run directory: the runtime's state lies below it, with no other container's.
    pub run_dir: PathBuf,
    /// The container's id.
    pub id: String,
}

impl Runtime {
    /// The program with its global flags; its errors are kept for [`Self::failure`].
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.run_dir.join("runtime"));
        command.arg("--log").arg(self.log()).args(["--log-format", "json"]);
        command
    }

    fn log(&self) -> PathBuf {
        self.run_dir.join("runtime.log")
    }

    /// Forgets what earlier commands have said.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(self.log());
    }

    /// Does one thing and waits for it, such as `pause ID`.
    pub fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = self.command();
        command.args(words).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("starting the runtime {}", self.program.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = self.failure().unwrap_or_else(|| said.trim().to_owned());
            bail!("{}: {said}", words.join(" "));
        }
        Ok(())
    }

    /// Ends what is left of the container and removes all that the runtime has of it.
    pub fn delete(&self) {
        self.delete_during(|| ());
    }

    /// The same, and does something else meanwhile.
    pub fn delete_during<T>(&self, what: impl FnOnce() -> T) -> T {
        let mut command = self.command();
        command.args(["delete", "--force", &self.id]);
        // One that outlived us would put its directory back where the next command has removed it.
        crate::sys::die_with_us(&mut command);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let done = what();
        if let Ok(mut child) = child {
            let _ = child.wait();
        }
        done
    }

    /// The last error in the runtime's log.
    pub fn failure(&self) -> Option<String> {
        Self::failure_in(&self.log())
    }

    /// The last error in a log.
    pub fn failure_in(log: &Path) -> Option<String> {
        let lines = BufReader::new(File::open(log).ok()?).lines();
        let errors = lines.map_while(Result::ok).filter_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(&line).ok()?;
            matches!(entry["level"].as_str(), Some("error" | "fatal"))
                .then(|| entry["msg"].as_str().unwrap_or_default().trim().to_owned())
        });
        errors.last()
    }
}

/// The null device, for a stream of a container that nobody has: through a read-only mount of its own. Some runtimes
/// give the standard streams to the container's user, which would be the whole machine's device.
pub fn null() -> Stdio {
    let open = || -> Result<Stdio> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = rustix::mount::open_tree(rustix::fs::CWD, "/dev/null", flags)?;
        crate::sys::mount_setattr(&mount, false, libc::MOUNT_ATTR_RDONLY, 0, None)?;
        let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
        Ok(File::options().read(true).write(true).open(path)?.into())
    };
    // Where we may not mount, the device is not ours to give either.
    open().unwrap_or_else(|_| Stdio::null())
}

/// Docker's exit status for what kept a program from starting.
pub fn status_of(words: &str) -> u8 {
    let words = words.to_lowercase();
    if words.contains("not found") || words.contains("no such file") {
        NOT_FOUND
    } else if words.contains("permission denied") || words.contains("exec format") || words.contains("is a directory") {
        CANNOT_RUN
    } else {
        FAILED
    }
}

/// Makes the run directory of a container.
pub fn make_run_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let make = || std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir);
    let mut made = make();
    for _ in 0..100 {
        match &made {
            // Another container's end has just removed what lies above.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => made = make(),
            _ => break,
        }
    }
    made.with_context(|| format!("making {}", dir.display()))
}

/// Removes it; the last one also the directory that they are all in.
pub fn remove_run_dir(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
    if let Some(above) = dir.parent() {
        let _ = std::fs::remove_dir(above);
    }
}
