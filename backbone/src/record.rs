//! One record of the log: a header that says how the envelope came here, and the envelope.
//!
//! A record is encoded on its publisher's thread with a hole for the hash of the record before it, which only the
//! writer knows. The data stand last and unescaped, so that reading a record copies none of them.

use std::sync::Arc;

use bytes::Bytes;
use envelope::{
    Conversation, Data, Envelope, EnvelopeId, Fingerprint, Identity, Mapped, Origin, Priority, TRACEPARENT_BYTES,
    Timestamp, Topic, TraceContext,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::codec::{DecodeError, Reader, put_bytes, put_list, put_option, put_str, put_u64};

/// The newest format of a record that is read, and the one that is written.
pub(crate) const FORMAT: u8 = 2;
/// The oldest that is read; it has no flags.
const OLDEST: u8 = 1;

/// A flag: its envelope was published to be its topic's last value.
const RETAINED: u64 = 1;

/// Where the flags say the priority class: 0 is none, else its place from 1.
const PRIORITY_SHIFT: u32 = 1;
const PRIORITY: u64 = 0b111 << PRIORITY_SHIFT;

/// SHA-256 of a record's bytes; zero before the first.
pub(crate) type Chain = [u8; 32];

const CHAIN: std::ops::Range<usize> = 1..33;

/// How an envelope came into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// SHA-256 of the record before it.
    pub(crate) previous: Chain,
    /// The domain whose gateway admitted it.
    pub(crate) domain: Arc<str>,
    /// When, by that gateway's clock.
    pub(crate) admitted_at: Timestamp,
    /// Who sent it.
    pub(crate) principal: Arc<str>,
    /// The domain that vouches for the sender.
    pub(crate) principal_domain: Arc<str>,
    /// The bridge it came through.
    pub(crate) bridge: Arc<str>,
    /// The mapping's name.
    pub(crate) mapping: Arc<str>,
    /// The mapping's version.
    pub(crate) mapping_version: Arc<str>,
    /// The number of the policy epoch that decided.
    pub(crate) epoch: u64,
    /// The protocol's name for the message.
    pub(crate) identity: Identity,
    /// Its envelope was published to be its topic's last value.
    pub(crate) retained: bool,
}

/// An envelope as it is handed out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) envelope: Envelope,
    /// It was published to be its topic's last value.
    pub(crate) retained: bool,
}

/// What the records that were read before say in each place: most say the same again, which is then shared and not made anew.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    source: Option<Arc<str>>,
    kind: Option<Arc<str>>,
    subject: Option<Topic>,
    datacontenttype: Option<Arc<str>>,
    dataschema: Option<Arc<str>>,
    performative: Option<Arc<str>>,
    partitionkey: Option<Arc<str>>,
    classification: Option<Arc<str>>,
}

/// What most envelopes need besides their data.
const USUAL_BYTES: usize = 448;

/// Encodes one envelope of `mapped`; the hole for the hash is zero.
pub(crate) fn encode(
    domain: &str,
    admitted_at: Timestamp,
    epoch: u64,
    mapped: &Mapped,
    envelope: &Envelope,
) -> Vec<u8> {
    let data = envelope.data.as_slice();
    let mut out = Vec::with_capacity(USUAL_BYTES + data.len());
    put_header(&mut out, domain, admitted_at, epoch, mapped);
    put_flags(&mut out, mapped.retain, envelope.priority);
    put_envelope(&mut out, envelope);
    out.extend_from_slice(data);
    out
}

fn put_header(out: &mut Vec<u8>, domain: &str, admitted_at: Timestamp, epoch: u64, mapped: &Mapped) {
    out.push(FORMAT);
    out.extend_from_slice(&[0; 32]);
    put_str(out, domain);
    put_u64(out, admitted_at.as_micros());
    put_str(out, &mapped.principal.id);
    put_str(out, &mapped.principal.domain);
    put_str(out, &mapped.bridge);
    put_str(out, mapped.route.name());
    put_str(out, mapped.route.version());
    put_u64(out, epoch);
    match &mapped.identity {
        Identity::Native(native) => {
            out.push(0);
            put_bytes(out, native);
        }
        Identity::Fresh(uuid) => {
            out.push(1);
            out.extend_from_slice(uuid.as_bytes());
        }
        Identity::Keyed { name, print } => {
            out.push(2);
            put_bytes(out, name);
            out.extend_from_slice(&print.0);
        }
    }
}

