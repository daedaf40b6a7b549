//! Waiting for many descriptors (epoll), each with a token that names what it belongs to. A token is never used twice,
//! so that an event that comes late finds nothing instead of something else.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// What a descriptor belongs to: a kind in the first byte, then a turn, then a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(u64);

impl Token {
    /// Something that there is only so many of, all the time.
    pub fn fixed(kind: u8, place: usize) -> Self {
        Self(u64::from(kind) << 56 | place as u64)
    }

    /// The kind.
    pub fn kind(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The place.
    pub fn place(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// The descriptors.
pub struct Poll(OwnedFd);

impl Poll {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Waits for one more, until it is closed.
    pub fn add(&self, fd: impl AsFd, token: Token, what: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(token.0), what)?)
    }

    /// Waits for something else of it.
    pub fn change(&self, fd: impl AsFd, token: Token, what: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(token.0), what)?)
    }

    /// Those that are ready, at the latest after this time.
    pub fn wait(&self, most: Option<Duration>) -> io::Result<Vec<Token>> {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; 64];
        // Rounded up, or what is due would be waited for in a busy loop.
        let most = most.map(|it| it + Duration::from_millis(1));
        let most = most.map(|it| Timespec { tv_sec: it.as_secs() as i64, tv_nsec: i64::from(it.subsec_nanos()) });
        match epoll::wait(&self.0, &mut events, most.as_ref()) {
            Ok((ready, _)) => Ok(ready.iter().map(|it| Token(it.data.u64())).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Things with tokens.
pub struct Slab<T> {
    kind: u8,
    places: Vec<Option<(u64, T)>>,
    free: Vec<usize>,
    turn: u64,
}

impl<T> Slab<T> {
    /// None yet; their tokens will have this kind.
    pub fn new(kind: u8) -> Self {
        Self { kind, places: Vec::new(), free: Vec::new(), turn: 0 }
    }

    /// Puts one in. There are never more than 65,536.
    pub fn add(&mut self, it: T) -> Token {
        self.turn = (self.turn + 1) & 0xff_ffff_ffff;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some((self.turn, it));
        self.token(place, self.turn)
    }

    /// The one with this token.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let expected = token.0 >> 16 & 0xff_ffff_ffff;
        self.places.get_mut(token.place())?.as_mut().filter(|it| it.0 == expected).map(|it| &mut it.1)
    }

    /// Takes it out.
    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        self.free.push(token.place());
        self.places[token.place()].take().map(|it| it.1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &T)> {
        let all = self.places.iter().enumerate();
        all.filter_map(|(place, it)| it.as_ref().map(|(turn, it)| (self.token(place, *turn), it)))
    }

    fn token(&self, place: usize, turn: u64) -> Token {
        Token(u64::from(self.kind) << 56 | turn << 16 | place as u64)
    }
}
