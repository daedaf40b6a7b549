//! What rustix, nix and std do not have; the only `unsafe` of `bundle`.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::io::Errno;

/// Has the kernel kill a child that is about to be started when we die (prctl(2), PR_SET_PDEATHSIG).
pub fn die_with_us(command: &mut Command) {
    let set = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call and touches no memory but its stack.
    unsafe {
        command.pre_exec(set);
    }
}

/// A child starts with the signals blocked that its parent has blocked: this one with none.
pub fn unblock_signals(command: &mut Command) {
    let set = || Ok(SigSet::empty().thread_set_mask()?);
    // SAFETY: as above.
    unsafe {
        command.pre_exec(set);
    }
}

/// Sends a process a signal by its number, which may be one without a name: systemd ends by `SIGRTMIN+3`. Whether it
/// was there.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> bool {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads nothing where there is no siginfo_t, and writes nothing.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal, no_info, 0) == 0 }
}

/// A descriptor that the program was started with. It is not handed on to children. Each number once.
pub fn take_fd(number: RawFd) -> std::io::Result<OwnedFd> {
    use rustix::io::FdFlags;
    // SAFETY: the borrow ends within this function; a number that is not open is an error of the first call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nobody else in this program has it: it was named on the command line for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes all descriptors from 3 on but these, which are sorted: what our caller had open is none of ours
/// (close_range(2), Linux 5.9).
pub fn close_all_but(keep: &[RawFd]) {
    let mut first = 3;
    for last in keep.iter().map(|it| *it as libc::c_uint - 1).chain([libc::c_uint::MAX]) {
        if first <= last {
            // SAFETY: nothing in this program owns them: it is called before anything is opened.
            unsafe { libc::close_range(first, last, 0) };
        }
        first = last.saturating_add(2);
    }
}

/// The first fields of `struct pidfd_info` (linux/pidfd.h, Linux 6.13), and the size that the kernel knows it by.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// How a process ended that was no child of ours, by a pidfd that was opened while it lived: the status as wait(2)
/// gives it. `None` while it lives, and before Linux 6.15.
pub fn exit_of(pidfd: impl AsFd) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info)
    const PIDFD_GET_INFO: u64 = 0xC000_FF0B | (size_of::<PidfdInfo>() as u64) << 16;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the size that the request's number names, which is that of `info`.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// mount_setattr(2) (Linux 5.12) on the mount that `fd` refers to, and with `recursive` on all below it. `set` has
/// `MOUNT_ATTR_*`; `propagation` is one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or 0; `userns` is wanted with
/// `MOUNT_ATTR_IDMAP`.
pub fn mount_setattr(
    fd: impl AsFd,
    recursive: bool,
    set: u64,
    propagation: u64,
    userns: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant, and `attr` outlives the call, which only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 {
        return Err(last_error());
    }
    Ok(())
}

/// Turns on one of the switches of a netlink socket (netlink(7), `NETLINK_*`).
pub fn netlink_option(socket: impl AsFd, option: i32) -> rustix::io::Result<()> {
    let on: libc::c_int = 1;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `size` bytes of `on`, which outlives the call.
    let result = unsafe { libc::setsockopt(socket, libc::SOL_NETLINK, option, (&raw const on).cast(), size) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags};

    #[test]
    fn the_status_of_a_process_that_is_gone() {
        let mut child =
            Command::new("sh").args(["-c", "read x; exit 7"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pidfd = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(exit_of(&pidfd), None);
        drop(child.stdin.take());
        child.wait().unwrap();
        // The kernel of this machine may be older: then it is not known, and never wrong.
        assert!(matches!(exit_of(&pidfd), None | Some(0x700)));
    }
}
