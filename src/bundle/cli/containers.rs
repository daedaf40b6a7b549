//! The commands that make containers and look after them.

use std::path::PathBuf;

use clap::Args;

use super::flags::Flags;
use super::{FormatFlag, PullWhen, RegistryFlags};

/// What `run` and `create` share.
#[derive(Args, Debug)]
pub struct Making {
    #[command(flatten)]
    pub flags: Flags,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Remove the container when it has ended, and its anonymous volumes
    #[arg(long)]
    pub rm: bool,
    /// Give the program our standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Write the container's id to a file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// When to fetch the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: PullWhen,
    /// Platform of the image, where it has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Say nothing while fetching
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Image, and what runs in the place of its command
    // One list: from the image on nothing is a flag of ours.
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

/// How a person is connected to a container.
#[derive(Args, Clone, Debug)]
pub struct Attaching {
    /// Keys that leave the container alone; empty for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: String,
    /// Pass the signals that we get on to the program
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Run {
    #[command(flatten)]
    pub making: Making,
    #[command(flatten)]
    pub attaching: Attaching,
    /// Leave it running, and print its id
    #[arg(short, long)]
    pub detach: bool,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Create {
    #[command(flatten)]
    pub making: Making,
}

#[derive(Args, Debug)]
pub struct Start {
    /// Show what it writes, pass signals on, and end with its exit status
    #[arg(short, long)]
    pub attach: bool,
    /// Give it our standard input
    #[arg(short, long)]
    pub interactive: bool,
    #[command(flatten)]
    pub attaching: Attaching,
    /// Containers: names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Stop {
    /// The first signal [default: the container's, or SIGTERM]
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Seconds until SIGKILL; -1 for never [default: the container's, or 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_hyphen_values = true)]
    pub time: Option<i64>,
    /// Containers: names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Kill {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
    /// Containers: names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// Containers and nothing else.
#[derive(Args, Debug)]
pub struct Containers {
    /// Containers: names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Rm {
    /// Kill those that run
    #[arg(short, long)]
    pub force: bool,
    /// Remove their anonymous volumes too
    #[arg(short, long)]
    pub volumes: bool,
    /// Containers: names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Rename {
    /// Container: a name or an id
    pub container: String,
    /// New name
    pub name: String,
}

#[derive(Args, Debug)]
pub struct Attach {
    /// Leave our standard input alone
    #[arg(long)]
    pub no_stdin: bool,
    #[command(flatten)]
    pub attaching: Attaching,
    /// Container: a name or an id
    pub container: String,
}

#[derive(Args, Debug)]
pub struct Ps {
    /// Show all, not only those that run or wait for their next start
    #[arg(short, long)]
    pub all: bool,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Show only the one that was made last, running or not
    #[arg(short, long)]
    pub latest: bool,
    /// Show only so many, those that were made last, running or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub last: Option<usize>,
    /// Show how much each has written, without its volumes
    #[arg(short, long)]
    pub size: bool,
    /// Show only those that fit `id=`, `name=`, `label=`, `status=`, `exited=`, `ancestor=`, `before=`, `since=`,
    /// `health=`, `volume=`
    ///
    /// Where a word is given several times one of them has to fit, but each label. `id=` is the beginning of one,
    /// `name=` a part, `label=KEY[=VALUE]`, `status=` created, starting, running, paused, restarting or exited, `exited=`
    /// an exit status, `ancestor=` the image, `before=` and `since=` another container, made later or earlier, `health=`
    /// starting, healthy, unhealthy or none, `volume=` a name or a path in the container.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// `table`, `json`, or a template such as `{{.Names}} {{.Status}}`
    ///
    /// There are ID, Image, Command, CreatedAt, RunningFor, State, Status, Ports, Names, Labels, Networks, and with
    /// --size Size. `json` is one object a line.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Args, Debug)]
pub struct Exec {
    /// Set a variable; `-e NAME` alone takes its value from the caller
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// Give the program our standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User and group, names of the container or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Directory that the program starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// All capabilities
    #[arg(long)]
    pub privileged: bool,
    /// Container, program and its arguments
    // One list: behind the container nothing is a flag of ours.
    #[arg(value_names = ["CONTAINER", "COMMAND"], num_args = 2.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Update {
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
    /// Microseconds of a period that may be used
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Length of a period
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// Processors that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Most processes; -1 for unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Weight of block I/O beside other containers (10 to 1000)
    #[arg(long, value_name = "NUMBER")]
    pub blkio_weight: Option<u16>,
    /// `no`, `on-failure[:TIMES]`, `always`, `unless-stopped`
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Containers: names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Diff {
    #[command(flatten)]
    pub format: FormatFlag,
    /// Container: a name or an id
    pub container: String,
}

#[derive(Args, Debug)]
pub struct Port {
    /// Container: a name or an id
    pub container: String,
    /// Only where this port of the container is published
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

#[derive(Args, Debug)]
pub struct UpAgain {
    /// Only say what would be started
    #[arg(long)]
    pub dry_run: bool,
}
