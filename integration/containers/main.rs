//! `bundle` and containers, on the real binary: their lives, what they are asked for and what is done with them.

// Shared with other suites, which use other parts of them.
#[allow(dead_code)]
#[path = "../harness/cgroup.rs"]
mod cgroup;
#[allow(dead_code)]
#[path = "../images/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../harness/guest.rs"]
mod in_guest;

mod bed;
mod copy;
mod faults;
mod flags;
mod guest;
mod lifecycle;
mod logs;
mod monitor;
mod mydocker;
mod others;
mod rootless;
mod volumes;
mod watch;
