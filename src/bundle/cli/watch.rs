//! The flags of the commands that look at containers: `logs`, `events`, `stats`, `metrics`, `top`; and of `cp`.

use clap::Args;

#[derive(Args, Debug)]
pub struct Logs {
    /// Wait for more, until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all")]
    pub tail: String,
    /// Only lines from this time on: `10m` (ago), `2026-01-31T12:00:00Z`, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only lines until this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Each line's time in front of it
    #[arg(short, long)]
    pub timestamps: bool,
    /// Refused: logs have no further attributes here
    #[arg(long, hide = true)]
    pub details: bool,
    /// Container: a name or an id
    pub container: String,
}

#[derive(Args, Debug)]
pub struct Events {
    /// What has happened from this time on, too: `10m` (ago), `2026-01-31T12:00:00Z`, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until this time, and no longer
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// `type=`, `event=`, `container=`, `image=`, `volume=`, `network=`, `label=`, `scope=`
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// `json`, or a template such as `{{.Type}} {{.Action}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Args, Debug)]
pub struct Cp {
    /// Keep owners, extended attributes, and, out of a container, devices and setuid [default: all is root's in a
    /// container, and the caller's on the host]
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a symbolic link leads to, where the path to be copied is one
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// `CONTAINER:PATH`, a path of the host, or `-` for an archive on the standard input; `PATH/.` is what is in it
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// `CONTAINER:PATH`, a path of the host, or `-` for an archive on the standard output
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}

#[derive(Args, Debug)]
pub struct Stats {
    /// Those that have ended too, where no names are given
    #[arg(short, long)]
    pub all: bool,
    /// Once, and not again every second
    #[arg(long)]
    pub no_stream: bool,
    /// Whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// `table`, `json`, or a template such as `{{.Name}} {{.CPUPerc}}`; `.Counters` has all that is counted
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Containers: names or ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Args, Debug)]
pub struct Top {
    /// `table`, `json`, or a template such as `{{.PID}} {{.CMD}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Container, and which columns: `-o LIST` of user, uid, pid, nspid, ppid, pgid, sid, stat, nlwp, ni, pri, c, rss,
    /// vsz, stime, etime, tty, time, comm, cmd, args
    #[arg(value_names = ["CONTAINER", "COLUMNS"], num_args = 1.., required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}
