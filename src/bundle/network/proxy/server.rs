//! The loop.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll::EventFlags;
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{SocketFlags, acceptfrom_with};

use super::Port;
use super::tcp::{Connection, Pool, Pumped};
use super::udp::{self, Clients};
use crate::network::firewall::{Protocol, range};
use crate::network::link::Links;
use crate::network::poll::{Poll, Slab, Token};

/// What tokens belong to.
const SIGNAL: u8 = 0;
const RECORD: u8 = 1;
const LISTENER: u8 = 2;
const CONNECTION: u8 = 3;

/// How many connections there are at most.
const MOST: usize = 30_000;
/// How many connections or datagrams of one socket are taken before others have their turn.
const TURN: usize = 64;
/// How long no connection is taken after one could not be: for want of descriptors, mostly.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the host's addresses are trusted to be the same.
const ADDRESSES: Duration = Duration::from_secs(1);

/// A socket of the host.
pub struct Listener {
    pub socket: OwnedFd,
    pub port: Port,
}

pub struct Server {
    poll: Poll,
    record: PathBuf,
    watch: OwnedFd,
    /// That end us: blocked, and read by nobody.
    _signals: SignalFd,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    clients: Clients,
    pool: Pool,
    /// Connections that have more to carry, but had their turn.
    again: VecDeque<Token>,
    /// Until when no connection is taken.
    paused: Option<Instant>,
    own: Option<(Instant, HashSet<IpAddr>)>,
}

impl Server {
    pub fn open(record: &Path, ports: Vec<(OwnedFd, Port)>) -> Result<Self> {
        let poll = Poll::new()?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_set_mask().context("blocking signals")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).context("a descriptor of signals")?;
        poll.add(&signals, Token::fixed(SIGNAL, 0), EventFlags::IN)?;
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let dir = record.parent().context("the record is in no directory")?;
        let gone = inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::MOVE_SELF;
        inotify::add_watch(&watch, dir, gone).with_context(|| format!("watching {}", dir.display()))?;
        poll.add(&watch, Token::fixed(RECORD, 0), EventFlags::IN)?;
        let mut listeners = Vec::new();
        for (place, (socket, port)) in ports.into_iter().enumerate() {
            rustix::io::ioctl_fionbio(&socket, true)?;
            if port.protocol == Protocol::Udp {
                udp::prepare(&socket)?;
            }
            poll.add(&socket, Token::fixed(LISTENER, place), EventFlags::IN)?;
            listeners.push(Listener { socket, port });
        }
        Ok(Self {
            poll,
            record: record.into(),
            watch,
            _signals: signals,
            listeners,
            connections: Slab::new(CONNECTION),
            clients: Clients::new(),
            pool: Pool::default(),
            again: VecDeque::new(),
            paused: None,
            own: None,
        })
    }

    /// Until a signal comes or the record is gone.
    pub fn run(mut self) -> Result<()> {
        // It may have gone before it was watched.
        if !self.record.exists() {
            return Ok(());
        }
        loop {
            for token in self.poll.wait(self.patience())? {
                match token.kind() {
                    SIGNAL => return Ok(()),
                    RECORD if self.is_gone() => return Ok(()),
                    RECORD => {}
                    LISTENER => self.listener(token.place())?,
                    CONNECTION => self.pump(token),
                    _ => self.clients.answer(token, &self.listeners),
                }
            }
            for _ in 0..self.again.len() {
                let Some(token) = self.again.pop_front() else { break };
                self.pump(token);
            }
            self.clients.expire(Instant::now());
            if self.paused.is_some_and(|it| it <= Instant::now()) {
                self.pause(None)?;
            }
        }
    }

    /// How long to sleep if nothing comes.
    fn patience(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        [self.clients.next(), self.paused].into_iter().flatten().min().map(|it| it.saturating_duration_since(now))
    }

    /// Something of the record's directory is gone: this?
    fn is_gone(&self) -> bool {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.watch, &mut buffer).is_ok_and(|it| it > 0) {}
        !self.record.exists()
    }

    fn listener(&mut self, place: usize) -> Result<()> {
        if self.listeners[place].port.protocol == Protocol::Udp {
            for _ in 0..TURN {
                let Some(datagram) = self.clients.receive(place, &self.listeners[place]) else { break };
                if self.allowed(place, datagram.from.ip()) {
                    self.clients.carry(&self.poll, &self.listeners[place], datagram);
                }
            }
            return Ok(());
        }
        for _ in 0..TURN {
            if self.connections.len() >= MOST {
                return self.pause(Some(Instant::now() + PAUSE));
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&self.listeners[place].socket, flags) {
                Ok((client, from)) => {
                    let from = from.and_then(|it| SocketAddr::try_from(it).ok());
                    self.connection(place, client, from);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.pause(Some(Instant::now() + PAUSE));
                }
                // Errors of the connection that was to be taken (accept(2)).
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn connection(&mut self, place: usize, client: OwnedFd, from: Option<SocketAddr>) {
        if !from.is_some_and(|it| self.allowed(place, it.ip())) {
            // As if nobody listened.
            let _ = set_socket_linger(&client, Some(Duration::ZERO));
            return;
        }
        let Ok(connection) = Connection::open(client, self.listeners[place].port.to) else { return };
        let token = self.connections.add(connection);
        let Some(connection) = self.connections.get_mut(token) else { return };
        if connection.register(&self.poll, token).is_err() {
            self.connections.remove(token);
        }
    }

    fn pump(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        match connection.pump(&mut self.pool) {
            Pumped::Waiting => {}
            Pumped::More => self.again.push_back(token),
            Pumped::Over => drop(self.connections.remove(token)),
        }
    }

    /// Stops taking connections, or begins again.
    fn pause(&mut self, until: Option<Instant>) -> Result<()> {
        self.paused = until;
        let what = if until.is_some() { EventFlags::empty() } else { EventFlags::IN };
        for (place, listener) in self.listeners.iter().enumerate() {
            if listener.port.protocol == Protocol::Tcp {
                self.poll.change(&listener.socket, Token::fixed(LISTENER, place), what)?;
            }
        }
        Ok(())
    }

    /// Whether somebody may use a port: as the port says, and the host itself always.
    fn allowed(&mut self, place: usize, who: IpAddr) -> bool {
        let sources = &self.listeners[place].port.sources;
        let who = who.to_canonical();
        let within = |it: &(IpAddr, u8)| {
            let (first, last) = range(*it);
            who.is_ipv4() == first.is_ipv4() && (first..=last).contains(&who)
        };
        sources.is_empty() || sources.iter().any(within) || who.is_loopback() || self.is_own(who)
    }

    fn is_own(&mut self, who: IpAddr) -> bool {
        let now = Instant::now();
        if self.own.as_ref().is_none_or(|it| it.0 + ADDRESSES < now) {
            let all = Links::here().and_then(|mut it| it.addresses(None)).unwrap_or_default();
            self.own = Some((now, all.into_iter().map(|it| it.ip).collect()));
        }
        self.own.as_ref().is_some_and(|it| it.1.contains(&who))
    }
}
