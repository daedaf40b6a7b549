//! Messages of the name service (RFC 1035, RFC 6891 for EDNS): a question out of a packet, and answers of our own.
//! Whatever is read here was written by strangers.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, OptBuilder, StaticCompressor};
use domain::base::name::Name;
use domain::base::{Message, MessageBuilder, Ttl};
use domain::rdata::{A, Aaaa, Ptr};

/// The largest UDP answer we ask for and give: it fits a packet on any way (DNS flag day 2020).
pub const UDP_SIZE: u16 = 1232;
/// The largest UDP answer for who says nothing of sizes.
const PLAIN_SIZE: u16 = 512;
/// An OPT record without options.
pub const OPT_LENGTH: usize = 11;
/// The header's length.
pub const HEADER: usize = 12;
/// How long an answer of ours may be kept, in seconds: containers come and go.
const OWN_TTL: u32 = 5;

/// A question, with all that its answer depends on.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its number.
    pub id: u16,
    /// The name as it was asked, in wire format.
    pub asked: Box<[u8]>,
    /// The name in lower case, in wire format.
    pub name: Name<Box<[u8]>>,
    /// What is asked for.
    pub kind: Rtype,
    class: Class,
    /// Whether others may be asked.
    pub recursion: bool,
    /// Whether it is wanted to know if the upstream server has checked the answer.
    pub authentic: bool,
    /// Whether answers that fail the upstream server's DNSSEC check are wanted.
    pub unchecked: bool,
    /// What it says by EDNS, if it knows it.
    pub edns: Option<Edns>,
}

/// The largest answer by UDP, in bytes, and a flag.
#[derive(Clone, Copy, Debug)]
pub struct Edns {
    size: u16,
    /// Whether DNSSEC's records are wanted.
    pub dnssec: bool,
}

/// What came.
#[derive(Debug)]
pub enum Received {
    /// A question to answer.
    Query(Box<Query>),
    /// Something that is answered by these bytes.
    Refused(Vec<u8>),
    /// Something that is not answered: it would only go back and forth.
    Ignored,
}

/// Reads a packet of a client.
pub fn read_query(bytes: &[u8]) -> Received {
    let Ok(message) = Message::from_slice(bytes) else { return Received::Ignored };
    let header = message.header();
    if header.qr() {
        return Received::Ignored;
    }
    if header.opcode() != Opcode::QUERY {
        return Received::Refused(bare(bytes, Rcode::NOTIMP));
    }
    let Some((query, version)) = parse_query(message) else {
        return Received::Refused(bare(bytes, Rcode::FORMERR));
    };
    if version != 0 {
        return Received::Refused(query.reply(|_| {}, OptRcode::BADVERS, usize::from(PLAIN_SIZE)));
    }
    if query.class != Class::IN || [Rtype::AXFR, Rtype::IXFR].contains(&query.kind) {
        return Received::Refused(query.error(OptRcode::REFUSED));
    }
    Received::Query(Box::new(query))
}

/// The question and the version of EDNS; `None` for what is not well-formed.
fn parse_query(message: &Message<[u8]>) -> Option<(Query, u8)> {
    let header = message.header();
    let question = message.sole_question().ok()?;
    // A name that points elsewhere stands behind nothing that it could point to.
    if question.qname().is_compressed() || message.as_slice().get(HEADER)? & 0xc0 != 0 {
        return None;
    }
    let mut opt = None;
    for record in message.additional().ok()? {
        let record = record.ok()?;
        if record.rtype() == Rtype::OPT && opt.replace(record).is_some() {
            return None;
        }
    }
    let (mut edns, mut version) = (None, 0);
    if let Some(record) = opt {
        // The fields of an OPT record have other meanings (RFC 6891, 6.1.3).
        let [_, its_version, flags, _] = record.ttl().as_secs().to_be_bytes();
        edns = Some(Edns { size: record.class().to_int(), dnssec: flags & 0x80 != 0 });
        version = its_version;
    }
    let asked: Vec<u8> = question.qname().iter().flat_map(|it| [&[it.len() as u8], it.as_slice()].concat()).collect();
    let query = Query {
        id: header.id(),
        name: Name::from_octets(asked.to_ascii_lowercase().into_boxed_slice()).ok()?,
        asked: asked.into_boxed_slice(),
        kind: question.qtype(),
        class: question.qclass(),
        recursion: header.rd(),
        authentic: header.ad(),
        unchecked: header.cd(),
        edns,
    };
    Some((query, version))
}

/// An error about something that could not be read: a header alone.
fn bare(bytes: &[u8], code: Rcode) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    if let Ok(message) = Message::from_slice(bytes) {
        let (asked, header) = (message.header(), builder.header_mut());
        header.set_id(asked.id());
        header.set_qr(true);
        header.set_opcode(asked.opcode());
        header.set_rd(asked.rd());
        header.set_rcode(code);
    }
    builder.finish()
}

type Answers = AnswerBuilder<StaticCompressor<Vec<u8>>>;

impl Query {
    /// Whether DNSSEC's records are wanted.
    pub fn dnssec(&self) -> bool {
        self.edns.is_some_and(|it| it.dnssec)
    }

