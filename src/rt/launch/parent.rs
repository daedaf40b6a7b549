//! The runtime's side of a container's start. See the table in [`super`] for the order.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::CapabilitySet;
use rustix::time::{ClockId, clock_gettime};

use super::init::Init;
use super::sync::{Channel, Go, Said, last_word, next_word, pair};
use super::timeline::{Span, Timeline};
use super::{cgroups, destroy, hook, init, limits, listener, netdev, rootfs, stage, userns};
use crate::cgroup::systemd::Manager;
use crate::cgroup::tree;
use crate::config;
use crate::plan::rootfs::{IdMap, Mount, Step, What};
use crate::plan::{Plan, host};
use crate::seccomp::Filter;
use crate::state::store::Entry;
use crate::state::{Ownership, State, Status};
use crate::sys;
use crate::sys::error::{At, errno, text};
use crate::sys::proc::Stat;
use crate::sys::signals::{Signals, Waited};

/// What the commands decide beside the plan.
#[derive(Default)]
pub struct Options<'p> {
    /// Leave init waiting for `start`.
    pub wait_for_start: bool,
    /// Where an engine wants the terminal.
    pub console: Option<OwnedFd>,
    /// Where the process id goes once all is set up.
    pub pid_file: Option<&'p Path>,
    /// Record how long each step takes.
    pub timeline: bool,
    /// The systemd that makes the cgroup.
    pub manager: Option<Manager>,
    /// The document's process, which `exec` takes after.
    pub process: Option<&'p config::types::Process<'p>>,
}

/// A container whose init waits for `start`, or runs.
#[derive(Debug)]
pub struct Launched {
    /// Init's pidfd.
    pub pidfd: OwnedFd,
    /// The terminal, when nobody was named to get it.
    pub terminal: Option<OwnedFd>,
    /// The parent's steps.
    pub timeline: Timeline,
    /// Init's steps.
    pub init_spans: Vec<Span>,
}

/// What exists so far.
struct Work<'w, 'p> {
    plan: &'p Plan<'p>,
    entry: &'w Entry,
    state: &'w mut State<'p>,
    sync: Channel,
    /// Init, or who is to clone it.
    pid: i32,
    /// When that one was started, where it is known.
    start_time: Option<u64>,
    pidfd: &'w mut OwnedFd,
    /// Init is still to be cloned.
    apart: bool,
    signals: &'w Signals,
    steps: Timeline,
    init_spans: Vec<Span>,
    terminal: Option<OwnedFd>,
    limits_from_outside: bool,
}

/// Carries the plan out. On an error everything that was made is removed again, the entry with it.
pub fn launch<'p>(
    plan: &'p Plan<'p>,
    entry: Entry,
    state: &mut State<'p>,
    mut options: Options<'_>,
    signals: &Signals,
) -> Result<(Launched, Entry)> {
    let mut started = None;
    let result = start(plan, &entry, state, &mut options, signals, &mut started);
    let error = match result {
        Ok(launched) => return Ok((launched, entry)),
        Err(error) => error,
    };
    // Init first: nothing can be removed while it is at work.
    if let Some(pidfd) = started {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    } else {
        // The container has never been there: its poststop hooks have nothing to follow.
        state.poststop.clear();
    }
    take_pid_file_back(options.pid_file, state.pid);
    if let Err(second) = destroy::kill(state).and_then(|()| destroy::remove(entry, state)) {
        return Err(anyhow!("{error:#}; and removing what was made failed: {second:#}"));
    }
    Err(error)
}

