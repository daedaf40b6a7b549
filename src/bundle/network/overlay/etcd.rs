//! A client of etcd's third interface by its JSON gateway (etcd's documentation, "gRPC gateway"): keys and values are
//! base64 there, 64-bit numbers are strings. Blocking; of several endpoints the next is asked where one is away.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::Agent;

use super::watch::Watch;
use crate::registry::config::TlsFiles;
use crate::registry::tls;

/// How long a connection may take, and an answer; and all endpoints together, before the next is not asked any more.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(3);
const ALL: Duration = Duration::from_secs(6);
/// How long a watch may be quiet before it is made anew: a server that vanished does not say so.
pub const QUIET: Duration = Duration::from_secs(30);
/// The longest answer, in bytes, and how many keys are asked for at once.
pub const LONGEST: u64 = 32 << 20;
const PAGE: usize = 1000;
/// etcd's port for clients.
const PORT: u16 = 2379;

/// How etcd is reached.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// URLs: `http://192.0.2.1:2379`; without a port it is 2379.
    pub endpoints: Vec<String>,
    /// PEM files of authorities, besides the system's.
    #[serde(default)]
    pub authorities: Vec<PathBuf>,
    /// PEM files of our certificate and its key. Where etcd has users it refuses a certificate with a common name at
    /// its JSON gateway.
    #[serde(default)]
    pub client: Option<(PathBuf, PathBuf)>,
    /// Who we are, and the password.
    #[serde(default)]
    pub user: Option<(String, String)>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// In which revision of the store it was last changed.
    pub modified: i64,
}

