//! Registries: pull, push, login, lists, platforms, mirrors, and that other tools agree.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::faults::{Fault, Faults, Response, Rule, Upstream, forward, start};
use crate::harness::{Done, Place, arch, bundle, gzip, layout, sh};
use crate::server::{LAYER, Registry, configure, count, files, identity, layer, load};
use crate::tree::differences;

const PLAIN: &str = "--tls-verify=false";

/// An image of three layers under a name, pushed to a registry.
fn pushed(place: &Place, registry: &Registry, rest: &str) -> String {
    let name = registry.name(rest);
    let layers = [layer("one", 50_000, 1), layer("two", 100_000, 2), layer("three", 10, 3)];
    load(place, "store", &name, &layers, json!({"Cmd": ["x"]}));
    place.bundle(&["push", PLAIN, &name]).ok();
    name
}

/// Something that counts what a registry is asked.
fn watched(registry: &Registry) -> Faults {
    start("127.0.0.1:0", Upstream::At(registry.address), Vec::new()).unwrap()
}

/// How many blobs were fetched.
fn blobs(faults: &Faults) -> usize {
    faults.seen().iter().filter(|it| it.method == "GET" && it.target.contains("/blobs/")).count()
}

fn empty(place: &Place, store: &str) {
    assert_eq!(place.bundle_in(store, &["images", "-q"]).ok().out, "");
    for dir in ["blobs/sha256", "ingest", "layers", "trash"] {
        assert_eq!(count(place, store, dir), 0, "{dir}");
    }
}

#[test]
fn plain_http_has_to_be_allowed() {
    let (place, registry) = (Place::new("plain"), Registry::start());
    let name = pushed(&place, &registry, "a/b:1");
    let words = format!("--tls-verify=false, or insecure = true under [registry.\"{}\"]", registry.address);
    place.bundle_in("new", &["pull", &name]).fails(1, &words);
    place.bundle_in("new", &["pull", "--tls-verify", &name]).fails(1, &words);
    empty(&place, "new");
    for command in [&["push", &name][..], &["tags", &name], &["manifest", "inspect", &name], &["search", &name]] {
        place.bundle(command).fails(1, &words);
    }
    configure(&place, &format!("[registry.\"{}\"]\ninsecure = true\n", registry.address));
    place.bundle_in("new", &["pull", &name]).ok();
    // The flag is above the file.
    place.bundle_in("new", &["pull", "--tls-verify=true", &name]).fails(1, &words);
    configure(&place, "[registry.\"x\"]\nmirors = []\n");
    place.bundle_in("new", &["pull", &name]).fails(1, "registries.toml:2: unknown field");
    // What is not there at all.
    drop(registry);
    configure(&place, "");
    place.bundle_in("new", &["pull", PLAIN, &name]).fails(1, "connection refused");
    place.bundle_in("new", &["pull", "Not/A/Name"]).fails(1, "Not/A/Name");
}

#[test]
fn tls_is_believed_by_an_own_authority() {
    let place = Place::new("tls");
    let registry = Registry::secure(&place);
    let name = registry.name("a:1");
    load(&place, "store", &name, &[layer("x", 1000, 1)], json!({}));
    place.bundle(&["push", &name]).fails(1, "an authority unknown here");
    configure(&place, &format!("[registry.\"{}\"]\nca = \"{}\"\n", registry.address, place.text("ca.crt")));
    place.bundle(&["push", &name]).ok();
    place.bundle_in("new", &["pull", &name]).ok();
    configure(&place, "");
    let certificates = place.path(&format!("home/.config/bundle/certs.d/{}", registry.address));
    std::fs::create_dir_all(&certificates).unwrap();
    place.bundle_in("new", &["pull", &name]).fails(1, "certs.d");
    std::fs::copy(place.path("ca.crt"), certificates.join("ca.crt")).unwrap();
    place.bundle_in("new", &["pull", &name]).ok();
    // Another authority's certificate.
    let other = Place::new("other-authority");
    drop(Registry::secure(&other));
    std::fs::copy(other.path("ca.crt"), certificates.join("ca.crt")).unwrap();
    place.bundle_in("new", &["pull", &name]).fails(1, "certificate");
    place.bundle_in("new", &["pull", PLAIN, &name]).ok();
    let by_name = format!("localhost:{}/a:1", registry.address.port());
    place.bundle_in("new", &["pull", &by_name]).fails(1, "certificate");
}

