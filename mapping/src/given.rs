//! An envelope that a test in a file gives: what an egress mapping sends, or what answers a sender.

use envelope::{Conversation, Data, Envelope, Identity, IdentityParts, Origin, Priority, Timestamp, Topic};
use yaml::{Fields, Kind, Node, Problems};

use crate::{codec::Codec, file_tests::payload};

const TEXTS: [&str; 12] = [
    "type",
    "schema",
    "source",
    "content_type",
    "performative",
    "key",
    "classification",
    "conversation",
    "inreplyto",
    "replyto",
    "originid",
    "originsource",
];

/// Reads it; `topic` is what it has if it does not say. Its time is the Unix epoch and its id always the same, so that each
/// run is like the last.
pub(crate) fn envelope(node: &Node, topic: Option<&str>, decode: Codec, problems: &Problems) -> Option<Envelope> {
    let mut fields = Fields::of(node, problems)?;
    let topic = match (fields.entry("topic"), topic) {
        (Some((_, node)), _) => node.string(problems).and_then(|text| match Topic::new(text) {
            Ok(topic) => Some(topic),
            Err(error) => {
                problems.report(node.span, "topic", error.to_string());
                None
            }
        }),
        (None, Some(topic)) => Topic::new(topic).ok(),
        (None, None) => fields.required("topic").and(None),
    };
    let before = problems.len();
    let texts = TEXTS.map(|key| fields.optional(key).and_then(|node| node.string(problems)));
    let classes = Priority::ALL.map(|class| (class.word(), class));
    let priority = fields.optional("priority").and_then(|node| node.one_of(&classes, problems));
    let mut texts_of = |key: &'static str| match fields.optional(key) {
        Some(Node { kind: Kind::String(text), .. }) => Some(vec![text.value.as_str()]),
        Some(node) => node.strings(problems),
        None => Some(Vec::new()),
    };
    let (residency, recipients) = (texts_of("residency"), texts_of("recipients"));
    let expires = match fields.optional("expires") {
        Some(node) => node.duration(std::time::Duration::ZERO..=std::time::Duration::MAX, problems).map(Some),
        None => Some(None),
    };
    let bytes = payload(&mut fields, decode, problems);
    fields.finish();
    let (topic, bytes, residency, expires) = (topic?, bytes?, residency?, expires?);
    let recipients: Vec<std::sync::Arc<str>> = recipients?.into_iter().map(Into::into).collect();
    if problems.len() > before {
        return None;
    }
    let [
        kind,
        schema,
        source,
        content,
        performative,
        key,
        classification,
        id,
        inreplyto,
        replyto,
        origin,
        origin_source,
    ] = texts;
    let parts = IdentityParts { domain: "test", bridge: "test", principal: "test", route: "test" };
    let (conversation, from) =
        (id.or(inreplyto).or(replyto).is_some() || !recipients.is_empty(), origin.or(origin_source).is_some());
    Some(Envelope {
        id: Identity::Native("test".into()).envelope_id(parts),
        source: source.unwrap_or("mesh://test/test/test").into(),
        kind: kind.unwrap_or("mesh/opaque@v1.0.0").into(),
        subject: topic,
        time: Timestamp::from_micros(0),
        expirytime: expires.map(|after| Timestamp::from_micros(0).plus(after)),
        datacontenttype: Some(content.map_or_else(|| decode.content_type().into(), Into::into)),
        dataschema: schema.map(Into::into),
        data: Data::Opaque(bytes),
        performative: performative.map(Into::into),
        partitionkey: key.map(Into::into),
        residency: residency.into_iter().map(Into::into).collect(),
        classification: classification.map(Into::into),
        hops: Vec::new(),
        trace: None,
        conversation: conversation.then(|| {
            let of = Conversation {
                id: id.map(Into::into),
                inreplyto: inreplyto.map(Into::into),
                recipients,
                replyto: replyto.map(Into::into),
                ..Conversation::default()
            };
            Box::new(of)
        }),
        origin: from.then(|| Box::new(Origin { id: origin.map(Into::into), source: origin_source.map(Into::into) })),
        priority,
    })
}
