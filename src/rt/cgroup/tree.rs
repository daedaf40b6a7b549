//! The directories of a container's cgroup: making, filling, signalling and removing them. Works
//! on paths of cgroup mounts, which hold no links.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use super::{Dir, Plan, Write, freezer};
use crate::sys;
use crate::sys::error::{At, text};
use crate::sys::file;

/// How long an emptied cgroup may stay busy before that is an error. Ended processes leave their
/// cgroup a little after they are reaped.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Refuses a cgroup that somebody lives in, or that is frozen: limits would hit strangers.
pub fn check_free(dir: &Dir) -> Result<()> {
    let path = Path::new(&dir.path);
    let list = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let count = list.lines().count();
    if count > 0 {
        bail!(
            "/linux/cgroupsPath: cgroup {} is in use: {count} process(es) of another container or program are in it; choose another path",
            dir.path
        );
    }
    if freezer::is_frozen_at(path, &dir.controllers) {
        bail!("/linux/cgroupsPath: cgroup {} is frozen; thaw it or choose another path", dir.path);
    }
    Ok(())
}

/// Makes one directory, parents included, and says whether it is new. On v2 the directories above
/// are made to hand the controllers of `enable` down, as far as they let us.
pub fn make(dir: &Dir, enable: &[String]) -> std::io::Result<bool> {
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
    if dir.is_v2() {
        hand_down(path, Path::new(&dir.mount), enable);
    } else if dir.controllers.split(',').any(|controller| controller == "cpuset") {
        fill_cpuset(path, Path::new(&dir.mount), new)?;
    }
    Ok(new)
}

/// Enables controllers in every directory above `path`. What cannot be enabled is no error until a
/// limit needs it: see [`refused`].
fn hand_down(path: &Path, mount: &Path, enable: &[String]) {
    let missing = |dir: &Path| -> Vec<&String> {
        let has = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
        enable.iter().filter(|name| !has.split_whitespace().any(|known| known == *name)).collect()
    };
    let Some(parent) = path.parent().filter(|_| path != mount) else { return };
    // Mostly another container was here before.
    if missing(parent).is_empty() {
        return;
    }
    let mut above: Vec<&Path> = parent.ancestors().take_while(|dir| dir.starts_with(mount)).collect();
    above.reverse();
    for dir in above {
        let names = missing(dir);
        if !names.is_empty() && holds_processes(dir) {
            // Some controllers could be enabled even so, and would make it threaded: the processes that
            // live there, and every container below, would be the worse for it.
            return;
        }
        let control = dir.join("cgroup.subtree_control");
        let all: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
        if !names.is_empty() && write_file(&control, all.join(" ").as_bytes()).is_err() {
            // One that cannot be had keeps out all that are written with it.
            for name in all {
                let _ = write_file(&control, name.as_bytes());
            }
        }
    }
}

/// Whether processes live in a v2 cgroup that is not the root, the only one that may have them beside
/// cgroups with controllers.
fn holds_processes(dir: &Path) -> bool {
    dir.join("cgroup.type").exists()
        && fs::read(dir.join("cgroup.procs")).map_or(true, |list| !list.trim_ascii().is_empty())
}

/// A v1 cpuset that nobody has filled has no CPU and no memory node and takes no process: give it its
/// parent's. A new one is known to be empty.
fn fill_cpuset(path: &Path, mount: &Path, is_new: bool) -> std::io::Result<()> {
    let Some(parent) = path.parent().filter(|_| path != mount) else { return Ok(()) };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if !is_new && !file::read(&path.join(name))?.trim_ascii().is_empty() {
            continue;
        }
        let mut value = file::read(&parent.join(name))?;
        if value.trim_ascii().is_empty() {
            fill_cpuset(parent, mount, false)?;
            value = file::read(&parent.join(name))?;
        }
        write_file(&path.join(name), &value)?;
    }
    Ok(())
}

/// One write(2) into an existing control file.
pub fn write_file(path: &Path, value: &[u8]) -> std::io::Result<()> {
    file::control(path)?.write_all(value)
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

/// Writes one limit; gives out the file where the next one may go there too.
fn apply(dir: &Dir, write: &Write) -> Result<Option<File>> {
    put(dir, write).map_err(|error| refused(dir, write, &error))
}

/// Writes one limit.
pub fn write_one(dir: &Dir, write: &Write) -> std::io::Result<()> {
    put(dir, write).map(drop)
}

fn put(dir: &Dir, write: &Write) -> std::io::Result<Option<File>> {
    let path = Path::new(&dir.path);
    let put = |name: &str, value: &str| -> std::io::Result<Option<File>> {
        let mut control = file::control(&path.join(name))?;
        control.write_all(value.as_bytes())?;
        Ok(Some(control))
    };
    let mut result = put(&write.file, &write.value);
    if let (Err(error), Some((file, value))) = (&result, &write.fallback)
        && error.kind() == ErrorKind::NotFound
    {
        // What comes next goes to the first file again.
        result = put(file, value).map(|_| None);
    }
    if write.optional && result.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(None);
    }
    result
}

