//! Where systemd shall put a container: `linux.cgroupsPath` as `slice:prefix:name`
//! (systemd.unit(5), systemd.slice(5)). Pure.

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// What names of cgroups may not begin with: systemd sets `_` before such a name.
const TAKEN: [&str; 14] = [
    "cgroup",
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
];

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The slice around it, `-.slice` for the root.
    pub slice: String,
    /// `docker-ID.scope`, or a slice's name.
    pub name: String,
    /// In the hands of the user's manager, not the system's.
    pub user: bool,
}

impl Unit {
    /// Reads `slice:prefix:name`. Nothing at all is the scope `rt-ID` in the default slice. An error
    /// says what is wrong with `/linux/cgroupsPath`.
    pub fn parse(cgroups_path: &str, id: &str, rootless: bool) -> Result<Unit> {
        let default = if rootless { "user.slice" } else { "system.slice" };
        let parts: Vec<&str> = cgroups_path.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "rt", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => bail!(
                "must be slice:prefix:name with --systemd-cgroup, is \"{cgroups_path}\"; leave the flag out for a path"
            ),
        };
        let slice = if slice.is_empty() { default } else { slice };
        check_slice(slice)?;
        let name = if is_slice(name) {
            check_slice(name)?;
            name.to_owned()
        } else {
            let hyphen = if prefix.is_empty() { "" } else { "-" };
            format!("{prefix}{hyphen}{name}.scope")
        };
        if name == "-.slice" {
            bail!("-.slice holds all of the machine and can be no container; choose another name");
        }
        if parts.last() == Some(&"") && !cgroups_path.is_empty() {
            bail!("\"{cgroups_path}\" has no name after its last colon");
        }
        check_name(&name)?;
        Ok(Unit { slice: slice.to_owned(), name, user: rootless })
    }

    /// Whether the container is a slice itself, which takes no processes from systemd's hands.
    pub fn is_slice(&self) -> bool {
        is_slice(&self.name)
    }

    /// Its cgroup, below that of its manager: `/a.slice/a-b.slice/prefix-name.scope`.
    pub fn path(&self) -> String {
        if self.is_slice() {
            return expand(&self.name);
        }
        format!("{}/{}", expand(&self.slice), escape(&self.name))
    }
}

fn is_slice(name: &str) -> bool {
    name.strip_suffix(".slice").is_some()
}

/// The path of a slice: each hyphen in its name is a step down.
fn expand(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    if stem == "-" {
        return String::new();
    }
    let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
    ends.map(|end| format!("/{}", escape(&format!("{}.slice", &stem[..end])))).collect()
}

/// A unit's name as systemd names its cgroup: none that the kernel uses for files there.
fn escape(name: &str) -> String {
    let taken = name.starts_with(['_', '.'])
        || TAKEN.iter().any(|word| name.strip_prefix(word).is_some_and(|rest| rest.starts_with('.')));
    if taken { format!("_{name}") } else { name.to_owned() }
}

fn check_slice(slice: &str) -> Result<()> {
    let bad = |why: &str| anyhow!("\"{slice}\" is no name of a slice: {why}");
    let stem = slice.strip_suffix(".slice").ok_or_else(|| bad("it must end with .slice"))?;
    if stem != "-" && stem.split('-').any(str::is_empty) {
        return Err(bad("hyphens in it part the slices from the outermost on, and each needs a name"));
    }
    if stem.contains('@') {
        return Err(bad("slices are made from no templates (@)"));
    }
    check_name(slice)
}

/// systemd.unit(5): letters, digits and `:-_.\@`, at most 255 of them.
fn check_name(name: &str) -> Result<()> {
    let odd = |c: &char| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(*c);
    if let Some(odd) = name.chars().find(odd) {
        bail!("systemd's unit names are letters, digits and -_.\\@, but {name:?} has {odd:?} in it");
    }
    if name.len() > 255 {
        bail!("systemd's unit names have 255 letters at most, {name:?} has {}", name.len());
    }
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    // `a@.scope` is a template, of which `a@b.scope` would be an instance.
    if stem.starts_with('@') || stem.ends_with('@') {
        bail!("{name:?} is a template, and a template cannot run; put something on both sides of the @");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<(String, String), String> {
        Unit::parse(path, "c1", false).map(|unit| (unit.name.clone(), unit.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_places() {
        let ok = |path: &str| parse(path).unwrap();
        let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        assert_eq!(ok(""), pair("rt-c1.scope", "/system.slice/rt-c1.scope"));
        assert_eq!(ok("system.slice:docker:12ab"), pair("docker-12ab.scope", "/system.slice/docker-12ab.scope"));
        assert_eq!(ok(":docker:1"), pair("docker-1.scope", "/system.slice/docker-1.scope"));
        assert_eq!(ok("a-b-c.slice::x"), pair("x.scope", "/a.slice/a-b.slice/a-b-c.slice/x.scope"));
        assert_eq!(ok("-.slice:p:x"), pair("p-x.scope", "/p-x.scope"));
        assert_eq!(ok("system.slice:p:a-b.slice"), pair("a-b.slice", "/a.slice/a-b.slice"));
        assert_eq!(ok("system.slice:p:x@y"), pair("p-x@y.scope", "/system.slice/p-x@y.scope"));
        // Names that the kernel takes for its own files.
        assert_eq!(ok("system.slice::memory"), pair("memory.scope", "/system.slice/_memory.scope"));
        assert_eq!(ok("cpu.slice:_a:x"), pair("_a-x.scope", "/_cpu.slice/__a-x.scope"));
        assert_eq!(ok("system.slice::memoryx").1, "/system.slice/memoryx.scope");
        let unit = Unit::parse("", "c1", true).unwrap();
        assert_eq!(
            (unit.slice.as_str(), unit.user, unit.path()),
            ("user.slice", true, "/user.slice/rt-c1.scope".into())
        );
    }

    #[test]
    fn wrong_names() {
        let many = format!("system.slice:p:{}", "x".repeat(250));
        for bad in [
            "/docker/1",
            "a.slice:b",
            "a.slice:b:c:d",
            "docker:p:x",
            "a--b.slice:p:x",
            "-a.slice:p:x",
            "a-.slice:p:x",
            ".slice:p:x",
            "a/b.slice:p:x",
            "a@b.slice:p:x",
            "system.slice:p:",
            "system.slice::",
            "system.slice:p:a/b",
            "system.slice:p:a b",
            "system.slice:p:ä",
            "system.slice:p:a\0",
            "system.slice:p:-.slice",
            "system.slice:p:a--b.slice",
            "system.slice::@x",
            "system.slice:p:x@",
            &many,
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!error.starts_with('/') && !error.contains(['\n', '\0']), "{bad}: {error}");
        }
        assert!(parse(&many[..many.len() - 1]).is_err());
        assert!(parse(&many[..many.len() - 3]).is_ok());
        assert!(Unit::parse("", "a/b", false).is_err());
    }

    #[test]
    fn a_slice_stands_below_all_that_its_name_begins_with() {
        for stem in ["a", "a-b", "a-b-c-d", "x1-y_2-z.3"] {
            let path = expand(&format!("{stem}.slice"));
            let steps: Vec<&str> = path.split('/').skip(1).collect();
            assert_eq!(steps.len(), stem.split('-').count());
            for pair in steps.windows(2) {
                assert!(pair[1].starts_with(pair[0].strip_suffix(".slice").unwrap()));
            }
            assert_eq!(*steps.last().unwrap(), format!("{stem}.slice"));
        }
    }
}
