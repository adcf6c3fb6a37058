//! The frames of a WebSocket as a server reads and writes them (RFC 6455, section 5). No I/O.
//!
//! A message is given out once it is whole, whatever number of frames it came in. What of it has arrived is in the buffer
//! of whoever reads, or here if it is in fragments; how much it will take is known as soon as a frame begins.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a client sent, or is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// In UTF-8.
    Text(Bytes),
    Binary(Bytes),
    /// With at most [`MAX_CONTROL`] bytes, as the next.
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<Close>),
    /// Only sent: frames as they are written.
    Frames(Vec<u8>),
}

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    pub(super) reason: Cow<'static, str>,
}

/// What is no WebSocket, or too much of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// A message is over the limit.
    TooLarge,
    /// A text is not UTF-8.
    NotUtf8,
    /// How the frames break the protocol.
    Protocol(&'static str),
}

/// Makes messages of what a client sends.
#[derive(Debug)]
pub(super) struct Decoder {
    max: usize,
    head: Option<Head>,
    /// Of a message in fragments, those that are here, and whether it is text.
    fragments: Option<(bool, BytesMut)>,
}

/// What a frame begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) is_last: bool,
    pub(super) opcode: u8,
    pub(super) mask: [u8; 4],
    pub(super) length: usize,
}

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
const PONG: u8 = 10;

pub(super) const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
pub(super) const MASKED: u8 = 0x80;
/// In place of a length: it follows in two bytes, or in eight.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// The most bytes of a control frame.
pub(super) const MAX_CONTROL: usize = 125;
/// The longest head of a frame that the server writes.
pub(super) const MAX_HEAD: usize = 10;
/// The longest head of a frame that a client writes, with its mask.
pub(super) const MAX_MASKED_HEAD: usize = MAX_HEAD + 4;
/// A smaller payload is copied out of what was read, which else would stay for as long as the payload does.
const COPIED_BYTES: usize = 4_096;

/// The status codes that are sent (RFC 6455, section 7.4.1; the last is in IANA's registry).
pub(super) mod code {
    /// The connection has done what it was for.
    pub(in crate::http::websocket) const NORMAL: u16 = 1000;
    /// The gateway stops.
    pub(in crate::http::websocket) const AWAY: u16 = 1001;
    /// Not the protocol.
    pub(in crate::http::websocket) const PROTOCOL: u16 = 1002;
    /// A kind of frame that is not taken here.
    pub(in crate::http::websocket) const UNSUPPORTED: u16 = 1003;
    /// A text that is none.
    pub(in crate::http::websocket) const INVALID: u16 = 1007;
    /// Against the rules of this endpoint.
    pub(in crate::http::websocket) const POLICY: u16 = 1008;
    /// Over a limit.
    pub(in crate::http::websocket) const SIZE: u16 = 1009;
    /// To be tried again later.
    pub(in crate::http::websocket) const AGAIN: u16 = 1013;
}

/// Any bytes that come in steps of so many: the messages are those of the bytes in one piece, a message is no longer than it
/// may be, and what the server would write of it reads back.
///
/// # Panics
/// If they are not, it is, or it does not.
#[cfg(any(test, feature = "fuzzing"))]
#[allow(clippy::expect_used, reason = "a promise that is broken is to panic here")]
pub(in crate::http) fn fuzz_wire(bytes: &[u8], step: usize) {
    const MAX: usize = 300;
    let read = |step: usize| {
        let (mut decoder, mut input, mut messages) = (Decoder::new(MAX), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step.max(1)) {
            input.extend_from_slice(piece);
            loop {
                assert!(decoder.expected() <= MAX + MAX_CONTROL, "more is expected than a message and a ping may take");
                match decoder.next(&mut input) {
                    Ok(None) => break,
                    Ok(Some(message)) => messages.push(message),
                    Err(broken) => return (messages, Some(broken)),
                }
            }
        }
        (messages, None)
    };
    let whole = read(bytes.len());
    assert_eq!(read(step), whole, "it matters where the bytes are cut");
    for message in whole.0 {
        assert!(message.size() <= MAX);
        let (expected, mut frame) = (message.clone(), Vec::new());
        assert_eq!(message.write(&mut frame, MAX), None);
        // what a server writes is not masked; with a mask of zeros a client could have sent it
        let head = frame.len() - usize::from(frame[1] & !MASKED).min(frame.len() - 2);
        let head = if frame[1] == LENGTH_16 { 4 } else { head };
        frame[1] |= MASKED;
        frame.splice(head..head, [0; 4]);
        let again = Decoder::new(MAX).next(&mut BytesMut::from(&frame[..]));
        assert_eq!(again.expect("what is written is taken"), Some(expected));
    }
}

