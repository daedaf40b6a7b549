//! Archives that are damaged or hostile: one line says what and where, and nothing is left of them.

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{CONFIG, LAYER, Layout, MANIFEST, load_from_pipe, nothing_in};
use crate::harness::{Done, Place, arch, digest, gzip, sh, tar};

/// It fails with status 1 and one line that has these words; the store is as empty as before, and nothing was
/// written anywhere else in the test's directory.
#[track_caller]
fn refused(place: &Place, input: &str, words: &str) -> String {
    let list =
        format!("cd {} && find . -path ./store -prune -o ! -type d -printf '%p %s %T@\\n' | sort", place.0.display());
    let before = sh(&list);
    let done = place.bundle(&["load", "-q", "-i", input]).fails(1, words);
    assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    nothing_in(place, "store", words);
    let after = sh(&list);
    assert_eq!(before, after, "{words}");
    done.err
}

/// An archive of these files, with paths as they are given.
fn archive(place: &Place, name: &str, files: &[(&str, &[u8])]) -> String {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // The crate refuses what leads out: it is written by hand.
        let field = &mut header.as_old_mut().name;
        field[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    std::fs::write(place.path(name), builder.into_inner().unwrap()).unwrap();
    place.text(name)
}

fn small() -> Vec<u8> {
    tar(&[("file", "content", 0o644)])
}

fn config(diff_ids: &[String]) -> Vec<u8> {
    json!({"architecture": arch(), "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
        .to_string()
        .into_bytes()
}

#[test]
fn what_is_no_archive_of_images() {
    let place = Place::new("no-archive");
    let mut made = Layout::new(place.path("good"));
    let image = made.image(&[small(), tar(&[("more", &"x".repeat(100_000), 0o644)])], "", arch());
    made.add(&image, &["a:1"]);
    sh(&format!("cd {} && tar -C good -cf good.tar . && gzip -k good.tar && mkdir empty", place.0.display()));
    let whole = std::fs::read(place.path("good.tar")).unwrap();
    let zipped = std::fs::read(place.path("good.tar.gz")).unwrap();
    for (name, bytes) in [
        // In the middle of the data, of a header, and of the stream.
        ("cut-data", &whole[..whole.len() / 2]),
        ("cut-header", &whole[..700]),
        ("cut-gzip", &zipped[..zipped.len() / 2]),
        ("cut-end", &zipped[..zipped.len() - 4]),
    ] {
        std::fs::write(place.path(name), bytes).unwrap();
        refused(&place, &place.text(name), name);
        load_from_pipe(&place, "store", &format!("cat {}", place.text(name))).fails(1, "standard input");
        nothing_in(&place, "store", name);
    }
    std::fs::write(
        place.path("noise"),
        (0..100_000_u32).map(|it| (it.wrapping_mul(it) >> 7) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    refused(&place, &place.text("noise"), "noise");
    std::fs::write(place.path("nothing"), b"").unwrap();
    refused(&place, &place.text("nothing"), "nothing");
    sh(&format!("cd {} && xz -k good.tar && bzip2 -k good.tar", place.0.display()));
    refused(&place, &place.text("good.tar.xz"), "xz");
    refused(&place, &place.text("good.tar.bz2"), "bzip2");
    refused(&place, &place.text("empty"), "neither an OCI layout (index.json) nor");
    refused(&place, &place.text("missing"), "missing");
    refused(&place, &archive(&place, "root", &[("etc/passwd", b"root"), ("bin/sh", b"x")]), "bundle import");
    refused(&place, &archive(&place, "old", &[("repositories", b"{}"), ("1/layer.tar", &small())]), "Docker 1.9");
    refused(&place, &archive(&place, "json", &[("index.json", b"{")]), "index.json");
    refused(&place, &archive(&place, "list", &[("index.json", b"[]")]), "index.json");
    refused(&place, &archive(&place, "none", &[("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)]), "no image");
    refused(&place, &archive(&place, "text", &[("manifest.json", b"no JSON")]), "manifest.json");
    refused(&place, &archive(&place, "object", &[("manifest.json", b"{}")]), "manifest.json");
    refused(&place, &archive(&place, "zero", &[("manifest.json", b"[]")]), "manifest.json");
    let big = vec![b' '; 9 << 20];
    refused(&place, &archive(&place, "big", &[("manifest.json", &big)]), "manifest.json");
}

/// An archive as `docker save` writes it.
fn docker(place: &Place, entry: &Value, files: &[(&str, &[u8])]) -> String {
    let list = json!([entry]).to_string();
    archive(place, "docker.tar", &[&[("manifest.json", list.as_bytes())], files].concat())
}

#[test]
fn dockers_archives() {
    let place = Place::new("bad-docker");
    let layer = small();
    let good = config(&[digest(&layer)]);
    let entry = json!({"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar"]});
    let input = docker(&place, &entry, &[("l.tar", &layer)]);
    refused(&place, &input, "c.json");
    let input = docker(&place, &entry, &[("c.json", &good)]);
    refused(&place, &input, "l.tar");
    let input = docker(&place, &entry, &[("c.json", b"no configuration"), ("l.tar", &layer)]);
    refused(&place, &input, &digest(b"no configuration"));
    let none = config(&[]);
    let input = docker(&place, &entry, &[("c.json", &none), ("l.tar", &layer)]);
    refused(&place, &input, "");
    let wrong = config(&[digest(b"another")]);
    let input = docker(&place, &entry, &[("c.json", &wrong), ("l.tar", &layer)]);
    let said = refused(&place, &input, &digest(&layer));
    assert!(said.contains(&digest(b"another")), "{said}");
    let noise = [b"no tar at all".repeat(1000), Vec::new()].concat();
    let other = config(&[digest(&noise)]);
    let input = docker(&place, &entry, &[("c.json", &other), ("l.tar", &noise)]);
    refused(&place, &input, &digest(&noise));
    // A hard link to what no layer has.
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "b", "missing").unwrap();
    let dangling = builder.into_inner().unwrap();
    let other = config(&[digest(&layer), digest(&dangling)]);
    let linked = json!({"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l.tar", "m.tar"]});
    let input = docker(&place, &linked, &[("c.json", &other), ("l.tar", &layer), ("m.tar", &dangling)]);
    refused(&place, &input, "missing");
    for name in ["", "A:1", "a b:1", "../x", "a:1@sha256:0"] {
        let entry = json!({"Config": "c.json", "RepoTags": [name], "Layers": ["l.tar"]});
        let input = docker(&place, &entry, &[("c.json", &good), ("l.tar", &layer)]);
        refused(&place, &input, "RepoTags");
    }
    // The second image is bad: the first is one, and it stays.
    let list = json!([entry, {"Config": "d.json", "RepoTags": ["b:1"], "Layers": ["l.tar"]}]).to_string();
    let files: [(&str, &[u8]); 3] = [("manifest.json", list.as_bytes()), ("c.json", &good), ("l.tar", &layer)];
    let input = archive(&place, "second.tar", &files);
    refused(&place, &input, "d.json");
}

#[test]
fn paths_and_links_that_lead_out() {
    let place = Place::new("out");
    std::fs::write(place.path("secret"), "secret").unwrap();
    let layer = small();
    let good = config(&[digest(&layer)]);
    for path in ["../outside", "a/../../outside", "../../../../tmp/rt-bundle-outside"] {
        let input = archive(&place, "up.tar", &[(path, b"x"), ("manifest.json", b"[]")]);
        refused(&place, &input, "leads out of the archive");
        let entry = json!({"Config": path, "Layers": []});
        let input = docker(&place, &entry, &[("c.json", &good)]);
        refused(&place, &input, path);
        let entry = json!({"Config": "c.json", "Layers": [path]});
        let input = docker(&place, &entry, &[("c.json", &good)]);
        refused(&place, &input, path);
    }
    // Absolute paths are the archive's own: nothing of the host is read.
    let secret = place.text("secret");
    let entry = json!({"Config": secret, "Layers": []});
    let input = docker(&place, &entry, &[("c.json", &good)]);
    refused(&place, &input, &secret);
    for (kind, target) in
        [("symlink", "../secret"), ("symlink", secret.as_str()), ("link", "../../secret"), ("link", secret.as_str())]
    {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        let link = if kind == "link" { tar::EntryType::Link } else { tar::EntryType::Symlink };
        header.set_entry_type(link);
        header.set_size(0);
        header.as_old_mut().name[..6].copy_from_slice(b"c.json");
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, &b""[..]).unwrap();
        let mut header = tar::Header::new_gnu();
        let list = json!([{"Config": "c.json", "Layers": []}]).to_string();
        header.set_size(list.len() as u64);
        builder.append_data(&mut header, "manifest.json", list.as_bytes()).unwrap();
        std::fs::write(place.path("links.tar"), builder.into_inner().unwrap()).unwrap();
        let said = refused(&place, &place.text("links.tar"), "");
        assert!(said.contains("leads out") || said.contains("c.json"), "{kind} {target}: {said}");
    }
    // Of directories too.
    let dir = place.path("dir");
    std::fs::create_dir_all(&dir).unwrap();
    symlink("../secret", dir.join("index.json")).unwrap();
    refused(&place, dir.to_str().unwrap(), "index.json");
    std::fs::remove_file(dir.join("index.json")).unwrap();
    symlink(&secret, dir.join("index.json")).unwrap();
    refused(&place, dir.to_str().unwrap(), "index.json");
    std::fs::remove_file(dir.join("index.json")).unwrap();
    sh(&format!("mkfifo {}/index.json", dir.display()));
    refused(&place, dir.to_str().unwrap(), "index.json");
    assert!(!std::env::temp_dir().join("rt-bundle-outside").exists());
}

#[test]
fn blobs_of_layouts() {
    let place = Place::new("bad-layout");
    let fresh = |kind: &str| {
        let _ = std::fs::remove_dir_all(place.path("in"));
        let mut made = Layout::new(place.path("in"));
        let image = match kind {
            "config" => {
                let config = made.blob(CONFIG, b"[1, 2]");
                let layer = made.blob(LAYER, &small());
                let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
                made.blob(MANIFEST, document.to_string().as_bytes())
            }
            "diff" => {
                let config = made.blob(CONFIG, &config(&[digest(b"another")]));
                let layer = made.blob(&format!("{LAYER}+gzip"), &gzip(&small()));
                let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
                made.blob(MANIFEST, document.to_string().as_bytes())
            }
            _ => made.image(&[small(), tar(&[("b", "b", 0o644)])], "+gzip", arch()),
        };
        made.add(&image, &["a:1"]);
        let manifest = std::fs::read(place.path("in/blobs/sha256").join(&image["digest"].as_str().unwrap()[7..]));
        let document: Value = serde_json::from_slice(&manifest.unwrap()).unwrap();
        let hex = |it: &Value| it["digest"].as_str().unwrap()[7..].to_owned();
        [hex(&image), hex(&document["config"]), hex(&document["layers"].as_array().unwrap().last().unwrap().clone())]
    };
    let input = place.text("in");
    let both_ways = |words: &str| {
        refused(&place, &input, words);
        sh(&format!("tar -C {input} -cf {input}.tar ."));
        refused(&place, &format!("{input}.tar"), words);
    };
    for which in 0..3 {
        // Other bytes of the same length, too few, and none at all.
        let blob = |it: &[String; 3]| place.path("in/blobs/sha256").join(&it[which]);
        let names = fresh("");
        let mut bytes = std::fs::read(blob(&names)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(blob(&names), &bytes).unwrap();
        both_ways(&names[which]);
        std::fs::write(blob(&names), &bytes[..middle]).unwrap();
        both_ways(&names[which]);
        std::fs::remove_file(blob(&names)).unwrap();
        both_ways(if which == 0 { "no image" } else { &names[which] });
    }
    let names = fresh("config");
    both_ways(&names[1]);
    let names = fresh("diff");
    both_ways(&names[2]);
    // The index says another size than the manifest has.
    fresh("");
    sh(&format!("cd {input} && sed -i -E 's/\"size\":[0-9]+/\"size\":7/' index.json"));
    both_ways("damaged");
}

/// A tar of one file of 10 GB of zeros on the standard output, compressed: some 10 MB.
const BOMB: &str = "import sys, tarfile, zlib
entry = tarfile.TarInfo('zeros'); entry.size = 10 << 30
squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
out = sys.stdout.buffer
out.write(squeeze.compress(entry.tobuf(tarfile.GNU_FORMAT)) + squeeze.flush(zlib.Z_FULL_FLUSH))
squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
member = squeeze.compress(bytes(64 << 20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
for _ in range(160): out.write(member)
";

/// A layout of an image whose only layer is the bomb; the layer's digest.
fn bomb(place: &Place) -> String {
    let bomb = place.text("bomb");
    std::fs::write(place.path("bomb.py"), BOMB).unwrap();
    sh(&format!("python3 {bomb}.py > {bomb}"));
    let bytes = std::fs::read(&bomb).unwrap();
    assert!(bytes.len() < 12 << 20, "{}", bytes.len());
    let mut made = Layout::new(place.path("in"));
    let layer = made.blob(&format!("{LAYER}+gzip"), &bytes);
    let config = made.blob(CONFIG, &config(&[digest(b"never reached")]));
    let document = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let image = made.blob(MANIFEST, document.to_string().as_bytes());
    made.add(&image, &["bomb:1"]);
    layer["digest"].as_str().unwrap().to_owned()
}

/// A hundred times what came is nearly a GiB, and a GiB is no bomb.
#[test]
fn a_bomb_ends_at_a_gib() {
    let place = Place::new("bomb");
    let layer = bomb(&place);
    let said = refused(&place, &place.text("in"), "--max-layer-size");
    assert!(said.contains(&layer), "{said}");
}

#[test]
fn the_limit_is_lowered_and_raised() {
    let place = Place::new("limit");
    let layer = bomb(&place);
    for (limit, bytes) in [("1m", 1 << 20), ("5m", 5 << 20)] {
        let words = ["load", "-q", "--max-layer-size", limit, "-i", &place.text("in")];
        let done = place.bundle(&words).fails(1, &format!("{bytes}"));
        assert!(done.err.contains(&layer), "{}", done.err);
        nothing_in(&place, "store", limit);
    }
    // A small one: the limit is a number of bytes, and one more is too many.
    let content = "y".repeat(5000);
    let mut made = Layout::new(place.path("small"));
    let image = made.image(&[tar(&[("a", &content, 0o644)])], "+gzip", arch());
    made.add(&image, &["small:1"]);
    place.bundle(&["load", "--max-layer-size", "4000", "-i", &place.text("small")]).fails(1, "--max-layer-size");
    nothing_in(&place, "store", "4000");
    place.bundle(&["load", "--max-layer-size", "20000", "-i", &place.text("small")]).ok();
    place.bundle(&["load", "--max-layer-size", "much", "-i", &place.text("small")]).fails(1, "--max-layer-size");
}

/// What the whole archive is wrapped in may be a bomb too: what lies in it is kept as a file.
#[test]
fn an_archive_that_is_a_bomb() {
    let place = Place::new("wrapped");
    std::fs::write(place.path("bomb.py"), BOMB).unwrap();
    // By itself it would end at a GiB too; this is quicker.
    let words = ["load", "-q", "--max-layer-size", "20m"];
    let line = ["python3", &place.text("bomb.py")].map(str::to_owned);
    let mut python = Command::new(&line[0]).arg(&line[1]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let done = Done::of(place.command("store", &words).stdin(python.stdout.take().unwrap()), &words);
    python.wait().unwrap();
    done.fails(1, "--max-layer-size");
    assert!(began.elapsed() < Duration::from_secs(100));
    nothing_in(&place, "store", "a compressed archive");
}
