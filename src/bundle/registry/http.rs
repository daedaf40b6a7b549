//! One question to one host, and its answer: authentication, redirects, time limits, tries.

use std::io::Read;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use ureq::{Agent, SendBody};

use super::auth::{self, Challenge};
use super::config::{Endpoint, Security};
use super::error::{self, Failure, Kind, harmless};
use super::{Client, Credential, location, tls};

/// How often an answer may send us on.
const MOST_REDIRECTS: u32 = 10;
/// The most of a refusal's body that is read, in bytes.
const MOST_REFUSAL: u64 = 64 << 10;
/// How much longer a registry may take over what it has received than over an answer: it reads it all again.
const COMMIT: u32 = 10;

/// What is sent along.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Nothing: GET, HEAD, DELETE.
    None,
    /// A body; the empty one is told as `Content-Length: 0`.
    Bytes(&'a [u8]),
    /// So many bytes from a source, which can be opened again.
    Stream(&'a dyn Fn() -> Result<Box<dyn Read + 'a>, Failure>, u64),
}

/// A question.
pub struct Ask<'a> {
    /// What it is about, for people: `manifest of docker.io/library/busybox:latest`.
    pub what: &'a str,
    /// How.
    pub method: Method,
    /// `/v2/...`, or a whole URL that the registry gave before.
    pub target: &'a str,
    /// Headers.
    pub headers: Vec<(HeaderName, String)>,
    /// Body.
    pub payload: Payload<'a>,
    /// What a token must be for.
    pub scopes: &'a [String],
    /// The repository there, by which credentials may differ.
    pub repository: Option<&'a str>,
    /// Credentials to use instead of the known ones.
    pub credential: Option<&'a Credential>,
    /// The statuses that are answers; any other is a failure.
    pub good: &'a [u16],
}

impl<'a> Ask<'a> {
    /// A GET.
    pub fn get(what: &'a str, target: &'a str, scopes: &'a [String]) -> Self {
        Self {
            what,
            method: Method::GET,
            target,
            headers: Vec::new(),
            payload: Payload::None,
            scopes,
            repository: None,
            credential: None,
            good: &[200],
        }
    }
}

/// An answer, its body not read yet.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: ureq::Body,
    /// Where it came from in the end.
    pub uri: Uri,
}

impl Answer {
    /// A header's text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|it| it.to_str().ok())
    }

    /// The `Content-Length`, if it is one.
    pub fn length(&self) -> Option<u64> {
        self.header(&header::CONTENT_LENGTH).and_then(|it| it.trim().parse().ok())
    }
}

/// `repository:NAME:ACTIONS`.
pub fn scope(repository: &str, actions: &str) -> String {
    format!("repository:{repository}:{actions}")
}

