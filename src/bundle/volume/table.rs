//! What is mounted on this machine, and the words of mount(8).

use anyhow::{Context, Result, bail};
use rustix::mount::MountFlags;

use crate::namespace;

/// A line of /proc/self/mountinfo.
struct Line {
    path: String,
    shared: bool,
    slave: bool,
}

/// The mounts of the machine as they are outside of our own mount namespace.
fn lines() -> Result<Vec<Line>> {
    let text = namespace::outside(|| {
        std::fs::read_to_string("/proc/thread-self/mountinfo").context("reading the list of mounts")
    })?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Line> {
    let (before, _) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let path = unescape(fields.nth(4)?);
    let optional: Vec<&str> = fields.skip(1).collect();
    let has = |what: &str| optional.iter().any(|it| it.starts_with(what));
    Some(Line { path, shared: has("shared:"), slave: has("master:") })
}

/// A path of mountinfo: `\040` and the like are bytes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let code = (first == b'\\').then(|| more.get(..3)).flatten();
        let code = code.and_then(|it| u8::from_str_radix(std::str::from_utf8(it).ok()?, 8).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &more[3..] } else { more };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_below(path: &str, directory: &str) -> bool {
    directory == "/" || path.strip_prefix(directory).is_some_and(|it| it.starts_with('/'))
}

/// Whether something is mounted below a directory.
pub fn has_below(path: &str) -> Result<bool> {
    let real = std::fs::canonicalize(path).with_context(|| path.to_owned())?;
    let real = real.to_string_lossy();
    Ok(lines()?.iter().any(|it| it.path != real && is_below(&it.path, &real)))
}

/// Whether mounts can go from a path to a container, or back too, as its propagation asks for.
pub fn check_propagation(path: &str, propagation: &str) -> Result<()> {
    let real = std::fs::canonicalize(path).with_context(|| path.to_owned())?;
    let real = real.to_string_lossy();
    let lines = lines()?;
    // The longest one that the path is in; of several at one place the last.
    let found = lines.iter().filter(|it| it.path == real || is_below(&real, &it.path)).max_by_key(|it| it.path.len());
    let Some(on) = found else { return Ok(()) };
    let fits = match propagation {
        "shared" | "rshared" => on.shared,
        "slave" | "rslave" => on.shared || on.slave,
        _ => true,
    };
    if !fits {
        bail!(
            "{propagation} needs a shared mount on the host, and {path} is on {}, which is none: mount --make-shared {}",
            on.path,
            on.path
        );
    }
    Ok(())
}

/// Words that are flags of mount(2), and those that are the file system's.
pub fn mount_flags(options: &[String]) -> (MountFlags, Vec<&str>) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options {
        let (flag, on) = match option.as_str() {
            "rw" | "defaults" => (MountFlags::RDONLY, false),
            "ro" => (MountFlags::RDONLY, true),
            "nosuid" => (MountFlags::NOSUID, true),
            "suid" => (MountFlags::NOSUID, false),
            "nodev" => (MountFlags::NODEV, true),
            "dev" => (MountFlags::NODEV, false),
            "noexec" => (MountFlags::NOEXEC, true),
            "exec" => (MountFlags::NOEXEC, false),
            "sync" => (MountFlags::SYNCHRONOUS, true),
            "async" => (MountFlags::SYNCHRONOUS, false),
            "dirsync" => (MountFlags::DIRSYNC, true),
            "noatime" => (MountFlags::NOATIME, true),
            "atime" => (MountFlags::NOATIME, false),
            "nodiratime" => (MountFlags::NODIRATIME, true),
            "relatime" => (MountFlags::RELATIME, true),
            "strictatime" => (MountFlags::STRICTATIME, true),
            other => {
                rest.push(other);
                continue;
            }
        };
        flags.set(flag, on);
    }
    (flags, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let line = parse("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw").unwrap();
        assert_eq!((line.path.as_str(), line.shared, line.slave), ("/mnt 2", true, true));
        let line = parse("36 35 98:0 / / rw - ext3 /dev/root rw").unwrap();
        assert_eq!((line.path.as_str(), line.shared, line.slave), ("/", false, false));
        assert!(is_below("/a/b", "/a") && is_below("/a", "/") && !is_below("/ab", "/a") && !is_below("/a", "/a"));
        assert_eq!(unescape("a\\134b\\1"), "a\\b\\1");
    }

    #[test]
    fn flags_and_words() {
        let options = ["ro", "size=1", "nosuid", "rw"].map(str::to_owned);
        assert_eq!(mount_flags(&options), (MountFlags::NOSUID, vec!["size=1"]));
    }
}
