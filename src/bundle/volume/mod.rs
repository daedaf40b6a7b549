//! Volumes, binds and tmpfs: from the words of `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image to what is
//! mounted in a container.
//!
//! The life of a container's mounts: [`resolve`] reads the flags and gives the list that is kept with the container;
//! [`claim`] makes rows of its volumes in the transaction that registers the container; [`prepare`] makes their
//! directories and the mounts at each start; [`release`] lets go of them when the container goes.
//!
//! ```text
//! ROOT/volumes/NAME/_data   what is in it
//! ROOT/volumes/NAME/new     while nothing has ever been mounted
//! ROOT/volumes/NAME/fill-*  a copy of an image's files in the making
//! ```

mod attach;
mod data;
mod options;
mod parse;
mod prepare;
mod resolve;
mod rows;
mod table;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use attach::{Tree, show};
pub use prepare::{Site, Users, portable, prepare};
pub use resolve::resolve;
pub use rows::{Volume, adopt, all, claim, create, find, holders, release, remove, size};

/// Something that is mounted in a container. Stored with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where: an absolute path without `.` and `..`, not `/`.
    pub destination: String,
    /// Nobody in the container may write.
    #[serde(default)]
    pub read_only: bool,
    /// `private`, `slave`, `shared`, or these with `r` in front; private where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
    /// `nosuid`, `nodev`, `noexec`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Give all in it to the container's user.
    #[serde(default)]
    pub chown: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Source {
    /// A directory or file of the host.
    Bind {
        /// Its absolute path.
        path: String,
        /// What is mounted below it too.
        recursive: bool,
        /// With `read_only`: what is mounted below it stays writable.
        #[serde(default)]
        writable_below: bool,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// Nobody has given it a name: it goes with the container where that is asked for.
        #[serde(default)]
        anonymous: bool,
        /// A directory in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
        /// Whether the image's files are copied into it when it is new.
        copy: bool,
        /// Labels and options that it gets when it is made.
        #[serde(default)]
        new: New,
    },
    /// Memory.
    Tmpfs {
        /// Options of the file system and of the mount.
        options: Vec<String>,
    },
}

/// What a volume gets when it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct New {
    /// Labels.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Options of the driver `local`: `type`, `device`, `o`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub options: std::collections::BTreeMap<String, String>,
}

impl Mount {
    /// A mount without any options.
    fn of(source: Source, destination: String) -> Self {
        Self { source, destination, read_only: false, propagation: None, options: Vec::new(), chown: false }
    }
}
