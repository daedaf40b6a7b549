//! URLs as headers give them: `Location`, `Link`, `Content-Range`.

use ureq::http::Uri;

/// The URL that a reference in an answer from `base` means (RFC 3986, section 5.2, without dot segments, which
/// servers resolve themselves). `None` if it is none.
pub fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let absolute =
        |text: &str| text.split_once("://").is_some_and(|(it, _)| it.bytes().all(|it| it.is_ascii_alphanumeric()));
    let text = if absolute(reference) {
        reference.to_owned()
    } else if let Some(rest) = reference.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.starts_with('?') {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else if reference.is_empty() {
        return None;
    } else {
        let directory = base.path().rfind('/').map_or("/", |at| &base.path()[..=at]);
        format!("{scheme}://{authority}{directory}{reference}")
    };
    let uri: Uri = text.parse().ok()?;
    // Whom a name in a URL is meant for, nobody can say.
    let plain = uri.authority().is_some_and(|it| !it.as_str().contains('@') && !it.host().is_empty());
    (plain && matches!(uri.scheme_str(), Some("http" | "https"))).then_some(uri)
}

/// Scheme, host and port: what secrets are bound to.
pub fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    format!("{scheme}://{}:{port}", uri.host().unwrap_or_default().to_ascii_lowercase())
}

/// A URL with one more `name=value` in its query; the value is encoded already.
pub fn with_query(uri: &Uri, pair: &str) -> Option<Uri> {
    let joint = match uri.query() {
        None => "?",
        Some("") => "",
        Some(_) => "&",
    };
    format!("{uri}{joint}{pair}").parse().ok()
}

/// The target of `rel="next"` in a `Link` header (RFC 8288).
pub fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, behind) = rest.split_once('<')?;
        let (target, behind) = behind.split_once('>')?;
        let (parameters, following) = match behind.find('<') {
            Some(at) => behind.split_at(at),
            None => (behind, ""),
        };
        let next = parameters.split([';', ',']).any(|it| {
            let (name, value) = it.split_once('=').unwrap_or_default();
            let relations = value.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && relations.split(' ').any(|it| it.eq_ignore_ascii_case("next"))
        });
        if next {
            return Some(target);
        }
        rest = following;
    }
}

/// Reads `bytes FIRST-LAST/WHOLE`: first, last, and the whole size if it is told.
pub fn content_range(header: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, whole) = header.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let whole = if whole == "*" { None } else { Some(number(whole)?) };
    (first <= last && whole.is_none_or(|whole| last < whole)).then_some((first, last, whole))
}

/// Reads the `Range: [bytes=]0-LAST` of an upload's status: how many bytes the registry has. Docker's registry
/// says `0-0` for none as for one byte: then none is the safe answer.
pub fn upload_range(header: &str) -> Option<u64> {
    let (first, last) = header.trim().trim_start_matches("bytes=").split_once('-')?;
    let last = number(last)?;
    (number(first)? == 0).then(|| if last == 0 { 0 } else { last.saturating_add(1) })
}

/// Digits only: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_against_the_request() {
        let base: Uri = "https://h.x:5000/v2/a/blobs/uploads/?x=1".parse().unwrap();
        let told = |text: &str| resolve(&base, text).map(|it| it.to_string());
        for (text, expected) in [
            ("/v2/a/1?_state=x%2Fy", Some("https://h.x:5000/v2/a/1?_state=x%2Fy")),
            ("https://o.y/z", Some("https://o.y/z")),
            ("//o.y/z", Some("https://o.y/z")),
            ("id", Some("https://h.x:5000/v2/a/blobs/uploads/id")),
            ("?y=2", Some("https://h.x:5000/v2/a/blobs/uploads/?y=2")),
            ("/x#fragment", Some("https://h.x:5000/x")),
            ("", None),
            ("ftp://o.y/", None),
            ("https://u:p@o.y/", None),
            ("https://", None),
            ("https:///x", None),
            ("/a b", None),
            ("/a\u{0}", None),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(told(text).as_deref(), expected, "{text}");
        }
        let with = |text: &str| with_query(&text.parse().unwrap(), "digest=d").unwrap().to_string();
        assert_eq!(with("https://h/a?_state=x%3D"), "https://h/a?_state=x%3D&digest=d");
        assert_eq!(with("https://h/a"), "https://h/a?digest=d");
    }

    #[test]
    fn origins_tell_hosts_ports_and_schemes_apart() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("https://H.x/a"), of("https://h.X:443/b"));
        for other in ["http://h.x/", "https://h.x:444/", "https://i.h.x/", "http://h.x:443/"] {
            assert_ne!(of("https://h.x/"), of(other));
        }
        assert_ne!(of("http://[::1]:5000/"), of("http://127.0.0.1:5000/"));
    }

    #[test]
    fn no_header_does_harm() {
        let base: Uri = "https://h.x/v2/".parse().unwrap();
        let alphabet: Vec<char> = "<>;,=\"/:?#@%&.-0129*[] relnxtbyshp\u{e4}\u{0}\n".chars().collect();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let text: String = (0..24)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    alphabet[(state >> 33) as usize % alphabet.len()]
                })
                .collect();
            if let Some(uri) = resolve(&base, &text) {
                assert!(uri.host().is_some_and(|it| !it.is_empty()), "{text:?}");
                assert!(with_query(&uri, "digest=x").is_some(), "{text:?}");
            }
            let _ = (next_link(&text), content_range(&text), upload_range(&text));
        }
    }

    #[test]
    fn headers_are_read_strictly() {
        for (text, expected) in [
            ("</v2/a/tags/list?last=x&n=2>; rel=\"next\"", Some("/v2/a/tags/list?last=x&n=2")),
            ("<a>; rel=prev, <b>; title=x; REL=next", Some("b")),
            ("<a>; rel=\"last next\"", Some("a")),
            ("<a>", None),
            ("<a; rel=next", None),
            ("a; rel=next", None),
            ("", None),
            (">< rel=next", None),
        ] {
            assert_eq!(next_link(text), expected, "{text}");
        }
        assert_eq!(next_link(&"<".repeat(10_000)), None);
        for (text, expected) in [
            ("bytes 0-9/10", Some((0, 9, Some(10)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes 0-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes -5/10", None),
            ("bytes +0-9/10", None),
            ("bytes 0-99999999999999999999/*", None),
            ("octets 0-9/10", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
        for (text, expected) in [
            ("0-9", Some(10)),
            ("bytes=0-9", Some(10)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("x", None),
            ("-1", None),
            ("0-18446744073709551615", Some(u64::MAX)),
        ] {
            assert_eq!(upload_range(text), expected, "{text}");
        }
    }
}
