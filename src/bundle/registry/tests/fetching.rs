//! Pulling from what breaks, stalls and lies: the right bytes or a clear error, in bounded time, and never more
//! bytes than were asked for.

use std::time::Instant;

use super::faults::{Fault, Faults, Request, Response, Rule, Upstream, start};
use super::*;

const SIZE: usize = 1_000_000;

/// A server of one blob, with a plan.
fn served(bytes: &[u8], plan: Vec<Rule>) -> (Faults, Reference, Descriptor) {
    let held = bytes.to_vec();
    let answer = move |request: &Request| match request.header("range") {
        None => Response::new(200, &[], held.clone()),
        Some(range) => {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            let told = format!("bytes {from}-{}/{}", held.len() - 1, held.len());
            Response::new(206, &[("Content-Range", &told)], &held[from..])
        }
    };
    let server = start("127.0.0.1:0", Upstream::Made(std::sync::Arc::new(answer)), plan).unwrap();
    let reference = name(&server.host(), "a/b");
    (server, reference, Descriptor::of(oci::LAYER, bytes))
}

fn blob(times: usize, fault: Fault) -> Rule {
    Rule::new("GET", "/blobs/", times, fault)
}

fn status(status: u16, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault::Status(status, headers, r#"{"errors":[{"code":"X","message":"not\u001b[1m now"}]}"#.to_owned())
}

/// Reads with a plan; what came before the end or the error.
fn read(plan: Vec<Rule>, at: u64) -> (Vec<u8>, anyhow::Result<()>, Vec<Request>) {
    let bytes = noise(SIZE);
    let (server, reference, descriptor) = served(&bytes, plan);
    let begun = Instant::now();
    let mut got = Vec::new();
    let result = plain().blob(&reference, &descriptor, at).and_then(|mut blob| {
        blob.read_to_end(&mut got)?;
        Ok(())
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    assert!(got.len() as u64 <= SIZE as u64 - at, "more than was asked for");
    let asked = server.seen().into_iter().filter(|it| it.target.contains("/blobs/")).collect();
    (got, result, asked)
}

#[test]
fn what_passes_is_survived_with_the_right_bytes() {
    let half = SIZE / 2;
    for (plan, at) in [
        (vec![], 0),
        (vec![], 77),
        (vec![blob(1, Fault::BreakAfter(half))], 0),
        (vec![blob(9, Fault::BreakAfter(100_000))], 0),
        (vec![blob(1, Fault::BreakAfter(0))], 0),
        (vec![blob(1, Fault::StallAfter(half))], 0),
        (vec![blob(1, Fault::Silence)], 500),
        (vec![blob(2, status(503, &[]))], 0),
        (vec![blob(1, status(429, &[("Retry-After", "0")]))], 0),
        (vec![blob(1, status(502, &[("Retry-After", "nonsense")]))], 0),
        (vec![blob(1, Fault::BreakAfter(half)), blob(9, Fault::IgnoreRange)], 0),
        (vec![blob(9, Fault::IgnoreRange)], 999_999),
        (vec![blob(1, Fault::Raw(Vec::new()))], 0),
    ] {
        let told = format!("{plan:?} from {at}");
        let (got, result, _) = read(plan, at);
        result.unwrap_or_else(|error| panic!("{told}: {error:#}"));
        assert!(got == noise(SIZE)[usize::try_from(at).unwrap()..], "{told}: other bytes");
    }
}

#[test]
fn a_break_goes_on_at_the_next_byte() {
    let (_, result, asked) = read(vec![blob(1, Fault::BreakAfter(300_000))], 0);
    result.unwrap();
    let ranges: Vec<_> = asked.iter().map(|it| it.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=300000-")]);
}

#[test]
fn what_does_not_pass_ends_with_a_reason() {
    let range = |value: &str| vec![blob(9, Fault::Header("Content-Range".into(), value.into()))];
    let cases = [
        (vec![blob(99, Fault::BreakAfter(10))], 0, Kind::Broken, "broke"),
        (vec![blob(99, Fault::StallAfter(0))], 0, Kind::Broken, "for too long"),
        (vec![blob(99, Fault::Silence)], 0, Kind::Broken, "for too long"),
        (vec![blob(99, status(503, &[]))], 0, Kind::Busy, "answered 503 Service Unavailable: X: not\\u{1b}[1m now"),
        (vec![blob(99, status(429, &[("Retry-After", "1")]))], 0, Kind::Busy, "429"),
        (vec![blob(1, status(429, &[("Retry-After", "86400")]))], 0, Kind::Busy, "asks to wait 86400 s"),
        (vec![blob(99, Fault::Drip(Duration::from_millis(20)))], 0, Kind::Broken, "too slowly"),
        (vec![blob(9, status(404, &[]))], 0, Kind::NotFound, "404"),
        (vec![blob(9, status(403, &[]))], 0, Kind::Denied, "403"),
        (vec![blob(9, status(416, &[]))], 5, Kind::Status, "416"),
        (vec![blob(9, status(206, &[]))], 0, Kind::Status, "206"),
        (vec![blob(9, status(204, &[]))], 0, Kind::Status, "204"),
        (vec![blob(9, Fault::Truncate(10))], 0, Kind::Garbage, "it has 10 bytes there"),
        (vec![blob(9, Fault::Twice)], 0, Kind::Garbage, "it has 2000000 bytes there"),
        (vec![blob(9, Fault::TwiceInChunks)], 0, Kind::Garbage, "more than its 1000000 bytes"),
        (vec![blob(9, Fault::Header("Content-Length".into(), "999999999999".into()))], 0, Kind::Garbage, "bytes there"),
        (range("bytes 4-999999/1000000"), 5, Kind::Garbage, "asked for bytes 5-999999"),
        (range("bytes 4-999998/1000000"), 5, Kind::Garbage, "asked for bytes 5-999999"),
        (range("bytes 5-1000000/1000001"), 5, Kind::Garbage, "asked for bytes 5-999999"),
        (range("bytes 5-999999/2000000"), 5, Kind::Garbage, "asked for bytes 5-999999"),
        (range("nonsense"), 5, Kind::Garbage, "\"nonsense\""),
        (vec![blob(9, Fault::HugeHeader(1 << 20))], 0, Kind::Garbage, "header is too large"),
        (vec![blob(99, Fault::Slow(Duration::from_millis(200)))], 0, Kind::Broken, "for too long"),
        (vec![blob(9, Fault::Raw(b"\0\x01garbage\r\n\r\n".to_vec()))], 0, Kind::Garbage, "no HTTP"),
        (vec![blob(9, Fault::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec()))], 0, Kind::Garbage, ""),
        (vec![blob(9, Fault::Redirect("http://[bad".into()))], 0, Kind::Garbage, "no URL"),
        (vec![blob(9, Fault::Redirect("file:///etc/passwd".into()))], 0, Kind::Garbage, "no URL"),
    ];
    // Side by side: most of it is waiting.
    std::thread::scope(|scope| {
        for (plan, at, kind, words) in cases {
            scope.spawn(move || {
                let told = format!("{plan:?} from {at}");
                let (got, result, asked) = read(plan, at);
                let (found, line) = failure(result);
                assert!(found == kind && line.contains(words), "{told}: {found:?} {line}");
                assert!(got.len() < SIZE, "{told}");
                assert!(asked.len() <= 5, "{told}: {} requests", asked.len());
            });
        }
    });
}

#[test]
fn lies_about_the_bytes_themselves_are_for_the_digest() {
    for fault in [Fault::Corrupt(500), Fault::Reorder] {
        let (got, result, _) = read(vec![blob(1, fault)], 0);
        result.unwrap();
        assert_eq!(got.len(), SIZE);
        assert_ne!(Digest::of(&got), Digest::of(&noise(SIZE)));
    }
}

#[test]
fn an_error_stays_an_error() {
    let bytes = noise(1000);
    let (_server, reference, descriptor) = served(&bytes, vec![blob(9, Fault::TwiceInChunks)]);
    let mut blob = plain().blob(&reference, &descriptor, 0).unwrap();
    let mut piece = [0; 2000];
    for _ in 0..3 {
        assert!(blob.read(&mut piece).is_err());
    }
}

#[test]
fn mirrors_are_asked_first_and_given_up_when_they_fail() {
    let bytes = noise(SIZE);
    let half = SIZE / 2;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (plan, mirrored) in [
        (vec![], true),
        (vec![blob(1, Fault::BreakAfter(half))], true),
        (vec![blob(1, Fault::BreakAfter(half)), blob(99, status(500, &[]))], false),
        (vec![Rule::new("", "", 99, status(404, &[]))], false),
        (vec![Rule::new("", "", 99, status(401, &[]))], false),
        (vec![Rule::new("", "", 99, Fault::Raw(b"<html>".to_vec()))], false),
        (vec![Rule::new("", "", 99, Fault::Truncate(3))], false),
        (vec![Rule::new("", "", 99, Fault::Silence)], false),
    ] {
        let told = format!("{plan:?}");
        let (mirror, _, _) = served(&bytes, plan);
        let (itself, reference, descriptor) = served(&bytes, vec![]);
        let host = itself.host();
        let toml = format!(
            "[registry.{host:?}]\nlocation = \"http://{host}\"\nmirrors = [\"http://{free}\", \"http://{}/copies\"]",
            mirror.host()
        );
        let client = configured(&toml);
        assert!(fetch(&client, &reference, &descriptor, 0).unwrap() == bytes, "{told}");
        assert!(mirror.seen()[0].target.starts_with("/v2/copies/a/b/blobs/"), "{told}");
        assert_eq!(itself.seen().is_empty(), mirrored, "{told}");
        let before = mirror.seen().len();
        assert!(fetch(&client.without_mirrors(), &reference, &descriptor, 0).unwrap() == bytes);
        assert_eq!(mirror.seen().len(), before);
    }
}

#[test]
fn a_mirror_with_another_manifest_is_not_believed() {
    let good =
        start("127.0.0.1:0", Upstream::Made(std::sync::Arc::new(|_| Response::new(200, &[], "good"))), vec![]).unwrap();
    let bad =
        start("127.0.0.1:0", Upstream::Made(std::sync::Arc::new(|_| Response::new(200, &[], "bad"))), vec![]).unwrap();
    let (host, mirror) = (good.host(), bad.host());
    let client =
        configured(&format!("[registry.{host:?}]\nlocation = \"http://{host}\"\nmirrors = [\"http://{mirror}\"]"));
    let pinned = name(&host, &format!("a@{}", Digest::of(b"good")));
    assert_eq!(client.manifest(&pinned).unwrap().bytes, b"good");
    assert_eq!(bad.seen().len(), 1);
    let neither = name(&host, &format!("a@{}", Digest::of(b"neither")));
    let (kind, told) = failure(client.manifest(&neither));
    assert!(kind == Kind::Garbage && told.contains("not the one asked for") && told.contains(&mirror), "{told}");
}

#[test]
fn manifests_are_bounded_and_checked() {
    let answer = Upstream::Made(std::sync::Arc::new(|_| Response::new(200, &[("Content-Type", "text/x")], "bytes")));
    let server = start("127.0.0.1:0", answer, vec![]).unwrap();
    let reference = name(&server.host(), "a:b");
    let client = plain();
    client.manifest(&reference).unwrap();
    let header = |value: &str| Fault::Header("Docker-Content-Digest".into(), value.into());
    let huge = Fault::Status(200, vec![], "x".repeat((4 << 20) + 1));
    for (fault, words) in [
        (header(Digest::of(b"other").as_str()), "it was changed"),
        (header("sha256:\u{1}"), ""),
        (header("sha256:../../x"), "is no digest"),
        (huge, "more than 4194304 bytes"),
        (Fault::Slow(Duration::from_millis(100)), "for too long"),
        (Fault::BreakAfter(2), "broke"),
        (status(404, &[]), "check the name"),
        (Fault::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()), ""),
        (Fault::Redirect(format!("http://{}/loop", server.host())), "a loop"),
    ] {
        let told = format!("{fault:?}").chars().take(60).collect::<String>();
        server.plan(vec![Rule::new("", "", 99, fault)]);
        let begun = Instant::now();
        let (_, line) = failure(client.manifest(&reference));
        assert!(
            line.contains(words) && line.contains("a:b") && begun.elapsed() < Duration::from_secs(15),
            "{told}: {line}"
        );
    }
    server.plan(vec![Rule::new("", "", 1, Fault::BreakAfter(2)), Rule::new("", "", 1, status(503, &[]))]);
    assert_eq!(client.manifest(&reference).unwrap().digest, Digest::of(b"bytes"));
}

#[test]
fn lists_are_followed_to_their_end_only() {
    let pages = |request: &Request| {
        let at: u32 = request.target.split("last=").nth(1).map_or(0, |it| it.parse().unwrap());
        let link = format!("</v2/a/tags/list?last={}>; rel=\"next\"", at + 1);
        let headers = if at < 3 { vec![("Link", link.as_str())] } else { vec![] };
        Response::new(200, &headers, format!(r#"{{"name":"a","tags":["t{at}","bad\u001b tag"]}}"#))
    };
    let server = start("127.0.0.1:0", Upstream::Made(std::sync::Arc::new(pages)), vec![]).unwrap();
    let reference = name(&server.host(), "a");
    let client = plain();
    assert_eq!(client.tags(&reference).unwrap(), ["t0", "t1", "t2", "t3"]);
    for (link, words) in [
        ("</v2/a/tags/list?n=1000>; rel=next", "does not end"),
        ("<http://127.0.0.1:1/x>; rel=next", "another host"),
        ("<http://>; rel=next", "no URL"),
    ] {
        server.plan(vec![Rule::new("", "", 9, Fault::Header("Link".into(), link.into()))]);
        let (kind, line) = failure(client.tags(&reference));
        assert!(kind == Kind::Garbage && line.contains(words), "{line}");
    }
    server.plan(vec![Rule::new("", "", 9, Fault::Status(200, vec![], "[1]".into()))]);
    assert!(failure(client.tags(&reference)).1.contains("not what was expected"));
    server.plan(vec![Rule::new("", "", 9, Fault::Status(200, vec![], r#"{"tags":null}"#.into()))]);
    assert_eq!(client.tags(&reference).unwrap(), Vec::<String>::new());
    server.plan(vec![Rule::new("", "", 9, Fault::Status(
        200,
        vec![],
        r#"{"results":[{"name":"x","description":"a\u001b[2Jb","star_count":3,"is_official":true},{"name":"y","description":null}]}"#.into(),
    ))]);
    let found = client.search(&server.host(), "x y", 1).unwrap();
    assert_eq!((found.len(), found[0].stars, found[0].description.as_str()), (1, 3, "a\\u{1b}[2Jb"));
    assert!(server.seen().last().unwrap().target.contains("q=x%20y"));
}
