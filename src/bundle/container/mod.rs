//! Containers: who they are (`record`), what they are doing (`state`, `settle`), what goes before the runtime
//! (`spec`, `prepare`), and what can be done with them.

pub mod attach;
pub mod changes;
pub mod copy;
pub mod demo;
pub mod exec;
pub mod files;
pub mod ids;
pub mod leftover;
pub mod lifecycle;
pub mod log;
pub mod mapped;
pub mod prepare;
pub mod processes;
pub mod record;
pub mod remove;
pub mod root;
pub mod runtime;
mod seccomp;
pub mod settle;
pub mod shown;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
pub mod units;
pub mod users;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::monitor::plan::{Health, Plan};
use crate::tool::Tool;
use record::Container;

/// An id of a container or a nameless volume: 64 random hexadecimal digits.
pub fn random_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("random bytes")?;
    Ok(bytes.iter().map(|it| format!("{it:02x}")).collect())
}

/// Ends what is left of a container whose monitor was killed, and removes all that lies outside of the store. What
/// cannot be undone its record goes on to tell of.
fn clear(tool: &Tool, container: &Container) -> Result<()> {
    container.runtime(tool).delete();
    if !tool.plain_user
        && let Ok(path) = spec::cgroup(&container.settings.flags, &container.id)
    {
        leftover::remove_cgroups(&path);
    }
    let run_dir = container.run_dir(tool);
    crate::network::detach::detach(&run_dir)
        .with_context(|| format!("the networks of container {}", container.name))?;
    runtime::remove_run_dir(&run_dir);
    Ok(())
}

/// The same for who has other things to do: should it fail, it is done when somebody comes next.
fn try_clear(tool: &Tool, container: &Container) {
    if let Err(error) = clear(tool, container) {
        crate::complain(&error);
    }
}

/// What a container's monitor is told; `document` is its config.json.
fn plan(tool: &Tool, container: &Container, document: &Value) -> Result<Plan> {
    let settings = &container.settings;
    let (image, flags) = (&settings.image, &settings.flags);
    let log = spec::log_options(flags)?;
    Ok(Plan {
        id: container.id.clone(),
        name: container.name.clone(),
        image: container.image_name.clone(),
        store: tool.store()?.root().to_owned(),
        driver: container.driver(tool),
        plain_user: tool.plain_user,
        run_dir: container.run_dir(tool),
        runtime: container.runtime(tool).program,
        cgroup: if tool.plain_user { None } else { Some(spec::cgroup(flags, &container.id)?) },
        terminal: flags.tty,
        size: None,
        input: settings.interactive,
        input_once: settings.input_once,
        remove: container.remove,
        log: (log.driver == spec::LogDriver::Files).then_some(log),
        restart: spec::restart(flags)?,
        health: spec::health(image, flags)?
            .map(|check| Health { process: health_process(document, &check.test), check }),
        stop_signal: spec::stop_signal(image, flags)?,
        stop_timeout: spec::stop_timeout(flags)?.map_or(-1, i64::from),
        adopt: false,
    })
}

/// The process object of a health check: the container's own program with other words.
fn health_process(document: &Value, test: &[String]) -> Value {
    let mut process = document["process"].clone();
    process["terminal"] = json!(false);
    process["args"] = match test.split_first() {
        Some((word, line)) if word == "CMD-SHELL" => json!(["/bin/sh", "-c", line.join(" ")]),
        Some((_, words)) => json!(words),
        None => json!([]),
    };
    process
}
pub mod watched;
