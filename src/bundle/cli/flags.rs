//! The flags that say how a container runs: all commands that make one share them. Docker's words. They are stored
//! with the container, and each start makes its config.json of them anew.

use clap::Args;
use serde::{Deserialize, Serialize};

/// How a container runs.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::doc_markdown)]
pub struct Flags {
    /// Set a variable; `-e NAME` alone takes its value from the caller
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Directory that the program starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User and group, names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Further groups
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Program in the place of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Run a tiny init that passes signals on and reaps what the program leaves behind
    #[arg(long)]
    pub init: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Host name's domain
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Address of a name server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Domain in which short names are looked up; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of the resolver, such as ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Read labels from a file, one KEY=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<String>,
    /// Set an annotation for the OCI runtime
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,

    /// Mount a directory or file of the host, or a volume; PATH alone makes a volume without a name
    #[arg(short = 'v', long, value_name = "[SOURCE:]PATH[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount something: type=bind|volume|tmpfs,source=,destination=,readonly,...
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub mount: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro|rw]")]
    pub volumes_from: Vec<String>,
    /// Driver of volumes that are made: only `local` is there
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,

    /// Add a capability (`ALL` for all)
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability (`ALL` for all)
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no seccomp filter, nothing masked
    #[arg(long)]
    pub privileged: bool,
    /// `no-new-privileges`, `seccomp=unconfined|FILE`, `apparmor=PROFILE`, `label=disable|user:|role:|type:|level:`,
    /// `mask=PATH`, `unmask=ALL|PATH`, `systempaths=unconfined`
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,

    /// Most memory, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Most memory and swap together; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Memory that is kept when the host is short of it
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// How readily memory is swapped out, 0 to 100 (cgroup v1 only)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub memory_swappiness: Option<i64>,
    /// Limit of kernel memory: no kernel has it any more
    #[arg(long, value_name = "BYTES", hide = true)]
    pub kernel_memory: Option<String>,
    /// Let the container wait in the place of being killed when it is out of memory (cgroup v1 only)
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// How soon the kernel's out-of-memory killer takes it (-1000 to 1000)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// Most processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Weight of processor time beside other containers (2 to 262144)
    #[arg(short, long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// Length of a scheduling period in microseconds (1000 to 1000000)
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Processor time in each period in microseconds; -1 for unlimited
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Real-time processor time in each real-time period in microseconds (cgroup v1 only)
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_runtime: Option<i64>,
    /// Length of a real-time period in microseconds (cgroup v1 only)
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_rt_period: Option<u64>,
    /// Processors that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Most processes; -1 for unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Weight of block input and output beside other containers (10 to 1000)
    #[arg(long, value_name = "NUMBER")]
    pub blkio_weight: Option<u16>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub blkio_weight_device: Vec<String>,
    /// Most bytes a second read from a device
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_read_bps: Vec<String>,
    /// Most bytes a second written to a device
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub device_write_bps: Vec<String>,
    /// Most reads a second from a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_read_iops: Vec<String>,
    /// Most writes a second to a device
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub device_write_iops: Vec<String>,
    /// Limit of a resource, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Kernel parameter of the container
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Add a device of the host, or all below a directory
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    pub device: Vec<String>,
    /// Allow devices by number, such as `c 42:* rwm`
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// Cgroup that the container's own is made in
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,

    /// A network, or several: a name, or `name=NAME,alias=,ip=,ip6=,mac-address=`; or `none` (only loopback), `host`,
    /// `container:NAME`, `ns:PATH`, `cni:NAME` [default: bridge, and none for a plain user]
    #[arg(long, visible_alias = "net", value_name = "NETWORK", env = "BUNDLE_NETWORK")]
    pub network: Vec<String>,
    /// Another name of the container in its networks
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Its Ethernet address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Another container, under a name that only this one sees
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    pub link: Vec<String>,
    /// Let a port of the host lead into the container; `,via=proxy`: by a process, not by rules of the kernel;
    /// `,from=SUBNET`: only for those
    #[arg(short, long, value_name = "[[ADDRESS:]HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// The same for all ports that the image exposes, from random ports of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// A port that the program listens on
    #[arg(long, value_name = "PORT[/udp]")]
    pub expose: Vec<String>,
    /// `host`: the host's processes are seen; `container:NAME`
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// System V IPC and /dev/shm: `private`, `none` (no /dev/shm), `shareable`, `host`, `container:NAME`
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// `host`: the host's host name
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// `host`: the host's cgroups are seen; `private`
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// `host`: users are the host's; `auto[:size=N]`: users of the container's own
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// User ids of the container's own: its first, the host's first, how many
    #[arg(long, value_name = "CONTAINER:HOST:COUNT")]
    pub uidmap: Vec<String>,
    /// Group ids of the container's own [default: as --uidmap]
    #[arg(long, value_name = "CONTAINER:HOST:COUNT")]
    pub gidmap: Vec<String>,

    /// Signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds from that signal to the one that kills; -1 for no end [default: 10]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub stop_timeout: Option<i64>,
    /// When to start it again: `no`, `on-failure[:TIMES]`, `always`, `unless-stopped`
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Command in the container that says whether it is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between checks [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Time that a check may take [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// Time after the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Time between checks in that time [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// No checks, whatever the image says
    #[arg(long)]
    pub no_healthcheck: bool,
    /// Where output is kept: `k8s-file`, `none`
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// `max-size=BYTES` of one log file [10m], `max-file=NUMBER` of files [5]
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,

    /// Refused: devices are named by --device
    #[arg(long, value_name = "GPUS", hide = true)]
    pub gpus: Option<String>,
    /// Refused: an isolation of Windows
    #[arg(long, value_name = "MODE", hide = true)]
    pub isolation: Option<String>,
    /// Refused: overlay has no options for one container
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pub storage_opt: Vec<String>,
}
