//! The opening handshake of a WebSocket (RFC 6455, section 4.2), and the connection behind it.
//!
//! What makes a request one is checked by axum; the connection is taken over as it is, because axum's own reads and writes
//! through buffers that every connection keeps.

use std::io;

use axum::{
    body::Body,
    extract::{FromRequestParts, ws::WebSocketUpgrade},
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{http::Problem, net::Stream};

/// A request for a WebSocket that can be accepted.
#[derive(Debug)]
pub(crate) struct Handshake {
    key: HeaderValue,
    /// The subprotocol that was chosen.
    protocol: Option<HeaderValue>,
    connection: OnUpgrade,
}

/// What a client's key stands for.
const KEY_BYTES: usize = 16;

// === impl Handshake ===

impl Handshake {
    /// Refuses what is no handshake; of `protocols`, the first that the client names is chosen.
    pub(crate) async fn of(parts: &mut Parts, protocols: &[&'static str]) -> Result<Self, Problem> {
        // axum takes it out, and does not give it back
        let connection = parts.extensions.get::<OnUpgrade>().cloned();
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
            .await
            .map_err(|rejection| refused(rejection.body_text()))?
            .protocols(protocols.iter().copied());
        let protocol = upgrade.selected_protocol().cloned();
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).cloned();
        let (Some(key), Some(connection)) = (key, connection) else {
            return Err(refused("the connection can't be upgraded".to_owned()));
        };
        if !BASE64_STANDARD.decode(&key).is_ok_and(|bytes| bytes.len() == KEY_BYTES) {
            return Err(refused(format!("the Sec-WebSocket-Key is no {KEY_BYTES} bytes in base64")));
        }
        Ok(Self { key, protocol, connection })
    }

    /// The subprotocol that was chosen.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_ref().and_then(|protocol| protocol.to_str().ok())
    }

    /// The answer, and what the connection is once that is sent: with what the client has sent already.
    pub(crate) fn accept(self) -> Result<(Response, impl Future<Output = io::Result<(Stream, Bytes)>>), Problem> {
        let accept = HeaderValue::try_from(derive_accept_key(self.key.as_bytes()));
        let accept = accept.map_err(|_| refused("the key is none".to_owned()))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let connection = self.connection;
        let upgraded = async move {
            let upgraded = connection.await.map_err(io::Error::other)?;
            match upgraded.downcast::<TokioIo<Stream>>() {
                Ok(parts) => Ok((parts.io.into_inner(), parts.read_buf)),
                Err(_) => Err(io::Error::other("not a connection of this listener")),
            }
        };
        Ok((response, upgraded))
    }
}

fn refused(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "not-a-websocket", "websocket", detail)
}
