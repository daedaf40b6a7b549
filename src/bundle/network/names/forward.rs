//! Questions that others are to answer. Each is a socket of its own, so that its port is as hard to guess as its
//! number; the kernel drops what does not come from the server that was asked. The same question of several clients
//! is asked once. All of it is bounded in number and in time.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::answer::{Answer, Came, read_answer};
use super::cache::Key;
use super::wire::Query;
use crate::network::poll::{Poll, Slab, Token};

/// The most questions on their way at once; of one client; clients that wait for the same one; and those by TCP.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 96;
const MOST_WAITERS: usize = 64;
const MOST_TCP: usize = 64;
/// How long a server has for an answer, and all of them.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_OF_ALL: Duration = Duration::from_secs(8);
/// How long a server that did not answer is asked last.
const PENALTY: Duration = Duration::from_secs(10);
/// Forged answers that are overlooked before the server counts as failed.
const MOST_FOREIGN: u32 = 100;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Behind this one of our UDP sockets.
    Udp(usize, SocketAddr),
    /// On a connection.
    Tcp(Token, IpAddr),
}

impl Client {
    /// Its address.
    fn address(&self) -> IpAddr {
        match self {
            Self::Udp(_, it) => it.ip(),
            Self::Tcp(_, it) => *it,
        }
    }
}

/// A question that has come to its end.
pub struct Done {
    /// What was asked.
    pub key: Key,
    /// Who waits.
    pub waiters: Vec<(Client, Query)>,
    /// The answer, if a server gave one.
    pub answer: Option<Answer>,
}

enum Link {
    Udp(UdpSocket),
    /// With what is still to be sent, and what has come.
    Tcp(TcpStream, Vec<u8>, Vec<u8>),
}

struct Pending {
    key: Key,
    waiters: Vec<(Client, Query)>,
    /// Those that are still to be asked, the next one last.
    servers: Vec<SocketAddr>,
    server: SocketAddr,
    id: u16,
    edns: bool,
    foreign: u32,
    link: Option<Link>,
    until: Instant,
    end: Instant,
    /// What a server said that had no answer: it is better than nothing.
    refusal: Option<Answer>,
}

/// What has happened to a question.
enum Step {
    Waits,
    Answered(Answer),
    Failed,
}

/// The questions on their way.
pub struct Forwarder {
    pending: Slab<Pending>,
    by_key: HashMap<Key, Token>,
    of_clients: HashMap<IpAddr, usize>,
    failed: HashMap<SocketAddr, Instant>,
    tcp: usize,
}

impl Forwarder {
    /// None yet; the tokens of their descriptors have this kind.
    pub fn new(kind: u8) -> Self {
        let pending = Slab::new(kind);
        Self { pending, by_key: HashMap::new(), of_clients: HashMap::new(), failed: HashMap::new(), tcp: 0 }
    }

    /// Asks these servers, in their order. What is returned has ended at once.
    pub fn ask(
        &mut self,
        poll: &Poll,
        key: Key,
        servers: &[SocketAddr],
        client: Client,
        query: &Query,
        now: Instant,
    ) -> Option<Done> {
        let over = |key| Some(Done { key, waiters: vec![(client, query.clone())], answer: None });
        let of_client = self.of_clients.get(&client.address()).copied().unwrap_or(0);
        if let Some(pending) = self.by_key.get(&key).and_then(|it| self.pending.get_mut(*it)) {
            // Who asks again has not got our answer yet: one will do.
            if pending.waiters.iter().any(|it| it.0 == client && it.1.id == query.id) {
                return None;
            }
            if pending.waiters.len() >= MOST_WAITERS || of_client >= MOST_OF_ONE {
                return over(key);
            }
            pending.waiters.push((client, query.clone()));
            *self.of_clients.entry(client.address()).or_default() += 1;
            return None;
        }
        if of_client >= MOST_OF_ONE || self.pending.len() >= MOST {
            return over(key);
        }
        let mut order: Vec<_> = servers.to_vec();
        self.failed.retain(|_, until| *until > now);
        order.sort_by_key(|it| self.failed.contains_key(it));
        // Each of them twice: packets get lost.
        let mut servers = [&order[..], &order[..]].concat();
        servers.reverse();
        let pending = Pending {
            key: key.clone(),
            waiters: vec![(client, query.clone())],
            server: (Ipv4Addr::UNSPECIFIED, 0).into(),
            servers,
            id: 0,
            edns: true,
            foreign: 0,
            link: None,
            until: now,
            end: now + PATIENCE_OF_ALL,
            refusal: None,
        };
        let token = self.pending.add(pending);
        self.by_key.insert(key, token);
        *self.of_clients.entry(client.address()).or_default() += 1;
        self.next_server(poll, token, now)
    }

    /// A server has sent something.
    pub fn ready(&mut self, poll: &Poll, token: Token, buffer: &mut [u8], now: Instant) -> Option<Done> {
        let pending = self.pending.get_mut(token)?;
        let (step, by_tcp) = match &mut pending.link {
            Some(Link::Udp(_)) => (pending.receive(buffer), false),
            Some(Link::Tcp(..)) => (pending.exchange(poll, token, buffer), true),
            None => return None,
        };
        match step {
            Step::Waits => None,
            Step::Answered(answer) if answer.truncated && !by_tcp => self.by_tcp(poll, token, answer, now),
            Step::Answered(answer) if answer.good() => self.end(token, Some(answer)),
            Step::Answered(answer) => {
                // It will not say anything else a second time.
                let server = pending.server;
                pending.servers.retain(|it| *it != server);
                pending.refusal = Some(answer);
                self.next_server(poll, token, now)
            }
            Step::Failed => {
                self.blame(token, now);
                self.next_server(poll, token, now)
            }
        }
    }

