//! Bytes of a broker to packets. A broker is no more trusted than a client: each packet is checked as far as it can be by
//! itself, and a message that is too large is skipped as it comes, so that it is refused and not asked for without an end.

use bytes::{Buf, BytesMut};
use bytestring::ByteString;
use envelope::Qos;

use super::{
    Ack, Broken, Publish, Reason, Version, decode,
    property::{Allowed, id},
    read::{Reader, varint},
};

/// Reads the packets of one connection to a broker.
#[derive(Debug, Clone)]
pub(in crate::mqtt) struct AnswerDecoder {
    version: Version,
    max_packet_bytes: usize,
    /// CONNACK was read.
    welcomed: bool,
    /// So many bytes of a message are still to come, which nobody will see.
    skip: usize,
}

/// What is at the start of what was read.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::mqtt) enum Read {
    Answer(Answer),
    /// A packet that is not all there; of this size in all, if that is known.
    Incomplete(Option<usize>),
}

/// What a broker sends.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::mqtt) enum Answer {
    Welcome(Box<Welcome>),
    Publish(Publish),
    /// A message of so many bytes, which is over the limit: who it is from, and how it is answered.
    TooLarge {
        topic: ByteString,
        qos: Qos,
        id: u16,
        bytes: usize,
    },
    PubAck(Answered),
    PubRec(Answered),
    PubRel(Ack),
    PubComp(Ack),
    SubAck {
        id: u16,
        reasons: Vec<Reason>,
    },
    UnsubAck {
        id: u16,
    },
    PingResp,
    /// Its last word, in MQTT 5.0.
    Disconnect {
        reason: Reason,
        detail: Option<ByteString>,
    },
}

/// What became of a message that the broker was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mqtt) struct Answered {
    pub(in crate::mqtt) id: u16,
    pub(in crate::mqtt) reason: Reason,
    pub(in crate::mqtt) detail: Option<ByteString>,
}

/// What a CONNACK says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mqtt) struct Welcome {
    pub(in crate::mqtt) session_present: bool,
    pub(in crate::mqtt) reason: Reason,
    pub(in crate::mqtt) detail: Option<ByteString>,
    /// The most messages of QoS 1 and 2 that may be without an answer.
    pub(in crate::mqtt) receive_maximum: u16,
    pub(in crate::mqtt) maximum_packet: Option<u32>,
    pub(in crate::mqtt) maximum_qos: Qos,
    pub(in crate::mqtt) retains: bool,
    /// In seconds, in place of the one that was asked for.
    pub(in crate::mqtt) keep_alive: Option<u16>,
}

/// The longest packet that is no message: a broker has little to say.
const MAX_CONTROL: usize = 131_072;

// === impl AnswerDecoder ===

impl AnswerDecoder {
    /// `max_packet_bytes` is inclusive, and counts the fixed header too.
    pub(in crate::mqtt) fn new(version: Version, max_packet_bytes: usize) -> Self {
        Self { version, max_packet_bytes, welcomed: false, skip: 0 }
    }

    /// Takes the next packet off `buffer`, once all of it is there.
    pub(in crate::mqtt) fn next(&mut self, buffer: &mut BytesMut) -> Result<Read, Broken> {
        let skipped = self.skip.min(buffer.len());
        buffer.advance(skipped);
        self.skip -= skipped;
        if self.skip > 0 {
            return Ok(Read::Incomplete(None));
        }
        let Some(first) = buffer.first().copied() else { return Ok(Read::Incomplete(None)) };
        self.expect(first)?;
        let Some((length, size)) = varint(&buffer[1..])? else { return Ok(Read::Incomplete(None)) };
        let total = 1 + size + length;
        let is_message = first >> 4 == 3;
        if !is_message && total > MAX_CONTROL {
            let detail = format!("a packet that is no message has {total} bytes, limit is {MAX_CONTROL}");
            return Err(Broken::new(Reason::PACKET_TOO_LARGE, detail));
        }
        if is_message && total > self.max_packet_bytes {
            return self.skipped(first, 1 + size, total, buffer);
        }
        if buffer.len() < total {
            return Ok(Read::Incomplete(Some(total)));
        }
        let reader = Reader::of(buffer, 1 + size, total);
        self.read(first, reader).map(Read::Answer)
    }

