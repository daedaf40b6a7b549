//! D-Bus messages as bytes (D-Bus Specification, "Type System" and "Message Protocol"): writing any
//! value, reading the few kinds that systemd answers with.
//!
//! Everything is in the machine's own byte order: the other side is on the same machine.

/// Fixed part of a message's header.
pub(super) const HEADER: usize = 16;

/// The longest message that is read. The specification allows 128 MiB, systemd sends a few KiB.
const LONGEST: u64 = 4 << 20;

/// Types of messages.
pub(super) const CALL: u8 = 1;
/// See [`CALL`].
pub(super) const REPLY: u8 = 2;
/// See [`CALL`].
pub(super) const ERROR: u8 = 3;
/// See [`CALL`].
pub(super) const SIGNAL: u8 = 4;

/// A flag of a call: nobody waits for the answer.
pub(super) const NO_REPLY: u8 = 1;

/// The first byte of a message says how the others are ordered.
const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    String(String),
    Path(String),
    Signature(String),
    /// The elements' type stands first, as there may be no element.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl Value {
    /// An array of strings.
    pub(super) fn strings(list: &[&str]) -> Value {
        Value::Array("s".to_owned(), list.iter().map(|text| Value::from(*text)).collect())
    }

    /// The value in a box that tells its type.
    pub(super) fn boxed(self) -> Value {
        Value::Variant(Box::new(self))
    }

    /// The type, as the specification writes it.
    pub(super) fn signature(&self) -> String {
        let code = match self {
            Value::Byte(_) => "y",
            Value::Bool(_) => "b",
            Value::Int16(_) => "n",
            Value::Uint16(_) => "q",
            Value::Int32(_) => "i",
            Value::Uint32(_) => "u",
            Value::Int64(_) => "x",
            Value::Uint64(_) => "t",
            Value::Double(_) => "d",
            Value::String(_) => "s",
            Value::Path(_) => "o",
            Value::Signature(_) => "g",
            Value::Variant(_) => "v",
            Value::Array(element, _) => return format!("a{element}"),
            Value::Struct(fields) => return format!("({})", signature(fields)),
        };
        code.to_owned()
    }

    /// Appends the value. Places are counted from the start of `out`.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Byte(value) => out.push(*value),
            Value::Bool(value) => number(out, u32::from(*value).to_ne_bytes()),
            Value::Int16(value) => number(out, value.to_ne_bytes()),
            Value::Uint16(value) => number(out, value.to_ne_bytes()),
            Value::Int32(value) => number(out, value.to_ne_bytes()),
            Value::Uint32(value) => number(out, value.to_ne_bytes()),
            Value::Int64(value) => number(out, value.to_ne_bytes()),
            Value::Uint64(value) => number(out, value.to_ne_bytes()),
            Value::Double(value) => number(out, value.to_ne_bytes()),
            Value::String(text) | Value::Path(text) => {
                number(out, (text.len() as u32).to_ne_bytes());
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Value::Signature(text) => {
                out.push(text.len() as u8);
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Value::Array(element, items) => {
                number(out, [0; 4]);
                let length_at = out.len() - 4;
                // The gap before the first element does not count, but is there for none as well.
                pad(out, alignment(element));
                let start = out.len();
                write_all(items, out);
                let length = (out.len() - start) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
            }
            Value::Struct(fields) => {
                pad(out, 8);
                write_all(fields, out);
            }
            Value::Variant(value) => {
                Value::Signature(value.signature()).write(out);
                value.write(out);
            }
        }
    }
}

fn write_all(values: &[Value], out: &mut Vec<u8>) {
    for value in values {
        value.write(out);
    }
}

/// The type of several values in a row.
fn signature(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// Numbers begin at multiples of their own size.
fn number<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N]) {
    pad(out, N);
    out.extend_from_slice(&bytes);
}

/// Where values of a type begin.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(') => 8,
        _ => 1,
    }
}

