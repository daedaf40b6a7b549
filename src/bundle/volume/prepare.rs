//! A container's mounts at its start: directories made and filled, and what config.json says of each.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::attach::Tree;
use super::data::Data;
use super::options::{self, Local};
use super::{Mount, Source, table};
use crate::container::ids::Ids;
use crate::layer;
use crate::layer::overlay::Overlay;
use crate::store::{Store, retry};

/// Where the mounts are wanted. All is done in this process's own mount namespace, which the runtime has to inherit.
pub struct Site<'a> {
    /// The store.
    pub store: &'a Store,
    /// The container's directory there.
    pub dir: &'a Path,
    /// Its root file system, mounted, as the image's files are copied from.
    pub root: BorrowedFd<'a>,
    /// Whose extended attributes count.
    pub overlay: Overlay,
    /// The mapping of a container that has users of its own.
    pub users: Option<Users<'a>>,
    /// Its user and group, as they are in it: whom `U` gives files to.
    pub owner: (u32, u32),
}

/// Users of a container's own.
#[derive(Clone, Copy)]
pub struct Users<'a> {
    /// Which of the host's each of them is.
    pub ids: &'a Ids,
    /// The user namespace with this mapping.
    pub namespace: BorrowedFd<'a>,
    /// One in which the host's root is somebody too ([`Ids::with_host_root`]).
    pub with_host_root: BorrowedFd<'a>,
}

/// For config.json.
#[derive(Default)]
pub struct Prepared {
    /// Further `mounts`.
    pub mounts: Vec<Value>,
    /// `linux.rootfsPropagation`, where a mount needs one.
    pub propagation: Option<&'static str>,
}

const SECURE: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// Prepares the mounts of a list, in its order.
pub fn prepare(site: &Site<'_>, mounts: &[Mount]) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    for (number, mount) in mounts.iter().enumerate() {
        let one = site.one(number, mount).with_context(|| format!("the mount at {}", mount.destination))?;
        prepared.mounts.push(one);
        prepared.propagation = match mount.propagation.as_deref() {
            Some("shared" | "rshared") => Some("shared"),
            Some("slave" | "rslave") => prepared.propagation.or(Some("rslave")),
            _ => prepared.propagation,
        };
    }
    Ok(prepared)
}

