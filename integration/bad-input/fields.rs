//! One wrong field at a time: what is changed in the document of `rt spec`, and what is said.

#![allow(clippy::needless_pass_by_value)] // rows read better without references

use std::path::Path;

use serde_json::{Value, json};

use super::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = types();
    cases.extend(missing());
    cases.extend(document());
    cases.extend(process());
    cases.extend(mounts());
    cases.extend(namespaces());
    cases.extend(devices());
    cases.extend(seccomp());
    cases.extend(resources());
    cases.extend(host());
    cases
}

fn mount(mount: Value) -> Value {
    json!({"mounts": [mount]})
}

fn hook(hook: Value) -> Value {
    json!({"hooks": {"createRuntime": [hook]}})
}

fn limits(resources: Value) -> Value {
    json!({"linux": {"resources": resources}})
}

fn filter(syscall: Value) -> Value {
    json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [syscall]}}})
}

fn user_namespace(uids: Value) -> Value {
    json!({"linux": {"namespaces": [{"type": "user"}, {"type": "mount"}, {"type": "uts"}, {"type": "pid"}],
        "uidMappings": uids, "gidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65536}]}})
}

fn types() -> Vec<Case> {
    let object = "must be an object";
    let list = "must be a list";
    let text = "must be a string";
    let number = "must be a whole number";
    vec![
        case("ociVersion: number", json!({"ociVersion": 1.3}), "/ociVersion", text),
        case("root: string", json!({"root": "rootfs"}), "/root", object),
        case("root: list", json!({"root": ["rootfs", true]}), "/root", object),
        case("readonly: string", json!({"root": {"readonly": "true"}}), "/root/readonly", "must be a boolean"),
        case("hostname: list", json!({"hostname": ["h"]}), "/hostname", text),
        case("mounts: object", json!({"mounts": {"destination": "/x"}}), "/mounts", list),
        case("a mount: string", json!({"mounts": ["/x"]}), "/mounts/0", object),
        case("options: string", mount(json!({"destination": "/x", "type": "tmpfs", "options": "ro"})), "/mounts/0/options", list),
        case("an option: number", mount(json!({"destination": "/x", "type": "tmpfs", "options": ["ro", 7]})), "/mounts/0/options/1", text),
        case("process: list", json!({"process": []}), "/process", object),
        case("terminal: number", json!({"process": {"terminal": 0}}), "/process/terminal", "must be a boolean"),
        case("args: string", json!({"process": {"args": "sh"}}), "/process/args", list),
        case("an argument: number", json!({"process": {"args": ["sleep", 10]}}), "/process/args/1", text),
        case("env: object", json!({"process": {"env": {"PATH": "/bin"}}}), "/process/env", list),
        case("user: list", json!({"process": {"user": [0, 0, null, []]}}), "/process/user", object),
        case("user: string", json!({"process": {"user": "root"}}), "/process/user", object),
        case("uid: string", json!({"process": {"user": {"uid": "0"}}}), "/process/user/uid", number),
        case("uid: fraction", json!({"process": {"user": {"uid": 0.5}}}), "/process/user/uid", number),
        case("uid: negative", json!({"process": {"user": {"uid": -1}}}), "/process/user/uid", "0..4294967295, is integer -1"),
        case("gid: 2^32", json!({"process": {"user": {"gid": 4_294_967_296_u64}}}), "/process/user/gid", "is integer 4294967296"),
        case("umask: string", json!({"process": {"user": {"umask": "022"}}}), "/process/user/umask", number),
        case("a group: negative", json!({"process": {"user": {"additionalGids": [5, -6]}}}), "/process/user/additionalGids/1", number),
        case("a capability: number", json!({"process": {"capabilities": {"ambient": [12]}}}), "/process/capabilities/ambient/0", text),
        case("capabilities: list", json!({"process": {"capabilities": ["CAP_KILL"]}}), "/process/capabilities", object),
        case("soft limit: negative", json!({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": -1, "hard": 1}]}}), "/process/rlimits/0/soft", number),
        case("hard limit: 2^64", json!({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 18_446_744_073_709_551_616_f64}]}}), "/process/rlimits/0/hard", number),
        case("oomScoreAdj: 2^31", json!({"process": {"oomScoreAdj": 2_147_483_648_u64}}), "/process/oomScoreAdj", number),
        case("consoleSize: negative", json!({"process": {"consoleSize": {"height": -1, "width": 80}}}), "/process/consoleSize/height", number),
        case("hooks: list", json!({"hooks": [{"path": "/bin/true"}]}), "/hooks", object),
        case("createRuntime: object", json!({"hooks": {"createRuntime": {"path": "/bin/true"}}}), "/hooks/createRuntime", list),
        case("timeout: string", hook(json!({"path": "/bin/true", "timeout": "5"})), "/hooks/createRuntime/0/timeout", number),
        case("annotations: list", json!({"annotations": ["a"]}), "/annotations", object),
        case("an annotation: number", json!({"annotations": {"a/b~c": 1}}), "/annotations/a~1b~0c", text),
        case("linux: string", json!({"linux": "yes"}), "/linux", object),
        case("namespaces: object", json!({"linux": {"namespaces": {"pid": true}}}), "/linux/namespaces", list),
        case("a sysctl: number", json!({"linux": {"sysctl": {"net.ipv4.ip_forward": 1}}}), "/linux/sysctl/net.ipv4.ip_forward", text),
        case("hostID: negative", user_namespace(json!([{"containerID": 0, "hostID": -1, "size": 1}])), "/linux/uidMappings/0/hostID", number),
        case("fileMode: string", json!({"linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": "0666"}]}}), "/linux/devices/0/fileMode", number),
        case("memory limit: string", limits(json!({"memory": {"limit": "1G"}})), "/linux/resources/memory/limit", number),
        case("memory limit: 2^63", limits(json!({"memory": {"limit": 9_223_372_036_854_775_808_u64}})), "/linux/resources/memory/limit", number),
        case("cpu shares: negative", limits(json!({"cpu": {"shares": -1}})), "/linux/resources/cpu/shares", number),
        case("weight: 65536", limits(json!({"blockIO": {"weight": 65536}})), "/linux/resources/blockIO/weight", "0..65535"),
        case("rate: negative", limits(json!({"blockIO": {"throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": -1}]}})), "/linux/resources/blockIO/throttleReadBpsDevice/0/rate", number),
        case("allow: string", limits(json!({"devices": [{"allow": "false"}]})), "/linux/resources/devices/0/allow", "must be a boolean"),
        case("unified: number", limits(json!({"unified": {"pids.max": 7}})), "/linux/resources/unified/pids.max", text),
        case("seccomp: list", json!({"linux": {"seccomp": []}}), "/linux/seccomp", object),
        case("seccomp value: 2^64", filter(json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1e20, "op": "SCMP_CMP_EQ"}]})), "/linux/seccomp/syscalls/0/args/0/value", number),
        case("nanosecs: negative", json!({"linux": {"namespaces": [{"type": "time"}, {"type": "uts"}, {"type": "mount"}], "timeOffsets": {"monotonic": {"nanosecs": -1}}}}), "/linux/timeOffsets/monotonic/nanosecs", number),
        case("maskedPaths: string", json!({"linux": {"maskedPaths": "/proc/kcore"}}), "/linux/maskedPaths", list),
        case("netDevices: list", json!({"linux": {"netDevices": ["eth0"]}}), "/linux/netDevices", object),
    ]
}

