//! Answers that are kept.

use std::rc::Rc;
use std::time::{Duration, Instant};

use domain::base::iana::{Rcode, Rtype};
use domain::base::name::Name;
use domain::base::{Message, MessageBuilder, Serial, Ttl};
use domain::rdata::Soa;

use super::super::answer::{Answer, Came, read_answer};
use super::super::cache::{Cache, Key};
use super::super::wire::Query;
use super::wire::{Random, query};
use super::world::{answer, question};

fn came(query: &Query, bytes: &[u8]) -> Rc<Answer> {
    match read_answer(bytes, query, 1) {
        Came::Answer(it) => Rc::new(it),
        other => panic!("{other:?}"),
    }
}

/// An answer that there is nothing, with how long that holds.
fn nothing(asked: &[u8], code: Rcode, ttl: u32, minimum: u32) -> Vec<u8> {
    let name = || "example.org".parse::<Name<Vec<u8>>>().unwrap();
    let [minimum, zero] = [minimum, 0].map(Ttl::from_secs);
    let soa = Soa::new(name(), name(), Serial(1), zero, zero, zero, minimum);
    let message = Message::from_slice(asked).unwrap();
    let mut builder = MessageBuilder::new_vec().start_answer(message, code).unwrap().authority();
    builder.push((name(), Ttl::from_secs(ttl), soa)).unwrap();
    builder.finish()
}

#[test]
fn for_as_long_as_they_say() {
    let mut cache = Cache::default();
    let query = query(&question(1, "example.org", Rtype::A, None));
    let asked = query.forward(1, true);
    let key = || Key::new(&query, Vec::new());
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    cache.put(key(), came(&query, &answer(&asked, Rcode::NOERROR, 60, &["192.0.2.1"])), now);
    assert_eq!(cache.get(&key(), at(0)).unwrap().1, 0);
    assert_eq!(cache.get(&key(), at(59)).unwrap().1, 59);
    assert!(cache.get(&key(), at(60)).is_none());
    // What other servers say is not for us.
    assert!(cache.get(&Key::new(&query, vec!["192.0.2.53".parse().unwrap()]), at(0)).is_none());
    cache.clear();
    assert!(cache.get(&key(), at(0)).is_none());
    // What there is not: by the smaller of the two, and not without.
    for code in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        for (ttl, minimum, kept) in [(60, 30, 30), (20, 30, 20), (90_000, 90_000, 300), (0, 30, 0)] {
            assert_eq!(came(&query, &nothing(&asked, code, ttl, minimum)).ttl, kept);
        }
        assert_eq!(came(&query, &answer(&asked, code, 60, &[])).ttl, 0);
    }
    // A server that failed is asked again, and so is one that has more to say.
    assert_eq!(came(&query, &answer(&asked, Rcode::SERVFAIL, 60, &["192.0.2.1"])).ttl, 0);
    let mut truncated = answer(&asked, Rcode::NOERROR, 60, &["192.0.2.1"]);
    truncated[2] |= 2;
    assert_eq!(came(&query, &truncated).ttl, 0);
    assert_eq!(came(&query, &answer(&asked, Rcode::NOERROR, u32::MAX, &["192.0.2.1"])).ttl, 3600);
}

#[test]
fn never_more_than_it_may_take() {
    let mut cache = Cache::default();
    let mut random = Random(7);
    let now = Instant::now();
    let many: Vec<String> = (0..200).map(|it| format!("192.0.2.{it}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut most = 0;
    for turn in 0..30_000 {
        let name = if turn % 2 == 0 { turn } else { random.next() % 100 };
        let query = query(&question(1, &format!("n{name}.example.org"), Rtype::A, None));
        let answer = answer(&query.forward(1, true), Rcode::NOERROR, 60, &many[..random.next() % 200]);
        let key = Key::new(&query, Vec::new());
        let came = came(&query, &answer);
        let kept = came.ttl > 0;
        cache.put(key.clone(), came, now);
        assert!(cache.get(&key, now).is_some() || !kept);
        let (count, size) = cache.size();
        assert!(size <= 1 << 20 && count <= 4096, "{count} {size}");
        most = most.max(size);
    }
    assert!(most > 900_000);
}
