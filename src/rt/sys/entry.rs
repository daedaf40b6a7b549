//! The program's entry, in the place of the standard library's.
//!
//! What that one does before `fn main` this program has no use for: it reads /proc/self/maps and
//! installs a handler for stack overflows, which makes a fifth of the time of a short command.
//! What is of use is done here: standard streams that are closed are opened on /dev/null, so that
//! no other file gets their number, and SIGPIPE is ignored, so that a closed pipe is an error that
//! is cleaned up after.

#![cfg(not(test))]

use libc::{c_char, c_int};

/// Called by the C library's start-up code, which has stored the arguments for `std::env`.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
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
    crate::run()
}
