//! Connections and datagrams through the process, in namespaces of the test's own.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::*;
use crate::network::link::inside;
use crate::network::ports::{Families, hold, parse};
use crate::network::testbed::{Bed, Space, ip};

use Protocol::{Tcp, Udp};

/// A record that is there as long as the test says.
struct Record(PathBuf);

impl Record {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bundle-forward-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("record"), "{}").unwrap();
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.join("record")
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What the process does, in a thread of the host.
struct Running {
    record: Record,
    thread: Option<JoinHandle<()>>,
}

/// Forwards what these flags publish to the container `a`, by IPv4 or IPv6.
fn running(host: &Space, name: &str, flags: &[&str], to: &str) -> Running {
    let flags: Vec<_> = flags.iter().map(|it| parse(it).unwrap()).collect();
    let held = host.run(|| hold(&flags, Families { v4: true, v6: true })).unwrap();
    serve(host, name, held, to)
}

fn serve(host: &Space, name: &str, held: Vec<Held>, to: &str) -> Running {
    let record = Record::new(name);
    let ports = held.into_iter().map(|it| {
        if it.protocol == Tcp {
            listen(&it.socket).unwrap();
        }
        let to = SocketAddr::new(ip(to), it.container);
        let port = Port { socket: it.socket.as_raw_fd(), protocol: it.protocol, to, sources: it.sources };
        (it.socket, port)
    });
    let server = Server::open(&record.path(), ports.collect()).unwrap();
    let namespace = host.namespace.try_clone().unwrap();
    let thread = spawn(move || inside(namespace.as_fd(), || server.run().unwrap()).unwrap());
    Running { record, thread: Some(thread) }
}

