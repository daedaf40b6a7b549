//! netlink(7) without a library: requests with nested attributes, their replies, and batches of nf_tables.
//!
//! There are crates for the half of it. That of rtnetlink (`netlink-packet-route`) is 31,000 lines and leaves sockets,
//! errors and dumps to us; the ones of nf_tables are under the GPL or need a C library. Both protocols are the same
//! few structures, so one builder serves both.

use std::ffi::CStr;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `struct nlmsghdr` (`linux/netlink.h`): length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// Messages and attributes begin at multiples of this.
const ALIGN: usize = 4;
/// The upper bits of an attribute's type: it holds others, or its number is in network order.
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const TYPE: u16 = libc::NLA_TYPE_MASK as u16;
/// Room for one datagram of replies; the kernel fills 32 KiB at most.
const BUFFER: usize = 64 * 1024;
/// `NLMSGERR_ATTR_MSG` (`linux/netlink.h`): the kernel's error in words.
const ERROR_WORDS: u16 = 1;

/// What the kernel said instead of yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its number.
    pub errno: Errno,
    /// Its words, where it has some.
    pub words: String,
    /// Which of the messages that were sent it is about: their number from 0.
    pub at: usize,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // "No such device (os error 19)": the number helps nobody.
        let text = std::io::Error::from(self.errno).to_string();
        to.write_str(text.split(" (os error").next().unwrap_or(&text))?;
        if self.words.is_empty() { Ok(()) } else { write!(to, ": {}", self.words) }
    }
}

impl std::error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal { errno, words: String::new(), at: 0 }
    }
}

/// A request under construction.
#[derive(Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// A request of this type, with the header that goes with the type.
    pub fn new(kind: u16, flags: i32, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags as u16 | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend_from_slice(header);
        Message(bytes)
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |it| it.0.extend_from_slice(value));
        self
    }

    /// A number in the machine's order, as routing has it.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// A number in network order, as netfilter has it.
    pub fn be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A string with its NUL.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.nest(kind, |it| {
            it.0.extend_from_slice(value.as_bytes());
            it.0.push(0);
        });
        self
    }

    /// An address's bytes.
    pub fn address(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        self.put(kind, &octets(value))
    }

    /// An attribute that holds others.
    pub fn within(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest(kind | NESTED, fill);
        self
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    /// Bytes that are no attribute: a header within an attribute.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// How many bytes it has so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Asks for an answer, too.
    fn flag(&mut self, flag: i32) {
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | flag as u16;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.0
    }
}

/// The bytes of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(it) => it.octets().to_vec(),
        IpAddr::V6(it) => it.octets().to_vec(),
    }
}

/// The address of 4 or 16 bytes.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|it| IpAddr::from(*it)),
        16 => bytes.first_chunk::<16>().map(|it| IpAddr::from(*it)),
        _ => None,
    }
}

/// The attributes one after the other in these bytes: their types without flags, and values. A broken one ends them.
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind & TYPE, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first one of this type.
    pub fn get(&self, wanted: u16) -> Option<&'a [u8]> {
        self.clone().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    /// One that holds others.
    pub fn within(&self, wanted: u16) -> Attributes<'a> {
        Attributes(self.get(wanted).unwrap_or_default())
    }

    /// A number in the machine's order.
    pub fn number(&self, wanted: u16) -> Option<u32> {
        self.get(wanted)?.first_chunk().map(|it| u32::from_ne_bytes(*it))
    }

    /// A number in network order.
    pub fn be(&self, wanted: u16) -> Option<u32> {
        self.get(wanted)?.first_chunk().map(|it| u32::from_be_bytes(*it))
    }

    /// A string, up to its NUL.
    pub fn text(&self, wanted: u16) -> Option<String> {
        let value = self.get(wanted)?;
        let value = CStr::from_bytes_until_nul(value).map_or(value, CStr::to_bytes);
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

/// One message of an answer: its type, and what stands after its `nlmsghdr`.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message's type.
    pub kind: u16,
    content: Vec<u8>,
}

impl Reply {
    /// The first bytes.
    pub fn header<const N: usize>(&self) -> Option<&[u8; N]> {
        self.content.first_chunk()
    }

    /// The attributes that follow a header of this size.
    pub fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes(self.content.get(header..).unwrap_or_default())
    }
}

