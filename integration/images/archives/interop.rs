//! Archives of podman, skopeo and umoci are read; archives of ours are read by them; nothing changes on the way.

use super::{
    INDEX, Layout, Tree, by_umoci, ids, known, load_from_pipe, manifest, nothing_in, same_files, tars,
    unpacked_by_umoci,
};
use crate::harness::{Place, arch, digest, layout, sh};
use serde_json::json;

/// Podman with a storage of its own that mounts nothing.
fn podman(place: &Place, words: &str) -> String {
    let dir = place.text("podman");
    sh(&format!("podman --root {dir}/root --runroot {dir}/run --storage-driver vfs --events-backend none {words}"))
}

/// What skopeo says of an image somewhere: its id, and its manifest's digest.
fn skopeo(place: &Place, from: &str) -> (String, String) {
    let hash = |flags: &str| {
        let path = place.text("raw");
        sh(&format!("skopeo inspect {flags} {from} > {path}"));
        digest(&std::fs::read(path).unwrap())
    };
    (hash("--config --raw"), hash("--raw"))
}

/// One image, in all kinds that a layout can hold it.
fn samples(place: &Place, tars: &[Vec<u8>]) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for (name, compression) in [("gzip", "+gzip"), ("zstd", "+zstd"), ("plain", "")] {
        let mut made = Layout::new(place.path(name));
        let image = made.image(tars, compression, arch());
        made.add(&image, &[&format!("example.org/a/{name}:x")]);
        all.push((name, image["digest"].as_str().unwrap().to_owned()));
    }
    all
}

#[test]
fn what_skopeo_writes() {
    let place = Place::new("skopeo");
    let tars = tars(&place);
    let wanted = by_umoci(&place, &tars);
    for (sample, _) in samples(&place, &tars) {
        let (from, out) = (place.text(sample), place.text("out"));
        for form in ["oci", "oci-archive", "docker-archive"] {
            // Debian's skopeo and podman know no zstd in Docker's archives.
            if (sample, form) == ("zstd", "docker-archive") {
                continue;
            }
            let name = format!("example.org/copied/{sample}:1");
            sh(&format!("skopeo copy -q oci:{from}:x {form}:{out}:{name}"));
            let (id, digest) = skopeo(&place, &format!("{form}:{out}:{name}"));
            let store = format!("{sample}-{form}");
            assert_eq!(
                place.bundle_in(&store, &["load", "-q", "-i", &out]).ok().out,
                format!("Loaded image: {name}\n")
            );
            let found = known(&place, &store, &name);
            assert_eq!((&found.0, &found.2), (&id, &vec![name.clone()]), "{store}");
            // An archive of Docker's has no manifest: ours is made up.
            if form != "docker-archive" {
                assert_eq!(found.1, digest, "{store}");
            }
            same_files(&place, &store, &id, &wanted, &store);
            if form != "oci" && sample == "gzip" {
                compressed(&place, &out, &found);
            }
            sh(&format!("rm -r {out} {}", place.text(&store)));
        }
    }
}

/// The same archive compressed, from a file and from a pipe.
fn compressed(place: &Place, archive: &str, wanted: &(String, String, Vec<String>)) {
    for (number, from) in [
        format!("cat {archive}"),
        format!("gzip -1c {archive}"),
        format!("zstd -1qc {archive}"),
        // As pigz and mkfs pad: several members, and zeros behind them.
        format!("head -c 100000 {archive} | gzip; tail -c +100001 {archive} | gzip; head -c 1000 /dev/zero"),
    ]
    .iter()
    .enumerate()
    {
        let (piped, filed) = (format!("piped-{number}"), format!("filed-{number}"));
        load_from_pipe(place, &piped, from).ok();
        let path = place.text("compressed");
        sh(&format!("{{ {from}; }} > {path}"));
        place.bundle_in(&filed, &["load", "-q", "-i", &path]).ok();
        for store in [piped, filed] {
            assert_eq!(&known(place, &store, &wanted.2[0]), wanted, "{from}");
            std::fs::remove_dir_all(place.path(&store)).unwrap();
        }
    }
}

