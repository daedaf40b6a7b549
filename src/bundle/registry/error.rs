//! What went wrong with a registry, as one line a person can act on, and as a kind a caller can decide by.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, StatusCode, header};

/// What a failure is, for callers that decide by it: `error.downcast_ref::<Failure>()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 401, or a token server that refused: logging in may help.
    Unauthorized,
    /// 403.
    Denied,
    /// 404.
    NotFound,
    /// 413: the body was too large for what stands before the registry.
    TooLarge,
    /// 429, 408 or 5xx: the same may work later.
    Busy,
    /// Another status that was not expected.
    Status,
    /// No connection: refused, no such host, no route.
    Unreachable,
    /// The connection broke, or nothing came for too long.
    Broken,
    /// TLS failed: certificate not believed.
    Tls,
    /// The other side speaks no TLS.
    NoTls,
    /// An answer that the protocol does not allow.
    Garbage,
    /// What was to be sent could not be read here.
    Source,
}

/// A failure of a request.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What it is.
    pub kind: Kind,
    /// What is told, in one line.
    pub message: String,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// For how long the registry asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, retry_after: None }
    }

    /// The failure with what the answer's `Retry-After` says.
    pub fn after(mut self, headers: &HeaderMap) -> Self {
        self.retry_after = retry_after(headers);
        if let Some(wait) = self.retry_after.filter(|it| !it.is_zero()) {
            self.message.push_str(&format!(" (it asks to wait {} s)", wait.as_secs()));
        }
        self
    }

    /// Whether the same request may work a little later.
    pub fn passes(&self) -> bool {
        matches!(self.kind, Kind::Busy | Kind::Broken)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Text from outside made safe to show: no control characters, no turned writing, not endless.
pub fn harmless(text: &str) -> String {
    const MOST: usize = 400;
    let mut safe = String::new();
    for it in text.trim().chars() {
        if safe.len() >= MOST {
            safe.push_str("...");
            break;
        }
        let turns =
            matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if it.is_control() || turns {
            safe.extend(it.escape_default());
        } else {
            safe.push(it);
        }
    }
    safe
}

/// What a registry says in the body of a refusal (distribution-spec, "Error Codes"): the codes and messages,
/// or the beginning of whatever else it said.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: serde_json::Value,
        message: Option<String>,
        #[serde(default)]
        detail: serde_json::Value,
    }
    // Token servers and gateways.
    #[derive(Deserialize)]
    struct Other {
        #[serde(alias = "details", alias = "error_description", alias = "error", alias = "detail")]
        message: String,
    }
    if let Ok(errors) = serde_json::from_slice::<Errors>(body)
        && !errors.errors.is_empty()
    {
        let told = errors.errors.iter().take(3).map(|one| {
            let code = one.code.as_str().map_or_else(|| one.code.to_string(), str::to_owned);
            let message = one.message.as_deref().filter(|it| !it.is_empty()).map(|it| format!(": {it}"));
            let detail = one.detail.as_str().filter(|it| !it.is_empty()).map(|it| format!(" ({it})"));
            harmless(&format!("{code}{}{}", message.unwrap_or_default(), detail.unwrap_or_default()))
        });
        return told.collect::<Vec<_>>().join("; ");
    }
    if let Ok(other) = serde_json::from_slice::<Other>(body) {
        return harmless(&other.message);
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(400)]);
    // A page made for a browser tells a reader of a line nothing.
    if text.trim_start().starts_with('<') { String::new() } else { harmless(&text) }
}

/// A status that was not hoped for. `what` was asked of `host`, whose credentials are called `login`.
pub fn of_status(what: &str, host: &str, login: &str, status: StatusCode, body: &[u8]) -> Failure {
    let kind = match status.as_u16() {
        401 => Kind::Unauthorized,
        403 => Kind::Denied,
        404 => Kind::NotFound,
        413 => Kind::TooLarge,
        408 | 429 | 500 | 502 | 503 | 504 => Kind::Busy,
        _ => Kind::Status,
    };
    let help = match kind {
        // Docker Hub says so, too, of what does not exist.
        Kind::Unauthorized => format!("; check the name, and if it needs a login: bundle login {login}"),
        Kind::Denied => format!("; the account may lack the right to it: bundle login {login} with one that has it"),
        Kind::NotFound => "; check the name and the tag".to_owned(),
        Kind::Busy if status.as_u16() == 429 => format!("; wait, or log in for a higher limit: bundle login {login}"),
        Kind::Busy => "; try again later".to_owned(),
        _ => String::new(),
    };
    let said = said(body);
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let message = format!("{what}: {host} answered {status}{said}{help}");
    Failure { status: Some(status.as_u16()), ..Failure::new(kind, message) }
}

