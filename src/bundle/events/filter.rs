//! Which events are shown: Docker's filters. Several of one kind: any; of several kinds: all.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

const KNOWN: [&str; 8] = ["container", "event", "image", "label", "network", "scope", "type", "volume"];

/// Parsed filters.
#[derive(Debug, Default)]
pub struct Filters(BTreeMap<&'static str, Vec<String>>);

impl Filters {
    /// From `KEY=VALUE` each.
    pub fn parse(texts: &[String]) -> Result<Self> {
        let mut filters: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for text in texts {
            let (key, value) =
                text.split_once('=').with_context(|| format!("--filter {text:?}: not of the form KEY=VALUE"))?;
            let Some(key) = KNOWN.into_iter().find(|it| *it == key) else {
                bail!("--filter {text:?}: known are {}", KNOWN.join(", "));
            };
            filters.entry(key).or_default().push(value.to_owned());
        }
        Ok(Self(filters))
    }

    /// Whether an event is wanted.
    pub fn fit(&self, event: &Value) -> bool {
        self.0.iter().all(|(key, values)| values.iter().any(|value| fits(event, key, value)))
    }
}

fn fits(event: &Value, key: &str, value: &str) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&event["Type"]);
    let id = text(&event["Actor"]["ID"]);
    let attributes = &event["Actor"]["Attributes"];
    let named = || id == value || (!value.is_empty() && id.starts_with(value)) || text(&attributes["name"]) == value;
    match key {
        "type" => kind == value,
        "scope" => text(&event["scope"]) == value,
        // `health_status: healthy` is also a `health_status`.
        "event" => {
            let action = text(&event["Action"]);
            action == value || action.split(':').next() == Some(value)
        }
        "label" => match value.split_once('=') {
            Some((name, value)) => attributes[name] == value,
            None => !attributes[value].is_null(),
        },
        // An image's events, and those of its containers.
        "image" if kind == "container" => same_image(&text(&attributes["image"]), value),
        "image" => kind == key && (named() || same_image(&text(&attributes["name"]), value)),
        _ => kind == key && named(),
    }
}

/// Whether two names are one image's: `alpine` is `docker.io/library/alpine:latest`.
fn same_image(one: &str, other: &str) -> bool {
    let full = |text: &str| text.parse::<crate::image::Reference>().map(|it| it.to_string()).ok();
    one == other || full(one).is_some_and(|one| full(other) == Some(one))
}
