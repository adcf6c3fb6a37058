//! How often each packet identifier was released, in few bytes: most clients count their identifiers up, so most of these
//! are equal.

use std::collections::BTreeMap;

/// A generation for each of 65,535 identifiers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Generations {
    /// Of all that have none of their own.
    pub(super) base: u32,
    pub(super) own: BTreeMap<u16, u32>,
}

/// With more of their own, all that nobody uses are made equal.
pub(super) const MAX_OWN: usize = 256;

// === impl Generations ===

impl Generations {
    pub(super) fn of(&self, id: u16) -> u32 {
        self.own.get(&id).copied().unwrap_or(self.base)
    }

    /// The next generation of `id`. `in_use` says of the others which may not change.
    pub(super) fn raise(&mut self, id: u16, in_use: impl Fn(u16) -> bool) {
        let next = self.of(id).wrapping_add(1);
        self.own.insert(id, next);
        if self.own.len() > MAX_OWN {
            let highest = self.own.values().copied().max().unwrap_or(self.base);
            // those in use without one of their own would change with the base: then it has to wait
            let kept: BTreeMap<_, _> =
                self.own.iter().filter(|(id, _)| in_use(**id)).map(|(id, of)| (*id, *of)).collect();
            let others = (1..=u16::MAX).filter(|id| !self.own.contains_key(id) && in_use(*id));
            let others: Vec<_> = others.map(|id| (id, self.base)).collect();
            self.own = kept;
            self.own.extend(others);
            self.base = highest.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_identifier_never_has_a_generation_again() {
        let mut generations = Generations::default();
        let mut seen = std::collections::HashSet::new();
        for round in 0..20_000_u32 {
            let id = (round * 7 % 3_000) as u16 + 1;
            assert!(seen.insert((id, generations.of(id))), "{id} in round {round}");
            generations.raise(id, |_| false);
        }
        assert!(generations.own.len() <= MAX_OWN);
    }

    #[test]
    fn an_identifier_in_use_keeps_its_generation() {
        let mut generations = Generations::default();
        generations.raise(7, |_| false);
        let before = (generations.of(7), generations.of(9_000));
        for id in 10..2_000 {
            generations.raise(id, |id| id == 7 || id == 9_000);
        }
        assert_eq!((generations.of(7), generations.of(9_000)), before);
    }
}