fn missing() -> Vec<Case> {
    let missing = "is required and missing";
    vec![
        case("no ociVersion", json!({"ociVersion": null}), "/ociVersion", missing),
        case("no root", json!({"root": null}), "/root", missing),
        case("no root path", json!({"root": {"path": null}}), "/root/path", missing),
        case("no cwd", json!({"process": {"cwd": null}}), "/process/cwd", missing),
        case("no args", json!({"process": {"args": null}}), "/process/args", "at least the program"),
        case("no uid", json!({"process": {"user": {"uid": null}}}), "/process/user/uid", missing),
        case("no gid", json!({"process": {"user": {"gid": null}}}), "/process/user/gid", missing),
        case("no destination", mount(json!({"type": "tmpfs"})), "/mounts/0/destination", missing),
        case("no type", mount(json!({"destination": "/x"})), "/mounts/0/type", missing),
        case("no hook path", hook(json!({"args": ["x"]})), "/hooks/createRuntime/0/path", missing),
        case("no hard limit", json!({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0}]}}), "/process/rlimits/0/hard", missing),
        case("no console height", json!({"process": {"consoleSize": {"width": 80}}}), "/process/consoleSize/height", missing),
        case("no namespace type", json!({"linux": {"namespaces": [{"type": "uts"}, {"path": "/x"}]}}), "/linux/namespaces/1/type", missing),
        case("no size", user_namespace(json!([{"containerID": 0, "hostID": 0}])), "/linux/uidMappings/0/size", missing),
        case("no device path", json!({"linux": {"devices": [{"type": "p"}]}}), "/linux/devices/0/path", missing),
        case("no device major", json!({"linux": {"devices": [{"type": "c", "path": "/dev/x", "minor": 1}]}}), "/linux/devices/0/major", missing),
        case("no allow", limits(json!({"devices": [{"access": "r"}]})), "/linux/resources/devices/0/allow", missing),
        case("no rate", limits(json!({"blockIO": {"throttleWriteIOPSDevice": [{"major": 1, "minor": 1}]}})), "/linux/resources/blockIO/throttleWriteIOPSDevice/0/rate", missing),
        case("no page size", limits(json!({"hugepageLimits": [{"limit": 1}]})), "/linux/resources/hugepageLimits/0/pageSize", missing),
        case("no priority", limits(json!({"network": {"priorities": [{"name": "lo"}]}})), "/linux/resources/network/priorities/0/priority", missing),
        case("no default action", json!({"linux": {"seccomp": {"syscalls": []}}}), "/linux/seccomp/defaultAction", missing),
        case("no names", filter(json!({"action": "SCMP_ACT_LOG"})), "/linux/seccomp/syscalls/0/names", missing),
        case("no operator", filter(json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1}]})), "/linux/seccomp/syscalls/0/args/0/op", missing),
        case("no policy", json!({"process": {"scheduler": {"nice": 1}}}), "/process/scheduler/policy", missing),
        case("no io class", json!({"process": {"ioPriority": {"priority": 1}}}), "/process/ioPriority/class", missing),
        case("no memory mode", json!({"linux": {"memoryPolicy": {"nodes": "0"}}}), "/linux/memoryPolicy/mode", missing),
        case("no domain", json!({"linux": {"personality": {"flags": []}}}), "/linux/personality/domain", missing),
    ]
}

