//! Commands that make and remove containers and images.

use clap::{Args, ValueEnum};

use super::super::PullWhen;

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