impl Client {
    /// Asks until there is an answer, or a failure that will not pass.
    pub(super) fn ask(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Answer, Failure> {
        self.until(endpoint, || self.ask_once(endpoint, ask))
    }

    /// Asks until there is a whole document of no more than `most` bytes.
    pub(super) fn document(&self, endpoint: &Endpoint, ask: &Ask, most: u64) -> Result<(Answer, Vec<u8>), Failure> {
        self.until(endpoint, || {
            let mut answer = self.ask_once(endpoint, ask)?;
            let bytes = self.read(ask.what, &endpoint.host, &mut answer.body, most)?;
            Ok((answer, bytes))
        })
    }

    fn until<T>(&self, endpoint: &Endpoint, ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut tries = 1;
        loop {
            match ask() {
                Err(failure) if failure.passes() && self.again(endpoint, &failure, tries) => tries += 1,
                other => return other,
            }
        }
    }

    /// Asks once, proving who we are if the registry wants to know.
    pub(super) fn ask_once(&self, endpoint: &Endpoint, ask: &Ask) -> Result<Answer, Failure> {
        let base = self.base(endpoint, ask.what);
        let uri = if ask.target.starts_with('/') { format!("{base}{}", ask.target) } else { ask.target.to_owned() };
        let uri: Uri = uri.parse().map_err(|_| {
            Failure::new(
                Kind::Garbage,
                format!("{}: {}: the URL would be none that can be asked", ask.what, endpoint.host),
            )
        })?;
        let home = location::origin(
            &format!("{base}/")
                .parse()
                .map_err(|_| Failure::new(Kind::Garbage, format!("{}: {:?} is no host", ask.what, endpoint.host)))?,
        );
        // Credentials that are being tried out leave no trace, and find none.
        let trial = ask.credential.is_some();
        let mut authorization = if trial { None } else { self.shared.granted.get(&home, ask.scopes) };
        let mut proved = false;
        loop {
            let answer = self.walk(&home, uri.clone(), ask, authorization.as_deref())?;
            // A token may have run out early: one new one is asked for, and no more. Another host gets none.
            if answer.status != StatusCode::UNAUTHORIZED || proved || location::origin(&answer.uri) != home {
                return self.judge(endpoint, ask, answer);
            }
            if let Some(refused) = &authorization {
                self.shared.granted.forget(&home, ask.scopes, refused);
            }
            let asked_for = auth::challenges(&answer.headers);
            let Some((proof, life)) = self.prove(endpoint, ask, &asked_for, home.starts_with("https"))? else {
                return self.judge(endpoint, ask, answer);
            };
            if !trial {
                self.shared.granted.put(&home, ask.scopes, &proof, life);
            }
            (authorization, proved) = (Some(proof), true);
        }
    }

    /// What proves who we are to one of these challenges: the `Authorization`, and for how long it holds.
    fn prove(
        &self,
        endpoint: &Endpoint,
        ask: &Ask,
        asked_for: &[Challenge],
        secure: bool,
    ) -> Result<Option<(String, Duration)>, Failure> {
        const DAY: Duration = Duration::from_hours(24);
        let credential = match (ask.credential, &self.shared.settings.credentials) {
            (Some(credential), _) => Some(credential.clone()),
            (None, Some(known)) => known
                .of(&endpoint.name, ask.repository)
                .map_err(|error| Failure::new(Kind::Unauthorized, format!("{}: {error:#}", ask.what)))?,
            (None, None) => None,
        };
        if let Some(Credential::RegistryToken(token)) = &credential {
            return Ok(Some((format!("Bearer {token}"), DAY)));
        }
        for challenge in asked_for {
            let Challenge::Bearer { realm, service, scope } = challenge else { continue };
            let mut scopes = ask.scopes.to_vec();
            for one in scope.iter().flat_map(|it| it.split(' ')) {
                if !one.is_empty() && !scopes.iter().any(|it| it == one) {
                    scopes.push(one.to_owned());
                }
            }
            return self
                .token(endpoint, realm, service.as_deref(), &scopes, credential.as_ref(), secure)
                .map(Some)
                .map_err(|failure| Failure { message: format!("{}: {}", ask.what, failure.message), ..failure });
        }
        let wanted = asked_for.contains(&Challenge::Basic);
        Ok(credential.as_ref().filter(|_| wanted).and_then(auth::basic).map(|it| (it, DAY)))
    }

    fn token(
        &self,
        endpoint: &Endpoint,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        credential: Option<&Credential>,
        secure: bool,
    ) -> Result<(String, Duration), Failure> {
        let request = auth::token_request(realm, service, scopes, credential, secure)?;
        let form = request.form.as_deref();
        let what = format!("token for {}", endpoint.name);
        let ask = Ask {
            method: if form.is_some() { Method::POST } else { Method::GET },
            payload: form.map_or(Payload::None, |it| Payload::Bytes(it.as_bytes())),
            headers: form
                .map(|_| (header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned()))
                .into_iter()
                .collect(),
            ..Ask::get(&what, "", &[])
        };
        let home = location::origin(&request.uri);
        let host = request.uri.authority().map_or("", |it| it.as_str()).to_owned();
        let mut answer = self.walk(&home, request.uri, &ask, request.authorization.as_deref())?;
        if answer.status != StatusCode::OK {
            let body = self.read(&what, &host, &mut answer.body, MOST_REFUSAL).unwrap_or_default();
            return Err(error::of_status(&what, &host, &endpoint.name, answer.status, &body).after(&answer.headers));
        }
        auth::token(&self.read(&what, &host, &mut answer.body, 1 << 20)?)
            .map_err(|failure| Failure { message: format!("{what}: {host}: {}", failure.message), ..failure })
    }

    /// Sends one request and follows where it is sent. What proves who we are goes to `home` only (scheme, host
    /// and port), and no more once another was visited.
    fn walk(&self, home: &str, uri: Uri, ask: &Ask, authorization: Option<&str>) -> Result<Answer, Failure> {
        let mut uri = uri;
        let mut authorization = authorization;
        let secure = home.starts_with("https");
        for _ in 0..=MOST_REDIRECTS {
            if location::origin(&uri) != home {
                authorization = None;
            }
            let host = uri.authority().map_or("", |it| it.as_str()).to_owned();
            let wrong = |why: String| Failure::new(Kind::Garbage, format!("{}: {host}: {why}", ask.what));
            if secure && uri.scheme_str() != Some("https") {
                return Err(wrong("the registry sends on from https to plain http; nothing was sent there".to_owned()));
            }
            let response = self.send(&host, &uri, ask, authorization)?;
            let status = response.status();
            let target = response.headers().get(header::LOCATION);
            let moved = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) && !ask.good.contains(&status.as_u16());
            let (Some(target), true) = (target, moved) else {
                let (parts, body) = response.into_parts();
                return Ok(Answer { status, headers: parts.headers, body, uri });
            };
            let target = target.to_str().ok().and_then(|it| location::resolve(&uri, it));
            let next = target.ok_or_else(|| wrong(format!("it answered {status} with a Location that is no URL")))?;
            let carried = match ask.payload {
                Payload::None => {
                    matches!(ask.method, Method::GET | Method::HEAD) || matches!(status.as_u16(), 307 | 308)
                }
                // What is sent is meant for the registry, not for whom it names.
                _ => matches!(status.as_u16(), 307 | 308) && location::origin(&next) == location::origin(&uri),
            };
            if !carried {
                return Err(wrong(format!("it answered {status}, which is not followed with what is to be sent")));
            }
            uri = next;
        }
        Err(Failure::new(
            Kind::Garbage,
            format!("{}: the registry sent on more than {MOST_REDIRECTS} times: a loop", ask.what),
        ))
    }

