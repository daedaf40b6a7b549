//! Control groups: what this host has ([`layout`]), which files a container's limits go to and the
//! writing of them ([`v1`]). cgroup v2 takes its place beside [`v1`] behind the same plan.

pub mod layout;
pub mod tree;
pub mod v1;

use serde::Serialize;

/// Everything that will be done to the cgroup file systems for one container.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Plan {
    /// One directory a hierarchy.
    pub dirs: Vec<Dir>,
    /// Control files to write, in this order, after the directories exist and before the
    /// container's process is in them.
    pub writes: Vec<Write>,
    /// Init moves itself, which on v1 spares the wait that moving another process costs (see
    /// [`tree::enter`]). Not from inside a user namespace, nor from another mount namespace.
    pub by_init: bool,
    /// Going without is no error: a plain user asked for no limit and no path.
    pub optional: bool,
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dir {
    /// Where the hierarchy is mounted.
    pub mount: String,
    /// The container's directory, below `mount`.
    pub path: String,
    /// The controllers there, comma-separated: `cpu,cpuacct`, or `name=systemd`.
    pub controllers: String,
}

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Index in [`Plan::dirs`].
    pub dir: usize,
    /// File name, such as `memory.limit_in_bytes`.
    pub file: String,
    /// The name that other kernels give the same file.
    pub fallback: Option<String>,
    /// Going without this file is no error: another write of the same field does the work.
    pub optional: bool,
    /// What is written.
    pub value: String,
    /// Where in the document it comes from.
    pub pointer: String,
}
