//! Control groups: what this host has ([`layout`]), which files a container's limits go to
//! ([`v1`], [`v2`], [`devices`], [`systemd`], all of them pure), the directories ([`tree`]), and what is
//! done with a running container's ([`freezer`], [`stats`], [`update`]).

pub mod devices;
pub mod freezer;
pub mod layout;
pub mod stats;
pub mod systemd;
pub mod tree;
pub mod update;
pub mod v1;
pub mod v2;

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::problem::Problems;
use crate::config::types::{Cpu, Rdma, Resources};
use devices::program::Instruction;
use layout::Layout;

/// Where limits stand in the document.
const BASE: &str = "/linux/resources";

/// Everything that will be done to the cgroup file systems for one container.
#[derive(Debug, Default, Clone)]
pub struct Plan {
    /// One directory a hierarchy; that of v2, if there is one, comes last.
    pub dirs: Vec<Dir>,
    /// Control files to write, in this order, after the directories exist and before the
    /// container's program runs.
    pub writes: Vec<Write>,
    /// v2: controllers that the directories above hand down.
    pub enable: Vec<String>,
    /// v2: the program that decides over devices.
    pub device_program: Option<Vec<Instruction>>,
    /// Devices are left to what the user may do anyhow where the program may not be loaded.
    pub devices_optional: bool,
    /// v2: the user of the host who gets the directory, to make cgroups of its own below
    /// (config-linux.md, "Cgroup ownership").
    pub owner: Option<u32>,
    /// systemd makes the cgroup as a unit with these properties, and moves init there.
    pub scope: Option<Scope>,
    /// Init moves itself, which on v1 spares the wait that moving another process costs (see
    /// [`tree::enter`]). Not from inside a user namespace, nor from another mount namespace.
    pub by_init: bool,
    /// Going without is no error: a plain user asked for no limit and no path.
    pub optional: bool,
    /// The document says where it shall be.
    pub named: bool,
}

/// A unit of systemd's that is a container's cgroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// Its name and place.
    pub unit: systemd::Unit,
    /// Its limits, and what annotations say of it.
    pub properties: Vec<systemd::Property>,
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dir {
    /// Where the hierarchy is mounted.
    pub mount: String,
    /// The container's directory, below `mount`.
    pub path: String,
    /// The controllers there, comma-separated: `cpu,cpuacct`, or `name=systemd`; `unified` is v2.
    pub controllers: String,
}

/// One value for one control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Write {
    /// Index in [`Plan::dirs`].
    pub dir: usize,
    /// File name, such as `memory.limit_in_bytes`.
    pub file: String,
    /// The file that other kernels have instead, and what goes there.
    pub fallback: Option<(String, String)>,
    /// Going without this file is no error: another write of the same field does the work.
    pub optional: bool,
    /// What is written.
    pub value: String,
    /// Where in the document it comes from.
    pub pointer: String,
}

impl Dir {
    /// Whether it is in the unified hierarchy.
    pub fn is_v2(&self) -> bool {
        self.controllers == v2::UNIFIED
    }
}

impl Plan {
    /// The directory in the unified hierarchy.
    pub fn v2(&self) -> Option<&Dir> {
        self.dirs.last().filter(|dir| dir.is_v2())
    }

    /// Those of v1.
    pub fn v1(&self) -> &[Dir] {
        let count = self.dirs.len() - usize::from(self.v2().is_some());
        &self.dirs[..count]
    }
}

/// Plans the container's cgroup at `path` (cleaned, absolute).
///
/// On a hybrid host limits go to the v1 controllers where there are such, and to the unified
/// hierarchy what is only there; without need the container is not put into that one.
pub fn plan(path: &str, resources: &Resources<'_>, layout: &Layout, problems: &mut Problems) -> Plan {
    let mut plan = Plan::default();
    if layout.v1.is_empty() {
        v2::plan(&mut plan, path, resources, layout, problems);
        return plan;
    }
    let unified = only_v2(resources, layout);
    if unified == Resources::default() {
        v1::plan(&mut plan, path, resources, layout, problems);
        return plan;
    }
    let mut rest = resources.clone();
    without(&mut rest, &unified);
    v1::plan(&mut plan, path, &rest, layout, problems);
    v2::plan(&mut plan, path, &unified, layout, problems);
    plan
}

