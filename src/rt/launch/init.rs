//! The container's first process, from the clone to execve. Each function is a sequence of kernel
//! steps; [`run`] is their order, and says why where it is not free.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, mount_move, unmount};
use rustix::process::{
    DumpableBehavior, Signal, chdir, chroot, fchdir, pivot_root, set_dumpable_behavior,
    set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::kernel::{Kernel, Label};
use super::process::{Traits, attributes, become_user, execute};
use super::resolve::Tree;
use super::rootfs::{self, Builder, attach_root, open_root, propagate};
use super::sync::{Channel, Go, Said};
use super::timeline::Timeline;
use super::{hook, stage, terminal};
use crate::cgroup::tree;
use crate::plan::Plan;
use crate::plan::options::Propagation;
use crate::plan::rootfs::{Step, shares_with_host};
use crate::state::{State, Status};
use crate::sys;
use crate::sys::error::{At, errno};

/// What init is handed by the parent, all of it made before the clone.
pub(super) struct Init<'p> {
    pub(super) plan: &'p Plan<'p>,
    /// As it is so far, for hooks.
    pub(super) state: &'p State<'p>,
    pub(super) sync: Channel,
    /// Bind mounts opened by the parent.
    pub(super) early: Vec<OwnedFd>,
    /// The root opened by the parent, where init could not.
    pub(super) root: Option<OwnedFd>,
    /// Namespaces to join, with their kinds; none when an extra process has done it.
    pub(super) join: Vec<(u64, OwnedFd)>,
    /// The socket to wait on for `start`; none when the program runs at once.
    pub(super) start: Option<OwnedFd>,
    /// Where an engine wants the terminal.
    pub(super) console: Option<OwnedFd>,
    /// The parent sets limits, which init has no right to raise.
    pub(super) limits_from_outside: bool,
    pub(super) timeline: Timeline,
}

/// Runs init to the program, or to an error that the parent prints.
pub(super) fn main(mut init: Init<'_>) -> ! {
    let mut reporter = None;
    let Err(error) = run(&mut init, &mut reporter);
    let _ = reporter.as_ref().unwrap_or(&init.sync).say(&Said::Failed(format!("{error:#}")));
    std::process::exit(1);
}

