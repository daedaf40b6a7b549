//! The only room that changes the machine: it carries a [`crate::plan::Plan`] out, and decides
//! nothing that the plan could have decided.
//!
//! Two processes work side by side. Who waits for whom, and why:
//!
//! | parent | init | because |
//! |---|---|---|
//! | v2, systemd: state on disk | | what `delete` needs must be there before the first effect |
//! | opens sources, joins pid and time | | the clone's child is born into them; sources may be closed to it later |
//! | v2 cgroup | | the clone's child is born into it |
//! | clone | born | |
//! | v1: state on disk | | the same; until here nothing was made that outlives this process, and its child dies with it |
//! | id maps, then *mapped* → | waits, becomes root | without maps init has no id in its namespace |
//! | v1 cgroups, or systemd's unit; device rules, then *cgroup made* → | mounts | they do not touch each other; but making a device node may not be forbidden for a moment |
//! | limits, network devices, what `exec` takes after, state with pid | waits at the first cgroup mount, hook, or pivot_root; enters the cgroup; goes on with mounts, devices, masks | a cgroup namespace is rooted where its maker is |
//! | ← *prepared*; prestart, createRuntime hooks; *hooks run* → | waits | hooks see namespaces and mounts, but the old root |
//! | | createContainer hooks, pivot_root, identity, program found | |
//! | ← *pid*; state with it; *known* → | where others' pid namespace is joined: clones init into it, and ends; init goes on | they could look into who still has something of the host |
//! | ← *ready*; pid file, rlimits of a user namespace, *finish* → | waits | nothing of the container may run without limits; what `delete` needs must be on disk; init must not live on if the parent dies before |
//! | ends | waits on the start socket | `start` |
//! | | startContainer hooks, seccomp, execve | the filter comes last, so that it need not allow our own calls |
//! | ← *listener*; to the agent; *delivered* → | waits, before execve | only with a filter that notifies ([`listener`]): nobody else could answer it |
//!
//! Where init needs no answer after *cgroup made* (`Work::is_quiet`: no hooks, no pid file, nothing set from
//! outside), *finish* follows when the state has the pid: init does not wait once more, and the parent sleeps until its
//! end of the socket is closed.
//!
//! With `run` the last two lines follow without a wait, and the end of the stream tells the parent
//! that the program is executed. [`exec`] has a table of its own; [`checkpoint`] and
//! [`restore`] leave the processes to CRIU. Either side's death ends the other's wait; until *ready*, the
//! kernel also kills init when the parent dies.

pub mod binary;
mod cgroups;
pub mod checkpoint;
mod copy_up;
pub mod destroy;
pub mod exec;
pub mod hook;
mod identity;
pub mod images;
mod init;
mod kernel;
mod limits;
pub mod listener;
mod netdev;
pub mod parent;
mod process;
pub mod program;
pub mod rdt;
mod resolve;
pub mod restore;
mod rootfs;
mod stage;
pub mod sync;
pub mod terminal;
pub mod timeline;
mod userns;
pub mod users;