// === impl Head ===

impl Head {
    /// What the frame begins with that is at the start of `input`, and how many bytes that are; `None`: it is not all there.
    /// `within`: of the message that has begun before it, more is to come. `max`: of the payload of a message, inclusive.
    pub(super) fn read(input: &[u8], within: bool, max: usize) -> Result<Option<(Self, usize)>, Broken> {
        let [first, second, ..] = input[..] else { return Ok(None) };
        let (is_last, opcode, short) = (first & FIN != 0, first & 0x0f, second & !MASKED);
        if first & RESERVED != 0 {
            return Err(Broken::Protocol("a reserved bit is set"));
        }
        if second & MASKED == 0 {
            return Err(Broken::Protocol("a frame is not masked"));
        }
        match (opcode, within) {
            (CONTINUATION, true) | (TEXT | BINARY, false) => {}
            (CONTINUATION, false) => return Err(Broken::Protocol("a frame goes on with nothing")),
            (TEXT | BINARY, true) => return Err(Broken::Protocol("a message begins within another")),
            (CLOSE | PING | PONG, _) if !is_last => return Err(Broken::Protocol("a control frame is in fragments")),
            (CLOSE | PING | PONG, _) if usize::from(short) > MAX_CONTROL => {
                return Err(Broken::Protocol("a control frame is too long"));
            }
            (CLOSE | PING | PONG, _) => {}
            _ => return Err(Broken::Protocol("an opcode is unknown")),
        }
        let more = match short {
            LENGTH_16 => 2,
            LENGTH_64 => 8,
            _ => 0,
        };
        let Some(rest) = input.get(2..2 + more + 4) else { return Ok(None) };
        let (long, mask) = rest.split_at(more);
        let length = match more {
            0 => u64::from(short),
            _ => long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let fits = usize::try_from(length).ok().filter(|length| opcode >= CLOSE || *length <= max);
        let length = fits.ok_or(Broken::TooLarge)?;
        if (more == 2 && length < usize::from(LENGTH_16)) || (more == 8 && length <= usize::from(u16::MAX)) {
            return Err(Broken::Protocol("a length is written longer than it is"));
        }
        let head = Self { is_last, opcode, mask: [mask[0], mask[1], mask[2], mask[3]], length };
        Ok(Some((head, 2 + more + 4)))
    }
}

// === impl Decoder ===

impl Decoder {
    /// `max`: of a message, inclusive.
    pub(super) fn new(max: usize) -> Self {
        Self { max, head: None, fragments: None }
    }

    /// Takes the next message out of `input`; `None`: it is not whole yet.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Message>, Broken> {
        loop {
            let head = match self.head {
                Some(head) => head,
                None => {
                    let Some(head) = self.begin(input)? else { return Ok(None) };
                    *self.head.insert(head)
                }
            };
            if input.len() < head.length {
                return Ok(None);
            }
            self.head = None;
            if let Some(message) = self.end(head, input)? {
                return Ok(Some(message));
            }
        }
    }

    /// What the message that is not whole takes, as far as it is known.
    pub(super) fn expected(&self) -> usize {
        let here = self.fragments.as_ref().map_or(0, |(_, fragments)| fragments.len());
        here + self.head.map_or(0, |head| head.length)
    }

    /// Of the frame that is not whole, what is not in `input`; of its head nothing is known.
    pub(super) fn missing(&self, input: &BytesMut) -> usize {
        self.head.map_or(0, |head| head.length.saturating_sub(input.len()))
    }

    /// Whether a message has begun.
    pub(super) fn is_within(&self, input: &BytesMut) -> bool {
        self.head.is_some() || self.fragments.is_some() || !input.is_empty()
    }

    fn begin(&self, input: &mut BytesMut) -> Result<Option<Head>, Broken> {
        let here = self.fragments.as_ref().map_or(0, |(_, fragments)| fragments.len());
        let read = Head::read(input, self.fragments.is_some(), self.max - here)?;
        let Some((head, size)) = read else { return Ok(None) };
        input.advance(size);
        Ok(Some(head))
    }

