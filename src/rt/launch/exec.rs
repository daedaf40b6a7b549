//! Another process in a running container: what `exec` does to the machine.
//!
//! | parent | process | because |
//! |---|---|---|
//! | opens init, checks its start time | | all that follows goes by this one descriptor: a number could be reused |
//! | clone, into the v2 cgroup | an extra process is born, outside the pid namespace | inside, all could see it and some look into it |
//! | | it enters the v1 cgroups, sets labels, then one setns(2) for all namespaces | inside, the host's cgroup mounts and procfs are out of reach |
//! | ← *pid* | it clones the process, its sibling, and ends | a pid namespace is for children |
//! | | user looked up, terminal, identity, program found | the container's own files decide |
//! | ← *ready*; limits of a user namespace, pid file, *finish* → | waits | nothing runs without its limits, nor before its number is known; where the number is all there is to know, *finish* comes with it, and nobody waits |
//! | | filter, execve | |
//! | ← end | | the program runs |
//!
//! What a process of the container could see of ours (/proc/PID/…) is closed to it, since it is not
//! dumpable; and for those who may trace all the same, its root and working directory are the
//! container's, and it holds no descriptor of a host directory, from its first moment in there.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, chroot, fchdir, pidfd_open,
    set_dumpable_behavior, set_parent_process_death_signal, setsid, waitid,
};
use rustix::thread::{CpuSet, sched_setaffinity, set_thread_res_gid, set_thread_res_uid};

use super::kernel::{Kernel, Label};
use super::process::{Traits, attributes, become_user, execute};
use super::resolve::Tree;
use super::sync::{Channel, Go, Said, last_word, pair};
use super::users::Asked;
use super::{init, limits, listener, parent, terminal};
use crate::cgroup::systemd::{Manager, Unit};
use crate::cgroup::tree;
use crate::plan::process::Process;
use crate::seccomp::Filter;
use crate::state::{State, Status};
use crate::sys;
use crate::sys::error::{At, errno};
use crate::sys::signals::{Signals, Waited};

/// Everything that is decided before anything is done.
pub struct Exec<'p> {
    /// The container.
    pub state: &'p State<'p>,
    /// The program.
    pub process: Process<'p>,
    /// Who it shall be, where that is to be looked up inside.
    pub user: Option<Asked>,
    /// The container's filter.
    pub filter: Option<Filter>,
    /// How many descriptors from 3 on stay open in the program.
    pub preserve_fds: u32,
    /// Directories of v1 hierarchies to enter.
    pub v1: Vec<String>,
    /// The directory of v2.
    pub v2: Option<V2>,
    /// CPUs before and after the cgroup is entered: masks.
    pub affinity: (Option<Vec<u64>>, Option<Vec<u64>>),
    /// Where an engine wants the terminal.
    pub console: Option<OwnedFd>,
    /// The parent sets limits, which a process in a user namespace has no right to raise.
    pub limits_from_outside: bool,
}

/// A cgroup of the unified hierarchy.
pub struct V2 {
    /// The directory.
    pub path: String,
    /// Where it cannot hold processes, because the container has made cgroups below it: init's own.
    pub fallback: Option<String>,
    /// Whose unit it is: systemd moves a process of a user who may not, coming from another session.
    pub unit: Option<Unit>,
}

/// A process that runs its program.
#[derive(Debug)]
pub struct Running {
    /// For waiting.
    pub pidfd: OwnedFd,
    /// The terminal, when nobody was named to get it.
    pub terminal: Option<OwnedFd>,
}

/// The words that engines know.
fn stopped() -> anyhow::Error {
    anyhow!("cannot exec in a stopped container")
}

