//! Steps that an image tells of: `--build-arg BUILDKIT_INLINE_CACHE=1` on one machine, `--cache-from` on another one.

use std::path::Path;

use serde_json::{Value, json};

use crate::bed::{Bed, base};
use crate::harness::{Done, digest, layout, tar};
use crate::server::Registry;

const FIELD: &str = "bundle.build.cache.v0";
const INLINE: [&str; 2] = ["--build-arg", "BUILDKIT_INLINE_CACHE=1"];

/// The directory is there: a step without a layer. What the first RUN writes no second one does.
const DOCKERFILE: &str = "FROM base:1
WORKDIR /srv
RUN head -c 16 /dev/urandom | md5sum > /random; echo ran-$((10+1))
COPY file /file
ENV A=1
RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c > /length; env | sort > /env; echo ran-$((20+2))
";

fn cached(done: &Done) -> usize {
    done.err.matches("CACHED").count()
}

/// Builds [`DOCKERFILE`].
fn build(bed: &Bed, file: &str, flags: &[&str]) -> Done {
    let secret = format!("id=s,src={}", bed.0.text("secret"));
    std::fs::write(bed.0.path("secret"), "do not tell").unwrap();
    bed.build(DOCKERFILE, &[("file", file)], &[&["--secret", &secret], flags].concat()).ok()
}

/// The configuration of an image.
fn config(bed: &Bed, id: &str) -> Value {
    let path = format!("store/blobs/sha256/{}", id.trim_start_matches("sha256:"));
    serde_json::from_slice(&std::fs::read(bed.0.path(&path)).unwrap()).unwrap()
}

/// A bed of another machine with the image of an archive in it.
fn elsewhere(name: &str, archive: &str) -> Bed {
    let bed = Bed::new(name);
    bed.run(&["load", "-q", "-i", archive]).ok();
    bed
}

