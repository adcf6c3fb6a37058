//! The streams of one HTTP/2 connection, watched: HTTP/2 has its own flow control, so that a peer can read the socket
//! and none of its answers, ask and take it back, or keep a connection that it does nothing with.
//!
//! Each of them ends the connection here. What HTTP/1.1 needs of this are the timeouts of its parser and of its socket.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// What is open on a connection.
#[derive(Debug)]
pub(super) struct Streams {
    state: Mutex<State>,
    ended: Notify,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There was no request for too long.
    Idle,
    /// An answer was left unread for too long.
    Unread,
    /// Far more requests were taken back than answered.
    TakenBack,
}

#[derive(Debug)]
struct State {
    /// Requests and answers.
    open: HashMap<u64, Open>,
    next: u64,
    idle_since: Instant,
    /// Requests that were taken back, less those that were answered.
    taken_back: u32,
    /// The connection ends as soon as nothing is open.
    is_ending: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Open {
    /// Since when a piece of its answer waits for the peer.
    unread_since: Option<Instant>,
    is_answered: bool,
}

/// One stream. Ends when it is dropped.
struct Stream {
    streams: Arc<Streams>,
    id: u64,
}

/// An answer, in pieces.
struct Answer {
    body: Body,
    /// Of what the body gave last.
    rest: Bytes,
    stream: Stream,
}

/// A service whose requests and answers are watched.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    streams: Arc<Streams>,
}

/// The most of an answer that waits in a stream without being watched.
const PIECE_BYTES: usize = 16_384;
/// How long a connection that ends may take to say goodbye.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// So many more requests may be taken back than are answered.
const TAKEN_BACK: u32 = 128;

// === impl Streams ===

impl Streams {
    pub(super) fn new() -> Arc<Self> {
        let state =
            State { open: HashMap::new(), next: 0, idle_since: Instant::now(), taken_back: 0, is_ending: false };
        Arc::new(Self { state: Mutex::new(state), ended: Notify::new() })
    }

    /// Ends when the connection is to end: nothing was open for `idle`, or an answer went unread for `unread`.
    pub(super) async fn end(&self, idle: Duration, unread: Duration) -> End {
        loop {
            let wake = match self.state().look(idle, unread) {
                Ok(wake) => wake,
                Err(end) => return end,
            };
            tokio::select! {
                () = self.ended.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// From now on the connection is idle once nothing was open for [`CLOSE_WITHIN`]: a peer that does not say that it
    /// has heard of the end does not hold it up.
    pub(super) fn ending(&self) {
        let mut state = self.state();
        state.is_ending = true;
        state.idle_since = Instant::now();
        self.ended.notify_one();
    }

    fn open(self: &Arc<Self>) -> Stream {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, Open::default());
        Stream { streams: self.clone(), id }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// When to look again; whatever begins meanwhile ends no sooner.
    fn look(&self, idle: Duration, unread: Duration) -> Result<Instant, End> {
        let now = Instant::now();
        if self.taken_back > TAKEN_BACK {
            return Err(End::TakenBack);
        }
        let idle = if self.is_ending { idle.min(CLOSE_WITHIN) } else { idle };
        let idle_until = if self.open.is_empty() { self.idle_since + idle } else { now + idle };
        if idle_until <= now {
            return Err(End::Idle);
        }
        let oldest = self.open.values().filter_map(|open| open.unread_since).min();
        let unread_until = oldest.unwrap_or(now) + unread;
        if unread_until <= now {
            return Err(End::Unread);
        }
        Ok(idle_until.min(unread_until))
    }
}

// === impl Stream ===

impl Stream {
    /// There is an answer; and whether a piece of it waits for the peer.
    fn answers(&self, waits: bool) {
        if let Some(open) = self.streams.state().open.get_mut(&self.id) {
            open.is_answered = true;
            open.unread_since = waits.then(Instant::now);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.streams.state();
        let Some(open) = state.open.remove(&self.id) else { return };
        state.idle_since = Instant::now();
        if open.is_answered {
            state.taken_back = state.taken_back.saturating_sub(1);
            return;
        }
        state.taken_back += 1;
        if state.taken_back > TAKEN_BACK {
            self.streams.ended.notify_one();
        }
    }
}

// === impl Answer ===

impl Answer {
    fn piece(&mut self) -> Frame<Bytes> {
        self.stream.answers(true);
        Frame::data(self.rest.split_to(self.rest.len().min(PIECE_BYTES)))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    /// Asked for more only when the peer takes more.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        self.stream.answers(false);
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else { return Poll::Ready(None) };
        let frame = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                self.rest = data;
                self.piece()
            }
            Ok(Err(trailers)) => trailers,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}

// === impl Watched ===

impl<S> Watched<S> {
    pub(super) fn new(inner: S, streams: Arc<Streams>) -> Self {
        Self { inner, streams }
    }
}

impl<S> hyper::service::Service<Request<Incoming>> for Watched<S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let stream = self.streams.open();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // it waits from now on until its first byte is taken
            stream.answers(!answer.body().is_end_stream());
            Ok(answer.map(|body| {
                Body::new(Answer { body, rest: Bytes::new(), stream }.map_err(Into::<axum::BoxError>::into))
            }))
        })
    }
}
