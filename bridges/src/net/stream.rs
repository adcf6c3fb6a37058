//! The bytes of a connection: as they come, or out of TLS.
//!
//! The socket with its timeout is below TLS, so that a peer that reads nothing is noticed by either.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::socket::Socket;
use crate::tls::{ClientCertificate, Tls};

/// What a protocol is spoken over.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// === impl Stream ===

impl Stream {
    /// Shakes hands where there is TLS; with the client's certificate, whose chain is verified then.
    pub(crate) async fn open(
        socket: Socket,
        tls: Option<Tls>,
        within: Duration,
    ) -> io::Result<(Self, Option<ClientCertificate>)> {
        let Some(tls) = tls else { return Ok((Self::Plain(socket), None)) };
        let stream = tls.accept(socket, within).await?;
        let own = tls.client(&stream);
        Ok((Self::Tls(Box::new(stream)), own))
    }

    /// Whether the peer speaks HTTP/2: agreed on in the handshake of TLS, else known from the first bytes.
    pub(crate) async fn speaks_http2(&mut self, within: Duration) -> io::Result<bool> {
        match self {
            Self::Plain(socket) => timeout(within, socket.begins_with(HTTP2_PREFACE)).await?,
            Self::Tls(stream) => Ok(stream.get_ref().1.alpn_protocol() == Some(b"h2")),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
