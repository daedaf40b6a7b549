//! Patterns of file names, as Go's path/filepath.Match has them, with `**` where .dockerignore has it; and those of
//! variables' modifiers. Pure. Matching takes at most as many steps as pattern and text have letters, multiplied.

use anyhow::{Result, bail};

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Letter(char),
    /// `?`: one letter, no slash.
    One,
    /// `*`: any number of letters, no slash.
    Many,
    /// `**/`: any number of whole directories.
    Directories,
    /// `**` at the end: all that follows.
    Rest,
    /// `[a-z]`: whether it is negated, and its ranges.
    Class(bool, Vec<(char, char)>),
}

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Glob(Vec<Token>);

/// Whether a word has letters in it that mean others.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A name with its escapes taken off.
pub fn literal(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(it) = letters.next() {
        if it == '\\' { out.extend(letters.next()) } else { out.push(it) }
    }
    out
}

impl Glob {
    /// Reads a pattern; `double`: whether `**` stands for directories.
    pub fn new(text: &str, double: bool) -> Result<Self> {
        let wrong = || format!("{text:?} is no pattern");
        let mut tokens = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(it) = letters.next() {
            tokens.push(match it {
                '*' if double && letters.peek() == Some(&'*') => {
                    letters.next();
                    if letters.peek() == Some(&'/') {
                        letters.next();
                    }
                    if letters.peek().is_none() { Token::Rest } else { Token::Directories }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '[' => {
                    let negated = letters.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let mut one = || match letters.next() {
                            Some('\\') => letters.next(),
                            other => other,
                        };
                        let Some(first) = one() else { bail!("{}: ] is missing", wrong()) };
                        if first == ']' && !ranges.is_empty() {
                            break;
                        }
                        let last = match letters.next_if_eq(&'-') {
                            Some(_) => match letters.next() {
                                Some('\\') => letters.next(),
                                Some(']') | None => bail!("{}: the end of a range is missing", wrong()),
                                other => other,
                            },
                            None => Some(first),
                        };
                        let Some(last) = last else { bail!("{}: ] is missing", wrong()) };
                        ranges.push((first, last));
                    }
                    Token::Class(negated, ranges)
                }
                '\\' => match letters.next() {
                    Some(it) => Token::Letter(it),
                    None => bail!("{}: nothing stands behind the backslash", wrong()),
                },
                it => Token::Letter(it),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether all of a text is what the pattern means.
    pub fn matches(&self, text: &str) -> bool {
        // Which tokens may come next, and which `**/` are in the middle of a directory's name; each letter takes both
        // sets one further.
        let mut here = vec![false; self.0.len() + 1];
        let mut within = here.clone();
        here[0] = true;
        self.skip(&mut here);
        for letter in text.chars() {
            let mut next = vec![false; self.0.len() + 1];
            let mut next_within = next.clone();
            for (index, token) in self.0.iter().enumerate() {
                if within[index] || here[index] && *token == Token::Directories {
                    // Behind each slash the directories may be at their end, or go on.
                    next[index + 1] |= letter == '/';
                    next_within[index] = true;
                }
                if !here[index] {
                    continue;
                }
                match token {
                    Token::Letter(it) => next[index + 1] |= *it == letter,
                    Token::One => next[index + 1] |= letter != '/',
                    Token::Many => next[index] |= letter != '/',
                    Token::Rest => next[index] = true,
                    Token::Directories => {}
                    Token::Class(negated, ranges) => {
                        let found = ranges.iter().any(|(first, last)| *first <= letter && letter <= *last);
                        next[index + 1] |= found != *negated && letter != '/';
                    }
                }
            }
            self.skip(&mut next);
            (here, within) = (next, next_within);
        }
        here[self.0.len()]
    }

    /// What may be nothing is passed over.
    fn skip(&self, set: &mut [bool]) {
        for (index, token) in self.0.iter().enumerate() {
            if set[index] && matches!(token, Token::Many | Token::Directories | Token::Rest) {
                set[index + 1] = true;
            }
        }
    }
}

/// The pattern of a variable's modifier: `*` and `?` mean slashes too, and there are no classes.
fn shell(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut letters = text.chars();
    while let Some(it) = letters.next() {
        tokens.push(match it {
            '*' => Token::Rest,
            '?' => Token::One,
            '\\' => Token::Letter(letters.next().unwrap_or('\\')),
            it => Token::Letter(it),
        });
    }
    tokens
}

/// How many letters from the start of a text a modifier's pattern may take: all such numbers, ascending.
fn lengths(tokens: &[Token], letters: &[char]) -> Vec<usize> {
    let mut here = vec![false; tokens.len() + 1];
    let mut found = Vec::new();
    here[0] = true;
    for at in 0..=letters.len() {
        for index in 0..tokens.len() {
            if here[index] && tokens[index] == Token::Rest {
                here[index + 1] = true;
            }
        }
        if here[tokens.len()] {
            found.push(at);
        }
        let Some(letter) = letters.get(at) else { break };
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate().filter(|it| here[it.0]) {
            match token {
                Token::Letter(it) => next[index + 1] |= it == letter,
                Token::Rest => next[index] = true,
                _ => next[index + 1] = true,
            }
        }
        here = next;
    }
    found
}

/// `${name#pattern}`, and `##` with `greedy`.
pub fn trim_prefix(text: &str, pattern: &str, greedy: bool) -> String {
    let letters: Vec<char> = text.chars().collect();
    let lengths = lengths(&shell(pattern), &letters);
    let taken = if greedy { lengths.last() } else { lengths.first() };
    letters[taken.copied().unwrap_or(0)..].iter().collect()
}

/// `${name%pattern}`, and `%%` with `greedy`.
pub fn trim_suffix(text: &str, pattern: &str, greedy: bool) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    letters.reverse();
    let mut tokens = shell(pattern);
    tokens.reverse();
    let lengths = lengths(&tokens, &letters);
    let taken = if greedy { lengths.last() } else { lengths.first() };
    letters[taken.copied().unwrap_or(0)..].iter().rev().collect()
}

/// `${name/pattern/with}`, and `//` with `all`: the longest at each place.
pub fn replace(text: &str, pattern: &str, with: &str, all: bool) -> String {
    let letters: Vec<char> = text.chars().collect();
    let tokens = shell(pattern);
    let (mut out, mut at, mut done) = (String::new(), 0, tokens.is_empty());
    while at < letters.len() {
        let longest = if done { 0 } else { lengths(&tokens, &letters[at..]).last().copied().unwrap_or(0) };
        if longest == 0 {
            out.push(letters[at]);
            at += 1;
            continue;
        }
        out += with;
        at += longest;
        done = !all;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, text, wanted) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("*c", "abc", true),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern, false).unwrap().matches(text), wanted, "{pattern} {text}");
        }
        for bad in ["[", "[a", "[a-", "a\\", "[]", "[a-]"] {
            assert!(Glob::new(bad, false).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_stars_are_directories() {
        for (pattern, text, wanted) in [
            ("**", "a/b/c", true),
            ("**/b", "b", true),
            ("**/b", "a/b", true),
            ("**/b", "a/c/b", true),
            ("**/b", "ab", false),
            ("a/**", "a/b/c", true),
            ("a/**", "b/a/c", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/x/y/c", true),
            ("**/*.go", "x/y.go", true),
            ("**/*.go", "y.gox", false),
            ("a**b", "axb", false),
            ("a**b", "ax/b", true),
        ] {
            assert_eq!(Glob::new(pattern, true).unwrap().matches(text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let pattern = "*a".repeat(500);
        assert!(!Glob::new(&pattern, true).unwrap().matches(&"a".repeat(400)));
    }
}
