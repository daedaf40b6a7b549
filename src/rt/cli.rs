//! The command line: global flags and one struct a command. Names and meanings are runc's, so that
//! engines and fingers need not change; an option may stand before or after the container's id.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An OCI container runtime.
#[derive(Debug, Parser)]
#[command(
    name = "rt",
    disable_version_flag = true,
    arg_required_else_help = true,
    about = "Run containers from OCI bundles (runtime-spec 1.3.0)",
    after_help = "Example: rt spec --bundle b && rt run --bundle b demo\n\n\
        Environment: XDG_RUNTIME_DIR (a plain user's state directory); LISTEN_FDS with LISTEN_PID and\n\
        NOTIFY_SOCKET are passed on to the container by create and run. No other variable is read."
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
    #[arg(long, hide = true, value_name = "auto|true|false")]
    pub rootless: Option<String>,
    #[arg(long, hide = true, value_name = "PATH")]
    pub criu: Option<PathBuf>,
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