/// Runs the program up to its first instruction. On an error nothing of it is left.
pub fn exec(mut exec: Exec<'_>, pid_file: Option<&Path>, signals: &Signals) -> Result<Running> {
    let init = open_init(exec.state)?;
    let root = if exec.joins(libc::CLONE_NEWNS) { None } else { Some(open_root(exec.state)?) };
    if let Some(mask) = &exec.affinity.0 {
        // Ours until we end, and the process is born with it.
        set_affinity(mask, "initial")?;
    }
    let (ours, theirs) = pair()?;
    // Born into the container's pid namespace, a process is seen there at once, and by whoever may
    // trace: it must have left all that is the host's before. So an extra process joins, and the one
    // that stays is cloned from it.
    let staged = exec.joins(libc::CLONE_NEWPID);
    let (cloned, mover) = clone_into(&exec)?;
    let (mut pid, mut pidfd) = match cloned {
        sys::Cloned::Parent { pid, pidfd } => (pid, pidfd),
        sys::Cloned::Child => {
            parent::offer_oom_score(Some(&exec.process));
            let inside = Inside { sync: theirs, init, root, staged };
            let Err(error) = inside.run(&mut exec);
            let _ = inside.sync.say(&Said::Failed(format!("{error:#}")));
            std::process::exit(1);
        }
    };
    drop((theirs, root, exec.console.take()));
    let mut early = VecDeque::new();
    if staged {
        let handed_over = take_over(&ours, &pidfd, signals, &mut early);
        if handed_over.is_err() {
            let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
        }
        reap(&pidfd);
        (pid, pidfd) = handed_over?;
    }
    match follow(&exec, &ours, pid, (mover, early), pid_file, signals) {
        Ok(terminal) => Ok(Running { pidfd, terminal }),
        Err(error) => {
            let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
            reap(&pidfd);
            parent::take_pid_file_back(pid_file, pid);
            Err(error)
        }
    }
}

/// The process that the extra one has cloned. What that one has said already goes to `early`.
fn take_over(sync: &Channel, extra: &OwnedFd, signals: &Signals, early: &mut VecDeque<Said>) -> Result<(i32, OwnedFd)> {
    let mut word = last_word(sync, extra, signals)?;
    while matches!(word, Said::Ready | Said::Terminal(_)) {
        early.push_back(word);
        word = last_word(sync, extra, signals)?;
    }
    match word {
        Said::Pid(pid) => {
            let raw = Pid::from_raw(pid).ok_or_else(|| anyhow!("the process has no id"))?;
            // It is our child and not yet waited for, so the number cannot be another's.
            Ok((pid, pidfd_open(raw, PidfdFlags::empty()).at(|| "opening the process".into())?))
        }
        Said::Failed(line) => bail!(line),
        _ => Err(stopped()),
    }
}

/// Waits for the end of a process, but not for long: in a frozen cgroup of v1 a killed one dies only when
/// that is thawed, and is its next parent's to reap then.
fn reap(pidfd: &OwnedFd) {
    let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
    if poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)).is_ok_and(|ended| ended > 0) {
        let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Init, and nobody else who got its number.
fn open_init(state: &State<'_>) -> Result<OwnedFd> {
    let raw = Pid::from_raw(state.pid).ok_or_else(stopped)?;
    let init = pidfd_open(raw, PidfdFlags::empty()).map_err(|_| stopped())?;
    if state.is_alive() { Ok(init) } else { Err(stopped()) }
}

/// The root of a container that lives in the host's mount namespace.
fn open_root(state: &State<'_>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{}/root", state.pid), flags, Mode::empty()).map_err(|_| stopped())
}

/// Clones the process into the v2 cgroup. With a unit, the process is still to be moved there.
fn clone_into(exec: &Exec<'_>) -> Result<(sys::Cloned, Option<Unit>)> {
    let outside = || sys::clone3(0, None).map_err(|error| exec.not_joined(error, "the cgroup"));
    let Some(v2) = &exec.v2 else { return Ok((outside()?, None)) };
    let mut path = &v2.path;
    loop {
        let dir = tree::open(path).map_err(|error| match error {
            Errno::NOENT => stopped(),
            error => anyhow!("opening cgroup {path}: {}", errno(error)),
        })?;
        match (sys::clone3(0, Some(dir.as_fd())), &v2.fallback) {
            (Ok(cloned), _) => return Ok((cloned, None)),
            (Err(Errno::BUSY | Errno::OPNOTSUPP), Some(fallback)) if path != fallback => path = fallback,
            (Err(Errno::ACCESS), _) if v2.unit.is_some() => return Ok((outside()?, v2.unit.clone())),
            // The cgroup is being removed.
            (Err(Errno::NODEV), _) => return Err(stopped()),
            (Err(error), _) => {
                let dir = crate::cgroup::Dir {
                    mount: String::new(),
                    path: path.clone(),
                    controllers: crate::cgroup::v2::UNIFIED.to_owned(),
                };
                return Err(tree::explain_entry(&dir, error)
                    .map_or_else(|| exec.not_joined(error, "the cgroup"), anyhow::Error::msg));
            }
        }
    }
}

fn set_affinity(mask: &[u64], field: &str) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in 0..CpuSet::MAX_CPU.min(mask.len() * 64) {
        if mask[cpu / 64] & (1 << (cpu % 64)) != 0 {
            set.set(cpu);
        }
    }
    sched_setaffinity(None, &set).map_err(|error| match error {
        Errno::INVAL => anyhow!("/process/execCPUAffinity/{field}: none of these CPUs may be used here"),
        error => anyhow!("/process/execCPUAffinity/{field}: {}", errno(error)),
    })
}

