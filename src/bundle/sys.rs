//! The only room with `unsafe`: system calls that neither rustix nor nix offers.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::{Errno, Result};

/// mount_setattr(2) (Linux 5.12) on the mount that `fd` refers to, and with `recursive` on all below it. `set` has
/// `MOUNT_ATTR_*`; `propagation` is one of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or 0; `userns` is wanted with
/// `MOUNT_ATTR_IDMAP`.
pub fn mount_setattr(
    fd: impl AsFd,
    recursive: bool,
    set: u64,
    propagation: u64,
    userns: Option<BorrowedFd<'_>>,
) -> Result<()> {
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
        return Err(Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
    }
    Ok(())
}
