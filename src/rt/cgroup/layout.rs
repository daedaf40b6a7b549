//! Which cgroup hierarchies this host has, read from /proc/self/mountinfo (proc_pid_mountinfo(5)).

use std::path::Path;

use anyhow::Result;

use crate::sys::error::At;
use crate::sys::file;

/// The hierarchies that are mounted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Layout {
    /// v1 hierarchies, in the order of the mount table.
    pub v1: Vec<Hierarchy>,
    /// Mount point of cgroup v2: alone on a v2 host, beside `v1` on a hybrid one.
    pub v2: Option<String>,
    /// The controllers that v2 has there (`cgroup.controllers` of the mount point).
    pub controllers: Vec<String>,
}

/// One v1 hierarchy.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: String,
    /// Its controllers (`cpu`, `cpuacct`), or its name (`name=systemd`).
    pub controllers: Vec<String>,
}

/// Superblock options of a cgroup mount that name no controller (cgroups(7)).
const OTHER_OPTIONS: [&str; 9] =
    ["rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "noprefix", "favordynmods", "nofavordynmods", "none"];

impl Layout {
    /// Reads the host's mount table.
    pub fn read() -> Result<Layout> {
        let table = file::read(Path::new("/proc/self/mountinfo")).at(|| "reading /proc/self/mountinfo".into())?;
        Ok(Layout::parse(&String::from_utf8_lossy(&table)))
    }

    /// Reads which controllers v2 has. Left out where v1 has all that is asked for.
    pub fn read_controllers(&mut self) -> Result<()> {
        let Some(mount) = &self.v2 else { return Ok(()) };
        let path = format!("{mount}/cgroup.controllers");
        let text = std::fs::read_to_string(&path).at(|| format!("reading {path}"))?;
        self.controllers = text.split_whitespace().map(str::to_owned).collect();
        Ok(())
    }

    /// Picks the cgroup mounts out of a mount table. A hierarchy mounted twice counts once.
    pub fn parse(table: &str) -> Layout {
        let mut layout = Layout::default();
        for line in table.lines() {
            // Most lines are of other file systems: look before splitting.
            let Some((before, after)) = line.split_once(" - cgroup") else { continue };
            let Some(mount) = before.split(' ').nth(4).map(unescape) else { continue };
            if after.starts_with("2 ") {
                layout.v2.get_or_insert(mount);
            } else if let Some(options) = after.strip_prefix(' ').and_then(|rest| rest.split(' ').next_back()) {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|word| !OTHER_OPTIONS.contains(word) && !word.starts_with("release_agent="))
                    .map(str::to_owned)
                    .collect();
                if !controllers.is_empty() && !layout.v1.iter().any(|known| known.controllers == controllers) {
                    layout.v1.push(Hierarchy { mount, controllers });
                }
            }
        }
        layout
    }

    /// The hierarchy of a v1 controller, as an index in `v1`.
    pub fn find(&self, controller: &str) -> Option<usize> {
        self.v1.iter().position(|hierarchy| hierarchy.controllers.iter().any(|known| known == controller))
    }
}

/// Undoes the kernel's `\040` for blank, tab, newline and backslash.
fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(position) = rest.find('\\') {
        out.push_str(&rest[..position]);
        let code = rest.get(position + 1..position + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        let (text, used) = code.map_or(('\\', 1), |byte| (byte as char, 4));
        out.push(text);
        rest = &rest[position + used..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/with\\040blank rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn hybrid_hosts() {
        let layout = Layout::parse(HYBRID);
        assert_eq!(layout.v1.len(), 3);
        assert_eq!(layout.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.find("cpuacct"), Some(0));
        assert_eq!(layout.find("name=systemd"), Some(2));
        assert_eq!(layout.find("rdma"), None);
        assert_eq!(layout.v1[1].mount, "/sys/fs/cgroup/memory");
        assert_eq!(layout.v2.as_deref(), Some("/sys/fs/cgroup/with blank"));
    }

    #[test]
    fn hosts_without_any() {
        assert_eq!(Layout::parse("1 1 0:1 / / rw - ext4 x rw\n"), Layout::default());
    }

    #[test]
    fn fuzz_mountinfo() {
        let own = std::fs::read("/proc/self/mountinfo").unwrap();
        let seeds: [&[u8]; 3] = [
            &own,
            b"30 23 0:26 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n",
            b"31 23 0:27 /a\\040b /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
        ];
        crate::fuzz::fuzz(&seeds, |bytes| {
            let layout = Layout::parse(&String::from_utf8_lossy(bytes));
            let _ = layout.find("memory");
        });
    }
}
