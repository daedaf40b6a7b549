//! Builds the root file system from the plan's steps. Every mount is made detached, gets its
//! attributes while nobody can see it, and is then moved onto a descriptor that the kernel has
//! resolved inside the root: no path string is used after the container's files could have changed
//! under it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, fstatfs, major, makedev, minor, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick, move_mount, open_tree,
};

use super::copy_up;
use super::resolve::Tree;
use crate::cgroup::tree;
use crate::config::validate::harmless_proc_file;
use crate::plan::Plan;
use crate::plan::options::{Attributes, Propagation};
use crate::plan::rootfs::{Device, Mount, What, shares_with_host};
use crate::sys;
use crate::sys::error::{At, errno};

/// f_type of procfs and devpts (statfs(2)).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
/// f_type of devpts.
pub(super) const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// fsconfig(2) takes values up to this many bytes; longer ones (the layers of an overlay) go
/// through mount(2).
const FSCONFIG_MAX: usize = 255;

/// Clones a mount of the host, detached: `path` with what is mounted below it, or without.
pub(super) fn clone_tree(path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, clone_flags(recursive))
}

/// Clones the mount below an open descriptor.
fn clone_fd(fd: impl AsFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(fd, c"", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount to an open target.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", target, c"", flags)
}

/// Sets a propagation type.
pub(super) fn propagate(mount: impl AsFd, propagation: Propagation) -> rustix::io::Result<()> {
    sys::mount_setattr(mount, propagation.recursive, 0, 0, propagation.kind, None)
}

fn set(mount: impl AsFd, attributes: Attributes, recursive: bool) -> rustix::io::Result<()> {
    if attributes.is_empty() {
        return Ok(());
    }
    sys::mount_setattr(mount, recursive, attributes.set, attributes.clear, 0, None)
}

/// The state of the work: the root, and what is used more than once.
pub(super) struct Builder<'s> {
    tree: &'s Tree,
    /// Detached mounts that the parent opened, by mount step in order.
    early: std::vec::IntoIter<OwnedFd>,
    /// Mounts of procfs are among them.
    apart: bool,
    /// The host's mounts are not cut off yet: each bind mount has to be, unless it is to be shared.
    shares: bool,
    /// New tmpfs mounts by their destination: what is in them, we have made. A mount point directly
    /// below one needs no walk from the root.
    fresh: Vec<(String, OwnedFd)>,
    /// The directory that the last device or link went to.
    last_dir: Option<(String, OwnedFd)>,
    /// /dev/null, detached, for masking files.
    null: Option<OwnedFd>,
    /// An empty read-only tmpfs, detached, for masking directories.
    empty: Option<OwnedFd>,
}

impl<'s> Builder<'s> {
    pub(super) fn new(tree: &'s Tree, early: Vec<OwnedFd>, plan: &Plan<'_>) -> Self {
        Builder {
            tree,
            early: early.into_iter(),
            apart: plan.namespaces.apart(),
            shares: shares_with_host(&plan.steps),
            fresh: Vec::new(),
            last_dir: None,
            null: None,
            empty: None,
        }
    }

    /// Does one mount of the plan.
    pub(super) fn mount(&mut self, mount: &Mount<'_>) -> Result<()> {
        self.last_dir = None;
        self.try_mount(mount).map_err(|error| match mount.index {
            Some(index) => anyhow!("/mounts/{index}: mounting {}: {error:#}", mount.destination),
            None => anyhow!("mounting {}: {error:#}", mount.destination),
        })
    }

