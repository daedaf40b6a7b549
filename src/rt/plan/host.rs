//! What the plan has to know of the host. Read once, and only what the document makes relevant.

use std::path::Path;

use anyhow::Result;

use crate::cgroup::layout::Layout;
use crate::cgroup::systemd::Manager;
use crate::cgroup::tree;
use crate::config::types::{Resources, Spec};
use crate::sys::error::At;

/// Facts of the host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The cgroup hierarchies.
    pub layout: Layout,
    /// A plain user's own v2 cgroup, as /proc/self/cgroup shows it; none for root of the host.
    pub own_cgroup: Option<String>,
    /// No cgroup is made, as it was asked for.
    pub without_cgroups: bool,
    /// The systemd that makes cgroups, where that is asked for.
    pub systemd: Option<Systemd>,
    /// Capabilities that this process may use, as a mask.
    pub capabilities: u64,
    /// AppArmor is on.
    pub apparmor: bool,
    /// SELinux is on.
    pub selinux: bool,
    /// Where resctrl is mounted.
    pub resctrl: Option<String>,
}

/// A systemd that answers.
#[derive(Debug, Clone)]
pub struct Systemd {
    /// Its version, such as 252.
    pub version: u32,
    /// Its own cgroup, below which its units are: empty for the system's.
    pub control_group: String,
    /// It is the user's, not the system's.
    pub user: bool,
}

impl Systemd {
    /// Asks it.
    pub fn ask(manager: &mut Manager) -> Result<Systemd> {
        Ok(Systemd { version: manager.version, control_group: manager.control_group()?, user: manager.is_user() })
    }
}

impl Host {
    /// Looks at the host.
    pub fn read(spec: &Spec<'_>) -> Result<Host> {
        let mut layout = Layout::read()?;
        let resources = &spec.linux.resources;
        // A hybrid host is asked only when v1 may not have all that the document wants.
        let is_v2 = layout.v1.is_empty();
        if is_v2 || !resources.unified.is_empty() || wanted(resources).any(|name| layout.find(name).is_none()) {
            layout.read_controllers()?;
        }
        let own_cgroup = if is_v2 && !is_root() { tree::unified_path("self") } else { None };
        let process = spec.process.as_ref();
        let wants_apparmor = process.is_some_and(|p| p.apparmor_profile.is_some());
        let wants_selinux = process.is_some_and(|p| p.selinux_label.is_some()) || spec.linux.mount_label.is_some();
        Ok(Host {
            layout,
            own_cgroup,
            without_cgroups: false,
            systemd: None,
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

/// Root, and not just of a user namespace.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root() && !is_mapped()
}

/// In a user namespace of somebody's making (user_namespaces(7)).
pub fn is_mapped() -> bool {
    let identity = ["0", "0", "4294967295"];
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(identity))
}

/// v1 names of the controllers that these limits need.
fn wanted(resources: &Resources<'_>) -> impl Iterator<Item = &'static str> {
    let cpuset = resources.cpu.as_ref().is_some_and(|cpu| cpu.cpus.is_some() || cpu.mems.is_some());
    [
        ("memory", resources.memory.is_some()),
        ("cpu", resources.cpu.is_some()),
        ("cpuset", cpuset),
        ("pids", resources.pids.is_some()),
        ("blkio", resources.block_io.is_some()),
        ("hugetlb", !resources.hugepage_limits.is_empty()),
        ("rdma", !resources.rdma.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, is_wanted)| is_wanted.then_some(name))
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
