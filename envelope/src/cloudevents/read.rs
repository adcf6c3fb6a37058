//! JSON to envelope. Strict: an attribute that an envelope does not carry is refused, not lost.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use super::{media::Media, tokens::parse_tokens};
use crate::{
    Conversation, Data, Envelope, EnvelopeId, Origin, Priority, Timestamp, Topic, TopicError, TraceContext,
    json::{Json, Members, Node, View},
};

/// Why a JSON text is no envelope. Names the attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudEventError {
    /// An event is an object.
    #[error("a cloud event is a JSON object, this is {0}")]
    NotAnObject(&'static str),
    /// An attribute that every envelope has.
    #[error("attribute \"{0}\" is missing")]
    Missing(&'static str),
    /// An attribute that no envelope has.
    #[error("attribute {0:?} is not one of an envelope")]
    Unknown(String),
    /// Attributes of an envelope are strings.
    #[error("attribute \"{attribute}\" must be a string, this is {found}")]
    NotAString {
        /// Its name.
        attribute: &'static str,
        /// The JSON type it has.
        found: &'static str,
    },
    /// A string, but not of the attribute's form.
    #[error("attribute \"{attribute}\" must be {expected}, this is {value:?}")]
    Malformed {
        /// Its name.
        attribute: &'static str,
        /// The form it must have.
        expected: &'static str,
        /// The first 64 characters of what it has.
        value: String,
    },
    /// The subject is no topic.
    #[error("attribute \"subject\" is no topic: {0}")]
    Subject(#[from] TopicError),
    /// `data` and `data_base64` at once.
    #[error("\"data\" and \"data_base64\" exclude each other")]
    TwoData,
}

/// Reads an event in structured mode. `null` is an absent attribute. Invalid trace context is dropped, as W3C wants.
pub fn parse_json(json: &Json) -> Result<Envelope, CloudEventError> {
    let root = json.root();
    let members = root.as_object().ok_or(CloudEventError::NotAnObject(root.type_name()))?;
    let event = Event::read(members)?;
    let version = event.required("specversion")?;
    if version != "1.0" {
        return Err(malformed("specversion", "1.0", version));
    }
    let datacontenttype = event.shared("datacontenttype")?;
    Ok(Envelope {
        id: event.form("id", "a UUID, or one with an item number", EnvelopeId::parse)?.ok_or(missing("id"))?,
        source: event.required("source")?.into(),
        kind: event.required("type")?.into(),
        subject: Topic::new(event.required("subject")?)?,
        time: event.time("time")?.ok_or(missing("time"))?,
        expirytime: event.time("expirytime")?,
        dataschema: event.shared("dataschema")?,
        data: event.data(json, datacontenttype.as_deref())?,
        datacontenttype,
        performative: event.shared("performative")?,
        partitionkey: event.shared("partitionkey")?,
        residency: event.list("residency")?,
        classification: event.shared("classification")?,
        hops: event.list("hops")?,
        trace: event.trace()?,
        conversation: event.conversation()?,
        origin: event.origin()?,
        priority: event.form("priority", "command, event, telemetry or bulk", Priority::parse)?,
    })
}

/// The attributes of an envelope, in the order of [`Event::found`].
const NAMES: [&str; 26] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "expirytime",
    "dataschema",
    "datacontenttype",
    "performative",
    "priority",
    "partitionkey",
    "residency",
    "classification",
    "hops",
    "protocol",
    "conversation",
    "inreplyto",
    "replyto",
    "replyby",
    "recipients",
    "originid",
    "originsource",
    "traceparent",
    "tracestate",
    "data_base64",
];

/// The members of the object, by attribute.
struct Event<'a> {
    found: [Option<Node<'a>>; NAMES.len()],
    data: Option<Node<'a>>,
}

// === impl Event ===

impl<'a> Event<'a> {
    fn read(members: Members<'a>) -> Result<Self, CloudEventError> {
        let mut event = Self { found: [None; NAMES.len()], data: None };
        for (name, node) in members {
            match NAMES.iter().position(|known| *known == name) {
                Some(at) if !node.is_null() => event.found[at] = Some(node),
                Some(_) => {}
                None if name == "data" => event.data = Some(node),
                None => return Err(CloudEventError::Unknown(name.chars().take(64).collect())),
            }
        }
        Ok(event)
    }

    fn string(&self, attribute: &'static str) -> Result<Option<&'a str>, CloudEventError> {
        let Some(node) = NAMES.iter().position(|name| *name == attribute).and_then(|at| self.found[at]) else {
            return Ok(None);
        };
        let text = node.as_str().ok_or(CloudEventError::NotAString { attribute, found: node.type_name() })?;
        Ok(Some(text))
    }

    /// Attributes are not empty; only `data_base64` may be.
    fn text(&self, attribute: &'static str) -> Result<Option<&'a str>, CloudEventError> {
        match self.string(attribute)? {
            Some("") => Err(malformed(attribute, "a string that is not empty", "")),
            text => Ok(text),
        }
    }

    fn required(&self, attribute: &'static str) -> Result<&'a str, CloudEventError> {
        self.text(attribute)?.ok_or(missing(attribute))
    }

    fn shared(&self, attribute: &'static str) -> Result<Option<Arc<str>>, CloudEventError> {
        Ok(self.text(attribute)?.map(Arc::from))
    }

    fn form<T>(
        &self,
        attribute: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, CloudEventError> {
        let Some(text) = self.text(attribute)? else {
            return Ok(None);
        };
        parse(text).map(Some).ok_or_else(|| malformed(attribute, expected, text))
    }

    fn time(&self, attribute: &'static str) -> Result<Option<Timestamp>, CloudEventError> {
        self.form(attribute, "a time of RFC 3339 in UTC", Timestamp::parse)
    }

    fn list(&self, attribute: &'static str) -> Result<Vec<Arc<str>>, CloudEventError> {
        let list = self.form(attribute, "percent-encoded tokens with a space between", parse_tokens)?;
        Ok(list.unwrap_or_default())
    }

    fn trace(&self) -> Result<Option<TraceContext>, CloudEventError> {
        let (parent, state) = (self.text("traceparent")?, self.text("tracestate")?);
        Ok(parent.and_then(|parent| TraceContext::parse(parent, state)))
    }

    fn conversation(&self) -> Result<Option<Box<Conversation>>, CloudEventError> {
        let conversation = Conversation {
            protocol: self.shared("protocol")?,
            id: self.shared("conversation")?,
            inreplyto: self.shared("inreplyto")?,
            replyto: self.shared("replyto")?,
            replyby: self.time("replyby")?,
            recipients: self.list("recipients")?,
        };
        Ok((conversation != Conversation::default()).then(|| Box::new(conversation)))
    }

    fn origin(&self) -> Result<Option<Box<Origin>>, CloudEventError> {
        let origin = Origin { id: self.shared("originid")?, source: self.shared("originsource")? };
        Ok((origin != Origin::default()).then(|| Box::new(origin)))
    }

    /// Shares memory with the event wherever the data stands in it byte for byte.
    fn data(&self, json: &Json, content_type: Option<&str>) -> Result<Data, CloudEventError> {
        let encoded = self.string("data_base64")?;
        let node = match (self.data, encoded) {
            (Some(_), Some(_)) => return Err(CloudEventError::TwoData),
            (None, None) => return Ok(Data::Opaque(Bytes::new())),
            (None, Some(encoded)) => {
                let decoded = STANDARD.decode(encoded).map_err(|_| malformed("data_base64", "base64", encoded))?;
                return Ok(Data::Opaque(decoded.into()));
            }
            (Some(node), None) => node,
        };
        let span = node.span();
        Ok(Data::Opaque(match (node.view(), Media::of(content_type)) {
            (View::String(text), Media::Text | Media::Binary) if text.len() + 2 == span.len() => {
                json.bytes().slice(span.start + 1..span.end - 1)
            }
            (View::String(text), Media::Text | Media::Binary) => Bytes::copy_from_slice(text.as_bytes()),
            _ => json.bytes().slice(span),
        }))
    }
}

fn missing(attribute: &'static str) -> CloudEventError {
    CloudEventError::Missing(attribute)
}

fn malformed(attribute: &'static str, expected: &'static str, value: &str) -> CloudEventError {
    CloudEventError::Malformed { attribute, expected, value: value.chars().take(64).collect() }
}
