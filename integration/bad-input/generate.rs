//! Breaks every field of a document in every way that fits its type.
//!
//! A table names each field of a good document with its type and what the spec wants of it; a field that is in the
//! document and in no row fails the test. From a row follow the breaks, and for each whether it must be refused, and
//! where, or is legal after all.

use serde_json::{Map, Value, json};

/// One field: a pointer in which `*` is any key or index, whether it must be there, and what it holds.
pub struct Field(pub &'static str, pub Need, pub Kind);

/// Whether a field may be left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Must,
    May,
    /// The spec lets it be left out, but other fields of the document ask for it.
    Others,
}

/// What a field holds.
#[derive(Clone, Copy)]
pub enum Kind {
    Bool,
    /// Whole numbers of a type, all those of the spec in between.
    Number {
        type_range: (i128, i128),
        range: (i128, i128),
    },
    /// Any text.
    Text,
    /// One of a few words; some that are none of them.
    Word(&'static [&'static str]),
    /// Text of some syntax; some that is not of it.
    Syntax(&'static [&'static str]),
    /// An absolute path.
    Path,
    /// A list; whether it may be empty, whether an entry may stand twice, and whether 100,000 are too many.
    List {
        empty: Ends,
        twice: Ends,
        many: Ends,
    },
    /// An object with properties of fixed names.
    Object,
    /// An object with names of the user's; those that are none.
    Map(&'static [&'static str]),
}

/// What becomes of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Refused, with the pointer of the field or of something in it.
    Refused,
    /// It works.
    Legal,
    /// Not tried: it is legal and takes too long, or its effect is the kernel's.
    Untried,
}

/// One broken document.
pub struct Broken {
    /// How it was broken.
    pub how: String,
    /// The field.
    pub at: String,
    pub bytes: Vec<u8>,
    pub ends: Ends,
}

/// What stands in for bytes that no [`Value`] can hold.
const MARK: &str = "@@@";

/// Every break of every field of `good`.
pub fn breaks(good: &Value, fields: &'static [Field]) -> Vec<Broken> {
    let mut made = Maker { good, fields, made: Vec::new() };
    made.walk("", good);
    made.made
}

struct Maker<'a> {
    good: &'a Value,
    fields: &'static [Field],
    made: Vec<Broken>,
}

