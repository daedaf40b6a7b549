//! Messages without a socket.

use domain::base::Message;
use domain::base::iana::{OptRcode, Rcode, Rtype};

use super::super::answer::{Came, read_answer};
use super::super::wire::{Query, Received, read_query};
use super::world::{answer, question, read};

/// Numbers that are the same in each run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize
    }
}

pub fn query(bytes: &[u8]) -> Query {
    match read_query(bytes) {
        Received::Query(it) => *it,
        other => panic!("{other:?}"),
    }
}

fn refusal(bytes: &[u8]) -> Rcode {
    match read_query(bytes) {
        Received::Refused(it) => {
            let message = Message::from_slice(&it).unwrap();
            assert!(message.header().qr());
            message.header().rcode()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_question() {
    let good = question(1, "web", Rtype::A, None);
    assert_eq!(query(&good).text().unwrap(), "web");
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    assert!(matches!(read_query(&good[..11]), Received::Ignored));
    assert!(matches!(read_query(&with(&|it| it[2] |= 0x80)), Received::Ignored));
    assert_eq!(refusal(&with(&|it| it[2] |= 4 << 3)), Rcode::NOTIMP);
    assert_eq!(refusal(&with(&|it| it[5] = 0)), Rcode::FORMERR);
    assert_eq!(refusal(&with(&|it| it[5] = 2)), Rcode::FORMERR);
    assert_eq!(refusal(&with(&|it| it.truncate(20))), Rcode::FORMERR);
    assert_eq!(refusal(&with(&|it| it.truncate(14))), Rcode::FORMERR);
    // More records than there are.
    assert_eq!(refusal(&with(&|it| it[11] = 9)), Rcode::FORMERR);
    // A name that points to itself, ahead, and into the header.
    for pointer in [[0xc0, 12], [0xc0, 40], [0xc0, 4]] {
        let mut bytes = good[..12].to_vec();
        bytes.extend(pointer);
        bytes.extend([0, 1, 0, 1]);
        assert_eq!(refusal(&bytes), Rcode::FORMERR);
    }
    // Another class, whole zones.
    assert_eq!(refusal(&with(&|it| *it.last_mut().unwrap() = 3)), Rcode::REFUSED);
    assert_eq!(refusal(&question(1, "web", Rtype::AXFR, None)), Rcode::REFUSED);
    // EDNS that nobody knows yet, and two of them.
    let mut edns = question(1, "web", Rtype::A, Some(1232));
    let opt = edns[good.len()..].to_vec();
    edns[good.len() + 6] = 1;
    let Received::Refused(said) = read_query(&edns) else { panic!() };
    assert_eq!(Message::from_slice(&said).unwrap().opt_rcode(), OptRcode::BADVERS);
    let mut two = question(1, "web", Rtype::A, Some(1232));
    two.extend(opt);
    two[11] = 2;
    assert_eq!(refusal(&two), Rcode::FORMERR);
}

#[test]
fn letters_come_back_as_they_were_asked() {
    let query = query(&question(9, "wEb.Example.ORG", Rtype::A, None));
    assert_eq!(query.text().unwrap(), "web.example.org");
    for bytes in [query.error(OptRcode::NXDOMAIN), query.addresses(&["10.0.0.1".parse().unwrap()], 512)] {
        let message = Message::from_slice(&bytes).unwrap();
        assert_eq!(message.sole_question().unwrap().qname().to_string(), "wEb.Example.ORG");
        assert_eq!(message.header().id(), 9);
    }
}

#[test]
fn names_that_no_container_can_have() {
    for label in [&b"a.b"[..], b"a b", b"\xff", b"\0"] {
        let mut bytes = question(1, "x", Rtype::A, None)[..12].to_vec();
        bytes.push(label.len() as u8);
        bytes.extend(label);
        bytes.extend([0, 0, 1, 0, 1]);
        assert_eq!(query(&bytes).text(), None);
    }
    assert_eq!(query(&question(1, ".", Rtype::NS, None)).text().unwrap(), "");
}

#[test]
fn more_addresses_than_fit() {
    let all: Vec<_> = (0..4000_u32).map(|it| std::net::Ipv4Addr::from(it).into()).collect();
    for (edns, least, most) in [(None, 20, 512), (Some(100), 20, 512), (Some(1232), 60, 1232), (Some(9000), 60, 1232)] {
        let query = query(&question(1, "app", Rtype::A, edns));
        let bytes = query.addresses(&all, query.udp_limit());
        let message = Message::from_slice(&bytes).unwrap();
        assert!(bytes.len() <= most && message.header().tc());
        assert!(read(&bytes).1.len() > least, "{}", read(&bytes).1.len());
        let bytes = query.addresses(&all[..3000], 65_535);
        assert!(!Message::from_slice(&bytes).unwrap().header().tc());
        assert_eq!(read(&bytes).1.len(), 3000);
        assert!(query.addresses(&all, 65_535).len() <= 65_535);
    }
}

#[test]
fn forged_answers_are_foreign() {
    let query = query(&question(1, "example.org", Rtype::A, Some(1232)));
    let asked = query.forward(500, true);
    let good = answer(&asked, Rcode::NOERROR, 60, &["192.0.2.1"]);
    assert!(matches!(read_answer(&good, &query, 500), Came::Answer(it) if it.ttl == 60 && it.good()));
    assert!(matches!(read_answer(&good, &query, 501), Came::Foreign));
    assert!(matches!(read_answer(&asked, &query, 500), Came::Foreign));
    for other in [question(500, "example.com", Rtype::A, None), question(500, "example.org", Rtype::AAAA, None)] {
        assert!(matches!(read_answer(&answer(&other, Rcode::NOERROR, 60, &[]), &query, 500), Came::Foreign));
    }
    for length in 0..good.len() {
        assert!(!matches!(read_answer(&good[..length], &query, 500), Came::Answer(_)), "{length}");
    }
    let mut loops = good.clone();
    // The name of its record, which is the last but 14 bytes, and begins behind the question.
    let at = asked.len() - 11;
    loops.splice(at..good.len() - 14, [0xc0, at as u8]);
    assert!(matches!(read_answer(&loops, &query, 500), Came::Broken));
    assert!(matches!(read_answer(&answer(&asked, Rcode::FORMERR, 0, &[]), &query, 500), Came::NotRead));
}

#[test]
fn answers_grow_old() {
    let query = query(&question(3, "Example.org", Rtype::A, Some(1232)));
    let asked = query.forward(500, true);
    let Came::Answer(answer) = read_answer(&answer(&asked, Rcode::NOERROR, 60, &["192.0.2.1"]), &query, 500) else {
        panic!()
    };
    for (age, ttl) in [(0, 60), (59, 1), (70, 0)] {
        let bytes = answer.reply(&query, age, 1232);
        let message = Message::from_slice(&bytes).unwrap();
        assert_eq!(message.answer().unwrap().next().unwrap().unwrap().ttl().as_secs(), ttl);
        assert_eq!(message.sole_question().unwrap().qname().to_string(), "Example.org");
        assert_eq!((message.header().id(), message.opt().unwrap().udp_payload_size()), (3, 1232));
    }
    let bytes = answer.reply(&query, 0, 50);
    let message = Message::from_slice(&bytes).unwrap();
    assert!(message.header().tc() && message.header_counts().ancount() == 0 && bytes.len() <= 50);
}

/// Packets of chance, and good ones with some bytes changed: nothing of it panics, and what is answered is a message.
#[test]
fn fuzzed_packets() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let first = query(&question(7, "a.example.org", Rtype::A, Some(1232)));
    let names = ["web", "a.b.c.example.org", "2.0.88.10.in-addr.arpa"];
    let (mut questions, mut answers) = (0, 0);
    for turn in 0..200_000 {
        let mut bytes = match turn % 3 {
            0 => (0..random.next() % 80).map(|_| random.next() as u8).collect(),
            1 => question(turn as u16, names[random.next() % 3], Rtype::from_int(random.next() as u16), Some(512)),
            _ => answer(&first.forward(5, turn % 2 == 0), Rcode::NOERROR, 60, &["192.0.2.1", "192.0.2.2"]),
        };
        for _ in 0..random.next() % 4 {
            let at = random.next() % bytes.len().max(1);
            if let Some(it) = bytes.get_mut(at) {
                *it = random.next() as u8;
            }
        }
        match read_query(&bytes) {
            Received::Query(it) => {
                questions += 1;
                let _ = it.text();
                for said in [it.error(OptRcode::SERVFAIL), it.addresses(&["10.0.0.1".parse().unwrap()], it.udp_limit())]
                {
                    assert!(Message::from_slice(&said).unwrap().sole_question().is_ok() && said.len() <= 1232);
                }
                let _ = it.pointer("web", 512);
                assert!(Message::from_slice(&it.forward(1, true)).unwrap().sole_question().is_ok());
            }
            Received::Refused(said) => assert!(said.len() <= 512 && Message::from_slice(&said).is_ok()),
            Received::Ignored => {}
        }
        if let Came::Answer(it) = read_answer(&bytes, &first, 5) {
            answers += 1;
            let said = it.reply(&first, random.next() as u32, first.udp_limit());
            assert!(said.len() <= first.udp_limit() && Message::from_slice(&said).is_ok());
        }
    }
    assert!(questions > 20_000 && answers > 10_000, "{questions} {answers}");
}
