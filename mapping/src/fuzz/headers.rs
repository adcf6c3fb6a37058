//! Headers for made-up messages: those that a mapping reads, with values that its tests give or its expressions name, or any.

use std::collections::{BTreeMap, BTreeSet};

use envelope::Headers;

use crate::{file::Mapping, proof::Samples};

/// A header that is read is left out of one message in so many.
const MISSING: u8 = 8;
/// One value in so many is any text, where values are known.
const ANY: u8 = 4;

/// The headers that a mapping reads, and values that mean something to it.
#[derive(Debug)]
pub(super) struct Read(BTreeMap<Box<str>, Vec<Box<str>>>);

// === impl Read ===

impl Read {
    /// HTTP's headers and MQTT's user properties alike: a name that is read is one.
    pub(super) fn of(mapping: &Mapping) -> Self {
        let mut all: BTreeMap<Box<str>, BTreeSet<Box<str>>> = BTreeMap::new();
        for expr in mapping.exprs() {
            let (names, words) = expr.headers();
            for name in names {
                all.entry(name.into()).or_default().extend(words.iter().map(|word| Box::from(*word)));
            }
        }
        for (name, value) in mapping.tests.iter().flat_map(|test| test.headers().iter()) {
            if let (Some(values), Ok(value)) = (all.get_mut(&**name), str::from_utf8(value)) {
                values.insert(value.into());
            }
        }
        Self(all.into_iter().map(|(name, values)| (name, values.into_iter().collect())).collect())
    }

    /// The headers of one message. No value has a control character: no protocol lets one in.
    pub(super) fn made_up(&self, samples: &mut Samples) -> Headers {
        let there: Vec<_> = self.0.iter().filter(|_| !samples.one_in(MISSING)).collect();
        let headers = there.into_iter().map(|(name, values)| {
            let known = samples.choice(values).filter(|_| !samples.one_in(ANY));
            let value = known.map_or_else(|| samples.line(), |value| value.to_string());
            (name.to_string(), value.into())
        });
        headers.collect()
    }
}
