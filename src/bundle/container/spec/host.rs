//! What this machine can limit: a limit that cannot be set is an error before anything is made.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Files that say whether a kernel has a limit at all are looked for in so many cgroups.
const MOST_LOOKED_AT: usize = 32;

/// A limit, and the files of its controller that would hold it.
pub struct Limit {
    /// The flag that asks for it.
    pub flag: &'static str,
    /// The controller as cgroup v1 calls it.
    pub controller: &'static str,
    /// Its files on v1: one of them is enough.
    pub v1: &'static [&'static str],
    /// The same on v2; none where v2 has no such limit.
    pub v2: &'static [&'static str],
}

/// The machine as far as it was looked at: nothing is read before it is asked for.
pub struct Host {
    /// Whether the caller is not root.
    pub plain_user: bool,
    cgroups: OnceCell<Cgroups>,
}

/// The hierarchies that there are.
#[derive(Default)]
struct Cgroups {
    /// Of v1: the controllers of each, and its directories: the root's first, then others of it.
    v1: Vec<(Vec<String>, Vec<PathBuf>)>,
    /// Of v2: what its root has, its directories, and our own cgroup's.
    v2: Option<(Vec<String>, Vec<PathBuf>, PathBuf)>,
}

impl Host {
    /// This machine.
    pub fn new(plain_user: bool) -> Self {
        Self { plain_user, cgroups: OnceCell::new() }
    }

    /// Whether a limit can be set here; the error says why not.
    pub fn require(&self, limit: &Limit) -> Result<()> {
        let cgroups = self.cgroups();
        let Limit { flag, controller, v1, v2 } = limit;
        if let Some((_, directories)) = cgroups.v1.iter().find(|(names, _)| names.iter().any(|it| it == controller)) {
            if self.plain_user {
                bail!("{flag}: this machine has the controller {controller} on cgroup v1, which only root may use");
            }
            // A root cgroup has no weights, so where there is no other nothing is known.
            let known = directories.len() > 1 || !v1.iter().any(|it| it.contains("weight"));
            if known && !has_one(directories, v1) {
                bail!("{flag}: this kernel has no {}: leave the flag away", v1.join(" and no "));
            }
            return Ok(());
        }
        let Some((known, directories, own)) = &cgroups.v2 else {
            bail!("{flag}: this machine has no cgroup controller {controller}: mount it, or leave the flag away");
        };
        if v2.is_empty() {
            bail!("{flag}: cgroup v2, which this machine uses, has no such limit: leave the flag away");
        }
        let name = if *controller == "blkio" { "io" } else { controller };
        if !known.iter().any(|it| it == name) {
            bail!("{flag}: this machine has no cgroup controller {name}: leave the flag away");
        }
        if self.plain_user {
            let delegated = read_words(&own.join("cgroup.controllers")).iter().any(|it| it == name);
            let ours = rustix::fs::access(own.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok();
            if !delegated || !ours {
                bail!(
                    "{flag}: the cgroup controller {name} has not been given to this user: systemd does so with Delegate={name} for user@.service"
                );
            }
        }
        // Only a cgroup that the controller is on for has its files, and the root has few.
        let on = |it: &&PathBuf| read_words(&it.join("cgroup.controllers")).iter().any(|it| it == name);
        let on: Vec<PathBuf> = directories.iter().skip(1).filter(on).cloned().collect();
        if !on.is_empty() && !has_one(&on, v2) {
            bail!("{flag}: this kernel has no {}: leave the flag away", v2.join(" and no "));
        }
        Ok(())
    }

    /// As [`Self::require`], where nobody has asked for the limit.
    pub fn can(&self, limit: &Limit) -> bool {
        self.require(limit).is_ok()
    }

    fn cgroups(&self) -> &Cgroups {
        self.cgroups.get_or_init(|| {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            Cgroups::read(&mounts, &own)
        })
    }
}

impl Cgroups {
    /// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
    fn read(mounts: &str, own: &str) -> Self {
        let mut found = Self::default();
        for line in mounts.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let (Some(path), mut after) = (before.split(' ').nth(4), after.split(' ')) else { continue };
            let (kind, options) = (after.next().unwrap_or_default(), after.nth(1).unwrap_or_default());
            let path = PathBuf::from(path);
            if kind == "cgroup" {
                let names: Vec<String> = options.split(',').map(str::to_owned).collect();
                let mut directories = below(&path);
                directories.extend(own_directory(own, &path, |it| {
                    it.split(',').any(|it| names.iter().any(|name| name == it))
                }));
                found.v1.push((names, directories));
            } else if kind == "cgroup2" {
                let mut directories = below(&path);
                let own = own_directory(own, &path, str::is_empty);
                directories.extend(own.clone());
                let known = read_words(&path.join("cgroup.controllers"));
                found.v2 = Some((known, directories, own.unwrap_or(path)));
            }
        }
        found
    }
}

/// Our own cgroup's directory in the hierarchy whose controllers `wanted` knows.
fn own_directory(own: &str, mount: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        wanted(controllers).then(|| path.trim_start_matches('/'))
    })?;
    (!path.is_empty()).then(|| mount.join(path))
}

