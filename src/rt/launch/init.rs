//! The container's first process, from the clone to execve. Each function is a sequence of kernel
//! steps; [`run`] is their order, and says why where it is not free.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, fstatfs, major, minor, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, mount_move, unmount};
use rustix::process::{
    DumpableBehavior, Signal, chdir, chroot, fchdir, getcwd, pivot_root, set_dumpable_behavior,
    set_parent_process_death_signal, setsid, umask,
};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::resolve::Tree;
use super::rootfs::{self, Builder, attach_root, open_root, propagate};
use super::sync::{Channel, Go, Said};
use super::timeline::Timeline;
use super::{hook, identity, limits, program, stage, terminal};
use crate::cgroup::tree;
use crate::plan::Plan;
use crate::plan::options::Propagation;
use crate::plan::process::Process;
use crate::plan::rootfs::{Step, shares_with_host};
use crate::state::{State, Status};
use crate::sys;
use crate::sys::error::{At, errno};

/// f_type of procfs (statfs(2)).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// The capability that loading a filter without no_new_privs takes (seccomp(2)).
const CAP_SYS_ADMIN: u64 = 1 << 21;

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
    steps.step("join namespaces", || stage::join(&mut init.join))?;
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
    let proc = Kernel::open_if_needed(plan)?;
    let tree = build_root(init, steps, &mut enter_cgroup)?;
    if !plan.sysctl.is_empty() {
        steps.step("sysctl", || proc.as_ref().map_or(Ok(()), |proc| proc.sysctl(plan)))?;
    }
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

    let Some(process) = &plan.process else { return without_process(init, timeline, reporter) };
    steps.step("process attributes", || attributes(plan, process, slave.as_ref(), proc.as_ref()))?;
    drop((slave, proc));
    let env = environment(process)?;
    let argv = c_strings(process.args, "/process/args")?;
    let keep = if plan.seccomp.is_some() && !process.no_new_privileges { CAP_SYS_ADMIN } else { 0 };
    let path = steps.step("identity and program", || {
        let entered = enter_directory(process.cwd);
        identity::take_on(process, keep)?;
        if entered.is_err() {
            // A directory that only the user may search.
            enter_directory(process.cwd)?;
        }
        program::find(&process.args[0], &process.env).map_err(anyhow::Error::msg)
    })?;
    if timeline.is_on() {
        init.sync.say(&Said::Timeline(timeline.encode()))?;
    }
    ready(init, reporter)?;
    finish(init, process, keep)?;
    let error = nix::unistd::execve(&path, &argv, &env).unwrap_err();
    bail!("{}", program::explain(Path::new(std::ffi::OsStr::new(&*path.to_string_lossy())), error as i32))
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

fn keyring(name: &str) -> Result<()> {
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
    let mut builder = Builder::new(&tree, std::mem::take(&mut init.early), shares_with_host(&plan.steps));
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

/// What needs privileges but not the host: personality, memory policy, limits, labels, streams.
fn attributes(plan: &Plan<'_>, process: &Process<'_>, slave: Option<&OwnedFd>, proc: Option<&Kernel>) -> Result<()> {
    if let Some(domain) = plan.personality {
        nix::sys::personality::set(nix::sys::personality::Persona::from_bits_retain(domain as i32))
            .at(|| "/linux/personality".into())?;
    }
    if let Some((mode, nodes)) = &plan.memory_policy {
        sys::set_mempolicy(*mode, nodes).at(|| "/linux/memoryPolicy".into())?;
    }
    if !plan.namespaces.has_user() {
        limits::apply(process, 0)?;
    }
    if let Some(proc) = proc {
        proc.labels(process)?;
    }
    if let Some(slave) = slave {
        terminal::take(slave)?;
    }
    own_streams(process.uid)?;
    umask(Mode::from_raw_mode(process.umask));
    Ok(())
}

/// Gives pipes, sockets and terminals on the standard streams to the user, who could not open
/// /dev/stderr otherwise. Never a file of the host's file systems, and never /dev/null.
fn own_streams(uid: u32) -> Result<()> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = fstat(stream).at(|| "looking at the standard streams".into())?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let terminal = kind == FileType::CharacterDevice && (136..=143).contains(&major(stat.st_rdev));
        debug_assert!(!terminal || (major(stat.st_rdev), minor(stat.st_rdev)) != (1, 3));
        if stat.st_uid == uid || !(terminal || matches!(kind, FileType::Fifo | FileType::Socket)) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A stream of somebody else's, on something read-only, or of a kind that has no owner.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(error) => return Err(error).at(|| "giving the standard streams to the user".into()),
        }
    }
    Ok(())
}

/// chdir(2), and proof that the kernel still finds the way from the root to there: a directory
/// reached through a leaked descriptor of the host would have none.
fn enter_directory(path: &str) -> Result<()> {
    chdir(path).at(|| format!("/process/cwd: entering {path}"))?;
    let cwd = getcwd(Vec::new()).at(|| format!("/process/cwd: {path} leads outside the container"))?;
    if !cwd.to_bytes().starts_with(b"/") {
        bail!("/process/cwd: {path} leads outside the container");
    }
    Ok(())
}

/// The document's environment, with HOME from the container's /etc/passwd where it is missing.
fn environment(process: &Process<'_>) -> Result<Vec<CString>> {
    let mut env = c_strings(&process.env, "/process/env")?;
    if !process.env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(CString::new(format!("HOME={}", home(process.uid)))?);
    }
    Ok(env)
}

