//! Bytes of a client to packets. Each packet is checked as far as it can be by itself.

use bytes::BytesMut;
use bytestring::ByteString;
use envelope::Qos;

use super::{
    Ack, Broken, Connect, Disconnect, Packet, Properties, Publish, Reason, RetainHandling, Subscribe, Unsubscribe,
    Version, Wanted, Will,
    property::{self, Allowed},
    read::{Reader, varint},
};

/// Reads the packets of one connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::mqtt) struct Decoder {
    /// Known once the client has sent its CONNECT.
    version: Option<Version>,
    max_packet_bytes: usize,
}

/// What is at the start of what was read.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::mqtt) enum Next {
    Packet(Packet),
    /// A packet that is not all there; of this size in all, if that is known.
    Incomplete(Option<usize>),
}

/// The most filters of one packet.
const MAX_FILTERS: usize = 1_024;

// === impl Decoder ===

impl Decoder {
    /// `max_packet_bytes` is inclusive, and counts the fixed header too.
    pub(in crate::mqtt) fn new(max_packet_bytes: usize) -> Self {
        Self { version: None, max_packet_bytes }
    }

    /// Another limit from now on.
    pub(in crate::mqtt) fn limit(&mut self, max_packet_bytes: usize) {
        self.max_packet_bytes = max_packet_bytes;
    }

    /// Takes the next packet off `buffer`, once all of it is there. One that is too large is refused by what it says of
    /// itself, before any of it is kept.
    pub(in crate::mqtt) fn next(&mut self, buffer: &mut BytesMut) -> Result<Next, Broken> {
        let Some(first) = buffer.first().copied() else { return Ok(Next::Incomplete(None)) };
        self.expect(first)?;
        let Some((length, size)) = varint(&buffer[1..])? else { return Ok(Next::Incomplete(None)) };
        let total = 1 + size + length;
        if total > self.max_packet_bytes {
            let detail = format!("the packet has {total} bytes, limit is {}", self.max_packet_bytes);
            return Err(Broken::new(Reason::PACKET_TOO_LARGE, detail));
        }
        if buffer.len() < total {
            return Ok(Next::Incomplete(Some(total)));
        }
        let reader = Reader::of(buffer, 1 + size, total);
        self.read(first, reader).map(Next::Packet)
    }

    /// What can be said of a packet by its first byte.
    fn expect(&self, first: u8) -> Result<(), Broken> {
        let (kind, flags) = (first >> 4, first & 0x0F);
        match (self.version, kind) {
            (None, 1) | (Some(_), 3..=8 | 10 | 12 | 14) | (Some(Version::V5), 15) => {}
            (None, _) => return Err(Broken::new(Reason::PROTOCOL_ERROR, "the first packet is not CONNECT")),
            (Some(_), 1) => return Err(Broken::new(Reason::PROTOCOL_ERROR, "a second CONNECT")),
            (Some(_), 2 | 9 | 11 | 13) => {
                return Err(Broken::new(Reason::PROTOCOL_ERROR, "a packet that only a server sends"));
            }
            (Some(_), _) => return Err(Broken::malformed("a packet type that does not exist")),
        }
        let sound = match kind {
            3 => true,
            6 | 8 | 10 => flags == 0b0010,
            _ => flags == 0,
        };
        if sound { Ok(()) } else { Err(Broken::malformed("the flags of the packet's type are others")) }
    }

