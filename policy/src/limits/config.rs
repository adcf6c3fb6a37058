//! The section `limits` of `policy.yaml`.

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc};

use envelope::{Envelope, Filter, FilterTrie, Topic};
use yaml::{Fields, Node, Problems};

use super::{meters::Rates, rate::Rate};

/// What everybody may send and receive in a second. Left out, nothing is limited.
///
/// ```yaml
/// limits:
///   address: { messages_per_second: 2000 }           # each address, before it is known who sends
///   domain: { bytes_per_second: 100MiB }             # all principals of a domain together
///   principal: { messages_per_second: 500, burst_messages: 1000 }
///   principals: { anonymous: { messages_per_second: 50 } }   # in place of `principal`
///   topics:
///     "telemetry/#": { messages_per_second: 10000 }  # all of them together
///     "telemetry/+/alarm": { messages_per_second: 5, each: topic }
///   receive: { messages_per_second: 1000 }           # each principal, of its subscriptions
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitsConfig {
    pub(super) address: Option<Rates>,
    pub(super) domain: Option<Rates>,
    pub(super) principal: Option<Rates>,
    pub(super) principals: HashMap<Box<str>, Rates>,
    pub(super) receive: Option<Rates>,
    pub(super) topics: Topics,
}

/// The limits of topics, the most specific filter first.
#[derive(Debug, Clone, Default)]
pub(super) struct Topics {
    list: Arc<[TopicRates]>,
    /// Indexes into the list.
    found: Arc<FilterTrie<usize>>,
}

/// The limit of one filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicRates {
    pub(super) filter: Filter,
    pub(super) rates: Rates,
    pub(super) each: Each,
}

/// Who shares a topic limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Each {
    /// Everything that the filter matches.
    All,
    /// Each topic has a budget of its own.
    Topic,
    /// Each principal has.
    Principal,
}

const MESSAGES: RangeInclusive<i64> = 1..=1_000_000_000;
const BYTES: RangeInclusive<u64> = 1..=1 << 50;
/// The most limits that are written down by name, of principals and of topics.
const MAX_NAMED: usize = 100_000;

// === impl LimitsConfig ===

impl LimitsConfig {
    /// Reads the section; what is wrong goes to `problems`.
    pub(crate) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let mut level = |key| match fields.optional(key) {
            Some(node) => rates(node, problems).map(Some),
            None => Some(None),
        };
        let (address, domain, principal, receive) =
            (level("address"), level("domain"), level("principal"), level("receive"));
        let principals = match fields.optional("principals") {
            Some(node) => principals(node, problems),
            None => Some(HashMap::new()),
        };
        let topics = match fields.optional("topics") {
            Some(node) => Topics::read(node, problems),
            None => Some(Topics::default()),
        };
        fields.finish();
        Some(Self {
            address: address?,
            domain: domain?,
            principal: principal?,
            principals: principals?,
            receive: receive?,
            topics: topics?,
        })
    }

    /// In words: what an address is held to.
    pub(crate) fn of_address(&self) -> String {
        told(self.address)
    }

    /// In words: what a principal is held to, and its domain.
    pub(crate) fn of(&self, id: &str) -> String {
        match self.domain {
            None => told(self.of_principal(id)),
            all => format!("{}; its domain {}", told(self.of_principal(id)), told(all)),
        }
    }

    /// In words: what a receiver is held to.
    pub(crate) fn of_receiver(&self) -> String {
        told(self.receive)
    }

    /// In words: what the topics of a message are held to.
    pub(crate) fn of_topics(&self, envelopes: &[Envelope]) -> String {
        let mut found: Vec<_> = envelopes.iter().filter_map(|envelope| self.topics.of(&envelope.subject)).collect();
        found.dedup();
        let words: Vec<_> =
            found.iter().take(5).map(|limit| format!("{} {}", limit.filter, told(Some(limit.rates)))).collect();
        if words.is_empty() { told(None) } else { words.join("; ") }
    }

    /// The limit of one principal: its own, or everybody's.
    pub(super) fn of_principal(&self, id: &str) -> Option<Rates> {
        if self.principals.is_empty() {
            return self.principal;
        }
        self.principals.get(id).copied().or(self.principal)
    }
}

