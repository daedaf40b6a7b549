//! Annotations `org.systemd.property.NAME`: a unit's property in GVariant's text form
//! (docs.gtk.org/glib/gvariant-text-format.html), as runc and crun take it. Pure.
//!
//! Of the text form all that systemd has properties for is read: booleans, numbers, strings, lists
//! and tuples, with or without their types before them. Dictionaries and variants are not.

use super::wire::Value;

/// What such annotations begin with.
pub(super) const PREFIX: &str = "org.systemd.property.";

/// Properties that make a unit a container's, and are not for a document to change.
const OURS: [&str; 6] = ["PIDs", "PIDFDs", "Slice", "Delegate", "DefaultDependencies", "Controller"];

/// How deep lists may be nested.
const DEPTH: u32 = 8;

/// Words that stand before a value of their type.
const KEYWORDS: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

/// Name and value of the property that an annotation asks for.
pub(super) fn property(name: &str, text: &str) -> Result<(String, Value), String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(format!("\"{name}\" is no name of a property: it must be three letters or more, and letters only"));
    }
    if OURS.contains(&name) {
        return Err(format!("{name} is set by the runtime itself; take the annotation out"));
    }
    let value = parse(text).map_err(|why| format!("{text:?} is no value: {why}"))?;
    // Documents write seconds as unit files do; the bus knows microseconds only.
    match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase())) {
        Some(stem) => Ok((format!("{stem}USec"), microseconds(&value)?)),
        None => Ok((name.to_owned(), value)),
    }
}

fn microseconds(seconds: &Value) -> Result<Value, String> {
    let whole = match *seconds {
        Value::Byte(number) => i128::from(number),
        Value::Int16(number) => number.into(),
        Value::Uint16(number) => number.into(),
        Value::Int32(number) => number.into(),
        Value::Uint32(number) => number.into(),
        Value::Int64(number) => number.into(),
        Value::Uint64(number) => number.into(),
        // A fraction keeps its microseconds; what is too large for one is an error below.
        Value::Double(number) => return in_range((number * 1e6) as i128),
        _ => return Err("must be a number of seconds".to_owned()),
    };
    in_range(whole * 1_000_000)
}

fn in_range(microseconds: i128) -> Result<Value, String> {
    u64::try_from(microseconds).map(Value::Uint64).map_err(|_| "must be 0..18446744073709 seconds".to_owned())
}

fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text, depth: 0 };
    let value = parser.value(None)?;
    parser.blank();
    if parser.rest.is_empty() { Ok(value) } else { Err(format!("\"{}\" is left over after it", parser.rest)) }
}

