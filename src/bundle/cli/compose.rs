//! The flags of `bundle compose`.

use clap::{Args, Subcommand, ValueEnum};

use super::PullWhen;

#[derive(Args, Debug)]
pub struct Compose {
    #[command(flatten)]
    pub project: Which,
    #[command(subcommand)]
    pub command: Command,
}

/// Which project.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// A compose file, or several, later ones over earlier ones; `-` is the standard input [default: COMPOSE_FILE, or
    /// compose.yaml, compose.yml, docker-compose.yml or docker-compose.yaml here or above, and its override]
    #[arg(short, long, value_name = "FILE")]
    pub file: Vec<String>,
    /// Name of the project [default: COMPOSE_PROJECT_NAME, the file's `name`, or the directory's]
    #[arg(short, long, value_name = "NAME")]
    pub project_name: Option<String>,
    /// Activate services that have this profile; `*` for all [default: COMPOSE_PROFILES]
    #[arg(long, value_name = "PROFILE")]
    pub profile: Vec<String>,
    /// Read variables from this file in the place of .env
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Directory that relative paths begin in [default: the first file's]
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<String>,
    /// How steps are shown
    #[arg(long, value_name = "LOOK", default_value = "auto")]
    pub progress: Look,
    /// Whether colours are used
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub ansi: When,
}

/// How steps are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Look {
    /// Lines that change on a terminal, a line a step else.
    Auto,
    /// Lines that change.
    Tty,
    /// A line a step.
    Plain,
    /// Not at all.
    Quiet,
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Make and start services, and whatever has changed anew
    #[command(after_help = "Example: bundle compose up -d --wait")]
    Up(Up),
    /// Stop and remove containers and networks
    #[command(after_help = "Example: bundle compose down --volumes")]
    Down(Down),
    /// List the project's containers
    #[command(after_help = "Example: bundle compose ps --all --format json")]
    Ps(Ps),
    /// Show what services have written
    #[command(after_help = "Example: bundle compose logs --follow --tail 20 web")]
    Logs(Logs),
    /// Run a further program in a service's container
    #[command(after_help = "Example: bundle compose exec web sh")]
    Exec(Exec),
    /// Run a program in a new container of a service
    #[command(after_help = "Example: bundle compose run --rm web ./manage.py migrate")]
    Run(Box<Run>),
    /// Build the images of services
    #[command(after_help = "Example: bundle compose build --no-cache web")]
    Build(Building),
    /// Fetch the images of services
    #[command(after_help = "Example: bundle compose pull --ignore-buildable")]
    Pull(Pull),
    /// Make containers without starting them
    #[command(after_help = "Example: bundle compose create --force-recreate")]
    Create(Create),
    /// Start containers that are there
    #[command(after_help = "Example: bundle compose start web")]
    Start(Services),
    /// Stop containers
    #[command(after_help = "Example: bundle compose stop --timeout 30 web")]
    Stop(Stop),
    /// Stop containers and start them again
    #[command(after_help = "Example: bundle compose restart web")]
    Restart(Restart),
    /// Send containers a signal
    #[command(after_help = "Example: bundle compose kill --signal HUP web")]
    Kill(Kill),
    /// Freeze containers
    #[command(after_help = "Example: bundle compose pause web")]
    Pause(Services),
    /// Let them go on
    #[command(after_help = "Example: bundle compose unpause web")]
    Unpause(Services),
    /// Remove containers that have ended
    #[command(after_help = "Example: bundle compose rm --stop --force web")]
    Rm(Rm),
    /// Wait until containers have ended, and print their exit statuses
    #[command(after_help = "Example: bundle compose wait migration")]
    Wait(Wait),
    /// Show the project as it is read: merged, filled in, complete
    #[command(visible_alias = "convert", after_help = "Example: bundle compose config --services")]
    Config(Config),
    /// Show what happens to the project's containers
    #[command(after_help = "Example: bundle compose events --json")]
    Events(Events),
    /// Show the processes of containers
    #[command(after_help = "Example: bundle compose top web")]
    Top(Services),
    /// Print where a port of a service is published
    #[command(after_help = "Example: bundle compose port web 80")]
    Port(PortOf),
    /// List the images that containers were made of
    #[command(after_help = "Example: bundle compose images --quiet")]
    Images(Images),
    /// List the projects that have containers
    #[command(after_help = "Example: bundle compose ls --all")]
    Ls(Ls),
}