    /// Of a message that is too large only its head is read.
    fn skipped(&mut self, first: u8, at: usize, total: usize, buffer: &mut BytesMut) -> Result<Read, Broken> {
        let Some(topic) = buffer.get(at..at + 2) else { return Ok(Read::Incomplete(None)) };
        let topic = usize::from(u16::from_be_bytes([topic[0], topic[1]]));
        let qos = decode::qos(first >> 1)?;
        let head = at + 2 + topic + if qos == Qos::AtMostOnce { 0 } else { 2 };
        if head > total {
            return Err(Broken::malformed("the packet ends too soon"));
        }
        if buffer.len() < head {
            return Ok(Read::Incomplete(None));
        }
        let mut head_bytes = buffer.split_to(head).freeze();
        let mut reader = Reader::new(head_bytes.split_off(at));
        let topic = reader.text()?;
        let id = if qos == Qos::AtMostOnce { 0 } else { reader.packet_id()? };
        self.skip = total - head;
        Ok(Read::Answer(Answer::TooLarge { topic, qos, id, bytes: total }))
    }

    /// What can be said of a packet by its first byte.
    fn expect(&self, first: u8) -> Result<(), Broken> {
        let (kind, flags) = (first >> 4, first & 0x0F);
        match (self.welcomed, kind) {
            (false, 2) | (true, 3..=7 | 9 | 11 | 13) => {}
            (true, 14) if self.version == Version::V5 => {}
            (_, 15) => return Err(Broken::new(Reason::BAD_AUTHENTICATION_METHOD, "an exchange of AUTH is not spoken")),
            (false, _) => return Err(Broken::new(Reason::PROTOCOL_ERROR, "the first packet is not CONNACK")),
            (true, 2) => return Err(Broken::new(Reason::PROTOCOL_ERROR, "a second CONNACK")),
            (true, _) => return Err(Broken::new(Reason::PROTOCOL_ERROR, "a packet that no server sends")),
        }
        let sound = match kind {
            3 => true,
            6 => flags == 0b0010,
            _ => flags == 0,
        };
        if sound { Ok(()) } else { Err(Broken::malformed("the flags of the packet's type are others")) }
    }

    fn read(&mut self, first: u8, mut reader: Reader) -> Result<Answer, Broken> {
        let five = self.version == Version::V5;
        let answer = match first >> 4 {
            2 => {
                let welcome = welcome(reader, five)?;
                self.welcomed = true;
                return Ok(Answer::Welcome(Box::new(welcome)));
            }
            3 => {
                let publish = decode::publish(first & 0x0F, reader, five, Allowed::DELIVERY)?;
                return Ok(Answer::Publish(publish));
            }
            4 => Answer::PubAck(answered(&mut reader, five)?),
            5 => Answer::PubRec(answered(&mut reader, five)?),
            6 => Answer::PubRel(answered(&mut reader, five)?.ack()),
            7 => Answer::PubComp(answered(&mut reader, five)?.ack()),
            9 => {
                let id = reader.packet_id()?;
                if five {
                    said(&mut reader, &mut Said::default())?;
                }
                let mut reasons = Vec::new();
                while !reader.is_empty() {
                    reasons.push(Reason(reader.u8()?));
                }
                Answer::SubAck { id, reasons }
            }
            11 => {
                let id = reader.packet_id()?;
                if five {
                    said(&mut reader, &mut Said::default())?;
                    return Ok(Answer::UnsubAck { id });
                }
                Answer::UnsubAck { id }
            }
            14 => {
                let (mut reason, mut known) = (Reason::SUCCESS, Said::default());
                if !reader.is_empty() {
                    reason = Reason(reader.u8()?);
                }
                if !reader.is_empty() {
                    said(&mut reader, &mut known)?;
                }
                Answer::Disconnect { reason, detail: known.detail }
            }
            // `expect` lets nothing else pass
            _ => Answer::PingResp,
        };
        reader.finish()?;
        Ok(answer)
    }
}

