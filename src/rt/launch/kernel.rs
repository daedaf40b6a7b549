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

    /// Opens one file of procfs, and nothing that is mounted or linked over it.
    fn open_at(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        openat2(&self.0, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    fn write(&self, path: &str, value: &str) -> rustix::io::Result<()> {
        rustix::io::write(&self.open_at(path)?, value.as_bytes()).map(drop)
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

    /// Opens the files that take the labels for the caller's next execve. They stay the caller's own
    /// wherever it goes, and lead nowhere else, as the directory would.
    pub(super) fn label_files(&self, process: &Process<'_>) -> Result<Vec<Label>> {
        let mut labels = Vec::new();
        if let Some(profile) = process.apparmor.filter(|profile| *profile != "unconfined") {
            let what = format!("/process/apparmorProfile: changing to {profile}");
            let file = self.open_at("self/attr/apparmor/exec").or_else(|_| self.open_at("self/attr/exec"));
            labels.push(Label { file: file.at(|| what.clone())?, value: format!("exec {profile}"), what });
        }
        if let Some(label) = process.selinux {
            let what = format!("/process/selinuxLabel: changing to {label}");
            let file = self.open_at("self/attr/exec").at(|| what.clone())?;
            labels.push(Label { file, value: label.to_owned(), what });
        }
        Ok(labels)
    }
}

/// A label for the next execve, and where it goes.
#[derive(Debug)]
pub(super) struct Label {
    file: OwnedFd,
    value: String,
    what: String,
}

impl Label {
    pub(super) fn set(&self) -> Result<()> {
        rustix::io::write(&self.file, self.value.as_bytes()).at(|| self.what.clone()).map(drop)
    }
}
