//! Answers to requests: whatever hands one in, it is what its type says, and of the type that was asked for.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use envelope::{Batch, Envelope, EnvelopeId, Identity, Inbound, Principal, RejectKind, Rejection, Topic};

use super::world::{DOMAIN, READING, World, inbound};
use crate::{AnswerPart, Asker, ReplyDesk};

/// Waits for one answer, of a type if there is one.
#[derive(Debug, Default)]
struct Desk {
    kind: Option<Arc<str>>,
    answers: Mutex<Vec<(Envelope, AnswerPart)>>,
}

const ASKED: &str = "00000000-0000-0000-0000-000000000007";
const TOPIC: &str = "$mesh/reply/plant-a/00";

impl ReplyDesk for Desk {
    fn topic(&self, id: EnvelopeId) -> Option<Topic> {
        (id == EnvelopeId::parse(ASKED).unwrap()).then(|| Topic::new(TOPIC).unwrap())
    }

    fn asker(&self, id: EnvelopeId) -> Option<Asker> {
        let principal = Arc::new(Principal::anonymous(DOMAIN));
        (id == EnvelopeId::parse(ASKED).unwrap()).then(|| Asker {
            bridge: "web".into(),
            principal,
            kind: self.kind.clone(),
        })
    }

    fn answer(&self, _: &Topic, _: EnvelopeId, answer: &Envelope, part: AnswerPart) -> Result<(), Rejection> {
        self.answers.lock().unwrap().push((answer.clone(), part));
        Ok(())
    }
}

/// What becomes of an answer with these headers, where this type is asked for; and the answer, if it was handed in.
fn answered(asked_for: Option<&str>, to: &str, headers: &[(&str, &str)], payload: &str) -> Result<Envelope, Rejection> {
    handed_in(asked_for, to, headers, payload).map(|(answer, _)| answer)
}

/// And what it is of an answer.
fn handed_in(
    asked_for: Option<&str>,
    to: &str,
    headers: &[(&str, &str)],
    payload: &str,
) -> Result<(Envelope, AnswerPart), Rejection> {
    let desk = Arc::new(Desk { kind: asked_for.map(Into::into), ..Desk::default() });
    let world = World::with_desk(desk.clone());
    let headers = [&[("inreplyto", ASKED)], headers].concat();
    let owned = |(name, value): (&str, &str)| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    let headers = headers.into_iter().map(owned).collect();
    let message =
        Inbound { headers, payload: payload.to_owned().into(), identity: Identity::fresh(), ..inbound(1, to) };
    let verdict = world.offer(Batch::one(message)).pop().unwrap();
    let handed_in = desk.answers.lock().unwrap().pop();
    verdict.answer.map(|_| handed_in.unwrap())
}

fn refused(asked_for: Option<&str>, headers: &[(&str, &str)], payload: &str) -> String {
    let no = answered(asked_for, TOPIC, headers, payload).unwrap_err();
    assert_eq!((no.kind, no.decider()), (RejectKind::Malformed, "conformance"), "{no}");
    no.detail
}

#[test]
fn an_answer_is_what_its_type_says() {
    let typed = [("type", READING)];
    let answer = answered(None, TOPIC, &typed, r#"{"celsius": 21}"#).unwrap();
    assert_eq!(&*answer.kind, READING);
    assert_eq!(answer.dataschema.as_deref(), Some("mesh://plant-a/schemas/telemetry/reading@v1.0.0"));
    assert!(refused(None, &typed, r#"{"celsius": "hot"}"#).contains("hot"));
    assert!(refused(None, &typed, "no JSON").contains("data of type"));
    assert!(refused(None, &[("type", "market/quote@v1.0.0")], "{}").contains("no schema \"market/quote@v1.0.0\""));
    assert_eq!(&*answered(None, TOPIC, &[], "whatever").unwrap().kind, "mesh/opaque@v1.0.0");
}

#[test]
fn an_answer_is_of_the_type_that_was_asked_for_whether_it_says_so_or_not() {
    for headers in [&[][..], &[("type", READING)]] {
        assert_eq!(&*answered(Some(READING), TOPIC, headers, r#"{"celsius": 21}"#).unwrap().kind, READING);
        assert!(refused(Some(READING), headers, "{}").contains("celsius"));
    }
    let other = [("type", "mesh/opaque@v1.0.0")];
    assert_eq!(
        refused(Some(READING), &other, r#"{"celsius": 21}"#),
        "an answer of type \"telemetry/reading@v1.0.0\" was asked for, not \"mesh/opaque@v1.0.0\""
    );
}

#[test]
fn who_says_why_there_is_no_answer_need_not_answer() {
    for performative in ["refuse", "failure", "not-understood", "reject"] {
        assert!(
            answered(Some(READING), TOPIC, &[("performative", performative)], "too busy").is_ok(),
            "{performative}"
        );
    }
    for performative in ["inform", "agree", "propose", "confirm"] {
        refused(Some(READING), &[("performative", performative)], "too busy");
    }
}

#[test]
fn an_answer_says_whether_more_follows_and_a_refusal_is_its_end() {
    let part = |headers: &[(&str, &str)]| handed_in(None, TOPIC, headers, "{}").map(|(_, part)| part);
    assert_eq!(part(&[]).unwrap(), AnswerPart::Last);
    assert_eq!(part(&[("more", "false")]).unwrap(), AnswerPart::Last);
    assert_eq!(part(&[("more", "true")]).unwrap(), AnswerPart::More);
    assert_eq!(part(&[("performative", "failure")]).unwrap(), AnswerPart::NoAnswer);
    for headers in [&[("more", "yes")][..], &[("more", "true"), ("performative", "failure")]] {
        let no = part(headers).unwrap_err();
        assert_eq!((no.kind, no.decider()), (RejectKind::Malformed, "reply"), "{no}");
    }
}

#[test]
fn an_answer_of_a_protocol_that_is_not_loaded_is_refused() {
    let said = refused(None, &[("protocol", "urn:contract-net@1")], "{}");
    assert_eq!(said, "no package of protocol \"urn:contract-net@1\" is loaded");
}

#[test]
fn who_does_not_know_the_topic_hears_nothing_of_the_type_that_was_asked_for() {
    let stray = "$mesh/reply/plant-a/ff";
    assert_eq!(&*answered(Some(READING), stray, &[], "{}").unwrap().kind, "mesh/opaque@v1.0.0");
}
