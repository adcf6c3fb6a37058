//! The bytes of a connection, to a client or to a broker, in both directions at once: what is to be written is, while it waits for more to read.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A socket with what was read from it and what is to be written to it.
#[derive(Debug)]
pub(super) struct Link<S> {
    stream: S,
    pub(super) input: BytesMut,
    pub(super) out: BytesMut,
    /// Something was written that may not have left TLS yet.
    unflushed: bool,
    /// What is to be written waits for the socket.
    blocked: bool,
}

/// What has happened at the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// More is in `input`.
    Read,
    /// Everything in `out` is written.
    Written,
    /// The peer sends nothing more.
    Closed,
}

/// What is read at once. An idle connection has no buffer.
pub(super) const READ_BYTES: usize = 16_384;
const MAX_READ_BYTES: usize = 262_144;

// === impl Link ===

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), out: BytesMut::new(), unflushed: false, blocked: false }
    }

    /// Writes, and reads if `read`. Of a packet that is known to be large, `expected` is its size. Cancel safe.
    pub(super) async fn turn(&mut self, read: bool, expected: usize) -> io::Result<Turn> {
        poll_fn(|cx| {
            let waited = self.blocked || (!read && !self.out.is_empty());
            self.blocked = self.poll_write_all(cx)?.is_pending();
            if read && let Poll::Ready(turn) = self.poll_read(cx, expected)? {
                return Poll::Ready(Ok(turn));
            }
            if waited && !self.blocked { Poll::Ready(Ok(Turn::Written)) } else { Poll::Pending }
        })
        .await
    }

    /// Writes all that is there.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write_all(cx)).await
    }

    /// Writes all that is there, and says that no more comes.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.stream.shutdown().await
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(bytes) => {
                    self.out.advance(bytes);
                    self.unflushed = true;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        // an idle connection has none
        self.out = BytesMut::new();
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx)? {
                Poll::Ready(()) => self.unflushed = false,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, expected: usize) -> Poll<io::Result<Turn>> {
        // no more than the packet that is expected: the memory for it is reserved
        let room = expected.saturating_sub(self.input.len()).clamp(READ_BYTES, MAX_READ_BYTES);
        self.input.reserve(room);
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx)?;
        match read {
            Poll::Ready(0) => Poll::Ready(Ok(Turn::Closed)),
            Poll::Ready(_) => Poll::Ready(Ok(Turn::Read)),
            Poll::Pending => {
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                Poll::Pending
            }
        }
    }
}