/// Answers the process until it runs the program; gives out the terminal.
fn follow(
    exec: &Exec<'_>,
    sync: &Channel,
    pid: i32,
    (mover, mut early): (Option<Unit>, VecDeque<Said>),
    pid_file: Option<&Path>,
    signals: &Signals,
) -> Result<Option<OwnedFd>> {
    let (mut ready, mut terminal) = (false, None);
    // Nothing is to be done for it any more: it need not wait, nor wake us before its end.
    let quiet = mover.is_none() && pid_file.is_none() && exec.wants_nothing();
    if quiet {
        sync.go(Go::Finish)?;
    }
    loop {
        let word = match early.pop_front() {
            Some(word) => word,
            None => match if quiet { signals.wait_for_end(sync)? } else { signals.wait_for(sync, None)? } {
                Waited::Signal(signal) => bail!("cut short by signal {signal}"),
                Waited::Readable | Waited::TooLong => sync.listen()?,
            },
        };
        match word {
            Said::Terminal(master) => terminal = Some(master),
            Said::Listener(fd) => listener::hand_on(&fd, exec.state, Status::Running, pid, sync)?,
            Said::Ready if quiet => ready = true,
            Said::Ready => {
                ready = true;
                if let Some(unit) = &mover {
                    Manager::connect(unit.user)?.attach(unit, "/", pid)?;
                }
                if exec.limits_from_outside {
                    limits::apply(&exec.process, pid)?;
                }
                if let Some(score) = exec.process.oom_score_adj {
                    parent::set_oom_score(pid, score)?;
                }
                if let Some(path) = pid_file {
                    parent::write_pid_file(path, pid)?;
                }
                sync.go(Go::Finish)?;
            }
            Said::Failed(line) => bail!(line),
            Said::End if ready => return Ok(terminal),
            Said::End if !exec.state.is_alive() => return Err(stopped()),
            Said::End => bail!("the process was killed while it was set up; was it too little memory or a pids limit?"),
            _ => bail!("the process said a word that is not its to say"),
        }
    }
}

impl Exec<'_> {
    /// Nothing of the process is set from outside once it is ready.
    fn wants_nothing(&self) -> bool {
        !self.limits_from_outside
            && self.process.oom_score_adj.is_none()
            && !self.filter.as_ref().is_some_and(Filter::notifies)
    }

    fn joins(&self, kind: i32) -> bool {
        self.state.namespaces & kind as u64 != 0
    }

    /// Why it could not be made or moved inside.
    fn not_joined(&self, error: Errno, what: &str) -> anyhow::Error {
        match error {
            // Init has ended since we looked.
            Errno::SRCH => stopped(),
            Errno::NOMEM if !self.state.is_alive() => stopped(),
            Errno::AGAIN => anyhow!(
                "cloning the process: {}: the container is at its limit of processes (/linux/resources/pids/limit), or the user at RLIMIT_NPROC",
                errno(error)
            ),
            error => anyhow!("joining {what} of the container: {}", errno(error)),
        }
    }

    /// Settles who the process is, by the container's own files.
    fn settle_user(&mut self) -> Result<()> {
        let Some(asked) = &self.user else { return Ok(()) };
        let found = asked.look_up()?;
        self.process.uid = found.uid;
        if let Some(gid) = found.gid {
            self.process.gid = gid;
        }
        if let Some(groups) = found.groups {
            self.process.groups.to_mut().extend(groups);
        }
        Ok(())
    }
}

/// What the process is handed beside the plan, all of it made before the clone.
struct Inside {
    sync: Channel,
    init: OwnedFd,
    /// Where there is no mount namespace to join.
    root: Option<OwnedFd>,
    staged: bool,
}