fn document() -> Vec<Case> {
    let nul = "must not hold a NUL";
    vec![
        case("ociVersion: no number", json!({"ociVersion": "latest"}), "/ociVersion", "must be a version"),
        case("ociVersion: two numbers", json!({"ociVersion": "1.3"}), "/ociVersion", "must be a version"),
        case("ociVersion: a leading zero", json!({"ociVersion": "1.03.0"}), "/ociVersion", "must be a version"),
        case("ociVersion: of the future", json!({"ociVersion": "2.0.0"}), "/ociVersion", "this runtime speaks 1.x"),
        case("ociVersion: of the past", json!({"ociVersion": "0.2.0"}), "/ociVersion", "this runtime speaks 1.x"),
        case("ociVersion: empty", json!({"ociVersion": ""}), "/ociVersion", "must be a version"),
        case("root: empty", json!({"root": {"path": ""}}), "/root/path", "must not be empty"),
        case("root: not there", json!({"root": {"path": "nowhere"}}), "/root/path", "is no directory"),
        case("root: a file", json!({"root": {"path": "config.json"}}), "/root/path", "is no directory"),
        case("root: NUL", json!({"root": {"path": "root\0fs"}}), "/root/path", nul),
        case("args: NUL", json!({"process": {"args": ["sh", "-c", "a\0b"]}}), "/process/args/2", nul),
        case("env: NUL", json!({"process": {"env": ["A=\0"]}}), "/process/env/0", nul),
        case("annotation: NUL", json!({"annotations": {"a": "\0"}}), "/annotations/a", nul),
        case("mount data: NUL", mount(json!({"destination": "/x", "type": "tmpfs", "options": ["size=1\0"]})), "/mounts/0/options/0", nul),
        case("hook: NUL", hook(json!({"path": "/bin/true\0"})), "/hooks/createRuntime/0/path", nul),
        case("annotation: empty key", json!({"annotations": {"": "x"}}), "/annotations", "a key must not be empty"),
        case("hostname: no uts namespace", json!({"hostname": "h", "linux": {"namespaces": [{"type": "mount"}]}}), "/hostname", "needs a uts namespace"),
        case("domainname: no uts namespace", json!({"hostname": null, "domainname": "d", "linux": {"namespaces": [{"type": "mount"}]}}), "/domainname", "needs a uts namespace"),
        case("hostname: too long", json!({"hostname": "h".repeat(65)}), "/hostname", "at most 64 bytes"),
        case("hook: relative", hook(json!({"path": "bin/true"})), "/hooks/createRuntime/0/path", "must be absolute"),
        case("hook: empty", hook(json!({"path": ""})), "/hooks/createRuntime/0/path", "must be absolute"),
        case("hook: timeout 0", hook(json!({"path": "/bin/true", "timeout": 0})), "/hooks/createRuntime/0/timeout", "must be above 0"),
        case("hook: timeout negative", json!({"hooks": {"poststop": [{"path": "/bin/true", "timeout": -1}]}}), "/hooks/poststop/0/timeout", "must be above 0"),
    ]
}

