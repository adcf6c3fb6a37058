//! A message as a request or a frame gives it, before it is known who sent it.

use std::{fmt, net::IpAddr, sync::Arc, time::SystemTime};

use bytes::{Bytes, BytesMut};
use envelope::{Fingerprint, Headers, Identity, Inbound, Lane, Principal, TraceContext};
use http::{HeaderMap, HeaderName, header};

use super::head;

/// Everything of an [`Inbound`] but its sender. `Debug` shows neither headers nor payload.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) address: Arc<str>,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
    pub(super) identity: Identity,
    pub(super) trace: Option<TraceContext>,
}

/// The name under which mappings see a request's raw query. A header of that name is dropped.
pub(super) const QUERY: &str = "query";
/// What the headers of CloudEvents attributes begin with.
pub(super) const ATTRIBUTE: &str = "ce-";
/// The most bytes of an idempotency key.
const MAX_KEY_BYTES: usize = 255;

/// Why a sender's name for its message is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to {MAX_KEY_BYTES} visible ASCII characters, and there is one")]
pub(super) struct KeyError;

// === impl Draft ===

impl Draft {
    /// Notes what its key is used for: payload and query. The address is a part of the key.
    pub(super) fn fingerprint(&mut self) {
        if let Identity::Keyed { print, .. } = &mut self.identity {
            let query = self.headers.last().filter(|(name, _)| name == QUERY).map_or(&b""[..], |(_, query)| query);
            *print = Fingerprint::of(&[query, &self.payload]);
        }
    }

    /// Whether its sender gave it an idempotency key.
    pub(super) fn is_keyed(&self) -> bool {
        matches!(self.identity, Identity::Keyed { .. })
    }

