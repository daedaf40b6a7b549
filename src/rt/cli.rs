//! The command line: global flags and one struct a command. Names and meanings are runc's, so that
//! engines and fingers need not change; an option may stand before or after the container's id.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};

/// An OCI container runtime.
#[derive(Debug, Parser)]
#[command(
    name = "rt",
    disable_version_flag = true,
    arg_required_else_help = true,
    about = "Run containers from OCI bundles (runtime-spec 1.3.0)",
    after_help = "Example: rt spec --bundle b && rt run --bundle b demo\n\n\
        Environment: XDG_RUNTIME_DIR (a plain user's state directory and systemd), DBUS_SYSTEM_BUS_ADDRESS and\n\
        DBUS_SESSION_BUS_ADDRESS (--systemd-cgroup), PATH (criu, newuidmap, newgidmap); LISTEN_FDS with LISTEN_PID\n\
        and NOTIFY_SOCKET are passed on to the container by create and run. No other variable is read, but CRIU\n\
        gets all of them."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Print the version and leave
    #[arg(short = 'v', long)]
    pub version: bool,
}

impl Cli {
    /// Parses a command line. For the commands that engines call all the time only their own flags are
    /// told to clap: the description of all of them costs more than some of these commands. What does
    /// not parse that way (a mistake, a call for help) is parsed once more against the whole.
    pub fn parse_words<'w>(words: impl Iterator<Item = &'w OsStr> + Clone) -> Result<Cli, clap::Error> {
        let named = words.clone().skip(1).find_map(|word| match word.to_str()? {
            "create" => Some(Cli::parse_only("create", Command::Create, words.clone())),
            "start" => Some(Cli::parse_only("start", Command::Start, words.clone())),
            "run" => Some(Cli::parse_only("run", Command::Run, words.clone())),
            "exec" => Some(Cli::parse_only("exec", Command::Exec, words.clone())),
            "state" => Some(Cli::parse_only("state", Command::State, words.clone())),
            "kill" => Some(Cli::parse_only("kill", Command::Kill, words.clone())),
            "delete" => Some(Cli::parse_only("delete", Command::Delete, words.clone())),
            "list" => Some(Cli::parse_only("list", Command::List, words.clone())),
            _ => None,
        });
        named.flatten().map_or_else(|| Cli::try_parse_from(words), Ok)
    }

    /// Parses against one command and the global flags.
    fn parse_only<'w, A: Args>(
        name: &'static str,
        command: fn(A) -> Command,
        words: impl Iterator<Item = &'w OsStr>,
    ) -> Option<Cli> {
        // Help is the whole's to give.
        let bare = |name| clap::Command::new(name).disable_help_flag(true).disable_help_subcommand(true);
        let mut all = Global::augment_args(bare("rt")).subcommand(A::augment_args(bare(name)));
        let found = all.try_get_matches_from_mut(words).ok();
        // Taking it apart takes time, and the process ends soon.
        std::mem::forget(all);
        let mut found = found?;
        let (_, mut rest) = found.remove_subcommand()?;
        Some(Cli {
            global: Global::from_arg_matches_mut(&mut found).ok()?,
            command: Some(command(A::from_arg_matches_mut(&mut rest).ok()?)),
            version: false,
        })
    }
}

/// Flags before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Where the state of containers is kept [default: /run/rt; for a plain user $XDG_RUNTIME_DIR/rt]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append log lines to this file (errors go to standard error as well)
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Form of the log lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info or debug
    #[arg(long, value_enum, default_value_t = LogLevel::Warn, value_name = "LEVEL")]
    pub log_level: LogLevel,
    /// The same as --log-level debug
    #[arg(long)]
    pub debug: bool,
    /// Have systemd make the cgroups
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes the cgroups; with disabled nobody: the container stays in the caller's
    #[arg(long, value_enum, value_name = "MANAGER")]
    pub cgroup_manager: Option<CgroupManager>,
    #[arg(long, hide = true, value_name = "auto|true|false")]
    pub rootless: Option<String>,
    /// The criu program, for checkpoint and restore [default: criu, as PATH finds it]
    #[arg(long, value_name = "PATH")]
    pub criu: Option<PathBuf>,
}

