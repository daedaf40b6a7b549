//! Clients by TCP (RFC 7766): connections that are bounded in number, for each client and all together, and in the
//! time that they take over a question. One question at a time is answered on each.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::network::poll::{Poll, Slab, Token};

/// The most connections, and those of one client.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 16;
/// How long a client may take over a question or over reading its answer, or be idle.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest question, in bytes. It has one name and few options.
const LONGEST: usize = 4096;

enum State {
    /// A question is coming: its length and what of it is there.
    Reading(Vec<u8>),
    /// The question is on its way.
    Waiting,
    /// An answer is going: what of it is still there.
    Writing(Vec<u8>),
}

struct Connection {
    stream: TcpStream,
    from: IpAddr,
    state: State,
    until: Instant,
}

/// What there is to do for a connection.
pub enum Event {
    /// A question has come, from this client.
    Asked(Vec<u8>, IpAddr),
    /// Nothing yet.
    Nothing,
}

/// The connections.
pub struct Connections(Slab<Connection>);

impl Connections {
    /// None yet; the tokens of their descriptors have this kind.
    pub fn new(kind: u8) -> Self {
        Self(Slab::new(kind))
    }

    /// Takes up new connections of clients that may ask.
    pub fn accept(&mut self, poll: &Poll, listener: &TcpListener, may: impl Fn(IpAddr) -> bool, now: Instant) {
        for _ in 0..MOST {
            match listener.accept() {
                Ok((stream, from)) => {
                    let from = from.ip();
                    let theirs = self.0.iter().filter(|it| it.1.from == from).count();
                    if may(from) && theirs < MOST_OF_ONE {
                        self.add(poll, stream, from, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // There are no descriptors left, or it is gone again.
                Err(_) => {
                    self.drop_longest();
                    return;
                }
            }
        }
    }

    fn add(&mut self, poll: &Poll, stream: TcpStream, from: IpAddr, now: Instant) {
        if self.0.len() >= MOST {
            self.drop_longest();
        }
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let token = self.0.add(Connection { stream, from, state: State::Reading(Vec::new()), until: now + PATIENCE });
        let added = self.0.get_mut(token).is_some_and(|it| poll.add(&it.stream, token, EventFlags::IN).is_ok());
        if !added {
            self.0.remove(token);
        }
    }

    /// Makes room: whoever would be given up first.
    fn drop_longest(&mut self) {
        if let Some(token) = self.0.iter().min_by_key(|it| it.1.until).map(|it| it.0) {
            self.0.remove(token);
        }
    }

    /// A connection can be read or written.
    pub fn ready(&mut self, poll: &Poll, token: Token, now: Instant) -> Event {
        let Some(connection) = self.0.get_mut(token) else { return Event::Nothing };
        match connection.go_on(poll, token, now) {
            Ok(Some(question)) => Event::Asked(question, connection.from),
            Ok(None) => Event::Nothing,
            Err(_) => {
                self.0.remove(token);
                Event::Nothing
            }
        }
    }

    /// Sends the answer to the question that this connection waits for.
    pub fn answer(&mut self, poll: &Poll, token: Token, message: &[u8], now: Instant) {
        let Some(connection) = self.0.get_mut(token) else { return };
        connection.state = State::Writing([&(message.len() as u16).to_be_bytes(), message].concat());
        connection.until = now + PATIENCE;
        if connection.write(poll, token, now).is_err() {
            self.0.remove(token);
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, token: Token) {
        self.0.remove(token);
    }

    /// Ends those that take too long.
    pub fn expire(&mut self, now: Instant) {
        let due: Vec<Token> = self.0.iter().filter(|it| it.1.until <= now).map(|it| it.0).collect();
        for token in due {
            self.0.remove(token);
        }
    }

    /// When to look next whether one takes too long.
    pub fn due(&self) -> Option<Instant> {
        self.0.iter().map(|it| it.1.until).min()
    }
}

impl Connection {
    /// The question, when all of it is there.
    fn go_on(&mut self, poll: &Poll, token: Token, now: Instant) -> io::Result<Option<Vec<u8>>> {
        if let State::Writing(_) = self.state {
            self.write(poll, token, now)?;
        }
        let input = match &mut self.state {
            State::Reading(input) => input,
            State::Writing(_) => return Ok(None),
            // Only the end of the connection is told of then.
            State::Waiting => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        loop {
            // No further than the end of this question: the next one stays where it is.
            let wanted = match input.first_chunk() {
                Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
                None => 2,
            };
            if wanted > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if input.len() == wanted && wanted > 2 {
                let question = input.split_off(2);
                self.state = State::Waiting;
                // Whoever asks is answered or given up.
                self.until = now + 2 * PATIENCE;
                poll.change(&self.stream, token, EventFlags::empty())?;
                return Ok(Some(question));
            }
            if input.len() >= wanted {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let had = input.len();
            input.resize(wanted, 0);
            let read = self.stream.read(&mut input[had..]);
            input.truncate(had + read.as_ref().map_or(0, |it| *it));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what there is room for.
    fn write(&mut self, poll: &Poll, token: Token, now: Instant) -> io::Result<()> {
        let State::Writing(out) = &mut self.state else { return Ok(()) };
        while !out.is_empty() {
            match self.stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return poll.change(&self.stream, token, EventFlags::OUT);
                }
                Err(error) => return Err(error),
            }
        }
        self.state = State::Reading(Vec::new());
        self.until = now + PATIENCE;
        poll.change(&self.stream, token, EventFlags::IN)
    }
}