#[test]
fn what_podman_writes() {
    let place = Place::new("podman");
    let tars = tars(&place);
    let wanted = by_umoci(&place, &tars);
    for (sample, _) in samples(&place, &tars) {
        let first = format!("example.org/a/{sample}:1");
        let second = format!("example.org/b/{sample}:2");
        sh(&format!("skopeo copy -q oci:{}:x oci-archive:{}:{first}", place.text(sample), place.text("in")));
        podman(&place, &format!("load -q -i {}", place.text("in")));
        for form in ["oci-archive", "oci-dir", "docker-archive"] {
            if (sample, form) == ("zstd", "docker-archive") {
                continue;
            }
            let out = place.text("out");
            let names = if form == "docker-archive" { format!("{first} {second}") } else { first.clone() };
            podman(&place, &format!("save -q --format {form} -o {out} {names}"));
            let transport = form.replace("oci-dir", "oci");
            let (id, digest) = skopeo(&place, &format!("{transport}:{out}"));
            let store = format!("{sample}-{form}");
            place.bundle_in(&store, &["load", "-q", "-i", &out]).ok();
            assert_eq!(ids(&place, &store), std::slice::from_ref(&id));
            let found = known(&place, &store, &id);
            assert_eq!(found.2, names.split(' ').collect::<Vec<_>>(), "{store}");
            if form != "docker-archive" {
                assert_eq!(found.1, digest, "{store}");
            }
            same_files(&place, &store, &id, &wanted, &store);
            sh(&format!("rm -r {out} {}", place.text(&store)));
        }
        sh(&format!("rm {}", place.text("in")));
    }
    podman(&place, "rmi -fa");
}

#[test]
fn what_umoci_writes() {
    let place = Place::new("umoci");
    tars(&place);
    let out = place.text("out");
    sh(&format!("umoci init --layout {out} && umoci new --image {out}:x"));
    for number in 1..=4 {
        sh(&format!("umoci raw add-layer --image {out}:x {}/{number}.tar", place.text("tars")));
    }
    sh(&format!("umoci config --image {out}:x --config.cmd sh --config.env A=b && umoci tag --image {out}:x y"));
    let (id, digest) = skopeo(&place, &format!("oci:{out}:x"));
    // A tag alone is no name.
    let done = place.bundle(&["load", "-q", "-i", &out]).ok();
    assert_eq!(done.out, format!("Loaded image ID: {id}\n"));
    assert_eq!(known(&place, "store", &id), (id.clone(), digest, Vec::new()));
    let wanted = unpacked_by_umoci(&place, &out, "x");
    same_files(&place, "store", &id, &wanted, "umoci");
}

#[test]
fn an_index_as_buildx_writes_it() {
    let place = Place::new("buildx");
    let tars = tars(&place);
    let mut made = Layout::new(place.path("in"));
    let own = made.image(&tars, "+gzip", arch());
    let other = made.image(&tars[..1], "+gzip", "riscv64");
    let statement = br#"{"_type":"https://in-toto.io/Statement/v0.1","subject":[]}"#;
    let attestation = json!({
        "schemaVersion": 2, "mediaType": super::MANIFEST,
        "config": made.blob(super::CONFIG, br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#),
        "layers": [made.blob("application/vnd.in-toto+json", statement)],
    });
    let mut attestation = made.blob(super::MANIFEST, attestation.to_string().as_bytes());
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] =
        json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": own["digest"]});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [other, attestation, own]});
    let index = made.blob(INDEX, index.to_string().as_bytes());
    made.add(&index, &["docker.io/team/app:1", "docker.io/team/app:latest"]);

    let wanted = by_umoci(&place, &tars);
    sh(&format!("tar -C {} -cf {} .", place.text("in"), place.text("in.tar")));
    for (store, input) in [("dir", place.text("in")), ("tar", place.text("in.tar"))] {
        let done = place.bundle_in(store, &["load", "-q", "-i", &input]).ok();
        assert_eq!(done.out, "Loaded image: team/app:1\nLoaded image: team/app:latest\n");
        let (id, digest, names) = known(&place, store, "team/app:1");
        assert_eq!(digest, own["digest"].as_str().unwrap());
        assert_eq!(names, ["team/app:1", "team/app:latest"]);
        assert_eq!(ids(&place, store), std::slice::from_ref(&id), "neither the other platform nor the attestation");
        same_files(&place, store, &id, &wanted, store);
        place.bundle_in(store, &["load", "-q", "--platform", "linux/riscv64", "-i", &input]).ok();
        let (_, digest, _) = known(&place, store, "team/app:1");
        assert_eq!(digest, other["digest"].as_str().unwrap());
        place.bundle_in(store, &["load", "-q", "--platform", "linux/s390x", "-i", &input]).fails(1, "linux/s390x");
        place.bundle_in(store, &["rmi", "-f", "team/app:1", "team/app:latest"]).ok();
        place.bundle_in(store, &["prune", "-f", "--all"]).ok();
        nothing_in(&place, store, "all is removed");
    }
}

