//! Clients that mean harm: floods, slow ones, garbage. Others are answered all the time.

use std::io::{Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use domain::base::iana::{Rcode, Rtype};
use serde_json::json;

use super::wire::Random;
use super::world::{SERVER, World, answer, ask, ask_tcp, code, connect, found, question, read, read_message};

const WEB: &str = "10.88.0.2";
const EVIL: &str = "10.88.0.66";

fn world(test: &str) -> World {
    let mut world = World::new(test);
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    world.container("web", "e1", &[EVIL], &["evil"], &json!({}));
    world.serve("web");
    world
}

#[test]
fn packets_of_chance() {
    let _world = world("chance");
    let socket = UdpSocket::bind((EVIL.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.connect((SERVER, 53)).unwrap();
    let mut random = Random(99);
    for turn in 0..20_000 {
        let mut bytes = question(turn, "web", Rtype::A, Some(1232));
        for _ in 0..random.next() % 6 {
            let at = random.next() % bytes.len();
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.next() % (bytes.len() + 8));
        let _ = socket.send(&bytes);
    }
    let _ = socket.send(&vec![0xff; 60_000]);
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
}

#[test]
fn many_connections_and_slow_ones() {
    let _world = world("connections");
    // Of the same container no more than its share stay open.
    let mut open: Vec<_> = (0..1000).map(|_| connect(EVIL, SERVER)).collect();
    assert_eq!(read(&ask_tcp(WEB, SERVER, &question(1, "web", Rtype::A, None))), found(&[WEB]));
    let asked = question(1, "web", Rtype::A, None);
    let message = [&(asked.len() as u16).to_be_bytes()[..], &asked].concat();
    let answered = open.iter_mut().filter(|it| {
        let mut it: &std::net::TcpStream = it;
        it.write_all(&message).is_ok() && matches!(it.read(&mut [0; 600]), Ok(1..))
    });
    assert_eq!(answered.count(), 16);
    drop(open);
    // One that writes a byte now and then is given up.
    let mut slow = connect(EVIL, SERVER);
    slow.set_nodelay(true).unwrap();
    let began = Instant::now();
    slow.write_all(&message[..2]).unwrap();
    let mut ended = false;
    while began.elapsed() < Duration::from_secs(20) && !ended {
        assert_eq!(ask(WEB, "web"), found(&[WEB]));
        std::thread::sleep(Duration::from_millis(700));
        slow.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        ended = slow.write_all(&[0]).is_err() || matches!(slow.read(&mut [0; 9]), Ok(0));
    }
    assert!(ended && began.elapsed() > Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn connections_with_garbage() {
    let _world = world("garbage");
    for garbage in [&[0xff_u8; 5000][..], &[0, 0, 0, 0], &[0, 3, 1, 2, 3], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = connect(EVIL, SERVER);
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.len() < 20, "{said:?}");
    }
    // Whoever has nothing to ask is not listened to.
    super::world::have("10.88.0.99");
    let mut stream = connect("10.88.0.99", SERVER);
    assert!(matches!(stream.read(&mut [0; 9]), Ok(0) | Err(_)));
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
}

#[test]
fn several_questions_on_one_connection() {
    let mut world = world("pipeline");
    world.upstream("127.0.0.9", |it, _| {
        std::thread::sleep(Duration::from_millis(50));
        vec![answer(it, Rcode::NOERROR, 60, &["192.0.2.1"])]
    });
    world.resolvers(&["127.0.0.9"]);
    let mut stream = connect(EVIL, SERVER);
    let mut all = Vec::new();
    for at in 0..200 {
        let name = if at % 50 == 0 { format!("n{at}.example.org") } else { "web".into() };
        let asked = question(at, &name, Rtype::A, None);
        all.extend([&(asked.len() as u16).to_be_bytes()[..], &asked].concat());
    }
    // In pieces that have nothing to do with the questions.
    for piece in all.chunks(37) {
        stream.write_all(piece).unwrap();
    }
    for at in 0..200 {
        let said = read_message(&mut stream).unwrap();
        assert_eq!(u16::from_be_bytes([said[0], said[1]]), at);
        assert_eq!(read(&said), found(&[if at % 50 == 0 { "192.0.2.1" } else { WEB }]));
    }
    // It is gone before it is answered.
    for at in 0..50 {
        let mut stream = connect(EVIL, SERVER);
        let asked = question(at, &format!("m{at}.example.org"), Rtype::A, None);
        stream.write_all(&[&(asked.len() as u16).to_be_bytes()[..], &asked].concat()).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
}

#[test]
fn a_flood_of_questions_for_others() {
    let mut world = world("flood");
    // It never answers, or slowly.
    world.upstream("127.0.0.8", |_, _| Vec::new());
    world.upstream("127.0.0.9", |it, _| vec![answer(it, Rcode::NOERROR, 60, &["192.0.2.1"])]);
    world.resolvers(&["127.0.0.8"]);
    let socket = UdpSocket::bind((EVIL.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.connect((SERVER, 53)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let (mut refused, mut buffer) = (0, [0; 2000]);
    for at in 0..50_000_u32 {
        let _ = socket.send(&question(at as u16, &format!("f{at}.example.org"), Rtype::A, None));
        while let Ok(length) = socket.recv(&mut buffer) {
            assert_eq!(read(&buffer[..length]), code("SERVFAIL"));
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused}");
    // The other one still has its share: it is not told that there is no room.
    world.container("web", "a1", &[WEB], &["web"], &json!({"servers": ["127.0.0.9"]}));
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.1"]));
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
}