/// The order. `reporter` is where errors go once the parent is no longer there.
fn run(init: &mut Init<'_>, reporter: &mut Option<Channel>) -> Result<Infallible> {
    let plan = init.plan;
    let mut timeline = std::mem::take(&mut init.timeline);
    let steps = &mut timeline;

    steps.step("be tied to the parent", || begin(init))?;
    let mut pid_namespace = None;
    steps.step("join namespaces", || enter_namespaces(init, &mut pid_namespace))?;
    if plan.namespaces.makes(libc::CLONE_NEWUSER) {
        steps.step("wait for id maps", || init.sync.wait(Go::Mapped))?;
    }
    if plan.namespaces.has_user() {
        steps.step("become root of the user namespace", || become_root(plan))?;
    }
    // From here on nothing of the host can be reached through our /proc entry.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).at(|| "making init undumpable".into())?;
    setsid().at(|| "starting a session".into())?;
    if let Some(name) = &plan.keyring {
        steps.step("session keyring", || keyring(name))?;
    }
    steps.step("names and loopback", || names(plan))?;

    let mut entered = false;
    let mut enter_cgroup = |steps: &mut Timeline, sync: &Channel| {
        if std::mem::replace(&mut entered, true) {
            return Ok(());
        }
        steps.step("wait for the cgroup", || sync.wait(Go::CgroupMade))?;
        if plan.cgroup.by_init {
            let dirs = plan.cgroup.v1();
            steps.step("enter the cgroup", || match dirs.iter().try_for_each(|dir| tree::enter(&dir.path)) {
                // The parent has found that it may not make any, and that none is needed.
                Err(_) if plan.cgroup.optional && dirs.iter().any(|dir| !Path::new(&dir.path).exists()) => Ok(()),
                other => other,
            })?;
        }
        if plan.namespaces.cgroup {
            // A new cgroup namespace takes the cgroups that its maker is in as its root.
            steps.step("cgroup namespace", || {
                sys::unshare(libc::CLONE_NEWCGROUP).at(|| "making a cgroup namespace".into())
            })?;
        }
        Ok(())
    };
    // The mode bits of what is made must be exact.
    umask(Mode::empty());
    let has_label =
        plan.process.as_ref().is_some_and(|process| process.apparmor.is_some() || process.selinux.is_some());
    let proc = if has_label || !plan.sysctl.is_empty() { Some(Kernel::open()?) } else { None };
    let mut labels = match (&proc, &plan.process) {
        (Some(proc), Some(process)) => proc.label_files(process)?,
        _ => Vec::new(),
    };
    let tree = build_root(init, steps, &mut enter_cgroup)?;
    if !plan.sysctl.is_empty() {
        steps.step("sysctl", || proc.as_ref().map_or(Ok(()), |proc| proc.sysctl(plan)))?;
    }
    drop(proc);
    let slave = match plan.process.as_ref().and_then(|process| process.terminal) {
        Some(size) => steps.step("terminal", || open_terminal(init, &tree, size)).map(Some)?,
        None => None,
    };
    hooks_before_pivot(init, steps, &mut enter_cgroup)?;
    // The host's cgroup mounts are out of reach afterwards.
    enter_cgroup(steps, &init.sync)?;
    steps.step("pivot_root", || change_root(plan, &tree))?;
    steps.step("root's attributes", || finish_root(plan, &tree))?;
    drop(tree);
    if plan.namespaces.apart() {
        labels.iter().try_for_each(Label::set)?;
        labels.clear();
        steps.step("clone init", || hand_over(init, pid_namespace))?;
    }

    let Some(process) = &plan.process else { return without_process(init, timeline, reporter) };
    let traits = Traits {
        personality: plan.personality,
        memory_policy: plan.memory_policy.as_ref(),
        limits_from_outside: init.limits_from_outside,
    };
    steps.step("process attributes", || attributes(process, &traits, slave.as_ref(), &labels))?;
    drop((slave, labels));
    let found = steps.step("identity and program", || become_user(process, plan.seccomp.as_ref()))?;
    if timeline.is_on() {
        init.sync.say(&Said::Timeline(timeline.encode()))?;
    }
    ready(init, reporter)?;
    let hooks = &plan.hooks.start_container;
    if !hooks.is_empty() {
        let state = init.state.spec_json(Status::Created, std::process::id() as i32);
        hook::run_all("startContainer", hooks, &state, None)?;
    }
    let command = reporter.as_ref().unwrap_or(&init.sync);
    execute(&found, process, plan.seccomp.as_ref(), plan.preserve_fds, command)
}

/// Joins what is to be joined. The pid namespace is left for [`hand_over`], where its time is: all
/// children are born into it from then on, hooks too. Only where it belongs to another user namespace than
/// the container does it have to be entered before that one is left.
fn enter_namespaces(init: &mut Init<'_>, pid_namespace: &mut Option<OwnedFd>) -> Result<()> {
    let namespaces = &init.plan.namespaces;
    let kind = libc::CLONE_NEWPID as u64;
    if let Some(position) = init.join.iter().position(|(joined, _)| *joined == kind)
        && stage::stays_ours(&init.join[position].1, namespaces, &init.join)
    {
        *pid_namespace = Some(init.join.remove(position).1);
    }
    stage::join(&mut init.join)?;
    if namespaces.apart() && namespaces.has_user() {
        sys::unshare(namespaces.create as i32).at(|| "/linux/namespaces: making them".into())?;
        if namespaces.makes(libc::CLONE_NEWUSER) {
            init.sync.say(&Said::Joined)?;
        }
    }
    Ok(())
}

