//! Acknowledgements that wait for more than the store: `ack: delivered`, and what came behind such a message.
//!
//! A client hears in the order in which it sent (MQTT-4.6.0-2), so an answer waits for those before it. No permit, no
//! batch and no read waits here, but what waits is bounded: over the bound the connection reads nothing more.

use envelope::{Qos, Reached, RejectKind, Rejection, Settled, Ticket};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};

use super::{Connection, End, publish::Due};
use crate::mqtt::{lane::Waiting, reject};

/// Answers that wait, in the order of their messages.
#[derive(Default)]
pub(super) struct Promised(FuturesOrdered<BoxFuture<'static, Answer>>);

/// What a client is to hear of a message. The message itself is not kept: nothing counts its bytes any more.
pub(super) struct Answer {
    qos: Qos,
    id: u16,
    outcome: Outcome,
}

enum Outcome {
    Yes,
    No(Box<Rejection>),
    Never,
    Late,
}

/// So many answers may wait.
const MAX_PROMISED: usize = 1_024;

// === impl Promised ===

impl Promised {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < MAX_PROMISED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next answers, in order, that are there; pending while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Vec<Answer> {
        let Some(first) = self.0.next().await else { return std::future::pending().await };
        let mut answers = vec![first];
        while let Some(Some(answer)) = self.0.next().now_or_never() {
            answers.push(answer);
        }
        answers
    }
}

impl std::fmt::Debug for Promised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Promised").field("waiting", &self.0.len()).finish()
    }
}

// === impl Connection ===

impl Connection {
    /// A message is stored: its answer is due once its ack point is reached.
    pub(super) fn stored(&mut self, waiting: &Waiting, settled: Settled) {
        match settled {
            Settled::Now => self.in_turn(waiting, None),
            Settled::Never => self.in_turn(waiting, Some(never())),
            Settled::Later(ticket) => self.promise(waiting, ticket),
        }
    }

    fn promise(&mut self, waiting: &Waiting, ticket: Ticket) {
        // nobody hears of it
        if waiting.is_unanswered() {
            return;
        }
        let (qos, id) = (waiting.qos, waiting.id);
        let reached = self.shared.cx.promises.reached(ticket);
        self.promised.0.push_back(Box::pin(async move {
            let outcome = match reached.await {
                // MQTT has no place for the words of an answer in an acknowledgement
                Reached::Yes | Reached::Answered(_) => Outcome::Yes,
                Reached::Never => Outcome::Never,
                Reached::Late => Outcome::Late,
            };
            Answer { qos, id, outcome }
        }));
    }

    /// Answers now, or behind what waits.
    pub(super) fn in_turn(&mut self, waiting: &Waiting, refused: Option<Rejection>) {
        let (qos, id) = (waiting.qos, waiting.id);
        if self.promised.is_empty() {
            return self.answer(qos, id, refused.as_ref());
        }
        if waiting.is_unanswered() {
            return;
        }
        let outcome = refused.map_or(Outcome::Yes, |refused| Outcome::No(Box::new(refused)));
        self.promised.0.push_back(Box::pin(std::future::ready(Answer { qos, id, outcome })));
    }

    /// What waited longest has its outcome.
    pub(super) async fn reached(&mut self, answers: Vec<Answer>) -> Result<(), End> {
        let heard = || answers.iter().take_while(|answer| !matches!(answer.outcome, Outcome::Late));
        self.free(heard().map(Answer::due).collect()).await?;
        for Answer { qos, id, outcome } in heard() {
            match outcome {
                Outcome::Yes => self.answer(*qos, *id, None),
                Outcome::No(refused) => self.answer(*qos, *id, Some(refused)),
                Outcome::Never => self.answer(*qos, *id, Some(&never())),
                // none is heard
                Outcome::Late => {}
            }
        }
        if heard().count() < answers.len() { Err(End::Late) } else { Ok(()) }
    }
}

// === impl Answer ===

impl Answer {
    fn due(&self) -> Due {
        Due { qos: self.qos, id: self.id, refused: matches!(self.outcome, Outcome::No(_) | Outcome::Never) }
    }
}

fn never() -> Rejection {
    Rejection::new(RejectKind::Conflict, reject::DECIDED_BY, "whoever was to take the message did not")
}

#[cfg(test)]
mod tests {
    use envelope::Inbound;

    use super::*;

    #[test]
    fn an_answer_that_waits_has_nothing_of_its_message() {
        assert!(size_of::<Answer>() < size_of::<Inbound>());
    }
}
