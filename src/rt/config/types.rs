//! The shape of `config.json` (runtime-spec 1.3.0, Linux), as it stands in the file.
//!
//! Only JSON types are decided here: a string that should name a namespace is still a string, so
//! that [`super::validate`] can report every wrong one by its pointer instead of stopping at the
//! first. Strings are borrowed from the file's text unless they hold an escape. `null` counts as
//! absent everywhere, as it does in the runtimes written in Go, and unknown fields are ignored
//! (config.md, "Extensibility").

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize as De, Serialize, Serializer};

/// A string borrowed from the document where it can be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Str<'a>(Cow<'a, str>);

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Str<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Str(Cow::Borrowed(text))
    }
}

impl From<String> for Str<'_> {
    fn from(text: String) -> Self {
        Str(Cow::Owned(text))
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Str<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// `null` reads as the type's default (an empty list, an empty map, `false`).
fn or_default<'de, D: Deserializer<'de>, T: De<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// The same for an object with names of the user's. One that stands twice is refused, as a field is: what wins would be
/// for each reader to guess.
fn names_once<'de, D, V>(d: D) -> Result<BTreeMap<Str<'de>, V>, D::Error>
where
    D: Deserializer<'de>,
    V: De<'de>,
{
    struct Once<V>(std::marker::PhantomData<V>);
    impl<'de, V: De<'de>> Visitor<'de> for Once<V> {
        type Value = BTreeMap<Str<'de>, V>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }
        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }
        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_map(self)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<Str<'de>, V>()? {
                if names.contains_key(&name) {
                    return Err(A::Error::custom(format!("duplicate field `{name}`")));
                }
                names.insert(name, value);
            }
            Ok(names)
        }
    }
    d.deserialize_option(Once(std::marker::PhantomData))
}

/// Reads a struct from an object only: what serde derives would also take a list, field by field.
struct Strict<T>(T);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Strict(visitor))
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}

/// Strings of a list.
pub type Strs<'a> = Vec<Str<'a>>;

macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, De, Serialize)]
            #[serde(rename_all = "camelCase", remote = "Self", bound(deserialize = "'de: 'a"))]
            pub struct $name<'a> {
                $($(#[$attr])* #[allow(missing_docs)] pub $field: $ty,)*
            }

            impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    $name::deserialize(Strict(deserializer))
                }
            }

            impl Serialize for $name<'_> {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    $name::serialize(self, serializer)
                }
            }
        )*
    };
}

