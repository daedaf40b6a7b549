//! Writes to procfs that must reach the kernel, whatever a container puts in the place of /proc.

use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;

use crate::plan::Plan;
use crate::plan::process::Process;
use crate::sys::error::{At, errno};

/// f_type of procfs (statfs(2)).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// The host's procfs, held open while the mounts below us change.
pub(super) struct Kernel(OwnedFd);

impl Kernel {
    /// Opens it while /proc is still the host's.
    pub(super) fn open() -> Result<Kernel> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).at(|| "opening /proc".into())?;
        if fstatfs(&proc).at(|| "opening /proc".into())?.f_type as u64 != PROC_SUPER_MAGIC {
            bail!("the host's /proc is not procfs");
        }
        Ok(Kernel(proc))
    }

    /// Writes one file of procfs, and nothing that is mounted or linked over it.
    fn write(&self, path: &str, value: &str) -> rustix::io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = openat2(&self.0, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        rustix::io::write(&file, value.as_bytes()).map(drop)
    }

    /// Sets the kernel parameters of the plan.
    pub(super) fn sysctl(&self, plan: &Plan<'_>) -> Result<()> {
        for (path, value, key) in &plan.sysctl {
            self.write(&format!("sys/{path}"), value).map_err(|error| match error {
                Errno::NOENT => anyhow!("/linux/sysctl: this kernel has no {key}"),
                error => anyhow!("/linux/sysctl: setting {key} to \"{value}\": {}", errno(error)),
            })?;
        }
        Ok(())
    }

    /// Labels for the next execve.
    pub(super) fn labels(&self, process: &Process<'_>) -> Result<()> {
        if let Some(profile) = process.apparmor.filter(|profile| *profile != "unconfined") {
            let value = format!("exec {profile}");
            self.write("self/attr/apparmor/exec", &value)
                .or_else(|_| self.write("self/attr/exec", &value))
                .at(|| format!("/process/apparmorProfile: changing to {profile}"))?;
        }
        if let Some(label) = process.selinux {
            self.write("self/attr/exec", label).at(|| format!("/process/selinuxLabel: changing to {label}"))?;
        }
        Ok(())
    }
}
