//! Stopping and letting go all processes of a container: v1's freezer controller, v2's
//! `cgroup.freeze`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::state::{Cgroup, Ownership};
use crate::sys::error::At;

/// How long the kernel may take. A process in an uninterruptible wait is not frozen before it ends.
const LIMIT: Duration = Duration::from_secs(10);

/// The one directory of a container that can freeze it.
struct Freezer {
    path: PathBuf,
    v2: bool,
}

fn find(cgroups: &[Cgroup<'_>]) -> Option<Freezer> {
    let of = |name: &str| cgroups.iter().find(|dir| dir.controllers.split(',').any(|known| known == name));
    let (dir, v2) = of("freezer").map(|dir| (dir, false)).or_else(|| of(super::v2::UNIFIED).map(|dir| (dir, true)))?;
    Some(Freezer { path: PathBuf::from(&*dir.path), v2 })
}

impl Freezer {
    /// What the kernel says, once it is done with what it was told.
    fn is_frozen(&self) -> std::io::Result<bool> {
        if self.v2 {
            let events = fs::read_to_string(self.path.join("cgroup.events"))?;
            return Ok(events.lines().any(|line| line == "frozen 1"));
        }
        Ok(fs::read(self.path.join("freezer.state"))?.starts_with(b"FROZEN"))
    }

    fn tell(&self, frozen: bool) -> Result<()> {
        let (file, word) = match (self.v2, frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        let path = self.path.join(file);
        fs::write(&path, word).at(|| format!("writing \"{word}\" to {}", path.display()))
    }
}

/// The directory that can freeze a container and nobody else.
pub fn own_directory(cgroups: &[Cgroup<'_>]) -> Option<PathBuf> {
    let found = find(cgroups)?.path;
    cgroups.iter().any(|dir| Path::new(&*dir.path) == found && dir.owner == Ownership::Ours).then_some(found)
}

/// Whether a container is frozen; one without such a cgroup never is.
pub fn is_frozen(cgroups: &[Cgroup<'_>]) -> bool {
    find(cgroups).is_some_and(|freezer| freezer.is_frozen().unwrap_or(false))
}

/// Whether a container was told to freeze, done or not.
pub fn is_asked(cgroups: &[Cgroup<'_>]) -> bool {
    find(cgroups).is_some_and(|freezer| {
        let (file, word) = if freezer.v2 { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        fs::read_to_string(freezer.path.join(file)).is_ok_and(|text| text.trim() != word)
    })
}

/// Whether somebody has frozen the directory at `path` of a hierarchy.
pub fn is_frozen_at(path: &Path, controllers: &str) -> bool {
    let v2 = controllers == super::v2::UNIFIED;
    (v2 || controllers.split(',').any(|known| known == "freezer"))
        && Freezer { path: path.to_owned(), v2 }.is_frozen().unwrap_or(false)
}

/// Freezes all processes; returns when they are. On failure they run as before.
pub fn freeze(cgroups: &[Cgroup<'_>]) -> Result<()> {
    let Some(freezer) = find(cgroups) else {
        bail!("this container has no cgroup that could freeze it (cgroup v2, or v1's freezer controller)")
    };
    let start = Instant::now();
    loop {
        // v1 can stay half way when a process forks meanwhile: it is told again.
        freezer.tell(true)?;
        if freezer.is_frozen().at(|| format!("reading the state of cgroup {}", freezer.path.display()))? {
            return Ok(());
        }
        if start.elapsed() > LIMIT {
            let _ = freezer.tell(false);
            bail!(
                "cgroup {}: a process in it did not freeze within {} s (it may wait for a disk); it runs on",
                freezer.path.display(),
                LIMIT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Lets them go. Without such a cgroup there is nothing to do.
pub fn thaw(cgroups: &[Cgroup<'_>]) -> Result<()> {
    let Some(freezer) = find(cgroups) else { return Ok(()) };
    freezer.tell(false)?;
    let start = Instant::now();
    while freezer.is_frozen().at(|| format!("reading the state of cgroup {}", freezer.path.display()))? {
        if start.elapsed() > LIMIT {
            bail!("cgroup {} stays frozen: is one above it frozen?", freezer.path.display());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
