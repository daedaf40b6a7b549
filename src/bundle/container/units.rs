//! What people write for amounts, environments and limits, read strictly: a value that is not understood is
//! an error before anything is made.

use anyhow::{Context, Result, bail};

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

/// The lines of an environment file: `NAME=VALUE`, `NAME` (from the caller), `#` begins a comment line.
pub fn env_file(path: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("--env-file {path}"))?;
    let lines = text
        .lines()
        .map(|line| line.trim_start().trim_end_matches('\r'))
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// Lays variables over an environment: `NAME=VALUE` sets, `NAME` takes the caller's value or nothing.
pub fn set_env(environment: &mut Vec<String>, variables: &[String]) -> Result<()> {
    for variable in variables {
        let name = variable.split('=').next().unwrap_or(variable);
        if name.is_empty() || variable.contains('\0') || name.contains(char::is_whitespace) {
            bail!("variable {variable:?}: not of the form NAME=VALUE");
        }
        let value = if variable.contains('=') {
            Some(variable.clone())
        } else {
            std::env::var(name).ok().map(|value| format!("{name}={value}"))
        };
        let there = environment.iter().position(|it| it.split('=').next() == Some(name));
        match (value, there) {
            (Some(value), Some(at)) => environment[at] = value,
            (Some(value), None) => environment.push(value),
            (None, _) => {}
        }
    }
    Ok(())
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
        set_env(&mut environment, &given).unwrap();
        assert_eq!(environment, ["A=x y", "B=3=4", "C="]);
        for bad in ["", "=x", "a b=1", "x\0=1"] {
            assert!(set_env(&mut environment, &[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }
}
