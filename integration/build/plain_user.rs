//! Builds of a plain user: in a mount namespace where /etc has one more user with subordinate ids.

use std::os::unix::fs::chown;
use std::process::{Command, Stdio};

use crate::bed::Bed;
use crate::harness::{Done, bundle, rt};

/// The user's own id; nobody on the host has it.
const ID: u32 = 43_212;
/// The first of the ids behind it.
const RANGE: u32 = 72_000_000;

#[test]
fn a_plain_user_builds() {
    let bed = Bed::new("build-user");
    let place = &bed.0;
    std::fs::create_dir_all(place.path("etc")).unwrap();
    for (file, line) in [("passwd", format!("builder:x:{ID}:{ID}::/:/bin/sh")), ("group", format!("builder:x:{ID}:"))] {
        let old = std::fs::read_to_string(format!("/etc/{file}")).unwrap();
        std::fs::write(place.path("etc").join(file), format!("{}\n{line}\n", old.trim_end())).unwrap();
    }
    for file in ["subuid", "subgid"] {
        std::fs::write(place.path("etc").join(file), format!("builder:{RANGE}:65536\n")).unwrap();
    }
    std::fs::create_dir(place.path("home")).unwrap();
    chown(place.path("home"), Some(ID), Some(ID)).unwrap();
    let run = |words: &[&str]| {
        let script = r#"for file in passwd group subuid subgid; do mount --bind "$0/etc/$file" /etc/$file; done
            exec setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-euc", script]).arg(&place.0);
        command.arg(ID.to_string()).arg(bundle()).args(words).current_dir("/").stdin(Stdio::null());
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        command.env("HOME", place.path("home")).env_remove("BUNDLE_ROOT").env("BUNDLE_RUNTIME", rt());
        Done::of(&mut command, words)
    };
    bed.run(&["save", "-o", &place.text("base.tar"), "base:1"]).ok();
    run(&["load", "-q", "-i", &place.text("base.tar")]).ok();
    let dockerfile = "FROM base:1 AS a\nWORKDIR /w\nCOPY --chown=web f .\nRUN id -u > id; rm /etc/group; touch g; chown 5:6 g\n\
        FROM base:1\nCOPY --from=a /w /w/\nRUN --mount=type=cache,target=/c echo x > /c/x; stat -c '%u:%g' /w/* > /owners\n";
    let context = bed.context("context", &[("Dockerfile", dockerfile), ("f", "f\n")]);
    let first = run(&["build", "-q", "-t", "t", &context]).ok();
    assert_eq!(run(&["run", "--rm", "t", "cat", "/owners", "/w/id"]).ok().out, "33:34\n5:6\n0:0\n0\n");
    assert_eq!(run(&["build", "-q", "-t", "t", &context]).ok().out, first.out);
    run(&["build", "--network", "bridge", &context]).fails(1, "only root may make devices on the host");
    // The same bytes as root's own.
    let epoch = ["build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--no-cache", "-t", "same", &context];
    assert_eq!(run(&epoch).ok().out, bed.run(&epoch).ok().out);
    run(&["prune", "-f"]).ok();
    for dir in ["ingest", "containers", "trash"] {
        let left = std::fs::read_dir(place.path("home/.local/share/bundle").join(dir)).unwrap().count();
        assert_eq!(left, 0, "{dir}");
    }
}
