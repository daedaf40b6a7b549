//! The only room with `unsafe`: thin, typed wrappers of the system calls that neither `rustix` nor
//! `nix` offers. It knows nothing of OCI; every function is one system call and says which.

#![allow(unsafe_code)]

pub mod bpf;
pub mod entry;
pub mod error;
pub mod file;
mod heap;
#[cfg(all(target_arch = "x86_64", any(test, target_env = "musl")))]
mod memory;
pub mod proc;
pub mod signals;

use std::ffi::CString;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_long, c_ulong, c_void};
use rustix::io::{Errno, Result};

/// What a system call returned, as a `Result`.
fn check(ret: c_long) -> Result<c_long> {
    if ret < 0 { Err(last()) } else { Ok(ret) }
}

/// The calling thread's errno.
fn last() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Both sides of [`clone3`].
pub enum Cloned {
    /// In the parent: the child and a pidfd for it.
    Parent {
        /// Process id in the caller's pid namespace.
        pid: i32,
        /// Close-on-exec descriptor of the process.
        pidfd: OwnedFd,
    },
    /// In the child.
    Child,
}

/// clone3(2) (Linux 5.3) without `CLONE_VM`: a fork into the namespaces of `flags`. SIGCHLD is sent
/// at exit. With `CLONE_PARENT` in `flags` no signal is chosen, as the kernel demands. With `cgroup`,
/// the directory of a v2 cgroup, the child is born there (`CLONE_INTO_CGROUP`, Linux 5.7).
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args: every optional pointer is null.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    if let Some(cgroup) = cgroup {
        // The C library's crate has it in a type that is too narrow.
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    args.exit_signal = if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 };
    // SAFETY: `args` and `pidfd` outlive the call. Without CLONE_VM the child has its own copy of
    // memory, and this program has one thread, so no lock can be held by a thread that is gone.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has stored a new descriptor that nobody else owns.
        pid => Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// mount_setattr(2) (Linux 5.12) on the mount that `fd` refers to.
///
/// `propagation` is one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE` or 0; `userns` is
/// wanted with `MOUNT_ATTR_IDMAP`.
pub fn mount_setattr(
    fd: impl AsFd,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
    userns: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let attr = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated constant and `attr` outlives the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(ret).map(drop)
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC` (Linux 5.11): every descriptor from `first` on closes
/// at execve.
pub fn cloexec_from(first: u32) -> Result<()> {
    // SAFETY: closing at exec touches no memory.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(ret).map(drop)
}

/// seccomp(2): loads `program` with `SECCOMP_SET_MODE_FILTER`. With `SECCOMP_FILTER_FLAG_NEW_LISTENER`
/// in `flags` (Linux 5.0) the result is the number of the listener's descriptor, which is nobody's yet.
pub fn seccomp_load(program: &[libc::sock_filter], flags: c_ulong) -> Result<RawFd> {
    let prog = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: `prog` points to `program`, which the kernel only reads.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) };
    check(ret).map(|fd| fd as RawFd)
}

/// A descriptor that the kernel has just given out, and that is nobody's yet.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the caller has the number from [`seccomp_load`] and gives it to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Whether seccomp(2) knows `action` (`SECCOMP_GET_ACTION_AVAIL`, Linux 4.14).
pub fn seccomp_action_available(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes.
    let ret =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0 as c_ulong, &raw const action) };
    ret == 0
}

/// The kernel's `struct sched_attr` (sched_setattr(2)), first published form.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) for `pid`, 0 for the caller.
pub fn sched_setattr(pid: i32, attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` has the size that it states.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attr, 0) }).map(drop)
}

/// ioprio_set(2) for the process `pid`, 0 for the caller.
pub fn ioprio_set(pid: i32, class: u16, level: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    let value = c_int::from(class) << 13 | c_int::from(level);
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) }).map(drop)
}

/// set_mempolicy(2); `nodes` is a bit mask of memory nodes, least significant word first.
pub fn set_mempolicy(mode: c_int, nodes: &[u64]) -> Result<()> {
    let (mask, bits) = if nodes.is_empty() { (std::ptr::null(), 0) } else { (nodes.as_ptr(), nodes.len() * 64 + 1) };
    // SAFETY: the kernel reads at most `bits` - 1 bits of `nodes`.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: a new session keyring called `name`.
pub fn join_session_keyring(name: &str) -> Result<()> {
    let Ok(name) = CString::new(name) else { return Err(Errno::INVAL) };
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret =
        unsafe { libc::syscall(libc::SYS_keyctl, c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING), name.as_ptr()) };
    check(ret).map(drop)
}