    fn try_mount(&mut self, mount: &Mount<'_>) -> Result<()> {
        let destination = &*mount.destination;
        // Whatever is mounted now may cover what was there.
        self.fresh.retain(|(known, _)| !known.starts_with(destination));
        match &mount.what {
            What::New { fstype, source, data, superblock, copy_up } => {
                let target = if ["proc", "sysfs"].contains(fstype) {
                    // What is written below it later must reach the kernel.
                    let target = self.real_directory(destination)?;
                    refuse_inside_proc(&target, destination)?;
                    target
                } else {
                    self.mount_point(destination)?
                };
                let mut data: Vec<&str> = data.iter().map(|word| &**word).collect();
                let mode;
                if *fstype == "tmpfs" && !data.iter().any(|word| word.starts_with("mode=")) {
                    mode = format!("mode=0{:o}", fstat(&target).at(|| "looking at it".into())?.st_mode & 0o7777);
                    data.push(&mode);
                }
                let by_mount = superblock.iter().any(|flag| ["iversion", "mand"].contains(flag))
                    || data.iter().any(|word| word.len() > FSCONFIG_MAX);
                let made = if by_mount {
                    self.old_mount(fstype, source, &data, superblock, &target, destination)?
                } else {
                    let made = match (*fstype == "proc" && self.apart).then(|| self.early.next()).flatten() {
                        Some(made) => made,
                        None => new_filesystem(fstype, source, &data, superblock, mount.attributes)?,
                    };
                    if *copy_up {
                        copy_up::directory(&target, &made)?;
                    }
                    attach(&made, &target).at(|| "attaching it".into())?;
                    made
                };
                if by_mount {
                    set(&made, mount.attributes, false).at(|| "setting its attributes".into())?;
                }
                set(&made, mount.recursive, true).at(|| "setting its attributes".into())?;
                finish(&made, mount.propagation)?;
                if *fstype == "tmpfs" && !*copy_up && !by_mount {
                    self.fresh.push((destination.to_owned(), made));
                }
                Ok(())
            }
            What::Bind { source, recursive, early, hierarchy, .. } => {
                let made = if let Some(fd) = early.then(|| self.early.next()).flatten() {
                    fd
                } else {
                    let fd = open_bind(mount, source, *recursive).or_else(|error| match hierarchy {
                        Some((at, controllers)) if !Path::new(source).exists() => {
                            let own = tree::v1_path("self", controllers).unwrap_or_default();
                            open_bind(mount, &format!("{at}{own}"), false)
                        }
                        _ => Err(error),
                    })?;
                    if self.shares && mount.propagation.is_none_or(|p| p.kind != libc::MS_SHARED) {
                        let slave = Propagation { kind: libc::MS_SLAVE, recursive: true };
                        propagate(&fd, slave).at(|| "cutting it off from the host's mounts".into())?;
                    }
                    fd
                };
                let is_directory = FileType::from_raw_mode(fstat(&made).at(|| format!("looking at {source}"))?.st_mode)
                    == FileType::Directory;
                let attached = match self.fresh_parent(destination).filter(|_| is_directory) {
                    // Nothing but what we made is in there, so that the name leads nowhere else.
                    Some((parent, name)) => {
                        make_directory(parent, name)?;
                        move_mount(&made, c"", parent, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    }
                    None if is_directory => attach(&made, self.mount_point(destination)?),
                    None => {
                        let target = self.tree.file(destination)?;
                        refuse_inside_proc(&target, destination)?;
                        attach(&made, target)
                    }
                };
                attached.map_err(|error| match error {
                    Errno::NOTDIR | Errno::ISDIR => anyhow!(
                        "{source} is a {}, the destination is not: not a directory",
                        if is_directory { "directory" } else { "file" }
                    ),
                    error => anyhow!("attaching {source}: {}", errno(error)),
                })?;
                finish(&made, mount.propagation)
            }
            What::Remount { data, superblock } => {
                let mut target = self.tree.open(destination, OFlags::PATH).at(|| "nothing is mounted there".into())?;
                let change = |target: &OwnedFd| {
                    set(target, mount.attributes, false).and_then(|()| set(target, mount.recursive, true))
                };
                match change(&target) {
                    // A mount in the detached tree of a container without a mount namespace cannot be
                    // changed: a clone takes its place.
                    Err(Errno::INVAL) => {
                        let clone = clone_fd(&target, true).at(|| "cloning it".into())?;
                        change(&clone).at(|| "setting its attributes".into())?;
                        attach(&clone, &target).at(|| "attaching it again".into())?;
                        target = clone;
                    }
                    other => other.at(|| "setting its attributes".into())?,
                }
                let words: Vec<&str> = data.iter().map(|word| &**word).collect();
                if !words.is_empty() || (mount.index.is_none() && !superblock.is_empty()) {
                    let fs = fspick(&target, c"", FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH)
                        .at(|| "opening its file system".into())?;
                    configure(&fs, &words, superblock)?;
                    fsconfig_reconfigure(&fs).map_err(|error| filesystem_error(&fs, error))?;
                }
                finish(&target, mount.propagation)
            }
        }
    }

    /// The new tmpfs that `path` lies directly in, and its name there.
    fn fresh_parent<'d>(&self, path: &'d str) -> Option<(&OwnedFd, &'d str)> {
        let (parent, name) = path.rsplit_once('/')?;
        self.fresh.iter().find(|(known, _)| known == parent).map(|(_, fd)| (fd, name))
    }

