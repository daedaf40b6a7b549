//! Published ports without the firewall: a small process of one thread that takes connections and datagrams at the
//! host's sockets and carries them to the container. To the host it is a program like others: its own rules for what
//! comes in hold, and it works where a packet's address cannot be changed (from `::1`, and between IPv4 and IPv6). The
//! container sees the host as the client.
//!
//! A file in the container's run directory stands for it: it has that locked as long as it lives, and ends when it is
//! gone, or by SIGTERM, and leaves nothing. The sockets are its alone: where it is killed, whoever asks is turned away.

mod server;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, MemfdFlags};
use rustix::io::{Errno, FdFlags};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::firewall::Protocol;
use super::ports::Held;
use server::Server;

/// Its file in the container's run directory.
const FILE: &str = "forward";

/// The hidden word that it is called with, before the path of its file. The plan comes on standard input; the standard
/// output is the file, locked.
pub const WORD: &str = "forward";

/// How long it may take to end, and how often we look.
const PATIENCE: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_micros(300);

/// How many connections may wait to be taken.
const BACKLOG: i32 = 1024;

/// How many ports there are at most: their places are numbers of 16 bits.
const MOST: usize = 65_536;

/// A socket, and where what comes to it goes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Port {
    /// The socket, which is bound, and for TCP listens.
    socket: RawFd,
    protocol: Protocol,
    to: SocketAddr,
    /// Who may use it; nobody named: everybody. The host itself always may.
    sources: Vec<(IpAddr, u8)>,
}

/// Starts the process for these ports, each with the container's address that it goes to. When this returns, they can
/// be used.
pub fn start(run_dir: &Path, ports: &[(&Held, IpAddr)]) -> Result<()> {
    let path = run_dir.join(FILE);
    let open = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.with_context(|| format!("opening {}", path.display()))?;
    ensure!(lock(&file)?, "a process that forwards ports of this container is there already");
    let mut command = Command::new("/proc/self/exe");
    command.stdout(file);
    start_with(&path, ports, command).map(drop)
}

/// Whether there should be a process, and somebody has killed it.
pub fn is_killed(run_dir: &Path) -> Result<bool> {
    File::open(run_dir.join(FILE)).map_or(Ok(false), |it| lock(&it))
}

/// Has the process end, and waits until its ports are free. What is gone is fine.
pub fn end(run_dir: &Path) -> Result<()> {
    let path = run_dir.join(FILE);
    let Ok(file) = File::open(&path) else { return Ok(()) };
    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    let end = Instant::now() + PATIENCE;
    while !lock(&file)? {
        ensure!(Instant::now() < end, "the process that forwards published ports does not end");
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

/// Locks its file, if it has not.
fn lock(file: &File) -> Result<bool> {
    match crate::store::retry(|| rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).context("locking the file of the process that forwards ports"),
    }
}

fn start_with(record: &Path, ports: &[(&Held, IpAddr)], mut command: Command) -> Result<u32> {
    ensure!(ports.len() <= MOST, "one process forwards {MOST} ports at most, not {}", ports.len());
    let mut plan = Vec::new();
    for (held, to) in ports {
        match held.protocol {
            // Who comes before the process has begun waits.
            Protocol::Tcp => {
                listen(&held.socket).with_context(|| format!("listening at {}/{}", held.host, held.protocol))?;
            }
            Protocol::Udp => set_socket_recv_buffer_size(&held.socket, udp::BUFFER)?,
        }
        plan.push(Port {
            socket: held.socket.as_raw_fd(),
            protocol: held.protocol,
            to: SocketAddr::new(*to, held.container),
            sources: held.sources.clone(),
        });
    }
    let mut input = File::from(rustix::fs::memfd_create("plan", MemfdFlags::CLOEXEC).context("a file in memory")?);
    input.write_all(&serde_json::to_vec(&plan)?)?;
    input.rewind()?;
    command.arg(WORD).arg(record).stdin(input).stderr(Stdio::null());
    let hand_on = |flags: FdFlags| {
        ports.iter().try_for_each(|it| rustix::io::fcntl_setfd(&it.0.socket, flags)).context("handing on sockets")
    };
    hand_on(FdFlags::empty())?;
    // Not in a mount namespace of this command: the container's root would be held by it.
    let child = crate::namespace::outside(|| command.spawn().context("starting the process that forwards ports"));
    hand_on(FdFlags::CLOEXEC)?;
    Ok(child?.id())
}

fn listen(socket: &OwnedFd) -> rustix::io::Result<()> {
    // So that what is left of earlier connections is no conflict; its own inherit this for the next time. A socket that
    // listens has its port for itself all the same.
    set_socket_reuseaddr(socket, true)?;
    rustix::net::listen(socket, BACKLOG)
}

/// The process's life.
pub fn run(words: &[String]) -> Result<()> {
    let [record] = words else { bail!("{WORD} RECORD: not for people") };
    let mut plan = Vec::new();
    std::io::stdin().read_to_end(&mut plan).context("reading the plan")?;
    let plan: Vec<Port> = serde_json::from_slice(&plan).context("reading the plan")?;
    let mut keep: Vec<_> = plan.iter().map(|it| it.socket).collect();
    keep.sort_unstable();
    keep.dedup();
    if keep.len() != plan.len() || keep.first().is_some_and(|it| *it < 3) {
        bail!("the plan names a socket twice");
    }
    crate::sys::close_all_but(&keep);
    rustix::process::setsid().context("a session of our own")?;
    rustix::process::chdir("/").context("leaving our caller's directory")?;
    // Each connection takes two descriptors, and more while it is in flight.
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let mut ports = Vec::new();
    for port in plan {
        ports.push((crate::sys::take_fd(port.socket)?, port));
    }
    Server::open(Path::new(record), ports)?.run()
}
