//! `GET /mesh/v1/events`: a subscription as server-sent events (the WHATWG's HTML standard, section 9.2).
//!
//! Each event's id is a position, so a client that comes back with `Last-Event-ID` goes on behind it. The connection
//! takes as much as its peer reads: while it takes nothing, nothing is pulled, and the write timeout cuts it.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{Extension, RawQuery, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use envelope::{Deliveries, Delivery, Filter, Position, Principal, Rejection, Settlement, Start, Subscribe, Timestamp};
use futures_util::{FutureExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Method, header};
use metrics::Gauge;
use tokio::time::{Instant, Interval, interval_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Peer, Problem,
    answer::write_position,
    coding::Accept,
    offer::Offer,
    openapi::{NotLetIn, NotNow, Refusal, TopicFilter, only_get},
    publish::credentials,
    query::{self, bad},
    shown::Shown,
};

/// The most filters of a subscription.
const MAX_FILTERS: usize = 64;
/// The most unsettled deliveries: what one connection keeps of the mesh's memory.
const CREDIT: u32 = 64;
/// A piece of the answer is sent once it has so many bytes.
const PIECE_BYTES: usize = 65_536;
/// What a client is told first: how long to wait before it comes back, in milliseconds.
const GREETING: &[u8] = b"retry: 2000\n\n";
/// As well, where something is gone of what was stored behind its last event.
const GREETING_WITH_GAP: &[u8] = b"retry: 2000\n\nevent: gap\ndata: {}\n\n";
const HEARTBEAT: &[u8] = b":\n\n";

/// An open stream.
struct Events {
    offer: Arc<Offer>,
    deliveries: Box<dyn Deliveries>,
    /// Pulled, and not written yet.
    queue: VecDeque<Delivery>,
    /// Written: settled with the next piece, when the connection has taken this one.
    written: Vec<(Position, Settlement)>,
    heartbeat: Interval,
    /// When a piece was last given out.
    given: Instant,
    not_let_in: BoxFuture<'static, Rejection>,
    greeted: bool,
    ended: bool,
    _open: Open,
    _tracked: TaskTrackerToken,
}

/// Counts an open stream for as long as it lives.
struct Open(Gauge);

/// A subscription as server-sent events
///
/// Each event is a CloudEvent in JSON, its id a position. A line that begins with a colon says that the gateway is there.
#[utoipa::path(get, path = "/mesh/v1/events",
    params(
        ("filter" = Vec<TopicFilter>, Query, description = "which topics", min_items = 1, max_items = 64),
        ("start" = Option<String>, Query,
            description = "`new` if left out; `earliest`; `last`, the last value of each topic first; or a time",
            pattern = "^(new|earliest|last|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$"),
        ("durable" = Option<String>, Query, description = "a name under which the position is kept",
            pattern = "^[A-Za-z0-9._-]{1,128}$"),
        ("Last-Event-ID" = Option<String>, Header, description = "goes on behind that event, whatever `start` says",
            pattern = "^([0-9a-f]{24})?$"),
    ),
    responses(
        (status = 200, description = "the events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "the query or a header can't be read", body = Refusal, content_type = "application/problem+json"),
        (status = 406, description = "`Accept-Encoding` excludes `identity`", body = Refusal, content_type = "application/problem+json"),
        (status = 409, description = "the position is none of this store, or another client has the durable name", body = Refusal, content_type = "application/problem+json"),
        (status = 422, description = "a durable name and `start=last` exclude each other", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
        NotNow,
    ))]
pub(super) async fn events(
    State(offer): State<Arc<Offer>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET {
        return only_get("a stream of events", &"GET").into_response();
    }
    if let Err(problem) = Accept::of(&headers).and_then(Accept::with_identity) {
        return problem.into_response();
    }
    match open(offer, peer, query.as_deref(), &headers).await {
        Ok(events) => respond(events),
        Err(problem) => problem.into_response(),
    }
}

