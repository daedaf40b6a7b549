//! The server of one network: one thread, one loop. Before a question is answered, what has changed of the
//! containers is taken up, so that whoever was written down before the question was asked is known.

use std::fs::File;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use domain::base::iana::OptRcode;
use rustix::event::epoll::EventFlags;

use super::answer::Answer;
use super::cache::{Cache, Key};
use super::data::Networks;
use super::forward::{Client, Done, Forwarder};
use super::place::{self, Ending};
use super::resolv::{PORT, Resolvers};
use super::tcp::{Connections, Event};
use super::wire::{Query, Received, read_query};
use super::{listen, zone};
use crate::network::overlay::agent::Working;
use crate::network::poll::{Poll, Token};

/// The kinds of descriptors.
const UDP: u8 = 1;
const TCP: u8 = 2;
const CHANGES: u8 = 3;
const UPSTREAM: u8 = 4;
const CLIENT: u8 = 5;
/// How many packets of one socket are answered before others have their turn.
const TURN: usize = 64;
/// The longest message by TCP, in bytes.
const LONGEST: usize = 65_535;
/// How long until we try again to end, while a command is at work.
const AGAIN: Duration = Duration::from_millis(20);

/// A server.
pub struct Server {
    dir: PathBuf,
    poll: Poll,
    networks: Networks,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    connections: Connections,
    forwarder: Forwarder,
    cache: Cache,
    resolvers: Resolvers,
    buffer: Box<[u8]>,
    turn: usize,
    /// When to try to end.
    ends: Option<Instant>,
    /// Who tells other hosts what runs here, and of which change it has been told.
    agent: Option<Working>,
    told: u64,
}

impl Server {
    /// Reads what there is and listens. From here on questions are not lost; they are answered by [`run`](Self::run).
    pub fn open(dir: &Path, resolv_conf: &Path) -> Result<Self> {
        let networks = Networks::open(dir)?;
        let (udp, tcp) = listen::listen(dir, &networks.own().config.listen)?;
        let poll = Poll::new().context("epoll")?;
        let add = |fd: &dyn AsFd, kind, at| poll.add(fd.as_fd(), Token::fixed(kind, at), EventFlags::IN);
        for at in 0..udp.len() {
            add(&udp[at], UDP, at)?;
            add(&tcp[at], TCP, at)?;
        }
        add(networks.changes(), CHANGES, 0)?;
        Ok(Self {
            dir: dir.into(),
            poll,
            networks,
            udp,
            tcp,
            connections: Connections::new(CLIENT),
            forwarder: Forwarder::new(UPSTREAM),
            cache: Cache::default(),
            resolvers: Resolvers::new(resolv_conf.into()),
            buffer: vec![0; LONGEST].into_boxed_slice(),
            turn: 0,
            ends: Some(Instant::now()),
            agent: None,
            told: 0,
        })
    }

    /// Has this agent tell other hosts what runs here.
    pub fn tell(&mut self, agent: Working) {
        self.agent = Some(agent);
        self.tell_agent();
    }

    fn tell_agent(&mut self) {
        self.told = self.networks.changed();
        if let Some(agent) = &self.agent {
            let here = self.networks.own().here();
            agent.local(here.map(|(id, it)| (id.into(), (it.addresses.clone(), it.names.clone()))).collect());
        }
    }

    /// Answers until the last container of this host has left the network. What is returned is the lock under which
    /// that was seen: whoever has it next finds no server. Without a directory there is none. Beside it, the agent.
    pub fn run(mut self) -> Result<(Option<File>, Option<Working>)> {
        loop {
            let due = [self.forwarder.due(), self.connections.due(), self.ends];
            let wait = due.iter().flatten().min().map(|it| it.saturating_duration_since(Instant::now()));
            for token in self.poll.wait(wait).context("epoll")? {
                self.ready(token)?;
            }
            let now = Instant::now();
            for done in self.forwarder.expire(&self.poll, now) {
                self.done(done);
            }
            self.connections.expire(now);
            if self.told != self.networks.changed() {
                self.tell_agent();
            }
            self.ends = None;
            if self.networks.over() {
                match self.try_to_end()? {
                    Ending::Locked(lock) => return Ok((Some(lock), self.agent)),
                    Ending::Gone => return Ok((None, self.agent)),
                    Ending::Held => self.ends = Some(now + AGAIN),
                }
            }
        }
    }

    /// A command that starts a container holds the lock while it looks whether we are there, and has written the
    /// container's file before: either we see the file, or the command sees that we are gone.
    fn try_to_end(&mut self) -> Result<Ending> {
        if self.networks.gone() {
            return Ok(Ending::Gone);
        }
        let ending = place::lock_to_end(&self.dir)?;
        self.networks.update()?;
        let stays = matches!(ending, Ending::Locked(_)) && !self.networks.over();
        Ok(if stays { Ending::Held } else { ending })
    }

