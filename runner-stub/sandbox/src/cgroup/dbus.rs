//! As much of D-Bus as one method call to systemd's private socket takes: no bus, no daemon, no crate of half a megabyte.
//!
//! A message is a fixed header, an array of header fields and a body, everything aligned to its size, counted from the
//! message's start (D-Bus specification, "Message Format"). What comes in is read with every bound checked.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A body or header on its way out. Little-endian.
#[derive(Debug, Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.align(4);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.u32(u32::try_from(text.len()).unwrap_or(0));
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    pub(super) fn signature(&mut self, text: &str) -> &mut Self {
        self.0.push(u8::try_from(text.len()).unwrap_or(0));
        self.0.extend(text.as_bytes());
        self.0.push(0);
        self
    }

    pub(super) fn structure(&mut self) -> &mut Self {
        self.align(8);
        self
    }

    /// An array whose elements are aligned to `to`.
    pub(super) fn array(&mut self, to: usize, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.u32(0);
        let length_at = self.0.len() - 4;
        self.align(to);
        let start = self.0.len();
        fill(self);
        let length = u32::try_from(self.0.len() - start).unwrap_or(0);
        self.0[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        self
    }
}

/// A message that came in: what is of use of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// 2 is a reply, 3 an error, 4 a signal.
    pub(super) kind: u8,
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    /// The strings and object paths of the body in order, numbers left out.
    pub(super) strings: Vec<String>,
}

/// More than systemd has to say.
const LONGEST: usize = 64 * 1024;

/// A connection to a peer that speaks D-Bus without a bus between.
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is no D-Bus message")
}

impl Connection {
    /// Connects and proves who we are: by the socket's own credentials, so only the number has to be right.
    pub(super) fn open(path: &Path, uid: u32) -> io::Result<Self> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        let hex: String = uid.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 256 {
                return Err(damaged());
            }
        }
        if line.starts_with(b"OK ") {
            Ok(Connection { stream, serial: 0 })
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, "it does not accept us"))
        }
    }

    /// Calls a method of systemd's manager; its number, which the reply names.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: &Encoder) -> io::Result<u32> {
        self.serial += 1;
        let message = call(member, signature, body, self.serial);
        self.stream.write_all(&message)?;
        Ok(self.serial)
    }

    /// The next message.
    pub(super) fn receive(&mut self) -> io::Result<Message> {
        let mut start = [0; 16];
        self.stream.read_exact(&mut start)?;
        let (body, fields) = lengths(&start)?;
        let rest = fields.next_multiple_of(8).checked_add(body).filter(|rest| *rest <= LONGEST);
        let mut message = start.to_vec();
        message.resize(16 + rest.ok_or_else(damaged)?, 0);
        self.stream.read_exact(&mut message[16..])?;
        parse(&message)
    }
}

fn call(member: &str, signature: &str, body: &Encoder, serial: u32) -> Vec<u8> {
    let mut message = Encoder(vec![b'l', 1, 0, 1]);
    message.u32(u32::try_from(body.0.len()).unwrap_or(0)).u32(serial);
    message.array(8, |fields| {
        fields.structure().0.push(1);
        fields.signature("o").string("/org/freedesktop/systemd1");
        fields.structure().0.push(2);
        fields.signature("s").string("org.freedesktop.systemd1.Manager");
        fields.structure().0.push(3);
        fields.signature("s").string(member);
        fields.structure().0.push(6);
        fields.signature("s").string("org.freedesktop.systemd1");
        fields.structure().0.push(8);
        fields.signature("g").signature(signature);
    });
    message.align(8);
    message.0.extend(&body.0);
    message.0
}

fn number(bytes: &[u8], at: usize) -> io::Result<u32> {
    let four = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or_else(damaged)?;
    Ok(u32::from_le_bytes(four.try_into().map_err(|_| damaged())?))
}

/// Lengths of the body and of the header's fields.
fn lengths(start: &[u8; 16]) -> io::Result<(usize, usize)> {
    if start[0] != b'l' || start[3] != 1 {
        return Err(damaged());
    }
    let length = |at| number(start, at).and_then(|n| usize::try_from(n).map_err(|_| damaged()));
    Ok((length(4)?, length(12)?))
}

pub(super) fn parse(message: &[u8]) -> io::Result<Message> {
    let start: &[u8; 16] = message.first_chunk().ok_or_else(damaged)?;
    let (_, fields) = lengths(start)?;
    let mut found = Message { kind: start[1], ..Message::default() };
    let mut signature = String::new();
    let mut decoder = Decoder { bytes: message, at: 16 };
    let end = 16_usize.checked_add(fields).filter(|end| *end <= message.len()).ok_or_else(damaged)?;
    while decoder.at < end {
        decoder.align(8);
        let code = decoder.byte()?;
        match (decoder.signature()?.as_str(), code) {
            ("u", 5) => found.reply_to = decoder.u32()?,
            ("u", _) => drop(decoder.u32()?),
            ("g", 8) => signature = decoder.signature()?,
            ("g", _) => drop(decoder.signature()?),
            ("s" | "o", code) => {
                let text = decoder.string()?;
                match code {
                    3 => found.member = text,
                    4 => found.error = text,
                    _ => {}
                }
            }
            _ => return Err(damaged()),
        }
    }
    decoder.at = end;
    decoder.align(8);
    // All that systemd tells us of interest are strings, paths and numbers.
    for kind in signature.bytes() {
        match kind {
            b's' | b'o' => found.strings.push(decoder.string()?),
            b'u' => drop(decoder.u32()?),
            _ => break,
        }
    }
    Ok(found)
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Decoder<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> io::Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(damaged)?;
        self.at += 1;
        Ok(byte)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let value = number(self.bytes, self.at)?;
        self.at += 4;
        Ok(value)
    }

    fn text(&mut self, length: usize) -> io::Result<String> {
        let end = self.at.checked_add(length).ok_or_else(damaged)?;
        let text = self.bytes.get(self.at..end).ok_or_else(damaged)?;
        let text = String::from_utf8(text.to_vec()).map_err(|_| damaged())?;
        self.at = end + 1;
        Ok(text)
    }

    fn string(&mut self) -> io::Result<String> {
        let length = self.u32()?;
        self.text(usize::try_from(length).map_err(|_| damaged())?)
    }

    fn signature(&mut self) -> io::Result<String> {
        let length = self.byte()?;
        self.text(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reads_back() {
        let mut body = Encoder::default();
        body.string("name").u32(7).string("mode");
        let message = call("Frobnicate", "sus", &body, 9);
        let parsed = parse(&message).unwrap();
        assert_eq!((parsed.kind, parsed.member.as_str()), (1, "Frobnicate"));
        assert_eq!(parsed.strings, ["name", "mode"]);
    }

    #[test]
    fn nothing_that_comes_in_leads_past_its_end() {
        let mut body = Encoder::default();
        body.string("text");
        let message = call("M", "s", &body, 1);
        for length in 0..message.len() {
            let _ = parse(&message[..length]);
        }
        for at in 0..message.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = message.clone();
                damaged[at] = value;
                let _ = parse(&damaged);
            }
        }
    }

    #[test]
    fn arrays_are_counted_without_their_padding() {
        let mut body = Encoder::default();
        body.array(8, |array| {
            array.structure().string("a");
        });
        assert_eq!(body.0, [6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'a', 0]);
    }
}