/// A socket of one protocol, in the network namespace of the thread that opened it.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// For links, addresses and routes.
    pub fn route() -> rustix::io::Result<Self> {
        Self::open(None)
    }

    /// For rules and connections.
    pub fn netfilter() -> rustix::io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    /// No protocol is protocol 0, that of routing.
    fn open(protocol: Option<Protocol>) -> rustix::io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // Errors in words; dumps that the kernel filters. Old kernels have neither.
        let _ = crate::sys::netlink_option(&fd, libc::NETLINK_EXT_ACK);
        let _ = crate::sys::netlink_option(&fd, libc::NETLINK_GET_STRICT_CHK);
        Ok(Socket { fd, sequence: 0 })
    }

    /// Sends a request and waits for what the kernel answers: nothing, one message, or with `NLM_F_DUMP` many.
    pub fn request(&mut self, mut message: Message) -> Result<Vec<Reply>, Refusal> {
        message.flag(libc::NLM_F_ACK);
        self.send(vec![message])
    }

    /// Sends messages of nf_tables as one transaction, between the two that frame it: all are carried out or none.
    pub fn transaction(&mut self, messages: Vec<Message>, begin: Message, end: Message) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut all = vec![begin];
        all.extend(messages);
        if let Some(last) = all.last_mut() {
            last.flag(libc::NLM_F_ACK);
        }
        all.push(end);
        self.send(all).map(drop).map_err(|it| Refusal { at: it.at.saturating_sub(1), ..it })
    }

    fn send(&mut self, mut messages: Vec<Message>) -> Result<Vec<Reply>, Refusal> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(Message::len).sum());
        for message in &mut messages {
            self.sequence = self.sequence.wrapping_add(1);
            bytes.extend_from_slice(message.finish(self.sequence));
        }
        if bytes.len() > BUFFER {
            set_socket_send_buffer_size_force(&self.fd, 2 * bytes.len())?;
        }
        // A socket that is not connected sends to the kernel.
        send(&self.fd, &bytes, SendFlags::empty())?;
        self.receive(first, self.sequence)
    }

    /// The kernel works before send(2) returns: what it answers is there, but for dumps, whose parts come as they are
    /// read. So nothing here ever waits.
    fn receive(&mut self, first: u32, last: u32) -> Result<Vec<Reply>, Refusal> {
        let (mut replies, mut refused) = (Vec::new(), None);
        let mut buffer = vec![0; BUFFER];
        loop {
            let received = match recv(&self.fd, &mut buffer[..], RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                result => result?.1,
            };
            let datagram = buffer.get(..received).ok_or(Errno::MSGSIZE)?;
            collect(datagram, first, last, &mut replies, &mut refused)?;
        }
        refused.map_or(Ok(replies), Err)
    }
}

/// Takes the messages of one datagram apart: what answers other requests than these is left out, and of errors the
/// first counts.
fn collect(
    mut datagram: &[u8],
    first: u32,
    last: u32,
    replies: &mut Vec<Reply>,
    refused: &mut Option<Refusal>,
) -> rustix::io::Result<()> {
    while !datagram.is_empty() {
        let header: &[u8; HEADER] = datagram.first_chunk().ok_or(Errno::BADMSG)?;
        let field = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (length, sequence) = (field(0) as usize, field(8));
        let (kind, flags) = (field(4) as u16, i32::from((field(4) >> 16) as u16));
        let content = datagram.get(HEADER..length).ok_or(Errno::BADMSG)?;
        datagram = datagram.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        if !(first..=last).contains(&sequence) {
            continue;
        }
        if flags & libc::NLM_F_DUMP_INTR != 0 && refused.is_none() {
            *refused = Some(Errno::INTR.into());
        }
        match i32::from(kind) {
            // Both carry a negative errno, or 0.
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                let code = content.first_chunk().map_or(0, |it| i32::from_ne_bytes(*it));
                if code != 0 && refused.is_none() {
                    let words = words(content, flags).unwrap_or_default();
                    let at = (sequence - first) as usize;
                    *refused = Some(Refusal { errno: Errno::from_raw_os_error(-code), words, at });
                }
            }
            libc::NLMSG_NOOP => {}
            libc::NLMSG_OVERRUN => return Err(Errno::NOBUFS),
            _ => replies.push(Reply { kind, content: content.to_vec() }),
        }
    }
    Ok(())
}