objects! {
    /// The whole document (config.md).
    Spec {
        oci_version: Str<'a>,
        root: Option<Root<'a>>,
        process: Option<Process<'a>>,
        hostname: Option<Str<'a>>,
        domainname: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] mounts: Vec<Mount<'a>>,
        #[serde(default, deserialize_with = "or_default")] hooks: Hooks<'a>,
        #[serde(default, deserialize_with = "names_once")] annotations: BTreeMap<Str<'a>, Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] linux: Linux<'a>,
        freebsd: Option<FreeBsd<'a>>,
    }

    /// config-freebsd.md: read only to refuse values that the spec does not know.
    FreeBsd {
        jail: Option<Jail<'a>>,
    }

    /// config-freebsd.md, "Jail".
    Jail {
        vnet: Option<Str<'a>>,
    }

    /// config.md, "Root".
    Root {
        path: Str<'a>,
        #[serde(default, deserialize_with = "or_default")] readonly: bool,
    }

    /// config.md, "Mounts".
    Mount {
        destination: Str<'a>,
        #[serde(rename = "type")] kind: Option<Str<'a>>,
        source: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] options: Strs<'a>,
        uid_mappings: Option<Vec<IdMapping>>,
        gid_mappings: Option<Vec<IdMapping>>,
    }

    /// config.md, "Process". Also the document that `exec --process` reads.
    Process {
        #[serde(default, deserialize_with = "or_default")] terminal: bool,
        console_size: Option<ConsoleSize>,
        #[serde(default, deserialize_with = "or_default")] user: User,
        #[serde(default, deserialize_with = "or_default")] args: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] env: Strs<'a>,
        cwd: Str<'a>,
        capabilities: Option<Capabilities<'a>>,
        #[serde(default, deserialize_with = "or_default")] rlimits: Vec<Rlimit<'a>>,
        #[serde(default, deserialize_with = "or_default")] no_new_privileges: bool,
        oom_score_adj: Option<i32>,
        apparmor_profile: Option<Str<'a>>,
        selinux_label: Option<Str<'a>>,
        scheduler: Option<Scheduler<'a>>,
        io_priority: Option<IoPriority<'a>>,
        #[serde(rename = "execCPUAffinity")] exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
    }

    /// The five sets of capabilities(7), by name.
    Capabilities {
        #[serde(default, deserialize_with = "or_default")] bounding: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] effective: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] inheritable: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] permitted: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] ambient: Strs<'a>,
    }

    /// One entry of `process.rlimits`.
    Rlimit {
        #[serde(rename = "type")] kind: Str<'a>,
        soft: u64,
        hard: u64,
    }

    /// `process.scheduler`: sched_setattr(2).
    Scheduler {
        policy: Str<'a>,
        nice: Option<i32>,
        priority: Option<i32>,
        #[serde(default, deserialize_with = "or_default")] flags: Strs<'a>,
        runtime: Option<u64>,
        deadline: Option<u64>,
        period: Option<u64>,
    }

    /// `process.ioPriority`: ioprio_set(2).
    IoPriority {
        class: Str<'a>,
        priority: i32,
    }

    /// `process.execCPUAffinity`: for processes that `exec` adds, never for init.
    ExecCpuAffinity {
        initial: Option<Str<'a>>,
        #[serde(rename = "final")] last: Option<Str<'a>>,
    }

    /// config.md, "POSIX-platform Hooks".
    Hooks {
        #[serde(default, deserialize_with = "or_default")] prestart: Vec<Hook<'a>>,
        #[serde(default, deserialize_with = "or_default")] create_runtime: Vec<Hook<'a>>,
        #[serde(default, deserialize_with = "or_default")] create_container: Vec<Hook<'a>>,
        #[serde(default, deserialize_with = "or_default")] start_container: Vec<Hook<'a>>,
        #[serde(default, deserialize_with = "or_default")] poststart: Vec<Hook<'a>>,
        #[serde(default, deserialize_with = "or_default")] poststop: Vec<Hook<'a>>,
    }

    /// One hook; `timeout` is in seconds.
    Hook {
        path: Str<'a>,
        #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")] args: Strs<'a>,
        #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")] env: Strs<'a>,
        #[serde(skip_serializing_if = "Option::is_none")] timeout: Option<i64>,
    }

    /// config-linux.md.
    Linux {
        #[serde(default, deserialize_with = "or_default")] namespaces: Vec<Namespace<'a>>,
        #[serde(default, deserialize_with = "or_default")] uid_mappings: Vec<IdMapping>,
        #[serde(default, deserialize_with = "or_default")] gid_mappings: Vec<IdMapping>,
        #[serde(default, deserialize_with = "names_once")] time_offsets: BTreeMap<Str<'a>, TimeOffset>,
        #[serde(default, deserialize_with = "or_default")] devices: Vec<Device<'a>>,
        #[serde(default, deserialize_with = "names_once")] net_devices: BTreeMap<Str<'a>, NetDevice<'a>>,
        cgroups_path: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] resources: Resources<'a>,
        intel_rdt: Option<IntelRdt<'a>>,
        memory_policy: Option<MemoryPolicy<'a>>,
        #[serde(default, deserialize_with = "names_once")] sysctl: BTreeMap<Str<'a>, Str<'a>>,
        seccomp: Option<Seccomp<'a>>,
        rootfs_propagation: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] masked_paths: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] readonly_paths: Strs<'a>,
        mount_label: Option<Str<'a>>,
        personality: Option<Personality<'a>>,
    }

    /// One entry of `linux.namespaces`.
    Namespace {
        #[serde(rename = "type")] kind: Str<'a>,
        path: Option<Str<'a>>,
    }

    /// One entry of `linux.devices`; `fileMode` is decimal in the file.
    Device {
        #[serde(rename = "type")] kind: Str<'a>,
        path: Str<'a>,
        major: Option<i64>,
        minor: Option<i64>,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }

    /// One value of `linux.netDevices`.
    NetDevice {
        name: Option<Str<'a>>,
    }

    /// `linux.resources`.
    Resources {
        #[serde(default, deserialize_with = "or_default")] devices: Vec<DeviceRule<'a>>,
        memory: Option<Memory>,
        cpu: Option<Cpu<'a>>,
        pids: Option<Pids>,
        #[serde(rename = "blockIO")] block_io: Option<BlockIo>,
        #[serde(default, deserialize_with = "or_default")] hugepage_limits: Vec<HugepageLimit<'a>>,
        network: Option<Network<'a>>,
        #[serde(default, deserialize_with = "names_once")] rdma: BTreeMap<Str<'a>, Rdma>,
        #[serde(default, deserialize_with = "names_once")] unified: BTreeMap<Str<'a>, Str<'a>>,
    }

    /// One entry of `linux.resources.devices`.
    DeviceRule {
        allow: bool,
        #[serde(rename = "type")] kind: Option<Str<'a>>,
        major: Option<i64>,
        minor: Option<i64>,
        access: Option<Str<'a>>,
    }

    /// `linux.resources.cpu`; times in microseconds.
    Cpu {
        shares: Option<u64>,
        quota: Option<i64>,
        burst: Option<u64>,
        period: Option<u64>,
        realtime_runtime: Option<i64>,
        realtime_period: Option<u64>,
        cpus: Option<Str<'a>>,
        mems: Option<Str<'a>>,
        idle: Option<i64>,
    }

    /// One entry of `linux.resources.hugepageLimits`; `limit` in bytes.
    HugepageLimit {
        page_size: Str<'a>,
        limit: u64,
    }

    /// `linux.resources.network`.
    Network {
        #[serde(rename = "classID")] class_id: Option<u32>,
        #[serde(default, deserialize_with = "or_default")] priorities: Vec<NetPriority<'a>>,
    }

    /// One entry of `linux.resources.network.priorities`.
    NetPriority {
        name: Str<'a>,
        priority: u32,
    }

    /// `linux.intelRdt`.
    IntelRdt {
        #[serde(rename = "closID")] clos_id: Option<Str<'a>>,
        l3_cache_schema: Option<Str<'a>>,
        mem_bw_schema: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] schemata: Strs<'a>,
        #[serde(default, deserialize_with = "or_default")] enable_monitoring: bool,
    }

    /// `linux.memoryPolicy`: set_mempolicy(2).
    MemoryPolicy {
        mode: Str<'a>,
        nodes: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] flags: Strs<'a>,
    }

    /// `linux.personality`: personality(2).
    Personality {
        domain: Str<'a>,
        #[serde(default, deserialize_with = "or_default")] flags: Strs<'a>,
    }

    /// `linux.seccomp`.
    Seccomp {
        default_action: Str<'a>,
        default_errno_ret: Option<u32>,
        #[serde(default, deserialize_with = "or_default")] architectures: Strs<'a>,
        flags: Option<Strs<'a>>,
        listener_path: Option<Str<'a>>,
        listener_metadata: Option<Str<'a>>,
        #[serde(default, deserialize_with = "or_default")] syscalls: Vec<SyscallRule<'a>>,
    }

    /// One entry of `linux.seccomp.syscalls`.
    SyscallRule {
        names: Strs<'a>,
        action: Str<'a>,
        errno_ret: Option<u32>,
        #[serde(default, deserialize_with = "or_default")] args: Vec<SyscallArg<'a>>,
    }

    /// One condition on a system call's argument.
    SyscallArg {
        index: u32,
        value: u64,
        value_two: Option<u64>,
        op: Str<'a>,
    }
}

