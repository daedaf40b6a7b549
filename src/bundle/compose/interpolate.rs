//! `$NAME` and `${NAME…}` in texts, by the rules of the compose specification. `$$` is a `$`.

use anyhow::{Context, Result, bail};

use super::yaml::{Node, Value};

/// How deep a default may hold further variables.
const DEEPEST: usize = 16;
/// Most bytes that a text becomes: as many as a file may have.
pub const LONGEST: usize = 4 << 20;

/// Gives the value of a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills in all texts of a tree; keys stay as they are. `missing` hears of variables that are not set and have no
/// default: they are empty.
pub fn tree(node: &mut Node, look_up: Lookup<'_>, missing: &mut dyn FnMut(&str)) -> Result<()> {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar { text: it, .. } => {
            if it.contains('$') {
                *it = text(it, look_up, missing).with_context(|| node.at.to_string())?;
            }
        }
        Value::List(items) => {
            for item in items {
                tree(item, look_up, missing)?;
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                tree(&mut entry.value, look_up, missing)?;
            }
        }
    }
    Ok(())
}

/// Fills in one text.
pub fn text(text: &str, look_up: Lookup<'_>, missing: &mut dyn FnMut(&str)) -> Result<String> {
    let mut at = Filling { look_up, missing };
    at.fill(text, 0)
}

struct Filling<'a, 'b> {
    look_up: Lookup<'a>,
    missing: &'b mut dyn FnMut(&str),
}

impl Filling<'_, '_> {
    fn fill(&mut self, text: &str, deep: usize) -> Result<String> {
        if deep > DEEPEST {
            bail!("variables in variables, more than {DEEPEST} deep");
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out += &rest[..at];
            let behind = &rest[at + 1..];
            if let Some(more) = behind.strip_prefix('$') {
                out.push('$');
                rest = more;
            } else if let Some(inside) = behind.strip_prefix('{') {
                let end = end_of(inside).with_context(|| format!("{text:?}: a ${{ without its }}"))?;
                out += &self.braced(&inside[..end], deep).with_context(|| format!("{text:?}"))?;
                rest = &inside[end + 1..];
            } else {
                let name = &behind[..name_length(behind)];
                if name.is_empty() {
                    bail!("{text:?}: a $ before no name; $$ stands for a $ itself");
                }
                out += &self.value(name);
                rest = &behind[name.len()..];
            }
            if out.len() > LONGEST {
                bail!("a text of more than {LONGEST} bytes, with what variables stand for");
            }
        }
        Ok(out + rest)
    }

    fn value(&mut self, name: &str) -> String {
        (self.look_up)(name).unwrap_or_else(|| {
            (self.missing)(name);
            String::new()
        })
    }

    /// What stands between the braces.
    fn braced(&mut self, inside: &str, deep: usize) -> Result<String> {
        let name = &inside[..name_length(inside)];
        if name.is_empty() {
            bail!("${{{inside}}}: no name of a variable");
        }
        let rest = &inside[name.len()..];
        if rest.is_empty() {
            return Ok(self.value(name));
        }
        let (colon, word) = rest.strip_prefix(':').map_or((false, rest), |word| (true, word));
        let (sign, word) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
        // With a colon an empty value counts as none.
        let there = (self.look_up)(name).filter(|it| !colon || !it.is_empty());
        match sign {
            "-" => match there {
                Some(value) => Ok(value),
                None => self.fill(word, deep + 1),
            },
            "+" => match there {
                Some(_) => self.fill(word, deep + 1),
                None => Ok(String::new()),
            },
            "?" => {
                if let Some(value) = there {
                    return Ok(value);
                }
                let said = self.fill(word, deep + 1)?;
                let said = if said.is_empty() { "it has to be set".to_owned() } else { said };
                bail!("the variable {name} is required: {said}")
            }
            _ => bail!("${{{inside}}}: behind the name :- - :? ? :+ or + are known"),
        }
    }
}

