//! What is known of registries by configuration: mirrors, plain http, own authorities, other locations.
//!
//! `registries.toml`, one table a registry:
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["https://mirror.example.org", "https://cache.example.org/docker"]
//!
//! [registry."registry.example.org:5000"]
//! ca = "/etc/ssl/example-ca.pem"    # believed beside the system's authorities
//! insecure = true                   # TLS unverified, and plain http where there is no TLS
//! location = "other.example.org/x"  # where it really is; a path goes before the repository
//! ```
//!
//! Beside it, as Docker and Podman have it, `certs.d/HOST[:PORT]/` with `*.crt` (authorities) and
//! `NAME.cert` + `NAME.key` (what this machine shows a registry that asks for a certificate).
//!
//! Nothing is plain http or unverified unless it is asked for here or by a flag, loopback included.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::image::reference::DEFAULT_REGISTRY;

/// Where Docker Hub really is.
const HUB: &str = "registry-1.docker.io";

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS, verified.
    Verified,
    /// TLS unverified, and plain http where the host has no TLS.
    Insecure,
    /// Plain http, because a mirror or a location is written so.
    Plain,
}

/// One place where a registry's images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What configuration and credentials call it: `docker.io`, `localhost:5000`.
    pub name: String,
    /// The host (and port) that is connected to: `registry-1.docker.io`.
    pub host: String,
    /// What goes before every repository's name: empty or `path/`.
    pub prefix: String,
    /// How it is spoken to.
    pub security: Security,
    /// A copy, which may lack things.
    pub mirror: bool,
}

impl Endpoint {
    /// The repository's name there.
    pub fn repository(&self, repository: &str) -> String {
        format!("{}{repository}", self.prefix)
    }
}

/// The files that belong to one host's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM files of authorities.
    pub authorities: Vec<PathBuf>,
    /// PEM files of this machine's certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// All that is configured.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    hosts: BTreeMap<String, Host>,
    certificate_directories: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registry: BTreeMap<String, Host>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    mirrors: Vec<String>,
    ca: Option<PathBuf>,
    location: Option<String>,
}

impl Registries {
    /// Reads what there is of `files`; a registry's table in a later file replaces that of an earlier one.
    /// A file that is not there is none; one that cannot be read or has a wrong key is an error.
    pub fn load(files: &[PathBuf], certificate_directories: Vec<PathBuf>) -> Result<Self> {
        let mut all = Self { hosts: BTreeMap::new(), certificate_directories };
        for file in files {
            match std::fs::read_to_string(file) {
                Ok(text) => all.add(&text, file)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
            }
        }
        Ok(all)
    }

    /// The directories where Docker and Podman keep registries' certificates.
    pub fn usual_certificate_directories() -> Vec<PathBuf> {
        vec!["/etc/docker/certs.d".into(), "/etc/containers/certs.d".into()]
    }

    /// Reads one file's text.
    fn add(&mut self, text: &str, file: &Path) -> Result<()> {
        let parsed: File = toml::from_str(text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text.bytes().take(span.start).filter(|it| *it == b'\n').count() + 1);
            anyhow::anyhow!("{}:{line}: {}", file.display(), error.message().replace('\n', " "))
        })?;
        for (name, host) in parsed.registry {
            let key = |key: &str| format!("{}: registry.{name:?}.{key}", file.display());
            place(&name, false).with_context(|| format!("{}: registry.{name:?}", file.display()))?;
            for mirror in &host.mirrors {
                place(mirror, true).with_context(|| key("mirrors"))?;
            }
            if let Some(location) = &host.location {
                place(location, false).with_context(|| key("location"))?;
            }
            if host.ca.as_ref().is_some_and(|ca| !ca.is_absolute()) {
                bail!("{}: not an absolute path", key("ca"));
            }
            self.hosts.insert(canonical(&name).to_owned(), host);
        }
        Ok(())
    }

    /// Where a registry's images are, in the order of asking: its mirrors (only where `mirrors` is set:
    /// for what is read), then the registry itself. `verify` is what a flag says, above the configuration.
    pub fn endpoints(&self, registry: &str, mirrors: bool, verify: Option<bool>) -> Result<Vec<Endpoint>> {
        let registry = canonical(registry);
        let host = self.hosts.get(registry);
        let mut found = Vec::new();
        for mirror in host.map(|it| &it.mirrors[..]).unwrap_or_default().iter().filter(|_| mirrors) {
            found.push(self.endpoint(mirror, true, verify)?);
        }
        found.push(match host.and_then(|it| it.location.as_deref()) {
            Some(location) => self.endpoint(location, false, verify)?,
            None => self.endpoint(registry, false, verify)?,
        });
        Ok(found)
    }

    fn endpoint(&self, text: &str, mirror: bool, verify: Option<bool>) -> Result<Endpoint> {
        let (plain, authority, prefix) = place(text, mirror)?;
        let name = canonical(authority).to_owned();
        let insecure = match verify {
            Some(verify) => !verify,
            None => self.hosts.get(&name).is_some_and(|it| it.insecure),
        };
        let security = match (plain, insecure) {
            (true, _) => Security::Plain,
            (false, true) => Security::Insecure,
            (false, false) => Security::Verified,
        };
        let host = if name == DEFAULT_REGISTRY { HUB.to_owned() } else { name.clone() };
        Ok(Endpoint { name, host, prefix, security, mirror })
    }

    /// Whether TLS of a host is left unverified by configuration.
    pub fn insecure(&self, host: &str) -> bool {
        self.hosts.get(canonical(host)).is_some_and(|it| it.insecure)
    }

    /// The certificates for a host.
    pub fn tls_files(&self, host: &str) -> Result<TlsFiles> {
        let host = canonical(host);
        let mut files = TlsFiles::default();
        files.authorities.extend(self.hosts.get(host).and_then(|it| it.ca.clone()));
        for directory in &self.certificate_directories {
            let directory = directory.join(host);
            let entries = match std::fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound
                            | std::io::ErrorKind::PermissionDenied
                            | std::io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
            };
            let mut paths: Vec<PathBuf> = entries.map(|it| it.map(|it| it.path())).collect::<Result<_, _>>()?;
            paths.sort();
            for path in paths {
                match path.extension().and_then(|it| it.to_str()) {
                    Some("crt") => files.authorities.push(path),
                    Some("cert") => {
                        let key = path.with_extension("key");
                        if !key.exists() {
                            bail!("{}: its key {} is missing", path.display(), key.display());
                        }
                        files.client.get_or_insert((path, key));
                    }
                    _ => {}
                }
            }
        }
        Ok(files)
    }
}