/// Why a limit could not be set.
pub fn refused(dir: &Dir, write: &Write, error: &std::io::Error) -> anyhow::Error {
    let why = match (error.kind(), dir.is_v2()) {
        (ErrorKind::NotFound, true) if write.fallback.is_none() => not_handed_down(dir, &write.file),
        (ErrorKind::NotFound, _) => {
            let other = write.fallback.as_ref().map_or(String::new(), |(file, _)| format!(" and no {file}"));
            format!("this kernel has no {}{other}", write.file)
        }
        _ => format!("writing \"{}\" to {}/{}: {}", write.value, dir.path, write.file, text(error)),
    };
    anyhow!("{}: {why}", write.pointer)
}

/// A control file is missing on v2: asks the directory above once more, for its reason.
fn not_handed_down(dir: &Dir, file: &str) -> String {
    let controller = file.split('.').next().unwrap_or_default();
    let path = Path::new(&dir.path);
    let Some(parent) = path.parent().filter(|_| dir.path != dir.mount) else {
        return format!("this kernel has no {file}");
    };
    let has = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    if has.split_whitespace().any(|known| known == controller) {
        return format!("this kernel has no {file}");
    }
    let control = parent.join("cgroup.subtree_control");
    if holds_processes(parent) {
        return format!(
            "cgroup {} does not hand the {controller} controller down: processes live in it, and only a cgroup without any may do so",
            parent.display()
        );
    }
    let why = match write_file(&control, format!("+{controller}").as_bytes()) {
        Ok(()) => return format!("cgroup {} has no {file}", dir.path),
        Err(error) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => "it is threaded, and this controller is for whole processes".to_owned(),
            Some(libc::ENOENT) => format!("it does not have {controller} itself"),
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                format!("it is not delegated to this user ({})", text(&error))
            }
            _ => text(&error),
        },
    };
    format!("cgroup {} does not hand the {controller} controller down: {why}", parent.display())
}

/// Why a process could not be born into a v2 cgroup, in words; `None` when that was not the reason.
pub fn explain_entry(dir: &Dir, error: rustix::io::Errno) -> Option<String> {
    let path = Path::new(&dir.path);
    let kind = fs::read_to_string(path.join("cgroup.type")).unwrap_or_default();
    let why = match error {
        Errno::BUSY => "it hands controllers down to cgroups below it, and such a one cannot hold processes".to_owned(),
        Errno::OPNOTSUPP | Errno::AGAIN if kind.contains("threaded") || kind.contains("invalid") => format!(
            "its cgroup.type is \"{}\", and a container needs a domain; choose a path that is not below a threaded cgroup",
            kind.trim()
        ),
        Errno::ACCESS => "this user may not move processes there; the cgroup above both must be its own".to_owned(),
        _ => return None,
    };
    Some(format!("/linux/cgroupsPath: cgroup {} takes no process: {why}", dir.path))
}

/// Moves the caller, which has one thread, into a v1 group.
///
/// Moving a whole process takes a lock that stops every fork and exit on the machine, and waits for
/// a grace period of RCU to get it; a thread that moves itself through `tasks` needs no lock
/// (cgroup_procs_write_start in the kernel's kernel/cgroup/cgroup.c).
pub fn enter(path: &str) -> Result<()> {
    write_file(&Path::new(path).join("tasks"), b"0").at(|| format!("entering cgroup {path}"))
}

/// Moves a process into the group.
pub fn join(path: &str, pid: i32) -> Result<()> {
    write_file(&Path::new(path).join("cgroup.procs"), pid.to_string().as_bytes())
        .at(|| format!("moving process {pid} to cgroup {path}"))
}

/// A container's processes: those in a group, with or without all below it.
#[derive(Debug, Clone, Copy)]
pub struct Group<'p> {
    /// The directory.
    pub path: &'p Path,
    /// What is below it belongs to it.
    pub below: bool,
}

