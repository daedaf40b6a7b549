//! The flags of `bundle volume`.

use clap::{Args, Subcommand};

#[derive(Subcommand, Debug)]
pub enum Volume {
    /// Make a volume
    #[command(after_help = "Example: bundle volume create --label team=web data")]
    Create(Create),
    /// List volumes
    #[command(visible_alias = "list", after_help = "Example: bundle volume ls --filter dangling=true")]
    Ls(Ls),
    /// Show all that is known of volumes
    #[command(after_help = "Example: bundle volume inspect --format '{{.Mountpoint}}' data")]
    Inspect(Inspect),
    /// Remove volumes that no container has
    #[command(visible_alias = "remove", after_help = "Example: bundle volume rm data")]
    Rm(Rm),
    /// Remove all volumes that no container has and nobody has named
    #[command(after_help = "Example: bundle volume prune --all --dry-run")]
    Prune(Prune),
}

#[derive(Args, Debug)]
pub struct Create {
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Option of the driver `local`: `type=`, `device=`, `o=` of mount(8); without any it is a directory
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Driver: only `local` is there
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    pub driver: String,
    /// Name [default: a random one]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Ls {
    /// Names only
    #[arg(short, long)]
    pub quiet: bool,
    /// `dangling=true|false`, `name=PART`, `label=KEY[=VALUE]`, `driver=local`
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// `table`, `json`, or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Args, Debug)]
pub struct Inspect {
    /// `json`, or a template such as `{{.Mountpoint}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Volumes
    #[arg(value_name = "VOLUME", required = true)]
    pub volumes: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Rm {
    /// One that is not there is no error
    #[arg(short, long)]
    pub force: bool,
    /// Volumes
    #[arg(value_name = "VOLUME", required = true)]
    pub volumes: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Prune {
    /// Volumes with a name too
    #[arg(short, long)]
    pub all: bool,
    /// `label=KEY[=VALUE]`, `label!=KEY[=VALUE]`
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub format: super::FormatFlag,
}
