//! Files of variables: `.env`, `--env-file`, and `env_file` of services.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::interpolate;

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Reads a file's text. `look_up` gives what values in it may speak of, beside those that stand above them; a name
/// without `=` takes its value from there, or is left out. With `raw` nothing is quoted and nothing filled in.
pub fn parse(text: &str, raw: bool, look_up: interpolate::Lookup<'_>) -> Result<Variables> {
    let mut variables = Variables::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let told = || format!("line {}", number + 1);
        let line = line.trim_start().trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").filter(|_| !raw).map_or(line, str::trim_start);
        let Some((name, value)) = line.split_once('=') else {
            let name = line.trim_end();
            check(name).with_context(told)?;
            if let Some(value) = look_up(name) {
                variables.insert(name.to_owned(), value);
            }
            continue;
        };
        let name = name.trim_end();
        check(name).with_context(told)?;
        let known = |it: &str| look_up(it).or_else(|| variables.get(it).cloned());
        let value = if raw { value.to_owned() } else { read(value, &mut lines, &known).with_context(told)? };
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

fn check(name: &str) -> Result<()> {
    if name.is_empty() || name.contains(|it: char| it.is_whitespace() || it == '\0' || it == '"' || it == '\'') {
        bail!("{name:?} is no name of a variable: NAME=VALUE, one a line");
    }
    Ok(())
}

/// A value: in `'` as it is, in `"` with escapes, both also over several lines, else up to a ` #`.
fn read<'a>(
    value: &str,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    look_up: interpolate::Lookup<'_>,
) -> Result<String> {
    let value = value.trim_start();
    let Some(quote) = value.chars().next().filter(|it| matches!(it, '"' | '\'')) else {
        let end = value.find(" #").or_else(|| value.starts_with('#').then_some(0)).unwrap_or(value.len());
        return interpolate::text(value[..end].trim_end(), look_up, &mut |_| {});
    };
    let mut text = value[1..].to_owned();
    let end = loop {
        if let Some(end) = end_of(&text, quote) {
            break end;
        }
        let (_, more) = lines.next().with_context(|| format!("a {quote} without its second one"))?;
        text.push('\n');
        text += more;
    };
    let behind = text[end + 1..].trim_start();
    if !behind.is_empty() && !behind.starts_with('#') {
        bail!("{behind:?} behind the second {quote}");
    }
    if quote == '\'' {
        return Ok(text[..end].to_owned());
    }
    interpolate::text(&escaped(&text[..end]), look_up, &mut |_| {})
}

fn end_of(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, it) in text.char_indices() {
        if it == quote && !escaped {
            return Some(at);
        }
        escaped = quote == '"' && it == '\\' && !escaped;
    }
    None
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(it) = chars.next() {
        if it != '\\' {
            out.push(it);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            // What is escaped is not filled in.
            Some('$') => out += "$$",
            Some(other @ ('"' | '\\' | '\'')) => out.push(other),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables() {
        let look_up = |it: &str| (it == "HOME").then(|| "/me".to_owned());
        let text = "# a comment\nA=1\nexport B = two words # no\nC='$A #x'\nD=\"a\\n$A \\$A\" # c\nE=$A/${HOME}\r\nHOME\nNONE\n\
            F=\nG=\"over\ntwo\"\nH=x#y\n";
        let read = parse(text, false, &look_up).unwrap();
        let all: Vec<(&str, &str)> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            all,
            [
                ("A", "1"),
                ("B", "two words"),
                ("C", "$A #x"),
                ("D", "a\n1 $A"),
                ("E", "1//me"),
                ("F", ""),
                ("G", "over\ntwo"),
                ("H", "x#y"),
                ("HOME", "/me")
            ]
        );
        assert_eq!(parse("A='$x' # y", true, &look_up).unwrap()["A"], "'$x' # y");
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        for (text, words) in [
            ("A=1\n=2", "line 2"),
            ("A=\"x", "line 1: a \" without"),
            ("A='x' y", "behind the second"),
            ("a b=1", "no name"),
            ("A=1\nB=${A", "line 2"),
        ] {
            let error = format!("{:#}", parse(text, false, &|_| None).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
