//! A mapping file's keys: what it must say, what it may say, and what this version does not know yet.

use std::sync::Arc;

use envelope::{AckPoint, Route, Terms};
use schema::Schema;
use sha2::{Digest, Sha256};
use yaml::{Fields, Node, Problems, Span};

use crate::{
    Bridge, Context,
    address::Pattern,
    codec::Codec,
    expr::{Expr, Names, OwnNames, PayloadKind, Subject},
    file_tests::FileTest,
    keys::Keys,
    plan::Plan,
    promise::Promise,
    proof::{self, FieldProof, Given},
    table::Tables,
    uri,
};

/// The longest name of a mapping, in bytes.
const MAX_NAME: usize = 64;

/// One mapping file, compiled.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) route: Route,
    pub(crate) path: Box<str>,
    pub(crate) from: From,
    pub(crate) order: i64,
    pub(crate) keys: Keys,
    pub(crate) action: Action,
    pub(crate) ack: AckPoint,
    /// What else it promises.
    pub(crate) terms: Arc<Terms>,
    /// Where `ack` stands, if it does.
    pub(crate) ack_at: Option<Span>,
    /// Where `store: false` stands, if it does.
    pub(crate) pass_through_at: Option<Span>,
    pub(crate) tests: Vec<FileTest>,
    /// What is known at load of each part of what it makes.
    pub(crate) proofs: Vec<FieldProof>,
    /// The same of each part of its replies.
    pub(crate) reply_proofs: Vec<FieldProof>,
    /// `mesh://<domain>/<bridge>/`
    pub(crate) source_prefix: Box<str>,
    /// Where its name stands.
    pub(crate) name_at: Span,
}

/// What a mapping takes.
#[derive(Debug)]
pub(crate) struct From {
    pub(crate) bridge: Box<str>,
    pub(crate) pattern: Pattern,
    pub(crate) decode: Codec,
    pub(crate) schema: Option<Schema>,
    /// Where its address stands.
    pub(crate) address_at: Span,
}

/// What a mapping does with what it takes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one per file")]
pub(crate) enum Action {
    /// Acked, not stored.
    Drop,
    /// Made into an envelope.
    Envelope(Plan),
}

/// What every part of a file is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'r> {
    pub(crate) context: &'r Context<'r>,
    pub(crate) problems: &'r Problems,
}

// === impl Mapping ===

impl Mapping {
    /// Reports everything that is wrong with the file.
    pub(crate) fn read(root: &Node, reader: Reader<'_>) -> Option<Self> {
        let problems = reader.problems;
        let mut fields = Fields::of(root, problems)?;
        let name = fields.required("mapping");
        let name_at = name.map(|node| node.span);
        let name = name.and_then(|node| name_of(node, problems));
        let from = fields.required("from").map(|node| FromParts::read(node, reader));
        let parts = from.unwrap_or_default();
        let drop = match fields.optional("drop") {
            Some(node) => node.bool(problems),
            None => Some(false),
        };
        let order = match fields.optional("order") {
            Some(node) => node.integer(-1_000_000..=1_000_000, problems),
            None => Some(0),
        };
        let plain = parts.names(reader.context.tables);
        let item = root.get("each").is_some();
        let (keys, lets) =
            Keys::read(&mut fields, plain, (drop == Some(true)).then_some("where \"drop\" is true"), problems);
        let names = Names { own: OwnNames { lets: &lets, hidden: 0, item }, ..plain };
        let action = action(&mut fields, drop, names, &parts, reader);
        if let Some(Action::Envelope(plan)) = &action
            && plan.topic.is_for_answers()
        {
            nothing_of_an_answer(root, problems);
        }
        let bridge = parts.bridge.as_deref();
        let promise = Promise::read(&mut fields, drop == Some(true), action.as_ref(), bridge, plain, reader);
        let tests = match fields.optional("tests") {
            Some(node) => FileTest::read_all(node, parts.decode.unwrap_or(Codec::Json), problems),
            None => Some(Vec::new()),
        };
        fields.finish();
        let version = version(problems.source().text());
        let (from, promise) = (parts.finish()?, promise?);
        let (mut keys, mut action) = (keys?, action?);
        let given = Given {
            payload: &proof::payload(from.decode, from.schema.as_ref()),
            schema: from.schema.as_ref(),
            when: root.get("when").map_or(root.span, |node| node.span),
            envelope: root.get("envelope").map_or(root.span, |node| node.span).first(),
            unproven: promise.terms.dead_letter_unproven,
        };
        let proofs =
            if problems.is_empty() { proof::prove(given, &mut keys, &mut action, problems)? } else { Vec::new() };
        Some(Self {
            route: Route::new(name?, &version),
            proofs,
            path: problems.source().path().into(),
            source_prefix: uri::source_prefix(reader.context.domain, &from.bridge),
            from,
            order: order?,
            keys,
            action,
            ack: promise.ack,
            terms: Arc::new(promise.terms),
            reply_proofs: promise.reply_proofs,
            ack_at: promise.ack_at,
            pass_through_at: promise.pass_through_at,
            tests: tests?,
            name_at: name_at?,
        })
    }
}