    /// Gives up what has waited long enough.
    pub fn expire(&mut self, poll: &Poll, now: Instant) -> Vec<Done> {
        let due: Vec<Token> = self.pending.iter().filter(|it| it.1.until <= now).map(|it| it.0).collect();
        let give_up = |token| {
            self.blame(token, now);
            self.next_server(poll, token, now)
        };
        due.into_iter().filter_map(give_up).collect()
    }

    /// When to look next whether something has waited long enough.
    pub fn due(&self) -> Option<Instant> {
        self.pending.iter().map(|it| it.1.until).min()
    }

    fn blame(&mut self, token: Token, now: Instant) {
        if let Some(pending) = self.pending.get_mut(token)
            && self.failed.len() < MOST
        {
            self.failed.insert(pending.server, now + PENALTY);
        }
    }

    fn next_server(&mut self, poll: &Poll, token: Token, now: Instant) -> Option<Done> {
        self.unlink(token);
        while let Some(pending) = self.pending.get_mut(token) {
            let Some(server) = pending.servers.pop().filter(|_| pending.end > now) else { break };
            pending.server = server;
            pending.edns = true;
            if pending.send(poll, token, now).is_ok() {
                return None;
            }
        }
        let refusal = self.pending.get_mut(token).and_then(|it| it.refusal.take());
        self.end(token, refusal)
    }

    /// The answer does not fit into a packet.
    fn by_tcp(&mut self, poll: &Poll, token: Token, truncated: Answer, now: Instant) -> Option<Done> {
        let pending = self.pending.get_mut(token)?;
        pending.refusal = Some(truncated);
        if self.tcp >= MOST_TCP || pending.connect(poll, token, now).is_err() {
            return self.next_server(poll, token, now);
        }
        self.tcp += 1;
        None
    }

    fn unlink(&mut self, token: Token) {
        let link = self.pending.get_mut(token).and_then(|it| it.link.take());
        self.tcp -= usize::from(matches!(link, Some(Link::Tcp(..))));
    }

    fn end(&mut self, token: Token, answer: Option<Answer>) -> Option<Done> {
        self.unlink(token);
        let pending = self.pending.remove(token)?;
        self.by_key.remove(&pending.key);
        for (client, _) in &pending.waiters {
            if let Some(count) = self.of_clients.get_mut(&client.address()) {
                *count -= 1;
                if *count == 0 {
                    self.of_clients.remove(&client.address());
                }
            }
        }
        Some(Done { key: pending.key, waiters: pending.waiters, answer })
    }
}

impl Pending {
    fn query(&self) -> &Query {
        &self.waiters[0].1
    }

    /// Asks by UDP, with a number and a port that nobody can guess.
    fn send(&mut self, poll: &Poll, token: Token, now: Instant) -> io::Result<()> {
        let any: IpAddr =
            if self.server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(self.server)?;
        self.id = random_id()?;
        socket.send(&self.query().forward(self.id, self.edns))?;
        poll.add(&socket, token, EventFlags::IN)?;
        self.link = Some(Link::Udp(socket));
        self.until = self.end.min(now + PATIENCE);
        self.foreign = 0;
        Ok(())
    }

    /// Reads what has come by UDP.
    fn receive(&mut self, buffer: &mut [u8]) -> Step {
        let Some(Link::Udp(socket)) = &self.link else { return Step::Failed };
        loop {
            let length = match socket.recv(buffer) {
                Ok(it) => it,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Waits,
                // Nobody listens there, or there is no way.
                Err(_) => return Step::Failed,
            };
            match read_answer(&buffer[..length], &self.waiters[0].1, self.id) {
                Came::Answer(answer) => return Step::Answered(answer),
                Came::NotRead if self.edns => {
                    self.edns = false;
                    self.id = match random_id() {
                        Ok(it) => it,
                        Err(_) => return Step::Failed,
                    };
                    let plain = self.waiters[0].1.forward(self.id, false);
                    return if socket.send(&plain).is_ok() { Step::Waits } else { Step::Failed };
                }
                Came::NotRead | Came::Broken => return Step::Failed,
                Came::Foreign => self.foreign += 1,
            }
            if self.foreign > MOST_FOREIGN {
                return Step::Failed;
            }
        }
    }

    /// Asks the same server by TCP.
    fn connect(&mut self, poll: &Poll, token: Token, now: Instant) -> io::Result<()> {
        let family = if self.server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.id = random_id()?;
        let message = self.query().forward(self.id, self.edns);
        let out = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        poll.add(&socket, token, EventFlags::OUT)?;
        self.link = Some(Link::Tcp(TcpStream::from(socket), out, Vec::new()));
        self.until = self.end.min(now + PATIENCE);
        Ok(())
    }

    /// Goes on with a conversation by TCP.
    fn exchange(&mut self, poll: &Poll, token: Token, buffer: &mut [u8]) -> Step {
        let Some(Link::Tcp(stream, out, input)) = &mut self.link else { return Step::Failed };
        while !out.is_empty() {
            match stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Waits,
                Err(_) => return Step::Failed,
            }
            if out.is_empty() && poll.change(&*stream, token, EventFlags::IN).is_err() {
                return Step::Failed;
            }
        }
        loop {
            if let Some((length, rest)) = input.split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                if let Some(message) = rest.get(..length) {
                    return match read_answer(message, &self.waiters[0].1, self.id) {
                        Came::Answer(answer) => Step::Answered(answer),
                        _ => Step::Failed,
                    };
                }
            }
            match stream.read(buffer) {
                Ok(0) => return Step::Failed,
                Ok(count) => input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Waits,
                Err(_) => return Step::Failed,
            }
        }
    }
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}
