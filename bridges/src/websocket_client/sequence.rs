//! The numbers that a feed gives its messages, and what they say of those that did not come. No I/O.

use std::collections::HashMap;

/// What is known of the numbers of one connection.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// By channel; of a feed that counts over all of them, by the empty one.
    last: HashMap<Box<str>, u64>,
}

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// Nothing is missing.
    InOrder,
    /// So many before it did not come.
    Missing(u64),
    /// It came before, or the feed begins anew.
    Before,
}

/// The most channels whose numbers are followed.
const MAX_CHANNELS: usize = 10_000;

// === impl Sequence ===

impl Sequence {
    /// Behind a number that is known from before.
    pub(super) fn behind(last: Option<u64>) -> Self {
        Self { last: last.into_iter().map(|last| (Box::default(), last)).collect() }
    }

    /// What the number of the next message says; the message is not passed yet.
    pub(super) fn says(&self, channel: &str, number: u64) -> Says {
        match self.last.get(channel) {
            None => Says::InOrder,
            Some(last) if number <= *last => Says::Before,
            Some(last) => match number - last - 1 {
                0 => Says::InOrder,
                missing => Says::Missing(missing),
            },
        }
    }

    /// The message is passed. False: there are too many channels to follow this one too.
    pub(super) fn passed(&mut self, channel: &str, number: u64) -> bool {
        if let Some(last) = self.last.get_mut(channel) {
            *last = number;
            return true;
        }
        if self.last.len() >= MAX_CHANNELS {
            return false;
        }
        self.last.insert(channel.into(), number);
        true
    }

    /// The last number of a channel.
    pub(super) fn last(&self, channel: &str) -> Option<u64> {
        self.last.get(channel).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_what_is_missing_in_its_channel() {
        let mut sequence = Sequence::default();
        for (channel, number, says) in [
            ("a", 7, Says::InOrder),
            ("a", 8, Says::InOrder),
            ("b", 1, Says::InOrder),
            ("a", 11, Says::Missing(2)),
            ("a", 11, Says::Before),
            ("b", u64::MAX, Says::Missing(u64::MAX - 2)),
            ("a", 1, Says::Before),
            ("a", 2, Says::InOrder),
        ] {
            assert_eq!(sequence.says(channel, number), says, "{channel} {number}");
            assert!(sequence.passed(channel, number));
        }
        assert_eq!((sequence.last("a"), sequence.last("c")), (Some(2), None));
        assert_eq!(Sequence::behind(Some(4)).says("", 6), Says::Missing(1));
    }

    #[test]
    fn no_more_channels_are_followed_than_there_is_room_for() {
        let mut sequence = Sequence::default();
        assert!((0..MAX_CHANNELS).all(|channel| sequence.passed(&channel.to_string(), 1)));
        assert!(!sequence.passed("one more", 1) && sequence.passed("7", 2));
        assert_eq!(sequence.says("one more", 9), Says::InOrder);
    }
}
