//! Messages of the name service (RFC 1035, RFC 6891 for EDNS): a question out of a packet, answers of our own, and
//! answers of others, which are passed on as the bytes that they are, so that types that we never heard of survive.
//! Whatever is read here was written by strangers.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, OptBuilder, StaticCompressor};
use domain::base::name::Name;
use domain::base::{Header, Message, MessageBuilder, ParsedName, Ttl};
use domain::dep::octseq::Parser;
use domain::rdata::{A, Aaaa, Ptr};

/// The largest UDP answer we ask for and give: it fits a packet on any way (DNS flag day 2020).
pub const UDP_SIZE: u16 = 1232;
/// The largest UDP answer for who says nothing of sizes.
const PLAIN_SIZE: u16 = 512;
/// An OPT record without options.
const OPT_LENGTH: usize = 11;
/// The header's length.
const HEADER: usize = 12;
/// How long an answer of ours may be kept, in seconds: containers come and go.
const OWN_TTL: u32 = 5;
/// How long an answer of others is kept at the most, and one that says that there is nothing, in seconds.
const MOST_TTL: u32 = 3600;
const MOST_NEGATIVE_TTL: u32 = 300;

/// A question, with all that its answer depends on.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its number.
    pub id: u16,
    /// The name as it was asked, in wire format.
    asked: Box<[u8]>,
    /// The name in lower case, in wire format.
    pub name: Name<Box<[u8]>>,
    /// What is asked for.
    pub kind: Rtype,
    class: Class,
    recursion: bool,
    authentic: bool,
    /// Whether answers that fail the upstream server's DNSSEC check are wanted.
    pub unchecked: bool,
    edns: Option<Edns>,
}

