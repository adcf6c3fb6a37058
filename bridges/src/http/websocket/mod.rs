//! `/mesh/v1/ws`: publishing and subscribing in JSON frames, or in binary ones that begin with JSON; and paths of the config where each frame is a message.
//! What else is spoken in frames, as MQTT is, has them as a [`ByteStream`].
//!
//! One connection is three kinds of tasks. The reader reads frames and publishes, one call at a time; a [`Subscription`]
//! each sends deliveries; the writer alone writes. Between them are bounded queues, so a client that does not read
//! stops its own subscriptions and then its own publishing, until the socket's write timeout cuts it.

mod answers;
mod connection;
mod frames;
mod handshake;
mod lane;
mod mailbox;
mod reader;
mod stream;
mod subscription;
mod wire;
mod writer;

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    extract::{Extension, Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use envelope::{Identity, Principal, RejectKind, cloudevents};
use http::{HeaderMap, HeaderValue, Method, header};
use hyper::body::Incoming;
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    connection::{Connection, Tongue},
    reader::Reader,
    wire::{Close, code},
};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::{frames::fuzz_frame, stream::fuzz_stream, wire::fuzz_wire};
pub(crate) use self::{handshake::Handshake, stream::ByteStream};
use super::{
    Peer, Problem,
    address::{WEBSOCKET, address_of_frames},
    draft::{self, Draft},
    offer::Offer,
    openapi::{NotLetIn, NotNow, Refusal, only_get},
    publish::credentials,
};
use crate::net::Stream;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The client can't be reached.
    Gone,
    /// The client closed, with this status code.
    Left(Option<u16>),
    /// The drain.
    GoingAway,
    /// A message could not be taken for `retry_for`.
    RetriedTooLong(RejectKind),
    /// The principal is let in no more: why.
    NotLetIn(String),
    /// The client broke the protocol.
    Broke { code: u16, reason: Cow<'static, str> },
}

/// The subprotocol of frames with an `op`, for clients that name one.
const PROTOCOL: &str = "openmesh.v1.json";
/// The subprotocol of the same frames where payloads may stand behind them as they are.
const BINARY_PROTOCOL: &str = "openmesh.v1.binary";
/// The subprotocol of CloudEvents over WebSockets: each frame is an event in structured mode.
const EVENTS_PROTOCOL: &str = "cloudevents.json";
/// A batch with this many bytes takes no further frame.
pub(super) const BATCH_BYTES: usize = 262_144;
/// How long an ended connection may take to settle what was acked, and to send what is queued.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Publishing and subscribing over a WebSocket (RFC 6455)
///
/// Authenticated once for the connection. What is said over it is in the documentation of the HTTP bridge.
#[utoipa::path(get, path = "/mesh/v1/ws",
    params(
        ("Connection" = String, Header, description = "of this connection", pattern = "^Upgrade$"),
        ("Upgrade" = String, Header, description = "to what", pattern = "^websocket$"),
        ("Sec-WebSocket-Version" = String, Header, description = "there is one", pattern = "^13$"),
        ("Sec-WebSocket-Key" = String, Header, description = "16 random bytes in base64", pattern = "^[A-Za-z0-9+/]{21}[AQgw]==$"),
        ("Sec-WebSocket-Protocol" = Option<String>, Header,
            description = "`openmesh.v1.json`, or `openmesh.v1.binary` where payloads stand behind the frames' JSON"),
    ),
    responses(
        (status = 101, description = "it is one from now on"),
        (status = 400, description = "no handshake of a WebSocket over HTTP/1.1", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
        NotNow,
    ))]
pub(super) async fn upgrade(
    State(offer): State<Arc<Offer>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    if request.method() != Method::GET {
        return Err(only_get("a WebSocket", &"GET"));
    }
    let (mut parts, _) = request.into_parts();
    let handshake = Handshake::of(&mut parts, &[BINARY_PROTOCOL, PROTOCOL]).await?;
    let binary = handshake.protocol() == Some(BINARY_PROTOCOL);
    accept(offer, peer, &parts.headers, handshake, Tongue::Ops { binary }).await
}

/// Whether a request wants a WebSocket at a path where frames are messages.
pub(super) fn is_for_messages<B>(offer: &Offer, request: &Request<B>) -> bool {
    let paths = &offer.config.websocket.paths;
    let wants = || {
        let upgrade = request.headers().get(header::UPGRADE);
        upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
    };
    // a path that is none is refused as any other request's
    !paths.is_empty()
        && wants()
        && address_of_frames(request.uri().path()).is_ok_and(|address| {
            let path = &address[WEBSOCKET.len() + 1..];
            paths.iter().any(|of| match of.strip_suffix('*') {
                Some(folder) => path.len() > folder.len() && path.starts_with(folder),
                None => path == of,
            })
        })
}

