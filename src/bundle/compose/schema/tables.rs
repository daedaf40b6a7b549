//! All fields, as <https://github.com/compose-spec/compose-spec/blob/main/schema/compose-spec.json> has them.

use super::Fate::{Ignored, Refused, Used};
use super::Kind::{
    Any, Bytes, Command, Duration, Hosts, List, Map, Mode, Named, Number, Object, OneOrMany, Pairs, Short, ShortObject,
    Test, Text, Truth, Whole,
};
use super::Unique::{Fields, Target, Whole as Same};
use super::{Fate, Field, Kind, short};

const fn used(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, fate: Used }
}

const fn other(name: &'static str, kind: Kind, fate: Fate) -> Field {
    Field { name, kind, fate }
}

const TEXTS: Kind = List(&Text, Same);
const SWARM: Fate = Refused("it is Swarm's: this tool runs containers on one machine");
const GPUS: Fate = Refused("this tool knows no maker's devices: name their nodes under devices");

/// A whole file.
pub static FILE: Kind = Object(&[
    other("version", Text, Ignored),
    used("name", Text),
    used("include", List(&INCLUDE, Same)),
    used("services", Map(&SERVICE)),
    used("networks", Named(&NETWORK)),
    used("volumes", Named(&VOLUME)),
    used("secrets", Named(&SECRET)),
    used("configs", Named(&CONFIG)),
    other("models", Any, Refused("this tool runs no models: a service can")),
]);

/// An item of `include`.
static INCLUDE: Kind = ShortObject(
    "path",
    &[used("path", OneOrMany(&Text)), used("project_directory", Text), used("env_file", OneOrMany(&Text))],
);

/// A service.
pub static SERVICE: Kind = Object(&[
    used("annotations", Pairs),
    used("attach", Truth),
    used("blkio_config", BLKIO),
    used("build", BUILD),
    used("cap_add", TEXTS),
    used("cap_drop", TEXTS),
    used("cgroup", Text),
    used("cgroup_parent", Text),
    used("command", Command),
    used("configs", List(&FILE_USE, Target)),
    used("container_name", Text),
    other("cpu_count", Any, Refused("it is Windows': cpus is this kernel's")),
    other("cpu_percent", Any, Refused("it is Windows': cpus is this kernel's")),
    used("cpu_period", Whole),
    used("cpu_quota", Whole),
    used("cpu_rt_period", Whole),
    used("cpu_rt_runtime", Whole),
    used("cpu_shares", Whole),
    used("cpus", Number),
    used("cpuset", Text),
    other("credential_spec", Any, Refused("it is Windows': mount what the program needs as a secret")),
    used("depends_on", Named(&Object(DEPENDENCY))),
    used("deploy", DEPLOY),
    other("develop", Any, Ignored),
    used("device_cgroup_rules", TEXTS),
    used("devices", Short(short::device, &Object(DEVICE), Fields(&["target"]))),
    used("dns", OneOrMany(&Text)),
    used("dns_opt", TEXTS),
    used("dns_search", OneOrMany(&Text)),
    used("domainname", Text),
    used("entrypoint", Command),
    used("env_file", OneOrMany(&ENV_FILE)),
    used("environment", Pairs),
    used("expose", TEXTS),
    used("extends", ShortObject("service", &[used("service", Text), used("file", Text)])),
    used("external_links", TEXTS),
    used("extra_hosts", Hosts),
    other("gpus", Any, GPUS),
    used("group_add", TEXTS),
    used("healthcheck", Object(HEALTHCHECK)),
    used("hostname", Text),
    used("image", Text),
    used("init", Truth),
    used("ipc", Text),
    other("isolation", Any, Refused("it is Windows': leave it away")),
    used("label_file", OneOrMany(&Text)),
    used("labels", Pairs),
    used("links", TEXTS),
    used("logging", Object(&[used("driver", Text), used("options", Map(&Text))])),
    used("mac_address", Text),
    used("mem_limit", Bytes),
    used("mem_reservation", Bytes),
    used("mem_swappiness", Whole),
    used("memswap_limit", Bytes),
    other("models", Any, Refused("this tool runs no models: a service can")),
    used("network_mode", Text),
    used("networks", Named(&Object(NETWORK_USE))),
    used("oom_kill_disable", Truth),
    used("oom_score_adj", Whole),
    used("pid", Text),
    used("pids_limit", Whole),
    used("platform", Text),
    used("ports", Short(short::port, &Object(PORT), Fields(&["host_ip", "target", "published", "protocol"]))),
    other("post_start", Any, Refused("hooks are not run here: let the program, or a service of its own, do it")),
    other("pre_stop", Any, Refused("hooks are not run here: let the program do it when its stop signal comes")),
    used("privileged", Truth),
    used("profiles", TEXTS),
    other("provider", Any, Refused("nothing but containers is run here")),
    used("pull_policy", Text),
    used("read_only", Truth),
    used("restart", Text),
    used("runtime", Text),
    used("scale", Whole),
    used("secrets", List(&FILE_USE, Target)),
    used("security_opt", TEXTS),
    used("shm_size", Bytes),
    used("stdin_open", Truth),
    used("stop_grace_period", Duration),
    used("stop_signal", Text),
    other(
        "storage_opt",
        Any,
        Refused("overlay cannot limit one container's files: read_only and a tmpfs with size= can"),
    ),
    used("sysctls", Pairs),
    used("tmpfs", OneOrMany(&Text)),
    used("tty", Truth),
    used("ulimits", ULIMITS),
    other("use_api_socket", Any, Refused("there is no daemon whose socket could be used")),
    used("user", Text),
    used("userns_mode", Text),
    used("uts", Text),
    used("volumes", Short(short::volume, &Object(MOUNT), Fields(&["target"]))),
    used("volumes_from", TEXTS),
    used("working_dir", Text),
]);