fn told(rates: Option<Rates>) -> String {
    let Some(Rates { messages, bytes }) = rates else { return "not limited".to_owned() };
    let of = |rate: Option<Rate>, what: &str| rate.map(|rate| format!("{} {what} a second", rate.per_second()));
    let both: Vec<_> = [of(messages, "messages"), of(bytes, "bytes")].into_iter().flatten().collect();
    both.join(" and ")
}

/// `{ messages_per_second, burst_messages, bytes_per_second, burst_bytes }`; a burst left out is a second's worth.
fn rates(node: &Node, problems: &Problems) -> Option<Rates> {
    let mut fields = Fields::of(node, problems)?;
    let rates = read_rates(&mut fields, problems);
    fields.finish();
    rates
}

fn read_rates(fields: &mut Fields<'_, '_>, problems: &Problems) -> Option<Rates> {
    let mut number = |key| match fields.optional(key) {
        Some(node) => node.integer(MESSAGES, problems).and_then(|number| u64::try_from(number).ok()).map(Some),
        None => Some(None),
    };
    let messages = number("messages_per_second").zip(number("burst_messages"));
    let mut size = |key| match fields.optional(key) {
        Some(node) => node.bytes(BYTES, problems).map(Some),
        None => Some(None),
    };
    let bytes = size("bytes_per_second").zip(size("burst_bytes"));
    let (messages, bytes) = (messages?, bytes?);
    for ((rate, burst), key) in [(messages, "messages"), (bytes, "bytes")] {
        if burst.is_some() && rate.is_none() {
            let message = format!("burst_{key} says nothing without {key}_per_second");
            problems.report(fields.span().first(), "contradiction", message);
            return None;
        }
    }
    if messages.0.is_none() && bytes.0.is_none() {
        let message = "a limit has messages_per_second, bytes_per_second or both";
        problems.report(fields.span().first(), "missing-key", message);
        return None;
    }
    let rate = |(rate, burst): (Option<u64>, Option<u64>)| rate.map(|rate| Rate::new(rate, burst.unwrap_or(rate)));
    Some(Rates { messages: rate(messages), bytes: rate(bytes) })
}

fn principals(node: &Node, problems: &Problems) -> Option<HashMap<Box<str>, Rates>> {
    let entries = node.map(problems)?;
    within(entries.len(), node, problems)?;
    let read: Vec<_> =
        entries.iter().map(|(key, node)| Some((key.name.as_str().into(), rates(node, problems)?))).collect();
    read.into_iter().collect()
}

fn within(count: usize, node: &Node, problems: &Problems) -> Option<()> {
    if count <= MAX_NAMED {
        return Some(());
    }
    problems.report(node.span.first(), "too-many", format!("{count} limits, the most is {MAX_NAMED}"));
    None
}

// === impl Topics ===

