//! A container in the foreground: made of an image, run by an OCI runtime, waited for.
//!
//! The root file system is mounted in a mount namespace of this process alone, which the runtime inherits:
//! however this process ends, no mount is left.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rusqlite::{OptionalExtension, params};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions};

use super::spec::{self, Place};
use super::{files, random_id};
use crate::cli::Driver;
use crate::cli::flags::Flags;
use crate::image::config::ImageConfig;
use crate::layer::flatten::flatten;
use crate::layer::overlay;
use crate::store::{Image, Layer, Store, now};
use crate::tool::Tool;
use crate::volume;

/// Docker's exit statuses of a container that did not come to be.
pub const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// How to run it.
pub struct Options<'a> {
    /// The flags that config.json is made of.
    pub flags: &'a Flags,
    /// The words behind the image's name.
    pub command: &'a [String],
    /// The container's name.
    pub name: Option<&'a str>,
    /// Remove it when it has ended.
    pub remove: bool,
    /// Give it our standard input.
    pub interactive: bool,
}

/// A container that has a row and a directory. Its lock is held as long as this process lives.
struct Container<'a> {
    tool: &'a Tool,
    store: &'a Store,
    id: String,
    dir: PathBuf,
    #[allow(dead_code)]
    lock: File,
}

/// Runs a container of an image and gives the exit status.
pub fn run(tool: &Tool, image: &Image, image_name: &str, options: &Options<'_>) -> Result<u8> {
    let store = tool.store()?;
    let (_, config) = store.read(image)?;
    let flags = spec::check(&config.config, options.flags, tool.plain_user)?;
    let options = &Options { flags: &flags, ..*options };
    let volumes = config.config.volumes.iter().flatten().map(|it| it.0.as_str());
    let mounts = volume::resolve(&flags, volumes, &mut |name| bail!("container {name} does not keep its mounts"))?;
    let words = spec::arguments(&config.config, options.flags.entrypoint.as_deref(), options.command)?;
    if options.interactive && options.flags.tty && !rustix::termios::isatty(std::io::stdin()) {
        bail!("-it: the standard input is no terminal; leave -t away");
    }
    sweep(tool)?;
    let layers = crate::transfer::unpacked(tool, image)?;
    let container = Container::register(tool, image, image_name, options, &words, &mounts)?;
    let result = container.execute(&config, &layers, options, &mounts);
    match &result {
        Ok(status) if !options.remove => container.ended(*status)?,
        _ => container.remove()?,
    }
    result
}

impl<'a> Container<'a> {
    /// Directory, lock and row, in this order: what has a row also has the rest.
    fn register(
        tool: &'a Tool,
        image: &Image,
        image_name: &str,
        options: &Options<'_>,
        words: &[String],
        mounts: &[volume::Mount],
    ) -> Result<Self> {
        let store = tool.store()?;
        let making = store.announce()?;
        let id = random_id()?;
        let name = options.name.map_or_else(|| format!("c-{}", &id[..12]), str::to_owned);
        check_name(&name)?;
        let dir = store.root().join("containers").join(&id);
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        for below in ["upper", "work", "rootfs"] {
            std::fs::create_dir(dir.join(below))?;
        }
        // The container's `/` is the upper directory's as soon as something is written there.
        rustix::fs::chmod(dir.join("upper"), Mode::from_raw_mode(0o755))?;
        let lock = lock(&dir)?.context("a new container's lock is taken")?;
        let chain = image.chain.as_ref().map(|it| it.as_str().to_owned());
        let written = store.write(|db| {
            let taken: Option<String> =
                db.query_row("SELECT id FROM containers WHERE name = ?1", [&name], |row| row.get(0)).optional()?;
            if let Some(other) = taken {
                bail!(
                    "the name {name:?} is taken by container {}: remove it (`bundle rm {name}`) or take another",
                    &other[..12]
                );
            }
            // Removed since we looked? The row holds them from now on.
            if let Some(chain) = &chain
                && !db.prepare_cached("SELECT 1 FROM layers WHERE chain = ?1")?.exists([chain])?
            {
                bail!("image {image_name} has just been removed");
            }
            db.execute(
                "INSERT INTO containers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, ?8)",
                params![
                    id,
                    name,
                    image.digest.as_str(),
                    image_name,
                    chain,
                    serde_json::to_string(words)?,
                    now(),
                    options.remove
                ],
            )?;
            volume::claim(db, &id, mounts)
        });
        if written.is_err() {
            store.remove_files(&format!("containers/{id}"))?;
        }
        written?;
        drop(making);
        Ok(Self { tool, store, id, dir, lock })
    }

