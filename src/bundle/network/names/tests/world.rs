//! A host of the test's own: a network namespace in which all addresses are on the loopback device, directories of
//! networks, servers in threads, and clients that ask from the address of a container.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use domain::base::iana::{Rcode, Rtype};
use domain::base::name::Name;
use domain::base::{Message, MessageBuilder, Ttl};
use domain::rdata::{A, AllRecordData};
use nix::sched::CloneFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::{Value, json};

use super::super::network::HERE;
use super::super::start::{Starting, serve};
use super::super::{place, resolv};

/// The gateway of the network `web`, where its server listens.
pub const SERVER: &str = "10.88.0.1";
pub const SERVER6: &str = "fd00:88::1";
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A host. It goes with all that is in it.
pub struct World {
    pub root: PathBuf,
    servers: Vec<(String, JoinHandle<Result<()>>)>,
    upstream: Vec<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl World {
    /// With the network `web` (10.88.0.0/16, fd00:88::/64).
    pub fn new(test: &str) -> Self {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        let root = std::env::temp_dir().join(format!("bundle-names-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        let world = Self { root, servers: Vec::new(), upstream: Vec::new() };
        world.resolvers(&[]);
        world.network("web", &[SERVER, SERVER6], &json!({"subnets": ["10.88.0.0/16", "fd00:88::/64"]}));
        world
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.root.join("resolv.conf")
    }

    pub fn resolvers(&self, servers: &[&str]) {
        let text: String = servers.iter().map(|it| format!("nameserver {it}\n")).collect();
        std::fs::write(self.resolv_conf(), text).unwrap();
    }

    pub fn dir(&self, network: &str) -> PathBuf {
        self.root.join("networks").join(network)
    }

    /// Makes a network that listens on these addresses.
    pub fn network(&self, name: &str, listen: &[&str], more: &Value) {
        let dir = self.dir(name);
        std::fs::create_dir_all(dir.join(HERE)).unwrap();
        for address in listen {
            have(address);
        }
        let mut config = json!({"id": name, "name": name, "bridge": "br-x", "listen": listen, "internal": false});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        write(&dir, "network", &config);
    }

    /// Puts a container into a network.
    pub fn container(&self, network: &str, id: &str, addresses: &[&str], names: &[&str], more: &Value) {
        for address in addresses {
            have(address);
        }
        let mut record = json!({"container": id, "addresses": addresses, "names": names, "links": {}});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        write(&self.dir(network).join(HERE), id, &record);
    }

    pub fn leave(&self, network: &str, id: &str) {
        std::fs::remove_file(self.dir(network).join(HERE).join(id)).unwrap();
    }

    /// Starts a network's server in a thread, and waits until it answers.
    pub fn serve(&mut self, network: &str) {
        let (dir, resolv_conf) = (self.dir(network), self.resolv_conf());
        let server = place::locked(place::open(&dir, "server").unwrap()).unwrap().expect("there is one already");
        server.set_len(0).unwrap();
        drop(place::lock(&dir).unwrap());
        let thread = std::thread::spawn({
            let dir = dir.clone();
            move || serve(&dir, server, &resolv_conf)
        });
        Starting::of(&dir).wait().unwrap();
        self.servers.push((network.into(), thread));
    }

    /// What a network's server came to, after its last container has left.
    pub fn end(&mut self, network: &str) -> Result<()> {
        let at = self.servers.iter().position(|it| it.0 == network).unwrap();
        let (_, thread) = self.servers.remove(at);
        let end = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            assert!(Instant::now() < end, "the server does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().unwrap()
    }

    /// An upstream server on an address: what it says on a question, by TCP or not. Several packets are sent in
    /// their order.
    pub fn upstream(
        &mut self,
        address: &str,
        say: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Arc<Mutex<Vec<String>>> {
        have(address);
        let address: IpAddr = address.parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let say = Arc::new(say);
        let udp = UdpSocket::bind((address, resolv::PORT)).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let tcp = std::net::TcpListener::bind((address, resolv::PORT)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let thread = std::thread::spawn({
            let (asked, stop) = (asked.clone(), stop.clone());
            move || {
                let mut buffer = vec![0; 65_535];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                        asked.lock().unwrap().push(asked_name(&buffer[..length]));
                        for it in say(&buffer[..length], false) {
                            let _ = udp.send_to(&it, from);
                        }
                    }
                    if let Ok((mut stream, _)) = tcp.accept() {
                        stream.set_nonblocking(false).unwrap();
                        stream.set_read_timeout(Some(PATIENCE)).unwrap();
                        let Ok(question) = read_message(&mut stream) else { continue };
                        asked.lock().unwrap().push(format!("tcp {}", asked_name(&question)));
                        for it in say(&question, true) {
                            let _ = stream.write_all(&[&(it.len() as u16).to_be_bytes()[..], &it].concat());
                        }
                    }
                }
            }
        });
        self.upstream.push((stop, thread));
        asked
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (network, thread) in self.servers.drain(..) {
            let _ = std::fs::remove_dir_all(self.root.join("networks").join(network));
            let ended = thread.join();
            assert!(std::thread::panicking() || matches!(ended, Ok(Ok(()))), "{ended:?}");
        }
        for (stop, thread) in self.upstream.drain(..) {
            stop.store(true, Ordering::Relaxed);
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Writes a file as the command does that starts a container: whole, or not at all.
pub fn write(dir: &Path, name: &str, value: &Value) {
    let new = dir.join(format!(".{name}"));
    std::fs::write(&new, value.to_string()).unwrap();
    std::fs::rename(&new, dir.join(name)).unwrap();
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() || said.contains("File exists") || said.contains("already"), "ip {words}: {said}");
}

/// Has the host have an address.
pub fn have(address: &str) {
    if address.starts_with("127.") {
        return;
    }
    let more = if address.contains(':') { "/128 nodad" } else { "/32" };
    let (length, flags) = more.split_once(' ').unwrap_or((more, ""));
    ip(format!("address add {address}{length} dev lo {flags}").trim());
}

/// A question: its number, flags and EDNS are for the caller to say.
pub fn question(id: u16, name: &str, kind: Rtype, edns: Option<u16>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((&name.parse::<Name<Vec<u8>>>().unwrap(), kind)).unwrap();
    let mut builder = builder.additional();
    if let Some(size) = edns {
        let set = |opt: &mut domain::base::message_builder::OptBuilder<'_, _>| {
            opt.set_udp_payload_size(size);
            Ok(())
        };
        builder.opt(set).unwrap();
    }
    builder.finish()
}

/// The answer of an upstream server: records with a time to live, for the name that was asked.
pub fn answer(asked: &[u8], code: Rcode, ttl: u32, addresses: &[&str]) -> Vec<u8> {
    let message = Message::from_slice(asked).unwrap();
    let name = message.sole_question().unwrap();
    let mut builder = MessageBuilder::new_vec().start_answer(message, code).unwrap();
    builder.header_mut().set_ra(true);
    for it in addresses {
        builder.push((name.qname(), Ttl::from_secs(ttl), it.parse::<A>().unwrap())).unwrap();
    }
    builder.finish()
}

fn asked_name(question: &[u8]) -> String {
    let message = Message::from_slice(question).unwrap();
    message.sole_question().unwrap().qname().to_string()
}

/// Asks a server by UDP from an address.
pub fn ask_bytes(from: &str, server: &str, question: &[u8]) -> Vec<u8> {
    let from: IpAddr = from.parse().unwrap();
    let server: IpAddr = server.parse().unwrap();
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect((server, 53)).unwrap();
    socket.set_read_timeout(Some(PATIENCE / 4)).unwrap();
    let mut buffer = vec![0; 65_535];
    // Packets may be lost, where there are too many: resolvers send them again.
    for _ in 0..4 {
        socket.send(question).unwrap();
        if let Ok(length) = socket.recv(&mut buffer) {
            buffer.truncate(length);
            return buffer;
        }
    }
    panic!("no answer");
}

/// A connection to a server from an address.
pub fn connect(from: &str, server: &str) -> TcpStream {
    let (from, server): (IpAddr, IpAddr) = (from.parse().unwrap(), server.parse().unwrap());
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    rustix::net::connect(&socket, &SocketAddr::new(server, 53)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

pub fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// Asks a server by TCP from an address.
pub fn ask_tcp(from: &str, server: &str, question: &[u8]) -> Vec<u8> {
    let mut stream = connect(from, server);
    stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], question].concat()).unwrap();
    read_message(&mut stream).unwrap()
}

/// An answer's code, and its records' data as text in their order.
pub fn read(bytes: &[u8]) -> (String, Vec<String>) {
    let message = Message::from_slice(bytes).unwrap();
    assert!(message.header().qr());
    let mut data = Vec::new();
    for record in message.answer().unwrap() {
        let record = record.unwrap();
        data.push(
            record
                .to_record::<AllRecordData<_, _>>()
                .unwrap()
                .unwrap()
                .data()
                .to_string()
                .trim_end_matches('.')
                .to_owned(),
        );
    }
    (message.header().rcode().to_string(), data)
}

/// Asks the server of `web` for addresses, from an address.
pub fn ask(from: &str, name: &str) -> (String, Vec<String>) {
    ask_for(from, SERVER, name, Rtype::A)
}

pub fn ask_for(from: &str, server: &str, name: &str, kind: Rtype) -> (String, Vec<String>) {
    let bytes = ask_bytes(from, server, &question(77, name, kind, Some(1232)));
    assert_eq!(Message::from_slice(&bytes).unwrap().header().id(), 77);
    read(&bytes)
}

/// What [`ask`] gives for some addresses.
pub fn found(data: &[&str]) -> (String, Vec<String>) {
    ("NOERROR".into(), data.iter().map(ToString::to_string).collect())
}

/// What [`ask`] gives for a code alone.
pub fn code(code: &str) -> (String, Vec<String>) {
    (code.into(), Vec::new())
}
