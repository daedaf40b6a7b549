//! The command line: global flags, and one struct a command. Docker's words where Docker has them. Nothing but
//! definitions: completions and man pages are made of them by ../../contrib/generate.

pub mod build;
pub mod compose;
pub mod containers;
pub mod flags;
pub mod network;
pub mod volume;
pub mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use flags::Flags;

/// Images and containers without a daemon, on any OCI runtime.
#[derive(Parser, Debug)]
#[command(name = "bundle", version, about, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Example: bundle run demo")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Directory of the store [default: /var/lib/bundle, a plain user's ~/.local/share/bundle]
    #[arg(long, global = true, value_name = "DIR", env = "BUNDLE_ROOT")]
    pub root: Option<PathBuf>,
    /// OCI runtime that runs containers [default: rt]
    #[arg(long, global = true, value_name = "PROGRAM", env = "BUNDLE_RUNTIME")]
    pub runtime: Option<String>,
    /// How layers become a root file system: stacked by the kernel, or copied for each container
    #[arg(long, global = true, value_name = "DRIVER", default_value = "overlay", env = "BUNDLE_STORAGE_DRIVER")]
    pub storage_driver: Driver,
}

/// How layers become one root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Stacked by the kernel.
    Overlay,
    /// Copied, for each container anew.
    Vfs,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make a container of an image and run it
    #[command(after_help = "Example: bundle run --rm -it debian sh")]
    Run(Box<containers::Run>),
    /// Make a container of an image, to be started later
    #[command(after_help = "Example: bundle create --name web -e PORT=80 nginx")]
    Create(Box<containers::Create>),
    /// Start containers that do not run
    #[command(after_help = "Example: bundle start --attach web")]
    Start(containers::Start),
    /// Ask containers to end, and kill those that do not
    #[command(after_help = "Example: bundle stop --time 30 web db")]
    Stop(containers::Stop),
    /// Stop containers and start them again
    #[command(after_help = "Example: bundle restart web")]
    Restart(containers::Stop),
    /// Send the first process of containers a signal
    #[command(after_help = "Example: bundle kill --signal HUP web")]
    Kill(containers::Kill),
    /// Freeze all processes of containers
    #[command(after_help = "Example: bundle pause web")]
    Pause(containers::Containers),
    /// Let them go on
    #[command(after_help = "Example: bundle unpause web")]
    Unpause(containers::Containers),
    /// Wait until containers have ended, and print their exit statuses
    #[command(after_help = "Example: bundle wait job")]
    Wait(containers::Containers),
    /// List containers and what they are doing: created, running, paused, restarting, or how they ended
    #[command(
        visible_alias = "list",
        after_help = "Example: bundle ps --all --filter status=exited --format '{{.Names}} {{.Status}}'"
    )]
    Ps(containers::Ps),
    /// Run a further program in a container
    #[command(after_help = "Example: bundle exec -it web sh")]
    Exec(containers::Exec),
    /// See what a container writes, and type to it
    #[command(after_help = "Example: bundle attach --detach-keys ctrl-x web")]
    Attach(containers::Attach),
    /// Give a container another name
    #[command(after_help = "Example: bundle rename web web-old")]
    Rename(containers::Rename),
    /// Change limits and restart policy of containers
    #[command(after_help = "Example: bundle update --memory 1g --restart always web")]
    Update(containers::Update),
    /// List what a container has changed of its image's files: added, changed, deleted
    #[command(after_help = "Example: bundle diff web")]
    Diff(containers::Diff),
    /// List where ports of a container are published
    #[command(after_help = "Example: bundle port web 80/tcp")]
    Port(containers::Port),
    /// Start the containers that should run, after the machine's start
    #[command(after_help = "Example: bundle up-again --dry-run")]
    UpAgain(containers::UpAgain),
    /// Make an image of a Dockerfile
    #[command(
        after_help = "Example: bundle build -t app:1.0 --build-arg VERSION=1.0 .\n         bundle build --target test --output type=local,dest=results ."
    )]
    Build(Box<build::Build>),
    /// What builds keep for later ones
    #[command(subcommand)]
    Builder(build::Builder),
    /// Fetch images from a registry
    #[command(after_help = "Example: bundle pull --platform linux/arm64 alpine:3.20")]
    Pull(Pull),
    /// Send an image to a registry
    #[command(after_help = "Example: bundle push registry.example.org/team/app:1.0")]
    Push(Push),
    /// List images
    #[command(after_help = "Example: bundle images --format '{{.Repository}}:{{.Tag}} {{.Size}}'")]
    Images(Images),
    /// Remove images
    #[command(after_help = "Example: bundle rmi alpine:3.20")]
    Rmi(Rmi),
    /// Give an image another name
    #[command(after_help = "Example: bundle tag app:1.0 registry.example.org/team/app:1.0")]
    Tag(Tag),
    /// Show all that is known of containers, images and volumes
    #[command(
        after_help = "Example: bundle inspect --format '{{.State.ExitCode}}' web\n         bundle inspect --why web"
    )]
    Inspect(Inspect),
    /// Show how an image was made
    #[command(after_help = "Example: bundle history --no-trunc alpine")]
    History(History),
    /// Write images to an archive
    #[command(after_help = "Example: bundle save -o images.tar alpine debian:12")]
    Save(Save),
    /// Read images from an archive
    #[command(after_help = "Example: bundle load -i images.tar")]
    Load(Load),
    /// Make an image of a tar of a root file system
    #[command(after_help = "Example: bundle import --change 'CMD [\"sh\"]' rootfs.tar.gz mine:1")]
    Import(Import),
    /// Write the files of a container as a tar
    #[command(after_help = "Example: bundle export -o files.tar web")]
    Export(Export),
    /// Write an OCI bundle of an image, for any runtime
    #[command(
        after_help = "Example: bundle export-bundle -e DEBUG=1 alpine /tmp/alpine && rt run --bundle /tmp/alpine a"
    )]
    ExportBundle(Box<ExportBundle>),
    /// Make an image of what a container has changed
    #[command(after_help = "Example: bundle commit --change 'CMD [\"serve\"]' web mine:2")]
    Commit(Commit),
    /// Remove containers
    #[command(after_help = "Example: bundle rm --force web")]
    Rm(containers::Rm),
    /// Copy files from a container, or into one
    #[command(after_help = "Example: bundle cp web:/var/log/app.log . && bundle cp -a site/. web:/srv/www")]
    Cp(watch::Cp),
    /// Show what the program of a container has written to its standard output and standard error
    #[command(after_help = "Example: bundle logs --follow --tail 20 web")]
    Logs(watch::Logs),
    /// Show the processes of a container
    #[command(after_help = "Example: bundle top web -o pid,user,etime,cmd")]
    Top(watch::Top),
    /// Show the processor time, memory, and input and output that containers use, anew every second
    #[command(after_help = "Example: bundle stats --no-stream --format json web")]
    Stats(watch::Stats),
    /// Print what all containers use, as Prometheus reads it
    #[command(after_help = "Example: bundle metrics > /var/lib/node_exporter/bundle.prom")]
    Metrics,
    /// Show what happens to containers, images and volumes, as it happens
    #[command(after_help = "Example: bundle events --since 10m --filter container=web --format json")]
    Events(watch::Events),
    /// Keep the password of a registry
    #[command(after_help = "Example: bundle login -u me --password-stdin registry.example.org < password")]
    Login(Login),
    /// Forget the password of a registry
    #[command(after_help = "Example: bundle logout registry.example.org")]
    Logout(Logout),
    /// Look for images in a registry
    #[command(after_help = "Example: bundle search --limit 5 nginx")]
    Search(Search),
    /// List the tags of a repository in its registry
    #[command(after_help = "Example: bundle tags registry.example.org/team/app")]
    Tags(Tags),
    /// Look at manifests in a registry
    #[command(subcommand)]
    Manifest(Manifest),
    /// Projects of several containers, as compose files have them
    #[command(after_help = "Example: bundle compose -f compose.yaml up -d")]
    Compose(Box<compose::Compose>),
    /// Networks: who reaches whom
    #[command(subcommand, after_help = "Example: bundle network create front")]
    Network(network::Network),
    /// Volumes: data that outlives containers
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Remove what is not used
    #[command(after_help = "Example: bundle prune --all --dry-run")]
    Prune(Prune),
    /// Look after the store
    #[command(subcommand)]
    Store(StoreCommand),
}

