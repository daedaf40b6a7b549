//! What a runtime has left of a container, and does not find again itself: its cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// Kills what is in the cgroups at a path of every hierarchy, and removes them.
pub fn remove_cgroups(path: &str) {
    let dirs: Vec<PathBuf> = hierarchies().iter().map(|it| it.join(path.trim_start_matches('/'))).collect();
    for _ in 0..200 {
        let left: Vec<&PathBuf> = dirs.iter().filter(|it| it.is_dir()).collect();
        if left.is_empty() {
            return;
        }
        for dir in left {
            remove(dir);
        }
        // Who was killed takes a moment to be gone.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The mounts of cgroup v1's controllers, and of v2.
fn hierarchies() -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).into_iter().flatten().flatten().map(|it| it.path());
    let v1 = below.filter(|it| it.join("cgroup.procs").exists() && !top.join("cgroup.procs").exists());
    v1.chain([top.to_owned()]).collect()
}

fn remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove(&entry.path());
        }
    }
    for line in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        // 0 is a process that this namespace does not see.
        if let Some(pid) = line.parse().ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
    // A frozen process does not die.
    for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        let _ = fs::write(dir.join(file), thawed);
    }
    let _ = fs::remove_dir(dir);
}
