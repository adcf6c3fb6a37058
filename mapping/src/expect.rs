//! The `expect:` of a test in a mapping file.

use envelope::{Envelope, Identity, Priority};
use yaml::{Fields, Kind, Node, Problems};

use crate::compare::{self, Differences};

/// What a test expects.
#[derive(Debug)]
pub(crate) enum Expect {
    Envelope(Expected),
    /// What `each` makes, in order.
    Items(Vec<Expected>),
    /// A kind, or a part of what the sender is told.
    Rejected(String),
    Filtered,
}

/// What a test expects of the envelope; what it does not name may be anything.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Attribute and value, in the order of [`ATTRIBUTES`].
    attributes: Vec<(&'static str, String)>,
    residency: Option<Vec<String>>,
    recipients: Option<Vec<String>>,
    /// What the file's `identity` gives.
    identity: Option<String>,
    data: Option<Node>,
}

const ATTRIBUTES: [&str; 12] = [
    "topic",
    "performative",
    "priority",
    "key",
    "type",
    "classification",
    "datacontenttype",
    "dataschema",
    "conversation",
    "inreplyto",
    "originid",
    "originsource",
];

// === impl Expect ===

impl Expect {
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        // what the sender is told beside it is read by who runs the test
        let reply = fields.entry("reply").is_some();
        let alone = node.map(problems)?.len() == 1 + usize::from(reply);
        if let Some((key, node)) = fields.entry("items") {
            if !alone {
                problems.report(key.span, "contradiction", "\"items\" stands alone: each item says what it is");
            }
            fields.finish();
            let items: Vec<_> = node.list(problems)?.iter().map(|item| Expected::read(item, problems)).collect();
            return items.into_iter().collect::<Option<Vec<_>>>().filter(|_| alone).map(Self::Items);
        }
        let other = match (fields.entry("rejected"), fields.entry("filtered")) {
            (Some((key, _)), _) | (None, Some((key, _))) if !alone => {
                let message = format!("{:?} stands alone: there is no envelope then", key.name);
                problems.report(key.span, "contradiction", message);
                None
            }
            (Some((_, node)), _) => node.non_empty(problems).map(|what| Some(Self::Rejected(what.to_owned()))),
            (None, Some((_, node))) => match node.bool(problems) {
                Some(true) => Some(Some(Self::Filtered)),
                Some(false) => node.mismatch("true, or no such key", problems),
                None => None,
            },
            (None, None) => Some(None),
        };
        let expected = Expected::of(&mut fields, problems);
        fields.finish();
        match other? {
            Some(other) => Some(other),
            None => expected.map(Self::Envelope),
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Items(items) => write!(f, "{} items", items.len()),
            Self::Envelope(_) => f.write_str("an envelope"),
            Self::Rejected(what) => write!(f, "rejected: {what}"),
            Self::Filtered => f.write_str("filtered"),
        }
    }
}

// === impl Expected ===

impl Expected {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let expected = Self::of(&mut fields, problems);
        fields.finish();
        expected
    }

    fn of(fields: &mut Fields<'_, '_>, problems: &Problems) -> Option<Self> {
        let mut expected = Self::default();
        let mut sound = true;
        for attribute in ATTRIBUTES {
            if let Some(node) = fields.optional(attribute) {
                match node.string(problems) {
                    Some(text) => expected.attributes.push((attribute, text.to_owned())),
                    None => sound = false,
                }
            }
        }
        let lists = [("residency", &mut expected.residency), ("recipients", &mut expected.recipients)];
        for (key, expected) in lists {
            let Some(node) = fields.optional(key) else { continue };
            *expected = match &node.kind {
                Kind::String(text) => Some(vec![text.value.clone()]),
                _ => node.strings(problems).map(|all| all.into_iter().map(str::to_owned).collect()),
            };
            sound &= expected.is_some();
        }
        if let Some(node) = fields.optional("identity") {
            expected.identity = node.string(problems).map(str::to_owned);
            sound &= expected.identity.is_some();
        }
        if let Some(node) = fields.optional("data") {
            sound &= compare::check(node, problems);
            expected.data = Some(node.clone());
        }
        sound.then_some(expected)
    }

    /// `path` stands before the name of whatever differs.
    pub(crate) fn compare(&self, envelope: &Envelope, identity: &Identity, path: &str, found: &mut Differences) {
        let (conversation, origin) = (envelope.conversation.as_deref(), envelope.origin.as_deref());
        for (attribute, expected) in &self.attributes {
            let got = match *attribute {
                "topic" => Some(envelope.subject.as_str()),
                "performative" => envelope.performative.as_deref(),
                "priority" => envelope.priority.map(Priority::word),
                "key" => envelope.partitionkey.as_deref(),
                "type" => Some(&*envelope.kind),
                "classification" => envelope.classification.as_deref(),
                "datacontenttype" => envelope.datacontenttype.as_deref(),
                "conversation" => conversation.and_then(|of| of.id.as_deref()),
                "inreplyto" => conversation.and_then(|of| of.inreplyto.as_deref()),
                "originid" => origin.and_then(|of| of.id.as_deref()),
                "originsource" => origin.and_then(|of| of.source.as_deref()),
                _ => envelope.dataschema.as_deref(),
            };
            if got != Some(expected) {
                found.add(
                    &format!("{path}{attribute}"),
                    format!("{expected:?}"),
                    got.map_or("nothing".into(), |got| format!("{got:?}")),
                );
            }
        }
        let recipients = conversation.map_or(&[][..], |of| &of.recipients);
        let lists =
            [("residency", &self.residency, &envelope.residency[..]), ("recipients", &self.recipients, recipients)];
        for (name, expected, got) in lists {
            if let Some(expected) = expected
                && !expected.iter().map(String::as_str).eq(got.iter().map(|text| &**text))
            {
                found.add(&format!("{path}{name}"), format!("{expected:?}"), format!("{got:?}"));
            }
        }
        if let Some(expected) = &self.identity
            && !matches!(identity, Identity::Native(native) if **native == *expected.as_bytes())
        {
            found.add(&format!("{path}identity"), format!("{expected:?}"), format!("{identity:?}"));
        }
        if let Some(expected) = &self.data {
            compare::data(expected, envelope, &format!("{path}data"), found);
        }
    }
}
