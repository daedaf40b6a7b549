//! What a project is made of, when all files are read, merged and filled in. The names are those of the compose
//! specification; sizes are bytes, times are text that [`crate::container::units::duration`] has accepted.

mod parts;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value as Json;

pub use parts::*;

use super::dotenv::Variables;
use super::yaml::{Node, Place};

/// A project.
pub struct Project {
    /// Its name: lower case letters, digits, `-` and `_`.
    pub name: String,
    /// The directory that relative paths begin in.
    pub directory: PathBuf,
    /// The files that it was read from.
    pub files: Vec<String>,
    /// The variables that were filled in: `.env`'s and the caller's.
    pub environment: Variables,
    /// The profiles that are active.
    pub profiles: Vec<String>,
    /// What it is made of.
    pub parts: Parts,
    /// The same as a document, for people and for [`Service`]'s hash.
    pub document: Json,
    /// The same with the places of all.
    pub tree: Node,
}

/// The top level of a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Parts {
    /// By name.
    pub services: BTreeMap<String, Service>,
    /// By the name in the file.
    pub networks: BTreeMap<String, Network>,
    /// By the name in the file.
    pub volumes: BTreeMap<String, Volume>,
    /// By name.
    pub secrets: BTreeMap<String, Content>,
    /// By name.
    pub configs: BTreeMap<String, Content>,
}

/// Keys and values; nothing where a name stands alone.
pub type Pairs = BTreeMap<String, Option<String>>;

/// A service. See <https://github.com/compose-spec/compose-spec/blob/main/05-services.md>.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Service {
    pub annotations: Pairs,
    pub attach: Option<bool>,
    pub blkio_config: Blkio,
    pub build: Option<Build>,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub cgroup: Option<String>,
    pub cgroup_parent: Option<String>,
    pub command: Option<Vec<String>>,
    pub configs: Vec<FileUse>,
    pub container_name: Option<String>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_rt_period: Option<u64>,
    pub cpu_rt_runtime: Option<i64>,
    pub cpu_shares: Option<u64>,
    pub cpus: Option<Json>,
    pub cpuset: Option<String>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub deploy: Deploy,
    pub device_cgroup_rules: Vec<String>,
    pub devices: Vec<Device>,
    pub dns: Vec<String>,
    pub dns_opt: Vec<String>,
    pub dns_search: Vec<String>,
    pub domainname: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: Pairs,
    pub expose: Vec<String>,
    pub external_links: Vec<String>,
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    pub group_add: Vec<String>,
    pub healthcheck: Option<Healthcheck>,
    pub hostname: Option<String>,
    pub image: Option<String>,
    pub init: Option<bool>,
    pub ipc: Option<String>,
    pub labels: Pairs,
    pub links: Vec<String>,
    pub logging: Logging,
    pub mac_address: Option<String>,
    pub mem_limit: Option<i64>,
    pub mem_reservation: Option<i64>,
    pub mem_swappiness: Option<i64>,
    pub memswap_limit: Option<i64>,
    pub network_mode: Option<String>,
    pub networks: BTreeMap<String, NetworkUse>,
    pub oom_kill_disable: bool,
    pub oom_score_adj: Option<i32>,
    pub pid: Option<String>,
    pub pids_limit: Option<i64>,
    pub platform: Option<String>,
    pub ports: Vec<Port>,
    pub privileged: bool,
    pub profiles: Vec<String>,
    pub pull_policy: Option<String>,
    pub read_only: bool,
    pub restart: Option<String>,
    pub runtime: Option<String>,
    pub scale: Option<u32>,
    pub secrets: Vec<FileUse>,
    pub security_opt: Vec<String>,
    pub shm_size: Option<i64>,
    pub stdin_open: bool,
    pub stop_grace_period: Option<String>,
    pub stop_signal: Option<String>,
    pub sysctls: Pairs,
    pub tmpfs: Vec<String>,
    pub tty: bool,
    pub ulimits: BTreeMap<String, Ulimit>,
    pub user: Option<String>,
    pub userns_mode: Option<String>,
    pub uts: Option<String>,
    pub volumes: Vec<Mount>,
    pub volumes_from: Vec<String>,
    pub working_dir: Option<String>,
}

impl Service {
    /// How many containers it has where nobody says otherwise.
    pub fn scale(&self) -> u32 {
        self.scale.or(self.deploy.replicas).unwrap_or(1)
    }
}

impl Project {
    /// Where something stands, such as `["services", "web", "ports"]`: the deepest of it that there is.
    pub fn place(&self, path: &[&str]) -> Place {
        place(&self.tree, path)
    }
}

/// See [`Project::place`].
pub fn place(tree: &Node, path: &[&str]) -> Place {
    let mut at = &tree.at;
    let mut node = tree;
    for name in path {
        let Some(entry) = node.entries().iter().find(|it| it.key == *name) else { break };
        (at, node) = (&entry.at, &entry.value);
    }
    at.clone()
}
