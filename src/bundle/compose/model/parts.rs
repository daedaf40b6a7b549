//! What services, networks and volumes have below their own fields.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::Pairs;

/// Limits of block devices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Blkio {
    pub weight: Option<u16>,
    pub weight_device: Vec<DeviceWeight>,
    pub device_read_bps: Vec<DeviceRate>,
    pub device_write_bps: Vec<DeviceRate>,
    pub device_read_iops: Vec<DeviceRate>,
    pub device_write_iops: Vec<DeviceRate>,
}

/// A weight of one device.
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs)]
pub struct DeviceWeight {
    pub path: String,
    pub weight: u16,
}

/// Most bytes or operations a second of one device.
#[derive(Clone, Debug, Default, Deserialize)]
#[allow(missing_docs)]
pub struct DeviceRate {
    pub path: String,
    pub rate: u64,
}

/// How an image is built.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Build {
    pub additional_contexts: Pairs,
    pub args: Pairs,
    pub cache_from: Vec<String>,
    pub cache_to: Vec<String>,
    pub context: Option<String>,
    pub dockerfile: Option<String>,
    pub dockerfile_inline: Option<String>,
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    pub labels: Pairs,
    pub network: Option<String>,
    pub no_cache: bool,
    pub platforms: Vec<String>,
    pub pull: bool,
    pub secrets: Vec<FileUse>,
    pub shm_size: Option<i64>,
    pub ssh: Pairs,
    pub tags: Vec<String>,
    pub target: Option<String>,
    pub ulimits: BTreeMap<String, Ulimit>,
}

/// What a service waits for before it starts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dependency {
    /// Until when it waits.
    pub condition: Condition,
    /// Whether it is restarted when the other one is, by a command of ours.
    pub restart: bool,
    /// `Some(false)`: it goes on without it.
    pub required: Option<bool>,
}

/// See [`Dependency`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Condition {
    /// Its containers run.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Their health checks have succeeded.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// They have ended with status 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

/// What an orchestrator would be told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Deploy {
    pub labels: Pairs,
    pub mode: Option<String>,
    pub replicas: Option<u32>,
    pub resources: Resources,
    pub restart_policy: Option<RestartPolicy>,
}

/// See [`Deploy`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Resources {
    pub limits: Limits,
    pub reservations: Limits,
}

/// See [`Deploy`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Limits {
    pub cpus: Option<Json>,
    pub memory: Option<i64>,
    pub pids: Option<i64>,
}

/// See [`Deploy`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct RestartPolicy {
    pub condition: Option<String>,
    pub max_attempts: Option<u32>,
}

/// A device of the host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Device {
    pub source: String,
    pub target: Option<String>,
    pub permissions: Option<String>,
}

/// How a container is asked whether it is well.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Healthcheck {
    pub disable: bool,
    pub interval: Option<String>,
    pub retries: Option<u32>,
    pub start_interval: Option<String>,
    pub start_period: Option<String>,
    pub test: Option<Vec<String>>,
    pub timeout: Option<String>,
}

/// Where output goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Logging {
    pub driver: Option<String>,
    pub options: BTreeMap<String, String>,
}

/// A service's part in a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NetworkUse {
    pub aliases: Vec<String>,
    pub gw_priority: i64,
    pub ipv4_address: Option<String>,
    pub ipv6_address: Option<String>,
    pub mac_address: Option<String>,
    pub priority: i64,
}

/// A port that is published.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Port {
    pub host_ip: Option<String>,
    pub mode: Option<String>,
    pub protocol: Option<String>,
    pub published: Option<String>,
    pub target: u16,
}

/// A limit of a process: one number, or the soft and the hard one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Ulimit {
    pub single: Option<i64>,
    pub soft: Option<i64>,
    pub hard: Option<i64>,
}

/// What is mounted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Mount {
    #[serde(rename = "type")]
    pub kind: String,
    pub source: Option<String>,
    pub target: String,
    pub read_only: bool,
    pub bind: BindOptions,
    pub volume: VolumeOptions,
    pub tmpfs: TmpfsOptions,
}

/// See [`Mount`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct BindOptions {
    pub create_host_path: bool,
    pub propagation: Option<String>,
    pub recursive: Option<String>,
    pub selinux: Option<String>,
}

/// See [`Mount`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct VolumeOptions {
    pub labels: Pairs,
    pub nocopy: bool,
    pub subpath: Option<String>,
}

/// See [`Mount`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct TmpfsOptions {
    pub mode: Option<u32>,
    pub size: Option<i64>,
}

/// A secret or config in a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct FileUse {
    pub source: String,
    pub target: Option<String>,
    pub uid: Option<String>,
    pub gid: Option<String>,
    pub mode: Option<u32>,
}

/// A network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Network {
    /// What it is called on this machine.
    pub name: String,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub enable_ipv6: bool,
    pub external: bool,
    pub internal: bool,
    pub ipam: Ipam,
    pub labels: Pairs,
}

/// Addresses of a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Ipam {
    pub config: Vec<IpamConfig>,
    pub driver: Option<String>,
}

/// See [`Ipam`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct IpamConfig {
    pub aux_addresses: BTreeMap<String, String>,
    pub gateway: Option<String>,
    pub ip_range: Option<String>,
    pub subnet: Option<String>,
}

/// A volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Volume {
    /// What it is called on this machine.
    pub name: String,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub external: bool,
    pub labels: Pairs,
}

/// A secret or config: one of these says where its content is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Content {
    #[serde(rename = "content")]
    pub text: Option<String>,
    pub environment: Option<String>,
    pub file: Option<String>,
}
