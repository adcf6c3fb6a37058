//! A request as a message: read within its bounds, offered to the ingress stack, answered.
//!
//! Bytes first, permit second: nothing of the stack is held while a body arrives. What is refused before it is whole
//! was never a message and is in no ledger; from there on each message has exactly one outcome.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use envelope::{Credentials, Identity, RejectKind, Rejection};
use http::{HeaderMap, Request, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Peer, Problem,
    address::address,
    answer, batch,
    coding::{Coding, InflateError, inflate},
    draft::{self, Draft},
    finish::Finish,
    head,
    offer::{self, Heard, Offer},
    parts,
};

/// The most that is read of a body that is refused, and for how long.
const DISCARD_BYTES: usize = 8_388_608;
const DISCARD_WITHIN: Duration = Duration::from_secs(2);
/// A body that came in one piece of at most this size is copied: it is a part of the connection's read buffer, which is
/// larger, and would keep all of it for as long as the message lives.
const COPIED_BYTES: usize = 4_096;

/// Answers a request that is a message, or a batch of them.
pub(super) async fn publish(offer: &Arc<Offer>, peer: &Peer, request: Request<Incoming>) -> Response {
    take(offer, peer, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn take(offer: &Arc<Offer>, from: &Peer, request: Request<Incoming>) -> Result<Response, Problem> {
    let peer = from.address.ip();
    let (parts, body) = request.into_parts();
    let (address, identity, coding) = match names(&parts) {
        Ok(names) => names,
        Err(problem) => {
            discard(body).await;
            return Err(problem);
        }
    };
    let (payload, in_flight) = read(offer, peer, body, coding).await?;
    let mut draft = Draft {
        address,
        headers: draft::headers(&parts.headers, parts.uri.query()),
        payload,
        identity,
        trace: draft::trace(&parts.headers),
    };
    let (credentials, is_batch) = (credentials(&parts.headers, from), batch::is_batch(&parts.headers));
    // what is left of the head is a part of the connection's read buffer, which is used again once nothing holds it
    drop(parts);
    let shared = offer.clone();
    if is_batch {
        let drafts = events(offer, peer, &draft)?;
        let verdicts = async move {
            let verdicts = offer::all(&shared, peer, credentials, drafts).await;
            drop(in_flight);
            verdicts
        };
        let verdicts =
            Finish::new(verdicts, offer.cx.tasks.clone()).await.map_err(|rejection| Problem::from(&rejection))?;
        return Ok(batch::answer(&offer.all_reached(verdicts).await));
    }
    offer.cx.received(1);
    draft.fingerprint();
    let keyed = draft.is_keyed();
    let verdict = async move {
        let verdict = offer::once(&shared, peer, credentials, draft).await;
        drop(in_flight);
        verdict
    };
    let admission =
        Finish::new(verdict, offer.cx.tasks.clone()).await.map_err(|rejection| Problem::from(&rejection))?;
    let Heard { admission, parts, .. } = offer.reached(admission, keyed).await;
    let response = answer::admitted(&admission, keyed);
    Ok(match parts {
        Some(parts) => parts::followed(response, &admission, parts),
        None => response,
    })
}

/// The messages of a batch; one that is none is a message that is refused.
fn events(offer: &Offer, peer: IpAddr, draft: &Draft) -> Result<Vec<Draft>, Problem> {
    let split = match draft.is_keyed() {
        true => Err("an event's source and id are its name: a batch takes no Idempotency-Key".to_owned()),
        false => batch::split(draft, &draft.payload).map_err(|error| error.to_string()),
    };
    let drafts = split.map_err(|detail| {
        offer.cx.received(1);
        let rejection = Rejection::new(RejectKind::Malformed, "cloudevents_batch", detail);
        offer.cx.outside(&rejection, None, Some(peer));
        Problem::from(&rejection)
    })?;
    offer.cx.received(drafts.len() as u64);
    Ok(drafts)
}

/// What the head says the message is.
fn names(parts: &Parts) -> Result<(Arc<str>, Identity, Option<Coding>), Problem> {
    let address = address(parts.method.as_str(), parts.uri.path())?;
    let identity = draft::request_identity(&address, &parts.headers).map_err(|error| bad_request(error.to_string()))?;
    Ok((address, identity, Coding::of(&parts.headers)?))
}

/// The payload and what it takes of the bytes in flight.
async fn read(
    offer: &Offer,
    peer: IpAddr,
    body: Incoming,
    coding: Option<Coding>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem> {
    let Some(coding) = coding else {
        let (payload, in_flight) = arrived(offer, peer, body, offer.config.max_payload_bytes).await?;
        return Ok((payload, Some(in_flight)));
    };
    // both are held until what is in the body is out
    let (encoded, _in_flight) = arrived(offer, peer, body, offer.config.max_encoded_bytes()).await?;
    let Ok(_coder) = offer.coders.acquire().await else { return Err(draining()) };
    let max = offer.config.max_payload_bytes;
    inflate(coding, &encoded, max, offer.cx.bytes.of(max)).await.map_err(|error| match error {
        InflateError::TooLarge => too_large(offer, peer, max),
        InflateError::Full => full(offer),
        InflateError::Broken(error) => broken(offer, peer, coding, &error),
    })
}

/// The whole body as it was sent, of at most `max` bytes, and what it takes of the bytes in flight.
async fn arrived(
    offer: &Offer,
    peer: IpAddr,
    mut body: Incoming,
    max: usize,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let expected = body.size_hint();
    if expected.lower() > max as u64 {
        discard(body).await;
        return Err(too_large(offer, peer, offer.config.max_payload_bytes));
    }
    // a chunked body does not say how long it will be
    let reserve = expected.upper().map_or(max, |upper| upper.min(max as u64) as usize);
    let bytes = u32::try_from(reserve).unwrap_or(u32::MAX);
    let Ok(in_flight) = offer.cx.bytes.of(reserve).try_acquire_many_owned(bytes) else {
        discard(body).await;
        return Err(full(offer));
    };
    let within = offer.config.body_timeout;
    let read = tokio::select! {
        biased;
        read = timeout(within, collect(&mut body, reserve)) => read,
        // what has not arrived is not waited for: it was no message yet
        () = offer.cx.drain.cancelled() => {
            discard(body).await;
            return Err(draining());
        }
    };
    match read {
        Ok(Ok(Some(payload))) => Ok((payload, in_flight)),
        Ok(Ok(None)) => {
            discard(body).await;
            Err(too_large(offer, peer, offer.config.max_payload_bytes))
        }
        Ok(Err(error)) => Err(bad_request(format!("the body can't be read: {error}"))),
        Err(_) => {
            let detail = format!("the body did not arrive within {within:?}");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "body_timeout", detail))
        }
    }
}

/// The whole body, not copied if it is large and came in one piece; `None` if it is longer than `max`.
async fn collect(body: &mut Incoming, max: usize) -> Result<Option<Bytes>, hyper::Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // trailers say nothing that a mapping reads
        let Ok(chunk) = frame?.into_data() else { continue };
        if first.len() + all.len() + chunk.len() > max {
            return Ok(None);
        }
        if first.is_empty() && all.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(max);
            all.reserve(max.min(first.len() + chunk.len() + rest));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(Some(match all.is_empty() {
        true if first.len() <= COPIED_BYTES => Bytes::copy_from_slice(&first),
        true => first,
        false => all.freeze(),
    }))
}

