//! MQTT over WebSocket (MQTT 5.0, section 6): a listener of HTTP whose one path becomes a connection of MQTT.
//!
//! What arrives in binary frames is one stream of bytes, wherever frames begin and end (MQTT-6.0.0-2). Who a client is, is
//! what its CONNECT says, as over TCP; Host and Origin are checked by the listener, before anything else.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    extract::{
        FromRequestParts,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as _};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::service_fn;

use super::{connection, source::Shared};
use crate::{
    BridgeError,
    http::{Listener, Peer, Problem, ServerConfig},
    net::Stream,
};

/// What MQTT is spoken over.
#[derive(Debug)]
pub(super) enum Wire {
    Stream(Stream),
    Frames(Box<Frames>),
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(tokio::io::DuplexStream),
}

/// The bytes in the binary frames of a WebSocket.
#[derive(Debug)]
pub(super) struct Frames {
    socket: WebSocket,
    /// Of a frame, what was not read yet.
    rest: Bytes,
    /// The protocol has answered a ping by itself, and the answer has not left: nothing more is read before it has, or who
    /// sends pings and does not read fills the memory.
    answering: bool,
}

/// Where MQTT is spoken over WebSocket, before it accepts.
#[derive(Debug)]
pub(super) struct WebSocketListener(Listener);

/// The one path, which clients take if they are told none.
pub(super) const PATH: &str = "/mqtt";
/// The name of MQTT among WebSocket's subprotocols (MQTT-6.0.0-3).
const PROTOCOL: &str = "mqtt";
/// Read ahead of the frame parser; grows with a frame.
const READ_BUFFER_BYTES: usize = 8_192;
/// The most of what waits to be written that goes into one frame.
const MAX_FRAME: usize = 65_536;
/// Frames with this many bytes in all go out without a flush.
const WRITE_BUFFER_BYTES: usize = 65_536;
/// Over it no frame is taken: room for what is below the limit, one frame more, and an answer of the protocol.
const MAX_WRITE_BUFFER_BYTES: usize = WRITE_BUFFER_BYTES + MAX_FRAME + 1_024;

// === impl WebSocketListener ===

impl WebSocketListener {
    pub(super) async fn bind(config: &ServerConfig) -> Result<Self, BridgeError> {
        Listener::bind(config.clone()).await.map(Self)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Accepts until the drain.
    pub(super) async fn serve(self, shared: &Arc<Shared>) {
        let own = shared.clone();
        let service = move |peer: Peer| {
            let shared = own.clone();
            service_fn(move |request| answer(shared.clone(), peer.clone(), request))
        };
        let cx = &shared.cx;
        self.0.serve(&cx.bridge, service, cx.drain.clone(), cx.tasks.clone()).await;
    }
}

async fn answer(shared: Arc<Shared>, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(upgrade(shared, peer, request).await.unwrap_or_else(IntoResponse::into_response))
}

async fn upgrade(shared: Arc<Shared>, peer: Peer, request: Request<Incoming>) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    if parts.uri.path() != PATH {
        let detail = format!("MQTT is spoken at {PATH:?} only");
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", "mqtt", detail));
    }
    let bad = |detail| Problem::new(StatusCode::BAD_REQUEST, "not-a-websocket", "mqtt", detail);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|rejection| bad(rejection.body_text()))?.protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(bad(format!("the subprotocol has to be {PROTOCOL:?}")));
    }
    let max = shared.config.max_packet_bytes();
    let tracked = shared.cx.tasks.token();
    let upgrade = upgrade.max_frame_size(max).max_message_size(max).read_buffer_size(READ_BUFFER_BYTES);
    let upgrade = upgrade.write_buffer_size(WRITE_BUFFER_BYTES).max_write_buffer_size(MAX_WRITE_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        let wire = Wire::Frames(Box::new(Frames { socket, rest: Bytes::new(), answering: false }));
        connection::run(shared, wire, peer.address.ip(), peer.certificate).await;
        drop(tracked);
    }))
}

// === impl Frames ===

impl AsyncRead for Frames {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            if self.answering {
                ready!(Pin::new(&mut self.socket).poll_flush(cx)).map_err(io::Error::other)?;
                self.answering = false;
            }
            let frame = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            };
            match frame {
                Message::Binary(bytes) => self.rest = bytes,
                Message::Close(_) => return Poll::Ready(Ok(())),
                Message::Ping(_) => self.answering = true,
                Message::Pong(_) => {}
                Message::Text(_) => {
                    let error = "a text frame, where MQTT is in binary ones (MQTT-6.0.0-1)";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
        let bytes = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..bytes]);
        self.rest.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Frames {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
        let bytes = buf.len().min(MAX_FRAME);
        let frame = Message::Binary(Bytes::copy_from_slice(&buf[..bytes]));
        Pin::new(&mut self.socket).start_send(frame).map_err(io::Error::other)?;
        Poll::Ready(Ok(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(io::Error::other)
    }
}

// === impl Wire ===

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Frames(frames) => Pin::new(frames).poll_read(cx, buf),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Frames(frames) => Pin::new(frames).poll_write(cx, buf),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
            Self::Frames(frames) => Pin::new(frames).poll_flush(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Frames(frames) => Pin::new(frames).poll_shutdown(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_shutdown(cx),
        }
    }
}
