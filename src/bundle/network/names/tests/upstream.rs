//! What others are asked.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use domain::base::Message;
use domain::base::iana::{Rcode, Rtype};
use serde_json::json;

use super::world::{SERVER, World, answer, ask, ask_bytes, ask_tcp, code, found, question, read};

const WEB: &str = "10.88.0.2";

fn world(test: &str) -> World {
    let world = World::new(test);
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    world.container("web", "b1", &["10.88.0.3"], &["db"], &json!({}));
    world
}

#[test]
fn they_are_asked_once_and_remembered() {
    let mut world = world("forward");
    let asked = world.upstream("127.0.0.9", |it, _| vec![answer(it, Rcode::NOERROR, 60, &["192.0.2.1"])]);
    world.resolvers(&["127.0.0.9"]);
    world.serve("web");
    for name in ["example.org", "EXAMPLE.org", "example.org."] {
        assert_eq!(ask(WEB, name), found(&["192.0.2.1"]));
        assert_eq!(ask("10.88.0.3", name), found(&["192.0.2.1"]));
    }
    assert_eq!(read(&ask_tcp(WEB, SERVER, &question(5, "example.org", Rtype::A, None))), found(&["192.0.2.1"]));
    assert_eq!(*asked.lock().unwrap(), ["example.org"]);
    // Names of ours never get out; others with one label do.
    assert_eq!(ask(WEB, "db"), found(&["10.88.0.3"]));
    assert_eq!(ask(WEB, "printer"), found(&["192.0.2.1"]));
    assert_eq!(*asked.lock().unwrap(), ["example.org", "printer"]);
}

