//! Answers to the broker, in the order in which it sent (MQTT-4.6.0-2): one that waits for more than the store, such as
//! `ack: delivered`, keeps those behind it.

use envelope::{Promises, Reached, RejectKind, Rejection, Settled};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};

use crate::mqtt::{lane::Waiting, reject};

/// Answers that wait.
#[derive(Default)]
pub(super) struct Answers(FuturesOrdered<BoxFuture<'static, Answer>>);

/// What the broker is to hear of a message.
pub(super) struct Answer {
    pub(super) waiting: Waiting,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Yes,
    No(Box<Rejection>),
    /// It is stored, and did not reach its ack point in time.
    Late,
}

/// So many may wait.
const MOST: usize = 1_024;

// === impl Answers ===

impl Answers {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < MOST
    }

    /// Puts an answer behind those that wait; gives it back if none does, or if nobody hears it.
    pub(super) fn push(&mut self, answer: Answer) -> Option<Answer> {
        if self.0.is_empty() || answer.waiting.is_unanswered() {
            return Some(answer);
        }
        self.0.push_back(Box::pin(std::future::ready(answer)));
        None
    }

    /// A message is stored: its answer is due once its ack point is reached.
    pub(super) fn stored(&mut self, waiting: Waiting, settled: Settled, promises: &dyn Promises) -> Option<Answer> {
        let ticket = match settled {
            Settled::Now => return self.push(Answer { waiting, outcome: Outcome::Yes }),
            Settled::Never => return self.push(Answer { waiting, outcome: Outcome::No(Box::new(never())) }),
            Settled::Later(_) if waiting.is_unanswered() => return None,
            Settled::Later(ticket) => ticket,
        };
        let reached = promises.reached(ticket);
        self.0.push_back(Box::pin(async move {
            let outcome = match reached.await {
                // MQTT has no place for the words of an answer in an acknowledgement
                Reached::Yes | Reached::Answered(_) => Outcome::Yes,
                Reached::Never => Outcome::No(Box::new(never())),
                Reached::Late => Outcome::Late,
            };
            Answer { waiting, outcome }
        }));
        None
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

fn never() -> Rejection {
    Rejection::new(RejectKind::Conflict, reject::DECIDED_BY, "whoever was to take the message did not")
}
