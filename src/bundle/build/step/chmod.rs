//! `--chmod`: an octal mode, or chmod(1)'s words. Pure.

use anyhow::{Result, bail};

/// A change of a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This mode.
    Mode(u32),
    /// One after the other.
    Words(Vec<Word>),
}

/// `u+x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    who: u32,
    operator: char,
    bits: String,
}

/// Reads what stands behind `--chmod=`.
pub fn parse(text: &str) -> Result<Change> {
    let wrong = || format!("--chmod={text}: neither an octal mode such as 0644 nor words such as u=rwX,go=rX");
    if text.starts_with(|it: char| it.is_ascii_digit()) {
        return match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Ok(Change::Mode(mode)),
            _ => bail!("{}", wrong()),
        };
    }
    let mut words = Vec::new();
    for word in text.split(',') {
        let at = word.find(['+', '-', '=']);
        let Some(at) = at else { bail!("{}", wrong()) };
        let mut who = 0;
        for it in word[..at].chars() {
            who |= match it {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => bail!("{}", wrong()),
            };
        }
        let who = if who == 0 { 0o7777 } else { who };
        let mut rest = &word[at..];
        while let Some(operator) = rest.chars().next() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |it| it + 1);
            let bits = &rest[1..end];
            if !bits.chars().all(|it| "rwxXstugo".contains(it)) {
                bail!("{}", wrong());
            }
            words.push(Word { who, operator, bits: bits.to_owned() });
            rest = &rest[end..];
        }
    }
    Ok(Change::Words(words))
}

impl Change {
    /// The mode that becomes of one.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Mode(mode) => *mode,
            Self::Words(words) => words.iter().fold(mode & 0o7777, |mode, word| word.apply(mode, is_directory)),
        }
    }
}

impl Word {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut bits = 0;
        for it in self.bits.chars() {
            bits |= match it {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_directory || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => 0o111 * (mode >> 6 & 7),
                'g' => 0o111 * (mode >> 3 & 7),
                'o' => 0o111 * (mode & 7),
                _ => 0,
            };
        }
        let bits = bits & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            // A directory keeps its setuid and setgid bits unless they are named.
            _ => mode & !(self.who & if is_directory { 0o1777 } else { 0o7777 }) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_by_chmod() {
        for (text, mode, directory, wanted) in [
            ("644", 0o777, false, 0o644),
            ("04755", 0, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-rwx", 0o777, false, 0o700),
            ("a=r", 0o777, false, 0o444),
            ("u=rwX,go=rX", 0o640, false, 0o644),
            ("u=rwX,go=rX", 0o740, false, 0o755),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("+t", 0o755, true, 0o1755),
            ("g=u", 0o740, false, 0o770),
            ("u=rw,g=r,o=", 0o777, false, 0o640),
            ("u+r-w", 0o200, false, 0o400),
            ("g=s", 0o755, true, 0o2705),
        ] {
            assert_eq!(parse(text).unwrap().apply(mode, directory), wanted, "{text} {mode:o}");
        }
        for bad in ["", "9", "77777", "x", "u", "u+q", "z+x", "644x", "u+x,"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
