//! What a bridge would take in again of what it sends, and which addresses its mappings take: for bridges that ask a
//! remote peer for messages by the addresses of mappings, and get from it what they sent.

use std::collections::BTreeSet;

use crate::Mappings;

/// A mapping that sends to where another one of the same bridge takes messages in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo<'a> {
    /// The mapping that sends.
    pub sender: &'a str,
    /// Its file.
    pub file: &'a str,
    /// Where it sends to, `+` where a value stands in a segment.
    pub sends_to: String,
    /// The mapping that takes it in.
    pub taker: &'a str,
}

// === impl Mappings ===

impl Mappings {
    /// The addresses that mappings of this bridge take, each once, `+` where any segment may stand.
    pub fn addresses(&self, bridge: &str) -> BTreeSet<String> {
        let of_it = self.all.iter().filter(|mapping| *mapping.from.bridge == *bridge);
        of_it.map(|mapping| joined(mapping.from.pattern.segments())).collect()
    }

    /// The mappings that send through this bridge to an address that another one of it takes, and are not meant to
    /// (`echo: true`); each sender once.
    pub fn echoes(&self, bridge: &str) -> Vec<Echo<'_>> {
        let takers: Vec<_> = self.all.iter().filter(|mapping| *mapping.from.bridge == *bridge).collect();
        let senders = self.egress.iter().filter(|egress| *egress.to.bridge == *bridge && !egress.to.echo);
        let found = senders.filter_map(|egress| {
            let sent = egress.to.segments();
            let taker = takers.iter().find(|taker| {
                let taken: Vec<_> = taker.from.pattern.segments().collect();
                taken.len() == sent.len()
                    && taken.iter().zip(&sent).all(|(taken, sent)| may_be(*taken, sent.as_deref()))
            })?;
            Some(Echo {
                sender: egress.route.name(),
                file: &egress.path,
                sends_to: joined(sent.iter().map(Option::as_deref)),
                taker: taker.route.name(),
            })
        });
        found.collect()
    }
}

/// Whether both can be the same segment.
fn may_be(taken: Option<&str>, sent: Option<&str>) -> bool {
    match (taken, sent) {
        (Some(taken), Some(sent)) => taken == sent,
        (None, _) | (_, None) => true,
    }
}

fn joined<'a>(segments: impl Iterator<Item = Option<&'a str>>) -> String {
    segments.map(|segment| segment.unwrap_or("+")).collect::<Vec<_>>().join("/")
}
