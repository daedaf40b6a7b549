//! Reads events: those of the past, and those to come.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;

use super::{Filters, OLD_FILE, is_current, lock, open};

/// Which events.
#[derive(Debug, Default)]
pub struct Query {
    /// From here on. Without one, and without an end, what has been is left out.
    pub since: Option<Timestamp>,
    /// Up to here, where reading ends.
    pub until: Option<Timestamp>,
    /// Those that are wanted.
    pub filters: Filters,
}

/// Gives the events of a store as they come, until the end that the query has, or until `each` fails; that the
/// reader of what it prints has gone away is a good end.
pub fn read(root: &Path, query: &Query, each: &mut dyn FnMut(&Value) -> io::Result<()>) -> io::Result<()> {
    match follow(root, query, each) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn follow(root: &Path, query: &Query, each: &mut dyn FnMut(&Value) -> io::Result<()>) -> io::Result<()> {
    let root = rustix::fs::open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    add_watch(&watch, format!("/proc/self/fd/{}", root.as_raw_fd()), WatchFlags::MODIFY | WatchFlags::CREATE)?;
    let mut each = |event: &Value| {
        let time = event["timeNano"].as_i64().and_then(|it| Timestamp::from_nanosecond(it.into()).ok());
        let early = time < query.since;
        let late = query.until.is_some_and(|until| time.is_some_and(|it| it > until));
        if early || late || !query.filters.fit(event) { Ok(()) } else { each(event) }
    };
    let (old, file) = both(&root)?;
    let mut current = Tail::new(file);
    if query.since.is_some() || query.until.is_some() {
        if let Some(old) = old {
            Tail::new(old).drain(&mut each)?;
        }
    } else {
        current.file.seek(SeekFrom::End(0))?;
    }
    loop {
        let now = Timestamp::now();
        current.drain(&mut each)?;
        while !is_current(&root, &current.file)? {
            // Nobody writes there any more.
            current.drain(&mut each)?;
            let (old, file) = both(&root)?;
            let same = |one: &File, other: &File| -> io::Result<bool> {
                let (one, other) = (one.metadata()?, other.metadata()?);
                Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
            };
            // Two changes at once.
            if let Some(old) = old
                && !same(&old, &current.file)?
            {
                Tail::new(old).drain(&mut each)?;
            }
            current = Tail::new(file);
            current.drain(&mut each)?;
        }
        if query.until.is_some_and(|until| now > until) {
            return Ok(());
        }
        wait(&watch, query.until)?;
    }
}

/// The file before and the current one, which belong together.
fn both(root: &OwnedFd) -> io::Result<(Option<File>, File)> {
    loop {
        let file = open(root)?;
        lock(&file, FlockOperation::NonBlockingLockShared);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let old = match rustix::fs::openat(root, OLD_FILE, flags, Mode::empty()) {
            Ok(old) => Some(old.into()),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error.into()),
        };
        let current = is_current(root, &file)?;
        rustix::fs::flock(&file, FlockOperation::Unlock)?;
        if current {
            return Ok((old, file));
        }
    }
}

/// Until something is written, or the end is reached.
fn wait(watch: &OwnedFd, until: Option<Timestamp>) -> io::Result<()> {
    let most = until.map(|it| it.duration_since(Timestamp::now()).unsigned_abs() + Duration::from_millis(1));
    let most = most.and_then(|it| it.try_into().ok());
    match rustix::event::poll(&mut [PollFd::new(watch, PollFlags::IN)], most.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut changes = [0; 4096];
    while rustix::io::read(watch, &mut changes).is_ok_and(|count| count > 0) {}
    Ok(())
}

/// A file that is read as it grows.
struct Tail {
    file: File,
    /// The beginning of a line whose end is not there yet.
    part: Vec<u8>,
}

impl Tail {
    fn new(file: File) -> Self {
        Self { file, part: Vec::new() }
    }

    fn drain(&mut self, each: &mut dyn FnMut(&Value) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.part.extend_from_slice(&buffer[..count]);
            let Some(end) = memchr::memrchr(b'\n', &self.part) else { continue };
            for line in self.part[..end].split(|&byte| byte == b'\n') {
                // What is no event is nothing that we have written.
                if let Ok(event) = serde_json::from_slice::<Value>(line) {
                    each(&event)?;
                }
            }
            self.part.drain(..=end);
        }
    }
}