/// When to fetch an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullWhen {
    /// Where it is not here.
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// How registries are spoken to.
#[derive(Args, Clone, Debug, Default)]
pub struct RegistryFlags {
    /// Whether TLS must be in order; `false` also allows plain http
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tls_verify: Option<bool>,
}

/// How large a layer may be.
#[derive(Args, Clone, Debug, Default)]
pub struct LimitFlag {
    /// Most that one layer may be, unpacked [default: 1 GiB or 100 times its compressed size, whichever is more]
    #[arg(long, value_name = "BYTES")]
    pub max_layer_size: Option<String>,
}

/// The form of a result that is no table.
#[derive(Args, Clone, Debug, Default)]
pub struct FormatFlag {
    /// `text` or `json`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Args, Debug)]
pub struct Pull {
    #[command(flatten)]
    pub format: FormatFlag,
    /// Platform, where the image has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// All tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print the image's id and nothing else
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub limit: LimitFlag,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Images to fetch
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Push {
    #[command(flatten)]
    pub format: FormatFlag,
    /// All tags that the repository has here
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Image to send
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Name that it gets there [default: its own]
    #[arg(value_name = "NAME")]
    pub destination: Option<String>,
}

#[derive(Args, Debug)]
pub struct Images {
    /// Images without a name too
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Column of digests
    #[arg(long)]
    pub digests: bool,
    /// `dangling=true`, `reference=PATTERN`, `label=KEY[=VALUE]`, `before=IMAGE`, `since=IMAGE`
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// `table`, `json`, or a template such as `{{.ID}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Only this repository, or this name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Rmi {
    /// Also when it has several names, or a container was made of it
    #[arg(short, long)]
    pub force: bool,
    /// Keep the image itself when its last name goes
    #[arg(long)]
    pub no_prune: bool,
    #[command(flatten)]
    pub format: FormatFlag,
    /// Images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Tag {
    /// Image: a name or an id
    pub image: String,
    /// New name
    pub name: String,
}

#[derive(Args, Debug)]
pub struct Inspect {
    /// `json`, or a template such as `{{.Id}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Only a `container`, an `image`, or a `volume`
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<InspectType>,
    /// Sizes of what containers have written
    #[arg(short, long)]
    pub size: bool,
    /// Say in words why containers have failed, and what to try
    #[arg(long)]
    pub why: bool,
    /// Containers, images, networks, volumes: names or ids
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// What a name is looked up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InspectType {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

#[derive(Args, Debug)]
pub struct History {
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Whole commands and ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Sizes and times for people
    #[arg(short = 'H', long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub human: bool,
    /// `table`, `json`, or a template such as `{{.CreatedBy}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Image: a name or an id
    pub image: String,
}

/// The forms of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ArchiveFormat {
    /// OCI layout with Docker's manifest.json beside it: everybody reads one of them.
    Both,
    /// OCI layout.
    OciArchive,
    /// Docker's, layers not compressed.
    DockerArchive,
    /// OCI layout in a directory.
    OciDir,
}

#[derive(Args, Debug)]
pub struct Save {
    /// File, or directory for oci-dir [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_name = "FORMAT", default_value = "both")]
    pub format: ArchiveFormat,
    /// Images: names or ids
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Load {
    /// File, or directory with an OCI layout [default: the standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Platform, where an image has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    /// Print nothing but the names
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub limit: LimitFlag,
    #[command(flatten)]
    pub format: FormatFlag,
}

#[derive(Args, Debug)]
pub struct Import {
    #[command(flatten)]
    pub format: FormatFlag,
    /// Instruction for the configuration: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME, WORKDIR, STOPSIGNAL, ONBUILD
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Comment in the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Platform in the configuration [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<String>,
    #[command(flatten)]
    pub limit: LimitFlag,
    /// Tar, plain or compressed with gzip or zstd; `-` is the standard input
    pub file: String,
    /// Name of the image
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Export {
    /// File [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Container: a name or an id
    pub container: String,
}

#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct ExportBundle {
    #[command(flatten)]
    pub flags: Flags,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Image: a name or an id
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Directory that is made, or that is empty
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Program and its arguments, in the place of the image's command
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Commit {
    #[command(flatten)]
    pub format: FormatFlag,
    /// Instruction for the configuration, as with import
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Comment in the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Author in the configuration
    #[arg(short, long, value_name = "TEXT")]
    pub author: Option<String>,
    /// Freeze the container while its files are read [default: where that can be]
    #[arg(short, long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub pause: Option<bool>,
    /// Container: a name or an id
    pub container: String,
    /// Name of the image
    pub name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Login {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Password; it can be seen in the list of processes, --password-stdin cannot
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Read the password from the standard input
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub host: String,
}

#[derive(Args, Debug)]
pub struct Logout {
    /// Registry
    #[arg(value_name = "REGISTRY", default_value = "docker.io")]
    pub host: String,
}

#[derive(Args, Debug)]
pub struct Search {
    /// Most that are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 25)]
    pub limit: usize,
    /// Whole descriptions
    #[arg(long)]
    pub no_trunc: bool,
    /// `table`, `json`, or a template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// What to look for; a registry before the first slash
    pub term: String,
}

#[derive(Args, Debug)]
pub struct Tags {
    /// `table`, `json`, or a template such as `{{.Tag}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Repository
    pub name: String,
}

#[derive(Subcommand, Debug)]
pub enum Manifest {
    /// Print a manifest or index as the registry has it
    #[command(after_help = "Example: bundle manifest inspect alpine:3.20")]
    Inspect(ManifestInspect),
}

#[derive(Args, Debug)]
pub struct ManifestInspect {
    /// `json`, or a template such as `{{.mediaType}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// With descriptor, and the manifests that an index points to
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
    /// Image
    pub image: String,
}

#[derive(Args, Debug)]
pub struct Prune {
    /// All images that no container was made of, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    /// Containers that have ended too
    #[arg(long)]
    pub containers: bool,
    /// Networks that no container is in too
    #[arg(long)]
    pub networks: bool,
    /// Only say what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub format: FormatFlag,
}

#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Compare everything with its digest and the database
    #[command(after_help = "Example: bundle store check --repair")]
    Check(StoreCheck),
}

#[derive(Args, Debug)]
pub struct StoreCheck {
    /// Remove what is damaged, so that it can be fetched again
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    pub format: FormatFlag,
}
