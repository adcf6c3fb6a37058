//! Topic filters, with the wildcards of MQTT 5.0 section 4.7.

use std::{fmt, sync::Arc};

use super::{Topic, TopicError, check_shape};
use crate::Envelope;

/// Selects topics: `+` stands for one segment, a last `#` for any number of them, none included (`a/#` selects `a`).
/// A leading wildcard never selects a reserved topic (one that begins with `$`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter(Arc<str>);

/// What the topics of inboxes begin with; a principal's id follows.
pub const INBOX: &str = "$mesh/inbox/";

/// [`Filter::inbox`] of a filter as it is written.
pub fn inbox_of(filter: &str) -> Option<&str> {
    filter.strip_prefix(INBOX).filter(|id| !id.is_empty() && !id.contains(['/', '+', '#']))
}

// === impl Filter ===

impl Filter {
    /// Checks and takes a filter. Its bounds are a topic's.
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, TopicError> {
        check_shape(text.as_ref())?;
        let mut segments = text.as_ref().split('/').peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "+" => {}
                "#" if segments.peek().is_none() => {}
                _ => {
                    if let Some(wildcard) = segment.chars().find(|c| matches!(c, '+' | '#')) {
                        return Err(TopicError::Misplaced(wildcard));
                    }
                }
            }
        }
        Ok(Self(text.into()))
    }

    /// The whole filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments; at least one, none empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The principal whose inbox it is: it selects envelopes that name this one as a recipient, whatever their topic. A
    /// wildcard selects no inbox.
    pub fn inbox(&self) -> Option<&str> {
        inbox_of(&self.0)
    }

    /// Whether it selects an envelope: by its topic, or as the inbox of one of those whom it is for.
    pub fn selects(&self, envelope: &Envelope) -> bool {
        let is_for = |id: &str| envelope.recipients().iter().any(|recipient| **recipient == *id);
        self.matches(&envelope.subject) || self.inbox().is_some_and(is_for)
    }

    /// Whether it selects `topic`. For many filters at once see [`super::FilterTrie`].
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut segments = topic.segments();
        for pattern in self.segments() {
            match (pattern, segments.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (pattern, Some(segment)) if pattern == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Conversation, Data, EnvelopeId, Timestamp};

    fn selects(filter: &str, topic: &str) -> bool {
        Filter::new(filter).unwrap().matches(&Topic::new(topic).unwrap())
    }

    #[test]
    fn an_inbox_is_one_principals_and_selects_what_is_for_it() {
        for (filter, inbox) in [
            ("$mesh/inbox/ada", Some("ada")),
            ("$mesh/inbox/ada@plant.example", Some("ada@plant.example")),
            ("$mesh/inbox", None),
            ("$mesh/inbox/+", None),
            ("$mesh/inbox/#", None),
            ("$mesh/inbox/ada/x", None),
            ("$mesh/#", None),
            ("mesh/inbox/ada", None),
        ] {
            assert_eq!(Filter::new(filter).unwrap().inbox(), inbox, "{filter}");
        }
        let conversation = Conversation { recipients: vec!["bob".into(), "ada".into()], ..Conversation::default() };
        let (id, data) = (EnvelopeId::new(uuid::Uuid::nil()), Data::Opaque(bytes::Bytes::new()));
        let topic = Topic::new("market/offers").unwrap();
        let plain = Envelope::plain(id, "s".into(), "k".into(), topic, Timestamp::now(), data);
        let envelope = Envelope { conversation: Some(Box::new(conversation)), ..plain.clone() };
        let by = |filter: &str, envelope: &Envelope| Filter::new(filter).unwrap().selects(envelope);
        assert!(by("$mesh/inbox/ada", &envelope) && by("$mesh/inbox/bob", &envelope) && by("market/#", &envelope));
        assert!(!by("$mesh/inbox/eve", &envelope) && !by("$mesh/#", &envelope) && !by("$mesh/inbox/ad", &envelope));
        assert!(!by("$mesh/inbox/ada", &plain));
    }

    #[test]
    fn wildcards_select_as_in_mqtt() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", false),
            ("a/b", "a", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("+/+", "a/b", true),
            ("a/#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "ab", false),
            ("#", "a/b/c", true),
            ("+/b/#", "a/b", true),
            ("sport/+/player1", "sport/tennis/player1", true),
            ("#", "$mesh/audit", false),
            ("+/audit", "$mesh/audit", false),
            ("$mesh/#", "$mesh/audit", true),
        ] {
            assert_eq!(selects(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn a_wildcard_stands_alone() {
        assert_eq!(Filter::new("a+"), Err(TopicError::Misplaced('+')));
        assert_eq!(Filter::new("a/#/b"), Err(TopicError::Misplaced('#')));
        assert_eq!(Filter::new("a/b#"), Err(TopicError::Misplaced('#')));
        assert_eq!(Filter::new("a//#"), Err(TopicError::EmptySegment(2)));
    }
}