fn process() -> Vec<Case> {
    let scheduler = |scheduler: Value| json!({"process": {"scheduler": scheduler}});
    vec![
        case("cwd: relative", json!({"process": {"cwd": "tmp"}}), "/process/cwd", "must be absolute"),
        case("cwd: empty", json!({"process": {"cwd": ""}}), "/process/cwd", "must be absolute"),
        case("args: empty list", json!({"process": {"args": []}}), "/process/args", "at least the program"),
        case("args: empty program", json!({"process": {"args": ["", "x"]}}), "/process/args/0", "must not be empty"),
        case("env: no =", json!({"process": {"env": ["PATH=/bin", "HOME"]}}), "/process/env/1", "must be NAME=VALUE"),
        case("env: no name", json!({"process": {"env": ["=x"]}}), "/process/env/0", "must be NAME=VALUE"),
        case("uid: 2^32-1", json!({"process": {"user": {"uid": u32::MAX}}}), "/process/user/uid", "0..4294967294"),
        case("gid: 2^32-1", json!({"process": {"user": {"gid": u32::MAX}}}), "/process/user/gid", "0..4294967294"),
        case("group: 2^32-1", json!({"process": {"user": {"additionalGids": [u32::MAX]}}}), "/process/user/additionalGids/0", "0..4294967294"),
        case("umask: 01000", json!({"process": {"user": {"umask": 512}}}), "/process/user/umask", "octal 777"),
        case("rlimit: unknown", json!({"process": {"rlimits": [{"type": "RLIMIT_FOO", "soft": 0, "hard": 0}]}}), "/process/rlimits/0/type", "no resource"),
        case("rlimit: lower case", json!({"process": {"rlimits": [{"type": "rlimit_core", "soft": 0, "hard": 0}]}}), "/process/rlimits/0/type", "no resource"),
        case("rlimit: twice", json!({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]}}), "/process/rlimits/1/type", "twice"),
        case("rlimit: soft above hard", json!({"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}]}}), "/process/rlimits/0/soft", "must not be above hard"),
        case("oomScoreAdj: 1001", json!({"process": {"oomScoreAdj": 1001}}), "/process/oomScoreAdj", "-1000..1000"),
        case("policy: unknown", scheduler(json!({"policy": "SCHED_EXT"})), "/process/scheduler/policy", "no policy"),
        case("policy: reserved", scheduler(json!({"policy": "SCHED_ISO"})), "/process/scheduler/policy", "Linux does not have it"),
        case("nice: 20", scheduler(json!({"policy": "SCHED_OTHER", "nice": 20})), "/process/scheduler/nice", "-20..19"),
        case("priority: 100", scheduler(json!({"policy": "SCHED_FIFO", "priority": 100})), "/process/scheduler/priority", "1..99"),
        case("priority: not real-time", scheduler(json!({"policy": "SCHED_BATCH", "priority": 1})), "/process/scheduler/priority", "0..0"),
        case("flag: unknown", scheduler(json!({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]})), "/process/scheduler/flags", "no flag"),
        case("deadline: runtime above it", scheduler(json!({"policy": "SCHED_DEADLINE", "runtime": 3000, "deadline": 2000})), "/process/scheduler/runtime", "runtime <= deadline"),
        case("runtime: not deadline", scheduler(json!({"policy": "SCHED_OTHER", "runtime": 3000})), "/process/scheduler/runtime", "SCHED_DEADLINE only"),
        case("io class: unknown", json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_NONE", "priority": 0}}}), "/process/ioPriority/class", "IOPRIO_CLASS_BE"),
        case("io priority: 8", json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}}), "/process/ioPriority/priority", "0..7"),
        case("cpus: no list", json!({"process": {"execCPUAffinity": {"initial": "0-"}}}), "/process/execCPUAffinity/initial", "must be a list"),
        case("cpus: backwards", json!({"process": {"execCPUAffinity": {"final": "3-1"}}}), "/process/execCPUAffinity/final", "must be a list"),
    ]
}