fn start<'p>(
    plan: &'p Plan<'p>,
    entry: &Entry,
    state: &mut State<'p>,
    options: &mut Options<'_>,
    signals: &Signals,
    started: &mut Option<OwnedFd>,
) -> Result<Launched> {
    let mut steps = Timeline::new(options.timeline);
    if plan.cgroup.scope.is_some() {
        cgroups::check_free(&plan.cgroup, state)?;
    }
    // A v2 cgroup has to be there for the clone, those of v1 are made beside init's work. Before the first
    // of them comes the state; before the state nothing is made that outlives this process.
    let v2 = plan.cgroup.v2().filter(|_| plan.cgroup.scope.is_none());
    if v2.is_some() {
        steps.step("state", || entry.write_first(state))?;
    }
    let namespaces = &plan.namespaces;
    let mut join = steps.step("open namespaces", || stage::open(&namespaces.join))?;
    let early = steps.step("open sources", || open_early(plan, &join))?;
    let needs_root =
        (namespaces.has_user() && userns::can(CapabilitySet::SYS_ADMIN)) || namespaces.joins(libc::CLONE_NEWNS);
    let root = if needs_root { Some(rootfs::open_root(&plan.root.path.to_string_lossy())?) } else { None };
    let start_socket = if options.wait_for_start { Some(entry.start_socket()?) } else { None };
    // For network devices: the namespace they go to.
    let joined_net = join.iter().find(|(kind, _)| *kind == libc::CLONE_NEWNET as u64).map(|(_, fd)| fd.try_clone());
    let joined_net = joined_net.transpose().at(|| "keeping the network namespace".into())?;

    // Only root of the host may more than init itself.
    let limits_from_outside = namespaces.has_user() && host::is_root();
    let (ours, theirs) = pair()?;
    let into = match v2 {
        Some(dir) if cgroups::make(&plan.cgroup, cgroups::Which::V2, entry, state, &mut steps)? => {
            Some(tree::open(&dir.path).at(|| format!("opening cgroup {}", dir.path))?)
        }
        _ => None,
    };
    let (cloned, start_time) = {
        let own = steps.step("time namespace", || OwnNamespaces::leave(plan, &mut join))?;
        // Apart with a user namespace, it joins others first, and makes its own then.
        let late = namespaces.staged() || (namespaces.apart() && namespaces.has_user());
        let flags = if late { 0 } else { namespaces.create };
        // Mostly the clock says the same before and after, and /proc need not be asked. In a time namespace
        // it may be another's clock.
        let is_ours = !namespaces.staged() && namespaces.time.is_none() && !namespaces.joins(libc::CLONE_NEWTIME);
        let before = clock_ticks();
        let cloned = steps.step("clone", || {
            sys::clone3(flags, into.as_ref().map(AsFd::as_fd)).map_err(|error| not_cloned(plan, into.is_some(), error))
        })?;
        if matches!(cloned, sys::Cloned::Child) {
            // Only the parent goes back; the child closes the descriptors with all others.
            std::mem::forget(own);
            (cloned, None)
        } else {
            (cloned, Some(before).filter(|before| is_ours && *before == clock_ticks()))
        }
    };
    let (mut pid, mut pidfd) = match cloned {
        sys::Cloned::Parent { pid, pidfd } => (pid, pidfd),
        sys::Cloned::Child => {
            offer_oom_score(plan.process.as_ref());
            if namespaces.staged() {
                stage::clone_init(namespaces, &mut join, &theirs);
                join.clear();
            }
            let timeline = Timeline::new(options.timeline);
            init::main(Init {
                plan,
                state,
                sync: theirs,
                early,
                root,
                join,
                start: start_socket,
                console: options.console.take(),
                limits_from_outside,
                timeline,
            })
        }
    };
    drop((theirs, early, root, start_socket, join, into, options.console.take()));
    if namespaces.staged() {
        let said = last_word(&ours, &pidfd, signals);
        if said.is_err() {
            let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
        }
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        (pid, pidfd) = match said? {
            Said::Pid(pid) => {
                let raw = Pid::from_raw(pid).ok_or_else(|| anyhow!("the first process has no id"))?;
                // It is our child and not yet waited for, so the number cannot be another's.
                (pid, pidfd_open(raw, PidfdFlags::empty()).at(|| "opening the first process".into())?)
            }
            Said::Failed(line) => bail!(line),
            _ => bail!("/linux/namespaces: the process that joins them died"),
        };
    }
    let mut work = Work {
        plan,
        entry,
        state,
        sync: ours,
        pid,
        start_time,
        pidfd: started.insert(pidfd),
        apart: namespaces.apart(),
        signals,
        steps,
        init_spans: Vec::new(),
        terminal: None,
        limits_from_outside,
    };
    if v2.is_none() {
        work.steps.step("state", || entry.write_first(work.state))?;
    }
    work.fill(joined_net, options)?;
    work.follow(options)?;
    Ok(Launched {
        pidfd: work.pidfd.try_clone().at(|| "keeping the first process".into())?,
        terminal: work.terminal,
        timeline: work.steps,
        init_spans: work.init_spans,
    })
}

