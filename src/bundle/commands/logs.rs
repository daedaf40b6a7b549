//! `bundle logs`.

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::moment;
use crate::cli::watch::Logs;
use crate::container::log::{self, Options};
use crate::container::{record, settle, spec};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Logs) -> Result<()> {
    let options = options(args)?;
    let container = record::find(tool.store()?, &args.container)?;
    if spec::log_options(&container.settings.flags)?.driver != spec::LogDriver::Files {
        bail!("container {} keeps no logs: it was made with --log-driver none", container.name);
    }
    let dir = container.dir(tool)?.join("log");
    let mut ended = || !matches!(settle::state(tool, &container), Ok(Some(state)) if state.live());
    log::read(&dir, &options, &mut std::io::stdout().lock(), &mut std::io::stderr().lock(), &mut ended)
        .with_context(|| format!("the logs of container {}", container.name))
}

fn options(args: &Logs) -> Result<Options> {
    if args.details {
        bail!("--details: logs have no further attributes here; leave it away");
    }
    lines(args.follow, args.timestamps, &args.tail, args.since.as_deref(), args.until.as_deref())
}

/// Which lines are wanted, by the flags that `logs` and `compose logs` share.
pub fn lines(follow: bool, timestamps: bool, tail: &str, since: Option<&str>, until: Option<&str>) -> Result<Options> {
    let now = Timestamp::now();
    let moment = |flag: &str, text: Option<&str>| {
        text.map(|it| moment::parse(it, now).with_context(|| flag.to_owned())).transpose()
    };
    let tail = match tail {
        "all" => None,
        number => Some(number.parse().ok().with_context(|| format!("--tail {number:?}: a number of lines, or all"))?),
    };
    let (since, until) = (moment("--since", since)?, moment("--until", until)?);
    Ok(Options { follow, tail, since, until, timestamps, only: None })
}
