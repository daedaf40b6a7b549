//! The kernel's out-of-memory killer in a container: the count of its work that the memory cgroup keeps, and a
//! descriptor that says when to look.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;
use rustix::fs::inotify;

/// Where the count is.
#[derive(Default)]
pub struct Oom {
    file: PathBuf,
    seen: u64,
    until: Option<Instant>,
    /// What tells of a change, and in v1 the file that it is told of.
    alarm: Option<(OwnedFd, Option<File>)>,
}

impl Oom {
    /// The count of the cgroup that a process is in now (cgroups(7): `oom_kill` of memory.events, in v1 of
    /// memory.oom_control since Linux 4.13).
    pub fn of(pid: i32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let file = file(&text).unwrap_or_default();
        Self { alarm: alarm(&file), file, seen: 0, until: None }
    }

    /// Whether to ask again soon.
    pub fn is_awaited(&self) -> bool {
        self.until.is_some()
    }

    /// What to wait for, to ask again then.
    pub fn alarm(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(|it| it.0.as_fd())
    }

    /// Until when there is reason to ask again and again: v1 tells of the want of memory before anybody is killed.
    pub fn rang(&mut self) -> Option<Instant> {
        let mut told = [0; 512];
        if self.alarm.as_ref().is_some_and(|it| rustix::io::read(&it.0, &mut told).is_ok_and(|it| it > 0)) {
            self.until = Some(Instant::now() + Duration::from_secs(1));
        }
        self.until = self.until.filter(|it| *it > Instant::now());
        self.until
    }

    /// Whether the count has grown since the last question.
    pub fn again(&mut self) -> bool {
        let count = std::fs::read_to_string(&self.file).ok().and_then(|it| count(&it)).unwrap_or(0);
        let grown = count > self.seen;
        self.seen = self.seen.max(count);
        if grown {
            self.until = None;
        }
        grown
    }
}

fn file(cgroups: &str) -> Option<PathBuf> {
    let lines = || cgroups.lines().filter_map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>().try_into().ok());
    let v1 = lines().find(|[controllers, _]: &[&str; 2]| controllers.split(',').any(|it| it == "memory"));
    if let Some([_, path]) = v1 {
        return Some(format!("/sys/fs/cgroup/memory{path}/memory.oom_control").into());
    }
    let [_, path] = lines().find(|[controllers, _]| controllers.is_empty())?;
    Some(format!("/sys/fs/cgroup{path}/memory.events").into())
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// In v2 a file that changes, in v1 an eventfd that the kernel is told of (cgroup-v1/memory.rst, section 10).
fn alarm(file: &Path) -> Option<(OwnedFd, Option<File>)> {
    if file.ends_with("memory.events") {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).ok()?;
        inotify::add_watch(&watch, file, inotify::WatchFlags::MODIFY).ok()?;
        return Some((watch, None));
    }
    let control = File::open(file).ok()?;
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
    let mut register = File::options().write(true).open(file.with_file_name("cgroup.event_control")).ok()?;
    register.write_all(format!("{} {}", event.as_raw_fd(), control.as_raw_fd()).as_bytes()).ok()?;
    Some((event, Some(control)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts() {
        let v1 = "12:pids:/a\n5:memory:/bundle-x\n0::/u\n";
        assert_eq!(file(v1).unwrap().to_str().unwrap(), "/sys/fs/cgroup/memory/bundle-x/memory.oom_control");
        assert_eq!(file("0::/bundle-x\n").unwrap().to_str().unwrap(), "/sys/fs/cgroup/bundle-x/memory.events");
        assert_eq!(file(""), None);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(count("low 0\noom 1\noom_kill 0\noom_group_kill 0\n"), Some(0));
    }
}