impl Mapping {
    /// Whether it takes every message of an address that the other would take, as far as the two conditions show it. What is read of the
    /// payload is the same only in the same format.
    pub(crate) fn takes_all_of(&self, other: &Self) -> bool {
        let Some(guard) = &self.keys.when else { return true };
        let Some(other_guard) = &other.keys.when else { return false };
        let same_names = guard.lets.iter().chain(&other_guard.lets).all(|number| {
            let (ours, theirs) = (self.keys.lets.all.get(*number), other.keys.lets.all.get(*number));
            ours.zip(theirs).is_some_and(|(ours, theirs)| ours.expr.same(&theirs.expr))
        });
        let format = self.from.decode == other.from.decode || !guard.reads_payload;
        format && same_names && other_guard.expr.implies(&guard.expr)
    }

    /// All expressions that may read a message.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let plan = match &self.action {
            Action::Envelope(plan) => Some(plan),
            Action::Drop => None,
        };
        self.keys.exprs().chain(plan.into_iter().flat_map(Plan::exprs))
    }
}

/// The first 8 hexadecimal digits of the SHA-256 of the text.
pub(crate) fn version(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn name_of<'n>(node: &'n Node, problems: &Problems) -> Option<&'n str> {
    let name = node.non_empty(problems)?;
    let valid = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if valid && name.len() <= MAX_NAME {
        return Some(name);
    }
    let message = format!("a mapping's name has 1 to {MAX_NAME} characters of a-z, 0-9 and -");
    problems.report(node.span, "name", message);
    None
}

fn action(
    fields: &mut Fields<'_, '_>,
    drop: Option<bool>,
    names: Names<'_>,
    from: &FromParts,
    reader: Reader<'_>,
) -> Option<Action> {
    let problems = reader.problems;
    match (drop?, fields.entry("envelope")) {
        (true, None) => Some(Action::Drop),
        (true, Some((key, _))) => {
            problems.report(key.span, "contradiction", "\"envelope\" says nothing where \"drop\" is true");
            None
        }
        (false, Some((_, node))) => {
            let decode = from.decode.unwrap_or(Codec::Json);
            Plan::read(node, names, decode, reader).map(Action::Envelope)
        }
        (false, None) => {
            let message = "key \"envelope\" is missing";
            let help = "a mapping makes an \"envelope\" or says \"drop: true\"";
            problems.report_with_help(fields.span().first(), "missing-key", message, help);
            None
        }
    }
}

/// An answer is one message for who waits for it; it is not stored, and there is nothing to wait for.
fn nothing_of_an_answer(root: &Node, problems: &Problems) {
    const SILENT: [&str; 9] =
        ["each", "ack", "ack_within", "keep", "shed", "store", "unproven", "keep_denied", "identity"];
    for (key, _) in root.map(problems).into_iter().flatten().filter(|(key, _)| SILENT.contains(&&*key.name)) {
        let message =
            format!("{:?} says nothing of an answer, which is for who waits for it and is not stored", key.name);
        problems.report(key.span, "contradiction", message);
    }
}

