//! `reply`: what a sender is told in the file's words, of an envelope that answers, of the admission, or of a refusal.

use std::{cell::Cell, ops::RangeInclusive, sync::Arc, time::Duration};

use envelope::{Envelope, Receipt, RejectKind, Rejection, Replies, Reply, Timestamp};
use yaml::{Fields, Key, Kind, Node, Problems, Span};

use crate::{
    codec::Codec,
    expr::{About, Expr, Names, OwnNames, PayloadKind, Scope, ScopePayload, Subject, Wanted, compile_for},
    file::Reader,
    keys::expression,
    message::{Message, Untouched},
    plan::refusal,
    proof::{FieldProof, Given, Parts, Type},
    template::Template,
};

/// The most replies of one file.
const MAX_REPLIES: usize = 16;
const WITHIN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// The replies of one file, compiled.
#[derive(Debug)]
pub(crate) struct ReplyPlan {
    /// In the order of the file: the first that fits is sent.
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    at: Span,
    to: Occasion,
    /// The type that an answer has to be of.
    kind: Option<Arc<str>>,
    when: Option<Expr>,
    status: Option<Status>,
    message: Message,
}

/// What a reply is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// An envelope that answers, within that time.
    Answered(Duration),
    Accepted,
    Refused,
}

#[derive(Debug)]
enum Status {
    Fixed(u16),
    Of(Expr),
}

// === impl ReplyPlan ===

impl ReplyPlan {
    /// One reply, or a list of them. Refused as a whole if the bridge has no way to say it.
    pub(crate) fn read(
        key: &Key,
        node: &Node,
        bridge: Option<&str>,
        names: Names<'_>,
        reader: Reader<'_>,
    ) -> Option<Self> {
        let problems = reader.problems;
        let unable = reader.context.bridges.iter().find(|of| Some(of.name) == bridge && !of.replies);
        if let Some(bridge) = unable {
            let message = format!("bridge {:?} answers in its own words only", bridge.name);
            problems.report_with_help(key.span, "not-available", message, reader.able(|bridge| bridge.replies));
        }
        let nodes = match &node.kind {
            Kind::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if nodes.is_empty() || nodes.len() > MAX_REPLIES {
            let message = format!("expected 1 to {MAX_REPLIES} replies, found {}", nodes.len());
            problems.report(node.span, "out-of-range", message);
            return None;
        }
        let answers: Vec<_> = nodes.iter().map(|node| Answer::read(node, names, reader)).collect();
        let answers = answers.into_iter().collect::<Option<Vec<_>>>()?;
        let mut kinds = answers.iter().filter_map(|answer| answer.kind.as_ref().map(|kind| (kind, answer.at)));
        if let Some((first, _)) = kinds.next()
            && let Some((other, at)) = kinds.find(|(kind, _)| *kind != first)
        {
            let message = format!("an answer can't be of type {first:?} and {other:?}");
            problems.report_with_help(at, "contradiction", message, "all replies with \"within\" are about one answer");
        }
        unable.is_none().then_some(Self { answers })
    }

    /// What is known of each part of the replies; what can never be sent is reported.
    pub(crate) fn prove(&mut self, problems: &Problems) -> Vec<FieldProof> {
        let several = self.answers.len() > 1;
        let (mut found, mut always) = (Vec::new(), Vec::new());
        for (number, answer) in self.answers.iter_mut().enumerate() {
            let kind = answer.to.statuses();
            if always.contains(&kind) {
                let help = "the first that fits is sent: give the other a \"when\", or put this one before it";
                let message = "no message gets here: a reply before it is always sent";
                problems.report_with_help(answer.at, "unreachable", message, help);
            }
            if answer.when.is_none() {
                always.push(kind);
            }
            let at = if several { format!("reply[{number}]") } else { "reply".to_owned() };
            found.extend(answer.prove(&at, problems));
        }
        found
    }

    /// Its sender waits for an answer.
    pub(crate) fn waits(&self) -> bool {
        self.within().is_some()
    }

    fn first(
        &self,
        of: impl Fn(Occasion) -> bool,
        about: About<'_>,
        payload: ScopePayload<'_>,
        now: Timestamp,
    ) -> Result<Option<Reply>, Rejection> {
        let steps = Cell::new(0);
        let scope = Scope { payload, now, about, steps: Some(&steps), ..Scope::NOTHING };
        for answer in self.answers.iter().filter(|answer| of(answer.to)) {
            let holds = match &answer.when {
                Some(when) => when.test(&scope).map_err(|fault| refusal("reply.when", when, *fault))?,
                None => true,
            };
            if holds {
                return answer.reply(&scope).map(Some);
            }
        }
        Ok(None)
    }
}

impl Replies for ReplyPlan {
    fn within(&self) -> Option<Duration> {
        self.answers.iter().find_map(|answer| match answer.to {
            Occasion::Answered(within) => Some(within),
            Occasion::Accepted | Occasion::Refused => None,
        })
    }

