//! Containers: an image and flags to an OCI bundle, and the runtime that runs it.

pub mod demo;
pub mod files;
pub mod ids;
pub mod log;
pub mod run;
mod seccomp;
pub mod spec;
pub mod units;
mod users;

use anyhow::{Context, Result};

/// An id of a container or a nameless volume: 64 random hexadecimal digits.
pub fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("random bytes")?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}
