//! How much a message matters when not all can be taken.

/// Priority classes; the one that matters most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for what it brings about. Never shed.
    Command,
    /// It is said once. What nothing names is of this class.
    Event,
    /// The next one says the same, only newer.
    Telemetry,
    /// It can come at any time.
    Bulk,
}

// === impl Priority ===

impl Priority {
    /// All classes, the one that matters most first.
    pub const ALL: [Self; 4] = [Self::Command, Self::Event, Self::Telemetry, Self::Bulk];
    /// Their words, in the same order.
    pub const WORDS: [&str; 4] = ["command", "event", "telemetry", "bulk"];

    /// The word for it in files, in envelopes and in metrics.
    pub const fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// The class of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_a_word_that_reads_back() {
        for class in Priority::ALL {
            assert_eq!(Priority::parse(class.word()), Some(class));
        }
        assert_eq!((Priority::Command.word(), Priority::Bulk.word()), ("command", "bulk"));
        assert_eq!(Priority::parse("Command"), None);
        assert!(Priority::Command < Priority::Bulk);
    }
}