impl Inside {
    /// The order.
    fn run(&self, exec: &mut Exec<'_>) -> Result<Infallible> {
        self.begin(exec)?;
        exec.v1.iter().try_for_each(|path| match tree::enter(path) {
            Err(_) if !Path::new(path).exists() => Err(stopped()),
            other => other,
        })?;
        if let Some(mask) = &exec.affinity.1 {
            // A change of cpuset takes all its CPUs, so this comes behind it.
            set_affinity(mask, "final")?;
        }
        set_dumpable_behavior(DumpableBehavior::NotDumpable).at(|| "making the process undumpable".into())?;
        if exec.process.apparmor.is_some() || exec.process.selinux.is_some() {
            // For the next execve, whoever's: a clone takes them along.
            Kernel::open()?.label_files(&exec.process)?.iter().try_for_each(Label::set)?;
        }
        self.join(exec)?;
        if self.staged {
            // Who hears of no number lets nobody go on.
            self.hand_over(exec)?;
        }
        // Cleared by the clone and by changes of ids, so once more.
        set_parent_process_death_signal(Some(Signal::KILL)).at(|| "asking for the parent's death signal".into())?;
        setsid().at(|| "starting a session".into())?;
        if exec.state.keyring {
            init::keyring(&format!("_ses.{}", exec.state.id))?;
        }
        exec.settle_user()?;
        let process = &exec.process;
        let slave = match process.terminal {
            Some(size) => Some(self.terminal(exec.console.take(), size)?),
            None => None,
        };
        let traits = Traits {
            personality: exec.state.personality,
            memory_policy: exec.state.memory_policy.as_ref(),
            limits_from_outside: exec.limits_from_outside,
        };
        attributes(process, &traits, slave.as_ref(), &[])?;
        drop(slave);
        let found = become_user(process, exec.filter.as_ref())?;
        set_parent_process_death_signal(None).at(|| "letting go of the parent".into())?;
        self.sync.say(&Said::Ready)?;
        self.sync.wait(Go::Finish)?;
        execute(&found, process, exec.filter.as_ref(), exec.preserve_fds, &self.sync)
    }

    /// Ties this process to the parent and closes all descriptors but its own.
    fn begin(&self, exec: &Exec<'_>) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL)).at(|| "asking for the parent's death signal".into())?;
        let mut keep: Vec<RawFd> = vec![self.sync.as_fd().as_raw_fd(), self.init.as_raw_fd()];
        keep.extend(self.root.iter().chain(&exec.console).map(AsRawFd::as_raw_fd));
        keep.extend((0..exec.preserve_fds as RawFd).map(|n| 3 + n));
        sys::close_all_but(&mut keep).at(|| "closing descriptors".into())
    }

    /// Into all namespaces of init at once (setns(2) with a pidfd, Linux 5.8), and to its root.
    fn join(&self, exec: &Exec<'_>) -> Result<()> {
        if exec.state.namespaces != 0 {
            sys::setns(&self.init, exec.state.namespaces).map_err(|error| exec.not_joined(error, "the namespaces"))?;
        }
        if let Some(root) = &self.root {
            fchdir(root).at(|| "entering the container's root".into())?;
            chroot(".").at(|| "entering the container's root".into())?;
        }
        if exec.joins(libc::CLONE_NEWUSER) {
            // Without an id 0 inside, the capabilities alone have to do.
            for result in [
                set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT),
                set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT),
            ] {
                match result {
                    Ok(()) | Err(Errno::INVAL) => {}
                    Err(error) => return Err(error).at(|| "becoming root of the user namespace".into()),
                }
            }
            set_dumpable_behavior(DumpableBehavior::NotDumpable).at(|| "making the process undumpable".into())?;
        }
        Ok(())
    }

    /// Clones the process that goes on, as a sibling; this one has done its work.
    fn hand_over(&self, exec: &Exec<'_>) -> Result<()> {
        match sys::clone3(libc::CLONE_PARENT as u64, None) {
            Ok(sys::Cloned::Child) => Ok(()),
            Ok(sys::Cloned::Parent { pid, .. }) => {
                let _ = self.sync.say(&Said::Pid(pid));
                std::process::exit(0);
            }
            Err(error) => Err(exec.not_joined(error, "the pid namespace")),
        }
    }

    fn terminal(&self, console: Option<OwnedFd>, size: (u16, u16)) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, Mode::empty()).at(|| "opening the container's root".into())?;
        let made = terminal::make(&Tree::new(root), size)?;
        match console {
            Some(socket) => terminal::send(&socket, &made.master)?,
            None => self.sync.say(&Said::Terminal(made.master))?,
        }
        Ok(made.slave)
    }
}
