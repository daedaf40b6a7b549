//! What has to be there before the runtime is called: the root file system, the files that are mounted over the
//! image's, config.json. All mounts are made in a mount namespace of ours, which the monitor inherits: however
//! everybody ends, none is left on the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::ids::{self, Ids};
use super::mapped::{self, Mapped};
use super::record::{self, Container};
use super::spec::{self, Place};
use super::{exec, files};
use crate::cli::Driver;
use crate::cli::flags::Flags;
use crate::layer::flatten::flatten;
use crate::layer::overlay;
use crate::store::Layer;
use crate::tool::Tool;
use crate::volume;

/// What the container's networks are to the rest of it.
#[derive(Default)]
pub struct Net {
    /// For its files.
    pub site: files::Site,
    /// The network namespace that was made for it.
    pub path: Option<String>,
    /// The runtime makes it, and calls us by a hook when it has.
    pub later: bool,
}

/// Does all of it, and gives the document that is now in config.json. `monitor` is the number of the container's.
pub fn prepare(tool: &Tool, container: &Container, ids: Option<&Ids>, net: &Net, monitor: u32) -> Result<Value> {
    let mut document = prepare_for(tool, container, ids, net)?;
    if net.later {
        // The program that we are, whatever has become of its file.
        let hook = json!({"path": format!("/proc/{monitor}/exe"),
            "args": ["bundle", crate::network::attach::HOOK, container.run_dir(tool)]});
        document["hooks"] = json!({"createRuntime": [hook]});
    }
    let config = container.dir(tool)?.join("config.json");
    std::fs::write(config, serde_json::to_vec(&document)?).context("writing config.json")?;
    Ok(document)
}

/// Its users, if they are its own: then it has a user namespace, which its network namespace must belong to.
pub fn own_ids(tool: &Tool, container: &Container) -> Result<Option<Ids>> {
    let wanted = ids::wanted(&container.settings.flags, tool.plain_user)?;
    ids::of(tool.store()?.db(), &container.id, &wanted)
}

/// The document for these users: who only looks at the files wants to see the container's own numbers.
fn prepare_for(tool: &Tool, container: &Container, ids: Option<&Ids>, net: &Net) -> Result<Value> {
    let dir = container.dir(tool)?;
    // Before all other mounts, which are to be seen there.
    let mapped = ids.map(|ids| mapped::mount(tool, &dir, ids)).transpose()?;
    let root = mount(tool, container, mapped.as_ref())?;
    let settings = &container.settings;
    let flags = &settings.flags;
    let others = Others::find(tool, flags, &dir)?;
    let files = files::write(&dir, flags, container.short(), &net.site, others.network_dir.as_deref())?;
    if let Some(ids) = ids {
        files::give(&files, ids)?;
    }
    let site = volume::Site {
        store: tool.store()?,
        dir: &dir,
        root: root.as_fd(),
        overlay: tool.overlay(),
        users: mapped.as_ref().zip(ids).map(|(mapped, ids)| mapped.users(ids)),
        owner: spec::owner(&settings.image, flags, root.as_fd())?,
    };
    let prepared = volume::prepare(&site, &settings.mounts)?;
    let place = Place {
        root_path: "rootfs",
        root: root.as_fd(),
        hostname: container.short(),
        cgroup: if tool.plain_user { None } else { Some(spec::cgroup(flags, &container.id)?) },
        files: &files,
        mounts: &prepared.mounts,
        propagation: prepared.propagation,
        join: &others.join,
        network: net.path.as_deref(),
        shm: others.shm.as_deref(),
        ids,
        plain_user: tool.plain_user,
    };
    spec::build(&settings.image, &settings.flags, &settings.command, &place)
}

/// Undoes the mounts of [`prepare`] in this mount namespace: ours, or the monitor's.
pub fn unmount(dir: &Path) {
    crate::namespace::unmount_below(dir);
    mapped::unmount(dir);
}

