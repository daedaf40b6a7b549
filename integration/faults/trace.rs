//! Runs a command under ptrace(2), counts the system calls of each process of the runtime in order of
//! birth, and lets one fault happen at one of them.
//!
//! Processes are followed from the moment they execute the runtime until they execute something else:
//! the container's program and hooks are no part of the runtime. Threads count with their process.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// No answer may take longer.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What happens at a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL before the kernel has done it.
    KillAtEntry,
    /// SIGKILL when the kernel has done it.
    KillAtExit,
    /// The kernel does not do it and answers this.
    Fail(Errno),
}

/// One fault at one place.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Which process of the runtime, in order of birth.
    pub process: usize,
    /// Which of its system calls, from 0.
    pub call: usize,
    pub fault: Fault,
}

/// How a traced command ended.
#[derive(Debug, Default, Clone)]
pub struct Traced {
    /// Exit status, or 128 and the signal; none when it had to be killed because it did not answer.
    pub code: Option<i32>,
    pub stderr: String,
    /// The numbers of the system calls of each process; of all without a point, else up to the point.
    pub calls: Vec<Vec<i64>>,
    /// The system call at which the fault happened.
    pub hit: Option<i64>,
}

/// System calls that are not made to fail. They have no failure (`getpid`, `umask`; `brk` answers with a
/// break and never with an error), do not come back (`exit`, `rt_sigreturn`), or belong to a language's
/// own machinery, which takes their failure for the end of the world, as it may: the kernel fails them
/// for wrong arguments only (`futex`, `arch_prctl`).
const CANNOT_FAIL: &[i64] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_umask,
    libc::SYS_brk,
    libc::SYS_sched_yield,
    libc::SYS_futex,
    libc::SYS_arch_prctl,
    libc::SYS_set_tid_address,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
];

/// Whether a system call can fail in this way. Sleep can only be interrupted, and what else close(2) may
/// answer comes from network file systems that write late: Rust's library takes both for a mistake in
/// the program.
pub fn can_fail(number: i64, errno: Errno) -> bool {
    let interrupted_only = [libc::SYS_close, libc::SYS_clock_nanosleep].contains(&number);
    !CANNOT_FAIL.contains(&number) && (!interrupted_only || errno == Errno::EINTR)
}

/// Runs `script` in a shell with `RT` as the place to put a fault in, its output going to `out`.
///
/// The tracer is a thread of its own: with its end the kernel lets go of all that it follows.
pub fn run(script: &str, point: Option<Point>, out: &Path) -> Traced {
    let main = Arc::new(AtomicI32::new(0));
    let result = Arc::new(Mutex::new(Traced::default()));
    let (done, wait) = channel();
    let thread = {
        let (script, out, main, result) = (script.to_owned(), out.to_owned(), Arc::clone(&main), Arc::clone(&result));
        std::thread::spawn(move || {
            let traced = Tracer::start(&script, point, &out, &main).follow();
            *result.lock().unwrap() = traced;
            let _ = done.send(());
        })
    };
    let hung = wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
    if hung {
        let _ = kill(Pid::from_raw(main.load(Ordering::SeqCst)), Signal::SIGKILL);
    }
    thread.join().unwrap();
    let mut traced = result.lock().unwrap().clone();
    if hung {
        traced.code = None;
    }
    traced
}

/// A process or thread that is followed.
#[derive(Clone, Copy)]
struct Followed {
    /// Its process, as an index in order of birth; none for the shell around the runtime.
    process: Option<usize>,
    /// The stop at a system call that comes next is the exit.
    in_call: bool,
    /// What the system call that it is in shall answer.
    answer: Option<Errno>,
}

struct Tracer<'t> {
    main: Pid,
    point: Option<Point>,
    out: &'t Path,
    tasks: HashMap<Pid, Followed>,
    /// Index by process id.
    processes: HashMap<i32, usize>,
    traced: Traced,
}

