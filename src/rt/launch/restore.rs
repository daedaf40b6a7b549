//! Has CRIU make a container's processes again.
//!
//! This happens in a mount namespace of its own, where the root is a mount point as CRIU wants it, and
//! CRIU runs in the container's cgroup, as its children will: whatever moment this is killed at, the
//! host has no mount more, and `delete --force` finds every process.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::images::{self, DESCRIPTORS, Images};
use super::parent::{Launched, Options, take_pid_file_back, write_pid_file};
use super::resolve::Tree;
use super::timeline::Timeline;
use super::{cgroups, destroy, hook, rootfs, terminal};
use crate::cgroup::tree;
use crate::criu::rpc::{self, CgroupRoot, InheritFd, JoinNamespace, Kind, Request};
use crate::criu::worker::{Notice, Worker};
use crate::plan::options::Propagation;
use crate::plan::rootfs::{Step, What};
use crate::plan::{Plan, Root};
use crate::state::store::Entry;
use crate::state::{Ownership, State, Status};
use crate::sys;
use crate::sys::error::At;
use crate::sys::proc::Stat;
use crate::sys::signals::Signals;

/// What `restore` is asked for besides.
#[derive(Debug, Default)]
pub struct Labels {
    /// `TYPE:NAME` of another profile than the processes had.
    pub profile: Option<String>,
    /// SELinux context of the mounts.
    pub mount_context: Option<String>,
}

const LOG: &str = "restore.log";

/// Makes the container. On an error everything that was made is removed again, the entry with it.
pub fn restore<'p>(
    plan: &'p Plan<'p>,
    entry: Entry,
    state: &mut State<'p>,
    images: &Images,
    labels: &Labels,
    mut options: Options<'_>,
    signals: &Signals,
) -> Result<(Launched, Entry)> {
    let error = match try_restore(plan, &entry, state, images, labels, &mut options, signals) {
        Ok(launched) => return Ok((launched, entry)),
        Err(error) => error,
    };
    if state.pid == 0 {
        // It has never been there: its poststop hooks have nothing to follow.
        state.poststop.clear();
    }
    take_pid_file_back(options.pid_file, state.pid);
    if let Err(second) = destroy::kill(state).and_then(|()| destroy::remove(entry, state)) {
        return Err(anyhow!("{error:#}; and removing what was made failed: {second:#}"));
    }
    Err(error)
}

fn try_restore<'p>(
    plan: &'p Plan<'p>,
    entry: &Entry,
    state: &mut State<'p>,
    images: &Images,
    labels: &Labels,
    options: &mut Options<'_>,
    signals: &Signals,
) -> Result<Launched> {
    let streams = read_streams(images)?;
    cgroups::check_free(&plan.cgroup, state)?;
    entry.write_first(state)?;
    make_mount_points(plan)?;
    let mounts = OwnMounts::enter()?;
    mount_root(&plan.root)?;
    // CRIU works in these directories, and can mount only on what is of its mount namespace.
    let directory = images::open_directory(&images.directory, "--image-path")?;
    let work = images.open_work()?;
    let mut opts = images.options(LOG);
    opts.images_dir_fd = directory.as_raw_fd();
    opts.work_dir_fd = work.as_ref().map(AsRawFd::as_raw_fd);
    opts.root = Some(plan.root.path.to_string_lossy().into_owned());
    opts.evasive_devices = Some(true);
    // Init becomes our child, and so the caller's when we end, like any other container's.
    opts.rst_sibling = Some(true);
    opts.lsm_profile.clone_from(&labels.profile);
    opts.lsm_mount_context.clone_from(&labels.mount_context);
    opts.ext_mnt = images::external_at_restore(plan)?;
    let kept = join_namespaces(plan, &mut opts)?;
    for (fd, stream) in (0..).zip(&streams) {
        if images::is_outside(stream) {
            images::check_stream(stream, fd)?;
            opts.inherit_fd.push(InheritFd { key: stream.clone(), fd });
        }
    }

    let keep: Vec<_> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    images.forget_log(LOG);
    let worker = Worker::start(&images.criu, &keep, false)?;
    drop(kept);
    let mut restored = Restored { plan, entry, state, options, mounts, terminal: None };
    match restored.run(&worker, opts, signals) {
        Ok(pidfd) => {
            let terminal = restored.terminal;
            if !worker.end() {
                bail!("CRIU failed after all was restored; see {LOG}");
            }
            Ok(Launched { pidfd, terminal, timeline: Timeline::new(false), init_spans: Vec::new() })
        }
        Err(error) => {
            worker.kill();
            kill_children();
            Err(images.explain(LOG, &error))
        }
    }
}

/// What CRIU's notifications change.
struct Restored<'r, 'p, 'o> {
    plan: &'p Plan<'p>,
    entry: &'r Entry,
    state: &'r mut State<'p>,
    options: &'r mut Options<'o>,
    mounts: OwnMounts,
    terminal: Option<OwnedFd>,
}

