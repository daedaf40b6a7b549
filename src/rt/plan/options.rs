//! Mount options: the words of config.md's table to attributes of mount_setattr(2), propagation,
//! superblock flags, and what is left for the filesystem.

use std::borrow::Cow;

use crate::config::types::Str;

/// What a list of options asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options<'a> {
    /// Attributes (`MOUNT_ATTR_…`) of this mount alone.
    pub attributes: Attributes,
    /// Attributes of this mount and all below it (the `r…` forms).
    pub recursive: Attributes,
    /// Words for the superblock: `ro`, `sync`, `lazytime` … (fsconfig flags).
    pub superblock: Vec<&'static str>,
    /// `MS_SHARED` and its kin, with whether it goes for the whole tree. Later ones win.
    pub propagation: Option<Propagation>,
    /// A bind mount; whether it takes what is mounted below.
    pub bind: Option<bool>,
    /// An idmapped mount; whether it goes for the whole tree.
    pub idmap: Option<bool>,
    /// Change a mount that is there instead of making one.
    pub remount: bool,
    /// Fill a tmpfs with what lies below it.
    pub tmpcopyup: bool,
    /// What no generic option is, with its place in the list.
    pub data: Vec<(usize, &'a str)>,
}

/// Attributes to set and to clear.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_…` bits.
    pub set: u64,
    /// `MOUNT_ATTR_…` bits.
    pub clear: u64,
}

impl Attributes {
    fn add(&mut self, bit: u64, on: bool) {
        let (to, from) = if on { (&mut self.set, &mut self.clear) } else { (&mut self.clear, &mut self.set) };
        *to |= bit;
        *from &= !bit;
    }

    /// The access times are one field with three values; the kernel wants the field cleared when a
    /// value is set.
    fn access_time(&mut self, value: u64) {
        self.set = self.set & !libc::MOUNT_ATTR__ATIME | value;
        self.clear |= libc::MOUNT_ATTR__ATIME;
    }

    /// Whether nothing is asked.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// A propagation type (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub kind: u64,
    /// For every mount below as well.
    pub recursive: bool,
}

/// `shared`, `rslave` …
pub fn propagation(word: &str) -> Option<Propagation> {
    let (kind, recursive) = match word {
        "shared" => (libc::MS_SHARED, false),
        "rshared" => (libc::MS_SHARED, true),
        "slave" => (libc::MS_SLAVE, false),
        "rslave" => (libc::MS_SLAVE, true),
        "private" => (libc::MS_PRIVATE, false),
        "rprivate" => (libc::MS_PRIVATE, true),
        "unbindable" => (libc::MS_UNBINDABLE, false),
        "runbindable" => (libc::MS_UNBINDABLE, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

/// The name of a propagation, for people.
pub fn propagation_word(propagation: Propagation) -> &'static str {
    match (propagation.kind, propagation.recursive) {
        (libc::MS_SHARED, false) => "shared",
        (libc::MS_SHARED, true) => "rshared",
        (libc::MS_SLAVE, false) => "slave",
        (libc::MS_SLAVE, true) => "rslave",
        (libc::MS_PRIVATE, false) => "private",
        (libc::MS_PRIVATE, true) => "rprivate",
        (_, false) => "unbindable",
        (_, true) => "runbindable",
    }
}

/// Attribute words: name, bit, whether it sets or clears. The access times are apart.
const ATTRIBUTES: [(&str, u64, bool); 12] = [
    ("ro", libc::MOUNT_ATTR_RDONLY, true),
    ("rw", libc::MOUNT_ATTR_RDONLY, false),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, true),
    ("suid", libc::MOUNT_ATTR_NOSUID, false),
    ("nodev", libc::MOUNT_ATTR_NODEV, true),
    ("dev", libc::MOUNT_ATTR_NODEV, false),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, true),
    ("exec", libc::MOUNT_ATTR_NOEXEC, false),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, true),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME, false),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, true),
    ("symfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, false),
];

/// Parses one attribute word without its leading `r`.
fn attribute(word: &str, into: &mut Attributes) -> bool {
    match word {
        "atime" | "norelatime" | "nostrictatime" | "relatime" => {
            into.access_time(libc::MOUNT_ATTR_RELATIME);
        }
        "noatime" => into.access_time(libc::MOUNT_ATTR_NOATIME),
        "strictatime" => into.access_time(libc::MOUNT_ATTR_STRICTATIME),
        _ => {
            let Some((_, bit, on)) = ATTRIBUTES.iter().find(|(name, ..)| *name == word) else {
                return false;
            };
            into.add(*bit, *on);
        }
    }
    true
}