impl Site<'_> {
    fn one(&self, number: usize, mount: &Mount) -> Result<Value> {
        let mut options: Vec<String> = Vec::new();
        let (kind, source) = match &mount.source {
            Source::Tmpfs { options: own } => {
                options = tmpfs_options(own);
                ("tmpfs", "tmpfs".to_owned())
            }
            Source::Bind { path, recursive, writable_below } => {
                options.push(if *recursive { "rbind" } else { "bind" }.to_owned());
                options.push(mount.propagation.clone().unwrap_or_else(|| "rprivate".to_owned()));
                ("bind", self.bind(number, mount, path, *recursive, *writable_below)?)
            }
            Source::Volume { name, subpath, copy, .. } => {
                options.extend(["rbind", "rprivate"].map(str::to_owned));
                let row = super::find(self.store.db(), name)?.with_context(|| format!("volume {name} is gone"))?;
                let local = options::local(&row.options)?;
                // A runtime that binds it may make what it is not told of undone.
                let flags = local.iter().flat_map(|it| &it.options).filter(|it| SECURE.contains(&it.as_str()));
                options.extend(flags.cloned());
                ("bind", self.volume(number, mount, name, local.as_ref(), subpath.as_deref(), *copy)?)
            }
        };
        options.extend(mount.options.iter().cloned());
        if mount.read_only {
            options.push("ro".to_owned());
        }
        Ok(json!({"destination": mount.destination, "type": kind, "source": source, "options": options}))
    }

    fn bind(&self, number: usize, mount: &Mount, path: &str, recursive: bool, writable_below: bool) -> Result<String> {
        let about = std::fs::metadata(path).with_context(|| path.to_owned())?;
        if mount.chown {
            let root = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let (uid, gid) = self.owner;
            let (uid, gid) = self.users.map_or((uid, gid), |it| it.ids.on_host(uid, gid));
            layer::give(root.as_fd(), uid, gid).with_context(|| format!("giving {path} to the container's user"))?;
        }
        let goes_back = mount.propagation.as_deref().is_some_and(|it| it.ends_with("shared"));
        // "ro" of a runtime is of the one mount only.
        let all_read_only = mount.read_only && recursive && !writable_below && table::has_below(path)?;
        // Some runtimes take along what is mounted below although they are told not to.
        let alone = !recursive && table::has_below(path)?;
        if !goes_back && !all_read_only && !alone {
            return Ok(path.to_owned());
        }
        let tree = if goes_back {
            Tree::outside(path, recursive)?
        } else {
            let what = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            Tree::of(what.as_fd(), recursive)?
        };
        if all_read_only {
            tree.read_only().with_context(|| format!("making all below {path} read-only needs Linux 5.12"))?;
        }
        self.attach(number, &tree, about.is_dir())
    }

    fn volume(
        &self,
        number: usize,
        mount: &Mount,
        name: &str,
        local: Option<&Local>,
        subpath: Option<&str>,
        copy: bool,
    ) -> Result<String> {
        let data = Data::open(self.store, name)?;
        let path = data.path().to_owned();
        if let Some(local) = local {
            mount_local(local, &path).with_context(|| format!("mounting the volume {name}"))?;
            data.first_use(None, self.overlay, None)?;
        } else {
            let image = copy.then_some((self.root, mount.destination.as_str()));
            data.first_use(image, self.overlay, self.users.map(|it| it.with_host_root))?;
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // By its path: a descriptor from before our own mount namespace cannot be mounted from.
        let mut what = rustix::fs::open(&path, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if let Some(subpath) = subpath {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            what = retry(|| rustix::fs::openat2(&what, subpath, flags, Mode::empty(), resolve))
                .with_context(|| format!("volume-subpath={subpath}: not there in volume {name}"))?;
        }
        if mount.chown {
            // Its files have the container's numbers.
            let (uid, gid) = self.owner;
            layer::give(what.as_fd(), uid, gid)
                .with_context(|| format!("giving the volume {name} to the container's user"))?;
        }
        if subpath.is_none() && self.users.is_none() {
            return path.to_str().map(str::to_owned).context("the store's path is no UTF-8");
        }
        let is_dir = FileType::from_raw_mode(rustix::fs::fstat(&what)?.st_mode) == FileType::Directory;
        let tree = Tree::of(what.as_fd(), self.users.is_none())?;
        if let Some(users) = self.users {
            tree.map_ids(users.namespace)
                .with_context(|| format!("the file system of volume {name} cannot show other owners"))?;
        }
        self.attach(number, &tree, is_dir)
    }

    /// Mounts a tree at a place of the container's own, for the runtime to bind.
    fn attach(&self, number: usize, tree: &Tree, is_dir: bool) -> Result<String> {
        let above = self.dir.join("mounts");
        let at = above.join(number.to_string());
        make(&above, true)?;
        make(&at, is_dir)?;
        tree.attach(&at).with_context(|| format!("mounting at {}", at.display()))?;
        at.to_str().map(str::to_owned).context("the store's path is no UTF-8")
    }
}

/// Options of a tmpfs with Docker's own before them. Each word stands there once: runtimes do not agree on what counts
/// where one takes back another.
fn tmpfs_options(own: &[String]) -> Vec<String> {
    let said = |word: &str| own.iter().rev().find(|it| *it == word || it.strip_prefix("no") == Some(word));
    let kept = |word: &&&str| {
        let positive = word.trim_start_matches("no");
        said(positive).is_none_or(|it| it != positive)
    };
    let secure = SECURE.iter().filter(kept).map(|it| (*it).to_owned());
    let is_secure = |it: &str| SECURE.contains(&it) || SECURE.iter().any(|word| word.strip_prefix("no") == Some(it));
    secure.chain(own.iter().filter(|it| !is_secure(it)).cloned()).collect()
}

/// A place to mount on, which may be left from the last start.
fn make(path: &Path, directory: bool) -> Result<()> {
    let told = || format!("making {}", path.display());
    if directory {
        match rustix::fs::mkdir(path, Mode::RWXU | Mode::XGRP | Mode::XOTH) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error).with_context(told),
        }
    } else {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(drop).with_context(told)
    }
}

/// Mounts what a volume's options name over its directory.
fn mount_local(local: &Local, at: &PathBuf) -> Result<()> {
    if local.is_bind() {
        let what = rustix::fs::open(&local.device, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .with_context(|| format!("device={}", local.device))?;
        let recursive = local.options.iter().any(|it| it == "rbind");
        return Tree::of(what.as_fd(), recursive)?.attach(at).with_context(|| format!("device={}", local.device));
    }
    let (flags, words) = table::mount_flags(&local.options);
    let words = std::ffi::CString::new(words.join(","))?;
    let source = if local.device.is_empty() { local.kind.as_str() } else { &local.device };
    match rustix::mount::mount(source, at, local.kind.as_str(), flags, Some(words.as_c_str())) {
        Ok(()) => Ok(()),
        Err(Errno::NODEV) => bail!("type={}: this kernel has no such file system", local.kind),
        Err(error) => Err(error).with_context(|| {
            format!("type={} device={source} o={}: the kernel refuses", local.kind, local.options.join(","))
        }),
    }
}

/// The mounts of a list for a bundle that is taken elsewhere: what belongs to this store cannot go along.
pub fn portable(mounts: &[Mount]) -> Result<Vec<Value>> {
    let values = mounts.iter().map(|mount| {
        let (kind, source, mut options) = match &mount.source {
            Source::Bind { path, recursive, .. } => {
                let depth = if *recursive { "rbind" } else { "bind" };
                let propagation = mount.propagation.as_deref().unwrap_or("rprivate");
                ("bind", path.as_str(), vec![depth.to_owned(), propagation.to_owned()])
            }
            Source::Tmpfs { options } => ("tmpfs", "tmpfs", tmpfs_options(options)),
            Source::Volume { .. } => {
                bail!(
                    "a volume at {}: volumes are this store's, a bundle on disk can only bind directories",
                    mount.destination
                )
            }
        };
        if mount.chown {
            bail!("option U at {}: a bundle on disk changes no owners", mount.destination);
        }
        options.extend(mount.options.iter().cloned());
        if mount.read_only {
            options.push("ro".to_owned());
        }
        Ok(json!({"destination": mount.destination, "type": kind, "source": source, "options": options}))
    });
    values.collect()
}
