//! What a client gets of an envelope: the envelope as it is, or what a mapping shows of it at an address.

use std::borrow::Cow;

use bytes::Bytes;
use envelope::{Delivery, Envelope, Outbound, RejectKind, Rejection, Timestamp, Topic};

use super::ShownAt;
use crate::mqtt::{
    address::{check_topic, to_native},
    headers::{HOPS, correlation, header, put_hops, put_list},
    packet,
    reject::DECIDED_BY,
    source::Shared,
};

/// A message to a client, but for how it is sent.
#[derive(Debug)]
pub(super) struct Content<'d> {
    pub(super) topic: Cow<'d, str>,
    pub(super) payload: Bytes,
    /// The payload is UTF-8, and says so in MQTT 5.0.
    pub(super) is_text: bool,
    pub(super) content_type: Option<Cow<'d, str>>,
    pub(super) response_topic: Option<Cow<'d, str>>,
    pub(super) correlation: Option<Cow<'d, [u8]>>,
    /// In seconds.
    pub(super) expiry: Option<u32>,
    /// Properties that go with it in MQTT 5.0.
    pub(super) user: Vec<u8>,
}

/// Why a client gets nothing of an envelope.
#[derive(Debug)]
pub(super) enum Nothing {
    /// It is not for it.
    NotSeen,
    /// It has expired.
    Expired,
    /// It can't be shown.
    Refused(Rejection),
}

// === impl Content ===

impl<'d> Content<'d> {
    /// The envelope as it is, at its topic, or in the inbox that the client subscribed to. `five`: with the properties of MQTT
    /// 5.0.
    pub(super) fn of(
        shared: &Shared,
        delivery: &'d Delivery,
        inbox: Option<&str>,
        five: bool,
    ) -> Result<Self, Nothing> {
        let envelope = &delivery.envelope;
        let topic = match inbox {
            // clients tell by the topic which of their subscriptions it is for
            Some(inbox) => Cow::Owned(inbox.to_owned()),
            // a filter that ends with `#` selects what is above it too
            None => shared.border.topic(envelope.subject.as_str()).ok_or(Nothing::NotSeen)?,
        };
        let mut user = if five { attributes(shared, envelope) } else { Vec::new() };
        if five && inbox.is_some() {
            packet::user_property(&mut user, "subject", envelope.subject.as_str());
        }
        let conversation = envelope.conversation.as_deref();
        // one that is not below the prefix, a client can't reach
        let response_topic = conversation.and_then(|known| known.replyto.as_deref());
        Ok(Self {
            topic,
            payload: envelope.data.bytes(),
            is_text: five && says_utf8(envelope) && std::str::from_utf8(envelope.data.as_slice()).is_ok(),
            content_type: envelope.datacontenttype.as_deref().map(Cow::Borrowed),
            response_topic: response_topic.and_then(|topic| shared.border.topic(topic)),
            correlation: conversation.and_then(|known| known.id_bytes()),
            expiry: left(envelope)?,
            user,
        })
    }