const BUILD: Kind = ShortObject(
    "context",
    &[
        used("additional_contexts", Pairs),
        used("args", Pairs),
        used("cache_from", TEXTS),
        used("cache_to", TEXTS),
        used("context", Text),
        used("dockerfile", Text),
        used("dockerfile_inline", Text),
        other("entitlements", Any, Refused("a build has no rights beyond its containers': leave it away")),
        used("extra_hosts", Hosts),
        other("isolation", Any, Refused("it is Windows': leave it away")),
        used("labels", Pairs),
        used("network", Text),
        used("no_cache", Truth),
        used("platforms", TEXTS),
        other("privileged", Truth, Refused("a build has no rights beyond its containers': leave it away")),
        used("pull", Truth),
        used("secrets", List(&FILE_USE, Target)),
        used("shm_size", Bytes),
        used("ssh", Pairs),
        used("tags", TEXTS),
        used("target", Text),
        used("ulimits", ULIMITS),
    ],
);

const ULIMITS: Kind = Map(&ShortObject("single", &[used("single", Whole), used("soft", Whole), used("hard", Whole)]));

const RATES: Kind = List(&Object(&[used("path", Text), used("rate", Bytes)]), Fields(&["path"]));

const BLKIO: Kind = Object(&[
    used("device_read_bps", RATES),
    used("device_read_iops", RATES),
    used("device_write_bps", RATES),
    used("device_write_iops", RATES),
    used("weight", Whole),
    used("weight_device", List(&Object(&[used("path", Text), used("weight", Whole)]), Fields(&["path"]))),
]);

const DEPENDENCY: &[Field] = &[used("condition", Text), used("restart", Truth), used("required", Truth)];

const DEVICE: &[Field] = &[used("source", Text), used("target", Text), used("permissions", Text)];

const HEALTHCHECK: &[Field] = &[
    used("disable", Truth),
    used("interval", Duration),
    used("retries", Whole),
    used("start_interval", Duration),
    used("start_period", Duration),
    used("test", Test),
    used("timeout", Duration),
];

const ENV_FILE: Kind = ShortObject("path", &[used("path", Text), used("format", Text), used("required", Truth)]);

const FILE_USE: Kind = ShortObject(
    "source",
    &[used("source", Text), used("target", Text), used("uid", Text), used("gid", Text), used("mode", Mode)],
);

