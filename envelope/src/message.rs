//! A message at each stage of the pipeline, and the envelope it carries.

use std::{
    borrow::Cow,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;

use crate::{Data, EnvelopeId, Identity, Principal, Priority, Terms, Timestamp, Topic, TraceContext};

/// What a protocol keeps in order: an MQTT client, a Kafka partition, an AMQP channel, a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane(pub u64);

/// The protocol's headers, in order; names in lower case.
pub type Headers = Arc<[(String, Bytes)]>;

/// One mapping file at one version. Cheap to clone; a ledger key by its name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Route(Arc<RouteName>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct RouteName {
    name: Box<str>,
    version: Box<str>,
}

/// A message as its protocol brought it. `Debug` shows neither headers nor payload.
#[derive(Clone)]
pub struct Inbound {
    /// The bridge's name in the config.
    pub bridge: Arc<str>,
    /// The protocol's own address: `POST /telemetry/7`, an MQTT topic, ...
    pub address: Arc<str>,
    /// The protocol's headers.
    pub headers: Headers,
    /// Never copied from here to the backbone.
    pub payload: Bytes,
    /// What it is kept in order with.
    pub lane: Lane,
    /// The protocol's name for it, or a fresh one.
    pub identity: Identity,
    /// Who sent it.
    pub principal: Arc<Principal>,
    /// Where it came from, if there is a network peer.
    pub peer: Option<IpAddr>,
    /// The sender's trace context, if it came with a valid one.
    pub trace: Option<TraceContext>,
    /// Its sender wants it to be its topic's last value (MQTT 5.0, section 3.3.1.3); one without data deletes that.
    pub retain: bool,
    /// Its sender hears nothing of it whatever happens, as at MQTT's QoS 0.
    pub unacknowledged: bool,
    /// Domains that it has passed before, oldest first, where its protocol says so.
    pub hops: Vec<Arc<str>>,
    /// When it was decoded.
    pub received_at: SystemTime,
}

/// A CloudEvent with the mesh's extensions. Absent attributes are `None` or empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Stable over a sender's retries.
    pub id: EnvelopeId,
    /// `mesh://<domain>/<bridge>/<principal>`.
    pub source: Arc<str>,
    /// `market/rfp@v1.0.0`, or `mesh/opaque@v1.0.0` without a schema.
    pub kind: Arc<str>,
    /// The topic.
    pub subject: Topic,
    /// When the gateway decoded the message.
    pub time: Timestamp,
    /// After it nobody is handed the envelope.
    pub expirytime: Option<Timestamp>,
    /// RFC 2046; `None` where the data's format is unknown.
    pub datacontenttype: Option<Arc<str>>,
    /// `mesh://<domain>/schemas/market/rfp@v1.0.0`.
    pub dataschema: Option<Arc<str>>,
    /// What it is about.
    pub data: Data,
    /// FIPA's word for what the sender means by it: `inform`, `request`, ...
    pub performative: Option<Arc<str>>,
    /// Envelopes with the same key stay in order.
    pub partitionkey: Option<Arc<str>>,
    /// Jurisdictions that may hold or carry it.
    pub residency: Vec<Arc<str>>,
    /// Sensitivity.
    pub classification: Option<Arc<str>>,
    /// Domains passed, oldest first; bounded.
    pub hops: Vec<Arc<str>>,
    /// W3C trace context.
    pub trace: Option<TraceContext>,
    /// Part of a conversation, where it is.
    pub conversation: Option<Box<Conversation>>,
    /// What the sender's own CloudEvent said, where it was one.
    pub origin: Option<Box<Origin>>,
    /// How much it matters when not all can be taken; `None`: the policy says by its topic.
    pub priority: Option<Priority>,
}

/// The parameters of a conversation (FIPA ACL).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conversation {
    /// Protocol URI with its version.
    pub protocol: Option<Arc<str>>,
    /// Conversation id.
    pub id: Option<Arc<str>>,
    /// The id this answers.
    pub inreplyto: Option<Arc<str>>,
    /// The topic answers go to.
    pub replyto: Option<Arc<str>>,
    /// Answers after it are late.
    pub replyby: Option<Timestamp>,
    /// Agents whose inboxes it is for, besides the topic's subscribers.
    pub recipients: Vec<Arc<str>>,
}

/// The sender's own CloudEvents id and source: used for dedup, never for identity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// `originid`.
    pub id: Option<Arc<str>>,
    /// `originsource`.
    pub source: Option<Arc<str>>,
}

/// When the sender hears yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AckPoint {
    /// Policy passed; may be lost in a crash.
    Received,
    /// On this gateway's disk, or acked by JetStream.
    Durable,
    /// An egress peer took it, in its own terms.
    Delivered,
    /// An addressed agent acked or replied.
    Consumer,
}

