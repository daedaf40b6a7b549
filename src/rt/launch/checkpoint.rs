//! Has CRIU write a container's processes to files.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};

use anyhow::{Result, bail};
use rustix::fs::{Mode, OFlags};

use super::images::{self, DESCRIPTORS, Images};
use crate::cgroup::freezer;
use crate::criu::rpc::{Features, Kind, PageServer, Request};
use crate::criu::worker::Worker;
use crate::plan::Plan;
use crate::state::State;
use crate::sys::error::At;

/// What `checkpoint` is asked for besides.
#[derive(Debug, Default)]
pub struct Dump {
    /// The processes live on.
    pub leave_running: bool,
    /// Memory alone, while the processes run; the rest comes with the last one.
    pub memory_alone: bool,
    /// Images of an earlier pre-dump, relative to these: what has not changed since stays there.
    pub parent: Option<String>,
    /// Memory goes to this server.
    pub page_server: Option<PageServer>,
    /// Files that are open and unlinked get a name on their file system.
    pub link_remap: bool,
    /// Connections that are not established yet are left out.
    pub tcp_skip_in_flight: bool,
    /// Gets a zero byte once pages can be fetched.
    pub status_fd: Option<RawFd>,
}

const LOG: &str = "dump.log";

/// Writes the images. On an error the processes run on as before.
pub fn dump(plan: &Plan<'_>, state: &State<'_>, images: &Images, dump: &Dump) -> Result<()> {
    make_directory(images, plan.namespaces.has_user())?;
    let directory = images::open_directory(&images.directory, "--image-path")?;
    let work = images.open_work()?;
    check_features(images, dump)?;
    let mut opts = images.options(LOG);
    opts.images_dir_fd = directory.as_raw_fd();
    opts.work_dir_fd = work.as_ref().map(AsRawFd::as_raw_fd);
    opts.pid = Some(state.pid);
    opts.root = Some(state.rootfs.to_string());
    opts.leave_running = Some(dump.leave_running);
    opts.link_remap = Some(dump.link_remap);
    opts.tcp_skip_in_flight = Some(dump.tcp_skip_in_flight);
    opts.ps.clone_from(&dump.page_server);
    // Where nobody else is in it, the whole container is stopped at once.
    opts.freeze_cgroup = freezer::own_directory(&state.cgroups).map(|path| path.to_string_lossy().into_owned());
    opts.parent_img.clone_from(&dump.parent);
    opts.track_mem = Some(dump.memory_alone || dump.parent.is_some());
    for join in &plan.namespaces.join {
        if let Some((word, key)) = images::namespace_key(join.kind)? {
            let path = format!("/proc/{}/ns/{word}", state.pid);
            let inode = fs::metadata(&path).at(|| format!("looking at {path}"))?.ino();
            opts.external.push(format!("{word}[{inode}]:{key}"));
        }
    }
    if !dump.memory_alone {
        opts.ext_mnt = images::external_at_dump(plan, state.pid)?;
        let streams = images::streams(state.pid)?;
        opts.external.extend(streams.iter().filter(|stream| stream.starts_with("file[")).cloned());
        let path = images.directory.join(DESCRIPTORS);
        fs::write(&path, serde_json::to_vec(&streams)?).at(|| format!("writing {}", path.display()))?;
    }
    let kind = if dump.memory_alone { Kind::PreDump } else { Kind::Dump };
    let request = Request { kind: kind as i32, opts: Some(opts), ..Request::default() };
    images.forget_log(LOG);
    let worker = Worker::start(&images.criu, &[], true)?;
    // Not to be cut short: half way the processes stand still, with CRIU's code in them.
    let done = worker.ask(&request, None, |notice| match (notice.point, dump.status_fd) {
        ("status-ready", Some(fd)) => ready(fd),
        _ => Ok(()),
    });
    let ended_well = worker.end();
    // After a pre-dump the worker waits for the next one, and does not like that none comes.
    let done =
        done.map(drop).and_then(|()| if ended_well || dump.memory_alone { Ok(()) } else { bail!("CRIU failed") });
    done.map_err(|error| images.explain(LOG, &error))
}

/// Memory holds secrets. From inside a user namespace, CRIU looks names up in there as nobody special.
fn make_directory(images: &Images, user_namespace: bool) -> Result<()> {
    let path = &images.directory;
    fs::DirBuilder::new()
        .mode(if user_namespace { 0o711 } else { 0o700 })
        .recursive(true)
        .create(path)
        .at(|| format!("--image-path {}", path.display()))
}

/// Asks before anything stands still.
fn check_features(images: &Images, dump: &Dump) -> Result<()> {
    let wanted = Features {
        mem_track: (dump.memory_alone || dump.parent.is_some()).then_some(true),
        lazy_pages: images.lazy_pages.then_some(true),
    };
    if wanted == Features::default() {
        return Ok(());
    }
    let request = Request { kind: Kind::FeatureCheck as i32, features: Some(wanted), ..Request::default() };
    let worker = Worker::start(&images.criu, &[], true)?;
    let answer = worker.ask(&request, None, |_| Ok(()));
    worker.end();
    let has = answer?.features.unwrap_or_default();
    if wanted.mem_track.is_some() && has.mem_track != Some(true) {
        bail!("--pre-dump and --parent-path: this kernel does not track changed memory (CONFIG_MEM_SOFT_DIRTY)");
    }
    if wanted.lazy_pages.is_some() && has.lazy_pages != Some(true) {
        bail!("--lazy-pages: this kernel or CRIU has no userfaultfd(2) that would do");
    }
    Ok(())
}

/// Tells who waits on `--status-fd`.
fn ready(fd: RawFd) -> Result<()> {
    let file: OwnedFd =
        rustix::fs::open(format!("/proc/self/fd/{fd}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .at(|| format!("--status-fd {fd}"))?;
    rustix::io::write(&file, &[0]).map(drop).at(|| format!("--status-fd {fd}"))
}
