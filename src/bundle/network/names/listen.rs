//! The sockets that a server listens on.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::place;
use super::resolv::PORT;

/// How many connections may wait to be taken up.
const BACKLOG: i32 = 64;
/// How many bytes of questions may wait in the kernel, as it counts them.
const RECEIVE_BUFFER: usize = 512 << 10;
/// How often we look whether a server that was killed has let go of its addresses, and how long in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(4);

/// Listens by UDP and TCP on all these addresses, on one port: that of the name service or, where somebody else has
/// it on all addresses of the host, one that is free. In that case the port is in the file [`place::port`].
pub fn listen(dir: &Path, addresses: &[IpAddr]) -> Result<(Vec<UdpSocket>, Vec<TcpListener>)> {
    if addresses.is_empty() {
        bail!("the network has no address for its name server");
    }
    place::write_port(dir, None)?;
    for _ in 0..TRIES {
        match all(addresses, PORT) {
            Err(Errno::ADDRINUSE) => std::thread::sleep(PAUSE),
            other => return other.with_context(|| format!("listening on port {PORT} of {addresses:?}")),
        }
    }
    for _ in 0..100 {
        // The kernel chooses; what is free for one address need not be for the others.
        let free = UdpSocket::bind((addresses[0], 0)).or_else(|_| UdpSocket::bind("0.0.0.0:0"));
        let port = free.and_then(|it| it.local_addr()).context("a free port")?.port();
        match all(addresses, port) {
            Err(Errno::ADDRINUSE) => {}
            Ok(sockets) => {
                place::write_port(dir, Some(port))?;
                return Ok(sockets);
            }
            Err(error) => return Err(error).with_context(|| format!("listening on port {port} of {addresses:?}")),
        }
    }
    bail!("there is no free port for the name server on {addresses:?}")
}

fn all(addresses: &[IpAddr], port: u16) -> rustix::io::Result<(Vec<UdpSocket>, Vec<TcpListener>)> {
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for address in addresses {
        let address = SocketAddr::new(*address, port);
        udp.push(bound(&address, SocketType::DGRAM)?.into());
        let listener = bound(&address, SocketType::STREAM)?;
        rustix::net::listen(&listener, BACKLOG)?;
        tcp.push(listener.into());
    }
    Ok((udp, tcp))
}

fn bound(address: &SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // The bridge's address may be on its way.
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == SocketType::DGRAM {
        // All containers of a network may start at once.
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    } else {
        // Connections of a server before us may still be ending.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, address)?;
    Ok(socket)
}
