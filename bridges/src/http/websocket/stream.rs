//! A WebSocket as a stream of bytes, for a protocol that is spoken in its binary frames.
//!
//! Where frames begin and end means nothing, so nothing waits for the end of one: the payload is handed on as it comes, and
//! no more is kept than the head of a frame and a ping. How much memory a packet takes, and how long it may, is up to the
//! protocol, as over TCP. What is written goes out in frames with its bytes where they are.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::{
    BINARY, Broken, CLOSE, Close, Head, MAX_CONTROL, MAX_MASKED_HEAD, Message, PING, TEXT, code, put_head, unmask,
};

/// The bytes in the binary frames of a WebSocket, on the side of the server.
///
/// Who polls it writes before it reads, in one task: an answer to a ping waits for the end of a frame that is being
/// written, and then nothing is read before it has left. Or who sends pings and does not read fills the memory.
#[derive(Debug)]
pub(crate) struct ByteStream<S> {
    stream: S,
    /// What was read with the handshake.
    early: Bytes,
    payloads: Payloads,
    /// What goes out before anything else: the head of the frame that has begun, or a control frame.
    out: Vec<u8>,
    /// Of the frame that has begun, so much of the payload is to follow.
    left: usize,
    /// A ping is being answered: nothing more is read before the answer has left.
    answering: bool,
    /// The last word has been said.
    closed: bool,
}

/// What is in a client's binary frames, found in bytes as they come. No I/O.
#[derive(Debug, Default)]
struct Payloads {
    /// The start of a frame whose head is not all there.
    start: [u8; MAX_MASKED_HEAD],
    started: u8,
    frame: Option<Frame>,
    /// A message is in fragments, and more of it is to come.
    within: bool,
    /// Of a control frame, what is here.
    control: Vec<u8>,
    /// The answer to the last ping.
    pong: Option<Vec<u8>>,
    /// Why nothing more comes.
    end: Option<End>,
}

/// Why nothing more comes of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// It has said so.
    Closed(Option<Close>),
    /// It sends text.
    Text,
    Broken(Broken),
}

/// A frame that has begun.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    /// As it is to be used on the next byte.
    mask: [u8; 4],
    /// What is to come of its payload.
    left: usize,
}

/// The longest frame of a client: the highest bit of a length is none of it (RFC 6455, section 5.2).
const MAX_LENGTH: usize = isize::MAX as usize;
/// The most bytes that go into one frame that is written.
const MAX_FRAME: usize = 65_536;

// === impl ByteStream ===

