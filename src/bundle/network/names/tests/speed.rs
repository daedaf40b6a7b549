//! How much it does, and with how much memory.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use domain::base::iana::{Rcode, Rtype};
use serde_json::json;

use super::world::{SERVER, World, answer, ask, found, question};

/// Private memory of this process, in KiB.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let of = |name: &str| -> usize {
        let line = text.lines().find(|it| it.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    of("Private_Dirty:")
}

#[test]
fn a_million_questions_take_no_memory() {
    let mut world = World::new("million");
    world.upstream("127.0.0.9", |it, _| vec![answer(it, Rcode::NOERROR, 60, &["192.0.2.1"])]);
    world.resolvers(&["127.0.0.9"]);
    for at in 2..6 {
        world.container("web", &format!("c{at}"), &[&format!("10.88.0.{at}")], &[&format!("c{at}")], &json!({}));
    }
    world.serve("web");
    // Names that are ours, and some that others know.
    let ask_all = |count: u32| {
        std::thread::scope(|scope| {
            for client in 2..6 {
                scope.spawn(move || {
                    let socket = UdpSocket::bind((format!("10.88.0.{client}"), 0)).unwrap();
                    socket.connect((SERVER, 53)).unwrap();
                    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                    let mut buffer = [0; 600];
                    let ours = question(7, "c3", Rtype::A, None);
                    for turn in 0..count {
                        let others = (turn % 50 == 0).then(|| question(7, &format!("n{turn}.test"), Rtype::A, None));
                        socket.send(others.as_ref().unwrap_or(&ours)).unwrap();
                        socket.recv(&mut buffer).unwrap();
                    }
                });
            }
        });
    };
    ask_all(20_000);
    let before = memory();
    let began = Instant::now();
    // A debug build with the clients in the same process: the number is for people to compare.
    ask_all(230_000);
    let took = began.elapsed();
    println!("{:.0} answers a second", 4.0 * 230_000.0 / took.as_secs_f64());
    let grown = memory().saturating_sub(before);
    println!("memory grew by {grown} KiB");
    assert!(grown < 2048, "{grown} KiB");
    assert_eq!(ask("10.88.0.2", "c5"), found(&["10.88.0.5"]));
}