/// What MAPPING makes of one inbound.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// The mapping that took it.
    pub route: Route,
    /// When its sender hears yes.
    pub ack: AckPoint,
    /// What else the mapping promises of its messages.
    pub terms: Arc<Terms>,
    /// The bridge it came through.
    pub bridge: Arc<str>,
    /// What it is kept in order with.
    pub lane: Lane,
    /// Who sent it.
    pub principal: Arc<Principal>,
    /// The protocol's name for it.
    pub identity: Identity,
    /// Each envelope becomes its topic's last value, or deletes it if it has no data: the sender or the mapping says so.
    pub retain: bool,
    /// What is stored.
    pub group: Group,
}

/// 1 to [`MAX_GROUP`] envelopes that are stored together or not at all, with one verdict.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "one is the common case: a box would be an allocation a message")]
pub enum Group {
    /// The common case, without a vector.
    One(Envelope),
    /// What `each` makes; never empty, all with the same UUID in their ids.
    Many(Vec<Envelope>),
}

/// The most envelopes of one group.
pub const MAX_GROUP: usize = 1_000;

/// Where an envelope is stored. Opaque; comparable only within a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub Bytes);

/// An envelope on its way out, until it is settled.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What `settle` takes.
    pub position: Position,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// One of the last values that its subscription began with, and no news.
    pub is_last: bool,
    /// It was published to be its topic's last value.
    pub retained: bool,
    /// The envelope.
    pub envelope: Envelope,
    /// What it is kept in order with.
    pub lane: Lane,
}

// === impl Delivery ===

impl Delivery {
    /// An envelope that is on its way out for the first time, as news, and on its own.
    pub fn new(position: Position, envelope: Envelope) -> Self {
        Self { position, redelivered: false, is_last: false, retained: false, envelope, lane: Lane(0) }
    }
}

/// A delivery and the principal who is about to get it: what egress policy decides on.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Who is about to get it.
    pub to: Arc<Principal>,
    /// What.
    pub delivery: Delivery,
}

/// How surely a protocol brings a message to its peer (MQTT 5.0, section 4.3); what is surer is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qos {
    /// It may be lost.
    AtMostOnce,
    /// It may come twice.
    AtLeastOnce,
    /// Neither.
    ExactlyOnce,
}

/// A message as a protocol is to send it. `Debug` shows neither headers nor payload.
#[derive(Clone)]
pub struct Outbound {
    /// The protocol's own address.
    pub address: Arc<str>,
    /// The protocol's headers.
    pub headers: Headers,
    /// What is sent.
    pub payload: Bytes,
    /// Messages with the same key stay in order, where the protocol has such a thing.
    pub key: Option<Arc<str>>,
    /// How surely it is to arrive, where the protocol has a choice; its own usual way if left out.
    pub qos: Option<Qos>,
    /// The peer is to keep it for whoever comes later, where the protocol has such a thing.
    pub retain: bool,
    /// Domains that the envelope has passed before this one, oldest first.
    pub hops: Vec<Arc<str>>,
    /// The envelope that it is made of: the same whenever it is sent again.
    pub id: EnvelopeId,
    /// The envelope's trace context.
    pub trace: Option<TraceContext>,
    /// What it is kept in order with.
    pub lane: Lane,
}

/// Has a lane.
pub trait InLane {
    /// What it is kept in order with.
    fn lane(&self) -> Lane;
}

// === impl Envelope ===

impl Envelope {
    /// Whom it is for, besides the subscribers of its topic.
    pub fn recipients(&self) -> &[Arc<str>] {
        self.conversation.as_deref().map_or(&[], |conversation| &conversation.recipients)
    }

    /// What it is kept in order with in the mesh: what has its key, or without one its topic.
    pub fn lane(&self) -> Lane {
        let mut hasher = DefaultHasher::new();
        self.partitionkey.as_deref().unwrap_or(self.subject.as_str()).hash(&mut hasher);
        Lane(hasher.finish())
    }

    /// One that has what every envelope has, and nothing else.
    #[inline]
    pub fn plain(
        id: EnvelopeId,
        source: Arc<str>,
        kind: Arc<str>,
        subject: Topic,
        time: Timestamp,
        data: Data,
    ) -> Self {
        Self {
            id,
            source,
            kind,
            subject,
            time,
            expirytime: None,
            datacontenttype: None,
            dataschema: None,
            data,
            performative: None,
            partitionkey: None,
            residency: Vec::new(),
            classification: None,
            hops: Vec::new(),
            trace: None,
            conversation: None,
            origin: None,
            priority: None,
        }
    }
}

// === impl Conversation ===

