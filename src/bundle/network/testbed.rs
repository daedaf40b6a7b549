//! What tests of networks share: a "host" with two bridges, containers on them, and other hosts on its wire, each a
//! network namespace that goes with the test; servers that say who they are and whom they see, and clients.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::firewall::{Network, Protocol, forward, prepare_bridge};
use super::link::{Links, Veth, inside, new_namespace};

/// How long nothing comes before it counts as nothing.
const NOTHING: Duration = Duration::from_millis(300);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A machine, or a container.
pub struct Space {
    pub namespace: OwnedFd,
    pub links: Links,
    servers: Vec<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Space {
    pub fn new() -> Self {
        let (namespace, links) = new_namespace().unwrap();
        Self { namespace, links, servers: vec![], over: Arc::default() }
    }

    /// Runs something in it.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        inside(self.namespace.as_fd(), work).unwrap()
    }

    /// A command's output.
    pub fn sh(&self, script: &str) -> String {
        let mut command = std::process::Command::new("sh");
        let output = self.run(|| command.args(["-c", script]).output()).unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Answers at an address: `NAME`, a space, and the client's address.
    pub fn serve(&mut self, name: &str, protocol: Protocol, at: SocketAddr) {
        let (name, over) = (name.to_owned(), self.over.clone());
        let work: Box<dyn FnOnce() + Send> = match protocol {
            Protocol::Tcp => {
                let listener = self.run(|| TcpListener::bind(at)).unwrap();
                listener.set_nonblocking(true).unwrap();
                Box::new(move || {
                    while !over.load(Ordering::Relaxed) {
                        match listener.accept() {
                            Ok((mut client, from)) => drop(write!(client, "{name} {}", from.ip())),
                            Err(_) => std::thread::sleep(Duration::from_millis(2)),
                        }
                    }
                })
            }
            Protocol::Udp => {
                let socket = self.run(|| UdpSocket::bind(at)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                Box::new(move || {
                    let mut buffer = [0; 2048];
                    while !over.load(Ordering::Relaxed) {
                        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                            let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
                        }
                    }
                })
            }
        };
        self.servers.push(std::thread::spawn(work));
    }

    /// What answers there: its text; `no` if nobody is there, `nothing` if nothing comes.
    pub fn ask(&self, protocol: Protocol, to: SocketAddr) -> String {
        let answer = match protocol {
            Protocol::Tcp => self.run(|| {
                let mut stream = TcpStream::connect_timeout(&to, NOTHING)?;
                stream.set_read_timeout(Some(NOTHING))?;
                let mut text = String::new();
                stream.read_to_string(&mut text).map(|_| text)
            }),
            Protocol::Udp => self.run(|| {
                let any = if to.is_ipv4() { ip("0.0.0.0") } else { ip("::") };
                let socket = UdpSocket::bind((any, 0))?;
                // As ICMP errors are wanted.
                socket.connect(to)?;
                socket.set_read_timeout(Some(NOTHING))?;
                socket.send(b"who")?;
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }),
        };
        answer.unwrap_or_else(|error: std::io::Error| match error.kind() {
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => "nothing".into(),
            _ => "no".into(),
        })
    }

    /// Who answers, without whom it saw.
    pub fn who(&self, protocol: Protocol, to: &str) -> String {
        self.ask(protocol, to.parse().unwrap()).split(' ').next().unwrap().to_owned()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.servers.drain(..).for_each(|it| drop(it.join()));
    }
}

/// A host (192.0.2.1, 2001:db8::1) with the networks `br-a` (10.88.0.0/24, fd88::/64; containers `a` .2, `b` .3) and
/// `br-b` (10.89.0.0/24, fd89::/64; container `c` .2), and two other hosts beside it, `near` .2 and `far` .3.
///
/// Each container answers as its name at port 80, and each host at port 7.
pub struct Bed {
    pub host: Space,
    pub a: Space,
    pub b: Space,
    pub c: Space,
    pub near: Space,
    pub far: Space,
    pub networks: [Network; 2],
}

impl Bed {
    pub fn new() -> Self {
        let mut host = Space::new();
        host.links.up("lo").unwrap();
        let wan = [(ip("192.0.2.1"), 24), (ip("2001:db8::1"), 64)];
        host.links.bridge("wan", 1500, [2, 0, 0, 0, 0, 1], &wan).unwrap();
        let [one, two] = ["a", "b"].map(|it| format!("br-{it}"));
        let networks = [network(&one, "10.88.0.0/24 fd88::/64"), network(&two, "10.89.0.0/24 fd89::/64")];
        for (network, mac) in networks.iter().zip(2..) {
            let address = |(subnet, prefix): &(IpAddr, u8)| (host_of(*subnet, 1), *prefix);
            let addresses: Vec<_> = network.subnets.iter().map(address).collect();
            host.links.bridge(&network.bridge, 1500, [2, 0, 0, 0, 0, mac], &addresses).unwrap();
            host.run(|| prepare_bridge(&network.bridge, true, true)).unwrap();
        }
        host.run(|| forward(true, true)).unwrap();
        let mut bed = Self {
            a: container(&mut host, "br-a", 2, &networks[0].subnets),
            b: container(&mut host, "br-a", 3, &networks[0].subnets),
            c: container(&mut host, "br-b", 2, &networks[1].subnets),
            near: container(&mut host, "wan", 2, &[(ip("192.0.2.0"), 24), (ip("2001:db8::"), 64)]),
            far: container(&mut host, "wan", 3, &[(ip("192.0.2.0"), 24), (ip("2001:db8::"), 64)]),
            host,
            networks,
        };
        // A socket of IPv6 takes IPv4 along.
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (space, name) in [(&mut bed.a, "a"), (&mut bed.b, "b"), (&mut bed.c, "c")] {
                space.serve(name, protocol, SocketAddr::new(ip("::"), 80));
            }
            for (space, name) in [(&mut bed.near, "near"), (&mut bed.host, "host")] {
                space.serve(name, protocol, SocketAddr::new(ip("::"), 7));
            }
        }
        bed
    }
}

