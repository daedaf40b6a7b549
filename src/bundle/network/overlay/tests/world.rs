//! A wire with an etcd and hosts on it. The wire is the test's own network namespace, each host another one, and each
//! container one more.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use domain::base::iana::Rtype;
use nix::sched::CloneFlags;
use serde_json::json;

use super::super::agent::FILE;
use super::super::etcd::Client;
use super::super::members::{Config, Host, Lease, Overlay, read as read_pair};
use super::super::{Settings, mtu};
use crate::network::link::{Links, Mac, Veth, Vxlan, inside, new_namespace};
use crate::network::names::tests::world::{ask_bytes, question, read, write};
use crate::network::names::{Starting, serve};

pub const NETWORK: &str = "web";
/// Where etcd is, for the hosts.
pub const ETCD: &str = "http://192.0.2.1:2379";
const SUBNETS: [&str; 2] = ["10.99.0.0/16", "fd00:99::/64"];
const PATIENCE: Duration = Duration::from_secs(10);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn temporary(test: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("bundle-overlay-{test}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).unwrap();
    root
}

/// A network namespace for the calling thread, with a loopback device.
pub fn own_namespace() -> Links {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let mut links = Links::here().unwrap();
    links.up("lo").unwrap();
    links
}

/// An etcd of one member, in the calling thread's namespace.
pub struct Etcd {
    dir: PathBuf,
    flags: Vec<String>,
    pub scheme: &'static str,
    child: Option<Child>,
}

impl Etcd {
    pub fn start(dir: PathBuf, scheme: &'static str, flags: &[String]) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let mut etcd = Self { dir, flags: flags.to_vec(), scheme, child: None };
        etcd.restart();
        etcd
    }

    pub fn restart(&mut self) {
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        let scheme = self.scheme;
        let mut command = Command::new("etcd");
        command.args(["--name", "one", "--log-outputs", "stderr"]).arg("--data-dir").arg(self.dir.join("data"));
        command.args(["--listen-client-urls", &format!("{scheme}://0.0.0.0:2379")]);
        command.args(["--advertise-client-urls", &format!("{scheme}://127.0.0.1:2379")]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--heartbeat-interval", "50"]);
        command.args(["--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--election-timeout", "500"]);
        command.args(["--initial-cluster", "one=http://127.0.0.1:2380"]).args(&self.flags);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        until("etcd starts", || std::net::TcpStream::connect("127.0.0.1:2379").is_ok());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.dir.join("log")).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What a network is, by etcd.
pub fn config(overlay: &Overlay) -> Option<Config> {
    let pair = overlay.client().get(&format!("{}config", overlay.prefix)).unwrap()?;
    Some(read_pair(&pair).unwrap())
}

pub fn settings(endpoint: &str) -> Settings {
    Settings { endpoints: vec![endpoint.into()], ..Settings::default() }
}

/// Waits until etcd has a leader.
pub fn ready(client: &Client) {
    until("etcd answers", || client.get("x").is_ok());
}

pub struct Container {
    pub id: String,
    namespace: OwnedFd,
    pub four: IpAddr,
    pub six: IpAddr,
}

impl Container {
    /// Sends packets to another one until one comes back, or time is up.
    pub fn reaches(&self, to: IpAddr, most: Duration) -> bool {
        let from = if to.is_ipv4() { self.four } else { self.six };
        let socket = inside(self.namespace.as_fd(), || UdpSocket::bind((from, 0))).unwrap().unwrap();
        socket.connect((to, 7)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let began = Instant::now();
        // As large as can be.
        let text = vec![b'x'; 1450 - if to.is_ipv4() { 28 } else { 48 }];
        while began.elapsed() < most {
            let mut said = [0; 2000];
            if socket.send(&text).is_ok() && socket.recv(&mut said).is_ok_and(|it| said[..it] == text[..]) {
                return true;
            }
        }
        false
    }

    /// The addresses of a name, by the server of its network on its host.
    pub fn ask(&self, server: IpAddr, name: &str) -> Vec<String> {
        let question = question(9, name, Rtype::A, None);
        let ask = || ask_bytes(&self.four.to_string(), &server.to_string(), &question);
        read(&inside(self.namespace.as_fd(), ask).unwrap()).1
    }

    /// Sends back what comes, for as long as the test runs.
    fn echo(&self) {
        for address in [self.four, self.six] {
            let socket = inside(self.namespace.as_fd(), || UdpSocket::bind((address, 7))).unwrap().unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 2000];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            });
        }
    }
}

pub struct Machine {
    pub id: String,
    namespace: OwnedFd,
    pub links: Links,
    pub overlay: Overlay,
    pub underlay: IpAddr,
    pub bridge: IpAddr,
    pub dir: PathBuf,
    resolv_conf: PathBuf,
    server: Option<JoinHandle<Result<()>>>,
    pub containers: Vec<Container>,
}

/// What an address' Ethernet address is.
pub fn mac(address: IpAddr) -> Mac {
    let octets = match address {
        IpAddr::V4(it) => it.octets(),
        IpAddr::V6(it) => *it.octets().last_chunk().unwrap(),
    };
    [2, 0x42, octets[0], octets[1], octets[2], octets[3]]
}

impl Machine {
    /// A host on the wire, in the network.
    fn join(root: &std::path::Path, wire: &mut Links, at: u8) -> Self {
        let (namespace, mut links) = new_namespace().unwrap();
        let id = format!("host{at}");
        let underlay = ip(&format!("192.0.2.{}", 10 + at));
        let bridge = wire.find("wire").unwrap().unwrap().index;
        cable(wire, bridge, &id, "u0", &namespace, None);
        links.up("lo").unwrap();
        links.up("u0").unwrap();
        let index = links.find("u0").unwrap().unwrap().index;
        links.address(index, underlay, 24).unwrap();
        let overlay = Overlay::open(&settings(ETCD), NETWORK).unwrap();
        let dir = root.join(&id).join("networks").join(NETWORK);
        std::fs::create_dir_all(dir.join("containers")).unwrap();
        let resolv_conf = root.join(&id).join("resolv.conf");
        std::fs::write(&resolv_conf, "").unwrap();
        let bridge = ip("0.0.0.0");
        let containers = Vec::new();
        let mut it =
            Self { id, namespace, links, overlay, underlay, bridge, dir, resolv_conf, server: None, containers };
        it.inside(Self::set_up).unwrap();
        it
    }

    fn set_up(&mut self) -> Result<()> {
        let size = mtu(1500, self.underlay);
        let subnets: Vec<String> = SUBNETS.iter().map(ToString::to_string).collect();
        let config = self.overlay.create(&subnets, None, size, 4789)?;
        let range = (ip("10.99.0.1"), ip("10.99.0.200"));
        let own = |_| Lease { host: self.id.clone(), container: String::new(), mac: [0; 6] };
        self.bridge = self.overlay.lease(range, None, &[], own)?;
        self.links.bridge("br0", size, mac(self.bridge), &[(self.bridge, 16)])?;
        let bridge = self.links.find("br0")?.unwrap().index;
        let (name, vni, local, port) = ("v0", config.vni, self.underlay, config.port);
        let (learning, proxy, underlay) = (false, true, 0);
        self.links.vxlan(&Vxlan { name, vni, local, port, underlay, mtu: size, learning, proxy, bridge })?;
        self.tell()?;
        write(&self.dir, "network", &json!({"id": "1", "name": NETWORK, "listen": [self.bridge], "internal": true}));
        let file = json!({"network": NETWORK, "host": self.id, "device": "v0", "etcd": settings(ETCD), "life": 3});
        write(&self.dir, FILE, &file);
        Ok(())
    }

    pub fn tell(&self) -> Result<()> {
        let host = Host { underlay: self.underlay, addresses: vec![self.bridge], mac: mac(self.bridge) };
        self.overlay.join(&self.id, &host)
    }

    pub fn inside<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let namespace = self.namespace.try_clone().unwrap();
        inside(namespace.as_fd(), || work(self)).unwrap()
    }

    /// Leases, as a container's creation does.
    pub fn lease(&mut self, id: &str) -> Result<(IpAddr, IpAddr)> {
        let id = id.to_owned();
        self.inside(|it| {
            let lease = |address| Lease { host: it.id.clone(), container: id.clone(), mac: mac(address) };
            let four = it.overlay.lease((ip("10.99.0.1"), ip("10.99.255.254")), None, &[], lease)?;
            let same = |_| Lease { host: it.id.clone(), container: id.clone(), mac: mac(four) };
            let six = it.overlay.lease((ip("fd00:99::2"), ip("fd00:99::ffff:ffff")), None, &[], same)?;
            Ok((four, six))
        })
    }

    /// Starts a container.
    pub fn run(&mut self, id: &str, name: &str) -> Result<&Container> {
        let (four, six) = self.lease(id)?;
        let (namespace, mut links) = new_namespace()?;
        let bridge = self.links.find("br0")?.unwrap().index;
        cable(&mut self.links, bridge, id, "eth0", &namespace, Some(mac(four)));
        let index = links.find("eth0")?.unwrap().index;
        links.up("lo")?;
        links.up("eth0")?;
        links.address(index, four, 16)?;
        links.address(index, six, 64)?;
        let record = json!({"container": id, "addresses": [four, six], "names": [name]});
        write(&self.dir.join("containers"), id, &record);
        self.serve();
        let container = Container { id: id.into(), namespace, four, six };
        container.echo();
        self.containers.push(container);
        Ok(self.containers.last().unwrap())
    }

    /// Starts the name server, if it does not run.
    fn serve(&mut self) {
        if self.server.as_ref().is_some_and(|it| !it.is_finished()) {
            return;
        }
        let (dir, resolv_conf) = (self.dir.clone(), self.resolv_conf.clone());
        let open = |name: &str| std::fs::File::create(dir.join(name)).unwrap();
        open("lock");
        let server = open("server");
        rustix::fs::flock(&server, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let thread = {
            let dir = dir.clone();
            move || serve(&dir, server, &resolv_conf)
        };
        self.server = Some(self.inside(|_| std::thread::spawn(thread)));
        Starting::of(&dir).wait().unwrap();
    }

    /// Ends a container, and removes it.
    pub fn remove(&mut self, id: &str) {
        std::fs::remove_file(self.dir.join("containers").join(id)).unwrap();
        let at = self.containers.iter().position(|it| it.id == id).unwrap();
        let container = self.containers.remove(at);
        self.links.remove(id).unwrap();
        self.inside(|it| {
            for address in [container.four, container.six] {
                it.overlay.release(address, &it.id).unwrap();
            }
        });
    }

    /// What the kernel has been told of the others.
    pub fn entries(&mut self) -> (usize, usize) {
        let index = self.links.find("v0").unwrap().unwrap().index;
        (self.links.forwardings(index).unwrap().len(), self.links.neighbours(index).unwrap().len())
    }

    /// Waits until the name server has ended.
    pub fn ended(&mut self) {
        until("the name server ends", || self.server.as_ref().is_none_or(JoinHandle::is_finished));
        if let Some(server) = self.server.take() {
            server.join().unwrap().unwrap();
        }
    }
}

/// A pair of links from a bridge to a namespace.
pub fn cable(links: &mut Links, bridge: u32, name: &str, peer: &str, namespace: &OwnedFd, mac: Option<Mac>) {
    let mtu = if peer == "u0" { 1500 } else { 1450 };
    let (hairpin, isolated) = (false, false);
    links.veth(&Veth { name, bridge, peer, namespace: namespace.as_fd(), mac, mtu, hairpin, isolated }).unwrap();
}

pub struct World {
    pub wire: Links,
    root: PathBuf,
    pub etcd: Etcd,
    pub machines: Vec<Machine>,
}

impl World {
    pub fn new(test: &str, hosts: u8) -> Self {
        let mut wire = own_namespace();
        wire.bridge("wire", 1500, [2, 0, 0, 0, 0, 1], &[(ip("192.0.2.1"), 24)]).unwrap();
        let root = temporary(test);
        let etcd = Etcd::start(root.join("etcd"), "http", &[]);
        ready(&Client::new(&settings(ETCD)).unwrap());
        let mut world = Self { wire, root, etcd, machines: Vec::new() };
        for _ in 0..hosts {
            world.join();
        }
        world
    }

    /// One more host.
    pub fn join(&mut self) -> &mut Machine {
        let at = self.machines.len() as u8 + 1;
        let machine = Machine::join(&self.root, &mut self.wire, at);
        self.machines.push(machine);
        self.machines.last_mut().unwrap()
    }

    /// Whether all containers reach each other, by both protocols.
    pub fn all_talk(&self) -> bool {
        let all: Vec<&Container> = self.machines.iter().flat_map(|it| &it.containers).collect();
        let reach = |from: &Container, to: &Container| {
            let most = Duration::from_secs(5);
            let both = from.reaches(to.four, most) && from.reaches(to.six, most);
            if !both {
                println!("{} does not reach {}", from.id, to.id);
            }
            both
        };
        all.iter().all(|from| all.iter().filter(|to| to.id != from.id).all(|to| reach(from, to)))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            if std::thread::panicking() {
                let entries = machine.entries();
                println!("{}: {entries:?}", machine.id);
            }
            let _ = std::fs::remove_dir_all(machine.dir.join("containers"));
            if let Some(server) = machine.server.take() {
                let _ = server.join();
            }
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// A port of the calling thread's namespace on which somebody listens who says nothing.
pub fn silent() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
