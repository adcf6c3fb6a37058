//! Answers that are known before their turn: a broker hears in the order in which it sent (MQTT-4.6.0-2).
//!
//! What is offered to the mesh stays in the lane until it has an outcome. What is answered without being offered, such as
//! the gateway's own message, waits here for all that was offered before it.

use std::collections::VecDeque;

use crate::mqtt::answers::Answer;

/// Answers that wait for the lane.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// How many messages were put into the lane.
    offered: u64,
    /// How many of them have an outcome, the first ones.
    settled: u64,
    /// Each with how many were in the lane before it.
    waiting: VecDeque<(u64, Answer)>,
}

/// So many may wait.
const MOST: usize = 1_024;

// === impl Turns ===

impl Turns {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    /// A message is in the lane.
    pub(super) fn offered(&mut self) {
        self.offered += 1;
    }

    /// The first message of the lane has an outcome.
    pub(super) fn settled(&mut self) {
        self.settled += 1;
    }

    /// An answer whose turn is once all that is in the lane has an outcome. One that nobody hears is forgotten.
    pub(super) fn push(&mut self, answer: Answer) {
        if !answer.of.is_unanswered() {
            self.waiting.push_back((self.offered, answer));
        }
    }

    /// The next answer whose turn it is.
    pub(super) fn due(&mut self) -> Option<Answer> {
        let (_, answer) = self.waiting.pop_front_if(|(before, _)| *before <= self.settled)?;
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use envelope::Qos;

    use super::*;
    use crate::mqtt::answers::Of;

    fn yes(id: u16) -> Answer {
        Of { qos: Qos::AtLeastOnce, id }.yes()
    }

    #[test]
    fn an_answer_is_due_once_all_that_was_offered_before_it_has_an_outcome() {
        let mut turns = Turns::default();
        turns.push(yes(1));
        assert_eq!(turns.due().map(|answer| answer.of.id), Some(1), "nothing is before it");
        turns.offered();
        turns.push(yes(3));
        turns.offered();
        turns.push(yes(5));
        assert!(turns.due().is_none());
        turns.settled();
        assert_eq!(turns.due().map(|answer| answer.of.id), Some(3));
        assert!(turns.due().is_none());
        turns.settled();
        assert_eq!(turns.due().map(|answer| answer.of.id), Some(5));
    }

    #[test]
    fn at_qos_0_nothing_waits_and_what_waits_is_bounded() {
        let mut turns = Turns::default();
        turns.offered();
        turns.push(Of { qos: Qos::AtMostOnce, id: 0 }.yes());
        turns.settled();
        assert!(turns.due().is_none());
        turns.offered();
        for id in 0..1_024 {
            assert!(turns.has_room());
            turns.push(yes(id));
        }
        assert!(!turns.has_room());
    }
}
