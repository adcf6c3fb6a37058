//! Hostile input for the listener: what the fuzz target calls with any bytes. Each entry panics where a promise is broken.

#![allow(clippy::expect_used, reason = "a promise that is broken is to panic here")]

use std::sync::Arc;

use bytes::Bytes;
use envelope::Identity;
use http::{HeaderMap, HeaderValue, header};
use tokio::{runtime::Builder, sync::Semaphore};

use super::{
    address::{self, is_reserved},
    answer::{read_position, write_position},
    batch,
    coding::{Accept, Coding, InflateError, inflate},
    draft::{self, Draft},
    query, websocket,
};

/// A path, as a request has it: what is taken is plain, and only there for messages.
///
/// # Panics
/// If it is not.
pub fn paths(path: &str) {
    let Ok(address) = address::address("POST", path) else { return };
    let plain = address.strip_prefix("POST ").expect("the method");
    assert!(plain.starts_with('/') && plain.len() <= path.len() && !is_reserved(plain), "{plain:?}");
    assert!(!plain.contains("//") && !plain.chars().any(char::is_control), "{plain:?}");
    assert!(!plain.split('/').any(|segment| matches!(segment, "." | "..")), "{plain:?}");
    assert!(address::check_path(plain).is_ok(), "a mapping can name it: {plain:?}");
}

/// A query of an endpoint: each parameter is one that is known, and no longer than it was.
///
/// # Panics
/// If one is not.
pub fn queries(text: &str) {
    const KNOWN: [&str; 3] = ["filter", "start", "durable"];
    let Ok(found) = query::parameters(Some(text), &KNOWN) else { return };
    for (name, value) in found {
        assert!(KNOWN.contains(&name) && value.len() <= text.len());
    }
}

/// The value of a header, as each of those that are read by hand.
///
/// # Panics
/// If what is read is not what it is to be.
pub fn headers(value: &[u8]) {
    let attribute = draft::attribute(Bytes::copy_from_slice(value));
    assert!(attribute.len() <= value.len().saturating_mul(3), "what is no UTF-8 takes three bytes at most");
    if let Ok(name) = draft::identity("POST /a", Some(value), None) {
        assert!((1..=255).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic));
        let again = draft::identity("POST /a", Some(value), None).expect("as before");
        assert_eq!(name, again, "a key stands for one message");
    }
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let with = |name| HeaderMap::from_iter([(name, value.clone())]);
    // whatever is said there is an answer or a refusal
    _ = Accept::of(&with(header::ACCEPT_ENCODING));
    _ = Coding::of(&with(header::CONTENT_ENCODING));
    _ = batch::is_batch(&with(header::CONTENT_TYPE));
    if let Some(position) = value.to_str().ok().and_then(read_position) {
        let mut out = Vec::new();
        write_position(&mut out, &position);
        let said = String::from_utf8(out).expect("text").trim_matches('"').to_ascii_lowercase();
        assert_eq!(said, value.to_str().expect("text").to_ascii_lowercase());
    }
}

/// A body that is said to be encoded: never more comes out than may, and no more is held than came out.
///
/// # Panics
/// If more does.
pub fn bodies(body: &[u8]) {
    const MAX: usize = 65_536;
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    for coding in [Coding::Gzip, Coding::Zstd] {
        for room in [MAX, 8_192] {
            let all = Arc::new(Semaphore::new(room));
            match runtime.block_on(inflate(coding, body, MAX, all.clone())) {
                Ok((opened, held)) => {
                    assert!(opened.len() <= MAX.min(room), "{} bytes came out", opened.len());
                    assert_eq!(held.as_ref().map_or(0, tokio::sync::OwnedSemaphorePermit::num_permits), opened.len());
                }
                Err(InflateError::Full) => assert!(room < MAX),
                Err(InflateError::TooLarge | InflateError::Broken(_)) => {}
            }
            assert_eq!(all.available_permits(), room, "all of it is given back");
        }
    }
}

/// A batch of CloudEvents: each message is a part of the body.
///
/// # Panics
/// If it is not.
pub fn batches(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    let like = Draft {
        address: "POST /events".into(),
        headers: Arc::new([]),
        payload: Bytes::new(),
        identity: Identity::fresh(),
        trace: None,
    };
    let Ok(drafts) = batch::split(&like, &body) else { return };
    assert!(drafts.len() <= body.len());
    for draft in drafts {
        assert!(draft.payload.starts_with(b"{") && draft.payload.ends_with(b"}"));
    }
}

/// What a frame of a WebSocket carries.
///
/// # Panics
/// If what is taken is out of its bounds.
pub fn frames(binary: bool, bytes: &[u8]) {
    websocket::fuzz_frame(binary, Bytes::copy_from_slice(bytes));
}

/// What comes over a WebSocket, in steps of so many bytes.
///
/// # Panics
/// If it matters where it is cut or whether messages are read or their bytes, a message is over the limit, or what is read
/// can't be written.
pub fn wire(step: usize, bytes: &[u8]) {
    websocket::fuzz_wire(bytes, step);
    websocket::fuzz_stream(bytes, step);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: [&[u8]; 13] = [
        b"/a/%C3%A4/b?",
        b"/%2e%2e//a%2Fb",
        b"filter=a/%23&start=2026-01-31T12:00:00Z&durable=x",
        b"gzip;q=0.5, zstd;q=0, identity;q=0",
        b"\"Euro %E2%82%AC %F0%9F%98%80\"",
        b"00000000000000ff",
        b"[{\"id\":\"1\",\"source\":\"/a\",\"data\":12.10},{}]",
        b"{\"op\":\"publish\",\"ref\":\"1\",\"address\":\"POST /a?x=1\",\"headers\":{\"ce-id\":\"%41\"},\"payload\":{\"a\":1.0}}",
        b"{\"op\":\"reply\",\"ref\":\"1\",\"to\":\"$mesh/reply/g/1\",\"inreplyto\":\"i\",\"more\":true}\n\x00\xff",
        b"{\"op\":\"subscribe\",\"ref\":\"s\",\"filters\":[\"a/#\"],\"start\":{\"after\":\"00ff\"},\"credit\":9}",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c\x4a\x06\x00\xc2\x41\x24\x35\x03\x00\x00\x00",
        b"\x01\x82\x01\x02\x03\x04ik\x89\x80\x00\x00\x00\x00\x80\x81\x00\x00\x00\x00!\x88\x82\x00\x00\x00\x00\x03\xe8",
        b"\x28\xb5\x2f\xfd\x04\x00\x19\x00\x00\x61\x62\x63\x5d\x1e\x5d\x90",
    ];

    #[test]
    fn whatever_is_changed_in_what_clients_send_the_promises_hold() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..200 {
            for seed in SEEDS {
                let mut bytes = seed.to_vec();
                for _ in 0..round % 5 {
                    let at = random.usize(0..=bytes.len());
                    match random.u8(0..3) {
                        0 => bytes.insert(at, random.u8(..)),
                        1 if at < bytes.len() => bytes[at] = random.u8(..),
                        _ => bytes.truncate(at),
                    }
                }
                let text = String::from_utf8_lossy(&bytes).into_owned();
                paths(&text);
                queries(&text);
                headers(&bytes);
                batches(&bytes);
                frames(round % 2 == 0, &bytes);
                wire(round % 7, &bytes);
                if round < 40 {
                    bodies(&bytes);
                }
            }
        }
    }
}
