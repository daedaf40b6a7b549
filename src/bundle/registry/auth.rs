//! How a registry is shown that it may answer: challenges (RFC 9110, section 11) and the tokens that Docker's
//! token servers give (distribution's "Token Authentication Specification").

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use ureq::http::{HeaderMap, Uri, header};

use super::credentials::Credential;
use super::error::{Failure, Kind, harmless};

/// The longest challenge that is read, in bytes.
const MOST_CHALLENGE: usize = 16 << 10;
/// The longest token that is taken, in bytes.
const MOST_TOKEN: usize = 48 << 10;
/// How long a token holds if the server does not say, in seconds (the specification's default).
const USUAL_LIFE: u64 = 60;

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
        /// What the token must be for.
        scope: Option<String>,
    },
}

/// Reads every `WWW-Authenticate` of an answer. What is not understood is left out.
pub fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        // Go's server sends what it was configured with: not ASCII only.
        if value.len() <= MOST_CHALLENGE
            && let Ok(text) = std::str::from_utf8(value.as_bytes())
        {
            found.extend(parse(text));
        }
    }
    found
}

/// `scheme name=value, name="value", scheme ...`: a comma parts parameters and challenges alike, so that only
/// the `=` behind a word tells which it is.
fn parse(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, HashMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|it: char| !is_token(it)).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        let word = rest[..end].to_ascii_lowercase();
        let after = rest[end..].trim_start_matches([' ', '\t']);
        match (after.strip_prefix('='), found.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let Some((value, behind)) = parameter(value.trim_start_matches([' ', '\t'])) else { break };
                // The first of two counts: a second could only be smuggled in.
                parameters.entry(word).or_insert(value);
                rest = behind;
            }
            (Some(_), None) => break,
            (None, _) => {
                found.push((word, HashMap::new()));
                rest = after;
            }
        }
    }
    let known = found.into_iter().filter_map(|(scheme, mut parameters)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope").filter(|it| !it.is_empty()),
        }),
        _ => None,
    });
    known.collect()
}

fn is_token(it: char) -> bool {
    it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(it)
}

/// A token or a quoted text, and what is behind it. `None` if the quotes are not closed.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, it)) = characters.next() {
        match it {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(it),
        }
    }
    None
}

/// What a token server answers.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Reads a token server's answer: the `Authorization` to send, and for how long it holds.
pub fn token(body: &[u8]) -> Result<(String, Duration), Failure> {
    let wrong = |why: &str| Failure::new(Kind::Garbage, format!("the token server's answer {why}"));
    let given: Given = serde_json::from_slice(body).map_err(|_| wrong("is not what was expected"))?;
    let token = given.token.filter(|it| !it.is_empty()).or(given.access_token).unwrap_or_default();
    if token.is_empty() {
        return Err(wrong("holds no token"));
    }
    if token.len() > MOST_TOKEN || !token.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(wrong("holds a token that cannot be sent"));
    }
    // Docker, too, takes anything shorter for an old server's habit.
    let life = given.expires_in.unwrap_or(USUAL_LIFE).clamp(USUAL_LIFE, 24 * 3600);
    Ok((format!("Bearer {token}"), Duration::from_secs(life)))
}

/// What a token server is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Where.
    pub uri: Uri,
    /// The `Authorization` to send.
    pub authorization: Option<String>,
    /// The body of a POST; without it, a GET.
    pub form: Option<String>,
}