// === impl Answered ===

impl Answered {
    fn ack(&self) -> Ack {
        Ack { id: self.id, reason: self.reason }
    }
}

/// What a broker's properties say, as far as it matters here.
#[derive(Debug)]
struct Said {
    detail: Option<ByteString>,
    receive_maximum: u16,
    maximum_packet: Option<u32>,
    maximum_qos: Qos,
    retains: bool,
    keep_alive: Option<u16>,
}

// === impl Said ===

impl Default for Said {
    fn default() -> Self {
        Self {
            detail: None,
            receive_maximum: u16::MAX,
            maximum_packet: None,
            maximum_qos: Qos::ExactlyOnce,
            retains: true,
            keep_alive: None,
        }
    }
}

fn answered(reader: &mut Reader, five: bool) -> Result<Answered, Broken> {
    let id = reader.packet_id()?;
    let (mut reason, mut known) = (Reason::SUCCESS, Said::default());
    if five && !reader.is_empty() {
        reason = Reason(reader.u8()?);
        if !reader.is_empty() {
            said(reader, &mut known)?;
        }
    }
    Ok(Answered { id, reason, detail: known.detail })
}

fn welcome(mut reader: Reader, five: bool) -> Result<Welcome, Broken> {
    let (flags, code) = (reader.u8()?, reader.u8()?);
    if flags & 0xFE != 0 {
        return Err(Broken::malformed("the flags of CONNACK are others"));
    }
    let mut known = Said::default();
    if five {
        said(&mut reader, &mut known)?;
    }
    reader.finish()?;
    let reason = if five { Reason(code) } else { Reason::of_connack_v3(code) };
    let Said { detail, receive_maximum, maximum_packet, maximum_qos, retains, keep_alive } = known;
    let session_present = flags & 0x01 != 0;
    Ok(Welcome { session_present, reason, detail, receive_maximum, maximum_packet, maximum_qos, retains, keep_alive })
}

/// Properties of whatever packet: one that is not known here has a size all the same, or the packet is malformed.
fn said(reader: &mut Reader, known: &mut Said) -> Result<(), Broken> {
    let length = reader.varint()?;
    let mut reader = Reader::new(reader.take(length)?);
    while !reader.is_empty() {
        match reader.u8()? {
            id::REASON => known.detail = Some(reader.text()?),
            id::RECEIVE_MAXIMUM => known.receive_maximum = not_zero(reader.u16()?)?,
            id::MAXIMUM_PACKET => known.maximum_packet = Some(not_zero(reader.u32()?)?),
            id::SERVER_KEEP_ALIVE => known.keep_alive = Some(reader.u16()?),
            id::MAXIMUM_QOS => {
                known.maximum_qos = match reader.u8()? {
                    0 => Qos::AtMostOnce,
                    1 => Qos::AtLeastOnce,
                    _ => return Err(Broken::new(Reason::PROTOCOL_ERROR, "Maximum QoS is 0 or 1")),
                };
            }
            id::RETAIN_AVAILABLE => known.retains = reader.u8()? != 0,
            id::WILDCARD_AVAILABLE | id::SUBSCRIPTION_ID_AVAILABLE | id::SHARED_AVAILABLE => drop(reader.u8()?),
            id::ALIAS_MAXIMUM => drop(reader.u16()?),
            id::SESSION_EXPIRY => drop(reader.u32()?),
            id::ASSIGNED_CLIENT_ID | id::RESPONSE_INFORMATION | id::SERVER_REFERENCE | id::AUTHENTICATION_METHOD => {
                drop(reader.text()?);
            }
            id::AUTHENTICATION_DATA => drop(reader.binary()?),
            id::USER => drop((reader.text()?, reader.text()?)),
            _ => return Err(Broken::malformed("a property that this packet does not have")),
        }
    }
    Ok(())
}

fn not_zero<T: PartialEq + Default>(value: T) -> Result<T, Broken> {
    if value == T::default() {
        return Err(Broken::new(Reason::PROTOCOL_ERROR, "a property that must not be 0 is 0"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
