//! Random trees and random changes: what goes round must come back the same. Overlayfs itself is the measure of
//! what layers show together.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::super::diff::{DiffOptions, archive, diff};
use super::super::flatten::flatten;
use super::super::overlay::{Mount, Overlay, mount};
use super::super::settle::settle;
use super::super::unpack::unpack;
use super::tree::{differences, manifest};
use super::{OPTIONS, Scratch, in_own_mounts, open, unpacked};

/// Marsaglia's xorshift: the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn name(&mut self) -> Vec<u8> {
        let long = [b'n'; 120];
        let names: [&[u8]; 10] = [b"a", b"b", b"c", b"d", b"e", b"\xff\xfe", b" x", b"a.b", b"a-b", &long];
        names[self.below(10) as usize].to_vec()
    }

    /// A path that may or may not be there, in a directory that is.
    fn path(&mut self, root: &Path) -> PathBuf {
        let mut path = root.to_path_buf();
        for _ in 0..4 {
            let next = path.join(OsStr::from_bytes(&self.name()));
            if !fs::symlink_metadata(&next).is_ok_and(|it| it.is_dir()) || self.below(4) == 0 {
                return next;
            }
            path = next;
        }
        path.join(OsStr::from_bytes(&self.name()))
    }
}

/// One change somewhere in a tree. What is not possible is not done.
fn change(random: &mut Random, root: &Path) {
    let path = random.path(root);
    let other = random.path(root);
    // To open a pipe is to wait for its other end, and a device takes anything.
    let writable = fs::symlink_metadata(&path).map_or(true, |it| it.is_file());
    match random.below(15) {
        0..=2 => _ = fs::create_dir(&path),
        3..=5 if !writable => {}
        3 | 4 => _ = fs::write(&path, vec![b'x'; random.below(3000) as usize]),
        5 => {
            // Holes, and data behind them.
            if let Ok(file) = fs::File::create(&path) {
                let size = random.below(1 << 21);
                file.set_len(size).unwrap();
                file.write_all_at(b"data", random.below(size + 1)).unwrap();
            }
        }
        6 => _ = symlink("../a", &path),
        7 => _ = fs::hard_link(&path, &other),
        8 => _ = fs::remove_file(&path),
        9 => _ = fs::remove_dir_all(&path),
        10 => _ = fs::rename(&path, &other),
        11 => {
            let kinds = [FileType::Fifo, FileType::CharacterDevice, FileType::BlockDevice][random.below(3) as usize];
            _ = rustix::fs::mknodat(CWD, &path, kinds, Mode::RUSR, rustix::fs::makedev(1, 3));
        }
        12 => _ = lchown(&path, Some(random.below(3_000_000) as u32), Some(random.below(9) as u32)),
        13 => {
            if fs::symlink_metadata(&path).is_ok_and(|it| !it.is_symlink()) {
                fs::set_permissions(&path, fs::Permissions::from_mode(random.below(0o10000) as u32)).unwrap();
            }
        }
        _ => {
            let value = vec![random.below(256) as u8; random.below(50) as usize];
            let names = ["user.a", "user.b", "trusted.c", "security.capability"];
            _ = rustix::fs::lsetxattr(&path, names[random.below(3) as usize], &value, XattrFlags::empty());
        }
    }
    if random.below(3) == 0 {
        let time = Timespec {
            tv_sec: random.below(3_000_000_000) as i64 - 1_000_000_000,
            tv_nsec: random.below(1_000_000_000) as i64,
        };
        let times = Timestamps { last_access: time, last_modification: time };
        _ = rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    }
}

fn written(root: BorrowedFd, write: impl Fn(BorrowedFd, &mut dyn std::io::Write) -> anyhow::Result<()>) -> Vec<u8> {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    write(root, &mut once).unwrap();
    write(root, &mut twice).unwrap();
    assert!(once == twice, "equal trees, equal bytes");
    once
}

fn same(one: &Path, other: &Path, what: &str) {
    let [mut one, mut other] = [one, other].map(|path| manifest(path, &["trusted.overlay."]));
    // Of a whiteout nothing else counts.
    for (path, node) in one.iter_mut().chain(&mut other).filter(|(_, it)| it.kind == "character" && it.content == "0") {
        (node.mode, node.mtime, node.owner, node.first) = (0, (0, 0), (0, 0), path.clone());
    }
    assert_eq!(differences(&one, &other), Vec::<String>::new(), "{what}");
}

