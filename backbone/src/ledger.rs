//! The conservation ledger's counters in memory, and their rows on disk.
//!
//! Bridges and the Account layer count `received`, `returned`, `refused`, `passed` and `filtered` here without blocking; the
//! writer adds what it stores once that is on disk. [`Books::rows`] reads the outcomes before `received`, so that what
//! is in flight is never negative.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use envelope::{Ledger, RejectKind, Rejection, Route, Timestamp};

use crate::{
    codec::{DecodeError, Reader, put_str, put_u64},
    hash::ByName,
    report::{BridgeCounts, ByKind, LastRefusal, RouteCounts},
    shared::locked,
};

/// A counter for each kind of refusal.
#[derive(Debug, Default)]
pub(crate) struct Kinds([AtomicU64; RejectKind::ALL.len()]);

/// The counters of all bridges.
#[derive(Debug, Default)]
pub(crate) struct Books {
    bridges: Rows<BridgeRow>,
    /// Messages with `ack: received` that were acked and then could not be stored.
    pub(crate) lost: AtomicU64,
}

/// What is counted of a bridge, but for what has a route.
#[derive(Debug, Default)]
pub(crate) struct BridgeRow {
    received: AtomicU64,
    rejected: Kinds,
    returned: Kinds,
    interrupted: AtomicU64,
    routes: Rows<RouteRow>,
}

/// What is counted of a mapping.
#[derive(Debug, Default)]
pub(crate) struct RouteRow {
    pub(crate) stored: StoredCounters,
    passed: AtomicU64,
    filtered: AtomicU64,
    pub(crate) rejected: Kinds,
    /// Of this process; it is on no disk.
    last_refusal: Mutex<Option<Refused>>,
}

/// A refusal, without anything that a message said.
#[derive(Debug)]
struct Refused {
    at: Timestamp,
    kind: RejectKind,
    decided_by: &'static str,
    policy: Option<Arc<String>>,
}

/// What only the writer counts.
#[derive(Debug, Default)]
pub(crate) struct StoredCounters {
    pub(crate) accepted: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    pub(crate) claimed: AtomicU64,
    pub(crate) unclaimed: AtomicU64,
}

/// What one group adds to a mapping's counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) accepted: u64,
    pub(crate) duplicate: u64,
    pub(crate) claimed: u64,
    pub(crate) unclaimed: u64,
}

/// What one group adds, by the mapping's row.
#[derive(Debug, Default)]
pub(crate) struct Deltas(ByName<usize, (Arc<RouteRow>, Delta)>);

/// A row's key and value on disk.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

const BRIDGE: u8 = b'b';
const ROUTE: u8 = b'r';

// === impl Kinds ===

impl Kinds {
    pub(crate) fn add(&self, kind: RejectKind) {
        if let Some(at) = RejectKind::ALL.iter().position(|known| *known == kind) {
            self.0[at].fetch_add(1, SeqCst);
        }
    }

    pub(crate) fn counts(&self) -> ByKind {
        let counts = RejectKind::ALL.iter().zip(&self.0).map(|(kind, count)| (kind.as_str(), count.load(SeqCst)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|count| count.load(SeqCst)).sum()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kinds = Self::default();
        for (word, count) in by_kind(reader)? {
            if let Some(at) = RejectKind::ALL.iter().position(|kind| kind.as_str() == word) {
                kinds.0[at].store(count, SeqCst);
            }
        }
        Ok(kinds)
    }
}

/// Writes counts by kind; the word, not a number, so that the list of kinds may grow.
pub(crate) fn put_by_kind(out: &mut Vec<u8>, counts: &ByKind) {
    put_u64(out, counts.len() as u64);
    for (word, count) in counts {
        put_str(out, word);
        put_u64(out, *count);
    }
}

/// Reads what [`put_by_kind`] writes. A word that is no kind is an error: its counts would be lost.
pub(crate) fn by_kind(reader: &mut Reader<'_>) -> Result<ByKind, DecodeError> {
    let pairs = reader.list("counts by kind", |reader| {
        let word = reader.str("kind")?;
        let kind = RejectKind::ALL.iter().find(|kind| kind.as_str() == word).ok_or(DecodeError::Invalid("kind"))?;
        Ok((kind.as_str(), reader.count("count")?))
    })?;
    Ok(pairs.into_iter().collect())
}

// === impl Books ===

impl Books {
    pub(crate) fn bridge(&self, name: &str) -> Arc<BridgeRow> {
        found_or_made(&self.bridges, name)
    }

    pub(crate) fn route(&self, bridge: &str, route: &str) -> Arc<RouteRow> {
        found_or_made(&self.bridge(bridge).routes, route)
    }

