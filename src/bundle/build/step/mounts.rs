//! `RUN --mount`: what is mounted is made ready in this process's mount namespace, or in the store.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rusqlite::{OptionalExtension, params};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::mount::MountFlags;
use serde_json::json;

use super::copy::{Copier, Target};
use super::run::Mounted;
use crate::build::dockerfile::mount::{Mount, MountKind, Sharing};
use crate::build::ignore::Ignore;
use crate::build::place::Place;
use crate::build::request::Secret;
use crate::build::source::Source;
use crate::layer::split;
use crate::store::{Store, now, random_name, retry};
use crate::volume::Tree;

/// All that belongs to the mounts of one RUN; dropped after it.
pub struct Prepared {
    /// For config.json.
    pub mounted: Mounted,
    /// Paths that something has to stand on in the root: whether each is a directory.
    pub targets: Vec<(String, bool)>,
    locks: Vec<OwnedFd>,
    places: Vec<PathBuf>,
}

/// What mounts are made of.
pub struct Site<'a> {
    /// The store.
    pub store: &'a Store,
    /// The build's directory.
    pub place: &'a Place,
    /// `--secret`.
    pub secrets: &'a [Secret],
    /// `--ssh`: ids and the paths of agents' sockets.
    pub agents: &'a [(String, PathBuf)],
    /// Whether to go on.
    pub stop: &'a dyn Fn() -> Result<()>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for place in self.places.iter().rev() {
            let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
            let _ = rustix::mount::unmount(place, flags);
        }
        self.locks.clear();
    }
}