fn c_strings(list: &[crate::config::types::Str<'_>], pointer: &str) -> Result<Vec<CString>> {
    list.iter()
        .enumerate()
        .map(|(index, text)| {
            CString::new(&**text).map_err(|_| anyhow!("{pointer}/{index}: must not hold a NUL character"))
        })
        .collect()
}

/// The home directory of a user, as the container's own /etc/passwd (passwd(5)) has it; `/` else.
/// The file is the image's and may be anything: it is read without blocking, and not far.
fn home(uid: u32) -> String {
    const MOST: u64 = 1 << 20;
    let mut text = String::new();
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open("/etc/passwd");
    if let Ok(file) = file
        && file.metadata().is_ok_and(|meta| meta.is_file())
    {
        let mut bytes = Vec::new();
        let _ = file.take(MOST).read_to_end(&mut bytes);
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    home_in(&text, uid).filter(|home| home.starts_with('/') && !home.contains('\0')).unwrap_or("/").to_owned()
}

fn home_in(passwd: &str, uid: u32) -> Option<&str> {
    let wanted = uid.to_string();
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() >= 7 && fields[2] == wanted).then(|| fields[5])
    })
}

/// Everything that can fail because of the document has been tried. Says so, and waits until the
/// parent has set the limits and put on disk what `delete` needs; for `create`, until `start`.
fn ready(init: &mut Init<'_>, reporter: &mut Option<Channel>) -> Result<()> {
    // Before the parent may end: from here on its end is seen on the socket, and a container that
    // is finished must outlive it.
    set_parent_process_death_signal(None).at(|| "letting go of the parent".into())?;
    init.sync.say(&Said::Ready)?;
    init.sync.wait(Go::Finish)?;
    if let Some(socket) = init.start.take() {
        // Nobody listens there any more: what init holds is this one socket.
        let (closed, _) = super::sync::pair()?;
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
                if channel.wait(Go::Start).is_ok() {
                    return Ok(channel);
                }
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error).at(|| "waiting for start".into()),
        }
    }
}

/// Between the go-ahead and the program: startContainer hooks, then what closes doors behind us.
fn finish(init: &Init<'_>, process: &Process<'_>, keep: u64) -> Result<()> {
    let plan = init.plan;
    let hooks = &plan.hooks.start_container;
    if !hooks.is_empty() {
        let state = init.state.spec_json(Status::Created, std::process::id() as i32);
        hook::run_all("startContainer", hooks, &state, None)?;
    }
    sys::cloexec_from(3).at(|| "closing descriptors".into())?;
    for fd in 3..3 + plan.preserve_fds as RawFd {
        sys::keep_open(fd).at(|| format!("--preserve-fds: descriptor {fd}"))?;
    }
    limits::apply_last(process)?;
    sys::reset_signals().at(|| "resetting signals".into())?;
    if let Some(filter) = &plan.seccomp {
        // As late as can be: whatever comes behind it must be allowed by the profile.
        sys::seccomp_load(&filter.program, filter.flags).at(|| "/linux/seccomp: loading the filter".into())?;
        if keep & !(process.capabilities.effective & process.capabilities.permitted) != 0 {
            identity::set_exact(process.capabilities, 0)?;
        }
    }
    Ok(())
}

/// A document without a process: the container is created and can only be deleted.
fn without_process(init: &mut Init<'_>, timeline: Timeline, reporter: &mut Option<Channel>) -> Result<Infallible> {
    if timeline.is_on() {
        init.sync.say(&Said::Timeline(timeline.encode()))?;
    }
    ready(init, reporter)?;
    bail!("config.json has no process to start");
}

/// The host's procfs, held open while the mounts below us change.
struct Kernel(OwnedFd);

impl Kernel {
    fn open_if_needed(plan: &Plan<'_>) -> Result<Option<Kernel>> {
        let labels =
            plan.process.as_ref().is_some_and(|process| process.apparmor.is_some() || process.selinux.is_some());
        if plan.sysctl.is_empty() && !labels {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).at(|| "opening /proc".into())?;
        if fstatfs(&proc).at(|| "opening /proc".into())?.f_type as u64 != PROC_SUPER_MAGIC {
            bail!("the host's /proc is not procfs");
        }
        Ok(Some(Kernel(proc)))
    }

    /// Writes one file of procfs, and nothing that is mounted or linked over it.
    fn write(&self, path: &str, value: &str) -> rustix::io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = openat2(&self.0, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        rustix::io::write(&file, value.as_bytes()).map(drop)
    }

    fn sysctl(&self, plan: &Plan<'_>) -> Result<()> {
        for (path, value, key) in &plan.sysctl {
            self.write(&format!("sys/{path}"), value).map_err(|error| match error {
                Errno::NOENT => anyhow!("/linux/sysctl: this kernel has no {key}"),
                error => anyhow!("/linux/sysctl: setting {key} to \"{value}\": {}", errno(error)),
            })?;
        }
        Ok(())
    }

    /// Labels for the next execve.
    fn labels(&self, process: &Process<'_>) -> Result<()> {
        if let Some(profile) = process.apparmor.filter(|profile| *profile != "unconfined") {
            let value = format!("exec {profile}");
            self.write("self/attr/apparmor/exec", &value)
                .or_else(|_| self.write("self/attr/exec", &value))
                .at(|| format!("/process/apparmorProfile: changing to {profile}"))?;
        }
        if let Some(label) = process.selinux {
            self.write("self/attr/exec", label).at(|| format!("/process/selinuxLabel: changing to {label}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::home_in;

    #[test]
    fn homes_are_found_strictly() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nshort:x:5\nbad:x:07:1::/bad:\nu:x:7:1::/home/u:\n";
        assert_eq!(home_in(passwd, 0), Some("/root"));
        assert_eq!(home_in(passwd, 7), Some("/home/u"));
        assert_eq!(home_in(passwd, 5), None);
        assert_eq!(home_in("", 0), None);
    }
}
