//! Containers: an image and flags to an OCI bundle, and the runtime that runs it.

pub mod demo;
pub mod log;
pub mod run;
mod seccomp;
pub mod spec;
pub mod units;
mod users;
