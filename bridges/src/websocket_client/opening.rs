//! What is said on a new connection before anything else, and what the feed has to answer. No I/O.

use envelope::{Json, json::Node};
use yaml::{Fields, Kind, Node as Yaml, Problems, Resolve, Secret};

/// A place in a JSON document: a JSON Pointer (RFC 6901) that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pointer(Box<str>);

/// A message to the feed, and what its answer has.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// What is said; it may hold a password.
    send: Secret,
    /// Members of the answer with their values. Without any, nothing is waited for.
    expect: Vec<(Pointer, Scalar)>,
}

/// A value that an answer has to have.
#[derive(Debug, Clone, PartialEq)]
enum Scalar {
    Null,
    Bool(bool),
    Number(f64),
    Text(Box<str>),
}

/// The longest message to a feed, in bytes.
const MAX_SEND: usize = 65_536;
/// The most members that are looked at.
const MAX_EXPECT: usize = 16;
/// Where the last number stands in what is said to go on behind it.
pub(super) const SEQUENCE: &str = "{sequence}";

// === impl Pointer ===

impl Pointer {
    pub(super) fn read(node: &Yaml, problems: &Problems) -> Option<Self> {
        Self::parse(node.string(problems)?, node, problems)
    }

    fn parse(text: &str, at: &Yaml, problems: &Problems) -> Option<Self> {
        if text.starts_with('/') && text.len() <= 256 {
            return Some(Self(text.into()));
        }
        let message = format!("{text:?} is no JSON Pointer such as /data/sequence, of at most 256 bytes");
        problems.report(at.span, "bad-pointer", message);
        None
    }

    pub(super) fn of<'j>(&self, json: &'j Json) -> Option<Node<'j>> {
        json.root().at(&self.0)
    }
}

// === impl Step ===

impl Step {
    /// Reads `{ send: TEXT, expect: { /POINTER: VALUE } }`, or the text alone.
    pub(super) fn read(node: &Yaml, resolve: &Resolve<'_>, problems: &Problems) -> Option<Self> {
        if matches!(node.kind, Kind::String(_)) {
            return Some(Self { send: send(node, resolve, problems)?, expect: Vec::new() });
        }
        let mut fields = Fields::of(node, problems)?;
        let send = fields.required("send").and_then(|node| send(node, resolve, problems));
        let expect = match fields.optional("expect") {
            Some(node) => expect(node, problems),
            None => Some(Vec::new()),
        };
        fields.finish();
        Some(Self { send: send?, expect: expect? })
    }

    /// Whether the text says where to go on.
    pub(super) fn goes_on(&self) -> bool {
        self.send.expose().contains(SEQUENCE)
    }

    /// What to say, to go on behind `last` where it says so.
    pub(super) fn text(&self, last: Option<u64>) -> String {
        match last {
            Some(last) => self.send.expose().replace(SEQUENCE, &last.to_string()),
            None => self.send.expose().to_owned(),
        }
    }

    /// Whether there is an answer to wait for.
    pub(super) fn waits(&self) -> bool {
        !self.expect.is_empty()
    }

    /// Whether this is the answer.
    pub(super) fn is_answered_by(&self, json: &Json) -> bool {
        self.expect.iter().all(|(pointer, value)| pointer.of(json).is_some_and(|node| value.is(node)))
    }
}

// === impl Scalar ===

impl Scalar {
    fn read(node: &Yaml, problems: &Problems) -> Option<Self> {
        match &node.kind {
            Kind::Null => Some(Self::Null),
            Kind::Bool(value) => Some(Self::Bool(*value)),
            Kind::Integer(_, text) | Kind::Float(_, text) => text.parse().ok().map(Self::Number),
            Kind::String(text) => Some(Self::Text(text.value.as_str().into())),
            Kind::List(_) | Kind::Map(_) => node.mismatch("a text, a number, true, false or null", problems),
        }
    }

    fn is(&self, node: Node<'_>) -> bool {
        match self {
            Self::Null => node.is_null(),
            Self::Bool(value) => node.as_bool() == Some(*value),
            Self::Number(value) => node.as_number().is_some_and(|text| text.parse() == Ok(*value)),
            Self::Text(value) => node.as_str() == Some(value),
        }
    }
}

fn send(node: &Yaml, resolve: &Resolve<'_>, problems: &Problems) -> Option<Secret> {
    let text = node.secret(resolve, problems)?;
    if text.expose().len() <= MAX_SEND {
        return Some(text);
    }
    let message = format!("what is sent has at most {MAX_SEND} bytes, this has {}", text.expose().len());
    problems.report(node.span, "out-of-range", message);
    None
}

fn expect(node: &Yaml, problems: &Problems) -> Option<Vec<(Pointer, Scalar)>> {
    let members = node.map(problems)?;
    if members.is_empty() || members.len() > MAX_EXPECT {
        problems.report(node.span, "out-of-range", format!("1 to {MAX_EXPECT} members, this has {}", members.len()));
        return None;
    }
    let read: Vec<_> = members
        .iter()
        .map(|(key, value)| {
            let pointer = Pointer::parse(&key.name, value, problems);
            let value = Scalar::read(value, problems);
            Some((pointer?, value?))
        })
        .collect();
    read.into_iter().collect()
}