/// The part of the limits for which a hybrid host has v2 controllers, and no v1 ones.
fn only_v2<'a>(resources: &Resources<'a>, layout: &Layout) -> Resources<'a> {
    if layout.v2.is_none() {
        return Resources::default();
    }
    let on_v2 =
        |v1: &str, v2: &str| layout.find(v1).is_none() && layout.controllers.iter().any(|controller| controller == v2);
    let mut part = Resources { unified: resources.unified.clone(), ..Resources::default() };
    if layout.find("devices").is_none() && devices::asks(resources) {
        part.devices.clone_from(&resources.devices);
    }
    if on_v2("memory", "memory") {
        part.memory.clone_from(&resources.memory);
    }
    if let Some(cpu) = &resources.cpu {
        let mut taken = Cpu::default();
        if on_v2("cpu", "cpu") {
            taken = Cpu { cpus: None, mems: None, ..cpu.clone() };
        }
        if on_v2("cpuset", "cpuset") {
            taken.cpus.clone_from(&cpu.cpus);
            taken.mems.clone_from(&cpu.mems);
        }
        part.cpu = (taken != Cpu::default()).then_some(taken);
    }
    if on_v2("pids", "pids") {
        part.pids.clone_from(&resources.pids);
    }
    if on_v2("blkio", "io") {
        part.block_io.clone_from(&resources.block_io);
    }
    if on_v2("hugetlb", "hugetlb") {
        part.hugepage_limits.clone_from(&resources.hugepage_limits);
    }
    if on_v2("rdma", "rdma") {
        part.rdma.clone_from(&resources.rdma);
    }
    part
}

/// Takes what `part` holds out of `resources`.
fn without(resources: &mut Resources<'_>, part: &Resources<'_>) {
    resources.unified.clear();
    if part.memory.is_some() {
        resources.memory = None;
    }
    if let (Some(cpu), Some(taken)) = (&mut resources.cpu, &part.cpu) {
        if taken.cpus.is_some() || taken.mems.is_some() {
            (cpu.cpus, cpu.mems) = (None, None);
        }
        let only_sets = Cpu { cpus: taken.cpus.clone(), mems: taken.mems.clone(), ..Cpu::default() };
        if *taken != only_sets {
            *cpu = Cpu { cpus: cpu.cpus.take(), mems: cpu.mems.take(), ..Cpu::default() };
        }
    }
    if part.pids.is_some() {
        resources.pids = None;
    }
    if part.block_io.is_some() {
        resources.block_io = None;
    }
    if !part.hugepage_limits.is_empty() {
        resources.hugepage_limits.clear();
    }
    if !part.rdma.is_empty() {
        resources.rdma.clear();
    }
}

/// A line of `rdma.max`, which is the same on both.
fn rdma(device: &str, limit: &Rdma) -> String {
    let mut value = device.to_owned();
    for (name, limit) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
        if let Some(limit) = limit {
            let _ = write!(value, " {name}={limit}");
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::layout::Hierarchy;
    use super::*;

    #[test]
    fn hybrid_hosts_use_v2_for_what_is_only_there() {
        let v1 = ["memory", "devices", "cpu"];
        let layout = Layout {
            v1: v1
                .iter()
                .map(|name| Hierarchy { mount: format!("/cg/{name}"), controllers: vec![(*name).to_owned()] })
                .collect(),
            v2: Some("/cg/unified".to_owned()),
            controllers: vec!["pids".to_owned(), "cpuset".to_owned()],
        };
        let of = |json: &str| {
            let resources: Resources<'_> = serde_json::from_str(json).unwrap();
            let mut problems = Problems::default();
            let plan = plan("/c", &resources, &layout, &mut problems);
            let dir = |write: &Write| plan.dirs[write.dir].path.clone();
            let writes: Vec<String> = plan
                .writes
                .iter()
                .filter(|write| !write.file.starts_with("devices."))
                .map(|write| format!("{}/{} {}", dir(write), write.file, write.value))
                .collect();
            (writes, plan.dirs.len(), problems.0.len())
        };
        assert_eq!(
            of(r#"{"memory":{"limit":4096}}"#),
            (vec!["/cg/memory/c/memory.limit_in_bytes 4096".to_owned()], 3, 0)
        );
        let (writes, dirs, problems) = of(
            r#"{"memory":{"limit":4096},"pids":{"limit":7},"cpu":{"shares":5,"cpus":"0"},"unified":{"cgroup.max.depth":"2"}}"#,
        );
        assert_eq!((dirs, problems), (4, 0));
        assert_eq!(
            writes,
            [
                "/cg/memory/c/memory.limit_in_bytes 4096",
                "/cg/cpu/c/cpu.shares 5",
                "/cg/unified/c/cpuset.cpus 0",
                "/cg/unified/c/pids.max 7",
                "/cg/unified/c/cgroup.max.depth 2",
            ]
        );
        // What neither has is a problem.
        assert_eq!(of(r#"{"hugepageLimits":[{"pageSize":"2MB","limit":7}]}"#).2, 1);
    }
}
