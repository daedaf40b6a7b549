//! From a file to [`Spec`]: with a size bound, from a regular file only, and when a type is wrong
//! with the pointer of every wrong one.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::problem::{Problem, Problems, token};
use crate::sys::error::At;

/// The largest document that is read, in bytes. Far above what an engine writes; the bound keeps
/// `/dev/zero` and its like from filling memory.
pub const MAX_BYTES: u64 = 64 << 20;

/// How many wrong types are looked for before giving up on a document.
const MAX_TYPE_ERRORS: usize = 100;

/// Reads a JSON document as text. A FIFO or a device is refused without waiting on it.
pub fn read(path: &Path) -> Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .at(|| format!("reading {}", path.display()))?;
    let meta = file.metadata().at(|| format!("reading {}", path.display()))?;
    if !meta.is_file() {
        bail!("reading {}: it is not a regular file", path.display());
    }
    if meta.len() > MAX_BYTES {
        bail!("reading {}: {} bytes, more than the {MAX_BYTES} allowed", path.display(), meta.len());
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize + 1);
    file.take(MAX_BYTES).read_to_end(&mut bytes).at(|| format!("reading {}", path.display()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("reading {}: byte {at} is not UTF-8", path.display())
    })
}

/// Parses a document. The straight way costs one pass; only when it fails is the document taken
/// apart once more, for the pointers.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str, problems: &mut Problems) -> Option<T> {
    let parsed = serde_json::from_str(text);
    if parsed.is_err() {
        type_errors::<Probe<T>>(text, problems);
    }
    // JSON can hold a NUL only as an escape, and no string of ours may: the kernel ends there.
    if text.contains("\\u0000") {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => nul_strings(&value, &mut String::new(), problems),
            // Something in a part that nobody reads, such as 1e999.
            Err(error) if parsed.is_ok() => problems.invalid("", format!("this is not JSON: {error}")),
            Err(_) => {}
        }
    }
    parsed.ok()
}

/// Ties a borrowing type to any lifetime, so that it can also be read from a [`Value`].
struct Probe<T>(std::marker::PhantomData<T>);

/// A type whose shape can be tried on a document.
trait Shape {
    /// The pointer and the words for the first thing that does not fit.
    fn misfit(text: String) -> Option<(Vec<String>, String)>;
}

impl<'a, T: Deserialize<'a>> Shape for Probe<T> {
    fn misfit(text: String) -> Option<(Vec<String>, String)> {
        // The text lives as long as the process: this path ends in an error message and exit.
        let text: &'static str = Box::leak(text.into_boxed_str());
        let mut reader = serde_json::Deserializer::from_str(text);
        let error = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
        let path = error
            .path()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Seq { index } => Some(index.to_string()),
                Segment::Map { key } | Segment::Enum { variant: key } => Some(key.clone()),
                Segment::Unknown => None,
            })
            .collect();
        Some((path, error.inner().to_string()))
    }
}

/// A document whose types are wrong in places, without those places.
pub fn salvage(text: &str) -> Option<String> {
    let mut value: Value = serde_json::from_str(text).ok()?;
    for _ in 0..MAX_TYPE_ERRORS {
        let Some((mut path, _)) = Probe::<super::types::Spec<'_>>::misfit(value.to_string()) else {
            return Some(value.to_string());
        };
        if !cut(&mut value, &mut path) {
            return None;
        }
    }
    None
}

/// Finds every wrong type: each one found is cut out of the document and the rest tried again.
fn type_errors<S: Shape>(text: &str, problems: &mut Problems) {
    let mut value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return problems.invalid("", format!("this is not JSON: {error}")),
    };
    let mut misfit = S::misfit(value.to_string());
    if misfit.is_none() {
        // A key that stands twice is in the text only.
        if let Some((path, error)) = S::misfit(text.to_owned()) {
            problems.invalid(pointer(&path), words(&error, false));
        }
    }
    for _ in 0..MAX_TYPE_ERRORS {
        let Some((mut path, error)) = misfit else { return };
        let missing = missing_field(&error);
        let mut shown = path.clone();
        shown.extend(missing.clone());
        let pointer = pointer(&shown);
        // A wrong value has been cut out: that it is missing now is no news.
        if !problems.0.iter().any(|known| known.pointer == pointer) {
            problems.invalid(pointer, words(&error, missing.is_some()));
        }
        if !cut(&mut value, &mut path) {
            return;
        }
        misfit = S::misfit(value.to_string());
    }
}

