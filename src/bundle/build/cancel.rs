//! The end of a build before its time: a signal, or a step that has failed. Who works asks from time to time; commands
//! that run are killed.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

use crate::container::runtime::Runtime;

/// Another step has failed: what is stopped by it is no news.
const FAILED: i32 = -1;

/// See the head of the file.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// A signal's number, or [`FAILED`].
    reason: AtomicI32,
    running: Mutex<Vec<(u64, Runtime)>>,
    count: AtomicU64,
}

/// The error of who was stopped.
#[derive(Debug)]
pub struct Cancelled(pub i32);

impl std::fmt::Display for Cancelled {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Signal::try_from(self.0) {
            Ok(signal) => write!(to, "the build was ended by {signal}"),
            Err(_) => to.write_str("another step has failed"),
        }
    }
}

impl std::error::Error for Cancelled {}

impl Cancel {
    /// Takes SIGINT, SIGTERM and SIGHUP from now on: the first ends the build, a second one the program at once. Must be
    /// called before there are threads.
    pub fn take_signals() -> Result<Self> {
        let cancel = Self::default();
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().context("blocking signals")?;
        let of_thread = cancel.clone();
        std::thread::spawn(move || {
            if let Ok(signal) = signals.wait() {
                of_thread.stop(signal as i32);
            }
            // What is fetched or written just now is not waited for: the next command sweeps it.
            if let Ok(signal) = signals.wait() {
                std::process::exit(128 + signal as i32);
            }
        });
        Ok(cancel)
    }

    /// A step has failed.
    pub fn fail(&self) {
        self.stop(FAILED);
    }

    fn stop(&self, reason: i32) {
        let _ = self.0.reason.compare_exchange(0, reason, Ordering::SeqCst, Ordering::SeqCst);
        for (_, runtime) in self.0.running.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            runtime.delete();
        }
    }

    /// An error where the build is to end.
    pub fn check(&self) -> Result<()> {
        match self.0.reason.load(Ordering::SeqCst) {
            0 => Ok(()),
            reason => bail!(Cancelled(reason)),
        }
    }

    /// Something runs, and is killed should the build end, until what is returned is dropped.
    pub fn running(&self, runtime: &Runtime) -> Running<'_> {
        let id = self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).push((id, runtime.clone()));
        Running(self, id)
    }

    /// The signal that has ended the build.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.reason.load(Ordering::SeqCst)).filter(|it| *it > 0)
    }
}

/// See [`Cancel::running`].
pub struct Running<'a>(&'a Cancel, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.0.running.lock().unwrap_or_else(PoisonError::into_inner).retain(|it| it.0 != self.1);
    }
}
