//! `linux.intelRdt`: a group of the resctrl file system (Documentation/filesystems/resctrl.rst,
//! config-linux.md, "IntelRdt").

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::config::types::IntelRdt;
use crate::sys::error::At;

/// What will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The group's directory.
    pub group: PathBuf,
    /// The document names the group, so it is not ours to remove.
    pub named: bool,
    /// Lines for the group's `schemata`, in the order of the spec.
    pub schemata: Vec<String>,
    /// A monitoring group below it.
    pub monitor: Option<PathBuf>,
}

impl Plan {
    /// Plans for a container `id` with resctrl mounted at `mount`.
    pub fn new(rdt: &IntelRdt<'_>, mount: &str, id: &str) -> Plan {
        let group = match rdt.clos_id.as_deref() {
            Some("/") => PathBuf::from(mount),
            Some(name) => Path::new(mount).join(name),
            None => Path::new(mount).join(id),
        };
        Plan {
            monitor: rdt.enable_monitoring.then(|| group.join("mon_groups").join(id)),
            group,
            named: rdt.clos_id.is_some(),
            schemata: [&rdt.l3_cache_schema, &rdt.mem_bw_schema]
                .into_iter()
                .flatten()
                .chain(&rdt.schemata)
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Makes the group as the spec says, puts the process in it, and returns what `delete` shall
    /// remove.
    pub fn apply(&self, pid: i32) -> Result<()> {
        let what = || format!("/linux/intelRdt: group {}", self.group.display());
        let is_new = match fs::create_dir(&self.group) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error).at(what),
        };
        if self.named && self.schemata.is_empty() && is_new {
            fs::remove_dir(&self.group).at(what)?;
            bail!(
                "/linux/intelRdt/closID: the group {} does not exist and no schema says what to make it of",
                self.group.display()
            );
        }
        let file = self.group.join("schemata");
        if self.named && !is_new && !self.schemata.is_empty() {
            let found = fs::read_to_string(&file).at(what)?;
            let known: Vec<&str> = found.lines().map(str::trim).collect();
            if let Some(line) = self.schemata.iter().find(|line| !known.contains(&line.trim())) {
                bail!("/linux/intelRdt: the group {} exists with another schema than \"{line}\"", self.group.display());
            }
        } else {
            for line in &self.schemata {
                fs::write(&file, format!("{line}\n"))
                    .at(|| format!("/linux/intelRdt: writing \"{line}\" to {}", file.display()))?;
            }
        }
        fs::write(self.group.join("tasks"), pid.to_string()).at(what)?;
        if let Some(monitor) = &self.monitor {
            fs::create_dir(monitor).at(|| format!("/linux/intelRdt/enableMonitoring: group {}", monitor.display()))?;
            fs::write(monitor.join("tasks"), pid.to_string()).at(what)?;
        }
        Ok(())
    }

    /// Directories that go with the container.
    pub fn removable(&self) -> Vec<PathBuf> {
        self.monitor.iter().cloned().chain((!self.named).then(|| self.group.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str, mount: &Path) -> Plan {
        Plan::new(&serde_json::from_str(json).unwrap(), mount.to_str().unwrap(), "c1")
    }

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn groups_follow_the_rules_of_the_spec() {
        let scratch = Scratch(std::env::temp_dir().join(format!("rt-rdt-{}", std::process::id())));
        fs::create_dir_all(&scratch.0).unwrap();
        let own = plan(r#"{"l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=20"}"#, &scratch.0);
        own.apply(7).unwrap();
        assert_eq!(fs::read_to_string(scratch.0.join("c1/tasks")).unwrap(), "7");
        assert_eq!(own.removable(), [scratch.0.join("c1")]);
        let missing = plan(r#"{"closID":"none"}"#, &scratch.0);
        assert!(missing.apply(7).is_err());
        assert!(!scratch.0.join("none").exists());
        fs::create_dir(scratch.0.join("gold")).unwrap();
        fs::write(scratch.0.join("gold/schemata"), "    L3:0=f\nMB:0=20\n").unwrap();
        assert!(plan(r#"{"closID":"gold","schemata":["L3:0=1"]}"#, &scratch.0).apply(7).is_err());
        plan(r#"{"closID":"gold","schemata":["L3:0=f"]}"#, &scratch.0).apply(8).unwrap();
        assert_eq!(fs::read_to_string(scratch.0.join("gold/tasks")).unwrap(), "8");
        assert!(plan(r#"{"closID":"gold"}"#, &scratch.0).removable().is_empty());
    }
}
