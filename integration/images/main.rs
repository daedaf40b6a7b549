//! `bundle` and images, on the real binary: stores, archives, registries, faults, kills.

#[path = "faults.rs"]
#[allow(dead_code)]
mod faults;
mod harness;
mod run;
mod store;
mod tree;
