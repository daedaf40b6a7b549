//! Layers as one tree: overlayfs.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};

use super::{fs, remove, shown};

/// The smallest page of a machine: the most that mount(2) takes as options, in bytes.
const PAGE: usize = 4096;

/// In which namespace overlayfs keeps its extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// `trusted.overlay.`: root's.
    Trusted,
    /// `user.overlay.`, the mount option `userxattr`: within a user namespace.
    User,
}

impl Overlay {
    /// The attribute of a directory that hides what layers below have there.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}

/// An overlay: directories by their paths below one store.
#[derive(Clone, Copy, Debug)]
pub struct Mount<'a> {
    /// Layers, the lowest first: `layers/NAME`.
    pub layers: &'a [PathBuf],
    /// Where changes go, and where overlayfs prepares them: two directories of one file system. Without them
    /// the tree is read-only.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Whose extended attributes count.
    pub overlay: Overlay,
    /// What is written need not outlive the machine. Without it the kernel writes the whole file system of the upper
    /// directory to the disk when the overlay goes, 200 ms if something else has just written much there. With it
    /// the upper directory is good for this one mount (Linux 5.10).
    pub volatile: bool,
}

/// Mounts an overlay at a directory, in this thread's mount namespace.
pub fn mount(store: BorrowedFd, what: &Mount, target: BorrowedFd) -> Result<()> {
    match detached(store, what) {
        Ok(tree) => {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(&tree, c"", target, c"", flags).context("cannot put the overlay in its place")
        }
        // Kernels before 6.5 know no layers one by one, and some of them say so only at the end.
        Err(Errno::INVAL | Errno::NOSYS) => with_directory(store, || classic(what, target)),
        Err(error) => Err(refused(error)),
    }
}

/// An overlay that is mounted nowhere yet. Its directories are named by the store's descriptor: a value of fsconfig(2)
/// has 255 bytes at most.
fn detached(store: BorrowedFd, what: &Mount) -> Result<OwnedFd, Errno> {
    let store = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&store)));
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    for layer in what.layers.iter().rev() {
        fsconfig_set_string(context, "lowerdir+", store.join(layer))?;
    }
    if let Some((upper, work)) = what.upper {
        fsconfig_set_string(context, "upperdir", store.join(upper))?;
        fsconfig_set_string(context, "workdir", store.join(work))?;
    }
    for (key, value) in options(what) {
        match value {
            Some(value) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, key),
        }?;
    }
    fsconfig_set_string(context, "source", "overlay")?;
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// What makes an upper directory say all by itself: no copies of metadata alone, no directories that are
/// somewhere else below. `diff` depends on it. In a user namespace the kernel has these off and lets nobody
/// name them.
fn options(what: &Mount) -> Vec<(&'static str, Option<&'static str>)> {
    let mut options = match what.overlay {
        Overlay::Trusted => vec![("metacopy", Some("off")), ("redirect_dir", Some("off")), ("index", Some("off"))],
        Overlay::User => vec![("userxattr", None), ("index", Some("off"))],
    };
    if what.volatile && what.upper.is_some() {
        options.push(("volatile", None));
    }
    options
}

/// By mount(2), whose options are one string of at most a page.
pub(super) fn classic(what: &Mount, target: BorrowedFd) -> Result<()> {
    let layers: Vec<&[u8]> = what.layers.iter().rev().map(|layer| layer.as_os_str().as_bytes()).collect();
    let mut text = [b"lowerdir=", &layers.join(&b':')[..]].concat();
    if let Some((upper, work)) = what.upper {
        text.extend([b",upperdir=", upper.as_os_str().as_bytes(), b",workdir=", work.as_os_str().as_bytes()].concat());
    }
    for (key, value) in options(what) {
        text.extend(value.map_or_else(|| format!(",{key}"), |value| format!(",{key}={value}")).into_bytes());
    }
    if text.len() >= PAGE {
        bail!(
            "{} layers are more than this kernel mounts at once (their names take {} bytes, {PAGE} are the most); \
             a kernel from 6.5 on does, and so does --storage-driver vfs",
            layers.len(),
            text.len()
        );
    }
    // The target's own path may be anything; this one leads to it and nowhere else.
    let target = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    let text = CString::new(text)?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), Some(text.as_c_str())).map_err(refused)
}

fn refused(error: Errno) -> anyhow::Error {
    let why = match error {
        Errno::NODEV => "this kernel has no overlayfs",
        Errno::INVAL => "the file system of the store cannot carry an overlay (overlayfs itself and NFS cannot)",
        Errno::PERM => "that takes root, or a user namespace and a kernel from 5.11 on",
        _ => "the kernel refuses",
    };
    anyhow::Error::from(error).context(format!("cannot mount the layers as one tree: {why}; try --storage-driver vfs"))
}

/// Does something in a thread whose working directory is `store`, so that short paths do, whatever the store's
/// own is.
pub(super) fn with_directory<T: Send>(store: BorrowedFd, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let inside = || {
        // Threads share their working directory until they ask not to.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)
            .context("cannot have a working directory of one's own")?;
        rustix::process::fchdir(store).context("cannot enter the store")?;
        act()
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether the file system of a directory carries overlays: tries one, with an upper directory, in a directory
/// of its own there. The error says what to do instead.
pub fn supported(store: BorrowedFd, overlay: Overlay) -> Result<()> {
    let name = format!("probe-{}", std::process::id());
    remove::remove(store, name.as_bytes())?;
    let result = probe(store, &name, overlay);
    remove::remove(store, name.as_bytes()).context("cannot remove what was tried")?;
    result
}

fn probe(store: BorrowedFd, name: &str, overlay: Overlay) -> Result<()> {
    let told = || format!("cannot try an overlay in {}", shown(name.as_bytes()));
    let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|it| format!("{name}/{it}"));
    for directory in [name, &lower, &upper, &work, &target] {
        rustix::fs::mkdirat(store, directory, Mode::RWXU).with_context(told)?;
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::make_opaque(store, upper.as_bytes(), overlay).map_err(|error| {
        let why = format!("the file system of the store has no {} attributes", overlay.opaque());
        anyhow::Error::from(error).context(format!("{why}; try --storage-driver vfs"))
    })?;
    let target = rustix::fs::openat(store, &target, flags, Mode::empty()).with_context(told)?;
    let layers = [PathBuf::from(lower)];
    let what = Mount { layers: &layers, upper: Some((Path::new(&upper), Path::new(&work))), overlay, volatile: true };
    mount(store, &what, target.as_fd())?;
    // By its path: a descriptor from before the mount is what lies below it.
    let path = format!("{name}/target");
    with_directory(store, || Ok(rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?))
}
