//! Full documents, and what the spec says of each of their fields: the tables that [`super::generate`] reads.

use serde_json::{Value, json};

use super::generate::Ends::{Legal, Refused, Untried};
use super::generate::Field;
use super::generate::Kind;
use super::generate::Kind::{Bool, List, Map, Number, Object, Path, Syntax, Text, Word};
use super::generate::Need::{May, Must, Others};

const U16: (i128, i128) = (0, 65_535);
const U32: (i128, i128) = (0, 4_294_967_295);
const U64: (i128, i128) = (0, 18_446_744_073_709_551_615);
const I32: (i128, i128) = (-2_147_483_648, 2_147_483_647);
const I64: (i128, i128) = (-9_223_372_036_854_775_808, 9_223_372_036_854_775_807);
const ID: Kind = Number { type_range: U32, range: (0, 4_294_967_294) };
const FREE_LIST: Kind = List { empty: Legal, twice: Legal, many: Legal };

const fn all(type_range: (i128, i128)) -> Kind {
    Number { type_range, range: type_range }
}

const fn some(type_range: (i128, i128), first: i128, last: i128) -> Kind {
    Number { type_range, range: (first, last) }
}

/// A document with every field that this machine, and any other that runs the tests, can give.
pub fn full(good: &Value, cgroup: &str) -> Value {
    let hook = || json!([{"path": "/bin/true", "args": ["true", "x"], "env": ["A=b"], "timeout": 10}]);
    let caps = json!(["CAP_KILL", "CAP_CHOWN"]);
    let mut document = good.clone();
    document["domainname"] = json!("example.org");
    document["annotations"] = json!({"com.example.key": "value", "a/b~c": "d"});
    document["hooks"] = json!({"prestart": hook(), "createRuntime": hook(), "createContainer": hook(),
        "startContainer": hook(), "poststart": hook(), "poststop": hook()});
    document["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=700"]}]);
    document["process"] = json!({"terminal": false, "consoleSize": {"height": 24, "width": 80},
        "user": {"uid": 0, "gid": 0, "umask": 18, "additionalGids": [5, 6]},
        "args": ["sh", "-c", "true"], "env": ["PATH=/bin", "A=b"], "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "inheritable": caps, "permitted": caps, "ambient": caps},
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
        "noNewPrivileges": true, "oomScoreAdj": 100,
        "scheduler": {"policy": "SCHED_BATCH", "nice": 1, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
        "execCPUAffinity": {"initial": "0", "final": "0"}});
    document["linux"] = json!({
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "uts"},
            {"type": "ipc", "path": ""}],
        "devices": [{"path": "/dev/thing", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
        "cgroupsPath": cgroup,
        "resources": {
            "devices": [{"allow": false, "type": "a", "major": -1, "minor": -1, "access": "rwm"}],
            "memory": {"limit": 200_000_000, "reservation": 100_000_000, "disableOOMKiller": false,
                "useHierarchy": true, "checkBeforeUpdate": false},
            "cpu": {"shares": 512, "quota": 100_000, "period": 100_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 100},
            "blockIO": {"throttleReadBpsDevice": [], "throttleWriteBpsDevice": [], "throttleReadIOPSDevice": [],
                "throttleWriteIOPSDevice": [], "weightDevice": []},
            "hugepageLimits": [], "rdma": {}, "unified": {}, "network": {"priorities": []}},
        "sysctl": {"net.ipv4.ip_forward": "1", "kernel/msgmax": "4096"},
        "rootfsPropagation": "private",
        "maskedPaths": ["/proc/kcore", "/proc/keys"], "readonlyPaths": ["/proc/sys", "/proc/irq"],
        "personality": {"domain": "LINUX", "flags": []},
        "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["mkdir"], "action": "SCMP_ACT_TRACE", "errnoRet": 1}]}});
    document
}

/// What few machines have: fields of a document that is refused for what it asks of the machine, but before that for
/// what is wrong with it.
pub fn rare(good: &Value) -> Value {
    let mut document = good.clone();
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let rate = || json!([{"major": 8, "minor": 0, "rate": 1_000_000}]);
    document["mounts"] = json!([{"destination": "/x", "source": "/tmp", "options": ["bind", "idmap"],
        "uidMappings": ids, "gidMappings": ids}]);
    document["process"] = json!({"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0},
        "apparmorProfile": "docker-default", "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0",
        "scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 2_000_000, "period": 2_000_000}});
    document.as_object_mut().unwrap().remove("hostname");
    document["freebsd"] = json!({"jail": {"vnet": "new"}});
    document["linux"] = json!({
        "namespaces": [{"type": "user"}, {"type": "mount"}, {"type": "uts"}, {"type": "network"}, {"type": "time"}],
        "uidMappings": ids, "gidMappings": ids,
        "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
        "netDevices": {"eth7": {"name": "eth0"}},
        "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0",
        "intelRdt": {"closID": "group", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f"],
            "enableMonitoring": true},
        "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
        "resources": {
            "memory": {"limit": 200_000_000, "swap": 300_000_000, "kernel": -1, "kernelTCP": -1, "swappiness": 10},
            "cpu": {"quota": 100_000, "burst": 1000, "realtimeRuntime": 950_000, "realtimePeriod": 1_000_000, "idle": 1},
            "blockIO": {"weight": 100, "leafWeight": 100,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 100, "leafWeight": 100}],
                "throttleReadBpsDevice": rate(), "throttleWriteBpsDevice": rate(),
                "throttleReadIOPSDevice": rate(), "throttleWriteIOPSDevice": rate()},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaHandles": 1, "hcaObjects": 2}},
            "unified": {"pids.max": "100"}}});
    document
}

#[rustfmt::skip] // one row a line
pub static FIELDS: &[Field] = &[
    Field("/ociVersion", Must, Word(&["", "1.3", "latest", "2.0.0", "0.9.0", "1.03.0", "v1.0.0", "1.0.0.0", "-1.0.0"])),
    Field("/root", Must, Object),
    Field("/root/path", Must, Syntax(&["", "nowhere", "config.json", "../nowhere"])),
    Field("/root/readonly", May, Bool),
    Field("/hostname", May, Text),
    Field("/domainname", May, Text),
    Field("/annotations", May, Map(&[""])),
    Field("/annotations/*", Must, Text),
    Field("/hooks", May, Object),
    Field("/hooks/*", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/hooks/*/*", Must, Object),
    Field("/hooks/*/*/path", Must, Path),
    Field("/hooks/*/*/args", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/hooks/*/*/args/*", Must, Text),
    Field("/hooks/*/*/env", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/hooks/*/*/env/*", Must, Text),
    Field("/hooks/*/*/timeout", May, some(I64, 1, I64.1)),
    Field("/mounts", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/mounts/*", Must, Object),
    Field("/mounts/*/destination", Must, Syntax(&["", "/", "/proc/sys", "/proc/self/../1", "/x/.."])),
    Field("/mounts/*/type", Must, Text),
    Field("/mounts/*/source", May, Text),
    Field("/mounts/*/options", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/mounts/*/options/*", Must, Text),
    Field("/mounts/*/uidMappings", Must, List { empty: Refused, twice: Refused, many: Refused }),
    Field("/mounts/*/gidMappings", Must, List { empty: Refused, twice: Refused, many: Refused }),
    Field("/mounts/*/*/*", Must, Object),
    Field("/mounts/*/*/*/containerID", Must, all(U32)),
    Field("/mounts/*/*/*/hostID", Must, all(U32)),
    Field("/mounts/*/*/*/size", Must, some(U32, 1, 4_294_967_295)),

    Field("/process", May, Object),
    Field("/process/terminal", May, Bool),
    Field("/process/consoleSize", May, Object),
    Field("/process/consoleSize/*", Must, all(U64)),
    Field("/process/user", May, Object),
    Field("/process/user/uid", Must, ID),
    Field("/process/user/gid", Must, ID),
    Field("/process/user/umask", May, some(U32, 0, 511)),
    Field("/process/user/additionalGids", May, List { empty: Legal, twice: Legal, many: Refused }),
    Field("/process/user/additionalGids/*", Must, ID),
    Field("/process/args", Must, List { empty: Refused, twice: Legal, many: Legal }),
    Field("/process/args/*", Must, Text),
    Field("/process/env", May, FREE_LIST),
    Field("/process/env/*", Must, Syntax(&["", "=", "=x"])),
    Field("/process/cwd", Must, Path),
    Field("/process/capabilities", May, Object),
    Field("/process/capabilities/bounding", Others, List { empty: Refused, twice: Legal, many: Refused }),
    Field("/process/capabilities/*", May, FREE_LIST),
    Field("/process/capabilities/*/*", Must, Text),
    Field("/process/rlimits", May, List { empty: Legal, twice: Refused, many: Refused }),
    Field("/process/rlimits/*", Must, Object),
    Field("/process/rlimits/*/type", Must, Word(&["", "CORE", "rlimit_core", "RLIMIT_"])),
    Field("/process/rlimits/*/soft", Must, all(U64)),
    Field("/process/rlimits/*/hard", Must, all(U64)),
    Field("/process/noNewPrivileges", May, Bool),
    Field("/process/oomScoreAdj", May, some(I32, -1000, 1000)),
    Field("/process/apparmorProfile", May, Text),
    Field("/process/selinuxLabel", May, Text),
    Field("/process/scheduler", May, Object),
    Field("/process/scheduler/policy", Must, Word(&["", "BATCH", "sched_batch", "SCHED_ISO"])),
    Field("/process/scheduler/nice", May, some(I32, -20, 19)),
    Field("/process/scheduler/priority", May, some(I32, 0, 0)),
    Field("/process/scheduler/flags", May, List { empty: Legal, twice: Legal, many: Legal }),
    Field("/process/scheduler/flags/*", Must, Word(&["", "RESET_ON_FORK", "SCHED_FLAG_X"])),
    Field("/process/scheduler/*", May, all(U64)),
    Field("/process/ioPriority", May, Object),
    Field("/process/ioPriority/class", Must, Word(&["", "BE", "IOPRIO_CLASS_NONE"])),
    Field("/process/ioPriority/priority", Must, some(I32, 0, 7)),
    Field("/process/execCPUAffinity", May, Object),
    Field("/process/execCPUAffinity/*", May, Syntax(&["-1", "0-", "3-1", "0,,1", "99999999999", "0x1"])),

    Field("/linux", Others, Object),
    Field("/linux/namespaces", Others, List { empty: Untried, twice: Refused, many: Refused }),
    Field("/linux/namespaces/*", Must, Object),
    Field("/linux/namespaces/*/type", Must, Word(&["", "PID", "net", "mnt", "cpu"])),
    Field("/linux/namespaces/*/path", May, Syntax(&["relative", "..", "/nowhere", "/proc/self/ns/uts/x"])),
    Field("/linux/uidMappings", Must, List { empty: Refused, twice: Refused, many: Refused }),
    Field("/linux/gidMappings", Must, List { empty: Refused, twice: Refused, many: Refused }),
    Field("/linux/uidMappings/*", Must, Object),
    Field("/linux/gidMappings/*", Must, Object),
    Field("/linux/uidMappings/*/size", Must, some(U32, 1, 4_294_867_295)),
    Field("/linux/gidMappings/*/size", Must, some(U32, 1, 4_294_867_295)),
    Field("/linux/uidMappings/*/*", Must, some(U32, 0, 4_294_901_759)),
    Field("/linux/gidMappings/*/*", Must, some(U32, 0, 4_294_901_759)),
    Field("/linux/timeOffsets", May, Map(&["", "realtime", "MONOTONIC"])),
    Field("/linux/timeOffsets/*", Must, Object),
    Field("/linux/timeOffsets/*/secs", May, all(I64)),
    Field("/linux/timeOffsets/*/nanosecs", May, some(U32, 0, 999_999_999)),
    Field("/linux/devices", May, List { empty: Legal, twice: Legal, many: Legal }),
    Field("/linux/devices/*", Must, Object),
    Field("/linux/devices/*/path", Must, Path),
    Field("/linux/devices/*/type", Must, Word(&["", "a", "s", "C", "char"])),
    Field("/linux/devices/*/major", Must, some(I64, 0, 4095)),
    Field("/linux/devices/*/minor", Must, some(I64, 0, 1_048_575)),
    Field("/linux/devices/*/fileMode", May, some(U32, 0, 65_535)),
    Field("/linux/devices/*/uid", May, ID),
    Field("/linux/devices/*/gid", May, ID),
    Field("/linux/netDevices", May, Map(&["", ".", "..", "a/b", "a b", "a-name-of-sixteen"])),
    Field("/linux/netDevices/*", Must, Object),
    Field("/linux/netDevices/*/name", May, Syntax(&[".", "..", "a/b", "a-name-of-sixteen"])),
    Field("/linux/cgroupsPath", May, Text),
    Field("/linux/sysctl", May, Map(&["", "kernel.core_pattern", "net/../kernel/core_pattern", "net..ipv4", "net.", ".net", "vm.swappiness", "fs.file-max"])),
    Field("/linux/sysctl/*", Must, Text),
    Field("/linux/rootfsPropagation", May, Word(&["public", "PRIVATE", "rshare"])),
    Field("/linux/maskedPaths", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/linux/maskedPaths/*", Must, Path),
    Field("/linux/readonlyPaths", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/linux/readonlyPaths/*", Must, Path),
    Field("/linux/mountLabel", May, Text),
    Field("/linux/personality", May, Object),
    Field("/linux/personality/domain", Must, Word(&["", "BSD", "linux", "LINUX64"])),
    Field("/linux/personality/flags", May, FREE_LIST),
    Field("/linux/memoryPolicy", May, Object),
    Field("/linux/memoryPolicy/mode", Must, Word(&["", "BIND", "MPOL_MAX"])),
    Field("/linux/memoryPolicy/nodes", Must, Syntax(&["", "-1", "0-", "99999999999"])),
    Field("/linux/memoryPolicy/flags", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/linux/memoryPolicy/flags/*", Must, Word(&["", "MPOL_F_X"])),
    Field("/linux/intelRdt", May, Object),
    Field("/linux/intelRdt/closID", May, Syntax(&[".", "..", "a/b"])),
    Field("/linux/intelRdt/l3CacheSchema", May, Text),
    Field("/linux/intelRdt/memBwSchema", May, Text),
    Field("/linux/intelRdt/schemata", May, List { empty: Legal, twice: Untried, many: Untried }),
    Field("/linux/intelRdt/schemata/*", Must, Text),
    Field("/linux/intelRdt/enableMonitoring", May, Bool),

    Field("/linux/seccomp", May, Object),
    Field("/linux/seccomp/defaultAction", Must, Word(&["", "ALLOW", "SCMP_ACT_DENY", "scmp_act_allow"])),
    Field("/linux/seccomp/defaultErrnoRet", May, some(U32, 0, 4095)),
    Field("/linux/seccomp/architectures", May, FREE_LIST),
    Field("/linux/seccomp/architectures/*", Must, Word(&["", "x86", "SCMP_ARCH_AMD64"])),
    Field("/linux/seccomp/flags", May, FREE_LIST),
    Field("/linux/seccomp/flags/*", Must, Word(&["", "LOG", "SECCOMP_FILTER_FLAG_NEW_LISTENER"])),
    Field("/linux/seccomp/syscalls", May, List { empty: Legal, twice: Legal, many: Refused }),
    Field("/linux/seccomp/syscalls/*", Must, Object),
    Field("/linux/seccomp/syscalls/*/names", Must, List { empty: Refused, twice: Legal, many: Untried }),
    Field("/linux/seccomp/syscalls/*/names/*", Must, Text),
    Field("/linux/seccomp/syscalls/*/action", Must, Word(&["", "TRAP", "SCMP_ACT_DENY"])),
    Field("/linux/seccomp/syscalls/*/errnoRet", May, some(U32, 0, 65_535)),
    Field("/linux/seccomp/syscalls/*/args", May, List { empty: Legal, twice: Legal, many: Refused }),
    Field("/linux/seccomp/syscalls/*/args/*", Must, Object),
    Field("/linux/seccomp/syscalls/*/args/*/index", Must, some(U32, 0, 5)),
    Field("/linux/seccomp/syscalls/*/args/*/value", Must, all(U64)),
    Field("/linux/seccomp/syscalls/*/args/*/valueTwo", May, all(U64)),
    Field("/linux/seccomp/syscalls/*/args/*/op", Must, Word(&["", "==", "EQ", "SCMP_CMP_XX"])),

    Field("/linux/resources", May, Object),
    Field("/linux/resources/devices", May, List { empty: Legal, twice: Legal, many: Untried }),
    Field("/linux/resources/devices/*", Must, Object),
    Field("/linux/resources/devices/*/allow", Must, Bool),
    Field("/linux/resources/devices/*/type", May, Word(&["p", "A", "char"])),
    Field("/linux/resources/devices/*/major", May, some(I64, -1, 4_294_967_295)),
    Field("/linux/resources/devices/*/minor", May, some(I64, -1, 4_294_967_295)),
    Field("/linux/resources/devices/*/access", May, Syntax(&["x", "rwx", "R"])),
    Field("/linux/resources/memory", May, Object),
    Field("/linux/resources/memory/swappiness", May, some(U64, 0, 100)),
    Field("/linux/resources/memory/disableOOMKiller", May, Bool),
    Field("/linux/resources/memory/useHierarchy", May, Bool),
    Field("/linux/resources/memory/checkBeforeUpdate", May, Bool),
    Field("/linux/resources/memory/*", May, some(I64, -1, I64.1)),
    Field("/linux/resources/cpu", May, Object),
    Field("/linux/resources/cpu/cpus", May, Syntax(&["all", "-1", "0-", "3-1", "0,,1"])),
    Field("/linux/resources/cpu/mems", May, Syntax(&["all", "-1", "0-", "3-1", "0,,1"])),
    Field("/linux/resources/cpu/quota", May, all(I64)),
    Field("/linux/resources/cpu/realtimeRuntime", May, all(I64)),
    Field("/linux/resources/cpu/idle", May, some(I64, 0, 1)),
    Field("/linux/resources/cpu/*", May, all(U64)),
    Field("/linux/resources/pids", May, Object),
    Field("/linux/resources/pids/limit", May, some(I64, -1, I64.1)),
    Field("/linux/resources/blockIO", May, Object),
    Field("/linux/resources/blockIO/weight", May, some(U16, 10, 1000)),
    Field("/linux/resources/blockIO/leafWeight", May, some(U16, 10, 1000)),
    Field("/linux/resources/blockIO/*", May, List { empty: Legal, twice: Untried, many: Untried }),
    Field("/linux/resources/blockIO/*/*", Must, Object),
    Field("/linux/resources/blockIO/*/*/major", Must, some(I64, 0, 4_294_967_295)),
    Field("/linux/resources/blockIO/*/*/minor", Must, some(I64, 0, 4_294_967_295)),
    Field("/linux/resources/blockIO/*/*/rate", Must, all(U64)),
    Field("/linux/resources/blockIO/*/*/*", May, some(U16, 10, 1000)),
    Field("/linux/resources/hugepageLimits", May, List { empty: Legal, twice: Untried, many: Untried }),
    Field("/linux/resources/hugepageLimits/*", Must, Object),
    Field("/linux/resources/hugepageLimits/*/pageSize", Must, Syntax(&["", "big", "../2MB", "2 MB", "-2MB"])),
    Field("/linux/resources/hugepageLimits/*/limit", Must, all(U64)),
    Field("/linux/resources/network", May, Object),
    Field("/linux/resources/network/classID", May, all(U32)),
    Field("/linux/resources/network/priorities", May, List { empty: Legal, twice: Untried, many: Untried }),
    Field("/linux/resources/network/priorities/*", Must, Object),
    Field("/linux/resources/network/priorities/*/name", Must, Syntax(&["", "a/b", "eth 0", "a-name-of-sixteen"])),
    Field("/linux/resources/network/priorities/*/priority", Must, all(U32)),
    Field("/linux/resources/rdma", May, Map(&["", "a/b", "a b", "a\nb"])),
    Field("/linux/resources/rdma/*", Must, Object),
    Field("/linux/resources/rdma/*/*", May, all(U32)),
    Field("/linux/resources/unified", May, Map(&["", "..", "../pids.max", "a/b", "pids.max\n", ".x"])),
    Field("/linux/resources/unified/*", Must, Text),

    Field("/freebsd", May, Object),
    Field("/freebsd/jail", May, Object),
    Field("/freebsd/jail/vnet", May, Word(&["", "old"])),
];
