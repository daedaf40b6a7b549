//! The same tests with other OCI runtimes: `bundle` asks nothing of one that the others have not.

use std::process::{Command, Stdio};

/// Runs all tests of this program again with another runtime, in a mount namespace: where controllers are those of
/// cgroup v1, neither runc nor crun takes a container while cgroup v2 is mounted beside them.
fn all_with(runtime: &str) {
    if crate::bed::runtime().is_some() {
        return;
    }
    let script = "test ! -d /sys/fs/cgroup/memory || mount -t tmpfs none /sys/fs/cgroup/unified; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--test-threads", "2", "--skip", "others::"])
        .env("BUNDLE_TEST_RUNTIME", runtime)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // A program that ran nothing has shown nothing.
    let passed =
        text.lines().find_map(|it| it.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.is_some_and(|it| it > 50), "{text}");
}

#[test]
fn all_with_runc() {
    all_with("runc");
}

#[test]
fn all_with_crun() {
    all_with("crun");
}
