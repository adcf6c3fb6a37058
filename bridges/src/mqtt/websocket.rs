//! MQTT over WebSocket (MQTT 5.0, section 6): a listener of HTTP whose one path becomes a connection of MQTT.
//!
//! What arrives in binary frames is one stream of bytes, wherever frames begin and end (MQTT-6.0.0-2), and goes on as it comes:
//! a packet takes its room and has its time as over TCP, whatever the frames say. Who a client is, is what its CONNECT says;
//! Host and Origin are checked by the listener, before anything else.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower::service_fn;

use super::{connection, source::Shared};
use crate::{
    BridgeError,
    http::{ByteStream, Handshake, Listener, Peer, Problem, ServerConfig},
    net::Stream,
};

/// What MQTT is spoken over.
#[derive(Debug)]
pub(super) enum Wire {
    Stream(Stream),
    Frames(Box<ByteStream<Stream>>),
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(tokio::io::DuplexStream),
    #[cfg(any(test, feature = "fuzzing"))]
    MemoryFrames(Box<ByteStream<tokio::io::DuplexStream>>),
}

/// Where MQTT is spoken over WebSocket, before it accepts.
#[derive(Debug)]
pub(super) struct WebSocketListener(Listener);

/// The one path, which clients take if they are told none.
pub(super) const PATH: &str = "/mqtt";
/// The name of MQTT among WebSocket's subprotocols (MQTT-6.0.0-3).
const PROTOCOL: &str = "mqtt";

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
    let handshake = Handshake::of(&mut parts, &[PROTOCOL]).await?;
    if handshake.protocol().is_none() {
        let detail = format!("the subprotocol has to be {PROTOCOL:?}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, "not-a-websocket", "mqtt", detail));
    }
    let (response, upgraded) = handshake.accept()?;
    shared.cx.tasks.clone().spawn(async move {
        let (stream, early) = match upgraded.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "no upgrade"),
        };
        let wire = Wire::Frames(Box::new(ByteStream::new(stream, early)));
        connection::run(shared, wire, peer.address.ip(), peer.certificate).await;
    });
    Ok(response)
}

// === impl Wire ===

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Frames(frames) => Pin::new(frames).poll_read(cx, buf),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_read(cx, buf),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::MemoryFrames(frames) => Pin::new(frames).poll_read(cx, buf),
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
            #[cfg(any(test, feature = "fuzzing"))]
            Self::MemoryFrames(frames) => Pin::new(frames).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
            Self::Frames(frames) => Pin::new(frames).poll_flush(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_flush(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::MemoryFrames(frames) => Pin::new(frames).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Frames(frames) => Pin::new(frames).poll_shutdown(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(memory) => Pin::new(memory).poll_shutdown(cx),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::MemoryFrames(frames) => Pin::new(frames).poll_shutdown(cx),
        }
    }
}
