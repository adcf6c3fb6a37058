//! An answer in parts as the body of a response: each part is sent as soon as it is there.
//!
//! A body that ends is whole. One that is not whole never ends: the connection is closed in the midst of it, or its stream of
//! HTTP/2 reset, and every client takes that for an error. Parts of JSON are lines, so that a client can tell them apart.

use std::io;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use envelope::{Admission, Parts};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};

use super::head;

/// Lines of JSON.
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// The response to a message whose answer goes on. The connection takes a part when its peer has taken those before it.
pub(super) fn followed(mut response: Response, admission: &Admission, parts: Parts) -> Response {
    let Admission::Stored(receipt) = admission else { return response };
    let Some(reply) = &receipt.reply else { return response };
    let content_type = head::value(response.headers(), header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|value| head::is_json(value.as_bytes()));
    let headers = response.headers_mut();
    if is_json {
        headers.insert(header::CONTENT_TYPE, LINES);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // a proxy that gathers what it passes on would hold parts back
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let worded = move |payload: Bytes| if is_json { line(&payload) } else { payload };
    let first = Ok(worded(reply.payload.clone()));
    let rest = parts.0.map(move |part| part.map(|part| worded(part.payload)).map_err(io::Error::other));
    let pieces = stream::once(std::future::ready(first)).chain(rest);
    // an empty piece says nothing, and would look like the end to who reads chunks
    let pieces = pieces.filter(|piece| std::future::ready(!piece.as_ref().is_ok_and(Bytes::is_empty)));
    *response.body_mut() = Body::from_stream(pieces);
    response
}

/// A line of JSON, which has line breaks only between its tokens: a space does as well there. Nothing is no line.
fn line(payload: &[u8]) -> Bytes {
    if payload.is_empty() {
        return Bytes::new();
    }
    let mut line: Vec<u8> = Vec::with_capacity(payload.len() + 1);
    line.extend(payload.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    line.push(b'\n');
    line.into()
}
