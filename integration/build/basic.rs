//! Builds, their results, and the cache.

use crate::bed::Bed;

const SIMPLE: &str = "FROM base:1 AS one
WORKDIR /w
COPY a.txt sub/ /dst/
RUN echo told && id -u > /uid && ls /dst > list
FROM base:1
COPY --from=one /dst /w /all/
ENV A=1
USER web
CMD [\"it\"]
";

#[test]
fn a_dockerfile_becomes_an_image() {
    let bed = Bed::new("build-basic");
    let files = [("a.txt", "a\n"), ("sub/b", "b\n")];
    let built = bed.build(SIMPLE, &files, &[]).ok();
    assert!(built.err.contains(" told\n"), "{}", built.err);
    assert_eq!(bed.in_image("t", "cat /all/a.txt /all/b /all/list; id -u; echo $A"), "a\nb\na.txt\nb\n33\n1\n");
    let files_of = bed.files("t");
    assert_eq!(std::fs::read_link(files_of.join("bin/sh")).unwrap().to_str(), Some("busybox"));
    assert!(!files_of.join("dev/null").exists() && !files_of.join("w").exists());
    let image = bed.inspect("t");
    assert_eq!(image["Config"]["Cmd"][0], "it");
    assert_eq!(image["Id"], built.last());
    bed.is_clean();

    // The same again is the same image, and nothing is done.
    let again = bed.build(SIMPLE, &files, &[]).ok();
    assert_eq!(again.last(), built.last());
    assert!(!again.err.contains(" told\n") && again.err.matches("CACHED").count() == 4, "{}", again.err);

    // Only what a change is below is done anew: the last stage has the same files.
    let changed = bed.build(SIMPLE, &[("a.txt", "a\n"), ("sub/b", "other\n")], &[]).ok();
    assert_ne!(changed.last(), built.last());
    assert_eq!(changed.err.matches("CACHED").count(), 1, "{}", changed.err);
    let none = bed.build(SIMPLE, &files, &["--no-cache"]).ok();
    assert!(none.err.contains(" told\n") && !none.err.contains("CACHED"), "{}", none.err);
    bed.is_clean();
}

#[test]
fn a_failing_command_is_told_with_its_line() {
    let bed = Bed::new("build-fails");
    let failed = bed.build("FROM base:1\nRUN true\nRUN echo out; \\\n  echo last words >&2; exit 3\n", &[], &[]);
    let failed = failed.fails(1, "Dockerfile:3: RUN /bin/sh -c echo out;   echo last words >&2; exit 3");
    assert!(failed.err.contains("exit status 3") && failed.err.contains("\"last words\""), "{}", failed.err);
    bed.build("FROM base:1\nRUN [\"/none\"]\n", &[], &[]).fails(1, "Dockerfile:2");
    bed.build("FROM none.invalid/x\nRUN true\n", &[], &[]).fails(1, "Dockerfile:1: FROM none.invalid/x");
    bed.build("FROM base:1\nCOPY none /x\n", &[], &[]).fails(1, "Dockerfile:2: COPY: none is not there");
    bed.build("FROM base:1\nRUM x\n", &[], &[]).fails(1, "Dockerfile:2: unknown instruction \"RUM\"; is RUN meant?");
    bed.is_clean();
}