/// An image of these layers whose configuration has this field, as `evil:1`.
fn load_evil(bed: &Bed, layers: &[Vec<u8>], field: &Value) {
    let dir = bed.0.path("evil");
    let _ = std::fs::remove_dir_all(&dir);
    layout(&dir, "evil:1", layers, json!({}));
    let blob = |name: &Value| dir.join("blobs/sha256").join(&name.as_str().unwrap()[7..]);
    let read = |path: &Path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    let put = |descriptor: &mut Value, content: &Value| {
        let bytes = content.to_string().into_bytes();
        descriptor["digest"] = json!(digest(&bytes));
        descriptor["size"] = json!(bytes.len());
        std::fs::write(blob(&descriptor["digest"]), bytes).unwrap();
    };
    let mut index = read(&dir.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    let mut config = read(&blob(&manifest["config"]["digest"]));
    config[FIELD] = field.clone();
    put(&mut manifest["config"], &config);
    put(&mut index["manifests"][0], &manifest);
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    bed.run(&["load", "-q", "-i", dir.to_str().unwrap()]).ok();
}

/// No step is known to later builds.
#[track_caller]
fn forget(bed: &Bed) {
    bed.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(bed.rows("SELECT count(*) FROM build_cache"), "0");
}

#[test]
fn the_argument_changes_one_field_alone() {
    let bed = Bed::new("inline-argument");
    let with = build(&bed, "1\n", &INLINE);
    assert!(!with.err.contains("warning"), "{}", with.err);
    assert_eq!(bed.in_image("t", "cat /length; grep -c BUILDKIT /env; true"), "11\n0\n");
    let without = build(&bed, "1\n", &[]);
    assert_eq!(cached(&without), 4, "keys are the same: {}", without.err);
    for off in ["BUILDKIT_INLINE_CACHE=0", "BUILDKIT_INLINE_CACHE="] {
        assert_eq!(build(&bed, "1\n", &["--build-arg", off]).last(), without.last());
    }
    assert_eq!(build(&bed, "1\n", &INLINE).last(), with.last());

    let mut told = config(&bed, with.last());
    let steps = told.as_object_mut().unwrap().remove(FIELD).unwrap();
    assert_eq!(told, config(&bed, without.last()));
    let layers: Vec<&Value> = steps.as_array().unwrap().iter().map(|it| &it["diff_id"]).collect();
    let diff_ids = &told["rootfs"]["diff_ids"];
    assert_eq!(layers, [&Value::Null, &diff_ids[1], &diff_ids[2], &diff_ids[3]]);
    let text = steps.to_string();
    assert!(!text.contains("do not tell") && !text.contains("urandom"), "{text}");

    // What stands on such an image tells of it only what it knows itself.
    bed.run(&["tag", with.last(), "below:1"]).ok();
    let above = bed.build("FROM below:1\nLABEL x=1\n", &[], &[]).ok();
    assert_eq!(config(&bed, above.last()).get(FIELD), None);
    let above = bed.build("FROM below:1\nLABEL x=1\n", &[], &INLINE).ok();
    assert_eq!(config(&bed, above.last())[FIELD], json!([]));

    let wrong = bed.build("FROM base:1\n", &[], &["--build-arg", "BUILDKIT_INLINE_CACHE=yes"]);
    wrong.fails(1, "BUILDKIT_INLINE_CACHE=yes: neither 1 nor 0");
    bed.is_clean();
}

#[test]
fn steps_come_with_an_archive() {
    let here = Bed::new("inline-here");
    let first = build(&here, "1\n", &INLINE);
    let plain = build(&here, "1\n", &[]);
    let random = here.in_image("t", "cat /random");
    here.run(&["tag", first.last(), "cached:1"]).ok();
    for format in ["oci-archive", "docker-archive"] {
        let archive = here.0.text(format);
        here.run(&["save", "--format", format, "-o", &archive, "cached:1"]).ok();
        let there = elsewhere("inline-there", &archive);
        let layers = there.rows("SELECT count(*) FROM layers");
        let again = build(&there, "1\n", &[&INLINE[..], &["--cache-from", "cached:1"]].concat());
        assert_eq!(cached(&again), 4, "{format}: {}", again.err);
        let ran = again.err.contains("ran-11") || again.err.contains("ran-22");
        assert!(!ran && !again.err.contains("warning"), "{}", again.err);
        assert_eq!(again.last(), first.last(), "{format}");
        assert_eq!(there.in_image("t", "cat /random"), random);
        assert_eq!(build(&there, "1\n", &["--cache-from", "none.invalid/x,cached:1"]).last(), plain.last());
        assert_eq!(there.rows("SELECT count(*) FROM layers"), layers);

        // A change: what stands before it is there, what comes after it is done, and is known from then on.
        let flags = ["--cache-from", "cached:1"];
        let changed = build(&there, "2\n", &flags);
        assert_eq!(cached(&changed), 2, "{}", changed.err);
        assert!(changed.err.contains("ran-22") && !changed.err.contains("ran-11"), "{}", changed.err);
        assert_eq!(there.in_image("t", "cat /random /file"), format!("{random}2\n"));
        assert_eq!(there.rows("SELECT count(*) FROM build_cache"), "2");
        assert_eq!(build(&there, "2\n", &flags).last(), changed.last());

        // Who does not name the image has nothing of it.
        for flags in [&[][..], &["--no-cache", "--cache-from", "cached:1"]] {
            let own = build(&there, "1\n", flags);
            assert_eq!(cached(&own), 0, "{flags:?}: {}", own.err);
            assert!(own.err.contains("ran-11"), "{}", own.err);
            assert_ne!(there.in_image("t", "cat /random"), random);
        }
        there.is_clean();
    }
    here.is_clean();
}

#[test]
fn steps_come_from_a_registry() {
    let (here, registry) = (Bed::new("inline-push"), Registry::start());
    let name = registry.name("app:1");
    let first = build(&here, "1\n", &INLINE);
    here.run(&["tag", "t", &name]).ok();
    here.run(&["push", "-q", "--tls-verify=false", &name]).ok();
    let there = Bed::new("inline-pull");
    let source = format!("type=registry,ref={name}");
    let flags = ["--tls-verify=false", "--cache-from", &source];
    let again = build(&there, "1\n", &[&INLINE[..], &flags].concat());
    assert_eq!((cached(&again), again.last()), (4, first.last()), "{}", again.err);
    // The manifest too: no layer was packed a second time.
    let blobs = |bed: &Bed| bed.rows("SELECT digest FROM blobs ORDER BY digest");
    assert_eq!(blobs(&there), blobs(&here));
    there.is_clean();
}

#[test]
fn stages_that_the_image_stands_on_are_told() {
    let here = Bed::new("inline-stages");
    // What `one` has made is in the image; what `two` has made is not, but the files that come of it are the same.
    let dockerfile = "FROM base:1 AS one
RUN head -c 16 /dev/urandom | md5sum > /random
FROM base:1 AS two
RUN mkdir /made && echo same > /made/file && echo told
FROM one
COPY --from=two /made /made
RUN cat /made/file > /after; head -c 16 /dev/urandom >> /after
";
    let first = here.build(dockerfile, &[], &INLINE).ok();
    let again = here.build(dockerfile, &[], &INLINE).ok();
    assert_eq!((cached(&again), again.last()), (4, first.last()), "a hit by another key tells the same");
    let archive = here.0.text("archive");
    here.run(&["tag", "t", "cached:1"]).ok();
    here.run(&["save", "-o", &archive, "cached:1"]).ok();
    let there = elsewhere("inline-stages-there", &archive);
    let done = there.build(dockerfile, &[], &[&INLINE[..], &["--cache-from", "cached:1"]].concat()).ok();
    assert_eq!((cached(&done), done.last()), (3, first.last()), "{}", done.err);
    assert!(done.err.contains(" told\n"), "{}", done.err);
    assert_eq!(there.rows("SELECT count(*) FROM build_cache"), "1", "the step of `two`");
    there.is_clean();
}

#[test]
fn an_image_without_steps_is_a_warning() {
    let bed = Bed::new("inline-without");
    let build = |source: &str| bed.build("FROM base:1\nRUN true\n", &[], &["--cache-from", source]);
    for (source, told) in [
        (
            "base:1",
            "base:1: the image tells nothing of its steps: it is built with --build-arg BUILDKIT_INLINE_CACHE=1",
        ),
        ("none.invalid/x", "none.invalid/x: no image none.invalid/x"),
        ("A B", "A B: A B is no image's name"),
        ("type=local,src=/x", "type=local: caches are taken from images alone: type=registry,ref=IMAGE"),
    ] {
        let done = build(source).ok();
        assert!(done.err.contains(&format!("warning: --cache-from {told}")), "{}", done.err);
    }
    build("type=registry").fails(1, "--cache-from type=registry: a ref is missing");
    bed.is_clean();
}

#[test]
fn a_hostile_image_decides_nothing_for_others() {
    let dockerfile = "FROM base:1\nRUN echo honest > /file\n";
    let bed = Bed::new("inline-hostile");
    bed.build(dockerfile, &[], &[]).ok();
    let key = bed.rows("SELECT key FROM build_cache");
    let others = tar(&[("file", "another image's", 0o644)]);
    layout(&bed.0.path("other"), "other:1", &[base(), others.clone()], json!({}));
    bed.run(&["load", "-q", "-i", &bed.0.text("other")]).ok();
    let owned = tar(&[("file", "owned", 0o644)]);
    let step = |diff_id: &str| json!([{"key": key, "diff_id": diff_id, "created": 1}]);
    let flags = ["--cache-from", "evil:1"];

    // Layers that are here, but not the image's, or not on top of what the step stands on.
    let top = tar(&[("top", "", 0o644)]);
    for (layers, field) in [
        (vec![base(), owned.clone()], step(&digest(&others))),
        (vec![base(), top.clone(), owned.clone()], step(&digest(&owned))),
        (vec![owned.clone()], step(&digest(&owned))),
        (vec![owned.clone()], json!([{"key": key, "created": 1}])),
    ] {
        load_evil(&bed, &layers, &field);
        forget(&bed);
        let done = bed.build(dockerfile, &[], &flags).ok();
        assert_eq!(cached(&done), 0, "{field}: {}", done.err);
        assert_eq!(bed.in_image("t", "cat /file"), "honest\n");
    }
    let huge: Vec<Value> = (0..5000).map(|_| step(&digest(&owned))[0].clone()).collect();
    for field in
        [json!(huge), json!([step(&digest(&owned))[0], {"key": "../".repeat(100_000)}]), json!("x".repeat(1 << 20))]
    {
        load_evil(&bed, &[base(), owned.clone()], &field);
        forget(&bed);
        let done = bed.build(dockerfile, &[], &flags).ok();
        assert!(done.err.contains("warning: --cache-from evil:1: the image's configuration: /bundle.build.cache.v0"));
        assert!(done.err.len() < 2000 && cached(&done) == 0, "{}", done.err);
        assert_eq!(bed.in_image("t", "cat /file"), "honest\n");
    }

    // Who names it takes its word, and nobody else does; what was done on top of it says nothing of what is below.
    load_evil(&bed, &[base(), owned.clone()], &step(&digest(&owned)));
    forget(&bed);
    let more = format!("{dockerfile}RUN cat /file > /copy\n");
    assert_eq!(cached(&bed.build(&more, &[], &flags).ok()), 1);
    assert_eq!(bed.in_image("t", "cat /copy"), "owned");
    let done = bed.build(&more, &[], &[]).ok();
    assert_eq!(cached(&done), 0, "{}", done.err);
    assert_eq!(bed.in_image("t", "cat /file /copy"), "honest\nhonest\n");
    bed.is_clean();
}
