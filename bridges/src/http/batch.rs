//! CloudEvents over HTTP in batched mode (the HTTP binding, section 3.3): one request, a message an event, a verdict each.
//!
//! Each event becomes a message as in structured mode, so one mapping takes both. It shares the bytes of the request.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use envelope::{Admission, Disposition, Headers, Identity, Json, Rejection, Settled, Verdicts, json::Node};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Problem,
    answer::{not_settled, write_receipt},
    draft::{self, Draft},
    head,
};

/// The most events of a request.
const MAX_EVENTS: usize = 1_000;
const BATCH: &str = "application/cloudevents-batch+json";
const EVENT: &[u8] = b"application/cloudevents+json";

/// Why a batch is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("the batch is {0}")]
    Json(String),
    #[error("a batch is a JSON array of events, not {0}")]
    NotAnArray(&'static str),
    #[error("the batch has {0} events, limit is {MAX_EVENTS}")]
    TooMany(usize),
    #[error("event {index} of the batch is {found}, not an object")]
    NotAnEvent { index: usize, found: &'static str },
}

/// Whether a request says that it has a batch.
pub(super) fn is_batch(headers: &HeaderMap) -> bool {
    let content_type = head::value(headers, header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|of| of.split(';').next().is_some_and(|of| of.trim().eq_ignore_ascii_case(BATCH)))
}

/// The messages of a batch, each like `like` but for its payload and its name.
pub(super) fn split(like: &Draft, body: &Bytes) -> Result<Vec<Draft>, BatchError> {
    let json = Json::parse(body.clone()).map_err(|error| BatchError::Json(error.to_string()))?;
    let root = json.root();
    let events = root.as_array().ok_or(BatchError::NotAnArray(root.type_name()))?;
    if events.len() > MAX_EVENTS {
        return Err(BatchError::TooMany(events.len()));
    }
    let headers = headers(&like.headers);
    let message = |(index, event): (usize, Node<'_>)| {
        if event.as_object().is_none() {
            return Err(BatchError::NotAnEvent { index, found: event.type_name() });
        }
        let payload = body.slice(event.span());
        Ok(Draft { headers: headers.clone(), payload, identity: identity(event), ..like.clone() })
    };
    events.enumerate().map(message).collect()
}

/// Those of the request, with the content type of one event.
fn headers(of: &Headers) -> Headers {
    let own = |(name, value): &(String, Bytes)| match name.as_str() {
        "content-type" => (name.clone(), Bytes::from_static(EVENT)),
        _ => (name.clone(), value.clone()),
    };
    of.iter().map(own).collect()
}

/// The event's own name; a fresh one if it has none.
fn identity(event: Node<'_>) -> Identity {
    let attribute = |name| event.get(name).and_then(Node::as_str).map(str::as_bytes);
    draft::event_identity(attribute("source").zip(attribute("id")))
}

/// 202 if all were admitted. Else the answer of the one that says most about the whole: where one may pass later, that
/// the batch may be sent again, because those that are stored are duplicates then. The body has a verdict an event.
pub(super) fn answer(verdicts: &Verdicts<Admission>) -> Response {
    let mut body = vec![b'['];
    let mut worst: Option<Problem> = None;
    for (index, verdict) in verdicts.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.push(b'{');
        if let Some((problem, later)) = write_verdict(&mut body, &verdict.answer)
            && (later || worst.is_none())
        {
            worst = Some(problem);
        }
        body.push(b'}');
    }
    body.push(b']');
    let mut response = worst.map_or_else(
        || {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        },
        |problem| problem.in_its_own_words().into_response(),
    );
    *response.body_mut() = Body::from(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The members of one verdict; the problem if it is none that the sender may forget, and whether it may pass later.
fn write_verdict(out: &mut Vec<u8>, answer: &Result<Admission, Rejection>) -> Option<(Problem, bool)> {
    let (problem, later) = match answer {
        Ok(Admission::Filtered) => {
            out.extend_from_slice(b"\"status\":202,\"filtered\":true");
            return None;
        }
        Ok(Admission::Stored(receipt)) => match not_settled(receipt) {
            Some(problem) => (problem, receipt.settled != Settled::Elsewhere),
            None => {
                out.extend_from_slice(b"\"status\":202,");
                write_receipt(out, receipt);
                return None;
            }
        },
        Err(rejection) => (Problem::from(rejection), rejection.disposition() == Disposition::Retry),
    };
    problem.write_members(out);
    Some((problem, later))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like() -> Draft {
        let headers = [("content-type".to_owned(), Bytes::from(BATCH)), ("x-a".to_owned(), Bytes::from("1"))];
        Draft {
            address: "POST /events".into(),
            headers: headers.into(),
            payload: Bytes::new(),
            identity: Identity::fresh(),
            trace: None,
        }
    }

    #[test]
    fn each_event_is_a_message_of_structured_mode() {
        let body = Bytes::from(r#"[ {"id":"1","source":"/a", "data": 12.10}, {"id":"","source":"/a"} ]"#);
        let drafts = split(&like(), &body).unwrap();
        assert_eq!(drafts[0].payload, r#"{"id":"1","source":"/a", "data": 12.10}"#);
        assert_eq!(drafts[0].headers[0].1, EVENT);
        assert_eq!(drafts[0].headers[1].1, "1");
        assert_eq!(drafts[0].identity, Identity::Native("event\0/a\x001".into()));
        assert!(matches!(drafts[1].identity, Identity::Fresh(_)));
        assert!(split(&like(), &Bytes::from("[]")).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_batch_is_refused_with_the_place() {
        for (body, why) in [
            ("[{}", "the batch is"),
            ("{}", "a batch is a JSON array of events, not object"),
            ("[{}, 7]", "event 1 of the batch is number, not an object"),
        ] {
            let error = split(&like(), &Bytes::from(body)).unwrap_err().to_string();
            assert!(error.starts_with(why), "{body}: {error}");
        }
        let many = |count: usize| Bytes::from(format!("[{}]", vec!["{}"; count].join(",")));
        assert_eq!(split(&like(), &many(MAX_EVENTS)).unwrap().len(), MAX_EVENTS);
        assert_eq!(split(&like(), &many(MAX_EVENTS + 1)).unwrap_err(), BatchError::TooMany(MAX_EVENTS + 1));
    }

    #[test]
    fn only_the_media_type_of_batches_is_one() {
        let of = |text: &'static str| {
            is_batch(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))]))
        };
        assert!(of("application/cloudevents-batch+json") && of("Application/CloudEvents-Batch+JSON; charset=UTF-8"));
        assert!(!of("application/cloudevents+json") && !of("application/cloudevents-batch+json2"));
        assert!(!is_batch(&HeaderMap::new()));
    }
}
