//! Published ports without the firewall: a small process of one thread that takes connections and datagrams at the
//! host's sockets and carries them to the container. To the host it is a program like others: its own rules for what
//! comes in hold, and it works where a packet's address cannot be changed (from `::1`, and between IPv4 and IPv6). The
//! container sees the host as the client.
//!
//! It ends by SIGTERM, or when the container's run-time record is gone, and leaves nothing.

mod server;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseaddr};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::firewall::Protocol;
use super::ports::Held;
use server::Server;

/// The hidden word that it is called with, before the path of the container's run-time record. The plan comes on
/// standard input.
pub const WORD: &str = "forward";

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
/// be used. It ends when `record` is gone, which must be there already. Its process id.
pub fn start(record: &Path, ports: &[(&Held, IpAddr)]) -> Result<u32> {
    start_with(record, ports, Command::new("/proc/self/exe"))
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
    command.arg(WORD).arg(record).stdin(input).stdout(Stdio::null()).stderr(Stdio::null());
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