#[test]
fn the_same_question_of_many_is_asked_once() {
    let mut world = world("joined");
    let asked = world.upstream("127.0.0.9", |it, _| {
        std::thread::sleep(Duration::from_millis(200));
        vec![answer(it, Rcode::NOERROR, 0, &["192.0.2.1"])]
    });
    world.resolvers(&["127.0.0.9"]);
    world.serve("web");
    std::thread::scope(|scope| {
        for at in 0..20 {
            let from = if at % 2 == 0 { WEB } else { "10.88.0.3" };
            scope.spawn(move || assert_eq!(ask(from, "slow.example.org"), found(&["192.0.2.1"])));
        }
    });
    assert_eq!(asked.lock().unwrap().len(), 1);
    // It may not be kept.
    ask(WEB, "slow.example.org");
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[test]
fn the_next_one_is_asked_where_one_fails() {
    let mut world = world("next");
    // Nobody listens on the first, the second says nothing, the third cannot, the fourth breaks off.
    let silent = world.upstream("127.0.0.12", |_, _| Vec::new());
    world.upstream("127.0.0.13", |it, _| vec![answer(it, Rcode::SERVFAIL, 0, &[])]);
    world.upstream("127.0.0.14", |it, _| vec![answer(it, Rcode::NOERROR, 9, &["192.0.2.1"])[..40].to_vec()]);
    world.upstream("127.0.0.15", |it, _| vec![answer(it, Rcode::NOERROR, 9, &["192.0.2.1"])]);
    let all: Vec<String> = (11..16).map(|it| format!("127.0.0.{it}")).collect();
    world.resolvers(&all.iter().map(String::as_str).collect::<Vec<_>>());
    world.serve("web");
    let began = Instant::now();
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.1"]));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    // Who did not answer is not waited for the next time.
    let began = Instant::now();
    assert_eq!(ask(WEB, "example.net"), found(&["192.0.2.1"]));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(silent.lock().unwrap().len(), 1);
}

#[test]
fn none_of_them_answers() {
    let mut world = world("none");
    world.upstream("127.0.0.12", |_, _| Vec::new());
    world.upstream("127.0.0.13", |it, _| vec![answer(it, Rcode::REFUSED, 0, &[])]);
    world.resolvers(&["127.0.0.12"]);
    world.serve("web");
    let began = Instant::now();
    assert_eq!(ask(WEB, "example.org"), code("SERVFAIL"));
    assert!(began.elapsed() < Duration::from_secs(9));
    // Changed while we run: what it says is passed on.
    world.resolvers(&["127.0.0.13"]);
    assert_eq!(ask(WEB, "example.org"), code("REFUSED"));
    // Questions to ourselves would go round.
    world.resolvers(&[SERVER]);
    assert_eq!(ask(WEB, "example.org"), code("SERVFAIL"));
}

#[test]
fn what_the_host_asks_changes_what_is_remembered() {
    let mut world = world("changed");
    world.upstream("127.0.0.12", |it, _| vec![answer(it, Rcode::NOERROR, 600, &["192.0.2.1"])]);
    world.upstream("127.0.0.13", |it, _| vec![answer(it, Rcode::NOERROR, 600, &["192.0.2.2"])]);
    world.resolvers(&["127.0.0.12"]);
    world.serve("web");
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.1"]));
    world.resolvers(&["127.0.0.13", "127.0.0.12"]);
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.2"]));
    // Whoever has servers of its own hears them alone.
    world.container("web", "c1", &["10.88.0.4"], &["own"], &json!({"servers": ["127.0.0.12"]}));
    assert_eq!(ask("10.88.0.4", "example.org"), found(&["192.0.2.1"]));
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.2"]));
}

#[test]
fn what_does_not_fit_is_asked_by_tcp() {
    let mut world = world("truncated");
    let all: Vec<String> = (0..200).map(|it| format!("192.0.2.{it}")).collect();
    let asked = world.upstream("127.0.0.9", move |it, tcp| {
        if tcp {
            return vec![answer(it, Rcode::NOERROR, 60, &all.iter().map(String::as_str).collect::<Vec<_>>())];
        }
        let mut short = answer(it, Rcode::NOERROR, 60, &[]);
        short[2] |= 2;
        vec![short]
    });
    world.resolvers(&["127.0.0.9"]);
    world.serve("web");
    // The client gets it by TCP as well.
    let by_udp = ask_bytes(WEB, SERVER, &question(5, "big.example.org", Rtype::A, Some(1232)));
    assert!(Message::from_slice(&by_udp).unwrap().header().tc() && by_udp.len() <= 1232);
    let by_tcp = ask_tcp(WEB, SERVER, &question(5, "big.example.org", Rtype::A, None));
    assert!(!Message::from_slice(&by_tcp).unwrap().header().tc());
    assert_eq!(read(&by_tcp).1.len(), 200);
    assert_eq!(*asked.lock().unwrap(), ["big.example.org", "tcp big.example.org"]);
}

#[test]
fn servers_that_do_not_know_edns() {
    let mut world = world("plain");
    world.upstream("127.0.0.9", |it, _| {
        let message = Message::from_slice(it).unwrap();
        let known = message.opt().is_none();
        vec![if known { answer(it, Rcode::NOERROR, 1, &["192.0.2.1"]) } else { answer(it, Rcode::FORMERR, 0, &[]) }]
    });
    world.resolvers(&["127.0.0.9"]);
    world.serve("web");
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.1"]));
}

#[test]
fn forged_answers_are_not_believed() {
    let mut world = world("forged");
    // Before the right answer come wrong ones, from the right address: with other numbers, questions, and garbage.
    world.upstream("127.0.0.9", |it, _| {
        let mut number = answer(it, Rcode::NOERROR, 600, &["203.0.113.66"]);
        number[0] ^= 1;
        let mut other = question(0, "example.com", Rtype::A, None);
        other[..2].copy_from_slice(&it[..2]);
        let name = answer(&other, Rcode::NOERROR, 600, &["203.0.113.66"]);
        let asked = it.to_vec();
        vec![number, name, asked, vec![0; 5], vec![0xff; 60_000], answer(it, Rcode::NOERROR, 60, &["192.0.2.1"])]
    });
    // It only sends what is wrong, without an end.
    world.upstream("127.0.0.10", |it, _| {
        let wrong = |at: u16| {
            let mut bytes = answer(it, Rcode::NOERROR, 600, &["203.0.113.66"]);
            let id = u16::from_be_bytes([bytes[0], bytes[1]]).wrapping_add(at);
            bytes[..2].copy_from_slice(&id.to_be_bytes());
            bytes
        };
        (1..150).map(wrong).collect()
    });
    world.resolvers(&["127.0.0.10", "127.0.0.9"]);
    world.serve("web");
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.1"]));
}

#[test]
fn numbers_and_ports_cannot_be_guessed() {
    let mut world = world("random");
    let seen = std::sync::Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let ids = seen.clone();
    world.upstream("127.0.0.9", move |it, _| {
        ids.lock().unwrap().insert(u16::from_be_bytes([it[0], it[1]]));
        vec![answer(it, Rcode::NOERROR, 0, &[])]
    });
    world.resolvers(&["127.0.0.9"]);
    world.serve("web");
    for at in 0..64 {
        ask(WEB, &format!("n{at}.example.org"));
    }
    let seen: Vec<u16> = seen.lock().unwrap().iter().copied().collect();
    assert!(seen.len() > 60);
    let near = seen.windows(2).filter(|it| it[1] - it[0] < 8).count();
    assert!(near < 20, "{seen:?}");
}

#[test]
fn an_internal_network_asks_nobody() {
    let mut world = World::new("internal");
    let asked = world.upstream("127.0.0.9", |it, _| vec![answer(it, Rcode::NOERROR, 60, &["192.0.2.1"])]);
    world.resolvers(&["127.0.0.9"]);
    world.network("web", &[SERVER], &json!({"internal": true}));
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    world.container("web", "b1", &["10.88.0.3"], &["db"], &json!({"servers": ["127.0.0.9"]}));
    world.serve("web");
    assert_eq!(ask(WEB, "db"), found(&["10.88.0.3"]));
    for from in [WEB, "10.88.0.3"] {
        assert_eq!(ask(from, "example.org"), code("REFUSED"));
    }
    assert!(asked.lock().unwrap().is_empty());
    // With another network that is not internal there is a way out.
    world.network("out", &["10.89.0.1"], &json!({}));
    world.container("out", "a1", &["10.89.0.2"], &["web"], &json!({}));
    assert_eq!(ask(WEB, "example.org"), found(&["192.0.2.1"]));
    assert_eq!(ask("10.88.0.3", "example.org"), code("REFUSED"));
}
