//! What everybody has sent lately: bounded memory for any number of senders, kept over reloads.
//!
//! A table of small sets, as in a processor's cache: a sender has its place in one set, found by a keyed hash of its
//! name. Where a set is full, whoever owes least is forgotten, and that is most often somebody who owes nothing: idle
//! senders need no sweep.

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::{BuildHasher, Hash},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::rate::Rate;

/// The meters of all limits of a gateway; one for all its stacks and all its epochs.
pub struct Meters {
    shards: Box<[Mutex<Shard>]>,
    hashed: RandomState,
    began: Instant,
}

/// Names a sender, or whatever else has a budget, without keeping its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MeterKey(u64);

/// What one message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// The rates that one meter is held to; what is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Rates {
    pub(crate) messages: Option<Rate>,
    pub(crate) bytes: Option<Rate>,
}

/// Why a meter takes nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Messages(Rate, Duration),
    Bytes(Rate, Duration),
}

/// Sets of entries, one after the other; made when the first entry comes.
#[derive(Default)]
struct Shard(Vec<Entry>);

/// A key, 0 where there is none, and when its messages and bytes are due.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    key: u64,
    messages: u64,
    bytes: u64,
}

/// Locks, so that threads seldom meet.
const SHARDS: usize = 256;
/// Entries of a set: three cache lines.
const WAYS: usize = 8;
/// Entries of a shard. All shards: 2,097,152 entries of 24 bytes, 50 MB once every shard was used.
const ENTRIES: usize = 8_192;

// === impl Meters ===

impl Default for Meters {
    fn default() -> Self {
        Self::of(SHARDS)
    }
}

impl Meters {
    fn of(shards: usize) -> Self {
        let shards = (0..shards).map(|_| Mutex::default()).collect();
        Self { shards, hashed: RandomState::new(), began: Instant::now() }
    }

    /// The key of what `name` names. Names of different types may collide; begin them with a word.
    pub(crate) fn key(&self, name: impl Hash) -> MeterKey {
        // 0 says that an entry is free
        MeterKey(self.hashed.hash_one(name).max(1))
    }

    /// Nanoseconds since the meters were made.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes `load` from the budget of `key`, all of it or nothing.
    pub(crate) fn charge(&self, key: MeterKey, rates: Rates, load: Load, now: u64) -> Result<(), Over> {
        let mut shard = self.shard(key);
        let entry = shard.entry(key, now);
        let messages = match rates.messages {
            Some(rate) => rate.charge(entry.messages, now, load.messages).map_err(|wait| Over::Messages(rate, wait))?,
            None => entry.messages,
        };
        let bytes = match rates.bytes {
            Some(rate) => rate.charge(entry.bytes, now, load.bytes).map_err(|wait| Over::Bytes(rate, wait))?,
            None => entry.bytes,
        };
        *entry = Entry { key: key.0, messages, bytes };
        Ok(())
    }

    /// Gives back what was taken for a message that did not pass after all.
    pub(crate) fn give_back(&self, key: MeterKey, rates: Rates, load: Load) {
        let mut shard = self.shard(key);
        if let Some(entry) = shard.set(key).iter_mut().find(|entry| entry.key == key.0) {
            let cost = |rate: Option<Rate>, units| rate.map_or(0, |rate| rate.cost(units));
            entry.messages = entry.messages.saturating_sub(cost(rates.messages, load.messages));
            entry.bytes = entry.bytes.saturating_sub(cost(rates.bytes, load.bytes));
        }
    }

    fn shard(&self, key: MeterKey) -> MutexGuard<'_, Shard> {
        self.shards[key.0 as usize % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").finish_non_exhaustive()
    }
}

// === impl Shard ===

impl Shard {
    fn set(&mut self, key: MeterKey) -> &mut [Entry] {
        if self.0.is_empty() {
            self.0.resize(ENTRIES, Entry::default());
        }
        // the low bits have chosen the shard
        let set = (key.0 >> 32) as usize % (ENTRIES / WAYS);
        &mut self.0[set * WAYS..][..WAYS]
    }

    /// The entry of `key`, or the place for it: that of whoever owes least, which owes nothing from here on.
    fn entry(&mut self, key: MeterKey, now: u64) -> &mut Entry {
        let set = self.set(key);
        let owed = |entry: &Entry| entry.messages.max(entry.bytes).saturating_sub(now);
        let known = set.iter().position(|entry| entry.key == key.0);
        let place = known.unwrap_or_else(|| (0..WAYS).min_by_key(|at| owed(&set[*at])).unwrap_or(0));
        let entry = &mut set[place];
        if known.is_none() {
            *entry = Entry { key: key.0, ..Entry::default() };
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Load = Load { messages: 1, bytes: 10 };

    fn rates(messages: u64, bytes: u64) -> Rates {
        Rates { messages: Some(Rate::new(messages, messages)), bytes: Some(Rate::new(bytes, bytes)) }
    }

    #[test]
    fn a_message_takes_from_both_budgets_or_from_none() {
        let meters = Meters::default();
        let (key, rates) = (meters.key("a"), rates(5, 25));
        assert_eq!(meters.charge(key, rates, ONE, 0), Ok(()));
        assert_eq!(meters.charge(key, rates, ONE, 0), Ok(()));
        assert!(matches!(meters.charge(key, rates, ONE, 0), Err(Over::Bytes(_, wait)) if wait.as_millis() == 200));
        let small = Load { messages: 1, bytes: 0 };
        let passed = (0..9).filter(|_| meters.charge(key, rates, small, 0).is_ok()).count();
        assert_eq!(passed, 3, "the refused one took no message");
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let meters = Meters::default();
        let (key, rates) = (meters.key("a"), rates(1, 10));
        meters.charge(key, rates, ONE, 0).unwrap();
        meters.give_back(key, rates, ONE);
        assert_eq!(meters.charge(key, rates, ONE, 0), Ok(()));
        meters.give_back(meters.key("never seen"), rates, ONE);
    }

    #[test]
    fn nobody_pays_for_another() {
        let meters = Meters::default();
        let rates = rates(1, 10);
        for name in 0..10_000_u32 {
            assert_eq!(meters.charge(meters.key(("principal", name)), rates, ONE, 0), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_flood_of_names_forgets_who_owes_least_first() {
        let meters = Meters::of(4);
        let (slow, fast) = (rates(1, 1_000_000), rates(1_000_000, 1_000_000));
        let debtor = meters.key("debtor");
        meters.charge(debtor, slow, ONE, 0).unwrap();
        for name in 0..4 * 4 * ENTRIES as u32 {
            meters.charge(meters.key(name), fast, ONE, 0).unwrap();
        }
        assert!(meters.charge(debtor, slow, ONE, 0).is_err(), "it owes a second, the others microseconds");
    }
}
