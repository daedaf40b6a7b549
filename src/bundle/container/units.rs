//! What people write for amounts, environments and limits, read strictly: a value that is not understood is
//! an error before anything is made.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Most bytes of a file that a person has written.
const LONGEST: u64 = 4 << 20;

/// Bytes: a number with an optional unit `b`, `k`, `m`, `g`, `t` (powers of 1024), with or without `ib`/`b` behind it.
pub fn bytes(text: &str) -> Result<u64> {
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => bail!("{text:?}: the unit {unit:?} is not known; known: b, k, m, g, t"),
    };
    let wrong = || format!("{text:?} is not a number of bytes such as 512m");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).filter(|it| *it <= i64::MAX.cast_unsigned()).with_context(wrong);
    }
    let part: f64 = number.parse().ok().filter(|it: &f64| it.is_finite()).with_context(wrong)?;
    let total = part * factor as f64;
    if total >= i64::MAX as f64 {
        bail!(wrong());
    }
    Ok(total as u64)
}

/// Bytes as people read them: `1.23MB`, in powers of 1000, as Docker shows sizes of images.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes}B");
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// Processors, such as `1.5`, in thousandths.
pub fn cpus(text: &str) -> Result<u64> {
    let number: f64 = text
        .parse()
        .ok()
        .filter(|it: &f64| it.is_finite() && *it > 0.0 && *it < 100_000.0)
        .with_context(|| format!("{text:?} is not a number of processors such as 1.5"))?;
    let thousandths = (number * 1000.0).round() as u64;
    // The kernel takes no quota below a millisecond in each tenth of a second.
    if thousandths < 10 {
        bail!("{text:?}: 0.01 is the least");
    }
    Ok(thousandths)
}

/// `name=soft[:hard]` as an OCI rlimit: (`RLIMIT_NOFILE`, soft, hard); -1 is unlimited.
pub fn ulimit(text: &str) -> Result<(String, u64, u64)> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let (name, values) =
        text.split_once('=').with_context(|| format!("{text:?} is not of the form NAME=SOFT[:HARD]"))?;
    if !NAMES.contains(&name) {
        bail!("{name:?} is no resource; known: {}", NAMES.join(", "));
    }
    let value = |it: &str| match it {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => it.parse::<u64>().ok().with_context(|| format!("{text:?}: {it:?} is no number")),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (value(soft)?, value(hard)?);
    if soft > hard {
        bail!("{text:?}: the soft limit is above the hard one");
    }
    Ok((format!("RLIMIT_{}", name.to_uppercase()), soft, hard))
}

/// What a person has written, not too much of it.
pub fn text_of(from: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        bail!("it has more than {LONGEST} bytes");
    }
    String::from_utf8(bytes).ok().context("it is no UTF-8 text")
}