    /// All rows as they are to be on disk once `deltas` are. A bridge's outcomes are read before its `received`.
    pub(crate) fn rows(&self, deltas: &Deltas) -> Vec<Row> {
        let mut rows = Vec::new();
        for (name, bridge) in entries(&self.bridges) {
            for (route, row) in entries(&bridge.routes) {
                rows.push((key(ROUTE, &[&name, &route]), row.encode(deltas.of(&row))));
            }
            rows.push((key(BRIDGE, &[&name]), bridge.encode()));
        }
        rows
    }

    /// Takes a row from disk.
    pub(crate) fn load(&self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let mut names = Reader::new(key);
        let kind = names.u8("ledger key")?;
        let bridge = names.text("ledger key")?;
        let mut reader = Reader::new(value);
        match kind {
            BRIDGE => {
                let row = BridgeRow::decode(&mut reader)?;
                write(&self.bridges).insert(bridge, Arc::new(row));
            }
            ROUTE => {
                let route = names.text("ledger key")?;
                let row = RouteRow::decode(&mut reader)?;
                write(&self.bridge(&bridge).routes).insert(route, Arc::new(row));
            }
            _ => return Err(DecodeError::Invalid("ledger key")),
        }
        Ok(())
    }

    /// What was in flight when the process before this one ended is interrupted now.
    pub(crate) fn interrupt(&self) {
        for (_, bridge) in entries(&self.bridges) {
            let outcomes = bridge.outcomes();
            let missing = bridge.received.load(SeqCst).saturating_sub(outcomes);
            bridge.interrupted.fetch_add(missing, SeqCst);
        }
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (String, BridgeCounts)> {
        entries(&self.bridges).into_iter().map(|(name, bridge)| (name.to_string(), bridge.counts()))
    }
}

impl Ledger for Books {
    fn received(&self, bridge: &str, messages: u64) {
        self.bridge(bridge).received.fetch_add(messages, SeqCst);
    }

    fn refused(&self, bridge: &str, route: Option<&Route>, rejection: &Rejection) {
        match route {
            Some(route) => self.route(bridge, route.name()).refused(rejection),
            None => self.bridge(bridge).rejected.add(rejection.kind),
        }
    }

    fn passed(&self, bridge: &str, route: &Route) {
        self.route(bridge, route.name()).passed.fetch_add(1, SeqCst);
    }

    fn filtered(&self, bridge: &str, route: &Route) {
        self.route(bridge, route.name()).filtered.fetch_add(1, SeqCst);
    }

    fn returned(&self, bridge: &str, kind: RejectKind) {
        self.bridge(bridge).returned.add(kind);
    }
}

// === impl BridgeRow ===

impl BridgeRow {
    fn outcomes(&self) -> u64 {
        let routes = entries(&self.routes);
        let routed: u64 = routes.iter().map(|(_, row)| row.outcomes()).sum();
        routed + self.rejected.sum() + self.returned.sum() + self.interrupted.load(SeqCst)
    }

    fn encode(&self) -> Vec<u8> {
        let (rejected, returned) = (self.rejected.counts(), self.returned.counts());
        let interrupted = self.interrupted.load(SeqCst);
        let mut out = Vec::with_capacity(32);
        put_u64(&mut out, self.received.load(SeqCst));
        put_u64(&mut out, interrupted);
        put_by_kind(&mut out, &rejected);
        put_by_kind(&mut out, &returned);
        out
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            received: reader.count("received")?.into(),
            interrupted: reader.count("interrupted")?.into(),
            rejected: Kinds::read(reader)?,
            returned: Kinds::read(reader)?,
            routes: RwLock::default(),
        })
    }

    fn counts(&self) -> BridgeCounts {
        let routes: std::collections::BTreeMap<_, _> =
            entries(&self.routes).into_iter().map(|(name, row)| (name.to_string(), row.counts())).collect();
        let mut rejected = self.rejected.counts();
        for (kind, count) in routes.values().flat_map(|route| &route.rejected) {
            *rejected.entry(kind).or_default() += count;
        }
        let mut counts = BridgeCounts {
            accepted: routes.values().map(|route| route.accepted).sum(),
            duplicate: routes.values().map(|route| route.duplicate).sum(),
            passed: routes.values().map(|route| route.passed).sum(),
            filtered: routes.values().map(|route| route.filtered).sum(),
            rejected,
            returned: self.returned.counts(),
            interrupted: self.interrupted.load(SeqCst),
            routes,
            ..BridgeCounts::default()
        };
        counts.received = self.received.load(SeqCst);
        counts.in_flight = counts.received.cast_signed() - counts.outcomes().cast_signed();
        counts
    }
}

// === impl RouteRow ===

impl RouteRow {
    fn refused(&self, rejection: &Rejection) {
        self.rejected.add(rejection.kind);
        let Rejection { kind, decided_by, policy, .. } = rejection;
        let refused = Refused { at: Timestamp::now(), kind: *kind, decided_by, policy: policy.clone() };
        // freed behind the lock
        let before = locked(&self.last_refusal).replace(refused);
        drop(before);
    }

