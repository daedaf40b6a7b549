//! What is written for people and for programs: tables, `--format`, progress.

pub mod progress;
mod template;

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use template::Template;

/// Prints rows of a command. Each is an object with Docker's names; `columns` are shown in the table: (heading,
/// name). `format`: absent or `table` a table, `json` one object a line, else a template as Docker's, such as
/// `{{.ID}}: {{.Tag}}`, which `table ` in front of it makes a table of.
pub fn rows(format: Option<&str>, columns: &[(&str, &str)], rows: &[Value]) -> Result<()> {
    print(&rows_text(format, columns, rows)?)
}

/// What [`rows`] prints.
pub fn rows_text(format: Option<&str>, columns: &[(&str, &str)], rows: &[Value]) -> Result<String> {
    Ok(match format {
        None | Some("" | "table") => {
            let lines =
                rows.iter().map(|row| columns.iter().map(|(_, name)| template::text(&row[*name])).collect()).collect();
            table(columns.iter().map(|it| it.0.to_owned()).collect(), lines)
        }
        Some("json") => rows.iter().map(|row| format!("{row}\n")).collect(),
        Some(format) => {
            let (as_table, format) = match format.strip_prefix("table ") {
                Some(rest) => (true, rest),
                None => (false, format),
            };
            let format = format.replace("\\t", "\t").replace("\\n", "\n");
            let template = Template::parse(&format).with_context(|| format!("--format {format:?}"))?;
            let lines = rows
                .iter()
                .map(|row| template.apply(row))
                .collect::<Result<Vec<_>>>()
                .with_context(|| format!("--format {format:?}"))?;
            if as_table {
                let headings = template.fields().iter().map(|it| heading(it, columns)).collect();
                table(headings, lines.iter().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
            } else {
                lines.iter().map(|line| format!("{line}\n")).collect()
            }
        }
    })
}

/// Prints documents: a JSON array of all, or a template for each.
pub fn documents(format: Option<&str>, documents: &[Value]) -> Result<()> {
    match format {
        None | Some("" | "json") => print(&format!("{}\n", serde_json::to_string_pretty(documents)?)),
        Some(format) => {
            let template = Template::parse(format).with_context(|| format!("--format {format:?}"))?;
            let lines = documents
                .iter()
                .map(|it| template.apply(it))
                .collect::<Result<Vec<_>>>()
                .with_context(|| format!("--format {format:?}"))?;
            print(&lines.iter().map(|it| format!("{it}\n")).collect::<String>())
        }
    }
}

/// Writes to the standard output; a reader that has gone away is no error of ours.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to the standard output")
        }
        _ => Ok(()),
    }
}

fn heading(field: &str, columns: &[(&str, &str)]) -> String {
    columns
        .iter()
        .find(|(_, name)| *name == field)
        .map_or_else(|| field.to_uppercase(), |(heading, _)| (*heading).to_owned())
}

fn table(headings: Vec<String>, lines: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(headings);
    table.add_rows(lines);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How long ago, as Docker says it: `3 weeks`.
pub fn age(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..MINUTE => format!("{seconds} seconds"),
        it if it < 2 * MINUTE => "About a minute".to_owned(),
        it if it < HOUR => format!("{} minutes", it / MINUTE),
        it if it < 2 * HOUR => "About an hour".to_owned(),
        it if it < 2 * DAY => format!("{} hours", it / HOUR),
        it if it < 14 * DAY => format!("{} days", it / DAY),
        it if it < 60 * DAY => format!("{} weeks", it / (7 * DAY)),
        it if it < 730 * DAY => format!("{} months", it / (30 * DAY)),
        it => format!("{} years", it / (365 * DAY)),
    }
}

/// Seconds since 1970 of an RFC 3339 time.
pub fn parse_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// An RFC 3339 time of seconds since 1970.
pub fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_have_columns() {
        let text = table(
            vec!["ID".into(), "NAME".into()],
            vec![vec!["1".into(), "a b".into()], vec!["222".into(), String::new()]],
        );
        assert_eq!(text, "ID    NAME\n1     a b\n222\n");
    }

    #[test]
    fn templates_speak_of_fields() {
        let row = json!({"ID": "x", "Size": 5, "Config": {"Env": ["A=1"], "Labels": null}});
        let apply = |text: &str| Template::parse(text).and_then(|it| it.apply(&row));
        assert_eq!(apply("{{.ID}}-{{ .Size }}").unwrap(), "x-5");
        assert_eq!(apply("{{json .Config.Env}}").unwrap(), r#"["A=1"]"#);
        assert_eq!(apply("{{.Config.Env}}").unwrap(), "[A=1]");
        assert_eq!(apply("plain").unwrap(), "plain");
        assert_eq!(apply("{{json .}}").unwrap(), row.to_string());
        for bad in ["{{.ID", "{{.Nothing}}", "{{range .X}}", "{{}}", "{{ID}}"] {
            assert!(apply(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ages_and_times() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (7200, "2 hours"),
            (3 * 86400, "3 days"),
            (21 * 86400, "3 weeks"),
        ] {
            assert_eq!(age(seconds), text);
        }
        assert_eq!(parse_time("1970-01-01T00:01:00.5Z"), Some(60));
        assert_eq!(time(60), "1970-01-01T00:01:00Z");
        assert_eq!(parse_time("yesterday"), None);
    }
}
