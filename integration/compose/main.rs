//! `bundle compose` on the real binary: projects of several containers, each on a "host" of its own, a network namespace
//! that the test has made.

// Shared with other suites, which use other parts of them.
#[allow(dead_code)]
#[path = "../containers/bed.rs"]
mod containers;
#[allow(dead_code)]
#[path = "../images/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../networks/bed.rs"]
mod hosts;

mod bed;
mod builds;
mod changes;
mod commands;
mod examples;
mod faults;
mod fields;
mod files;
