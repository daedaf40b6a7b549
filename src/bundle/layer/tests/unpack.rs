//! What is easily forgotten when an archive is unpacked.

use super::build::{Tar, header};
use super::{Scratch, tree, unpacked};

fn directory(name: &str, mode: u32, gid: u64) -> Tar {
    let mut header = header(b'5', name.as_bytes(), b"", 0);
    header.set_mode(mode);
    header.set_gid(gid);
    Tar::default().raw(&mut header, b"")
}

/// Files take over the group of a directory with setgid, directories the bit too: unless they are told.
#[test]
fn groups_are_not_inherited() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    let mut archive = Tar::default().file("d/before", "").0;
    archive.extend(directory("d", 0o2755, 5).0);
    archive.extend(Tar::default().file("d/behind", "").file("d/implied/file", "").link("d/link", "x").0);
    archive.extend(directory("d/named", 0o755, 0).0);
    archive.extend(directory("./", 0o2755, 6).0);
    archive.extend(Tar::default().file("behind", "").file("implied/file", "").0);
    unpacked(&scratch, "a", &archive);
    for (path, node) in tree::manifest(&scratch.0.join("a"), &[]) {
        let expected = match &path[..] {
            "d" => (0o2755, 5),
            "" => (0o2755, 6),
            _ => (node.mode & 0o777, 0),
        };
        assert_eq!((node.mode, node.owner.1), expected, "{path}");
    }
}

/// What is said of a directory last is all that counts.
#[test]
fn the_last_entry_of_a_directory_wins() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    let mut archive = Tar::default().pax(&[("SCHILY.xattr.user.first", b"x"), ("mtime", b"5")]).dir("d").0;
    archive.extend(Tar::default().file("d/x", "").0);
    archive.extend(Tar::default().pax(&[("SCHILY.xattr.user.second", b""), ("mtime", b"-7.25")]).0);
    archive.extend(directory("d", 0o700, 1).0);
    let done = unpacked(&scratch, "a", &archive);
    assert_eq!((done.implied, done.entries), (vec![Vec::new()], 3));
    let all = tree::manifest(&scratch.0.join("a"), &[]);
    let node = &all["d"];
    assert_eq!((node.mode, node.owner, node.mtime), (0o700, (0, 1), (-8, 750_000_000)));
    assert_eq!(node.xattrs.iter().collect::<Vec<_>>(), [(&"user.second".to_owned(), &String::new())]);
    assert!(all.contains_key("d/x"));
}

/// What no entry names is told, and looks the same each time.
#[test]
fn what_is_implied_is_told() {
    let scratch = Scratch::new();
    let archive =
        Tar::default().file("a/b/c", "").file(".wh.e", "").file("e/f", "").hard("g", "h/i").hard("j", "a/b/c");
    let done = unpacked(&scratch, "a", &archive.end());
    let implied: Vec<String> = done.implied.iter().map(|it| it.escape_ascii().to_string()).collect();
    assert_eq!(implied, ["", "a", "a/b"], "below e there is nothing");
    assert_eq!(done.links.len(), 1);
    assert_eq!((&done.links[0].path[..], &done.links[0].target[..]), (&b"g"[..], &b"h/i"[..]));
    let all = tree::manifest(&scratch.0.join("a"), &[]);
    for path in ["", "a", "a/b", "e"] {
        assert_eq!((all[path].mode, all[path].mtime), (0o755, (0, 0)), "{path}");
    }
    assert_eq!(all["j"].first, all["a/b/c"].first);
}