/// What an error says beside its number: attributes after the request that it repeats, whole or only the header.
fn words(error: &[u8], flags: i32) -> Option<String> {
    const CAPPED: i32 = 0x100;
    const WITH_WORDS: i32 = 0x200;
    if flags & WITH_WORDS == 0 {
        return None;
    }
    let request = u32::from_ne_bytes(*error.get(4..)?.first_chunk()?) as usize;
    let skip = if flags & CAPPED == 0 { request.next_multiple_of(ALIGN) } else { HEADER };
    Attributes(error.get(4 + skip..)?).text(ERROR_WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_like_the_kernels_structures() {
        let mut request = Message::new(16, 0x400, &[1, 2, 3, 4]);
        request.within(18, |it| {
            it.text(1, "veth").number(2, 7);
        });
        request.be(5, 1);
        let mut expected = Vec::new();
        for part in [&52_u32.to_ne_bytes()[..], &16_u16.to_ne_bytes(), &0x401_u16.to_ne_bytes(), &9_u32.to_ne_bytes()] {
            expected.extend_from_slice(part);
        }
        expected.extend([0, 0, 0, 0, 1, 2, 3, 4]);
        for (length, kind) in [(24_u16, 0x8012_u16), (9, 1)] {
            expected.extend(length.to_ne_bytes());
            expected.extend(kind.to_ne_bytes());
        }
        expected.extend(b"veth\0\0\0\0");
        expected.extend([8_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat());
        expected.extend(7_u32.to_ne_bytes());
        expected.extend([8_u16.to_ne_bytes(), 5_u16.to_ne_bytes()].concat());
        expected.extend([0, 0, 0, 1]);
        assert_eq!(request.finish(9), expected);
    }

    #[test]
    fn replies_are_read_back_and_broken_ones_end() {
        let mut message = Message::new(16, 0, &[9; 8]);
        message.within(2, |it| {
            it.text(1, "a").be(3, 5);
        });
        let bytes = message.finish(4).to_vec();
        let (mut replies, mut refused) = (Vec::new(), None);
        assert_eq!(collect(&bytes, 5, 6, &mut replies, &mut refused), Ok(()));
        assert_eq!(replies, [], "it answers something else");
        assert_eq!(collect(&bytes, 4, 4, &mut replies, &mut refused), Ok(()));
        let inner = replies[0].attributes(8).within(2);
        assert_eq!((inner.text(1).as_deref(), inner.be(3), inner.number(9)), (Some("a"), Some(5), None));
        for broken in [&[0, 0, 0, 0][..], &[200, 0, 1, 0, 1], &[3, 0, 1, 0], &[8, 0], &[1]] {
            assert_eq!(Attributes(broken).count(), 0);
        }
        for cut in 1..bytes.len() {
            assert_eq!(collect(&bytes[..cut], 4, 4, &mut replies, &mut refused), Err(Errno::BADMSG));
        }
        assert_eq!(collect(&[0; 16], 0, 0, &mut replies, &mut refused), Err(Errno::BADMSG));
    }

    #[test]
    fn the_first_error_counts_and_says_which_request_failed() {
        let error = |sequence, code: i32| {
            Message::new(libc::NLMSG_ERROR as u16, 0, &(-code).to_ne_bytes()).finish(sequence).to_vec()
        };
        let all = [error(7, 0), error(8, libc::EEXIST), error(9, libc::ENOENT)].concat();
        let (mut replies, mut refused) = (Vec::new(), None);
        collect(&all, 7, 9, &mut replies, &mut refused).unwrap();
        assert_eq!(refused, Some(Refusal { errno: Errno::EXIST, words: String::new(), at: 1 }));
        assert_eq!(refused.unwrap().to_string(), "File exists");
    }

    #[test]
    fn the_kernel_says_what_is_wrong_in_words() {
        // ip6gre with a nonsense attribute would need a module: an unknown kind of link is enough.
        let Ok(mut socket) = Socket::route() else { panic!("no netlink socket") };
        let mut message = Message::new(libc::RTM_GETLINK, 0, &[0; 16]);
        message.text(libc::IFLA_IFNAME, "none-such");
        assert_eq!(socket.request(message).unwrap_err().errno, Errno::NODEV);
    }
}