impl Drop for Running {
    fn drop(&mut self) {
        std::fs::remove_file(self.record.path()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn connect(space: &Space, to: &str) -> TcpStream {
    let stream = space.run(|| TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(5))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn numbers(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(next).collect()
}

#[test]
fn every_port_is_reached_from_everywhere() {
    let bed = Bed::new();
    let flags = ["8080:80", "8080:80/udp", "[2001:db8::1]:8081:80", "127.0.0.1:8082:80/udp"];
    for (to, name) in [("10.88.0.2", "four"), ("fd88::2", "six")] {
        let _running = running(&bed.host, name, &flags, to);
        for protocol in [Tcp, Udp] {
            for (from, at) in
                [(&bed.near, "192.0.2.1"), (&bed.near, "[2001:db8::1]"), (&bed.b, "10.88.0.1"), (&bed.a, "192.0.2.1")]
            {
                assert_eq!(from.who(protocol, &format!("{at}:8080")), "a", "{protocol} {at} {to}");
            }
            for at in ["127.0.0.1", "[::1]", "192.0.2.1", "127.0.0.9", "[fd89::1]"] {
                assert_eq!(bed.host.who(protocol, &format!("{at}:8080")), "a", "{protocol} {at} {to}");
            }
        }
        assert_eq!(bed.near.who(Tcp, "[2001:db8::1]:8081"), "a");
        assert_eq!(bed.near.who(Tcp, "192.0.2.1:8081"), "no");
        assert_eq!(bed.host.who(Udp, "127.0.0.1:8082"), "a");
        // The container sees the host.
        let seen = bed.near.ask(Tcp, "192.0.2.1:8080".parse().unwrap());
        assert_eq!(seen, if name == "four" { "a ::ffff:10.88.0.1" } else { "a fd88::1" });
    }
    // All is free again.
    bed.host.run(|| drop((TcpListener::bind("[::]:8080").unwrap(), UdpSocket::bind("[::]:8080").unwrap())));
}

#[test]
fn the_hosts_own_rules_decide() {
    let bed = Bed::new();
    let _running = running(&bed.host, "rules", &["8080:80", "8080:80/udp"], "10.88.0.2");
    bed.host.sh("nft -f - <<'E'
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established accept
        iif lo accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ip saddr 192.0.2.2 accept
    }
}
E");
    for protocol in [Tcp, Udp] {
        assert_eq!(
            [&bed.near, &bed.far, &bed.host].map(|it| it.who(protocol, "192.0.2.1:8080")),
            ["a", "nothing", "a"]
        );
    }
}

#[test]
fn limits_of_sources() {
    let bed = Bed::new();
    let limits = "from=192.0.2.2,from=2001:db8::3,from=10.89.0.0/24";
    let flags = [format!("8080:80,{limits}"), format!("8080:80/udp,{limits}")];
    let _running = running(&bed.host, "limits", &flags.each_ref().map(String::as_str), "10.88.0.2");
    for (protocol, refused) in [(Tcp, "no"), (Udp, "nothing")] {
        let ask = |space: &Space, to: &str| space.who(protocol, to);
        assert_eq!(
            [&bed.near, &bed.far, &bed.b, &bed.c].map(|it| ask(it, "192.0.2.1:8080")),
            ["a", refused, refused, "a"]
        );
        assert_eq!([&bed.near, &bed.far].map(|it| ask(it, "[2001:db8::1]:8080")), [refused, "a"]);
        for at in ["127.0.0.1:8080", "[::1]:8080", "192.0.2.1:8080", "10.88.0.1:8080", "[fd88::1]:8080"] {
            assert_eq!(ask(&bed.host, at), "a", "{protocol} {at}");
        }
    }
}

/// The container's side: a listener at a port of its own.
fn listener(bed: &Bed, port: u16) -> TcpListener {
    bed.a.run(|| TcpListener::bind(("10.88.0.2", port))).unwrap()
}

#[test]
fn bytes_arrive_whole_and_each_side_ends_by_itself() {
    let bed = Bed::new();
    let _running = running(&bed.host, "bytes", &["9000:9000"], "10.88.0.2");
    let listener = listener(&bed, 9000);
    let (up, down) = (numbers(20_000_000, 1), numbers(15_000_000, 2));
    std::thread::scope(|scope| {
        let container = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            // The client has ended, and still listens.
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(&down).unwrap();
            got
        });
        let mut client = connect(&bed.near, "192.0.2.1:9000");
        client.write_all(&up).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert!(got == down);
        assert!(container.join().unwrap() == up);
        // The other way round: the container ends first.
        let container = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"bye").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got
        });
        let mut client = connect(&bed.near, "192.0.2.1:9000");
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "bye");
        sleep(Duration::from_millis(50));
        client.write_all(b"late").unwrap();
        drop(client);
        assert_eq!(container.join().unwrap(), b"late");
    });
}

#[test]
fn a_slow_reader_slows_its_writer_and_nobody_else() {
    let bed = Bed::new();
    let _running = running(&bed.host, "slow", &["9000:9000"], "10.88.0.2");
    let listener = listener(&bed, 9000);
    let mut client = connect(&bed.near, "192.0.2.1:9000");
    let (mut reader, _) = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    let block = numbers(65_536, 3);
    let mut written = 0;
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        match client.write(&block) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(written < 64 << 20, "{written} bytes are somewhere");
    assert_eq!(client.write(&block).unwrap_err().kind(), ErrorKind::WouldBlock);
    // Others are served meanwhile.
    let other = connect(&bed.near, "192.0.2.1:9000");
    drop(listener.accept().unwrap());
    drop(other);
    // What was written comes, once it is read.
    let counter = spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
    client.set_nonblocking(false).unwrap();
    drop(client);
    assert_eq!(counter.join().unwrap(), written as u64);
}

