//! What runs, where, with which variables and limits of its own.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::flags::Flags;
use crate::container::units;
use crate::image::config::Execution;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where `--init` puts this program in a container.
pub const INIT: &str = "/dev/bundle-init";

/// What runs: the entrypoint's words and those of the command.
pub fn arguments(image: &Execution, entrypoint: Option<&str>, command: &[String]) -> Result<Vec<String>> {
    let (first, default): (Vec<String>, &[String]) = match entrypoint {
        // Another entrypoint goes without the image's command, which was meant for its own.
        Some("") => (Vec::new(), &[]),
        Some(program) => (vec![program.to_owned()], &[]),
        None => (image.entrypoint.clone().unwrap_or_default(), image.cmd.as_deref().unwrap_or_default()),
    };
    let rest = if command.is_empty() { default } else { command };
    let words: Vec<String> = first.into_iter().chain(rest.iter().cloned()).collect();
    if words.is_empty() {
        bail!("the image names no program to run: give one behind its name");
    }
    if words.iter().any(|it| it.contains('\0')) {
        bail!("an argument has a NUL in it");
    }
    Ok(words)
}

/// The words that the runtime starts: with `--init` ours come first.
pub fn started(words: Vec<String>, init: bool) -> Vec<String> {
    let own: &[&str] = if init { &[INIT, "init", "--"] } else { &[] };
    own.iter().map(|it| (*it).to_owned()).chain(words).collect()
}

/// The image's variables, then the flags'; what the caller has never comes in by itself.
pub fn environment(image: &Execution, flags: &Flags, hostname: Option<&str>) -> Result<Vec<String>> {
    let mut environment = vec![DEFAULT_PATH.to_owned()];
    if let Some(hostname) = hostname {
        environment.push(format!("HOSTNAME={hostname}"));
    }
    if flags.tty {
        environment.push("TERM=xterm".to_owned());
    }
    let well_formed: Vec<String> = image.env.iter().filter(|it| it.contains('=')).cloned().collect();
    units::set_env(&mut environment, &well_formed).context("the image's environment")?;
    units::set_env(&mut environment, &flags.env).context("--env")?;
    Ok(environment)
}

/// The variables of `--env-file`, then of `--env`, with the caller's values where only a name is given.
pub fn settled_environment(env_file: &[String], env: &[String]) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    for file in env_file {
        let lines = units::lines_of(file).with_context(|| format!("--env-file {file}"))?;
        variables.extend(units::with_callers(&lines).with_context(|| format!("--env-file {file}"))?);
    }
    variables.extend(units::with_callers(env).context("--env")?);
    Ok(variables)
}

/// Where the program starts, cleaned of `.` and `..`.
pub fn workdir(image: &Execution, flags: &Flags) -> Result<String> {
    match flags.workdir.as_deref().unwrap_or(&image.working_dir) {
        "" => Ok("/".to_owned()),
        dir if dir.starts_with('/') && !dir.contains('\0') => Ok(units::clean(dir)),
        dir => bail!("--workdir {dir:?}: not an absolute path"),
    }
}

/// `process.rlimits`; the last of a name counts.
pub fn ulimits(flags: &Flags) -> Result<Vec<Value>> {
    let mut limits: Vec<(String, u64, u64)> = Vec::new();
    for text in &flags.ulimit {
        let limit = units::ulimit(text).context("--ulimit")?;
        limits.retain(|it| it.0 != limit.0);
        limits.push(limit);
    }
    Ok(limits.into_iter().map(|(name, soft, hard)| json!({"type": name, "soft": soft, "hard": hard})).collect())
}

/// `process.oomScoreAdj`.
pub fn oom_score(flags: &Flags, plain_user: bool) -> Result<Option<i32>> {
    let Some(adjust) = flags.oom_score_adj else { return Ok(None) };
    if !(-1000..=1000).contains(&adjust) {
        bail!("--oom-score-adj {adjust}: not between -1000 and 1000");
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|it| it.trim().parse().ok());
    if let Some(own) = own.filter(|own: &i32| plain_user && adjust < *own) {
        bail!("--oom-score-adj {adjust}: a plain user may not go below their own, which is {own}");
    }
    Ok(Some(adjust))
}
