//! The program's entry, in the place of the standard library's.
//!
//! What that one does before `fn main` this program has no use for: it reads /proc/self/maps and
//! installs a handler for stack overflows, which makes a fifth of the time of a short command.
//! What is of use is done here: standard streams that are closed are opened on /dev/null, so that
//! no other file gets their number, and SIGPIPE is ignored, so that a closed pipe is an error that
//! is cleaned up after.

use std::convert::Infallible;
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use libc::c_char;
use rustix::io::Errno;

/// What execve(2) gave this process. With a libc that hands `main`'s arguments to nobody else,
/// `std::env::args` is empty.
#[derive(Debug, Clone, Copy)]
pub struct Arguments {
    count: usize,
    words: *const *const c_char,
    environment: *const *const c_char,
}

impl Arguments {
    /// The words of the command line, the program's name first.
    pub fn iter(self) -> impl Iterator<Item = &'static OsStr> + Clone {
        // SAFETY: the kernel has put `count` pointers to NUL-terminated strings on the stack's bottom,
        // where they stay as long as the process.
        (0..self.count).map(move |at| unsafe { OsStr::from_bytes(CStr::from_ptr(*self.words.add(at)).to_bytes()) })
    }

    /// execveat(2) of an open program with the same words and environment.
    pub fn execute_again(self, program: impl AsFd) -> std::result::Result<Infallible, Errno> {
        // SAFETY: both lists end with a null pointer, as the kernel has made them; it returns only with
        // an error.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                program.as_fd().as_raw_fd(),
                c"".as_ptr(),
                self.words,
                self.environment,
                libc::AT_EMPTY_PATH,
            )
        };
        Err(super::last())
    }
}

/// Called by the C library's start-up code.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, words: *const *const c_char, environment: *const *const c_char) -> libc::c_int {
    for fd in 0..3 {
        if !super::is_open(fd) {
            // SAFETY: a constant path; the descriptor stays open for good. The lowest free number
            // is `fd`, since those below are open.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // Without unwinding (a panic aborts) nothing can pass through this frame.
    crate::run(Arguments { count: count as usize, words, environment })
}
