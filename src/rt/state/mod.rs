//! What is kept of a container between two commands: `<root>/<id>/state.json`.
//!
//! The file is written before the first effect and holds all that `delete` needs, so that after a
//! kill at any moment everything can still be found and removed. It is replaced by rename, so a
//! reader never sees half of it. The directory itself is the container's lock (flock(2)).

pub mod store;
pub mod time;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cgroup::systemd::Unit;
use crate::cgroup::tree::Group;
use crate::config::types::{Hook, Str};
use crate::sys::proc::Stat;

/// The version of the spec that the state follows.
pub const SPEC_VERSION: &str = "1.3.0";

/// The contents of `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct State<'a> {
    /// The container's id, as its directory is called.
    pub id: Str<'a>,
    /// Process id of init in the runtime's pid namespace; 0 before there is one.
    pub pid: i32,
    /// When init was started, in clock ticks since boot: tells it from a later process of that id.
    pub start_time: u64,
    /// Absolute path of the bundle.
    pub bundle: Str<'a>,
    /// Absolute path of the root file system.
    pub rootfs: Str<'a>,
    /// RFC 3339, UTC.
    pub created: Str<'a>,
    /// User who made it.
    pub owner: u32,
    /// Its cgroup, one directory a hierarchy.
    pub cgroups: Vec<Cgroup<'a>>,
    /// The unit of systemd's that the cgroup is.
    #[serde(default)]
    pub unit: Option<Unit>,
    /// A directory of resctrl to remove.
    #[serde(default)]
    pub rdt: Vec<Str<'a>>,
    /// The `schemata` file of its resctrl group.
    #[serde(default)]
    pub schemata: Option<Str<'a>>,
    /// `CLONE_NEW…` flags of the namespaces that the document lists: those that `exec` joins.
    pub namespaces: u64,
    /// It has a session keyring of its own.
    pub keyring: bool,
    /// It has a filter, which `exec` loads as well.
    pub seccomp: bool,
    /// Who gets the listener of a filter that notifies.
    #[serde(default)]
    pub agent: Option<Agent<'a>>,
    /// personality(2).
    pub personality: Option<u32>,
    /// set_mempolicy(2): mode and node mask.
    pub memory_policy: Option<(i32, Vec<u64>)>,
    /// The document names a process, so the container can be started.
    pub startable: bool,
    /// As in the document.
    pub annotations: BTreeMap<Str<'a>, Str<'a>>,
    /// For `start`.
    pub poststart: Vec<Hook<'a>>,
    /// For `delete`.
    pub poststop: Vec<Hook<'a>>,
}

/// The process that decides over system calls (config-linux.md, "listenerPath").
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Agent<'a> {
    /// Its socket.
    pub path: Str<'a>,
    /// What it is told beside the state.
    pub metadata: Option<Str<'a>>,
}

/// A container's directory in one cgroup hierarchy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub struct Cgroup<'a> {
    /// Absolute path.
    pub path: Str<'a>,
    /// As in [`crate::cgroup::Dir`].
    pub controllers: Str<'a>,
    /// Whose it is.
    pub owner: Ownership,
}

/// Whether a container's cgroup is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ownership {
    /// `create` has not got so far: an empty directory may be removed, a process not be killed.
    #[default]
    Unknown,
    /// Made by `create`: emptied and removed with the container.
    Ours,
    /// There before: left as it is.
    Foreign,
}

/// Where a container stands in its life (runtime.md, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` has not finished.
    Creating,
    /// Init waits for `start`.
    Created,
    /// Init has executed the program.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Init has ended.
    Stopped,
}

impl Status {
    /// The word of the spec.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl State<'_> {
    /// The directories that `create` made.
    pub fn own_cgroups(&self) -> impl Iterator<Item = &Path> {
        self.cgroups.iter().filter(|dir| dir.owner == Ownership::Ours).map(|dir| Path::new(&*dir.path))
    }

    /// All processes of the container, by its cgroup. One that was there before was empty when `create`
    /// came, so who is in it is the container's; but others may live below it.
    pub fn group(&self) -> Option<Group<'_>> {
        let first = |owner| self.cgroups.iter().find(|dir| dir.owner == owner);
        let dir = first(Ownership::Ours).or_else(|| first(Ownership::Foreign))?;
        Some(Group { path: Path::new(&*dir.path), below: dir.owner == Ownership::Ours })
    }

    /// Whether init is alive: a process of its id that was started when it was, and has not ended.
    pub fn is_alive(&self) -> bool {
        Stat::is_alive(self.pid, self.start_time)
    }

    /// The state of the spec, as hooks get it and `state` prints it.
    pub fn spec_json(&self, status: Status, pid: i32) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct SpecState<'b> {
            oci_version: &'static str,
            id: &'b str,
            pid: i32,
            status: Status,
            bundle: &'b str,
            rootfs: &'b str,
            created: &'b str,
            owner: String,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'b BTreeMap<Str<'b>, Str<'b>>,
        }
        let state = SpecState {
            oci_version: SPEC_VERSION,
            id: &self.id,
            pid,
            status,
            bundle: &self.bundle,
            rootfs: &self.rootfs,
            created: &self.created,
            owner: owner_name(self.owner),
            annotations: &self.annotations,
        };
        // Strings and numbers only: it cannot fail.
        serde_json::to_string_pretty(&state).unwrap_or_default()
    }
}

/// The name of a user of this host, from /etc/passwd (passwd(5)); the number where there is none.
pub fn owner_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = uid.to_string();
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines
        .find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)? == wanted).then(|| name.to_owned())
        })
        .unwrap_or(wanted)
}
