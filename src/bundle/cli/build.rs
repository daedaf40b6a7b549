//! `build` and `builder`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{FormatFlag, LimitFlag, RegistryFlags};

/// How a build shows what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// Lines that change on a terminal, plain lines else.
    Auto,
    /// Lines that change.
    Tty,
    /// All output, line by line.
    Plain,
    /// One JSON object a line.
    Json,
    /// The same.
    #[value(name = "rawjson", hide = true)]
    RawJson,
    /// Nothing.
    Quiet,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
#[allow(clippy::struct_field_names)] // they are the flags' names
pub struct Build {
    /// Dockerfile; `-` is the standard input [default: Dockerfile in the context]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<String>,
    /// Name of the image; several times for several
    #[arg(short, long, value_name = "NAME")]
    pub tag: Vec<String>,
    /// Value of an ARG; NAME alone takes it from the caller's environment. `BUILDKIT_INLINE_CACHE=1` has the image tell of
    /// its steps, for `--cache-from`
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Stage that is wanted, by its name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Do each step anew
    #[arg(long)]
    pub no_cache: bool,
    /// Do each step of these stages anew
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// Look in the registry for newer base images
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set, value_name = "true|false")]
    pub pull: bool,
    /// Secret for RUN --mount=type=secret: `id=NAME,src=FILE` or `id=NAME,env=VARIABLE`
    #[arg(long, value_name = "id=NAME[,src=FILE|env=NAME]")]
    pub secret: Vec<String>,
    /// Agent for RUN --mount=type=ssh [default socket: SSH_AUTH_SOCK]
    #[arg(long, value_name = "default|NAME=SOCKET")]
    pub ssh: Vec<String>,
    /// Another tree for FROM and `from=`: a directory, or docker-image://IMAGE
    #[arg(long, value_name = "NAME=DIR|IMAGE")]
    pub build_context: Vec<String>,
    /// Label of the image
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Platform that is built for [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Network of RUN: `default`, `none`, `host`, or a network's name
    #[arg(long, value_name = "NETWORK", env = "BUNDLE_NETWORK")]
    pub network: Option<String>,
    /// Let RUN have `network.host` (with --network=host) or `security.insecure` (with --security=insecure)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Where the result goes, in place of the store: `type=oci|docker|tar,dest=FILE`, `type=local,dest=DIR`, a
    /// directory, or `-` for a tar to the standard output; `type=image,name=NAME`
    #[arg(short, long, value_name = "TARGET")]
    pub output: Vec<String>,
    /// How to show what is done; it goes to the standard error
    #[arg(long, value_name = "KIND", default_value = "auto")]
    pub progress: ProgressKind,
    /// Image whose layers stand for the steps that made them, fetched if it is not here. It has to be built with
    /// `--build-arg BUILDKIT_INLINE_CACHE=1`, and decides what those steps come to: name only images that you trust
    #[arg(long, value_name = "IMAGE[,IMAGE]|type=registry,ref=IMAGE")]
    pub cache_from: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Write what was made to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Add a line to /etc/hosts of RUN
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Size of /dev/shm of RUN [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Limit of a resource for RUN, such as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Most memory of a RUN, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Weight of processor time of RUN
    #[arg(short, long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// Processors that RUN may use, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Cgroup that the one of RUN is made in
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Option of RUN's confinement, as with `run`
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// Print the image's id and nothing else
    #[arg(short, long)]
    pub quiet: bool,
    /// Nothing: what a step has made is in layers, no container is kept
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub rm: Option<bool>,
    /// Nothing, as --rm
    #[arg(long, hide = true)]
    pub force_rm: bool,
    /// Nothing: images are in the store anyway
    #[arg(long, hide = true)]
    pub load: bool,
    #[command(flatten)]
    pub limit: LimitFlag,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Context: a directory, or `-` for a tar or a Dockerfile on the standard input
    #[arg(value_name = "CONTEXT")]
    pub context: String,
}

#[derive(Subcommand, Debug)]
pub enum Builder {
    /// Remove what builds keep for later ones: steps whose layers no image has
    #[command(after_help = "Example: bundle builder prune --filter until=24h")]
    Prune(BuilderPrune),
    /// List what builds keep: steps, and directories of cache mounts
    #[command(after_help = "Example: bundle builder du --format '{{.Size}} {{.Description}}'")]
    Du(BuilderDu),
}

#[derive(Args, Debug)]
pub struct BuilderPrune {
    /// All steps, also those whose layers images have, and the directories of cache mounts
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// `until=24h`: only what was not used since
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    #[command(flatten)]
    pub format: FormatFlag,
}

#[derive(Args, Debug)]
pub struct BuilderDu {
    /// `table`, `json`, or a template such as `{{.ID}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}
