//! Kernel errors in words, in the lower case that engines match (`permission denied`).

use anyhow::{Result, anyhow};

/// Where musl's words are others than those that glibc and Go have, and engines look for.
const WORDS: [(i32, &str); 22] = [
    (libc::EIO, "input/output error"),
    (libc::ENOMEM, "cannot allocate memory"),
    (libc::EBUSY, "device or resource busy"),
    (libc::EXDEV, "invalid cross-device link"),
    (libc::EMFILE, "too many open files"),
    (libc::ENOTTY, "inappropriate ioctl for device"),
    (libc::ESPIPE, "illegal seek"),
    (libc::ERANGE, "numerical result out of range"),
    (libc::EDEADLK, "resource deadlock avoided"),
    (libc::ENAMETOOLONG, "file name too long"),
    (libc::ELOOP, "too many levels of symbolic links"),
    (libc::EOVERFLOW, "value too large for defined data type"),
    (libc::EUSERS, "too many users"),
    (libc::ENOTSOCK, "socket operation on non-socket"),
    (libc::EMSGSIZE, "message too long"),
    (libc::EOPNOTSUPP, "operation not supported"),
    (libc::EADDRINUSE, "address already in use"),
    (libc::ENOTCONN, "transport endpoint is not connected"),
    (libc::ETIMEDOUT, "connection timed out"),
    (libc::EHOSTUNREACH, "no route to host"),
    (libc::EUCLEAN, "structure needs cleaning"),
    (libc::EDQUOT, "disk quota exceeded"),
];

/// What the kernel said, without the number: `no such file or directory`.
pub fn text(error: &std::io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == code) {
        return (*words).to_owned();
    }
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
        assert_eq!(say(libc::EBUSY), "device or resource busy");
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn our_words_are_glibcs() {
        for (code, words) in WORDS {
            let theirs = std::io::Error::from_raw_os_error(code).to_string().to_lowercase();
            assert_eq!(theirs, format!("{words} (os error {code})"));
        }
    }
}