/// netdevice(7) `SIOCSIFFLAGS`: brings the loopback device of this network namespace up.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid ifreq; the name below fits and stays NUL-terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: `request` is an ifreq, which SIOCSIFFLAGS only reads.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    check(c_long::from(ret)).map(drop)
}

/// rt_sigaction(2) over all signals: every disposition that was inherited goes back to the default.
/// The C library's own call refuses the two signals that it keeps for threads, so it is not used.
fn reset_signal_dispositions() -> Result<()> {
    // The kernel's struct sigaction: handler, flags, restorer, mask. Zero is SIG_DFL.
    let default = [0 as c_ulong; 4];
    // These two have no other.
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: `default` is as large as the kernel's struct, which has an 8-byte mask.
        let ret = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<c_void>(), 8usize)
        };
        check(ret)?;
    }
    Ok(())
}

/// pidfd_send_signal(2) with any signal number, real-time ones included.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    // SAFETY: a null siginfo asks for the usual one.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(ret).map(drop)
}

/// prlimit(2) for `pid`, 0 for the caller. `u64::MAX` is no limit.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads `limit`, and a null pointer asks for no answer.
    let ret = unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, std::ptr::null_mut::<libc::rlimit64>())
    };
    check(ret).map(drop)
}

/// close_range(2) over everything from 3 on but `keep`: for a child that was forked with all of its
/// parent's descriptors and will never return into the parent's code.
pub fn close_all_but(keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.iter().copied().filter(|fd| *fd >= 3).chain([RawFd::MAX]) {
        if fd > from {
            let last = if fd == RawFd::MAX { u32::MAX } else { fd as u32 - 1 };
            // SAFETY: the caller owns no value that would use one of these numbers again.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) })?;
        }
        from = fd.saturating_add(1);
    }
    Ok(())
}

/// fcntl(2) `F_SETFD`: keeps an inherited descriptor open in the program that is executed.
pub fn keep_open(fd: RawFd) -> Result<()> {
    // SAFETY: changes a flag of a number; a closed one is EBADF.
    check(c_long::from(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })).map(drop)
}

/// Whether a descriptor of this number is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: reads a flag of a number.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// setns(2) into a namespace whose kind (`CLONE_NEW…`) the kernel checks.
pub fn setns(namespace: impl AsFd, kind: u64) -> Result<()> {
    // SAFETY: integers only; this program has one thread, so no other one is left behind.
    check(unsafe { libc::syscall(libc::SYS_setns, namespace.as_fd().as_raw_fd(), kind as c_int) }).map(drop)
}

/// unshare(2) with `CLONE_NEW…` flags.
pub fn unshare(flags: c_int) -> Result<()> {
    // SAFETY: no CLONE_FILES or CLONE_VM: only namespaces change.
    check(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}

/// ioctl_ns(2) `NS_GET_NSTYPE` (Linux 4.11): the `CLONE_NEW…` flag of a namespace file.
pub fn namespace_kind(namespace: impl AsFd) -> Result<u64> {
    const NS_GET_NSTYPE: c_ulong = 0xb703;
    // SAFETY: the request takes no argument.
    let ret = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    check(c_long::from(ret)).map(|kind| kind as u64)
}

/// ioctl_ns(2) `NS_GET_USERNS` (Linux 4.9): the user namespace that a namespace belongs to, if it is the
/// caller's or below it.
pub fn namespace_owner(namespace: impl AsFd) -> Result<OwnedFd> {
    const NS_GET_USERNS: c_ulong = 0xb701;
    // SAFETY: the request takes no argument.
    let ret = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), NS_GET_USERNS as _) };
    // SAFETY: a new descriptor that nobody else owns.
    check(c_long::from(ret)).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Default dispositions and an empty mask, as a fresh program expects them.
pub fn reset_signals() -> Result<()> {
    reset_signal_dispositions()?;
    let none = [0u8; 8];
    // SAFETY: the kernel reads an 8-byte mask and stores none.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            none.as_ptr(),
            std::ptr::null_mut::<c_void>(),
            8usize,
        )
    };
    check(ret).map(drop)
}
