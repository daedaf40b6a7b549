//! The part of Go's templates that people use with Docker's `--format`: `{{.Field.Sub}}` and `{{json .Field}}`.
//! No crate for Go's templates is kept up.

use anyhow::{Context, Result, bail};
use serde_json::Value;

enum Part {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

/// A parsed template.
pub struct Template(Vec<Part>);

impl Template {
    /// Parses a template; what it has that is not known here is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").context("a {{ without its }}")?;
            parts.push(Part::Text(before.to_owned()));
            let words: Vec<&str> = action.split_whitespace().collect();
            let (json, path) = match words[..] {
                ["json", path] => (true, path),
                [path] => (false, path),
                _ => bail!("{{{{{action}}}}}: known are {{{{.Field}}}} and {{{{json .Field}}}}"),
            };
            let path = path
                .strip_prefix('.')
                .with_context(|| format!("{{{{{action}}}}}: known are {{{{.Field}}}} and {{{{json .Field}}}}"))?;
            parts.push(Part::Field {
                path: path.split('.').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
                json,
            });
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Fills in the fields of a value.
    pub fn apply(&self, value: &Value) -> Result<String> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out += text,
                Part::Field { path, json } => {
                    let mut found = value;
                    for name in path {
                        found = found.get(name).with_context(|| {
                            let known: Vec<&str> =
                                found.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                            format!("there is no {name:?}; there is: {}", known.join(", "))
                        })?;
                    }
                    out += &if *json { found.to_string() } else { self::text(found) };
                }
            }
        }
        Ok(out)
    }

    /// The fields' names in order.
    pub fn fields(&self) -> Vec<String> {
        let fields = self.0.iter().filter_map(|part| match part {
            Part::Field { path, .. } => path.last().cloned(),
            Part::Text(_) => None,
        });
        fields.collect()
    }
}

/// A value as Go prints it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => format!(
            "map[{}]",
            fields.iter().map(|(name, value)| format!("{name}:{}", text(value))).collect::<Vec<_>>().join(" ")
        ),
        other => other.to_string(),
    }
}
