//! Whether the kernel's out-of-memory killer has been at work in a container: the count that its memory cgroup keeps.

use std::path::PathBuf;

/// Where the count is.
#[derive(Default)]
pub struct Oom {
    file: PathBuf,
    seen: u64,
}

impl Oom {
    /// The count of the cgroup that a process is in now (cgroups(7): `oom_kill` of memory.events, in v1 of
    /// memory.oom_control since Linux 4.13).
    pub fn of(pid: i32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Self { file: file(&text).unwrap_or_default(), seen: 0 }
    }

    /// Whether it has grown since the last question.
    pub fn again(&mut self) -> bool {
        let count = std::fs::read_to_string(&self.file).ok().and_then(|it| count(&it)).unwrap_or(0);
        let grown = count > self.seen;
        self.seen = self.seen.max(count);
        grown
    }
}

fn file(cgroups: &str) -> Option<PathBuf> {
    let lines = || cgroups.lines().filter_map(|line| line.splitn(3, ':').skip(1).collect::<Vec<_>>().try_into().ok());
    let v1 = lines().find(|[controllers, _]: &[&str; 2]| controllers.split(',').any(|it| it == "memory"));
    if let Some([_, path]) = v1 {
        return Some(format!("/sys/fs/cgroup/memory{path}/memory.oom_control").into());
    }
    let [_, path] = lines().find(|[controllers, _]| controllers.is_empty())?;
    Some(format!("/sys/fs/cgroup{path}/memory.events").into())
}

fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts() {
        let v1 = "12:pids:/a\n5:memory:/bundle-x\n0::/u\n";
        assert_eq!(file(v1).unwrap().to_str().unwrap(), "/sys/fs/cgroup/memory/bundle-x/memory.oom_control");
        assert_eq!(file("0::/bundle-x\n").unwrap().to_str().unwrap(), "/sys/fs/cgroup/bundle-x/memory.events");
        assert_eq!(file(""), None);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), Some(2));
        assert_eq!(count("low 0\noom 1\noom_kill 0\noom_group_kill 0\n"), Some(0));
    }
}
