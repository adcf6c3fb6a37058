//! The `envelope:` part of a mapping file, compiled: what an envelope is made of.

mod binary;
mod talk;
mod topic;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use envelope::{Data, Envelope, EnvelopeId, Priority, RejectKind, Rejection, TraceContext};
use schema::Schema;
use yaml::{Fields, Kind, Node, Problems};

use crate::{
    body::{Body, BodyFault},
    codec::Codec,
    expr::{Expr, Fault, Names, Scope},
    file::{Reader, not_available},
    proof::Place,
    template::Template,
};

use binary::Binary;
use talk::Talk;
pub(crate) use topic::{TopicPlan, is_shape};

/// FIPA's words and the mesh's own; `x-...` needs a protocol, which this version can't load.
pub const PERFORMATIVES: [&str; 15] = [
    "inform",
    "query",
    "request",
    "propose",
    "counter-propose",
    "accept",
    "reject",
    "agree",
    "refuse",
    "confirm",
    "cancel",
    "failure",
    "not-understood",
    "subscribe",
    "advertise",
];
const PERFORMATIVE: &str = "envelope.performative";
const PRIORITY: &str = "envelope.priority";
/// The longest attribute, in bytes.
pub(crate) const MAX_ATTRIBUTE: usize = 1_024;
/// The most bytes that data gets before it needs them.
const MAX_FIRST_ROOM: usize = 64 << 10;
/// The most jurisdictions of one envelope.
const MAX_RESIDENCY: usize = 64;
/// The type of data without a schema.
pub(crate) const OPAQUE: &str = "mesh/opaque@v1.0.0";
const LATER: [&str; 7] = ["protocol", "replyto", "replyby", "qos", "sequence", "each", "let"];

/// The compiled `envelope:`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) topic: TopicPlan,
    pub(crate) performative: Option<Attribute>,
    pub(crate) priority: Option<Attribute>,
    pub(crate) key: Option<Attribute>,
    pub(crate) residency: Vec<Attribute>,
    pub(crate) classification: Option<Attribute>,
    /// Whom it answers, is for and comes from, where the file says it.
    pub(crate) talk: Option<Box<Talk>>,
    pub(crate) expires: Option<Duration>,
    pub(crate) kind: Arc<str>,
    pub(crate) dataschema: Option<Arc<str>>,
    pub(crate) datacontenttype: Arc<str>,
    /// What the data must conform to. Policy checks it; tests in the file do here.
    pub(crate) schema: Option<Schema>,
    pub(crate) body: Option<Body>,
    binary: Binary,
}

/// A text of the head, and what it must be.
#[derive(Debug)]
pub(crate) struct Head<'p> {
    pub(crate) field: &'static str,
    pub(crate) template: &'p mut Template,
    pub(crate) place: Place,
    /// One of these, if the words are not free.
    pub(crate) words: Option<&'static [&'static str]>,
}

/// An attribute that is a string.
#[derive(Debug)]
pub(crate) struct Attribute {
    field: &'static str,
    template: Template,
    fixed: Option<Arc<str>>,
}

// === impl Plan ===

