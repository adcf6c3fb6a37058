//! One request over one connection, which is kept if it can be used again.
//!
//! A connection has no task of its own: it runs within the request that uses it, and rests with the connection between two.

use std::{fmt, pin::Pin};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::connect::Stream;

/// The largest head of an answer.
const MAX_HEAD: usize = 65_536;
/// The most headers of an answer.
const MAX_HEADERS: usize = 100;

/// A connection to a server.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    /// Since when nothing is sent over it.
    pub(super) idle_since: Instant,
}

/// What moves the connection's bytes; `None` once it has ended.
struct Driver(Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>);

/// What a server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whether the connection can be used again.
    pub(super) reusable: bool,
}

// === impl Connection ===

impl Connection {
    pub(super) async fn open(stream: Box<dyn Stream>) -> hyper::Result<Self> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, driver: Driver(Some(Box::pin(connection))), idle_since: Instant::now() })
    }

    /// Whether it can be used, as far as that shows without waiting.
    pub(super) fn is_open(&mut self) -> bool {
        self.driver.advance();
        self.driver.0.is_some() && self.sender.is_ready() && !self.sender.is_closed()
    }

    /// The answer; of its body, at most `most` bytes are read, and nothing is kept.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>, most: usize) -> hyper::Result<Answer> {
        let response = self.driver.within(self.sender.send_request(request)).await?;
        let (parts, body) = response.into_parts();
        let whole = self.driver.within(skim(body, most)).await;
        let reusable = whole && self.is_open();
        self.idle_since = Instant::now();
        Ok(Answer { status: parts.status, headers: parts.headers, reusable })
    }
}

// === impl Driver ===

impl Driver {
    /// Waits for what needs the connection to move.
    async fn within<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = std::pin::pin!(future);
        if let Some(driver) = &mut self.0 {
            tokio::select! {
                biased;
                output = &mut future => return output,
                // what went wrong is what the future ends with
                _ = driver => {}
            }
        }
        self.0 = None;
        future.await
    }

    /// Moves the connection as far as it goes now.
    fn advance(&mut self) {
        let ended = self.0.as_mut().is_some_and(|driver| driver.now_or_never().is_some());
        if ended {
            self.0 = None;
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("idle_since", &self.idle_since).finish_non_exhaustive()
    }
}

/// Reads a body over; whether it ended within `most` bytes.
async fn skim(mut body: Incoming, most: usize) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > most {
            return false;
        }
    }
    true
}
