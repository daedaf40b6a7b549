//! The inline cache: an image tells which of its layers came of which steps, so that a build elsewhere
//! (`--cache-from`) finds them by their keys.
//!
//! The field `bundle.build.cache.v0` of the image's configuration is a list of the steps behind its layers, in their
//! order. One without a `diff_id` has changed no file:
//!
//! ```json
//! [{"key": "sha256:…", "diff_id": "sha256:…", "created": 1700000000}, {"key": "sha256:…", "created": 1700000000}]
//! ```
//!
//! Whoever wrote the image decides what the steps of a build that names it come to. So what is read is kept in memory,
//! for that build alone: a row in the store's cache would decide for builds that never named the image. What such a
//! build makes on top gets its rows as ever, for its keys are made of the layers that it stands on.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::images::Base;
use super::layers::Entry;
use crate::image::Digest;
use crate::image::config::{ImageConfig, chain_id};

/// The field's name. Not BuildKit's, whose keys are made of other things.
pub const FIELD: &str = "bundle.build.cache.v0";

/// The `--build-arg` that asks for the field, by Docker's name.
pub const ARG: &str = "BUILDKIT_INLINE_CACHE";

/// How a person makes an image that has the field.
const HOW: &str = "it is built with --build-arg BUILDKIT_INLINE_CACHE=1";

/// More steps than an image can have layers, many times over.
const MOST_STEPS: usize = 4096;

/// What a step of a build has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The digest of all that it depends on, the layers below included.
    pub key: Digest,
    /// Its layer, where it has made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
    /// When, in seconds since 1970.
    pub created: i64,
}

/// Whether a value of [`ARG`] asks for the field: the words that Docker takes.
pub fn wanted(value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => bail!("--build-arg {ARG}={other}: neither 1 nor 0"),
    }
}

/// Puts the field into a configuration.
pub fn write(config: &mut ImageConfig, steps: &[Step]) -> Result<()> {
    config.rest.insert(FIELD.to_owned(), serde_json::to_value(steps)?);
    Ok(())
}

/// The steps that a stranger's configuration tells of. Errors show nothing of what stands there.
fn read(config: &ImageConfig) -> Result<Vec<Step>> {
    let field = config.rest.get(FIELD).with_context(|| format!("the image tells nothing of its steps: {HOW}"))?;
    let told = |what: &str| format!("the image's configuration: /{FIELD}{what}; a good one comes when {HOW}");
    let Value::Array(list) = field else { bail!(told(" is not a list")) };
    if list.len() > MOST_STEPS {
        bail!(told(&format!(" has {} steps, {MOST_STEPS} are the most", list.len())));
    }
    let mut steps = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        match Step::deserialize(value) {
            Ok(step) if jiff::Timestamp::from_second(step.created).is_ok() => steps.push(step),
            _ => bail!(told(&format!("/{at} is not a step: digests key and diff_id, and a time created"))),
        }
    }
    Ok(steps)
}

/// What the images of `--cache-from` tell.
#[derive(Default)]
pub struct Imported(Vec<Source>);

struct Source {
    steps: HashMap<Digest, Step>,
    /// The image's layers by their chain ids.
    layers: HashMap<Digest, Entry>,
}

/// A step that is known.
#[derive(Debug)]
pub struct Known {
    /// Its layer, where it has made one.
    pub entry: Option<Entry>,
    /// When, in seconds since 1970.
    pub created: i64,
}

impl Imported {
    /// One image more; those named first count first.
    pub fn add(&mut self, image: &Base) -> Result<()> {
        let steps = read(&image.config)?.into_iter().map(|it| (it.key.clone(), it)).collect();
        let layers = image.stack.0.iter().map(|it| (it.chain.clone(), it.clone())).collect();
        self.0.push(Source { steps, layers });
        Ok(())
    }