fn put_flags(out: &mut Vec<u8>, retain: bool, priority: Option<Priority>) {
    let retained = if retain { RETAINED } else { 0 };
    let class = priority.map_or(0, |class| class as u64 + 1);
    put_u64(out, retained | class << PRIORITY_SHIFT);
}

/// Fills the hole of an encoded record and gives the hash for the next one.
pub(crate) fn link(record: &mut [u8], previous: &Chain) -> Chain {
    if let Some(hole) = record.get_mut(CHAIN) {
        hole.copy_from_slice(previous);
    }
    hash(record)
}

/// SHA-256 of a record.
pub(crate) fn hash(record: &[u8]) -> Chain {
    Sha256::digest(record).into()
}

/// Reads a record; the envelope's data are a slice of it.
pub(crate) fn decode(record: &Bytes) -> Result<(Header, Envelope), DecodeError> {
    let mut reader = Reader::new(record);
    let (header, flags) = header(&mut reader)?;
    let mut envelope = envelope(&mut reader, &mut Texts::default())?;
    envelope.priority = priority(flags)?;
    envelope.data = Data::Opaque(record.slice_ref(reader.rest()));
    Ok((header, envelope))
}

/// Reads what is handed out of a record, and passes over how it came here; the envelope's data are a slice of it.
pub(crate) fn stored(record: &Bytes, texts: &mut Texts) -> Result<Stored, DecodeError> {
    let mut reader = Reader::new(record);
    let (format, _) = up_to_flags(&mut reader)?;
    let flags = flags(&mut reader, format)?;
    let mut envelope = envelope(&mut reader, texts)?;
    envelope.priority = priority(flags)?;
    envelope.data = Data::Opaque(record.slice_ref(reader.rest()));
    Ok(Stored { envelope, retained: flags & RETAINED != 0 })
}

/// How the envelope came here, without the envelope.
pub(crate) fn header_of(record: &[u8]) -> Result<Header, DecodeError> {
    Ok(header(&mut Reader::new(record))?.0)
}

/// The envelope's topic, and nothing else.
pub(crate) fn topic(record: &[u8]) -> Result<Topic, DecodeError> {
    let mut reader = Reader::new(record);
    let (format, _) = up_to_flags(&mut reader)?;
    flags(&mut reader, format)?;
    id(&mut reader)?;
    reader.bytes("source")?;
    reader.bytes("type")?;
    subject(&mut reader)
}

/// The envelope's id and nothing else: a retry is recognised by it.
pub(crate) fn envelope_id(record: &[u8]) -> Result<EnvelopeId, DecodeError> {
    let mut reader = Reader::new(record);
    let (format, _) = up_to_flags(&mut reader)?;
    flags(&mut reader, format)?;
    id(&mut reader)
}

/// What the sender used the message's name for, where it said so.
pub(crate) fn print(record: &[u8]) -> Option<Fingerprint> {
    let (_, print) = up_to_flags(&mut Reader::new(record)).ok()?;
    print
}

/// Reads the header up to its flags: the format, and what the name was used for.
fn up_to_flags(reader: &mut Reader<'_>) -> Result<(u8, Option<Fingerprint>), DecodeError> {
    let format = version(reader)?;
    reader.take(CHAIN.len(), "hash")?;
    reader.bytes("domain")?;
    reader.u64("admission time")?;
    for what in ["principal", "principal's domain", "bridge", "mapping", "mapping version"] {
        reader.bytes(what)?;
    }
    reader.u64("policy epoch")?;
    match reader.u8("identity")? {
        0 => reader.bytes("identity")?,
        1 => reader.take(16, "identity")?,
        2 => {
            reader.bytes("identity")?;
            return Ok((format, Some(Fingerprint(reader.array("fingerprint")?))));
        }
        _ => return Err(DecodeError::Invalid("identity")),
    };
    Ok((format, None))
}