/// A request without an answer. `secure`: it was for https.
pub fn of_transport(what: &str, host: &str, error: ureq::Error) -> Failure {
    use std::io::ErrorKind;
    let (kind, why) = match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            (Kind::Unreachable, "no connection in time; check the name and the network".to_owned())
        }
        ureq::Error::Timeout(_) => (Kind::Broken, "nothing came for too long; try again".to_owned()),
        ureq::Error::HostNotFound => {
            (Kind::Unreachable, "there is no such host; check the name and the network".to_owned())
        }
        ureq::Error::ConnectionFailed => (Kind::Unreachable, "no connection; check the network".to_owned()),
        ureq::Error::ConnectProxyFailed(why) => {
            (Kind::Unreachable, format!("the proxy refused ({}); check HTTPS_PROXY and NO_PROXY", harmless(&why)))
        }
        ureq::Error::InvalidProxyUrl => (Kind::Unreachable, "HTTPS_PROXY or HTTP_PROXY is no URL".to_owned()),
        ureq::Error::Rustls(error) => of_tls(host, &error),
        ureq::Error::Io(error) => match tls_error(&error) {
            Some(tls) => of_tls(host, tls),
            None => match error.kind() {
                ErrorKind::ConnectionRefused => {
                    (Kind::Unreachable, "connection refused; is the registry running, is the port right?".to_owned())
                }
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
                    (Kind::Unreachable, format!("{error}; check the network"))
                }
                // The resolver's errors have no kind of their own.
                _ if error.to_string().contains("lookup address") => {
                    (Kind::Unreachable, "there is no such host; check the name and the network".to_owned())
                }
                _ => (Kind::Broken, format!("the connection broke ({error}); try again")),
            },
        },
        ureq::Error::LargeResponseHeader(..) => (Kind::Garbage, "the answer's header is too large".to_owned()),
        other => {
            (Kind::Garbage, format!("the answer is no HTTP that is understood ({})", harmless(&other.to_string())))
        }
    };
    Failure::new(kind, format!("{what}: {host}: {why}"))
}

/// Finds rustls' error within those that wrap it.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let mut inner: &(dyn std::error::Error + 'static) = error.get_ref()?;
    loop {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        inner = match inner.downcast_ref::<std::io::Error>() {
            Some(io) => io.get_ref()?,
            None => inner.source()?,
        };
    }
}

fn of_tls(host: &str, error: &rustls::Error) -> (Kind, String) {
    use rustls::CertificateError as Bad;
    let file = format!("/etc/docker/certs.d/{host}/ca.crt");
    match error {
        rustls::Error::InvalidMessage(_) => (
            Kind::NoTls,
            format!(
                "it answers, but not with TLS; if plain http is wanted: --tls-verify=false, or insecure = true under [registry.{host:?}] in registries.toml"
            ),
        ),
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => (
            Kind::Tls,
            format!(
                "its certificate is signed by an authority unknown here; put the authority's certificate in {file}, or name it as ca under [registry.{host:?}] in registries.toml"
            ),
        ),
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            (Kind::Tls, "its certificate is for another name; use the name that stands in it".to_owned())
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            (Kind::Tls, "its certificate has expired; check this machine's clock, or renew it there".to_owned())
        }
        rustls::Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            (Kind::Tls, "its certificate is not valid yet; check this machine's clock".to_owned())
        }
        rustls::Error::AlertReceived(alert) => (
            Kind::Tls,
            format!(
                "it ended the TLS handshake ({alert:?}); if it asks for a certificate, put client.cert and client.key beside {file}"
            ),
        ),
        other => (Kind::Tls, format!("TLS failed ({})", harmless(&other.to_string()))),
    }
}

/// How long the registry asks to be left alone (RFC 9110, section 10.2.3): seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    let wait = date.timestamp().duration_since(jiff::Timestamp::now());
    Some(wait.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_whatever_the_registry_says() {
        let told = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            of_status("manifest of h.x/a:b", "h.x", "h.x", status, body.as_bytes()).to_string()
        };
        assert_eq!(
            told(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"b"}}]}"#),
            "manifest of h.x/a:b: h.x answered 404 Not Found: MANIFEST_UNKNOWN: manifest unknown; check the name and the tag"
        );
        assert!(told(401, "").ends_with("401 Unauthorized; check the name, and if it needs a login: bundle login h.x"));
        assert!(told(403, r#"{"details":"incorrect username or password"}"#).contains(": incorrect username"));
        assert!(!told(502, "<html>\nBad gateway</html>").contains("html"));
        for hostile in [
            "{\"errors\":[{\"code\":\"\\u001b[2J\",\"message\":\"a\\nb\"}]}",
            "\u{1b}]0;x\u{7}\r\nb",
            r#"{"errors":[{"code":{"x":[1]},"message":null}]}"#,
            r#"{"errors":[]}"#,
            r#"{"errors":{}}"#,
            "\u{202e}gnp",
            &"x".repeat(100_000),
            "\u{0}\u{ff}",
        ] {
            let line = told(400, hostile);
            assert!(!line.chars().any(|it| it.is_control() || it == '\u{202e}'), "{line:?}");
            assert!(line.len() < 1500, "{}", line.len());
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        let ahead = read("Wed, 21 Oct 2099 07:28:00 GMT").unwrap();
        assert!(ahead > Duration::from_secs(1 << 20), "{ahead:?}");
        for bad in ["-1", "soon", "", "99999999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
