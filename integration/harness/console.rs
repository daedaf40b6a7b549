//! The engine's end of a console socket.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Takes the one terminal that a runtime sends.
pub fn receive(listener: &UnixListener) -> OwnedFd {
    let (socket, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let message = recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    assert!(message.bytes > 0, "a message without a byte is lost on some receivers");
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|part| if let RecvAncillaryMessage::ScmRights(fds) = part { Some(fds) } else { None })
        .flatten()
        .collect();
    let [master] = <[OwnedFd; 1]>::try_from(fds).unwrap();
    let mut rest = Vec::new();
    (&socket).read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "the socket is closed after one message");
    master
}