/// The first complete type of a signature, of those that are read here.
fn first_type(signature: &str) -> Option<&str> {
    let rest = match signature.chars().next()? {
        'y' | 'b' | 'n' | 'q' | 'i' | 'u' | 'x' | 't' | 'd' | 's' | 'o' | 'g' => &signature[1..],
        'a' => &signature[1 + first_type(&signature[1..])?.len()..],
        '(' => {
            let mut rest = &signature[1..];
            while !rest.starts_with(')') {
                rest = &rest[first_type(rest)?.len()..];
            }
            &rest[1..]
        }
        _ => return None,
    };
    Some(&signature[..signature.len() - rest.len()])
}

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, what: char) -> bool {
        self.blank();
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &'a str {
        let (word, rest) = self.rest.split_at(self.rest.find(|c| !of(c)).unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// A value; of the type `kind`, if that is known.
    fn value(&mut self, kind: Option<&str>) -> Result<Value, String> {
        self.blank();
        match self.rest.chars().next() {
            None => Err("a value is missing".to_owned()),
            Some('@') => {
                let said = self.word(|c| !c.is_whitespace())[1..].to_owned();
                let known = said.len() <= 64 && first_type(&said) == Some(said.as_str());
                if !known {
                    return Err(format!("@{said} is no type that can stand here"));
                }
                self.typed(kind, &said)
            }
            Some(quote @ ('\'' | '"')) => self.string(quote, kind.unwrap_or("s")),
            Some('[') => self.nested(|parser| parser.array(kind)),
            Some('(') => self.nested(|parser| parser.tuple(kind)),
            Some(c) if c.is_ascii_digit() || "+-.".contains(c) => {
                let digits = self.word(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                let fraction = digits.contains('.') || (digits.contains(['e', 'E']) && !digits.contains(['x', 'X']));
                number(digits, kind.unwrap_or(if fraction { "d" } else { "i" }))
            }
            Some(_) => {
                match self.word(|c| c.is_ascii_alphanumeric()) {
                    word @ ("true" | "false") => match kind {
                        None | Some("b") => Ok(Value::Bool(word == "true")),
                        Some(kind) => Err(format!("{word} stands where a value of type {kind} must be")),
                    },
                    word => match KEYWORDS.iter().find(|(known, _)| *known == word) {
                        Some((_, said)) => self.typed(kind, said),
                        None => Err("text must stand in quotes ('…'), a number may have its type before it (uint64 5)"
                            .to_owned()),
                    },
                }
            }
        }
    }

    /// A value whose type stands before it, and may be known besides.
    fn typed(&mut self, kind: Option<&str>, said: &str) -> Result<Value, String> {
        if kind.is_some_and(|kind| kind != said) {
            return Err("elements of a list must be of one type".to_owned());
        }
        self.nested(|parser| parser.value(Some(said)))
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<Value, String>) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("it is nested too deep".to_owned());
        }
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn array(&mut self, kind: Option<&str>) -> Result<Value, String> {
        let mut element = match kind {
            Some(kind) => Some(kind.strip_prefix('a').ok_or("a list stands where there must be none")?.to_owned()),
            None => None,
        };
        self.eat('[');
        let mut items = Vec::new();
        while !self.eat(']') {
            if !items.is_empty() && !self.eat(',') {
                return Err("a comma or ] is missing".to_owned());
            }
            let item = self.value(element.as_deref())?;
            // The first one decides for all.
            element.get_or_insert_with(|| item.signature());
            items.push(item);
        }
        // Of nothing: systemd's lists are of strings, mostly.
        Ok(Value::Array(element.unwrap_or_else(|| "s".to_owned()), items))
    }

    fn tuple(&mut self, kind: Option<&str>) -> Result<Value, String> {
        let mut kinds = match kind {
            Some(kind) => Some(
                kind.strip_prefix('(')
                    .and_then(|kind| kind.strip_suffix(')'))
                    .ok_or("a tuple stands where there must be none")?,
            ),
            None => None,
        };
        self.eat('(');
        let mut fields = Vec::new();
        while !self.eat(')') {
            if !fields.is_empty() && !self.eat(',') {
                return Err("a comma or ) is missing".to_owned());
            }
            let kind = match &mut kinds {
                Some(kinds) => {
                    let first = first_type(kinds).ok_or("a tuple has too many values")?;
                    *kinds = &kinds[first.len()..];
                    Some(first)
                }
                None => None,
            };
            fields.push(self.value(kind)?);
        }
        if fields.is_empty() || kinds.is_some_and(|left| !left.is_empty()) {
            return Err("a tuple has too few values".to_owned());
        }
        Ok(Value::Struct(fields))
    }

    fn string(&mut self, quote: char, kind: &str) -> Result<Value, String> {
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next().ok_or("the closing quote is missing")? {
                c if c == quote => break,
                // The bus ends texts with it.
                '\0' => return Err("it holds a NUL".to_owned()),
                '\\' => match chars.next().ok_or("the closing quote is missing")? {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    'u' => text.push(escaped(&mut chars, 4)?),
                    'U' => text.push(escaped(&mut chars, 8)?),
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    c => return Err(format!("\\{c} is no escape that is known here")),
                },
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        match kind {
            "s" => Ok(Value::String(text)),
            "o" if text.starts_with('/') => Ok(Value::Path(text)),
            "g" if text.len() < 256 => Ok(Value::Signature(text)),
            _ => Err(format!("{text:?} stands where a value of type {kind} must be")),
        }
    }
}

/// The character of `\u0041`.
fn escaped(chars: &mut std::str::Chars<'_>, digits: usize) -> Result<char, String> {
    let hex: String = chars.take(digits).collect();
    u32::from_str_radix(&hex, 16)
        .ok()
        .filter(|code| hex.len() == digits && *code != 0)
        .and_then(char::from_u32)
        .ok_or_else(|| format!("\\u{hex} is no character"))
}

fn number(text: &str, kind: &str) -> Result<Value, String> {
    if kind == "d" {
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        return number.map(Value::Double).ok_or_else(|| format!("{text} is no number"));
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let (digits, radix) = match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if unsigned.len() > 1 && unsigned.starts_with('0') => (&unsigned[1..], 8),
        None => (unsigned, 10),
    };
    if digits.starts_with(['+', '-']) || text.len() - unsigned.len() > 1 {
        return Err(format!("{text} is no number"));
    }
    let number = i128::from_str_radix(digits, radix).map_err(|_| format!("{text} is no whole number"))?;
    let number = if text.starts_with('-') { -number } else { number };
    let value = match kind {
        "y" => number.try_into().ok().map(Value::Byte),
        "n" => number.try_into().ok().map(Value::Int16),
        "q" => number.try_into().ok().map(Value::Uint16),
        "i" => number.try_into().ok().map(Value::Int32),
        "u" => number.try_into().ok().map(Value::Uint32),
        "x" => number.try_into().ok().map(Value::Int64),
        "t" => number.try_into().ok().map(Value::Uint64),
        _ => return Err(format!("{text} stands where a value of type {kind} must be")),
    };
    value.ok_or_else(|| format!("{text} does not fit its type; write uint64 {text} if the property is that long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let text = |text: &str| Value::from(text);
        let pair = |a: &str, b: &str| Value::Struct(vec![text(a), text(b)]);
        for (form, value) in [
            ("true", Value::Bool(true)),
            (" false ", Value::Bool(false)),
            ("boolean true", Value::Bool(true)),
            ("5", Value::Int32(5)),
            ("-7", Value::Int32(-7)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@t 0x10", Value::Uint64(16)),
            ("int64 -5", Value::Int64(-5)),
            ("uint32 010", Value::Uint32(8)),
            ("byte 255", Value::Byte(255)),
            ("int16 -3", Value::Int16(-3)),
            ("uint16 0", Value::Uint16(0)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            ("1e3", Value::Double(1000.0)),
            ("'a b'", text("a b")),
            ("\"it's\"", text("it's")),
            (r"'a\'b\\c\n\u00e4'", text("a'b\\c\nä")),
            ("''", text("")),
            ("objectpath '/a'", Value::Path("/a".to_owned())),
            ("signature 'as'", Value::Signature("as".to_owned())),
            ("['a', 'b']", Value::strings(&["a", "b"])),
            ("[ ]", Value::strings(&[])),
            ("@au [1,2]", Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)])),
            ("[uint64 1, 2]", Value::Array("t".into(), vec![Value::Uint64(1), Value::Uint64(2)])),
            (
                "[('/dev/null', 'rw'), ('/dev/zero', 'r')]",
                Value::Array("(ss)".into(), vec![pair("/dev/null", "rw"), pair("/dev/zero", "r")]),
            ),
            ("@a(ss) []", Value::Array("(ss)".into(), vec![])),
            ("@(st) ('x', 5)", Value::Struct(vec![text("x"), Value::Uint64(5)])),
            (
                "[[1], []]",
                Value::Array(
                    "ai".into(),
                    vec![Value::Array("i".into(), vec![Value::Int32(1)]), Value::Array("i".into(), vec![])],
                ),
            ),
        ] {
            assert_eq!(parse(form), Ok(value), "{form}");
        }
    }

    #[test]
    fn what_is_none() {
        for bad in [
            "",
            " ",
            "word",
            "truee",
            "5x",
            "--5",
            "0x",
            "-",
            "2147483648",
            "uint64 -1",
            "byte 256",
            "uint64",
            "uint64 'a'",
            "'a",
            "'a\\",
            "'a\\q'",
            "'\\u12'",
            "'\\u0000'",
            "'a\0'",
            "\"a'",
            "'a' 'b'",
            "[1",
            "[1 2]",
            "[1,,2]",
            "[1, 'a']",
            "[1, uint64 2]",
            "@a",
            "@",
            "@a{sv} {}",
            "@v <1>",
            "<1>",
            "()",
            "('a'",
            "@(ss) ('a',)",
            "@(ss) ('a')",
            "@(s) ('a', 'b')",
            "@s 5",
            "@b 1",
            "@as 'a'",
            "int32 true",
            "objectpath 'a'",
            "1.5.5",
            "uint32 1.5",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} is {:?}", parse(bad));
        }
        // However deep, it comes back with an error.
        for open in ["[", "(", "@as ", "uint64 "] {
            assert!(parse(&open.repeat(100_000)).is_err());
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        let of = |name: &str, text: &str| property(name, text);
        let long = |name: &str, number| Ok((name.to_owned(), Value::Uint64(number)));
        assert_eq!(of("TimeoutStopSec", "456"), long("TimeoutStopUSec", 456_000_000));
        assert_eq!(of("TimeoutStopSec", "uint64 4"), long("TimeoutStopUSec", 4_000_000));
        assert_eq!(of("TimeoutStopSec", "byte 4"), long("TimeoutStopUSec", 4_000_000));
        assert_eq!(of("TimeoutStopSec", "1.5"), long("TimeoutStopUSec", 1_500_000));
        assert_eq!(of("TimeoutStopUSec", "uint64 456"), long("TimeoutStopUSec", 456));
        assert_eq!(of("Sec", "uint64 5"), long("Sec", 5));
        for bad in ["-1", "'5'", "uint64 18446744073709551615", "1e300", "-0.5", "[1]"] {
            assert!(of("TimeoutStopSec", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        for bad in ["", "ab", "A1b", "Memory Max", "Größe", "a.b", "PIDs", "Slice"] {
            assert!(property(bad, "true").is_err(), "{bad}");
        }
        assert_eq!(property("CollectMode", "'inactive'"), Ok(("CollectMode".to_owned(), "inactive".into())));
    }

    #[test]
    fn fuzz_properties() {
        let seeds: [&[u8]; 5] = [b"uint64 10000000", b"'inactive'", b"['a', 'b']", b"[('x', ['a'], true)]", b"@as []"];
        crate::fuzz::fuzz(&seeds, |bytes| drop(property("TimeoutStopUSec", &String::from_utf8_lossy(bytes))));
    }
}
