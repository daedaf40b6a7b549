//! `bundle` and containers, on the real binary: their lives, what they are asked for and what is done with them.

#[path = "../images/harness.rs"]
mod harness;

mod bed;
mod lifecycle;
mod monitor;
mod rootless;