#[test]
fn a_whole_debian() {
    let archive = sh(concat!(env!("CARGO_MANIFEST_DIR"), "/../../integration/images/debian"));
    let place = Place::new("debian");
    let tars = [std::fs::read(archive.trim()).unwrap()];
    let mut made = Layout::new(place.path("in"));
    let image = made.image(&tars, "", arch());
    made.add(&image, &["debian:x"]);
    let wanted: Tree = unpacked_by_umoci(&place, &place.text("in"), "x");
    assert!(wanted.len() > 5000);
    sh(&format!("skopeo copy -q oci:{}:x docker-archive:{}:debian:x", place.text("in"), place.text("docker")));
    let (id, _) = skopeo(&place, &format!("docker-archive:{}", place.text("docker")));
    place.bundle(&["load", "-q", "-i", &place.text("docker")]).ok();
    assert_eq!(known(&place, "store", "debian:x").0, id);
    same_files(&place, "store", "debian:x", &wanted, "docker-archive");
    place.bundle(&["load", "-q", "-i", &place.text("in")]).ok();
    assert_eq!(known(&place, "store", "debian:x").1, image["digest"].as_str().unwrap());
    same_files(&place, "store", "debian:x", &wanted, "layout");
}

/// The four forms, and how skopeo calls them.
const FORMS: [(&str, &str); 4] =
    [("both", "oci-archive"), ("oci-archive", "oci-archive"), ("docker-archive", "docker-archive"), ("oci-dir", "oci")];

/// A store with four images of one, two and no names; ids, digests and names of them. Three differ only in how their
/// layers are compressed, so they have one id.
fn filled(place: &Place) -> Vec<(String, String, Vec<String>)> {
    let tars = tars(place);
    samples(place, &tars);
    let mut nameless = Layout::new(place.path("nameless"));
    let image = nameless.image(&tars[..2], "+gzip", arch());
    nameless.add(&image, &[]);
    for name in ["gzip", "zstd", "plain", "nameless"] {
        place.bundle(&["load", "-q", "-i", &place.text(name)]).ok();
    }
    for (number, sample) in ["gzip", "zstd", "plain"].iter().enumerate() {
        place.bundle(&["tag", &format!("example.org/a/{sample}:x"), &format!("example.org/a/{sample}:{number}")]).ok();
        place.bundle(&["rmi", &format!("example.org/a/{sample}:x")]).ok();
    }
    place.bundle(&["tag", "example.org/a/gzip:0", "short"]).ok();
    let raw = place.bundle(&["images", "-a", "--no-trunc", "--digests", "--format", "{{.Digest}}"]).ok().out;
    let mut digests: Vec<&str> = raw.lines().collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4, "{raw}");
    digests.iter().map(|it| known(place, "store", it)).collect()
}

