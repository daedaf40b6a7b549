//! What the tool itself does with a container: when it starts it again, whether it looks after its health, how it
//! stops it, where its output goes. Nothing of this is in config.json.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cli::flags::Flags;
use crate::container::units;
use crate::image::config::Execution;

/// When a container that has ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Never.
    No,
    /// When its exit status was not 0; so many times at most.
    OnFailure(Option<u32>),
    /// Always, and when the machine starts, also if somebody had stopped it.
    Always,
    /// Always, and when the machine starts unless somebody had stopped it.
    UnlessStopped,
}

/// A check of a container's health, times and numbers complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `["CMD", PROGRAM, ARGUMENT...]`, or `["CMD-SHELL", LINE]`.
    pub test: Vec<String>,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// What one may take.
    pub timeout: Duration,
    /// How long failures do not count after the start.
    pub start_period: Duration,
    /// The interval in that time.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDriver {
    /// Files below the container's directory.
    Files,
    /// Nowhere.
    None,
}

/// How output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// Where.
    pub driver: LogDriver,
    /// Bytes of one file; `u64::MAX` is no limit.
    pub max_size: u64,
    /// Files that are kept, the one that is written among them.
    pub max_file: u32,
}

const SECOND: Duration = Duration::from_secs(1);
/// Docker's least time between checks.
const LEAST: Duration = Duration::from_millis(1);

/// `--restart`.
pub fn restart(flags: &Flags) -> Result<Restart> {
    let Some(text) = flags.restart.as_deref() else { return Ok(Restart::No) };
    let wrong = || format!("--restart {text:?}: known are no, on-failure[:TIMES], always, unless-stopped");
    match text.split_once(':') {
        None => match text {
            "no" | "" => Ok(Restart::No),
            "on-failure" => Ok(Restart::OnFailure(None)),
            "always" => Ok(Restart::Always),
            "unless-stopped" => Ok(Restart::UnlessStopped),
            _ => bail!(wrong()),
        },
        Some(("on-failure", times)) => {
            let times: u32 = times.parse().ok().with_context(wrong)?;
            Ok(Restart::OnFailure((times != 0).then_some(times)))
        }
        Some(_) => bail!(wrong()),
    }
}

/// Docker's part of an image's configuration; times in nanoseconds, 0 is the default.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Healthcheck {
    test: Option<Vec<String>>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

