//! Speaking with CRIU (criu.org), which writes the processes of a container to files and makes them
//! again: its messages, and the worker that is started for each request. What there is to tell it is
//! decided in `launch/checkpoint.rs` and `launch/restore.rs`.

pub mod rpc;
pub mod worker;