    /// Adds the sender.
    pub(super) fn into_inbound(
        self,
        bridge: Arc<str>,
        lane: Lane,
        principal: Arc<Principal>,
        peer: Option<IpAddr>,
    ) -> Inbound {
        let Self { address, headers, payload, identity, trace } = self;
        let received_at = SystemTime::now();
        Inbound {
            bridge,
            address,
            headers,
            payload,
            lane,
            identity,
            principal,
            peer,
            trace,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at,
        }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("address", &self.address)
            .field("headers", &self.headers.len())
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Whether mappings, and with them the store, see a header. Not credentials, and not what belongs to the connection.
pub(super) fn is_carried(name: &str) -> bool {
    !matches!(
        name,
        "authorization"
            | "connection"
            | "content-length"
            | "cookie"
            | "expect"
            | "host"
            | "keep-alive"
            | "proxy-authorization"
            | "proxy-connection"
            | QUERY
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    ) && !name.starts_with("sec-websocket-")
}

/// A request's headers and its raw query, as mappings see them.
pub(super) fn headers(map: &HeaderMap, query: Option<&str>) -> Headers {
    // the payload is decoded by then
    let is_payloads = |name: &HeaderName| is_carried(name.as_str()) && *name != header::CONTENT_ENCODING;
    let carried = || map.iter().filter(|(name, _)| is_payloads(name));
    let bytes = carried().map(|(_, value)| value.len()).sum();
    // one buffer for all values
    let mut values = BytesMut::with_capacity(bytes);
    carried().for_each(|(_, value)| values.extend_from_slice(value.as_bytes()));
    let mut values = values.freeze();
    let query = query.map(|query| (QUERY.to_owned(), Bytes::copy_from_slice(query.as_bytes())));
    let own = |(name, value): (&HeaderName, &http::HeaderValue)| {
        let value = values.split_to(value.len());
        let is_attribute = name.as_str().starts_with(ATTRIBUTE);
        (name.as_str().to_owned(), if is_attribute { attribute(value) } else { value })
    };
    carried().map(own).chain(query).collect()
}

/// The value of a CloudEvents attribute (the HTTP binding, section 3.1.3.2): quotes are taken off, then percent-encoding is
/// undone. What is no percent-encoding stays as it is.
pub(super) fn attribute(value: Bytes) -> Bytes {
    let is_quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
    if !is_quoted && !value.contains(&b'%') {
        return value;
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = if is_quoted { &value[1..value.len() - 1] } else { &value[..] };
    while let Some((byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (b'\\', ..) if is_quoted && !after.is_empty() => {
                out.push(after[0]);
                rest = &after[1..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    match std::str::from_utf8(&out) {
        Ok(_) => out.into(),
        Err(_) => String::from_utf8_lossy(&out).into_owned().into(),
    }
}

/// The sender's name for a message: its idempotency key, else its CloudEvents source and id, else a fresh one.
/// A key names a message of one address only.
pub(super) fn identity(address: &str, key: Option<&[u8]>, event: Option<(&[u8], &[u8])>) -> Result<Identity, KeyError> {
    match (key, event) {
        (Some(key), _) => {
            let valid = (1..=MAX_KEY_BYTES).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
            let name = || native([b"key", address.as_bytes(), key]);
            if valid { Ok(Identity::Keyed { name: name(), print: Fingerprint::default() }) } else { Err(KeyError) }
        }
        (None, event) => Ok(event_identity(event)),
    }
}

/// A CloudEvent's own source and id; a fresh one without them. An empty attribute is none (CloudEvents, section 3.1).
pub(super) fn event_identity(event: Option<(&[u8], &[u8])>) -> Identity {
    match event {
        Some((source, id)) if !source.is_empty() && !id.is_empty() => Identity::Native(native([b"event", source, id])),
        Some(_) | None => Identity::fresh(),
    }
}

/// The parts, each but the last with a NUL behind it, which none of them has.
fn native([kind, within, name]: [&[u8]; 3]) -> Bytes {
    let mut native = BytesMut::with_capacity(kind.len() + within.len() + name.len() + 2);
    native.extend_from_slice(kind);
    native.extend_from_slice(&[0]);
    native.extend_from_slice(within);
    native.extend_from_slice(&[0]);
    native.extend_from_slice(name);
    native.freeze()
}

/// [`identity`] of a request.
pub(super) fn request_identity(address: &str, map: &HeaderMap) -> Result<Identity, KeyError> {
    const KEY: HeaderName = HeaderName::from_static("idempotency-key");
    const SOURCE: HeaderName = HeaderName::from_static("ce-source");
    const ID: HeaderName = HeaderName::from_static("ce-id");
    let mut keys = head::values(map, KEY);
    let key = keys.next();
    if keys.next().is_some() {
        return Err(KeyError);
    }
    let own = |name| head::value(map, name).map(|value| attribute(Bytes::copy_from_slice(value.as_bytes())));
    let event = own(SOURCE).zip(own(ID));
    let event = event.as_ref().map(|(source, id)| (&source[..], &id[..]));
    identity(address, key.map(|key| key.as_bytes()), event)
}

/// The sender's trace context, if it is valid.
pub(super) fn trace(map: &HeaderMap) -> Option<TraceContext> {
    const PARENT: HeaderName = HeaderName::from_static("traceparent");
    const STATE: HeaderName = HeaderName::from_static("tracestate");
    let text = |name| head::value(map, name).and_then(|value| value.to_str().ok());
    TraceContext::parse(text(PARENT)?, text(STATE))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn credentials_and_connection_headers_are_not_carried() {
        let map = map(&[
            ("Authorization", "secret"),
            ("Cookie", "secret"),
            ("Proxy-Authorization", "secret"),
            ("Host", "localhost"),
            ("X-Line", "7"),
            ("Query", "forged"),
        ]);
        let seen: Vec<_> = headers(&map, Some("a=b")).to_vec();
        assert_eq!(seen, [("x-line".to_owned(), Bytes::from("7")), ("query".to_owned(), Bytes::from("a=b"))]);
    }

    #[test]
    fn a_header_given_twice_is_carried_twice() {
        let map = map(&[("x-a", "1"), ("x-b", "2"), ("x-a", "3")]);
        let values: Vec<_> = headers(&map, None).iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        assert_eq!(values.len(), 3);
        assert!(values.contains(&("x-a".to_owned(), Bytes::from("1"))));
        assert!(values.contains(&("x-a".to_owned(), Bytes::from("3"))));
    }

    #[test]
    fn the_key_comes_before_the_event_and_both_before_a_fresh_name() {
        let key = ("idempotency-key", "k1");
        let event = [("ce-source", "/plant"), ("ce-id", "e1")];
        let by_key = request_identity("POST /a", &map(&[key, event[0], event[1]])).unwrap();
        assert!(matches!(by_key, Identity::Keyed { name, .. } if name == "key\0POST /a\0k1"));
        let by_event = request_identity("POST /a", &map(&event)).unwrap();
        assert_eq!(by_event, Identity::Native(Bytes::from("event\0/plant\0e1")));
        let half = request_identity("POST /a", &map(&event[..1])).unwrap();
        assert!(matches!(half, Identity::Fresh(_)));
        let empty = request_identity("POST /a", &map(&[event[0], ("ce-id", "")])).unwrap();
        assert!(matches!(empty, Identity::Fresh(_)));
    }

    #[test]
    fn the_same_key_at_another_address_is_another_message() {
        let key = map(&[("idempotency-key", "k1")]);
        assert_ne!(request_identity("POST /a", &key), request_identity("POST /b", &key));
    }

    #[test]
    fn attributes_of_events_are_decoded_as_the_binding_says() {
        let map = map(&[("ce-subject", "Caf%C3%A9 %E2%82%ac"), ("x-other", "%41"), ("ce-source", "\"/a \\\"b%22\"")]);
        let seen = headers(&map, None);
        let value = |name: &str| seen.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap();
        assert_eq!(value("ce-subject"), "Café €");
        assert_eq!(value("ce-source"), "/a \"b\"");
        assert_eq!(value("x-other"), "%41");
        for (plain, read) in [("100%", "100%"), ("%zz%4", "%zz%4"), ("%ff", "\u{fffd}"), ("\"", "\""), ("\"\"", "")] {
            assert_eq!(attribute(Bytes::from_static(plain.as_bytes())), read, "{plain}");
        }
    }

    #[test]
    fn one_event_has_one_name_however_its_attributes_are_encoded() {
        let of = |source| request_identity("POST /a", &map(&[("ce-source", source), ("ce-id", "1")])).unwrap();
        assert_eq!(of("/caf%C3%A9"), of("/caf%c3%a9"));
        assert_eq!(of("/caf%C3%A9"), Identity::Native(Bytes::from("event\0/café\x001")));
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let long = "k".repeat(MAX_KEY_BYTES + 1);
        for key in ["", "two words", "é", "\t", &long] {
            assert_eq!(identity("POST /a", Some(key.as_bytes()), None), Err(KeyError), "{key:?}");
        }
        assert!(identity("POST /a", Some(&long.as_bytes()[1..]), None).is_ok());
        let twice = map(&[("idempotency-key", "a"), ("idempotency-key", "a")]);
        assert_eq!(request_identity("POST /a", &twice), Err(KeyError));
    }
}