    /// The directory to mount on, made where it is missing; none on procfs.
    fn mount_point(&self, path: &str) -> Result<OwnedFd> {
        let Some((parent, name)) = self.fresh_parent(path) else {
            let found = self.tree.directory(path)?;
            refuse_inside_proc(&found, path)?;
            return Ok(found);
        };
        make_directory(parent, name)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty()).at(|| "opening the directory".into())
    }

    /// The directory at `path`, made where it is missing, that no link leads to.
    fn real_directory(&self, path: &str) -> Result<OwnedFd> {
        match self.tree.open_without_links(path) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT) => {
                self.tree.directory(path)?;
                self.tree.open_without_links(path).at(|| "making it".into())
            }
            Err(Errno::LOOP) => bail!("a symbolic link stands on the way, where only a real directory will do"),
            Err(error) => bail!("{}", errno(error)),
        }
    }

    /// mount(2) onto the open target, for what the new calls cannot say.
    fn old_mount(
        &self,
        fstype: &str,
        source: &str,
        data: &[&str],
        superblock: &[&str],
        target: &OwnedFd,
        destination: &str,
    ) -> Result<OwnedFd> {
        use std::os::fd::AsRawFd;
        let flag = |word: &&&str| match **word {
            "ro" => libc::MS_RDONLY,
            "sync" => libc::MS_SYNCHRONOUS,
            "dirsync" => libc::MS_DIRSYNC,
            "mand" => libc::MS_MANDLOCK,
            "iversion" => libc::MS_I_VERSION,
            "lazytime" => libc::MS_LAZYTIME,
            _ => 0,
        };
        let flags = superblock.iter().map(|word| flag(&word)).fold(0, |all, bit| all | bit);
        nix::mount::mount(
            Some(source),
            format!("/proc/self/fd/{}", target.as_raw_fd()).as_str(),
            Some(fstype),
            nix::mount::MsFlags::from_bits_retain(flags),
            Some(data.join(",").as_str()),
        )
        .at(|| format!("{fstype} with {}", data.join(",")))?;
        self.tree.open(destination, OFlags::PATH).at(|| "opening it again".into())
    }

    /// The directory that holds `path`, and the last name in it.
    fn parent<'d>(&mut self, path: &'d str) -> Result<(&OwnedFd, &'d str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        // Nothing but the mounts of a plan can change what a path means, and we are the only ones here.
        let (_, dir) = match self.last_dir.take().filter(|(known, _)| known == parent) {
            Some(known) => self.last_dir.insert(known),
            None => self.last_dir.insert((parent.to_owned(), self.tree.parent(path)?.0)),
        };
        Ok((dir, name))
    }

    /// Makes a device node, or binds the host's.
    pub(super) fn device(&mut self, device: &Device<'_>) -> Result<()> {
        self.try_device(device).map_err(|error| anyhow!("making device {}: {error:#}", device.path))
    }

    fn try_device(&mut self, device: &Device<'_>) -> Result<()> {
        let (dir, name) = self.parent(&device.path)?;
        let kind = match device.kind {
            'b' => FileType::BlockDevice,
            'p' => FileType::Fifo,
            _ => FileType::CharacterDevice,
        };
        let number = makedev(device.major, device.minor);
        let matches = |stat: &Stat| {
            FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == number)
        };
        if !device.bind {
            match mknodat(dir, name, kind, Mode::from_raw_mode(device.mode), number) {
                Ok(()) => {
                    if device.uid != 0 || device.gid != 0 {
                        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
                        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                            .at(|| "setting its owner".into())?;
                    }
                    return Ok(());
                }
                Err(Errno::EXIST) => {
                    let found =
                        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).at(|| "looking at what is there".into())?;
                    if matches(&found) {
                        return Ok(());
                    }
                    bail!("a file that is not this device stands there already");
                }
                // Forbidden by the device cgroup or the mount that we run in: bind it.
                Err(Errno::PERM) if kind != FileType::Fifo => {}
                Err(error) => return Err(error).at(|| "mknod".into()),
            }
        }
        let source = clone_tree(&device.path, false).at(|| format!("opening the host's {}", device.path))?;
        let found = fstat(&source).at(|| "looking at the host's".into())?;
        if !matches(&found) {
            bail!(
                "nodes cannot be made here, and the host's {} is not device {} {}:{}",
                device.path,
                device.kind,
                device.major,
                device.minor
            );
        }
        attach(&source, &self.tree.file(&device.path)?).at(|| "binding the host's".into())
    }

    /// Makes a symbolic link where nothing is.
    pub(super) fn link(&mut self, path: &str, target: &str, replace: bool) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        match symlinkat(target, dir, name) {
            Err(Errno::EXIST) if replace => {
                if readlinkat(dir, name, Vec::new()).is_ok_and(|found| found.to_bytes() == target.as_bytes()) {
                    return Ok(());
                }
                unlinkat(dir, name, AtFlags::empty())
                    .and_then(|()| symlinkat(target, dir, name))
                    .at(|| format!("putting a link to {target} in the place of {path}"))
            }
            Err(Errno::EXIST) => Ok(()),
            other => other.at(|| format!("making the link {path}")),
        }
    }

    /// Hides a file behind /dev/null, a directory behind an empty one. What is missing needs none.
    pub(super) fn mask(&mut self, path: &str) -> Result<()> {
        let what = || format!("masking {path}");
        let target = match self.tree.open(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.at(what)?,
        };
        let is_directory = FileType::from_raw_mode(fstat(&target).at(what)?.st_mode) == FileType::Directory;
        // The first use attaches the original, every later one a clone of it.
        let (slot, make): (_, fn() -> Result<OwnedFd>) =
            if is_directory { (&mut self.empty, empty_directory) } else { (&mut self.null, host_null) };
        if let Some(first) = slot {
            attach(clone_fd(&*first, false).at(what)?, &target).at(what)
        } else {
            let first = make()?;
            attach(&first, &target).at(what)?;
            *slot = Some(first);
            Ok(())
        }
    }

    /// Makes a path read-only with all below it. What is missing needs nothing.
    pub(super) fn read_only(&mut self, path: &str) -> Result<()> {
        let what = || format!("making {path} read-only");
        let target = match self.tree.open(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.at(what)?,
        };
        let clone = clone_fd(&target, true).at(what)?;
        sys::mount_setattr(&clone, true, libc::MOUNT_ATTR_RDONLY, 0, 0, None).at(what)?;
        attach(&clone, &target).at(what)
    }
}

