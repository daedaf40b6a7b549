//! A container as people read it: Docker's words for its state, and all that is known of it.

use serde_json::{Value, json};

use super::record::Container;
use super::state::{State, Status};
use crate::output;

/// `created`, `starting`, `running`, `paused`, `restarting` or `exited`.
pub fn state(state: &State) -> &'static str {
    match state.status {
        Status::Created => "created",
        Status::Starting => "starting",
        Status::Running if state.paused => "paused",
        Status::Running => "running",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
    }
}

/// Such as `Up 3 minutes (healthy)` or `Exited (137) 2 hours ago`; `now` in nanoseconds since 1970.
pub fn status(state: &State, now: i64) -> String {
    // A clock that was set back makes nothing older than now.
    let since = |then: i64| output::age((now - then).max(0) / 1_000_000_000);
    let exit = state.exit.unwrap_or(0);
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Starting => "Starting".to_owned(),
        Status::Restarting => format!("Restarting ({exit}) {} ago", since(state.finished)),
        Status::Exited => format!("Exited ({exit}) {} ago", since(state.finished)),
        Status::Running => {
            let more = match &state.health {
                _ if state.paused => " (Paused)".to_owned(),
                Some(health) if health.status == "starting" => " (health: starting)".to_owned(),
                Some(health) => format!(" ({})", health.status),
                None => String::new(),
            };
            format!("Up {}{more}", since(state.started))
        }
    }
}

/// An RFC 3339 time of nanoseconds since 1970; Docker's time of never for 0.
pub fn time(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0001-01-01T00:00:00Z".to_owned();
    }
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).map_or_else(|_| String::new(), |it| it.to_string())
}

/// Docker's names of what `inspect` shows of the state.
pub fn state_document(it: &State) -> Value {
    let running = matches!(it.status, Status::Starting | Status::Running | Status::Restarting);
    let mut document = json!({
        "Status": state(it),
        "Running": running,
        "Paused": it.paused,
        "Restarting": it.status == Status::Restarting,
        "OOMKilled": it.oom,
        "Dead": false,
        "Pid": it.process.as_ref().filter(|_| it.status == Status::Running).map_or(0, |it| it.pid),
        "ExitCode": it.exit.filter(|_| it.status != Status::Running).unwrap_or(0),
        "Error": it.error.clone().unwrap_or_default(),
        "StartedAt": time(it.started),
        "FinishedAt": time(it.finished),
        "StoppedByHand": it.stopped,
        "MonitorPid": it.monitor.as_ref().filter(|_| running).map_or(0, |it| it.pid),
    });
    if let Some(health) = &it.health {
        let log: Vec<Value> = health
            .log
            .iter()
            .map(|it| {
                json!({"Start": time(it.start), "End": time(it.end), "ExitCode": it.exit_code, "Output": it.output})
            })
            .collect();
        document["Health"] = json!({"Status": health.status, "FailingStreak": health.failing_streak, "Log": log});
    }
    document
}

/// The command as `ps` shows it: in quotes, cut.
pub fn command(words: &[String], whole: bool) -> String {
    let text = words.join(" ");
    let text: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    if whole || text.chars().count() <= 20 {
        return format!("\"{text}\"");
    }
    format!("\"{}…\"", text.chars().take(19).collect::<String>())
}

/// Why a container failed, in words, and what to try.
pub fn why(container: &Container, it: &State, last_lines: &[String]) -> String {
    let mut text =
        format!("container {} ({}): {}\n", container.name, container.short(), status(it, super::state::now()));
    let exit = it.exit.unwrap_or(0);
    let (what, try_this) = reason(it, exit);
    text += &format!("  why:  {what}\n");
    if !try_this.is_empty() {
        text += &format!("  try:  {try_this}\n");
    }
    if let Some(health) = it.health.as_ref().filter(|it| it.status == "unhealthy")
        && let Some(last) = health.log.last()
    {
        text += &format!("  health check: status {}: {}\n", last.exit_code, last.output.trim());
    }
    if !last_lines.is_empty() {
        text += "  its last lines:\n";
        text.extend(last_lines.iter().map(|it| format!("    {it}\n")));
    }
    text
}

