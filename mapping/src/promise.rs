//! What a mapping promises of its messages: `ack`, `ack_within`, `keep`, `shed`, `store`, `unproven`, `keep_denied` and
//! `reply`.

use std::time::Duration;

use envelope::{AckPoint, Terms};
use yaml::{Fields, Key, Node, Problems, Span};

use crate::{
    expr::Names,
    file::{Action, Reader},
    proof::FieldProof,
    reply::ReplyPlan,
};

const WITHIN: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// The promises of one file.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) ack: AckPoint,
    pub(crate) terms: Terms,
    /// What is known of each part of the replies.
    pub(crate) reply_proofs: Vec<FieldProof>,
    /// Where `ack` stands, if it does.
    pub(crate) ack_at: Option<Span>,
    /// Where `store: false` stands, if it does.
    pub(crate) pass_through_at: Option<Span>,
}

// === impl Promise ===

impl Promise {
    /// Reports every promise that can't be kept. `names` are those of the message; `bridge` brings it.
    pub(crate) fn read(
        fields: &mut Fields<'_, '_>,
        dropped: bool,
        action: Option<&Action>,
        bridge: Option<&str>,
        names: Names<'_>,
        reader: Reader<'_>,
    ) -> Option<Self> {
        let problems = reader.problems;
        let found = ["ack", "ack_within", "keep", "shed", "store", "unproven", "keep_denied", "reply"]
            .map(|key| fields.entry(key));
        if dropped {
            for (key, _) in found.into_iter().flatten() {
                let message = format!("{:?} says nothing where \"drop\" is true", key.name);
                problems.report(key.span, "contradiction", message);
            }
            return found.iter().all(Option::is_none).then(Self::of_dropped);
        }
        let before = problems.len();
        let [ack_found, within, keep, shed, store, unproven, denied, reply] = found;
        let ack = ack_found.map_or(Some(AckPoint::Durable), |(_, node)| ack(node, reader));
        let ack_within = within.map_or(Some(Terms::ACK_WITHIN), |(key, node)| ack_within(key, node, ack, problems));
        let keep_last = keep.map_or(Some(false), |(_, node)| keep_last(node, action, reader));
        let shed_latest = shed.map_or(Some(false), |(_, node)| shed_latest(node, action, ack, problems));
        let dead_letter = unproven.map_or(Some(false), |(_, node)| node.one_of(&[("dead-letter", true)], problems));
        let keep_denied = denied.map_or(Some(false), |(_, node)| node.bool(problems));
        let keeps = [
            ("keep", keep.is_some()),
            ("unproven", dead_letter == Some(true)),
            ("keep_denied", keep_denied == Some(true)),
        ];
        let keeps = keeps.into_iter().find_map(|(key, keeps)| keeps.then_some(key));
        let stored = store.map_or(Some(true), |(_, node)| stored(node, ack, keeps, reader));
        let reply = match reply {
            Some((key, node)) => ReplyPlan::read(key, node, bridge, names, reader).map(Some),
            None => Some(None),
        };
        let (ack, mut reply) = (ack?, reply?);
        let sound = problems.len() == before;
        let proven = reply.as_mut().filter(|_| sound).map(|reply| reply.prove(problems));
        if ack == AckPoint::Consumer && !reply.as_ref().is_some_and(|reply| reply.waits()) {
            let at = ack_found.map_or(fields.span().first(), |(_, node)| node.span);
            let help = "say \"reply: { within: 5s }\": the answer is what tells that somebody consumed it";
            problems.report_with_help(at, "nobody-takes", "nobody is asked for an answer", help);
        }
        if let (Some((key, _)), true) = (shed, reply.as_ref().is_some_and(|reply| reply.waits())) {
            let message = "what is dropped for the next one is answered by nobody, and its sender waits for an answer";
            problems.report_with_help(key.span, "contradiction", message, "leave \"shed\" out, or \"within\"");
        }
        let stored = stored?;
        match (ack, ack_found, store) {
            (_, _, Some((_, node))) if !stored => {
                taken_once(node, "store: false", "it may be sent twice", bridge, reader)
            }
            (AckPoint::Received, Some((_, node)), _) => {
                taken_once(node, "ack: received", "a crash may lose them", bridge, reader);
            }
            _ => {}
        }
        let terms = Terms {
            ack_within: ack_within?,
            keep_last: keep_last?,
            shed_latest: shed_latest?,
            store: stored,
            dead_letter_unproven: dead_letter?,
            keep_denied: keep_denied?,
            reply: reply.map(|reply| Box::new(reply) as Box<dyn envelope::Replies>),
        };
        let pass_through_at = store.map(|(_, node)| node.span).filter(|_| !stored);
        let ack_at = ack_found.map(|(_, node)| node.span);
        (problems.len() == before).then_some(Self {
            ack,
            terms,
            reply_proofs: proven.unwrap_or_default(),
            ack_at,
            pass_through_at,
        })
    }

