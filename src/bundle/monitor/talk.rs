//! What a monitor and its clients tell each other: packets on a Unix socket (SOCK_SEQPACKET), the first byte says
//! what kind. The first client is the command that has started the monitor, by a socket pair; others connect to
//! `monitor` in the container's run directory.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

/// The most bytes of a stream in one packet; with its first byte.
pub const PACKET: usize = 32 << 10;

/// The number of the descriptor of the network namespace, by which the runtime finds it below /proc.
pub const NETWORK: i32 = 100;

/// The most descriptors of one packet (unix(7), SCM_MAX_FD).
const FDS: usize = 253;

/// The socket's name.
pub const SOCKET: &str = "monitor";

/// To the monitor: keep these descriptors until the container has ended. The first of all is its network namespace, and
/// becomes number [`NETWORK`].
pub const KEEP: u8 = b'F';
/// To the monitor: all is prepared, start; `1` behind it: as with [`ATTACH`].
pub const GO: u8 = b'G';
/// To the monitor: send me what the container writes from now on; `1` behind it: and let nothing be lost for me.
pub const ATTACH: u8 = b'A';
/// To the monitor: input.
pub const INPUT: u8 = b'i';
/// To the monitor: the end of the input.
pub const INPUT_END: u8 = b'c';
/// To the monitor: the terminal's size, rows and columns (u16 each, little endian).
pub const SIZE: u8 = b'w';
/// To the monitor: send the first process a signal (one byte).
pub const SIGNAL: u8 = b'k';
/// To the monitor: end the container, and do not start it anew ([`Stop`] in JSON).
pub const STOP: u8 = b't';
/// To the monitor: the container has been frozen (`1`) or thawed (`0`).
pub const PAUSED: u8 = b'p';
/// To the monitor: settings have changed ([`Change`] in JSON).
pub const CHANGE: u8 = b'u';

/// To the monitor: freeze the container as long as this connection lasts.
pub const HOLD: u8 = b'h';

/// From the monitor: the container is frozen; behind it why it is not.
pub const HELD: u8 = b'h';
/// From the monitor: the program runs.
pub const STARTED: u8 = b's';
/// From the monitor: what the program wrote on its standard output, or terminal.
pub const OUTPUT: u8 = b'o';
/// From the monitor: what it wrote on its standard error.
pub const ERROR: u8 = b'e';
/// From the monitor: it has ended, or could not be started ([`End`] in JSON).
pub const END: u8 = b'x';

/// How to end a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stop {
    /// The first signal; the usual one if none is named.
    pub signal: Option<i32>,
    /// Seconds until SIGKILL; the usual time if none is named, for ever if negative.
    pub timeout: Option<i64>,
}

/// New settings.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Change {
    /// The container's name.
    pub name: Option<String>,
    /// Its restart policy.
    pub restart: Option<crate::container::spec::Restart>,
}

/// How it ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct End {
    /// The exit status.
    pub status: i32,
    /// Why it could not be started.
    pub error: Option<String>,
    /// Whether it will be started again.
    pub again: bool,
}

/// Two ends that are connected.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("a socket pair for the monitor")
}

/// A directory that holds sockets. Their addresses have 107 bytes at the most (unix(7)), which a plain user's home may
/// have alone: they go through a descriptor.
pub struct Place(OwnedFd);

impl Place {
    /// Opens it.
    pub fn open(dir: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(dir, flags, Mode::empty());
        Ok(Self(opened.with_context(|| format!("opening {}", dir.display()))?))
    }

    /// The path of a name in it, as long as this lives, for a process: `self`, or its number.
    pub fn path(&self, process: &str, name: &str) -> String {
        format!("/proc/{process}/fd/{}/{name}", self.0.as_raw_fd())
    }
}

/// Connects to the monitor of the container with this run directory; `None` where there is none.
pub fn connect(run_dir: &Path) -> Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    let socket = socket()?;
    let Ok(place) = Place::open(run_dir) else { return Ok(None) };
    match rustix::net::connect(&socket, &SocketAddrUnix::new(place.path("self", SOCKET))?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(error) => Err(error).context("connecting to the container's monitor"),
    }
}

/// Listens for clients.
pub fn listen(run_dir: &Path) -> Result<OwnedFd> {
    let path = run_dir.join(SOCKET);
    // Of a monitor that was killed: we hold the container's lock.
    let _ = std::fs::remove_file(&path);
    let socket = socket()?;
    let place = Place::open(run_dir)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(place.path("self", SOCKET))?)
        .with_context(|| format!("making {}", path.display()))?;
    rustix::net::listen(&socket, 64)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

fn socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("a socket for the monitor")
}

/// Sends a packet and waits until there is room for it.
pub fn send(socket: &OwnedFd, kind: u8, bytes: &[u8]) -> Result<()> {
    let packet = [&[kind], bytes].concat();
    crate::store::retry(|| rustix::net::send(socket, &packet, SendFlags::NOSIGNAL))
        .context("the container's monitor is gone")?;
    Ok(())
}

/// Has the monitor keep descriptors.
pub fn hand_over(socket: &OwnedFd, fds: &[BorrowedFd<'_>]) -> Result<()> {
    for part in fds.chunks(FDS) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(part));
        let sent = crate::store::retry(|| {
            rustix::net::sendmsg(socket, &[std::io::IoSlice::new(&[KEEP])], &mut control, SendFlags::NOSIGNAL)
        });
        sent.context("the container's monitor is gone")?;
    }
    Ok(())
}

/// The same as [`receive`] for the first packets, which may bring descriptors.
pub fn receive_first(socket: &OwnedFd, buffer: &mut [u8], kept: &mut Vec<OwnedFd>) -> Result<Option<(u8, usize)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = crate::store::retry(|| {
        rustix::net::recvmsg(socket, &mut [std::io::IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    });
    let length = received.context("reading from the command")?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            kept.extend(fds);
        }
    }
    Ok((length > 0).then(|| (buffer[0], length)))
}

/// Waits for a packet: its kind, and its length in the buffer, where it begins at the second byte. `None` at the end.
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<(u8, usize)>> {
    use rustix::io::Errno;
    match crate::store::retry(|| rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())) {
        Ok((0, _)) | Err(Errno::CONNRESET) => Ok(None),
        Ok((length, _)) => Ok(Some((buffer[0], length))),
        Err(error) => Err(error).context("reading from the container's monitor"),
    }
}