    fn outcomes(&self) -> u64 {
        let stored = self.stored.accepted.load(SeqCst) + self.stored.duplicate.load(SeqCst);
        stored + self.passed.load(SeqCst) + self.filtered.load(SeqCst) + self.rejected.sum()
    }

    fn encode(&self, delta: Delta) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        put_u64(&mut out, self.stored.accepted.load(SeqCst) + delta.accepted);
        put_u64(&mut out, self.stored.duplicate.load(SeqCst) + delta.duplicate);
        put_u64(&mut out, self.stored.claimed.load(SeqCst) + delta.claimed);
        put_u64(&mut out, self.stored.unclaimed.load(SeqCst) + delta.unclaimed);
        put_u64(&mut out, self.filtered.load(SeqCst));
        put_by_kind(&mut out, &self.rejected.counts());
        put_u64(&mut out, self.passed.load(SeqCst));
        out
    }

    /// Rows of stores that passed nothing through end before `passed`.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            stored: StoredCounters {
                accepted: reader.count("accepted")?.into(),
                duplicate: reader.count("duplicate")?.into(),
                claimed: reader.count("claimed")?.into(),
                unclaimed: reader.count("unclaimed")?.into(),
            },
            filtered: reader.count("filtered")?.into(),
            rejected: Kinds::read(reader)?,
            passed: if reader.rest().is_empty() { AtomicU64::default() } else { reader.count("passed")?.into() },
            last_refusal: Mutex::default(),
        })
    }

    fn counts(&self) -> RouteCounts {
        let (claimed, unclaimed) = (self.stored.claimed.load(SeqCst), self.stored.unclaimed.load(SeqCst));
        RouteCounts {
            accepted: self.stored.accepted.load(SeqCst),
            duplicate: self.stored.duplicate.load(SeqCst),
            passed: self.passed.load(SeqCst),
            filtered: self.filtered.load(SeqCst),
            rejected: self.rejected.counts(),
            stored: claimed + unclaimed,
            claimed,
            unclaimed,
            last_refusal: locked(&self.last_refusal).as_ref().map(Refused::shown),
        }
    }
}

// === impl Refused ===

impl Refused {
    fn shown(&self) -> LastRefusal {
        let Self { at, kind, decided_by, policy } = self;
        let decided_by = policy.as_deref().map_or(*decided_by, String::as_str).to_owned();
        LastRefusal { at: at.to_string(), kind: kind.as_str(), decided_by }
    }
}

// === impl Deltas ===

impl Deltas {
    pub(crate) fn entry(&mut self, row: &Arc<RouteRow>) -> &mut Delta {
        &mut self.0.entry(Arc::as_ptr(row).addr()).or_insert_with(|| (row.clone(), Delta::default())).1
    }

    fn of(&self, row: &Arc<RouteRow>) -> Delta {
        self.0.get(&Arc::as_ptr(row).addr()).map(|(_, delta)| *delta).unwrap_or_default()
    }

    /// Takes away the messages of `other`, not the envelopes.
    pub(crate) fn without_messages_of(&mut self, other: &Self) {
        for (row, delta) in other.0.values() {
            let own = self.entry(row);
            own.accepted -= delta.accepted;
            own.duplicate -= delta.duplicate;
        }
    }

    /// Counts them, once they are on disk.
    pub(crate) fn apply(self) {
        for (row, delta) in self.0.into_values() {
            row.stored.accepted.fetch_add(delta.accepted, SeqCst);
            row.stored.duplicate.fetch_add(delta.duplicate, SeqCst);
            row.stored.claimed.fetch_add(delta.claimed, SeqCst);
            row.stored.unclaimed.fetch_add(delta.unclaimed, SeqCst);
        }
    }
}

type Rows<R> = RwLock<ByName<Arc<str>, Arc<R>>>;

/// A lock is held for a look-up, and for longer only when a bridge or mapping is seen for the first time.
fn found_or_made<R: Default>(rows: &Rows<R>, name: &str) -> Arc<R> {
    if let Some(row) = rows.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return row.clone();
    }
    write(rows).entry(name.into()).or_default().clone()
}

fn write<R>(rows: &Rows<R>) -> RwLockWriteGuard<'_, ByName<Arc<str>, Arc<R>>> {
    rows.write().unwrap_or_else(PoisonError::into_inner)
}

fn entries<R>(rows: &Rows<R>) -> Vec<(Arc<str>, Arc<R>)> {
    let rows = rows.read().unwrap_or_else(PoisonError::into_inner);
    rows.iter().map(|(name, row)| (name.clone(), row.clone())).collect()
}

fn key(kind: u8, names: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    names.iter().for_each(|name| put_str(&mut key, name));
    key
}
