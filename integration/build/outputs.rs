//! Results that go elsewhere than to the store.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use crate::bed::Bed;
use crate::harness::sh;

const DOCKERFILE: &str = "FROM scratch\nCOPY --chown=7:8 --chmod=640 f /dir/f\nCOPY l /l\nLABEL x=1\n";

#[test]
fn results_go_where_they_are_wanted() {
    let bed = Bed::new("build-outputs");
    let files = [("f", "content\n"), ("l", "link's\n")];
    let at = |name: &str| bed.0.text(name);

    let done = bed.build(DOCKERFILE, &files, &["--output", &format!("type=local,dest={}", at("out"))]).ok();
    assert_eq!(done.out, "");
    let meta = std::fs::metadata(bed.0.path("out/dir/f")).unwrap();
    assert_eq!((meta.permissions().mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 7, 8));
    // Once more over what is there; a link there leads nowhere else.
    std::fs::remove_file(bed.0.path("out/l")).unwrap();
    std::fs::write(bed.0.path("outside"), "outside").unwrap();
    std::os::unix::fs::symlink(bed.0.path("outside"), bed.0.path("out/l")).unwrap();
    bed.build(DOCKERFILE, &files, &["-o", &at("out")]).ok();
    assert_eq!(std::fs::read_to_string(bed.0.path("outside")).unwrap(), "outside");
    assert_eq!(std::fs::read_to_string(bed.0.path("out/l")).unwrap(), "link's\n");

    bed.build(DOCKERFILE, &files, &["-o", &format!("type=tar,dest={}", at("files.tar"))]).ok();
    let names = sh(&format!("tar -tf {} | sort", at("files.tar")));
    assert_eq!(names, "./\ndir/\ndir/f\nl\n");
    let words = ["build", "-o", "-", &at("context")];
    let output = bed.command(&words).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.stdout, std::fs::read(bed.0.path("files.tar")).unwrap());
    assert!(bed.run(&["images", "-q"]).ok().out.lines().count() == 1, "nothing but the base is in the store");

    bed.build(DOCKERFILE, &files, &["-o", &format!("type=oci,dest={}", at("oci.tar"))]).ok();
    bed.build(DOCKERFILE, &files, &["-o", &format!("type=docker,dest={}", at("docker.tar"))]).ok();
    assert!(bed.run(&["images", "-q"]).ok().out.lines().count() == 1);
    // Others read them.
    let inspected = sh(&format!("skopeo inspect --config oci-archive:{}", at("oci.tar")));
    assert!(inspected.contains("\"x\": \"1\""), "{inspected}");
    let inspected = sh(&format!("skopeo inspect --config docker-archive:{}", at("docker.tar")));
    assert!(inspected.contains("\"x\": \"1\""), "{inspected}");
    bed.run(&["load", "-i", &at("oci.tar")]).ok();
    assert_eq!(bed.inspect("t")["Config"]["Labels"]["x"], "1");

    // Several at once, one of them the store.
    let flags = ["-o", "type=image,name=named:1", "-o", &format!("type=tar,dest={}", at("again.tar"))];
    bed.build(DOCKERFILE, &files, &flags).ok();
    assert_eq!(std::fs::read(at("again.tar")).unwrap(), output.stdout);
    assert_eq!(bed.inspect("named:1")["Id"], bed.inspect("t")["Id"]);
    // What cannot be written leaves nothing.
    bed.build(DOCKERFILE, &files, &["-o", "type=tar,dest=/proc/none/x"]).fails(1, "--output /proc/none/x");
    bed.is_clean();
}

/// With copies in the place of overlays, and as a plain user.
#[test]
fn without_overlays_too() {
    let bed = Bed::new("build-vfs");
    let dockerfile = "FROM base:1\nRUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b\nRUN rm /d/a && echo 3 > /d/c\nCOPY f /d/f\nWORKDIR /w\n";
    let context = bed.context("context", &[("Dockerfile", dockerfile), ("f", "f\n")]);
    let by = |driver: &str| {
        bed.run(&["--storage-driver", driver, "build", "-q", "--no-cache", "-t", driver, &context]).ok();
        bed.in_image(driver, "ls -Al /d /w | awk '{print $1,$3,$4,$9}'; cat /d/*")
    };
    assert_eq!(by("vfs"), by("overlay"));
    bed.is_clean();
}
