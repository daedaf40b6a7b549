//! Docker's rules of names, and what hostile containers and archives try.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};

use super::{Side, copy, copy_in, copy_out};

struct Scratch(PathBuf);

impl Scratch {
    /// `c` is a container's root, `h` a directory of the host; `secret` is what nothing may reach.
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bundle-copy-{}-{number}", std::process::id()));
        for below in ["c/etc", "c/src/sub", "h"] {
            fs::create_dir_all(dir.join(below)).unwrap();
        }
        fs::write(dir.join("secret"), "secret").unwrap();
        fs::write(dir.join("c/file"), "file").unwrap();
        fs::write(dir.join("c/src/one"), "one").unwrap();
        fs::write(dir.join("c/src/sub/two"), "two").unwrap();
        Self(dir)
    }

    fn root(&self) -> OwnedFd {
        open(&self.0.join("c"))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    fn outside(&self, from: &str, to: &str) -> Result<(), String> {
        self.outside_as(from, to, false, false)
    }

    fn outside_as(&self, from: &str, to: &str, follow: bool, archive: bool) -> Result<(), String> {
        let (root, host) = (self.root(), open(Path::new("/")));
        let path = [self.0.as_os_str().as_bytes(), b"/", to.as_bytes()].concat();
        let from = Side { root: root.as_fd(), container: true, ids: None, path: from.as_bytes() };
        let to = Side { root: host.as_fd(), container: false, ids: None, path: &path };
        copy(&from, &to, follow, archive).map(drop).map_err(|it| format!("{it:#}"))
    }

    fn inside(&self, from: &str, to: &str) -> Result<(), String> {
        let (root, host) = (self.root(), open(Path::new("/")));
        let path = [self.0.as_os_str().as_bytes(), b"/", from.as_bytes()].concat();
        let from = Side { root: host.as_fd(), container: false, ids: None, path: &path };
        let to = Side { root: root.as_fd(), container: true, ids: None, path: to.as_bytes() };
        copy(&from, &to, false, false).map(drop).map_err(|it| format!("{it:#}"))
    }

    fn extract(&self, archive: &[u8], to: &str) -> Result<(), String> {
        let root = self.root();
        let to = Side { root: root.as_fd(), container: true, ids: None, path: to.as_bytes() };
        copy_in(&mut &archive[..], &to, false).map(drop).map_err(|it| format!("{it:#}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn files_go_where_docker_puts_them() {
    let it = Scratch::new();
    it.outside("/file", "h").unwrap();
    assert_eq!(it.read("h/file"), "file");
    it.outside("/file", "h/new").unwrap();
    assert_eq!(it.read("h/new"), "file");
    fs::write(it.0.join("h/old"), "much longer than before").unwrap();
    it.outside("/file", "h/old").unwrap();
    assert_eq!(it.read("h/old"), "file");
    assert!(it.outside("/file", "h/none/").unwrap_err().contains("no such directory"));
    assert!(it.outside("/file", "h/old/").unwrap_err().contains("not a directory"));
    assert!(it.outside("/file", "h/none/x").is_err());
    assert!(it.outside("/none", "h").unwrap_err().contains("no such file"));
    assert!(it.outside("/file/", "h").unwrap_err().contains("not a directory"));
    assert!(it.outside("/file/.", "h").unwrap_err().contains("not a directory"));
}

#[test]
fn directories_go_where_docker_puts_them() {
    let it = Scratch::new();
    it.outside("/src", "h").unwrap();
    assert_eq!((it.read("h/src/one"), it.read("h/src/sub/two")), ("one".into(), "two".into()));
    it.outside("/src", "h/new").unwrap();
    assert_eq!(it.read("h/new/sub/two"), "two");
    it.outside("/src/.", "h/new2").unwrap();
    assert_eq!(it.read("h/new2/sub/two"), "two");
    fs::create_dir(it.0.join("h/there")).unwrap();
    it.outside("/src/.", "h/there").unwrap();
    assert_eq!(it.read("h/there/one"), "one");
    it.outside("/src/sub/..", "h/there").unwrap();
    assert_eq!(it.read("h/there/src/one"), "one");
    assert!(it.outside("/src", "h/there/one").unwrap_err().contains("no directory"));
    // What is there already stays, but for the same names.
    fs::write(it.0.join("h/src/mine"), "mine").unwrap();
    fs::write(it.0.join("h/src/one"), "changed").unwrap();
    it.outside("/src/", "h").unwrap();
    assert_eq!((it.read("h/src/mine"), it.read("h/src/one")), ("mine".into(), "one".into()));
    // A directory is not replaced by a file, nor the other way round.
    fs::remove_file(it.0.join("h/src/one")).unwrap();
    fs::create_dir(it.0.join("h/src/one")).unwrap();
    assert!(it.outside("/src", "h").unwrap_err().contains("a directory is there"));
    fs::remove_dir_all(it.0.join("h/src")).unwrap();
    fs::write(it.0.join("h/src"), "").unwrap();
    assert!(it.outside("/src", "h").unwrap_err().contains("cannot take the place"));
    // And into the container, the whole of which is `/`.
    fs::create_dir(it.0.join("h/in")).unwrap();
    fs::write(it.0.join("h/in/x"), "x").unwrap();
    it.inside("h/in", "/").unwrap();
    it.inside("h/in/.", "/etc").unwrap();
    it.inside("h/in/x", "/etc/y").unwrap();
    assert_eq!((it.read("c/in/x"), it.read("c/etc/x"), it.read("c/etc/y")), ("x".into(), "x".into(), "x".into()));
}

#[test]
fn links_are_copied_or_followed_within_the_container() {
    let it = Scratch::new();
    symlink("/file", it.0.join("c/link")).unwrap();
    symlink("src", it.0.join("c/srclink")).unwrap();
    it.outside("/link", "h").unwrap();
    assert_eq!(fs::read_link(it.0.join("h/link")).unwrap(), Path::new("/file"));
    it.outside_as("/link", "h/followed", true, false).unwrap();
    assert_eq!(it.read("h/followed"), "file");
    it.outside("/srclink/", "h").unwrap();
    assert_eq!(it.read("h/srclink/one"), "one");
    // Links upwards and to the host's paths stay inside.
    let outside = it.0.join("secret");
    for target in [outside.to_str().unwrap(), "../../../../../../../../../../../../../../..//secret", "../secret"] {
        symlink(target, it.0.join("c/trap")).unwrap();
        assert!(
            it.outside_as("/trap", "h/trap", true, false).unwrap_err().contains("secret")
                || !it.0.join("h/trap").exists()
        );
        // Written to, it makes the file in the container, or nothing.
        fs::write(it.0.join("h/mine"), "mine").unwrap();
        let _ = it.inside("h/mine", "/trap");
        assert_eq!(it.read("secret"), "secret");
        fs::remove_file(it.0.join("c/trap")).unwrap();
        let _ = fs::remove_file(it.0.join("c/secret"));
    }
    for target in ["/proc/self/root", "/proc/self/cwd", "/proc/self/fd/0"] {
        fs::create_dir_all(it.0.join("c/proc")).unwrap();
        symlink(target, it.0.join("c/trap")).unwrap();
        assert!(it.outside("/trap/", "h/trap").is_err());
        fs::remove_file(it.0.join("c/trap")).unwrap();
    }
    symlink("loop2", it.0.join("c/loop")).unwrap();
    symlink("loop", it.0.join("c/loop2")).unwrap();
    assert!(it.outside_as("/loop", "h/loop", true, false).is_err());
}

#[test]
fn a_hostile_tree_writes_nowhere_else() {
    let it = Scratch::new();
    // A link where the next entry of the same archive goes through.
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, path: &str, link: &str, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content.as_bytes()).unwrap();
    };
    add(tar::EntryType::Symlink, "way", "../..", "");
    add(tar::EntryType::Regular, "way/secret", "", "overwritten");
    add(tar::EntryType::Symlink, "abs", it.0.to_str().unwrap(), "");
    let archive = archive.into_inner().unwrap();
    it.extract(&archive, "/etc").unwrap();
    // Followed, but within the container.
    assert_eq!((it.read("secret"), it.read("c/secret")), ("secret".into(), "overwritten".into()));
    for (path, link, kind) in [
        ("../x", "", tar::EntryType::Regular),
        ("a/../../x", "", tar::EntryType::Regular),
        ("hard", "../../secret", tar::EntryType::Link),
    ] {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        let mut archive = tar::Builder::new(Vec::new());
        archive.append(&header, &b""[..]).unwrap();
        assert!(it.extract(&archive.into_inner().unwrap(), "/etc").unwrap_err().contains("upwards"), "{path}");
    }
    // On the host a link stands where the container has a directory.
    symlink("..", it.0.join("h/src")).unwrap();
    assert!(it.outside("/src", "h").is_err());
    assert!(!it.0.join("one").exists() && !it.0.join("sub").exists());
}

#[test]
fn only_archives_keep_owners_and_what_makes_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let it = Scratch::new();
    fs::set_permissions(it.0.join("c/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(it.0.join("c/file"), Some(1234), Some(1235)).unwrap();
    // A change of owner has taken it away.
    fs::set_permissions(it.0.join("c/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    it.outside("/file", "h/plain").unwrap();
    let meta = fs::metadata(it.0.join("h/plain")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o755));
    it.outside_as("/file", "h/kept", false, true).unwrap();
    let meta = fs::metadata(it.0.join("h/kept")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 1235, 0o4755));
    assert_eq!(meta.mtime(), fs::metadata(it.0.join("c/file")).unwrap().mtime());
    it.inside("h/kept", "/in").unwrap();
    let meta = fs::metadata(it.0.join("c/in")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o4755));
}

#[test]
fn archives_go_through_pipes() {
    let it = Scratch::new();
    fs::hard_link(it.0.join("c/src/one"), it.0.join("c/src/same")).unwrap();
    let root = it.root();
    let mut archive = Vec::new();
    let side = |path| Side { root: root.as_fd(), container: true, ids: None, path };
    copy_out(&side(b"/src"), false, &mut archive).unwrap();
    let names: Vec<String> = tar::Archive::new(&archive[..])
        .entries()
        .unwrap()
        .map(|it| it.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["src/", "src/one", "src/same", "src/sub/", "src/sub/two"]);
    it.extract(&archive, "/etc").unwrap();
    assert_eq!(it.read("c/etc/src/same"), "one");
    let inode = |path: &str| fs::metadata(it.0.join(path)).unwrap().ino();
    assert_eq!(inode("c/etc/src/one"), inode("c/etc/src/same"));
    assert!(it.extract(&archive, "/file").unwrap_err().contains("extracted into a directory"));
    assert!(it.extract(&archive, "/none").is_err());
    // Cut off, it is an error.
    assert!(it.extract(&archive[..archive.len() - 2000], "/etc").is_err());
    // A file that is nearly all hole stays so.
    fs::File::create(it.0.join("c/holes")).unwrap().set_len(1 << 30).unwrap();
    it.outside("/holes", "h").unwrap();
    let meta = fs::metadata(it.0.join("h/holes")).unwrap();
    assert_eq!((meta.len(), meta.blocks()), (1 << 30, 0));
}
