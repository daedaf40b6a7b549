//! `bundle images`.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::Images;
use crate::container::units;
use crate::image::{Digest, Reference};
use crate::output;
use crate::store::{Image, Store, now};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Images) -> Result<()> {
    let store = tool.store()?;
    let filters = Filters::parse(store, args)?;
    let mut rows = Vec::new();
    for image in store.images()? {
        if filters.image(store, &image)? {
            rows.extend(rows_of(store, &image, args, &filters)?);
        }
    }
    if args.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.dedup();
        return output::print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>());
    }
    let mut columns = vec![
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("DIGEST", "Digest"),
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ];
    if !args.digests {
        columns.remove(2);
    }
    output::rows(args.format.as_deref(), &columns, &rows)
}

fn rows_of(store: &Store, image: &Image, args: &Images, filters: &Filters) -> Result<Vec<Value>> {
    let (_, config) = store.read(image)?;
    let names = store.names(image)?;
    let created = config.created.as_deref().and_then(output::parse_time);
    let id = if args.no_trunc { image.id.to_string() } else { image.id.short().to_owned() };
    let row = |name: Option<&Reference>, target: &Digest| {
        json!({
            "Repository": name.map_or_else(|| "<none>".to_owned(), Reference::familiar_name),
            "Tag": name.and_then(|it| it.tag.clone()).unwrap_or_else(|| "<none>".to_owned()),
            "Digest": target,
            "ID": id,
            "CreatedAt": created.map(output::time),
            "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |it| format!("{} ago", output::age(now() - it))),
            "Size": units::human(size(store, image).unwrap_or(image.size)),
            "Bytes": image.size,
            "Platform": format!("{}/{}", config.os, config.architecture),
        })
    };
    let rows: Vec<Value> =
        names.iter().filter(|(name, _)| filters.name(name)).map(|(name, target)| row(Some(name), target)).collect();
    if rows.is_empty() && names.is_empty() && filters.dangling != Some(false) && filters.names_wanted() {
        return Ok(vec![row(None, &image.digest)]);
    }
    Ok(if filters.dangling == Some(true) { Vec::new() } else { rows })
}

/// What the unpacked layers take, as Docker shows it.
fn size(store: &Store, image: &Image) -> Result<u64> {
    let Some(top) = &image.chain else { return Ok(0) };
    Ok(store.layers(top)?.iter().map(|it| it.size).sum())
}

#[derive(Default)]
struct Filters {
    dangling: Option<bool>,
    /// One of them must fit, with `*` and `?`.
    references: Vec<String>,
    labels: Vec<(String, Option<String>)>,
    before: Option<i64>,
    since: Option<i64>,
    /// A whole name, or a repository.
    name: Option<(Reference, bool)>,
}

impl Filters {
    fn parse(store: &Store, args: &Images) -> Result<Self> {
        let mut filters = Self::default();
        if let Some(name) = &args.name {
            let reference: Reference = name.parse()?;
            let last = name.rsplit('/').next().unwrap_or(name);
            filters.name = Some((reference, last.contains(':') || name.contains('@')));
        }
        for text in &args.filter {
            let (key, value) =
                text.split_once('=').with_context(|| format!("--filter {text:?}: not of the form KEY=VALUE"))?;
            let created = |value: &str| -> Result<i64> {
                let (_, config) = store.read(&store.find(value)?)?;
                Ok(config.created.as_deref().and_then(output::parse_time).unwrap_or(0))
            };
            match key {
                "dangling" => {
                    filters.dangling =
                        Some(value.parse().with_context(|| format!("--filter {text:?}: true or false"))?);
                }
                "reference" => filters.references.push(value.to_owned()),
                "label" => {
                    let (key, value) = value.split_once('=').map_or((value, None), |(key, value)| (key, Some(value)));
                    filters.labels.push((key.to_owned(), value.map(str::to_owned)));
                }
                "before" => filters.before = Some(created(value)?),
                "since" => filters.since = Some(created(value)?),
                _ => bail!("--filter {text:?}: known are dangling, reference, label, before, since"),
            }
        }
        Ok(filters)
    }

    fn image(&self, store: &Store, image: &Image) -> Result<bool> {
        if self.labels.is_empty() && self.before.is_none() && self.since.is_none() {
            return Ok(true);
        }
        let (_, config) = store.read(image)?;
        let created = config.created.as_deref().and_then(output::parse_time).unwrap_or(0);
        let labels = config.config.labels.unwrap_or_default();
        let fits = |(key, value): &(String, Option<String>)| {
            labels.get(key).is_some_and(|it| value.as_ref().is_none_or(|value| value == it))
        };
        Ok(self.labels.iter().all(fits)
            && self.before.is_none_or(|it| created < it)
            && self.since.is_none_or(|it| created > it))
    }

    fn names_wanted(&self) -> bool {
        self.references.is_empty() && self.name.is_none()
    }

    fn name(&self, name: &Reference) -> bool {
        let wanted = self
            .name
            .as_ref()
            .is_none_or(|(wanted, whole)| if *whole { wanted == name } else { wanted.name() == name.name() });
        wanted
            && (self.references.is_empty()
                || self.references.iter().any(|it| fits(it, &name.familiar()) || fits(it, &name.familiar_name())))
    }
}

/// Whether a pattern with `*` (any, but no slash) and `?` fits the whole text.
fn fits(pattern: &str, text: &str) -> bool {
    fits_bytes(pattern.as_bytes(), text.as_bytes())
}

fn fits_bytes(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => (0..=text.len())
            .take_while(|&count| !text[..count].contains(&b'/'))
            .any(|count| fits_bytes(&pattern[1..], &text[count..])),
        (Some(b'?'), Some(it)) if *it != b'/' => fits_bytes(&pattern[1..], &text[1..]),
        (Some(a), Some(b)) if a == b => fits_bytes(&pattern[1..], &text[1..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn patterns() {
        for (pattern, text, wanted) in [
            ("bus*", "busybox", true),
            ("*:latest", "a:latest", true),
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("?b", "ab", true),
            ("b", "ab", false),
            ("", "", true),
        ] {
            assert_eq!(super::fits(pattern, text), wanted, "{pattern} {text}");
        }
    }
}
