//! `GET /mesh/v1/last/<topic>`: a topic's last value, as a CloudEvent in JSON.
//!
//! Its position is the entity tag, so a client that has it already hears 304; with `Prefer: wait=N` (RFC 7240) it hears of
//! the next one as soon as it is there.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, State},
    response::{IntoResponse, Response},
};
use envelope::{Delivery, Filter, Outlet, Principal, Rejection, Settlement, Start, Subscribe, Topic, cloudevents};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::time::timeout;

use super::{
    Peer, Problem,
    answer::write_position,
    offer::Offer,
    openapi::{CloudEvent, NotLetIn, NotNow, Refusal, TopicName, only_get},
    publish::credentials,
    query::{bad, percent_decoded},
};

/// What the path begins with.
const PREFIX: &str = "/mesh/v1/last/";
/// The longest a client may wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The most unsettled deliveries of one that waits.
const CREDIT: u32 = 16;

/// A last value and its entity tag.
struct Value {
    tag: HeaderValue,
    delivery: Delivery,
}

/// A topic's last value, as a CloudEvent
///
/// Its position is the entity tag.
#[utoipa::path(get, path = "/mesh/v1/last/{*topic}",
    params(
        ("topic" = TopicName, Path, description = "the topic", example = "doors/1"),
        ("If-None-Match" = Option<String>, Header, description = "the entity tag of what the client has"),
        ("Prefer" = Option<String>, Header,
            description = "`wait=N`: where there is no other value yet, waits for one, at most N seconds and never over 60"),
    ),
    responses(
        (status = 200, description = "the value", content((CloudEvent = "application/cloudevents+json"))),
        (status = 304, description = "the client has it"),
        (status = 400, description = "the path names no topic", body = Refusal, content_type = "application/problem+json"),
        (status = 404, description = "there is none, or none that the principal may read", body = Refusal, content_type = "application/problem+json"),
        (status = 406, description = "`Accept-Encoding` leaves nothing", body = Refusal, content_type = "application/problem+json"),
        NotLetIn,
        NotNow,
    ))]
pub(super) async fn last(
    State(offer): State<Arc<Offer>>,
    Extension(peer): Extension<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return only_get("a last value", &"GET, HEAD").into_response();
    }
    read(&offer, &peer, &uri, &headers).await.unwrap_or_else(IntoResponse::into_response)
}

async fn read(offer: &Offer, peer: &Peer, uri: &Uri, headers: &HeaderMap) -> Result<Response, Problem> {
    let topic = topic(uri)?;
    let address = peer.address.ip();
    let verified = offer.cx.authenticator.verify(credentials(headers, peer), Some(address)).await;
    let principal = verified.map_err(|rejection| {
        offer.cx.audit.refused(&rejection, None, Some(address));
        Problem::from(&rejection)
    })?;
    let refused = |rejection: Rejection| Problem::from(&rejection);
    let now = value(&*offer.cx.outlet, &principal, &topic).await.map_err(refused)?;
    let wait = wait(headers).filter(|_| now.as_ref().is_none_or(|value| is_known(headers, value)));
    let Some(wait) = wait else { return Ok(respond(headers, now, &topic)) };
    let next = next(&*offer.cx.outlet, &principal, &topic, now.as_ref());
    let waited = tokio::select! {
        biased;
        waited = timeout(wait, next) => waited,
        () = offer.cx.drain.cancelled() => return Ok(respond(headers, now, &topic)),
    };
    let mut response = match waited {
        Ok(next) => respond(headers, next.map_err(refused)?, &topic),
        Err(_) => respond(headers, now, &topic),
    };
    let applied = format!("wait={}", wait.as_secs());
    if let Ok(applied) = HeaderValue::try_from(applied) {
        response.headers_mut().insert("preference-applied", applied);
    }
    Ok(response)
}

fn topic(uri: &Uri) -> Result<Topic, Problem> {
    let path = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let decoded = percent_decoded(path).ok_or_else(|| bad("the topic is not percent-encoded UTF-8".to_owned()))?;
    Topic::new(&*decoded).map_err(|error| bad(format!("the path names no topic: {error}")))
}

async fn value(outlet: &dyn Outlet, principal: &Arc<Principal>, topic: &Topic) -> Result<Option<Value>, Rejection> {
    let values = outlet.last(principal.clone(), exactly(topic)?, None, 1).await?.values;
    Ok(values.into_iter().next().map(|delivery| Value { tag: tag(&delivery), delivery }))
}

