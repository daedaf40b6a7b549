//! Transfers that are broken, spoiled and killed: each ends with the right image or with one line that says why
//! not, and the store is whole.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::{Fault, Faults, Request, Rule, Upstream, start};
use crate::harness::{Done, Place, sh};
use crate::server::{Registry, configure, count, files, layer, load, noise};
use crate::tree::{Node, differences};

/// Any number of times.
const ALWAYS: usize = usize::MAX;

/// A registry with an image of three layers, something that spoils what it answers, and a store with another image.
struct Broken {
    place: Place,
    registry: Registry,
    proxy: Faults,
    /// The image's name, by way of what spoils.
    name: String,
    /// The image's files.
    tree: BTreeMap<String, Node>,
    manifest: Value,
    /// The files of the other image.
    kept: BTreeMap<String, Node>,
}

impl Broken {
    fn new(name: &str, sizes: [usize; 3]) -> Self {
        let (place, registry) = (Place::new(name), Registry::start());
        let proxy = start("127.0.0.1:0", Upstream::At(registry.address), Vec::new()).unwrap();
        configure(
            &place,
            &format!(
                "[registry.\"{}\"]\ninsecure = true\n[registry.\"{}\"]\ninsecure = true\n",
                proxy.host(),
                registry.address
            ),
        );
        let name = format!("{}/a/b:1", proxy.host());
        let layers: Vec<_> =
            sizes.iter().zip(1..).map(|(size, seed)| layer(&format!("l{seed}"), *size, seed)).collect();
        load(&place, "source", &name, &layers, json!({}));
        place.bundle_in("source", &["push", "-q", &name]).ok();
        let tree = files(&place, "source", &name);
        let manifest = place.bundle(&["manifest", "inspect", &name]).ok().json();
        load(&place, "store", "kept:1", &[layer("kept", 5000, 9)], json!({}));
        let kept = files(&place, "store", "kept:1");
        Self { place, registry, proxy, name, tree, manifest, kept }
    }

    /// The path of a layer's blob.
    fn layer(&self, index: usize) -> String {
        format!("/v2/a/b/blobs/{}", self.manifest["layers"][index]["digest"].as_str().unwrap())
    }

    fn config(&self) -> String {
        format!("/v2/a/b/blobs/{}", self.manifest["config"]["digest"].as_str().unwrap())
    }

    /// Pulls while this goes wrong. `words`: what the error has to say; without them the pull succeeds, with `""`
    /// it may do either.
    #[track_caller]
    fn pull(&self, about: &str, plan: Vec<Rule>, words: Option<&str>) {
        self.proxy.plan(plan);
        let done = self.place.bundle(&["pull", &self.name]);
        let told: Vec<&str> = done.err.lines().filter(|it| it.starts_with("bundle: ")).collect();
        match (done.status, words) {
            (0, None | Some("")) => assert!(told.is_empty(), "{about}: {told:?}"),
            (1, Some(words)) => assert!(told.len() == 1 && told[0].contains(words), "{about}: {}", done.err),
            (status, _) => panic!("{about}: {status}: {}", done.err),
        }
        assert!(!done.err.contains("panicked") && done.err.chars().all(|it| it == '\n' || !it.is_control()), "{about}");
        let there = self.place.bundle(&["inspect", &self.name]).status == 0;
        assert_eq!(there, done.status == 0, "{about}");
        self.place.bundle(&["store", "check"]).ok();
        self.proxy.plan(Vec::new());
        self.finish(about);
    }

    /// Pulls undisturbed, compares, and removes the image.
    #[track_caller]
    fn finish(&self, about: &str) {
        self.place.bundle(&["pull", "-q", &self.name]).ok();
        let differences = differences(&self.tree, &files(&self.place, "store", &self.name));
        assert!(differences.is_empty(), "{about}: {differences:#?}");
        self.place.bundle(&["rmi", &self.name]).ok();
        // The other image is there, and nothing else.
        let there = |dir| count(&self.place, "store", dir);
        let all = (there("blobs/sha256"), there("layers"), there("ingest"), there("trash"));
        assert_eq!(all, (3, 1, 0, 0), "{about}");
    }