    /// What a mapping shows of it, if that is at an address which the client has subscribed to.
    pub(super) fn shown(shared: &Shared, at: &ShownAt, delivery: &'d Delivery, five: bool) -> Result<Self, Nothing> {
        let made = shared.cx.outlet.show(&at.route, delivery).map_err(Nothing::Refused)?;
        let Some(Outbound { address, headers, payload, .. }) = made else { return Err(Nothing::NotSeen) };
        let problem = |problem: String| {
            let detail = format!("to.address: {problem}");
            Nothing::Refused(Rejection::new(RejectKind::Malformed, DECIDED_BY, detail))
        };
        check_topic(&address).map_err(problem)?;
        let topic = Topic::new(address.clone()).map_err(|error| problem(error.to_string()))?;
        if !at.addresses.matches(&topic) {
            return Err(Nothing::NotSeen);
        }
        let envelope = &delivery.envelope;
        let value = |name: &str| headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let text = |name: &str| value(name).and_then(|value| String::from_utf8(value.to_vec()).ok());
        let mut user = if five { attributes(shared, envelope) } else { Vec::new() };
        let own = |name: &str| header::ALL.contains(&name) || name == HOPS;
        for (name, value) in headers.iter().filter(|(name, _)| five && !own(name)) {
            if let Ok(value) = std::str::from_utf8(value) {
                packet::user_property(&mut user, name, value);
            }
        }
        let said = text(header::EXPIRY).and_then(|seconds| seconds.parse().ok());
        Ok(Self {
            topic: Cow::Owned(to_native(&address).into_owned()),
            is_text: five && text(header::FORMAT).as_deref() == Some("1") && std::str::from_utf8(&payload).is_ok(),
            payload,
            content_type: text(header::CONTENT_TYPE).map(Cow::Owned),
            response_topic: text(header::RESPONSE_TOPIC).map(|topic| Cow::Owned(to_native(&topic).into_owned())),
            correlation: value(header::CORRELATION).map(|value| Cow::Owned(correlation(&value).into_owned())),
            expiry: left(envelope)?.map_or(said, |left| Some(said.map_or(left, |said: u32| said.min(left)))),
            user,
        })
    }
}

/// Whether the content type names the charset UTF-8, as that of a message does which came with a payload format indicator of
/// 1 and without a content type.
fn says_utf8(envelope: &Envelope) -> bool {
    let Some(content_type) = envelope.datacontenttype.as_deref() else { return false };
    let charset = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    };
    content_type.split(';').skip(1).find_map(charset).is_some_and(|charset| charset == "utf-8")
}

/// The seconds that are left to an envelope, if it ends (MQTT-3.3.2-5, MQTT-3.3.2-6).
fn left(envelope: &Envelope) -> Result<Option<u32>, Nothing> {
    let Some(end) = envelope.expirytime else { return Ok(None) };
    let micros = end.as_micros().checked_sub(Timestamp::now().as_micros()).ok_or(Nothing::Expired)?;
    Ok(Some(u32::try_from(micros.div_ceil(1_000_000)).unwrap_or(u32::MAX)))
}

/// The envelope's attributes as user properties, as in CloudEvents' binary mode; what MQTT has a property for is there. The
/// domains that it has passed have this one behind them, so that a gateway which subscribes here knows what was there before.
fn attributes(shared: &Shared, envelope: &Envelope) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut put = |name: &str, value: &str| packet::user_property(&mut out, name, value);
    put("specversion", "1.0");
    put("id", &envelope.id.to_string());
    put("source", &envelope.source);
    put("type", &envelope.kind);
    put("time", &envelope.time.to_string());
    let optional = [
        ("dataschema", &envelope.dataschema),
        ("performative", &envelope.performative),
        ("partitionkey", &envelope.partitionkey),
        ("classification", &envelope.classification),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value);
        }
    }
    if let Some(conversation) = &envelope.conversation {
        let parts = [("protocol", &conversation.protocol), ("inreplyto", &conversation.inreplyto)];
        for (name, value) in parts {
            if let Some(value) = value {
                put(name, value);
            }
        }
        if let Some(time) = &conversation.replyby {
            put("replyby", &time.to_string());
        }
    }
    if let Some(priority) = envelope.priority {
        put("priority", priority.word());
    }
    if let Some(origin) = &envelope.origin {
        for (name, value) in [("originid", &origin.id), ("originsource", &origin.source)] {
            if let Some(value) = value {
                put(name, value);
            }
        }
    }
    if let Some(trace) = &envelope.trace {
        put("traceparent", &trace.traceparent());
        if let Some(state) = trace.tracestate() {
            put("tracestate", state);
        }
    }
    put_list(&mut out, "residency", &envelope.residency);
    if let Some(conversation) = &envelope.conversation {
        put_list(&mut out, "recipients", &conversation.recipients);
    }
    put_hops(&mut out, &envelope.hops, &shared.cx.principal.domain);
    out
}