impl<S> ByteStream<S> {
    /// `early` was read before, with the request.
    pub(crate) fn new(stream: S, early: Bytes) -> Self {
        Self { stream, early, payloads: Payloads::default(), out: Vec::new(), left: 0, answering: false, closed: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ByteStream<S> {
    /// Writes what goes out before anything else.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_pong();
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
            self.wrote(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Answers a ping, unless within a frame, or behind the last word (RFC 6455, section 5.5.1).
    fn say_pong(&mut self) {
        if self.left == 0
            && !self.closed
            && let Some(pong) = self.payloads.pong.take()
        {
            self.answering = true;
            Message::Pong(pong.into()).write(&mut self.out, MAX_CONTROL);
        }
    }

    /// The last word, for as far as it can be said at once.
    fn say_close(&mut self, close: Option<Close>, cx: &mut Context<'_>) {
        // to a ping that came before
        self.say_pong();
        if !self.closed && self.left == 0 {
            Message::Close(close).write(&mut self.out, MAX_CONTROL);
        }
        self.closed = true;
        // nobody is left to hear it if this fails
        if self.poll_out(cx).is_ready() {
            _ = Pin::new(&mut self.stream).poll_flush(cx);
        }
    }

    /// So many bytes of `out` and of what follows are written; how many of the latter.
    fn wrote(&mut self, bytes: usize) -> io::Result<usize> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let own = bytes.min(self.out.len());
        self.out.drain(..own);
        Ok(bytes - own)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ByteStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(end) = this.payloads.end.clone() {
                let (close, error) = end.told();
                this.say_close(close, cx);
                return Poll::Ready(error.map_or(Ok(()), Err));
            }
            if this.answering || this.payloads.pong.is_some() {
                if this.left > 0 {
                    // whoever writes the frame reads again at its end
                    return Poll::Pending;
                }
                ready!(this.poll_out(cx))?;
                ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
                this.answering = false;
            }
            let before = buf.filled().len();
            if this.early.is_empty() {
                ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            } else {
                let bytes = this.early.len().min(buf.remaining());
                buf.put_slice(&this.early[..bytes]);
                this.early.advance(bytes);
                if this.early.is_empty() {
                    // what it was a part of is as large as the head of a request
                    this.early = Bytes::new();
                }
            }
            let came = &mut buf.filled_mut()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let payload = this.payloads.find(came);
            buf.set_filled(before + payload);
            if payload > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ByteStream<S> {
    /// What is left of `buf` has to come again, with whatever behind it: it was promised to the client as a frame.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.left == 0 {
            if this.closed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if this.payloads.pong.is_some() {
                ready!(this.poll_out(cx))?;
            }
            this.left = buf.len().min(MAX_FRAME);
            put_head(&mut this.out, BINARY, this.left);
        }
        loop {
            let payload = &buf[..this.left.min(buf.len())];
            let slices = [IoSlice::new(&this.out), IoSlice::new(payload)];
            let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &slices))?;
            let taken = this.wrote(written)?;
            if taken > 0 {
                this.left -= taken;
                return Poll::Ready(Ok(taken));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.say_close(Some(Close { code: code::NORMAL, reason: "".into() }), cx);
        }
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

// === impl Payloads ===

impl Payloads {
    /// Moves the payload that is in `bytes` to their start; how much it is. What is behind the end is nothing.
    fn find(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut found) = (0, 0);
        while at < bytes.len() && self.end.is_none() {
            let Some(frame) = &mut self.frame else {
                at += self.begin(&bytes[at..]);
                continue;
            };
            let here = at..at + frame.left.min(bytes.len() - at);
            let (opcode, count) = (frame.opcode, here.len());
            at = here.end;
            unmask(&mut bytes[here.clone()], frame.mask);
            frame.mask.rotate_left(count % 4);
            frame.left -= count;
            if opcode < CLOSE {
                bytes.copy_within(here, found);
                found += count;
            } else {
                self.control.extend_from_slice(&bytes[here]);
            }
            self.ended();
        }
        found
    }

    /// Takes what `bytes` have of the head of a frame; how many bytes that are.
    fn begin(&mut self, bytes: &[u8]) -> usize {
        let before = usize::from(self.started);
        let more = bytes.len().min(MAX_MASKED_HEAD - before);
        self.start[before..before + more].copy_from_slice(&bytes[..more]);
        let (head, size) = match Head::read(&self.start[..before + more], self.within, MAX_LENGTH) {
            Ok(Some(head)) => head,
            Ok(None) => {
                self.started = (before + more) as u8;
                return more;
            }
            Err(broken) => {
                self.end = Some(End::Broken(broken));
                return more;
            }
        };
        self.started = 0;
        if head.opcode == TEXT {
            self.end = Some(End::Text);
        }
        if head.opcode < CLOSE {
            self.within = !head.is_last;
        }
        self.frame = Some(Frame { opcode: head.opcode, mask: head.mask, left: head.length });
        self.ended();
        size - before
    }

    /// Ends the frame if all of it has come.
    fn ended(&mut self) {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return };
        if frame.opcode < CLOSE {
            return;
        }
        let control = std::mem::take(&mut self.control);
        if frame.opcode == CLOSE {
            self.end = Some(Close::read(&control).map_or_else(End::Broken, End::Closed));
        } else if frame.opcode == PING {
            // of several, the last is to be answered (RFC 6455, section 5.5.3); a pong is to nothing that was asked
            self.pong = Some(control);
        }
    }
}

// === impl End ===

impl End {
    /// What the client is told, and what its connection has failed of.
    fn told(self) -> (Option<Close>, Option<io::Error>) {
        let (code, why) = match self {
            // a close is answered with its own code (RFC 6455, section 5.5.1)
            Self::Closed(close) => return (close.map(|Close { code, .. }| Close { code, reason: "".into() }), None),
            Self::Text => (code::UNSUPPORTED, "a text frame, where the protocol is in binary ones"),
            Self::Broken(Broken::Protocol(how)) => (code::PROTOCOL, how),
            Self::Broken(Broken::TooLarge) => (code::SIZE, "a frame is longer than any may be"),
            Self::Broken(Broken::NotUtf8) => (code::INVALID, "a reason is not UTF-8"),
        };
        (Some(Close { code, reason: why.into() }), Some(io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

/// Any bytes that come in steps of so many: what is found in binary frames is what their messages are, wherever it is cut.
///
/// # Panics
/// If it is not.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::http) fn fuzz_stream(bytes: &[u8], step: usize) {
    use super::wire::Decoder;

    let read = |step: usize| {
        let (mut payloads, mut found) = (Payloads::default(), Vec::new());
        for piece in bytes.chunks(step.max(1)) {
            let mut piece = piece.to_vec();
            let count = payloads.find(&mut piece);
            found.extend_from_slice(&piece[..count]);
            assert!(payloads.control.len() <= MAX_CONTROL && usize::from(payloads.started) < MAX_MASKED_HEAD);
        }
        (found, payloads.pong, payloads.end)
    };
    let whole = read(bytes.len());
    assert_eq!(read(step), whole, "it matters where the bytes are cut");
    let (found, _, end) = whole;
    let (mut decoder, mut input, mut messages) = (Decoder::new(MAX_LENGTH), bytes.into(), Vec::new());
    let is_over = loop {
        match decoder.next(&mut input) {
            Ok(Some(Message::Binary(payload))) => messages.extend_from_slice(&payload),
            Ok(Some(Message::Ping(_) | Message::Pong(_))) => {}
            Ok(None) => break decoder.is_within(&input),
            Ok(Some(_)) | Err(_) => break true,
        }
    };
    // what is behind them is the start of a message that is not whole
    assert!(found.starts_with(&messages), "{found:?} in the frames, {messages:?} in the messages");
    assert!(is_over || (found.len() == messages.len() && end.is_none()), "{end:?} and {found:?}, not {messages:?}");
}

#[cfg(test)]
mod tests;