fn reason(it: &State, exit: i32) -> (String, &'static str) {
    match (it.status, exit) {
        (Status::Running | Status::Starting, _) if it.paused => ("it is paused".into(), "bundle unpause"),
        (Status::Running | Status::Starting, _) => ("it runs".into(), ""),
        (Status::Created, _) if it.error.is_none() => ("it has not been started".into(), "bundle start"),
        _ if it.oom => (
            "the kernel ended it, or one of its processes, for want of memory: it reached its limit (OOM)".into(),
            "a higher limit (-m), or less to do at once; bundle stats shows what it uses",
        ),
        (_, 127) => (
            format!(
                "the program was not found: {}",
                it.error.as_deref().unwrap_or("the container's own shell says so")
            ),
            "look for it in the image (bundle export NAME | tar t); is PATH right, does a script's #! line name what is there?",
        ),
        (_, 126) => (
            format!(
                "the program could not be run: {}",
                it.error.as_deref().unwrap_or("the container's own shell says so")
            ),
            "is it executable, for this machine's kind of processor, and no directory?",
        ),
        _ if it.error.is_some() => (it.error.clone().unwrap_or_default(), ""),
        (_, 0) => ("it ended by itself, with success".into(), ""),
        (_, 137) if it.stopped => (
            "it was stopped, and killed since it did not end in time".into(),
            "a program that ends on its stop signal, --init, or a longer --stop-timeout",
        ),
        (_, status @ 129..=192) => {
            let number = status - 128;
            let name = nix::sys::signal::Signal::try_from(number)
                .map_or_else(|_| number.to_string(), |it| it.as_str().to_owned());
            let by = if it.stopped { "it was stopped by" } else { "it was ended by signal" };
            let hint = match number {
                11 | 7 | 4 => "the program itself is at fault, or was built for another processor",
                9 if !it.stopped => {
                    "somebody killed it: bundle events --since 1h, or the host's own memory ran out (dmesg)"
                }
                31 => {
                    "a system call that the seccomp profile forbids: --security-opt seccomp=unconfined shows whether it is that"
                }
                _ => "",
            };
            (format!("{by} {name}"), hint)
        }
        (_, status) => (format!("the program ended with status {status}"), "its last lines, and bundle logs, say more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_words() {
        const SECOND: i64 = 1_000_000_000;
        let mut it = State::default();
        assert_eq!((state(&it), status(&it, 0)), ("created", "Created".to_owned()));
        it.status = Status::Running;
        it.started = 10 * SECOND;
        assert_eq!(status(&it, 70 * SECOND), "Up About a minute");
        // The clock was set back.
        assert_eq!(status(&it, 0), "Up Less than a second");
        it.health = Some(super::super::state::Health { status: "healthy".into(), ..Default::default() });
        assert_eq!(status(&it, 13 * SECOND), "Up 3 seconds (healthy)");
        it.paused = true;
        assert_eq!((state(&it), status(&it, 13 * SECOND)), ("paused", "Up 3 seconds (Paused)".to_owned()));
        it = State { status: Status::Exited, exit: Some(137), finished: SECOND, ..State::default() };
        assert_eq!(status(&it, 3601 * SECOND), "Exited (137) About an hour ago");
        assert_eq!(
            command(&["sh".into(), "-c".into(), "a very long line\nof words".into()], false),
            "\"sh -c a very long l…\""
        );
        assert_eq!(time(0), "0001-01-01T00:00:00Z");
        assert_eq!(time(1_500_000_000), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn reasons() {
        let it =
            |exit, oom, stopped| State { status: Status::Exited, exit: Some(exit), oom, stopped, ..State::default() };
        for (state, words) in [
            (it(137, true, false), "memory"),
            (it(137, false, true), "did not end in time"),
            (it(139, false, false), "SIGSEGV"),
            (it(143, false, true), "stopped by SIGTERM"),
            (it(127, false, false), "not found"),
            (it(3, false, false), "status 3"),
            (it(0, false, false), "success"),
        ] {
            let said = reason(&state, state.exit.unwrap()).0;
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}