#[test]
fn what_breaks_on_one_side_breaks_on_the_other() {
    let bed = Bed::new();
    let _running = running(&bed.host, "broken", &["9000:9000", "9001:9001"], "10.88.0.2");
    let listener = listener(&bed, 9000);
    // Nobody listens at 9001.
    let refused = bed.near.run(|| TcpStream::connect("192.0.2.1:9001").and_then(|mut it| it.read(&mut [0])));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The container's program dies with a reset; the client does.
    let mut client = connect(&bed.near, "192.0.2.1:9000");
    let (stream, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let client = connect(&bed.near, "192.0.2.1:9000");
    let (mut stream, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_thousand_connections_at_once() {
    let bed = Bed::new();
    let _running = running(&bed.host, "many", &["9000:9000"], "10.88.0.2");
    let listener = listener(&bed, 9000);
    let echo = spawn(move || {
        let streams: Vec<_> = (0..1000).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut word = [0; 4];
            stream.read_exact(&mut word).unwrap();
            stream.write_all(&word).unwrap();
        }
        listener
    });
    let mut clients: Vec<_> = (0..1000).map(|_| connect(&bed.near, "192.0.2.1:9000")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u32).to_ne_bytes()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap_or_else(|it| panic!("{number}: {it}"));
        assert_eq!(got, (number as u32).to_ne_bytes());
    }
    drop(echo.join().unwrap());
}

#[test]
fn datagrams_of_many_clients_find_back() {
    let bed = Bed::new();
    let _running = running(&bed.host, "datagrams", &["9000:9000/udp"], "10.88.0.2");
    let socket = bed.a.run(|| UdpSocket::bind("10.88.0.2:9000")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let clients: Vec<_> = (0..200)
        .map(|number| {
            let (space, to) =
                if number % 2 == 0 { (&bed.near, "192.0.2.1:9000") } else { (&bed.host, "127.0.0.1:9000") };
            let client = space.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            space.run(|| client.connect(to)).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client
        })
        .collect();
    for size in [0, 1, 1400, 9000] {
        for (number, client) in clients.iter().enumerate() {
            client.send(&numbers(size, number as u64)).unwrap();
            let mut buffer = vec![0; 65_536];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert!(buffer[..length] == numbers(size, number as u64));
            socket.send_to(format!("{number} {length}").as_bytes(), from).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            let mut buffer = [0; 64];
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), format!("{number} {size}"));
        }
    }
    // The program in the container is away for a moment.
    drop(socket);
    clients[0].send(b"lost").unwrap();
    sleep(Duration::from_millis(50));
    let socket = bed.a.run(|| UdpSocket::bind("10.88.0.2:9000")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    clients[0].send(b"again").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
}

#[test]
fn the_process_and_its_end() {
    // This test is the process, too.
    if std::env::var_os("BUNDLE_TEST_FORWARD").is_some() {
        let record = std::env::args().next_back().unwrap();
        run(&[record]).unwrap();
        std::process::exit(0);
    }
    use nix::sys::signal::{SigSet, Signal};

    let bed = Bed::new();
    let flags = ["8080:80", "8080:80/udp"].map(|it| parse(it).unwrap());
    let held = bed.host.run(|| hold(&flags, Families { v4: true, v6: false })).unwrap();
    let program = || {
        let mut program = Command::new("/proc/self/exe");
        program.args(["--exact", "--nocapture", "network::proxy::tests::the_process_and_its_end"]);
        program.env("BUNDLE_TEST_FORWARD", "1").stdout(std::process::Stdio::null());
        program
    };
    let ports: Vec<_> = held.iter().map(|it| (it, ip("10.88.0.2"))).collect();
    let ended = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG).unwrap() {
                Some((_, status)) => return status.exit_status() == Some(0),
                None => assert!(Instant::now() < end, "it does not end"),
            }
            sleep(Duration::from_millis(2));
        }
    };
    for way in 0..4 {
        let record = Record::new("process");
        if way == 3 {
            // Gone before it began.
            std::fs::remove_file(record.path()).unwrap();
        }
        // The threads of the test's harness, which the process has not, must not take the signal for themselves.
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.thread_block().unwrap();
        let pid = bed.host.run(|| start_with(&record.path(), &ports, program())).unwrap();
        if way < 3 {
            // At once: who comes early waits.
            assert_eq!(bed.near.who(Tcp, "192.0.2.1:8080"), "a");
            assert_eq!(bed.host.who(Udp, "127.0.0.1:8080"), "a");
            for _ in 0..50 {
                assert_eq!(bed.near.who(Tcp, "192.0.2.1:8080"), "a");
            }
            let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
            assert!(open < 20, "it has {open} descriptors");
            // Another container's record, and this one written anew, change nothing.
            std::fs::write(record.0.join(".new"), "{}").unwrap();
            std::fs::rename(record.0.join(".new"), record.path()).unwrap();
            std::fs::write(record.0.join("other"), "{}").unwrap();
            std::fs::remove_file(record.0.join("other")).unwrap();
            assert_eq!(bed.near.who(Tcp, "192.0.2.1:8080"), "a");
        }
        match way {
            0 => std::fs::remove_file(record.path()).unwrap(),
            1 => std::fs::rename(record.path(), record.0.join("elsewhere")).unwrap(),
            2 => {
                let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            }
            _ => {}
        }
        assert!(ended(pid));
    }
    // The ports are still held.
    bed.host.run(|| TcpListener::bind("0.0.0.0:8080")).unwrap_err();
}

