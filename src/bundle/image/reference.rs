//! Names of images, as Docker writes them: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use super::Digest;

/// The registry that a name without a host means.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a name that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// A whole name: every part that the text left out is filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// `library/busybox`.
    pub repository: String,
    /// Absent only where there is a digest.
    pub tag: Option<String>,
    /// What the registry must answer with.
    pub digest: Option<Digest>,
}

impl Reference {
    /// The name without tag and digest, in full: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name without tag and digest as people type it: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The whole as people type it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// What stands behind `/manifests/` in a request: the digest, else the tag.
    pub fn target(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, tag) => tag.as_deref().unwrap_or(DEFAULT_TAG),
        }
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}{}", self.name(), self.suffix())
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || format!("image name {text:?}");
        if text.len() > 1024 {
            bail!("image name of {} bytes: too long", text.len());
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().with_context(wrong)?)),
            None => (text, None),
        };
        // A colon behind the last slash is a tag's, one before it a port's.
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match rest[slash..].split_once(':') {
            Some((last, tag)) => (&rest[..slash + last.len()], Some(tag)),
            None => (rest, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            _ => (DEFAULT_REGISTRY, path.to_owned()),
        };
        // The names that Docker Hub answers to are one registry.
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        check_host(registry).with_context(wrong)?;
        check_repository(&repository).with_context(wrong)?;
        if let Some(tag) = tag {
            check_tag(tag).with_context(wrong)?;
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

/// Whether the first part of a path is a host: by its dot, its port, or because it is `localhost`.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.chars().any(|it| it.is_ascii_uppercase())
}

fn check_host(host: &str) -> Result<()> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').context("the bracket of the host is not closed")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                bail!("{address:?} is no IPv6 address");
            }
            ("", port.strip_prefix(':'))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !name.is_empty() && !name.split('.').all(label) || name.is_empty() && !host.starts_with('[') {
        bail!("{host:?} is no host name");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err() || !port.bytes().all(|it| it.is_ascii_digit())) {
        bail!("{host:?}: the port is no number up to 65535");
    }
    Ok(())
}

/// The distribution specification: small letters and digits, parts joined by one dot, one or two
/// underscores, or dashes.
fn check_repository(path: &str) -> Result<()> {
    if path.len() > 255 {
        bail!("the path has {} bytes, 255 are the most", path.len());
    }
    for part in path.split('/') {
        let edge = |byte: Option<&u8>| byte.is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        let bytes = part.as_bytes();
        if !edge(bytes.first()) || !edge(bytes.last()) {
            if part.bytes().any(|it| it.is_ascii_uppercase()) {
                bail!("{part:?}: only small letters may stand in a repository's name");
            }
            bail!("{part:?}: each part begins and ends with a small letter or a digit");
        }
        if let Some(bad) = part.chars().find(|it| !matches!(it, 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
            if bad.is_ascii_uppercase() {
                bail!("{part:?}: only small letters may stand in a repository's name");
            }
            bail!("{part:?}: {bad:?} may not stand in a repository's name");
        }
        for twice in ["..", "___", "._", "_.", ".-", "-.", "_-", "-_"] {
            if part.contains(twice) {
                bail!("{part:?}: {twice:?} may not stand in a repository's name");
            }
        }
    }
    Ok(())
}

/// A tag: up to 128 letters, digits, `_`, `.` and `-`, neither `.` nor `-` first.
pub fn check_tag(tag: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if tag.is_empty() || tag.len() > 128 || tag.starts_with(['.', '-']) || !tag.bytes().all(good) {
        bail!(
            "tag {tag:?}: up to 128 letters, digits, '_', '.' and '-' are a tag, which does not begin with '.' or '-'"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
            ("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"),
            ("Upper/x", "Upper/x:latest", "Upper/x:latest"),
            ("a__b/c-d.e:A_1", "docker.io/a__b/c-d.e:A_1", "a__b/c-d.e:A_1"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{text}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
        }
        let digest = Digest::of(b"");
        let both: Reference = format!("x:1@{digest}").parse().unwrap();
        assert_eq!((both.tag.as_deref(), both.target()), (Some("1"), digest.as_str()));
        assert_eq!(format!("x@{digest}").parse::<Reference>().unwrap().tag, None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "UPPER",
            "a/B",
            "a:b/c/",
            "x:",
            "x:-a",
            "x:.a",
            "x:ä",
            "x@sha256:12",
            "x@",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "../a",
            "a/../b",
            "x:y:z",
            "host.:5000/x",
            "h.x:99999/x",
            "h.x:+1/x",
            "[::g]/x",
            "[::1/x",
            "a\nb",
            "a\0b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(format!("x:{}", "a".repeat(129)).parse::<Reference>().is_err());
        assert!("a".repeat(250).parse::<Reference>().is_err(), "with library/ it is too long");
    }
}