/// When the envelope was admitted, and nothing else.
pub(crate) fn admitted_at(record: &[u8]) -> Result<Timestamp, DecodeError> {
    let mut reader = Reader::new(record);
    version(&mut reader)?;
    reader.take(CHAIN.len(), "hash")?;
    reader.bytes("domain")?;
    time(&mut reader, "admission time")
}

/// The format, if it is read here.
fn version(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    match reader.u8("format version")? {
        known @ OLDEST..=FORMAT => Ok(known),
        0 => Err(DecodeError::Invalid("format version")),
        found => Err(DecodeError::NewerFormat { found, supported: FORMAT }),
    }
}

/// A flag that is not known means something, so the record can't be read without it.
fn flags(reader: &mut Reader<'_>, format: u8) -> Result<u64, DecodeError> {
    if format == OLDEST {
        return Ok(0);
    }
    match reader.u64("flags")? {
        known if known & !(RETAINED | PRIORITY) == 0 => Ok(known),
        _ => Err(DecodeError::Invalid("flags")),
    }
}

fn priority(flags: u64) -> Result<Option<Priority>, DecodeError> {
    match ((flags & PRIORITY) >> PRIORITY_SHIFT) as usize {
        0 => Ok(None),
        place => Priority::ALL.get(place - 1).copied().map(Some).ok_or(DecodeError::Invalid("priority")),
    }
}

/// And the flags, which are about the envelope as well.
fn header(reader: &mut Reader<'_>) -> Result<(Header, u64), DecodeError> {
    let format = version(reader)?;
    let mut header = Header {
        previous: reader.array("hash")?,
        domain: reader.text("domain")?,
        admitted_at: time(reader, "admission time")?,
        principal: reader.text("principal")?,
        principal_domain: reader.text("principal's domain")?,
        bridge: reader.text("bridge")?,
        mapping: reader.text("mapping")?,
        mapping_version: reader.text("mapping version")?,
        epoch: reader.u64("policy epoch")?,
        identity: match reader.u8("identity")? {
            0 => Identity::Native(Bytes::copy_from_slice(reader.bytes("identity")?)),
            1 => Identity::Fresh(Uuid::from_bytes(reader.array("identity")?)),
            2 => Identity::Keyed {
                name: Bytes::copy_from_slice(reader.bytes("identity")?),
                print: Fingerprint(reader.array("fingerprint")?),
            },
            _ => return Err(DecodeError::Invalid("identity")),
        },
        retained: false,
    };
    let flags = flags(reader, format)?;
    header.retained = flags & RETAINED != 0;
    Ok((header, flags))
}

fn put_envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    put_id(out, envelope.id);
    put_str(out, &envelope.source);
    put_str(out, &envelope.kind);
    put_str(out, envelope.subject.as_str());
    put_u64(out, envelope.time.as_micros());
    put_option(out, envelope.expirytime, |out, time| put_u64(out, time.as_micros()));
    for text in [
        &envelope.datacontenttype,
        &envelope.dataschema,
        &envelope.performative,
        &envelope.partitionkey,
        &envelope.classification,
    ] {
        put_option(out, text.as_deref(), put_str);
    }
    put_list(out, &envelope.residency);
    put_list(out, &envelope.hops);
    put_option(out, envelope.trace.as_ref(), |out, trace| {
        put_u64(out, TRACEPARENT_BYTES as u64);
        trace.write_traceparent(out);
        put_option(out, trace.tracestate().map(|state| &**state), put_str);
    });
    put_option(out, envelope.conversation.as_deref(), put_conversation);
    put_option(out, envelope.origin.as_deref(), |out, origin| {
        put_option(out, origin.id.as_deref(), put_str);
        put_option(out, origin.source.as_deref(), put_str);
    });
}

fn put_conversation(out: &mut Vec<u8>, conversation: &Conversation) {
    for text in [&conversation.protocol, &conversation.id, &conversation.inreplyto, &conversation.replyto] {
        put_option(out, text.as_deref(), put_str);
    }
    put_option(out, conversation.replyby, |out, time| put_u64(out, time.as_micros()));
    put_list(out, &conversation.recipients);
}