fn mounts() -> Vec<Case> {
    let bind = |options: Value| mount(json!({"destination": "/x", "source": "/tmp", "options": options}));
    let ids = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    vec![
        case("mount on /proc/sys", mount(json!({"destination": "/proc/sys/net", "type": "tmpfs"})), "/mounts/0/destination", "inside /proc"),
        case("mount on /proc/self by ..", mount(json!({"destination": "/dev/../proc//self/", "type": "tmpfs"})), "/mounts/0/destination", "/proc/self is inside /proc"),
        case("bind on /proc/1/attr", mount(json!({"destination": "proc/1/attr", "source": "/tmp", "options": ["bind"]})), "/mounts/0/destination", "inside /proc"),
        case("mount on /", mount(json!({"destination": "/x/..", "type": "tmpfs"})), "/mounts/0/destination", "must lie below /"),
        case("mount on nothing", mount(json!({"destination": "", "type": "tmpfs"})), "/mounts/0/destination", "must not be empty"),
        case("bind without source", mount(json!({"destination": "/x", "options": ["rbind"]})), "/mounts/0/source", "needs a source"),
        case("bind of what is not there", mount(json!({"destination": "/x", "source": "/no/such", "options": ["bind"]})), "/mounts/0", "/no/such"),
        case("unknown file system", mount(json!({"destination": "/x", "type": "nosuchfs"})), "/mounts/0", "nosuchfs"),
        case("tmpcopyup of a bind mount", bind(json!(["bind", "tmpcopyup"])), "/mounts/0/options", "tmpfs only"),
        case("idmap of a tmpfs", mount(json!({"destination": "/x", "type": "tmpfs", "options": ["idmap"]})), "/mounts/0/options", "only a bind mount"),
        case("idmap without ids", bind(json!(["bind", "ridmap"])), "/mounts/0/options", "idmap needs uidMappings"),
        case("uids without gids", mount(json!({"destination": "/x", "source": "/tmp", "options": ["bind", "idmap"], "uidMappings": ids})), "/mounts/0/gidMappings", "required beside"),
        case("gids without uids", mount(json!({"destination": "/x", "source": "/tmp", "options": ["bind", "idmap"], "gidMappings": ids})), "/mounts/0/uidMappings", "required beside"),
        case("ids of a mount: empty", mount(json!({"destination": "/x", "source": "/tmp", "options": ["bind", "idmap"], "uidMappings": [], "gidMappings": ids})), "/mounts/0/uidMappings", "at least one range"),
        case("propagation: unknown", json!({"linux": {"rootfsPropagation": "public"}}), "/linux/rootfsPropagation", "shared, slave, private"),
        case("masked path: relative", json!({"linux": {"maskedPaths": ["/proc/kcore", "proc/keys"]}}), "/linux/maskedPaths/1", "must be absolute"),
        case("read-only path: relative", json!({"linux": {"readonlyPaths": ["proc/sys"]}}), "/linux/readonlyPaths/0", "must be absolute"),
        case("read-only path: empty", json!({"linux": {"readonlyPaths": [""]}}), "/linux/readonlyPaths/0", "must be absolute"),
    ]
}

