//! The words that parent and init say to each other over one socket pair.
//!
//! A message is one packet: a byte for its kind and the rest as payload. Either side sees the
//! other's death as the end of the stream, so neither can wait for ever.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, bail};
use rustix::event::Timespec;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

use crate::sys::error::At;
use crate::sys::signals::{Signals, Waited};

/// From the parent to init: "you may go on behind this point".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Go {
    /// The parent has heard of the process that an extra one has cloned.
    Known = b'k',
    /// The user namespace has its id maps.
    Mapped = b'm',
    /// The cgroup's directories are there, or init is in them already.
    CgroupMade = b'c',
    /// The prestart and createRuntime hooks have run.
    HooksRun = b'h',
    /// All that the parent does is done: limits, state on disk, pid file.
    Finish = b'f',
    /// The seccomp agent has the listener.
    Delivered = b'd',
    /// From `start`: run the program.
    Start = b's',
}

/// From init to the parent.
#[derive(Debug)]
pub enum Said {
    /// The root file system is ready, pivot_root has not happened: time for the runtime's hooks.
    Prepared,
    /// Only what [`Go::Finish`] allows is left.
    Ready,
    /// It is in the new user namespace, which it has made itself: time for the id maps.
    Joined,
    /// The process id of init, from the extra process that cloned it.
    Pid(i32),
    /// The master of the terminal.
    Terminal(OwnedFd),
    /// A mount that was made for somebody else.
    Mount(OwnedFd),
    /// The listener of the filter that is in force now.
    Listener(OwnedFd),
    /// What took how long, see [`super::timeline`].
    Timeline(Vec<u8>),
    /// It failed, in one line.
    Failed(String),
    /// The end: init has executed the program, or is gone.
    End,
}

/// The longest message. Lines are cut to fit.
const MAX: usize = 60_000;

/// Both ends.
pub fn pair() -> Result<(Channel, Channel)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at(|| "making a socket pair".into())?;
    Ok((Channel(one), Channel(other)))
}

/// The one word of a process that ends behind it, [`Said::End`] if it has said none. Its end is what is
/// waited for: what it has cloned holds the other side open, also when it was killed before its word.
pub fn last_word(sync: &Channel, process: &OwnedFd, signals: &Signals) -> Result<Said> {
    if let Waited::Signal(signal) = signals.wait_for(process, None)? {
        bail!("cut short by signal {signal}");
    }
    next_word(sync, process, signals)
}

/// The next word; [`Said::End`] also when the process has ended without one, whoever else holds the other
/// side open.
pub fn next_word(sync: &Channel, process: &OwnedFd, signals: &Signals) -> Result<Said> {
    const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    if let Waited::Signal(signal) = signals.wait_for_any([sync.as_fd(), process.as_fd()], None)? {
        bail!("cut short by signal {signal}");
    }
    match signals.wait_for(sync, Some(&NOW))? {
        Waited::Signal(signal) => bail!("cut short by signal {signal}"),
        Waited::TooLong => Ok(Said::End),
        Waited::Readable => sync.listen(),
    }
}

/// One sendmsg(2), with a descriptor in it; how many bytes of the message went.
pub(super) fn send_with(
    socket: impl AsFd,
    message: &[IoSlice<'_>],
    fd: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, message, &mut control, SendFlags::NOSIGNAL)
}

