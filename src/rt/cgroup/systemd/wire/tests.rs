use super::*;

/// A message as another side would send it: an answer or a signal.
pub(in super::super) fn message(kind: u8, fields: &[(u8, Value)], body: &[Value]) -> Vec<u8> {
    let mut content = Vec::new();
    write_all(body, &mut content);
    let mut fields = fields.to_vec();
    fields.push((8, Value::Signature(signature(body))));
    let fields = fields.into_iter().map(|(code, value)| Value::Struct(vec![Value::Byte(code), value.boxed()]));
    let mut out = vec![ORDER, kind, 0, 1];
    number(&mut out, (content.len() as u32).to_ne_bytes());
    number(&mut out, 1u32.to_ne_bytes());
    Value::Array("(yv)".to_owned(), fields.collect()).write(&mut out);
    pad(&mut out, 8);
    out.extend(content);
    out
}

/// xorshift: the same numbers every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn value(&mut self, depth: u32) -> Value {
        let kinds = if depth == 0 { 12 } else { 15 };
        match self.below(kinds) {
            0 => Value::Byte(self.below(256) as u8),
            1 => Value::Bool(self.below(2) == 1),
            2 => Value::Int16(self.below(65_536) as i16),
            3 => Value::Uint16(self.below(65_536) as u16),
            4 => Value::Int32(self.below(1 << 32) as i32),
            5 => Value::Uint32(self.below(1 << 32) as u32),
            6 => Value::Int64(self.below(u64::MAX) as i64),
            7 => Value::Uint64(self.below(u64::MAX)),
            8 => Value::Double(self.below(1 << 40) as f64 / 3.0),
            9 => Value::String("ä".repeat(self.below(9) as usize)),
            10 => Value::Path(format!("/{}", "x".repeat(self.below(9) as usize))),
            11 => Value::Signature("a(ss)"[..[0, 5][self.below(2) as usize]].to_owned()),
            12 => {
                let one = self.value(depth - 1);
                let items = vec![one.clone(); self.below(4) as usize];
                Value::Array(one.signature(), items)
            }
            13 => Value::Struct((0..=self.below(3)).map(|_| self.value(depth - 1)).collect()),
            _ => self.value(depth - 1).boxed(),
        }
    }
}

/// Reads any value back: written from the specification, apart from what it tests.
fn read(reader: &mut Reader<'_>, kind: &mut &str) -> Option<Value> {
    fn raw<const N: usize>(reader: &mut Reader<'_>) -> Option<[u8; N]> {
        reader.align(N)?;
        reader.take(N)?.first_chunk().copied()
    }
    let code = kind.chars().next()?;
    *kind = &kind[1..];
    Some(match code {
        'y' => Value::Byte(reader.byte()?),
        'b' => Value::Bool(reader.u32()? == 1),
        'n' => Value::Int16(i16::from_ne_bytes(raw(reader)?)),
        'q' => Value::Uint16(u16::from_ne_bytes(raw(reader)?)),
        'i' => Value::Int32(i32::from_ne_bytes(raw(reader)?)),
        'u' => Value::Uint32(reader.u32()?),
        'x' => Value::Int64(i64::from_ne_bytes(raw(reader)?)),
        't' => Value::Uint64(u64::from_ne_bytes(raw(reader)?)),
        'd' => Value::Double(f64::from_ne_bytes(raw(reader)?)),
        's' => Value::String(reader.string()?.to_owned()),
        'o' => Value::Path(reader.string()?.to_owned()),
        'g' => Value::Signature(reader.signature()?.to_owned()),
        'v' => {
            let mut inner = reader.signature()?;
            read(reader, &mut inner)?.boxed()
        }
        'a' => {
            let length = reader.u32()? as usize;
            reader.align(alignment(kind))?;
            let end = reader.at + length;
            let (mut items, mut rest) = (Vec::new(), *kind);
            while reader.at < end {
                rest = kind;
                items.push(read(reader, &mut rest)?);
            }
            assert_eq!(reader.at, end);
            if items.is_empty() {
                // Only the type says how long the type is.
                rest = after_type(kind);
            }
            let element = kind[..kind.len() - rest.len()].to_owned();
            *kind = rest;
            Value::Array(element, items)
        }
        '(' => {
            reader.align(8)?;
            let mut fields = Vec::new();
            while !kind.starts_with(')') {
                fields.push(read(reader, kind)?);
            }
            *kind = &kind[1..];
            Value::Struct(fields)
        }
        _ => return None,
    })
}

/// What follows the first complete type.
fn after_type(kind: &str) -> &str {
    let mut rest = &kind[1..];
    match kind.as_bytes()[0] {
        b'a' => after_type(rest),
        b'(' => {
            while !rest.starts_with(')') {
                rest = after_type(rest);
            }
            &rest[1..]
        }
        _ => rest,
    }
}

