//! The desk where answers are handed in: to the message that waits for them, whole or in parts.
//!
//! The first answer counts. One that says that more follow makes the rest its agent's: what anybody else says is refused,
//! and what the agent says goes to the one reader, in the order in which it came.

use std::sync::Arc;

use bytes::Bytes;
use envelope::{Envelope, EnvelopeId, Reached, RejectKind, Rejection, Reply, Terms, Timestamp, Topic};
use policy::{AnswerPart, Asker, ReplyDesk};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Tickets,
    parts::{self, Offered},
    table::Fate,
};

/// What an envelope that answers is.
enum Asked {
    /// The first of it.
    First(Arc<Terms>),
    /// A part of what has begun.
    Next(Arc<Terms>),
    /// A part that is there already: its sender did not hear of it.
    Repeated,
}

// === impl Tickets ===

impl Tickets {
    /// The parts of an answer have one reader: the first that waits for them.
    pub(super) fn read(&self, message: Uuid, first: Option<Reply>) -> Reached {
        let mut table = self.table();
        let Some(entry) = table.get_mut(message) else { return Reached::Late };
        match entry.reader.take() {
            Some(reader) => Reached::Parts(first, reader.into_parts(entry.until, self.0.drain.clone())),
            None => Reached::Elsewhere,
        }
    }

    /// What an answer to this envelope is made with, if somebody waits for one.
    fn asked(&self, id: EnvelopeId, answer: &Envelope) -> Result<Asked, &'static str> {
        let table = self.table();
        let entry = table.get(id.uuid()).filter(|entry| entry.until > Instant::now());
        let entry = entry.ok_or("nobody waits for this answer any more")?;
        let terms = entry.terms.clone().ok_or("nobody waits for an answer to this envelope")?;
        match &entry.writer {
            Some(writer) if !writer.is_of(&answer.source) => Err("another agent answers it already, in parts"),
            Some(writer) if writer.has_taken(answer.id) => Ok(Asked::Repeated),
            Some(_) => Ok(Asked::Next(terms)),
            None if entry.is_open() => Ok(Asked::First(terms)),
            None if entry.last == Some(answer.id) => Ok(Asked::Repeated),
            None => Err("it was answered before: the first answer counts"),
        }
    }

    /// A part of an answer that has begun.
    fn goes_on(&self, id: EnvelopeId, answer: EnvelopeId, payload: Bytes, last: bool) -> Result<(), Rejection> {
        let mut table = self.table();
        let found = table.get_mut(id.uuid()).and_then(|entry| {
            let is_heard = entry.is_heard();
            entry.writer.as_mut().filter(|_| is_heard)
        });
        match found.map_or(Offered::Gone, |writer| writer.offer(answer, payload, last, &self.0.room)) {
            Offered::Taken => {
                if last {
                    table.last(id.uuid(), answer);
                    table.done(id.uuid());
                }
                Ok(())
            }
            Offered::Full => {
                let detail = "who asked has not taken the parts before this one yet";
                Err(Rejection::new(RejectKind::Overloaded, "reply", detail))
            }
            Offered::Gone => {
                table.done(id.uuid());
                Err(Rejection::new(RejectKind::Conflict, "reply", "who asked has left: nobody reads the rest"))
            }
        }
    }

    /// Who answers gives no more of it.
    fn gives_up(&self, id: EnvelopeId) {
        let mut table = self.table();
        if let Some(writer) = table.get_mut(id.uuid()).and_then(|entry| entry.writer.take()) {
            writer.give_up();
        }
        table.done(id.uuid());
    }
}

impl ReplyDesk for Tickets {
    fn topic(&self, id: EnvelopeId) -> Option<Topic> {
        self.0.topics.topic(&self.0.domain, id)
    }

    fn asker(&self, inreplyto: EnvelopeId) -> Option<Asker> {
        let table = self.table();
        let entry = table.get(inreplyto.uuid())?;
        let (bridge, principal) = entry.asker.clone()?;
        let reply = entry.terms.as_ref().and_then(|terms| terms.reply.as_deref());
        Some(Asker { bridge, principal, kind: reply.and_then(|reply| reply.kind().cloned()) })
    }

    fn answer(&self, to: &Topic, inreplyto: EnvelopeId, answer: &Envelope, part: AnswerPart) -> Result<(), Rejection> {
        if self.topic(inreplyto).is_none_or(|expected| expected != *to) {
            let detail = "it does not answer the envelope of this reply topic";
            return Err(Rejection::new(RejectKind::Denied, "reply", detail));
        }
        let asked = || self.asked(inreplyto, answer).map_err(|why| Rejection::new(RejectKind::Conflict, "reply", why));
        // the mapping's own expressions: nobody else waits for them
        let worded = |terms: &Terms| match &terms.reply {
            Some(replies) => replies.answered(answer, Timestamp::now()),
            None => Ok(None),
        };
        // again where another answer came first meanwhile
        loop {
            let is_first = match asked()? {
                Asked::Repeated => return Ok(()),
                Asked::Next(_) if part == AnswerPart::NoAnswer => {
                    self.gives_up(inreplyto);
                    return Ok(());
                }
                Asked::Next(terms) => {
                    let payload = worded(&terms)?.map(|reply| reply.payload).unwrap_or_default();
                    return self.goes_on(inreplyto, answer.id, payload, part == AnswerPart::Last);
                }
                Asked::First(terms) => {
                    let reply = worded(&terms)?;
                    match part {
                        AnswerPart::More => {
                            let way = parts::open(answer.source.clone(), answer.id);
                            self.table().begin(inreplyto.uuid(), reply, way)
                        }
                        AnswerPart::Last | AnswerPart::NoAnswer => {
                            let mut table = self.table();
                            let is_first = table.decide(inreplyto.uuid(), Fate::Answered(reply));
                            if is_first {
                                table.last(inreplyto.uuid(), answer.id);
                            }
                            is_first
                        }
                    }
                }
            };
            if is_first {
                return Ok(());
            }
        }
    }
}