/// Refuses keys that a later version has.
pub(crate) fn not_available(node: &Node, fields: &mut Fields<'_, '_>, keys: &[&'static str], problems: &Problems) {
    for key in keys.iter().filter(|key| node.get(key).is_some()) {
        if let Some((found, _)) = fields.entry(key) {
            let message = format!("key \"{key}\" is not available in this version");
            problems.report(found.span, "not-available", message);
        }
    }
}

// === from ===

/// What could be read of `from`; the rest is reported.
#[derive(Debug, Default)]
struct FromParts {
    bridge: Option<Box<str>>,
    pattern: Option<(Pattern, Span)>,
    decode: Option<Codec>,
    schema: Option<Option<Schema>>,
}

// === impl FromParts ===

impl FromParts {
    fn read(node: &Node, reader: Reader<'_>) -> Self {
        let problems = reader.problems;
        let Some(mut fields) = Fields::of(node, problems) else {
            return Self::default();
        };
        let bridge = fields.required("bridge").and_then(|node| reader.bridge(node));
        let pattern = fields.required("address").and_then(|node| {
            let pattern = Pattern::read(node, problems)?;
            let problem = bridge.and_then(|bridge| (bridge.takes_from.0)(pattern.as_str()).err());
            problem.iter().for_each(|problem| problems.report(node.span, "address", problem));
            problem.is_none().then_some((pattern, node.span))
        });
        let bridge = bridge.map(|bridge| bridge.name.into());
        let (decode, schema) = reader.decode_and_schema(&mut fields);
        fields.finish();
        Self { bridge, pattern, decode, schema }
    }

    fn names<'n>(&'n self, tables: &'n Tables) -> Names<'n> {
        Names {
            payload: self.decode.unwrap_or(Codec::Json).payload_kind(),
            captures: self.pattern.as_ref().map(|(pattern, _)| pattern.captures()),
            subject: Subject::Inbound,
            own: OwnNames::NONE,
            tables,
        }
    }

    fn finish(self) -> Option<From> {
        let (pattern, address_at) = self.pattern?;
        Some(From { bridge: self.bridge?, pattern, decode: self.decode?, schema: self.schema?, address_at })
    }
}

// === impl Reader ===

impl<'r> Reader<'r> {
    /// A loaded schema, by its name as `spelling` writes it.
    pub(crate) fn schema(self, node: &Node, spelling: impl Fn(&str) -> String) -> Option<Schema> {
        let names: Vec<(String, &str)> = self.context.schemas.names().map(|name| (spelling(name), name)).collect();
        if names.is_empty() {
            self.problems.report(node.span, "unknown-schema", "no schemas are loaded");
            return None;
        }
        let words: Vec<(&str, &str)> = names.iter().map(|(word, name)| (word.as_str(), *name)).collect();
        let name = node.one_of(&words, self.problems)?;
        self.context.schemas.get(name).cloned()
    }

    /// `decode` and `schema` of `from`.
    pub(crate) fn decode_and_schema(self, fields: &mut Fields<'_, '_>) -> (Option<Codec>, Option<Option<Schema>>) {
        let decode = match fields.optional("decode") {
            Some(node) => Codec::read(node, self.problems),
            None => Some(Codec::Json),
        };
        let schema = match fields.entry("schema") {
            Some((key, _)) if decode.is_some_and(|decode| decode.payload_kind() != PayloadKind::Json) => {
                let message = "a schema needs a payload that is more than text or bytes";
                self.problems.report(key.span, "contradiction", message);
                None
            }
            Some((_, node)) => self.schema(node, |name| format!("schemas/{name}.json")).map(Some),
            None => Some(None),
        };
        (decode, schema)
    }

    /// The bridges that can do something, for an error.
    pub(crate) fn able(self, can: impl Fn(&Bridge<'_>) -> bool) -> String {
        let able: Vec<_> = self.context.bridges.iter().filter(|bridge| can(bridge)).map(|bridge| bridge.name).collect();
        match able.is_empty() {
            true => "no configured bridge can in this version".to_owned(),
            false => format!("these can: {}", able.join(", ")),
        }
    }

    /// A configured bridge, by its name.
    pub(crate) fn bridge(self, node: &Node) -> Option<Bridge<'r>> {
        if self.context.bridges.is_empty() {
            self.problems.report(node.span, "unknown-bridge", "no bridges are configured");
            return None;
        }
        let words: Vec<(&str, Bridge<'r>)> = self.context.bridges.iter().map(|bridge| (bridge.name, *bridge)).collect();
        node.one_of(&words, self.problems)
    }
}