impl Work<'_, '_> {
    /// What the parent does while init builds the root file system.
    fn fill(&mut self, joined_net: Option<OwnedFd>, options: &mut Options<'_>) -> Result<()> {
        let (plan, pid) = (self.plan, self.pid);
        let namespaces = &plan.namespaces;
        if namespaces.makes(libc::CLONE_NEWUSER) {
            if self.apart {
                match next_word(&self.sync, self.pidfd, self.signals)? {
                    Said::Joined => {}
                    Said::Failed(line) => bail!(line),
                    _ => return Err(self.silent_death()),
                }
            }
            let maps = || userns::write_maps(pid, &namespaces.uid_map, &namespaces.gid_map);
            self.steps.step("id maps", maps)?;
            self.sync.go(Go::Mapped)?;
        }
        if let (Some(scope), Some(mut manager)) = (&plan.cgroup.scope, options.manager.take()) {
            let entered = self.steps.step("systemd's unit", || {
                cgroups::enter_scope(&mut manager, scope, &plan.cgroup, &self.state.id, pid)
            });
            if let Err(error) = entered {
                // A unit of that name is another's.
                self.state.unit = None;
                // Its limits are in force from the start: an init that they kill takes the scope with it.
                let taken = tree::unified_path(&pid.to_string()).is_some_and(|it| it.ends_with(" (deleted)"));
                return Err(if taken { self.silent_death() } else { error });
            }
            // Its end is systemd's business, but what is there now is the container's.
            self.state.cgroups.iter_mut().for_each(|dir| dir.owner = Ownership::Ours);
        }
        let v1 = plan.cgroup.v1();
        let made =
            !v1.is_empty() && cgroups::make(&plan.cgroup, cgroups::Which::V1, self.entry, self.state, &mut self.steps)?;
        if made && !plan.cgroup.by_init {
            self.steps.step("join cgroups", || v1.iter().try_for_each(|dir| tree::join(&dir.path, pid)))?;
        }
        let dirs = &plan.cgroup.dirs;
        let writes = if self.state.cgroups.is_empty() { &[] } else { &*plan.cgroup.writes };
        let made_v2 = plan.cgroup.v2().filter(|_| !self.state.cgroups.is_empty());
        if let (Some(owner), Some(dir)) = (plan.cgroup.owner, made_v2) {
            self.steps.step("owner of the cgroup", || tree::give(&dir.path, owner))?;
        }
        // The rules for devices first: between "deny all" and what is allowed again, an init that is
        // in the group already could not make its nodes.
        let (devices, limits) =
            writes.split_at(writes.iter().take_while(|write| write.file.starts_with("devices.")).count());
        self.steps.step("device rules", || {
            tree::apply_all(dirs, devices)?;
            match made_v2 {
                Some(dir) => tree::attach_devices(&plan.cgroup, dir),
                None => Ok(()),
            }
        })?;
        // From here on init can go the whole way to "ready" beside us.
        self.sync.go(Go::CgroupMade)?;
        self.steps.step("limits", || tree::apply_all(dirs, limits))?;
        if let Some(score) = plan.process.as_ref().and_then(|process| process.oom_score_adj) {
            set_oom_score(pid, score)?;
        }
        if let Some(rdt) = &plan.rdt {
            self.steps.step("resctrl", || rdt.apply(pid))?;
        }
        if !plan.net_devices.is_empty() {
            let target = match joined_net {
                Some(fd) => fd,
                None => fs::File::open(format!("/proc/{pid}/ns/net"))
                    .at(|| "opening the container's network namespace".into())?
                    .into(),
            };
            for (name, new) in &plan.net_devices {
                self.steps.step("network device", || {
                    netdev::move_device(name, new, target.as_fd())
                        .map_err(|error| anyhow!("/linux/netDevices/{name}: {error:#}"))
                })?;
            }
        }
        let entry = self.entry;
        self.steps.step("for exec", || entry.write_for_exec(options.process, plan.seccomp.as_ref()))?;
        self.write_pid()?;
        if self.is_quiet(options) {
            self.sync.go(Go::Finish)?;
        }
        Ok(())
    }

