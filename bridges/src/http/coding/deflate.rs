//! Encodes an answer for a client that reads it so, if it is large enough to be worth it.

use std::io::{self, Write};

use axum::{
    body::{Body, HttpBody},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use zstd::stream::write::Encoder;

use super::{super::Problem, Accept, Coding, Pace, STEP_BYTES};

/// An answer of more bytes is worth it.
const WORTH_BYTES: u64 = 1_024;
/// zstd's fastest but those that give up half of it.
const ZSTD_LEVEL: i32 = 1;

/// The answer as the client wants it. `coders` bounds how many are encoded at once. A stream stays as it is.
pub(in crate::http) async fn deflate(accept: Accept, coders: &Semaphore, response: Response) -> Response {
    let size = response.body().size_hint().exact().unwrap_or(0);
    if size == 0 || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let must = !accept.takes_identity();
    let wanted = accept.best().filter(|_| must || size > WORTH_BYTES);
    let (mut parts, body) = response.into_parts();
    if size > WORTH_BYTES {
        parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    let Some(coding) = wanted else { return Response::from_parts(parts, body) };
    let Ok(whole) = body.collect().await.map(|whole| whole.to_bytes()) else { return not_read() };
    match encoded(coding, &whole, coders).await {
        Ok(smaller) if must || smaller.len() < whole.len() => {
            mark(&mut parts.headers, coding);
            Response::from_parts(parts, Body::from(smaller))
        }
        Ok(_) => Response::from_parts(parts, Body::from(whole)),
        Err(error) => {
            tracing::error!(%error, coding = coding.as_str(), "an answer is not encoded");
            Response::from_parts(parts, Body::from(whole))
        }
    }
}

async fn encoded(coding: Coding, whole: &[u8], coders: &Semaphore) -> io::Result<Bytes> {
    let _coder = coders.acquire().await.map_err(io::Error::other)?;
    let room = Vec::with_capacity(whole.len() / 2);
    let encoded = match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(room, Compression::fast());
            feed(&mut encoder, whole).await?;
            encoder.finish()?
        }
        Coding::Zstd => {
            let mut encoder = Encoder::new(room, ZSTD_LEVEL)?;
            // its tables are no larger than it needs then
            encoder.set_pledged_src_size(Some(whole.len() as u64))?;
            feed(&mut encoder, whole).await?;
            encoder.finish()?
        }
    };
    Ok(encoded.into())
}

async fn feed(encoder: &mut impl Write, whole: &[u8]) -> io::Result<()> {
    let mut pace = Pace::default();
    for piece in whole.chunks(STEP_BYTES) {
        encoder.write_all(piece)?;
        pace.went(piece.len()).await;
    }
    Ok(())
}

/// Says how it is encoded, and that its entity tag stands for the same thing in other bytes (RFC 9110, section 8.8.1).
fn mark(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    headers.remove(header::CONTENT_LENGTH);
    let weak = headers
        .get(header::ETAG)
        .filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        .and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok());
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}

/// A body of known size that can't be read: none is made so.
fn not_read() -> Response {
    let detail = "the answer can't be read";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "http", detail).into_response()
}
