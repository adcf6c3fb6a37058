//! The properties of MQTT 5.0 (section 2.2.2): which a packet may have, each at most once.

use bytes::Bytes;
use bytestring::ByteString;

use super::{Broken, Reason, read::Reader};

/// What a client's properties say. Those that were not sent are `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::mqtt) struct Properties {
    pub(in crate::mqtt) payload_is_text: bool,
    pub(in crate::mqtt) message_expiry: Option<u32>,
    pub(in crate::mqtt) content_type: Option<ByteString>,
    pub(in crate::mqtt) response_topic: Option<ByteString>,
    pub(in crate::mqtt) correlation: Option<Bytes>,
    pub(in crate::mqtt) subscription_id: Option<u32>,
    pub(in crate::mqtt) session_expiry: Option<u32>,
    pub(in crate::mqtt) authentication_method: Option<ByteString>,
    pub(in crate::mqtt) no_problem_information: bool,
    pub(in crate::mqtt) will_delay: Option<u32>,
    pub(in crate::mqtt) receive_maximum: Option<u16>,
    pub(in crate::mqtt) alias_maximum: u16,
    pub(in crate::mqtt) alias: Option<u16>,
    pub(in crate::mqtt) maximum_packet: Option<u32>,
    pub(in crate::mqtt) reason: Option<ByteString>,
    pub(in crate::mqtt) user: Vec<(ByteString, ByteString)>,
}

/// The properties that one kind of packet may have: a bit each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed(u64);

/// The most user properties of one packet.
const MAX_USER: usize = 256;

pub(super) mod id {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE: u8 = 0x19;
    pub(crate) const REASON: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET: u8 = 0x27;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_ID_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

// === impl Allowed ===

impl Allowed {
    pub(super) const CONNECT: Self = Self::of(&[
        id::SESSION_EXPIRY,
        id::AUTHENTICATION_METHOD,
        id::AUTHENTICATION_DATA,
        id::REQUEST_PROBLEM,
        id::REQUEST_RESPONSE,
        id::RECEIVE_MAXIMUM,
        id::ALIAS_MAXIMUM,
        id::MAXIMUM_PACKET,
        id::USER,
    ]);
    pub(super) const WILL: Self = Self::of(&[
        id::WILL_DELAY,
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::USER,
    ]);
    /// A client's: it must not send a subscription identifier (MQTT-3.3.4-6).
    pub(super) const PUBLISH: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::ALIAS,
        id::USER,
    ]);
    /// A broker's, which may be of several subscriptions. It was told of no alias that it may use.
    pub(super) const DELIVERY: Self = Self::of(&[
        id::PAYLOAD_FORMAT,
        id::MESSAGE_EXPIRY,
        id::CONTENT_TYPE,
        id::RESPONSE_TOPIC,
        id::CORRELATION,
        id::SUBSCRIPTION_ID,
        id::USER,
    ]);
    pub(super) const ACK: Self = Self::of(&[id::REASON, id::USER]);
    pub(super) const SUBSCRIBE: Self = Self::of(&[id::SUBSCRIPTION_ID, id::USER]);
    pub(super) const UNSUBSCRIBE: Self = Self::of(&[id::USER]);
    pub(super) const DISCONNECT: Self = Self::of(&[id::SESSION_EXPIRY, id::REASON, id::USER]);
    pub(super) const AUTH: Self = Self::of(&[id::AUTHENTICATION_METHOD, id::AUTHENTICATION_DATA, id::REASON, id::USER]);

    /// Whether a packet may have it more than once: user properties, and of a delivery its subscriptions.
    const fn repeats(self, name: u8) -> bool {
        let delivery = self.0 == Self::DELIVERY.0;
        name == id::USER || (delivery && name == id::SUBSCRIPTION_ID)
    }

    const fn of(ids: &[u8]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < ids.len() {
            bits |= 1 << ids[at];
            at += 1;
        }
        Self(bits)
    }
}