fn respond(events: Events) -> Response {
    let pieces = stream::unfold(events, async |mut events| {
        let piece = events.next().await?;
        Some((Ok::<_, Infallible>(piece), events))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // a proxy that gathers what it passes on would hold events back
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn open(offer: Arc<Offer>, peer: Peer, query: Option<&str>, headers: &HeaderMap) -> Result<Events, Problem> {
    let (filters, start, durable) = wish(query, headers)?;
    let address = peer.address.ip();
    let verified = offer.cx.authenticator.verify(credentials(headers, &peer), Some(address)).await;
    let principal = verified.map_err(|rejection| {
        offer.cx.audit.refused(&rejection, None, Some(address));
        Problem::from(&rejection)
    })?;
    let durable = durable.map(|name| durable_name(&principal, &name));
    let what = Subscribe { filters, start, durable, credit: CREDIT };
    let deliveries =
        offer.cx.outlet.open(principal.clone(), what).await.map_err(|rejection| Problem::from(&rejection))?;
    let not_let_in = peer.ended(offer.cx.authenticator.ended(principal));
    let gauge = metrics::gauge!("openmesh_bridge_event_streams", "bridge" => offer.cx.bridge.to_string());
    let every = offer.config.heartbeat;
    let (now, tracked) = (Instant::now(), offer.cx.tasks.token());
    Ok(Events {
        offer,
        deliveries,
        queue: VecDeque::new(),
        written: Vec::new(),
        heartbeat: interval_at(now + every, every),
        given: now,
        not_let_in,
        greeted: false,
        ended: false,
        _open: Open::new(gauge),
        _tracked: tracked,
    })
}

/// What the client asks for. `Last-Event-ID` is what a browser sends by itself, so it comes before `start`.
fn wish(query: Option<&str>, headers: &HeaderMap) -> Result<(Vec<Filter>, Start, Option<String>), Problem> {
    let (mut filters, mut start, mut durable) = (Vec::new(), None, None);
    for (name, value) in query::parameters(query, &["filter", "start", "durable"])? {
        let twice = || bad(format!("parameter {name:?} is there twice"));
        match name {
            "filter" if filters.len() == MAX_FILTERS => {
                return Err(bad(format!("more than {MAX_FILTERS} filters")));
            }
            "filter" => filters.push(Filter::new(&*value).map_err(|error| bad(format!("filter: {error}")))?),
            "start" => {
                let read = match &*value {
                    "new" => Start::New,
                    "earliest" => Start::Earliest,
                    "last" => Start::Last,
                    time => Start::Time(Timestamp::parse(time).ok_or_else(|| {
                        let shown = query::shortened(time);
                        bad(format!("start is new, earliest, last or a time of RFC 3339, not {shown:?}"))
                    })?),
                };
                start.replace(read).map_or(Ok(()), |_| Err(twice()))?;
            }
            _ => {
                if !is_durable_name(&value) {
                    return Err(bad("a durable name is 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'".to_owned()));
                }
                durable.replace(value.into_owned()).map_or(Ok(()), |_| Err(twice()))?;
            }
        }
    }
    if filters.is_empty() {
        return Err(bad("parameter \"filter\" is missing".to_owned()));
    }
    let start = match last_event(headers)? {
        Some(position) => Start::Again(position),
        None => start.unwrap_or(Start::New),
    };
    Ok((filters, start, durable))
}

/// An empty one is none: that is what a client without one sends.
fn last_event(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let mut ids = headers.get_all("last-event-id").iter();
    let id = match (ids.next(), ids.next()) {
        (None, _) => return Ok(None),
        (Some(id), None) => id,
        (Some(_), Some(_)) => return Err(bad("the Last-Event-ID header is given twice".to_owned())),
    };
    if id.is_empty() {
        return Ok(None);
    }
    let position = id.to_str().ok().and_then(super::answer::read_position);
    let position = position.ok_or_else(|| bad("Last-Event-ID is no position of this gateway".to_owned()))?;
    Ok(Some(position))
}

/// Whether a client may call a durable subscription so.
pub(super) fn is_durable_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=128).contains(&name.len()) && name.bytes().all(valid)
}

/// A client's names are its own, and not those of its WebSockets.
fn durable_name(principal: &Principal, name: &str) -> Arc<str> {
    format!("sse:{}:{name}", principal.id.replace('%', "%25").replace(':', "%3A")).into()
}

/// Appends one event: the position as its id, the envelope as its data; of another type if it is no news. JSON has line breaks only between its tokens, so
/// that the lines, put together again, are the same JSON.
fn write_event(out: &mut Vec<u8>, delivery: &Delivery, shown: &Shown) {
    if delivery.is_last {
        out.extend_from_slice(b"event: last\n");
    }
    out.extend_from_slice(b"id: ");
    let from = out.len();
    write_position(out, &delivery.position);
    // without its quotes
    out.pop();
    out.remove(from);
    out.extend_from_slice(b"\ndata: ");
    let from = out.len();
    shown.write(delivery, out);
    if out[from..].iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        let text = out.split_off(from);
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
            if out.len() > from {
                out.extend_from_slice(b"\ndata: ");
            }
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(b"\n\n");
}

/// Appends the last event of a stream that the gateway ends.
fn write_closed(out: &mut Vec<u8>, rejection: &Rejection) {
    out.extend_from_slice(b"event: closed\ndata: {");
    Problem::from(rejection).write_members(out);
    out.extend_from_slice(b"}\n\n");
}

// === impl Events ===

impl Events {
    /// The next piece of the answer. It is asked for when the connection has taken the one before.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended || self.offer.cx.drain.is_cancelled() {
            return None;
        }
        if let Some(why) = (&mut self.not_let_in).now_or_never() {
            return Some(self.end(&why));
        }
        if !self.greeted {
            self.greeted = true;
            return Some(Bytes::from_static(if self.deliveries.has_gap() { GREETING_WITH_GAP } else { GREETING }));
        }
        if !self.written.is_empty() {
            let written = std::mem::take(&mut self.written);
            if let Err(rejection) = self.deliveries.settle(written).await {
                return Some(self.end(&rejection));
            }
        }
        while self.queue.is_empty() {
            let pulled = tokio::select! {
                biased;
                () = self.offer.cx.drain.cancelled() => return None,
                why = &mut self.not_let_in => Err(why),
                batch = self.deliveries.next() => batch,
                _ = self.heartbeat.tick() => {
                    // not set anew with every piece: the timers are all the connections'
                    let due = self.given + self.heartbeat.period();
                    if due > Instant::now() {
                        self.heartbeat.reset_at(due);
                        continue;
                    }
                    self.given = Instant::now();
                    return Some(Bytes::from_static(HEARTBEAT));
                }
            };
            match pulled {
                Ok(batch) => self.queue.extend(batch.into_vec()),
                Err(rejection) => return Some(self.end(&rejection)),
            }
        }
        self.given = Instant::now();
        Some(self.piece())
    }

    fn piece(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(1_024);
        while out.len() < PIECE_BYTES
            && let Some(delivery) = self.queue.pop_front()
        {
            write_event(&mut out, &delivery, &self.offer.shown);
            self.written.push((delivery.position, Settlement::Delivered));
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        out.into()
    }

    fn end(&mut self, rejection: &Rejection) -> Bytes {
        self.ended = true;
        let mut out = Vec::with_capacity(256);
        write_closed(&mut out, rejection);
        out.into()
    }
}

// === impl Open ===

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