impl Plan {
    /// Reports everything that is wrong with it.
    pub(crate) fn read(node: &Node, names: Names<'_>, decode: Codec, reader: Reader<'_>) -> Option<Self> {
        let problems = reader.problems;
        let mut fields = Fields::of(node, problems)?;
        not_available(node, &mut fields, &LATER, problems);
        let answers = node.get("inreplyto").is_some();
        let topic = fields.required("topic").and_then(|node| TopicPlan::read(node, answers, names, problems));
        let talk = Talk::read(&mut fields, names, problems);
        let mut attribute = |key: &'static str, field: &'static str| match fields.optional(key) {
            Some(node) => Attribute::read(node, field, names, problems).map(Some),
            None => Some(None),
        };
        let performative = attribute("performative", PERFORMATIVE);
        let priority = attribute("priority", PRIORITY);
        let key = attribute("key", "envelope.key");
        let classification = attribute("classification", "envelope.classification");
        let residency = match fields.optional("residency") {
            Some(node) => residency(node, names, problems),
            None => Some(Vec::new()),
        };
        let range = Duration::from_millis(1)..=Duration::from_secs(10 * 365 * 86_400);
        let expires = match fields.optional("expires") {
            Some(node) => node.duration(range, problems).map(Some),
            None => Some(None),
        };
        let schema = match fields.entry("schema") {
            // said of "data_base64"
            Some(_) if node.get("data_base64").is_some() => None,
            Some((key, _)) if decode != Codec::Json && node.get("data").is_none() && !names.own.item => {
                let message = "only JSON conforms to a schema, and this payload goes through as it came: say \"data\"";
                problems.report(key.span, "contradiction", message);
                None
            }
            Some((_, node)) => reader
                .schema(node, |name| name.to_owned())
                .and_then(|schema| versioned(schema, node, problems))
                .map(Some),
            None => Some(None),
        };
        let body = match fields.optional("data") {
            Some(node) => Body::read(node, "envelope.data", names, problems).map(Some),
            None => Some(None),
        };
        let binary = Binary::read(node, &mut fields, names.own.item, names, problems);
        fields.finish();
        let (schema, body, binary) = (schema?, body?, binary?);
        let format = match &binary.base64 {
            Some(_) => Codec::Bytes,
            None if body.is_some() || names.own.item => Codec::Json,
            None => decode,
        };
        let name = schema.as_ref().map(Schema::name);
        Some(Self {
            topic: topic?,
            performative: performative?,
            priority: priority?,
            key: key?,
            residency: residency?,
            classification: classification?,
            talk: talk?,
            expires: expires?,
            kind: name.map_or_else(|| OPAQUE.into(), |name| name.as_ref().into()),
            dataschema: name.map(|name| format!("mesh://{}/schemas/{name}", reader.context.domain).into()),
            datacontenttype: format.content_type().into(),
            schema,
            body,
            binary,
        })
    }

    /// Whether the payload, or the item, is the data as it is.
    pub(crate) fn goes_through(&self) -> bool {
        self.body.is_none() && self.binary.base64.is_none()
    }

    /// Whether the file says what the data is.
    pub(crate) fn says_content_type(&self) -> bool {
        self.binary.content_type.is_some()
    }

    /// What the data is, if the file says it.
    fn content_type(&self, scope: &Scope<'_>) -> Result<Option<Arc<str>>, Rejection> {
        self.binary.content_type.as_ref().map(|said| said.one(scope)).transpose().map(Option::flatten)
    }

    /// What it may ask of whoever gets it: a word that asks, or any word, if the message chooses. `None`: it only tells.
    pub(crate) fn asks(&self) -> Option<String> {
        const ASKS: [&str; 7] = ["query", "request", "propose", "counter-propose", "accept", "cancel", "subscribe"];
        let performative = self.performative.as_ref()?;
        match &performative.fixed {
            Some(word) => ASKS.contains(&&**word).then(|| format!("\"performative: {word}\"")),
            None => Some("a performative that each message chooses".to_owned()),
        }
    }