/// The check that the image asks for, or the flags.
pub fn health(image: &Execution, flags: &Flags) -> Result<Option<Health>> {
    let set = flags.health_cmd.is_some()
        || flags.health_retries.is_some()
        || [&flags.health_interval, &flags.health_timeout, &flags.health_start_period, &flags.health_start_interval]
            .iter()
            .any(|it| it.is_some());
    if flags.no_healthcheck {
        if set {
            bail!("--no-healthcheck: not together with other --health flags");
        }
        return Ok(None);
    }
    let of_image: Healthcheck = match image.rest.get("Healthcheck") {
        Some(value) if !value.is_null() => {
            serde_json::from_value(value.clone()).context("the image's Healthcheck is not what was expected")?
        }
        _ => Healthcheck::default(),
    };
    let nanoseconds = |it: i64| Duration::from_nanos(it.max(0) as u64);
    let time = |flag: &str, text: &Option<String>, image: i64, default: Duration, least: Duration| {
        let given =
            text.as_ref().map(|it| units::duration(it).with_context(|| format!("{flag} {it:?}"))).transpose()?;
        let chosen = given.filter(|it| !it.is_zero()).unwrap_or_else(|| nanoseconds(image));
        let chosen = if chosen.is_zero() { default } else { chosen };
        if chosen < least {
            bail!("{flag}: 1ms is the least");
        }
        Ok(chosen)
    };
    let retries = match flags.health_retries.filter(|it| *it != 0) {
        Some(number) => number,
        None => u32::try_from(of_image.retries).ok().filter(|it| *it != 0).unwrap_or(3),
    };
    let health = Health {
        interval: time("--health-interval", &flags.health_interval, of_image.interval, 30 * SECOND, LEAST)?,
        timeout: time("--health-timeout", &flags.health_timeout, of_image.timeout, 30 * SECOND, LEAST)?,
        start_period: time(
            "--health-start-period",
            &flags.health_start_period,
            of_image.start_period,
            Duration::ZERO,
            Duration::ZERO,
        )?,
        start_interval: time(
            "--health-start-interval",
            &flags.health_start_interval,
            of_image.start_interval,
            5 * SECOND,
            LEAST,
        )?,
        retries,
        test: match &flags.health_cmd {
            Some(line) if line.is_empty() || line.contains('\0') => bail!("--health-cmd {line:?}: no command"),
            Some(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            None => of_image.test.unwrap_or_default(),
        },
    };
    match health.test.first().map(String::as_str) {
        None if set => bail!("--health flags: the image has no check, so --health-cmd has to say what is checked"),
        None | Some("NONE") => Ok(None),
        Some("CMD" | "CMD-SHELL") if health.test.len() > 1 => Ok(Some(health)),
        Some(_) => bail!("the image's Healthcheck: {:?} is no test; --no-healthcheck leaves it away", health.test),
    }
}

/// `--log-driver` and `--log-opt`.
pub fn log_options(flags: &Flags) -> Result<LogOptions> {
    let driver = match flags.log_driver.as_deref() {
        None | Some("k8s-file") => LogDriver::Files,
        Some("none") => LogDriver::None,
        Some(other) => bail!("--log-driver {other:?}: known are k8s-file and none"),
    };
    let mut options = LogOptions { driver, max_size: 10 << 20, max_file: 5 };
    for text in &flags.log_opt {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if driver == LogDriver::None {
            bail!("--log-opt {text:?}: there is no log with --log-driver none");
        }
        match key {
            "max-size" if value == "-1" => options.max_size = u64::MAX,
            "max-size" => {
                options.max_size = units::bytes(value).with_context(|| format!("--log-opt {text:?}"))?;
                // One record has to fit.
                if options.max_size < 64 << 10 {
                    bail!("--log-opt {text:?}: 64k is the least");
                }
            }
            "max-file" => {
                let number = value.parse().ok().filter(|it| (1..=10_000).contains(it));
                options.max_file =
                    number.with_context(|| format!("--log-opt {text:?}: not a number from 1 to 10000"))?;
            }
            _ => bail!("--log-opt {text:?}: known are max-size=BYTES and max-file=NUMBER"),
        }
    }
    Ok(options)
}

/// The number of the signal that asks the program to end: the flag's, the image's, or SIGTERM.
pub fn stop_signal(image: &Execution, flags: &Flags) -> Result<i32> {
    if let Some(text) = &flags.stop_signal {
        return signal(text).context("--stop-signal");
    }
    match image.stop_signal.as_deref() {
        None | Some("") => Ok(nix::sys::signal::Signal::SIGTERM as i32),
        Some(text) => signal(text).context("the image's StopSignal (--stop-signal gives another)"),
    }
}

/// Seconds from that signal to SIGKILL; `None` waits for ever.
pub fn stop_timeout(flags: &Flags) -> Result<Option<u32>> {
    match flags.stop_timeout {
        None => Ok(Some(10)),
        Some(-1) => Ok(None),
        Some(seconds) => Ok(Some(
            u32::try_from(seconds)
                .ok()
                .with_context(|| format!("--stop-timeout {seconds}: seconds, or -1 for no end"))?,
        )),
    }
}

/// A signal by name, with or without `SIG`, or by number: `TERM`, `sigrtmin+3`, `9`.
pub fn signal(text: &str) -> Result<i32> {
    // As C libraries have them: the first two of the kernel's are the library's own.
    const REAL_TIME: (i32, i32) = (34, 64);
    let wrong = || format!("{text:?} is no signal: a name such as SIGTERM, or a number from 1 to 64");
    if text.bytes().all(|it| it.is_ascii_digit()) {
        return text.parse().ok().filter(|it| (1..=64).contains(it)).with_context(wrong);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    for (start, base, sign) in [("RTMIN", REAL_TIME.0, '+'), ("RTMAX", REAL_TIME.1, '-')] {
        let Some(rest) = name.strip_prefix(start) else { continue };
        let offset: i32 = match rest.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|it| it.is_ascii_digit()) => digits.parse().ok().with_context(wrong)?,
            None if rest.is_empty() => 0,
            _ => bail!(wrong()),
        };
        let number = if sign == '+' { base.saturating_add(offset) } else { base.saturating_sub(offset) };
        return Some(number).filter(|it| (REAL_TIME.0..=REAL_TIME.1).contains(it)).with_context(wrong);
    }
    let name = if name == "POLL" { "IO" } else { name };
    let found: Option<nix::sys::signal::Signal> = format!("SIG{name}").parse().ok();
    Ok(found.with_context(wrong)? as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flags(edit: impl FnOnce(&mut Flags)) -> Flags {
        let mut flags = Flags::default();
        edit(&mut flags);
        flags
    }

    #[test]
    fn restart_policies() {
        for (text, wanted) in [
            ("no", Restart::No),
            ("on-failure", Restart::OnFailure(None)),
            ("on-failure:0", Restart::OnFailure(None)),
            ("on-failure:3", Restart::OnFailure(Some(3))),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
        ] {
            assert_eq!(restart(&flags(|it| it.restart = Some(text.into()))).unwrap(), wanted);
        }
        for bad in ["x", "always:1", "on-failure:", "on-failure:-1", "on-failure:x"] {
            assert!(restart(&flags(|it| it.restart = Some(bad.into()))).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals() {
        for (text, wanted) in [
            ("TERM", 15),
            ("sigKill", 9),
            ("9", 9),
            ("64", 64),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("rtmin", 34),
            ("POLL", 29),
        ] {
            assert_eq!(signal(text).unwrap(), wanted, "{text}");
        }
        for bad in
            ["", "0", "65", "SIGNOTHING", "-9", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "+9", "SIG", "9999999999"]
        {
            assert!(signal(bad).is_err(), "{bad}");
        }
        let image = Execution { stop_signal: Some("SIGQUIT".into()), ..Execution::default() };
        assert_eq!(stop_signal(&image, &flags(|_| {})).unwrap(), 3);
        assert_eq!(stop_signal(&image, &flags(|it| it.stop_signal = Some("2".into()))).unwrap(), 2);
        assert_eq!(stop_signal(&Execution::default(), &flags(|_| {})).unwrap(), 15);
        assert_eq!(stop_timeout(&flags(|it| it.stop_timeout = Some(-1))).unwrap(), None);
        assert!(stop_timeout(&flags(|it| it.stop_timeout = Some(-2))).is_err());
    }

    #[test]
    fn checks_of_health_come_from_image_and_flags() {
        let mut image = Execution::default();
        assert_eq!(health(&image, &flags(|_| {})).unwrap(), None);
        let check = json!({"Test": ["CMD", "/ok"], "Interval": 2_000_000_000_i64, "Retries": 7});
        image.rest.insert("Healthcheck".into(), check);
        let found = health(&image, &flags(|_| {})).unwrap().unwrap();
        let wanted = Health {
            test: vec!["CMD".into(), "/ok".into()],
            interval: 2 * SECOND,
            timeout: 30 * SECOND,
            start_period: Duration::ZERO,
            start_interval: 5 * SECOND,
            retries: 7,
        };
        assert_eq!(found, wanted);
        let with = flags(|it| {
            it.health_cmd = Some("test -e /x".into());
            it.health_interval = Some("1m30s".into());
            it.health_start_period = Some("1s".into());
        });
        let found = health(&image, &with).unwrap().unwrap();
        assert_eq!(
            (&found.test[..], found.interval),
            (&["CMD-SHELL".to_owned(), "test -e /x".into()][..], 90 * SECOND)
        );
        assert_eq!((found.start_period, found.retries), (SECOND, 7));
        assert_eq!(health(&image, &flags(|it| it.no_healthcheck = true)).unwrap(), None);
        image.rest.insert("Healthcheck".into(), json!({"Test": ["NONE"]}));
        assert_eq!(health(&image, &flags(|_| {})).unwrap(), None);
        type Edit = fn(&mut Flags);
        let cases: [(Edit, &str); 6] = [
            (|it| it.health_interval = Some("x".into()), "--health-interval"),
            (|it| it.health_timeout = Some("1us".into()), "--health-timeout"),
            (|it| it.health_cmd = Some(String::new()), "--health-cmd"),
            (|it| it.health_interval = Some("30".into()), "--health-interval"),
            (
                |it| {
                    it.no_healthcheck = true;
                    it.health_retries = Some(1);
                },
                "--no-healthcheck",
            ),
            (|it| it.health_start_period = Some("-1s".into()), "--health-start-period"),
        ];
        for (edit, words) in cases {
            let error = format!("{:#}", health(&image, &flags(edit)).unwrap_err());
            assert!(error.contains(words), "{words}: {error}");
        }
        image.rest.insert("Healthcheck".into(), json!({"Test": "x"}));
        assert!(health(&image, &flags(|_| {})).is_err());
        image.rest.insert("Healthcheck".into(), json!({"Test": ["WHAT"]}));
        assert!(health(&image, &flags(|_| {})).is_err());
        assert!(health(&Execution::default(), &flags(|it| it.health_retries = Some(1))).is_err());
    }

    #[test]
    fn options_of_logs() {
        let read =
            |list: &[&str]| log_options(&flags(|it| it.log_opt = list.iter().map(|it| (*it).to_owned()).collect()));
        assert_eq!(read(&[]).unwrap(), LogOptions { driver: LogDriver::Files, max_size: 10 << 20, max_file: 5 });
        let set = read(&["max-size=1m", "max-file=2"]).unwrap();
        assert_eq!((set.max_size, set.max_file), (1 << 20, 2));
        assert_eq!(read(&["max-size=-1"]).unwrap().max_size, u64::MAX);
        for bad in ["max-size=1", "max-size=x", "max-file=0", "max-file=-1", "mode=x", "max-size"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(log_options(&flags(|it| it.log_driver = Some("syslog".into()))).is_err());
    }
}