/// Goes on as another process: one that is born into the pid namespace which others live in, now that
/// there is nothing of the host left to see. It is this one's sibling; this one has done its work.
fn hand_over(init: &mut Init<'_>, pid_namespace: Option<OwnedFd>) -> Result<()> {
    let what = || "/linux/namespaces: joining the pid namespace".to_owned();
    if let Some(namespace) = pid_namespace {
        sys::setns(&namespace, libc::CLONE_NEWPID as u64).at(what)?;
    }
    match sys::clone3(libc::CLONE_PARENT as u64, None).at(what)? {
        sys::Cloned::Parent { pid, .. } => {
            // Who hears of no number gives up, which ends the new process.
            let _ = init.sync.say(&Said::Pid(pid));
            std::process::exit(0);
        }
        sys::Cloned::Child => {
            set_parent_process_death_signal(Some(Signal::KILL)).at(|| "asking for the parent's death signal".into())?;
            init.sync.wait(Go::Known)?;
            setsid().at(|| "starting a session".into()).map(drop)
        }
    }
}

/// Makes sure that this process does not outlive a parent that is killed, and that it holds no
/// descriptor but its own.
fn begin(init: &mut Init<'_>) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).at(|| "asking for the parent's death signal".into())?;
    let mut keep: Vec<RawFd> = vec![init.sync.as_fd().as_raw_fd()];
    keep.extend(init.early.iter().chain(&init.root).chain(&init.start).chain(&init.console).map(AsRawFd::as_raw_fd));
    keep.extend(init.join.iter().map(|(_, fd)| fd.as_raw_fd()));
    keep.extend((0..init.plan.preserve_fds as RawFd).map(|n| 3 + n));
    sys::close_all_but(&mut keep).at(|| "closing descriptors".into())
}

fn become_root(plan: &Plan<'_>) -> Result<()> {
    let mapped = |map: &[crate::config::types::IdMapping]| map.iter().any(|range| range.container_id == 0);
    let namespaces = &plan.namespaces;
    // Without an id 0 inside, the capabilities alone have to do.
    if namespaces.gid_map.is_empty() || mapped(&namespaces.gid_map) {
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).at(|| "/linux/gidMappings: becoming group 0".into())?;
    }
    if namespaces.uid_map.is_empty() || mapped(&namespaces.uid_map) {
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).at(|| "/linux/uidMappings: becoming user 0".into())?;
    }
    // A change of ids clears it.
    set_parent_process_death_signal(Some(Signal::KILL)).at(|| "asking for the parent's death signal".into())
}

/// Starts or joins the session keyring of a container.
pub(super) fn keyring(name: &str) -> Result<()> {
    match sys::join_session_keyring(name) {
        // Built without keyrings, or they are forbidden where we run: nothing to separate from.
        Ok(()) | Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        Err(error) => Err(error).at(|| "making a session keyring (--no-new-keyring goes without)".into()),
    }
}

fn names(plan: &Plan<'_>) -> Result<()> {
    if let Some(name) = plan.hostname {
        rustix::system::sethostname(name.as_bytes()).at(|| format!("/hostname: setting it to {name}"))?;
    }
    if let Some(name) = plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).at(|| format!("/domainname: setting it to {name}"))?;
    }
    if plan.loopback {
        sys::loopback_up().at(|| "bringing lo up".into())?;
    }
    Ok(())
}

type EnterCgroup<'c> = dyn FnMut(&mut Timeline, &Channel) -> Result<()> + 'c;

