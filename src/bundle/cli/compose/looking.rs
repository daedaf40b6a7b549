//! Commands that look at containers that are there, and after them.

use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
pub struct Ps {
    /// Those too that do not run
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Names of services only
    #[arg(long)]
    pub services: bool,
    /// Only those of this state: created, running, paused, restarting, exited
    #[arg(long, value_name = "STATE")]
    pub status: Vec<String>,
    /// `table`, `json`, or a template such as `{{.Name}} {{.Status}}`
    ///
    /// There are ID, Name, Service, Project, Image, Command, CreatedAt, RunningFor, State, Status, Health, ExitCode,
    /// Ports, Publishers and Labels.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub names: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Logs {
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many lines from the end of each container's
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub tail: String,
    /// Each line's time in front of it
    #[arg(short, long)]
    pub timestamps: bool,
    /// From this time on: `10m` (ago), `2026-01-31T12:00:00Z`, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// No colours
    #[arg(long)]
    pub no_color: bool,
    /// No names in front of lines
    #[arg(long)]
    pub no_log_prefix: bool,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Stop {
    /// Seconds until SIGKILL; -1 for never [default: the service's, or 10]
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Restart {
    /// Seconds until SIGKILL; -1 for never [default: the service's, or 10]
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// Leave alone those that ask to be restarted with these
    #[arg(long)]
    pub no_deps: bool,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Kill {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
    /// Also containers of services that are not in the files any more
    #[arg(long)]
    pub remove_orphans: bool,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Rm {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Stop them before
    #[arg(short, long)]
    pub stop: bool,
    /// Remove their volumes without a name too
    #[arg(short, long)]
    pub volumes: bool,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Wait {
    /// Remove the project when the first of them has ended
    #[arg(long)]
    pub down_project: bool,
    /// Services
    #[arg(value_name = "SERVICE", required = true)]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Config {
    /// `yaml` or `json`
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    pub format: ConfigFormat,
    /// Only look whether it is in order
    #[arg(short, long)]
    pub quiet: bool,
    /// Names of services only
    #[arg(long)]
    pub services: bool,
    /// Names of volumes only
    #[arg(long)]
    pub volumes: bool,
    /// Names of networks only
    #[arg(long)]
    pub networks: bool,
    /// Names of images only
    #[arg(long)]
    pub images: bool,
    /// Names of profiles only
    #[arg(long)]
    pub profiles: bool,
    /// The variables that can be filled in, with their values
    #[arg(long)]
    pub environment: bool,
    /// Fingerprint of a service, or `*` for all: another one means new containers
    #[arg(long, value_name = "SERVICE")]
    pub hash: Option<String>,
    /// Leave variables as they are
    #[arg(long)]
    pub no_interpolate: bool,
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<std::path::PathBuf>,
    /// Services, with those that they wait for [default: all that are active]
    #[arg(value_name = "SERVICE")]
    pub names: Vec<String>,
}

/// How the project is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConfigFormat {
    /// As a compose file.
    Yaml,
    /// The same as JSON.
    Json,
}

#[derive(Args, Debug)]
pub struct Events {
    /// One object a line
    #[arg(long)]
    pub json: bool,
    /// From this time on: `10m` (ago), `2026-01-31T12:00:00Z`, or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Up to this time [default: wait for more]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct PortOf {
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub index: u32,
    /// `tcp` or `udp`
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    pub protocol: String,
    /// Service
    pub service: String,
    /// Its port
    pub port: u16,
}

#[derive(Args, Debug)]
pub struct Images {
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// `table`, `json`, or a template such as `{{.ContainerName}} {{.ID}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Ls {
    /// Those too none of whose containers runs
    #[arg(short, long)]
    pub all: bool,
    /// Names only
    #[arg(short, long)]
    pub quiet: bool,
    /// `table`, `json`, or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
