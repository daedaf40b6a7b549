//! Opens a log's files as they appear, in a thread of its own: whoever reads may be as slow as a person, and a file
//! that is open can be read after the writer has removed it. How the writer is kept from removing what is not open
//! yet: see `Writer::remove_old`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Generation;

/// All files of a log that are there now, in order: from the first on none is missing. The newest has the lock.
pub fn snapshot(dir: impl AsFd) -> io::Result<Vec<Generation>> {
    'again: loop {
        let mut found: Vec<Generation> = Vec::new();
        for number in super::numbers(&dir)? {
            match super::open(&dir, number)? {
                Some(file) => found.push(Generation { number, file, missed: 0 }),
                // The oldest may go at any time; where one behind it has gone, we were too slow.
                None if found.is_empty() => {}
                None => continue 'again,
            }
        }
        let Some(newest) = found.last() else { return Ok(found) };
        lock(&newest.file)?;
        if newest.file.metadata()?.nlink() > 0 {
            return Ok(found);
        }
    }
}

fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(file, FlockOperation::LockShared))?)
}

/// The thread, as the reader sees it.
pub struct Collector {
    thread: Option<JoinHandle<io::Result<()>>>,
    files: Receiver<Generation>,
    /// Tells that a file has come.
    arrived: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
}

impl Collector {
    /// Begins behind the newest file of a snapshot.
    pub fn start(dir: OwnedFd, newest: Option<&Generation>) -> io::Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        // Each file that has been removed and not been read is a descriptor.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let (sender, files) = channel();
        let arrived = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let mut work = Work {
            watch: watch(&[(&dir, WatchFlags::CREATE)])?,
            dir,
            number: newest.map_or(0, |it| it.number),
            locked: newest.map(|it| it.file.try_clone()).transpose()?,
            sender,
            arrived: Arc::clone(&arrived),
            stop: Arc::clone(&stop),
        };
        let thread = std::thread::Builder::new().name("log files".into()).spawn(move || work.run())?;
        Ok(Self { thread: Some(thread), files, arrived, stop })
    }

    /// The next file, if it is there already.
    pub fn next(&self) -> Option<Generation> {
        let _ = rustix::io::read(&self.arrived, &mut [0; 8]);
        self.files.try_recv().ok()
    }

    /// Becomes readable when a file has come.
    pub fn arrived(&self) -> &OwnedFd {
        &self.arrived
    }

    /// The writer has ended: after this, `next` gives all files that there are.
    pub fn finish(&mut self) -> io::Result<()> {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that opens the log's files has failed")),
            None => Ok(()),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

struct Work {
    dir: OwnedFd,
    watch: OwnedFd,
    number: u64,
    locked: Option<File>,
    sender: Sender<Generation>,
    arrived: Arc<OwnedFd>,
    stop: Arc<OwnedFd>,
}

impl Work {
    fn run(&mut self) -> io::Result<()> {
        let mut stopping = false;
        loop {
            while let Some(next) = self.open_next()? {
                lock(&next.file)?;
                if let Some(before) = self.locked.replace(next.file.try_clone()?) {
                    rustix::fs::flock(before, FlockOperation::Unlock)?;
                }
                self.number = next.number;
                if self.sender.send(next).is_err() {
                    return Ok(());
                }
                let _ = rustix::io::write(&self.arrived, &1u64.to_ne_bytes());
            }
            if stopping {
                return Ok(());
            }
            wait(&[&self.watch, &self.stop], None)?;
            drain(&self.watch);
            stopping = rustix::io::read(&self.stop, &mut [0; 8]).is_ok();
        }
    }

    /// The file behind the last one. Where the process has as many open as it may, the reader has to get on first.
    fn open_next(&self) -> io::Result<Option<Generation>> {
        loop {
            match self.try_open_next() {
                Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn try_open_next(&self) -> io::Result<Option<Generation>> {
        let mut number = self.number + 1;
        loop {
            if let Some(file) = super::open(&self.dir, number)? {
                let missed = if self.number == 0 { 0 } else { number - self.number - 1 };
                return Ok(Some(Generation { number, file, missed }));
            }
            // Either there is none yet, or we were stopped for so long that the writer has not waited.
            match super::numbers(&self.dir)?.into_iter().find(|it| *it > self.number) {
                Some(found) => number = found,
                None => return Ok(None),
            }
        }
    }
}

/// A descriptor that becomes readable at changes in directories.
pub fn watch(dirs: &[(&OwnedFd, WatchFlags)]) -> io::Result<OwnedFd> {
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    for (dir, what) in dirs {
        add_watch(&watch, format!("/proc/self/fd/{}", dir.as_raw_fd()), *what | WatchFlags::ONLYDIR)?;
    }
    Ok(watch)
}

/// Reads away what a watch has to tell.
pub fn drain(watch: &OwnedFd) {
    let mut events = [0; 4096];
    while rustix::io::read(watch, &mut events).is_ok_and(|count| count > 0) {}
}

/// Waits until one of them is readable, at most so long.
pub fn wait(what: &[&OwnedFd], most: Option<Duration>) -> io::Result<()> {
    let mut polled: Vec<PollFd<'_>> = what.iter().map(|it| PollFd::new(*it, PollFlags::IN)).collect();
    let most = most.and_then(|it| it.try_into().ok());
    match rustix::event::poll(&mut polled, most.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory to read and to watch it.
pub fn open_dir(path: &std::path::Path) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