pub fn network(bridge: &str, subnets: &str) -> Network {
    let subnet = |it: &str| it.split_once('/').map(|(address, bits)| (ip(address), bits.parse().unwrap())).unwrap();
    let subnets = subnets.split(' ').map(subnet).collect();
    Network { bridge: bridge.into(), subnets, internal: false, isolated: true, masquerade: true }
}

/// The address of this number in a subnet.
pub fn host_of(subnet: IpAddr, number: u8) -> IpAddr {
    match subnet {
        IpAddr::V4(it) => IpAddr::V4((u32::from(it) + u32::from(number)).into()),
        IpAddr::V6(it) => IpAddr::V6((u128::from(it) + u128::from(number)).into()),
    }
}

/// A namespace on a bridge, with the address of this number in its subnets, and the default route by the first.
pub fn container(host: &mut Space, bridge: &str, number: u8, subnets: &[(IpAddr, u8)]) -> Space {
    let mut space = Space::new();
    let index = host.links.find(bridge).unwrap().unwrap().index;
    let (name, namespace) = (format!("{bridge}-{number}"), space.namespace.as_fd());
    let (mac, mtu) = (Some([2, 0, 0, 0, index as u8, number]), 1500);
    host.links
        .veth(&Veth { name: &name, bridge: index, peer: "eth0", namespace, mac, mtu, hairpin: true, isolated: false })
        .unwrap();
    space.links.up("lo").unwrap();
    space.links.up("eth0").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let running = |links: &mut Links, name| links.find(name).unwrap().unwrap().running;
    while !running(&mut host.links, &name) || !running(&mut space.links, "eth0") {
        assert!(Instant::now() < deadline, "{name} does not come up");
        std::thread::sleep(Duration::from_millis(1));
    }
    let index = space.links.find("eth0").unwrap().unwrap().index;
    for (subnet, prefix) in subnets {
        space.links.address(index, host_of(*subnet, number), *prefix).unwrap();
        space.links.default_route(host_of(*subnet, 1)).unwrap();
    }
    space
}