fn talking() -> String {
    "talking to the other side of the set-up".into()
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// The end of a socket that speaks the same language.
    pub fn of(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// The same end once more, for another thread.
    pub fn duplicate(&self) -> std::io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Lets the other side go on; `false` when there is none any more. Why, it may have said.
    pub fn go(&self, go: Go) -> Result<bool> {
        match self.send(go as u8, &[], None) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(false),
            Err(error) => Err(error).at(talking),
        }
    }

    /// Waits for the parent's word.
    pub fn wait(&self, go: Go) -> Result<()> {
        // One byte is the whole of it: there is room to see that more has come.
        let mut kind = [0; 2];
        let got = loop {
            match recv(&self.0, &mut kind, RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.map_or(0, |(length, _)| length),
            }
        };
        if got == 1 && kind[0] == go as u8 {
            Ok(())
        } else {
            bail!("the runtime ended while the container was being set up")
        }
    }

    /// Tells the parent something.
    pub fn say(&self, said: &Said) -> Result<()> {
        match said {
            Said::Prepared => self.send(b'p', &[], None),
            Said::Ready => self.send(b'r', &[], None),
            Said::Joined => self.send(b'j', &[], None),
            Said::Pid(pid) => self.send(b'i', &pid.to_le_bytes(), None),
            Said::Terminal(master) => self.send(b't', &[], Some(master.as_fd())),
            Said::Mount(mount) => self.send(b'o', &[], Some(mount.as_fd())),
            Said::Listener(listener) => self.send(b'n', &[], Some(listener.as_fd())),
            Said::Timeline(bytes) => self.send(b'l', bytes, None),
            Said::Failed(line) => self.send(b'e', line.as_bytes(), None),
            Said::End => Ok(()),
        }
        .at(talking)
    }

    /// Waits for init's next word.
    pub fn listen(&self) -> Result<Said> {
        let (kind, payload, fd) = self.receive()?;
        Ok(match (kind, fd) {
            (None, _) => Said::End,
            (Some(b'p'), _) => Said::Prepared,
            (Some(b'r'), _) => Said::Ready,
            (Some(b'j'), _) => Said::Joined,
            (Some(b'i'), _) if payload.len() == 4 => {
                Said::Pid(i32::from_le_bytes([payload[0], payload[1], payload[2], payload[3]]))
            }
            (Some(b't'), Some(master)) => Said::Terminal(master),
            (Some(b'o'), Some(mount)) => Said::Mount(mount),
            (Some(b'n'), Some(listener)) => Said::Listener(listener),
            (Some(b'l'), _) => Said::Timeline(payload),
            (Some(b'e'), _) => Said::Failed(String::from_utf8_lossy(&payload).into_owned()),
            (Some(other), _) => bail!("init said {other}, which is no word of the protocol"),
        })
    }

    fn send(&self, kind: u8, payload: &[u8], fd: Option<BorrowedFd<'_>>) -> rustix::io::Result<()> {
        let payload = &payload[..payload.len().min(MAX)];
        send_with(&self.0, &[IoSlice::new(&[kind]), IoSlice::new(payload)], fd).map(drop)
    }

    fn receive(&self) -> Result<(Option<u8>, Vec<u8>, Option<OwnedFd>)> {
        // Most messages are a byte; the long ones end the set-up.
        let mut short = [0; 256];
        let mut long = Vec::new();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let peeked = loop {
            match recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut short)],
                &mut control,
                RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC,
            ) {
                // It ended with a word of ours unread. The kernel says so once, and before it hands out
                // what the other side had said.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other.at(|| "listening to the other side of the set-up".into())?,
            }
        };
        drop(control);
        if peeked.bytes == 0 {
            return Ok((None, Vec::new(), None));
        }
        let buffer: &mut [u8] = if peeked.flags.contains(ReturnFlags::TRUNC) {
            long.resize(MAX + 1, 0);
            &mut long
        } else {
            &mut short
        };
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut *buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other.at(|| "listening to the other side of the set-up".into())?,
            }
        };
        let mut fd = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message {
                fd = fds.next();
            }
        }
        Ok((Some(buffer[0]), buffer[1..got.bytes.max(1)].to_vec(), fd))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_were_said() {
        let (parent, init) = pair().unwrap();
        parent.go(Go::Mapped).unwrap();
        init.wait(Go::Mapped).unwrap();
        init.say(&Said::Pid(4242)).unwrap();
        init.say(&Said::Failed("x".repeat(50_000))).unwrap();
        init.say(&Said::Ready).unwrap();
        assert!(matches!(parent.listen().unwrap(), Said::Pid(4242)));
        assert!(matches!(parent.listen().unwrap(), Said::Failed(line) if line.len() == 50_000));
        assert!(matches!(parent.listen().unwrap(), Said::Ready));
    }

    #[test]
    fn a_descriptor_travels_once() {
        let (parent, init) = pair().unwrap();
        let (_read, write) = rustix::pipe::pipe().unwrap();
        init.say(&Said::Terminal(write)).unwrap();
        assert!(matches!(parent.listen().unwrap(), Said::Terminal(_)));
    }

    #[test]
    fn last_words_are_heard() {
        let (parent, init) = pair().unwrap();
        parent.go(Go::CgroupMade).unwrap();
        init.say(&Said::Failed("why".into())).unwrap();
        drop(init);
        assert!(matches!(parent.listen().unwrap(), Said::Failed(line) if line == "why"));
        assert!(matches!(parent.listen().unwrap(), Said::End));
    }

    #[test]
    fn death_is_heard() {
        let (parent, init) = pair().unwrap();
        drop(init);
        assert!(matches!(parent.listen().unwrap(), Said::End));
        let (parent, init) = pair().unwrap();
        drop(parent);
        assert!(init.wait(Go::CgroupMade).is_err());
    }

    #[test]
    fn fuzz_messages() {
        let seeds: [&[u8]; 6] =
            [b"p", b"r", b"i\x01\x02\x03\x04", b"t", b"l\x01\x00\x00\x00\x00\x00\x00\x00", b"efailed"];
        crate::fuzz::fuzz(&seeds, |bytes| {
            let (one, other) = pair().unwrap();
            if !bytes.is_empty() && bytes.len() < MAX {
                rustix::net::send(&other.0, bytes, SendFlags::NOSIGNAL).unwrap();
                let _ = one.listen();
                rustix::net::send(&other.0, bytes, SendFlags::NOSIGNAL).unwrap();
                let waited = one.wait(Go::Finish).is_ok();
                assert_eq!(waited, bytes == [Go::Finish as u8]);
            }
            drop(other);
            assert!(matches!(one.listen(), Ok(Said::End)));
        });
    }
}
