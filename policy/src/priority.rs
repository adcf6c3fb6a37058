//! The section `priority` of `policy.yaml`: which class a message is of, by its topic, unless its mapping says so.

use std::sync::Arc;

use envelope::{Envelope, Filter, FilterTrie, Mapped, Priority as PriorityClass, Topic};
use yaml::{Fields, Node, Problems};

use crate::limits::breadth;

/// Classes by topic filter; of several filters that match, the most specific one counts.
///
/// ```yaml
/// priority:
///   command: ["command/#"]
///   telemetry: ["telemetry/#"]
///   bulk: ["upload/#", "telemetry/history/#"]
/// ```
#[derive(Debug, Clone, Default)]
pub struct PriorityConfig {
    /// The most specific filter first.
    rules: Arc<[(Filter, PriorityClass)]>,
    found: Arc<FilterTrie<usize>>,
}

/// The most filters.
const MAX_RULES: usize = 10_000;

// === impl PriorityConfig ===

impl PriorityConfig {
    /// Reads the section; what is wrong goes to `problems`.
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let read = PriorityClass::ALL.map(|class| match fields.optional(class.word()) {
            Some(node) => filters(node, class, problems),
            None => Some(Vec::new()),
        });
        fields.finish();
        let mut rules: Vec<_> = read.into_iter().collect::<Option<Vec<_>>>()?.concat();
        if rules.len() > MAX_RULES {
            let message = format!("{} filters, the most is {MAX_RULES}", rules.len());
            problems.report(node.span.first(), "too-many", message);
            return None;
        }
        rules.sort_by_cached_key(|(filter, class)| (breadth(filter), *class));
        let mut found = FilterTrie::new();
        for (at, (filter, _)) in rules.iter().enumerate() {
            found.insert(filter, at);
        }
        Some(Self { rules: rules.into(), found: Arc::new(found) })
    }

    /// The class of a topic.
    pub fn of_topic(&self, topic: &Topic) -> PriorityClass {
        let mut first = usize::MAX;
        self.found.matches(topic, |at| first = first.min(*at));
        self.rules.get(first).map_or(PriorityClass::Event, |(_, class)| *class)
    }

    /// The class of a message, which its mapping may say: of a group, the one that matters most.
    pub(crate) fn of(&self, message: &Mapped) -> PriorityClass {
        let of = |envelope: &Envelope| envelope.priority.unwrap_or_else(|| self.of_topic(&envelope.subject));
        let classes = message.group.as_slice().iter().map(of);
        classes.min().unwrap_or(PriorityClass::Event)
    }
}

impl PartialEq for PriorityConfig {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Eq for PriorityConfig {}

fn filters(node: &Node, class: PriorityClass, problems: &Problems) -> Option<Vec<(Filter, PriorityClass)>> {
    let read: Vec<_> = node
        .list(problems)?
        .iter()
        .map(|item| match Filter::new(item.string(problems)?) {
            Ok(filter) => Some((filter, class)),
            Err(error) => {
                problems.report(item.span, "bad-filter", error.to_string());
                None
            }
        })
        .collect();
    read.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(text: &str, topic: &str) -> PriorityClass {
        let file = yaml::File::parse("policy.yaml", text).unwrap();
        file.read(PriorityConfig::read).unwrap().of_topic(&Topic::new(topic).unwrap())
    }

    #[test]
    fn the_most_specific_filter_says_the_class_and_what_none_names_is_an_event() {
        let text = "telemetry: [\"telemetry/#\"]\nbulk: [\"telemetry/history/#\"]\ncommand: [\"+/+/stop\"]\n";
        for (topic, expected) in [
            ("telemetry/7", PriorityClass::Telemetry),
            ("telemetry/history/7", PriorityClass::Bulk),
            ("press/7/stop", PriorityClass::Command),
            ("telemetry/7/stop", PriorityClass::Telemetry),
            ("alarm", PriorityClass::Event),
        ] {
            assert_eq!(class(text, topic), expected, "{topic}");
        }
        let both = "bulk: [\"a/#\"]\ncommand: [\"a/#\"]\n";
        assert_eq!(class(both, "a/b"), PriorityClass::Command, "of two that say the same, the one that matters more");
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_place() {
        for (text, what) in [("urgent: [a]", "unknown key"), ("bulk: a", "a list"), ("bulk: [\"#/a\"]", "bad-filter")] {
            let file = yaml::File::parse("policy.yaml", text).unwrap();
            let error = file.read(PriorityConfig::read).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