/// Reads on for a while and keeps nothing: to a client that still writes when the connection closes, the system reports
/// a broken connection in place of the answer.
pub(super) async fn discard(mut body: Incoming) {
    let read = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(size) else { return };
            left = rest;
        }
    };
    if timeout(DISCARD_WITHIN, read).await.is_err() {
        tracing::debug!("a body over the limit was cut");
    }
}

/// What a peer proves itself with: a header before the certificate of its connection, which a proxy may share.
pub fn credentials(headers: &HeaderMap, peer: &Peer) -> Credentials {
    let mut values = head::values(headers, header::AUTHORIZATION);
    match (values.next(), values.next(), &peer.certificate) {
        (Some(value), None, _) => Credentials::Authorization(Bytes::copy_from_slice(value.as_bytes())),
        // of two, nobody knows which one a proxy on the way has looked at: together they are none that can be verified
        (Some(_), Some(_), _) => Credentials::Authorization(Bytes::new()),
        (None, _, Some(certificate)) => Credentials::Certificate(certificate.der().clone()),
        (None, _, None) => Credentials::None,
    }
}

fn bad_request(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", "http", detail)
}

/// A message all the same, but one that never enters the stack: both its counts are made here.
fn too_large(offer: &Offer, peer: IpAddr, max: usize) -> Problem {
    offer.cx.received(1);
    let detail = format!("payload is over the limit of {max} bytes");
    let rejection = Rejection::new(RejectKind::TooLarge, "payload_limit", detail);
    offer.cx.outside(&rejection, None, Some(peer));
    Problem::from(&rejection)
}

/// As above: it has arrived, and there is no message in it.
fn broken(offer: &Offer, peer: IpAddr, coding: Coding, error: &std::io::Error) -> Problem {
    offer.cx.received(1);
    let detail = format!("the body is no whole {}: {error}", coding.as_str());
    let rejection = Rejection::new(RejectKind::Malformed, "content_encoding", detail);
    offer.cx.outside(&rejection, None, Some(peer));
    Problem::from(&rejection)
}

fn draining() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "drain", "the gateway stops")
        .after(Duration::from_secs(1))
}

fn full(offer: &Offer) -> Problem {
    offer.full.increment(1);
    let rejection = Rejection::new(RejectKind::Overloaded, "max_in_flight_bytes", "too many bytes are in flight");
    Problem::from(&rejection)
}
