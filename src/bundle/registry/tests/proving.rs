//! Tokens and passwords: who gets them, and who does not.

use std::sync::Arc;

use super::super::{Credential, Credentials};
use super::faults::{Fault, Faults, Request, Response, Rule, Upstream, start};
use super::*;

fn made(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Faults {
    start("127.0.0.1:0", Upstream::Made(Arc::new(answer)), vec![]).unwrap()
}

/// A token server that gives `token` to whom sends `authorization`, else what `other` is.
fn token_server(token: &'static str) -> Faults {
    made(move |_| Response::new(200, &[], format!(r#"{{"token":"{token}","expires_in":300}}"#)))
}

/// A registry that wants the token `good` from a server.
fn guarded(realm: String) -> Faults {
    made(move |request| {
        if request.header("authorization") == Some("Bearer good") {
            return Response::new(200, &[], "bytes");
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"repository:a/b:pull\"");
        Response::new(401, &[("WWW-Authenticate", &challenge)], r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
    })
}

fn user() -> Credential {
    Credential::Basic { user: "user".into(), password: "secret".into() }
}

/// A client whose credentials are in a directory that stays until the end of the test.
fn with(host: &str, credential: &Credential) -> (Client, Scratch) {
    let scratch = Scratch::new();
    let credentials = Credentials::in_file(scratch.0.join("config.json"));
    credentials.login(host, credential).unwrap();
    let settings =
        Settings { verify: Some(false), limits: limits(), credentials: Some(credentials), ..Settings::default() };
    (Client::new(settings), scratch)
}

#[test]
fn a_token_is_fetched_once_and_used_again() {
    let tokens = token_server("good");
    let registry = guarded(format!("http://{}/token?x=1", tokens.host()));
    let (client, _files) = with(&registry.host(), &user());
    let reference = name(&registry.host(), "a/b:c");
    for _ in 0..3 {
        client.manifest(&reference).unwrap();
    }
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/token?x=1&service=here&scope=repository%3Aa%2Fb%3Apull&account=user");
    assert_eq!(asked[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    let sent: Vec<_> = registry.seen().iter().map(|it| it.header("authorization").map(str::to_owned)).collect();
    let refused = sent.iter().filter(|it| it.is_none()).count();
    assert!(refused <= 2 && sent.iter().flatten().all(|it| it == "Bearer good"), "the password stays away: {sent:?}");
}

#[test]
fn anyone_may_ask_for_a_token() {
    let tokens = token_server("good");
    let registry = guarded(format!("http://{}/", tokens.host()));
    let client = plain();
    client.manifest(&name(&registry.host(), "a/b:c")).unwrap();
    assert_eq!(tokens.seen()[0].header("authorization"), None);
}

#[test]
fn an_identity_token_goes_in_a_form() {
    let tokens = made(|_| Response::new(200, &[], r#"{"access_token":"good"}"#));
    let registry = guarded(format!("http://{}/token", tokens.host()));
    let (client, _files) = with(&registry.host(), &Credential::IdentityToken("secret&x".into()));
    client.manifest(&name(&registry.host(), "a/b:c")).unwrap();
    let asked = &tokens.seen()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/token"));
    let body = String::from_utf8_lossy(&asked.body).into_owned();
    assert!(body.contains("grant_type=refresh_token") && body.contains("refresh_token=secret%26x"), "{body}");
    // Sent on elsewhere, it stays here.
    let other = made(|_| Response::new(200, &[], r#"{"access_token":"good"}"#));
    tokens.plan(vec![Rule::new("", "", 9, Fault::Redirect(format!("http://{}/", other.host())))]);
    let (client, _files) = with(&registry.host(), &Credential::IdentityToken("secret".into()));
    assert_eq!(failure(client.manifest(&name(&registry.host(), "a/b:c"))).0, Kind::Garbage);
    assert!(other.seen().is_empty());
}

#[test]
fn a_token_that_is_refused_is_asked_for_anew_once() {
    let tokens = token_server("good");
    let registry = guarded(format!("http://{}/", tokens.host()));
    let client = plain();
    let reference = name(&registry.host(), "a/b:c");
    client.manifest(&reference).unwrap();
    let before = tokens.seen().len();
    let challenge = format!("Bearer realm=\"http://{}/\"", tokens.host());
    registry.plan(vec![Rule::new(
        "",
        "/manifests/",
        1,
        Fault::Status(401, vec![("WWW-Authenticate".into(), challenge)], String::new()),
    )]);
    client.manifest(&reference).unwrap();
    assert_eq!(tokens.seen().len(), before + 1);
    tokens.plan(vec![Rule::new("", "", 99, Fault::Status(200, vec![], r#"{"token":"bad"}"#.into()))]);
    let (kind, told) = failure(plain().manifest(&reference));
    assert!(kind == Kind::Unauthorized && told.contains("bundle login"), "{told}");
    assert_eq!(tokens.seen().len(), before + 2, "no endless asking");
}

#[test]
fn token_servers_that_fail_are_told() {
    let tokens = token_server("good");
    let registry = guarded(format!("http://{}/", tokens.host()));
    let reference = name(&registry.host(), "a/b:c");
    for (fault, kind, words) in [
        (
            Fault::Status(401, vec![], r#"{"details":"incorrect password"}"#.into()),
            Kind::Unauthorized,
            "incorrect password",
        ),
        (Fault::Status(403, vec![], String::new()), Kind::Denied, "403"),
        (Fault::Status(503, vec![], String::new()), Kind::Busy, "503"),
        (Fault::Status(200, vec![], "<html>".into()), Kind::Garbage, "not what was expected"),
        (Fault::Status(200, vec![], r#"{"token":"a\nb: c"}"#.into()), Kind::Garbage, "cannot be sent"),
        (Fault::Status(200, vec![], "x".repeat(2 << 20)), Kind::Garbage, "more than 1048576 bytes"),
        (Fault::Silence, Kind::Broken, "for too long"),
        (Fault::Raw(b"x".to_vec()), Kind::Garbage, "no HTTP"),
    ] {
        tokens.plan(vec![Rule::new("", "", 99, fault)]);
        let (found, told) = failure(plain().manifest(&reference));
        assert!(found == kind && told.contains(words) && told.contains("a/b:c"), "{found:?} {told}");
    }
}

#[test]
fn hostile_challenges_get_nothing() {
    for challenge in [
        "Bearer realm=\"ftp://x/\"",
        "Bearer realm=\"http://user:password@127.0.0.1:1/\"",
        "Bearer realm=\"\"",
        "Bearer",
        "Negotiate",
        "Basic realm=\"x",
        "\u{1}",
    ] {
        let registry = made(|_| Response::new(200, &[], "bytes"));
        let headers = vec![("WWW-Authenticate".to_owned(), challenge.to_owned())];
        registry.plan(vec![Rule::new("", "/manifests/", 99, Fault::Status(401, headers, String::new()))]);
        let (client, _files) = with(&registry.host(), &user());
        let (kind, told) = failure(client.manifest(&name(&registry.host(), "a/b:c")));
        // A registry that wants a password gets its own.
        assert!(matches!(kind, Kind::Unauthorized | Kind::Garbage), "{challenge}: {kind:?} {told}");
    }
}

#[test]
fn another_host_sees_no_secret() {
    let other = made(|_| Response::new(200, &[], "bytes"));
    let home = made(|request| match request.header("authorization") {
        Some(_) => Response::new(200, &[], "bytes"),
        None => Response::new(401, &[("WWW-Authenticate", "Basic realm=x")], ""),
    });
    let (client, _files) = with(&home.host(), &user());
    let reference = name(&home.host(), "a/b:c");
    let descriptor = Descriptor::of(oci::LAYER, b"bytes");
    client.manifest(&reference).unwrap();
    home.plan(vec![Rule::new("GET", "/blobs/", 1, Fault::Redirect(format!("http://{}/cdn?signed=1", other.host())))]);
    assert_eq!(fetch(&client, &reference, &descriptor, 0).unwrap(), b"bytes");
    let seen = other.seen();
    assert_eq!(seen.last().unwrap().target, "/cdn?signed=1");
    assert!(seen.iter().all(|it| it.header("authorization").is_none() && it.header("cookie").is_none()), "{seen:?}");

    // Neither does one who asks for it, nor home when it is reached by way of another.
    home.plan(vec![Rule::new("GET", "/manifests/", 9, Fault::Redirect(format!("http://{}/ask", other.host())))]);
    for challenge in ["Basic".to_owned(), format!("Bearer realm=\"http://{}/token\"", other.host())] {
        let fault = Fault::Status(401, vec![("WWW-Authenticate".into(), challenge)], String::new());
        other.plan(vec![Rule::new("", "/ask", 9, fault)]);
        assert_eq!(failure(client.manifest(&reference)).0, Kind::Unauthorized);
        assert!(other.seen().iter().all(|it| it.target != "/token"), "its token server is not asked, either");
    }
    other.plan(vec![Rule::new("", "/back", 9, Fault::Redirect(format!("http://{}/stolen", home.host())))]);
    home.plan(vec![Rule::new("GET", "/manifests/", 9, Fault::Redirect(format!("http://{}/back", other.host())))]);
    let _ = client.manifest(&reference);
    assert!(other.seen().iter().all(|it| it.header("authorization").is_none()));
    let back = home.seen().into_iter().find(|it| it.target == "/stolen").expect("home is reached again");
    assert_eq!(back.header("authorization"), None);
}

#[test]
fn what_is_to_be_sent_goes_to_the_registry_only() {
    let other = made(|_| Response::new(201, &[], ""));
    let home = made(|_| Response::new(201, &[], ""));
    home.plan(vec![Rule::new("PUT", "", 9, Fault::Redirect(format!("http://{}/", other.host())))]);
    let (kind, told) = failure(plain().put_manifest(&name(&home.host(), "a:b"), oci::MANIFEST, b"{}"));
    assert!(kind == Kind::Garbage && told.contains("not followed"), "{told}");
    assert!(other.seen().is_empty());
}

/// The environment is the whole process's: the test runs itself again with another.
#[test]
fn proxies_of_the_environment_are_asked() {
    const SELF: &str = "registry::tests::proving::proxies_of_the_environment_are_asked";
    let reached = start("127.0.0.1:0", Upstream::Made(Arc::new(|_| Response::new(200, &[], "bytes"))), vec![]).unwrap();
    if let Ok(direct) = std::env::var("RT_BUNDLE_DIRECT") {
        let (kind, told) = failure(configured("").manifest(&name("registry.example", "a")));
        assert!(kind == Kind::Unreachable && told.contains("the proxy refused"), "{told}");
        plain().manifest(&name(&direct, "a")).unwrap();
        return;
    }
    let proxy = start("127.0.0.1:0", Upstream::Made(Arc::new(|_| Response::new(403, &[], "no"))), vec![]).unwrap();
    let result = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", SELF])
        .env("HTTPS_PROXY", format!("http://{}", proxy.host()))
        .env("HTTP_PROXY", format!("http://{}", proxy.host()))
        .env("NO_PROXY", "127.0.0.1")
        .env("RT_BUNDLE_DIRECT", reached.host())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&result.stdout).into_owned();
    assert!(result.status.success() && told.contains("1 passed"), "{told}");
    let asked: Vec<_> = proxy.seen().into_iter().map(|it| format!("{} {}", it.method, it.target)).collect();
    assert_eq!(asked, ["CONNECT registry.example:443"]);
    assert!(reached.seen().iter().any(|it| it.target == "/v2/a/manifests/latest"), "past the proxy");
}
