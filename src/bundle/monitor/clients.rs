//! Who is connected to the monitor. A client that reads slowly holds the container back for a moment only, but for
//! one that was promised that nothing is lost.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::talk::End;

/// How long a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// One connection.
pub struct Client {
    fd: OwnedFd,
    /// Whether it gets the output.
    pub attached: bool,
    /// Whether nothing may be lost for it.
    pub lossless: bool,
    /// The command that has started us.
    pub first: bool,
    /// Whether the container is frozen for it.
    pub holds: bool,
    /// A packet that there was no room for, and since when.
    stuck: Option<(Vec<u8>, Instant)>,
    gone: bool,
}

impl Client {
    /// A client that has connected.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, attached: false, lossless: false, first: false, holds: false, stuck: None, gone: false }
    }

    /// Whether a packet waits for room.
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// Sends a packet, now or as soon as there is room.
    pub fn send(&mut self, packet: &[u8]) {
        if self.gone || self.stuck.is_some() {
            return;
        }
        match rustix::net::send(&self.fd, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(Errno::AGAIN) => self.stuck = Some((packet.to_vec(), Instant::now())),
            Err(_) => self.gone = true,
        }
    }

    /// Sends what had no room, or gives the client up.
    pub fn retry(&mut self) {
        if let Some((packet, since)) = self.stuck.take() {
            self.send(&packet);
            if let Some((_, again)) = &mut self.stuck {
                *again = since;
                self.gone |= !self.lossless && since.elapsed() > PATIENCE;
            }
        }
    }

    /// The next packet, `None` for none now.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        match rustix::net::recv(&self.fd, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => Some(length),
            Err(Errno::AGAIN | Errno::INTR) => None,
            _ => {
                self.gone = true;
                None
            }
        }
    }

    /// Whether it is to be forgotten.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Tells how the container has ended.
    pub fn tell(&mut self, end: &End) {
        self.send(&super::packet(super::talk::END, end));
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
