//! A feed: a WebSocket server that says and hears what the test wants.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use crate::conformance::HARD_TIMEOUT;

pub(super) struct Server(TcpListener);

/// One client of it.
pub(super) struct Peer {
    pub(super) stream: WebSocketStream<TcpStream>,
    /// The headers of its handshake.
    pub(super) headers: http::HeaderMap,
}

// === impl Server ===

impl Server {
    pub(super) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(super) fn url(&self) -> http::Uri {
        format!("ws://{}/feed?token=t0k3n", self.address()).parse().unwrap()
    }

    /// The next connection.
    pub(super) async fn socket(&self) -> TcpStream {
        timeout(HARD_TIMEOUT, self.0.accept()).await.expect("a connection in time").unwrap().0
    }

    /// The next client, let in.
    pub(super) async fn peer(&self) -> Peer {
        let mut headers = http::HeaderMap::new();
        #[expect(clippy::result_large_err, reason = "the library's own type")]
        let see = |request: &Request, mut answer: Response| -> Result<Response, ErrorResponse> {
            headers = request.headers().clone();
            if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
                answer.headers_mut().insert("sec-websocket-protocol", protocol.clone());
            }
            Ok(answer)
        };
        let stream = accept_hdr_async(self.socket().await, see).await.unwrap();
        Peer { stream, headers }
    }
}

// === impl Peer ===

impl Peer {
    pub(super) async fn say(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// What the client says next, but for pings; `None` at its end.
    pub(super) async fn hears(&mut self) -> Option<String> {
        loop {
            match timeout(HARD_TIMEOUT, self.stream.next()).await.expect("a word in time") {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }
}