/// Sorts a mount's options. Where two contradict each other, the later one wins, as in mount(8).
pub fn parse<'a>(list: &'a [Str<'_>]) -> Options<'a> {
    let mut options = Options::default();
    for (position, word) in list.iter().enumerate() {
        let word: &str = word;
        let superblock = |options: &mut Options<'_>, on: &'static str, off: &'static str, wanted: bool| {
            options.superblock.retain(|known| *known != on && *known != off);
            options.superblock.push(if wanted { on } else { off });
        };
        match word {
            "" | "defaults" | "silent" | "loud" | "nomand" | "noiversion" => {}
            "bind" => options.bind = Some(options.bind.unwrap_or(false)),
            "rbind" => options.bind = Some(true),
            "idmap" => options.idmap = Some(options.idmap.unwrap_or(false)),
            "ridmap" => options.idmap = Some(true),
            "remount" => options.remount = true,
            "tmpcopyup" => options.tmpcopyup = true,
            "sync" => superblock(&mut options, "sync", "async", true),
            "async" => superblock(&mut options, "sync", "async", false),
            "dirsync" => superblock(&mut options, "dirsync", "", true),
            "mand" => superblock(&mut options, "mand", "", true),
            "iversion" => superblock(&mut options, "iversion", "", true),
            "lazytime" => superblock(&mut options, "lazytime", "nolazytime", true),
            "nolazytime" => superblock(&mut options, "lazytime", "nolazytime", false),
            "ro" | "rw" => {
                superblock(&mut options, "ro", "rw", word == "ro");
                attribute(word, &mut options.attributes);
            }
            _ => {
                if let Some(propagation) = propagation(word) {
                    options.propagation = Some(propagation);
                } else if !attribute(word, &mut options.attributes)
                    && !word.strip_prefix('r').is_some_and(|rest| attribute(rest, &mut options.recursive))
                {
                    options.data.push((position, word));
                }
            }
        }
    }
    options
}

/// The absolute form of a path without `.`, `..` and doubled slashes, `..` stopping at the root.
/// It is text only: the kernel resolves the links when the path is used.
pub fn clean(path: &str) -> Cow<'_, str> {
    let tidy = path.starts_with('/')
        && path.len() > 1
        && !path.ends_with('/')
        && path[1..].split('/').all(|part| !matches!(part, "" | "." | ".."));
    if tidy {
        return Cow::Borrowed(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Cow::Owned(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(words: &[&str], look: impl FnOnce(Options<'_>) -> T) -> T {
        let list: Vec<Str<'_>> = words.iter().map(|word| Str::from(*word)).collect();
        look(parse(&list))
    }

    /// The words of config.md's table that set something generic; none may reach a filesystem.
    #[test]
    fn every_word_of_the_specs_table_is_known() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
            ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime \
            rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
            rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable \
            idmap ridmap rnodev";
        for word in table.split_whitespace() {
            with(&[word], |options| assert_eq!(options.data, [], "{word}"));
        }
        with(&["size=1m", "rsize=4096"], |options| {
            assert_eq!(options.data, [(0, "size=1m"), (1, "rsize=4096")]);
        });
    }

    #[test]
    fn later_words_win() {
        with(&["ro", "rw", "nosuid"], |options| {
            assert_eq!(options.attributes.set, libc::MOUNT_ATTR_NOSUID);
            assert_eq!(options.attributes.clear, libc::MOUNT_ATTR_RDONLY);
            assert_eq!(options.superblock, ["rw"]);
        });
        with(&["noatime", "strictatime"], |options| {
            assert_eq!(options.attributes.set, libc::MOUNT_ATTR_STRICTATIME);
            assert_eq!(options.attributes.clear, libc::MOUNT_ATTR__ATIME);
        });
    }

    #[test]
    fn recursive_words_leave_the_plain_ones_alone() {
        with(&["rbind", "rro", "nodev"], |options| {
            assert_eq!(options.bind, Some(true));
            assert_eq!(options.recursive.set, libc::MOUNT_ATTR_RDONLY);
            assert_eq!(options.attributes.set, libc::MOUNT_ATTR_NODEV);
            assert!(options.superblock.is_empty());
        });
    }

    #[test]
    fn paths_are_clamped_at_the_root() {
        for (path, cleaned) in [
            ("/a/b", "/a/b"),
            ("a", "/a"),
            ("/", "/"),
            ("", "/"),
            ("/../../etc", "/etc"),
            ("/a/./b//c/..", "/a/b"),
            ("/a/", "/a"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }
}