    /// The payload of the frame is whole.
    fn end(&mut self, head: Head, input: &mut BytesMut) -> Result<Option<Message>, Broken> {
        unmask(&mut input[..head.length], head.mask);
        let is_data = head.opcode < CLOSE;
        if is_data && (!head.is_last || self.fragments.is_some()) {
            let (_, fragments) = self.fragments.get_or_insert_with(|| (head.opcode == TEXT, BytesMut::new()));
            // once and for all if there is much to come; never more than the message may take
            fragments.extend_from_slice(&input[..head.length]);
            input.advance(head.length);
            if !head.is_last {
                return Ok(None);
            }
            let whole = self.fragments.take();
            return whole.map(|(is_text, bytes)| data(is_text, bytes.freeze())).transpose();
        }
        let payload = match head.length {
            0 => Bytes::new(),
            length if length <= COPIED_BYTES => {
                let copied = Bytes::copy_from_slice(&input[..length]);
                input.advance(length);
                copied
            }
            length => input.split_to(length).freeze(),
        };
        Ok(Some(match head.opcode {
            TEXT | BINARY => data(head.opcode == TEXT, payload)?,
            PING => Message::Ping(payload),
            PONG => Message::Pong(payload),
            _ => Message::Close(Close::read(&payload)?),
        }))
    }
}

fn data(is_text: bool, bytes: Bytes) -> Result<Message, Broken> {
    if !is_text {
        return Ok(Message::Binary(bytes));
    }
    match std::str::from_utf8(&bytes) {
        Ok(_) => Ok(Message::Text(bytes)),
        Err(_) => Err(Broken::NotUtf8),
    }
}

/// The head of a frame that a server writes.
pub(super) fn put_head(out: &mut impl BufMut, opcode: u8, length: usize) {
    out.put_u8(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..LENGTH_16), _) => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(LENGTH_16);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(LENGTH_64);
            out.put_u64(length as u64);
        }
    }
}

/// Eight bytes at once.
pub(super) fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

// === impl Message ===

impl Message {
    /// Text that is known to be UTF-8.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into())
    }

    /// What its frame carries.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(_) => MAX_CONTROL,
            Self::Frames(frames) => frames.len(),
        }
    }

    /// Appends its frame, but for a payload of over `most` bytes: that comes back, and is to follow.
    pub(super) fn write(self, out: &mut Vec<u8>, most: usize) -> Option<Bytes> {
        let (opcode, payload) = match self {
            Self::Text(bytes) => (TEXT, bytes),
            Self::Binary(bytes) => (BINARY, bytes),
            Self::Ping(bytes) => (PING, bytes),
            Self::Pong(bytes) => (PONG, bytes),
            Self::Close(close) => (CLOSE, close.map(|close| close.written()).unwrap_or_default()),
            Self::Frames(frames) if out.is_empty() => {
                *out = frames;
                return None;
            }
            Self::Frames(frames) => {
                out.extend_from_slice(&frames);
                return None;
            }
        };
        out.reserve(MAX_HEAD + if payload.len() > most { 0 } else { payload.len() });
        put_head(out, opcode, payload.len());
        if payload.len() > most {
            return Some(payload);
        }
        out.extend_from_slice(&payload);
        None
    }
}

// === impl Close ===

impl Close {
    /// An empty payload is a close without a reason.
    pub(super) fn read(payload: &[u8]) -> Result<Option<Self>, Broken> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(Broken::Protocol("half a status code")),
            [first, second, reason @ ..] => (u16::from_be_bytes([*first, *second]), reason),
        };
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Broken::Protocol("a status code that is none"));
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Broken::NotUtf8)?.to_owned();
        Ok(Some(Self { code, reason: reason.into() }))
    }

    /// With as much of the reason as a control frame has room for.
    pub(super) fn written(self) -> Bytes {
        let room = MAX_CONTROL - 2;
        let end = (0..=room.min(self.reason.len())).rev().find(|at| self.reason.is_char_boundary(*at));
        let mut out = Vec::with_capacity(MAX_CONTROL);
        out.put_u16(self.code);
        out.extend_from_slice(&self.reason.as_bytes()[..end.unwrap_or(0)]);
        out.into()
    }
}

#[cfg(test)]
mod tests;
