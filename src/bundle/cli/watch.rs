//! The flags of the commands that look at containers: `logs`, `events`, `stats`, `metrics`, `top`; and of `cp`.

use clap::Args;

#[derive(Args, Debug)]
pub struct Logs {
    /// Go on showing what is written, until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Show only so many lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all", allow_hyphen_values = true)]
    pub tail: String,
    /// Show only what was written from this time on: `10m` (ago), `2026-01-31T12:00:00Z`, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show only what was written until this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show in front of each line when it was written
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
    /// Begin with what has happened from this time on: `10m` (ago), `2026-01-31T12:00:00Z`, or seconds since 1970
    /// [default: now]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End at this time; `0s` is now [default: wait for more]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show only those that fit `type=`, `event=`, `container=`, `image=`, `volume=`, `network=`, `label=`
    ///
    /// Where a word is given several times one of them has to fit. `type=` is container, image, volume or network,
    /// `event=` such as create, start, die, stop, kill, oom or health_status, `container=` and the others a name or an id,
    /// `label=KEY[=VALUE]`.
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// `json`, or a template such as `{{.Action}} {{.Actor.Attributes.name}}`
    ///
    /// There are Type, Action, Actor, time and timeNano. `json` is one object a line.
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
    /// Show all, not only those that run; with names it means nothing
    #[arg(short, long)]
    pub all: bool,
    /// Show it once, and not anew every second
    #[arg(long)]
    pub no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// `table`, `json`, or a template such as `{{.Name}} {{.CPUPerc}}`
    ///
    /// There are ID, Name, CPUPerc (100% is one processor), MemUsage, MemPerc (of its limit, or else of the machine's
    /// memory), NetIO (received / sent), BlockIO (read / written), PIDs, and Counters: all that is counted, throttling
    /// and pressure too. `json` is one object a line.
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