const NETWORK_USE: &[Field] = &[
    used("aliases", TEXTS),
    other("driver_opts", Map(&Text), Refused("a network's options are the same for all: give them to the network")),
    used("gw_priority", Whole),
    other("interface_name", Text, Refused("a container's devices are eth0, eth1 and so on, by priority")),
    used("ipv4_address", Text),
    used("ipv6_address", Text),
    other(
        "link_local_ips",
        TEXTS,
        Refused("addresses of a network are leased: ipv4_address and ipv6_address choose one"),
    ),
    used("mac_address", Text),
    used("priority", Whole),
];

const PORT: &[Field] = &[
    other("app_protocol", Text, Ignored),
    used("host_ip", Text),
    used("mode", Text),
    other("name", Text, Ignored),
    used("protocol", Text),
    used("published", Text),
    used("target", Whole),
];

const MOUNT: &[Field] = &[
    used(
        "bind",
        Object(&[
            used("create_host_path", Truth),
            used("propagation", Text),
            used("recursive", Text),
            used("selinux", Text),
        ]),
    ),
    other("consistency", Text, Ignored),
    other("image", Any, Refused("files of another image are not mounted here: COPY --from puts them into one's own")),
    used("read_only", Truth),
    used("source", Text),
    used("target", Text),
    used("tmpfs", Object(&[used("mode", Mode), used("size", Bytes)])),
    used("type", Text),
    used("volume", Object(&[used("labels", Pairs), used("nocopy", Truth), used("subpath", Text)])),
];

const LIMITS: &[Field] = &[used("cpus", Number), used("memory", Bytes), used("pids", Whole)];

const DEPLOY: Kind = Object(&[
    other("endpoint_mode", Text, Ignored),
    used("labels", Pairs),
    used("mode", Text),
    other("placement", Any, Ignored),
    used("replicas", Whole),
    used(
        "resources",
        Object(&[
            used("limits", Object(LIMITS)),
            used(
                "reservations",
                Object(&[
                    other("cpus", Number, Ignored),
                    other("devices", Any, GPUS),
                    other("generic_resources", Any, SWARM),
                    used("memory", Bytes),
                ]),
            ),
        ]),
    ),
    used(
        "restart_policy",
        Object(&[
            used("condition", Text),
            other("delay", Duration, Ignored),
            used("max_attempts", Whole),
            other("window", Duration, Ignored),
        ]),
    ),
    other("rollback_config", Any, Ignored),
    other("update_config", Any, Ignored),
]);

static NETWORK: Kind = Object(&[
    other("attachable", Truth, Ignored),
    used("driver", Text),
    used("driver_opts", Map(&Text)),
    other("enable_ipv4", Truth, Ignored),
    used("enable_ipv6", Truth),
    used("external", Truth),
    used("internal", Truth),
    used(
        "ipam",
        Object(&[
            used(
                "config",
                List(
                    &Object(&[
                        used("aux_addresses", Map(&Text)),
                        used("gateway", Text),
                        used("ip_range", Text),
                        used("subnet", Text),
                    ]),
                    Fields(&["subnet"]),
                ),
            ),
            used("driver", Text),
            other("options", Any, Refused("the addresses' driver has no options")),
        ]),
    ),
    used("labels", Pairs),
    used("name", Text),
]);

static VOLUME: Kind = Object(&[
    used("driver", Text),
    used("driver_opts", Map(&Text)),
    used("external", Truth),
    used("labels", Pairs),
    used("name", Text),
]);

const STORED: Fate =
    Refused("there is no store of secrets and configs: name a file, an environment variable or content");

static SECRET: Kind = Object(&[
    used("content", Text),
    other("driver", Any, STORED),
    other("driver_opts", Any, STORED),
    used("environment", Text),
    other("external", Any, STORED),
    used("file", Text),
    other("labels", Pairs, Ignored),
    used("name", Text),
    other("template_driver", Any, STORED),
]);

static CONFIG: Kind = Object(&[
    used("content", Text),
    used("environment", Text),
    other("external", Any, STORED),
    used("file", Text),
    other("labels", Pairs, Ignored),
    used("name", Text),
    other("template_driver", Any, STORED),
]);