    fn kind(&self) -> Option<&Arc<str>> {
        self.answers.iter().find_map(|answer| answer.kind.as_ref())
    }

    fn answered(&self, answer: &Envelope, now: Timestamp) -> Result<Option<Reply>, Rejection> {
        let of = |occasion| matches!(occasion, Occasion::Answered(_));
        let reads = self.answers.iter().any(|answer| of(answer.to) && answer.reads_payload());
        let json = match reads {
            true => Some(answer.data.json().map_err(|error| {
                let detail = format!("the answer's data is {error}");
                Rejection::new(RejectKind::Malformed, "mapping.reply", detail).because(error)
            })?),
            false => None,
        };
        let payload = json.as_ref().map_or(ScopePayload::Bytes, |json| ScopePayload::Json(json.root()));
        self.first(of, About::Envelope(answer), payload, now)
    }

    fn accepted(&self, receipt: &Receipt, now: Timestamp) -> Result<Option<Reply>, Rejection> {
        self.first(|occasion| occasion == Occasion::Accepted, About::Receipt(receipt), ScopePayload::Bytes, now)
    }

    fn refused(&self, rejection: &Rejection, now: Timestamp) -> Result<Option<Reply>, Rejection> {
        self.first(|occasion| occasion == Occasion::Refused, About::Rejection(rejection), ScopePayload::Bytes, now)
    }
}

// === impl Answer ===

impl Answer {
    fn read(node: &Node, names: Names<'_>, reader: Reader<'_>) -> Option<Self> {
        let problems = reader.problems;
        let mut fields = Fields::of(node, problems)?;
        let to = match (fields.entry("within"), fields.entry("on")) {
            (Some((key, _)), None) if !reader.context.gateway.later_acks => {
                let message = "nobody waits for an answer in this version";
                problems.report_with_help(key.span, "not-available", message, "available: \"on\"");
                None
            }
            (Some((_, node)), None) => node.duration(WITHIN, problems).map(Occasion::Answered),
            (None, Some((_, node))) => {
                node.one_of(&[("accepted", Occasion::Accepted), ("refused", Occasion::Refused)], problems)
            }
            (Some(_), Some((key, _))) => {
                problems.report(key.span, "contradiction", "either \"within\" or \"on\"");
                None
            }
            (None, None) => {
                let message = "key \"within\" or \"on\" is missing: which answer is this?";
                problems.report(fields.span().first(), "missing-key", message);
                None
            }
        };
        let kind = match fields.entry("schema") {
            Some((key, _)) if matches!(to, Some(Occasion::Accepted | Occasion::Refused)) => {
                let message = "only an envelope that answers has a schema: there is no \"within\"";
                problems.report(key.span, "contradiction", message);
                None
            }
            Some((_, node)) => reader.schema(node, str::to_owned).map(|schema| Some(schema.name().clone())),
            None => Some(None),
        };
        // any names will do to find further errors
        let occasion = to.unwrap_or(Occasion::Answered(Duration::ZERO));
        let names = occasion.names(names);
        let when = match fields.optional("when") {
            Some(node) => expression(node, problems, |text| compile_for(Wanted::Condition, text, names))
                .map(|(expr, _)| Some(expr)),
            None => Some(None),
        };
        let status = match fields.optional("status") {
            Some(node) => Status::read(node, occasion, names, problems).map(Some),
            None => Some(None),
        };
        let data = (names.subject == Subject::Envelope).then_some(Codec::Json);
        let message = Message::read(&mut fields, "reply", names, data, problems);
        fields.finish();
        Some(Self { at: node.span.first(), to: to?, kind: kind?, when: when?, status: status?, message: message? })
    }