/// What an id begins with that stands for bytes.
const HEX: &str = "hex:";

impl Conversation {
    /// A conversation's id for what a protocol knows it by: text as it is, other bytes in hexadecimal digits behind `hex:`.
    /// [`id_bytes`](Self::id_bytes) is the way back.
    pub fn id_of(bytes: &[u8]) -> Arc<str> {
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.is_empty() && !text.starts_with(HEX) && !text.chars().any(char::is_control) => {
                text.into()
            }
            _ => {
                let mut id = String::with_capacity(HEX.len() + 2 * bytes.len());
                id.push_str(HEX);
                let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
                bytes.iter().for_each(|byte| id.extend([digit(byte >> 4), digit(byte & 15)]));
                id.into()
            }
        }
    }

    /// Its id as a protocol that knows bytes has it.
    pub fn id_bytes(&self) -> Option<Cow<'_, [u8]>> {
        self.id.as_deref().map(Self::bytes_of)
    }

    /// An id as a protocol that knows bytes has it: the way back from [`id_of`](Self::id_of).
    pub fn bytes_of(id: &str) -> Cow<'_, [u8]> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes = |digits: &str| -> Option<Vec<u8>> {
            digits.as_bytes().chunks(2).map(|two| Some(digit(two.first()?)? << 4 | digit(two.get(1)?)?)).collect()
        };
        let of_hex = id.strip_prefix(HEX).and_then(bytes);
        of_hex.map_or(Cow::Borrowed(id.as_bytes()), Cow::Owned)
    }
}

// === impl Route ===

impl Route {
    /// `name` is the mapping's, `version` changes with its content.
    pub fn new(name: &str, version: &str) -> Self {
        Self(Arc::new(RouteName { name: name.into(), version: version.into() }))
    }

    /// The mapping's name: the ledger key and metric label.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Changes with the mapping's content.
    pub fn version(&self) -> &str {
        &self.0.version
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name(), self.version())
    }
}

// === impl Inbound ===

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("bridge", &self.bridge)
            .field("address", &self.address)
            .field("headers", &self.headers.len())
            .field("payload_bytes", &self.payload.len())
            .field("lane", &self.lane)
            .field("principal", &self.principal.id)
            .finish_non_exhaustive()
    }
}

// === impl Outbound ===

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("address", &self.address)
            .field("headers", &self.headers.len())
            .field("payload_bytes", &self.payload.len())
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

// === impl Group ===

impl Group {
    /// The envelopes, in order; at least one.
    pub fn into_vec(self) -> Vec<Envelope> {
        match self {
            Self::One(envelope) => vec![envelope],
            Self::Many(envelopes) => envelopes,
        }
    }

    /// The envelopes, in order; at least one.
    pub fn as_slice(&self) -> &[Envelope] {
        match self {
            Self::One(envelope) => std::slice::from_ref(envelope),
            Self::Many(envelopes) => envelopes,
        }
    }

    /// The envelopes, in order; at least one.
    pub fn as_mut_slice(&mut self) -> &mut [Envelope] {
        match self {
            Self::One(envelope) => std::slice::from_mut(envelope),
            Self::Many(envelopes) => envelopes,
        }
    }
}

// === impl InLane ===

impl InLane for Inbound {
    fn lane(&self) -> Lane {
        self.lane
    }
}

impl InLane for Outbound {
    fn lane(&self) -> Lane {
        self.lane
    }
}

impl InLane for Mapped {
    fn lane(&self) -> Lane {
        self.lane
    }
}

impl InLane for Outgoing {
    fn lane(&self) -> Lane {
        self.delivery.lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_travels_shows_neither_headers_nor_payload() {
        let headers: Headers = [("x-api-key".to_owned(), Bytes::from_static(b"s3cr3t"))].into();
        let inbound = Inbound {
            bridge: "web".into(),
            address: "POST /a".into(),
            headers: headers.clone(),
            payload: Bytes::from_static(b"s3cr3t"),
            lane: Lane(1),
            identity: Identity::Native(Bytes::from_static(b"s3cr3t")),
            principal: Arc::new(Principal::anonymous("a")),
            peer: None,
            trace: None,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::UNIX_EPOCH,
        };
        let outbound = Outbound {
            address: "a".into(),
            headers,
            payload: Bytes::from_static(b"s3cr3t"),
            key: None,
            qos: None,
            retain: false,
            hops: Vec::new(),
            id: EnvelopeId::new(uuid::Uuid::nil()),
            trace: None,
            lane: Lane(1),
        };
        let shown = format!("{inbound:?} {outbound:?}");
        assert!(
            !shown.contains("s3cr3t") && shown.contains("payload_bytes: 6") && shown.contains("POST /a"),
            "{shown}"
        );
    }
}
