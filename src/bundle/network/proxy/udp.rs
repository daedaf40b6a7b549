//! Datagrams: each client has a socket of its own to the container, so that answers find back.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, sendmsg,
    setsockopt,
};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, getsockname, recv, send, socket_with,
};

use super::server::Listener;
use crate::network::poll::{Poll, Slab, Token};

/// How much may wait at a socket.
pub const BUFFER: usize = 1024 * 1024;
/// What tokens of clients belong to.
const CLIENT: u8 = 4;
/// After how long without a datagram a client is forgotten: what connection tracking gives a stream of UDP.
const IDLE: Duration = Duration::from_mins(2);
/// How many clients there are at most; then who has been silent for longest is forgotten.
const MOST: usize = 4096;
/// How many answers of one client are carried before others have their turn.
const TURN: usize = 64;

/// A datagram that came.
pub struct Datagram {
    pub from: SocketAddr,
    listener: usize,
    /// The host's address that it came to, which the answer has to come from.
    to: Option<IpAddr>,
    /// The link, where the address is only valid there.
    link: u32,
    length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    listener: usize,
    from: SocketAddr,
    to: Option<IpAddr>,
}

struct Client {
    key: Key,
    link: u32,
    socket: OwnedFd,
    last: Instant,
}

/// All clients of all sockets.
pub struct Clients {
    all: Slab<Client>,
    tokens: HashMap<Key, Token>,
    /// When it is worth looking whom to forget.
    look: Option<Instant>,
    buffer: Box<[u8]>,
}

/// Has a socket tell to which address a datagram came: the answer must not come from another one.
pub fn prepare(socket: &OwnedFd) -> rustix::io::Result<()> {
    let v4 = SocketAddr::try_from(getsockname(socket)?)?.is_ipv4();
    let set =
        if v4 { setsockopt(socket, Ipv4PacketInfo, &true) } else { setsockopt(socket, Ipv6RecvPacketInfo, &true) };
    set.map_err(|it| Errno::from_raw_os_error(it as i32))
}

impl Clients {
    pub fn new() -> Self {
        let buffer = vec![0; 65_536].into_boxed_slice();
        Self { all: Slab::new(CLIENT), tokens: HashMap::new(), look: None, buffer }
    }