    /// Everything of the head that is text, for the proof.
    pub(crate) fn heads_mut(&mut self) -> impl Iterator<Item = Head<'_>> {
        let topic = Head {
            field: TopicPlan::FIELD,
            place: self.topic.place(),
            template: &mut self.topic.template,
            words: None,
        };
        let attributes = [&mut self.performative, &mut self.priority, &mut self.key];
        let attributes = attributes.into_iter().flatten().chain(&mut self.residency).chain(&mut self.classification);
        let attributes = attributes.map(|of| Head {
            field: of.field,
            template: &mut of.template,
            place: Place::Key,
            words: match of.field {
                PERFORMATIVE => Some(&PERFORMATIVES),
                PRIORITY => Some(&Priority::WORDS),
                _ => None,
            },
        });
        let talk = self.talk.iter_mut().flat_map(|talk| talk.all_mut()).map(|said| Head {
            field: said.of.field(),
            template: &mut said.template,
            place: said.of.place(),
            words: None,
        });
        let binary =
            self.binary.texts_mut().map(|(field, template, place)| Head { field, template, place, words: None });
        std::iter::once(topic).chain(attributes).chain(talk).chain(binary)
    }

    /// All its expressions.
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let attributes = [&self.performative, &self.priority, &self.key, &self.classification];
        let attributes = attributes.into_iter().flatten().chain(&self.residency).map(|of| &of.template);
        let head = std::iter::once(&self.topic.template).chain(attributes).flat_map(Template::exprs);
        let talk = self.talk.iter().flat_map(|talk| talk.exprs());
        head.chain(talk).chain(self.binary.exprs()).chain(self.body.iter().flat_map(Body::exprs))
    }

    /// The data, if the file makes any. `room` is how long it is about.
    pub(crate) fn data(&self, scope: &Scope<'_>, room: usize) -> Result<Option<Data>, Rejection> {
        let Some(body) = &self.body else { return Ok(self.binary.data(scope)?.map(Data::Opaque)) };
        let mut out = Vec::with_capacity(room.min(MAX_FIRST_ROOM) + 64);
        body.write(scope, &mut out)?;
        Ok(Some(Data::Opaque(out.into())))
    }

    /// What decides on an envelope and is known without its payload; `None` if that is not all.
    pub(crate) fn head(&self, scope: &Scope<'_>, id: EnvelopeId) -> Option<Envelope> {
        let mut attributes = self.performative.iter().chain(&self.residency);
        if !self.topic.template.needs_no_payload() || !attributes.all(|of| of.template.needs_no_payload()) {
            return None;
        }
        // an answer is another action of the policies
        if !self.talk.as_ref().is_none_or(|talk| talk.answers_without_payload()) {
            return None;
        }
        let conversation = match &self.talk {
            Some(talk) => talk.answered(scope).ok()?,
            None => None,
        };
        let mut scratch = String::new();
        let mut attribute = |of: &Attribute| of.of(scope, &mut scratch).ok();
        let performative = match &self.performative {
            Some(performative) => Some(attribute(performative)?),
            None => None,
        };
        let residency = self.residency.iter().map(attribute).collect::<Option<_>>()?;
        Some(Envelope {
            dataschema: self.dataschema.clone(),
            performative,
            residency,
            conversation,
            ..Envelope::plain(
                id,
                "".into(),
                self.kind.clone(),
                self.topic.of(scope, &mut scratch).ok()?,
                scope.now,
                Data::Opaque(Bytes::new()),
            )
        })
    }

    /// One envelope, without data.
    pub(crate) fn envelope(
        &self,
        scope: &Scope<'_>,
        scratch: &mut String,
        id: EnvelopeId,
        source: Arc<str>,
        trace: TraceContext,
    ) -> Result<Envelope, Rejection> {
        let mut attribute = |of: &Option<Attribute>| of.as_ref().map(|of| of.of(scope, scratch)).transpose();
        let performative = attribute(&self.performative)?;
        // `check` has let nothing else through
        let priority = attribute(&self.priority)?.and_then(|word| Priority::parse(&word));
        let partitionkey = attribute(&self.key)?;
        let classification = attribute(&self.classification)?;
        let residency: Vec<Arc<str>> =
            self.residency.iter().map(|of| of.of(scope, scratch)).collect::<Result<_, _>>()?;
        let subject = self.topic.of(scope, scratch)?;
        let (conversation, origin) = match &self.talk {
            Some(talk) => (talk.conversation(scope)?, talk.origin(scope)?),
            None => (None, None),
        };
        Ok(Envelope {
            id,
            source,
            kind: self.kind.clone(),
            subject,
            time: scope.now,
            expirytime: self.expires.map(|after| scope.now.plus(after)),
            datacontenttype: Some(self.content_type(scope)?.unwrap_or_else(|| self.datacontenttype.clone())),
            dataschema: self.dataschema.clone(),
            data: Data::Opaque(Bytes::new()),
            performative,
            partitionkey,
            residency,
            classification,
            hops: Vec::new(),
            trace: Some(trace),
            conversation,
            origin,
            priority,
        })
    }
}

/// What leaves says of which version its data is: a type is `NAME@vX.Y.Z`.
fn versioned(schema: Schema, node: &Node, problems: &Problems) -> Option<Schema> {
    let version = schema.name().rsplit_once("@v").map(|(_, version)| version.split('.'));
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if version.is_some_and(|parts| parts.clone().count() == 3 && parts.clone().all(number)) {
        return Some(schema);
    }
    let message = format!("a type of data has a version, as NAME@v1.0.0: {:?} has none", schema.name());
    let help = "call the file below \"schemas\" so, and name it here";
    problems.report_with_help(node.span, "name", message, help);
    None
}