/// Makes the question for a token. `secure`: the registry itself is spoken to by TLS, so that its token server
/// must be, too.
pub fn token_request(
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
    secure: bool,
) -> Result<TokenRequest, Failure> {
    let wrong = |why: &str| {
        Failure::new(Kind::Garbage, format!("the registry sends to a token server at {:?}: {why}", harmless(realm)))
    };
    let uri: Uri = realm.parse().map_err(|_| wrong("that is no URL"))?;
    let authority = uri.authority().ok_or_else(|| wrong("that is no URL"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if !secure => {}
        Some("http") => {
            return Err(wrong("plain http, though the registry itself is on https; nothing was sent there"));
        }
        _ => return Err(wrong("neither http nor https")),
    }
    if authority.as_str().contains('@') {
        return Err(wrong("a name stands in it"));
    }
    let mut query = String::new();
    let mut pair = |name: &str, value: &str| {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&format!("{name}={}", encode(value)));
    };
    if let Some(service) = service {
        pair("service", service);
    }
    if let Some(Credential::IdentityToken(token)) = credential {
        // One scope parameter with spaces: what OAuth 2 has.
        pair("scope", &scopes.join(" "));
        pair("grant_type", "refresh_token");
        pair("client_id", "bundle");
        pair("refresh_token", token);
        return Ok(TokenRequest { uri, authorization: None, form: Some(query) });
    }
    for scope in scopes {
        pair("scope", scope);
    }
    if let Some(Credential::Basic { user, .. }) = credential {
        pair("account", user);
    }
    let path = uri.path();
    let query = match uri.query().filter(|it| !it.is_empty()) {
        Some(before) => format!("{before}&{query}"),
        None => query,
    };
    let uri = format!("{}://{authority}{path}?{query}", uri.scheme_str().unwrap_or("https"));
    let uri = uri.parse().map_err(|_| wrong("too long"))?;
    Ok(TokenRequest { uri, authorization: credential.and_then(basic), form: None })
}

/// The `Authorization` of Basic authentication (RFC 7617).
pub fn basic(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Basic { user, password } => {
            Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
        }
        _ => None,
    }
}

/// Percent-encodes all that is not unreserved (RFC 3986, section 2.3).
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte as char);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What has been granted, by registry and scopes, for as long as it holds.
#[derive(Default)]
pub struct Granted(Mutex<HashMap<(String, String), (String, Instant)>>);