/// Attaches the root and does the plan's steps in it.
///
/// A container without a mount namespace lives in the host's, whose mounts must not change: its
/// tree is built detached (mounts onto detached mounts: Linux 6.15) and goes with its last user.
fn build_root(init: &mut Init<'_>, steps: &mut Timeline, enter_cgroup: &mut EnterCgroup<'_>) -> Result<Tree> {
    let plan = init.plan;
    let root = steps.step("attach the root", || {
        let path = plan.root.path.to_string_lossy();
        let root = init.root.take();
        let open = || root.map_or_else(|| open_root(&path), Ok);
        if !has_mount_namespace(plan) {
            return open();
        }
        // Nothing that happens here may reach the host; what the host mounts may still reach us,
        // unless the document wants the root private.
        let shares = shares_with_host(&plan.steps);
        let private = plan.root.propagation.is_some_and(|p| [libc::MS_PRIVATE, libc::MS_UNBINDABLE].contains(&p.kind));
        let kind = if private { MountPropagationFlags::PRIVATE } else { MountPropagationFlags::DOWNSTREAM };
        if shares {
            // The host's mounts are cut off after pivot_root; here only the one that gets the root.
            rootfs::make_holder_private(&path)?;
        } else {
            mount_change("/", kind | MountPropagationFlags::REC)
                .at(|| "cutting the mounts off from the host's".into())?;
        }
        let root = open()?;
        let kind = if private { libc::MS_PRIVATE } else { libc::MS_SLAVE };
        propagate(&root, Propagation { kind, recursive: true }).at(|| "cutting the root off from the host's".into())?;
        attach_root(root.as_fd(), &path)?;
        Ok(root)
    })?;
    let tree = Tree::new(root);
    let mut builder = Builder::new(&tree, std::mem::take(&mut init.early), plan);
    for step in &plan.steps {
        if matches!(step, Step::EnterCgroup) {
            enter_cgroup(steps, &init.sync)?;
            continue;
        }
        let name = if steps.is_on() { step.name() } else { String::new() };
        steps.step(&name, || match step {
            Step::EnterCgroup => Ok(()),
            Step::Mount(mount) => builder.mount(mount),
            Step::Device(device) => builder.device(device),
            Step::Link { path, target, replace } => builder.link(path, target, *replace),
            Step::Directory(path) => tree.directory(path).map(drop).map_err(|error| anyhow!("/process/cwd: {error:#}")),
            Step::Mask(path) => builder.mask(path),
            Step::ReadOnly(path) => builder.read_only(path),
        })?;
    }
    drop(builder);
    Ok(tree)
}

fn has_mount_namespace(plan: &Plan<'_>) -> bool {
    plan.namespaces.makes(libc::CLONE_NEWNS) || plan.namespaces.joins(libc::CLONE_NEWNS)
}

fn open_terminal(init: &mut Init<'_>, tree: &Tree, size: (u16, u16)) -> Result<OwnedFd> {
    let made = terminal::make(tree, size)?;
    terminal::bind_console(tree, &made.slave)?;
    match init.console.take() {
        Some(socket) => terminal::send(&socket, &made.master)?,
        None => init.sync.say(&Said::Terminal(made.master))?,
    }
    Ok(made.slave)
}

/// prestart and createRuntime run in the parent, createContainer here: after the mounts, before
/// pivot_root (config.md, "POSIX-platform Hooks").
fn hooks_before_pivot(init: &mut Init<'_>, steps: &mut Timeline, enter_cgroup: &mut EnterCgroup<'_>) -> Result<()> {
    let hooks = init.plan.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        enter_cgroup(steps, &init.sync)?;
        init.sync.say(&Said::Prepared)?;
        steps.step("wait for the runtime's hooks", || init.sync.wait(Go::HooksRun))?;
    }
    if !hooks.create_container.is_empty() {
        enter_cgroup(steps, &init.sync)?;
        let state = init.state.spec_json(Status::Created, std::process::id() as i32);
        steps.step("createContainer hooks", || {
            hook::run_all("createContainer", &hooks.create_container, &state, None)
        })?;
    }
    Ok(())
}