impl Restored<'_, '_, '_> {
    fn run(&mut self, worker: &Worker, mut opts: rpc::Options, signals: &Signals) -> Result<OwnedFd> {
        self.enter_cgroups(worker.pid)?;
        opts.cg_root = cgroup_roots(worker.pid)?;
        let request = Request { kind: Kind::Restore as i32, opts: Some(opts), ..Request::default() };
        let answer = worker.ask(&request, Some(signals), |notice| self.notified(notice, signals))?;
        let pid = answer.restore.map_or(0, |restored| restored.pid);
        let Some(raw) = Pid::from_raw(pid).filter(|_| pid == self.state.pid) else {
            bail!("CRIU restored process {pid}, and had told of process {}", self.state.pid)
        };
        // It is our child and not yet waited for, so the number cannot be another's.
        pidfd_open(raw, PidfdFlags::empty()).at(|| "opening the restored process".into())
    }

    /// The worker's children are born where it is.
    fn enter_cgroups(&mut self, pid: i32) -> Result<()> {
        let cgroup = &self.plan.cgroup;
        let steps = &mut Timeline::new(false);
        if let (Some(scope), Some(mut manager)) = (&cgroup.scope, self.options.manager.take()) {
            if let Err(error) = cgroups::enter_scope(&mut manager, scope, cgroup, &self.state.id, pid) {
                // A unit of that name is another's.
                self.state.unit = None;
                return Err(error);
            }
            self.state.cgroups.iter_mut().for_each(|dir| dir.owner = Ownership::Ours);
        }
        let v1 = cgroup.v1();
        let v2 = cgroup.v2().filter(|_| cgroup.scope.is_none());
        let made_v2 = v2.is_some() && cgroups::make(cgroup, cgroups::Which::V2, self.entry, self.state, steps)?;
        let made_v1 = !v1.is_empty() && cgroups::make(cgroup, cgroups::Which::V1, self.entry, self.state, steps)?;
        // On disk before anybody is in them: a kill from here on leaves nothing that cannot be found.
        self.entry.write(self.state)?;
        v2.filter(|_| made_v2).map_or(Ok(()), |dir| tree::join(&dir.path, pid))?;
        v1.iter().filter(|_| made_v1).try_for_each(|dir| tree::join(&dir.path, pid))
    }

    fn notified(&mut self, notice: Notice<'_>, signals: &Signals) -> Result<()> {
        match (notice.point, notice.pid, notice.fd) {
            // The namespaces are there, and nothing in them runs.
            ("setup-namespaces", Some(pid), _) => {
                let hooks = self.plan.hooks;
                let json = self.state.spec_json(Status::Created, pid);
                self.mounts.outside(|| {
                    hook::run_all("prestart", &hooks.prestart, &json, Some(signals))?;
                    hook::run_all("createRuntime", &hooks.create_runtime, &json, Some(signals))
                })
            }
            // All is there, and stands still.
            ("post-restore", Some(pid), _) => self.settle(pid),
            ("orphan-pts-master", _, Some(master)) => {
                if let Some(socket) = &self.options.console {
                    return terminal::send(socket, &master);
                }
                self.terminal = Some(master);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Limits, which CRIU itself was not to meet; then what other commands need.
    fn settle(&mut self, pid: i32) -> Result<()> {
        self.state.pid = pid;
        let Some(stat) = Stat::of(pid) else { bail!("reading /proc/{pid}/stat") };
        self.state.start_time = stat.start_time;
        if !self.state.cgroups.is_empty() {
            tree::apply_all(&self.plan.cgroup.dirs, &self.plan.cgroup.writes)?;
            if let Some(dir) = self.plan.cgroup.v2() {
                tree::attach_devices(&self.plan.cgroup, dir)?;
            }
        }
        // CRIU gives processes back the clocks that they had.
        let time = |who: &str| fs::read_link(format!("/proc/{who}/ns/time")).ok();
        if time("self") != time(&pid.to_string()) {
            self.state.namespaces |= libc::CLONE_NEWTIME as u64;
        }
        self.entry.write_for_exec(self.options.process, self.plan.seccomp.as_ref())?;
        self.entry.write(self.state)?;
        self.options.pid_file.map_or(Ok(()), |path| write_pid_file(path, pid))
    }
}

fn read_streams(images: &Images) -> Result<Vec<String>> {
    let path = images.directory.join(DESCRIPTORS);
    let text = fs::read_to_string(&path)
        .at(|| format!("--image-path: reading {} (is this a finished checkpoint?)", path.display()))?;
    let streams: Vec<String> =
        serde_json::from_str(&text).map_err(|error| anyhow!("--image-path: {}: {error}", path.display()))?;
    if streams.len() > 3 {
        bail!("--image-path: {}: there are only three standard streams", path.display());
    }
    Ok(streams)
}

/// This process is in a mount namespace of its own until the value is dropped.
struct OwnMounts {
    host: View,
    own: View,
}

/// A mount namespace and the working directory in it.
struct View {
    namespace: OwnedFd,
    cwd: OwnedFd,
}

impl View {
    fn current() -> Result<View> {
        let namespace = open(Path::new("/proc/self/ns/mnt"), OFlags::RDONLY)?;
        Ok(View { namespace, cwd: open(Path::new("."), OFlags::PATH)? })
    }

    /// Entering a mount namespace leads to its root directory.
    fn enter(&self) -> rustix::io::Result<()> {
        sys::setns(&self.namespace, libc::CLONE_NEWNS as u64)?;
        rustix::process::fchdir(&self.cwd)
    }
}

impl OwnMounts {
    fn enter() -> Result<OwnMounts> {
        let host = View::current()?;
        sys::unshare(libc::CLONE_NEWNS).at(|| "making a mount namespace for CRIU".into())?;
        let mounts = OwnMounts { host, own: View::current()? };
        let slave = Propagation { kind: libc::MS_SLAVE, recursive: true };
        rootfs::propagate(open(Path::new("/"), OFlags::PATH)?, slave)
            .at(|| "cutting CRIU off from the host's mounts".into())?;
        Ok(mounts)
    }

    /// Does something among the host's mounts.
    fn outside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.host.enter().at(|| "going back to the host's mounts".into())?;
        let result = work();
        self.own.enter().at(|| "entering the mount namespace for CRIU".into())?;
        result
    }
}

impl Drop for OwnMounts {
    fn drop(&mut self) {
        let _ = self.host.enter();
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .at(|| format!("opening {}", path.display()))
}

/// Half restored processes of a container without a cgroup are found as our children; where init dies,
/// its pid namespace does.
fn kill_children() {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in list.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)) {
        // Not yet waited for, so the number cannot be another's.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    }
}

/// Makes the root a mount point of this mount namespace.
fn mount_root(root: &Root) -> Result<()> {
    let (path, readonly) = (&root.path, root.readonly);
    let root = rootfs::open_root(&path.to_string_lossy())?;
    rootfs::propagate(&root, Propagation { kind: libc::MS_PRIVATE, recursive: true })
        .at(|| "/root/path: cutting it off from the host's mounts".into())?;
    if readonly {
        // CRIU takes the root as it finds it.
        sys::mount_setattr(&root, false, libc::MOUNT_ATTR_RDONLY, 0, 0, None).at(|| "/root/readonly".into())?;
    }
    rootfs::attach(&root, open(path, OFlags::PATH)?).at(|| "/root/path: making it a mount point".into())
}

/// In a root that the container has never been in, what it mounts on is missing. What lies in other
/// mounts comes with them.
fn make_mount_points(plan: &Plan<'_>) -> Result<()> {
    let path = plan.root.path.to_string_lossy();
    let root = rustix::fs::open(&*path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .at(|| format!("/root/path: opening {path}"))?;
    let root = Tree::new(root);
    let mut covered: Vec<String> = Vec::new();
    for step in &plan.steps {
        let Step::Mount(mount) = step else { continue };
        let destination = &*mount.destination;
        if !covered.iter().any(|mounted| destination.starts_with(mounted)) {
            match &mount.what {
                What::Bind { source, .. } if Path::new(source).is_file() => drop(root.file(destination)?),
                What::Remount { .. } => {}
                _ => drop(root.directory(destination)?),
            }
        }
        covered.push(format!("{}/", destination.trim_end_matches('/')));
    }
    Ok(())
}

/// Namespaces that are there already; gives out the descriptors that the worker has to get.
fn join_namespaces(plan: &Plan<'_>, opts: &mut rpc::Options) -> Result<Vec<OwnedFd>> {
    let mut kept = Vec::new();
    for join in &plan.namespaces.join {
        let file = File::open(&join.path).at(|| format!("{}: opening {}", join.pointer, join.path))?;
        if let Some((_, key)) = images::namespace_key(join.kind)? {
            opts.inherit_fd.push(InheritFd { key: key.to_owned(), fd: file.as_raw_fd() });
            kept.push(file.into());
        } else {
            let word = match join.kind as i32 {
                libc::CLONE_NEWNS => "mnt",
                libc::CLONE_NEWIPC => "ipc",
                libc::CLONE_NEWUTS => "uts",
                libc::CLONE_NEWUSER => "user",
                _ => "time",
            };
            opts.join_ns.push(JoinNamespace { ns: word.to_owned(), ns_file: join.path.clone() });
        }
    }
    Ok(kept)
}

/// Where the cgroups of the images go: to those that the worker is in.
fn cgroup_roots(pid: i32) -> Result<Vec<CgroupRoot>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).at(|| "reading CRIU's cgroups".into())?;
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let each = lines.flat_map(|(controllers, path)| {
        let root = |name: &str| CgroupRoot { ctrl: Some(name.to_owned()), path: path.to_owned() };
        controllers.split(',').map(root).collect::<Vec<_>>()
    });
    Ok(each.collect())
}
