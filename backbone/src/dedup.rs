//! Remembers ids, so that a sender's retry is no second message.
//!
//! Ids are on disk by sequence; in memory there is a fingerprint and a sequence for each: 17 bytes a bucket, of which
//! 7/16 to 7/8 are taken. A hit is confirmed on disk by whoever asks: two ids may share a fingerprint.

use std::hash::{BuildHasher, RandomState};

use envelope::EnvelopeId;

use crate::hash::ByHash;

/// The table is in so many parts: one grows at a time, so that no publisher waits for all of it to move.
const PARTS: usize = 32;

/// Fingerprints of the ids that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints {
    /// Keyed by a secret of this process: nobody can aim for a collision.
    key: RandomState,
    first: [ByHash<u64>; PARTS],
    /// Sequences of ids whose fingerprint another id has.
    others: ByHash<Vec<u64>>,
    len: usize,
}

/// The part of a fingerprint, by bits that the part itself does not look at.
fn part(print: u64) -> usize {
    (print >> 40) as usize % PARTS
}

// === impl Fingerprints ===

impl Fingerprints {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Of an id. Two may share one.
    pub(crate) fn print(&self, id: EnvelopeId) -> u64 {
        self.key.hash_one(id)
    }

    /// The sequences of ids with this fingerprint, oldest first.
    pub(crate) fn candidates(&self, print: u64) -> impl Iterator<Item = u64> {
        let first = self.first[part(print)].get(&print).copied();
        let others = first.and_then(|_| self.others.get(&print));
        first.into_iter().chain(others.into_iter().flatten().copied())
    }

    /// Remembers that an id with this fingerprint is stored at `sequence`.
    pub(crate) fn insert(&mut self, print: u64, sequence: u64) {
        self.len += 1;
        if *self.first[part(print)].entry(print).or_insert(sequence) != sequence {
            self.others.entry(print).or_default().push(sequence);
        }
    }

    /// Forgets the id with this fingerprint that is stored at `sequence`.
    pub(crate) fn remove(&mut self, print: u64, sequence: u64) {
        let Some(first) = self.first[part(print)].get_mut(&print) else {
            return;
        };
        let others = self.others.get_mut(&print);
        if *first != sequence {
            let Some(at) = others.as_ref().and_then(|others| others.iter().position(|other| *other == sequence)) else {
                return;
            };
            others.map(|others| others.remove(at));
        } else {
            match others.filter(|others| !others.is_empty()) {
                Some(others) => *first = others.remove(0),
                None => {
                    self.first[part(print)].remove(&print);
                }
            }
        }
        self.len -= 1;
        if self.others.get(&print).is_some_and(Vec::is_empty) {
            self.others.remove(&print);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> EnvelopeId {
        EnvelopeId::new(Uuid::from_u128(n))
    }

    #[test]
    fn what_is_removed_is_forgotten_and_nothing_else() {
        let mut prints = Fingerprints::default();
        for n in 1..=1_000 {
            prints.insert(prints.print(id(n.into())), n);
        }
        for n in (1..=1_000).step_by(2) {
            prints.remove(prints.print(id(n.into())), n);
        }
        assert_eq!(prints.len(), 500);
        for n in 1..=1_000 {
            assert_eq!(prints.candidates(prints.print(id(n.into()))).any(|found| found == n), n % 2 == 0, "{n}");
        }
    }

    #[test]
    fn ids_of_one_fingerprint_stay_apart() {
        let mut prints = Fingerprints::default();
        let print = prints.print(id(7));
        prints.insert(print, 1);
        prints.first[part(print)].insert(print, 9);
        prints.insert(print, 2);
        assert_eq!(prints.candidates(print).collect::<Vec<_>>(), [9, 2]);
        prints.remove(print, 9);
        assert_eq!(prints.candidates(print).collect::<Vec<_>>(), [2]);
        prints.remove(print, 3);
        prints.remove(print, 2);
        assert_eq!(prints.candidates(print).count(), 0);
        assert_eq!(prints.len(), 0);
    }
}
