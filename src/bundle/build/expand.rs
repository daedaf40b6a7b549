//! Variables in a Dockerfile's words, as Docker expands them: `$name`, `${name}` and the modifiers of POSIX shells, with
//! quotes and escapes taken off. Pure.

use anyhow::{Result, bail};

use super::pattern;

/// Where values come from.
pub trait Values {
    /// A variable's value, where it is set.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Values for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// One word: quotes and escapes are taken off, variables expanded.
pub fn word(text: &str, escape: char, values: &dyn Values) -> Result<String> {
    let mut words = Expander::new(text, escape, values, true).run(None)?;
    Ok(words.joined())
}

/// A text of which only variables and escaped `$` mean something: a here-document.
pub fn document(text: &str, escape: char, values: &dyn Values) -> Result<String> {
    let mut words = Expander::new(text, escape, values, false).run(None)?;
    Ok(words.joined())
}

/// Words: as [`word`], split at white space that is not quoted, also at that of values.
pub fn words(text: &str, escape: char, values: &dyn Values) -> Result<Vec<String>> {
    Ok(Expander::new(text, escape, values, true).run(None)?.split())
}

/// Letters with a mark whether they may part words.
#[derive(Default)]
struct Out {
    letters: Vec<(char, bool)>,
    /// Places where an empty quoted word stands.
    quoted_empty: Vec<usize>,
}

impl Out {
    fn joined(&mut self) -> String {
        self.letters.iter().map(|it| it.0).collect()
    }

    fn split(self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        for (at, (letter, bare)) in self.letters.iter().enumerate() {
            if self.quoted_empty.contains(&at) {
                word.get_or_insert_default();
            }
            if *bare && letter.is_whitespace() {
                words.extend(word.take());
            } else {
                word.get_or_insert_default().push(*letter);
            }
        }
        if self.quoted_empty.contains(&self.letters.len()) {
            word.get_or_insert_default();
        }
        words.extend(word);
        words
    }

    fn push(&mut self, text: &str, bare: bool) {
        self.letters.extend(text.chars().map(|it| (it, bare)));
    }
}

struct Expander<'a> {
    letters: Vec<char>,
    at: usize,
    escape: char,
    values: &'a dyn Values,
    quotes: bool,
}

impl<'a> Expander<'a> {
    fn new(text: &str, escape: char, values: &'a dyn Values, quotes: bool) -> Self {
        Self { letters: text.chars().collect(), at: 0, escape, values, quotes }
    }

    fn peek(&self) -> Option<char> {
        self.letters.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let it = self.peek();
        self.at += usize::from(it.is_some());
        it
    }

    /// Up to an end, which is passed over; without one to the end of the text.
    fn run(&mut self, end: Option<char>) -> Result<Out> {
        let mut out = Out::default();
        loop {
            let Some(it) = self.next() else {
                if let Some(end) = end {
                    bail!("{:?}: {end:?} is missing", self.text());
                }
                return Ok(out);
            };
            match it {
                it if Some(it) == end => return Ok(out),
                '\'' if self.quotes => self.single(&mut out)?,
                '"' if self.quotes => self.double(&mut out)?,
                '$' => {
                    let value = self.dollar()?;
                    out.push(&value, true);
                }
                it if it == self.escape && self.quotes => match self.next() {
                    Some(next) => out.letters.push((next, false)),
                    None => out.letters.push((it, false)),
                },
                it if it == self.escape && self.peek() == Some('$') => {
                    self.at += 1;
                    out.letters.push(('$', false));
                }
                it => out.letters.push((it, true)),
            }
        }
    }

    fn single(&mut self, out: &mut Out) -> Result<()> {
        let before = out.letters.len();
        loop {
            match self.next() {
                Some('\'') => break,
                Some(it) => out.letters.push((it, false)),
                None => bail!("{:?}: a single quote is not closed", self.text()),
            }
        }
        if before == out.letters.len() {
            out.quoted_empty.push(before);
        }
        Ok(())
    }

