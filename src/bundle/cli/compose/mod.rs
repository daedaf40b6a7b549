//! The flags of `bundle compose`.

mod looking;
mod making;

use clap::{Args, Subcommand, ValueEnum};

pub use looking::*;
pub use making::*;

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