/// One jurisdiction or a list of them.
fn residency(node: &Node, names: Names<'_>, problems: &Problems) -> Option<Vec<Attribute>> {
    const FIELD: &str = "envelope.residency";
    let Kind::List(items) = &node.kind else {
        return Attribute::read(node, FIELD, names, problems).map(|one| vec![one]);
    };
    if items.is_empty() || items.len() > MAX_RESIDENCY {
        let message = format!("expected 1 to {MAX_RESIDENCY} jurisdictions, found {}", items.len());
        problems.report(node.span, "out-of-range", message);
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| Attribute::read(item, FIELD, names, problems)).collect();
    read.into_iter().collect()
}

// === impl Attribute ===

impl Attribute {
    /// Whether the payload must be decoded for it.
    pub(crate) fn reads_payload(&self) -> bool {
        self.template.reads_payload()
    }

    /// For the proof.
    pub(crate) fn template_mut(&mut self) -> &mut Template {
        &mut self.template
    }

    pub(crate) fn read(node: &Node, field: &'static str, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let template = Template::read(node, names, problems)?;
        let fixed = template.literal().map(Arc::<str>::from);
        if let Some(problem) = fixed.as_deref().and_then(|text| check(field, text).err()) {
            problems.report(node.span, "attribute", problem);
            return None;
        }
        Some(Self { field, template, fixed })
    }

    /// Its value for one message.
    pub(crate) fn of(&self, scope: &Scope<'_>, scratch: &mut String) -> Result<Arc<str>, Rejection> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let whole;
        let text = match &self.template {
            Template::Whole(expr) => {
                whole = expr.to_text(scope).map_err(|fault| refusal(self.field, expr, *fault))?;
                &*whole
            }
            template => {
                scratch.clear();
                let written = template.write(scope, scratch, |_| Ok(()));
                written.map_err(|(expr, fault)| refusal(self.field, expr, *fault))?;
                scratch.as_str()
            }
        };
        check(self.field, text).map_err(|problem| {
            Rejection::new(RejectKind::Malformed, "mapping", format!("{}: {problem}", self.field))
        })?;
        Ok(text.into())
    }
}

/// The first control character. Bytes are enough for ASCII, which most values are.
pub(crate) fn control(text: &str) -> Option<char> {
    match text.is_ascii() {
        true => text.bytes().find(u8::is_ascii_control).map(char::from),
        false => text.chars().find(|c| c.is_control()),
    }
}

/// CloudEvents 1.0, section 3.1: a String attribute has no control characters; an empty one is none.
fn check(field: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("an attribute is not empty".to_owned());
    }
    if text.len() > MAX_ATTRIBUTE {
        return Err(format!("an attribute has at most {MAX_ATTRIBUTE} bytes, this has {}", text.len()));
    }
    if let Some(c) = control(text) {
        return Err(format!("{c:?} is not allowed in an attribute"));
    }
    if field == PRIORITY && Priority::parse(text).is_none() {
        let shown: String = text.chars().take(64).collect();
        return Err(format!("{shown:?} is no priority: {}", Priority::WORDS.join(", ")));
    }
    if field == PERFORMATIVE && !PERFORMATIVES.contains(&text) {
        let shown: String = text.chars().take(64).collect();
        return Err(format!("{shown:?} is no performative: {}", PERFORMATIVES.join(", ")));
    }
    Ok(())
}

// === refusals ===

/// Names the field, the expression, the part of it and the place in the payload.
pub(crate) fn refusal(field: &str, expr: &Expr, fault: Fault) -> Rejection {
    let text = expr.text();
    let part = text.get(fault.span.0 as usize..fault.span.1 as usize).unwrap_or(text);
    let within = if part == text { String::new() } else { format!(" in ${{{text}}}") };
    let kind = if fault.too_large { RejectKind::TooLarge } else { RejectKind::Malformed };
    let rejection = Rejection::new(kind, "mapping", format!("{field}: {part}: {}{within}", fault.problem));
    match fault.pointer {
        Some(pointer) => rejection.at(pointer),
        None => rejection,
    }
}

impl From<BodyFault<'_>> for Rejection {
    fn from(of: BodyFault<'_>) -> Self {
        refusal(of.field, of.expr, *of.fault)
    }
}
