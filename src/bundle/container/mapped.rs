//! What a container with users of its own stands on: the store seen through its mapping (idmapped mounts, Linux 5.19
//! for layers of an overlay), so that its files keep the container's own numbers, in images, commits and volumes.
//!
//! All of it is mounted in our own mount namespace, which the runtime inherits, and nowhere else.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

use super::ids::Ids;
use crate::namespace;
use crate::tool::Tool;
use crate::volume::{Tree, Users};

/// What the file system over the containers' directory is called.
const SHELTER: &str = "bundle-shelter";

/// The mapping at work.
pub struct Mapped {
    /// The user namespace that has it.
    pub users: OwnedFd,
    /// One that has the host's root too.
    pub with_host_root: OwnedFd,
    /// The store's directory with the container's owners: layers and the container's own are to be mounted from here.
    pub store: OwnedFd,
}

/// Mounts the store through a mapping, in the container's directory. To be done before anything else is mounted there.
pub fn mount(tool: &Tool, dir: &Path, ids: &Ids) -> Result<Mapped> {
    let users = namespace::with_ids(ids)?;
    let with_host_root = namespace::with_ids(&ids.with_host_root()?)?;
    let root = tool.dir_to_mount_in()?;
    let own = open(dir)?;
    shelter(dir, &Tree::of(own.as_fd(), false).context("the container's directory")?)?;
    let at = dir.join("store");
    match DirBuilder::new().mode(0o700).create(&at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {}", at.display()));
        }
        _ => {}
    }
    let tree = Tree::of(root.as_fd(), false).context("the store's directory")?;
    tree.map_ids(with_host_root.as_fd()).context(
        "--userns: the file system of the store cannot show other owners (Linux 5.19, and not every file system)",
    )?;
    tree.attach(&at).context("mounting the store for the container's users")?;
    Ok(Mapped { users, with_host_root, store: open(&at)? })
}

impl Mapped {
    /// For the container's volumes.
    pub fn users<'a>(&'a self, ids: &'a Ids) -> Users<'a> {
        Users { ids, namespace: self.users.as_fd(), with_host_root: self.with_host_root.as_fd() }
    }
}

/// Undoes [`mount`] in this mount namespace, so that the container's directory can be removed.
pub fn unmount(dir: &Path) {
    if let Some(above) = dir.parent() {
        namespace::unmount_at(above, SHELTER);
    }
}

/// Shows a directory that is no mount, such as a copy of an image, with the container's owners in its own place.
pub fn mount_in_place(dir: &Path, mapped: &Mapped) -> Result<()> {
    let what = open(dir)?;
    let tree = Tree::of(what.as_fd(), false)?;
    tree.map_ids(mapped.users.as_fd())
        .and_then(|()| tree.attach(dir))
        .with_context(|| format!("showing {} with the container's owners", dir.display()))
}

/// The container's first process is nobody in particular on the host, and may not pass the store's closed directories.
/// Some runtimes have it walk there by path. So what is above the container's directory is, in our mount namespace
/// alone, an empty directory that everybody may pass, with nothing but this container in it.
fn shelter(dir: &Path, own: &Tree) -> Result<()> {
    let above = dir.parent().context("the container's directory is the root")?;
    let told = || format!("mounting over {}", above.display());
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(SHELTER, above, "tmpfs", flags, Some(c"mode=711,size=64k")).with_context(told)?;
    std::fs::create_dir(dir).with_context(told)?;
    own.attach(dir).with_context(told)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))
}
