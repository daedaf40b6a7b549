//! What changes of a container: the file `state` in its directory.
//!
//! Only who holds the container's lock writes it: the monitor while there is one, else a command. A reader never
//! trusts it alone: it is asked whether the lock is still held, and whether the process is still the same.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has not run yet, or could not be started.
    #[default]
    Created,
    /// The runtime is at work.
    Starting,
    /// Its first process lives.
    Running,
    /// Between two runs, by its restart policy.
    Restarting,
    /// It has ended.
    Exited,
}

/// See the head of the file. Times are nanoseconds since 1970, 0 for never.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where it is in its life.
    pub status: Status,
    /// Whether its processes are frozen.
    pub paused: bool,
    /// Its first process.
    pub process: Option<Process>,
    /// The process that looks after it.
    pub monitor: Option<Process>,
    /// When it was last started.
    pub started: i64,
    /// When it last ended.
    pub finished: i64,
    /// The status of the last end; 128 and the signal's number where one ended it.
    pub exit: Option<i32>,
    /// Whether the kernel's out-of-memory killer has ended one of its processes.
    pub oom: bool,
    /// Why it could not be started, or what was lost.
    pub error: Option<String>,
    /// How often its policy has started it anew.
    pub restarts: u32,
    /// Whether it was ended by hand: no policy starts it then.
    pub stopped: bool,
    /// What its health check has found.
    pub health: Option<Health>,
}

/// A process that cannot be mistaken for another with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it began, in ticks since the machine's start (proc(5), /proc/PID/stat, field 22).
    pub start: u64,
    /// Which start of the machine.
    pub boot: String,
}

/// What a health check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures since the last success.
    pub failing_streak: u32,
    /// The last five.
    pub log: Vec<Probe>,
}

/// One run of a health check. Times as [`State`]'s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Probe {
    /// When it began.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// The command's status; -1 for none in time.
    pub exit_code: i32,
    /// The first 4 KiB of what it printed.
    pub output: String,
}

impl Process {
    /// The process with this number, also where it is a zombie; `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: stat(pid)?.1, boot: boot() })
    }

    /// Whether it is still there: a zombie is not.
    pub fn lives(&self) -> bool {
        stat(self.pid) == Some((true, self.start)) && self.boot == boot()
    }
}

/// Whether a process is more than a zombie, and when it began.
fn stat(pid: i32) -> Option<(bool, u64)> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let behind = stat.iter().rposition(|it| *it == b')')? + 2;
    let mut fields = std::str::from_utf8(stat.get(behind..)?).ok()?.split(' ');
    let lives = !matches!(fields.next()?, "Z" | "X");
    Some((lives, fields.nth(18)?.parse().ok()?))
}

/// Which start of the machine this is (random(4), boot_id).
pub fn boot() -> String {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    BOOT.get_or_init(read).clone()
}

impl State {
    /// Reads the state of the container in a directory. One that has none has not been started.
    pub fn read(dir: &Path) -> Result<Self> {
        match std::fs::read(dir.join("state")) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{}/state is damaged", dir.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}/state", dir.display())),
        }
    }

    /// Whether one has been written.
    pub fn exists(dir: &Path) -> bool {
        dir.join("state").exists()
    }

    /// Writes it: readers see the old or the new one. `durable`: also after a loss of power.
    pub fn write(&self, dir: &Path, durable: bool) -> Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let written = match put(dir, &bytes, durable) {
            // A container that has filled the disk still gets its exit status written.
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                std::fs::remove_file(dir.join(RESERVE)).and_then(|()| put(dir, &bytes, durable))
            }
            other => other,
        };
        written.with_context(|| format!("writing {}/state", dir.display()))
    }

    /// Whether somebody must be there who looks after it.
    pub fn live(&self) -> bool {
        matches!(self.status, Status::Starting | Status::Running | Status::Restarting)
    }
}

/// Keeps room for the state of a new container, against the day when the disk is full.
pub fn reserve(dir: &Path) -> Result<()> {
    let path = dir.join(RESERVE);
    std::fs::write(&path, [b' '; 4 * 4096]).with_context(|| format!("writing {}", path.display()))
}

const RESERVE: &str = "reserve";

fn put(dir: &Path, bytes: &[u8], durable: bool) -> std::io::Result<()> {
    let new = dir.join("state.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    if durable {
        file.sync_data()?;
    }
    std::fs::rename(&new, dir.join("state"))?;
    if durable {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// The lock of a container's directory, `None` while its monitor, or a command that changes it, lives.
pub fn try_lock(dir: &Path) -> Result<Option<File>> {
    let file = lock_file(dir)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The lock, as soon as nobody else has it; `None` after so long a wait.
pub fn lock_within(dir: &Path, wait: std::time::Duration) -> Result<Option<File>> {
    let end = std::time::Instant::now() + wait;
    let mut pause = std::time::Duration::from_micros(200);
    loop {
        if let Some(lock) = try_lock(dir)? {
            return Ok(Some(lock));
        }
        if std::time::Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(std::time::Duration::from_millis(4));
    }
}

fn lock_file(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    open.with_context(|| format!("opening {}", path.display()))
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |it| i64::try_from(it.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_with_its_number() {
        let us = Process::of(std::process::id() as i32).unwrap();
        assert!(us.lives());
        assert!(!Process { start: us.start + 1, ..us.clone() }.lives());
        assert!(!Process { boot: "another".into(), ..us }.lives());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        // A zombie by now.
        let process = Process::of(child.id() as i32).unwrap();
        assert!(!process.lives());
        child.wait().unwrap();
        assert_eq!(Process::of(process.pid), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = std::env::temp_dir().join(format!("rt-bundle-state-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert_eq!(State::read(&dir).unwrap(), State::default());
        let state = State { status: Status::Exited, exit: Some(137), oom: true, ..State::default() };
        state.write(&dir, true).unwrap();
        assert_eq!(State::read(&dir).unwrap(), state);
        // What an older or newer program has not written, or more, is no fault.
        std::fs::write(dir.join("state"), r#"{"status":"running","new":1}"#).unwrap();
        assert!(State::read(&dir).unwrap().live());
        std::fs::write(dir.join("state"), "{").unwrap();
        assert!(State::read(&dir).is_err());
        let lock = try_lock(&dir).unwrap().unwrap();
        assert!(try_lock(&dir).unwrap().is_none());
        drop(lock);
        assert!(try_lock(&dir).unwrap().is_some());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