#[test]
fn a_password_is_tried_before_it_is_kept() {
    let place = Place::new("login");
    // bcrypt of "secret".
    let line = "user:$2b$04$TymRGrkq/QyZihzgJqX0UehymAWlO5KoLNYCmXAPGxTGMvktPAe16\n";
    std::fs::write(place.path("htpasswd"), line).unwrap();
    let registry =
        Registry::with("", &format!("auth:\n  htpasswd:\n    realm: here\n    path: {}\n", place.text("htpasswd")));
    let (name, host) = (registry.name("a:1"), registry.address.to_string());
    let file = place.path("home/.docker/config.json");
    let login = |password: &str| {
        let words = ["login", PLAIN, "-u", "user", "--password-stdin", &host];
        let mut child = place.command("store", &words);
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    load(&place, "store", &name, &[layer("x", 1000, 1)], json!({}));
    let ask = format!("bundle login {host}");
    place.bundle_in("new", &["pull", PLAIN, &name]).fails(1, &ask);
    place.bundle(&["push", PLAIN, &name]).fails(1, &ask);
    let (status, _, told) = login("wrong");
    assert!(status == Some(1) && told.contains("check the user name and the password"), "{told}");
    assert!(!told.contains("wrong") && !file.exists(), "{told}");
    place.bundle(&["login", PLAIN, "-u", "user", "-p", "", &host]).fails(1, "needed");
    place.bundle(&["login", PLAIN, "--password-stdin", &host]).fails(1, "--username");

    let (status, out, told) = login("secret");
    assert!(status == Some(0) && out.starts_with("Login succeeded"), "{out}{told}");
    assert!(!out.contains("secret") && !told.contains("secret"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // A wrong one later leaves the right one.
    assert_eq!(login("wrong").0, Some(1));
    place.bundle(&["push", PLAIN, &name]).ok();
    place.bundle_in("new", &["pull", PLAIN, &name]).ok();
    assert_eq!(place.bundle(&["tags", PLAIN, &name]).ok().last(), "1");
    assert!(place.bundle(&["logout", &host]).ok().out.contains("Removed"));
    assert!(place.bundle(&["logout", &host]).ok().out.contains("Not logged in"));
    assert!(!std::fs::read_to_string(&file).unwrap().contains("auth\":"));
    place.bundle_in("new", &["pull", PLAIN, &name]).fails(1, &ask);
}

/// A registry that wants tokens, as Docker Hub does: anyone may pull from `open/`, the user may do all.
#[test]
fn tokens_are_asked_for_what_is_wanted() {
    let (place, registry) = (Place::new("tokens"), Registry::start());
    let address = registry.address;
    let upstream = Upstream::Made(Arc::new(move |request| {
        let given = request.header("authorization").unwrap_or_default();
        if let Some(query) = request.target.strip_prefix("/token?") {
            // "user:secret"
            let user = given == "Basic dXNlcjpzZWNyZXQ=";
            let scope = query.split('&').find_map(|it| it.strip_prefix("scope=")).unwrap_or_default();
            return match (user, given) {
                (true, _) => Response::new(200, &[], json!({"token": format!("user/{scope}")}).to_string()),
                (false, "") => Response::new(200, &[], json!({"token": format!("anyone/{scope}")}).to_string()),
                _ => Response::new(401, &[], json!({"details": "incorrect username or password"}).to_string()),
            };
        }
        let repository = request.target.strip_prefix("/v2/").unwrap_or_default();
        let repository = repository.split(['/']).next().unwrap_or_default();
        let action = if matches!(request.method.as_str(), "GET" | "HEAD") { "pull" } else { "push" };
        let granted = given.strip_prefix("Bearer ").is_some_and(|token| {
            let (who, scope) = token.split_once('/').unwrap();
            let wanted = scope.contains(repository) && scope.contains(action) || repository.is_empty();
            wanted && (who == "user" || repository == "open" && action == "pull")
        });
        if granted {
            return forward(address, request).unwrap();
        }
        let host = request.header("host").unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        Response::new(401, &[("WWW-Authenticate", &challenge)], "")
    }));
    let server = start("127.0.0.1:0", upstream, Vec::new()).unwrap();
    let host = server.host();
    let (open, closed) = (format!("{host}/open/a:1"), format!("{host}/closed/a:1"));
    load(&place, "store", &open, &[layer("x", 1000, 1), layer("y", 1000, 2)], json!({}));
    let ask = format!("bundle login {host}");
    place.bundle(&["push", PLAIN, &open]).fails(1, &ask);
    place.bundle(&["login", PLAIN, "-u", "user", "-p", "wrong", &host]).fails(1, "incorrect username or password");
    place.bundle(&["login", PLAIN, "-u", "user", "-p", "secret", &host]).ok();
    place.bundle(&["push", PLAIN, &open]).ok();
    place.bundle(&["push", PLAIN, &open, &closed]).ok();
    place.bundle_in("user", &["pull", PLAIN, &closed]).ok();
    place.bundle(&["logout", &host]).ok();
    place.bundle_in("anyone", &["pull", PLAIN, &open]).ok();
    place.bundle_in("anyone", &["pull", PLAIN, &closed]).fails(1, &ask);
    assert!(differences(&files(&place, "user", &closed), &files(&place, "anyone", &open)).is_empty());
    // What opens the registry goes to nobody but it and its token server, and the password only there.
    for request in server.seen() {
        let basic = request.header("authorization").is_some_and(|it| it.starts_with("Basic"));
        assert!(!basic || request.target.starts_with("/token?"), "{request:?}");
    }
}

#[test]
fn what_was_pushed_is_pulled_as_it_was() {
    let (place, registry) = (Place::new("round"), Registry::start());
    let name = pushed(&place, &registry, "a/b:1");
    place.bundle_in("new", &["pull", PLAIN, &name]).ok();
    assert_eq!(identity(&place, "store", &name), identity(&place, "new", &name));
    let (here, there) = (files(&place, "store", &name), files(&place, "new", &name));
    assert!(here.len() > 9 && differences(&here, &there).is_empty(), "{:#?}", differences(&here, &there));
    place.bundle_in("new", &["store", "check"]).ok();
    let again = place.bundle(&["push", PLAIN, &name]).ok().err;
    assert_eq!(again.matches("Already exists").count(), 4, "{again}");
    assert!(!again.contains("Pushed"));

    // What is there is not fetched: of a second image that shares two layers only the third, and the configuration.
    let other = registry.name("a/b:2");
    load(&place, "store", &other, &[layer("one", 50_000, 1), layer("two", 100_000, 2), layer("new", 10, 4)], json!({}));
    let told = place.bundle(&["push", PLAIN, &other]).ok().err;
    assert_eq!((told.matches("Already exists").count(), told.matches("Pushed").count()), (2, 2), "{told}");
    let watched = watched(&registry);
    let by_watched = |name: &str| name.replace(&registry.address.to_string(), &watched.host());
    place.bundle_in("new", &["pull", PLAIN, &by_watched(&other)]).ok();
    assert_eq!(blobs(&watched), 2, "{:?}", watched.seen());
    let told = place.bundle_in("new", &["pull", PLAIN, &by_watched(&name)]).ok().err;
    assert_eq!((blobs(&watched), told.matches("Already exists").count()), (2, 3), "{told}");
    // Nor is anything unpacked twice.
    assert_eq!(count(&place, "new", "layers"), 4);

    // In another repository of the same registry nothing is sent.
    let mounted = registry.name("c:1");
    let told = place.bundle(&["push", PLAIN, &name, &mounted]).ok();
    assert_eq!(told.err.matches("Mounted from a/b").count(), 4, "{}", told.err);
    assert_eq!(told.out, format!("{mounted} {}\n", identity(&place, "store", &name).0));
    place.bundle_in("third", &["pull", PLAIN, &mounted]).ok();
    assert!(differences(&here, &files(&place, "third", &mounted)).is_empty());
}

#[test]
fn tags_and_digests_name_images() {
    let (place, registry) = (Place::new("tags"), Registry::start());
    let one = pushed(&place, &registry, "team/app:1");
    for tag in ["2", "latest"] {
        place.bundle(&["tag", &one, &registry.name(&format!("team/app:{tag}"))]).ok();
    }
    let three = registry.name("team/app:three");
    load(&place, "store", &three, &[layer("three", 10, 4)], json!({}));
    let told = place.bundle(&["push", PLAIN, "--all-tags", &registry.name("team/app")]).ok();
    assert_eq!(told.out.lines().count(), 4);
    place.bundle(&["push", PLAIN, "-a", &registry.name("none")]).fails(1, "no image here is called");
    place.bundle(&["push", PLAIN, &registry.name("none")]).fails(1, "no such image");
    let list = place.bundle(&["tags", PLAIN, &one]).ok().out;
    assert_eq!(list, "TAG\n1\n2\nlatest\nthree\n");
    place.bundle(&["tags", PLAIN, &registry.name("none")]).fails(1, "404");

    let told = place.bundle_in("new", &["pull", PLAIN, "--all-tags", &registry.name("team/app")]).ok();
    assert_eq!(told.out.lines().count(), 4);
    let tags = place.bundle_in("new", &["images", "--format", "{{.Tag}} {{.ID}}"]).ok().out;
    // The latest come first.
    let mut tags: Vec<&str> = tags.lines().collect();
    tags.sort_unstable();
    let id = |name: &str| identity(&place, "store", name).1[7..19].to_owned();
    let (first, third) = (id(&one), id(&three));
    assert_eq!(tags.join(" "), format!("1 {first} 2 {first} latest {first} three {third}"));
    assert_eq!(count(&place, "new", "layers"), 4);

    let (digest, id) = identity(&place, "store", &three);
    let by_digest = registry.name(&format!("team/app@{digest}"));
    assert_eq!(place.bundle_in("third", &["pull", "-q", PLAIN, &by_digest]).ok().out, format!("{id}\n"));
    assert_eq!(identity(&place, "third", &by_digest), (digest.clone(), id));
    // With a tag, the digest is what counts.
    place.bundle_in("third", &["pull", PLAIN, &registry.name(&format!("team/app:1@{digest}"))]).ok();
    assert_eq!(place.bundle_in("third", &["images", "-q"]).ok().out.lines().count(), 1);
    let absent = registry.name(&format!("team/app@sha256:{}", "0".repeat(64)));
    place.bundle_in("third", &["pull", PLAIN, &absent]).fails(1, "MANIFEST_UNKNOWN");
    place.bundle_in("third", &["pull", PLAIN, &registry.name("team/app:4")]).fails(1, "check the name and the tag");
    place.bundle_in("third", &["pull", PLAIN, &registry.name("team/app@sha256:123")]).fails(1, "sha256:123");

    let inspected = place.bundle(&["manifest", "inspect", PLAIN, &three]).ok().out;
    let raw = sh(&format!(
        "curl -sSf -H 'Accept: {}' http://{}/v2/team/app/manifests/{digest}",
        crate::server::MANIFEST,
        registry.address
    ));
    assert_eq!((inspected.trim_end(), crate::harness::digest(raw.as_bytes())), (raw.as_str(), digest.clone()));
    let verbose = place.bundle(&["manifest", "inspect", "-v", PLAIN, &three]).ok().json();
    assert_eq!(verbose[0]["Descriptor"]["digest"], digest.as_str());
    pushed(&place, &registry, "other:1");
    let search = |words: &[&str]| place.bundle(&[&["search", PLAIN], words].concat()).ok().out;
    let host = registry.address;
    assert_eq!(search(&["--format", "{{.Name}}", &format!("{host}/APP")]), "team/app\n");
    assert_eq!(search(&["--format", "{{.Name}}", "--limit", "1", &format!("{host}/")]).lines().count(), 1);
    for words in [
        &["search", PLAIN, "--format", "json", &format!("{host}/")][..],
        &["tags", PLAIN, "--format", "json", &one],
        &["images", "--format", "json"],
    ] {
        let out = place.bundle(words).ok().out;
        assert!(out.lines().count() > 1, "{words:?}");
        out.lines().for_each(|line| assert!(serde_json::from_str::<Value>(line).unwrap().is_object()));
    }
}

#[test]
fn a_platform_is_chosen_from_an_index() {
    let (place, registry) = (Place::new("platform"), Registry::start());
    let tars = [layer("common", 1000, 1), layer("arm", 1000, 2), layer("amd", 1000, 3), layer("plain", 1000, 4)];
    let gz = format!("{LAYER}+gzip");
    let zst = format!("{LAYER}+zstd");
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let common = (gz.as_str(), gzip(&tars[0]), &tars[0][..]);
    let mut manifests = [
        // Layers compressed with zstd, and not at all.
        registry.put_image("a:amd", ("linux", "amd64"), &[common.clone(), (&zst, zstd(&tars[2]), &tars[2])]),
        registry.put_image("a:arm", ("linux", "arm64"), &[common, (LAYER, tars[1].clone(), &tars[1])]),
    ];
    manifests[0]["platform"] = json!({"os": "linux", "architecture": "amd64"});
    manifests[1]["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let index = registry.put_manifest("a:all", &index);
    let name = registry.name("a:all");
    let pull = |store: &str, platform: &str| {
        place.bundle_in(store, &["pull", "-q", PLAIN, "--platform", platform, &name]).ok();
        let about = place.bundle_in(store, &["inspect", &name]).ok().json();
        // The name is the index's, the image the platform's.
        assert_eq!(identity(&place, store, &name).0, index["digest"]);
        (about[0]["Architecture"].clone(), about[0]["Digest"].clone(), files(&place, store, &name))
    };
    let (architecture, digest, tree) = pull("one", "linux/amd64");
    assert!(architecture == "amd64" && digest == manifests[0]["digest"]);
    assert!(tree.contains_key("amd/file") && tree.contains_key("common/file") && !tree.contains_key("arm/file"));
    let (architecture, digest, tree) = pull("two", "arm64");
    assert!(architecture == "arm64" && digest == manifests[1]["digest"]);
    assert!(tree.contains_key("arm/file") && !tree.contains_key("amd/file"));
    // One store, one after the other: the layer that both have is there once.
    pull("one", "linux/arm64/v8");
    assert_eq!(count(&place, "one", "layers"), 3);
    place.bundle_in("one", &["store", "check"]).ok();
    place.bundle_in("three", &["pull", "-q", PLAIN, &name]).ok();
    assert_eq!(place.bundle_in("three", &["inspect", &name]).ok().json()[0]["Architecture"], arch());
    let fails = |platform: &str, words: &str| {
        place.bundle_in("new", &["pull", PLAIN, "--platform", platform, &name]).fails(1, words);
    };
    fails("linux/s390x", "there is: linux/amd64, linux/arm64/v8");
    fails("a/b/c/d", "OS/ARCHITECTURE");
    empty(&place, "new");
}

#[test]
fn what_is_no_image_is_refused() {
    let (place, registry) = (Place::new("refused"), Registry::start());
    let tars = [layer("x", 100, 1)];
    let fails = |name: &str, words: &str| {
        place.bundle(&["pull", PLAIN, name]).fails(1, words);
        empty(&place, "store");
    };
    let gz = format!("{LAYER}+gzip");
    let chart = registry.put_blob("chart", "application/vnd.cncf.helm.config.v1+json", b"{}");
    let layers = [registry.put_blob("chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", &gzip(&tars[0]))];
    let manifest = json!({"schemaVersion": 2, "mediaType": crate::server::MANIFEST, "config": chart, "layers": layers});
    registry.put_manifest("chart:1", &manifest);
    fails(&registry.name("chart:1"), "it is no image of a container but \"application/vnd.cncf.helm.config.v1+json\"");
    // A layer that is not what the configuration says, and one that is no tar.
    registry.put_image("lies:1", ("linux", arch()), &[(&gz, gzip(&tars[0]), b"another")]);
    place.bundle(&["pull", PLAIN, &registry.name("lies:1")]).fails(1, "the image's configuration says");
    let text = b"hello".repeat(1000);
    registry.put_image("text:1", ("linux", arch()), &[(&gz, gzip(&text), &text)]);
    place.bundle(&["pull", PLAIN, &registry.name("text:1")]).fails(1, "layer sha256:");
    place.bundle(&["prune", "-f"]).ok();
    place.bundle(&["store", "check"]).ok();
    empty(&place, "store");

    let answers: [(&str, &str, String, &str); 6] = [
        (
            "old",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            json!({"schemaVersion": 1, "name": "old", "fsLayers": [], "history": []}).to_string(),
            "Docker's schema 1",
        ),
        ("both", "application/json", json!({"schemaVersion": 2, "manifests": [], "layers": []}).to_string(), "both"),
        ("page", "text/html", "<html>hello</html>".to_owned(), "no JSON"),
        ("cut", "application/json", r#"{"schemaVersion": 2, "config""#.to_owned(), "no JSON"),
        ("large", "application/json", " ".repeat(5 << 20), "more than"),
        ("empty", "application/json", json!({"schemaVersion": 2, "manifests": []}).to_string(), "there is: none"),
    ];
    let told = answers.clone();
    let upstream = Upstream::Made(Arc::new(move |request| {
        match told.iter().find(|it| request.target.contains(&format!("/{}/manifests/", it.0))) {
            Some(it) => Response::new(200, &[("Content-Type", it.1)], it.2.as_bytes()),
            None => Response::new(404, &[], ""),
        }
    }));
    let server = start("127.0.0.1:0", upstream, Vec::new()).unwrap();
    for (name, _, _, words) in answers {
        fails(&format!("{}/{name}:1", server.host()), words);
    }
}

#[test]
fn layers_are_compressed_for_a_registry() {
    let (place, registry) = (Place::new("compressed"), Registry::start());
    std::fs::write(place.path("t.tar"), layer("x", 50_000, 1)).unwrap();
    let name = registry.name("a:1");
    place.bundle(&["import", &place.text("t.tar"), &name]).ok();
    let before = count(&place, "store", "blobs/sha256");
    place.bundle(&["push", &name]).fails(1, PLAIN);
    assert_eq!(count(&place, "store", "blobs/sha256"), before, "what was compressed for a push that failed");
    let first = place.bundle(&["push", PLAIN, &name]).ok().out;
    assert_eq!(count(&place, "store", "blobs/sha256"), before);
    let manifest = place.bundle(&["manifest", "inspect", PLAIN, &name]).ok().json();
    assert_eq!(manifest["layers"][0]["mediaType"], format!("{LAYER}+gzip"));
    assert_eq!(place.bundle(&["push", PLAIN, &name]).ok().out, first, "the same bytes each time");
    place.bundle_in("new", &["pull", PLAIN, &name]).ok();
    assert_eq!(identity(&place, "new", &name).1, identity(&place, "store", &name).1);
    assert!(differences(&files(&place, "store", &name), &files(&place, "new", &name)).is_empty());
    assert!(first.ends_with(&format!("{}\n", identity(&place, "new", &name).0)), "{first}");
}

#[test]
fn other_tools_agree() {
    let (place, registry) = (Place::new("tools"), Registry::start());
    let name = pushed(&place, &registry, "a/b:1");
    let (digest, id) = identity(&place, "store", &name);
    let skopeo = |words: &str| sh(&format!("HOME={} skopeo {words}", place.text("home")));
    let told = |name: &str| skopeo(&format!("inspect --tls-verify=false --format '{{{{.Digest}}}}' docker://{name}"));
    assert_eq!(told(&name).trim(), digest);
    let archive = place.text("archive.tar");
    skopeo(&format!("copy -q --src-tls-verify=false docker://{name} docker-archive:{archive}:x/y:1"));
    place.bundle_in("archive", &["load", "-q", "-i", &archive]).ok();
    assert_eq!(identity(&place, "archive", "x/y:1").1, id);
    let podman = |words: &str| {
        sh(&format!(
            "HOME={} podman --root {} --runroot {} --tmpdir {} --storage-driver vfs --cgroup-manager cgroupfs {words}",
            place.text("home"),
            place.text("podman"),
            place.text("run"),
            place.text("tmp")
        ))
    };
    assert!(podman(&format!("pull -q --tls-verify=false {name}")).contains(&id[7..]));
    podman(&format!("push -q --tls-verify=false --format v2s2 {name} {}", registry.name("podman:1")));

    // What others pushed: with OCI's media types, with Docker's, of zstd.
    let dir = place.path("by-skopeo");
    layout(&dir, "x:1", &[layer("x", 50_000, 1), layer("y", 1000, 2)], json!({}));
    for (tag, how) in [("oci", ""), ("docker", "--format v2s2"), ("zstd", "--dest-compress-format zstd")] {
        let name = registry.name(&format!("skopeo:{tag}"));
        skopeo(&format!("copy -q --dest-tls-verify=false {how} oci:{} docker://{name}", dir.display()));
    }
    for rest in ["skopeo:oci", "skopeo:docker", "skopeo:zstd", "podman:1"] {
        let name = registry.name(rest);
        place.bundle_in("new", &["pull", PLAIN, &name]).ok();
        assert_eq!(told(&name).trim(), identity(&place, "new", &name).0, "{rest}");
    }
    place.bundle_in("new", &["store", "check"]).ok();
    let new = |rest: &str| files(&place, "new", &registry.name(rest));
    assert!(differences(&new("skopeo:oci"), &new("skopeo:docker")).is_empty());
    assert!(differences(&new("skopeo:oci"), &new("skopeo:zstd")).is_empty());
    assert!(differences(&files(&place, "store", &name), &new("podman:1")).is_empty());
}

#[test]
fn progress_is_for_whom_it_is_read_by() {
    let (place, registry) = (Place::new("progress"), Registry::start());
    let name = pushed(&place, &registry, "a:1");
    let plain = |text: &str| text.chars().all(|it| it == '\n' || !it.is_control());
    let told = place.bundle_in("one", &["pull", PLAIN, &name]).ok();
    assert_eq!(told.out, format!("{name}\n"));
    assert!(plain(&told.err) && told.err.matches("Pull complete").count() == 3, "{}", told.err);
    let told = place.bundle_in("two", &["pull", "-q", PLAIN, &name]).ok();
    let id = identity(&place, "store", &name).1;
    assert_eq!((told.out, told.err), (format!("{id}\n"), String::new()));
    let told = place.bundle(&["push", PLAIN, &name, &registry.name("b:1")]).ok();
    assert!(plain(&told.err) && told.out.lines().count() == 1);
    let told = place.bundle(&["push", "-q", PLAIN, &name, &registry.name("c:1")]).ok();
    assert_eq!((told.out, told.err), (String::new(), String::new()));

    // A terminal: `script` gives us one.
    let terminal = |line: &str| {
        let mut command = Command::new("script");
        command.args(["-qec", line, "/dev/null"]).stdin(Stdio::null()).env("HOME", place.path("home"));
        Done::of(&mut command, &[line]).ok().out
    };
    let line = |words: &str| format!("{} --root {} {words}", bundle().display(), place.text("three"));
    let told = terminal(&line(&format!("pull {PLAIN} {name}")));
    assert!(told.contains("\u{1b}[") && told.contains('\r') && told.contains("Pull complete"), "{told:?}");
    assert!(told.contains(&format!("{name}\r\n")));
    // The standard output alone is no terminal's.
    let told = terminal(&format!("{} | cat", line(&format!("pull -q {PLAIN} {name}"))));
    assert_eq!(told, format!("{id}\r\n"));
}

#[test]
fn mirrors_are_asked_first_and_not_trusted() {
    let (place, registry) = (Place::new("mirrors"), Registry::start());
    let original = pushed(&place, &registry, "a/b:1");
    let (itself, mirror) = (watched(&registry), watched(&registry));
    let name = original.replace(&registry.address.to_string(), &itself.host());
    let configure = |mirrors: &str| {
        configure(&place, &format!("[registry.\"{}\"]\ninsecure = true\nmirrors = [{mirrors}]\n", itself.host()));
    };
    let tree = files(&place, "store", &original);
    let pull = |store: &str| {
        let told = place.bundle_in(store, &["pull", &name]).ok().err;
        assert!(differences(&tree, &files(&place, store, &name)).is_empty());
        place.bundle_in(store, &["store", "check"]).ok();
        told
    };
    configure(&format!("\"http://{}\"", mirror.host()));
    pull("good");
    assert_eq!((blobs(&mirror), itself.seen().len()), (4, 0));
    // A mirror that has wrong bytes, each time: in a layer, in the configuration, in the manifest.
    let config = place.bundle(&["manifest", "inspect", PLAIN, &original]).ok().json()["config"]["digest"].clone();
    let config = format!("/blobs/{}", config.as_str().unwrap());
    for (store, target, fault) in [
        ("layers", "/blobs/", Fault::Corrupt(5)),
        ("config", &config, Fault::Corrupt(5)),
        ("config-cut", &config, Fault::Truncate(5)),
        ("cut", "/blobs/", Fault::Truncate(5)),
        ("manifest", "/manifests/", Fault::Corrupt(20)),
        ("page", "/manifests/", Fault::Status(200, Vec::new(), "<html>log in</html>".to_owned())),
        ("lacks", "/v2/", Fault::Status(404, Vec::new(), String::new())),
        ("busy", "/v2/", Fault::Status(429, vec![("Retry-After".to_owned(), "1000".to_owned())], String::new())),
    ] {
        mirror.plan(vec![Rule::new("GET", target, usize::MAX, fault)]);
        let before = itself.seen().len();
        pull(store);
        assert!(itself.seen().len() > before, "{store}");
    }
    // Several, of which one is not there at all.
    mirror.plan(Vec::new());
    configure(&format!("\"http://127.0.0.1:1\", \"http://{}\"", mirror.host()));
    let before = itself.seen().len();
    pull("dead");
    assert_eq!(itself.seen().len(), before);
    configure("\"http://127.0.0.1:1\"");
    pull("dead-alone");
}