#[test]
fn silent_clients_are_forgotten() {
    let bed = Bed::new();
    let (name, socket) = bed.host.run(|| {
        let socket = UdpSocket::bind("127.0.0.1:9000").unwrap();
        (socket.local_addr().unwrap(), OwnedFd::from(socket))
    });
    udp::prepare(&socket).unwrap();
    rustix::io::ioctl_fionbio(&socket, true).unwrap();
    let port = Port { socket: socket.as_raw_fd(), protocol: Udp, to: "10.88.0.2:80".parse().unwrap(), sources: vec![] };
    let listener = server::Listener { socket, port };
    let poll = crate::network::poll::Poll::new().unwrap();
    let mut clients = udp::Clients::new();
    assert_eq!(clients.next(), None);
    // More than are remembered.
    for _ in 0..5000 {
        bed.host.run(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", name)).unwrap();
        let datagram = clients.receive(0, &listener).unwrap();
        bed.host.run(|| clients.carry(&poll, &listener, datagram));
    }
    assert_eq!(clients.len(), 4096);
    let next = clients.next().unwrap();
    clients.expire(next.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(clients.len(), 4096);
    clients.expire(Instant::now() + Duration::from_mins(2));
    assert_eq!((clients.len(), clients.next()), (0, None));
}

/// What the firewall cannot do from `::1`, a process does at the same port.
#[test]
fn beside_the_firewall() {
    use crate::network::firewall::Firewall;

    let bed = Bed::new();
    let flags = [parse("8080:80").unwrap(), parse("8080:80/udp").unwrap()];
    let held = bed.host.run(|| hold(&flags, Families { v4: true, v6: true })).unwrap();
    let mut firewall = bed.host.run(|| Firewall::open("bundle")).unwrap();
    firewall.ensure(&bed.networks).unwrap();
    let to = |held: &Held| ip(if held.host.is_ipv4() { "10.88.0.2" } else { "fd88::2" });
    let published: Vec<_> = held.iter().map(|it| it.published(to(it), "br-a")).collect();
    firewall.publish(&published).unwrap();
    for protocol in [Tcp, Udp] {
        let at_loopback = bed.host.who(protocol, "[::1]:8080");
        assert_eq!(at_loopback, if protocol == Tcp { "no" } else { "nothing" });
        assert_eq!(bed.host.who(protocol, "127.0.0.1:8080"), "a");
    }
    let _running = serve(&bed.host, "beside", held.into_iter().filter(|it| it.host.is_ipv6()).collect(), "fd88::2");
    for protocol in [Tcp, Udp] {
        for at in ["[::1]", "127.0.0.1", "[fd88::1]", "192.0.2.1"] {
            assert_eq!(bed.host.who(protocol, &format!("{at}:8080")), "a", "{at}");
        }
        // Others still go by the firewall, and are seen as they are.
        let seen = bed.near.ask(protocol, "[2001:db8::1]:8080".parse().unwrap());
        assert_eq!(seen, "a 2001:db8::2");
    }
}
