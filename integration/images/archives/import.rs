//! `bundle import`: tars of other programs, and what is said of the image.

use std::process::{Command, Stdio};

use serde_json::json;

use super::{load_from_pipe, nothing_in, same_files};
use crate::harness::{Done, Place, sh};
use crate::tree::manifest;

/// A tree whose times are whole seconds and whose names are short: every format holds it.
const TREE: &str = r"
    mkdir -p tree/bin tree/etc tree/srv; echo x > tree/bin/tool; chmod 4755 tree/bin/tool; ln tree/bin/tool tree/bin/hard
    ln -s tool tree/bin/link; echo web > tree/srv/file; chown -R 33:34 tree/srv; mkfifo tree/pipe; mkdir -m 1777 tree/tmp
    : > tree/empty; seq 50000 > tree/numbers
    find tree -exec touch -hd '2005-05-05 05:05:05Z' {} +
";

#[test]
fn tars_of_all_kinds() {
    let place = Place::new("tars");
    sh(&format!("cd {}; {TREE}", place.0.display()));
    let wanted = manifest(&place.path("tree"), &[]);
    let mut diff_ids = Vec::new();
    for format in ["gnu", "pax", "ustar"] {
        let tar = place.text("tar");
        sh(&format!("tar --format={format} -C {} -cf {tar} .", place.text("tree")));
        let wrapped = [("plain", "cat"), ("gzip", "gzip -1c"), ("zstd", "zstd -1qc")];
        for (name, program) in wrapped {
            let file = place.text("file");
            sh(&format!("{program} {tar} > {file}"));
            let image = format!("{name}:{format}");
            let id = place.bundle(&["import", &file, &image]).ok().last().to_owned();
            same_files(&place, "store", &image, &wanted, &image);
            let media_type = match name {
                "plain" => String::new(),
                other => format!("+{other}"),
            };
            let inspected = place.bundle(&["inspect", &image]).ok().json();
            assert_eq!(inspected[0]["Id"], id);
            assert_eq!(inspected[0]["Layers"][0]["mediaType"], format!("{}{media_type}", super::LAYER));
            diff_ids.push(inspected[0]["RootFS"]["Layers"].clone());
            // From a pipe it is the same layer.
            let again = format!("piped-{name}:{format}");
            let words = ["import", "-", &again];
            let mut cat = Command::new("cat").arg(&file).stdout(Stdio::piped()).spawn().unwrap();
            let done = Done::of(place.command("store", &words).stdin(cat.stdout.take().unwrap()), &words);
            done.ok();
            cat.wait().unwrap();
            let piped = place.bundle(&["inspect", &again]).ok().json();
            assert_eq!(piped[0]["Layers"], inspected[0]["Layers"]);
        }
    }
    diff_ids.dedup();
    assert_eq!(diff_ids.len(), 3, "one layer a format, however it is compressed");
    place.bundle(&["prune", "-f", "--all"]).ok();
    nothing_in(&place, "store", "pruned");
}

#[test]
fn the_same_time_gives_the_same_image() {
    let place = Place::new("epoch");
    sh(&format!("cd {}; {TREE} tar -C tree -cf tar .", place.0.display()));
    let import = |store: &str, epoch: &str| {
        let (tar, flags) = (place.text("tar"), ["--change", "CMD [\"sh\"]", "-m", "it"]);
        let words = [&["import"], &flags[..], &[&tar, "a"]].concat();
        Done::of(place.command(store, &words).env("SOURCE_DATE_EPOCH", epoch), &words)
    };
    let first = import("one", "1600000000").ok().out;
    assert_eq!(import("two", "1600000000").ok().out, first);
    assert_eq!(import("one", "1600000000").ok().out, first, "a second time into the same store");
    assert_ne!(import("two", "1600000001").ok().out, first);
    let inspected = place.bundle_in("one", &["inspect", "a"]).ok().json();
    assert_eq!((&inspected[0]["Created"], &inspected[0]["Comment"]), (&json!("2020-09-13T12:26:40Z"), &json!("it")));
    import("three", "yesterday").fails(1, "SOURCE_DATE_EPOCH");
    nothing_in(&place, "three", "no good time");
}

