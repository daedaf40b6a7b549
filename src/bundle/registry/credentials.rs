//! Credentials where Docker and Podman keep them: `config.json`, `auth.json`, and the helpers they name.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::canonical;
use super::error::harmless;
use crate::image::reference::DEFAULT_REGISTRY;

/// The key that Docker has always used for Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name that says: the secret is an identity token.
const TOKEN_USER: &str = "<token>";
/// The most a helper may say, in bytes.
const MOST_SAID: u64 = 1 << 20;
/// The largest configuration file that is read, in bytes.
const MOST_FILE: u64 = 4 << 20;

/// What opens a registry. Its `Debug` tells no secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A name and its password.
    Basic {
        /// The name.
        user: String,
        /// The password, or a personal access token.
        password: String,
    },
    /// What a token server gives tokens for.
    IdentityToken(String),
    /// A token that is sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(to, "Basic({user:?}, ...)"),
            Self::IdentityToken(_) => to.write_str("IdentityToken(...)"),
            Self::RegistryToken(_) => to.write_str("RegistryToken(...)"),
        }
    }
}

/// Where credentials are looked for and kept.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Where `login` writes, and what is read first.
    file: PathBuf,
    /// What else is read, in this order.
    others: Vec<PathBuf>,
    /// Where helpers are found, instead of the caller's PATH.
    helpers: Option<OsString>,
    /// How long a helper may take.
    patience: Duration,
}

/// Where `login` put what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file, readable by its owner alone, not encrypted.
    File(PathBuf),
    /// With the helper of this name.
    Helper(String),
}

#[derive(Default)]
struct ConfigFile {
    whole: Map<String, Value>,
    parsed: Parsed,
}

#[derive(Default, Deserialize)]
struct Parsed {
    #[serde(default)]
    auths: Option<Map<String, Value>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(rename = "auth")]
    basic: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(alias = "IdentityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "RegistryToken")]
    registrytoken: Option<String>,
}

/// What passes between us and a helper (docker-credential-helpers' protocol).
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

