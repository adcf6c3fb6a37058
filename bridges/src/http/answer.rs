//! What a sender hears of a message that was taken, in JSON.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use envelope::{Admission, Position, Receipt, Settled};
use http::{HeaderValue, StatusCode, header};

use super::Problem;

/// 202 with the receipt; a message that its mapping drops is 202 as well, with `{"filtered":true}`: it was taken, and
/// a sender need not know more.
pub(super) fn admitted(admission: &Admission) -> Response {
    let mut body = Vec::with_capacity(128);
    match admission {
        Admission::Filtered => body.extend_from_slice(b"{\"filtered\":true}"),
        Admission::Stored(receipt) => match not_settled(receipt) {
            Some(problem) => return problem.into_response(),
            None => {
                body.push(b'{');
                write_receipt(&mut body, receipt);
                body.push(b'}');
            }
        },
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Stored, but its ack point is beyond the store: nobody hears yes before it is reached.
pub(super) fn not_settled(receipt: &Receipt) -> Option<Problem> {
    match receipt.settled {
        Settled::Now => None,
        Settled::Later(_) => {
            let detail = format!("{} is stored, not yet delivered", receipt.id);
            Some(Problem::new(StatusCode::GATEWAY_TIMEOUT, "not-settled", "ack", detail))
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