#[test]
fn every_instruction_is_shown() {
    let place = Place::new("change");
    sh(&format!("cd {}; {TREE} tar -C tree -cf tar .", place.0.display()));
    let tar = place.text("tar");
    let mut words = vec!["import", "--platform", "linux/arm64/v8"];
    for change in [
        "CMD [\"serve\", \"a b\"]",
        "ENTRYPOINT run it",
        "ENV A=1 B=\"x y\"",
        "EXPOSE 80 53/udp",
        "LABEL a=b c='d e'",
        "USER web:34",
        "VOLUME /data /more",
        "WORKDIR /srv",
        "WORKDIR below",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN x",
        "SHELL [\"/bin/bash\", \"-c\"]",
    ] {
        words.extend(["--change", change]);
    }
    words.extend([tar.as_str(), "changed"]);
    place.bundle(&words).ok();
    let inspected = place.bundle(&["inspect", "changed"]).ok().json();
    assert_eq!(
        inspected[0]["Config"],
        json!({
            "Cmd": ["serve", "a b"], "Entrypoint": ["/bin/sh", "-c", "run it"], "Env": ["A=1", "B=x y"],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Labels": {"a": "b", "c": "d e"}, "User": "web:34",
            "Volumes": {"/data": {}, "/more": {}}, "WorkingDir": "/srv/below", "StopSignal": "SIGINT",
            "OnBuild": ["RUN x"], "Shell": ["/bin/bash", "-c"],
        })
    );
    assert_eq!((&inspected[0]["Architecture"], &inspected[0]["Variant"]), (&json!("arm64"), &json!("v8")));
}

#[test]
fn what_cannot_be_imported_leaves_nothing() {
    let place = Place::new("import");
    sh(&format!(
        "cd {}; {TREE} tar -C tree -cf tar . && tar -C tree -cJf xz . && tar -C tree -cjf bz .",
        place.0.display()
    ));
    sh(&format!(
        "cd {}; head -c 100000 tar > cut; gzip -c tar > whole.gz; head -c 50000 whole.gz > cut.gz; head -c 100000 /dev/urandom > noise",
        place.0.display()
    ));
    // A link to what is not there fits no layer.
    sh(&format!(
        "cd {}; mkdir l; echo > l/a; ln l/a l/b; tar -C l -cf dangling a b; tar --delete -f dangling a",
        place.0.display()
    ));
    let tar = place.text("tar");
    for (words, said) in [
        (vec!["import", "--change", "CMD [\"sh\"]", "--change", "RUN x", &tar], "RUN"),
        (vec!["import", "--change", "EXPOSE no", &tar], "EXPOSE"),
        (vec!["import", "--change", "ENV", &tar], "ENV"),
        (vec!["import", "--platform", "a/b/c/d", &tar], "--platform"),
        (vec!["import", "--max-layer-size", "100k", &tar], "--max-layer-size"),
        (vec!["import", &tar, "Bad Name"], "Bad Name"),
        (vec!["import", &place.text("missing")], "missing"),
        (vec!["import", &place.text("xz")], "xz"),
        (vec!["import", &place.text("bz")], "bzip2"),
        (vec!["import", &place.text("cut")], "cut"),
        (vec!["import", &place.text("cut.gz")], "cut.gz"),
        (vec!["import", &place.text("noise")], "noise"),
        (vec!["import", &place.text("dangling")], "dangling"),
        (vec!["import", &place.text("tree")], "tree"),
    ] {
        let done = place.bundle(&words).fails(1, said);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
        nothing_in(&place, "store", &format!("{words:?}"));
    }
    // An archive of images is none of a root file system: what is in it is no accident.
    load_from_pipe(&place, "store", &format!("cat {tar}")).fails(1, "`bundle import`");
    nothing_in(&place, "store", "a root file system");
}
