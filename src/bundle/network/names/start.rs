//! Starting a server, and its life as a process.
//!
//! The lock of the file `server` is taken by the command that starts the server and inherited by it: from the moment
//! that the command lets go of `lock`, everybody sees that there is one.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit};

use super::network::{Config, HERE, read};
use super::place;
use super::server::Server;
use crate::network::overlay::Agent;
use crate::network::overlay::agent::Working;

/// The hidden word that it is called with, before the network's directory and the descriptor of its file `server`.
pub const WORD: &str = "names";

/// The host's resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// What a server writes into its file when it answers.
const READY: &[u8] = b"ready\n";
/// How many descriptors it may need.
const DESCRIPTORS: u64 = 2048;

/// What makes the command that is a server, of its directory and its locked file. Tests have another one.
type Program = dyn Fn(&Path, &File) -> Command + Sync;

/// A server that is starting, or that was there.
#[must_use]
pub struct Starting {
    dir: PathBuf,
}

/// Starts the name server of the network with this directory, if there is none. To be called when the container's
/// file is in `containers`, and without threads that wait for children.
pub fn ensure(dir: &Path) -> Result<Starting> {
    ensure_with(dir, &program)
}

/// The program with which a server is started.
fn program(dir: &Path, server: &File) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(WORD).arg(dir).arg(server.as_raw_fd().to_string());
    command
}

pub(super) fn ensure_with(dir: &Path, program: &Program) -> Result<Starting> {
    let told = || format!("the name server of the network in {}", dir.display());
    let lock = place::lock(dir).with_context(told)?;
    if let Some(mut server) = place::locked(place::open(dir, "server")?)? {
        // What one said that was killed.
        server.set_len(0).and_then(|()| server.rewind()).with_context(told)?;
        // Not in a mount namespace of this command: the container's root would be held by it.
        crate::namespace::outside(|| spawn(dir, &server, program(dir, &server))).with_context(told)?;
    }
    drop(lock);
    Ok(Starting { dir: dir.into() })
}

fn spawn(dir: &Path, server: &File, mut command: Command) -> Result<()> {
    let log = File::options().append(true).create(true).mode(0o600).open(dir.join("names.log"))?;
    log.set_len(0)?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    // It has a name as it is in our hands only until it is started.
    rustix::io::fcntl_setfd(server.as_fd(), rustix::io::FdFlags::empty())?;
    command.spawn()?;
    Ok(())
}

impl Starting {
    /// One that somebody else has started.
    #[cfg(test)]
    pub(in crate::network) fn of(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Waits until it answers.
    pub fn wait(&self) -> Result<()> {
        let end = Instant::now() + place::PATIENCE;
        while Instant::now() < end {
            let server = place::open(&self.dir, "server")?;
            if std::fs::read(self.dir.join("server")).is_ok_and(|it| it == READY) {
                return Ok(());
            }
            if place::locked(server)?.is_some() {
                break;
            }
            std::thread::sleep(place::GLANCE);
        }
        let name = read::<Config>(&self.dir.join("network")).map_or_else(|_| "?".into(), |it| it.name);
        let said = std::fs::read_to_string(self.dir.join("names.log")).unwrap_or_default();
        let said = said.lines().last().unwrap_or("it says nothing");
        bail!("network {name}: its name server does not answer: {said}")
    }
}

/// Starts the server anew if it was killed while containers need it. Whether it did.
pub fn restart_if_dead(dir: &Path) -> Result<bool> {
    restart_if_dead_with(dir, &program)
}

pub(super) fn restart_if_dead_with(dir: &Path, program: &Program) -> Result<bool> {
    let visible = |it: std::fs::DirEntry| !it.file_name().as_encoded_bytes().starts_with(b".");
    let needed = std::fs::read_dir(dir.join(HERE)).is_ok_and(|it| it.flatten().any(visible));
    if !needed || place::locked(place::open(dir, "server")?)?.is_none() {
        return Ok(false);
    }
    ensure_with(dir, program)?.wait()?;
    Ok(true)
}

/// The port of the network's server, if it is not the usual one.
pub fn port(dir: &Path) -> Option<u16> {
    std::fs::read_to_string(place::port(dir)).ok()?.trim().parse().ok()
}

/// The server's life.
pub fn run(words: &[String]) -> Result<()> {
    let [dir, server] = words else { bail!("{WORD} DIR FD: not for people") };
    let server = server.parse().ok().filter(|it| *it > 2).context("the descriptor is no number")?;
    crate::sys::close_all_but(&[server]);
    let server = File::from(crate::sys::take_fd(server)?);
    rustix::process::setsid().context("a session of our own")?;
    rustix::process::chdir("/").context("leaving our caller's directory")?;
    nix::sys::signal::SigSet::empty().thread_set_mask().context("unblocking signals")?;
    // Fewer are enough for most: no reason to fail.
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(DESCRIPTORS, |it| it.min(DESCRIPTORS));
    if current.is_some_and(|it| it < wanted) {
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    serve(Path::new(dir), server, Path::new(RESOLV_CONF))
}

/// Answers until the last container is gone, and leaves nothing. `server` is locked.
pub(in crate::network) fn serve(dir: &Path, mut server: File, resolv_conf: &Path) -> Result<()> {
    let (lock, agent) = match answer(dir, &mut server, resolv_conf) {
        Ok(it) => it,
        Err(error) => {
            // Whoever waits for us looks into the log for the reason once the file is free: not before it is there.
            std::mem::forget(server);
            return Err(error);
        }
    };
    // The sockets are closed. Whoever gets the lock has to find the file free.
    drop(server);
    drop(lock);
    if let Some(agent) = agent {
        agent.end();
    }
    Ok(())
}

/// What is returned is the lock under which the end was seen, and who tells the other hosts.
fn answer(dir: &Path, server: &mut File, resolv_conf: &Path) -> Result<(Option<File>, Option<Working>)> {
    // It makes the directory of what runs elsewhere, which is watched.
    let agent = Agent::of(dir)?.map(|it| it.start(dir)).transpose()?;
    let mut running = Server::open(dir, resolv_conf)?;
    if let Some(agent) = agent {
        agent.first();
        running.tell(agent);
    }
    server.write_all(READY).context("saying that we answer")?;
    let (lock, agent) = running.run()?;
    if lock.is_some() {
        place::write_port(dir, None)?;
        server.set_len(0)?;
    }
    Ok((lock, agent))
}