/// Letters, digits and `_`, not a digit first.
fn name_length(text: &str) -> usize {
    let good = |(at, it): (usize, u8)| it.is_ascii_alphabetic() || it == b'_' || (at > 0 && it.is_ascii_digit());
    text.bytes().enumerate().take_while(|it| good(*it)).count()
}

/// Where the brace ends that was opened before the text.
fn end_of(text: &str) -> Option<usize> {
    let mut open = 0;
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'$' if bytes.peek().is_some_and(|it| it.1 == b'$') => {
                bytes.next();
            }
            b'$' if bytes.peek().is_some_and(|it| it.1 == b'{') => {
                bytes.next();
                open += 1;
            }
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look_up(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".into()),
            "EMPTY" => Some(String::new()),
            "_x1" => Some("low".into()),
            _ => None,
        }
    }

    fn fill(it: &str) -> Result<String> {
        text(it, &look_up, &mut |_| {})
    }

    #[test]
    fn variables_are_filled_in() {
        for (given, wanted) in [
            ("$A-${A}", "one-one"),
            ("$$A $${A}", "$A ${A}"),
            ("${A:-x}${B:-x}${EMPTY:-x}", "onexx"),
            ("${B-x}[${EMPTY-x}]", "x[]"),
            ("${A:+y}${B:+y}[${EMPTY:+y}]${EMPTY+y}", "y[]y"),
            ("${B:-${C:-${A}}}", "one"),
            ("${B:-a}b}", "ab}"),
            ("${A:?no}", "one"),
            ("${EMPTY?no}", ""),
            ("$_x1.", "low."),
            ("$B", ""),
            ("no", "no"),
            ("${B:-$$5}", "$5"),
        ] {
            assert_eq!(fill(given).unwrap(), wanted, "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, words) in [
            ("${A", "without its }"),
            ("${}", "no name"),
            ("$1", "before no name"),
            ("a$", "before no name"),
            ("${A!x}", ":- - :?"),
            ("${B:?set $A}", "the variable B is required: set one"),
            ("${EMPTY:?}", "it has to be set"),
        ] {
            let error = format!("{:#}", fill(given).unwrap_err());
            assert!(error.contains(words), "{given}: {error}");
        }
        assert!(fill(&("${B:-".repeat(40) + &"}".repeat(40))).is_err());
        let long = |_: &str| Some("a".repeat(1 << 20));
        let error = text(&"$A".repeat(1000), &long, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("more than 4194304 bytes"), "{error}");
    }

    #[test]
    fn what_is_not_set_is_heard_of() {
        let mut heard = Vec::new();
        text("$B ${C} ${D:-} $A", &look_up, &mut |it| heard.push(it.to_owned())).unwrap();
        assert_eq!(heard, ["B", "C"]);
    }

    /// Whatever the text is, the answer is a text or an error; with each $ doubled it is the text itself.
    #[test]
    fn random_text_never_panics() {
        let words =
            ["$", "{", "}", "A", "B", "_x1", "EMPTY", ":", "-", "+", "?", "1", " ", "é", "\0", "\n", "${", "$$"];
        let mut seed = 7_u64;
        for _ in 0..50_000 {
            let mut given = String::new();
            for _ in 0..15 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                given += words[(seed >> 33) as usize % words.len()];
            }
            let _ = fill(&given);
            assert_eq!(fill(&given.replace('$', "$$")).unwrap(), given);
        }
        // Long ones end in time, too.
        let begin = std::time::Instant::now();
        for part in ["$", "$$", "${", "}", "${A}", "${B:-", "${B:-}", "$A"] {
            let long = part.repeat((256 << 10) / part.len());
            let _ = fill(&long);
            let _ = fill(&("${B:-".repeat(DEEPEST) + &long + &"}".repeat(DEEPEST)));
        }
        let took = begin.elapsed();
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }
}