impl Site<'_> {
    /// Makes all mounts of a RUN ready; `sources` has for each the tree that it takes files from.
    pub fn prepare(&self, mounts: &[Mount], sources: &[Option<&Source>]) -> Result<Prepared> {
        let mut prepared =
            Prepared { mounted: Mounted::default(), targets: Vec::new(), locks: Vec::new(), places: Vec::new() };
        for (mount, source) in mounts.iter().zip(sources) {
            let told = || format!("RUN: --mount at {}", mount.target.as_deref().unwrap_or("its usual place"));
            self.one(mount, *source, &mut prepared).with_context(told)?;
        }
        Ok(prepared)
    }

    fn one(&self, mount: &Mount, source: Option<&Source>, to: &mut Prepared) -> Result<()> {
        let target = mount.target.clone();
        match &mount.kind {
            MountKind::Bind { source: path, .. } => {
                let target = target.context("a target is missing")?;
                let source = source.context("a source is missing")?;
                let (path, directory) = self.bind(source, path, mount.read_only, to)?;
                to.bind(&path, &target, directory, mount.read_only)
            }
            MountKind::Cache { id, source: path, sharing, mode, uid, gid, .. } => {
                let target = target.context("a target is missing")?;
                let id = id.as_ref().unwrap_or(&target);
                let first = source.map(|it| (it, path.as_str()));
                let dir = self.cache(id, *sharing, (*mode, *uid, *gid), first, to)?;
                to.bind(&dir, &target, true, mount.read_only)
            }
            MountKind::Tmpfs { size } => {
                let target = target.context("a target is missing")?;
                let mut options = vec!["nosuid".to_owned(), "nodev".to_owned(), "mode=1777".to_owned()];
                options.extend(size.map(|it| format!("size={it}")));
                let mount = json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options});
                to.mounted.list.push(mount);
                to.targets.push((target, true));
                Ok(())
            }
            MountKind::Secret { id, env, required, mode, uid, gid } => {
                let Some(secret) = self.secrets.iter().find(|it| it.id == *id) else {
                    if *required {
                        bail!("the secret {id} is not there: give it by --secret id={id},src=FILE");
                    }
                    return Ok(());
                };
                if let Some(env) = env {
                    let value = std::str::from_utf8(&secret.value)
                        .ok()
                        .filter(|it| !it.contains('\0'))
                        .with_context(|| format!("the secret {id} cannot be a variable: it is no text"))?;
                    to.mounted.env.push(format!("{env}={value}"));
                    if target.is_none() {
                        return Ok(());
                    }
                }
                let target = target.unwrap_or_else(|| format!("/run/secrets/{id}"));
                let file = self.secret(&secret.value, *mode, (*uid, *gid), to)?;
                to.bind(&file, &target, false, true)
            }
            MountKind::Ssh { id, required, mode, uid, gid } => {
                let Some((_, agent)) = self.agents.iter().find(|it| it.0 == *id) else {
                    if *required {
                        bail!("the agent {id} is not there: give it by --ssh {id}");
                    }
                    return Ok(());
                };
                let number = to.targets.len();
                let target = target.unwrap_or_else(|| format!("/run/build/ssh_agent.{number}"));
                let dir = self.place.whole(&self.place.dir("ssh")?);
                let socket = dir.join("agent");
                super::agent::serve(&socket, agent, *mode, (*uid, *gid))?;
                to.mounted.env.push(format!("SSH_AUTH_SOCK={target}"));
                to.bind(&socket, &target, false, false)
            }
        }
    }

    /// A path of a tree as a path that the runtime can mount.
    fn bind(&self, source: &Source, path: &str, read_only: bool, to: &mut Prepared) -> Result<(PathBuf, bool)> {
        let found = source.resolve(path)?.with_context(|| format!("{path:?} is not there"))?;
        let item = source.at(&found)?;
        let directory = item.kind() == rustix::fs::FileType::Directory;
        let place = self.place.whole(&self.place.dir("bind")?);
        if read_only && !source.is_filtered() {
            let fd = crate::layer::fs::open(source.root(), &found, OFlags::PATH)?;
            let at = if directory { place } else { place.join("file") };
            if !directory {
                File::create(&at)?;
            }
            let tree = Tree::of(fd.as_fd(), false).context("the tree to be mounted")?;
            tree.read_only()?;
            tree.attach(&at).context("mounting it")?;
            to.places.push(at.clone());
            return Ok((at, directory));
        }
        // What is left out of the context is not seen, and what is written is lost.
        let root = open_dir(&place)?;
        let none = Ignore::default();
        let copier = Copier { root: root.as_fd(), owner: None, mode: None, exclude: &none, stop: self.stop };
        let name = if directory { Vec::new() } else { split(&found).1.to_vec() };
        copier.copy(source, &found, split(&found).1, &Target { path: Vec::new(), directory: true })?;
        let at = if directory { place } else { place.join(std::ffi::OsString::from(String::from_utf8(name)?)) };
        Ok((at, directory))
    }

    /// The directory of a cache, which other builds may have at the same time.
    fn cache(
        &self,
        id: &str,
        sharing: Sharing,
        (mode, uid, gid): (u32, u32, u32),
        first: Option<(&Source, &str)>,
        to: &mut Prepared,
    ) -> Result<PathBuf> {
        for number in 0.. {
            let id = if number == 0 { id.to_owned() } else { format!("{id}#{number}") };
            let (name, new) = self.cache_row(&id, (mode, uid, gid))?;
            let path = self.store.root().join("caches").join(&name);
            if let Some((source, from)) = first.filter(|_| new) {
                let dir = open_dir(&path)?;
                let found = source.resolve(from)?.with_context(|| format!("{from:?} is not there"))?;
                let none = Ignore::default();
                let copier = Copier { root: dir.as_fd(), owner: None, mode: None, exclude: &none, stop: self.stop };
                copier.copy(source, &found, split(&found).1, &Target { path: Vec::new(), directory: true })?;
            }
            let dir = open_dir(&path)?;
            match sharing {
                Sharing::Shared => retry(|| rustix::fs::flock(&dir, FlockOperation::LockShared))?,
                Sharing::Private => match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                    Err(rustix::io::Errno::WOULDBLOCK) => continue,
                    other => other?,
                },
                Sharing::Locked => loop {
                    match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                        Err(rustix::io::Errno::WOULDBLOCK) => {}
                        other => {
                            other?;
                            break;
                        }
                    }
                    (self.stop)()?;
                    std::thread::sleep(std::time::Duration::from_millis(5));
                },
            }
            to.locks.push(dir);
            return Ok(path);
        }
        bail!("no cache was free")
    }

    /// The name of a cache's directory, and whether it is new.
    fn cache_row(&self, id: &str, (mode, uid, gid): (u32, u32, u32)) -> Result<(String, bool)> {
        self.store.write(|db| {
            let found: Option<String> =
                db.query_row("SELECT dir FROM build_mounts WHERE id = ?1", [id], |row| row.get(0)).optional()?;
            let dir = found.clone().map_or_else(random_name, Ok)?;
            let path = self.store.root().join("caches").join(&dir);
            // With the row: whoever sees the one sees the other.
            let new = !path.is_dir();
            if new {
                std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
                std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
            }
            let sql = "INSERT INTO build_mounts VALUES (?1, ?2, ?3, ?3) ON CONFLICT(id) DO UPDATE SET used = ?3";
            db.execute(sql, params![id, dir, now()])?;
            Ok((dir, new))
        })
    }

    /// A secret in memory: no disk sees it.
    fn secret(&self, value: &[u8], mode: u32, (uid, gid): (u32, u32), to: &mut Prepared) -> Result<PathBuf> {
        let dir = self.place.whole(&self.place.dir("secret")?);
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("tmpfs", &dir, "tmpfs", flags, Some(c"mode=0700")).context("memory for a secret")?;
        to.places.push(dir.clone());
        let path = dir.join("secret");
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(value)?;
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        Ok(path)
    }
}

impl Prepared {
    fn bind(&mut self, source: &Path, target: &str, directory: bool, read_only: bool) -> Result<()> {
        let source = source.to_str().context("the store's path is no UTF-8")?;
        let mut options = vec!["bind", "rprivate", "nosuid", "nodev"];
        if read_only {
            options.push("ro");
        }
        self.mounted.list.push(json!({"destination": target, "type": "bind", "source": source, "options": options}));
        self.targets.push((target.to_owned(), directory));
        Ok(())
    }

    /// A program of a here-document.
    pub fn script(&mut self, place: &Place, directory: &str, name: &str, text: &str) -> Result<()> {
        let dir = place.whole(&place.dir("script")?);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
        let path = dir.join(name.rsplit('/').next().unwrap_or_default());
        let mut file = File::options().write(true).create_new(true).mode(0o755).open(&path)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(std::fs::Permissions::from_mode(0o755))?;
        drop(file);
        self.bind(&dir, directory, true, true)
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("opening {}", path.display()))
}
