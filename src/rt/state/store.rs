//! The state directory: one directory a container below `--root`, mode 0700.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::{State, Status};
use crate::cgroup::freezer;
use crate::config::types::Process;
use crate::seccomp::Filter;
use crate::sys::error::At;
use crate::sys::file;

/// The longest id.
const MAX_ID: usize = 1024;

/// The socket on which a created container's init waits for `start`.
const START_SOCKET: &str = "start.sock";

/// Its name until `create` has finished.
const UNFINISHED: &str = "start.sock.new";

/// Checks an id before any path is built from it.
pub fn check_id(id: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID || id == "." || id == ".." || !id.bytes().all(known) {
        bail!("invalid container ID \"{}\": use letters, digits and _ + . - (at most {MAX_ID})", id.escape_debug());
    }
    Ok(())
}

/// The document's process object, for `exec`.
const PROCESS: &str = "process.json";

/// The finished filter, for `exec`.
const FILTER: &str = "seccomp.bpf";

/// Whether an open directory is still the one that its path names.
fn is_at(dir: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (dir.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A container's directory, locked while this value lives.
#[derive(Debug)]
pub struct Entry {
    path: PathBuf,
    /// Open from the start where it is locked, else when it is needed.
    dir: OnceCell<File>,
}

impl Entry {
    /// Makes the directory of a new container.
    pub fn create(root: &Path, id: &str) -> Result<Entry> {
        check_id(id)?;
        let path = root.join(id);
        let private = |path: &Path, parents: bool| fs::DirBuilder::new().mode(0o700).recursive(parents).create(path);
        let made = match private(&path, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                private(root, true).at(|| format!("making the state directory {}", root.display()))?;
                private(&path, false)
            }
            other => other,
        };
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("container with id \"{id}\" exists already; delete it first or choose another id")
            }
            other => other.at(|| format!("making the state directory {}", path.display()))?,
        }
        let entry = Entry::lock(path, id, FlockOperation::NonBlockingLockExclusive);
        if entry.is_err() {
            let _ = fs::remove_dir(root.join(id));
        }
        entry
    }

    /// Opens an existing container's directory and takes its lock, waiting for it.
    pub fn open(root: &Path, id: &str) -> Result<Entry> {
        check_id(id)?;
        Entry::lock(root.join(id), id, FlockOperation::LockExclusive)
    }

    /// The same, but fails at once when another command holds the lock.
    pub fn try_open(root: &Path, id: &str) -> Result<Entry> {
        check_id(id)?;
        Entry::lock(root.join(id), id, FlockOperation::NonBlockingLockExclusive)
    }

    /// For those who only look.
    pub fn unlocked(root: &Path, id: &str) -> Entry {
        Entry { path: root.join(id), dir: OnceCell::new() }
    }

    fn lock(path: PathBuf, id: &str, how: FlockOperation) -> Result<Entry> {
        let dir = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_such(id)),
            other => other.at(|| format!("opening {}", path.display()))?,
        };
        match flock(&dir, how) {
            Err(Errno::WOULDBLOCK) => bail!("container \"{id}\" is busy: another command works on it"),
            other => other.at(|| format!("locking {}", path.display()))?,
        }
        // While we waited, the directory may have been deleted, and made anew.
        if !is_at(&dir, &path) {
            return Err(no_such(id));
        }
        Ok(Entry { path, dir: OnceCell::from(dir) })
    }

    /// Lets other commands work on the container until [`Self::lock_again`].
    pub fn unlock(&self) -> Result<()> {
        match self.dir.get() {
            Some(dir) => flock(dir, FlockOperation::Unlock).at(|| format!("unlocking {}", self.path.display())),
            None => Ok(()),
        }
    }

    /// Takes the lock again; `None` if the container has been deleted meanwhile.
    pub fn lock_again(self) -> Result<Option<Entry>> {
        if let Some(dir) = self.dir.get() {
            flock(dir, FlockOperation::LockExclusive).at(|| format!("locking {}", self.path.display()))?;
            if !is_at(dir, &self.path) {
                return Ok(None);
            }
        }
        Ok(Some(self))
    }

    /// Puts the first state on disk. Nobody expects one yet, so it need not come in one step: what
    /// reads half of it is told that the container is being created.
    pub fn write_first(&self, state: &State<'_>) -> Result<()> {
        let path = self.path.join("state.json");
        File::create_new(&path)
            .and_then(|mut file| file.write_all(&serde_json::to_vec(state)?))
            .at(|| format!("writing {}", path.display()))
    }

    /// Puts the state on disk in one step.
    pub fn write(&self, state: &State<'_>) -> Result<()> {
        let what = || format!("writing {}/state.json", self.path.display());
        let json = serde_json::to_vec(state)?;
        let temporary = self.path.join("state.json.new");
        File::create(&temporary).and_then(|mut file| file.write_all(&json)).at(what)?;
        fs::rename(&temporary, self.path.join("state.json")).at(what)
    }

    /// Keeps what `exec` takes after the document, which may be changed or gone by then: the process
    /// object and the finished filter.
    pub fn write_for_exec(&self, process: Option<&Process<'_>>, filter: Option<&Filter>) -> Result<()> {
        let put = |name: &str, bytes: &[u8]| {
            let path = self.path.join(name);
            fs::write(&path, bytes).at(|| format!("writing {}", path.display()))
        };
        if let Some(process) = process {
            put(PROCESS, &serde_json::to_vec(process)?)?;
        }
        filter.map_or(Ok(()), |filter| put(FILTER, &filter.to_bytes()))
    }

    /// The text of the process object that `create` has kept.
    pub fn read_process(&self) -> Result<String> {
        let path = self.path.join(PROCESS);
        fs::read_to_string(&path).at(|| format!("reading {}", path.display()))
    }

    /// The filter that `create` has kept.
    pub fn read_filter(&self) -> Result<Filter> {
        let path = self.path.join(FILTER);
        let bytes = fs::read(&path).at(|| format!("reading {}", path.display()))?;
        Filter::from_bytes(&bytes).ok_or_else(|| anyhow!("{} is damaged", path.display()))
    }

    /// Reads the state's text; `None` when `create` was killed before it wrote any.
    pub fn read(&self) -> Result<Option<String>> {
        read_text(&self.path)
    }

    /// Removes the directory. The state goes last: while it is there, `delete` can be repeated.
    pub fn remove(self) -> Result<()> {
        let what = || format!("removing {}", self.path.display());
        let gone = |result: std::io::Result<()>| match result {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at(what),
            _ => Ok(()),
        };
        for name in [PROCESS, FILTER, START_SOCKET, "state.json"] {
            gone(fs::remove_file(self.path.join(name)))?;
        }
        match fs::remove_dir(&self.path) {
            // What a command has left that was killed.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                for file in fs::read_dir(&self.path).at(what)?.flatten() {
                    gone(fs::remove_file(file.path()))?;
                }
                gone(fs::remove_dir(&self.path))
            }
            other => gone(other),
        }
    }

    /// A socket address may hold only 108 bytes, so the directory is named by its descriptor.
    fn address(&self, name: &str) -> Result<SocketAddrUnix> {
        if self.dir.get().is_none() {
            let _ = self.dir.set(File::open(&self.path).at(|| format!("opening {}", self.path.display()))?);
        }
        let dir = self.dir.get().map_or(-1, AsRawFd::as_raw_fd);
        SocketAddrUnix::new(format!("/proc/self/fd/{dir}/{name}")).at(|| "naming the start socket".into())
    }

    /// Makes the socket on which init shall wait for `start`.
    pub fn start_socket(&self) -> Result<OwnedFd> {
        let what = || format!("making {}/{UNFINISHED}", self.path.display());
        let socket = stream_socket()?;
        bind(&socket, &self.address(UNFINISHED)?).at(what)?;
        listen(&socket, 16).at(what)?;
        Ok(socket)
    }

    /// From here on the container is created.
    pub fn finish_start_socket(&self) -> Result<()> {
        fs::rename(self.path.join(UNFINISHED), self.path.join(START_SOCKET))
            .at(|| format!("making {}/{START_SOCKET}", self.path.display()))
    }

    /// Connects to a waiting init; `None` when nobody waits.
    pub fn connect_start(&self) -> Result<Option<OwnedFd>> {
        let socket = stream_socket()?;
        match connect(&socket, &self.address(START_SOCKET)?) {
            Ok(()) => Ok(Some(socket)),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
            Err(error) => Err(error).at(|| "connecting to the container's init".into()),
        }
    }

    /// Whether the container may still have to be started.
    pub fn has_start_socket(&self) -> bool {
        self.path.join(START_SOCKET).exists()
    }

    /// The container will not be started (again).
    pub fn remove_start_socket(&self) {
        let _ = fs::remove_file(self.path.join(START_SOCKET));
    }

    /// What the container is doing, from the process itself and the socket.
    pub fn status(&self, state: &State<'_>) -> Status {
        if state.pid == 0 {
            return Status::Creating;
        }
        if state.is_alive() { self.status_of_living(state) } else { Status::Stopped }
    }

    /// The same, of one whose init has just been seen alive.
    pub fn status_of_living(&self, state: &State<'_>) -> Status {
        if self.path.join(UNFINISHED).exists() {
            return Status::Creating;
        }
        // A frozen one that waits for `start` listens as well.
        if freezer::is_frozen(&state.cgroups) {
            return Status::Paused;
        }
        if self.has_start_socket() && matches!(self.connect_start(), Ok(Some(_))) {
            return Status::Created;
        }
        Status::Running
    }
}