/// Upgrades a connection whose frames are messages, each like the request but for its payload.
pub(super) async fn upgrade_for_messages(offer: Arc<Offer>, peer: Peer, request: Request<Incoming>) -> Response {
    let (mut parts, _) = request.into_parts();
    let accepted = async {
        let handshake = Handshake::of(&mut parts, &[EVENTS_PROTOCOL]).await?;
        if handshake.protocol().is_some() {
            let content_type = HeaderValue::from_static(cloudevents::CONTENT_TYPE);
            parts.headers.insert(header::CONTENT_TYPE, content_type);
        }
        let like = Draft {
            address: address_of_frames(parts.uri.path())?,
            headers: draft::headers(&parts.headers, parts.uri.query()),
            payload: Bytes::new(),
            identity: Identity::fresh(),
            trace: draft::trace(&parts.headers),
        };
        accept(offer, peer, &parts.headers, handshake, Tongue::Payloads(like)).await
    };
    accepted.await.unwrap_or_else(IntoResponse::into_response)
}

async fn accept(
    offer: Arc<Offer>,
    peer: Peer,
    headers: &HeaderMap,
    handshake: Handshake,
    tongue: Tongue,
) -> Result<Response, Problem> {
    let (credentials, address) = (credentials(headers, &peer), peer.address.ip());
    let verified = offer.cx.authenticator.verify(credentials, Some(address)).await;
    let principal = verified.map_err(|rejection| {
        offer.cx.audit.refused(&rejection, None, Some(address));
        Problem::from(&rejection)
    })?;
    let (response, upgraded) = handshake.accept()?;
    offer.cx.tasks.clone().spawn(async move {
        let (stream, early) = match upgraded.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "no upgrade"),
        };
        let (read, write) = tokio::io::split(stream);
        let (bytes, within) = (offer.cx.bytes.clone(), offer.config.body_timeout);
        let reader = Reader::new(read, &early, offer.config.websocket.max_frame_bytes, bytes, within);
        // empty or not, it is what the head of the request was read into
        drop(early);
        run(offer, principal, peer, (reader, write), tongue).await;
    });
    Ok(response)
}

async fn run(
    offer: Arc<Offer>,
    principal: Arc<Principal>,
    from: Peer,
    (mut reader, write): (Reader<ReadHalf<Stream>>, WriteHalf<Stream>),
    tongue: Tongue,
) {
    let peer = from.address.ip();
    let open = metrics::gauge!("openmesh_bridge_websockets", "bridge" => offer.cx.bridge.to_string());
    open.increment(1.0);
    let gone = CancellationToken::new();
    let ping_interval = offer.config.websocket.ping_interval;
    let (writer, out) = writer::spawn(&offer.cx.tasks, write, ping_interval, gone.clone(), offer.cx.drain.clone());
    let mut connection = Connection::new(offer, principal, from, out.clone(), gone, tongue);
    let end = connection.serve(&mut reader).await;
    tracing::debug!(?end, %peer, "websocket ends");
    // on the heap: while it is open, a connection has no room for its end
    let ended = async {
        let deadline = Instant::now() + CLOSE_WITHIN;
        connection.finish(deadline).await;
        let close = end.close_frame();
        let is_told = close.is_some();
        if timeout_at(deadline, writer::close(writer, out, close)).await.is_err() {
            tracing::debug!(%peer, "the client did not read to the end");
        } else if is_told {
            writer::linger(&mut reader).await;
        }
    };
    Box::pin(ended).await;
    open.decrement(1.0);
}

// === impl End ===

impl End {
    /// What the client is told; nothing if it is not there any more. A close is answered with its own code.
    fn close_frame(&self) -> Option<Close> {
        let (code, reason) = match self {
            Self::Gone => return None,
            Self::Left(code) => (code.unwrap_or(code::NORMAL), "".into()),
            Self::GoingAway => (code::AWAY, "the gateway stops".into()),
            Self::RetriedTooLong(kind) => (code::AGAIN, format!("a message was not taken for too long: {kind}").into()),
            Self::NotLetIn(why) => (code::POLICY, why.clone().into()),
            Self::Broke { code, reason } => (*code, reason.clone()),
        };
        Some(Close { code, reason })
    }
}