/// Who makes cgroups (as with crun, for Podman's `--cgroups=disabled`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

impl Global {
    /// The manager that these flags name.
    pub fn manager(&self) -> CgroupManager {
        let flag = if self.systemd_cgroup { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
        self.cgroup_manager.unwrap_or(flag)
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    #[allow(missing_docs)]
    Error,
    #[allow(missing_docs)]
    Warn,
    #[allow(missing_docs)]
    Info,
    #[allow(missing_docs)]
    Debug,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub enum Command {
    /// Make a container that waits for `start`
    #[command(after_help = "Example: rt create --bundle /containers/web --pid-file web.pid web")]
    Create(Create),
    /// Run the program of a created container
    #[command(after_help = "Example: rt start web")]
    Start(Id),
    /// Create and start a container, and wait for it unless detached
    #[command(after_help = "Example: rt run --bundle /containers/web web\n\n\
        The exit status is the program's, or 128+n when signal n ended it; 1 when it could not be run.")]
    Run(Run),
    /// Run another program in a running container
    #[command(after_help = "Example: rt exec -t web sh\n         rt exec -u www-data -e LANG=C web id\n\n\
        The program takes after the container's own process (environment, user, capabilities, limits,\n\
        filter), but for what is said here, or as --process FILE has it. The exit status is the program's,\n\
        or 128+n when signal n ended it; 255 when it could not be run.")]
    Exec(Exec),
    /// List the processes of a container
    #[command(after_help = "Example: rt ps web\n         rt ps --format json web\n         rt ps web -o pid,args\n\n\
        What stands behind the id are options of ps(1); without any it is -ef. Process ids are the host's.")]
    Ps(Ps),
    /// Freeze all processes of a container
    #[command(after_help = "Example: rt pause web")]
    Pause(Id),
    /// Let the processes of a paused container go on
    #[command(after_help = "Example: rt resume web")]
    Resume(Id),
    /// Change the limits of a container
    #[command(after_help = "Example: rt update --memory 512M --pids-limit 100 web\n\
        \x20        echo '{\"cpu\":{\"quota\":50000}}' | rt update --resources - web\n\n\
        What is not named stays as it is; on an error, everything does. Sizes are bytes or have a suffix\n\
        (K, M, G, T: powers of 1024); -1 is no limit.")]
    Update(Box<Update>),
    /// Print what a container uses, every few seconds, and when it runs out of memory, as JSON lines
    #[command(after_help = "Example: rt events --stats web\n         rt events --interval 1s web")]
    Events(Events),
    /// Print the state of a container as JSON
    #[command(after_help = "Example: rt state web")]
    State(Id),
    /// Send a signal to a container's first process
    #[command(after_help = "Example: rt kill web KILL\n\n\
        SIGNAL is a name with or without SIG, a number, or RTMIN+n.")]
    Kill(Kill),
    /// Remove a stopped container
    #[command(after_help = "Example: rt delete --force web")]
    Delete(Delete),
    /// List the containers of the state directory
    #[command(after_help = "Example: rt list --format json")]
    List(List),
    /// Write a running container's processes to files, by CRIU
    #[command(after_help = "Example: rt checkpoint --image-path /backup/web web\n\
        \x20        rt checkpoint --pre-dump --image-path /backup/1 web\n\
        \x20        rt checkpoint --parent-path ../1 --image-path /backup/2 web\n\n\
        The container is deleted then, unless it is left running. What it has on disk is not in the\n\
        files: it has to be there for `restore`, as the bundle has. On an error it runs on.")]
    Checkpoint(Checkpoint),
    /// Make a container again from files that checkpoint wrote
    #[command(after_help = "Example: rt restore --detach --image-path /backup/web --bundle /containers/web web\n\n\
        Without --detach it waits, as `run` does, with the same exit status.")]
    Restore(Restore),
    /// Write a config.json to start from
    #[command(after_help = "Example: rt spec --bundle /containers/web")]
    Spec(SpecArgs),
    /// Print what this runtime and this host can do, as JSON (features.md)
    #[command(after_help = "Example: rt features")]
    Features,
    /// Say everything that is wrong with a bundle, and what this host cannot give it
    #[command(after_help = "Example: rt check /containers/web\n\n\
        One line a finding: JSON pointer, what is wrong, what to do. The exit status is 0 only when\n\
        `create` would get past planning.")]
    Check(Inspect),
    /// Print, in order, what create would do to this machine, without doing it
    #[command(after_help = "Example: rt plan /containers/web")]
    Plan(Inspect),
}

/// A container.
#[derive(Debug, Args)]
pub struct Id {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `create` and `run` share.
#[derive(Debug, Args)]
pub struct Common {
    /// The container's id: letters, digits and _ + . -
    #[arg(value_name = "ID")]
    pub id: String,
    /// The bundle's directory
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// Write the first process's id to this file, once all is set up
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the terminal's master to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Move the root instead of pivot_root (for a host on an initial ramfs)
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many descriptors from 3 on to the container
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub preserve_fds: u32,
    /// What the global flags say, put here by [`Cli`]'s reader
    #[arg(skip = CgroupManager::Cgroupfs)]
    pub cgroup_manager: CgroupManager,
}

/// `create`
#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    pub common: Common,
    /// Write how long each step took: a Chrome trace if FILE ends in .json, text else; - is standard error
    #[arg(long, value_name = "FILE")]
    pub timeline: Option<PathBuf>,
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub common: Common,
    /// Leave the container running and return
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when its program ends
    #[arg(long)]
    pub keep: bool,
    /// Do not become the reaper of orphaned processes (accepted for runc's sake; rt never does)
    #[arg(long)]
    pub no_subreaper: bool,
    /// Write how long each step took: a Chrome trace if FILE ends in .json, text else; alone, text on standard error
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub timeline: Option<PathBuf>,
}

/// `kill`
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal every process of the container, not the first alone
    #[arg(short, long)]
    pub all: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The signal
    #[arg(default_value = "SIGTERM", value_name = "SIGNAL")]
    pub signal: String,
}

/// `exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// Take the process object (config.md, "Process") from this file
    #[arg(short, long, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Return as soon as the program runs
    #[arg(short, long)]
    pub detach: bool,
    /// Write the process's id to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Send the terminal's master to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set or change a variable (may be given several times)
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Numbers, or names of the container's /etc/passwd and /etc/group
    #[arg(short, long, value_name = "USER[:GROUP]", allow_hyphen_values = true)]
    pub user: Option<String>,
    /// Working directory, absolute
    #[arg(short = 'w', long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Add a capability to the bounding, effective and permitted sets (may be given several times)
    #[arg(short, long, value_name = "CAP_NAME")]
    pub cap: Vec<String>,
    /// Add a supplementary group (may be given several times)
    #[arg(short = 'g', long, value_name = "GID", allow_hyphen_values = true)]
    pub additional_gids: Vec<String>,
    /// Forbid to gain privileges by execve
    #[arg(long)]
    pub no_new_privs: bool,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// Pass this many descriptors from 3 on to the program
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub preserve_fds: u32,
    /// A cgroup below the container's, for all or (v1) for the named controllers: [CONTROLLER,…:]PATH
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Also in a paused container; the program runs when it is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The program and its arguments
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// `ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// table or json
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Options of ps(1)
    #[arg(value_name = "PS_OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// `update`
#[derive(Debug, Args)]
pub struct Update {
    /// Take the limits from this file, - for standard input: an object as linux.resources
    #[arg(short, long, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Weight of block I/O, 10..1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Length of a period in which CPU time is shared out, in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_period: Option<u64>,
    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "USEC", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// CPU time that may be saved up, in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_burst: Option<u64>,
    /// Share of CPU time against other containers, 2..262144
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// Period for real-time processes, in microseconds (v1)
    #[arg(long, value_name = "USEC")]
    pub cpu_rt_period: Option<u64>,
    /// CPU time of real-time processes in each period, in microseconds (v1)
    #[arg(long, value_name = "USEC", allow_negative_numbers = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// 1: run only when nobody else wants to
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub cpu_idle: Option<i64>,
    /// CPUs that may be used, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory: Option<String>,
    /// Memory that is kept for the container as long as there is enough
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory and swap together
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true)]
    pub memory_swap: Option<String>,
    /// Accepted for runc's sake: kernels from 5.4 on have no such limit
    #[arg(long, hide = true, value_name = "SIZE", allow_negative_numbers = true)]
    pub kernel_memory: Option<String>,
    /// Accepted for runc's sake
    #[arg(long, hide = true, value_name = "SIZE", allow_negative_numbers = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Most processes and threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Schema of the level 3 cache for the container's resctrl group
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Schema of memory bandwidth for the container's resctrl group
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// Print once what it uses, and return
    #[arg(long)]
    pub stats: bool,
    /// Time between two prints, such as 5s, 500ms or 1m30s
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub interval: String,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `delete`
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill what still runs; a container that is not there is no error
    #[arg(short, long)]
    pub force: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `list`
#[derive(Debug, Args)]
pub struct List {
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// table or json
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table, value_name = "FORMAT")]
    pub format: ListFormat,
}

