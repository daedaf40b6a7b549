//! A tree of files as a list that can be compared: everything that an image keeps of them.

#![allow(dead_code)] // each user takes what it needs

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use sha2::Digest;

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `file`, `directory`, `symlink`, `character`, `block`, `fifo` or `socket`.
    pub kind: &'static str,
    /// Permissions, setuid, setgid and sticky.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Size and SHA-256 of a file, target of a symbolic link, number of a device.
    pub content: String,
    /// Names, and values as Rust would write them.
    pub xattrs: BTreeMap<String, String>,
    /// The first path of the same inode.
    pub first: String,
}

/// Everything below a directory by its path, names escaped as Rust would; the directory itself is the empty
/// path. Extended attributes whose names begin with one of `but` are left out.
pub fn manifest(root: &Path, but: &[&str]) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    let mut inodes: HashMap<(u64, u64), String> = HashMap::new();
    let mut ahead = vec![root.to_path_buf()];
    let mut all = Vec::new();
    while let Some(path) = ahead.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            ahead.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        all.push((name, path, metadata));
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, path, metadata) in all {
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_file() {
            ("file", format!("{} {}", metadata.len(), hash(&path)))
        } else if kind.is_dir() {
            ("directory", String::new())
        } else if kind.is_symlink() {
            ("symlink", std::fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii().to_string())
        } else if kind.is_char_device() || kind.is_block_device() {
            let name = if kind.is_char_device() { "character" } else { "block" };
            (name, format!("{:x}", metadata.rdev()))
        } else {
            (if kind.is_fifo() { "fifo" } else { "socket" }, String::new())
        };
        let first = inodes.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone()).clone();
        let node = Node {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            content,
            xattrs: xattrs(&path, but),
            first,
        };
        nodes.insert(name, node);
    }
    nodes
}

fn hash(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    hasher.finalize()[..8].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn xattrs(path: &Path, but: &[&str]) -> BTreeMap<String, String> {
    let mut list = vec![0; 1 << 16];
    let size = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut all = BTreeMap::new();
    for name in list[..size].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let text = name.escape_ascii().to_string();
        if but.iter().any(|it| text.starts_with(it)) {
            continue;
        }
        let mut value = vec![0; 1 << 16];
        let size = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        all.insert(text, value[..size].escape_ascii().to_string());
    }
    all
}

/// What one tree has and the other has not, a line each; nothing where they are equal.
pub fn differences(one: &BTreeMap<String, Node>, other: &BTreeMap<String, Node>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, node) in one {
        match other.get(name) {
            None => lines.push(format!("only in the first: {name} {node:?}")),
            Some(same) if same == node => {}
            Some(differs) => lines.push(format!("{name}:\n  {node:?}\n  {differs:?}")),
        }
    }
    let new = other.iter().filter(|(name, _)| !one.contains_key(*name));
    lines.extend(new.map(|(name, node)| format!("only in the second: {name} {node:?}")));
    lines
}
