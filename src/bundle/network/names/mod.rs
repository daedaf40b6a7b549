//! The name server of one network: a small process with one thread that lives from the network's first container on
//! this host to the last. It tells containers the addresses of others by their names, aliases and ids, and the names
//! of addresses; what it does not know itself it asks the host's resolvers, or those that the container has.
//!
//! Who asks is known by its address. A container sees the names of all networks that it is in, from whichever of
//! their servers it asks, and none of others. What the server knows it reads from files (`data`), which are watched.
//!
//! A container's short id is among its names. Its whole one has 64 characters, and a label has 63 at the most (RFC
//! 1035, 2.3.4): nobody can ask for it.

mod answer;
mod cache;
mod data;
mod forward;
mod listen;
mod network;
mod place;
mod resolv;
mod reverse;
mod server;
mod start;
mod tcp;
mod wire;
mod zone;

#[cfg(test)]
pub(in crate::network) mod tests;

use std::sync::atomic::{AtomicU32, Ordering};

pub use network::{HERE, THERE, read};
#[cfg(test)]
pub(in crate::network) use start::serve;
pub use start::{Starting, WORD, ensure, port, restart_if_dead, run};

/// How many lines are logged in a server's life: files that cannot be read may be as many as somebody likes.
const MOST_LINES: u32 = 200;

/// A line for the log, which is the server's standard error.
pub fn log(line: &str) {
    static LINES: AtomicU32 = AtomicU32::new(0);
    if LINES.fetch_add(1, Ordering::Relaxed) < MOST_LINES {
        eprintln!("{}", line.replace('\n', " "));
    }
}
