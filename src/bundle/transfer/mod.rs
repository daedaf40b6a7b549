//! Images on their way: from a registry, to one, and from blobs to unpacked layers. Between the rooms that know
//! one thing each: the registry, the store, the layers.

mod pull;
mod push;
mod unpack;

pub use pull::pull;
pub use push::push;
pub use unpack::{Incoming, Limit, Pipeline, from_blobs, unpacked};
