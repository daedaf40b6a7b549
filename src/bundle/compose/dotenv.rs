//! Files of variables: `.env`, `--env-file`, and `env_file` of services.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::interpolate::{self, LONGEST};

/// Variables by name.
pub type Variables = BTreeMap<String, String>;

/// Reads a file's text. `look_up` gives what values in it may speak of, beside those that stand above them; a name
/// without `=` takes its value from there, or is left out. With `raw` nothing is quoted and nothing filled in.
pub fn parse(text: &str, raw: bool, look_up: interpolate::Lookup<'_>) -> Result<Variables> {
    let mut variables = Variables::new();
    let mut size = 0;
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
        // A line may double what the one above it has.
        size += value.len();
        if size > LONGEST {
            bail!("line {}: more than {LONGEST} bytes of values, with what variables stand for", number + 1);
        }
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
    // What is escaped at a line's end is the end itself: each line is looked through for itself.
    let mut begin = 0;
    let end = loop {
        if let Some(end) = end_of(&text[begin..], quote) {
            break begin + end;
        }
        let (_, more) = lines.next().with_context(|| format!("a {quote} without its second one"))?;
        text.push('\n');
        begin = text.len();
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

    /// Whatever the text is, the answer is variables or an error with a line.
    #[test]
    fn random_text_never_panics() {
        let words =
            ["A", "B", "=", "$", "{", "}", "\"", "'", "\\", "\n", " ", "#", "export ", "é", "\r", "\0", "1", ":-"];
        let (mut seed, mut good) = (7_u64, 0);
        for _ in 0..20_000 {
            let mut text = "A=".to_owned();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text += words[(seed >> 33) as usize % words.len()];
            }
            match parse(&text, false, &|_: &str| None) {
                Ok(_) => good += 1,
                Err(error) => assert!(format!("{error:#}").starts_with("line "), "{text:?}: {error:#}"),
            }
            let _ = parse(&text, true, &|_: &str| None);
        }
        assert!(good > 1000, "only {good} texts were good: the words are the wrong ones");
    }

    #[test]
    fn large_files_end_in_time() {
        let begin = std::time::Instant::now();
        let read = |text: &str| parse(text, false, &|_: &str| None);
        let lines = "x\n".repeat(200_000);
        assert_eq!(read(&format!("A=\"{lines}\"")).unwrap()["A"].len(), lines.len());
        for text in [format!("A={}\n", "a".repeat(1000)) + &"A=$A$A\n".repeat(40), {
            let more: String = (0..100_000).map(|it| format!("B{it}=$A\n")).collect();
            format!("A={}\n{more}", "a".repeat(100_000))
        }] {
            let error = format!("{:#}", read(&text).unwrap_err());
            assert!(error.contains("more than 4194304 bytes of values") && error.len() < 200, "{error}");
        }
        let took = begin.elapsed();
        assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    }
}
