//! `bundle build`, on the real binary: what Dockerfiles make, beside other builders; the cache; faults.

// Shared with other suites, which use other parts of them.
#[allow(dead_code)]
#[path = "../images/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../images/server.rs"]
mod server;
#[path = "../images/tree.rs"]
mod tree;

mod basic;
mod bed;
mod compare;
mod faults;
mod features;
mod flask;
mod image;
mod inline;
mod others;
mod outputs;
mod plain_user;
