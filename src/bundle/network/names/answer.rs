//! Answers of upstream servers. They are passed on as the bytes that they are, so that types that we never heard of
//! survive; only what is from hop to hop is cut off, and times to live grow less.

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Header, Message, ParsedName};
use domain::dep::octseq::Parser;

use super::wire::{HEADER, OPT_LENGTH, Query, UDP_SIZE};

/// How long an answer of others is kept at the most, and one that says that there is nothing, in seconds.
const MOST_TTL: u32 = 3600;
const MOST_NEGATIVE_TTL: u32 = 300;

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
