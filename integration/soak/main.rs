//! placeholder
#[path = "../harness/mod.rs"]
mod harness;
