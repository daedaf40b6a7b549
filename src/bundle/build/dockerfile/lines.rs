//! Text to whole instructions: parser directives, comments, continued lines, here-documents.

use anyhow::{Result, bail};

use super::instruction::Document;
use super::words::{self, Heredoc};

/// An instruction that was put together of its lines.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// Where it begins, counted from 1.
    pub number: usize,
    /// All of it without its here-documents.
    pub text: String,
    /// Those, in order.
    pub documents: Vec<Document>,
}

/// The escape character, and all instructions.
pub fn split(name: &str, text: &str) -> Result<(char, Vec<Line>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let all: Vec<&str> = text.split('\n').map(|it| it.strip_suffix('\r').unwrap_or(it)).collect();
    let (escape, first) = directives(name, &all)?;
    let mut reader = Reader { name, lines: &all, at: first, escape };
    let mut found = Vec::new();
    while let Some(line) = reader.next()? {
        found.push(line);
    }
    Ok((escape, found))
}

/// `# key=value` lines at the top, and how many they are. The first that is none ends them, and so does one that is
/// not known.
fn directives(name: &str, lines: &[&str]) -> Result<(char, usize)> {
    let mut escape = '\\';
    let mut seen: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let directive = line.trim_start().strip_prefix('#').and_then(|it| it.split_once('='));
        let Some((key, value)) = directive.map(|it| (it.0.trim().to_ascii_lowercase(), it.1.trim())) else {
            return Ok((escape, at));
        };
        if !matches!(key.as_str(), "syntax" | "escape" | "check") {
            return Ok((escape, at));
        }
        if seen.contains(&key) {
            bail!("{name}:{}: the directive {key} stands there twice", at + 1);
        }
        if key == "escape" {
            escape = match value {
                "\\" => '\\',
                "`" => '`',
                other => bail!("{name}:{}: escape={other}: only \\ and ` can be it", at + 1),
            };
        }
        seen.push(key);
    }
    Ok((escape, lines.len()))
}

struct Reader<'a> {
    name: &'a str,
    lines: &'a [&'a str],
    at: usize,
    escape: char,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<Option<Line>> {
        while self.lines.get(self.at).is_some_and(|it| it.trim().is_empty() || is_comment(it)) {
            self.at += 1;
        }
        let Some(first) = self.lines.get(self.at) else { return Ok(None) };
        let number = self.at + 1;
        self.at += 1;
        let (mut text, mut goes_on) = self.continued(first.trim_start());
        while goes_on {
            let Some(line) = self.lines.get(self.at) else { break };
            self.at += 1;
            // Comments and empty lines in between are passed over.
            if is_comment(line) || line.trim().is_empty() {
                continue;
            }
            let (more, again) = self.continued(line);
            text += &more;
            goes_on = again;
        }
        let text = text.trim_end().to_owned();
        let documents = if words::takes_documents(&text) {
            words::heredocs(&text, self.escape)
                .into_iter()
                .map(|it| self.document(number, it))
                .collect::<Result<_>>()?
        } else {
            Vec::new()
        };
        Ok(Some(Line { number, text, documents }))
    }

    /// The line without the escape character at its end, and whether it had one that was not itself escaped.
    fn continued(&self, line: &str) -> (String, bool) {
        let bare = line.trim_end_matches([' ', '\t']);
        match bare.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before.to_owned(), true),
            _ => (line.to_owned(), false),
        }
    }

    fn document(&mut self, number: usize, begin: Heredoc) -> Result<Document> {
        let mut text = String::new();
        while let Some(line) = self.lines.get(self.at) {
            self.at += 1;
            let line = if begin.strip_tabs { line.trim_start_matches('\t') } else { line };
            if line == begin.name {
                return Ok(Document { name: begin.name, text, expand: begin.expand });
            }
            text.push_str(line);
            text.push('\n');
        }
        bail!(
            "{0}:{number}: the here-document {1} has no end: a line with {1:?} alone is missing",
            self.name,
            begin.name
        )
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}
