//! Pushing through what breaks.

use super::faults::{Fault, Faults, Request, Response, Rule, Upstream, start};
use super::*;

const SIZE: usize = 2_000_000;

fn between(registry: &Registry, plan: Vec<Rule>) -> Faults {
    start("127.0.0.1:0", Upstream::At(registry.address()), plan).unwrap()
}

fn chunked(chunk: Option<u64>) -> Client {
    Client::new(Settings { verify: Some(false), limits: Limits { chunk, ..limits() }, ..Settings::default() })
}

fn busy(status: u16) -> Fault {
    Fault::Status(status, vec![("Retry-After".into(), "0".into())], String::new())
}

#[test]
fn breaks_are_survived_and_the_registry_has_the_right_bytes() {
    let registry = Registry::start();
    let bytes = noise(SIZE);
    let piece = Some(300_000);
    for (at, (chunk, plan)) in [
        (None, vec![Rule::new("PUT", "/uploads/", 1, Fault::BreakRequest(700_000))]),
        (None, vec![Rule::new("PUT", "/uploads/", 1, Fault::LoseAnswer)]),
        (None, vec![Rule::new("PUT", "/uploads/", 2, busy(503))]),
        (None, vec![Rule::new("PUT", "/uploads/", 1, busy(413))]),
        (None, vec![Rule::new("POST", "/uploads/", 2, busy(429))]),
        (None, vec![Rule::new("POST", "/uploads/", 1, Fault::BreakAfter(0))]),
        (piece, vec![]),
        (piece, vec![Rule { pass: 2, ..Rule::new("PATCH", "", 1, Fault::BreakRequest(1000)) }]),
        (piece, vec![Rule { pass: 2, ..Rule::new("PATCH", "", 1, Fault::LoseAnswer) }]),
        (piece, vec![Rule { pass: 1, ..Rule::new("PATCH", "", 1, busy(500)) }]),
        (piece, vec![Rule { pass: 3, ..Rule::new("PATCH", "", 1, Fault::Silence) }]),
        (piece, vec![Rule::new("PUT", "", 1, Fault::LoseAnswer)]),
        (piece, vec![Rule::new("PATCH", "", 1, Fault::LoseAnswer), Rule::new("GET", "/uploads/", 1, busy(404))]),
    ]
    .into_iter()
    .enumerate()
    {
        let told = format!("{chunk:?} {plan:?}");
        let server = between(&registry, plan);
        let client = chunked(chunk);
        let reference = name(&server.host(), &format!("a{at}"));
        let descriptor = upload(&client, &reference, &bytes).unwrap_or_else(|error| panic!("{told}: {error:#}"));
        assert!(fetch(&client, &reference, &descriptor, 0).unwrap() == bytes, "{told}: other bytes");
    }
}

#[test]
fn a_registry_that_forgets_each_time_is_given_up() {
    let forgetful = |request: &Request| match request.method.as_str() {
        "POST" => Response::new(202, &[("Location", "/uploads/1")], ""),
        "PATCH" if request.header("content-range").is_some_and(|it| it.starts_with("0-")) => {
            Response::new(202, &[], "")
        }
        "PATCH" => Response::new(500, &[], ""),
        _ => Response::new(404, &[], ""),
    };
    let server = start("127.0.0.1:0", Upstream::Made(std::sync::Arc::new(forgetful)), vec![]).unwrap();
    let (kind, _) = failure(upload(&chunked(Some(1000)), &name(&server.host(), "a"), &noise(3000)));
    assert_eq!(kind, Kind::Busy);
    assert!(course(&server.seen()).len() < 30, "{:?}", course(&server.seen()));
}

/// The requests of an upload, shortly.
fn course(seen: &[Request]) -> Vec<String> {
    let told = seen
        .iter()
        .filter(|it| it.target.contains("/uploads/"))
        .map(|it| format!("{} {}", it.method, it.header("content-range").unwrap_or_default()).trim_end().to_owned());
    told.collect()
}