/// A call of a method.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// Who is meant. Without a broker in between nobody has a name.
    pub destination: Option<&'a str>,
    /// The object.
    pub path: &'a str,
    /// The method's interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// What it is given.
    pub body: &'a [Value],
    /// [`NO_REPLY`] or 0.
    pub flags: u8,
}

impl Call<'_> {
    /// The whole message; `serial` must not be 0.
    pub(super) fn to_bytes(self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        write_all(self.body, &mut body);
        let mut fields = vec![
            (1, Value::Path(self.path.to_owned())),
            (2, self.interface.into()),
            (3, self.member.into()),
            (8, Value::Signature(signature(self.body))),
        ];
        if let Some(name) = self.destination {
            fields.push((6, name.into()));
        }
        let fields = fields.into_iter().map(|(code, value)| Value::Struct(vec![Value::Byte(code), value.boxed()]));
        let mut out = vec![ORDER, CALL, self.flags, 1];
        number(&mut out, (body.len() as u32).to_ne_bytes());
        number(&mut out, serial.to_ne_bytes());
        Value::Array("(yv)".to_owned(), fields.collect()).write(&mut out);
        pad(&mut out, 8);
        out.extend(body);
        out
    }
}

/// A message that was received. Header fields that it lacks are empty.
#[derive(Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub(super) struct Message {
    pub kind: u8,
    /// The serial of the call that this answers.
    pub reply_to: u32,
    pub interface: String,
    pub member: String,
    pub error: String,
    /// Set by the broker, so that nobody can lie about it.
    pub sender: String,
    /// The body's type.
    pub signature: String,
    body: Vec<u8>,
}

/// How long the message is that begins like this; `None` when it is none, or too long.
pub(super) fn length(first: &[u8; HEADER]) -> Option<usize> {
    let number = |at| u64::from(Reader { bytes: first, at }.u32().unwrap_or(u32::MAX));
    let total = (HEADER as u64 + number(12)).next_multiple_of(8) + number(4);
    (first[0] == ORDER && first[3] == 1 && total <= LONGEST).then_some(total as usize)
}

impl Message {
    /// Takes a whole message apart; `None` when it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
        let fields_end = HEADER + Reader { bytes, at: 12 }.u32()? as usize;
        let mut message = Message {
            kind: *bytes.get(1)?,
            body: bytes.get(fields_end.next_multiple_of(8)..)?.to_vec(),
            ..Message::default()
        };
        let mut reader = Reader { bytes: bytes.get(..fields_end)?, at: HEADER };
        while reader.at < fields_end {
            reader.align(8)?;
            let code = reader.byte()?;
            match (code, reader.signature()?) {
                (5, "u") => message.reply_to = reader.u32()?,
                (8, "g") => reader.signature()?.clone_into(&mut message.signature),
                (2, "s") => reader.string()?.clone_into(&mut message.interface),
                (3, "s") => reader.string()?.clone_into(&mut message.member),
                (4, "s") => reader.string()?.clone_into(&mut message.error),
                (7, "s") => reader.string()?.clone_into(&mut message.sender),
                (_, "s" | "o") => drop(reader.string()?),
                (_, "u") => drop(reader.u32()?),
                // What is unknown must be passed over, and fields of other types are none yet.
                _ => return None,
            }
        }
        Some(message)
    }

    /// The body from its start.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }

    /// The text that the body begins with: a string, an object's path, or either in a variant.
    pub(super) fn text(&self) -> Option<&str> {
        let mut reader = self.reader();
        match self.signature.chars().next()? {
            's' | 'o' => reader.string(),
            'v' if matches!(reader.signature()?, "s" | "o") => reader.string(),
            _ => None,
        }
    }
}

/// Reads values in their order; `None` once something is not there.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, alignment: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(alignment);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A `u`.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        self.take(4)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        let (end, text) = self.take(length.checked_add(1)?)?.split_last()?;
        std::str::from_utf8(text).ok().filter(|_| *end == 0)
    }

    /// An `s` or an `o`.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let length = self.u32()?;
        self.text(length as usize)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

#[cfg(test)]
pub(super) mod tests;
