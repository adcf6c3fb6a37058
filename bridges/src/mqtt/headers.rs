//! The properties of a PUBLISH of MQTT 5.0 as headers of a message, and what of them is about the way that it came.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use bytestring::ByteString;
use envelope::{
    Conversation, Headers, TraceContext,
    cloudevents::{parse_tokens, write_tokens},
};

use super::{
    address::to_mesh,
    packet::{Properties, user_property},
};

/// The user property that names the domains which a message has passed, oldest first: it does not come back to one of them.
pub(super) const HOPS: &str = "hops";
/// The most domains that are read, and the longest list of them in bytes: with as many a message goes no further.
const MAX_HOPS: usize = 64;
const MAX_HOPS_BYTES: usize = 8_192;

/// The names of the headers that stand for properties of MQTT 5.0; a user property of such a name is dropped.
pub(super) mod header {
    pub(crate) const CONTENT_TYPE: &str = "content-type";
    pub(crate) const RESPONSE_TOPIC: &str = "response-topic";
    pub(crate) const CORRELATION: &str = "correlation-data";
    pub(crate) const EXPIRY: &str = "message-expiry-interval";
    pub(crate) const FORMAT: &str = "payload-format-indicator";
    pub(crate) const ALL: [&str; 5] = [CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION, EXPIRY, FORMAT];
}

/// Correlation data as MQTT has it, of a header that a mapping made of a conversation's id.
pub(super) fn correlation(value: &[u8]) -> Cow<'_, [u8]> {
    std::str::from_utf8(value).map_or(Cow::Borrowed(value), Conversation::bytes_of)
}

/// What mappings see of the properties.
pub(super) fn headers(properties: &Properties) -> Headers {
    let text = |text: &Option<ByteString>| text.clone().map(ByteString::into_bytes);
    let own = [
        (header::CONTENT_TYPE, text(&properties.content_type)),
        (header::RESPONSE_TOPIC, properties.response_topic.as_ref().map(|topic| to_mesh(topic).into_owned().into())),
        (header::CORRELATION, properties.correlation.clone()),
        (header::EXPIRY, properties.message_expiry.map(|seconds| Bytes::from(seconds.to_string()))),
        (header::FORMAT, properties.payload_is_text.then(|| Bytes::from_static(b"1"))),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let user = properties.user.iter().filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let forged = header::ALL.contains(&name.as_str());
        (!forged && !name.is_empty()).then(|| (name, value.clone().into_bytes()))
    });
    own.chain(user).collect()
}

/// The sender's trace context, if it is valid (W3C, Trace Context: MQTT).
pub(super) fn trace(properties: &Properties) -> Option<TraceContext> {
    let user = |name: &str| properties.user.iter().find(|(own, _)| &**own == name).map(|(_, value)| &**value);
    TraceContext::parse(user("traceparent")?, user("tracestate"))
}

/// The domains that the message has passed, as its sender says.
pub(super) fn hops(properties: &Properties) -> Vec<Arc<str>> {
    let said = properties.user.iter().find(|(own, _)| &**own == HOPS).map(|(_, value)| &**value);
    let said = said.filter(|said| said.len() <= MAX_HOPS_BYTES);
    let mut hops = said.and_then(parse_tokens).unwrap_or_default();
    hops.truncate(MAX_HOPS);
    hops
}

/// Appends the user property that says so, with the domain that the message leaves now.
pub(super) fn put_hops(out: &mut Vec<u8>, hops: &[Arc<str>], domain: &Arc<str>) {
    let passed: Vec<_> = hops.iter().chain([domain]).cloned().collect();
    put_list(out, HOPS, &passed);
}

/// Appends a list as a user property; nothing of an empty one.
pub(super) fn put_list(out: &mut Vec<u8>, name: &str, list: &[Arc<str>]) {
    let mut tokens = Vec::with_capacity(64);
    write_tokens(&mut tokens, list);
    if let Some(tokens) = std::str::from_utf8(&tokens).ok().filter(|tokens| !tokens.is_empty()) {
        user_property(out, name, tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(user: &[(&'static str, &'static str)]) -> Properties {
        let user = user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Properties { content_type: Some("text/plain".into()), message_expiry: Some(9), user, ..Properties::default() }
    }

    #[test]
    fn properties_are_headers_and_no_user_property_forges_one() {
        let found = headers(&properties(&[("A", "1"), ("Content-Type", "x"), ("a", "2")]));
        let text = |(name, value): &(String, Bytes)| format!("{name}={}", String::from_utf8_lossy(value));
        let found: Vec<_> = found.iter().map(text).collect();
        assert_eq!(found, ["content-type=text/plain", "message-expiry-interval=9", "a=1", "a=2"]);
    }

    #[test]
    fn domains_that_were_passed_are_read_and_bounded() {
        assert_eq!(hops(&properties(&[("hops", "far near")])), ["far".into(), "near".into()]);
        assert!(hops(&properties(&[])).is_empty() && hops(&properties(&[("hops", "a  b")])).is_empty());
        let long: &'static str = vec!["a"; 1_000].join(" ").leak();
        assert_eq!(hops(&properties(&[("hops", long)])).len(), MAX_HOPS);
    }
}
