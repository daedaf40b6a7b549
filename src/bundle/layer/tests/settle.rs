//! Layers settled on others: what the tree looks like that they show together.

use std::os::fd::AsFd;

use super::super::flatten::flatten;
use super::super::overlay::Overlay;
use super::super::settle::settle;
use super::build::Tar;
use super::{Scratch, listing, open, unpacked};

fn tar() -> Tar {
    Tar::default()
}

/// Settles archives on each other, the lowest first, and lists what they show, or tells the error.
fn shown(archives: &[Tar]) -> Result<Vec<String>, String> {
    let scratch = Scratch::new();
    let mut layers = Vec::new();
    for (number, archive) in archives.iter().enumerate() {
        let name = number.to_string();
        let result = unpacked(&scratch, &name, &archive.clone().end());
        let layer = open(&scratch.0.join(&name));
        let parents: Vec<_> = layers.iter().rev().map(AsFd::as_fd).collect();
        settle(layer.as_fd(), &parents, &result, Overlay::Trusted).map_err(|error| format!("{error:#}"))?;
        layers.push(layer);
    }
    let layers: Vec<_> = layers.iter().map(AsFd::as_fd).collect();
    flatten(&layers, scratch.directory("flat").as_fd(), Overlay::Trusted).unwrap();
    Ok(listing(&scratch.0.join("flat")))
}

#[test]
fn together() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let lib = || tar().dir("usr").dir("usr/lib").file("usr/lib/a", "1").link("lib", "usr/lib");
    for (name, layers, expected) in [
        (
            "through a link",
            vec![lib(), tar().file("lib/b", "2")],
            vec!["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/a=1", "usr/lib/b=2"],
        ),
        (
            "a directory instead of a link",
            vec![lib(), tar().dir("lib").file("lib/b", "2")],
            vec!["lib/", "lib/b=2", "usr/", "usr/lib/", "usr/lib/a=1"],
        ),
        (
            "a whiteout of the link first",
            vec![lib(), tar().file(".wh.lib", "").file("lib/b", "2")],
            vec!["lib/", "lib/b=2", "usr/", "usr/lib/", "usr/lib/a=1"],
        ),
        (
            "what came through the link wins",
            vec![lib(), tar().file("usr/lib/a", "2").file("lib/a", "3")],
            vec!["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/a=3"],
        ),
        (
            "opaque through a link",
            vec![lib(), tar().file("lib/.wh..wh..opq", "").file("lib/b", "2")],
            vec!["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/b=2"],
        ),
        (
            "a link to a link",
            vec![lib().link("more", "lib"), tar().file("more/x/y", "2")],
            vec!["lib->usr/lib", "more->lib", "usr/", "usr/lib/", "usr/lib/a=1", "usr/lib/x/", "usr/lib/x/y=2"],
        ),
        (
            "a link in a linked directory",
            vec![lib().link("usr/lib/in", "../share"), tar().file("lib/in/x", "2")],
            vec![
                "lib->usr/lib",
                "usr/",
                "usr/lib/",
                "usr/lib/a=1",
                "usr/lib/in->../share",
                "usr/share/",
                "usr/share/x=2",
            ],
        ),
        (
            "a link that leads out",
            vec![tar().link("l", "../../../etc"), tar().file("l/x", "2")],
            vec!["etc/", "etc/x=2", "l->../../../etc"],
        ),
        (
            "a link that leads nowhere",
            vec![tar().link("l", "/no/where"), tar().file("l/x", "2")],
            vec!["l->/no/where", "no/", "no/where/", "no/where/x=2"],
        ),
        ("a file below an implied directory", vec![tar().file("a", "1"), tar().file("a/b", "2")], vec!["a/", "a/b=2"]),
        (
            "an opaque root",
            vec![tar().file("a", "1").file("d/b", "1"), tar().file(".wh..wh..opq", "").file("d/c", "2")],
            vec!["d/", "d/c=2"],
        ),
        (
            "a file and a directory again",
            vec![tar().file("d/a", "1"), tar().file("d", "2"), tar().file("d/b", "3")],
            vec!["d/", "d/b=3"],
        ),
        (
            "a hard link below",
            vec![tar().file("d/a", "1").hard("b", "d/a"), tar().hard("c", "d/a")],
            vec!["b=1", "c=1", "d/", "d/a==c"],
        ),
        (
            "a hard link through a link below",
            vec![lib(), tar().hard("x", "lib/a")],
            vec!["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/a=1", "x==usr/lib/a"],
        ),
        (
            "hard links in a row",
            vec![tar().file("a", "1"), tar().hard("b", "a").hard("c", "b")],
            vec!["a=1", "b==a", "c==a"],
        ),
        (
            "a hard link, its target gone then",
            vec![tar().file("a", "1"), tar().hard("b", "a").hard("c", "a").file(".wh.a", "")],
            vec!["b=1", "c==b"],
        ),
        (
            "a hard link over what was there",
            vec![tar().file("a", "1").file("b", "1"), tar().file(".wh.b", "").hard("b", "a")],
            vec!["a=1", "b==a"],
        ),
    ] {
        let found = shown(&layers).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn metadata_of_what_is_implied() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let low = tar()
        .pax(&[("uid", b"7"), ("mtime", b"5.5"), ("SCHILY.xattr.user.x", b"y")])
        .entry(b'5', "d", "", b"")
        .file("d/a", "1");
    let expected = ["d/ user.x=y", "d/a=1", "d/b=2", "d/c=3"];
    assert_eq!(shown(&[low.clone(), tar().file("d/b", "2"), tar().file("d/c", "3")]).unwrap(), expected);
    // Hidden by a whiteout in between, it begins anew.
    assert_eq!(shown(&[low, tar().file(".wh.d", ""), tar().file("d/b", "2")]).unwrap(), ["d/", "d/b=2"]);
}

#[test]
fn what_cannot_be_settled() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for (layers, words) in [
        (vec![tar().hard("a", "nowhere")], "\"a\": a hard link to \"nowhere\""),
        (vec![tar().file("x", ""), tar().file(".wh.x", ""), tar().hard("a", "x")], "neither this layer nor those"),
        (vec![tar().dir("d"), tar().hard("a", "d")], "is a directory"),
        (vec![tar().link("l", "l"), tar().file("l/x", "")], "\"l\": the symbolic link in its place below leads back"),
        (vec![tar().link("l", "m").link("m", "l"), tar().file("l/x", "")], "leads back"),
        (vec![tar().link("l", "f").file("f", ""), tar().file("l/x", "")], "\"f\" is no directory"),
    ] {
        let error = shown(&layers).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