    /// The next datagram of a socket, which is kept until the next call.
    pub fn receive(&mut self, place: usize, listener: &Listener) -> Option<Datagram> {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let fd = listener.socket.as_raw_fd();
            let message = match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT) {
                Ok(message) => message,
                Err(nix::errno::Errno::EAGAIN) => return None,
                // What an answer ran into.
                Err(_) => continue,
            };
            let Some(from) = message.address.as_ref().and_then(address) else { continue };
            let (mut to, mut link) = (None, 0);
            for it in message.cmsgs().into_iter().flatten() {
                match it {
                    ControlMessageOwned::Ipv4PacketInfo(it) => {
                        to = Some(IpAddr::from(it.ipi_spec_dst.s_addr.to_ne_bytes()));
                    }
                    ControlMessageOwned::Ipv6PacketInfo(it) => {
                        to = Some(IpAddr::from(it.ipi6_addr.s6_addr));
                        link = it.ipi6_ifindex;
                    }
                    _ => {}
                }
            }
            return Some(Datagram { from, listener: place, to, link, length: message.bytes });
        }
    }

    /// Sends what was received to the container, as the client that it came from.
    pub fn carry(&mut self, poll: &Poll, listener: &Listener, datagram: Datagram) {
        let Datagram { from, listener: place, to, link, length } = datagram;
        let key = Key { listener: place, from, to };
        let now = Instant::now();
        let token = match self.tokens.get(&key) {
            Some(token) => *token,
            None => match self.client(poll, listener, key, link, now) {
                Ok(token) => token,
                // No descriptor is left: datagrams may be lost.
                Err(_) => return,
            },
        };
        let Some(client) = self.all.get_mut(token) else { return };
        client.last = now;
        // An error is of an earlier one: that nobody listened.
        if send(&client.socket, &self.buffer[..length], SendFlags::DONTWAIT) == Err(Errno::CONNREFUSED) {
            let _ = send(&client.socket, &self.buffer[..length], SendFlags::DONTWAIT);
        }
    }

    fn client(
        &mut self,
        poll: &Poll,
        listener: &Listener,
        key: Key,
        link: u32,
        now: Instant,
    ) -> std::io::Result<Token> {
        if self.all.len() >= MOST {
            let oldest = self.all.iter().min_by_key(|it| it.1.last).map(|it| it.0);
            if let Some(oldest) = oldest {
                self.forget(oldest);
            }
        }
        let to = listener.port.to;
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        connect(&socket, &to)?;
        let token = self.all.add(Client { key, link, socket, last: now });
        if let Some(client) = self.all.get_mut(token)
            && let Err(error) = poll.add(&client.socket, token, EventFlags::IN)
        {
            self.all.remove(token);
            return Err(error);
        }
        self.tokens.insert(key, token);
        self.look.get_or_insert(now + IDLE);
        Ok(token)
    }

    /// Sends a client what the container has answered.
    pub fn answer(&mut self, token: Token, listeners: &[Listener]) {
        let Some(client) = self.all.get_mut(token) else { return };
        let Some(listener) = listeners.get(client.key.listener) else { return };
        for _ in 0..TURN {
            match recv(&client.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    client.last = Instant::now();
                    // A datagram that cannot be sent now is lost, as they may be.
                    let _ = reply(&listener.socket, client, &self.buffer[..length]);
                }
                // Nobody listens in the container now.
                Err(Errno::CONNREFUSED | Errno::INTR) => {}
                Err(_) => break,
            }
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert_eq!(self.all.len(), self.tokens.len());
        self.all.len()
    }

    /// When to call [`expire`](Self::expire).
    pub fn next(&self) -> Option<Instant> {
        self.look
    }

    /// Forgets who has been silent.
    pub fn expire(&mut self, now: Instant) {
        if self.look.is_none_or(|it| it > now) {
            return;
        }
        let silent: Vec<_> = self.all.iter().filter(|it| it.1.last + IDLE <= now).map(|it| it.0).collect();
        for token in silent {
            self.forget(token);
        }
        self.look = self.all.iter().map(|it| it.1.last + IDLE).min();
    }

    fn forget(&mut self, token: Token) {
        if let Some(client) = self.all.remove(token) {
            self.tokens.remove(&client.key);
        }
    }
}

/// From the address that the client sent to.
fn reply(socket: &OwnedFd, client: &Client, data: &[u8]) -> nix::Result<usize> {
    let (fd, data, flags) = (socket.as_raw_fd(), [IoSlice::new(data)], MsgFlags::MSG_DONTWAIT);
    match (client.key.from, client.key.to) {
        (SocketAddr::V4(from), Some(IpAddr::V4(to))) => {
            let address = |it: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(it.octets()) };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: address(to),
                ipi_addr: address(Ipv4Addr::UNSPECIFIED),
            };
            sendmsg(fd, &data, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&SockaddrIn::from(from)))
        }
        (SocketAddr::V6(from), Some(IpAddr::V6(to))) => {
            let link = if to.is_unicast_link_local() { client.link } else { 0 };
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: to.octets() }, ipi6_ifindex: link };
            sendmsg(fd, &data, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&SockaddrIn6::from(from)))
        }
        (from, _) => sendmsg(fd, &data, &[], flags, Some(&SockaddrStorage::from(from))),
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|it| SocketAddr::from(std::net::SocketAddrV4::from(*it)));
    v4.or_else(|| storage.as_sockaddr_in6().map(|it| SocketAddr::from(std::net::SocketAddrV6::from(*it))))
}