    fn double(&mut self, out: &mut Out) -> Result<()> {
        let before = out.letters.len();
        loop {
            match self.next() {
                Some('"') => break,
                Some('$') => {
                    let value = self.dollar()?;
                    out.push(&value, false);
                }
                Some(it) if it == self.escape => match self.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.letters.push((next, false)),
                    Some(next) => out.letters.extend([(it, false), (next, false)]),
                    None => bail!("{:?}: a double quote is not closed", self.text()),
                },
                Some(it) => out.letters.push((it, false)),
                None => bail!("{:?}: a double quote is not closed", self.text()),
            }
        }
        if before == out.letters.len() {
            out.quoted_empty.push(before);
        }
        Ok(())
    }

    fn text(&self) -> String {
        self.letters.iter().collect()
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(it) if it.is_ascii_digit() || "@*#".contains(it) => {
                // A parameter of a script: there is none here.
                self.at += 1;
                name.push(it);
            }
            _ => {
                while let Some(it) = self.peek().filter(|it| it.is_alphanumeric() || *it == '_') {
                    self.at += 1;
                    name.push(it);
                }
            }
        }
        name
    }

    /// What stands behind a dollar sign.
    fn dollar(&mut self) -> Result<String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.values.get(&name).unwrap_or_default() });
        }
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            bail!("{:?}: a variable's name is missing behind ${{", self.text());
        }
        let value = self.values.get(&name);
        let Some(modifier) = self.next() else { bail!("{:?}: }} is missing", self.text()) };
        match modifier {
            '}' => Ok(value.unwrap_or_default()),
            ':' => {
                let kind = self.next();
                let word = self.run(Some('}'))?.joined();
                // With a colon an empty value is like none.
                self.default(&name, value.filter(|it| !it.is_empty()), kind, word)
            }
            '-' | '+' | '?' => {
                let word = self.run(Some('}'))?.joined();
                self.default(&name, value, Some(modifier), word)
            }
            '#' | '%' => {
                let greedy = self.peek() == Some(modifier);
                self.at += usize::from(greedy);
                let pattern = self.pattern(&['}'])?;
                let value = value.unwrap_or_default();
                Ok(if modifier == '#' {
                    pattern::trim_prefix(&value, &pattern, greedy)
                } else {
                    pattern::trim_suffix(&value, &pattern, greedy)
                })
            }
            '/' => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let pattern = self.pattern(&['/', '}'])?;
                let with = if self.letters[self.at - 1] == '/' { self.run(Some('}'))?.joined() } else { String::new() };
                Ok(pattern::replace(&value.unwrap_or_default(), &pattern, &with, all))
            }
            other => bail!("{:?}: {other:?} is no modifier of a variable", self.text()),
        }
    }

    fn default(&self, name: &str, value: Option<String>, kind: Option<char>, word: String) -> Result<String> {
        match kind {
            Some('-') => Ok(value.unwrap_or(word)),
            Some('+') => Ok(if value.is_some() { word } else { String::new() }),
            Some('?') => match value {
                Some(value) => Ok(value),
                None if word.is_empty() => bail!("the variable {name} is not set"),
                None => bail!("the variable {name}: {word}"),
            },
            other => bail!("{:?}: {:?} is no modifier of a variable", self.text(), other.unwrap_or(' ')),
        }
    }

    /// A pattern up to one of the ends, which is passed over: escapes stay for the pattern, variables are expanded.
    fn pattern(&mut self, ends: &[char]) -> Result<String> {
        let mut out = String::new();
        loop {
            match self.next() {
                None => bail!("{:?}: }} is missing", self.text()),
                Some(it) if ends.contains(&it) => return Ok(out),
                Some('$') => out += &self.dollar()?,
                Some(it) if it == self.escape => {
                    out.push('\\');
                    out.extend(self.next());
                }
                Some(it) => out.push(it),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str) -> Option<String> {
        let value = match name {
            "a" => "one",
            "empty" => "",
            "path" => "/x/foo.tar.gz",
            "two" => "p q",
            "pat" => "*.",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn one(text: &str) -> String {
        word(text, '\\', &values).unwrap_or_else(|error| format!("error: {error}"))
    }

    #[test]
    fn words_are_expanded() {
        for (text, wanted) in [
            ("$a", "one"),
            ("${a}b", "oneb"),
            ("$ab", ""),
            ("'$a'", "$a"),
            ("\"$a\"", "one"),
            ("\\$a", "$a"),
            ("\"\\$a\"", "$a"),
            ("\"a\\b\"", "a\\b"),
            ("a\\b", "ab"),
            ("'a\\b'", "a\\b"),
            ("$", "$"),
            ("a$", "a$"),
            ("$ a", "$ a"),
            ("${b:-x}", "x"),
            ("${empty:-x}", "x"),
            ("${empty-x}", ""),
            ("${b-x}", "x"),
            ("${a:+x}", "x"),
            ("${empty:+x}", ""),
            ("${empty+x}", "x"),
            ("${b:+x}", ""),
            ("${b:-${a}}", "one"),
            ("${b:-'}'}", "}"),
            ("${a:?no}", "one"),
            ("${path#*/}", "x/foo.tar.gz"),
            ("${path##*/}", "foo.tar.gz"),
            ("${path%.*}", "/x/foo.tar"),
            ("${path%%.*}", "/x/foo"),
            ("${path/foo/bar}", "/x/bar.tar.gz"),
            ("${path//o/0}", "/x/f00.tar.gz"),
            ("${path/o}", "/x/fo.tar.gz"),
            ("${path//\\//-}", "-x-foo.tar.gz"),
            ("${path##$pat}", "gz"),
            ("$1x", "x"),
        ] {
            assert_eq!(one(text), wanted, "{text}");
        }
        for bad in ["${b:?gone}", "${b?}", "${a", "${}", "${a:", "${a!}", "'x", "\"x", "${a:=x}"] {
            assert!(one(bad).starts_with("error: "), "{bad}: {}", one(bad));
        }
        assert!(one("${b:?it is gone}").contains("it is gone"));
    }

    #[test]
    fn values_part_words_where_they_are_not_quoted() {
        let split = |text: &str| words(text, '\\', &values).unwrap();
        assert_eq!(split("$two c"), ["p", "q", "c"]);
        assert_eq!(split("\"$two\" c"), ["p q", "c"]);
        assert_eq!(split("a\\ b '' c"), ["a b", "", "c"]);
        assert_eq!(split("''"), [""]);
        assert!(split(" $empty ").is_empty());
    }

    #[test]
    fn documents_keep_their_quotes() {
        assert_eq!(document("'$a' \"${a}\" \\$a \\n\n", '\\', &values).unwrap(), "'one' \"one\" $a \\n\n");
    }

    #[test]
    fn a_backtick_may_be_the_escape() {
        assert_eq!(word("C:\\x`$a", '`', &values).unwrap(), "C:\\x$a");
    }
}