fn namespaces() -> Vec<Case> {
    let range = |inside: u64, outside: u64, size: u64| json!({"containerID": inside, "hostID": outside, "size": size});
    let sysctl = |name: &str| json!({"linux": {"sysctl": {name: "1"}}});
    let without_net = |name: &str| json!({"linux": {"sysctl": {name: "1"}, "namespaces": [{"type": "uts"}, {"type": "mount"}]}});
    let time = json!([{"type": "time"}, {"type": "uts"}, {"type": "mount"}]);
    let lines: Vec<Value> = (0..6000).map(|n| range(n, n, 1)).collect();
    vec![
        case("namespace: unknown", json!({"linux": {"namespaces": [{"type": "uts"}, {"type": "cpu"}]}}), "/linux/namespaces/1/type", "pid, network"),
        case("namespace: upper case", json!({"linux": {"namespaces": [{"type": "uts"}, {"type": "PID"}]}}), "/linux/namespaces/1/type", "pid, network"),
        case("namespace: twice", json!({"linux": {"namespaces": [{"type": "uts"}, {"type": "pid"}, {"type": "pid"}]}}), "/linux/namespaces/2/type", "twice"),
        case("namespace: twice, one joined", json!({"linux": {"namespaces": [{"type": "uts"}, {"type": "uts", "path": "/proc/self/ns/uts"}]}}), "/linux/namespaces/1/type", "twice"),
        case("namespace: relative path", json!({"linux": {"namespaces": [{"type": "uts"}, {"type": "ipc", "path": "proc/self/ns/ipc"}]}}), "/linux/namespaces/1/path", "must be absolute"),
        case("namespace: gone", json!({"linux": {"namespaces": [{"type": "uts"}, {"type": "mount"}, {"type": "ipc", "path": "/proc/999999999/ns/ipc"}]}}), "/linux/namespaces/2/path", "/proc/999999999/ns/ipc"),
        case("uid map: empty", user_namespace(json!([])), "/linux/uidMappings", "at least one range"),
        case("uid map: size 0", user_namespace(json!([range(0, 0, 0)])), "/linux/uidMappings/0/size", "above 0"),
        case("uid map: past the end", user_namespace(json!([range(0, 4_294_967_295, 2)])), "/linux/uidMappings/0", "end below"),
        case("uid map: overlap inside", user_namespace(json!([range(0, 1000, 10), range(5, 2000, 10)])), "/linux/uidMappings/1/containerID", "overlaps with entry 0"),
        case("uid map: overlap outside", user_namespace(json!([range(100, 1000, 10), range(0, 1009, 10)])), "/linux/uidMappings/1/hostID", "overlaps with entry 0"),
        // CVE-2021-43784: the length of so many lines wrapped in 16 bits.
        case("uid map: 6000 lines", user_namespace(json!(lines)), "/linux/uidMappings", "at most 340"),
        case("uid map: no user namespace", json!({"linux": {"uidMappings": [range(0, 0, 1)]}}), "/linux/uidMappings", "needs a user namespace"),
        case("time: no namespace", json!({"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}}), "/linux/timeOffsets", "needs a new time namespace"),
        case("time: unknown clock", json!({"linux": {"namespaces": time, "timeOffsets": {"realtime": {"secs": 1}}}}), "/linux/timeOffsets/realtime", "monotonic and boottime"),
        case("time: 10^9 ns", json!({"linux": {"namespaces": time, "timeOffsets": {"boottime": {"nanosecs": 1_000_000_000}}}}), "/linux/timeOffsets/boottime/nanosecs", "0..999999999"),
        case("sysctl: of the host", sysctl("kernel.core_pattern"), "/linux/sysctl/kernel.core_pattern", "would change the host"),
        case("sysctl: of the host, by slashes", sysctl("kernel/core_pattern"), "/linux/sysctl/kernel~1core_pattern", "would change the host"),
        case("sysctl: vm", sysctl("vm.overcommit_memory"), "/linux/sysctl/vm.overcommit_memory", "would change the host"),
        case("sysctl: climbs", sysctl("net/../kernel/core_pattern"), "/linux/sysctl/net~1..~1kernel~1core_pattern", "is no name"),
        case("sysctl: empty part", sysctl("net..ipv4"), "/linux/sysctl/net..ipv4", "is no name"),
        case("sysctl: empty", sysctl(""), "/linux/sysctl/", "is no name"),
        case("sysctl: net of the host", without_net("net.ipv4.ip_forward"), "/linux/sysctl/net.ipv4.ip_forward", "needs a network namespace"),
        case("sysctl: ipc of the host", without_net("kernel.shmmax"), "/linux/sysctl/kernel.shmmax", "needs a ipc namespace"),
        case("sysctl: hostname twice", sysctl("kernel.hostname"), "/linux/sysctl/kernel.hostname", "contradict"),
    ]
}

fn devices() -> Vec<Case> {
    let device = |device: Value| json!({"linux": {"devices": [device]}});
    let net = |name: &str, new: &str| json!({"linux": {"netDevices": {name: {"name": new}}}});
    let policy = |policy: Value| json!({"linux": {"memoryPolicy": policy}});
    let rdt = |rdt: Value| json!({"linux": {"intelRdt": rdt}});
    vec![
        case("device: unknown type", device(json!({"path": "/dev/x", "type": "s", "major": 1, "minor": 3})), "/linux/devices/0/type", "c, b, u or p"),
        case("device: type a", device(json!({"path": "/dev/x", "type": "a", "major": 1, "minor": 3})), "/linux/devices/0/type", "c, b, u or p"),
        case("device: relative", device(json!({"path": "dev/x", "type": "p"})), "/linux/devices/0/path", "absolute path of a file"),
        case("device: the root", device(json!({"path": "/dev/..", "type": "p"})), "/linux/devices/0/path", "absolute path of a file"),
        case("device: major -1", device(json!({"path": "/dev/x", "type": "c", "major": -1, "minor": 3})), "/linux/devices/0/major", "0..4095"),
        case("device: minor 2^20", device(json!({"path": "/dev/x", "type": "b", "major": 8, "minor": 1_048_576})), "/linux/devices/0/minor", "0..1048575"),
        case("device: mode 2^16", device(json!({"path": "/dev/x", "type": "p", "fileMode": 65536})), "/linux/devices/0/fileMode", "0..65535"),
        case("device: uid 2^32-1", device(json!({"path": "/dev/x", "type": "p", "uid": u32::MAX})), "/linux/devices/0/uid", "0..4294967294"),
        case("network device: long name", net("eth0", "a-name-of-sixteen"), "/linux/netDevices/eth0/name", "no name of a network device"),
        case("network device: slash", net("a/b", "eth0"), "/linux/netDevices/a~1b", "no name of a network device"),
        case("network device: no namespace", json!({"linux": {"namespaces": [{"type": "uts"}], "netDevices": {"eth0": {}}}}), "/linux/netDevices", "needs a network namespace"),
        case("personality: unknown", json!({"linux": {"personality": {"domain": "BSD"}}}), "/linux/personality/domain", "LINUX or LINUX32"),
        case("personality: flags", json!({"linux": {"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}}}), "/linux/personality/flags/0", "knows no flags"),
        case("memory policy: unknown", policy(json!({"mode": "MPOL_MAX"})), "/linux/memoryPolicy/mode", "no mode"),
        case("memory policy: no nodes", policy(json!({"mode": "MPOL_BIND"})), "/linux/memoryPolicy/nodes", "at least one node"),
        case("memory policy: needless nodes", policy(json!({"mode": "MPOL_LOCAL", "nodes": "0"})), "/linux/memoryPolicy/nodes", "must be empty"),
        case("memory policy: node list", policy(json!({"mode": "MPOL_BIND", "nodes": "0-99999999999"})), "/linux/memoryPolicy/nodes", "must be a list"),
        case("memory policy: flag", policy(json!({"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_X"]})), "/linux/memoryPolicy/flags", "no flag"),
        case("memory policy: flags", policy(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]})), "/linux/memoryPolicy/flags", "exclude each other"),
        case("rdt: class with a slash", rdt(json!({"closID": "a/b"})), "/linux/intelRdt/closID", "without a slash"),
        case("rdt: class ..", rdt(json!({"closID": ".."})), "/linux/intelRdt/closID", "without a slash"),
        case("rdt: schema of something else", rdt(json!({"memBwSchema": "L3:0=f"})), "/linux/intelRdt/memBwSchema", "must start with MB:"),
        case("rdt: newline", rdt(json!({"schemata": ["L3:0=f\nL2:0=f"]})), "/linux/intelRdt/schemata/0", "newline"),
    ]
}

fn seccomp() -> Vec<Case> {
    let profile = |profile: Value| json!({"linux": {"seccomp": profile}});
    let arg = |arg: Value| filter(json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [arg]}));
    vec![
        case("default action", profile(json!({"defaultAction": "SCMP_ACT_DENY"})), "/linux/seccomp/defaultAction", "not an action"),
        case("default action: notify", profile(json!({"defaultAction": "SCMP_ACT_NOTIFY"})), "/linux/seccomp/listenerPath", "is required with SCMP_ACT_NOTIFY"),
        case("action", filter(json!({"names": ["read"], "action": "allow"})), "/linux/seccomp/syscalls/0/action", "not an action"),
        case("architecture", profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "amd64"]})), "/linux/seccomp/architectures/1", "not an architecture"),
        case("flag", profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]})), "/linux/seccomp/flags/0", "not a flag"),
        case("operator", arg(json!({"index": 0, "value": 1, "op": "=="})), "/linux/seccomp/syscalls/0/args/0/op", "not an operator"),
        case("index 6", arg(json!({"index": 6, "value": 1, "op": "SCMP_CMP_EQ"})), "/linux/seccomp/syscalls/0/args/0/index", "0 to 5"),
        case("no names at all", filter(json!({"names": [], "action": "SCMP_ACT_LOG"})), "/linux/seccomp/syscalls/0/names", "at least one"),
        case("an empty name", filter(json!({"names": ["read", ""], "action": "SCMP_ACT_LOG"})), "/linux/seccomp/syscalls/0/names/1", "empty"),
        case("errno of an action without one", filter(json!({"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1})), "/linux/seccomp/syscalls/0/errnoRet", "takes no error number"),
        case("default errno of allow", profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1})), "/linux/seccomp/defaultErrnoRet", "takes no error number"),
        case("errno 4096", filter(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})), "/linux/seccomp/syscalls/0/errnoRet", "too large"),
        case("metadata without a listener", profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"})), "/linux/seccomp/listenerMetadata", "together with listenerPath"),
    ]
}