impl Group<'_> {
    /// Their ids. A cgroup that is gone has none.
    ///
    /// A container may make cgroups below its own, as deep as it likes: they are walked by descriptor,
    /// since no path is as long as that.
    pub fn processes(self) -> Result<Vec<i32>> {
        let mut list = Vec::new();
        let dir = match open(&self.path.to_string_lossy()) {
            Err(Errno::NOENT) => return Ok(list),
            other => other.at(|| format!("looking into cgroup {}", self.path.display()))?,
        };
        collect(&dir, self.below, &mut list).at(|| format!("looking below cgroup {}", self.path.display()))?;
        Ok(list)
    }

    /// Sends `signal` to every process; says how many there were.
    ///
    /// A number read from the file may belong to a stranger by the time it is used: descriptors are
    /// opened first, and only those still listed afterwards are signalled.
    pub fn signal(self, signal: i32) -> Result<usize> {
        let first = self.processes()?;
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
        let still = self.processes()?;
        let mut count = 0;
        for (pid, pidfd) in opened {
            if still.contains(&pid.as_raw_pid()) {
                match sys::pidfd_send_signal(&pidfd, signal) {
                    Ok(()) => count += 1,
                    Err(Errno::SRCH) => {}
                    Err(error) => return Err(error).at(|| format!("signalling process {pid}")),
                }
            }
        }
        Ok(count)
    }

    /// Kills all at once where the kernel can (v2, Linux 5.14): nothing can fork its way out. Says
    /// whether it could.
    pub fn kill_at_once(self) -> bool {
        self.below && write_file(&self.path.join("cgroup.kill"), b"1").is_ok()
    }

    /// Kills all and waits until they are gone.
    pub fn kill(self) -> Result<()> {
        let at_once = self.kill_at_once();
        let start = Instant::now();
        loop {
            let left = if at_once { self.processes()?.len() } else { self.signal(libc::SIGKILL)? };
            if left == 0 {
                return Ok(());
            }
            if start.elapsed() > BUSY_LIMIT {
                bail!("processes in cgroup {} do not die", self.path.display());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What is gone meanwhile is nothing.
fn gone<T: Default>(result: rustix::io::Result<T>) -> rustix::io::Result<T> {
    match result {
        Err(Errno::NOENT | Errno::NODEV) => Ok(T::default()),
        other => other,
    }
}

fn collect(dir: &OwnedFd, below: bool, list: &mut Vec<i32>) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    if let Some(file) = gone(openat(dir, "cgroup.procs", flags, Mode::empty()).map(Some))? {
        let mut text = String::new();
        match File::from(file).read_to_string(&mut text) {
            Ok(_) => list.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            // A threaded cgroup: its processes are listed above it.
            Err(error) if [Some(libc::EOPNOTSUPP), Some(libc::ENODEV)].contains(&error.raw_os_error()) => {}
            Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
    if below {
        for name in children(dir)? {
            if let Some(child) = gone(openat(dir, &*name, flags | OFlags::DIRECTORY, Mode::empty()).map(Some))? {
                collect(&child, true, list)?;
            }
        }
    }
    Ok(())
}

/// The names of the groups right below.
fn children(dir: &OwnedFd) -> rustix::io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_type() == FileType::Directory && ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes the groups below one, deepest first. Those that are busy stay.
fn remove_below(dir: &OwnedFd) -> rustix::io::Result<()> {
    for name in children(dir)? {
        match unlinkat(dir, &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::BUSY) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
        if let Some(child) = gone(openat(dir, &*name, flags, Mode::empty()).map(Some))? {
            remove_below(&child)?;
        }
        match unlinkat(dir, &*name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a group that may not be ours, if nothing is in it. A dying process gets a moment.
pub fn remove_if_empty(path: &Path) -> Result<()> {
    for _ in 0..100 {
        match fs::remove_dir(path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(Duration::from_millis(2)),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).at(|| format!("removing cgroup {}", path.display()));
            }
            _ => return Ok(()),
        }
    }
    Ok(())
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
                match open(&path.to_string_lossy()) {
                    Err(Errno::NOENT) => return Ok(()),
                    other => other.and_then(|dir| remove_below(&dir)),
                }
                .at(|| format!("removing what is below cgroup {}", path.display()))?;
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => {
                let left = Group { path, below: true }.processes().unwrap_or_default();
                let left = if left.is_empty() { String::new() } else { format!("; processes in it: {left:?}") };
                bail!("removing cgroup {}: {}{left}", path.display(), text(&error));
            }
        }
    }
}

/// The path of v2 that /proc/PID/cgroup shows for a process (cgroups(7)).
pub fn unified_path(pid: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The path that it shows for the v1 hierarchy of these controllers.
pub fn v1_path(pid: &str, controllers: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let fields = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let path = fields.filter(|(known, _)| *known == controllers).map(|(_, path)| path).next()?;
    Some(path.trim_end_matches('/').to_owned())
}

/// Gives a v2 directory to a user: itself, and the files that a delegate may write (cgroups(7)).
pub fn give(path: &str, uid: u32) -> Result<()> {
    let list = fs::read_to_string("/sys/kernel/cgroup/delegate")
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned());
    for name in std::iter::once("").chain(list.lines()) {
        match std::os::unix::fs::lchown(Path::new(path).join(name), Some(uid), None) {
            Err(error) if error.kind() == ErrorKind::NotFound && !name.is_empty() => {}
            other => other.at(|| format!("/linux/cgroupsPath: giving cgroup {path} to user {uid}"))?,
        }
    }
    Ok(())
}

/// Attaches the plan's device program. Without the right to, that is an error only where the plan
/// says so.
pub fn attach_devices(plan: &Plan, dir: &Dir) -> Result<()> {
    let Some(program) = &plan.device_program else { return Ok(()) };
    let what = || format!("/linux/resources/devices: loading the program for cgroup {}", dir.path);
    let attach = || -> rustix::io::Result<()> {
        let program = sys::bpf::load_device_program(program)?;
        let cgroup = open(&dir.path)?;
        sys::bpf::attach_device_program(&cgroup, &program, None)
    };
    match attach() {
        Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) if plan.devices_optional => Ok(()),
        other => other.at(what),
    }
}

/// Opens a directory for [`sys::clone3`] or a program.
pub fn open(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
