//! A mapping file with `to`: envelopes of the mesh to messages of a bridge.
//!
//! It is a subscription of its own: every envelope that its filter selects is asked for, and sent if `when` lets it. What
//! is sent is made by `message`; who delivers it and settles is no business of this file.

use std::{
    cell::Cell,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use envelope::{
    Delivery, EgressMapper, Envelope, Filter, Lane, Outbound, Qos, RejectKind, Rejection, Route, Shown, Timestamp,
};
use schema::Schema;
use yaml::{Fields, Node, Problems, Span};

use crate::{
    Mappings,
    codec::Codec,
    egress_tests::EgressTest,
    expr::{About, Let, Names, OwnNames, Scope, ScopePayload, Subject},
    file::{Reader, name_of, version},
    keys::Keys,
    message::{Message, Untouched},
    plan::{Attribute, refusal},
    proof::{self, FieldProof, Given, Parts, Place},
    template::Template,
};

/// Keys that say nothing where a mapping sends.
const INGRESS_ONLY: [&str; 10] =
    ["order", "drop", "envelope", "ack", "ack_within", "keep", "store", "reply", "unproven", "keep_denied"];
/// The longest address that a message is sent to, in bytes.
const MAX_ADDRESS: usize = 2_048;
const SILENT: &str = "in a mapping that sends (\"to\")";

/// One such file, compiled.
#[derive(Debug)]
pub(crate) struct Egress {
    pub(crate) route: Route,
    pub(crate) path: Box<str>,
    pub(crate) filter: Filter,
    pub(crate) decode: Codec,
    pub(crate) schema: Option<Schema>,
    pub(crate) keys: Keys,
    pub(crate) to: To,
    pub(crate) tests: Vec<EgressTest>,
    /// What is known at load of each part of what it sends.
    pub(crate) proofs: Vec<FieldProof>,
    /// Where its name stands.
    pub(crate) name_at: Span,
    /// Whether the data must be decoded at all.
    reads_payload: bool,
    /// Whether it must be for the key alone.
    keys_read_payload: bool,
}

/// Where a mapping sends and what.
#[derive(Debug)]
pub(crate) struct To {
    pub(crate) bridge: Box<str>,
    /// As the file writes it.
    pub(crate) address: Box<str>,
    template: Template,
    fixed: Option<Arc<str>>,
    key: Option<Attribute>,
    qos: Option<Qos>,
    /// The peer is to keep it.
    retain: bool,
    /// Subscribers of the bridge see it at the address.
    pub(crate) shown: bool,
    /// What came by the bridge may go back to where it comes from.
    pub(crate) echo: bool,
    message: Message,
}

// === impl Egress ===

impl Egress {
    /// Reports everything that is wrong with the file.
    pub(crate) fn read(root: &Node, reader: Reader<'_>) -> Option<Self> {
        let problems = reader.problems;
        let mut fields = Fields::of(root, problems)?;
        for key in INGRESS_ONLY.into_iter().filter(|key| root.get(key).is_some()) {
            if let Some((found, _)) = fields.entry(key) {
                problems.report(found.span, "contradiction", format!("{key:?} says nothing {SILENT}"));
            }
        }
        let name = fields.required("mapping");
        let name_at = name.map(|node| node.span);
        let name = name.and_then(|node| name_of(node, problems));
        let from = fields.required("from").and_then(|node| FromTopic::read(node, reader));
        let decode = from.as_ref().map_or(Codec::Json, |from| from.decode);
        let plain = Names {
            payload: decode.payload_kind(),
            captures: Some(&[]),
            subject: Subject::Envelope,
            own: OwnNames::NONE,
            tables: reader.context.tables,
        };
        let (keys, lets) = Keys::read(&mut fields, plain, Some(SILENT), problems);
        let names = Names { own: OwnNames { lets: &lets, hidden: 0, item: false }, ..plain };
        let to = fields.required("to").and_then(|node| To::read(node, names, decode, reader));
        let tests = match fields.optional("tests") {
            Some(node) => EgressTest::read_all(node, decode, problems),
            None => Some(Vec::new()),
        };
        fields.finish();
        let (from, mut keys, mut to) = (from?, keys?, to?);
        let given = Given {
            payload: &proof::payload(from.decode, from.schema.as_ref()),
            schema: from.schema.as_ref(),
            when: root.get("when").map_or(root.span, |node| node.span),
            envelope: root.get("to").map_or(root.span, |node| node.span).first(),
            unproven: true,
        };
        let proofs =
            if problems.is_empty() { proof::prove_sent(given, &mut keys, &mut to, problems)? } else { Vec::new() };
        let reads_payload = from.schema.is_some() || to.reads_payload() || keys.read_payload();
        let keys_read_payload = keys.read_payload() || to.key.as_ref().is_some_and(Attribute::reads_payload);
        Some(Self {
            route: Route::new(name?, &version(problems.source().text())),
            path: problems.source().path().into(),
            filter: from.filter,
            decode: from.decode,
            schema: from.schema,
            keys,
            to,
            tests: tests?,
            proofs,
            name_at: name_at?,
            reads_payload,
            keys_read_payload,
        })
    }

    /// `None`: nothing is to be sent, because `when` is false.
    pub(crate) fn map(&self, envelope: &Envelope, lane: Lane, now: Timestamp) -> Result<Option<Outbound>, Rejection> {
        self.decoded(envelope, self.reads_payload, |payload| self.send(envelope, lane, now, payload))
    }

    /// What it is kept in order with: its key, where the file says one that can be had of it.
    fn lane(&self, delivery: &Delivery, now: Timestamp) -> Lane {
        let Some(key) = &self.to.key else { return delivery.lane };
        let envelope = &delivery.envelope;
        let read = self.decoded(envelope, self.keys_read_payload, |payload| {
            let steps = Cell::new(0);
            let scope = Scope { payload, now, about: About::Envelope(envelope), steps: Some(&steps), ..Scope::NOTHING };
            let lets = &self.keys.lets;
            Let::bind(&lets.all, &lets.once, &scope, &mut |scope| key.of(scope, &mut String::new()))
        });
        // what has no key is refused when it is mapped, in the lane that it has
        read.map_or(delivery.lane, |key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            Lane(hasher.finish())
        })
    }

    /// Decodes the data if it is read, holds it to the schema, and goes on with it.
    fn decoded<T>(
        &self,
        envelope: &Envelope,
        reads_payload: bool,
        next: impl FnOnce(ScopePayload<'_>) -> Result<T, Rejection>,
    ) -> Result<T, Rejection> {
        let (json, bytes);
        let decoded = match (reads_payload, self.decode) {
            (false, _) => ScopePayload::Bytes,
            (true, Codec::Json) => {
                json = envelope.data.json().map_err(|error| {
                    Rejection::new(RejectKind::Malformed, "mapping.from.decode", format!("data is {error}"))
                        .because(error)
                })?;
                self.check(&json)?;
                ScopePayload::Json(json.root())
            }
            (true, codec) => {
                bytes = envelope.data.bytes();
                return codec.decode(&bytes).and_then(|decoded| {
                    decoded.tree().map_or(Ok(()), |tree| self.check(tree))?;
                    next(decoded.scope())
                });
            }
        };
        next(decoded)
    }

    fn check(&self, json: &envelope::Json) -> Result<(), Rejection> {
        let Some(schema) = &self.schema else { return Ok(()) };
        schema.check(json).map_err(|violation| {
            let detail = format!("data: {}", violation.detail);
            Rejection::new(RejectKind::Malformed, "mapping.from.schema", detail).at(violation.pointer)
        })
    }

    fn send(
        &self,
        envelope: &Envelope,
        lane: Lane,
        now: Timestamp,
        payload: ScopePayload<'_>,
    ) -> Result<Option<Outbound>, Rejection> {
        let steps = Cell::new(0);
        let about = About::Envelope(envelope);
        let scope = Scope { payload, now, about, steps: Some(&steps), ..Scope::NOTHING };
        let lets = &self.keys.lets;
        if let Some(guard) = &self.keys.when {
            let holds = Let::bind(&lets.all, &guard.lets, &scope, &mut |scope| {
                guard.expr.test(scope).map_err(|fault| refusal("when", &guard.expr, *fault))
            })?;
            if !holds {
                return Ok(None);
            }
        }
        Let::bind(&lets.all, &lets.once, &scope, &mut |scope| self.to.outbound(scope, envelope, lane)).map(Some)
    }
}

// === from ===

/// What could be read of `from`.
#[derive(Debug)]
struct FromTopic {
    filter: Filter,
    decode: Codec,
    schema: Option<Schema>,
}

// === impl FromTopic ===

impl FromTopic {
    fn read(node: &Node, reader: Reader<'_>) -> Option<Self> {
        let problems = reader.problems;
        let mut fields = Fields::of(node, problems)?;
        for key in ["bridge", "address"].into_iter().filter(|key| node.get(key).is_some()) {
            if let Some((found, _)) = fields.entry(key) {
                let message = format!("{key:?} says nothing {SILENT}: it takes envelopes by their \"topic\"");
                problems.report(found.span, "contradiction", message);
            }
        }
        let filter = fields.required("topic").and_then(|node| {
            let text = node.non_empty(problems)?;
            match Filter::new(text) {
                Ok(filter) if !text.starts_with('$') => Some(filter),
                Ok(_) => {
                    problems.report(node.span, "topic", "a topic that begins with '$' is reserved");
                    None
                }
                Err(error) => {
                    problems.report(node.span, "topic", error.to_string());
                    None
                }
            }
        });
        let (decode, schema) = reader.decode_and_schema(&mut fields);
        fields.finish();
        Some(Self { filter: filter?, decode: decode?, schema: schema? })
    }
}

// === impl To ===

impl To {
    fn read(node: &Node, names: Names<'_>, decode: Codec, reader: Reader<'_>) -> Option<Self> {
        let problems = reader.problems;
        let mut fields = Fields::of(node, problems)?;
        let bridge = fields.required("bridge").and_then(|node| {
            let bridge = reader.bridge(node)?;
            if bridge.sends || bridge.shows {
                return Some(bridge);
            }
            let message = format!("bridge {:?} can't send", bridge.name);
            problems.report_with_help(
                node.span,
                "not-available",
                message,
                reader.able(|bridge| bridge.sends || bridge.shows),
            );
            None
        });
        let address = fields.required("address").and_then(|node| {
            let read = address(node, names, problems)?;
            let problem = bridge.and_then(|bridge| (bridge.sends_to.0)(&read.0).err());
            problem.iter().for_each(|problem| problems.report(node.span, "address", problem));
            problem.is_none().then_some(read)
        });
        let shown = bridge.is_some_and(|bridge| bridge.shows);
        for key in ["key", "retain", "echo"].into_iter().filter(|key| shown && node.get(key).is_some()) {
            if let Some((found, _)) = fields.entry(key) {
                let message = format!("{key:?} says nothing where subscribers see what there is: nothing is sent");
                problems.report(found.span, "contradiction", message);
            }
        }
        let key = match fields.optional("key") {
            Some(node) => Attribute::read(node, "to.key", names, problems).map(Some),
            None => Some(None),
        };
        let qos = match fields.optional("qos") {
            Some(node) => node.one_of(&QOS, problems).map(Some),
            None => Some(None),
        };
        let retain = fields.optional("retain").map_or(Some(false), |node| node.bool(problems));
        let echo = fields.optional("echo").map_or(Some(false), |node| node.bool(problems));
        let message = Message::read(&mut fields, "to", names, Some(decode), problems);
        fields.finish();
        let (text, template) = address?;
        Some(Self {
            bridge: bridge?.name.into(),
            address: text,
            fixed: template.literal().map(Into::into),
            template,
            key: key?,
            qos: qos?,
            retain: retain?,
            shown,
            echo: echo?,
            message: message?,
        })
    }

    /// What is known of each of its parts.
    pub(crate) fn prove(&mut self, parts: &mut Parts<'_>) {
        parts.text("to.address", &mut self.template, Place::Address);
        if let Some(key) = &mut self.key {
            parts.text("to.key", key.template_mut(), Place::Key);
        }
        self.message.prove("to", parts);
    }

    /// How surely it is to arrive, if the file says so.
    pub(crate) fn qos(&self) -> Option<Qos> {
        self.qos
    }

    /// The segments of its address, `None` where a value stands in one.
    pub(crate) fn segments(&self) -> Vec<Option<String>> {
        let shape = self.template.shape();
        shape.split('/').map(|part| (!part.contains(Template::ANY)).then(|| part.to_owned())).collect()
    }

    /// The format of what is sent.
    pub(crate) fn format(&self, data: Codec) -> Option<Codec> {
        self.message.format(data)
    }

    fn reads_payload(&self) -> bool {
        let key = self.key.as_ref().is_some_and(Attribute::reads_payload);
        key || self.template.reads_payload() || self.message.reads_payload()
    }

    fn outbound(&self, scope: &Scope<'_>, envelope: &Envelope, lane: Lane) -> Result<Outbound, Rejection> {
        let address = match &self.fixed {
            Some(fixed) => fixed.clone(),
            None => {
                let mut out = String::with_capacity(self.address.len() + 32);
                let written = self.template.write(scope, &mut out, part_of_address);
                written.map_err(|(expr, fault)| refusal("to.address", expr, *fault))?;
                if out.len() > MAX_ADDRESS {
                    let detail = format!("to.address: at most {MAX_ADDRESS} bytes, this has {}", out.len());
                    return Err(Rejection::new(RejectKind::Malformed, "mapping", detail));
                }
                out.into()
            }
        };
        let key = self.key.as_ref().map(|key| key.of(scope, &mut String::new())).transpose()?;
        let untouched = Untouched { data: &envelope.data, content_type: envelope.datacontenttype.as_deref() };
        let (headers, payload) = self.message.write(scope, Some(untouched))?;
        let (id, trace, hops) = (envelope.id, envelope.trace.clone(), envelope.hops.clone());
        let (qos, retain) = (self.qos, self.retain);
        Ok(Outbound { address, headers, payload, key, qos, retain, hops, id, trace, lane })
    }
}

pub(crate) const QOS: [(&str, Qos); 3] =
    [("at-most-once", Qos::AtMostOnce), ("at-least-once", Qos::AtLeastOnce), ("exactly-once", Qos::ExactlyOnce)];

fn address(node: &Node, names: Names<'_>, problems: &Problems) -> Option<(Box<str>, Template)> {
    let text = node.non_empty(problems)?;
    let template = Template::read(node, names, problems)?;
    let literal = template.literal().unwrap_or(text);
    if literal.len() > MAX_ADDRESS || literal.chars().any(char::is_control) {
        let message = format!("an address has at most {MAX_ADDRESS} bytes and no control characters");
        problems.report(node.span, "address", message);
        return None;
    }
    Some((text.into(), template))
}

/// Characters that are no part of a name in any address.
pub(crate) fn is_special(c: char) -> bool {
    c.is_control() || c.is_whitespace() || "/\\?#&=%+@:;,".contains(c)
}

/// What an envelope puts into an address is a part of it: who sent the envelope chooses a value, never where it goes.
fn part_of_address(value: &str) -> Result<(), String> {
    match value.chars().find(|c| is_special(*c)) {
        Some(c) => Err(format!("{c:?} is not allowed in what is put into an address")),
        None if value.is_empty() || value == "." || value == ".." => {
            Err(format!("{value:?} is not allowed in an address"))
        }
        None => Ok(()),
    }
}

// === impl EgressMapper ===

impl EgressMapper for Mappings {
    fn map(&self, route: &Route, delivery: &Delivery) -> Result<Option<Outbound>, Rejection> {
        let number = self.egress_by_name.get(route.name());
        let Some(egress) = number.and_then(|number| self.egress.get(*number)) else {
            let detail = format!("no mapping {:?} sends envelopes", route.name());
            return Err(Rejection::new(RejectKind::Unmapped, "mapping", detail));
        };
        // it deletes a last value: there is nothing in it to make a message of
        if egress.reads_payload && delivery.retained && delivery.envelope.data.as_slice().is_empty() {
            return Ok(None);
        }
        let outbound = egress.map(&delivery.envelope, delivery.lane, Timestamp::now())?;
        Ok(outbound.filter(|outbound| {
            egress.to.shown || egress.to.echo || !self.would_come_back(egress, &delivery.envelope, outbound)
        }))
    }

    fn shown(&self, bridge: &str) -> Arc<[Shown]> {
        self.shown.get(bridge).cloned().unwrap_or_default()
    }

    fn lane(&self, route: &Route, delivery: &Delivery) -> Lane {
        let number = self.egress_by_name.get(route.name());
        match number.and_then(|number| self.egress.get(*number)) {
            Some(egress) => egress.lane(delivery, Timestamp::now()),
            None => delivery.lane,
        }
    }
}

// === impl Mappings ===

impl Mappings {
    /// Whether an envelope that came by the bridge that it is sent through goes where a mapping of that bridge would take
    /// it in again: without an end, if its peer hands out what it was sent.
    fn would_come_back(&self, egress: &Egress, envelope: &Envelope, outbound: &Outbound) -> bool {
        let bridge = &*egress.to.bridge;
        let mut source = envelope.source.strip_prefix("mesh://").unwrap_or_default().split('/');
        source.next() == Some(&*self.domain)
            && source.next() == Some(bridge)
            && self.bridges.get(bridge).is_some_and(|index| index.find(&outbound.address).is_some())
    }
}