    fn read(&mut self, first: u8, mut reader: Reader) -> Result<Packet, Broken> {
        let Some(version) = self.version else {
            let connect = connect(reader)?;
            self.version = Some(connect.version);
            return Ok(Packet::Connect(Box::new(connect)));
        };
        let five = version == Version::V5;
        Ok(match first >> 4 {
            3 => Packet::Publish(publish(first & 0x0F, reader, five, Allowed::PUBLISH)?),
            4 => Packet::PubAck(ack(reader, five)?),
            5 => Packet::PubRec(ack(reader, five)?),
            6 => Packet::PubRel(ack(reader, five)?),
            7 => Packet::PubComp(ack(reader, five)?),
            8 => Packet::Subscribe(subscribe(reader, five)?),
            10 => Packet::Unsubscribe(unsubscribe(reader, five)?),
            14 => Packet::Disconnect(disconnect(reader, five)?),
            15 => {
                let reason = if reader.is_empty() { Reason::SUCCESS } else { Reason(reader.u8()?) };
                if !reader.is_empty() {
                    property::read(&mut reader, Allowed::AUTH)?;
                }
                reader.finish()?;
                Packet::Auth(reason)
            }
            // `expect` lets nothing else pass
            _ => {
                reader.finish()?;
                Packet::PingReq
            }
        })
    }
}

fn connect(mut reader: Reader) -> Result<Connect, Broken> {
    let (name, level) = (reader.binary()?, reader.u8()?);
    let version = match (&*name, level) {
        (b"MQTT", 4) => Version::V3,
        (b"MQTT", 5) => Version::V5,
        (b"MQTT" | b"MQIsdp", _) => {
            return Err(Broken::new(Reason::UNSUPPORTED_VERSION, "MQTT 3.1.1 and 5.0 are spoken, nothing else"));
        }
        _ => return Err(Broken::malformed("the protocol is not MQTT")),
    };
    let five = version == Version::V5;
    let (flags, keep_alive) = (reader.u8()?, reader.u16()?);
    let (has_will, has_username, has_password) = (flags & 0x04 != 0, flags & 0x80 != 0, flags & 0x40 != 0);
    if flags & 0x01 != 0 || (!has_will && flags & 0x38 != 0) || (!five && has_password && !has_username) {
        return Err(Broken::malformed("the flags of CONNECT contradict each other"));
    }
    let properties = if five { property::read(&mut reader, Allowed::CONNECT)? } else { None };
    let client_id = reader.text()?;
    let will = if has_will { Some(will(flags, &mut reader, five)?) } else { None };
    let username = if has_username { Some(reader.text()?) } else { None };
    let password = if has_password { Some(reader.binary()?) } else { None };
    reader.finish()?;
    let properties = properties.map(|properties| *properties).unwrap_or_default();
    let clean_start = flags & 0x02 != 0;
    Ok(Connect { version, client_id, clean_start, keep_alive, username, password, will, properties })
}

fn will(flags: u8, reader: &mut Reader, five: bool) -> Result<Will, Broken> {
    let qos = qos(flags >> 3)?;
    let properties = if five { property::read(reader, Allowed::WILL)? } else { None };
    let (topic, payload) = (reader.text()?, reader.binary()?);
    check_topic(&topic, properties.as_deref())?;
    Ok(Will { topic, payload, qos, retain: flags & 0x20 != 0, properties })
}

pub(super) fn publish(flags: u8, mut reader: Reader, five: bool, allowed: Allowed) -> Result<Publish, Broken> {
    let (dup, qos, retain) = (flags & 0x08 != 0, qos(flags >> 1)?, flags & 0x01 != 0);
    if dup && qos == Qos::AtMostOnce {
        return Err(Broken::malformed("DUP at QoS 0"));
    }
    let (bytes, topic) = (reader.len(), reader.text()?);
    let id = if qos == Qos::AtMostOnce { 0 } else { reader.packet_id()? };
    let properties = if five { property::read(&mut reader, allowed)? } else { None };
    let alias = properties.as_ref().and_then(|properties| properties.alias);
    if topic.is_empty() && alias.is_some() {
        check_response_topic(properties.as_deref())?;
    } else {
        check_topic(&topic, properties.as_deref())?;
    }
    Ok(Publish { dup, qos, retain, topic, id, properties, payload: reader.rest(), bytes })
}

/// A topic name has at least one character (MQTT-4.7.3-1) and no wildcards (MQTT-3.3.2-2).
fn check_topic(topic: &ByteString, properties: Option<&Properties>) -> Result<(), Broken> {
    if topic.is_empty() {
        return Err(Broken::new(Reason::PROTOCOL_ERROR, "a topic is not empty"));
    }
    if has_wildcard(topic) {
        return Err(Broken::new(Reason::TOPIC_INVALID, "a topic to publish to has no wildcards"));
    }
    check_response_topic(properties)
}