/// Everything but the data, which stay empty.
fn envelope(reader: &mut Reader<'_>, texts: &mut Texts) -> Result<Envelope, DecodeError> {
    let text = |reader: &mut Reader<'_>, what, known: &mut Option<Arc<str>>| {
        reader.option(what, |reader| reader.shared(what, known))
    };
    Ok(Envelope {
        id: id(reader)?,
        source: reader.shared("source", &mut texts.source)?,
        kind: reader.shared("type", &mut texts.kind)?,
        subject: shared_subject(reader, &mut texts.subject)?,
        time: time(reader, "time")?,
        expirytime: reader.option("expirytime", |reader| time(reader, "expirytime"))?,
        datacontenttype: text(reader, "datacontenttype", &mut texts.datacontenttype)?,
        dataschema: text(reader, "dataschema", &mut texts.dataschema)?,
        performative: text(reader, "performative", &mut texts.performative)?,
        partitionkey: text(reader, "partitionkey", &mut texts.partitionkey)?,
        classification: text(reader, "classification", &mut texts.classification)?,
        residency: reader.list("residency", |reader| reader.text("residency"))?,
        hops: reader.list("hops", |reader| reader.text("hops"))?,
        trace: reader.option("trace", trace)?,
        conversation: reader.option("conversation", conversation)?.map(Box::new),
        origin: reader.option("origin", origin)?.map(Box::new),
        priority: None,
        data: Data::Opaque(Bytes::new()),
    })
}

fn subject(reader: &mut Reader<'_>) -> Result<Topic, DecodeError> {
    Topic::new(reader.str("subject")?).map_err(|_| DecodeError::Invalid("subject"))
}

fn shared_subject(reader: &mut Reader<'_>, known: &mut Option<Topic>) -> Result<Topic, DecodeError> {
    let text = reader.str("subject")?;
    if let Some(topic) = known.as_ref().filter(|topic| topic.as_str() == text) {
        return Ok(topic.clone());
    }
    let topic = Topic::new(text).map_err(|_| DecodeError::Invalid("subject"))?;
    *known = Some(topic.clone());
    Ok(topic)
}

fn conversation(reader: &mut Reader<'_>) -> Result<Conversation, DecodeError> {
    Ok(Conversation {
        protocol: reader.option_text("protocol")?,
        id: reader.option_text("conversation")?,
        inreplyto: reader.option_text("inreplyto")?,
        replyto: reader.option_text("replyto")?,
        replyby: reader.option("replyby", |reader| time(reader, "replyby"))?,
        recipients: reader.list("recipients", |reader| reader.text("recipients"))?,
    })
}

fn origin(reader: &mut Reader<'_>) -> Result<Origin, DecodeError> {
    Ok(Origin { id: reader.option_text("originid")?, source: reader.option_text("originsource")? })
}

fn trace(reader: &mut Reader<'_>) -> Result<TraceContext, DecodeError> {
    let parent = reader.str("traceparent")?;
    let state = reader.option("tracestate", |reader| reader.str("tracestate"))?;
    TraceContext::parse(parent, state).ok_or(DecodeError::Invalid("traceparent"))
}

fn time(reader: &mut Reader<'_>, what: &'static str) -> Result<Timestamp, DecodeError> {
    reader.u64(what).map(Timestamp::from_micros)
}

/// An id as it is kept in records and in the dedup keyspace: the UUID, then the item's number if it has one.
pub(crate) fn put_id(out: &mut Vec<u8>, id: EnvelopeId) {
    out.extend_from_slice(id.uuid().as_bytes());
    put_option(out, id.item_number(), |out, item| put_u64(out, u64::from(item)));
}

/// Reads what [`put_id`] writes.
pub(crate) fn id(reader: &mut Reader<'_>) -> Result<EnvelopeId, DecodeError> {
    let id = EnvelopeId::new(Uuid::from_bytes(reader.array("id")?));
    let item = reader.option("id", |reader| reader.u64("id"))?;
    match item.map(u32::try_from) {
        None => Ok(id),
        Some(Ok(item)) => Ok(id.item(item)),
        Some(Err(_)) => Err(DecodeError::Invalid("id")),
    }
}

#[cfg(test)]
mod tests;