#[test]
fn a_tree_through_an_archive() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for seed in 1..=12 {
        let scratch = Scratch::new();
        let tree = scratch.directory("tree");
        let mut random = Random(seed * 7919);
        (0..200).for_each(|_| change(&mut random, &scratch.0.join("tree")));
        let bytes = written(tree.as_fd(), |root, out| archive(root, None, out));
        unpacked(&scratch, "again", &bytes);
        same(&scratch.0.join("tree"), &scratch.0.join("again"), &format!("seed {seed}"));
        // Debian's tar reads it too, and finds the same.
        fs::write(scratch.0.join("x.tar"), &bytes).unwrap();
        let mut tar = std::process::Command::new("tar");
        tar.args([
            "-xpf",
            "x.tar",
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--warning=no-timestamp",
            "-C",
            "tar",
        ]);
        scratch.directory("tar");
        assert!(tar.current_dir(&scratch.0).status().unwrap().success());
        same(&scratch.0.join("tree"), &scratch.0.join("tar"), &format!("seed {seed}, by tar"));
    }
}

#[test]
fn changes_through_a_layer() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    in_own_mounts(|| {
        for seed in 1..=12 {
            let what = format!("seed {seed}");
            let scratch = Scratch::new();
            let path = |name: &str| scratch.0.join(name);
            let store = open(&scratch.0);
            let mut random = Random(seed * 104_729);
            // Three layers: a tree, and twice what was changed on top.
            let mut done = vec![scratch.directory("layer-0")];
            (0..200).for_each(|_| change(&mut random, &path("layer-0")));
            for number in 1..3 {
                let [upper, work, merged, layer, flat] =
                    ["upper", "work", "merged", "layer", "flat"].map(|it| format!("{it}-{number}"));
                let directory = scratch.directory(&upper);
                fs::create_dir(path(&work)).unwrap();
                let root = fs::metadata(path(&format!("layer-{}", number - 1))).unwrap();
                chown(path(&upper), Some(root.uid()), Some(root.gid())).unwrap();
                fs::set_permissions(path(&upper), root.permissions()).unwrap();
                let layers: Vec<PathBuf> = (0..number).map(|it| format!("layer-{it}").into()).collect();
                let upper_work = Some((Path::new(&upper), Path::new(&work)));
                let what_to = Mount { layers: &layers, upper: upper_work, overlay: Overlay::Trusted, volatile: false };
                mount(store.as_fd(), &what_to, scratch.directory(&merged).as_fd()).unwrap();
                (0..100).for_each(|_| change(&mut random, &path(&merged)));
                // As overlayfs shows them, so they are copied.
                let mut all: Vec<_> = done.iter().map(AsFd::as_fd).collect();
                all.push(directory.as_fd());
                flatten(&all, scratch.directory(&flat).as_fd(), Overlay::Trusted).unwrap();
                same(&path(&merged), &path(&flat), &what);
                // And so is a layer that is made of the changes.
                let options = DiffOptions { overlay: Overlay::Trusted, source_date_epoch: None, stubs: &[] };
                let bytes = written(directory.as_fd(), |root, out| diff(root, out, &options));
                let new = scratch.directory(&layer);
                let result = unpack(&mut &bytes[..], new.as_fd(), &OPTIONS).unwrap();
                all.pop();
                all.reverse();
                settle(new.as_fd(), &all, &result, Overlay::Trusted).unwrap();
                same(&path(&upper), &path(&layer), &what);
                done.push(new);
                let all: Vec<_> = done.iter().map(AsFd::as_fd).collect();
                let flat = format!("{flat}-again");
                flatten(&all, scratch.directory(&flat).as_fd(), Overlay::Trusted).unwrap();
                same(&path(&merged), &path(&flat), &what);
                rustix::mount::unmount(path(&merged), rustix::mount::UnmountFlags::DETACH).unwrap();
            }
        }
    });
}

#[test]
fn times_are_clamped() {
    let scratch = Scratch::new();
    let tree = scratch.directory("tree");
    fs::write(scratch.0.join("tree/new"), "x").unwrap();
    fs::write(scratch.0.join("tree/old"), "x").unwrap();
    let old = Timespec { tv_sec: 500, tv_nsec: 5 };
    let times = Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(&tree, "old", &times, rustix::fs::AtFlags::empty()).unwrap();
    let options = DiffOptions { overlay: Overlay::Trusted, source_date_epoch: Some(1000), stubs: &[] };
    let bytes = written(tree.as_fd(), |root, out| diff(root, out, &options));
    unpacked(&scratch, "again", &bytes);
    let all = manifest(&scratch.0.join("again"), &[]);
    assert_eq!((all["new"].mtime, all["old"].mtime, all[""].mtime), ((1000, 0), (500, 5), (1000, 0)));
}