macro_rules! plain_objects {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attr:meta])* $field:ident : $ty:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, PartialEq, De, Serialize)]
            #[serde(rename_all = "camelCase", remote = "Self")]
            pub struct $name { $($(#[$attr])* #[allow(missing_docs)] pub $field: $ty,)* }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    $name::deserialize(Strict(deserializer))
                }
            }

            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    $name::serialize(self, serializer)
                }
            }
        )*
    };
}

plain_objects! {
    /// `process.user`; ids are the container's.
    User {
        uid: u32,
        gid: u32,
        umask: Option<u32>,
        #[serde(default, deserialize_with = "or_default")] additional_gids: Vec<u32>,
    }

    /// `process.consoleSize`, in characters.
    ConsoleSize {
        height: u64,
        width: u64,
    }

    /// A range of ids of a user namespace or an idmapped mount.
    #[derive(Copy, Eq)]
    IdMapping {
        #[serde(rename = "containerID")] container_id: u32,
        #[serde(rename = "hostID")] host_id: u32,
        size: u32,
    }

    /// One value of `linux.timeOffsets`.
    TimeOffset {
        #[serde(default, deserialize_with = "or_default")] secs: i64,
        #[serde(default, deserialize_with = "or_default")] nanosecs: u32,
    }

    /// `linux.resources.memory`; bytes, -1 is unlimited.
    Memory {
        limit: Option<i64>,
        reservation: Option<i64>,
        swap: Option<i64>,
        kernel: Option<i64>,
        #[serde(rename = "kernelTCP")] kernel_tcp: Option<i64>,
        swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller")] disable_oom_killer: Option<bool>,
        use_hierarchy: Option<bool>,
        check_before_update: Option<bool>,
    }

    /// `linux.resources.pids`.
    Pids {
        limit: Option<i64>,
    }

    /// `linux.resources.blockIO`.
    BlockIo {
        weight: Option<u16>,
        leaf_weight: Option<u16>,
        #[serde(default, deserialize_with = "or_default")] weight_device: Vec<WeightDevice>,
        #[serde(default, deserialize_with = "or_default")] throttle_read_bps_device: Vec<ThrottleDevice>,
        #[serde(default, deserialize_with = "or_default")] throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice", default, deserialize_with = "or_default")] throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice", default, deserialize_with = "or_default")] throttle_write_iops_device: Vec<ThrottleDevice>,
    }

    /// One entry of `blockIO.weightDevice`.
    WeightDevice {
        major: i64,
        minor: i64,
        weight: Option<u16>,
        leaf_weight: Option<u16>,
    }

    /// One entry of the four `blockIO.throttle…Device` lists.
    ThrottleDevice {
        major: i64,
        minor: i64,
        rate: u64,
    }

    /// One value of `linux.resources.rdma`.
    Rdma {
        hca_handles: Option<u32>,
        hca_objects: Option<u32>,
    }
}
