//! What writers said, and whether the store has it.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use envelope::{KeyValue, Timestamp};

use crate::{
    KILLS,
    writer::{TTLS, number},
};

/// What all writers were told so far.
#[derive(Default)]
pub(crate) struct Told {
    /// The last value that somebody was told of, and its revision.
    alone: (u64, u64),
    /// The last value that somebody tried.
    tried: u64,
    /// The last value that a watch told of, and its revision.
    watched: (u64, u64),
    /// Each value that a rival won.
    won: HashSet<u64>,
    rivals: (u64, u64),
    /// The revision of the last pair.
    pair: u64,
    /// When each may end at the earliest, and has ended at the latest; none once it was deleted or found to have ended.
    ending: HashMap<u64, (u64, u64)>,
    deleted: HashSet<u64>,
    ended: usize,
    revision: u64,
}

// === impl Told ===

impl Told {
    /// Takes what a writer said before it was killed.
    pub(crate) fn hear(&mut self, lines: &[String]) {
        let highest = self.revision;
        for line in lines {
            let (what, rest) = line.split_once(' ').expect("what it is");
            let numbers: Vec<u64> = rest.split(' ').map(|word| word.parse().expect("a number")).collect();
            match (what, &*numbers) {
                ("begin", [revision]) => self.rise(highest, *revision),
                ("alone?", [value]) => self.tried = *value,
                ("alone", [value, revision]) => {
                    assert_eq!(*value, self.tried);
                    self.alone = (*value, *revision);
                    self.rise(highest, *revision);
                }
                ("watched", [value, revision]) => self.watched = (*value, *revision),
                ("rivals", [value, revision]) => {
                    assert!(self.won.insert(*value), "two won {value}");
                    self.rivals = self.rivals.max((*value, *revision));
                    self.rise(highest, *revision);
                }
                ("pair", [_, revision]) => {
                    self.pair = *revision;
                    self.rise(highest, *revision);
                }
                ("ending", [n, which, before, after]) => {
                    let ttl = u64::try_from(TTLS[usize::try_from(*which).unwrap()].as_micros()).unwrap();
                    self.ending.insert(*n, (before + ttl, after + ttl));
                }
                ("deleted?", [n]) => {
                    self.ending.remove(n);
                }
                ("deleted", [n]) => {
                    self.deleted.insert(*n);
                }
                _ => panic!("{line}"),
            }
        }
    }

    /// A revision is above those of every process before.
    fn rise(&mut self, highest: u64, revision: u64) {
        assert!(revision > highest, "revision {revision} was given before, up to {highest}");
        self.revision = self.revision.max(revision);
    }

    /// The store has what was told, and at most one step more that nobody was told of.
    pub(crate) async fn assert_kept(&mut self, keys: &Arc<dyn KeyValue>) {
        let read = async |key: &str| {
            let entry = keys.get(key).await.expect("a read");
            entry.map_or((0, 0), |entry| (number(&entry.value), entry.revision))
        };
        let alone = read("alone").await;
        assert!(alone == self.alone || alone.0 == self.alone.0 + 1, "{alone:?} is there, told was {:?}", self.alone);
        assert!(alone.0 <= self.tried, "{alone:?} was never written, {} was", self.tried);
        // what a watch told is on disk, in the order in which it is there
        let (watched, revision) = self.watched;
        assert!(watched <= alone.0 && (watched < alone.0) == (revision < alone.1), "{alone:?}, a watch told {watched}");
        self.alone = alone;
        let rivals = read("rivals").await;
        // what was won is counted once each, and of a kill at most one win is told to nobody
        let untold = (1..=rivals.0).filter(|value| !self.won.contains(value)).collect::<Vec<_>>();
        assert!(
            rivals >= self.rivals && untold.len() <= KILLS,
            "{rivals:?}, told {:?}, untold {untold:?}",
            self.rivals
        );
        assert_eq!(self.won.len() + untold.len(), usize::try_from(rivals.0).unwrap(), "a win is lost");
        let pair = [read("pair/left").await, read("pair/right").await];
        assert!(pair[0] == pair[1] && pair[0].1 >= self.pair, "{pair:?}, told {}", self.pair);
        self.assert_ending(keys).await;
        let highest = [alone.1, rivals.1, pair[0].1].into_iter().max().unwrap_or_default();
        self.revision = self.revision.max(highest);
    }

    async fn assert_ending(&mut self, keys: &Arc<dyn KeyValue>) {
        for n in &self.deleted {
            assert_eq!(keys.get(&format!("ending/{n}")).await.expect("a read"), None, "{n} was deleted");
        }
        let mut gone = Vec::new();
        for (n, (earliest, latest)) in &self.ending {
            let before = Timestamp::now().as_micros();
            let entry = keys.get(&format!("ending/{n}")).await.expect("a read");
            let after = Timestamp::now().as_micros();
            assert!(entry.is_some() || after >= *earliest, "{n} is gone {} us too early", earliest - after);
            assert!(entry.is_none() || before <= *latest, "{n} is there {} us too late", before - latest);
            gone.extend(entry.is_none().then_some(*n));
        }
        self.ended += gone.len();
        for n in gone {
            self.ending.remove(&n);
        }
    }

    /// There was something to lose.
    pub(crate) fn assert_many(&self) {
        let least = u64::try_from(KILLS).unwrap();
        assert!(self.alone.0 > least && self.rivals.0 > least && self.pair > least, "{self:?}");
        assert!(self.watched.0 > least, "{self:?}");
        assert!(self.ended > KILLS && !self.ending.is_empty() && !self.deleted.is_empty(), "{self:?}");
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} alone, {} of rivals, {} keys ended, {} stay, {} were deleted, revision {}",
            self.alone.0,
            self.rivals.0,
            self.ended,
            self.ending.len(),
            self.deleted.len(),
            self.revision
        )
    }
}
