//! Paths inside the container's root, resolved by the kernel against the root's descriptor
//! (openat2(2), Linux 5.6): a link, however it changes meanwhile, cannot lead outside.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Result, anyhow};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2, readlinkat};
use rustix::io::Errno;

use crate::plan::options::clean;
use crate::sys::error::errno;

/// How often a resolution that lost a race against a rename is tried again.
const RACES: usize = 128;

/// How many dangling links are followed, as many as the kernel follows.
const LINKS: usize = 40;

/// The root of the container, as an open descriptor.
#[derive(Debug)]
pub struct Tree(OwnedFd);

/// What to make where a path ends in nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Directory,
    File,
}

impl Tree {
    /// `root` is a descriptor of the root directory.
    pub fn new(root: OwnedFd) -> Tree {
        Tree(root)
    }

    /// Opens what is there.
    pub fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::empty())
    }

    /// Opens a directory that no link may lead to.
    pub fn open_without_links(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS)
    }

    fn open_with(&self, path: &str, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RACES {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The path without links of what is there, as seen from the root.
    pub fn real_path(&self, path: &str) -> Option<String> {
        let found = self.open(path, OFlags::PATH).ok()?;
        let link = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        link.into_os_string().into_string().ok()
    }

    /// The directory at `path`, made with its parents (mode 0755) where it is missing.
    pub fn directory(&self, path: &str) -> Result<OwnedFd> {
        self.ensure(path, Missing::Directory)
    }

    /// The file at `path`, made empty where it is missing.
    pub fn file(&self, path: &str) -> Result<OwnedFd> {
        self.ensure(path, Missing::File)
    }

    /// The directory that holds `path` and the last name in it.
    pub fn parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.directory(if parent.is_empty() { "/" } else { parent })?, name))
    }

    fn ensure(&self, path: &str, missing: Missing) -> Result<OwnedFd> {
        self.try_ensure(path, missing).map_err(|error| anyhow!("making {path} inside the container: {}", errno(error)))
    }

    fn try_ensure(&self, path: &str, missing: Missing) -> rustix::io::Result<OwnedFd> {
        let flags = if missing == Missing::Directory { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::PATH };
        match self.open(path, flags) {
            // Mostly it is the last part alone that is missing.
            Err(Errno::NOENT) => match self.make_last(path, missing) {
                Ok(()) => self.open(path, flags),
                Err(Errno::NOENT | Errno::EXIST) => self.make(path, missing, flags),
                Err(error) => Err(error),
            },
            other => other,
        }
    }

    fn make_last(&self, path: &str, missing: Missing) -> rustix::io::Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.open(if parent.is_empty() { "/" } else { parent }, OFlags::PATH | OFlags::DIRECTORY)?;
        match missing {
            Missing::File => make_file(&parent, name),
            Missing::Directory => mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
        }
    }

    /// Walks from the root, makes what is missing, and opens the end. A link that dangles is
    /// followed by hand: its target is what gets made.
    fn make(&self, path: &str, missing: Missing, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let mut path = clean(path).into_owned();
        let mut links = 0;
        let mut done = 0; // bytes of `path` that are known to exist
        while done < path.len() {
            let end = path[done + 1..].find('/').map_or(path.len(), |next| done + 1 + next);
            let prefix = &path[..end];
            let last = end == path.len();
            match self.open(prefix, OFlags::PATH) {
                Ok(fd) if last => return if missing == Missing::File { Ok(fd) } else { self.open(&path, flags) },
                Ok(_) => done = end,
                Err(Errno::NOENT) => {
                    let parent =
                        self.open(if done == 0 { "/" } else { &path[..done] }, OFlags::PATH | OFlags::DIRECTORY)?;
                    let name = &path[done + 1..end];
                    let made = if last && missing == Missing::File {
                        make_file(&parent, name)
                    } else {
                        mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                    };
                    match made {
                        Ok(()) => {}
                        Err(Errno::EXIST) => {
                            // Something stands there that leads nowhere, or has just been made.
                            let target = match readlinkat(&parent, name, Vec::new()) {
                                Ok(target) => target.into_string().map_err(|_| Errno::ILSEQ)?,
                                Err(Errno::INVAL) => continue,
                                Err(error) => return Err(error),
                            };
                            links += 1;
                            if links > LINKS {
                                return Err(Errno::LOOP);
                            }
                            let base = if target.starts_with('/') { "" } else { &path[..done] };
                            path = clean(&format!("{base}/{target}{}", &path[end..])).into_owned();
                            done = 0;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.open(&path, flags)
    }
}

fn make_file(parent: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

impl AsFd for Tree {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("rt-resolve-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("root")).unwrap();
            Scratch(path)
        }

        fn tree(&self) -> Tree {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Tree::new(rustix::fs::open(self.0.join("root"), flags, Mode::empty()).unwrap())
        }

        fn root(&self, path: &str) -> PathBuf {
            self.0.join("root").join(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn missing_parts_are_made() {
        let scratch = Scratch::new("made");
        scratch.tree().directory("/a/b/c").unwrap();
        scratch.tree().file("/a/x/file").unwrap();
        assert!(scratch.root("a/b/c").is_dir() && scratch.root("a/x/file").is_file());
        scratch.tree().file("/a/x/file").unwrap();
        assert!(scratch.tree().directory("/a/x/file").is_err());
    }

    #[test]
    fn links_cannot_lead_outside() {
        let scratch = Scratch::new("outside");
        fs::create_dir(scratch.0.join("victim")).unwrap();
        symlink("../../../../../../../victim", scratch.root("up")).unwrap();
        symlink(scratch.0.join("victim"), scratch.root("absolute")).unwrap();
        scratch.tree().directory("/up/made").unwrap();
        scratch.tree().file("/absolute/file").unwrap();
        assert_eq!(names(&scratch.0.join("victim")), Vec::<String>::new());
        assert!(scratch.root("victim/made").is_dir());
    }

    #[test]
    fn dangling_links_are_followed_inside() {
        let scratch = Scratch::new("dangling");
        symlink("/var/run/real", scratch.root("link")).unwrap();
        symlink("one", scratch.root("two")).unwrap();
        symlink("two", scratch.root("one")).unwrap();
        scratch.tree().directory("/link/below").unwrap();
        assert!(scratch.root("var/run/real/below").is_dir());
        assert!(scratch.tree().directory("/one").is_err(), "a loop is an error");
    }
}
