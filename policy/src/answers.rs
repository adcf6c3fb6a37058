//! Answers to requests: what asks for one gets a topic for it, and what comes to such a topic goes to who waits.
//!
//! An answer is not stored: it passes every layer up to MAPPING, then the policies' action `reply`, the places that it
//! comes from and goes to, and its type, which is the one that was asked for, if one was. It is addressed to the topic, or
//! a mapping makes it of a message that is. Who waits, and whether it is in time, is known to the [`ReplyDesk`] of the
//! gateway.

use std::sync::Arc;

use envelope::{
    Admission, Conversation, Data, Envelope, EnvelopeId, Group, IdentityParts, Inbound, Mapped, Principal, RejectKind,
    Rejection, Route, Timestamp, Topic,
};

use ring::{hmac, rand::SystemRandom};

use crate::{
    Epoch, NoRandom,
    conformance::{self, OPAQUE},
    residency,
};

/// Where answers are handed in.
pub trait ReplyDesk: Send + Sync {
    /// Where answers to this envelope go: nobody who has not read it can know it.
    fn topic(&self, id: EnvelopeId) -> Option<Topic>;

    /// Who waits for an answer to this envelope, if anybody does.
    fn asker(&self, inreplyto: EnvelopeId) -> Option<Asker>;

    /// Takes an answer that came `to` a reply topic, or a part of one. Refuses one that is late, or to another envelope;
    /// a part that finds no room before its reader has taken others may be offered again.
    fn answer(&self, to: &Topic, inreplyto: EnvelopeId, answer: &Envelope, part: AnswerPart) -> Result<(), Rejection>;
}

/// What an envelope is of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerPart {
    /// A part, and more follow.
    More,
    /// The last one, or all of it.
    Last,
    /// It says why there is no answer, or no more of it.
    NoAnswer,
}

/// Who waits for an answer.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The bridge that it asked by.
    pub bridge: Arc<str>,
    /// Who asked.
    pub principal: Arc<Principal>,
    /// The type that the answer has to be of; `None`: any that is loaded, or none.
    pub kind: Option<Arc<str>>,
}

/// The topics of answers, of one start of the gateway: who has not read a request can't know its topic.
#[derive(Debug)]
pub struct ReplyTopics(hmac::Key);

/// The name of what takes answers, where messages have the name of their mapping.
const ROUTE: &str = "$reply";
const DECIDED_BY: &str = "reply";
/// What a request may be answered with (FIPA ACL); the first of them if nothing is said.
const PERFORMATIVES: [&str; 8] =
    ["inform", "agree", "refuse", "failure", "not-understood", "propose", "reject", "confirm"];
/// Those of them that say why there is no answer: they are not of the type that was asked for.
const NO_ANSWERS: [&str; 4] = ["refuse", "failure", "not-understood", "reject"];

/// Gives an envelope whose sender waits for an answer the topic for it.
pub(crate) fn stamp(desk: Option<&Arc<dyn ReplyDesk>>, message: &mut Mapped) {
    let Some(within) = message.terms.reply.as_ref().and_then(|reply| reply.within()) else { return };
    let (Some(desk), Group::One(envelope)) = (desk, &mut message.group) else { return };
    let Some(topic) = desk.topic(envelope.id) else { return };
    let by = envelope.time.as_micros().saturating_add(u64::try_from(within.as_micros()).unwrap_or(u64::MAX));
    let conversation = envelope.conversation.get_or_insert_default();
    conversation.replyto = Some(topic.as_str().into());
    conversation.replyby = Some(Timestamp::from_micros(by));
}

/// Whether it is an answer, and not for the mappings.
pub(crate) fn is_answer(inbound: &Inbound) -> bool {
    inbound.address.starts_with(Topic::REPLIES)
}

/// Hands an answer in: who waits for it has it then, or it is refused.
pub(crate) fn take(
    desk: Option<&Arc<dyn ReplyDesk>>,
    epoch: &Epoch,
    inbound: Inbound,
) -> (Route, Result<Admission, Rejection>) {
    let answer = hand_in(desk, epoch, inbound).map(|()| Admission::Filtered);
    (route(), answer)
}

/// What takes answers, where messages have a mapping.
pub(crate) fn route() -> Route {
    Route::new(ROUTE, "1")
}

fn hand_in(desk: Option<&Arc<dyn ReplyDesk>>, epoch: &Epoch, inbound: Inbound) -> Result<(), Rejection> {
    let header = |name: &str| {
        let found = inbound.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(&found.1).ok()
    };
    let subject = Topic::new(&*inbound.address).map_err(|error| refuse(error.to_string()))?;
    let (domain, bridge, principal) = (&*epoch.domain, &*inbound.bridge, &*inbound.principal.id);
    let parts = IdentityParts { domain, bridge, principal, route: ROUTE };
    let conversation = Conversation {
        inreplyto: header("inreplyto").map(Into::into),
        protocol: header("protocol").map(Into::into),
        ..Conversation::default()
    };
    let answer = Envelope {
        datacontenttype: header("content-type").map(Into::into),
        performative: header("performative").map(Into::into),
        trace: inbound.trace.clone(),
        conversation: Some(Box::new(conversation)),
        ..Envelope::plain(
            inbound.identity.envelope_id(parts),
            format!("mesh://{domain}/{bridge}/{principal}").into(),
            header("type").unwrap_or_default().into(),
            subject,
            inbound.received_at.into(),
            Data::Opaque(inbound.payload.clone()),
        )
    };
    judge(desk, epoch, &inbound.principal, bridge, header("more"), answer)
}

