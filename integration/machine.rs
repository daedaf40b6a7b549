//! The last test of all (see `.config/nextest.toml`): the machine is as it was before the first.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn now() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/snapshot");
    let output = Command::new(script).env_remove("NEXTEST_ENV").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_is_left_behind() {
    let Ok(path) = std::env::var("RT_SNAPSHOT") else {
        // Without the runner's setup script there is no "before"; what bears the tests' name must
        // be gone all the same.
        assert!(!now().contains("rt-test-"), "{}", now());
        return;
    };
    let before = fs::read_to_string(&path).unwrap();
    // The kernel takes emptied cgroups and namespaces apart a little later.
    let start = Instant::now();
    while now() != before && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(now(), before);
    fs::remove_file(path).unwrap();
}
