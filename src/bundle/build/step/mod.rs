//! What a step does with files: a root to work in, and each kind of step.

pub mod add;
mod agent;
pub mod chmod;
pub mod copy;
pub mod mounts;
pub mod root;
pub mod run;
pub mod stubs;
pub mod workdir;
