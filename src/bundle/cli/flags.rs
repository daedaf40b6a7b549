//! The flags that say how a container runs: `run` and `export-bundle` share them. Docker's words.

use clap::Args;

/// How a container runs.
#[derive(Args, Clone, Debug, Default)]
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
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Host name's domain
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Mount a tmpfs
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Add a capability (`ALL` for all)
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability (`ALL` for all)
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no seccomp filter, nothing masked
    #[arg(long)]
    pub privileged: bool,
    /// `no-new-privileges`, `seccomp=unconfined`, `seccomp=FILE`, `apparmor=PROFILE`, `label=LABEL`
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
    /// Most processors, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Weight of processor time beside other containers (2 to 262144)
    #[arg(short, long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// Processors that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Most processes; -1 for unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Limit of a resource, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Kernel parameter of the container
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Add a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    pub device: Vec<String>,
    /// The container's network: `none` (only loopback), `host`
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "none")]
    pub network: String,
    /// `host`: the host's processes are seen
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// `host`: the host's System V IPC is shared; `private`
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// `host`: the host's host name
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// `host`: the host's cgroups are seen; `private`
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// How soon the kernel's out-of-memory killer takes it (-1000 to 1000)
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// Signal that asks the program to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
}