impl<'t> Tracer<'t> {
    #[allow(clippy::zombie_processes)] // it is waited for with all others
    fn start(script: &str, point: Option<Point>, out: &'t Path, main: &AtomicI32) -> Tracer<'t> {
        let path = out.with_extension("errors");
        let mut command = Command::new("sh");
        // It waits for a line until it is followed.
        command.args(["-c", &format!("read -r go; exec </dev/null; {script}")]);
        command.stdin(Stdio::piped()).stdout(File::create(out).unwrap()).stderr(File::create(path).unwrap());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        main.store(pid.as_raw(), Ordering::SeqCst);
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(pid, options).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        Tracer { main: pid, point, out, tasks: HashMap::new(), processes: HashMap::new(), traced: Traced::default() }
    }

    /// Until the command ends, and a little longer where the fault lies in a process that outlives it.
    fn follow(mut self) -> Traced {
        let mut ended: Option<Instant> = None;
        loop {
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let flags = if ended.is_some() { flags | WaitPidFlag::WNOHANG } else { flags };
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::Exited(pid, code)) => self.gone(pid, code, &mut ended),
                Ok(WaitStatus::Signaled(pid, signal, _)) => self.gone(pid, 128 + signal as i32, &mut ended),
                Ok(WaitStatus::PtraceSyscall(pid)) => self.at_call(pid),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => self.at_event(pid, event),
                Ok(WaitStatus::Stopped(pid, signal)) => self.go_on(pid, Some(signal)),
                Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(200)),
                Err(Errno::ECHILD) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => panic!("waitpid: {error}"),
            }
            let unanswered = self.tasks.values().any(|task| task.answer.is_some());
            let late = self.point.is_some_and(|point| point.process > 0 && self.traced.hit.is_none()) || unanswered;
            let patience = Duration::from_millis(if late { 50 } else { 0 });
            if ended.is_some_and(|since| since.elapsed() >= patience) {
                break;
            }
        }
        self.traced.stderr = fs::read_to_string(self.out.with_extension("errors")).unwrap_or_default();
        self.traced
    }

    fn gone(&mut self, pid: Pid, code: i32, ended: &mut Option<Instant>) {
        self.tasks.remove(&pid);
        if pid == self.main {
            self.traced.code = Some(code);
            *ended = Some(Instant::now());
        }
    }

    /// What is known of a task; one that is new belongs where its process does.
    fn task(&mut self, pid: Pid) -> Followed {
        if let Some(task) = self.tasks.get(&pid) {
            return *task;
        }
        let group = thread_group(pid);
        let process = match self.processes.get(&group) {
            Some(index) => Some(*index),
            None if runs_the_runtime(pid) => Some(self.birth(group)),
            None => None,
        };
        let task = Followed { process, in_call: false, answer: None };
        self.tasks.insert(pid, task);
        task
    }

    fn birth(&mut self, group: i32) -> usize {
        self.traced.calls.push(Vec::new());
        self.processes.insert(group, self.traced.calls.len() - 1);
        self.traced.calls.len() - 1
    }

    fn at_event(&mut self, pid: Pid, event: i32) {
        let task = self.task(pid);
        if event == libc::PTRACE_EVENT_EXEC && !runs_the_runtime(pid) && !runs_a_shell(pid) {
            self.tasks.remove(&pid);
            self.processes.remove(&pid.as_raw());
            let _ = ptrace::detach(pid, None);
            return;
        }
        if event == libc::PTRACE_EVENT_EXEC && task.process.is_none() && runs_the_runtime(pid) {
            let process = Some(self.birth(pid.as_raw()));
            self.tasks.insert(pid, Followed { process, in_call: true, answer: None });
        }
        self.go_on(pid, None);
    }

    /// At the entry to or the exit from a system call.
    fn at_call(&mut self, pid: Pid) {
        let mut task = self.task(pid);
        task.in_call = !task.in_call;
        if task.in_call {
            // One that cannot be looked at has been killed meanwhile.
            let Ok(registers) = ptrace::getregs(pid) else { return };
            let number = registers.orig_rax as i64;
            if let Some(process) = task.process {
                self.traced.calls[process].push(number);
                if self.is_here(process) && self.strike_at_entry(pid, registers, &mut task) {
                    return;
                }
            }
        } else if let Some(errno) = task.answer.take() {
            let Ok(mut registers) = ptrace::getregs(pid) else { return };
            registers.rax = -i64::from(errno as i32) as u64;
            let _ = ptrace::setregs(pid, registers);
        } else if let (Some(process), Some(Point { fault: Fault::KillAtExit, .. })) = (task.process, self.point)
            && self.is_here(process)
        {
            self.traced.hit = self.traced.calls[process].last().copied();
            self.kill(pid);
            return;
        }
        self.tasks.insert(pid, task);
        self.go_on(pid, None);
    }

    /// Whether the last call that was counted is the chosen one, and nothing has happened yet.
    fn is_here(&self, process: usize) -> bool {
        self.traced.hit.is_none()
            && self
                .point
                .is_some_and(|point| point.process == process && self.traced.calls[process].len() == point.call + 1)
    }

    /// True when the task is no more.
    fn strike_at_entry(&mut self, pid: Pid, mut registers: libc::user_regs_struct, task: &mut Followed) -> bool {
        let number = registers.orig_rax as i64;
        match self.point.map(|point| point.fault) {
            Some(Fault::KillAtEntry) => {
                self.traced.hit = Some(number);
                self.kill(pid);
                return true;
            }
            Some(Fault::Fail(errno)) if can_fail(number, errno) => {
                self.traced.hit = Some(number);
                task.answer = Some(errno);
                // A close(2) that fails has closed.
                if number != libc::SYS_close {
                    registers.orig_rax = u64::MAX;
                    let _ = ptrace::setregs(pid, registers);
                }
            }
            _ => {}
        }
        false
    }

    fn kill(&mut self, pid: Pid) {
        self.tasks.remove(&pid);
        let _ = kill(Pid::from_raw(thread_group(pid)), Signal::SIGKILL);
    }

    /// Only the chosen process stops at each call, and only until the fault has happened.
    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        let task = self.task(pid);
        let counted = match self.point {
            None => true,
            Some(point) => self.traced.hit.is_none() && task.process == Some(point.process),
        };
        // One that has left is waited for as any other.
        let _ = if counted || task.answer.is_some() { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }
}

fn thread_group(pid: Pid) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(pid.as_raw())
}

fn program(pid: Pid) -> String {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn runs_a_shell(pid: Pid) -> bool {
    ["sh", "dash", "bash"].contains(&program(pid).as_str())
}

/// Everything that the container and the hooks run is busybox. A runtime that executes a copy of itself
/// may have no name any more.
fn runs_the_runtime(pid: Pid) -> bool {
    program(pid) != "busybox" && !runs_a_shell(pid)
}

/// The name of a system call, for people.
pub fn name(number: i64) -> String {
    crate::names::TABLE
        .iter()
        .find(|(_, numbers)| i64::from(numbers[0]) == number)
        .map_or_else(|| format!("system call {number}"), |(name, _)| (*name).to_owned())
}
