//! `criu swrk`: a CRIU that serves one request over a socket it inherits.

use std::ffi::{CStr, CString};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Result, anyhow, bail};
use prost::Message;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::rpc::{Kind, Request, Response};
use crate::sys;
use crate::sys::error::{At, text};
use crate::sys::signals::{Signals, Waited};

/// The longest message of CRIU's that is understood; theirs are far shorter.
const LONGEST: usize = 64 * 1024;

/// A CRIU that waits for requests.
#[derive(Debug)]
pub struct Worker {
    socket: OwnedFd,
    pidfd: OwnedFd,
    /// Process id.
    pub pid: i32,
}

/// What a notification brings: its name, a process, a descriptor.
pub struct Notice<'n> {
    /// The point that CRIU has come to.
    pub point: &'n str,
    /// Init, where there is one.
    pub pid: Option<i32>,
    /// The terminal's master, with `orphan-pts-master`.
    pub fd: Option<OwnedFd>,
}

impl Worker {
    /// Executes CRIU in a process of its own, which gets the descriptors of `keep` under the same numbers,
    /// and our standard streams unless it is to be quiet.
    pub fn start(criu: &CStr, keep: &[RawFd], quiet: bool) -> Result<Worker> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .at(|| "making a socket for CRIU".into())?;
        let cloned = sys::clone3(0, None).at(|| "cloning a process for CRIU".into())?;
        match cloned {
            sys::Cloned::Parent { pid, pidfd } => Ok(Worker { socket: ours, pidfd, pid }),
            sys::Cloned::Child => {
                let quiet = if quiet { no_streams() } else { Ok(()) };
                let Err(error) = quiet.and_then(|()| execute(criu, &theirs, keep));
                // Said in CRIU's own words, so that the parent need not tell the two apart.
                let failure = Response { message: Some(format!("{error:#}")), ..Response::default() };
                let _ = send(&theirs, &failure.encode_to_vec());
                std::process::exit(1);
            }
        }
    }

    /// Asks, and answers notifications until the response is there. A signal that ends us is an error
    /// where `signals` are given; without, CRIU is waited for.
    pub fn ask(
        &self,
        request: &Request,
        signals: Option<&Signals>,
        mut notified: impl FnMut(Notice<'_>) -> Result<()>,
    ) -> Result<Response> {
        // One that could not be started has said why already.
        let sent = send(&self.socket, &request.encode_to_vec());
        loop {
            if let Some(signals) = signals
                && let Waited::Signal(signal) = signals.wait_for(&self.socket, None)?
            {
                bail!("cut short by signal {signal}");
            }
            let Some((bytes, fd)) = receive(&self.socket)? else {
                sent.at(|| "asking CRIU".into())?;
                bail!("CRIU ended without an answer");
            };
            let response = Response::decode(&*bytes).map_err(|error| anyhow!("CRIU's answer is damaged: {error}"))?;
            if !response.success {
                bail!("CRIU failed: {}", why(&response));
            }
            if response.kind != Kind::Notify as i32 {
                return Ok(response);
            }
            let notice = response.notify.unwrap_or_default();
            let done = notified(Notice { point: notice.script.as_deref().unwrap_or_default(), pid: notice.pid, fd });
            let answer =
                Request { kind: Kind::Notify as i32, notify_success: Some(done.is_ok()), ..Request::default() };
            send(&self.socket, &answer.encode_to_vec()).at(|| "answering CRIU".into())?;
            done?;
        }
    }

    /// Waits for its end. `true` if that was a good one.
    pub fn end(self) -> bool {
        drop(self.socket);
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten();
        status.is_some_and(|status| status.exit_status() == Some(0))
    }

    /// Kills it.
    pub fn kill(self) {
        let _ = sys::pidfd_send_signal(&self.pidfd, libc::SIGKILL);
        self.end();
    }
}

fn why(response: &Response) -> String {
    match (&response.message, response.errno) {
        // It gives the first error of its log there, which need not be the one that matters.
        (Some(message), _) if !message.is_empty() && !message.starts_with("Error (") => message.trim().to_owned(),
        (_, Some(errno)) if errno != 0 => text(&std::io::Error::from_raw_os_error(errno)),
        _ => "no reason given".to_owned(),
    }
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<()> {
    let mut none = SendAncillaryBuffer::default();
    sendmsg(socket, &[IoSlice::new(bytes)], &mut none, SendFlags::NOSIGNAL).map(drop)
}

/// One message and the descriptor that came with it; nothing at the end.
fn receive(socket: &OwnedFd) -> Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = match received {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error).at(|| "listening to CRIU".into()),
    };
    if length == 0 {
        return Ok(None);
    }
    if length == bytes.len() {
        bail!("CRIU's answer is too long");
    }
    bytes.truncate(length);
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((bytes, fd)))
}

fn no_streams() -> Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .at(|| "opening /dev/null".into())?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null))
        .at(|| "closing the standard streams".into())
}

fn execute(criu: &CStr, socket: &OwnedFd, keep: &[RawFd]) -> Result<std::convert::Infallible> {
    let socket = socket.as_raw_fd();
    let mut all: Vec<RawFd> = keep.iter().copied().chain([socket]).collect();
    sys::close_all_but(&mut all).at(|| "closing descriptors".into())?;
    all.iter().try_for_each(|fd| sys::keep_open(*fd)).at(|| "keeping descriptors open".into())?;
    sys::reset_signals().at(|| "resetting signals".into())?;
    let number = CString::new(socket.to_string())?;
    // It runs tar, ip and others, which it finds by our PATH.
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect();
    let error = nix::unistd::execve(criu, &[c"criu", c"swrk", &number], &env).unwrap_err();
    let path = Path::new(std::ffi::OsStr::from_bytes(criu.to_bytes()));
    bail!("executing {}: {}", path.display(), text(&error.into()))
}