/// Nor has a response topic (MQTT-3.3.2-14).
fn check_response_topic(properties: Option<&Properties>) -> Result<(), Broken> {
    let response = properties.and_then(|properties| properties.response_topic.as_ref());
    if response.is_some_and(|topic| topic.is_empty() || has_wildcard(topic)) {
        return Err(Broken::new(Reason::PROTOCOL_ERROR, "a response topic is not empty and has no wildcards"));
    }
    Ok(())
}

fn has_wildcard(topic: &str) -> bool {
    topic.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

fn ack(mut reader: Reader, five: bool) -> Result<Ack, Broken> {
    let id = reader.packet_id()?;
    let mut reason = Reason::SUCCESS;
    if five && !reader.is_empty() {
        reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            property::read(&mut reader, Allowed::ACK)?;
        }
    }
    reader.finish()?;
    Ok(Ack { id, reason })
}

fn subscribe(mut reader: Reader, five: bool) -> Result<Subscribe, Broken> {
    let id = reader.packet_id()?;
    let properties = if five { property::read(&mut reader, Allowed::SUBSCRIBE)? } else { None };
    let subscription_id = properties.and_then(|properties| properties.subscription_id);
    let mut filters = Vec::new();
    while !reader.is_empty() {
        bounded(filters.len())?;
        filters.push(wanted(reader.text()?, reader.u8()?, five)?);
    }
    not_empty(filters.len())?;
    Ok(Subscribe { id, subscription_id, filters })
}

fn wanted(filter: ByteString, options: u8, five: bool) -> Result<Wanted, Broken> {
    let reserved = if five { 0xC0 } else { 0xFC };
    if options & reserved != 0 {
        return Err(Broken::malformed("reserved bits of a subscription are set"));
    }
    let no_local = options & 0x04 != 0;
    if no_local && filter.starts_with("$share/") {
        return Err(Broken::new(Reason::PROTOCOL_ERROR, "a shared subscription has no No Local"));
    }
    let retain_handling = match options >> 4 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(Broken::new(Reason::PROTOCOL_ERROR, "Retain Handling is 0, 1 or 2")),
    };
    let qos = qos(options)?;
    Ok(Wanted { filter, qos, no_local, retain_as_published: options & 0x08 != 0, retain_handling })
}

fn unsubscribe(mut reader: Reader, five: bool) -> Result<Unsubscribe, Broken> {
    let id = reader.packet_id()?;
    if five {
        property::read(&mut reader, Allowed::UNSUBSCRIBE)?;
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        bounded(filters.len())?;
        filters.push(reader.text()?);
    }
    not_empty(filters.len())?;
    Ok(Unsubscribe { id, filters })
}

fn disconnect(mut reader: Reader, five: bool) -> Result<Disconnect, Broken> {
    let mut disconnect = Disconnect { reason: Reason::SUCCESS, session_expiry: None };
    if five && !reader.is_empty() {
        disconnect.reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            let properties = property::read(&mut reader, Allowed::DISCONNECT)?;
            disconnect.session_expiry = properties.and_then(|properties| properties.session_expiry);
        }
    }
    reader.finish()?;
    Ok(disconnect)
}

pub(super) fn qos(bits: u8) -> Result<Qos, Broken> {
    super::qos_of(bits & 0b11).ok_or_else(|| Broken::malformed("QoS is 0, 1 or 2"))
}

fn bounded(filters: usize) -> Result<(), Broken> {
    if filters < MAX_FILTERS {
        return Ok(());
    }
    Err(Broken::new(Reason::QUOTA_EXCEEDED, "a packet has at most 1024 filters"))
}

fn not_empty(filters: usize) -> Result<(), Broken> {
    if filters > 0 { Ok(()) } else { Err(Broken::new(Reason::PROTOCOL_ERROR, "no filter at all")) }
}
