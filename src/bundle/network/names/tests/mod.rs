//! Tests of the name server: messages and names without any socket, and whole servers in a network namespace that the
//! test makes, asked by real packets, with upstream servers of the test's own.

mod caching;
mod hostile;
mod life;
mod lookup;
mod speed;
mod upstream;
pub(in crate::network) mod wire;
pub(in crate::network) mod world;