fn pointer(path: &[String]) -> String {
    path.iter().fold(String::new(), |at, part| at + "/" + &token(part))
}

/// Removes what stands at `path`, or the nearest thing above it that can go.
fn cut(value: &mut Value, path: &mut Vec<String>) -> bool {
    let Some(last) = path.pop() else { return false };
    let pointer = path.iter().fold(String::new(), |at, part| at + "/" + &token(part));
    let gone = match value.pointer_mut(&pointer) {
        Some(Value::Object(map)) => map.remove(&last).is_some(),
        Some(Value::Array(list)) => match last.parse::<usize>() {
            Ok(index) if index < list.len() => {
                list.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    };
    gone || cut(value, path)
}

/// The name in serde's "missing field `name`".
fn missing_field(error: &str) -> Option<String> {
    error.strip_prefix("missing field `")?.split('`').next().map(str::to_owned)
}

/// serde's words in the words of someone who edits the file.
fn words(error: &str, missing: bool) -> String {
    let error = error.split(" at line ").next().unwrap_or(error);
    if missing {
        return "is required and missing".to_owned();
    }
    let Some((found, expected)) = error
        .strip_prefix("invalid type: ")
        .or_else(|| error.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return error.to_owned();
    };
    let expected = match expected {
        "u16" => "a whole number 0..65535",
        "u32" => "a whole number 0..4294967295",
        "u64" => "a whole number 0..18446744073709551615",
        "i32" => "a whole number -2147483648..2147483647",
        "i64" => "a whole number -9223372036854775808..9223372036854775807",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("must be {expected}, is {}", found.replace('`', ""))
}

/// Reports every string that holds a NUL.
fn nul_strings(value: &Value, at: &mut String, problems: &mut Problems) {
    let here = at.clone();
    let mut below = |part: &str, value: &Value, problems: &mut Problems| {
        let length = at.len();
        at.push('/');
        at.push_str(&token(part));
        nul_strings(value, at, problems);
        at.truncate(length);
    };
    match value {
        Value::String(text) if text.contains('\0') => {
            problems.0.push(Problem {
                pointer: at.clone(),
                message: "must not hold a NUL character".to_owned(),
                kind: super::problem::Kind::Invalid,
            });
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, item)| below(&i.to_string(), item, problems));
        }
        Value::Object(map) => {
            for (key, item) in map {
                if key.contains('\0') {
                    problems.invalid(format!("{here}/{}", token(key)), "a name must not hold a NUL character");
                }
                below(key, item, problems);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Spec;
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        let _ = parse::<Spec>(text, &mut problems);
        problems.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_wrong_type_is_found_with_its_pointer() {
        let found = lines(
            r#"{"ociVersion": 1, "root": {"path": "r"}, "process": {"user": {"uid": -1, "gid": 0},
                "cwd": "/", "args": ["a", 7]}, "linux": {"namespaces": [{"type": "pid"}, {}]}}"#,
        );
        assert!(found.contains(&"/ociVersion: must be a string, is integer 1".to_owned()), "{found:?}");
        assert!(
            found.contains(&"/process/user/uid: must be a whole number 0..4294967295, is integer -1".to_owned()),
            "{found:?}"
        );
        assert!(found.contains(&"/process/args/1: must be a string, is integer 7".to_owned()), "{found:?}");
        assert!(found.contains(&"/linux/namespaces/1/type: is required and missing".to_owned()), "{found:?}");
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let found = lines("{]");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("/: this is not JSON: ") && found[0].contains("line 1"), "{found:?}");
    }

    #[test]
    fn nul_is_found_wherever_it_stands() {
        let found = lines(r#"{"ociVersion":"1.0.0","root":{"path":"a\u0000b"},"mounts":[{"destination":"/\u0000"}]}"#);
        assert_eq!(
            found,
            ["/mounts/0/destination: must not hold a NUL character", "/root/path: must not hold a NUL character"]
        );
    }

    #[test]
    fn null_is_absent_and_unknown_is_ignored() {
        assert_eq!(
            lines(r#"{"ociVersion":"1.0.0","root":null,"linux":null,"hooks":null,"mounts":null,"new":[{}]}"#),
            Vec::<String>::new()
        );
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let text = format!("{{\"x\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(lines(&text).len(), 1);
    }
}
