//! Runs the very test program that calls it in the guest (integration/guest).

use std::path::Path;
use std::process::{Command, Stdio};

/// Set inside, to `v2` or `systemd`: there the tests that come here have nothing to do.
const INSIDE: &str = "RT_TEST_IN";

/// Whether the tests run in the guest.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Boots the guest with these options of its `run` and runs all tests of this program there.
#[track_caller]
pub fn run_again(options: &[&str], environment: &[&str]) {
    run_filtered(options, environment, &[]);
}

/// The same for the tests whose names hold one of these words.
#[track_caller]
pub fn run_filtered(options: &[&str], environment: &[&str], words: &[&str]) {
    if is_inside() {
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let program = std::env::current_exe().unwrap();
    let output = Command::new(repository.join("integration/guest/run"))
        .args(options)
        .args(["--", "env"])
        .args(environment)
        .arg(program)
        .arg("--test-threads=1")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "in the guest: {}", output.status);
    // A program that ran nothing has shown nothing.
    let passed =
        text.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.is_some_and(|count| count > 0), "no test ran");
}