impl Credentials {
    /// The usual places, by the environment: `$REGISTRY_AUTH_FILE` alone if it is set; else
    /// `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`, then Podman's `$XDG_RUNTIME_DIR/containers/auth.json`
    /// and `~/.config/containers/auth.json`. `None` without any of them.
    pub fn usual(environment: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let set = |name: &str| environment(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        if let Some(file) = set("REGISTRY_AUTH_FILE") {
            return Some(Self::in_file(file));
        }
        let docker = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
        let mut found = Self::in_file(docker.join("config.json"));
        found.others.extend(set("XDG_RUNTIME_DIR").map(|it| it.join("containers/auth.json")));
        let home = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
        found.others.extend(home.map(|it| it.join("containers/auth.json")));
        Some(found)
    }

    /// Those of one file, which need not be there yet.
    pub fn in_file(file: PathBuf) -> Self {
        Self { file, others: Vec::new(), helpers: None, patience: Duration::from_mins(1) }
    }

    /// Looks for helpers in `path` only, and gives them this long: for tests.
    #[cfg(test)]
    pub fn with_helpers(mut self, path: OsString, patience: Duration) -> Self {
        (self.helpers, self.patience) = (Some(path), patience);
        self
    }

    /// What opens a registry, for a repository of it where Podman's file tells repositories apart.
    pub fn of(&self, registry: &str, repository: Option<&str>) -> Result<Option<Credential>> {
        let registry = canonical(registry);
        for file in std::iter::once(&self.file).chain(&self.others) {
            let config = read(file)?;
            if let Some(helper) = config.helper(registry) {
                if let Some(found) = self.ask(helper, registry).with_context(|| told(file))? {
                    return Ok(Some(found));
                }
                continue;
            }
            if let Some(found) = config.auth(registry, repository).with_context(|| told(file))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps a name and password, with the helper that the file names, else in the file.
    pub fn login(&self, registry: &str, credential: &Credential) -> Result<Kept> {
        let registry = canonical(registry);
        let mut config = read(&self.file)?;
        let (user, secret) = match credential {
            Credential::Basic { user, password } => (user.as_str(), password.as_str()),
            Credential::IdentityToken(token) => (TOKEN_USER, token.as_str()),
            Credential::RegistryToken(_) => bail!("login {registry}: a registry's own token cannot be kept"),
        };
        if let Some(helper) = config.helper(registry).map(str::to_owned) {
            let said = Said { server: key(registry).to_owned(), username: user.to_owned(), secret: secret.to_owned() };
            self.run(&helper, "store", &serde_json::to_vec(&said)?)?;
            return Ok(Kept::Helper(helper));
        }
        if user.contains(':') {
            bail!("login {registry}: a colon may not stand in the user's name");
        }
        let entry = match credential {
            Credential::Basic { .. } => json!({"auth": BASE64_STANDARD.encode(format!("{user}:{secret}"))}),
            _ => json!({"auth": BASE64_STANDARD.encode(format!("{user}:")), "identitytoken": secret}),
        };
        let auths = config.whole.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        let auths = auths.as_object_mut().with_context(|| format!("{}: auths is no object", told(&self.file)))?;
        auths.retain(|name, _| server(name) != registry);
        auths.insert(key(registry).to_owned(), entry);
        write(&self.file, &config.whole)?;
        Ok(Kept::File(self.file.clone()))
    }

    /// Forgets what opens a registry. False if nothing was known.
    pub fn logout(&self, registry: &str) -> Result<bool> {
        let registry = canonical(registry);
        let mut config = read(&self.file)?;
        let mut known = false;
        if let Some(helper) = config.helper(registry).map(str::to_owned) {
            known = self.ask(&helper, registry)?.is_some();
            if known {
                self.run(&helper, "erase", key(registry).as_bytes())?;
            }
        }
        if let Some(auths) = config.whole.get_mut("auths").and_then(Value::as_object_mut) {
            let before = auths.len();
            auths.retain(|name, _| server(name) != registry);
            if auths.len() < before {
                known = true;
                write(&self.file, &config.whole)?;
            }
        }
        Ok(known)
    }

    fn ask(&self, helper: &str, registry: &str) -> Result<Option<Credential>> {
        let Some(answer) = self.run(helper, "get", key(registry).as_bytes())? else {
            return Ok(None);
        };
        // The parser's own words could show what it stumbled over.
        let said: Said = serde_json::from_slice(&answer)
            .ok()
            .with_context(|| format!("credential helper docker-credential-{helper}: its answer is not understood"))?;
        Ok(Some(if said.username == TOKEN_USER {
            Credential::IdentityToken(said.secret)
        } else {
            Credential::Basic { user: said.username, password: said.secret }
        }))
    }

    /// Runs a helper with `input` on its standard input. `None` is its way to say that it knows nothing.
    fn run(&self, helper: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
        let good = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
        if helper.is_empty() || !helper.bytes().all(good) {
            bail!("credential helper {helper:?}: no name of a helper");
        }
        let name = format!("docker-credential-{helper}");
        let mut command = Command::new(&name);
        if let Some(path) = &self.helpers {
            // Rust looks a program up in the PATH that it is given.
            command.env("PATH", path);
        }
        let mut child = command
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("run credential helper {name}: install it, or take it out of config.json"))?;
        let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
        // A helper that has ended can leave its output open with a child of its own: neither reading nor
        // writing is waited for longer than the helper may take.
        let (send, receive) = std::sync::mpsc::channel();
        let input = input.to_vec();
        std::thread::spawn(move || {
            // A helper that does not read what it is told says so by its exit status.
            if let Some(mut stdin) = stdin.take() {
                let _ = stdin.write_all(&input);
            }
            let mut said = Vec::new();
            let read = stdout.map(|it| it.take(MOST_SAID + 1).read_to_end(&mut said));
            let _ = send.send(read.transpose().map(|_| said));
        });
        let deadline = Instant::now() + self.patience;
        let answer = receive.recv_timeout(self.patience);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if answer.is_err() || Instant::now() >= deadline {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let (Ok(answer), Some(status)) = (answer, status) else {
            bail!("credential helper {name}: no answer within {} seconds; it was ended", self.patience.as_secs());
        };
        let answer = answer.with_context(|| format!("credential helper {name}"))?;
        if answer.len() as u64 > MOST_SAID {
            bail!("credential helper {name}: its answer is too long");
        }
        if !status.success() {
            // A failing helper says why on its standard output (the protocol has no codes).
            let why = String::from_utf8_lossy(&answer);
            if verb != "store" && why.contains("credentials not found") {
                return Ok(None);
            }
            bail!("credential helper {name} {verb}: {status}: {}", harmless(&why));
        }
        Ok(Some(answer))
    }
}

impl ConfigFile {
    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.parsed.helpers.as_ref().and_then(|all| all.iter().find(|(name, _)| server(name) == registry));
        own.map(|(_, helper)| helper.as_str()).or(self.parsed.store.as_deref()).filter(|it| !it.is_empty())
    }

    fn auth(&self, registry: &str, repository: Option<&str>) -> Result<Option<Credential>> {
        let Some(auths) = &self.parsed.auths else { return Ok(None) };
        // The longest name that fits: `host/a/b`, `host/a`, `host`.
        let whole = repository.map_or(registry.to_owned(), |repository| format!("{registry}/{repository}"));
        let mut wanted = whole.as_str();
        loop {
            let exact = auths
                .iter()
                .find(|(name, _)| if wanted == registry { server(name) == wanted } else { *name == wanted });
            if let Some((name, value)) = exact {
                return credential(value).with_context(|| format!("auths.{name:?}"));
            }
            match wanted.rsplit_once('/') {
                Some((shorter, _)) if wanted != registry => wanted = shorter,
                _ => return Ok(None),
            }
        }
    }
}

/// One entry of `auths`. An empty one says that a helper has it.
fn credential(value: &Value) -> Result<Option<Credential>> {
    // What stands in the file stays out of the error.
    let auth: Auth = Auth::deserialize(value).ok().context("not an object of texts; log in again to replace it")?;
    let some = |it: Option<String>| it.filter(|it| !it.is_empty());
    if let Some(token) = some(auth.registrytoken) {
        return Ok(Some(Credential::RegistryToken(token)));
    }
    if let Some(token) = some(auth.identitytoken) {
        return Ok(Some(Credential::IdentityToken(token)));
    }
    if let Some(encoded) = some(auth.basic) {
        let text = BASE64_STANDARD.decode(encoded.trim()).ok().and_then(|it| String::from_utf8(it).ok());
        let text = text.context("auth is no base64 of text; log in again to replace it")?;
        let (user, password) = text.split_once(':').context("auth has no colon; log in again to replace it")?;
        return Ok(Some(Credential::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    Ok(match (some(auth.username), auth.password) {
        (Some(user), Some(password)) => Some(Credential::Basic { user, password }),
        _ => None,
    })
}

/// The key under which a registry's credentials are kept.
fn key(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { HUB_KEY } else { registry }
}

/// The registry that a key of any age means: `https://host/v1/`, `host`.
fn server(key: &str) -> &str {
    let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    // Podman's keys for one repository are no registry's.
    let host = match host.split_once('/') {
        Some((host, "" | "v1" | "v1/" | "v2" | "v2/")) => host,
        _ => host,
    };
    canonical(host)
}

fn told(file: &Path) -> String {
    format!("credentials in {}", file.display())
}

fn read(file: &Path) -> Result<ConfigFile> {
    let opened = match fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(ConfigFile::default());
        }
        Err(error) => return Err(error).with_context(|| told(file)),
    };
    let mut text = Vec::new();
    opened.take(MOST_FILE + 1).read_to_end(&mut text).with_context(|| told(file))?;
    if text.len() as u64 > MOST_FILE {
        bail!("{}: more than {MOST_FILE} bytes", told(file));
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(ConfigFile::default());
    }
    // serde's words about a wrong type show the value, which may be a secret: the place is told, not the value.
    let wrong = |error: serde_json::Error| {
        anyhow::anyhow!("{}: not what was expected at line {} column {}", told(file), error.line(), error.column())
    };
    let whole: Map<String, Value> = serde_json::from_slice(&text).map_err(wrong)?;
    let parsed = serde_json::from_slice(&text).map_err(wrong)?;
    Ok(ConfigFile { whole, parsed })
}

/// Replaces the file whole, or not at all. Nobody can read it who could not before; a new one is its owner's alone.
fn write(file: &Path, whole: &Map<String, Value>) -> Result<()> {
    // A link (a file kept elsewhere) stays one.
    let file = &fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("write {}", told(file));
    if !directory.exists() {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(failed)?;
    }
    // Not wider than it was, and no longer for others, now that it holds a secret.
    let mode = fs::metadata(file).map_or(0o600, |it| it.permissions().mode() & 0o600);
    let name = file.file_name().with_context(failed)?.to_string_lossy().into_owned();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |it| it.as_nanos());
    let new = directory.join(format!(".{name}.{}-{now}", std::process::id()));
    let written = (|| -> Result<()> {
        let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        to.write_all(&serde_json::to_vec_pretty(whole)?)?;
        to.write_all(b"\n")?;
        to.set_permissions(fs::Permissions::from_mode(mode))?;
        to.sync_all()?;
        Ok(fs::rename(&new, file)?)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.with_context(failed)
}

#[cfg(test)]
#[path = "tests/credentials.rs"]
mod tests;
