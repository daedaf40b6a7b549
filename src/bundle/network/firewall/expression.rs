//! The parts of a rule: each looks at the packet, and either goes on with the next part or gives the rule up.

use crate::network::netlink::Message;

/// IPv4 or IPv6: what differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// `NFPROTO_*`.
    protocol: u8,
    /// An address's bytes.
    pub size: u32,
    /// An address's type to `nft`.
    pub kind: u32,
    /// Where the header has the sender's and the receiver's.
    source: u32,
    destination: u32,
}

pub const V4: Family = Family { protocol: 2, size: 4, kind: 7, source: 12, destination: 16 };
pub const V6: Family = Family { protocol: 10, size: 16, kind: 8, source: 8, destination: 24 };

impl Family {
    /// The register `n` registers behind an address that stands in the first ones.
    pub const fn after(self, n: u32) -> u32 {
        self.size / 4 + n
    }
}

/// A part. Numbers are those of the register of four bytes, from 0, that a value goes to; what is looked up or compared
/// begins in register 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The link it came by.
    In(u32),
    /// The link it leaves by.
    Out(u32),
    /// The receiver's address.
    To(Family, u32),
    /// The sender's.
    From(Family, u32),
    /// TCP, UDP…
    L4(u32),
    /// The receiver's port.
    PortTo(u32),
    /// The first byte of the receiver's IPv4 address.
    FirstByteTo,
    /// Of the sender's.
    FirstByteFrom,
    /// Only this value.
    Is(Vec<u8>),
    /// Only packets of this family.
    Of(Family),
    /// Only to an address of the host.
    Local,
    /// Only of connections that were let in, or that belong to one.
    Known,
    /// Only of connections whose destination was changed.
    Translated,
    /// Only what is in the set.
    Found(&'static str),
    /// Only what is in the map, whose value then stands in the registers.
    Mapped(&'static str),
    /// The registers' address and port become the destination.
    Destination(Family),
    /// The link's own address becomes the sender's.
    Masquerade,
    /// This table lets it pass.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// To another chain and back.
    Jump(&'static str),
    /// To another chain.
    Goto(&'static str),
}

const META_IN: u32 = 6;
const META_OUT: u32 = 7;
const META_FAMILY: u32 = 15;
const META_L4: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `established` and `related`.
const STATES: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const CHANGED_DESTINATION: u32 = 1 << 5;
const ACCEPT: i32 = 1;
const DROP: i32 = 0;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

impl Part {
    /// Adds it to the list of a rule's expressions: most are one, some two or three.
    pub fn write(&self, list: &mut Message) {
        match self {
            Part::In(register) => meta(list, META_IN, *register),
            Part::Out(register) => meta(list, META_OUT, *register),
            Part::To(family, register) => payload(list, NETWORK_HEADER, family.destination, family.size, *register),
            Part::From(family, register) => payload(list, NETWORK_HEADER, family.source, family.size, *register),
            Part::L4(register) => meta(list, META_L4, *register),
            Part::PortTo(register) => payload(list, TRANSPORT_HEADER, 2, 2, *register),
            Part::FirstByteTo => payload(list, NETWORK_HEADER, V4.destination, 1, 0),
            Part::FirstByteFrom => payload(list, NETWORK_HEADER, V4.source, 1, 0),
            Part::Is(value) => equal(list, value),
            Part::Of(family) => {
                meta(list, META_FAMILY, 0);
                equal(list, &[family.protocol]);
            }
            Part::Local => {
                const TYPE: u32 = 3;
                const OF_RECEIVER: u32 = 2;
                expression(list, "fib", |it| {
                    it.be(1, register(0)).be(2, TYPE).be(3, OF_RECEIVER);
                });
                equal(list, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
            }
            Part::Known => connection(list, CT_STATE, STATES),
            Part::Translated => connection(list, CT_STATUS, CHANGED_DESTINATION),
            Part::Found(set) => expression(list, "lookup", |it| {
                it.text(1, set).be(2, register(0));
            }),
            Part::Mapped(set) => expression(list, "lookup", |it| {
                it.text(1, set).be(2, register(0)).be(3, register(0));
            }),
            Part::Destination(family) => expression(list, "nat", |it| {
                const DESTINATION: u32 = 1;
                it.be(1, DESTINATION).be(2, family.protocol.into());
                it.be(3, register(0)).be(5, register(family.after(0)));
            }),
            Part::Masquerade => expression(list, "masq", |_| {}),
            Part::Accept => verdict(list, ACCEPT, None),
            Part::Drop => verdict(list, DROP, None),
            Part::Return => verdict(list, RETURN, None),
            Part::Jump(chain) => verdict(list, JUMP, Some(chain)),
            Part::Goto(chain) => verdict(list, GOTO, Some(chain)),
        }
    }
}

/// `NFT_REG32_00` and on.
fn register(number: u32) -> u32 {
    8 + number
}

fn expression(list: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    list.within(1, |it| {
        it.text(1, name).within(2, fill);
    });
}

fn meta(list: &mut Message, key: u32, to: u32) {
    expression(list, "meta", |it| {
        it.be(1, register(to)).be(2, key);
    });
}

fn payload(list: &mut Message, base: u32, offset: u32, size: u32, to: u32) {
    expression(list, "payload", |it| {
        it.be(1, register(to)).be(2, base).be(3, offset).be(4, size);
    });
}

fn data(message: &mut Message, kind: u16, value: &[u8]) {
    message.within(kind, |it| {
        it.put(1, value);
    });
}

fn equal(list: &mut Message, value: &[u8]) {
    compare(list, 0, value);
}

fn compare(list: &mut Message, operator: u32, value: &[u8]) {
    expression(list, "cmp", |it| {
        it.be(1, register(0)).be(2, operator);
        data(it, 3, value);
    });
}

/// Whether the connection has one of these bits.
fn connection(list: &mut Message, key: u32, bits: u32) {
    const NOT_EQUAL: u32 = 1;
    expression(list, "ct", |it| {
        it.be(1, register(0)).be(2, key);
    });
    expression(list, "bitwise", |it| {
        it.be(1, register(0)).be(2, register(0)).be(3, 4);
        data(it, 4, &bits.to_ne_bytes());
        data(it, 5, &[0; 4]);
    });
    compare(list, NOT_EQUAL, &[0; 4]);
}

fn verdict(list: &mut Message, code: i32, chain: Option<&str>) {
    const VERDICT: u32 = 0;
    expression(list, "immediate", |it| {
        it.be(1, VERDICT).within(2, |data| {
            data.within(2, |verdict| {
                verdict.be(1, code as u32);
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    });
}