#[derive(Clone, Copy, Debug)]
struct Edns {
    size: u16,
    dnssec: bool,
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
    fn restore_case(&self, bytes: &mut [u8]) {
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
    fn is_answered_by(&self, message: &Message<[u8]>, id: u16) -> bool {
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

/// An answer of an upstream server.
#[derive(Debug)]
pub struct Answer {
    /// The message without its OPT record, and what stood behind it.
    bytes: Vec<u8>,
    /// Where each record's time to live is.
    ttls: Vec<u16>,
    /// Its code.
    code: Rcode,
    /// Whether it did not fit and is to be asked for by TCP.
    pub truncated: bool,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
}

/// What an upstream server sent.
#[derive(Debug)]
pub enum Came {
    /// The answer.
    Answer(Answer),
    /// It is not an answer to this question: a forgery, or one that came too late.
    Foreign,
    /// It answers, but cannot be read.
    Broken,
    /// It could not read the question: servers that do not know EDNS.
    NotRead,
}

/// Reads what an upstream server sent on a question with this number.
pub fn read_answer(bytes: &[u8], query: &Query, id: u16) -> Came {
    let Ok(message) = Message::from_slice(bytes) else { return Came::Foreign };
    let header = message.header();
    // Servers that do not know EDNS may send the header back alone.
    let header_alone = message.header_counts().qdcount() == 0 && header.qr() && header.id() == id;
    if header_alone && header.rcode() == Rcode::FORMERR {
        return Came::NotRead;
    }
    if !query.is_answered_by(message, id) {
        return Came::Foreign;
    }
    if header.rcode() == Rcode::FORMERR {
        return Came::NotRead;
    }
    parse_answer(message, query).map_or(Came::Broken, Came::Answer)
}

fn parse_answer(message: &Message<[u8]>, query: &Query) -> Option<Answer> {
    let counts = message.header_counts();
    let sections = [counts.ancount(), counts.nscount(), counts.arcount()];
    let bytes = message.as_slice();
    let mut parser = Parser::from_ref(bytes);
    parser.seek(HEADER + query.asked.len() + 4).ok()?;
    let (mut ttls, mut end, mut kept) = (Vec::new(), parser.pos(), [0_u16; 3]);
    let (mut least, mut soa) = (MOST_TTL, None);
    'all: for (section, count) in sections.iter().enumerate() {
        for _ in 0..*count {
            ParsedName::parse_ref(&mut parser).ok()?;
            let kind = Rtype::from_int(parser.parse_u16_be().ok()?);
            parser.advance(2).ok()?;
            let at = parser.pos();
            let ttl = parser.parse_u32_be().ok()?;
            let length = usize::from(parser.parse_u16_be().ok()?);
            let data = bytes.get(parser.pos()..parser.pos() + length)?;
            parser.advance(length).ok()?;
            if kind == Rtype::OPT {
                if ttl >> 24 != 0 {
                    // The code has more bits than those of the header: none of them is one that clients know.
                    return None;
                }
                // It is from hop to hop. Behind it come at most signatures of the hop.
                break 'all;
            }
            if kind == Rtype::SOA && section == 1 {
                let minimum = data.last_chunk().map_or(0, |it| u32::from_be_bytes(*it));
                soa = Some(ttl.min(minimum));
            }
            least = least.min(ttl);
            ttls.push(at as u16);
            kept[section] += 1;
            end = parser.pos();
        }
    }
    let header = message.header();
    let ttl = match header.rcode() {
        _ if header.tc() => 0,
        Rcode::NOERROR if kept[0] > 0 => least,
        // Who does not say for how long there is nothing is asked again (RFC 2308, 5).
        Rcode::NOERROR | Rcode::NXDOMAIN => soa.unwrap_or(0).min(least).min(MOST_NEGATIVE_TTL),
        _ => 0,
    };
    let mut bytes = bytes[..end].to_vec();
    for (section, count) in kept.iter().enumerate() {
        bytes[6 + 2 * section..8 + 2 * section].copy_from_slice(&count.to_be_bytes());
    }
    Some(Answer { bytes, ttls, code: header.rcode(), truncated: header.tc(), ttl })
}

impl Answer {
    /// Whether it says what there is, or that there is nothing, and not that the server could not do it.
    pub fn good(&self) -> bool {
        [Rcode::NOERROR, Rcode::NXDOMAIN].contains(&self.code)
    }

    /// About how much memory it takes, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() + 2 * self.ttls.len() + size_of::<Self>()
    }

    /// The answer for a client, after it was kept for `age` seconds, in at most `limit` bytes.
    pub fn reply(&self, query: &Query, age: u32, limit: usize) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for at in &self.ttls {
            let at = usize::from(*at);
            if let Some(ttl) = bytes.get_mut(at..).and_then(|it| it.first_chunk_mut()) {
                *ttl = u32::from_be_bytes(*ttl).saturating_sub(age).to_be_bytes();
            }
        }
        let room = limit - if query.edns.is_some() { OPT_LENGTH } else { 0 };
        let truncated = bytes.len() > room;
        if truncated {
            bytes.truncate(HEADER + query.asked.len() + 4);
            bytes[6..HEADER].fill(0);
        }
        query.restore_case(&mut bytes);
        if let Some(edns) = query.edns {
            let [high, low] = UDP_SIZE.to_be_bytes();
            bytes.extend([0, 0, 41, high, low, 0, 0, u8::from(edns.dnssec) << 7, 0, 0, 0]);
            let count = u16::from_be_bytes([bytes[10], bytes[11]]).saturating_add(1);
            bytes[10..HEADER].copy_from_slice(&count.to_be_bytes());
        }
        let header = Header::for_message_slice_mut(&mut bytes);
        header.set_id(query.id);
        header.set_rd(query.recursion);
        header.set_ra(true);
        header.set_aa(false);
        header.set_tc(truncated || self.truncated);
        // Who did not ask for it does not expect it (RFC 6840, 5.8).
        header.set_ad(header.ad() && (query.authentic || query.dnssec()));
        header.set_cd(query.unchecked);
        bytes
    }
}