/// Form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ListFormat {
    Table,
    Json,
}

/// Form of `check` and `plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum TextFormat {
    Text,
    Json,
}

/// What `checkpoint` and `restore` share.
#[derive(Debug, Args)]
pub struct Images {
    /// Directory of the files
    #[arg(long, default_value = "checkpoint", value_name = "DIR")]
    pub image_path: PathBuf,
    /// Directory for CRIU's log [default: that of the files]
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Allow unix sockets that are connected to a process outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Allow a session or a terminal that began outside
    #[arg(long)]
    pub shell_job: bool,
    /// Allow file locks
    #[arg(long)]
    pub file_locks: bool,
    /// Settings of cgroups: soft (in those that are made), full, strict (and none may be there), ignore
    #[arg(long, value_enum, value_name = "MODE")]
    pub manage_cgroups_mode: Option<CgroupMode>,
    /// Make this namespace, but restore nothing in it: network
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// Drop pages from older files that newer ones have
    #[arg(long)]
    pub auto_dedup: bool,
    /// Move pages when they are needed (userfaultfd(2))
    #[arg(long)]
    pub lazy_pages: bool,
}

/// How cgroups are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum CgroupMode {
    Soft,
    Full,
    Strict,
    Ignore,
}

/// `checkpoint`
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub images: Images,
    /// Files of an earlier pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(short = 'R', long)]
    pub leave_running: bool,
    /// Write memory alone, and let the container run on: the checkpoint that follows is shorter
    #[arg(short = 'P', long)]
    pub pre_dump: bool,
    /// Send memory to this server (criu page-server)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// Write a zero byte to this descriptor once pages can be fetched
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    pub status_fd: Option<i32>,
    /// Give a name to files that are open and deleted, where their file system allows it
    #[arg(long)]
    pub link_remap: bool,
    /// Leave out TCP connections that are being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
}

/// `restore`
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub images: Images,
    /// Leave the container running and return
    #[arg(short, long)]
    pub detach: bool,
    /// Do not become the reaper of orphaned processes (accepted for runc's sake; rt never does)
    #[arg(long)]
    pub no_subreaper: bool,
    /// Another profile than the processes had: TYPE:NAME
    #[arg(long, value_name = "LABEL")]
    pub lsm_profile: Option<String>,
    /// SELinux context for the mounts
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
}

/// `spec`
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// Where to write config.json
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub bundle: PathBuf,
    /// For a plain user: with a user namespace that maps the caller to root
    #[arg(long)]
    pub rootless: bool,
}

/// `check` and `plan`
#[derive(Debug, Args)]
pub struct Inspect {
    /// The bundle's directory
    #[arg(default_value = ".", value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// text or json
    #[arg(short, long, value_enum, default_value_t = TextFormat::Text, value_name = "FORMAT")]
    pub format: TextFormat,
}
