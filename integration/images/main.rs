//! `bundle` and images, on the real binary: stores, archives, registries, faults, kills.

mod archives;
mod broken;
mod faults;
mod harness;
mod registry;
mod run;
mod server;
mod store;
mod tree;