/// A cgroup and some below it.
fn below(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let directories = entries.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path());
    std::iter::once(root.to_owned()).chain(directories).take(MOST_LOOKED_AT).collect()
}

fn has_one(directories: &[PathBuf], names: &[&str]) -> bool {
    directories.iter().any(|it| names.iter().any(|name| it.join(name).exists()))
}

fn read_words(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Numbers of a list such as `0-2,4`, sorted; each below 65536.
pub fn list(text: &str) -> Result<Vec<u32>> {
    let wrong = || format!("{text:?} is not a list such as 0-2,4");
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |it: &str| {
            let plain = !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
            it.parse::<u32>().ok().filter(|it| plain && *it < 1 << 16).with_context(wrong)
        };
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last {
            bail!(wrong());
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Whether all of a list are in the kernel's own, a file such as `/sys/devices/system/cpu/online`.
pub fn within(flag: &str, text: &str, what: &str, path: &str) -> Result<()> {
    let wanted = list(text).context(flag.to_owned())?;
    let Ok(online) = std::fs::read_to_string(path) else { return Ok(()) };
    let there = list(&online).with_context(|| format!("reading {path}"))?;
    if let Some(missing) = wanted.iter().find(|it| !there.contains(it)) {
        bail!("{flag} {text:?}: {what} {missing} is not there: this machine has {}", online.trim());
    }
    Ok(())
}

/// How many processors the kernel lets programs run on.
pub fn processors() -> u64 {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok().and_then(|it| list(&it).ok());
    online.map_or(u64::MAX, |it| it.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(controller: &'static str, v1: &'static [&'static str], v2: &'static [&'static str]) -> Limit {
        Limit { flag: "--flag", controller, v1, v2 }
    }

    fn host(cgroups: Cgroups, plain_user: bool) -> Host {
        let host = Host::new(plain_user);
        assert!(host.cgroups.set(cgroups).is_ok());
        host
    }

    #[test]
    fn lists_of_numbers() {
        assert_eq!(list("0-2,4\n").unwrap(), [0, 1, 2, 4]);
        assert_eq!(list("3,1,1").unwrap(), [1, 3]);
        for bad in ["", "a", "1-", "2-1", "1,,2", "-1", "1-99999999", "+1", "1 2"] {
            assert!(list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_machine_cannot_limit_is_an_error_with_the_reason() {
        let dir = std::env::temp_dir().join(format!("rt-bundle-host-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("memory/a")).unwrap();
        std::fs::create_dir_all(dir.join("v2/user")).unwrap();
        for (path, text) in [
            ("memory/memory.limit_in_bytes", ""),
            ("v2/cgroup.controllers", "cpu io pids"),
            ("v2/user/cgroup.controllers", "cpu"),
            ("v2/user/cgroup.procs", ""),
            ("v2/user/cpu.max", ""),
        ] {
            std::fs::write(dir.join(path), text).unwrap();
        }
        let shown = dir.display();
        let mounts = format!(
            "20 1 0:1 / {shown}/memory rw - cgroup cgroup rw,memory\n21 1 0:2 / {shown}/v2 rw shared:1 - cgroup2 cgroup2 rw\n22 1 0:3 / / rw - ext4 x rw\n"
        );
        let own = "4:memory:/a\n0::/user\n";
        let says = |plain, limit: &Limit| {
            let host = host(Cgroups::read(&mounts, own), plain);
            host.require(limit).map_err(|it| it.to_string()).err().unwrap_or_default()
        };
        let memory = limit("memory", &["memory.limit_in_bytes"], &["memory.max"]);
        assert_eq!(says(false, &memory), "");
        assert!(says(true, &memory).contains("only root"));
        assert!(says(false, &limit("memory", &["memory.memsw.x"], &[])).contains("has no memory.memsw.x"));
        assert!(
            says(false, &limit("cpuset", &["cpuset.cpus"], &["cpuset.cpus"])).contains("no cgroup controller cpuset")
        );
        assert!(says(false, &limit("cpu", &[], &[])).contains("cgroup v2"));
        assert_eq!(says(false, &limit("cpu", &[], &["cpu.max"])), "");
        assert!(says(false, &limit("cpu", &[], &["cpu.idle"])).contains("no cpu.idle"));
        assert_eq!(says(true, &limit("cpu", &[], &["cpu.max"])), "");
        assert!(says(true, &limit("pids", &[], &["pids.max"])).contains("Delegate=pids"));
        assert_eq!(says(false, &limit("blkio", &[], &["io.max"])), "");
        assert!(host(Cgroups::default(), false).require(&memory).is_err());
        // Who is in the root of v2 itself, which has no files of limits, where there is no other cgroup to look at.
        std::fs::create_dir(dir.join("bare")).unwrap();
        std::fs::write(dir.join("bare/cgroup.controllers"), "memory").unwrap();
        let mounts = format!("21 1 0:2 / {shown}/bare rw - cgroup2 cgroup2 rw\n");
        host(Cgroups::read(&mounts, "0::/\n"), false).require(&memory).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
