//! An accepted connection: holds its slot for as long as it lives and fails when its peer leaves data unread.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::{Cut, Cuts, slots::Slot};

/// A TCP connection of a listener. A WebSocket takes it along, and with it the slot.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    /// Read ahead of the protocol, to see which one it is.
    early: BytesMut,
    peer: SocketAddr,
    cuts: Arc<Cuts>,
    /// Its end was told of.
    is_cut: bool,
    /// Runs while the peer takes nothing of what is to be written.
    stalled: Option<Pin<Box<Sleep>>>,
    _slot: Slot,
}

// === impl Socket ===

impl Socket {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, cuts: Arc<Cuts>, slot: Slot) -> Self {
        Self { stream, early: BytesMut::new(), peer, cuts, is_cut: false, stalled: None, _slot: slot }
    }

    /// Whether the peer begins with `preface`: waits until that is certain, and takes nothing away from who reads next.
    pub(crate) async fn begins_with(&mut self, preface: &[u8]) -> io::Result<bool> {
        loop {
            let known = self.early.len().min(preface.len());
            if self.early[..known] != preface[..known] {
                return Ok(false);
            }
            if known == preface.len() {
                return Ok(true);
            }
            if self.stream.read_buf(&mut self.early).await? == 0 {
                return Ok(false);
            }
        }
    }

    /// What the kernel says of a peer that it gave up.
    fn notice(&mut self, error: &io::Error, was_stalled: bool) {
        if error.kind() == io::ErrorKind::TimedOut {
            self.tell(if was_stalled { Cut::Unread } else { Cut::Vanished });
        }
    }

    fn tell(&mut self, cut: Cut) {
        if !std::mem::replace(&mut self.is_cut, true) {
            self.cuts.tell(self.peer, cut);
        }
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.stream), cx) {
            let was_stalled = self.stalled.take().is_some();
            return Poll::Ready(done.inspect_err(|error| self.notice(error, was_stalled)));
        }
        let timeout = self.cuts.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        self.tell(Cut::Unread);
        let message = format!("the peer read nothing for {timeout:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            let was_stalled = self.stalled.is_some();
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
            return Poll::Ready(read.inspect_err(|error| self.notice(error, was_stalled)));
        }
        let count = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..count]);
        self.early.advance(count);
        if self.early.is_empty() {
            // its room is not needed again
            self.early = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // of TCP both end at once and say nothing of the peer
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
