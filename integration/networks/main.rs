//! `bundle` and networks, on the real binary, with real packets. A "host" is a network namespace that a test has made:
//! the machine's own network is never touched.

// Shared with other suites, which use other parts of them.
#[allow(dead_code)]
#[path = "../containers/bed.rs"]
mod containers;
#[allow(dead_code)]
#[path = "../images/harness.rs"]
mod harness;

mod bed;
mod book;
mod edges;
mod faults;
mod modes;
mod names;
mod networks;
mod ports;
mod wide;
