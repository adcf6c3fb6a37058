//! The `tests:` of a mapping file, run through the same path as live messages.

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use envelope::{
    Envelope, EnvelopeId, Group, Headers, Identity, Inbound, Lane, MapResult, Mapped, Mapper, Principal, Receipt,
    RejectKind, Rejection, Settled, Timestamp,
};
use schema::Schema;
use yaml::{Fields, Node, Problems};

use crate::{
    Mappings, Outcome, TestResult,
    codec::{Charset, Codec},
    compare::{Differences, write_json},
    expect::Expect,
    expect_message::ExpectedMessage,
    file::{Action, Mapping},
    given,
};

/// One test, as the file says it.
#[derive(Debug)]
pub(crate) struct FileTest {
    name: String,
    line: usize,
    given: Given,
    expect: Expect,
    /// What the sender is told.
    reply: Option<ExpectedMessage>,
}

#[derive(Debug)]
struct Given {
    address: Arc<str>,
    payload: Bytes,
    headers: Headers,
    principal: Option<String>,
    /// What answers it.
    answer: Option<Box<Envelope>>,
}

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
        let reply = match fields.optional("expect").and_then(|node| node.get("reply")) {
            Some(node) => ExpectedMessage::reply(node, problems).map(Some),
            None => Some(None),
        };
        fields.finish();
        let (line, _) = problems.source().line_and_column(node.span.start);
        Some(Self { name: name?.to_owned(), line, given: given?, expect: expect?, reply: reply? })
    }

    /// What it gives.
    pub(crate) fn payload(&self) -> &Bytes {
        &self.given.payload
    }

    /// The headers it gives.
    pub(crate) fn headers(&self) -> &Headers {
        &self.given.headers
    }

    /// What becomes of it.
    pub(crate) fn made(&self, mappings: &Mappings, mapping: &Mapping) -> MapResult {
        mappings.dry_run(self.given.inbound(mappings, mapping))
    }

    fn run(&self, mappings: &Mappings, mapping: &Mapping) -> Outcome {
        let got = self.made(mappings, mapping);
        let mut found = Differences::default();
        if let Some(expected) = &self.reply {
            self.compare_reply(expected, &got, mapping, &mut found);
        }
        match (&self.expect, got) {
            (_, MapResult::Mapped(Mapped { route, .. }) | MapResult::Filtered(route)) if route != mapping.route => {
                found.add("mapping", format!("{:?}", mapping.route.name()), format!("taken by {:?}", route.name()));
            }
            (Expect::Envelope(expected), MapResult::Mapped(Mapped { group: Group::One(envelope), identity, .. })) => {
                expected.compare(&envelope, &identity, "", &mut found);
            }
            (Expect::Items(expected), MapResult::Mapped(Mapped { group: Group::Many(items), identity, .. }))
                if expected.len() == items.len() =>
            {
                for (number, (expected, envelope)) in expected.iter().zip(&items).enumerate() {
                    expected.compare(envelope, &identity, &format!("items[{number}]."), &mut found);
                }
            }
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

impl FileTest {
    fn compare_reply(&self, expected: &ExpectedMessage, got: &MapResult, mapping: &Mapping, found: &mut Differences) {
        let now = Timestamp::from_micros(0);
        let made = match (&mapping.terms.reply, &self.given.answer, got) {
            (None, ..) => Ok(None),
            (Some(reply), Some(answer), MapResult::Mapped(_)) => reply.answered(answer, now),
            (Some(reply), None, MapResult::Mapped(mapped)) => match mapped.group.as_slice().first() {
                Some(first) => reply.accepted(&receipt(first.id), now),
                None => Ok(None),
            },
            (Some(reply), _, MapResult::Refused(_, rejection)) => reply.refused(rejection, now),
            (Some(_), _, MapResult::Filtered(_)) => Ok(None),
        };
        match made {
            Ok(Some(reply)) => expected.compare_reply(&reply, found),
            Ok(None) => found.add("reply", "one".to_owned(), "the bridge's own words".to_owned()),
            Err(rejection) => found.add("reply", "one".to_owned(), rejection.to_string()),
        }
    }
}

fn receipt(id: EnvelopeId) -> Receipt {
    Receipt { id, position: None, duplicate: false, settled: Settled::Now, reply: None }
}

/// A live message meets the envelope's schema in policy; here it does at once.
fn conforming(got: MapResult, mappings: &Mappings) -> MapResult {
    let MapResult::Mapped(mapped) = &got else { return got };
    let plans = mappings.all.iter().filter(|mapping| mapping.route == mapped.route);
    let schema = plans.filter_map(|mapping| match &mapping.action {
        Action::Envelope(plan) => plan.schema.as_ref(),
        Action::Drop => None,
    });
    let refused = schema.into_iter().flat_map(|schema| mapped.group.as_slice().iter().map(move |of| held(schema, of)));
    match refused.filter_map(Result::err).next() {
        Some(rejection) => MapResult::Refused(Some(mapped.route.clone()), rejection),
        None => got,
    }
}

fn held(schema: &Schema, envelope: &Envelope) -> Result<(), Rejection> {
    let item = envelope.id.item_number().map(|item| format!("item {item}: ")).unwrap_or_default();
    let malformed = |detail: String| Rejection::new(RejectKind::Malformed, "conformance", format!("{item}{detail}"));
    let json = envelope.data.json().map_err(|error| malformed(format!("data is {error}")))?;
    schema.check(&json).map_err(|violation| malformed(format!("data: {}", violation.detail)).at(violation.pointer))
}

fn outcome(got: &MapResult) -> String {
    match got {
        MapResult::Mapped(Mapped { group: Group::One(_), .. }) => "an envelope".to_owned(),
        MapResult::Mapped(Mapped { group: Group::Many(items), .. }) => format!("{} items", items.len()),
        MapResult::Filtered(_) => "filtered".to_owned(),
        MapResult::Refused(_, rejection) => format!("rejected: {rejection}"),
    }
}

// === impl Given ===

impl Given {
    fn read(node: &Node, decode: Codec, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let address = fields.required("address").and_then(|node| node.string(problems));
        let payload = payload(&mut fields, decode, problems);
        let headers = match fields.optional("headers") {
            Some(node) => headers(node, problems),
            None => Some(Vec::new()),
        };
        let principal = match fields.optional("principal") {
            Some(node) => node.non_empty(problems).map(|id| Some(id.to_owned())),
            None => Some(None),
        };
        let answer = match fields.optional("answer") {
            Some(node) => given::envelope(node, Some("answers"), Codec::Json, problems).map(|of| Some(Box::new(of))),
            None => Some(None),
        };
        fields.finish();
        let (address, headers) = (address?.into(), headers?.into());
        Some(Self { address, payload: payload?, headers, principal: principal?, answer: answer? })
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
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::UNIX_EPOCH,
        }
    }
}

/// `payload` is a value of JSON, `text` is written in the declared charset, `base64` is any bytes.
pub(crate) fn payload(fields: &mut Fields<'_, '_>, decode: Codec, problems: &Problems) -> Option<Bytes> {
    let given = ["payload", "text", "base64"].map(|key| fields.entry(key));
    let mut all = given.into_iter().flatten();
    let Some((key, node)) = all.next() else { return Some(Bytes::new()) };
    if let Some((second, _)) = all.next() {
        let message = format!("either {:?} or {:?}", key.name, second.name);
        problems.report(second.span, "contradiction", message);
        return None;
    }
    match key.name.as_str() {
        "payload" if decode == Codec::Json => Some(json(node)),
        "payload" => {
            let message = "\"payload\" is JSON; what is not decoded as json is \"text\" or \"base64\"";
            problems.report(key.span, "contradiction", message);
            None
        }
        "text" => {
            let charset = decode.charset().unwrap_or(Charset::Utf8);
            match charset.encode(node.string(problems)?) {
                Some(bytes) => Some(bytes.into()),
                None => node.mismatch(&format!("text that {charset} has"), problems),
            }
        }
        _ => match BASE64_STANDARD.decode(node.string(problems)?) {
            Ok(bytes) => Some(bytes.into()),
            Err(_) => node.mismatch("base64 with padding", problems),
        },
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

fn json(node: &Node) -> Bytes {
    let mut out = Vec::new();
    write_json(node, &mut out);
    out.into()
}

// === impl Mappings ===

impl Mappings {
    /// What live traffic would hear, but for policy: maps a message, and then holds it to the envelope's schema.
    pub fn dry_run(&self, inbound: Inbound) -> MapResult {
        conforming(self.map(inbound), self)
    }

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
            .chain(self.run_egress_tests())
            .collect()
    }
}