impl Granted {
    /// The `Authorization` to send, if there is one that holds a little longer.
    pub fn get(&self, origin: &str, scopes: &[String]) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (authorization, until) = all.get(&(origin.to_owned(), scopes.join(" ")))?;
        (Instant::now() < *until).then(|| authorization.clone())
    }

    /// Remembers one.
    pub fn put(&self, origin: &str, scopes: &[String], authorization: &str, life: Duration) {
        // A request takes time to arrive.
        let until = Instant::now() + life.saturating_sub(Duration::from_secs(10));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((origin.to_owned(), scopes.join(" ")), (authorization.to_owned(), until));
    }

    /// Forgets one that was refused, unless another thread has put a new one in its place.
    pub fn forget(&self, origin: &str, scopes: &[String], refused: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (origin.to_owned(), scopes.join(" "));
        if all.get(&key).is_some_and(|(authorization, _)| authorization == refused) {
            all.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned), scope: scope.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read_as_they_come() {
        let whole = bearer("https://a.x/token", Some("r.x"), Some("repository:a/b:pull,push"));
        for (text, expected) in [
            (r#"Bearer realm="https://a.x/token",service="r.x",scope="repository:a/b:pull,push""#, vec![whole.clone()]),
            (
                r#"bearer Realm = "https://a.x/token" , SERVICE=r.x,scope="repository:a/b:pull,push",error="x""#,
                vec![whole.clone()],
            ),
            (r#"Basic realm="a, b=c", Bearer realm="t""#, vec![Challenge::Basic, bearer("t", None, None)]),
            ("Basic", vec![Challenge::Basic]),
            ("Negotiate, Basic realm=x", vec![Challenge::Basic]),
            ("Negotiate abc==, Basic realm=x", vec![Challenge::Basic]),
            (r#"Digest realm="x", nonce="Bearer realm=y""#, vec![]),
            (r#"Bearer realm="a\"b\\c""#, vec![bearer("a\"b\\c", None, None)]),
            (r#"Bearer realm="t",realm="evil",scope="""#, vec![bearer("t", None, None)]),
            ("Bearer service=x", vec![]),
            ("", vec![]),
            (",,, ,", vec![]),
            ("=", vec![]),
            ("realm=x", vec![]),
            ("Bearer realm=\"open", vec![]),
            ("Bearer realm=\"a\\", vec![]),
            ("Bearer \u{e4}=\"x\"", vec![]),
            ("\"\"\"", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn hostile_challenges_end() {
        for text in ["Basic ".repeat(2000), "a=".repeat(8000), "\"".repeat(16000), "Bearer a=b,".repeat(1000)] {
            let _ = parse(&text);
        }
        let mut headers = HeaderMap::new();
        let long = format!("Bearer realm=\"{}\"", "x".repeat(MOST_CHALLENGE));
        headers.append(header::WWW_AUTHENTICATE, long.parse().unwrap());
        headers.append(header::WWW_AUTHENTICATE, "Basic".parse().unwrap());
        assert_eq!(challenges(&headers), [Challenge::Basic]);
    }

    #[test]
    fn a_token_server_is_asked_as_it_expects() {
        let user = Credential::Basic { user: "a b".into(), password: "secret".into() };
        let scopes = ["repository:a/b:pull".to_owned(), "repository:c:pull".to_owned()];
        let asked = token_request("https://t.x/token?x=1", Some("r x"), &scopes, Some(&user), true).unwrap();
        assert_eq!(
            asked.uri.to_string(),
            "https://t.x/token?x=1&service=r%20x&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull&account=a%20b"
        );
        assert_eq!(asked.authorization.as_deref(), Some("Basic YSBiOnNlY3JldA=="));
        let token = Credential::IdentityToken("s&t".into());
        let asked = token_request("https://t.x/token", None, &scopes[..1], Some(&token), true).unwrap();
        assert_eq!(asked.authorization, None);
        assert_eq!(
            asked.form.as_deref(),
            Some("scope=repository%3Aa%2Fb%3Apull&grant_type=refresh_token&client_id=bundle&refresh_token=s%26t")
        );
        for (realm, secure) in [
            ("http://t.x/", true),
            ("ftp://t.x/", false),
            ("t.x", false),
            ("/t", true),
            ("https://u:p@t.x/", true),
            ("", true),
        ] {
            let error = token_request(realm, None, &scopes, Some(&user), secure).unwrap_err();
            assert!(!error.message.contains("secret"), "{error}");
        }
        assert!(token_request("http://t.x/", None, &scopes, None, false).is_ok());
    }

    #[test]
    fn answers_of_token_servers_are_bounded() {
        assert_eq!(token(br#"{"token":"a"}"#).unwrap(), ("Bearer a".into(), Duration::from_mins(1)));
        assert_eq!(token(br#"{"access_token":"b","expires_in":300}"#).unwrap().1, Duration::from_mins(5));
        assert_eq!(token(br#"{"token":"a","expires_in":99999999999}"#).unwrap().1, Duration::from_hours(24));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"token":""}"#,
            r#"{"token":"a\r\nb"}"#,
            r#"{"token":1}"#,
            r#"{"token":"a","expires_in":-1}"#,
        ] {
            assert!(token(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(token(format!("{{\"token\":\"{}\"}}", "x".repeat(MOST_TOKEN + 1)).as_bytes()).is_err());
    }

    #[test]
    fn what_was_granted_ends() {
        let granted = Granted::default();
        let scopes = ["a".to_owned()];
        granted.put("https://h", &scopes, "Bearer x", Duration::from_mins(1));
        granted.put("https://i", &scopes, "Bearer y", Duration::from_secs(5));
        assert_eq!(granted.get("https://h", &scopes).as_deref(), Some("Bearer x"));
        assert_eq!(granted.get("https://i", &scopes), None);
        assert_eq!(granted.get("https://h", &[]), None);
        granted.forget("https://h", &scopes, "Bearer before");
        assert!(granted.get("https://h", &scopes).is_some(), "what is newer stays");
        granted.forget("https://h", &scopes, "Bearer x");
        assert_eq!(granted.get("https://h", &scopes), None);
    }
}