fn resources() -> Vec<Case> {
    let rule = |rule: Value| limits(json!({"devices": [rule]}));
    let io = |io: Value| limits(json!({"blockIO": io}));
    vec![
        case("rule: unknown type", rule(json!({"allow": true, "type": "p"})), "/linux/resources/devices/0/type", "a, b or c"),
        case("rule: access", rule(json!({"allow": true, "type": "c", "access": "rx"})), "/linux/resources/devices/0/access", "made of r, w and m"),
        case("rule: major -2", rule(json!({"allow": true, "type": "c", "major": -2})), "/linux/resources/devices/0/major", "-1..4294967295"),
        case("memory: -2", limits(json!({"memory": {"limit": -2}})), "/linux/resources/memory/limit", "-1 (no limit)"),
        case("swap below memory", limits(json!({"memory": {"limit": 2_000_000, "swap": 1_000_000}})), "/linux/resources/memory/swap", "must not be below limit"),
        case("swap without memory", limits(json!({"memory": {"swap": 1_000_000}})), "/linux/resources/memory/swap", "needs a limit"),
        case("swappiness: 101", limits(json!({"memory": {"swappiness": 101}})), "/linux/resources/memory/swappiness", "0..100"),
        case("cpus: words", limits(json!({"cpu": {"cpus": "all"}})), "/linux/resources/cpu/cpus", "must be a list"),
        case("mems: newline", limits(json!({"cpu": {"mems": "0\n1"}})), "/linux/resources/cpu/mems", "must be a list"),
        case("burst above quota", limits(json!({"cpu": {"quota": 5000, "burst": 6000}})), "/linux/resources/cpu/burst", "must not be above quota"),
        case("idle: 2", limits(json!({"cpu": {"idle": 2}})), "/linux/resources/cpu/idle", "0 or 1"),
        case("pids: -2", limits(json!({"pids": {"limit": -2}})), "/linux/resources/pids/limit", "-1 (no limit)"),
        case("weight: 5", io(json!({"weight": 5})), "/linux/resources/blockIO/weight", "10..1000"),
        case("weight of a device: none", io(json!({"weightDevice": [{"major": 8, "minor": 0}]})), "/linux/resources/blockIO/weightDevice/0", "weight or leafWeight"),
        case("throttle: major -1", io(json!({"throttleReadIOPSDevice": [{"major": -1, "minor": 0, "rate": 1}]})), "/linux/resources/blockIO/throttleReadIOPSDevice/0/major", "0..4294967295"),
        case("page size: words", limits(json!({"hugepageLimits": [{"pageSize": "big", "limit": 1}]})), "/linux/resources/hugepageLimits/0/pageSize", "a size such as"),
        case("page size: a path", limits(json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]})), "/linux/resources/hugepageLimits/0/pageSize", "a size such as"),
        case("page size: 64kB", limits(json!({"hugepageLimits": [{"pageSize": "64kB", "limit": 1}]})), "/linux/resources/hugepageLimits/0/pageSize", "a size such as"),
        case("interface: blank", limits(json!({"network": {"priorities": [{"name": "eth 0", "priority": 1}]}})), "/linux/resources/network/priorities/0/name", "no name of a network device"),
        case("rdma: no limit", limits(json!({"rdma": {"mlx5_1": {}}})), "/linux/resources/rdma/mlx5_1", "hcaHandles or hcaObjects"),
        case("unified: a path", limits(json!({"unified": {"../memory.max": "1"}})), "/linux/resources/unified/..~1memory.max", "name of a control file"),
        case("cgroupsPath: the root", json!({"linux": {"cgroupsPath": "/x/../.."}}), "/linux/cgroupsPath", "below the root cgroup"),
    ]
}