    fn of_dropped() -> Self {
        Self {
            ack: AckPoint::Durable,
            terms: Terms::default(),
            reply_proofs: Vec::new(),
            ack_at: None,
            pass_through_at: None,
        }
    }
}

fn ack(node: &Node, reader: Reader<'_>) -> Option<AckPoint> {
    const WORDS: [(&str, AckPoint); 4] = [
        ("received", AckPoint::Received),
        ("durable", AckPoint::Durable),
        ("delivered", AckPoint::Delivered),
        ("consumer", AckPoint::Consumer),
    ];
    let ack = node.one_of(&WORDS, reader.problems)?;
    if matches!(ack, AckPoint::Delivered | AckPoint::Consumer) && !reader.context.gateway.later_acks {
        let message = format!("{:?} is not available in this version", node.as_str().unwrap_or_default());
        let help = "available: \"received\", \"durable\"";
        reader.problems.report_with_help(node.span, "not-available", message, help);
        return None;
    }
    Some(ack)
}

fn ack_within(key: &Key, node: &Node, ack: Option<AckPoint>, problems: &Problems) -> Option<Duration> {
    if matches!(ack, Some(AckPoint::Received | AckPoint::Durable)) {
        let message =
            "\"ack_within\" says nothing beside \"ack: received\" and \"ack: durable\", which wait for nobody";
        problems.report(key.span, "contradiction", message);
        return None;
    }
    node.duration(WITHIN, problems)
}

/// What a sender is promised to be taken exactly once is on disk before it hears so.
fn taken_once(node: &Node, said: &str, then: &str, bridge: Option<&str>, reader: Reader<'_>) {
    let known = reader.context.bridges.iter().find(|known| Some(known.name) == bridge);
    let Some(known) = known.filter(|known| known.exactly_once) else { return };
    let message = format!("bridge {:?} takes messages exactly once, and with {said:?} {then}", known.name);
    let help = format!("leave {said:?} out, or say \"max_qos: 1\" in the bridge");
    reader.problems.report_with_help(node.span, "contradiction", message, help);
}

/// A joining subscriber must never be handed an old command.
fn keep_last(node: &Node, action: Option<&Action>, reader: Reader<'_>) -> Option<bool> {
    let problems = reader.problems;
    let keep = node.one_of(&[("last", true)], problems)?;
    if !reader.context.gateway.last_values {
        problems.report(node.span, "not-available", "\"keep: last\" is not available in this version");
        return None;
    }
    let Some(Action::Envelope(plan)) = action else { return Some(keep) };
    if let Some(performative) = plan.asks().filter(|_| plan.expires.is_none()) {
        let message = format!("{performative} is kept for ever and handed to whoever joins later");
        let help = "say when it \"expires\", or leave \"keep\" out: an old command is no value";
        problems.report_with_help(node.span, "keeps-a-command", message, help);
        return None;
    }
    Some(keep)
}

/// What is said once is not made old by what is said next.
fn shed_latest(node: &Node, action: Option<&Action>, ack: Option<AckPoint>, problems: &Problems) -> Option<bool> {
    let latest = node.one_of(&[("latest", true)], problems)?;
    if matches!(ack, Some(AckPoint::Delivered | AckPoint::Consumer)) {
        let message = "what is dropped for the next one is taken by nobody, and its sender is promised that it is";
        problems.report_with_help(node.span, "contradiction", message, "leave \"shed\" out, or say \"ack: durable\"");
        return None;
    }
    let Some(Action::Envelope(plan)) = action else { return Some(latest) };
    if let Some(performative) = plan.asks() {
        let message = format!("{performative} is dropped for the next one of its topic and key");
        let help = "leave \"shed\" out: a command waits, or its sender hears that it was not taken";
        problems.report_with_help(node.span, "sheds-a-command", message, help);
        return None;
    }
    Some(latest)
}

fn stored(node: &Node, ack: Option<AckPoint>, keeps: Option<&str>, reader: Reader<'_>) -> Option<bool> {
    let problems = reader.problems;
    if node.bool(problems)? {
        return Some(true);
    }
    if !reader.context.gateway.pass_through {
        problems.report(node.span, "not-available", "\"store: false\" is not available in this version");
        return None;
    }
    if matches!(ack, Some(AckPoint::Durable | AckPoint::Consumer)) {
        let help = "say \"ack: received\" or \"ack: delivered\"";
        let message = "what is not stored is never durable, and nobody could consume it later";
        problems.report_with_help(node.span, "contradiction", message, help);
        return None;
    }
    if let Some(key) = keeps {
        let message = format!("what is not stored can't be kept: {key:?} and \"store: false\"");
        problems.report_with_help(node.span, "contradiction", message, "leave one of the two out");
        return None;
    }
    Some(false)
}
