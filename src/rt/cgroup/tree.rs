//! The directories of a container's cgroup: making, filling, signalling and removing them. Works
//! on paths of cgroup mounts, which only root can change.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use rustix::process::{PidfdFlags, pidfd_open};

use super::{Dir, Write};
use crate::sys;
use crate::sys::error::{At, text};

/// How long an emptied cgroup may stay busy before that is an error. Ended processes leave their
/// cgroup a little after they are reaped.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Makes one directory, parents included, and says whether it is new.
pub fn make(dir: &Dir) -> std::io::Result<bool> {
    let path = Path::new(&dir.path);
    let new = match fs::create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(path)?;
            true
        }
        Err(error) => return Err(error),
    };
    if new && dir.controllers.split(',').any(|controller| controller == "cpuset") {
        fill_cpuset(path, Path::new(&dir.mount))?;
    }
    Ok(new)
}

/// A new v1 cpuset has no CPU and no memory node and takes no process: give it its parent's.
fn fill_cpuset(path: &Path, mount: &Path) -> std::io::Result<()> {
    let Some(parent) = path.parent().filter(|_| path != mount) else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut value = fs::read(parent.join(file))?;
        if value.trim_ascii().is_empty() {
            fill_cpuset(parent, mount)?;
            value = fs::read(parent.join(file))?;
        }
        write_file(&path.join(file), &value)?;
    }
    Ok(())
}

/// One write(2) into an existing control file.
fn write_file(path: &Path, value: &[u8]) -> std::io::Result<()> {
    File::options().write(true).open(path)?.write_all(value)
}

/// Writes limits in their order. A file that several in a row go to is opened once.
pub fn apply_all(dirs: &[Dir], writes: &[Write]) -> Result<()> {
    let mut open: Option<(&Write, File)> = None;
    for write in writes {
        match &open {
            Some((before, file)) if before.dir == write.dir && before.file == write.file => {
                (&*file).write_all(write.value.as_bytes()).map_err(|error| refused(&dirs[write.dir], write, &error))?;
            }
            _ => open = apply(&dirs[write.dir], write)?.map(|file| (write, file)),
        }
    }
    Ok(())
}

/// Writes one limit; gives out the file.
fn apply(dir: &Dir, write: &Write) -> Result<Option<File>> {
    let path = Path::new(&dir.path);
    let put = |name: &str| -> std::io::Result<File> {
        let mut file = File::options().write(true).open(path.join(name))?;
        file.write_all(write.value.as_bytes())?;
        Ok(file)
    };
    let mut result = put(&write.file);
    if let (Err(error), Some(other)) = (&result, &write.fallback)
        && error.kind() == ErrorKind::NotFound
    {
        result = put(other);
    }
    if write.optional && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    result.map(Some).map_err(|error| refused(dir, write, &error))
}

fn refused(dir: &Dir, write: &Write, error: &std::io::Error) -> anyhow::Error {
    let why = if error.kind() == ErrorKind::NotFound {
        format!("this kernel has no {}", write.file)
    } else {
        format!("writing \"{}\" to {}/{}: {}", write.value, dir.path, write.file, text(error))
    };
    anyhow!("{}: {why}", write.pointer)
}

/// Moves the caller, which has one thread, into the group.
///
/// Moving a whole process takes a lock that stops every fork and exit on the machine, and waits for
/// a grace period of RCU to get it; a thread that moves itself through `tasks` needs no lock
/// (cgroup_procs_write_start in the kernel's kernel/cgroup/cgroup.c).
pub fn enter(dir: &Dir) -> Result<()> {
    write_file(&Path::new(&dir.path).join("tasks"), b"0").at(|| format!("entering cgroup {}", dir.path))
}

/// Moves a process into the group.
pub fn join(dir: &Dir, pid: i32) -> Result<()> {
    write_file(&Path::new(&dir.path).join("cgroup.procs"), pid.to_string().as_bytes())
        .at(|| format!("moving process {pid} to cgroup {}", dir.path))
}

/// The processes in a group and in all below it.
fn processes(path: &Path, into: &mut Vec<i32>) {
    let Ok(list) = fs::read_to_string(path.join("cgroup.procs")) else { return };
    into.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
    for child in children(path) {
        processes(&child, into);
    }
}

fn children(path: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Sends `signal` to every process of the group; says how many there were.
///
/// A number read from the file may belong to a stranger by the time it is used: descriptors are
/// opened first, and only those still listed afterwards are signalled.
pub fn signal_all(path: &Path, signal: i32) -> Result<usize> {
    let mut first = Vec::new();
    processes(path, &mut first);
    if first.is_empty() {
        return Ok(0);
    }
    let opened: Vec<_> = first
        .into_iter()
        .filter_map(|pid| {
            let pid = rustix::process::Pid::from_raw(pid)?;
            Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))
        })
        .collect();
    let mut still = Vec::new();
    processes(path, &mut still);
    let mut count = 0;
    for (pid, pidfd) in opened {
        if still.contains(&pid.as_raw_pid()) {
            match sys::pidfd_send_signal(&pidfd, signal) {
                Ok(()) => count += 1,
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error).at(|| format!("signalling process {pid}")),
            }
        }
    }
    Ok(count)
}

/// Kills what is in the group and waits until it is gone.
pub fn kill_all(path: &Path) -> Result<()> {
    let start = Instant::now();
    while signal_all(path, libc::SIGKILL)? > 0 {
        if start.elapsed() > BUSY_LIMIT {
            bail!("processes in cgroup {} do not die", path.display());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Removes a group that may not be ours, if nothing is in it. A dying process gets a moment.
pub fn remove_if_empty(path: &Path) {
    for _ in 0..100 {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
            _ => return,
        }
    }
}

/// Removes the group with the groups below it. One that is gone already is no error.
pub fn remove(path: &Path) -> Result<()> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    let mut tries = 0;
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && start.elapsed() < BUSY_LIMIT => {
                // A process that has been waited for leaves its cgroup a few microseconds later:
                // that is not worth a timer.
                tries += 1;
                if tries < 20 {
                    std::thread::yield_now();
                    continue;
                }
                for child in children(path) {
                    remove(&child)?;
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => {
                let mut left = Vec::new();
                processes(path, &mut left);
                bail!("removing cgroup {}: {}; processes in it: {left:?}", path.display(), text(&error));
            }
        }
    }
}
