//! The `tests:` of a mapping file, run through the same path as live messages.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use envelope::{
    Headers, Identity, Inbound, Lane, MapResult, Mapped, Mapper, Principal, RejectKind, Rejection, json::write_string,
};
use yaml::{Fields, Kind, Node, Problems};

use crate::{
    Mappings, Outcome, TestResult,
    codec::Codec,
    compare::{self, Differences},
    file::{Action, Mapping},
};

/// One test, as the file says it.
#[derive(Debug)]
pub(crate) struct FileTest {
    name: String,
    line: usize,
    given: Given,
    expect: Expect,
}

#[derive(Debug)]
struct Given {
    address: Arc<str>,
    payload: Bytes,
    headers: Headers,
    principal: Option<String>,
}

#[derive(Debug)]
enum Expect {
    Envelope(Expected),
    /// A kind, or a part of what the sender is told.
    Rejected(String),
    Filtered,
}

#[derive(Debug, Default)]
struct Expected {
    /// Attribute and value, in the order of [`ATTRIBUTES`].
    attributes: Vec<(&'static str, String)>,
    residency: Option<Vec<String>>,
    data: Option<Node>,
}

const ATTRIBUTES: [&str; 7] =
    ["topic", "performative", "key", "type", "classification", "datacontenttype", "dataschema"];

// === impl FileTest ===

impl FileTest {
    /// Reports everything that is wrong with any of them.
    pub(crate) fn read_all(node: &Node, decode: Codec, problems: &Problems) -> Option<Vec<Self>> {
        let read: Vec<_> = node.list(problems)?.iter().map(|node| Self::read(node, decode, problems)).collect();
        read.into_iter().collect()
    }

    fn read(node: &Node, decode: Codec, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let name = fields.required("name").and_then(|node| node.non_empty(problems));
        let given = fields.required("given").and_then(|node| Given::read(node, decode, problems));
        let expect = fields.required("expect").and_then(|node| Expect::read(node, problems));
        fields.finish();
        let (line, _) = problems.source().line_and_column(node.span.start);
        Some(Self { name: name?.to_owned(), line, given: given?, expect: expect? })
    }

    fn run(&self, mappings: &Mappings, mapping: &Mapping) -> Outcome {
        let got = mappings.map(self.given.inbound(mappings, mapping));
        let mut found = Differences::default();
        match (&self.expect, conforming(got, mapping)) {
            (_, MapResult::Mapped(Mapped { route, .. }) | MapResult::Filtered(route)) if route != mapping.route => {
                found.add("mapping", format!("{:?}", mapping.route.name()), format!("taken by {:?}", route.name()));
            }
            (Expect::Envelope(expected), MapResult::Mapped(mapped)) => expected.compare(&mapped, &mut found),
            (Expect::Filtered, MapResult::Filtered(_)) => {}
            (Expect::Rejected(what), MapResult::Refused(_, rejection)) => {
                if rejection.kind.as_str() != what && !rejection.to_string().contains(what.as_str()) {
                    found.add("rejected", format!("{what:?}"), rejection.to_string());
                }
            }
            (expected, got) => found.add("outcome", expected.to_string(), outcome(&got)),
        }
        found.outcome()
    }
}

/// A live message meets the envelope's schema in policy; here it does at once.
fn conforming(got: MapResult, mapping: &Mapping) -> MapResult {
    let (MapResult::Mapped(mapped), Action::Envelope(plan)) = (&got, &mapping.action) else { return got };
    let (Some(schema), Some(envelope)) = (&plan.schema, mapped.group.as_slice().first()) else { return got };
    let malformed = |detail: String| Rejection::new(RejectKind::Malformed, "conformance", detail);
    let rejection = match envelope.data.json() {
        Err(error) => malformed(format!("data is {error}")),
        Ok(json) => match schema.check(&json) {
            Ok(()) => return got,
            Err(violation) => malformed(format!("data: {}", violation.detail)).at(violation.pointer),
        },
    };
    MapResult::Refused(Some(mapping.route.clone()), rejection)
}

fn outcome(got: &MapResult) -> String {
    match got {
        MapResult::Mapped(_) => "an envelope".to_owned(),
        MapResult::Filtered(_) => "filtered".to_owned(),
        MapResult::Refused(_, rejection) => format!("rejected: {rejection}"),
    }
}

// === impl Given ===

impl Given {
    fn read(node: &Node, decode: Codec, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let address = fields.required("address").and_then(|node| node.string(problems));
        let payload = match (fields.entry("payload"), fields.entry("text")) {
            (Some((key, _)), Some(_)) => {
                problems.report(key.span, "contradiction", "either \"payload\" or \"text\"");
                None
            }
            (Some((key, _)), None) if decode != Codec::Json => {
                problems.report(
                    key.span,
                    "contradiction",
                    "\"payload\" is JSON; what is not decoded as json is \"text\"",
                );
                None
            }
            (Some((_, node)), None) => Some(json(node)),
            (None, Some((_, node))) => node.string(problems).map(|text| Bytes::copy_from_slice(text.as_bytes())),
            (None, None) => Some(Bytes::new()),
        };
        let headers = match fields.optional("headers") {
            Some(node) => headers(node, problems),
            None => Some(Vec::new()),
        };
        let principal = match fields.optional("principal") {
            Some(node) => node.non_empty(problems).map(|id| Some(id.to_owned())),
            None => Some(None),
        };
        fields.finish();
        Some(Self { address: address?.into(), payload: payload?, headers: headers?.into(), principal: principal? })
    }

