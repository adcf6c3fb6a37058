//! HTTP/1.1 and HTTP/2 with their bounds, and a connection of either from its first request to its end.
//!
//! A connection of HTTP/2 counts as one; its streams are bounded here, and their bodies count among the bytes in flight
//! as those of any request do.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::body::Body;
use futures_util::FutureExt;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{
    ServerConfig,
    streams::{CLOSE_WITHIN, End, Streams, Watched},
};
use crate::net::Stream;

/// Serves connections.
#[derive(Debug, Clone)]
pub(super) struct Versions {
    http1: http1::Builder,
    http2: http2::Builder<Tracked>,
    header_timeout: Duration,
    write_timeout: Duration,
}

/// Runs the streams of HTTP/2, so that the drain waits for them.
#[derive(Debug, Clone)]
struct Tracked(TaskTracker);

/// The least that hyper reads into; a larger one takes larger chunks of bodies.
const READ_BUFFER_BYTES: usize = 65_536;
/// The most requests of one connection at once.
const MAX_STREAMS: u32 = 64;
/// What a peer may send of bodies before they are read: of a request, and of a connection.
const WINDOW_BYTES: u32 = 262_144;
/// What of an answer is kept for a peer that does not take it.
const SEND_BYTES: usize = 65_536;
/// Streams that were reset before they were looked at (CVE-2023-44487), and that we reset for errors of the peer
/// (CVE-2025-8671): over it, the connection ends.
const MAX_RESET: usize = 32;

// === impl Versions ===

impl Versions {
    pub(super) fn new(config: &ServerConfig, tasks: TaskTracker) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_header_size(config.max_header_bytes)
            .max_buf_size(READ_BUFFER_BYTES.max(config.max_header_bytes));
        let mut http2 = http2::Builder::new(Tracked(tasks));
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buf_size(SEND_BYTES)
            .max_pending_accept_reset_streams(MAX_RESET)
            .max_local_error_reset_streams(MAX_RESET)
            // a peer that is gone without a word is noticed, and one that answers nothing
            .keep_alive_interval(config.header_timeout)
            .keep_alive_timeout(config.write_timeout);
        Self { http1, http2, header_timeout: config.header_timeout, write_timeout: config.write_timeout }
    }

    /// Serves one connection to its end; once `ending` is done, only to the end of the requests that it is in. `unread` is
    /// called if an answer over HTTP/2 is not read: the socket knows of all others.
    pub(super) async fn serve<S>(
        &self,
        mut stream: Stream,
        service: S,
        ending: impl Future<Output = ()>,
        unread: impl Fn(),
    ) where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
        S::Future: Send + 'static,
    {
        let mut ending = std::pin::pin!(ending);
        // nothing is in flight yet
        let is_http2 = tokio::select! {
            biased;
            () = ending.as_mut() => return,
            is_http2 = stream.speaks_http2(self.header_timeout) => is_http2,
        };
        let ended = match is_http2 {
            Ok(false) => {
                let connection = self.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
                drive(connection, http1::UpgradeableConnection::graceful_shutdown, ending, std::future::pending()).await
            }
            Ok(true) => {
                let streams = Streams::new();
                let service = Watched::new(service, streams.clone());
                let connection = self.http2.serve_connection(TokioIo::new(stream), service);
                let end = streams.end(self.header_timeout, self.write_timeout).inspect(|end| {
                    if *end == End::Unread {
                        unread();
                    }
                });
                let graceful = |connection: Pin<&mut _>| {
                    streams.ending();
                    http2::Connection::graceful_shutdown(connection);
                };
                // on the heap: a connection of HTTP/1.1 has no room for it
                Box::pin(drive(connection, graceful, ending, end)).await
            }
            Err(error) => return tracing::debug!(%error, "connection ended before its first request"),
        };
        if let Err(error) = ended {
            // the peer's doing: it left, was too slow, or did not speak HTTP
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Runs a connection until it ends by itself, or `end` says why it is cut.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    graceful: impl Fn(Pin<&mut C>),
    mut ending: Pin<&mut impl Future<Output = ()>>,
    end: impl Future<Output = End>,
) -> hyper::Result<()> {
    let (mut connection, mut end) = (std::pin::pin!(connection), std::pin::pin!(end));
    let mut told = false;
    loop {
        tokio::select! {
            // the connection last: a flood uses up what a task may do in one go, and after it no timer would be looked at
            biased;
            () = ending.as_mut(), if !told => {
                graceful(connection.as_mut());
                told = true;
            }
            why = end.as_mut() => {
                tracing::debug!(?why, "connection cut");
                if why == End::Idle {
                    graceful(connection.as_mut());
                    return timeout(CLOSE_WITHIN, connection).await.unwrap_or(Ok(()));
                }
                return Ok(());
            }
            ended = connection.as_mut() => return ended,
        }
    }
}

// === impl Tracked ===

impl<F> Executor<F> for Tracked
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
