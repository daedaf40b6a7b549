//! Services whose images are built.

use crate::bed::Project;

#[test]
fn images_are_built_where_they_are_missing_or_asked_for() {
    let it = Project::new(
        "builds",
        "
services:
  a:
    build:
      context: ./ctx
      dockerfile: Other
      target: first
      network: none
      args: {A: one, B: }
      labels: {team: a}
      secrets: [s]
      tags: [also:1]
      extra_hosts: ['there=192.0.2.1']
    command: sleep 1000
    stop_grace_period: 0s
  b:
    image: named:1
    build: {context: ctx, network: none, dockerfile_inline: \"FROM it\\nCOPY file /inline\\n\", additional_contexts: {other: 'service:a'}}
    command: sleep 1000
    stop_grace_period: 0s
secrets: {s: {file: secret}}
",
    );
    it.write(
        "ctx/Other",
        "FROM it AS first\nARG A\nARG B\nRUN --mount=type=secret,id=s echo $A $B $(cat /run/secrets/s) >/said; grep -c there /etc/hosts >>/said\nFROM it\nRUN false\n",
    );
    it.write("ctx/file", "of the context\n");
    it.write("secret", "hush");
    it.run(&["up", "-d", "--no-build"]).fails(1, "no such image: p-a");
    assert_eq!(it.with(&[("B", "two")], &["build", "a"]).ok().out, "");
    it.with(&[("B", "two")], &["up", "-d"]).ok();
    assert_eq!(it.exec("a", "cat /said"), "one two hush\n1\n");
    assert_eq!(it.exec("b", "cat /inline"), "of the context\n");
    let names = it.host.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().out;
    for name in ["p-a:latest", "also:1", "named:1"] {
        assert!(names.contains(name), "{names}");
    }
    // What has changed is built when that is asked for, and makes new containers.
    let before = it.ids();
    it.write("ctx/file", "another\n");
    it.with(&[("B", "two")], &["up", "-d"]).ok();
    assert_eq!(it.ids(), before);
    it.with(&[("B", "two")], &["up", "-d", "--build"]).ok();
    let after = it.ids();
    assert_eq!(before[0], after[0], "the same image is the same container");
    assert_ne!(before[1], after[1]);
    assert_eq!(it.exec("b", "cat /inline"), "another\n");
    it.run(&["build", "--build-arg", "A=flag", "--no-cache", "--quiet", "a"]).ok();
    assert!(
        it.host.run(&["run", "--rm", "--network", "none", "p-a", "cat", "/said"]).ok().out.starts_with("flag hush")
    );
    it.write("ctx/Other", "FROM it AS first\nRUN exit 3\n");
    let said = it.run(&["build", "a"]);
    assert_eq!(said.status, 1);
    assert!(said.err.contains("Other:2"), "{}", said.err);
    it.run(&["down", "--rmi", "local"]).ok();
    let names = it.host.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().out;
    assert!(!names.contains("p-a") && names.contains("named:1"), "{names}");
    it.is_clean();
}

#[test]
fn steps_are_taken_from_images() {
    let it = Project::new(
        "cache-from",
        "
services:
  a:
    image: made:1
    build:
      context: .
      network: none
      dockerfile_inline: \"FROM it\\nRUN cat /proc/sys/kernel/random/uuid > /random\\n\"
      args: {BUILDKIT_INLINE_CACHE: 1}
      cache_from: ['type=registry,ref=made:1', type=gha]
",
    );
    let build = || {
        let said = it.run(&["build"]).ok().err;
        assert!(said.contains("warning: --cache-from type=gha: caches are taken from images alone"), "{said}");
        let image = it.host.run(&["inspect", "--format", "{{.Id}}", "made:1"]).ok().out;
        (said.contains("CACHED"), image)
    };
    let (_, first) = build();
    it.host.run(&["builder", "prune", "-af"]).ok();
    assert_eq!(build(), (true, first));
    it.is_clean();
}
