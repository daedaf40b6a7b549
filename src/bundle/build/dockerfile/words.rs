//! Words of an instruction: flags, JSON lists, NAME=VALUE pairs, here-documents. Quotes stay where they are; they are
//! taken off when variables are expanded.

use anyhow::{Context, Result, bail};

/// The beginning of a here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// Whether variables in it are expanded: it stands without quotes.
    pub expand: bool,
    /// `<<-`: tabs at the beginning of lines are taken off.
    pub strip_tabs: bool,
}

/// Whether an instruction may have here-documents.
pub fn takes_documents(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let mut word = words.next().unwrap_or_default().to_ascii_uppercase();
    if word == "ONBUILD" {
        word = words.next().unwrap_or_default().to_ascii_uppercase();
    }
    matches!(word.as_str(), "RUN" | "COPY" | "ADD")
}

/// The here-documents that begin in a line.
pub fn heredocs(text: &str, escape: char) -> Vec<Heredoc> {
    split(text, escape).iter().filter_map(|it| heredoc(it, escape)).collect()
}

/// Reads `<<NAME`, `<<-NAME`, `3<<"NAME"`.
pub fn heredoc(word: &str, escape: char) -> Option<Heredoc> {
    let word = word.trim_start_matches(|it: char| it.is_ascii_digit());
    let rest = word.strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name = unquoted(rest, escape);
    (!name.is_empty()).then(|| Heredoc { expand: name == rest, name, strip_tabs })
}

fn unquoted(text: &str, escape: char) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(it) = letters.next() {
        match quote {
            Some(open) if it == open => quote = None,
            None if it == '"' || it == '\'' => quote = Some(it),
            Some('\'') => out.push(it),
            _ if it == escape => out.extend(letters.next()),
            _ => out.push(it),
        }
    }
    out
}

/// Splits at white space that is neither quoted nor escaped. Quotes and escapes stay.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(it) = letters.next() {
        if quote.is_none() && it.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        word.push(it);
        match quote {
            Some(open) if it == open => quote = None,
            Some('\'') => {}
            _ if it == escape => word.extend(letters.next()),
            None if it == '"' || it == '\'' => quote = Some(it),
            _ => {}
        }
    }
    words.extend(word);
    words
}

/// The flags at the beginning, and the rest of the text. A flag is `--name` or `--name=value`; quotes and escapes in
/// it are taken off. `--` alone ends them.
pub fn flags(text: &str, escape: char) -> (Vec<(String, Option<String>)>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let word = first_word(rest, escape);
        let behind = rest[word.len()..].trim_start();
        if word == "--" {
            return (flags, behind);
        }
        let plain = unquoted(&word[2..], escape);
        flags.push(match plain.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (plain, None),
        });
        rest = behind;
    }
    (flags, rest)
}

fn first_word(text: &str, escape: char) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, it) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if it == escape => escaped = true,
            Some(open) if it == open => quote = None,
            None if it == '"' || it == '\'' => quote = Some(it),
            None if it.is_whitespace() => return &text[..at],
            _ => {}
        }
    }
    text
}

/// A JSON list of strings; none where the text is anything else.
pub fn json(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if !text.starts_with('[') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Words of a list that may be JSON.
pub fn list(text: &str) -> Vec<String> {
    json(text).unwrap_or_else(|| text.split_whitespace().map(str::to_owned).collect())
}

/// `NAME=VALUE ...`, or one `NAME VALUE` whose value is the rest of the line.
pub fn pairs(word: &str, text: &str, escape: char) -> Result<Vec<(String, String)>> {
    let words = split(text, escape);
    let Some(first) = words.first() else { bail!("{word}: nothing stands behind it") };
    if !first.contains('=') {
        let (name, value) = text
            .trim()
            .split_once(char::is_whitespace)
            .with_context(|| format!("{word}: {text:?} is neither NAME=VALUE nor NAME VALUE"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pairs = words.iter().map(|it| match it.split_once('=') {
        None => bail!("{word}: {it:?} is not of the form NAME=VALUE; quote white space in values"),
        Some(("", _)) => bail!("{word}: {it:?} has no name"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    });
    pairs.collect()
}
