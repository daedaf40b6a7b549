//! A later file over an earlier one, and a service over what it extends: mappings are merged, lists are joined,
//! anything else is replaced. Both are in the shape that the schema has given them.

use super::schema::{Kind, Unique};
use super::yaml::{Node, Special, Value};

/// Lays `over` over `base`.
pub fn merge(base: Node, over: Node, kind: &Kind) -> Node {
    if over.special.is_some() {
        return over;
    }
    match (kind, &base.value, &over.value) {
        (Kind::Map(of) | Kind::Named(of), Value::Map(_), Value::Map(_)) => entries(base, over, |_| Some(of)),
        (Kind::Pairs, Value::Map(_), Value::Map(_)) => entries(base, over, |_| None),
        (Kind::Hosts, Value::Map(_), Value::Map(_)) => {
            entries(base, over, |_| Some(&Kind::List(&Kind::Text, Unique::Whole)))
        }
        (Kind::Object(fields) | Kind::ShortObject(_, fields), Value::Map(_), Value::Map(_)) => {
            entries(base, over, |key| fields.iter().find(|it| it.name == key).map(|it| &it.kind))
        }
        (Kind::List(_, unique) | Kind::Short(_, _, unique), Value::List(_), Value::List(_)) => {
            items(base, over, *unique)
        }
        (Kind::OneOrMany(_), Value::List(_), Value::List(_)) => items(base, over, Unique::Whole),
        _ => over,
    }
}

fn entries<'a>(mut base: Node, over: Node, kind: impl Fn(&str) -> Option<&'a Kind>) -> Node {
    let Value::Map(more) = over.value else { return base };
    for entry in more {
        let merged = match (base.take_in_place(&entry.key), kind(&entry.key)) {
            (Some(there), Some(kind)) => merge(there, entry.value, kind),
            _ => entry.value,
        };
        base.set(&entry.key, merged);
    }
    base
}

fn items(mut base: Node, over: Node, unique: Unique) -> Node {
    let (Value::List(list), Value::List(more)) = (&mut base.value, over.value) else { return base };
    for item in more {
        match list.iter().position(|it| same(it, &item, unique)) {
            Some(at) => list[at] = item,
            None => list.push(item),
        }
    }
    base
}

fn same(a: &Node, b: &Node, unique: Unique) -> bool {
    let text = |it: &Node, field: &str| it.get(field).and_then(Node::as_text).unwrap_or_default().to_owned();
    match unique {
        Unique::Whole => alike(a, b),
        Unique::Fields(fields) => fields.iter().all(|field| text(a, field) == text(b, field)),
        Unique::Target => {
            let target = |it: &Node| Some(text(it, "target")).filter(|it| !it.is_empty()).unwrap_or(text(it, "source"));
            target(a) == target(b)
        }
    }
}

/// Whether two say the same, wherever they stand.
pub fn alike(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar { text: a, .. }, Value::Scalar { text: b, .. }) => a == b,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().all(|a| b.iter().any(|b| a.key == b.key && alike(&a.value, &b.value)))
        }
        (a, b) => a == b,
    }
}

/// Takes away what `!reset` marks, when all is merged.
pub fn reset(node: &mut Node) {
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|it| it.value.special != Some(Special::Reset));
            for entry in entries {
                reset(&mut entry.value);
            }
        }
        Value::List(items) => {
            items.retain(|it| it.special != Some(Special::Reset));
            for item in items {
                reset(item);
            }
        }
        _ => {}
    }
}

impl Node {
    /// The value of a key, with nothing left in its place.
    fn take_in_place(&mut self, key: &str) -> Option<Self> {
        let there = self.get_mut(key)?;
        let empty = Self::new(&there.at, Value::Null);
        Some(std::mem::replace(there, empty))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compose::schema::{self, tables};
    use crate::compose::yaml;

    fn read(text: &str) -> Node {
        let mut node = yaml::parse("f", text).unwrap();
        schema::check(&mut node, &tables::SERVICE, "services.x").unwrap();
        node
    }

    #[track_caller]
    fn merged(base: &str, over: &str, wanted: serde_json::Value) {
        let mut node = merge(read(base), read(over), &tables::SERVICE);
        reset(&mut node);
        assert_eq!(schema::model(&node, &tables::SERVICE).unwrap(), wanted);
    }

    #[test]
    fn later_files_go_over_earlier_ones() {
        merged("{image: a, tty: true}", "{image: b}", json!({"image": "b", "tty": true}));
        merged("{command: a b}", "{command: [c]}", json!({"command": ["c"]}));
        merged("{environment: [A=1, B=2]}", "{environment: {B: 3, C: }}", {
            json!({"environment": {"A": "1", "B": "3", "C": null}})
        });
        merged("{dns: 1.1.1.1}", "{dns: [8.8.8.8, 1.1.1.1]}", json!({"dns": ["1.1.1.1", "8.8.8.8"]}));
        merged("{healthcheck: {test: a, retries: 3}}", "{healthcheck: {test: [CMD, b]}}", {
            json!({"healthcheck": {"retries": 3, "test": ["CMD", "b"]}})
        });
        merged("{depends_on: [a]}", "{depends_on: {b: {condition: service_healthy}}}", {
            json!({"depends_on": {"a": {}, "b": {"condition": "service_healthy"}}})
        });
    }

    #[test]
    fn lists_have_keys() {
        merged("{volumes: ['./a:/x', 'b:/y']}", "{volumes: ['c:/x:ro']}", {
            json!({"volumes": [{"type": "volume", "source": "c", "target": "/x", "read_only": true},
                {"type": "volume", "source": "b", "target": "/y"}]})
        });
        let port =
            |published: &str| json!({"target": 80, "published": published, "protocol": "tcp", "mode": "ingress"});
        merged("{ports: ['1:80']}", "{ports: ['2:80', '1:80']}", json!({"ports": [port("1"), port("2")]}));
        merged("{secrets: [a, b]}", "{secrets: [{source: a, mode: 0400}]}", {
            json!({"secrets": [{"source": "a", "mode": 0o400}, {"source": "b"}]})
        });
    }

    #[test]
    fn tags_say_what_is_left() {
        merged("{ports: ['1:80'], tty: true}", "{ports: !reset [], tty: !reset null}", json!({}));
        merged("{cap_add: [A]}", "{cap_add: !override [B]}", json!({"cap_add": ["B"]}));
    }
}