/// The lines of a file of variables or labels; `#` begins a comment line.
pub fn lines_of(path: &str) -> Result<Vec<String>> {
    let text = text_of(File::open(path)?)?;
    let lines = text
        .lines()
        .map(|line| line.trim_start().trim_end_matches('\r'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// Variables with the caller's values where only a name is given; a name that the caller has not stays alone.
pub fn with_callers(variables: &[String]) -> Result<Vec<String>> {
    let variables = variables.iter().map(|variable| {
        check_variable(variable)?;
        let callers = if variable.contains('=') { None } else { std::env::var(variable).ok() };
        Ok(callers.map_or_else(|| variable.clone(), |value| format!("{variable}={value}")))
    });
    variables.collect()
}

/// Lays variables over an environment: `NAME=VALUE` sets, `NAME` takes away, as with Docker.
pub fn set_env(environment: &mut Vec<String>, variables: &[String]) -> Result<()> {
    for variable in variables {
        let name = check_variable(variable)?;
        let there = environment.iter().position(|it| it.split('=').next() == Some(name));
        match (variable.contains('='), there) {
            (true, Some(at)) => environment[at].clone_from(variable),
            (true, None) => environment.push(variable.clone()),
            (false, Some(at)) => drop(environment.remove(at)),
            (false, None) => {}
        }
    }
    Ok(())
}

fn check_variable(variable: &str) -> Result<&str> {
    let name = variable.split('=').next().unwrap_or(variable);
    if name.is_empty() || variable.contains('\0') || name.contains(char::is_whitespace) {
        bail!("variable {variable:?}: not of the form NAME=VALUE");
    }
    Ok(name)
}

/// `KEY=VALUE` or `KEY` each.
pub fn labels(list: &[String]) -> Result<Vec<(String, String)>> {
    let labels = list.iter().map(|text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            bail!("{text:?} is not of the form KEY=VALUE");
        }
        Ok((key.to_owned(), value.to_owned()))
    });
    labels.collect()
}

/// An absolute path without `.`, `..` and empty parts, by its words alone: `/a/./b/../c/` is `/a/c`.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A duration in Go's form: `1m30s`, `1.5h`, `250ms`, `0`.
pub fn duration(text: &str) -> Result<Duration> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let wrong = || format!("{text:?} is not a duration such as 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = 0_u64;
    let mut rest = text;
    loop {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let factor = UNITS.iter().find(|it| it.0 == unit).with_context(wrong)?.1;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && part.is_empty() || part.contains('.') {
            bail!(wrong());
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok().with_context(wrong)? };
        let mut scale = factor;
        let mut fraction = 0;
        for digit in part.bytes() {
            scale /= 10;
            fraction += u64::from(digit - b'0') * scale;
        }
        let amount = whole.checked_mul(factor).and_then(|it| it.checked_add(fraction));
        total = amount
            .and_then(|it| total.checked_add(it))
            .filter(|it| *it <= i64::MAX.cast_unsigned())
            .with_context(wrong)?;
        rest = next;
        if rest.is_empty() {
            return Ok(Duration::from_nanos(total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, wanted) in
            [("0", 0), ("17", 17), ("1k", 1024), ("512m", 512 << 20), ("1.5G", 3 << 29), ("2GiB", 2 << 30), ("3b", 3)]
        {
            assert_eq!(bytes(text).unwrap(), wanted, "{text}");
        }
        for bad in ["", "x", "10x", "-1", "1 m", "m", "1e3", "99999999999g", ".", "1.2.3m", "inf"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        for (number, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_230_000, "1.23MB"),
            (72_800_000, "72.8MB"),
            (999_960, "1MB"),
            (1_000_000_000, "1GB"),
        ] {
            assert_eq!(human(number), text);
        }
        assert_eq!(cpus("1.5").unwrap(), 1500);
        for bad in ["", "0", "-1", "x", "nan", "0.001", "1e9"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(ulimit("nofile=5:-1").unwrap(), ("RLIMIT_NOFILE".into(), 5, u64::MAX));
        for bad in ["nofile", "nofile=", "x=1", "nofile=2:1", "nofile=-2"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_replace_each_other() {
        let mut environment = vec!["A=1".to_owned(), "B=2".to_owned()];
        let given = ["B=3=4", "C=", "NOBODY_SETS_THIS", "A=x y"].map(str::to_owned);
        let given = with_callers(&given).unwrap();
        set_env(&mut environment, &given).unwrap();
        assert_eq!(environment, ["A=x y", "B=3=4", "C="]);
        set_env(&mut environment, &["B".to_owned()]).unwrap();
        assert_eq!(environment, ["A=x y", "C="]);
        let path = with_callers(&["PATH".to_owned()]).unwrap();
        assert!(path[0].starts_with("PATH=/"), "{path:?}");
        for bad in ["", "=x", "a b=1", "x\0=1"] {
            assert!(set_env(&mut environment, &[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("250ms", 250_000_000),
            (".5s", 500_000_000),
            ("1h1ns", 3_600_000_000_001),
            ("7\u{b5}s", 7_000),
        ] {
            assert_eq!(duration(text).unwrap(), Duration::from_nanos(nanoseconds), "{text}");
        }
        for bad in ["", "1", "s", "-1s", "1x", "1.2.3s", ".s", "1s 2s", "99999999999h", "1s2", "+1s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, wanted) in [("/", "/"), ("//a/./b/../c/", "/a/c"), ("/../..", "/"), ("/a", "/a")] {
            assert_eq!(clean(path), wanted);
        }
    }
}
