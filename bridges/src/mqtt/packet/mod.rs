//! The control packets of MQTT 3.1.1 and 5.0. `decode` reads what clients send and `encode` writes what they are sent;
//! `answer` reads what a broker sends and `ask` writes what it is sent.
//!
//! Nothing is copied out of what was read: topics, strings and payloads are slices of the packet. Whatever is wrong with a
//! packet is a [`Broken`] with the reason code that the standard gives it; what a packet means is the session's business.
//!
//! It is our own because the well-kept one that knows both versions, `mqtt-protocol-core`, copies each field of what it
//! reads, and its connection answers a repeat of QoS 2 by itself, before the mesh has the message. It is the oracle in the
//! tests instead: what it writes is read here, and what is written here it reads.

mod answer;
mod ask;
mod decode;
mod encode;
mod property;
mod read;
mod reason;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use bytestring::ByteString;
use envelope::Qos;

pub(super) use answer::{Answer, AnswerDecoder, Answered, Read, Welcome};
pub(super) use ask::{Hello, Wish, connect, goodbye, pingreq, subscribe, unsubscribe};
pub(super) use decode::{Decoder, Next};
pub(super) use encode::{
    Acked, ConnAck, Outgoing, ack, connack, disconnect, pingresp, publish, suback, unsuback, user_property, within,
};
pub(super) use property::Properties;
pub(super) use reason::Reason;

/// The versions that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packet {
    Connect(Box<Connect>),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
    PingReq,
    Disconnect(Disconnect),
    Auth(Reason),
}

/// The first packet of a connection. `Debug` shows no secret.
#[derive(Clone, PartialEq)]
pub(super) struct Connect {
    pub(super) version: Version,
    pub(super) client_id: ByteString,
    pub(super) clean_start: bool,
    /// In seconds; 0 for none.
    pub(super) keep_alive: u16,
    pub(super) username: Option<ByteString>,
    pub(super) password: Option<Bytes>,
    pub(super) will: Option<Will>,
    pub(super) properties: Properties,
}

/// What is published when a client is gone without a word.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Will {
    pub(super) topic: ByteString,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) properties: Option<Box<Properties>>,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Publish {
    pub(super) dup: bool,
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// Empty where the alias stands for it.
    pub(super) topic: ByteString,
    /// 0 for QoS 0.
    pub(super) id: u16,
    pub(super) properties: Option<Box<Properties>>,
    pub(super) payload: Bytes,
    /// Of the whole packet, but for the type and length before it.
    pub(super) bytes: usize,
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) id: u16,
    pub(super) reason: Reason,
}

/// What a client subscribes to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subscribe {
    pub(super) id: u16,
    pub(super) subscription_id: Option<u32>,
    /// At least one.
    pub(super) filters: Vec<Wanted>,
}

/// One filter and how it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) filter: ByteString,
    pub(super) qos: Qos,
    pub(super) no_local: bool,
    pub(super) retain_as_published: bool,
    pub(super) retain_handling: RetainHandling,
}

/// When a subscription begins with the retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetainHandling {
    Always,
    IfNew,
    Never,
}

/// What a client no longer wants.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unsubscribe {
    pub(super) id: u16,
    /// At least one.
    pub(super) filters: Vec<ByteString>,
}

/// The last word of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disconnect {
    pub(super) reason: Reason,
    pub(super) session_expiry: Option<u32>,
}

/// Why a connection can't go on: what the client is told of it in MQTT 5.0, and in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({reason:?})")]
pub(super) struct Broken {
    pub(super) reason: Reason,
    pub(super) detail: Cow<'static, str>,
}

/// As it is on the wire.
pub(super) const fn level(qos: Qos) -> u8 {
    match qos {
        Qos::AtMostOnce => 0,
        Qos::AtLeastOnce => 1,
        Qos::ExactlyOnce => 2,
    }
}

/// What stands for a QoS on the wire and on disk.
pub(super) const fn qos_of(level: u8) -> Option<Qos> {
    match level {
        0 => Some(Qos::AtMostOnce),
        1 => Some(Qos::AtLeastOnce),
        2 => Some(Qos::ExactlyOnce),
        _ => None,
    }
}

/// A message that is to be surer than it may be (MQTT-3.2.2-11).
pub(super) fn over(max_qos: Qos) -> Broken {
    Broken::new(Reason::QOS_NOT_SUPPORTED, format!("messages are taken at QoS {} at most", level(max_qos)))
}

// === impl Connect ===

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("will", &self.will.is_some())
            .finish_non_exhaustive()
    }
}

// === impl Broken ===

impl Broken {
    pub(super) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn malformed(detail: &'static str) -> Self {
        Self::new(Reason::MALFORMED_PACKET, detail)
    }
}
