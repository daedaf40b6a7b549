//! ptrace(2), as far as the recorder needs it; the only `unsafe`. By hand because a wait status with
//! a real-time signal, which thread libraries send, is an error to the crates that wrap waitpid(2).

#![allow(unsafe_code)]

use std::io::{Error, Result};

const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC;

/// Why a thread does not run.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// It has ended.
    Ended,
    /// It enters or leaves a system call.
    Call,
    /// It runs another program.
    Exec,
    /// It is new, was just seized, or has a new child.
    Event,
    /// It was stopped by a signal, as for job control, and is to stay so.
    Group,
    /// It is about to be given this signal.
    Signal(i32),
}

/// Closes what runtime and engine have passed on without meaning to: an engine that waits for the end of
/// a pipe must not wait for the recorder.
pub fn close_inherited() {
    // SAFETY: called before the recorder has opened anything but its standard streams.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Becomes the tracer of a thread and of all that come from it.
pub fn seize(thread: i32) -> Result<()> {
    request(libc::PTRACE_SEIZE, thread, OPTIONS as usize)?;
    // Only a thread that stands can be told to stop at its calls.
    request(libc::PTRACE_INTERRUPT, thread, 0)
}

/// Lets a thread run to its next call; `signal` is given to it, unless 0.
pub fn resume(thread: i32, signal: i32) -> Result<()> {
    request(libc::PTRACE_SYSCALL, thread, signal as usize)
}

/// Leaves a thread stopped, until SIGCONT.
pub fn listen(thread: i32) -> Result<()> {
    request(libc::PTRACE_LISTEN, thread, 0)
}

fn request(request: libc::c_uint, thread: i32, data: usize) -> Result<()> {
    // SAFETY: none of the requests above has the kernel write to memory of ours.
    match unsafe { libc::ptrace(request, thread, 0_usize, data) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits for the next thread that stops or ends; `None` when all have ended.
pub fn wait() -> Result<Option<(i32, Stop)>> {
    let mut status = 0;
    let thread = loop {
        // SAFETY: `status` is there to be written to.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if thread > 0 {
            break thread;
        }
        match Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            error if error.raw_os_error() == Some(libc::EINTR) => {}
            error => return Err(error),
        }
    };
    if !libc::WIFSTOPPED(status) {
        return Ok(Some((thread, Stop::Ended)));
    }
    let signal = libc::WSTOPSIG(status);
    let stop = match status >> 16 {
        0 if signal == libc::SIGTRAP | 0x80 => Stop::Call,
        0 => Stop::Signal(signal),
        libc::PTRACE_EVENT_EXEC => Stop::Exec,
        libc::PTRACE_EVENT_STOP if signal != libc::SIGTRAP => Stop::Group,
        _ => Stop::Event,
    };
    Ok(Some((thread, stop)))
}

/// The call that a thread is about to make: its architecture (`AUDIT_ARCH_…`) and number. `None` if
/// it is on the way back.
pub fn call(thread: i32) -> Result<Option<(u32, u64)>> {
    // SAFETY: a structure of numbers alone; all zeroes is one of its values.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes as many bytes as it is told to at most.
    let size = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size_of_val(&info), std::ptr::from_mut(&mut info))
    };
    if size < 0 {
        return Err(Error::last_os_error());
    }
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return Ok(None);
    }
    // SAFETY: `op` says that this is the member in use.
    Ok(Some((info.arch, unsafe { info.u.entry.nr })))
}
