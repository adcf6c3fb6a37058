//! `/mesh/v1/ws`: publishing and subscribing in JSON frames.
//!
//! One connection is three kinds of tasks. The reader reads frames and publishes, one call at a time; a [`Subscription`]
//! each sends deliveries; the writer alone writes. Between them are bounded queues, so a client that does not read
//! stops its own subscriptions and then its own publishing, until the socket's write timeout cuts it.

mod answers;
mod connection;
mod frames;
mod lane;
mod subscription;
mod writer;

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    extract::{
        Extension, State,
        ws::{CloseFrame, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use envelope::{Principal, RejectKind};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
use super::{Peer, Problem, offer::Offer, publish::credentials};

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// The client left, or can't be reached.
    Gone,
    /// The drain.
    GoingAway,
    /// A message could not be taken for `retry_for`.
    RetriedTooLong(RejectKind),
    /// The principal is let in no more: why.
    NotLetIn(String),
    /// The client broke the protocol.
    Broke { code: u16, reason: Cow<'static, str> },
}

/// A batch with this many bytes takes no further frame.
pub(super) const BATCH_BYTES: usize = 262_144;
/// How long an ended connection may take to settle what was acked, and to send what is queued.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// Read ahead of the frame parser; grows with a frame.
const READ_BUFFER_BYTES: usize = 8_192;

/// Authenticates, once for the connection, and upgrades it.
pub(super) async fn upgrade(
    State(offer): State<Arc<Offer>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        let detail = rejection.body_text();
        Problem::new(StatusCode::BAD_REQUEST, "not-a-websocket", "websocket", detail)
    })?;
    let (credentials, address) = (credentials(&headers, &peer), peer.address.ip());
    let verified = offer.cx.authenticator.verify(credentials, Some(address)).await;
    let principal = verified.map_err(|rejection| {
        offer.cx.audit.refused(&rejection, None, Some(address));
        Problem::from(&rejection)
    })?;
    let max = offer.config.websocket.max_frame_bytes;
    let tracked = offer.cx.tasks.token();
    let upgrade = upgrade.max_frame_size(max).max_message_size(max).read_buffer_size(READ_BUFFER_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        run(offer, principal, peer, socket).await;
        drop(tracked);
    }))
}

async fn run(offer: Arc<Offer>, principal: Arc<Principal>, from: Peer, socket: WebSocket) {
    let peer = from.address.ip();
    let open = metrics::gauge!("openmesh_bridge_websockets", "bridge" => offer.cx.bridge.to_string());
    open.increment(1.0);
    let (sink, mut stream) = socket.split();
    let gone = CancellationToken::new();
    let ping_interval = offer.config.websocket.ping_interval;
    let (writer, out) = writer::spawn(&offer.cx.tasks, sink, ping_interval, gone.clone(), offer.cx.drain.clone());
    let mut connection = Connection::new(offer, principal, from, out.clone(), gone);
    let end = connection.serve(&mut stream).await;
    tracing::debug!(?end, %peer, "websocket ends");
    let deadline = Instant::now() + CLOSE_WITHIN;
    connection.finish(deadline).await;
    let closed = writer::close(writer, out, end.close_frame());
    if timeout_at(deadline, closed).await.is_err() {
        tracing::debug!(%peer, "the client did not read to the end");
    }
    writer::linger(&mut stream).await;
    open.decrement(1.0);
}

// === impl End ===

impl End {
    /// What the client is told; nothing if it is not there any more, or closed itself.
    fn close_frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone => return None,
            Self::GoingAway => (close_code::AWAY, "the gateway stops".into()),
            Self::RetriedTooLong(kind) => {
                (close_code::AGAIN, format!("a message was not taken for too long: {kind}").into())
            }
            Self::NotLetIn(why) => (close_code::POLICY, why.clone().into()),
            Self::Broke { code, reason } => (*code, reason.clone()),
        };
        Some(CloseFrame { code, reason: reason.as_ref().into() })
    }
}
