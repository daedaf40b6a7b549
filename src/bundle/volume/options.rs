//! Options of the driver `local`, as Docker's: `type`, `device`, `o`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::container::units;

/// A file system that a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// `tmpfs`, `ext4`, `nfs`, `none` for a bind.
    pub kind: String,
    /// What is mounted; a directory of the host for a bind.
    pub device: String,
    /// Words for mount(2).
    pub options: Vec<String>,
}

impl Local {
    /// Whether it is a directory of the host.
    pub fn is_bind(&self) -> bool {
        self.options.iter().any(|it| it == "bind" || it == "rbind")
    }
}

/// Reads them; none where a volume is a directory in the store.
pub fn local(options: &BTreeMap<String, String>) -> Result<Option<Local>> {
    if let Some(unknown) = options.keys().find(|it| !matches!(it.as_str(), "type" | "device" | "o")) {
        bail!("volume option {unknown:?}: the driver local knows type, device and o");
    }
    if options.is_empty() {
        return Ok(None);
    }
    let get = |key: &str| options.get(key).cloned().unwrap_or_default();
    let local = Local {
        kind: get("type"),
        device: get("device"),
        options: get("o").split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect(),
    };
    if [&local.kind, &local.device].iter().any(|it| it.contains('\0')) || get("o").contains('\0') {
        bail!("volume options: a NUL is in them");
    }
    if local.is_bind() {
        if !local.device.starts_with('/') {
            bail!("volume option device={:?}: with o=bind it is an absolute path of the host", local.device);
        }
        return Ok(Some(local));
    }
    match local.kind.as_str() {
        "" => bail!("volume options: type is missing, such as type=tmpfs; or o=bind with a device"),
        "tmpfs" => {
            for option in &local.options {
                tmpfs_option(option).context("volume option o")?;
            }
        }
        _ if local.device.is_empty() => bail!("volume options: device is missing, which type={} needs", local.kind),
        _ => {}
    }
    Ok(Some(local))
}

/// Checks an option of a tmpfs.
pub fn tmpfs_option(option: &str) -> Result<()> {
    const WORDS: [&str; 24] = [
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "sync",
        "async",
        "dirsync",
        "private",
        "rprivate",
        "slave",
        "rslave",
        "noswap",
    ];
    const NUMBERS: [&str; 3] = ["nr_inodes", "uid", "gid"];
    let wrong = || format!("{option:?} is no option of a tmpfs");
    let Some((key, value)) = option.split_once('=') else {
        return if WORDS.contains(&option) { Ok(()) } else { bail!(wrong()) };
    };
    match key {
        // A part of the memory is a word of the kernel's own.
        "size" => match value.strip_suffix('%') {
            Some(part) => part.parse::<u8>().map(drop).ok().with_context(wrong),
            None => units::bytes(value).map(drop).with_context(wrong),
        },
        "nr_blocks" => units::bytes(value).map(drop).with_context(wrong),
        "mode" => u32::from_str_radix(value, 8).ok().filter(|it| *it <= 0o7777).map(drop).with_context(wrong),
        "mpol" | "huge" if value.bytes().all(|it| it.is_ascii_alphanumeric() || b"_:=-".contains(&it)) => Ok(()),
        key if NUMBERS.contains(&key) => value.parse::<u32>().map(drop).ok().with_context(wrong),
        _ => bail!(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[(&str, &str)]) -> Result<Option<Local>> {
        local(&list.iter().map(|it| (it.0.to_owned(), it.1.to_owned())).collect())
    }

    #[test]
    fn options_are_read_whole() {
        assert_eq!(read(&[]).unwrap(), None);
        let tmpfs = read(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=100m,uid=1000")]).unwrap().unwrap();
        assert_eq!((tmpfs.options.len(), tmpfs.is_bind()), (2, false));
        assert!(read(&[("type", "none"), ("device", "/srv"), ("o", "bind")]).unwrap().unwrap().is_bind());
        assert!(read(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=1.2.3.4,rw")]).unwrap().is_some());
        for bad in [
            &[("size", "1")][..],
            &[("device", "/x")],
            &[("type", "none"), ("device", "x"), ("o", "bind")],
            &[("type", "ext4")],
            &[("type", "tmpfs"), ("o", "what")],
            &[("type", "tmpfs"), ("o", "size=x")],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn options_of_tmpfs() {
        for good in ["size=64k", "size=50%", "mode=1777", "uid=5", "noexec", "exec", "nr_inodes=5", "mpol=bind:0"] {
            assert!(tmpfs_option(good).is_ok(), "{good}");
        }
        for bad in
            ["", "x", "size=", "size=x", "size=x%", "mode=9", "mode=77777", "uid=-1", "bind", "lowerdir=/x", "mpol=a,b"]
        {
            assert!(tmpfs_option(bad).is_err(), "{bad}");
        }
    }
}
