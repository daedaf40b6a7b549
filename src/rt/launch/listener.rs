//! The listener of a filter that notifies (seccomp_unotify(2)): from the process that has loaded the
//! filter to the agent, which decides over its system calls from then on.
//!
//! Between the two lies a moment in which nobody answers, and in which the process, whose filter may
//! hand any call to the agent or forbid it, cannot make one. So a courier does: a thread, which has the
//! listener as soon as there is one, but not the filter, and which execve ends. It hands the listener to
//! the command, which knows the container's state and the way to the agent on the host.
//!
//! | process | courier | command |
//! |---|---|---|
//! | loads the filter, stores the listener's number | looks for it | waits |
//! | waits, without a call | *listener* → | sends it to the agent |
//! | | | ← *delivered* |
//! | executes the program | stores that | |

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};
use serde::Serialize;
use serde_json::Value;

use super::sync::{Channel, Go, Said, send_with};
use crate::state::{SPEC_VERSION, State, Status};
use crate::sys;
use crate::sys::error::{At, errno};

/// How long the agent may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is stored instead of a descriptor's number.
const NOTHING: i32 = -1;
const DELIVERED: i32 = -2;
const FAILED: i32 = -3;

/// Turns of a loop without a system call: some tens of seconds, longer than [`PATIENCE`].
const LONGEST_WAIT: u64 = 1 << 31;

/// In the process that loads the filter: its thread without one.
pub(super) struct Courier(Arc<AtomicI32>);

impl Courier {
    /// Starts it.
    pub(super) fn send(command: &Channel) -> Result<Courier> {
        let what = || "/linux/seccomp: preparing for the agent".to_owned();
        let command = command.duplicate().at(what)?;
        let number = Arc::new(AtomicI32::new(NOTHING));
        let here = Arc::clone(&number);
        let work = move || {
            let word = if carry(&here, &command).is_ok() { DELIVERED } else { FAILED };
            here.store(word, Ordering::Release);
        };
        std::thread::Builder::new().stack_size(64 << 10).spawn(work).at(what)?;
        Ok(Courier(number))
    }

    /// Hands the listener over and waits until the agent has it. No system call: there may be nobody yet
    /// who would answer it.
    pub(super) fn deliver(&self, listener: RawFd) -> Result<()> {
        self.0.store(listener, Ordering::Release);
        for _ in 0..LONGEST_WAIT {
            match self.0.load(Ordering::Acquire) {
                DELIVERED => return Ok(()),
                FAILED => break,
                _ => std::hint::spin_loop(),
            }
        }
        bail!("/linux/seccomp/listenerPath: the agent has not got the listener")
    }
}

/// The courier's way. Should the filter not be loaded, the whole process ends.
fn carry(number: &AtomicI32, command: &Channel) -> Result<()> {
    let listener = loop {
        match number.load(Ordering::Acquire) {
            NOTHING => std::thread::sleep(Duration::from_micros(20)),
            listener => break sys::own(listener),
        }
    };
    command.say(&Said::Listener(listener))?;
    command.wait(Go::Delivered)
}

/// In the command: sends the listener to the agent, with the state of the container and the number of
/// the process (config-linux.md, "The Container Process State"), and tells the courier.
pub fn hand_on(listener: &OwnedFd, state: &State<'_>, status: Status, pid: i32, courier: &Channel) -> Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ContainerProcessState<'s> {
        oci_version: &'static str,
        fds: [&'static str; 1],
        pid: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'s str>,
        state: Value,
    }
    let agent = state.agent.as_ref().ok_or_else(|| anyhow!("a listener that nobody asked for"))?;
    let message = ContainerProcessState {
        oci_version: SPEC_VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: agent.metadata.as_deref(),
        state: serde_json::from_str(&state.spec_json(status, state.pid))?,
    };
    send_to(&agent.path, &serde_json::to_vec(&message)?, listener)
        .map_err(|error| anyhow!("/linux/seccomp/listenerPath: the agent at {}: {}", agent.path, errno(error)))?;
    courier.go(Go::Delivered).map(drop)
}

/// One connection, one message; the descriptor goes with its first bytes.
fn send_to(path: &str, message: &[u8], listener: &OwnedFd) -> rustix::io::Result<()> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut sent = send_with(&socket, &[std::io::IoSlice::new(message)], Some(listener.as_fd()))?;
    while sent < message.len() {
        sent += send(&socket, &message[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}
