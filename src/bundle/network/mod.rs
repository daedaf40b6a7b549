//! Networks of containers: what of them is on the host.

pub mod link;
pub mod names;
mod netlink;
