//! Acknowledgements that wait for more than the store: `ack: delivered`, and what came behind such a message.
//!
//! A client hears in the order in which it sent (MQTT-4.6.0-2), so an answer waits for those before it. No permit, no
//! batch and no read waits here, but what waits is bounded: over the bound the connection reads nothing more.

use envelope::{Qos, Reached, RejectKind, Rejection, Settled, Ticket};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};

use super::{Connection, End};
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
    /// Its identifier is free for another message already.
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

    /// The next answer; pending while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Answer {
        match self.0.next().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
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
        if self.promised.0.is_empty() {
            return self.answer(qos, id, refused.as_ref());
        }
        if waiting.is_unanswered() {
            return;
        }
        let outcome = refused.map_or(Outcome::Yes, |refused| Outcome::No(Box::new(refused)));
        self.promised.0.push_back(Box::pin(std::future::ready(Answer { qos, id, outcome })));
    }

    /// What waited longest has its outcome.
    pub(super) async fn reached(&mut self, Answer { qos, id, outcome }: Answer) -> Result<(), End> {
        match outcome {
            Outcome::Yes => self.answer(qos, id, None),
            Outcome::No(refused) => self.answer(qos, id, Some(&refused)),
            Outcome::Never => {
                self.free([(qos, id)]).await?;
                self.answer(qos, id, Some(&never()));
            }
            Outcome::Late => return Err(End::Late),
        }
        Ok(())
    }
}

fn never() -> Rejection {
    Rejection::new(RejectKind::Conflict, reject::DECIDED_BY, "the message is stored, and who was to take it did not")
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