fn make_directory(parent: &OwnedFd, name: &str) -> Result<()> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).at(|| "making the directory".into()),
    }
}

fn finish(mount: &OwnedFd, propagation: Option<Propagation>) -> Result<()> {
    match propagation {
        Some(propagation) => propagate(mount, propagation).at(|| "setting its propagation".into()),
        None => Ok(()),
    }
}

/// Why a tree of the host could not be cloned.
fn not_opened(path: &str, error: Errno) -> anyhow::Error {
    // A plain user has those over a mount namespace that is made together with a user namespace.
    let denied = error == Errno::PERM;
    let hint = if denied { "; it takes rights over the mount namespace: have a new one made" } else { "" };
    anyhow!("opening {path}: {}{hint}", errno(error))
}

/// A bind mount's source, detached, with its attributes.
pub(super) fn open_bind(mount: &Mount<'_>, source: &str, recursive: bool) -> Result<OwnedFd> {
    let made = clone_tree(source, recursive).map_err(|error| not_opened(source, error))?;
    set(&made, mount.attributes, false).at(|| format!("setting the attributes of {source}"))?;
    set(&made, mount.recursive, true).at(|| format!("setting the attributes of {source}"))?;
    Ok(made)
}

/// A new file system, configured and detached.
pub(super) fn new_filesystem(
    fstype: &str,
    source: &str,
    data: &[&str],
    superblock: &[&str],
    attributes: Attributes,
) -> Result<OwnedFd> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| match error {
        Errno::NODEV => anyhow!("this kernel has no file system of type \"{fstype}\""),
        Errno::PERM if fstype == "sysfs" => {
            anyhow!("{fstype}: {}; it takes a new network namespace (bind /sys without)", errno(error))
        }
        error => anyhow!("{fstype}: {}", errno(error)),
    })?;
    fsconfig_set_string(&fs, "source", source).map_err(|error| filesystem_error(&fs, error))?;
    configure(&fs, data, superblock)?;
    let refused = |error| match (fstype, error) {
        // It must show the caller's own, and all that the mounts of it here show.
        ("proc", Errno::PERM) => anyhow!(
            "{:#}; it takes a new pid namespace, and in a container one without maskedPaths and readonlyPaths in /proc",
            filesystem_error(&fs, error)
        ),
        _ => filesystem_error(&fs, error),
    };
    fsconfig_create(&fs).map_err(refused)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes.set as u32);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(refused)
}