/// What a machine may lack. Each is asked for only where it is lacking.
fn host() -> Vec<Case> {
    let controllers = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let unified = ["/sys/fs/cgroup/unified/cgroup.controllers", "/sys/fs/cgroup/cgroup.controllers"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default())
        .concat();
    let lacks = |name: &str| !unified.contains(name) && !controllers.lines().any(|line| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|it| it == name)));
    let mut cases = Vec::new();
    if !Path::new("/sys/module/apparmor").exists() {
        cases.push(case("apparmor", json!({"process": {"apparmorProfile": "docker-default"}}), "/process/apparmorProfile", "needs AppArmor"));
    }
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        cases.push(case("selinux", json!({"process": {"selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0"}}), "/process/selinuxLabel", "needs SELinux"));
        cases.push(case("mount label", json!({"linux": {"mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0"}}), "/linux/mountLabel", "needs SELinux"));
    }
    if !std::fs::read_to_string("/proc/filesystems").unwrap().contains("resctrl") {
        cases.push(case("resctrl", json!({"linux": {"intelRdt": {"closID": "guaranteed"}}}), "/linux/intelRdt", "needs a mounted resctrl"));
    }
    for (controller, resources, at) in [
        ("rdma", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), "/linux/resources/rdma/mlx5_1"),
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}), "/linux/resources/hugepageLimits/0"),
        ("net_cls", json!({"network": {"classID": 1_048_577}}), "/linux/resources/network/classID"),
        ("net_prio", json!({"network": {"priorities": [{"name": "lo", "priority": 5}]}}), "/linux/resources/network/priorities/0"),
    ] {
        if lacks(controller) {
            cases.push(case(controller, limits(resources), at, "cgroup controller"));
        }
    }
    // "0::/" alone is a host of cgroup v2, which takes these.
    if controllers.lines().any(|line| line.contains(":pids:")) {
        cases.push(case("unified on v1", limits(json!({"unified": {"memory.high": "1000000"}})), "/linux/resources/unified/memory.high", "cgroup v1"));
    }
    cases
}