    /// Init needs nothing more of us, and we nothing of it but its end: it runs through to the program
    /// without waiting once, and wakes nobody on the way.
    fn is_quiet(&self, options: &Options<'_>) -> bool {
        let hooks = self.plan.hooks;
        let speaks = !hooks.prestart.is_empty()
            || !hooks.create_runtime.is_empty()
            || self.plan.seccomp.as_ref().is_some_and(Filter::notifies);
        !options.wait_for_start && options.pid_file.is_none() && !self.limits_from_outside && !self.apart && !speaks
    }

    /// Puts on disk which process `delete` has to end.
    fn write_pid(&mut self) -> Result<()> {
        let pid = self.pid;
        // Not yet waited for, so even a child that has died has an entry.
        let Some(start_time) = self.start_time.take().or_else(|| Some(Stat::of(pid)?.start_time)) else {
            bail!("reading /proc/{pid}/stat: without it the container could not be told from others")
        };
        (self.state.pid, self.state.start_time) = (pid, start_time);
        let (entry, state) = (self.entry, &*self.state);
        self.steps.step("state with pid", || entry.write(state))
    }

    /// Init has been cloned by the process that set the container up, which ends now.
    fn take_over(&mut self, pid: i32) -> Result<()> {
        let raw = Pid::from_raw(pid).ok_or_else(|| anyhow!("the first process has no id"))?;
        // It is our child and not yet waited for, so the number cannot be another's.
        let init = pidfd_open(raw, PidfdFlags::empty()).at(|| "opening the first process".into())?;
        let before = std::mem::replace(self.pidfd, init);
        (self.pid, self.apart) = (pid, false);
        let _ = waitid(WaitId::PidFd(before.as_fd()), WaitIdOptions::EXITED);
        self.write_pid()?;
        self.sync.go(Go::Known).map(drop)
    }

    /// Answers init until it runs the program, or waits for `start`.
    fn follow(&mut self, options: &Options<'_>) -> Result<()> {
        let quiet = self.is_quiet(options);
        if quiet && let Waited::Signal(signal) = self.signals.wait_for_end(&self.sync)? {
            bail!("cut short by signal {signal}");
        }
        let mut ready = false;
        loop {
            let said = if quiet {
                self.sync.listen()?
            } else if self.apart {
                next_word(&self.sync, self.pidfd, self.signals)?
            } else {
                match self.signals.wait_for(&self.sync, None)? {
                    Waited::Signal(signal) => bail!("cut short by signal {signal}"),
                    Waited::Readable | Waited::TooLong => self.sync.listen()?,
                }
            };
            match said {
                Said::Pid(pid) if self.apart => self.take_over(pid)?,
                Said::Prepared => {
                    let hooks = self.plan.hooks;
                    let json = self.state.spec_json(Status::Created, self.pid);
                    let signals = self.signals;
                    self.steps
                        .step("prestart hooks", || hook::run_all("prestart", &hooks.prestart, &json, Some(signals)))?;
                    self.steps.step("createRuntime hooks", || {
                        hook::run_all("createRuntime", &hooks.create_runtime, &json, Some(signals))
                    })?;
                    self.sync.go(Go::HooksRun)?;
                }
                Said::Terminal(master) => self.terminal = Some(master),
                Said::Listener(fd) => listener::hand_on(&fd, self.state, Status::Created, self.pid, &self.sync)?,
                Said::Timeline(bytes) => self.init_spans = Timeline::decode(&bytes),
                Said::Ready if quiet => ready = true,
                Said::Ready => {
                    ready = true;
                    self.finish(options)?;
                    if options.wait_for_start {
                        return Ok(());
                    }
                }
                Said::Failed(line) => bail!(line),
                Said::End if ready => return Ok(()),
                Said::End => return Err(self.silent_death()),
                Said::Pid(_) | Said::Joined | Said::Mount(_) => bail!("init said a word that is not its to say"),
            }
        }
    }

    fn finish(&mut self, options: &Options<'_>) -> Result<()> {
        if self.limits_from_outside
            && let Some(process) = &self.plan.process
        {
            limits::apply(process, self.pid)?;
        }
        if let Some(path) = options.pid_file {
            write_pid_file(path, self.pid)?;
        }
        if options.wait_for_start {
            self.entry.finish_start_socket()?;
        }
        self.sync.go(Go::Finish).map(drop)
    }

