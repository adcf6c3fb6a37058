//! Answers to whoever published, in the order in which it sent (MQTT-4.6.0-2): one that waits for more than the store, such as
//! `ack: delivered`, keeps those behind it.
//!
//! No permit, no batch and no read waits here, but what waits is bounded: over the bound the connection reads nothing more.

use envelope::{Promises, Qos, Reached, RejectKind, Rejection, Settled};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};

use super::{packet::Acked, reject};

/// Answers that wait, in the order of their messages.
#[derive(Default)]
pub(super) struct Answers(FuturesOrdered<BoxFuture<'static, Answer>>);

/// What the sender is to hear of a message. The message itself is not kept: nothing counts its bytes any more.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) of: Of,
    pub(super) outcome: Outcome,
}

/// A message, as its sender knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) qos: Qos,
    /// 0 for QoS 0.
    pub(super) id: u16,
}

#[derive(Debug)]
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
        if self.0.is_empty() || answer.of.is_unanswered() {
            return Some(answer);
        }
        self.0.push_back(Box::pin(std::future::ready(answer)));
        None
    }

    /// A message is stored: its answer is due once its ack point is reached.
    pub(super) fn stored(&mut self, of: Of, settled: Settled, promises: &dyn Promises) -> Option<Answer> {
        let ticket = match settled {
            Settled::Now | Settled::Elsewhere => return self.push(of.yes()),
            Settled::Never => return self.push(of.no(never())),
            Settled::Later(_) if of.is_unanswered() => return None,
            Settled::Later(ticket) => ticket,
        };
        let reached = promises.reached(ticket);
        self.0.push_back(Box::pin(async move {
            match reached.await {
                // MQTT has no place for the words of an answer in an acknowledgement
                Reached::Yes | Reached::Answered(_) | Reached::Parts(..) | Reached::Elsewhere => of.yes(),
                Reached::Never => of.no(never()),
                Reached::Late => Answer { of, outcome: Outcome::Late },
            }
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

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("waiting", &self.0.len()).finish()
    }
}

// === impl Answer ===

impl Answer {
    /// Why the sender hears no, if it does.
    pub(super) fn refused(&self) -> Option<&Rejection> {
        match &self.outcome {
            Outcome::No(refused) => Some(refused),
            Outcome::Yes | Outcome::Late => None,
        }
    }
}

// === impl Of ===

impl Of {
    pub(super) fn yes(self) -> Answer {
        Answer { of: self, outcome: Outcome::Yes }
    }

    pub(super) fn no(self, refused: Rejection) -> Answer {
        Answer { of: self, outcome: Outcome::No(Box::new(refused)) }
    }

    /// By which packet the sender hears; `None`: by none.
    pub(super) fn acked(self) -> Option<Acked> {
        match self.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Acked::Publish),
            Qos::ExactlyOnce => Some(Acked::Received),
        }
    }

    pub(super) fn is_unanswered(self) -> bool {
        self.qos == Qos::AtMostOnce
    }
}

/// The answers that can be given: those before the first whose message may still be delivered; and whether there is one.
pub(super) fn in_time(answers: &[Answer]) -> (&[Answer], bool) {
    match answers.iter().position(|answer| matches!(answer.outcome, Outcome::Late)) {
        Some(late) => (&answers[..late], true),
        None => (answers, false),
    }
}

fn never() -> Rejection {
    Rejection::new(RejectKind::Conflict, reject::DECIDED_BY, "whoever was to take the message did not")
}

#[cfg(test)]
mod tests {
    use envelope::Ticket;

    use super::*;

    /// Ticket 0 is kept, 1 is broken, all others are late.
    struct Tickets;

    impl Promises for Tickets {
        fn reached(&self, ticket: Ticket) -> BoxFuture<'static, Reached> {
            let reached = [Reached::Yes, Reached::Never].into_iter().nth(ticket.0 as usize);
            Box::pin(std::future::ready(reached.unwrap_or(Reached::Late)))
        }
    }

    fn of(id: u16) -> Of {
        Of { qos: Qos::AtLeastOnce, id }
    }

    #[test]
    fn an_answer_that_waits_has_nothing_of_its_message() {
        assert!(size_of::<Answer>() <= 32);
    }

    #[tokio::test]
    async fn answers_are_in_order_behind_the_one_that_waits() {
        let mut answers = Answers::default();
        assert!(answers.push(of(1).yes()).is_some(), "nothing waits");
        assert!(answers.stored(of(2), Settled::Later(Ticket(0)), &Tickets).is_none());
        assert!(answers.stored(of(3), Settled::Now, &Tickets).is_none());
        assert!(answers.stored(of(4), Settled::Later(Ticket(1)), &Tickets).is_none());
        let once = Of { qos: Qos::AtMostOnce, id: 0 };
        assert!(answers.stored(once, Settled::Later(Ticket(0)), &Tickets).is_none());
        assert!(answers.push(once.yes()).is_some(), "nobody waits for it");
        assert!(answers.stored(of(5), Settled::Later(Ticket(2)), &Tickets).is_none());
        assert!(answers.push(of(6).yes()).is_none());
        let came = answers.next().await;
        let said: Vec<_> = came.iter().map(|one| (one.of.id, one.refused().is_some())).collect();
        assert_eq!(said, [(2, false), (3, false), (4, true), (5, false), (6, false)]);
        let (given, late) = in_time(&came);
        assert_eq!((given.len(), late), (3, true));
    }
}
