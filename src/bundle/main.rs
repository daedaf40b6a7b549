//! `bundle`: images, layers and containers for a person, on top of any OCI runtime. From argv to a
//! command, from an error to an exit status and a line; nothing else. The map of the rooms is in
//! ../README.md.

#![allow(dead_code)] // until the rooms that use it are in

mod image;
mod layer;
mod registry;
mod store;

fn main() {}