    /// At the Unix epoch, so that `now` is the same in each run.
    fn inbound(&self, mappings: &Mappings, mapping: &Mapping) -> Inbound {
        let anonymous = Principal::anonymous(&mappings.domain);
        let principal = match &self.principal {
            Some(id) => Principal { id: id.as_str().into(), ..anonymous },
            None => anonymous,
        };
        Inbound {
            bridge: (&*mapping.from.bridge).into(),
            address: self.address.clone(),
            headers: self.headers.clone(),
            payload: self.payload.clone(),
            lane: Lane(0),
            identity: Identity::fresh(),
            principal: Arc::new(principal),
            peer: None,
            trace: None,
            received_at: SystemTime::UNIX_EPOCH,
        }
    }
}

fn headers(node: &Node, problems: &Problems) -> Option<Vec<(String, Bytes)>> {
    let entries = node.map(problems)?.iter();
    let read = entries.map(|(name, value)| {
        let value = value.string(problems)?;
        Some((name.name.to_ascii_lowercase(), Bytes::copy_from_slice(value.as_bytes())))
    });
    let read: Vec<_> = read.collect();
    read.into_iter().collect()
}

/// The value as JSON, numbers as the file writes them.
fn json(node: &Node) -> Bytes {
    let mut out = Vec::new();
    write_json(node, &mut out);
    out.into()
}

pub(crate) fn write_json(node: &Node, out: &mut Vec<u8>) {
    match &node.kind {
        Kind::Null => out.extend_from_slice(b"null"),
        Kind::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Kind::Integer(_, text) | Kind::Float(_, text) => out.extend_from_slice(text.as_bytes()),
        Kind::String(text) => write_string(out, &text.value),
        Kind::List(items) => {
            out.push(b'[');
            for (n, item) in items.iter().enumerate() {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                write_json(item, out);
            }
            out.push(b']');
        }
        Kind::Map(entries) => {
            out.push(b'{');
            for (n, (key, value)) in entries.iter().enumerate() {
                out.extend_from_slice(if n > 0 { b"," } else { b"" });
                write_string(out, &key.name);
                out.push(b':');
                write_json(value, out);
            }
            out.push(b'}');
        }
    }
}

// === impl Expect ===

impl Expect {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let alone = node.map(problems)?.len() == 1;
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
        let mut expected = Expected::default();
        let mut sound = true;
        for attribute in ATTRIBUTES {
            if let Some(node) = fields.optional(attribute) {
                match node.string(problems) {
                    Some(text) => expected.attributes.push((attribute, text.to_owned())),
                    None => sound = false,
                }
            }
        }
        if let Some(node) = fields.optional("residency") {
            expected.residency = match &node.kind {
                Kind::String(text) => Some(vec![text.value.clone()]),
                _ => node.strings(problems).map(|all| all.into_iter().map(str::to_owned).collect()),
            };
            sound &= expected.residency.is_some();
        }
        if let Some(node) = fields.optional("data") {
            sound &= compare::check(node, problems);
            expected.data = Some(node.clone());
        }
        fields.finish();
        match other? {
            Some(other) => Some(other),
            None => sound.then_some(Self::Envelope(expected)),
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Envelope(_) => f.write_str("an envelope"),
            Self::Rejected(what) => write!(f, "rejected: {what}"),
            Self::Filtered => f.write_str("filtered"),
        }
    }
}

// === impl Expected ===

impl Expected {
    fn compare(&self, mapped: &Mapped, found: &mut Differences) {
        let Some(envelope) = mapped.group.as_slice().first() else { return };
        for (attribute, expected) in &self.attributes {
            let got = match *attribute {
                "topic" => Some(envelope.subject.as_str()),
                "performative" => envelope.performative.as_deref(),
                "key" => envelope.partitionkey.as_deref(),
                "type" => Some(&*envelope.kind),
                "classification" => envelope.classification.as_deref(),
                "datacontenttype" => envelope.datacontenttype.as_deref(),
                _ => envelope.dataschema.as_deref(),
            };
            if got != Some(expected) {
                found.add(attribute, format!("{expected:?}"), got.map_or("nothing".into(), |got| format!("{got:?}")));
            }
        }
        if let Some(expected) = &self.residency
            && !expected.iter().map(String::as_str).eq(envelope.residency.iter().map(|label| &**label))
        {
            found.add("residency", format!("{expected:?}"), format!("{:?}", envelope.residency));
        }
        if let Some(expected) = &self.data {
            compare::data(expected, envelope, found);
        }
    }
}

// === impl Mappings ===

impl Mappings {
    /// Runs the tests in the files, in their order, through the same path as live messages and then the envelope's
    /// schema. Time stands at the Unix epoch, the principal is anonymous unless the test names one.
    pub fn run_tests(&self) -> Vec<TestResult> {
        let tests = self.all.iter().flat_map(|mapping| mapping.tests.iter().map(move |test| (mapping, test)));
        tests
            .map(|(mapping, test)| TestResult {
                file: mapping.path.to_string(),
                mapping: mapping.route.name().to_owned(),
                name: test.name.clone(),
                line: test.line,
                outcome: test.run(self, mapping),
            })
            .collect()
    }
}