fn configure(fs: &OwnedFd, data: &[&str], superblock: &[&str]) -> Result<()> {
    for flag in superblock {
        fsconfig_set_flag(fs, *flag).map_err(|error| anyhow!("option {flag}: {:#}", filesystem_error(fs, error)))?;
    }
    for word in data {
        match word.split_once('=') {
            Some((key, value)) => fsconfig_set_string(fs, key, value),
            None => fsconfig_set_flag(fs, *word),
        }
        .map_err(|error| anyhow!("option {word}: {:#}", filesystem_error(fs, error)))?;
    }
    Ok(())
}

/// The errno with the file system's own words, which it leaves in the configuration's descriptor.
fn filesystem_error(fs: &OwnedFd, error: Errno) -> anyhow::Error {
    let mut buffer = [0; 512];
    let said = match rustix::io::read(fs, &mut buffer) {
        // "e " marks an error, as against a warning.
        Ok(length) => String::from_utf8_lossy(&buffer[..length]).trim().trim_start_matches("e ").to_owned(),
        Err(_) => String::new(),
    };
    if said.is_empty() { anyhow!("{}", errno(error)) } else { anyhow!("{}: {said}", errno(error)) }
}

/// Refuses a target that has turned out to lie on procfs, through whatever links, unless it is the
/// root of it or one of the harmless files.
fn refuse_inside_proc(target: &OwnedFd, destination: &str) -> Result<()> {
    let on_proc = fstatfs(target).at(|| "looking at the destination".into())?.f_type as u64 == PROC_SUPER_MAGIC;
    if on_proc && destination != "/proc" && !harmless_proc_file(destination) {
        bail!("the destination leads into /proc, where a mount would let the container forge what the kernel says");
    }
    Ok(())
}

/// The host's /dev/null, detached, and only if it is the real one.
fn host_null() -> Result<OwnedFd> {
    let null = clone_tree("/dev/null", false).at(|| "opening the host's /dev/null".into())?;
    let stat = fstat(&null).at(|| "looking at the host's /dev/null".into())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || (major(stat.st_rdev), minor(stat.st_rdev)) != (1, 3)
    {
        bail!("the host's /dev/null is not the null device");
    }
    Ok(null)
}

/// A tmpfs that is empty, stays so, and takes next to no memory.
pub(super) fn empty_directory() -> Result<OwnedFd> {
    let read_only = Attributes { set: libc::MOUNT_ATTR_RDONLY, clear: 0 };
    new_filesystem("tmpfs", "tmpfs", &["mode=755", "nr_inodes=2", "nr_blocks=1"], &["ro"], read_only)
}

/// Opens the root on the host's side, with all that is mounted in it, as a detached mount.
pub(super) fn open_root(path: &str) -> Result<OwnedFd> {
    clone_tree(path, true).map_err(|error| anyhow!("/root/path: {}", not_opened(path, error)))
}

/// Makes the mount that `path` lies on private: mounting there must not reach the host.
pub(super) fn make_holder_private(path: &str) -> Result<()> {
    let what = || format!("/root/path: making the mount of {path} private");
    let private = Propagation { kind: libc::MS_PRIVATE, recursive: false };
    let ancestors = std::path::Path::new(path).ancestors();
    for ancestor in ancestors {
        let fd =
            rustix::fs::open(ancestor, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(what)?;
        match propagate(&fd, private) {
            // Not the root of a mount: look further up.
            Err(Errno::INVAL) => {}
            other => return other.at(what),
        }
    }
    bail!("{}: no mount found", what())
}

/// Puts the root where it was on the host: hooks that run before pivot_root look for it there. A
/// mapped root may not be able to reach that path; then any place will do, and `/` is one.
pub(super) fn attach_root(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let target = match open(path) {
        Err(Errno::ACCESS | Errno::NOENT) => open("/"),
        other => other,
    };
    let target = target.at(|| format!("/root/path: opening {path}"))?;
    attach(root, &target).at(|| format!("/root/path: attaching {path}"))
}