    fn execute(
        &self,
        config: &ImageConfig,
        layers: &[Layer],
        options: &Options<'_>,
        mounts: &[volume::Mount],
    ) -> Result<u8> {
        let rootfs = self.dir.join("rootfs");
        crate::namespace::own_mounts()?;
        let target: OwnedFd =
            rustix::fs::open(&rootfs, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match self.tool.driver {
            Driver::Overlay => {
                let own = Path::new("containers").join(&self.id);
                overlay(
                    self.tool,
                    layers,
                    Some((&own.join("upper"), &own.join("work"))),
                    target.as_fd(),
                    options.remove,
                )?;
            }
            Driver::Vfs => {
                let dirs = layers.iter().map(|it| self.store.open_layer(&it.dir)).collect::<Result<Vec<OwnedFd>>>()?;
                let dirs: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
                flatten(&dirs, target.as_fd(), self.tool.overlay()).context("copying the image's layers")?;
            }
        }
        drop(target);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root: OwnedFd = rustix::fs::open(&rootfs, flags, Mode::empty())?;
        let short = &self.id[..12];
        let files = files::write(&self.dir, options.flags, short, None)?;
        let site = volume::Site {
            store: self.store,
            dir: &self.dir,
            root: root.as_fd(),
            overlay: self.tool.overlay(),
            users: None,
            owner: spec::owner(&config.config, options.flags, root.as_fd())?,
        };
        let prepared = volume::prepare(&site, mounts)?;
        let place = Place {
            root_path: "rootfs",
            root: root.as_fd(),
            hostname: short,
            cgroup: if self.tool.plain_user { None } else { Some(spec::cgroup(options.flags, &self.id)?) },
            files: &files,
            mounts: &prepared.mounts,
            propagation: prepared.propagation,
            join: &[],
            shm: None,
            ids: None,
            plain_user: self.tool.plain_user,
        };
        let document = spec::build(&config.config, options.flags, options.command, &place)?;
        std::fs::write(self.dir.join("config.json"), serde_json::to_vec(&document)?).context("writing config.json")?;
        drop(root);

        let log = self.dir.join("runtime.log");
        let stdin = if options.interactive { Stdio::inherit() } else { Stdio::null() };
        let signals = Signals::block()?;
        self.tool.make_runtime_dir(&self.id)?;
        let mut command = self.tool.runtime_command(&self.id);
        command
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json", "run", "--bundle"])
            .arg(&self.dir)
            .arg(&self.id)
            .stdin(stdin);
        // The runtime tells the person what has failed; its log tells us whether the status is the program's.
        let mut child =
            command.spawn().with_context(|| format!("starting the runtime {}", self.tool.runtime.display()))?;
        let status = signals.relay_until_end(&mut child)?;
        match failure(&log, status) {
            Some(words) => Ok(status_of(&words)),
            None => Ok(status),
        }
    }

    fn ended(&self, status: u8) -> Result<()> {
        unmount(&self.dir);
        self.tool.remove_runtime_dir(&self.id);
        tidy(&self.dir.join("upper"))?;
        self.store.write(|db| {
            db.execute("UPDATE containers SET exit_status = ?2 WHERE id = ?1", params![self.id, status])?;
            Ok(())
        })
    }

    fn remove(&self) -> Result<()> {
        unmount(&self.dir);
        self.tool.remove_runtime_dir(&self.id);
        remove(self.store, &self.id)
    }
}

/// Removes a container that has ended: its row, then its files.
pub fn remove(store: &Store, id: &str) -> Result<()> {
    store.write(|db| {
        volume::release(store, db, id, true)?;
        db.execute("DELETE FROM containers WHERE id = ?1", [id])?;
        Ok(())
    })?;
    store.remove_files(&format!("containers/{id}"))
}

/// Deals with containers whose `bundle` was killed: what still runs is ended, what was to be removed goes.
pub fn sweep(tool: &Tool) -> Result<()> {
    let store = tool.store()?;
    let mut statement = store.db().prepare_cached("SELECT id, remove FROM containers WHERE exit_status IS NULL")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))?;
    for row in rows.collect::<rusqlite::Result<Vec<_>>>()? {
        let (id, auto_remove) = row;
        let dir = store.root().join("containers").join(&id);
        let held = match lock(&dir) {
            Ok(Some(held)) => Some(held),
            Ok(None) => continue,
            Err(_) => None,
        };
        let mut delete = tool.runtime_command(&id);
        let _ = delete.args(["delete", "--force", &id]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        tool.remove_runtime_dir(&id);
        if auto_remove || held.is_none() {
            remove(store, &id)?;
        } else {
            store.write(|db| {
                db.execute("UPDATE containers SET exit_status = 137 WHERE id = ?1", [&id])?;
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// The lock of a container's directory, `None` while its `bundle` lives.
fn lock(dir: &Path) -> Result<Option<File>> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Mounts layers, and what a container has written if `upper` says where, in our own mount namespace.
fn overlay(
    tool: &Tool,
    layers: &[Layer],
    upper: Option<(&Path, &Path)>,
    target: BorrowedFd<'_>,
    volatile: bool,
) -> Result<()> {
    let layers: Vec<PathBuf> = layers.iter().map(|it| Path::new("layers").join(&it.dir)).collect();
    let mount = overlay::Mount { layers: &layers, upper, overlay: tool.overlay(), volatile };
    overlay::mount(tool.dir_to_mount_in()?.as_fd(), &mount, target).context("mounting the container's root file system")
}

/// A container that the database knows.
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether its `bundle` lives.
    pub running: bool,
    /// The digest of its image's manifest.
    pub image: String,
    chain: Option<String>,
}

/// All containers, the oldest first.
pub fn all(tool: &Tool) -> Result<Vec<Known>> {
    let store = tool.store()?;
    let mut statement = store
        .db()
        .prepare_cached("SELECT id, name, exit_status IS NULL, chain, image FROM containers ORDER BY created, id")?;
    let rows = statement.query_map([], |row| {
        Ok(Known { id: row.get(0)?, name: row.get(1)?, running: row.get(2)?, chain: row.get(3)?, image: row.get(4)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A container by its name or the beginning of its id.
pub fn find(tool: &Tool, text: &str) -> Result<Known> {
    let all = all(tool)?;
    let mut found: Vec<Known> = Vec::new();
    for it in all {
        if it.name == text {
            return Ok(it);
        }
        if !text.is_empty() && it.id.starts_with(text) {
            found.push(it);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => bail!("no such container: {text}"),
        many => bail!("container id {text:?} is the beginning of {many} ids: give more digits"),
    }
}

/// The files of a container that has ended, mounted for us alone.
pub fn rootfs(tool: &Tool, container: &Known) -> Result<OwnedFd> {
    let store = tool.store()?;
    if container.running {
        bail!("container {} is running: its files are still changing", container.name);
    }
    let dir = store.root().join("containers").join(&container.id).join("rootfs");
    let open = || rustix::fs::open(&dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    if tool.driver == Driver::Overlay {
        crate::namespace::own_mounts()?;
        let layers = match &container.chain {
            Some(chain) => store.layers(&chain.parse()?)?,
            None => Vec::new(),
        };
        let own = Path::new("containers").join(&container.id);
        overlay(tool, &layers, Some((&own.join("upper"), &own.join("work"))), open()?.as_fd(), false)?;
    }
    Ok(open()?)
}

/// Removes what the runtime has made for its mounts to stand on, as far as nobody has put anything there: the
/// container has not changed it, so it is in no commit.
fn tidy(upper: &Path) -> Result<()> {
    let upper = rustix::fs::open(upper, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // The container may have made a link of `etc`.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(etc) = rustix::fs::openat2(&upper, "etc", flags, Mode::empty(), resolve) {
        for (path, _) in files::FILES {
            let name = path.trim_start_matches("/etc/");
            let empty = |it: rustix::fs::Stat| FileType::from_raw_mode(it.st_mode).is_file() && it.st_size == 0;
            if rustix::fs::statat(&etc, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(empty) {
                rustix::fs::unlinkat(&etc, name, AtFlags::empty())?;
            }
        }
    }
    for name in ["dev", "proc", "sys"] {
        match rustix::fs::unlinkat(&upper, name, AtFlags::REMOVEDIR) {
            // Not made, or the container's own.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(error) => return Err(error).context("tidying the container's files"),
        }
    }
    Ok(())
}

fn unmount(dir: &Path) {
    let _ = rustix::mount::unmount(dir.join("rootfs"), rustix::mount::UnmountFlags::DETACH);
}

/// Docker's rule for names.
fn check_name(name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    let rest = name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it));
    if !first || !rest || name.len() < 2 || name.len() > 128 {
        bail!("--name {name:?}: 2 to 128 letters, digits, '_', '.' and '-', the first a letter or a digit");
    }
    Ok(())
}

/// What the runtime's log says where the container did not start.
fn failure(log: &Path, status: u8) -> Option<String> {
    if status == 0 {
        return None;
    }
    let lines = BufReader::new(File::open(log).ok()?).lines();
    let last = lines.map_while(Result::ok).filter_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(&line).ok()?;
        matches!(entry["level"].as_str(), Some("error" | "fatal"))
            .then(|| entry["msg"].as_str().unwrap_or_default().trim().to_owned())
    });
    last.last()
}

/// Docker's exit status for what kept a container from starting.
fn status_of(words: &str) -> u8 {
    let words = words.to_lowercase();
    if words.contains("not found") || words.contains("no such file") {
        NOT_FOUND
    } else if words.contains("permission denied") || words.contains("exec format") || words.contains("is a directory") {
        CANNOT_RUN
    } else {
        FAILED
    }
}

/// Signals that are sent to us, for the runtime that passes them on. What the terminal sends it sends to both.
struct Signals {
    fd: SignalFd,
}

impl Signals {
    fn block() -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in
            [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2]
        {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self { fd: SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    fn relay_until_end(&self, child: &mut Child) -> Result<u8> {
        let pid = Pid::from_child(child);
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("the runtime's process")?;
        loop {
            let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(&self.fd, PollFlags::IN)];
            match rustix::event::poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            while let Some(info) = self.fd.read_signal()? {
                const FROM_KERNEL: i32 = 0x80;
                if info.ssi_code != FROM_KERNEL
                    && let Some(signal) = rustix::process::Signal::from_named_raw(info.ssi_signo as i32)
                {
                    let _ = rustix::process::pidfd_send_signal(&process, signal);
                }
            }
            if let Some((_, status)) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG)? {
                let code = status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|it| 128 + it))
                    .unwrap_or(i32::from(FAILED));
                return Ok(u8::try_from(code).unwrap_or(FAILED));
            }
        }
    }
}

/// The runtime, with a state directory for each container: what one leaves there goes with it, and no other is in it.
impl Tool {
    fn runtime_dir(&self, id: &str) -> PathBuf {
        self.state_dir().join(id)
    }

    fn runtime_command(&self, id: &str) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.runtime_dir(id));
        command
    }

    fn make_runtime_dir(&self, id: &str) -> Result<()> {
        let dir = self.runtime_dir(id);
        let make = || std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&dir);
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

    /// The last one also removes the directory that they are all in.
    fn remove_runtime_dir(&self, id: &str) {
        let _ = std::fs::remove_dir_all(self.runtime_dir(id));
        let _ = std::fs::remove_dir(self.state_dir());
    }
}