    fn ready(&mut self, token: Token) -> Result<()> {
        let now = Instant::now();
        match token.kind() {
            UDP => self.packets(token.place(), now)?,
            TCP => {
                self.networks.update()?;
                let may = |it| zone::asker(&self.networks, it).is_some();
                self.connections.accept(&self.poll, &self.tcp[token.place()], may, now);
            }
            CHANGES => self.networks.update()?,
            UPSTREAM => {
                if let Some(done) = self.forwarder.ready(&self.poll, token, &mut self.buffer, now) {
                    self.done(done);
                }
            }
            _ => {
                // A client may have sent several questions, which the kernel tells only once there is room for them.
                if let Event::Asked(question, from) = self.connections.ready(&self.poll, token, now) {
                    self.answer(&question, Client::Tcp(token, from), from, now)?;
                }
            }
        }
        Ok(())
    }

    fn packets(&mut self, at: usize, now: Instant) -> Result<()> {
        for _ in 0..TURN {
            // What does not fit is no question.
            let Ok((length, from)) = self.udp[at].recv_from(&mut self.buffer[..4096]) else { return Ok(()) };
            let question = self.buffer[..length].to_vec();
            self.answer(&question, Client::Udp(at, from), from.ip(), now)?;
        }
        Ok(())
    }

    fn answer(&mut self, question: &[u8], client: Client, from: IpAddr, now: Instant) -> Result<()> {
        self.networks.update()?;
        let asker = zone::asker(&self.networks, from);
        let query = match (read_query(question), &asker) {
            (Received::Query(query), _) => query,
            // Who has nothing to ask here is told so only if it asks, and no more than it has sent.
            (Received::Refused(bytes), Some(_)) => {
                self.send(client, &bytes, now);
                return Ok(());
            }
            (Received::Refused(_) | Received::Ignored, _) => {
                if let Client::Tcp(token, _) = client {
                    self.connections.close(token);
                }
                return Ok(());
            }
        };
        let Some(asker) = asker else {
            self.send(client, &query.error(OptRcode::REFUSED), now);
            return Ok(());
        };
        let limit = limit(client, &query);
        let bytes = match zone::find(&mut self.networks, &asker, &query) {
            zone::Found::Addresses(mut addresses) => {
                // Who takes the first shall not always get the same.
                self.turn = self.turn.wrapping_add(1);
                let by = self.turn % addresses.len().max(1);
                addresses.rotate_left(by);
                query.addresses(&addresses, limit)
            }
            zone::Found::Name(name) => query.pointer(&name, limit),
            zone::Found::Nobody => query.error(OptRcode::NXDOMAIN),
            zone::Found::Internal => query.error(OptRcode::REFUSED),
            zone::Found::Elsewhere(servers) => {
                self.ask_others(client, &query, servers, now);
                return Ok(());
            }
        };
        self.send(client, &bytes, now);
        Ok(())
    }

    fn ask_others(&mut self, client: Client, query: &Query, servers: Vec<IpAddr>, now: Instant) {
        if servers.is_empty() && self.resolvers.update() {
            self.cache.clear();
        }
        let key = Key::new(query, servers);
        if let Some((answer, age)) = self.cache.get(&key, now) {
            self.send(client, &answer.reply(query, age, limit(client, query)), now);
            return;
        }
        // A server of ours would ask us again.
        let ours = |it: IpAddr| self.networks.all().any(|network| network.config.listen.contains(&it));
        let servers = match key.servers() {
            [] => self.resolvers.servers().to_vec(),
            servers => servers.iter().map(|it| (*it, PORT).into()).collect(),
        };
        let servers: Vec<_> = servers.into_iter().filter(|it| !ours(it.ip())).collect();
        if let Some(done) = self.forwarder.ask(&self.poll, key, &servers, client, query, now) {
            self.done(done);
        }
    }

    /// Tells all who wait, and keeps the answer.
    fn done(&mut self, done: Done) {
        let now = Instant::now();
        let answer: Option<Rc<Answer>> = done.answer.map(Rc::new);
        for (client, query) in done.waiters {
            let bytes = match &answer {
                Some(it) => it.reply(&query, 0, limit(client, &query)),
                None => query.error(OptRcode::SERVFAIL),
            };
            self.send(client, &bytes, now);
        }
        if let Some(answer) = answer {
            self.cache.put(done.key, answer, now);
        }
    }

    /// Where there is no room for a packet, it is lost, as packets are.
    fn send(&mut self, client: Client, bytes: &[u8], now: Instant) {
        match client {
            Client::Udp(at, to) => drop(self.udp[at].send_to(bytes, to)),
            Client::Tcp(token, _) => self.connections.answer(&self.poll, token, bytes, now),
        }
    }
}

fn limit(client: Client, query: &Query) -> usize {
    match client {
        Client::Udp(..) => query.udp_limit(),
        Client::Tcp(..) => LONGEST,
    }
}
