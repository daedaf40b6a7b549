//! Moments as people write them for `--since` and `--until`: `10m` ago, a date, seconds since 1970.

use anyhow::{Context, Result};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::container::units;

/// A moment: how long ago in Go's form (`10m`, `1h30m`), RFC 3339, the same without a zone (the local one), a date,
/// or seconds since 1970 with or without a fraction.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp> {
    let ago = || now.checked_sub(units::duration(text).ok()?).ok();
    let local = || {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::system()).ok()?.timestamp())
    };
    seconds(text)
        .or_else(ago)
        .or_else(|| text.parse().ok())
        .or_else(local)
        .with_context(|| format!("{text:?} is no time such as 10m (ago), 2026-01-31T12:00:00Z or 1769860800"))
}

/// `SECONDS[.FRACTION]` since 1970.
fn seconds(text: &str) -> Option<Timestamp> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |it: &str| it.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !digits(whole) || !digits(part) {
        return None;
    }
    let nanoseconds = format!("{part:0<9}").parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("10m", "2026-11-21T11:50:00Z"),
            ("1h30m", "2026-11-21T10:30:00Z"),
            ("1.5s", "2026-11-21T11:59:58.5Z"),
            ("2026-11-20T01:02:03.5+01:00", "2026-11-20T00:02:03.5Z"),
            ("2026-11-20T01:02:03Z", "2026-11-20T01:02:03Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("60", "1970-01-01T00:01:00Z"),
            ("60.000000001", "1970-01-01T00:01:00.000000001Z"),
        ] {
            assert_eq!(super::parse(text, now).unwrap().to_string(), wanted, "{text}");
        }
        assert!(super::parse("2026-11-20", now).is_ok() && super::parse("2026-11-20T10:00:00", now).is_ok());
        for bad in ["", "yesterday", "10x", "m", "-5m", "1.2.3", "1.0000000001", "99999999999999999999h"] {
            assert!(super::parse(bad, now).is_err(), "{bad}");
        }
    }
}