    fn spawn(&self) -> Child {
        let mut command = self.place.command("store", &["pull", &self.name]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Until something of the largest layer is there.
    fn wait_for_bytes(&self) {
        let digest = self.manifest["layers"][2]["digest"].as_str().unwrap().replace(':', "-");
        let blob = self.place.path(&format!("store/ingest/{digest}"));
        let began = Instant::now();
        while std::fs::metadata(&blob).map_or(0, |it| it.len()) == 0 {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All blobs come slowly.
    fn slow(&self, pause: u64) {
        self.proxy.plan(vec![Rule::new(
            "GET",
            "/blobs/",
            ALWAYS,
            Fault::Pieces(8 << 10, Duration::from_millis(pause)),
        )]);
    }

    fn blobs_since(&self, before: usize) -> Vec<Request> {
        self.proxy.seen().split_off(before).into_iter().filter(|it| it.target.contains("/blobs/")).collect()
    }
}

fn status(status: u16, after: Option<&str>) -> Fault {
    let headers = after.map(|it| ("Retry-After".to_owned(), it.to_owned())).into_iter().collect();
    Fault::Status(status, headers, String::new())
}

fn header(name: &str, value: &str) -> Fault {
    Fault::Header(name.to_owned(), value.to_owned())
}

#[test]
fn broken_layers_are_gone_on_with() {
    let it = Broken::new("breaks", [100, 90_000, 150_000]);
    let (small, middle, large) = (it.layer(0), it.layer(1), it.layer(2));
    for (target, at, times) in [
        (&large, 0, 2),
        (&large, 1, 3),
        (&large, 70_000, 5),
        (&middle, 65_536, 2),
        (&small, 10, 2),
        (&"/blobs/".to_owned(), 40, 4),
    ] {
        let before = it.proxy.seen().len();
        let about = format!("{target} breaks after {at}");
        it.pull(&about, vec![Rule::new("GET", target, times, Fault::BreakAfter(at))], None);
        let ranges = it.blobs_since(before).iter().filter(|it| it.header("range").is_some()).count();
        assert_eq!(ranges > 0, at > 0, "{about}");
    }
    let after_a_break =
        |fault| vec![Rule::new("GET", &large, 1, Fault::BreakAfter(50_000)), Rule::new("GET", &large, 1, fault)];
    it.pull("the range is dropped", after_a_break(Fault::IgnoreRange), None);
    it.pull("and spoiled", after_a_break(Fault::Corrupt(9)), None);
    it.pull("and reordered", after_a_break(Fault::Reorder), None);
    for range in ["bytes 0-9/10", "bytes 49999-119999/120000", "bytes */1", "x", "bytes 50000-18446744073709551615/*"] {
        it.pull(range, after_a_break(header("Content-Range", range)), Some("got Content-Range"));
    }
    it.pull("nothing more", after_a_break(status(416, None)), Some("416"));
    it.pull("gone", after_a_break(status(404, None)), Some("check the name and the tag"));
}

#[test]
fn spoiled_layers_are_refused() {
    let it = Broken::new("spoiled", [100, 20_000, 60_000]);
    let (large, config) = (it.layer(2), it.config());
    let direct = |path: &str| Fault::Redirect(format!("http://{}{path}", it.registry.address));
    for (target, times, fault, words) in [
        (&large, 1, Fault::Corrupt(0), None),
        (&large, 1, Fault::Corrupt(30_000), None),
        (&large, ALWAYS, Fault::Corrupt(30_000), Some("and the digest sha256:")),
        (&large, 1, Fault::Reorder, None),
        (&large, ALWAYS, Fault::Reorder, Some("and the digest sha256:")),
        (&large, 1, Fault::Truncate(1000), Some("it has 1000 bytes there")),
        (&large, 1, Fault::Truncate(0), Some("it has 0 bytes there")),
        (&large, 1, Fault::Twice, Some("its descriptor says")),
        (&large, 1, Fault::TwiceInChunks, Some("bytes came")),
        (&large, 1, header("Content-Length", "10"), Some("it has 10 bytes there")),
        (&large, 1, header("Content-Length", "1000000"), Some("it has 1000000 bytes there")),
        (&large, 1, header("Content-Length", "x"), Some("")),
        (&large, 1, header("Content-Encoding", "gzip"), None),
        (&large, 2, status(429, Some("1")), None),
        (&large, 1, status(503, Some("1")), None),
        (&large, 1, status(500, None), None),
        (&large, ALWAYS, status(503, Some("1000")), Some("asks to wait 1000 s")),
        (&large, ALWAYS, status(404, None), Some("404")),
        (&large, ALWAYS, status(403, None), Some("bundle login")),
        (&large, ALWAYS, status(401, None), Some("bundle login")),
        (&large, 1, status(204, None), Some("204")),
        (&large, 1, direct(&large), None),
        (&large, ALWAYS, Fault::Redirect(large.clone()), Some("a loop")),
        (&large, 1, Fault::Redirect("file:///etc/passwd".to_owned()), Some("no URL")),
        (&large, 1, Fault::HugeHeader(1 << 20), Some("header is too large")),
        (&large, 1, Fault::Raw(b"hello\r\n\r\n".to_vec()), Some("no HTTP that is understood")),
        (&large, 1, Fault::LoseAnswer, None),
        (&config, 1, Fault::Corrupt(3), None),
        (&config, ALWAYS, Fault::Corrupt(3), Some("has the digest")),
        (&config, 2, Fault::BreakAfter(5), None),
        (&config, 1, Fault::Truncate(5), Some("it has 5 bytes there")),
        (&config, ALWAYS, status(404, None), Some("404")),
    ] {
        let about = format!("{target}: {fault:?}").chars().take(200).collect::<String>();
        it.pull(&about, vec![Rule::new("GET", target, times, fault)], words);
    }
}

#[test]
fn spoiled_manifests_are_refused() {
    let it = Broken::new("manifests", [100, 200, 300]);
    for (times, fault, words) in [
        (2, Fault::BreakAfter(10), None),
        (1, Fault::LoseAnswer, None),
        (2, status(503, Some("1")), None),
        (1, status(429, Some("1")), None),
        (ALWAYS, status(429, Some("3600")), Some("asks to wait 3600 s")),
        (1, Fault::Corrupt(20), Some("its digest is sha256:")),
        (1, Fault::Truncate(20), Some("its digest is sha256:")),
        (1, Fault::Twice, Some("its digest is sha256:")),
        (1, Fault::Reorder, Some("its digest is sha256:")),
        (1, header("Docker-Content-Digest", "sha256:x"), Some("is no digest")),
        (1, header("Content-Type", "text/html"), None),
        (1, header("Content-Type", "application/vnd.docker.distribution.manifest.v1+json"), Some("schema 1")),
        (1, Fault::HugeHeader(1 << 20), Some("header is too large")),
        (ALWAYS, Fault::Redirect("/v2/a/b/manifests/1".to_owned()), Some("a loop")),
        (1, status(200, None), Some("no JSON")),
        (1, Fault::Raw(Vec::new()), None),
    ] {
        let about = format!("{fault:?}").chars().take(200).collect::<String>();
        it.pull(&about, vec![Rule::new("GET", "/manifests/", times, fault)], words);
    }
}

#[test]
fn many_faults_at_once_end_one_way_or_the_other() {
    let it = Broken::new("seeds", [3000, 90_000, 40_000]);
    let layer = it.layer(1);
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for seed in 0..20 {
        let plan: Vec<Rule> = (0..=random(4))
            .map(|_| {
                let at = random(90_000);
                let fault = match random(12) {
                    0..4 => Fault::BreakAfter(at),
                    4 => Fault::Truncate(at),
                    5 => Fault::Corrupt(at),
                    6 => Fault::Reorder,
                    7 => status(503, Some("0")),
                    8 => Fault::IgnoreRange,
                    9 => Fault::LoseAnswer,
                    10 => header("Content-Range", "bytes 5-9/10"),
                    _ => Fault::TwiceInChunks,
                };
                let target = ["/blobs/", "/blobs/", "/v2/a", "/manifests/", &layer][random(5)];
                Rule { pass: random(3), ..Rule::new("GET", target, 1 + random(2), fault) }
            })
            .collect();
        it.pull(&format!("{seed}: {plan:?}"), plan, Some(""));
    }
}

#[test]
fn a_stalled_layer_is_asked_for_again() {
    let it = Broken::new("stalls", [100, 200, 60_000]);
    it.pull("a stall", vec![Rule::new("GET", &it.layer(2), 1, Fault::StallAfter(30_000))], None);
}

#[test]
fn what_lies_there_of_a_download_is_not_trusted() {
    let it = Broken::new("leftovers", [100, 200, 60_000]);
    let digest = it.manifest["layers"][2]["digest"].as_str().unwrap().replace(':', "-");
    let (left, right) = (it.place.path(&format!("store/ingest/{digest}")), {
        let blob = it.place.path("source/blobs/sha256").join(&digest[7..]);
        std::fs::read(blob).unwrap()
    });
    let junk = noise(right.len(), 7).into_bytes();
    let mixed = [&right[..20_000], &junk[..20_000]].concat();
    let large = [&right[..], b"more"].concat();
    // How often the layer is asked for: what is there is right, too much, wrong from some place on.
    for (about, bytes, wanted) in [
        ("all", &right[..], 0),
        ("too much", &large, 1),
        ("all junk", &junk, 1),
        ("junk", &junk[..20_000], 2),
        ("mixed", &mixed, 2),
        ("a part", &right[..20_000], 1),
    ] {
        let before = it.proxy.seen().len();
        std::fs::write(&left, bytes).unwrap();
        it.pull(about, Vec::new(), None);
        let fetched = it.blobs_since(before).iter().filter(|request| request.target == it.layer(2)).count();
        assert_eq!(fetched, wanted, "{about}");
    }
}

/// Kills a pull at 50 moments spread over how long it takes; what was there before is untouched, and the next pull
/// goes on.
#[test]
fn a_killed_pull_is_gone_on_with() {
    let it = Broken::new("killed-pulls", [60_000, 120_000, 120_000]);
    it.slow(15);
    let began = Instant::now();
    it.place.bundle(&["pull", "-q", &it.name]).ok();
    let mut whole = began.elapsed();
    it.place.bundle(&["rmi", &it.name]).ok();
    let (mut resumed, mut killed) = (0, 0);
    for round in 0..50 {
        it.slow(15);
        let mut child = it.spawn();
        std::thread::sleep(whole * round / 50);
        let _ = child.kill();
        if child.wait().unwrap().signal().is_some() {
            killed += 1;
        } else {
            // The machine was busier when the time was taken.
            whole -= whole / 10;
        }
        let check = it.place.bundle(&["store", "check"]);
        if check.status != 0 {
            // Only what was half made: no image of the database is damaged.
            assert!(!check.out.contains("sha256:"), "round {round}: {}", check.out);
            it.place.bundle(&["store", "check", "--repair"]).ok();
        }
        it.place.bundle(&["store", "check"]).ok();
        it.proxy.plan(Vec::new());
        let before = it.proxy.seen().len();
        it.finish(&format!("round {round}"));
        resumed += usize::from(it.blobs_since(before).iter().any(|it| it.header("range").is_some()));
    }
    // Before there is a byte, and where a layer is whole, there is nothing to go on with.
    assert!(killed >= 40 && resumed >= 10, "{killed} {resumed}");
    assert!(differences(&it.kept, &files(&it.place, "store", "kept:1")).is_empty());
    it.place.bundle(&["prune", "-f"]).ok();
}

#[test]
fn an_interrupted_pull_ends_at_once() {
    let it = Broken::new("interrupted", [100, 200, 120_000]);
    for signal in ["INT", "TERM"] {
        it.slow(200);
        let before = it.proxy.seen().len();
        let child = it.spawn();
        it.wait_for_bytes();
        sh(&format!("kill -{signal} {}", child.id()));
        let sent = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
        assert!(!output.status.success());
        assert_eq!(it.place.bundle(&["images", "-q"]).ok().out.lines().count(), 1);
        it.proxy.plan(Vec::new());
        it.finish(signal);
        assert!(it.blobs_since(before).iter().any(|it| it.header("range").is_some()));
    }
}

#[test]
fn the_same_image_is_pulled_twice_at_once() {
    let it = Broken::new("twice", [20_000, 60_000, 60_000]);
    for round in 0..4 {
        it.slow(10);
        let before = it.proxy.seen().len();
        let children = [it.spawn(), it.spawn(), it.spawn()];
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        it.place.bundle(&["store", "check"]).ok();
        let blobs = it.blobs_since(before);
        for layer in 0..3 {
            // The second waits for the first.
            assert_eq!(blobs.iter().filter(|request| request.target == it.layer(layer)).count(), 1, "{round}");
        }
        it.finish("three at once");
    }
}

#[test]
fn a_spoiled_push_leaves_what_was_there_or_all_of_it() {
    let it = Broken::new("pushes", [100, 200, 90_000]);
    // Under a name of the registry its layers would not be sent, but mounted.
    it.place.bundle_in("source", &["tag", &it.name, "local:1"]).ok();
    it.place.bundle_in("source", &["rmi", &it.name]).ok();
    let upload = "/blobs/uploads/";
    for (round, (method, target, times, fault, words)) in [
        ("POST", upload, 1, status(503, Some("1")), None),
        ("PUT", upload, 1, status(429, Some("1")), None),
        ("", upload, 1, Fault::LoseAnswer, None),
        ("", upload, 2, Fault::BreakRequest(50_000), None),
        ("PUT", "/manifests/", 1, Fault::LoseAnswer, None),
        ("PUT", "/manifests/", 1, status(503, Some("1")), None),
        ("PUT", "/manifests/", 1, status(400, None), Some("400")),
        ("HEAD", "/blobs/", 1, status(500, None), None),
        ("POST", upload, ALWAYS, status(403, None), Some("bundle login")),
        ("POST", upload, ALWAYS, status(503, Some("1000")), Some("asks to wait 1000 s")),
        ("POST", upload, 1, header("Location", "ftp://x/"), Some("Location")),
    ]
    .into_iter()
    .enumerate()
    {
        let about = format!("{method} {target}: {fault:?}");
        // A repository of its own, so that nothing is there.
        let name = format!("{}/push{round}:1", it.proxy.host());
        it.proxy.plan(vec![Rule::new(method, target, times, fault)]);
        let done = it.place.bundle_in("source", &["push", "local:1", &name]);
        it.proxy.plan(Vec::new());
        match words {
            None => assert_eq!(done.status, 0, "{about}: {}", done.err),
            Some(words) => {
                drop(done.fails(1, words));
                it.place.bundle(&["pull", &name]).fails(1, "404");
                it.place.bundle_in("source", &["push", "local:1", &name]).ok();
            }
        }
        it.place.bundle(&["pull", "-q", &name]).ok();
        assert!(differences(&it.tree, &files(&it.place, "store", &name)).is_empty(), "{about}");
        it.place.bundle(&["rmi", &name]).ok();
        it.place.bundle_in("source", &["store", "check"]).ok();
    }
}

#[test]
fn a_pull_goes_on_with_what_a_killed_one_was_at() {
    let it = Broken::new("taken-over", [100, 200, 120_000]);
    it.slow(30);
    let before = it.proxy.seen().len();
    let mut first = it.spawn();
    it.wait_for_bytes();
    let second = it.spawn();
    // What is in the making is nobody else's to remove.
    it.place.bundle(&["prune", "-f"]).ok();
    let third = it.spawn();
    std::thread::sleep(Duration::from_millis(100));
    first.kill().unwrap();
    first.wait().unwrap();
    for child in [second, third] {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    it.place.bundle(&["store", "check", "--repair"]).ok();
    let asked: Vec<_> = it.blobs_since(before).into_iter().filter(|request| request.target == it.layer(2)).collect();
    assert_eq!((asked.len(), asked[1].header("range").is_some()), (2, true));
    it.finish("taken over");
}

#[test]
fn a_killed_push_leaves_nothing() {
    let it = Broken::new("killed-pushes", [100, 200, 300]);
    std::fs::write(it.place.path("t.tar"), layer("x", 400_000, 5)).unwrap();
    let name = format!("{}/plain:1", it.proxy.host());
    it.place.bundle(&["import", &it.place.text("t.tar"), &name]).ok();
    let push = ["push", "-q", &name];
    let began = Instant::now();
    it.place.bundle(&["push", "-q", &name, &format!("{}/timed:1", it.proxy.host())]).ok();
    let whole = began.elapsed();
    for round in 0..10 {
        let mut child = it.place.command("store", &push).stdin(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * round / 10);
        let _ = child.kill();
        child.wait().unwrap();
        it.place.bundle(&["store", "check", "--repair"]).ok();
    }
    it.place.bundle(&push).ok();
    it.place.bundle_in("new", &["pull", "-q", &name]).ok();
    assert!(differences(&files(&it.place, "store", &name), &files(&it.place, "new", &name)).is_empty());
    it.place.bundle(&["rmi", &name]).ok();
    it.place.bundle(&["prune", "-f"]).ok();
    it.finish("after pushes");
}

#[test]
fn a_full_disk_is_told_and_got_over() {
    let it = Broken::new("full", [100, 200_000, 400_000]);
    // A store on a file system of its own, which is gone with its mount namespace.
    let script = "mount -t tmpfs -o size=700k tmpfs $1; shift; \"$@\" images; \"$@\" pull -q $NAME; echo status $?; \
        \"$@\" store check; echo status $?; mount -o remount,size=8m $BUNDLE_ROOT; \
        \"$@\" pull -q $NAME; echo status $?; \"$@\" store check; echo status $?";
    std::fs::create_dir_all(it.place.path("small")).unwrap();
    let bundle = it.place.command("small", &[]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", &it.place.text("small")]).arg(bundle.get_program());
    command.envs(bundle.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("NAME", &it.name);
    let done = Done::of(command.stdin(Stdio::null()), &["full"]).ok();
    let statuses: Vec<&str> = done.out.lines().filter_map(|it| it.strip_prefix("status ")).collect();
    assert_eq!(statuses, ["1", "0", "0", "0"], "{}{}", done.out, done.err);
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    let words = ["bundle: pulling ", "No space left on device (os error 28)", "; make room"];
    assert!(words.iter().all(|it| done.err.contains(it)), "{}", done.err);
}