/// One name for a registry that has several.
pub fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | HUB => DEFAULT_REGISTRY,
        other => other,
    }
}

/// Takes `[https://]HOST[:PORT][/PATH]` apart: whether it is plain http, the host, the path with its slash
/// behind it. A mirror must say which of http and https it is.
fn place(text: &str, scheme_needed: bool) -> Result<(bool, &str, String)> {
    let (plain, rest) = match text.split_once("://") {
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        Some((other, _)) => bail!("{text:?}: {other:?} is neither http nor https"),
        None if scheme_needed => bail!("{text:?}: does not begin with https:// (or http://)"),
        None => (false, text),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    let probe = if path.is_empty() { "x" } else { path };
    // A host without a dot would be read as a path: here it can only be a host.
    let dotted = if host.contains(['.', ':']) || host == "localhost" { host } else { "localhost" };
    format!("{dotted}/{probe}")
        .parse::<crate::image::Reference>()
        .ok()
        .filter(|it| host.len() < 256 && it.digest.is_none() && !probe.contains(':'))
        .filter(|_| !host.is_empty() && host.bytes().all(|it| it.is_ascii_alphanumeric() || b".-:[]".contains(&it)))
        .with_context(|| format!("{text:?}: not of the form HOST[:PORT][/PATH]"))?;
    Ok((plain, host, if path.is_empty() { String::new() } else { format!("{path}/") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Registries> {
        let mut all = Registries::default();
        all.add(text, Path::new("registries.toml"))?;
        Ok(all)
    }

    #[test]
    fn mirrors_come_before_the_registry_and_only_for_reading() {
        let all = read(
            r#"
            [registry."docker.io"]
            mirrors = ["https://m.example/docker/", "http://127.0.0.1:5000"]
            [registry."m.example"]
            insecure = true
            [registry."old.example"]
            location = "new.example:5000/archive"
            [registry."[::1]:5000"]
            mirrors = ["http://[::1]:5001/x"]
            "#,
        )
        .unwrap();
        let found = all.endpoints("docker.io", true, None).unwrap();
        let told: Vec<_> =
            found.iter().map(|it| (&it.host[..], it.repository("a/b"), it.security, it.mirror)).collect();
        assert_eq!(
            told,
            [
                ("m.example", "docker/a/b".to_owned(), Security::Insecure, true),
                ("127.0.0.1:5000", "a/b".to_owned(), Security::Plain, true),
                (HUB, "a/b".to_owned(), Security::Verified, false),
            ]
        );
        assert_eq!(all.endpoints("index.docker.io", false, None).unwrap().len(), 1);
        assert_eq!(all.endpoints("docker.io", true, Some(true)).unwrap()[0].security, Security::Verified);
        assert_eq!(all.endpoints("x.example", true, Some(false)).unwrap()[0].security, Security::Insecure);
        assert_eq!(all.endpoints("[::1]:5000", true, None).unwrap()[0].host, "[::1]:5001");
        let moved = &all.endpoints("old.example", true, None).unwrap()[0];
        assert_eq!((&moved.name[..], &moved.prefix[..]), ("new.example:5000", "archive/"));
    }

    #[test]
    fn nothing_is_insecure_that_is_not_called_so() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "h.example"] {
            let found = Registries::default().endpoints(host, true, None).unwrap();
            assert_eq!((found.len(), found[0].security), (1, Security::Verified), "{host}");
        }
    }

    #[test]
    fn a_wrong_file_is_told_with_its_key() {
        for (text, words) in [
            ("[registry.\"x.y\"]\ninsecur = true", "registries.toml:2: unknown field `insecur`"),
            ("[registri.\"x.y\"]", "registries.toml:1: unknown field `registri`"),
            ("[registry.\"x.y\"]\ninsecure = 1", "registries.toml:2: invalid type"),
            (
                "[registry.\"x.y\"]\nmirrors = [\"m.example\"]",
                "registry.\"x.y\".mirrors: \"m.example\": does not begin",
            ),
            ("[registry.\"x.y\"]\nmirrors = [\"ftp://m\"]", "neither http nor https"),
            ("[registry.\"x.y\"]\nmirrors = [\"https://\"]", "not of the form"),
            ("[registry.\"x.y\"]\nmirrors = [\"https://u:p@h\"]", "not of the form"),
            ("[registry.\"x.y\"]\nmirrors = [\"https://h/../x\"]", "not of the form"),
            ("[registry.\"x.y\"]\nlocation = \"h?x=1\"", "registry.\"x.y\".location"),
            ("[registry.\"x.y\"]\nca = \"ca.pem\"", "registry.\"x.y\".ca: not an absolute path"),
            ("[registry.\"x y\"]", "registry.\"x y\""),
            ("[registry", "registries.toml:1"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