fn stream_socket() -> Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).at(|| "making a socket".into())
}

/// Looks without waiting for the lock: readers see the last state that was put in place.
pub fn peek(root: &Path, id: &str) -> Result<(Entry, Option<String>)> {
    check_id(id)?;
    let entry = Entry::unlocked(root, id);
    let text = entry.read()?;
    if text.is_none() && !entry.path.exists() {
        return Err(no_such(id));
    }
    Ok((entry, text))
}

/// Reads the states of many containers, one after the other.
pub struct Reader<'r> {
    root: &'r Path,
    /// Open when the first one is read: the others need not go the whole path.
    dir: OnceCell<File>,
    text: Vec<u8>,
}

impl<'r> Reader<'r> {
    /// Of the containers below `root`.
    pub fn new(root: &'r Path) -> Reader<'r> {
        Reader { root, dir: OnceCell::new(), text: Vec::new() }
    }

    /// The text of a state; `None` where there is none.
    pub fn read(&mut self, id: &str) -> Option<&str> {
        if self.dir.get().is_none() {
            let _ = self.dir.set(File::open(self.root).ok()?);
        }
        file::read_into(&mut self.text, self.dir.get()?, Path::new(&format!("{id}/state.json"))).ok()?;
        std::str::from_utf8(&self.text).ok()
    }
}

fn read_text(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("state.json");
    match file::read(&path) {
        Err(Errno::NOENT) => Ok(None),
        other => {
            let bytes = other.at(|| format!("reading {}", path.display()))?;
            // What is no text is no state either: it is said where it is parsed.
            Ok(Some(String::from_utf8(bytes).unwrap_or_default()))
        }
    }
}

/// Understands a state's text.
pub fn parse<'a>(text: &'a str, id: &str) -> Result<State<'a>> {
    serde_json::from_str(text).map_err(|error| {
        anyhow!("the state of container \"{id}\" is damaged ({error}); `rt delete --force {id}` clears it away")
    })
}

/// The ids of all containers, sorted. No directory, no containers.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at(|| format!("reading {}", root.display()))?,
    };
    let mut ids: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|id| check_id(id).is_ok())
        .collect();
    ids.sort();
    Ok(ids)
}

/// The words that engines look for.
fn no_such(id: &str) -> anyhow::Error {
    anyhow!("container \"{id}\" does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_the_directory_are_refused() {
        for id in ["a", "A-b_c.d+1", "...", "a".repeat(MAX_ID).as_str()] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", "a/b", "/", "../x", "a b", "a\n", "é", "a\0", "a".repeat(MAX_ID + 1).as_str()] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn fuzz_state() {
        let seed = serde_json::to_string(&State::default()).unwrap();
        crate::fuzz::fuzz(&[seed.as_bytes()], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            if let Ok(state) = parse(&text, "id") {
                let _ = state.group();
                let _ = state.own_cgroups().count();
                let json = state.spec_json(Status::Stopped, 1);
                assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
            }
        });
    }
}