/// Makes the built tree `/`.
fn change_root(plan: &Plan<'_>, tree: &Tree) -> Result<()> {
    fchdir(tree).at(|| "entering the new root".into())?;
    if !has_mount_namespace(plan) {
        chroot(".").at(|| format!("/root/path: chroot to {}", plan.root.path.display()))?;
    } else if plan.no_pivot {
        mount_move(".", "/").at(|| "moving the root to /".into())?;
        chroot(".").at(|| "chroot to the moved root".into())?;
    } else {
        // The old root ends up below the new one at the same place, and is taken off again: no
        // directory for it is needed (pivot_root(2), "pivot_root(".", ".")").
        let old = shares_with_host(&plan.steps)
            .then(|| rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
            .transpose()
            .at(|| "opening the old root".into())?;
        pivot_root(".", ".").map_err(|error| match error {
            Errno::INVAL => anyhow!("pivot_root: {} (a root on an initial ramfs needs --no-pivot)", errno(error)),
            error => anyhow!("pivot_root: {}", errno(error)),
        })?;
        if let Some(old) = old {
            // Taking it off must not take the host's mounts off.
            fchdir(&old).at(|| "entering the old root".into())?;
            mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
                .at(|| "cutting the mounts off from the host's".into())?;
        }
        unmount(".", UnmountFlags::DETACH).at(|| "taking the old root off".into())?;
    }
    chdir("/").at(|| "entering the new root".into())
}

/// Propagation and write protection, which would have been in the way before.
fn finish_root(plan: &Plan<'_>, tree: &Tree) -> Result<()> {
    if let Some(propagation) = plan.root.propagation {
        propagate(tree, propagation).at(|| "/linux/rootfsPropagation".into())?;
    }
    if plan.root.readonly {
        sys::mount_setattr(tree, false, libc::MOUNT_ATTR_RDONLY, 0, 0, None).at(|| "/root/readonly".into())?;
    }
    Ok(())
}

/// Everything that can fail because of the document has been tried. Says so, and waits until the
/// parent has set the limits and put on disk what `delete` needs; for `create`, until `start`.
fn ready(init: &mut Init<'_>, reporter: &mut Option<Channel>) -> Result<()> {
    // Before the parent may end: from here on its end is seen on the socket, and a container that
    // is finished must outlive it.
    set_parent_process_death_signal(None).at(|| "letting go of the parent".into())?;
    // Made while there is somebody to hear of a failure.
    let closed = init.start.as_ref().map(|_| super::sync::pair()).transpose()?;
    init.sync.say(&Said::Ready)?;
    init.sync.wait(Go::Finish)?;
    if let (Some(socket), Some((closed, _))) = (init.start.take(), closed) {
        // Nobody listens there any more: what init holds is this one socket.
        drop(std::mem::replace(&mut init.sync, closed));
        *reporter = Some(wait_for_start(&socket)?);
    }
    Ok(())
}

/// Blocks until `start` says go. Others only look whether somebody listens.
fn wait_for_start(socket: &OwnedFd) -> Result<Channel> {
    loop {
        match rustix::net::accept_with(socket, rustix::net::SocketFlags::CLOEXEC) {
            Ok(connection) => {
                let channel = Channel::of(connection);
                // Without an answer `start` does not take the end for success; who only looked is gone.
                match channel.wait(Go::Start).and_then(|()| channel.say(&Said::Ready)) {
                    Ok(()) => return Ok(channel),
                    Err(error) => drop(channel.say(&Said::Failed(format!("{error:#}")))),
                }
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            // Want of something, which passes; nobody would hear of it.
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            Err(error) => return Err(error).at(|| "waiting for start".into()),
        }
    }
}

/// A document without a process: the container is created and can only be deleted.
fn without_process(init: &mut Init<'_>, timeline: Timeline, reporter: &mut Option<Channel>) -> Result<Infallible> {
    if timeline.is_on() {
        init.sync.say(&Said::Timeline(timeline.encode()))?;
    }
    ready(init, reporter)?;
    bail!("config.json has no process to start");
}