/// The names of all images of an id.
fn names_of(all: &[(String, String, Vec<String>)], id: &str) -> Vec<String> {
    let mut names: Vec<String> = all.iter().filter(|it| it.0 == id).flat_map(|it| it.2.clone()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_loaded_again() {
    let place = Place::new("again");
    let all = filled(&place);
    let words: Vec<&str> = all
        .iter()
        .flat_map(
            |(_, digest, names)| {
                if names.is_empty() { vec![digest.as_str()] } else { names.iter().map(String::as_str).collect() }
            },
        )
        .collect();
    for (form, _) in FORMS {
        let save = |out: &str| {
            place.bundle(&[&["save", "--format", form, "-o", out], &words[..]].concat()).ok();
        };
        let (one, two) = (place.text("one"), place.text("two"));
        save(&one);
        save(&two);
        sh(&format!("diff -r {one} {two}"));
        if form != "oci-dir" {
            let piped = format!("{form}-piped");
            let mut command = place.command("store", &[&["save", "--format", form], &words[..]].concat());
            let output = command.output().unwrap();
            assert!(output.status.success() && output.stdout == std::fs::read(&one).unwrap(), "{form}");
            load_from_pipe(&place, &piped, &format!("cat {one}")).ok();
            assert_eq!(ids(&place, &piped), ids(&place, "store"));
        }
        place.bundle_in(form, &["load", "-q", "-i", &one]).ok();
        for image in &all {
            let (id, digest, names) = image;
            let found = known(&place, form, names.first().unwrap_or(id));
            if form == "docker-archive" {
                assert_eq!((&found.0, &found.2), (id, &names_of(&all, id)), "{form}");
            } else {
                assert_eq!(&found, image, "{form}: {digest}");
            }
        }
        place.bundle_in(form, &["store", "check"]).ok();
        // What was loaded is saved and loaded once more: from now on nothing at all changes.
        let words: Vec<String> = all.iter().map(|it| it.2.first().unwrap_or(&it.0).clone()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let third = place.text("third");
        place.bundle_in(form, &[&["save", "-o", &third], &words[..]].concat()).ok();
        place.bundle_in("once-more", &["load", "-q", "-i", &third]).ok();
        for word in &words {
            let (one, two) = (known(&place, form, word), known(&place, "once-more", word));
            assert_eq!((one.0, one.1), (two.0, two.1), "{form}");
        }
        sh(&format!("rm -r {one} {two} {third} {}", place.text("once-more")));
    }
}

#[test]
fn others_read_what_is_saved() {
    let place = Place::new("others");
    let all = filled(&place);
    let tars: Vec<Vec<u8>> = (1..=4).map(|it| std::fs::read(place.path(&format!("tars/{it}.tar"))).unwrap()).collect();
    let wanted = by_umoci(&place, &tars);
    let names: Vec<&str> = all.iter().flat_map(|it| it.2.iter().map(String::as_str)).collect();
    for (form, transport) in FORMS {
        let out = place.text("out");
        place.bundle(&[&["save", "--format", form, "-o", &out], &names[..]].concat()).ok();
        for (id, digest, names) in &all {
            for name in names {
                let reference = match transport {
                    "docker-archive" if name == "short:latest" => "docker.io/library/short:latest",
                    "docker-archive" => name,
                    _ => name.rsplit(':').next().unwrap(),
                };
                let found = skopeo(&place, &format!("{transport}:{out}:{reference}"));
                assert_eq!(&found.0, id, "{form} {name}");
                if transport != "docker-archive" {
                    assert_eq!(&found.1, digest, "{form} {name}");
                }
                if form == "oci-dir" && name.contains("gzip") {
                    let tree = unpacked_by_umoci(&place, &out, reference);
                    assert_eq!(super::differences(&wanted, &tree), Vec::<String>::new(), "{name}");
                }
            }
        }
        sh(&format!("rm -r {out}"));
        // Podman takes several images of one archive of Docker's only.
        let sets: Vec<Vec<&str>> = match form {
            "both" | "docker-archive" => vec![names.clone()],
            _ => names.iter().map(|it| vec![*it]).collect(),
        };
        for set in sets {
            place.bundle(&[&["save", "--format", form, "-o", &out], &set[..]].concat()).ok();
            podman(&place, &format!("load -q -i {out}"));
            for (id, _, names) in all.iter().filter(|it| it.2.iter().any(|name| set.contains(&name.as_str()))) {
                let there = podman(&place, "images -a --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}'");
                assert!(there.contains(id), "{form} {set:?} {names:?}: no {id} in\n{there}");
                if form == "both" || form == "docker-archive" {
                    let long = |it: &String| it.replace("short:", "localhost/short:");
                    assert!(names.iter().all(|it| there.contains(&format!("{id} {}\n", long(it)))), "{form}\n{there}");
                }
            }
            podman(&place, "rmi -fa");
            sh(&format!("rm -r {out}"));
        }
    }
    assert!(manifest(&place.path("store/trash"), &[]).len() <= 1);
}

#[test]
fn a_name_moves_to_the_image_that_is_loaded() {
    let place = Place::new("moves");
    for (dir, content) in [("one", "1"), ("two", "2")] {
        layout(&place.path(dir), "a:1", &[crate::harness::tar(&[("file", content, 0o644)])], json!({}));
        place.bundle(&["load", "-q", "-i", &place.text(dir)]).ok();
    }
    assert_eq!(ids(&place, "store").len(), 2);
    let (id, _, names) = known(&place, "store", "a:1");
    assert_eq!((id.as_str(), names.len()), (&skopeo(&place, &format!("oci:{}", place.text("two"))).0[..], 1));
    place.bundle(&["prune", "-f"]).ok();
    assert_eq!(ids(&place, "store"), [id]);
}