    /// Init is gone and has said nothing.
    fn silent_death(&self) -> anyhow::Error {
        // Kept for the cleanup, which waits for it as well.
        let status =
            waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).ok().flatten();
        let how = match status.as_ref().map(|status| (status.terminating_signal(), status.exit_status())) {
            Some((Some(signal), _)) => format!("was killed by signal {signal}"),
            Some((_, Some(code))) => format!("ended with exit status {code}"),
            _ => "ended".to_owned(),
        };
        let out_of_memory = self.plan.cgroup.dirs.iter().any(|dir| {
            let file = if dir.is_v2() { "memory.events" } else { "memory.oom_control" };
            fs::read_to_string(Path::new(&dir.path).join(file))
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("oom_kill ") && line != "oom_kill 0"))
        });
        // systemd takes a scope away with its last process, and the counter with it.
        let cgroup = &self.plan.cgroup;
        let taken = cgroup.scope.is_some()
            && how.ends_with("signal 9")
            && cgroup.writes.iter().any(|write| write.pointer.starts_with("/linux/resources/memory/"))
            && cgroup.dirs.iter().any(|dir| !Path::new(&dir.path).exists());
        if out_of_memory || taken {
            return anyhow!(
                "/linux/resources/memory/limit: too small: the container's first process {how} for want of memory while it was set up"
            );
        }
        anyhow!("the container's first process {how} while it was set up")
    }
}

/// Now, in the unit and from the beginning of field 22 of /proc/PID/stat (proc_pid_stat(5)): hundredths of a
/// second since boot, as our time namespace has it.
fn clock_ticks() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 100 + now.tv_nsec as u64 / 10_000_000
}

/// Why the first process could not be cloned.
fn not_cloned(plan: &Plan<'_>, into_cgroup: bool, error: rustix::io::Errno) -> anyhow::Error {
    let entry = plan.cgroup.v2().filter(|_| into_cgroup).and_then(|dir| tree::explain_entry(dir, error));
    let hint = match error {
        rustix::io::Errno::PERM if plan.namespaces.makes(libc::CLONE_NEWUSER) => {
            "; plain users may have no user namespaces here (sysctls unprivileged_userns_clone, apparmor_restrict_unprivileged_userns)"
        }
        rustix::io::Errno::PERM => "; a plain user needs a user namespace (`rt spec --rootless` has one)",
        rustix::io::Errno::NOSPC => "; no more namespaces are allowed here (/proc/sys/user/max_*_namespaces)",
        _ => "",
    };
    let other = || anyhow!("/linux/namespaces: cloning the first process: {}{hint}", errno(error));
    entry.map_or_else(other, anyhow::Error::msg)
}

/// Mounts that init could not open: binds (see [`crate::plan::rootfs::What::Bind`]), and procfs of a pid
/// namespace that is joined.
fn open_early(plan: &Plan<'_>, join: &[(u64, OwnedFd)]) -> Result<Vec<OwnedFd>> {
    let mut opened = Vec::new();
    for step in &plan.steps {
        let Step::Mount(mount) = step else { continue };
        let made = match &mount.what {
            What::Bind { source, recursive, idmap, early: true, .. } => {
                open_bind_early(mount, source, *recursive, idmap.as_ref())
            }
            What::New { fstype: "proc", source, data, superblock, .. } if plan.namespaces.apart() => {
                let data: Vec<&str> = data.iter().map(|word| &**word).collect();
                stage::procfs(join, || rootfs::new_filesystem("proc", source, &data, superblock, mount.attributes))
            }
            _ => continue,
        };
        let place = mount.index.map_or(String::new(), |index| format!("/mounts/{index}: "));
        opened.push(made.map_err(|error| anyhow!("{place}mounting {}: {error:#}", mount.destination))?);
    }
    Ok(opened)
}

fn open_bind_early(mount: &Mount<'_>, source: &str, recursive: bool, idmap: Option<&IdMap>) -> Result<OwnedFd> {
    if idmap.is_some() && !userns::can(CapabilitySet::SYS_ADMIN) {
        bail!("idmap: it takes CAP_SYS_ADMIN, which a plain user has not");
    }
    let fd = rootfs::open_bind(mount, source, recursive)?;
    if let Some(map) = idmap {
        userns::idmap(&fd, map)?;
    }
    if mount.propagation.is_none() {
        // As if it had been opened after init had cut its mounts off.
        let slave = crate::plan::options::Propagation { kind: libc::MS_SLAVE, recursive: true };
        rootfs::propagate(&fd, slave).at(|| "cutting it off from the host's mounts".into())?;
    }
    Ok(fd)
}

