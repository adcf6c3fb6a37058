//! What a sender hears of a message that was taken: in JSON, or in the words of its mapping.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use envelope::{Admission, Position, Receipt, Reply, Settled};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{Problem, draft::is_carried, kept::MAX_KEPT};

/// 202 with the receipt, or what the mapping says in its place; a message that its mapping drops is 202 as well, with
/// `{"filtered":true}`: it was taken, and a sender need not know more.
///
/// `keyed` is a request with an idempotency key: its repetition hears what the first one heard, and a header says so.
pub(super) fn admitted(admission: &Admission, keyed: bool) -> Response {
    let replayed = keyed && matches!(admission, Admission::Stored(receipt) if receipt.duplicate);
    let mut response = admitted_once(admission, replayed);
    if replayed {
        response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    }
    response
}

fn admitted_once(admission: &Admission, replayed: bool) -> Response {
    if let Admission::Stored(receipt) = admission {
        if let Some(problem) = not_settled(receipt) {
            return problem.into_response();
        }
        if let Some(reply) = &receipt.reply {
            let status = reply.status.and_then(|status| StatusCode::from_u16(status).ok());
            return in_words(reply, status.unwrap_or(StatusCode::ACCEPTED));
        }
    }
    let mut body = Vec::with_capacity(128);
    match admission {
        Admission::Stored(receipt) if replayed => {
            write_admission(&mut body, &Admission::Stored(Receipt { duplicate: false, ..receipt.clone() }));
        }
        Admission::Stored(_) | Admission::Filtered => write_admission(&mut body, admission),
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A mapping's own answer. What belongs to the connection is the listener's to say.
pub(super) fn in_words(reply: &Reply, status: StatusCode) -> Response {
    let mut response = Response::new(Body::from(reply.payload.clone()));
    *response.status_mut() = status;
    for (name, value) in reply.headers.iter().filter(|(name, _)| is_carried(name)) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(value.clone())) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Appends an admission as a JSON object.
pub(super) fn write_admission(out: &mut Vec<u8>, admission: &Admission) {
    match admission {
        Admission::Filtered => out.extend_from_slice(b"{\"filtered\":true}"),
        Admission::Stored(receipt) => {
            out.push(b'{');
            write_receipt(out, receipt);
            out.push(b'}');
        }
    }
}

/// Stored, but its ack point is beyond the store: nobody hears yes before it is reached.
pub(super) fn not_settled(receipt: &Receipt) -> Option<Problem> {
    match receipt.settled {
        Settled::Now => None,
        Settled::Later(_) => {
            let detail = match receipt.position {
                Some(_) => format!("{} is stored, not yet delivered", receipt.id),
                None => format!("{} is not stored, and not delivered yet: send it again", receipt.id),
            };
            Some(Problem::new(StatusCode::GATEWAY_TIMEOUT, "not-settled", "ack", detail))
        }
        Settled::Elsewhere => {
            let detail = format!(
                "{} was answered to another request, in parts or in more than the {MAX_KEPT} bytes that are kept for a retry",
                receipt.id
            );
            Some(Problem::new(StatusCode::CONFLICT, "answered-elsewhere", "reply", detail))
        }
        Settled::Never => {
            let what = if receipt.position.is_some() { "stored" } else { "not stored" };
            let detail = format!("{} is {what}, and who was to take it did not", receipt.id);
            Some(Problem::new(StatusCode::BAD_GATEWAY, "not-delivered", "ack", detail))
        }
    }
}

/// Appends the members of a receipt, without braces.
pub(super) fn write_receipt(out: &mut Vec<u8>, receipt: &Receipt) {
    out.extend_from_slice(b"\"id\":\"");
    out.extend_from_slice(receipt.id.to_string().as_bytes());
    out.extend_from_slice(b"\",\"position\":");
    match &receipt.position {
        Some(position) => write_position(out, position),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"duplicate\":");
    out.extend_from_slice(if receipt.duplicate { b"true" } else { b"false" });
}

/// Appends a position as a JSON string: opaque to the client, which gives it back as it got it.
pub(super) fn write_position(out: &mut Vec<u8>, position: &Position) {
    out.push(b'"');
    for byte in &position.0 {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.push(b'"');
}

/// Reads a position as the gateway writes it.
pub fn read_position(text: &str) -> Option<Position> {
    const MAX_DIGITS: usize = 128;
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8);
    let valid = digits.len().is_multiple_of(2) && (2..=MAX_DIGITS).contains(&digits.len());
    let bytes: Option<Vec<u8>> = if valid { digits.chunks_exact(2).map(byte).collect() } else { None };
    Some(Position(bytes?.into()))
}