    fn prove(&mut self, at: &str, problems: &Problems) -> Vec<FieldProof> {
        let given = Given { payload: &Type::ANY, schema: None, when: self.at, envelope: self.at, unproven: true };
        let mut parts = Parts::new(given, problems);
        if let Some(when) = &mut self.when {
            parts.only_if(when);
        }
        if let Some(Status::Of(expr)) = &mut self.status {
            parts.status(&format!("{at}.status"), expr, &self.to.statuses());
        }
        self.message.prove(at, &mut parts);
        parts.finish()
    }

    fn reads_payload(&self) -> bool {
        let status = matches!(&self.status, Some(Status::Of(expr)) if expr.uses().payload);
        let when = self.when.as_ref().is_some_and(|when| when.uses().payload);
        status || when || self.message.reads_payload()
    }

    fn reply(&self, scope: &Scope<'_>) -> Result<Reply, Rejection> {
        let status = self.status.as_ref().map(|status| status.of(scope, self.to)).transpose()?;
        let untouched = match scope.about {
            About::Envelope(envelope) => {
                Some(Untouched { data: &envelope.data, content_type: envelope.datacontenttype.as_deref() })
            }
            About::Inbound | About::Receipt(_) | About::Rejection(_) => None,
        };
        let (headers, payload) = self.message.write(scope, untouched)?;
        Ok(Reply { status, headers, payload })
    }
}

// === impl Occasion ===

impl Occasion {
    /// What its expressions may name: the message itself is gone when the answer is made.
    fn names(self, names: Names<'_>) -> Names<'_> {
        let (subject, payload) = match self {
            Self::Answered(_) => (Subject::Envelope, PayloadKind::Json),
            Self::Accepted => (Subject::Receipt, PayloadKind::Nothing),
            Self::Refused => (Subject::Rejection, PayloadKind::Nothing),
        };
        Names { subject, payload, captures: Some(&[]), own: OwnNames::NONE, ..names }
    }

    /// A no is never told as a yes, and no yes as a no.
    fn statuses(self) -> RangeInclusive<u16> {
        match self {
            Self::Answered(_) => 200..=599,
            Self::Accepted => 200..=299,
            Self::Refused => 400..=599,
        }
    }
}

// === impl Status ===

impl Status {
    fn read(node: &Node, occasion: Occasion, names: Names<'_>, problems: &Problems) -> Option<Self> {
        let range = occasion.statuses();
        if let Kind::String(_) = node.kind {
            return match Template::read(node, names, problems)? {
                Template::Whole(expr) => Some(Self::Of(expr)),
                Template::Literal(_) | Template::Mixed(_) => {
                    node.mismatch("a status, or one expression for it", problems)
                }
            };
        }
        let status = node.integer(i64::from(*range.start())..=i64::from(*range.end()), problems)?;
        u16::try_from(status).ok().map(Self::Fixed)
    }

    fn of(&self, scope: &Scope<'_>, occasion: Occasion) -> Result<u16, Rejection> {
        let expr = match self {
            Self::Fixed(status) => return Ok(*status),
            Self::Of(expr) => expr,
        };
        let text = expr.to_text(scope).map_err(|fault| refusal("reply.status", expr, *fault))?;
        let range = occasion.statuses();
        match text.parse() {
            Ok(status) if range.contains(&status) => Ok(status),
            _ => {
                let shown: String = text.chars().take(32).collect();
                let detail = format!("reply.status: {shown:?} is none of {} to {}", range.start(), range.end());
                Err(Rejection::new(RejectKind::Malformed, "mapping", detail))
            }
        }
    }
}