impl Maker<'_> {
    fn walk(&mut self, at: &str, value: &Value) {
        if !at.is_empty() {
            let Field(_, need, kind) = *self.field(at);
            self.types(at, value);
            self.absence(at, need);
            self.kind(at, value, kind);
        }
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| self.walk(&format!("{at}/{}", token(key)), value)),
            Value::Array(list) => list.iter().enumerate().for_each(|(n, value)| self.walk(&format!("{at}/{n}"), value)),
            _ => {}
        }
    }

    fn field(&self, at: &str) -> &'static Field {
        let parts: Vec<&str> = at.split('/').collect();
        let fits = |pattern: &str| {
            let pattern: Vec<&str> = pattern.split('/').collect();
            pattern.len() == parts.len() && pattern.iter().zip(&parts).all(|(want, is)| *want == "*" || want == is)
        };
        let row = self.fields.iter().find(|field| fits(field.0));
        row.unwrap_or_else(|| panic!("{at} is in no row of the table"))
    }

    /// The document with another value at `at`; `None` takes the field away.
    fn changed(&self, at: &str, value: Option<Value>) -> Value {
        let mut document = self.good.clone();
        let (parent, last) = at.rsplit_once('/').unwrap();
        match (document.pointer_mut(parent).unwrap(), value) {
            (Value::Object(map), Some(value)) => drop(map.insert(untoken(last), value)),
            (Value::Object(map), None) => drop(map.remove(&untoken(last))),
            (Value::Array(list), Some(value)) => list[last.parse::<usize>().unwrap()] = value,
            (Value::Array(list), None) => drop(list.remove(last.parse().unwrap())),
            _ => unreachable!(),
        }
        document
    }

    fn push(&mut self, how: &str, at: &str, document: &Value, ends: Ends) {
        let bytes = document.to_string().into_bytes();
        self.made.push(Broken { how: how.to_owned(), at: at.to_owned(), bytes, ends });
    }

    fn value(&mut self, how: &str, at: &str, value: Value, ends: Ends) {
        let document = self.changed(at, Some(value));
        self.push(how, at, &document, ends);
    }

    /// A value that only text can hold: `raw` in the place of the field.
    fn raw(&mut self, how: &str, at: &str, raw: &[u8]) {
        let text = self.changed(at, Some(json!(MARK))).to_string();
        let (before, after) = text.split_once(&format!("\"{MARK}\"")).unwrap();
        let bytes = [before.as_bytes(), raw, after.as_bytes()].concat();
        self.made.push(Broken { how: how.to_owned(), at: at.to_owned(), bytes, ends: Ends::Refused });
    }

    fn types(&mut self, at: &str, value: &Value) {
        let others = [json!(true), json!(7), json!("x"), json!([]), json!({})];
        for other in others {
            if std::mem::discriminant(&other) != std::mem::discriminant(value) {
                self.value(&format!("{other} for a {}", kind_of(value)), at, other, Ends::Refused);
            }
        }
        if !value.is_number() {
            self.value("a fraction", at, json!(1.5), Ends::Refused);
            self.value("a negative number", at, json!(-1), Ends::Refused);
            self.raw("a number past all types", at, b"1e999");
        }
    }

    fn absence(&mut self, at: &str, need: Need) {
        let (parent, last) = at.rsplit_once('/').unwrap();
        let in_list = self.good.pointer(parent).unwrap().is_array();
        let in_map = !in_list && !parent.is_empty() && matches!(self.field(parent).2, Kind::Map(_));
        let ends = if need == Need::May { Ends::Legal } else { Ends::Refused };
        // Who asks for it is named then.
        let named = if need == Need::Others { "" } else { at };
        let null = self.changed(at, Some(Value::Null));
        self.push("null", named, &null, if in_list || in_map { Ends::Refused } else { ends });
        if in_list {
            return;
        }
        if !in_map {
            let without = self.changed(at, None);
            self.push("missing", named, &without, ends);
        }
        // A key that stands twice: what wins would be for each reader to guess.
        let mut twice = self.good.clone();
        let value = self.good.pointer(at).unwrap().clone();
        let mark = format!("{}{MARK}", untoken(last));
        twice.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(mark.clone(), value);
        let (mark, key) = (json!(mark).to_string(), json!(untoken(last)).to_string());
        let bytes = twice.to_string().replacen(&mark, &key, 1).into_bytes();
        self.made.push(Broken { how: "a key twice".into(), at: parent.to_owned(), bytes, ends: Ends::Refused });
    }

    fn kind(&mut self, at: &str, value: &Value, kind: Kind) {
        match kind {
            Kind::Bool => {}
            Kind::Number { type_range, range } => self.number(at, type_range, range),
            Kind::Text => self.text(at, value),
            Kind::Syntax(wrong) => {
                self.text(at, value);
                for wrong in wrong {
                    self.value(&format!("{wrong:?}"), at, json!(wrong), Ends::Refused);
                }
            }
            Kind::Word(wrong) => {
                self.kind(at, value, Kind::Syntax(wrong));
                let own = value.as_str().unwrap();
                self.value("an unknown name", at, json!("no-such-name"), Ends::Refused);
                self.value("a blank behind it", at, json!(format!("{own} ")), Ends::Refused);
                self.value("a newline behind it", at, json!(format!("{own}\n")), Ends::Refused);
                self.value("1 MB", at, json!(own.repeat(1_000_000 / own.len())), Ends::Refused);
            }
            Kind::Path => {
                self.text(at, value);
                let own = value.as_str().unwrap();
                for relative in ["", ".", "..", "relative/path", "../../etc"] {
                    self.value(&format!("{relative:?}"), at, json!(relative), Ends::Refused);
                }
                self.value("1 MB", at, json!(format!("{own}{}", "/long".repeat(200_000))), Ends::Refused);
                self.value("a name of 1 MB", at, json!(format!("/{}", "x".repeat(1_000_000))), Ends::Refused);
            }
            Kind::List { empty, twice, many } => self.list(at, value, empty, twice, many),
            Kind::Object => {
                let mut more = value.clone();
                more["com.example.unknown"] = json!([{"deep": [null, -1, 1e300, {}]}]);
                self.value("an unknown property", at, more, Ends::Legal);
            }
            Kind::Map(wrong) => {
                let Some(first) = value.as_object().unwrap().values().next().cloned() else { return };
                for name in wrong {
                    let map = Map::from_iter([((*name).to_owned(), first.clone())]);
                    self.value(&format!("the name {:?}", shortened(name)), at, Value::Object(map), Ends::Refused);
                }
                let nul = Map::from_iter([("a\0b".to_owned(), first)]);
                self.value("NUL in a name", at, Value::Object(nul), Ends::Refused);
                self.value("no names", at, json!({}), Ends::Legal);
            }
        }
    }

    fn number(&mut self, at: &str, type_range: (i128, i128), range: (i128, i128)) {
        let outside = [type_range.0 - 1, type_range.1 + 1, range.0 - 1, range.1 + 1];
        let mut outside: Vec<i128> = outside.into_iter().filter(|it| *it < range.0 || *it > range.1).collect();
        outside.extend([i128::from(i64::MIN) - 1, i128::from(u64::MAX) + 1]);
        outside.sort_unstable();
        outside.dedup();
        for number in outside {
            self.raw(&number.to_string(), at, number.to_string().as_bytes());
        }
        for wrong in ["0.5", "1e999", "-1e999", "01", "0x10", "NaN", "+1", "1e", "\"1\""] {
            self.raw(wrong, at, wrong.as_bytes());
        }
    }

    fn text(&mut self, at: &str, value: &Value) {
        let own = value.as_str().unwrap_or_else(|| panic!("{at} is no text: {value}"));
        self.value("NUL", at, json!(format!("{own}\0")), Ends::Refused);
        self.value("nothing but NUL", at, json!("\0"), Ends::Refused);
        self.raw("no UTF-8", at, b"\"\xff\xfe\"");
        self.raw("half of a UTF-8 character", at, b"\"\xe2\x82\"");
        self.raw("a lone surrogate", at, br#""\ud800""#);
        self.raw("a raw newline", at, b"\"a\nb\"");
        self.raw("without its end", at, b"\"open");
    }

    fn list(&mut self, at: &str, value: &Value, empty: Ends, twice: Ends, many: Ends) {
        self.value("empty", at, json!([]), empty);
        let Some(first) = value.get(0) else { return };
        let mut doubled = value.as_array().unwrap().clone();
        doubled.push(first.clone());
        self.value("an entry twice", at, Value::Array(doubled), twice);
        self.value("100,000 entries", at, Value::Array(vec![first.clone(); 100_000]), many);
        self.value("a list in it", at, json!([value]), Ends::Refused);
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.len().min(40)]
}

/// A key as a part of a JSON pointer (RFC 6901), and back.
fn token(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn untoken(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}