/// The root file system, mounted or copied to `rootfs`.
fn mount(tool: &Tool, container: &Container, mapped: Option<&Mapped>) -> Result<OwnedFd> {
    let store = tool.store()?;
    let rootfs = container.dir(tool)?.join("rootfs");
    let layers = layers(tool, container)?;
    crate::namespace::own_mounts()?;
    let open = |flags| rustix::fs::open(&rootfs, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let target: OwnedFd = open(OFlags::RDONLY)?;
    match container.driver(tool) {
        Driver::Overlay => stack(tool, container, &layers, target.as_fd(), mapped)?,
        Driver::Vfs => {
            // What was copied for the first start is the container's own by now.
            if std::fs::read_dir(&rootfs)?.next().is_none() {
                let dirs = layers.iter().map(|it| store.open_layer(&it.dir)).collect::<Result<Vec<OwnedFd>>>()?;
                let dirs: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
                flatten(&dirs, target.as_fd(), tool.overlay()).context("copying the image's layers")?;
            }
            if let Some(mapped) = mapped {
                mapped::mount_in_place(&rootfs, mapped)?;
            }
        }
    }
    drop(target);
    open(OFlags::PATH).context("opening the container's root")
}

/// Its image's layers, the lowest first.
pub fn layers(tool: &Tool, container: &Container) -> Result<Vec<Layer>> {
    match &container.chain {
        Some(chain) => tool.store()?.layers(&chain.parse()?),
        None => Ok(Vec::new()),
    }
}

/// Mounts layers and what the container has written, in our own mount namespace.
fn stack(
    tool: &Tool,
    container: &Container,
    layers: &[Layer],
    target: BorrowedFd<'_>,
    mapped: Option<&Mapped>,
) -> Result<()> {
    let layers: Vec<PathBuf> = layers.iter().map(|it| Path::new("layers").join(&it.dir)).collect();
    let own = Path::new("containers").join(&container.id);
    let (upper, work) = (own.join("upper"), own.join("work"));
    let mount = overlay::Mount {
        layers: &layers,
        upper: Some((&upper, &work)),
        overlay: tool.overlay(),
        // With --rm nobody needs it after a loss of power.
        volatile: container.remove,
    };
    let own = tool.dir_to_mount_in()?;
    let store = mapped.map_or(own.as_fd(), |it| it.store.as_fd());
    overlay::mount(store, &mount, target).context("mounting the container's root file system")
}

/// The files of a container that does not run as it will see them when it does: with volumes, but for what the kernel
/// makes. Its lock must be held.
pub fn with_volumes(tool: &Tool, container: &Container) -> Result<OwnedFd> {
    let document = prepare_for(tool, container, None, &Net::default())?;
    let rootfs = container.dir(tool)?.join("rootfs");
    let open = || rustix::fs::open(&rootfs, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = open().context("opening the container's root")?;
    for mount in document["mounts"].as_array().into_iter().flatten() {
        let (Some(source), Some(destination)) = (mount["source"].as_str(), mount["destination"].as_str()) else {
            continue;
        };
        let is_bind = mount["options"].as_array().is_some_and(|it| it.iter().any(|it| it == "rbind" || it == "bind"));
        if is_bind && files::FILES.iter().all(|it| it.0 != destination) {
            volume::show(source, root.as_fd(), destination).with_context(|| format!("the mount at {destination}"))?;
        }
    }
    Ok(root)
}

/// The files of a container that does not run, mounted for us alone. Its lock must be held.
pub fn open_rootfs(tool: &Tool, container: &Container) -> Result<OwnedFd> {
    let rootfs = container.dir(tool)?.join("rootfs");
    if container.driver(tool) == Driver::Overlay {
        return mount(tool, container, None).and_then(|root| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(rustix::fs::openat(root, ".", flags, Mode::empty())?)
        });
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&rootfs, flags, Mode::empty()).context("opening the container's root")
}

/// What `container:NAME` modes take from others, which have to run.
#[derive(Default)]
struct Others {
    join: Vec<(&'static str, String)>,
    /// The directory of the container whose network it is.
    network_dir: Option<PathBuf>,
    shm: Option<String>,
}

impl Others {
    fn find(tool: &Tool, flags: &Flags, dir: &Path) -> Result<Self> {
        let mut others = Self::default();
        for (kind, file, name) in spec::joined(flags)? {
            let other = record::find(tool.store()?, name).with_context(|| format!("container:{name}"))?;
            let pid = exec::pid_of(tool, &other).with_context(|| format!("container:{name}"))?;
            others.join.push((kind, format!("/proc/{pid}/ns/{file}")));
            match kind {
                "network" => others.network_dir = Some(other.dir(tool)?),
                "ipc" => others.shm = Some(shm_of(pid, &dir.join("shm"))?),
                _ => {}
            }
        }
        Ok(others)
    }
}

/// Another container's /dev/shm, mounted for the runtime to bind: it takes nothing of another mount namespace.
fn shm_of(pid: i32, at: &Path) -> Result<String> {
    match std::fs::create_dir(at) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {}", at.display()));
        }
        _ => {}
    }
    let tree = volume::Tree::seen_by(pid, "/dev/shm").context("the other container's /dev/shm")?;
    tree.attach(at).with_context(|| format!("mounting at {}", at.display()))?;
    at.to_str().map(str::to_owned).context("the store's path is no UTF-8")
}
