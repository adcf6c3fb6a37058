//! Packets of a server to bytes.

use bytes::{BufMut, BytesMut};
use envelope::Qos;

use super::{Reason, Version, level, property::id};

/// What a CONNACK says beside its reason.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::mqtt) struct ConnAck<'c> {
    pub(in crate::mqtt) session_present: bool,
    /// Only where it is another than the client asked for.
    pub(in crate::mqtt) session_expiry: Option<u32>,
    pub(in crate::mqtt) receive_maximum: u16,
    /// Only where it is less than all.
    pub(in crate::mqtt) maximum_qos: Option<u8>,
    pub(in crate::mqtt) maximum_packet: u32,
    pub(in crate::mqtt) assigned_client_id: Option<&'c str>,
    pub(in crate::mqtt) alias_maximum: u16,
    pub(in crate::mqtt) server_keep_alive: Option<u16>,
    pub(in crate::mqtt) detail: Option<&'c str>,
}

/// The packets that answer a packet identifier, by their type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mqtt) enum Acked {
    Publish = 0x40,
    Received = 0x50,
    Release = 0x62,
    Complete = 0x70,
}

/// A message to a client.
#[derive(Debug, Clone, Copy)]
pub(in crate::mqtt) struct Outgoing<'m> {
    pub(in crate::mqtt) dup: bool,
    pub(in crate::mqtt) qos: Qos,
    pub(in crate::mqtt) retain: bool,
    pub(in crate::mqtt) topic: &'m str,
    /// Any for QoS 0.
    pub(in crate::mqtt) id: u16,
    pub(in crate::mqtt) alias: Option<u16>,
    pub(in crate::mqtt) subscription_id: Option<u32>,
    /// The payload is UTF-8, and says so.
    pub(in crate::mqtt) is_text: bool,
    pub(in crate::mqtt) message_expiry: Option<u32>,
    pub(in crate::mqtt) content_type: Option<&'m str>,
    pub(in crate::mqtt) response_topic: Option<&'m str>,
    pub(in crate::mqtt) correlation: Option<&'m [u8]>,
    /// Name and value by turns, written as user properties already: see [`user_property`].
    pub(in crate::mqtt) user: &'m [u8],
    pub(in crate::mqtt) payload: &'m [u8],
}

pub(in crate::mqtt) fn connack(out: &mut BytesMut, version: Version, reason: Reason, says: &ConnAck<'_>) {
    if version == Version::V3 {
        out.put_slice(&[0x20, 2, u8::from(says.session_present), reason.connack_v3()]);
        return;
    }
    let mut properties = BytesMut::new();
    if !reason.is_error() {
        put_u32(&mut properties, id::SESSION_EXPIRY, says.session_expiry);
        put_u16(&mut properties, id::RECEIVE_MAXIMUM, Some(says.receive_maximum));
        if let Some(qos) = says.maximum_qos {
            properties.put_slice(&[id::MAXIMUM_QOS, qos]);
        }
        put_u32(&mut properties, id::MAXIMUM_PACKET, Some(says.maximum_packet));
        put_text(&mut properties, id::ASSIGNED_CLIENT_ID, says.assigned_client_id);
        put_u16(&mut properties, id::ALIAS_MAXIMUM, Some(says.alias_maximum));
        put_u16(&mut properties, id::SERVER_KEEP_ALIVE, says.server_keep_alive);
        properties.put_slice(&[id::SHARED_AVAILABLE, 1]);
    }
    put_text(&mut properties, id::REASON, says.detail);
    out.put_u8(0x20);
    put_varint(out, 2 + varint_size(properties.len()) + properties.len());
    out.put_slice(&[u8::from(says.session_present), reason.0]);
    put_properties(out, &properties);
}

/// Writes a packet of at most `limit` bytes: without its reason string where that is too much (MQTT-3.4.2-2 and others), or not
/// at all; says whether it did.
pub(in crate::mqtt) fn within(
    out: &mut BytesMut,
    limit: Option<u32>,
    detail: Option<&str>,
    write: impl Fn(&mut BytesMut, Option<&str>),
) -> bool {
    let before = out.len();
    for detail in [detail, None] {
        write(out, detail);
        if limit.is_none_or(|limit| out.len() - before <= limit as usize) {
            return true;
        }
        out.truncate(before);
    }
    false
}

/// `detail` is left out where the client asked for none, or speaks MQTT 3.1.1.
pub(in crate::mqtt) fn ack(
    out: &mut BytesMut,
    version: Version,
    acked: Acked,
    id: u16,
    reason: Reason,
    detail: Option<&str>,
) {
    out.put_u8(acked as u8);
    match (version, detail) {
        (Version::V5, Some(detail)) => {
            let mut properties = BytesMut::new();
            put_text(&mut properties, self::id::REASON, Some(detail));
            put_varint(out, 3 + varint_size(properties.len()) + properties.len());
            out.put_u16(id);
            out.put_u8(reason.0);
            put_properties(out, &properties);
        }
        (Version::V5, None) if reason != Reason::SUCCESS => {
            out.put_u8(3);
            out.put_u16(id);
            out.put_u8(reason.0);
        }
        (Version::V3 | Version::V5, _) => {
            out.put_u8(2);
            out.put_u16(id);
        }
    }
}

