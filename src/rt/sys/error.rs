//! Kernel errors in words, in the lower case that engines match (`permission denied`).

use anyhow::{Result, anyhow};

/// What the kernel said, without the number: `no such file or directory`.
pub fn text(error: &std::io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let full = std::io::Error::from_raw_os_error(code).to_string();
    let text = full.split(" (os error").next().unwrap_or(&full);
    let mut chars = text.chars();
    match chars.next() {
        // An acronym at the start ("RPC struct is bad") keeps its case.
        Some(first) if !text[first.len_utf8()..].starts_with(char::is_uppercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// The same for an errno.
pub fn errno(error: rustix::io::Errno) -> String {
    text(&error.into())
}

/// Says what was being done when the kernel refused.
pub trait At<T> {
    /// `what: no such file or directory`
    fn at(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| anyhow!("{}: {}", what(), text(&error.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_that_engines_match() {
        let say = |code| text(&std::io::Error::from_raw_os_error(code));
        assert_eq!(say(libc::ENOENT), "no such file or directory");
        assert_eq!(say(libc::EACCES), "permission denied");
        assert_eq!(say(libc::EPERM), "operation not permitted");
    }
}