/// Whether a mapping made an answer of a message.
pub(crate) fn is_mapped_answer(message: &Mapped) -> bool {
    message.group.as_slice().iter().any(|envelope| envelope.subject.takes_answers())
}

/// Hands in what a mapping made an answer of.
pub(crate) fn take_mapped(desk: Option<&Arc<dyn ReplyDesk>>, epoch: &Epoch, message: Mapped) -> Result<(), Rejection> {
    let Mapped { group, principal, bridge, .. } = message;
    let mut answer = match group {
        Group::One(envelope) => envelope,
        Group::Many(many) => {
            return Err(refuse(format!("an answer is one envelope, and \"each\" makes {} of the message", many.len())));
        }
    };
    // a mapping that names no schema says nothing of the type
    if *answer.kind == *OPAQUE {
        answer.kind = "".into();
    }
    judge(desk, epoch, &principal, &bridge, None, answer)
}

/// What passes is handed in. The answer's type is empty where nothing is said of it; `more`: whether parts follow.
fn judge(
    desk: Option<&Arc<dyn ReplyDesk>>,
    epoch: &Epoch,
    sender: &Arc<Principal>,
    bridge: &str,
    more: Option<&str>,
    mut answer: Envelope,
) -> Result<(), Rejection> {
    let inreplyto = answer.conversation.as_ref().and_then(|conversation| conversation.inreplyto.as_deref());
    let inreplyto =
        inreplyto.ok_or_else(|| refuse("an answer says \"inreplyto\": the id that it answers".to_owned()))?;
    let id = EnvelopeId::parse(inreplyto).ok_or_else(|| refuse("\"inreplyto\" is no id of an envelope".to_owned()))?;
    let performative = answer.performative.get_or_insert_with(|| PERFORMATIVES[0].into());
    if !PERFORMATIVES.contains(&&**performative) {
        return Err(refuse(format!("an answer is one of {}", PERFORMATIVES.join(", "))));
    }
    let is_none = NO_ANSWERS.contains(&&**performative);
    let part = match more {
        None | Some("false") if is_none => AnswerPart::NoAnswer,
        None | Some("false") => AnswerPart::Last,
        Some("true") if is_none => {
            let detail = format!("nothing follows {performative:?}: \"more\" belongs to a part of an answer");
            return Err(refuse(detail));
        }
        Some("true") => AnswerPart::More,
        Some(_) => return Err(refuse("\"more\" is true or false".to_owned())),
    };
    let subject = answer.subject.clone();
    // who does not know the topic hears nothing of what was asked
    let known = desk.filter(|desk| desk.topic(id).as_ref() == Some(&subject));
    let asker = known.and_then(|desk| desk.asker(id));
    let wanted = asker.as_ref().and_then(|asker| asker.kind.as_ref()).filter(|_| !is_none);
    if answer.kind.is_empty() {
        answer.kind = wanted.cloned().unwrap_or_else(|| OPAQUE.into());
    }
    if *answer.kind != *OPAQUE {
        answer.dataschema = Some(format!("mesh://{}/schemas/{}", epoch.domain, answer.kind).into());
    }
    let decision = epoch.policies.may_send(sender, &answer, bridge);
    decision.into_result(sender, || format!("reply to {:?}", subject.as_str()))?;
    // after Access, so that it says nothing to strangers; it is not stored, so the store is not asked
    residency::may_be_handed_in(epoch, sender, &mut answer, bridge)?;
    if let Some(Asker { bridge, principal, .. }) = &asker {
        residency::may_go_to(epoch, &answer, bridge, principal)?;
    }
    conformance::answers(epoch, &answer, wanted)?;
    match desk {
        Some(desk) => desk.answer(&subject, id, &answer, part),
        None => Err(Rejection::new(RejectKind::Conflict, DECIDED_BY, "nobody waits for answers here")),
    }
}

fn refuse(detail: String) -> Rejection {
    Rejection::new(RejectKind::Malformed, DECIDED_BY, detail)
}

// === impl ReplyTopics ===

impl ReplyTopics {
    /// With a key of its own.
    pub fn new() -> Result<Self, NoRandom> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map(Self).map_err(|_| NoRandom)
    }

    /// `$mesh/reply/DOMAIN/` and 128 bits in hexadecimal.
    pub fn topic(&self, domain: &str, id: EnvelopeId) -> Option<Topic> {
        use std::fmt::Write;
        let tag = hmac::sign(&self.0, id.to_string().as_bytes());
        let mut topic = format!("{}{domain}/", Topic::REPLIES);
        for byte in tag.as_ref().iter().take(16) {
            // writing to a String can't fail
            let _ = write!(topic, "{byte:02x}");
        }
        Topic::new(topic).ok()
    }
}
