//! A connection: two sockets, and what is on its way from each to the other, which stays in the kernel (splice(2)).
//!
//! Its sockets tell once when something has changed (EPOLLET), and then all is carried that can be. What cannot be
//! handed on is not taken, so that a slow reader slows the writer at the other end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::{Errno, Result};
use rustix::net::sockopt::{set_socket_keepalive, set_socket_linger, set_tcp_nodelay};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, connect, shutdown, socket_with};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::network::poll::{Poll, Token};

/// What a pipe holds.
const PIPE: usize = 64 * 1024;
/// How much is carried before others have their turn.
const TURN: usize = 1024 * 1024;
/// How many pipes are kept that nobody needs.
const SPARE: usize = 64;

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Empty pipes: a connection has one only while something is on its way.
#[derive(Default)]
pub struct Pool(Vec<Pipe>);

impl Pool {
    fn take(&mut self) -> Result<Pipe> {
        if let Some(pipe) = self.0.pop() {
            return Ok(pipe);
        }
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Pipe { out, into })
    }

    fn give(&mut self, pipe: Pipe) {
        if self.0.len() < SPARE {
            self.0.push(pipe);
        }
    }
}

/// One direction.
#[derive(Default)]
struct Flow {
    pipe: Option<Pipe>,
    /// How many bytes are in the pipe.
    held: usize,
    /// Whether the sender has ended.
    ended: bool,
    /// Whether the receiver has been told.
    told: bool,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Something must happen first.
    Waiting,
    /// There is more to carry.
    More,
    /// Both have ended, or one is broken.
    Over,
}

pub struct Connection {
    client: OwnedFd,
    target: OwnedFd,
    up: Flow,
    down: Flow,
}

impl Connection {
    /// For a client: begins to connect to the container.
    pub fn open(client: OwnedFd, to: SocketAddr) -> Result<Self> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let target = socket_with(family, SocketType::STREAM, flags, None)?;
        for socket in [&client, &target] {
            set_tcp_nodelay(socket, true)?;
            // Who has vanished without a word does not stay for ever.
            set_socket_keepalive(socket, true)?;
        }
        match connect(&target, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => {
                reset(&client);
                return Err(error);
            }
        }
        Ok(Self { client, target, up: Flow::default(), down: Flow::default() })
    }

    pub fn register(&self, poll: &Poll, token: Token) -> std::io::Result<()> {
        let all = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        poll.add(&self.client, token, all)?;
        poll.add(&self.target, token, all)
    }

    /// Carries what can be carried.
    pub fn pump(&mut self, pool: &mut Pool) -> Pumped {
        let up = self.up.pump(&self.client, &self.target, pool);
        let down = self.down.pump(&self.target, &self.client, pool);
        match (up, down) {
            (Ok(_), Ok(_)) if self.up.told && self.down.told => Pumped::Over,
            (Ok(false), Ok(false)) => Pumped::Waiting,
            (Ok(_), Ok(_)) => Pumped::More,
            _ => {
                // Whoever is left is to know that it was no orderly end.
                reset(&self.client);
                reset(&self.target);
                Pumped::Over
            }
        }
    }
}

/// Has a socket say that the connection is broken when it is closed.
fn reset(socket: &OwnedFd) {
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}

impl Flow {
    /// Whether there is more.
    fn pump(&mut self, from: &OwnedFd, to: &OwnedFd, pool: &mut Pool) -> Result<bool> {
        let mut carried = 0;
        while !self.told && carried < TURN {
            let mut moved = false;
            if !self.ended && self.held < PIPE {
                if self.pipe.is_none() {
                    self.pipe = Some(pool.take()?);
                }
                let Some(pipe) = &self.pipe else { break };
                // A pipe may be full before it has so many bytes: the one that ended cannot be told from a full one
                // but by trying the other side.
                if let Some(count) = move_some(from, &pipe.into, PIPE - self.held)? {
                    self.held += count;
                    self.ended = count == 0;
                    moved = true;
                }
            }
            if let Some(pipe) = self.pipe.as_ref().filter(|_| self.held > 0)
                && let Some(count) = move_some(&pipe.out, to, self.held)?
            {
                self.held -= count;
                carried += count;
                moved = true;
            }
            if self.held == 0 {
                if self.ended {
                    match shutdown(to, Shutdown::Write) {
                        // Not connected yet: its event will come.
                        Err(Errno::NOTCONN) => break,
                        result => result?,
                    }
                    self.told = true;
                }
                if !moved || self.told {
                    self.pipe.take().into_iter().for_each(|it| pool.give(it));
                }
            }
            if !moved {
                return Ok(false);
            }
        }
        Ok(carried >= TURN && !self.told)
    }
}

/// Moves up to so many bytes; `None` if none can be moved now.
fn move_some(from: &OwnedFd, to: &OwnedFd, most: usize) -> Result<Option<usize>> {
    loop {
        match splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK) {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