/// Reads a packet's properties; `None` if there are none.
pub(super) fn read(reader: &mut Reader, allowed: Allowed) -> Result<Option<Box<Properties>>, Broken> {
    let length = reader.varint()?;
    if length == 0 {
        return Ok(None);
    }
    let mut reader = Reader::new(reader.take(length)?);
    let mut properties = Box::<Properties>::default();
    let mut seen = 0_u64;
    while !reader.is_empty() {
        // all there are fit in one byte
        let name = reader.u8()?;
        let bit = 1_u64.checked_shl(u32::from(name)).unwrap_or_default();
        if allowed.0 & bit == 0 {
            return Err(Broken::malformed("a property that this packet does not have"));
        }
        if seen & bit != 0 && !allowed.repeats(name) {
            return Err(Broken::new(Reason::PROTOCOL_ERROR, "a property is there twice"));
        }
        seen |= bit;
        properties.set(name, &mut reader)?;
    }
    if seen & (1 << id::AUTHENTICATION_DATA) != 0 && properties.authentication_method.is_none() {
        return Err(Broken::new(Reason::PROTOCOL_ERROR, "authentication data without a method"));
    }
    Ok(Some(properties))
}

// === impl Properties ===

impl Properties {
    fn set(&mut self, name: u8, reader: &mut Reader) -> Result<(), Broken> {
        match name {
            id::PAYLOAD_FORMAT => self.payload_is_text = flag(reader)?,
            id::MESSAGE_EXPIRY => self.message_expiry = Some(reader.u32()?),
            id::CONTENT_TYPE => self.content_type = Some(reader.text()?),
            id::RESPONSE_TOPIC => self.response_topic = Some(reader.text()?),
            id::CORRELATION => self.correlation = Some(reader.binary()?),
            id::SUBSCRIPTION_ID => {
                let id = u32::try_from(not_zero(reader.varint()?)?).unwrap_or(u32::MAX);
                self.subscription_id = Some(id);
            }
            id::SESSION_EXPIRY => self.session_expiry = Some(reader.u32()?),
            id::AUTHENTICATION_METHOD => self.authentication_method = Some(reader.text()?),
            id::AUTHENTICATION_DATA => drop(reader.binary()?),
            id::REQUEST_PROBLEM => self.no_problem_information = !flag(reader)?,
            id::WILL_DELAY => self.will_delay = Some(reader.u32()?),
            // there is no response information to give (section 3.1.2.11.6 lets a server have none)
            id::REQUEST_RESPONSE => drop(flag(reader)?),
            id::REASON => self.reason = Some(reader.text()?),
            id::RECEIVE_MAXIMUM => self.receive_maximum = Some(not_zero(reader.u16()?)?),
            id::ALIAS_MAXIMUM => self.alias_maximum = reader.u16()?,
            id::ALIAS => match reader.u16()? {
                0 => return Err(Broken::new(Reason::ALIAS_INVALID, "a topic alias is not 0")),
                alias => self.alias = Some(alias),
            },
            id::USER => {
                if self.user.len() == MAX_USER {
                    return Err(Broken::new(Reason::QUOTA_EXCEEDED, "a packet has at most 256 user properties"));
                }
                self.user.push((reader.text()?, reader.text()?));
            }
            id::MAXIMUM_PACKET => self.maximum_packet = Some(not_zero(reader.u32()?)?),
            _ => return Err(Broken::malformed("a property that this packet does not have")),
        }
        Ok(())
    }
}

fn flag(reader: &mut Reader) -> Result<bool, Broken> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Broken::new(Reason::PROTOCOL_ERROR, "a property that is 0 or 1 is neither")),
    }
}

fn not_zero<T: PartialEq + Default>(value: T) -> Result<T, Broken> {
    if value == T::default() {
        return Err(Broken::new(Reason::PROTOCOL_ERROR, "a property that must not be 0 is 0"));
    }
    Ok(value)
}
