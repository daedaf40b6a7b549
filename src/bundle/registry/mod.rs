//! A client of registries (OCI distribution-spec 1.1, Docker registry v2): blocking, shared by threads. It knows
//! nothing of the store, of layers or of the database, and writes nothing to the terminal. Whatever comes from a
//! registry is taken for hostile: bounded in size and time, and never sent where its owner did not mean it to go.
//!
//! `http` asks one thing of one host; `pull`, `blob`, `push` and `list` are made of such questions.

pub mod blob;
pub mod config;
pub mod credentials;
pub mod error;
pub mod list;
pub mod pull;
pub mod push;
pub mod tls;

mod auth;
mod http;
mod location;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;

pub use config::Registries;
pub use credentials::{Credential, Credentials};
#[allow(unused_imports)] // until a command decides by them
pub use error::{Failure, Kind};

/// How long things may take and how often they are tried.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until an answer begins, and between two pieces of one.
    pub idle: Duration,
    /// For a whole manifest, token or list.
    pub document: Duration,
    /// How often the same is tried without getting further.
    pub tries: u32,
    /// Before the second try; each further one waits twice as long.
    pub pause: Duration,
    /// The longest wait before a try, whatever the registry asks for.
    pub longest_pause: Duration,
    /// Uploads go in pieces of so many bytes; without it in one, unless the registry finds that too large.
    pub chunk: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            document: Duration::from_mins(2),
            tries: 6,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_mins(1),
            chunk: None,
        }
    }
}

/// What a client is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Mirrors, own authorities, insecure hosts.
    pub registries: Registries,
    /// What opens registries.
    pub credentials: Option<Credentials>,
    /// What this program calls itself: `bundle/0.1.0`.
    pub user_agent: String,
    /// `--tls-verify`, above the configuration: `false` leaves TLS unverified and takes plain http where there
    /// is no TLS.
    pub verify: Option<bool>,
    /// Time and tries.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registries: Registries::default(),
            credentials: None,
            user_agent: concat!("bundle/", env!("CARGO_PKG_VERSION")).to_owned(),
            verify: None,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// The usual settings: `/etc/bundle/registries.toml`, above it `registries.toml` and `certs.d/` in the user's
    /// configuration directory, the certificates and credentials of Docker and Podman. `verify` is what
    /// `--tls-verify` says.
    pub fn usual(configuration: Option<&Path>, verify: Option<bool>) -> Result<Self> {
        let mut files = vec![PathBuf::from("/etc/bundle/registries.toml")];
        files.extend(configuration.map(|it| it.join("registries.toml")));
        let mut certificates = Registries::usual_certificate_directories();
        certificates.extend(configuration.map(|it| it.join("certs.d")));
        Ok(Self {
            registries: Registries::load(&files, certificates)?,
            credentials: Credentials::usual(|name| std::env::var_os(name)),
            verify,
            ..Self::default()
        })
    }
}

/// A client. Its clones share connections and tokens.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    mirrors: bool,
}

struct Shared {
    settings: Settings,
    /// By host, and whether they wait longer than usual.
    agents: Mutex<HashMap<(String, bool), ureq::Agent>>,
    /// What insecure hosts turned out to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
    /// Mirrors that could not be reached.
    dead: Mutex<HashSet<String>>,
    granted: auth::Granted,
}

/// How any host is believed that is no registry: by the system's authorities.
pub fn tls_of_host() -> anyhow::Result<ureq::tls::TlsConfig> {
    tls::config(&config::TlsFiles::default(), true)
}

impl Client {
    /// A client with these settings. Nothing is read or connected to yet.
    pub fn new(settings: Settings) -> Self {
        let shared = Shared {
            settings,
            agents: Mutex::default(),
            schemes: Mutex::default(),
            dead: Mutex::default(),
            granted: auth::Granted::default(),
        };
        Self { shared: Arc::new(shared), mirrors: true }
    }

    /// The same client, asking registries themselves only: for a blob whose bytes from a mirror were wrong.
    #[must_use]
    pub fn without_mirrors(&self) -> Self {
        Self { shared: self.shared.clone(), mirrors: false }
    }
}

#[cfg(test)]
mod tests;
