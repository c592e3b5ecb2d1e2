//! D-Bus messages as bytes: the part of the wire format that talking to systemd takes (D-Bus Specification, "Message
//! Protocol"). Little-endian only: the bus and systemd run on this machine.

/// A value of a D-Bus type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    /// An IEEE 754 double by its bits.
    Double(u64),
    Str(String),
    Path(String),
    Signature(String),
    /// The signature of the elements, and they.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// As D-Bus spells types: `s`, `a(sv)`.
    pub(super) fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::I16(_) => "n".into(),
            Self::U16(_) => "q".into(),
            Self::I32(_) => "i".into(),
            Self::U32(_) => "u".into(),
            Self::I64(_) => "x".into(),
            Self::U64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Str(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
            Self::Variant(_) => "v".into(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        pad(out, alignment(self.signature().as_bytes()[0]));
        match self {
            Self::Byte(n) => out.push(*n),
            Self::Bool(n) => out.extend(u32::from(*n).to_le_bytes()),
            Self::I16(n) => out.extend(n.to_le_bytes()),
            Self::U16(n) => out.extend(n.to_le_bytes()),
            Self::I32(n) => out.extend(n.to_le_bytes()),
            Self::U32(n) => out.extend(n.to_le_bytes()),
            Self::I64(n) => out.extend(n.to_le_bytes()),
            Self::U64(n) | Self::Double(n) => out.extend(n.to_le_bytes()),
            Self::Str(text) | Self::Path(text) => {
                out.extend((text.len() as u32).to_le_bytes());
                out.extend(text.bytes().chain([0]));
            }
            Self::Signature(text) => write_signature(text, out),
            Self::Array(element, values) => {
                let length_at = out.len();
                out.extend([0; 4]);
                // The padding to the first element is there even if there is none, and does not count.
                pad(out, alignment(element.bytes().next().unwrap_or(b'y')));
                let start = out.len();
                values.iter().for_each(|value| value.write(out));
                let length = (out.len() - start) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Struct(fields) => fields.iter().for_each(|field| field.write(out)),
            Self::Variant(value) => {
                write_signature(&value.signature(), out);
                value.write(out);
            }
        }
    }
}

fn write_signature(text: &str, out: &mut Vec<u8>) {
    out.push(text.len() as u8);
    out.extend(text.bytes().chain([0]));
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

/// Kinds of messages.
pub(super) const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// A message that was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    pub path: String,
    pub interface: String,
    pub member: String,
    pub error: String,
    pub reply_to: u32,
    pub sender: String,
    pub body: Vec<Value>,
}

/// Where a method is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

/// The bytes of a method call.
pub(super) fn encode(method: Method, serial: u32, arguments: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| argument.write(&mut body));
    let field = |code, value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let mut fields = vec![
        field(1, Value::Path(method.path.into())),
        field(2, Value::text(method.interface)),
        field(3, Value::text(method.member)),
        field(6, Value::text(method.destination)),
    ];
    if !arguments.is_empty() {
        fields.push(field(8, Value::Signature(arguments.iter().map(Value::signature).collect())));
    }
    let mut out = vec![b'l', METHOD_CALL, 0, 1];
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(serial.to_le_bytes());
    Value::Array("(yv)".into(), fields).write(&mut out);
    pad(&mut out, 8);
    out.extend(body);
    out
}

/// More than systemd ever says to us.
const LENGTH_MAX: usize = 1 << 20;

/// How long the message is that begins here, if so much of it is there that this can be told. An error is no message of ours.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(start) = bytes.first_chunk::<16>() else { return Ok(None) };
    if start[0] != b'l' || start[3] != 1 {
        return Err("it is no D-Bus message of this machine's byte order");
    }
    let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]) as usize;
    let (body, fields) = (number(4), number(12));
    if body > LENGTH_MAX || fields > LENGTH_MAX {
        return Err("it is too long");
    }
    Ok(Some((16 + fields).next_multiple_of(8) + body))
}

/// Reads one whole message.
pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes, at: 12 };
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    let mut signature = String::new();
    let Value::Array(_, fields) = reader.value("a(yv)", 0)? else { return None };
    for field in fields {
        let Value::Struct(field) = field else { return None };
        let [Value::Byte(code), Value::Variant(value)] = &field[..] else { return None };
        match (code, &**value) {
            (1, Value::Path(text)) => message.path.clone_from(text),
            (2, Value::Str(text)) => message.interface.clone_from(text),
            (3, Value::Str(text)) => message.member.clone_from(text),
            (4, Value::Str(text)) => message.error.clone_from(text),
            (5, Value::U32(serial)) => message.reply_to = *serial,
            (7, Value::Str(text)) => message.sender.clone_from(text),
            (8, Value::Signature(text)) => signature.clone_from(text),
            _ => {}
        }
    }
    reader.align(8)?;
    // Alignment counts from the start of the message, a multiple of 8 either way.
    let mut rest = signature.as_str();
    while !rest.is_empty() {
        let (one, after) = rest.split_at_checked(complete(rest)?)?;
        message.body.push(reader.value(one, 0)?);
        rest = after;
    }
    Some(message)
}