    /// Sends one request and waits for the head of its answer.
    fn send(
        &self,
        host: &str,
        uri: &Uri,
        ask: &Ask,
        authorization: Option<&str>,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let commits = matches!(ask.method, Method::PUT | Method::PATCH);
        let agent = self
            .agent(host, commits)
            .map_err(|error| Failure::new(Kind::Tls, format!("{}: {host}: {error:#}", ask.what)))?;
        let mut request = Request::builder().method(ask.method.clone()).uri(uri);
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let built = |error: ureq::http::Error| {
            Failure::new(Kind::Garbage, format!("{}: {host}: the request cannot be made ({error})", ask.what))
        };
        let answer = match ask.payload {
            Payload::None => agent.run(request.body(SendBody::none()).map_err(built)?),
            Payload::Bytes(bytes) => agent.run(request.body(bytes).map_err(built)?),
            Payload::Stream(open, length) => {
                let mut source = Source { inner: open()?, left: length, failed: None };
                let request = request.header(header::CONTENT_LENGTH, length);
                let answer = agent.run(request.body(SendBody::from_reader(&mut source)).map_err(built)?);
                if let Some(why) = source.failed {
                    return Err(Failure::new(Kind::Source, format!("{}: {why}", ask.what)));
                }
                answer
            }
        };
        answer.map_err(|error| error::of_transport(ask.what, host, error))
    }

    /// Lets good answers through and makes failures of the others.
    fn judge(&self, endpoint: &Endpoint, ask: &Ask, mut answer: Answer) -> Result<Answer, Failure> {
        if ask.good.contains(&answer.status.as_u16()) {
            return Ok(answer);
        }
        let host = answer.uri.authority().map_or(endpoint.host.clone(), |it| it.as_str().to_owned());
        let body = self.read(ask.what, &host, &mut answer.body, MOST_REFUSAL).unwrap_or_default();
        Err(error::of_status(ask.what, &host, &endpoint.name, answer.status, &body).after(&answer.headers))
    }

