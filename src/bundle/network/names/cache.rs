//! Answers of others for as long as they may be kept. It is bounded: the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;

use super::answer::Answer;
use super::wire::Query;

/// The most memory that it takes, in bytes, and the largest answer that is kept.
const MOST: usize = 1 << 20;
const LARGEST: usize = 8 << 10;
/// What an entry takes besides its answer, about.
const ENTRY: usize = 256;

/// All that an answer depends on. Who has servers of its own gets only what they said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    name: Box<[u8]>,
    kind: Rtype,
    dnssec: bool,
    unchecked: bool,
    servers: Vec<IpAddr>,
}

impl Key {
    /// Of a question to these servers, the host's if there are none.
    pub fn new(query: &Query, servers: Vec<IpAddr>) -> Self {
        let (dnssec, unchecked) = (query.dnssec(), query.unchecked);
        Self { name: query.name.as_slice().into(), kind: query.kind, dnssec, unchecked, servers }
    }

    /// Whom it is asked.
    pub fn servers(&self) -> &[IpAddr] {
        &self.servers
    }
}

struct Entry {
    answer: Rc<Answer>,
    since: Instant,
    number: u64,
}

/// The answers.
#[derive(Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// In the order that they came; what has been replaced since has another number.
    order: VecDeque<(Key, u64)>,
    size: usize,
    last: u64,
}

impl Cache {
    /// The answer, and how old it is in seconds.
    pub fn get(&self, key: &Key, now: Instant) -> Option<(Rc<Answer>, u32)> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_duration_since(entry.since);
        (age < Duration::from_secs(entry.answer.ttl.into())).then(|| (entry.answer.clone(), age.as_secs() as u32))
    }

    /// Keeps an answer, if it may be kept.
    pub fn put(&mut self, key: Key, answer: Rc<Answer>, now: Instant) {
        if answer.ttl == 0 || answer.size() > LARGEST {
            return;
        }
        self.remove(&key);
        self.last += 1;
        self.size += ENTRY + answer.size();
        self.order.push_back((key.clone(), self.last));
        self.entries.insert(key, Entry { answer, since: now, number: self.last });
        while self.size > MOST || self.order.len() > MOST / ENTRY {
            let Some((key, number)) = self.order.pop_front() else { break };
            if self.entries.get(&key).is_some_and(|it| it.number == number) {
                self.remove(&key);
            }
        }
    }

    /// Forgets everything: other servers may say something else.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.size -= ENTRY + entry.answer.size();
        }
    }

    /// How many there are, and how much they take.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.size)
    }
}
