//! A dead letter as it is shown: with its data only to whoever asks for that one.

use backbone::{DeadContent, DeadLetter};
use base64::{Engine, prelude::BASE64_STANDARD};
use bridges::http::CloudEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A message that nobody got.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    /// Its number.
    id: u64,
    /// When it was given up.
    #[schema(format = DateTime)]
    at: String,
    /// Why: a word from a closed list.
    kind: &'static str,
    /// Why, for people.
    detail: String,
    /// The bridge it came through.
    bridge: String,
    /// The mapping that took it.
    mapping: String,
    /// Who sent it.
    principal: String,
    /// Bytes of it.
    bytes: u64,
    #[serde(flatten)]
    content: Content,
}

/// What it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "what", rename_all = "kebab-case")]
enum Content {
    /// An envelope that a durable subscription could not deliver.
    Envelope {
        /// The subscription's name.
        subscription: String,
        /// Where it is, or was, in the log.
        sequence: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        topic: Option<String>,
        /// As it is stored, digit for digit; in a list it is left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = CloudEvent, required = false)]
        envelope: Option<Box<RawValue>>,
    },
    /// A message as its protocol brought it.
    Message {
        /// The protocol's own address.
        address: String,
        /// The protocol's name for it, in base64; empty if it has none.
        identity: String,
        /// What was sent; in a list it is left out.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        payload_base64: Option<String>,
    },
    /// A message that may be kept nowhere.
    Withheld {
        /// The protocol's own address.
        address: String,
        /// The protocol's name for it, in base64; empty if it has none.
        identity: String,
        /// Of the payload.
        #[schema(pattern = "^[0-9a-f]{64}$")]
        sha256: String,
    },
}

/// A page of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Letters {
    letters: Vec<Shown>,
    /// Behind which number the next page begins.
    next: Option<u64>,
}

/// As CloudEvents JSON, digit for digit.
pub(super) fn cloud_event(envelope: &envelope::Envelope) -> Option<Box<RawValue>> {
    let mut text = Vec::new();
    envelope::cloudevents::write_json(envelope, &mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}

// === impl Shown ===

impl Shown {
    /// With its data, if it is to be `whole`.
    pub(super) fn of(letter: &DeadLetter, whole: bool) -> Self {
        let DeadLetter { id, at, kind, detail, bridge, mapping, principal, content } = letter;
        let (bytes, content) = Content::of(content, whole);
        Self {
            id: *id,
            at: at.to_string(),
            kind: kind.as_str(),
            detail: detail.clone(),
            bridge: bridge.to_string(),
            mapping: mapping.to_string(),
            principal: principal.to_string(),
            bytes,
            content,
        }
    }
}

// === impl Content ===

impl Content {
    /// And the bytes of it.
    fn of(content: &DeadContent, whole: bool) -> (u64, Self) {
        match content {
            DeadContent::Envelope { subscription, sequence, envelope, record } => {
                let shown = Self::Envelope {
                    subscription: subscription.to_string(),
                    sequence: *sequence,
                    topic: envelope.as_ref().map(|envelope| envelope.subject.as_str().to_owned()),
                    envelope: envelope.as_ref().filter(|_| whole).and_then(|envelope| cloud_event(envelope)),
                };
                (record.len() as u64, shown)
            }
            DeadContent::Inbound { address, identity, payload } => {
                let shown = Self::Message {
                    address: address.to_string(),
                    identity: BASE64_STANDARD.encode(identity),
                    payload_base64: whole.then(|| BASE64_STANDARD.encode(payload)),
                };
                (payload.len() as u64, shown)
            }
            DeadContent::Withheld { address, identity, size, hash } => {
                let shown = Self::Withheld {
                    address: address.to_string(),
                    identity: BASE64_STANDARD.encode(identity),
                    sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                };
                (*size, shown)
            }
        }
    }
}

// === impl Letters ===

impl Letters {
    pub(super) fn of(letters: &[DeadLetter]) -> Self {
        let next = letters.last().map(|last| last.id);
        Self { letters: letters.iter().map(|letter| Shown::of(letter, false)).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use envelope::{RejectKind, Timestamp};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_letter_has_its_data_only_where_it_is_asked_for() {
        let content = DeadContent::Inbound {
            address: "POST /a".into(),
            identity: Bytes::new(),
            payload: Bytes::from_static(b"secret"),
        };
        let letter = DeadLetter {
            id: 7,
            at: Timestamp::parse("2026-01-31T12:00:00Z").unwrap(),
            kind: RejectKind::Malformed,
            detail: "why".to_owned(),
            bridge: "web".into(),
            mapping: "m".into(),
            principal: "ada".into(),
            content,
        };
        let listed = serde_json::to_value(Letters::of(std::slice::from_ref(&letter))).unwrap();
        let expected = json!({ "id": 7, "at": "2026-01-31T12:00:00.000000Z", "kind": "malformed", "detail": "why",
            "bridge": "web", "mapping": "m", "principal": "ada", "bytes": 6, "what": "message", "address": "POST /a",
            "identity": "" });
        assert_eq!(listed, json!({ "letters": [expected], "next": 7 }));
        assert_eq!(serde_json::to_value(Shown::of(&letter, true)).unwrap()["payload_base64"], "c2VjcmV0");
    }
}