/// Some of the services.
#[derive(Args, Debug)]
pub struct Services {
    /// Services [default: all that are active]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// How containers are made.
#[derive(Args, Clone, Debug, Default)]
pub struct Making {
    /// Build images before
    #[arg(long)]
    pub build: bool,
    /// Build nothing, though an image is missing
    #[arg(long, conflicts_with = "build")]
    pub no_build: bool,
    /// When to fetch images [default: the service's pull_policy, or missing]
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<PullWhen>,
    /// Say nothing while fetching
    #[arg(long)]
    pub quiet_pull: bool,
    /// Make containers anew, changed or not
    #[arg(long)]
    pub force_recreate: bool,
    /// Leave containers as they are, changed or not
    #[arg(long, conflicts_with = "force_recreate")]
    pub no_recreate: bool,
    /// Remove containers of services that are not in the files any more
    #[arg(long)]
    pub remove_orphans: bool,
    /// How many containers a service has
    #[arg(long, value_name = "SERVICE=NUMBER")]
    pub scale: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Up {
    #[command(flatten)]
    pub making: Making,
    /// Leave them running
    #[arg(short, long)]
    pub detach: bool,
    /// Only the services that are named, not those that they wait for
    #[arg(long)]
    pub no_deps: bool,
    /// With --force-recreate: also those that they wait for
    #[arg(long)]
    pub always_recreate_deps: bool,
    /// Only make them
    #[arg(long)]
    pub no_start: bool,
    /// Make volumes without a name anew in the place of keeping them
    #[arg(short = 'V', long)]
    pub renew_anon_volumes: bool,
    /// Come back when all run, and are healthy where they have a check; leaves them running
    #[arg(long)]
    pub wait: bool,
    /// Seconds that this may take
    #[arg(long, value_name = "SECONDS")]
    pub wait_timeout: Option<u64>,
    /// Seconds that containers have to end in
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// Stop all as soon as one container has ended
    #[arg(long, conflicts_with = "detach")]
    pub abort_on_container_exit: bool,
    /// Stop all as soon as one container has ended with another status than 0
    #[arg(long, conflicts_with_all = ["detach", "abort_on_container_exit"])]
    pub abort_on_container_failure: bool,
    /// End with the exit status of this service's container; stops all when one has ended
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub exit_code_from: Option<String>,
    /// Show only what these services write
    #[arg(long, value_name = "SERVICE")]
    pub attach: Vec<String>,
    /// Do not show what these services write
    #[arg(long, value_name = "SERVICE")]
    pub no_attach: Vec<String>,
    /// No colours
    #[arg(long)]
    pub no_color: bool,
    /// No names in front of lines
    #[arg(long)]
    pub no_log_prefix: bool,
    /// Each line's time in front of it
    #[arg(long)]
    pub timestamps: bool,
    /// Services, with those that they wait for [default: all that are active]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Create {
    #[command(flatten)]
    pub making: Making,
    /// Services, with those that they wait for [default: all that are active]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Down {
    /// Remove the volumes that the files name, and those without a name; what is external stays
    #[arg(short, long)]
    pub volumes: bool,
    /// Remove images of services: `all`, or `local` for those that have no name in the files
    #[arg(long, value_name = "WHICH")]
    pub rmi: Option<Rmi>,
    /// Remove containers of services that are not in the files any more
    #[arg(long)]
    pub remove_orphans: bool,
    /// Seconds that containers have to end in
    #[arg(short, long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub timeout: Option<i64>,
    /// Only these services' containers [default: all, and the networks]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// Which images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rmi {
    /// All.
    All,
    /// Those that were built and have no name in the files.
    Local,
}

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
pub struct Exec {
    /// Leave it running
    #[arg(short, long)]
    pub detach: bool,
    /// Set a variable; `-e NAME` alone takes its value from the caller
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub index: u32,
    /// No terminal [default: one where the standard input is one]
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY")]
    pub no_tty: bool,
    /// All capabilities
    #[arg(long)]
    pub privileged: bool,
    /// User and group, names of the container or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Directory that the program starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Service, program and its arguments
    // One list: behind the service nothing is a flag of ours.
    #[arg(value_names = ["SERVICE", "COMMAND"], num_args = 2.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Run {
    /// Leave it running, and print its name
    #[arg(short, long)]
    pub detach: bool,
    /// Remove it when it has ended
    #[arg(long)]
    pub rm: bool,
    /// Do not start the services that it waits for
    #[arg(long)]
    pub no_deps: bool,
    /// Set a variable; `-e NAME` alone takes its value from the caller
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Program in the place of the service's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// No terminal [default: one where the standard input is one]
    #[arg(short = 'T', long = "no-tty", visible_alias = "no-TTY")]
    pub no_tty: bool,
    /// Publish a port
    #[arg(short, long, value_name = "[[ADDRESS:]HOST:]PORT[/udp]")]
    pub publish: Vec<String>,
    /// Publish the service's ports
    #[arg(short = 'P', long)]
    pub service_ports: bool,
    /// Give it the service's names in its networks
    #[arg(long)]
    pub use_aliases: bool,
    /// User and group, names of the image or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Mount something more
    #[arg(short, long, value_name = "[SOURCE:]PATH[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Directory that the program starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Build its image before
    #[arg(long)]
    pub build: bool,
    /// When to fetch its image [default: the service's pull_policy, or missing]
    #[arg(long, value_name = "WHEN")]
    pub pull: Option<PullWhen>,
    /// Service, and what runs in the place of its command
    // One list: behind the service nothing is a flag of ours.
    #[arg(value_names = ["SERVICE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Building {
    /// Run every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Fetch the images that are built upon anew
    #[arg(long)]
    pub pull: bool,
    /// Set an argument of the build
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub build_arg: Vec<String>,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Services [default: all that are active and are built]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Pull {
    /// Leave away services that are built
    #[arg(long)]
    pub ignore_buildable: bool,
    /// Go on behind images that cannot be fetched
    #[arg(long)]
    pub ignore_pull_failures: bool,
    /// Also for the services that those wait for
    #[arg(long)]
    pub include_deps: bool,
    /// Only images that are missing, or `always` all of them
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub policy: PullWhen,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Services [default: all that are active]
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