/// Length of the first complete type of a signature.
fn complete(signature: &str) -> Option<usize> {
    match signature.as_bytes().first()? {
        b'a' => complete(&signature[1..]).map(|length| length + 1),
        open @ (b'(' | b'{') => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut at = 1;
            while *signature.as_bytes().get(at)? != close {
                at += complete(signature.get(at..)?)?;
            }
            Some(at + 1)
        }
        kind if b"ybnqiuxtdsogvh".contains(kind) => Some(1),
        _ => None,
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, alignment: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(alignment);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*bytes)
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length + 1;
        (self.at <= self.bytes.len()).then(|| String::from_utf8(bytes.to_vec()).ok())?
    }

    /// One value of one complete type. Nesting is bounded, since it is another's word.
    fn value(&mut self, signature: &str, depth: usize) -> Option<Value> {
        if depth > 16 {
            return None;
        }
        let kind = *signature.as_bytes().first()?;
        self.align(alignment(kind))?;
        Some(match kind {
            b'y' => Value::Byte(self.take::<1>()?[0]),
            b'b' => Value::Bool(u32::from_le_bytes(self.take()?) != 0),
            b'n' => Value::I16(i16::from_le_bytes(self.take()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.take()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.take()?)),
            b'u' | b'h' => Value::U32(u32::from_le_bytes(self.take()?)),
            b'x' => Value::I64(i64::from_le_bytes(self.take()?)),
            b't' => Value::U64(u64::from_le_bytes(self.take()?)),
            b'd' => Value::Double(u64::from_le_bytes(self.take()?)),
            b's' | b'o' => {
                let length = u32::from_le_bytes(self.take()?) as usize;
                let text = self.string(length)?;
                if kind == b's' { Value::Str(text) } else { Value::Path(text) }
            }
            b'g' => {
                let length = usize::from(self.take::<1>()?[0]);
                Value::Signature(self.string(length)?)
            }
            b'v' => {
                let length = usize::from(self.take::<1>()?[0]);
                let inner = self.string(length)?;
                (complete(&inner)? == inner.len()).then_some(())?;
                Value::Variant(Box::new(self.value(&inner, depth + 1)?))
            }
            b'a' => {
                let element = signature.get(1..)?;
                let length = u32::from_le_bytes(self.take()?) as usize;
                self.align(alignment(*element.as_bytes().first()?))?;
                let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
                let mut values = Vec::new();
                while self.at < end {
                    values.push(self.value(element, depth + 1)?);
                }
                (self.at == end).then_some(Value::Array(element.into(), values))?
            }
            b'(' | b'{' => {
                let mut rest = signature.get(1..signature.len() - 1)?;
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (one, after) = rest.split_at_checked(complete(rest)?)?;
                    fields.push(self.value(one, depth + 1)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &[Value]) -> Vec<u8> {
        encode(Method { destination: "a.b", path: "/c", interface: "d.e", member: "F" }, 7, arguments)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let property = |name: &str, value| Value::Struct(vec![Value::text(name), Value::Variant(Box::new(value))]);
        let arguments = [
            Value::text("x.scope"),
            Value::Bool(true),
            Value::Array(
                "(sv)".into(),
                vec![
                    property("PIDs", Value::Array("u".into(), vec![Value::U32(5)])),
                    property("MemoryMax", Value::U64(u64::MAX)),
                    property(
                        "DeviceAllow",
                        Value::Array("(ss)".into(), vec![Value::Struct(vec![Value::text("/dev/x"), Value::text("r")])]),
                    ),
                    property("Weight", Value::Double(1.5f64.to_bits())),
                ],
            ),
            Value::Array("(sa(sv))".into(), vec![]),
            Value::I16(-2),
            Value::Path("/o".into()),
        ];
        let bytes = call(&arguments);
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        let message = decode(&bytes).expect("well-formed");
        assert_eq!((message.kind, message.path.as_str(), message.interface.as_str(), message.member.as_str()), (1, "/c", "d.e", "F"));
        assert_eq!(message.body, arguments);
    }

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        // As dbus-send writes it, but for the order of the header's fields.
        let bytes = call(&[Value::text("hi")]);
        assert_eq!(bytes[..16], [b'l', 1, 0, 1, 7, 0, 0, 0, 7, 0, 0, 0, 71, 0, 0, 0]);
        assert_eq!(bytes[16..32], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'c', 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[bytes.len() - 7..], [2, 0, 0, 0, b'h', b'i', 0]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good =
            call(&[Value::Array("(sv)".into(), vec![Value::Struct(vec![Value::text("a"), Value::Variant(Box::new(Value::U64(1)))])])]);
        for cut in 0..good.len() {
            let _ = (length(&good[..cut]), decode(&good[..cut]));
        }
        for at in 0..good.len() {
            for byte in [0, 1, 0x28, 0x61, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = (length(&bad), decode(&bad));
            }
        }
        assert!(length(b"HTTP/1.1 400 Bad").is_err());
        assert_eq!(complete(&"a".repeat(300)), None);
        assert_eq!((complete("a(sa(sv))u"), complete("(s"), complete("z")), (Some(9), None, None));
    }
}