    /// A step by its key. What it comes to has to be layers of the image that tells of it, from the lowest on: a key is
    /// a word of a stranger's, and must not lead to another image's layers or put layers where they never were.
    pub fn find(&self, key: &Digest, below: Option<&Digest>) -> Option<Known> {
        self.0.iter().find_map(|image| {
            let step = image.steps.get(key)?;
            let entry = match &step.diff_id {
                Some(diff_id) => Some(image.layers.get(&chain_id(below, diff_id))?.clone()),
                None if below.is_none_or(|it| image.layers.contains_key(it)) => None,
                None => return None,
            };
            Some(Known { entry, created: step.created })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::layers::Stack;
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// An image of these layers with the field.
    fn image(layers: &[&str], field: Value) -> Base {
        let mut config = ImageConfig::default();
        config.rest.insert(FIELD.to_owned(), field);
        let mut stack = Stack::default();
        for layer in layers {
            let diff_id = digest(layer);
            let chain = chain_id(stack.top(), &diff_id);
            stack.0.push(Entry { chain, diff_id, dir: (*layer).to_owned(), blob: None });
        }
        Base { config, stack }
    }

    fn step(key: &str, layer: Option<&str>) -> Step {
        Step { key: digest(key), diff_id: layer.map(digest), created: 1 }
    }

    #[test]
    fn what_is_written_is_read() {
        let steps = [step("a", Some("x")), step("b", None)];
        let mut config = ImageConfig::default();
        write(&mut config, &steps).unwrap();
        assert_eq!(read(&config).unwrap(), steps);
        let text = serde_json::to_string(&config).unwrap();
        let again: ImageConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(read(&again).unwrap(), steps);
        assert_eq!(text.matches("diff_id\":").count(), 1, "{text}");
        let none = read(&ImageConfig::default()).unwrap_err().to_string();
        assert!(none.contains("--build-arg BUILDKIT_INLINE_CACHE=1"), "{none}");
    }

    #[test]
    fn a_wrong_field_is_told_without_its_words() {
        let good = json!({"key": digest("a"), "created": 1});
        let with = |name: &str, value: Value| {
            let mut step = good.clone();
            step[name] = value;
            json!([good, step])
        };
        assert!(read(&image(&[], with("more", json!(1))).config).is_ok(), "later versions may say more");
        for (field, told) in [
            (json!({"steps": []}), "is not a list"),
            (json!("hostile"), "is not a list"),
            (json!(null), "is not a list"),
            (json!(vec![1; MOST_STEPS + 1]), "4097 steps, 4096 are the most"),
            (json!(["hostile"]), "/0 is not a step"),
            (with("key", json!("../hostile")), "/1 is not a step"),
            (with("key", json!("sha256:hostile")), "/1 is not a step"),
            (with("key", json!("hostile".repeat(100_000))), "/1 is not a step"),
            (with("diff_id", json!(["hostile"])), "/1 is not a step"),
            (with("created", json!("hostile")), "/1 is not a step"),
            (with("created", json!(i64::MAX)), "/1 is not a step"),
            (with("created", json!(1.5)), "/1 is not a step"),
        ] {
            let said = read(&image(&[], field).config).unwrap_err().to_string();
            assert!(said.contains(told) && !said.contains("hostile") && said.len() < 300, "{said}");
        }
    }

    #[test]
    fn a_step_leads_to_the_image_s_own_layers_alone() {
        let steps = [
            step("first", Some("a")),
            step("second", Some("b")),
            step("nothing", None),
            step("foreign", Some("elsewhere")),
        ];
        let mut imported = Imported::default();
        imported.add(&image(&["a", "b"], json!(steps))).unwrap();
        let (a, b) = (digest("a"), chain_id(Some(&digest("a")), &digest("b")));
        let dir = |key: &str, below| imported.find(&digest(key), below)?.entry.map(|it| it.dir);
        assert_eq!(dir("first", None).as_deref(), Some("a"));
        assert_eq!(dir("second", Some(&a)).as_deref(), Some("b"));
        for (key, below) in [
            ("unknown", None),
            ("foreign", None),
            ("foreign", Some(&a)),
            // Its layer is the image's, but not here.
            ("second", None),
            ("second", Some(&b)),
            ("first", Some(&a)),
            ("nothing", Some(&digest("elsewhere"))),
        ] {
            assert!(imported.find(&digest(key), below).is_none(), "{key}");
        }
        let nothing = imported.find(&digest("nothing"), Some(&b)).unwrap();
        assert!(nothing.entry.is_none() && nothing.created == 1);
    }

    #[test]
    fn a_later_image_fills_what_the_first_has_not() {
        let mut imported = Imported::default();
        imported.add(&image(&["a"], json!([step("both", Some("a")), step("broken", Some("x"))]))).unwrap();
        imported.add(&image(&["b"], json!([step("both", Some("b")), step("broken", Some("b"))]))).unwrap();
        let dir = |key: &str| imported.find(&digest(key), None).unwrap().entry.unwrap().dir;
        assert_eq!((dir("both").as_str(), dir("broken").as_str()), ("a", "b"));
    }

    #[test]
    fn the_argument_is_a_truth_value() {
        assert!(wanted("1").unwrap() && wanted("true").unwrap());
        assert!(!wanted("0").unwrap() && !wanted("").unwrap() && !wanted("False").unwrap());
        assert!(wanted("yes").unwrap_err().to_string().contains("BUILDKIT_INLINE_CACHE=yes"));
    }
}