impl Topics {
    fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let entries = node.map(problems)?;
        within(entries.len(), node, problems)?;
        let read: Vec<_> = entries
            .iter()
            .map(|(key, node)| {
                let filter = Filter::new(key.name.as_str())
                    .map_err(|error| problems.report(key.span, "bad-filter", error.to_string()))
                    .ok();
                let mut fields = Fields::of(node, problems)?;
                let each = match fields.optional("each") {
                    Some(node) => node.one_of(
                        &[("all", Each::All), ("topic", Each::Topic), ("principal", Each::Principal)],
                        problems,
                    ),
                    None => Some(Each::All),
                };
                let rates = read_rates(&mut fields, problems);
                fields.finish();
                Some(TopicRates { filter: filter?, rates: rates?, each: each? })
            })
            .collect();
        Some(Self::new(read.into_iter().collect::<Option<_>>()?))
    }

    pub(super) fn new(mut list: Vec<TopicRates>) -> Self {
        list.sort_by_cached_key(|limit| breadth(&limit.filter));
        let mut found = FilterTrie::new();
        for (at, limit) in list.iter().enumerate() {
            found.insert(&limit.filter, at);
        }
        Self { list: list.into(), found: Arc::new(found) }
    }

    /// The limit of the most specific filter that matches.
    pub(super) fn of(&self, topic: &Topic) -> Option<&TopicRates> {
        if self.list.is_empty() {
            return None;
        }
        let mut first = usize::MAX;
        self.found.matches(topic, |at| first = first.min(*at));
        self.list.get(first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl PartialEq for Topics {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Topics {}

/// Sorts filters, the most specific first: where two that match a topic differ first, a word comes before `+`, and `+`
/// before `#`.
pub(crate) fn breadth(filter: &Filter) -> Vec<u8> {
    let of = |segment: &str| match segment {
        "#" => 2,
        "+" => 1,
        _ => 0,
    };
    filter.segments().map(of).collect()
}

#[cfg(test)]
mod tests {
    use yaml::File;

    use super::*;

    fn read(text: &str) -> Result<LimitsConfig, String> {
        let file = File::parse("policy.yaml", text).unwrap();
        file.read(LimitsConfig::read).map_err(|all| all.to_string())
    }

    #[test]
    fn a_burst_left_out_is_a_seconds_worth() {
        let limits =
            read("principal: { messages_per_second: 5 }\ndomain: { bytes_per_second: 1KiB, burst_bytes: 2KiB }");
        let limits = limits.unwrap();
        assert_eq!(limits.of_principal("any"), Some(Rates { messages: Some(Rate::new(5, 5)), bytes: None }));
        assert_eq!(limits.domain, Some(Rates { messages: None, bytes: Some(Rate::new(1_024, 2_048)) }));
        assert_eq!(limits.address, None);
    }

    #[test]
    fn a_principal_named_is_held_to_its_own_limit_only() {
        let limits =
            read("principal: { messages_per_second: 5 }\nprincipals: { a: { messages_per_second: 9 } }").unwrap();
        let of = |id| limits.of_principal(id).and_then(|rates| rates.messages).map(Rate::per_second);
        assert_eq!((of("a"), of("b"), of("#")), (Some(9), Some(5), Some(5)));
    }

    #[test]
    fn the_most_specific_filter_wins_whatever_the_order_in_the_file() {
        let filters = ["#", "a/#", "a/+/c", "a/b/#", "a/b/c", "+/b/c"];
        for turn in 0..filters.len() {
            let mut filters = filters.to_vec();
            filters.rotate_left(turn);
            let text: String = filters.iter().map(|f| format!("  \"{f}\": {{ messages_per_second: 1 }}\n")).collect();
            let limits = read(&format!("topics:\n{text}")).unwrap();
            let of = |topic: &str| limits.topics.of(&Topic::new(topic).unwrap()).map(|t| t.filter.as_str().to_owned());
            for (topic, filter) in [
                ("a/b/c", "a/b/c"),
                ("a/b/d", "a/b/#"),
                ("a/x/c", "a/+/c"),
                ("a/x/y", "a/#"),
                ("z/b/c", "+/b/c"),
                ("z", "#"),
            ] {
                assert_eq!(of(topic).as_deref(), Some(filter), "{topic}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_place() {
        for (text, what) in [
            ("principle: { messages_per_second: 1 }", "did you mean \"principal\"?"),
            ("principal: { messages_per_second: 0 }", "1:35"),
            ("principal: { messages_per_second: 1.5 }", "1:35"),
            ("principal: { messages_per_minute: 1 }", "unknown key"),
            ("principal: {}", "a limit has messages_per_second, bytes_per_second or both"),
            ("principal: { burst_messages: 5 }", "burst_messages says nothing without messages_per_second"),
            ("domain: { bytes_per_second: lots }", "1:29"),
            ("topics: { \"a/#/b\": { messages_per_second: 1 } }", "bad-filter"),
            ("topics: { a: { messages_per_second: 1, each: line } }", "each"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what), "{text:?}: {error}");
        }
    }
}