    /// Reads a whole body of no more than `most` bytes, in no more than a document's time.
    fn read(&self, what: &str, host: &str, body: &mut ureq::Body, most: u64) -> Result<Vec<u8>, Failure> {
        let deadline = Instant::now() + self.limits().document;
        let mut reader = body.as_reader();
        let mut bytes = Vec::new();
        let mut piece = vec![0; 16 << 10];
        loop {
            let got = match reader.read(&mut piece) {
                Ok(0) => return Ok(bytes),
                Ok(got) => got,
                Err(error) => return Err(error::of_transport(what, host, error.into())),
            };
            bytes.extend_from_slice(&piece[..got]);
            if bytes.len() as u64 > most {
                let why = format!("{what}: {host}: the answer has more than {most} bytes");
                return Err(Failure::new(Kind::Garbage, why));
            }
            if Instant::now() > deadline {
                let why = format!("{what}: {host}: the answer came too slowly; try again");
                return Err(Failure::new(Kind::Broken, why));
            }
        }
    }

    /// `https://host`, or `http://host` where that was asked for.
    pub(super) fn base(&self, endpoint: &Endpoint, what: &str) -> String {
        let host = &endpoint.host;
        let scheme = match endpoint.security {
            Security::Verified => "https",
            Security::Plain => "http",
            Security::Insecure => {
                let known = self.shared.schemes.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
                known.unwrap_or_else(|| self.find_scheme(host, what))
            }
        };
        format!("{scheme}://{host}")
    }

    /// An insecure host is asked with TLS first: what has it need not be spoken to without.
    fn find_scheme(&self, host: &str, what: &str) -> &'static str {
        let Ok(uri) = format!("https://{host}/v2/").parse() else { return "https" };
        let scheme = match self.send(host, &uri, &Ask::get(what, "", &[]), None) {
            Ok(_) => "https",
            // Nobody there now says nothing of what is there later.
            Err(failure) if failure.kind == Kind::Unreachable => return "http",
            Err(_) => "http",
        };
        self.shared.schemes.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), scheme);
        scheme
    }

    /// The connections to one host: each with its own certificates.
    fn agent(&self, host: &str, commits: bool) -> anyhow::Result<Agent> {
        let settings = &self.shared.settings;
        let mut agents = self.shared.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&(host.to_owned(), commits)) {
            return Ok(agent.clone());
        }
        let limits = &settings.limits;
        let verify = settings.verify.unwrap_or_else(|| !settings.registries.insecure(host));
        let idle = if commits { limits.idle * COMMIT } else { limits.idle };
        let agent = Agent::config_builder()
            .tls_config(tls::config(&settings.registries.tls_files(host)?, verify)?)
            .user_agent(&settings.user_agent)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_send_request(Some(limits.idle))
            .timeout_recv_response(Some(idle))
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(limits.idle))
            .build()
            .new_agent();
        // A registry's answers name hosts (redirects, token servers): not without end.
        if agents.len() >= 64 {
            agents.clear();
        }
        agents.insert((host.to_owned(), commits), agent.clone());
        Ok(agent)
    }

    pub(super) fn limits(&self) -> &super::Limits {
        &self.shared.settings.limits
    }

    /// Whether, after so many tries, there is to be one more; if so, waits for it: twice as long each time, by a
    /// random part less, so that many clients do not come back at once, and no less than the registry asks. Where
    /// it asks for longer than anyone would wait, there is none.
    pub(super) fn again(&self, endpoint: &Endpoint, failure: &Failure, tries: u32) -> bool {
        let limits = self.limits();
        let asked = failure.retry_after.unwrap_or_default();
        // What a mirror does not give at once, the next one may.
        let most = if endpoint.mirror { limits.tries.min(2) } else { limits.tries };
        if tries >= most || asked > limits.longest_pause {
            return false;
        }
        let usual = limits.pause.saturating_mul(1 << (tries - 1).min(16)).min(limits.longest_pause);
        let mut random = [0_u8; 2];
        // Without randomness the wait is the whole one.
        let _ = rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::NONBLOCK);
        let usual = usual.mul_f64(1.0 - f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX) / 2.0);
        std::thread::sleep(asked.max(usual));
        true
    }
}

/// What is sent: never more than was announced, and its own errors kept apart from the connection's.
struct Source<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    failed: Option<String>,
}

impl Read for Source<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(to.len());
        if most == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut to[..most]) {
            Ok(0) => {
                let why = format!("what is to be sent ends {} bytes too early", self.left);
                self.failed = Some(why.clone());
                Err(std::io::Error::other(why))
            }
            Ok(got) => {
                self.left -= got as u64;
                Ok(got)
            }
            Err(error) => {
                self.failed = Some(format!("what is to be sent cannot be read: {}", harmless(&error.to_string())));
                Err(error)
            }
        }
    }
}