#[test]
fn any_value_comes_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..3000 {
        let values: Vec<Value> = (0..=random.below(4)).map(|_| random.value(4)).collect();
        let mut bytes = Vec::new();
        write_all(&values, &mut bytes);
        let mut reader = Reader { bytes: &bytes, at: 0 };
        let kinds = signature(&values);
        let mut kind = kinds.as_str();
        let back: Option<Vec<Value>> = values.iter().map(|_| read(&mut reader, &mut kind)).collect();
        assert_eq!(back.as_ref(), Some(&values), "round {round}: {kinds}");
        assert_eq!((reader.at, kind), (bytes.len(), ""));
    }
}

#[test]
#[cfg(target_endian = "little")]
fn calls_are_laid_out_as_the_specification_says() {
    let call = Call {
        destination: Some("a.b"),
        path: "/",
        interface: "c.d",
        member: "E",
        body: &[Value::from("xy"), Value::Array("t".to_owned(), vec![Value::Uint64(5)])],
        flags: 0,
    };
    let mut expected = b"l\x01\0\x01".to_vec();
    expected.extend(b"\x18\0\0\0\x07\0\0\0\x4c\0\0\0");
    expected.extend(b"\x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0");
    expected.extend(b"\x02\x01s\0\x03\0\0\0c.d\0\0\0\0\0");
    expected.extend(b"\x03\x01s\0\x01\0\0\0E\0\0\0\0\0\0\0");
    expected.extend(b"\x08\x01g\0\x03sat\0\0\0\0\0\0\0\0");
    expected.extend(b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0");
    expected.extend(b"\x02\0\0\0xy\0\0\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0");
    let bytes = call.to_bytes(7);
    assert_eq!(bytes, expected);
    assert_eq!(length(bytes.first_chunk().unwrap()), Some(bytes.len()));
}

#[test]
fn answers_are_read() {
    let bytes = message(
        SIGNAL,
        &[(1, Value::Path("/x".into())), (3, "JobRemoved".into()), (7, ":1.2".into()), (5, Value::Uint32(9))],
        &[Value::Uint32(4), Value::Path("/job/4".into()), "unit".into(), "done".into()],
    );
    assert_eq!(length(bytes.first_chunk().unwrap()), Some(bytes.len()));
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.kind, message.reply_to), (SIGNAL, 9));
    assert_eq!((message.member.as_str(), message.sender.as_str()), ("JobRemoved", ":1.2"));
    let mut reader = message.reader();
    let read = (reader.u32(), reader.string(), reader.string(), reader.string(), reader.string());
    assert_eq!(read, (Some(4), Some("/job/4"), Some("unit"), Some("done"), None));
    assert_eq!(message.text(), None);
}

#[test]
fn texts_are_found_in_variants_too() {
    let text = |value: Value| Message::parse(&self::message(REPLY, &[], &[value])).unwrap().text().map(str::to_owned);
    assert_eq!(text("a".into()).as_deref(), Some("a"));
    assert_eq!(text(Value::Path("/a".into()).boxed()).as_deref(), Some("/a"));
    assert_eq!(text(Value::Uint32(1).boxed()), None);
}

#[test]
fn broken_messages_are_none_and_break_nothing() {
    let whole = message(ERROR, &[(4, "a.B".into()), (5, Value::Uint32(3))], &["why".into()]);
    for end in HEADER..whole.len() {
        if let Some(message) = Message::parse(&whole[..end]) {
            assert_eq!(message.text(), None, "{end}");
        }
    }
    let mut random = Random(7);
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        let _ = length(bytes.first_chunk().unwrap());
        let _ = Message::parse(&bytes).map(|message| message.text().map(str::len));
    }
    // A length that would wrap, another byte order, another version.
    let first = |change: fn(&mut [u8; HEADER])| {
        let mut first = *whole.first_chunk().unwrap();
        change(&mut first);
        length(&first)
    };
    assert_eq!(first(|first| first[4..8].fill(0xff)), None);
    assert_eq!(first(|first| first[12..16].fill(0xff)), None);
    assert_eq!(first(|first| first[0] = b'?'), None);
    assert_eq!(first(|first| first[3] = 2), None);
}

#[test]
fn fuzz_messages() {
    let fields = [(5, Value::Uint32(7)), (3, "JobRemoved".into()), (4, "org.freedesktop.DBus.Error.Failed".into())];
    let body = [Value::Uint32(1), "text".into(), Value::from("x").boxed()];
    let seeds = [message(2, &fields, &body), message(3, &fields[2..], &body[1..]), message(4, &fields[..1], &[])];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    crate::fuzz::fuzz(&seeds, |bytes| {
        if let Some(length) = bytes.first_chunk().and_then(length) {
            assert!(length as u64 <= LONGEST);
        }
        if let Some(message) = Message::parse(bytes) {
            let mut reader = message.reader();
            let _ = (message.text(), reader.u32(), reader.string());
        }
    });
}
