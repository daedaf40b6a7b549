//! A document as YAML: blocks, two spaces deep, quotes only where they are needed.

use serde_json::Value;

/// The whole text.
pub fn yaml(document: &Value) -> String {
    let mut out = String::new();
    match document {
        Value::Object(map) if !map.is_empty() => block(document, 0, &mut out),
        Value::Array(list) if !list.is_empty() => block(document, 0, &mut out),
        other => {
            out += &inline(other);
            out.push('\n');
        }
    }
    out
}

fn block(value: &Value, deep: usize, out: &mut String) {
    let indent = "  ".repeat(deep);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                *out += &format!("{indent}{}:", scalar(key));
                below(value, deep + 1, out);
            }
        }
        Value::Array(list) => {
            for item in list {
                match item {
                    Value::Object(map) if !map.is_empty() => {
                        // The first key stands behind the dash.
                        let mut inner = String::new();
                        block(item, deep + 1, &mut inner);
                        *out += &format!("{indent}- {}", &inner[indent.len() + 2..]);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        *out += &format!("{indent}-\n");
                        block(item, deep + 1, out);
                    }
                    other => *out += &format!("{indent}- {}\n", inline(other)),
                }
            }
        }
        other => *out += &format!("{indent}{}\n", inline(other)),
    }
}

fn below(value: &Value, deep: usize, out: &mut String) {
    let nested =
        value.as_object().is_some_and(|it| !it.is_empty()) || value.as_array().is_some_and(|it| !it.is_empty());
    if nested {
        out.push('\n');
        block(value, deep, out);
    } else {
        *out += &format!(" {}\n", inline(value));
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

/// A text that is read as nothing else: in quotes where it could be.
fn scalar(text: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_./-@%+=,".contains(it);
    let reserved = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "~"];
    let first = text.chars().next();
    let good = text.chars().all(plain)
        && first.is_some_and(|it| it.is_ascii_alphabetic() || it == '/' || it == '_')
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    // JSON's quotes and escapes are YAML's too.
    if good { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compose::yaml::{self as reader, Node, Value as Read};

    fn back(node: &Node) -> Value {
        match &node.value {
            Read::Null => Value::Null,
            Read::Scalar { text, plain: true } => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            Read::Scalar { text, .. } => json!(text),
            Read::List(items) => items.iter().map(back).collect(),
            Read::Map(entries) => Value::Object(entries.iter().map(|it| (it.key.clone(), back(&it.value))).collect()),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let document = json!({
            "services": {"a": {"command": ["x", "- y", "", "a: b", "#", "é", "1", "yes", "null", "line\nline", "\"q'"],
                "list": [{"a": 1, "b": [1, [2, 3], {}]}, {"c": null}], "empty": {}, "none": [], "f": 0.5, "t": true,
                "1.5": "0x1f", "k: y": "@x"}},
        });
        let text = yaml(&document);
        assert_eq!(back(&reader::parse("f", &text).unwrap()), document, "{text}");
        assert_eq!(yaml(&json!({})), "{}\n");
        assert_eq!(yaml(&json!({"a": [{"b": 1, "c": 2}]})), "a:\n  - b: 1\n    c: 2\n");
    }
}