    /// The name as text in lower case, without the last dot. `None` for one that no container can have, since a label
    /// in it has a dot or is not ASCII.
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for label in self.name.iter().filter(|it| !it.is_root()) {
            let label = std::str::from_utf8(label.as_slice()).ok()?;
            if !label.bytes().all(|it| it.is_ascii_graphic() && it != b'.') {
                return None;
            }
            text = if text.is_empty() { label.into() } else { format!("{text}.{label}") };
        }
        Some(text)
    }

    /// The largest answer by UDP, in bytes.
    pub fn udp_limit(&self) -> usize {
        let asked = self.edns.map_or(PLAIN_SIZE, |it| it.size);
        usize::from(asked.clamp(PLAIN_SIZE, UDP_SIZE))
    }

    /// An answer that has nothing but its code.
    pub fn error(&self, code: OptRcode) -> Vec<u8> {
        self.reply(|_| {}, code, usize::from(PLAIN_SIZE))
    }

    /// The addresses of a name, those of the family that is asked for, as many as fit into `limit` bytes.
    pub fn addresses(&self, addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        let (four, six) = (self.asks_for(Rtype::A), self.asks_for(Rtype::AAAA));
        let ttl = Ttl::from_secs(OWN_TTL);
        let push = |builder: &mut Answers| {
            for address in addresses {
                let pushed = match address {
                    IpAddr::V4(it) if four => builder.push((&self.name, ttl, A::new(*it))),
                    IpAddr::V6(it) if six => builder.push((&self.name, ttl, Aaaa::new(*it))),
                    _ => continue,
                };
                if pushed.is_err() {
                    builder.header_mut().set_tc(true);
                    return;
                }
            }
        };
        self.reply(push, OptRcode::NOERROR, limit)
    }

    /// The name of an address.
    pub fn pointer(&self, name: &str, limit: usize) -> Vec<u8> {
        let name = name.parse::<Name<Vec<u8>>>().ok().filter(|_| self.asks_for(Rtype::PTR));
        let push = |builder: &mut Answers| {
            if let Some(name) = name {
                let pushed = builder.push((&self.name, Ttl::from_secs(OWN_TTL), Ptr::new(name)));
                builder.header_mut().set_tc(pushed.is_err());
            }
        };
        self.reply(push, OptRcode::NOERROR, limit)
    }

    fn asks_for(&self, kind: Rtype) -> bool {
        self.kind == kind || self.kind == Rtype::ANY
    }

    /// An answer with the authority that we are.
    fn reply(&self, push: impl FnOnce(&mut Answers), code: OptRcode, limit: usize) -> Vec<u8> {
        let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).expect("a vector grows");
        builder.set_push_limit(limit - OPT_LENGTH);
        let header = builder.header_mut();
        header.set_id(self.id);
        header.set_qr(true);
        header.set_rd(self.recursion);
        header.set_ra(true);
        header.set_aa(code == OptRcode::NOERROR || code == OptRcode::NXDOMAIN);
        header.set_rcode(code.rcode());
        let mut builder = builder.question();
        builder.push((&self.name, self.kind, self.class)).expect("a question fits into any answer");
        let mut builder = builder.answer();
        push(&mut builder);
        let mut builder = builder.additional();
        builder.clear_push_limit();
        self.push_opt(&mut builder, code);
        let mut bytes = builder.finish().into_target();
        self.restore_case(&mut bytes);
        bytes
    }

    fn push_opt(&self, builder: &mut AdditionalBuilder<StaticCompressor<Vec<u8>>>, code: OptRcode) {
        if let Some(edns) = self.edns {
            let set = |opt: &mut OptBuilder<'_, _>| {
                opt.set_udp_payload_size(UDP_SIZE);
                opt.set_dnssec_ok(edns.dnssec);
                opt.set_rcode(code);
                Ok(())
            };
            builder.opt(set).expect("an OPT record fits into any answer");
        }
    }

    /// Resolvers may look whether the letters come back as they were asked, as a guard against forged answers.
    pub fn restore_case(&self, bytes: &mut [u8]) {
        if let Some(name) = bytes.get_mut(HEADER..HEADER + self.asked.len()) {
            name.copy_from_slice(&self.asked);
        }
    }

    /// This question to an upstream server.
    pub fn forward(&self, id: u16, edns: bool) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        let header = builder.header_mut();
        header.set_id(id);
        header.set_rd(true);
        header.set_ad(true);
        header.set_cd(self.unchecked);
        let mut builder = builder.question();
        builder.push((&self.name, self.kind, self.class)).expect("a vector grows");
        let mut builder = builder.additional();
        if edns {
            let set = |opt: &mut OptBuilder<'_, _>| {
                opt.set_udp_payload_size(UDP_SIZE);
                opt.set_dnssec_ok(self.dnssec());
                Ok(())
            };
            builder.opt(set).expect("a vector grows");
        }
        builder.finish()
    }

    /// Whether a message answers this question that was sent with this number.
    pub fn is_answered_by(&self, message: &Message<[u8]>, id: u16) -> bool {
        let header = message.header();
        header.qr()
            && header.id() == id
            && header.opcode() == Opcode::QUERY
            && message.sole_question().is_ok_and(|it| {
                *it.qname() == self.name && it.qtype() == self.kind && it.qclass() == self.class
            })
            // Its offsets are ours only if it is written out.
            && message.as_slice().get(HEADER..HEADER + self.asked.len())
                .is_some_and(|it| it.eq_ignore_ascii_case(&self.asked))
    }
}
