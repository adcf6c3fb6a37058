//! How often each packet identifier was released, in few bytes: most clients count their identifiers up, so neighbours are
//! equal.
//!
//! Nothing is forgotten of a session that was restored until it is settled: which identifiers its client still repeats is not
//! known before, and a message whose generation has changed would be another one.

/// The highest identifier.
const LAST: u16 = u16::MAX;
/// Where all messages in flight are known, more runs are made equal.
pub(super) const MAX_RUNS: usize = 1_024;

/// A generation for each of 65,535 identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Generations {
    /// From this identifier on to the next, in order; the first is of 0.
    runs: Vec<(u16, u32)>,
    /// All that is in flight is known here.
    is_new: bool,
}

// === impl Generations ===

impl Generations {
    /// Of a new session.
    pub(super) fn new() -> Self {
        Self { runs: vec![(0, 0)], is_new: true }
    }

    /// Of a session that was kept: the identifier that each run begins with, and its generation. `None`: it is no such list.
    pub(super) fn restored(runs: Vec<(u16, u32)>) -> Option<Self> {
        let ordered = runs.windows(2).all(|two| two[0].0 < two[1].0);
        (ordered && runs.first().is_some_and(|(first, _)| *first == 0)).then_some(Self { runs, is_new: false })
    }

    /// As they were kept before there were runs: one of all, and those that have their own.
    pub(super) fn of_base(base: u32, own: impl IntoIterator<Item = (u16, u32)>) -> Self {
        let mut generations = Self { runs: vec![(0, base)], is_new: false };
        own.into_iter().for_each(|(id, generation)| generations.set(id, generation));
        generations
    }

    /// In order.
    pub(super) fn runs(&self) -> &[(u16, u32)] {
        &self.runs
    }

    pub(super) fn of(&self, id: u16) -> u32 {
        self.runs[self.at(id)].1
    }

    /// The next generation of `id`. `in_use` says of the others which may not change.
    pub(super) fn raise(&mut self, id: u16, in_use: impl Fn(u16) -> bool) {
        self.set(id, self.of(id).wrapping_add(1));
        if self.is_new && self.runs.len() > MAX_RUNS {
            self.level(in_use);
        }
    }

    /// The client repeats nothing any more that is not known here. Whether that is news; then all are equal that nobody uses.
    pub(super) fn settle(&mut self, in_use: impl Fn(u16) -> bool) -> bool {
        if self.is_new {
            return false;
        }
        self.is_new = true;
        self.level(in_use);
        true
    }

    /// Makes all equal that nobody uses.
    fn level(&mut self, in_use: impl Fn(u16) -> bool) {
        let kept: Vec<_> = (1..=LAST).filter(|id| in_use(*id)).map(|id| (id, self.of(id))).collect();
        let highest = self.runs.iter().map(|(_, generation)| *generation).max().unwrap_or_default();
        self.runs = vec![(0, highest.wrapping_add(1))];
        kept.into_iter().for_each(|(id, generation)| self.set(id, generation));
    }

    /// The run that an identifier is in; there always is one.
    fn at(&self, id: u16) -> usize {
        self.runs.partition_point(|(first, _)| *first <= id) - 1
    }

    fn set(&mut self, id: u16, generation: u32) {
        let at = self.at(id);
        let (first, was) = self.runs[at];
        if was == generation {
            return;
        }
        let next = self.runs.get(at + 1).map(|(first, _)| *first);
        // what comes behind it in its run, and before it
        if id < LAST && next != Some(id + 1) {
            self.runs.insert(at + 1, (id + 1, was));
        }
        let mut own = at;
        if first == id {
            self.runs[at].1 = generation;
        } else {
            own += 1;
            self.runs.insert(own, (id, generation));
        }
        if self.runs.get(own + 1).is_some_and(|(_, behind)| *behind == generation) {
            self.runs.remove(own + 1);
        }
        if own > 0 && self.runs[own - 1].1 == generation {
            self.runs.remove(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn each_identifier_is_counted_by_itself_whatever_the_order() {
        for is_new in [true, false] {
            let mut random = fastrand::Rng::with_seed(7);
            let mut generations = Generations { is_new, ..Generations::new() };
            let mut model: HashMap<u16, u32> = HashMap::new();
            let ids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 300, 301, LAST - 1, LAST];
            for _ in 0..20_000 {
                let id = *random.choice(ids.iter()).unwrap();
                generations.raise(id, |_| true);
                *model.entry(id).or_default() += 1;
                assert_eq!(generations.of(id), model[&id]);
            }
            for id in 1..=LAST {
                assert_eq!(generations.of(id), model.get(&id).copied().unwrap_or_default(), "{id}");
            }
            assert!(Generations::restored(generations.runs().to_vec()).is_some());
        }
    }

    #[test]
    fn a_client_that_counts_up_needs_few_bytes() {
        let mut generations = Generations::new();
        for n in 0..200_000_u32 {
            let id = (n % u32::from(LAST)) as u16 + 1;
            generations.raise(id, |_| false);
            assert!(generations.runs().len() <= 4);
        }
    }

    #[test]
    fn a_released_identifier_never_has_a_generation_again() {
        let mut generations = Generations::new();
        let mut seen = HashSet::new();
        for round in 0..20_000_u32 {
            let id = (round * 7 % 9_000) as u16 + 1;
            assert!(seen.insert((id, generations.of(id))), "{id} in round {round}");
            generations.raise(id, |_| false);
            assert!(generations.runs().len() <= MAX_RUNS);
        }
    }

    #[test]
    fn an_identifier_in_use_keeps_its_generation() {
        let mut generations = Generations::new();
        generations.raise(7, |_| false);
        let before = (generations.of(7), generations.of(9_000));
        for id in (10..8_000).step_by(2) {
            generations.raise(id, |id| id == 7 || id == 9_000);
        }
        assert_eq!((generations.of(7), generations.of(9_000)), before);
    }

    #[test]
    fn of_a_session_that_was_kept_nothing_is_forgotten() {
        let mut generations = Generations::restored(vec![(0, 3), (5, 4)]).unwrap();
        for id in (10..10_000).step_by(2) {
            generations.raise(id, |_| false);
        }
        assert_eq!((generations.of(1), generations.of(9), generations.of(10), generations.of(11)), (3, 4, 5, 4));
        for wrong in [vec![], vec![(1, 0)], vec![(0, 1), (0, 2)], vec![(0, 1), (7, 2), (6, 3)]] {
            assert!(Generations::restored(wrong).is_none());
        }
        let before = Generations::of_base(2, [(7, 1), (8, 9)]);
        assert_eq!([6, 7, 8, 9].map(|id| before.of(id)), [2, 1, 9, 2]);
    }
}
