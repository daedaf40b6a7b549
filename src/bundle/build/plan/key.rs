//! Keys of the cache: a digest of all that a step's result depends on.

use crate::image::Digest;
use crate::image::digest::Hasher;

/// A key in the making. Fields have their lengths, so that no two lists of fields are the same bytes.
#[derive(Clone)]
pub struct Key(Hasher);

impl Key {
    /// For a kind of step on top of a layer; raise the number in `kind` when a step comes to do something else.
    pub fn new(kind: &str, below: Option<&Digest>) -> Self {
        let mut key = Self(Hasher::default());
        key.add(kind.as_bytes());
        key.add(below.map_or("", Digest::as_str).as_bytes());
        key
    }

    /// One field more.
    pub fn add(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// A field of any kind.
    pub fn debug(&mut self, what: &impl std::fmt::Debug) -> &mut Self {
        self.add(format!("{what:?}").as_bytes())
    }

    /// The key.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}