/// The parent's own time namespace for its children, while it is another. Hooks that it starts later
/// belong to the runtime's namespaces again.
struct OwnNamespaces(Vec<(u64, OwnedFd)>);

impl OwnNamespaces {
    /// Sets what the next clone is born into: a process cannot join a time namespace itself, and the
    /// offsets of a new one must be set before anybody is inside.
    fn leave(plan: &Plan<'_>, join: &mut Vec<(u64, OwnedFd)>) -> Result<OwnNamespaces> {
        let mut own = OwnNamespaces(Vec::new());
        let namespaces = &plan.namespaces;
        let remember = |kind: i32, name: &str| -> Result<(u64, OwnedFd)> {
            let file = fs::File::open(format!("/proc/self/ns/{name}")).map_err(|error| match error.kind() {
                ErrorKind::NotFound => anyhow!("/linux/namespaces: this kernel has no {name} namespaces"),
                _ => anyhow!("opening our own {name} namespace: {}", text(&error)),
            })?;
            Ok((kind as u64, file.into()))
        };
        let joined = join.iter().position(|(kind, _)| *kind == libc::CLONE_NEWTIME as u64);
        if let Some(position) = joined.filter(|_| !namespaces.has_user()) {
            own.0.push(remember(libc::CLONE_NEWTIME, "time")?);
            let (kind, fd) = join.remove(position);
            sys::setns(&fd, kind).at(|| "/linux/namespaces: joining the time namespace".into())?;
        }
        if let Some(offsets) = &namespaces.time {
            own.0.push(remember(libc::CLONE_NEWTIME, "time")?);
            sys::unshare(libc::CLONE_NEWTIME).map_err(|error| {
                let denied = error == rustix::io::Errno::PERM;
                let hint = if denied { "; it takes CAP_SYS_ADMIN, also with a user namespace" } else { "" };
                anyhow!("/linux/namespaces: making a time namespace: {}{hint}", errno(error))
            })?;
            if !offsets.is_empty() {
                fs::write("/proc/self/timens_offsets", offsets).at(|| "/linux/timeOffsets".into())?;
            }
        }
        Ok(own)
    }
}

impl Drop for OwnNamespaces {
    fn drop(&mut self) {
        for (kind, fd) in &self.0 {
            // It was ours a moment ago: the kernel has no reason to refuse.
            let _ = sys::setns(fd, *kind);
        }
    }
}

/// Removes the pid file of a process that came to nothing; only if it is ours: a file of that name may
/// have been there before.
pub(super) fn take_pid_file_back(path: Option<&Path>, pid: i32) {
    if let Some(path) = path
        && pid > 0
        && fs::read_to_string(path).is_ok_and(|text| text == pid.to_string())
    {
        let _ = fs::remove_file(path);
    }
}

/// A new process's own try at its score: once it is not dumpable its files in /proc are root's, and a
/// plain user's runtime comes too late. Whether it is set is [`set_oom_score`]'s to say.
pub(super) fn offer_oom_score(process: Option<&crate::plan::process::Process<'_>>) {
    if let Some(score) = process.and_then(|process| process.oom_score_adj) {
        let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    }
}

/// /proc/PID/oom_score_adj (proc_pid_oom_score_adj(5)).
pub(super) fn set_oom_score(pid: i32, score: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, score.to_string()).or_else(|error| {
        if fs::read_to_string(&path).is_ok_and(|is| is.trim() == score.to_string()) {
            return Ok(());
        }
        let hint = if error.kind() == ErrorKind::PermissionDenied {
            "; going below one's own takes CAP_SYS_RESOURCE"
        } else {
            ""
        };
        Err(anyhow!("/process/oomScoreAdj: setting it to {score}: {}{hint}", text(&error)))
    })
}

/// Digits without a newline, put in place in one step.
pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let what = || format!("--pid-file {}", path.display());
    let name = path.file_name().ok_or_else(|| anyhow!("{}: it names no file", what()))?;
    let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    fs::write(&temporary, pid.to_string()).at(what)?;
    fs::rename(&temporary, path).at(what)?;
    Ok(())
}
