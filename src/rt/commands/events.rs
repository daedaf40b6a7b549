//! `events`

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

use crate::cgroup::{stats, tree, v2};
use crate::cli;
use crate::state::{State, Status, store};
use crate::sys::error::At;

/// One line of output.
#[derive(Serialize)]
struct Event<'e> {
    #[serde(rename = "type")]
    kind: &'e str,
    id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<stats::Stats>,
}

pub(super) fn events(root: &Path, args: &cli::Events) -> Result<()> {
    let interval = match interval(&args.interval) {
        Some(interval) if !interval.is_zero() => interval,
        _ => {
            bail!("--interval \"{}\": must be a time above 0, such as 5s, 500ms or 1m30s", args.interval.escape_debug())
        }
    };
    let (entry, text) = store::peek(root, &args.id)?;
    let Some(text) = text else { bail!("container not running: \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    if matches!(entry.status(&state), Status::Stopped | Status::Creating) {
        bail!("container with id \"{}\" is not running", args.id);
    }
    if args.stats {
        return say(&args.id, "stats", Some(stats::read(&state.cgroups)));
    }
    let Some(init) = Pid::from_raw(state.pid) else { bail!("container not running") };
    let init = pidfd_open(init, PidfdFlags::empty()).at(|| "watching the container".into())?;
    let out_of_memory = Watch::new(&state)?;
    let mut next = Instant::now() + interval;
    while state.is_alive() {
        match wait(&init, out_of_memory.as_ref().map(AsFd::as_fd), next)? {
            Woken::Time => {
                say(&args.id, "stats", Some(stats::read(&state.cgroups)))?;
                next += interval;
            }
            Woken::Memory => {
                let count = out_of_memory.as_ref().map_or(0, Watch::count);
                (0..count).try_for_each(|_| say(&args.id, "oom", None))?;
            }
            Woken::Ended => break,
        }
    }
    // What ended the container may have been the last of them.
    let count = out_of_memory.as_ref().map_or(0, Watch::rest);
    (0..count).try_for_each(|_| say(&args.id, "oom", None))
}

fn say(id: &str, kind: &str, data: Option<stats::Stats>) -> Result<()> {
    let line = serde_json::to_string(&Event { kind, id, data })? + "\n";
    let mut out = std::io::stdout();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).at(|| "writing to standard output".into())
}

enum Woken {
    Time,
    Memory,
    Ended,
}

fn wait(init: &OwnedFd, memory: Option<BorrowedFd<'_>>, until: Instant) -> Result<Woken> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut list = vec![PollFd::new(init, PollFlags::IN)];
        list.extend(memory.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut list, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) => return Ok(Woken::Time),
            other => other.at(|| "waiting for the container".into())?,
        };
        if list.get(1).is_some_and(|it| !it.revents().is_empty()) {
            return Ok(Woken::Memory);
        }
        return Ok(Woken::Ended);
    }
}

/// Tells when a cgroup runs out of memory: v1 by an eventfd (Documentation/admin-guide/cgroup-v1/memory.rst,
/// "OOM Control"), v2 by a change of `memory.events`.
struct Watch {
    fd: OwnedFd,
    /// The file with the counter.
    file: PathBuf,
    /// How much of it has been told.
    told: std::cell::Cell<u64>,
}

impl Watch {
    fn new(state: &State<'_>) -> Result<Option<Watch>> {
        let v1 = state.cgroups.iter().find(|dir| dir.controllers.split(',').any(|known| known == "memory"));
        let unified = state.cgroups.iter().find(|dir| &*dir.controllers == v2::UNIFIED);
        let what = || "watching for want of memory".to_owned();
        let (fd, file) = if let Some(dir) = v1 {
            let file = Path::new(&*dir.path).join("memory.oom_control");
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).at(what)?;
            let control = fs::File::open(&file).at(what)?;
            let words = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
            tree::write_file(&Path::new(&*dir.path).join("cgroup.event_control"), words.as_bytes()).at(what)?;
            (fd, file)
        } else if let Some(file) =
            unified.map(|dir| Path::new(&*dir.path).join("memory.events")).filter(|it| it.exists())
        {
            let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).at(what)?;
            inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY).at(what)?;
            (fd, file)
        } else {
            return Ok(None);
        };
        let watch = Watch { fd, file, told: std::cell::Cell::new(0) };
        watch.told.set(watch.counter().unwrap_or(0));
        Ok(Some(watch))
    }

    /// How many processes were killed for want of memory.
    fn counter(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
    }

    /// How many more there are than last time; takes the notice away.
    fn count(&self) -> u64 {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|length| length > 0) {}
        // v1 gives notice before it has chosen whom to kill.
        for _ in 0..20 {
            if self.counter().is_none_or(|now| now > self.told.get()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.rest()
    }

    /// The same, without waiting.
    fn rest(&self) -> u64 {
        let now = self.counter().unwrap_or_else(|| self.told.get());
        now.saturating_sub(self.told.replace(now))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `1m30s`, `500ms`: numbers with units, as Go writes a duration.
fn interval(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[letters..];
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    (sum.as_secs() < 1 << 31).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, millis) in [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5s", 1500), ("2h", 7_200_000)] {
            assert_eq!(interval(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "5",
            "s",
            "-5s",
            "5 s",
            "5x",
            "1e9h",
            "99999999999999h",
            ".",
            "1000000000000000h1000000000000000h1000000000000000h1000000000000000h1000000000000000h1000000000000000h",
        ] {
            assert_eq!(interval(bad), None, "{bad}");
        }
    }
}