/// The first value that is another one than `now`.
async fn next(
    outlet: &dyn Outlet,
    principal: &Arc<Principal>,
    topic: &Topic,
    now: Option<&Value>,
) -> Result<Option<Value>, Rejection> {
    let filters = vec![exactly(topic)?];
    let what = Subscribe { filters, start: Start::Last, durable: None, credit: CREDIT };
    let mut deliveries = outlet.open(principal.clone(), what).await?;
    loop {
        let batch = deliveries.next().await?;
        let known = |delivery: &Delivery| now.is_some_and(|now| now.delivery.position == delivery.position);
        if batch.as_slice().iter().any(|delivery| delivery.retained && !known(delivery)) {
            // what it is by now, which may be that there is none any more
            return value(outlet, principal, topic).await;
        }
        let settled = batch.into_vec().into_iter().map(|delivery| (delivery.position, Settlement::Delivered));
        deliveries.settle(settled.collect()).await?;
    }
}

/// A topic has none of the signs that make a filter select others.
fn exactly(topic: &Topic) -> Result<Filter, Rejection> {
    Filter::new(topic.as_str()).map_err(|error| {
        let detail = format!("topic {:?} can't be asked for: {error}", topic.as_str());
        Rejection::new(envelope::RejectKind::Malformed, "http", detail)
    })
}

fn tag(delivery: &Delivery) -> HeaderValue {
    let mut tag = Vec::with_capacity(34);
    write_position(&mut tag, &delivery.position);
    // a quoted hexadecimal number: it is one
    HeaderValue::from_maybe_shared(bytes::Bytes::from(tag)).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether the client has it already (RFC 9110, section 13.1.2: compared weakly).
fn is_known(headers: &HeaderMap, value: &Value) -> bool {
    let own = value.tag.as_bytes();
    headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| {
        let mut tags = tags.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        tags.any(|tag| tag == b"*" || tag == own || tag.strip_prefix(b"W/") == Some(own))
    })
}

/// How long the client would wait, at most [`LONGEST_WAIT`]. A preference that makes no sense is ignored, as the RFC says.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut waits = preferences.flat_map(|value| value.split(',')).filter_map(|preference| {
        let (name, value) = preference.trim().split_once('=')?;
        let value = value.split(';').next().unwrap_or_default().trim().trim_matches('"');
        let seconds = name.trim().eq_ignore_ascii_case("wait").then(|| value.parse().ok())??;
        Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
    });
    waits.next().filter(|wait| !wait.is_zero())
}

fn respond(headers: &HeaderMap, value: Option<Value>, topic: &Topic) -> Response {
    let Some(value) = value else {
        let detail = format!("topic {:?} has no last value that you may read", topic.as_str());
        let problem = Problem::new(StatusCode::NOT_FOUND, "no-last-value", "last", detail);
        return problem.into_response();
    };
    let mut response = if is_known(headers, &value) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut body = Vec::with_capacity(512);
        cloudevents::write_json(&value.delivery.envelope, &mut body);
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(cloudevents::CONTENT_TYPE));
        response
    };
    response.headers_mut().insert(header::ETAG, value.tag);
    // who may read it is asked anew each time
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let name: http::HeaderName = name.parse().unwrap();
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_wait_is_bounded_and_nonsense_is_none() {
        for (value, seconds) in [
            ("wait=5", Some(5)),
            ("respond-async, Wait = \"7\"; x=y", Some(7)),
            ("wait=100000", Some(60)),
            ("wait=0", None),
            ("wait=soon", None),
            ("wait", None),
            ("waiting=5", None),
        ] {
            assert_eq!(wait(&headers("prefer", value)).map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }

    #[test]
    fn only_a_path_that_names_a_topic_is_one() {
        let of = |path: &str| topic(&path.parse().unwrap());
        assert_eq!(of("/mesh/v1/last/caf%C3%A9/7").unwrap().as_str(), "café/7");
        for path in
            ["/mesh/v1/last/", "/mesh/v1/last/a//b", "/mesh/v1/last/a/%23", "/mesh/v1/last/%2B", "/mesh/v1/last/%ff"]
        {
            assert_eq!(of(path).unwrap_err().status(), StatusCode::BAD_REQUEST, "{path}");
        }
    }
}
