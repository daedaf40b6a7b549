//! What the plan has to know of the host. Read once, and only what the document makes relevant.

use std::path::Path;

use anyhow::Result;

use crate::cgroup::layout::Layout;
use crate::config::types::Spec;
use crate::sys::error::At;

/// Facts of the host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The cgroup hierarchies.
    pub layout: Layout,
    /// Capabilities that this process may use, as a mask.
    pub capabilities: u64,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// Where resctrl is mounted.
    pub resctrl: Option<String>,
}

impl Host {
    /// Looks at the host.
    pub fn read(spec: &Spec<'_>) -> Result<Host> {
        let layout = Layout::read()?;
        let process = spec.process.as_ref();
        let wants_apparmor = process.is_some_and(|p| p.apparmor_profile.is_some());
        let wants_selinux = process.is_some_and(|p| p.selinux_label.is_some()) || spec.linux.mount_label.is_some();
        Ok(Host {
            layout,
            capabilities: rustix::thread::capabilities(None).at(|| "reading our capabilities".into())?.permitted.bits(),
            apparmor: wants_apparmor && apparmor(),
            selinux: wants_selinux && selinux(),
            resctrl: if spec.linux.intel_rdt.is_some() { resctrl() } else { None },
        })
    }

    /// Whether this process has a capability in its own user namespace.
    pub fn can(&self, capability: caps::Capability) -> bool {
        self.capabilities & (1 << capability.index()) != 0
    }
}

/// Whether AppArmor confines programs on this host.
pub fn apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether SELinux is loaded: its file system is there.
pub fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Where resctrl is mounted.
pub fn resctrl() -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4).map(str::to_owned)
}
