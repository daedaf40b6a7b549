//! Layers: from tar streams to directories that overlayfs takes, and back. What is here knows nothing of
//! stores, registries and databases: it gets streams and descriptors of directories.
//!
//! Order of things: [`compress::decoder`] gives the plain archive, [`unpack::unpack`] writes it to a
//! directory of its own without a look at other layers, so that layers may come in any order and at the same
//! time; [`settle::settle`] then fits it to the layers below it. [`overlay::mount`] shows layers as one tree,
//! [`flatten::flatten`] copies that tree, and [`compare::compare`] says what has become of the copy; [`diff::diff`] makes
//! a layer of what was written on top.

pub mod archive;
mod capability;
pub mod changes;
pub mod compare;
pub mod compress;
pub mod diff;
pub mod extract;
pub mod flatten;
pub mod fs;
pub mod overlay;
mod parents;
mod pax;
pub mod remove;
pub mod settle;
pub mod tar;
#[cfg(test)]
mod tests;
pub mod unpack;
mod view;
mod whole;

pub use fs::names;
pub use whole::{give, size};

/// A name from an archive or a tree as errors show it: quoted, on one line, not longer than a line.
pub fn shown(name: &[u8]) -> String {
    const MOST: usize = 160;
    if name.len() <= MOST {
        return format!("\"{}\"", name.escape_ascii());
    }
    format!("\"{}...\" ({} bytes)", name[..MOST].escape_ascii(), name.len())
}

/// A path below a root without its last part, and that part. Both are empty for the root itself.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// A path below a root, from a directory's and a name in it.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