/// What must hold for a transaction.
pub enum If<'a> {
    /// There is no such key.
    Missing(&'a str),
    /// The key was last changed in this revision.
    Unchanged(&'a str, i64),
}

/// A step of a transaction.
pub enum Op<'a> {
    /// Sets a key. With a lease, other than 0, it goes with the lease.
    Put(&'a str, &'a [u8], i64),
    /// Reads a key.
    Get(&'a str),
    /// Removes a key.
    Delete(&'a str),
    /// Removes all keys that begin like this.
    DeleteAll(&'a str),
}

/// What a transaction came to.
pub struct Outcome {
    /// Whether all held, and the first list was done; else the second was.
    pub held: bool,
    /// What was read.
    pub pairs: Vec<Pair>,
}

/// Why a question has no answer.
enum Fault {
    /// The endpoint is away, or has no leader: another may do.
    Away(anyhow::Error),
    /// It does not know us, or not any more.
    Unknown(anyhow::Error),
    /// It said no.
    Refused(anyhow::Error),
}

/// A client.
pub struct Client {
    endpoints: Vec<String>,
    user: Option<(String, String)>,
    agent: Agent,
    /// For answers without an end.
    patient: Agent,
    token: Mutex<Option<String>>,
    /// The endpoint that answered last.
    current: AtomicUsize,
}

impl Client {
    /// Checks the settings and reads the files that they name. Nobody is asked yet.
    pub fn new(settings: &Settings) -> Result<Self> {
        let endpoints: Vec<String> = settings.endpoints.iter().map(|it| endpoint(it)).collect::<Result<_>>()?;
        if endpoints.is_empty() {
            bail!("etcd: no endpoint is named (http://HOST:{PORT})");
        }
        let files = TlsFiles { authorities: settings.authorities.clone(), client: settings.client.clone() };
        let tls = tls::config(&files, true).context("etcd")?;
        let agent = |read| {
            let builder = Agent::config_builder().tls_config(tls.clone()).http_status_as_error(false).proxy(None);
            let builder = builder.max_redirects(0).timeout_resolve(Some(CONNECT)).timeout_connect(Some(CONNECT));
            let builder = builder.timeout_per_write(Some(ANSWER)).timeout_recv_response(Some(ANSWER));
            builder.timeout_per_read(Some(read)).build().new_agent()
        };
        Ok(Self {
            endpoints,
            user: settings.user.clone(),
            agent: agent(ANSWER),
            patient: agent(QUIET),
            token: Mutex::new(None),
            current: AtomicUsize::new(0),
        })
    }

    /// All that begins like this, and the revision of the store that it is of.
    pub fn range(&self, prefix: &str, keys_only: bool) -> Result<(Vec<Pair>, i64)> {
        let (mut pairs, mut revision, mut from) = (Vec::new(), 0, prefix.as_bytes().to_vec());
        loop {
            let ask = json!({
                "key": BASE64.encode(&from), "range_end": BASE64.encode(end_of(prefix)), "limit": PAGE.to_string(),
                "revision": revision.to_string(), "keys_only": keys_only,
            });
            let answer = self.ask("/v3/kv/range", &ask)?;
            if revision == 0 {
                // All pages are of one moment.
                revision = number(&answer["header"]["revision"]);
            }
            let page = pairs_of(&answer)?;
            // What is asked for is all that is taken, and each page goes on behind the last.
            if let Some(it) = page.iter().find(|it| !it.key.starts_with(prefix) || it.key.as_bytes() < &from[..]) {
                bail!("etcd: asked for keys of {prefix}, it tells of {:?}", it.key);
            }
            let last = page.last().map(|it| it.key.clone());
            pairs.extend(page);
            match last {
                Some(key) if answer["more"] == true => from = [key.as_bytes(), &[0]].concat(),
                _ => return Ok((pairs, revision)),
            }
        }
    }

    /// A key's value.
    pub fn get(&self, key: &str) -> Result<Option<Pair>> {
        Ok(self.transact(&[], &[Op::Get(key)], &[])?.pairs.pop())
    }

    /// Does all of these steps at once.
    pub fn apply(&self, steps: &[Op]) -> Result<()> {
        self.transact(&[], steps, &[]).map(drop)
    }

    /// Does one list of steps at once if all of this holds, and the other one if not.
    pub fn transact(&self, hold: &[If], then: &[Op], other: &[Op]) -> Result<Outcome> {
        let compare: Vec<Value> = hold.iter().map(If::json).collect();
        let steps = |it: &[Op]| it.iter().map(Op::json).collect::<Vec<_>>();
        let ask = json!({"compare": compare, "success": steps(then), "failure": steps(other)});
        let answer = self.ask("/v3/kv/txn", &ask)?;
        let mut pairs = Vec::new();
        for one in answer["responses"].as_array().into_iter().flatten() {
            pairs.extend(pairs_of(&one["response_range"])?);
        }
        Ok(Outcome { held: answer["succeeded"] == true, pairs })
    }

    /// A lease for so many seconds.
    pub fn grant(&self, seconds: u64) -> Result<i64> {
        let answer = self.ask("/v3/lease/grant", &json!({"TTL": seconds.to_string(), "ID": "0"}))?;
        match number(&answer["ID"]) {
            0 => bail!("etcd gave no lease"),
            id => Ok(id),
        }
    }

    /// Renews a lease. Whether it was still there.
    pub fn keep(&self, lease: i64) -> Result<bool> {
        let answer = self.ask("/v3/lease/keepalive", &json!({"ID": lease.to_string()}))?;
        Ok(number(&answer["result"]["TTL"]) > 0)
    }

    /// Ends a lease, and with it all its keys.
    pub fn revoke(&self, lease: i64) -> Result<()> {
        self.ask("/v3/lease/revoke", &json!({"ID": lease.to_string()})).map(drop)
    }

    /// All that changes below a prefix from this revision on.
    pub fn watch(&self, prefix: &str, from: i64) -> Result<Watch> {
        let ask = json!({"create_request": {
            "key": BASE64.encode(prefix), "range_end": BASE64.encode(end_of(prefix)),
            "start_revision": from.to_string(),
        }});
        let body = self.until(|endpoint| self.post(&self.patient, endpoint, "/v3/watch", &ask))?;
        Ok(Watch::new(body))
    }

    pub(super) fn ask(&self, path: &str, ask: &Value) -> Result<Value> {
        self.until(|endpoint| {
            let mut body = self.post(&self.agent, endpoint, path, ask)?;
            let text = body.with_config().limit(LONGEST).read_to_vec();
            let text = text.map_err(|it| Fault::Away(anyhow!(it).context(endpoint.to_owned())))?;
            serde_json::from_slice(&text).map_err(|it| Fault::Away(anyhow!(it).context(format!("{endpoint}: no JSON"))))
        })
    }

    /// Asks one endpoint after the other, beginning with the one that answered last. What was asked may have been done
    /// by one that did not answer.
    fn until<T>(&self, ask: impl Fn(&str) -> Result<T, Fault>) -> Result<T> {
        let (began, first) = (Instant::now(), self.current.load(Ordering::Relaxed));
        let mut away = Vec::new();
        for turn in 0..self.endpoints.len() {
            let at = (first + turn) % self.endpoints.len();
            let endpoint = &self.endpoints[at];
            match self.known(endpoint, &ask) {
                Ok(it) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok(it);
                }
                Err(Fault::Away(error)) => away.push(format!("{error:#}")),
                Err(Fault::Unknown(error) | Fault::Refused(error)) => return Err(error.context("etcd")),
            }
            if began.elapsed() > ALL {
                break;
            }
        }
        bail!("etcd does not answer: {}", away.join("; "))
    }

    /// Asks an endpoint, saying who we are once it wants to know.
    fn known<T>(&self, endpoint: &str, ask: impl Fn(&str) -> Result<T, Fault>) -> Result<T, Fault> {
        match (ask(endpoint), &self.user) {
            (Err(Fault::Unknown(_)), Some((user, password))) => {
                self.log_in(endpoint, user, password)?;
                ask(endpoint)
            }
            (answer, _) => answer,
        }
    }

    fn log_in(&self, endpoint: &str, user: &str, password: &str) -> Result<(), Fault> {
        *self.token() = None;
        let mut body =
            self.post(&self.agent, endpoint, "/v3/auth/authenticate", &json!({"name": user, "password": password}))?;
        let away = |it: ureq::Error| Fault::Away(anyhow!(it).context(endpoint.to_owned()));
        let text = body.with_config().limit(LONGEST).read_to_vec().map_err(away)?;
        let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
        let token = answer["token"].as_str().map(ToOwned::to_owned);
        let missing = || Fault::Refused(anyhow!("{endpoint}: user {user} got no token"));
        *self.token() = Some(token.ok_or_else(missing)?);
        Ok(())
    }

    fn token(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn post(&self, agent: &Agent, endpoint: &str, path: &str, ask: &Value) -> Result<ureq::Body, Fault> {
        let mut request = agent.post(format!("{endpoint}{path}")).header("Content-Type", "application/json");
        if let Some(token) = &*self.token() {
            request = request.header("Authorization", token);
        }
        let answer = request.send(ask.to_string());
        let mut answer = answer.map_err(|it| Fault::Away(anyhow!(it).context(endpoint.to_owned())))?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(64 << 10).read_to_vec().unwrap_or_default();
        Err(refusal(endpoint, status.as_u16(), &text))
    }
}

/// What an error means: numbers of gRPC's status codes, and words where they say more.
fn refusal(endpoint: &str, status: u16, text: &[u8]) -> Fault {
    let said: Value = serde_json::from_slice(text).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    // Of a watch the error is an object of its own.
    let said = if said["error"].is_object() { &said["error"] } else { &said };
    let words = said["message"].as_str().or(said["error"].as_str()).unwrap_or(text.trim());
    let words: String = words.chars().filter(|it| !it.is_control()).take(300).collect();
    let error = anyhow!("{endpoint}: {words} (HTTP {status})");
    let unknown = ["invalid auth token", "user name is empty", "auth store is old", "auth token is not provided"];
    if unknown.iter().any(|it| words.contains(it)) {
        return Fault::Unknown(error);
    }
    // DeadlineExceeded, Internal, Unavailable.
    match said["code"].as_i64().or(said["grpc_code"].as_i64()) {
        Some(4 | 13 | 14) => Fault::Away(error),
        None if status >= 500 => Fault::Away(error),
        _ => Fault::Refused(error),
    }
}

/// An endpoint with its port, and nothing behind it.
fn endpoint(text: &str) -> Result<String> {
    let told = || format!("etcd: {text:?} is no URL of the form http://HOST:{PORT} or https://HOST:{PORT}");
    let text = text.trim_end_matches('/');
    let uri: ureq::http::Uri = text.parse().ok().with_context(told)?;
    let (scheme, host) = (uri.scheme_str().with_context(told)?, uri.host().with_context(told)?);
    let bare = text.matches('/').count() == 2 && !text.contains(['?', '#', '@']) && !host.is_empty();
    if !bare || !["http", "https"].contains(&scheme) {
        bail!(told());
    }
    Ok(format!("{scheme}://{host}:{}", uri.port_u16().unwrap_or(PORT)))
}

/// The first key behind all that begin with a prefix.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // No byte of a string is 255.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

impl If<'_> {
    fn json(&self) -> Value {
        match self {
            Self::Missing(key) => json!({"key": BASE64.encode(key), "target": "CREATE", "create_revision": "0"}),
            Self::Unchanged(key, revision) => {
                json!({"key": BASE64.encode(key), "target": "MOD", "mod_revision": revision.to_string()})
            }
        }
    }
}

impl Op<'_> {
    fn json(&self) -> Value {
        match self {
            Self::Put(key, value, lease) => json!({"request_put": {
                "key": BASE64.encode(key), "value": BASE64.encode(value), "lease": lease.to_string(),
            }}),
            Self::Get(key) => json!({"request_range": {"key": BASE64.encode(key)}}),
            Self::Delete(key) => json!({"request_delete_range": {"key": BASE64.encode(key)}}),
            Self::DeleteAll(prefix) => json!({"request_delete_range": {
                "key": BASE64.encode(prefix), "range_end": BASE64.encode(end_of(prefix)),
            }}),
        }
    }
}

/// A number, which the gateway writes as text where it has 64 bits.
pub fn number(value: &Value) -> i64 {
    value.as_str().map_or_else(|| value.as_i64(), |it| it.parse().ok()).unwrap_or(0)
}

fn pairs_of(answer: &Value) -> Result<Vec<Pair>> {
    answer["kvs"].as_array().into_iter().flatten().map(pair).collect()
}

/// A key and its value, as the gateway writes them.
pub fn pair(value: &Value) -> Result<Pair> {
    let bytes = |it: &Value| BASE64.decode(it.as_str().unwrap_or_default()).context("etcd: no base64");
    let key = String::from_utf8(bytes(&value["key"])?).context("etcd: a key that is no text")?;
    Ok(Pair { key, value: bytes(&value["value"])?, modified: number(&value["mod_revision"]) })
}