#[test]
fn an_upload_goes_on_where_the_registry_says() {
    let registry = Registry::start();
    let bytes = noise(1_000_000);
    // Broken before the registry got anything of the third piece.
    let plan = vec![Rule { pass: 2, ..Rule::new("PATCH", "", 1, Fault::Raw(Vec::new())) }];
    let server = between(&registry, plan);
    let reference = name(&server.host(), "a");
    upload(&chunked(Some(400_000)), &reference, &bytes).unwrap();
    assert_eq!(
        course(&server.seen()),
        ["POST", "PATCH 0-399999", "PATCH 400000-799999", "PATCH 800000-999999", "GET", "PATCH 800000-999999", "PUT"]
    );
}

#[test]
fn a_blob_whose_answer_was_lost_is_not_sent_again() {
    let registry = Registry::start();
    let server = between(&registry, vec![Rule::new("PUT", "/uploads/", 1, Fault::LoseAnswer)]);
    upload(&plain(), &name(&server.host(), "a"), &noise(1000)).unwrap();
    assert_eq!(course(&server.seen()), ["POST", "PUT", "GET"]);
}

#[test]
fn the_least_piece_of_the_registry_is_kept_to() {
    let registry = Registry::start();
    let plan = vec![Rule::new("POST", "", 1, Fault::Header("OCI-Chunk-Min-Length".into(), "700000".into()))];
    let server = between(&registry, plan);
    upload(&chunked(Some(1000)), &name(&server.host(), "a"), &noise(1_000_000)).unwrap();
    assert_eq!(course(&server.seen()), ["POST", "PATCH 0-699999", "PATCH 700000-999999", "PUT"]);
}

#[test]
fn what_does_not_pass_ends_with_a_reason() {
    let registry = Registry::start();
    let location = |value: &str| vec![Rule::new("POST", "", 9, Fault::Header("Location".into(), value.into()))];
    for (chunk, plan, kind, words) in [
        (None, vec![Rule::new("PUT", "", 99, Fault::BreakRequest(10))], Kind::Broken, "broke"),
        (None, vec![Rule::new("", "/uploads/", 99, busy(503))], Kind::Busy, "503"),
        (None, vec![Rule::new("POST", "", 9, busy(403))], Kind::Denied, "bundle login"),
        (None, vec![Rule::new("PUT", "", 9, busy(400))], Kind::Status, "400"),
        (None, location(""), Kind::Garbage, "no place to upload to"),
        (None, location("ftp://x/"), Kind::Garbage, "no place to upload to"),
        (None, location("http://user@x/"), Kind::Garbage, "no place to upload to"),
        (
            Some(1000),
            vec![Rule::new("PATCH", "", 9, Fault::Header("Range".into(), "0-5000".into()))],
            Kind::Garbage,
            "it has 5001",
        ),
        (
            None,
            vec![Rule::new("PUT", "", 9, Fault::Header("Docker-Content-Digest".into(), Digest::of(b"x").to_string()))],
            Kind::Garbage,
            "calls it",
        ),
    ] {
        let told = format!("{plan:?}");
        let server = between(&registry, plan);
        let begun = std::time::Instant::now();
        // Other bytes each time, lest the registry has them.
        let bytes = [told.as_bytes(), &noise(100_000)].concat();
        let (found, line) = failure(upload(&chunked(chunk), &name(&server.host(), "a"), &bytes));
        assert!(found == kind && line.contains(words), "{told}: {found:?} {line}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{told}");
        assert!(server.seen().len() < 40, "{told}: {} requests", server.seen().len());
    }
}

#[test]
fn a_manifest_is_put_again_after_a_lost_answer() {
    let registry = Registry::start();
    let server = between(&registry, vec![]);
    let reference = name(&server.host(), "a:b");
    let client = plain();
    push(&client, &reference, b"layer");
    let bytes = client.manifest(&reference).unwrap().bytes;
    for fault in [Fault::LoseAnswer, busy(502), Fault::BreakRequest(5)] {
        server.plan(vec![Rule::new("PUT", "/manifests/", 1, fault)]);
        assert_eq!(client.put_manifest(&reference, oci::MANIFEST, &bytes).unwrap(), Digest::of(&bytes));
    }
    server.plan(vec![Rule::new("PUT", "/manifests/", 9, busy(400))]);
    assert_eq!(failure(client.put_manifest(&reference, oci::MANIFEST, &bytes)).0, Kind::Status);
    let other = name(&server.host(), &format!("a@{}", Digest::of(b"x")));
    assert!(client.put_manifest(&other, oci::MANIFEST, &bytes).is_err());
}
