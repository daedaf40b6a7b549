//! The little of netlink(7) that moving devices takes: requests with attributes, and their replies.
//!
//! Written by hand: the crate that describes rtnetlink in full (`netlink-packet-route`) would bring
//! more code than this file and leave sockets, errors and dumps to us all the same.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `struct nlmsghdr` (`linux/netlink.h`): length, type, flags, sequence number, port.
const HEADER: usize = 16;

/// Messages and attributes begin at multiples of this (`NLMSG_ALIGNTO`, `RTA_ALIGNTO`).
const ALIGN: usize = 4;

/// Room for one datagram of replies; the kernel fills 32 KiB at most (`netlink_dump`).
const BUFFER: usize = 64 * 1024;

/// A request under construction.
pub(super) struct Message(Vec<u8>);

impl Message {
    /// A request of this type, with the header that goes with the type.
    pub(super) fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(header);
        Message(bytes)
    }

    /// Adds a `struct rtattr` (rtnetlink(7)).
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = 4 + value.len() as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

/// What one message of an answer holds after its `nlmsghdr`.
#[derive(Debug)]
pub(super) struct Reply(Vec<u8>);

impl Reply {
    /// The first bytes.
    pub(super) fn header<const N: usize>(&self) -> Option<&[u8; N]> {
        self.0.first_chunk()
    }

    /// A number in the header.
    pub(super) fn i32_at(&self, at: usize) -> Option<i32> {
        read(&self.0, at).map(i32::from_ne_bytes)
    }

    /// The attributes that follow a header of this size.
    pub(super) fn attributes(&self, header: usize) -> Vec<(u16, &[u8])> {
        let mut attributes = Vec::new();
        let mut rest = self.0.get(header..).unwrap_or_default();
        while let Some(length) = read(rest, 0).map(u16::from_ne_bytes)
            && let Some(kind) = read(rest, 2).map(u16::from_ne_bytes)
            && let Some(value) = rest.get(4..length.into())
        {
            attributes.push((kind, value));
            rest = rest.get(usize::from(length).next_multiple_of(ALIGN)..).unwrap_or_default();
        }
        attributes
    }
}

/// `struct ifinfomsg` (`linux/rtnetlink.h`), where the bits of `flags` are to be set.
pub fn link_header(index: i32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// A name as attributes have it.
pub fn c_string(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

#[cfg(test)]
impl Reply {
    /// What the kernel would see of a request.
    pub(super) fn of(message: Message) -> Self {
        Reply(message.finish(0)[HEADER..].to_vec())
    }
}

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A netlink socket for routing.
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// A socket in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self> {
        // No protocol is protocol 0, NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends a request to the kernel and waits for its answer.
    pub(super) fn request(&mut self, message: Message) -> Result<Vec<Reply>> {
        self.sequence += 1;
        // A socket that is not connected sends to the kernel.
        send(&self.fd, &message.finish(self.sequence), SendFlags::empty())?;
        let mut replies = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let received = match recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC) {
                Err(Errno::INTR) => continue,
                result => result?.1,
            };
            let datagram = buffer.get(..received).ok_or(Errno::MSGSIZE)?;
            if collect(datagram, self.sequence, &mut replies)? {
                return Ok(replies);
            }
        }
    }
}

/// Takes the messages of one datagram apart. True if the answer ends with it.
fn collect(mut datagram: &[u8], sequence: u32, replies: &mut Vec<Reply>) -> Result<bool> {
    while !datagram.is_empty() {
        let field = |at| read(datagram, at).map(u32::from_ne_bytes).ok_or(Errno::BADMSG);
        let length = field(0)? as usize;
        let kind = i32::from(field(4)? as u16);
        let ours = field(8)? == sequence;
        let content = datagram.get(HEADER..length).ok_or(Errno::BADMSG)?;
        datagram = datagram.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        if !ours {
            continue;
        }
        match kind {
            // Both carry a negative errno, or 0.
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                let code = read(content, 0).map_or(0, i32::from_ne_bytes);
                return if code == 0 { Ok(true) } else { Err(Errno::from_raw_os_error(-code)) };
            }
            libc::NLMSG_NOOP => {}
            libc::NLMSG_OVERRUN => return Err(Errno::NOBUFS),
            _ => replies.push(Reply(content.to_vec())),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel would send it.
    fn message(kind: u16, sequence: u32, content: &[u8]) -> Vec<u8> {
        Message::new(kind, 0, content).finish(sequence)
    }

    #[test]
    fn requests_are_laid_out_like_the_kernels_structures() {
        let mut request = Message::new(16, 0x400, &[1, 2, 3, 4]);
        request.attribute(3, b"eth0\0");
        request.attribute(28, &7_u32.to_ne_bytes());
        let mut expected = Vec::new();
        expected.extend(40_u32.to_ne_bytes());
        expected.extend(16_u16.to_ne_bytes());
        expected.extend(0x405_u16.to_ne_bytes());
        expected.extend(9_u32.to_ne_bytes());
        expected.extend([0; 4]);
        expected.extend([1, 2, 3, 4]);
        expected.extend(9_u16.to_ne_bytes());
        expected.extend(3_u16.to_ne_bytes());
        expected.extend(b"eth0\0\0\0\0");
        expected.extend(8_u16.to_ne_bytes());
        expected.extend(28_u16.to_ne_bytes());
        expected.extend(7_u32.to_ne_bytes());
        let length = expected.len() as u32;
        expected[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(request.finish(9), expected);
    }

    #[test]
    fn replies_are_read_back() {
        let mut reply = Message::new(20, 0, &[5; 8]);
        reply.attribute(1, &[1, 2, 3, 4]);
        reply.attribute(3, b"ab\0");
        reply.attribute(8, &[]);
        let reply = Reply(reply.finish(1)[HEADER..].to_vec());
        assert_eq!(reply.header::<4>(), Some(&[5; 4]));
        assert_eq!(reply.i32_at(4), Some(0x0505_0505));
        assert_eq!(reply.i32_at(100), None);
        let attributes: [(u16, &[u8]); 3] = [(1, &[1, 2, 3, 4]), (3, b"ab\0"), (8, &[])];
        assert_eq!(reply.attributes(8), attributes);
    }

    #[test]
    fn broken_attributes_end_the_list() {
        for bytes in [&[0, 0, 0, 0][..], &[200, 0, 1, 0, 1], &[3, 0, 1, 0], &[8, 0]] {
            assert_eq!(Reply(bytes.to_vec()).attributes(0), []);
        }
        assert_eq!(Reply(vec![1]).attributes(8), []);
    }

    #[test]
    fn answers_end_with_an_acknowledgement_or_an_error() {
        let mut replies = Vec::new();
        let mut datagram = message(20, 4, &[1; 8]);
        datagram.extend(message(20, 3, &[2; 8]));
        assert_eq!(collect(&datagram, 4, &mut replies), Ok(false));
        assert_eq!(replies.len(), 1, "the second answers another request");
        let done = message(libc::NLMSG_DONE as u16, 4, &[0; 4]);
        assert_eq!(collect(&done, 4, &mut replies), Ok(true));
        let error = message(libc::NLMSG_ERROR as u16, 4, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(collect(&error, 4, &mut replies), Err(Errno::NODEV));
        for cut in 1..datagram.len() {
            let _ = collect(&datagram[..cut], 4, &mut replies);
        }
        assert_eq!(collect(&[0; 16], 0, &mut replies), Err(Errno::BADMSG));
    }
}
