//! The numbers that a feed gives its messages, and what they say of those that did not come. No I/O.

use std::{collections::HashMap, fmt};

/// What is known of the numbers of a feed.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// By channel; of a feed that counts over all of them, by the empty one.
    last: HashMap<Box<str>, u64>,
    /// How often the feed has begun to count anew while it was connected.
    generation: u64,
    /// It has counted over this connection: what goes back now is no repeat.
    counts: bool,
}

/// A number of a feed that counts over all its channels, among all that it ever gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) generation: u64,
    pub(super) number: u64,
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
    pub(super) fn behind(mark: Option<Mark>) -> Self {
        let generation = mark.map_or(0, |mark| mark.generation);
        Self { last: mark.into_iter().map(|mark| (Box::default(), mark.number)).collect(), generation, counts: false }
    }

    /// Such that this number comes next.
    pub(super) fn before(Mark { generation, number }: Mark) -> Self {
        let behind = number.checked_sub(1).map(|number| Mark { generation, number });
        Self { generation, ..Self::behind(behind) }
    }

    /// There is a new connection, over which the feed may repeat itself.
    pub(super) fn connected(&mut self) {
        self.counts = false;
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
        let counts = std::mem::replace(&mut self.counts, true);
        if let Some(last) = self.last.get_mut(channel) {
            self.generation += u64::from(counts && number < *last);
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

    /// The last number of a feed that counts over all its channels.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.last("").map(|number| Mark { generation: self.generation, number })
    }
}

// === impl Mark ===

impl Mark {
    /// What [`fmt::Display`] writes; the number alone is of a feed that never began anew.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (generation, number) = text.split_once('.').unwrap_or(("0", text));
        Some(Self { generation: generation.parse().ok()?, number: number.parse().ok()? })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.number)
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
        assert_eq!(Sequence::behind(Mark::parse("4")).says("", 6), Says::Missing(1));
    }

    #[test]
    fn a_feed_that_counts_anew_is_told_from_one_that_repeats_itself() {
        let mut sequence = Sequence::behind(Mark::parse("3.41"));
        let mut marks = Vec::new();
        // over a new connection it may repeat itself; over the same one it begins anew
        for number in [40, 41, 41, 42, 1, 2] {
            assert!(sequence.passed("", number));
            marks.push(sequence.mark().unwrap().to_string());
        }
        assert_eq!(marks, ["3.40", "3.41", "3.41", "3.42", "4.1", "4.2"]);
        sequence.connected();
        assert!(sequence.passed("", 1));
        let mark = sequence.mark().unwrap();
        assert_eq!((mark, Mark::parse(&mark.to_string())), (Mark { generation: 4, number: 1 }, Some(mark)));
        assert_eq!(Sequence::before(mark).mark(), Mark::parse("4.0"));
        assert_eq!(Sequence::before(Mark { generation: 4, number: 0 }).mark(), None);
        assert!(["", ".", "1.", "a", "1.2.3"].iter().all(|text| Mark::parse(text).is_none()));
    }

    #[test]
    fn no_more_channels_are_followed_than_there_is_room_for() {
        let mut sequence = Sequence::default();
        assert!((0..MAX_CHANNELS).all(|channel| sequence.passed(&channel.to_string(), 1)));
        assert!(!sequence.passed("one more", 1) && sequence.passed("7", 2));
        assert_eq!(sequence.says("one more", 9), Says::InOrder);
    }
}