/// The properties of what [`publish`] writes in MQTT 5.0, but for those that are written already.
fn properties_of(message: &Outgoing<'_>) -> BytesMut {
    let mut properties = BytesMut::with_capacity(64);
    if message.is_text {
        properties.put_slice(&[id::PAYLOAD_FORMAT, 1]);
    }
    put_u32(&mut properties, id::MESSAGE_EXPIRY, message.message_expiry);
    put_text(&mut properties, id::CONTENT_TYPE, message.content_type);
    put_text(&mut properties, id::RESPONSE_TOPIC, message.response_topic);
    if let Some(correlation) = message.correlation {
        properties.put_u8(id::CORRELATION);
        put_bytes(&mut properties, correlation);
    }
    if let Some(subscription) = message.subscription_id {
        properties.put_u8(id::SUBSCRIPTION_ID);
        put_varint(&mut properties, subscription as usize);
    }
    put_u16(&mut properties, id::ALIAS, message.alias);
    properties
}

/// Writes a message, unless it would be of more than `limit` bytes; says whether it did.
pub(in crate::mqtt) fn publish(
    out: &mut BytesMut,
    version: Version,
    message: &Outgoing<'_>,
    limit: Option<u32>,
) -> bool {
    let identified = message.qos != Qos::AtMostOnce;
    let mut length = 2 + message.topic.len() + message.payload.len();
    if identified {
        length += 2;
    }
    let properties = if version == Version::V5 {
        let properties = properties_of(message);
        let all = properties.len() + message.user.len();
        length += varint_size(all) + all;
        Some(properties)
    } else {
        None
    };
    let total = 1 + varint_size(length) + length;
    if length > MAX_LENGTH || limit.is_some_and(|limit| total > limit as usize) {
        return false;
    }
    out.reserve(total);
    out.put_u8(0x30 | u8::from(message.dup) << 3 | level(message.qos) << 1 | u8::from(message.retain));
    put_varint(out, length);
    put_bytes(out, message.topic.as_bytes());
    if identified {
        out.put_u16(message.id);
    }
    if let Some(properties) = &properties {
        put_varint(out, properties.len() + message.user.len());
        out.put_slice(properties);
        out.put_slice(message.user);
    }
    out.put_slice(message.payload);
    true
}

/// `detail` is as of [`ack`].
pub(in crate::mqtt) fn suback(out: &mut BytesMut, version: Version, id: u16, answers: &[Reason], detail: Option<&str>) {
    out.put_u8(0x90);
    let mut properties = BytesMut::new();
    put_text(&mut properties, self::id::REASON, detail.filter(|_| version == Version::V5));
    answer(out, version, id, answers.len(), &properties);
    for reason in answers {
        // MQTT 3.1.1 has one word for no
        let refused = version == Version::V3 && reason.is_error();
        out.put_u8(if refused { 0x80 } else { reason.0 });
    }
}

pub(in crate::mqtt) fn unsuback(out: &mut BytesMut, version: Version, id: u16, answers: &[Reason]) {
    out.put_u8(0xB0);
    match version {
        Version::V3 => answer(out, version, id, 0, &[]),
        Version::V5 => {
            answer(out, version, id, answers.len(), &[]);
            answers.iter().for_each(|reason| out.put_u8(reason.0));
        }
    }
}

/// `properties` are for MQTT 5.0.
fn answer(out: &mut BytesMut, version: Version, id: u16, answers: usize, properties: &[u8]) {
    let of_five = match version {
        Version::V3 => 0,
        Version::V5 => varint_size(properties.len()) + properties.len(),
    };
    put_varint(out, 2 + of_five + answers);
    out.put_u16(id);
    if version == Version::V5 {
        put_properties(out, properties);
    }
}

pub(in crate::mqtt) fn pingresp(out: &mut BytesMut) {
    out.put_slice(&[0xD0, 0]);
}

/// Only MQTT 5.0 has it in this direction: nothing is written otherwise.
pub(in crate::mqtt) fn disconnect(out: &mut BytesMut, version: Version, reason: Reason, detail: Option<&str>) {
    if version == Version::V3 {
        return;
    }
    let mut properties = BytesMut::new();
    put_text(&mut properties, id::REASON, detail);
    out.put_u8(0xE0);
    put_varint(out, 1 + varint_size(properties.len()) + properties.len());
    out.put_u8(reason.0);
    put_properties(out, &properties);
}

/// Appends a user property; one that is too long for MQTT is left out.
pub(in crate::mqtt) fn user_property(out: &mut Vec<u8>, name: &str, value: &str) {
    let (Ok(name_len), Ok(value_len)) = (u16::try_from(name.len()), u16::try_from(value.len())) else { return };
    out.push(id::USER);
    out.extend_from_slice(&name_len.to_be_bytes());
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&value_len.to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// The largest variable byte integer.
pub(super) const MAX_LENGTH: usize = 268_435_455;

pub(super) fn put_properties(out: &mut BytesMut, properties: &[u8]) {
    put_varint(out, properties.len());
    out.put_slice(properties);
}

pub(super) fn put_u16(out: &mut BytesMut, name: u8, value: Option<u16>) {
    if let Some(value) = value {
        out.put_u8(name);
        out.put_u16(value);
    }
}

pub(super) fn put_u32(out: &mut BytesMut, name: u8, value: Option<u32>) {
    if let Some(value) = value {
        out.put_u8(name);
        out.put_u32(value);
    }
}

/// One that is too long for MQTT is cut at a character.
fn put_text(out: &mut BytesMut, name: u8, value: Option<&str>) {
    if let Some(value) = value {
        out.put_u8(name);
        put_bytes(out, &value.as_bytes()[..value.floor_char_boundary(usize::from(u16::MAX))]);
    }
}

/// What is longer than MQTT has a length for is cut.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&bytes[..usize::from(length)]);
}

pub(super) fn put_varint(out: &mut BytesMut, mut value: usize) {
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            return out.put_u8(byte);
        }
        out.put_u8(byte | 0x80);
    }
}

pub(super) fn varint_size(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
