//! Session state on disk: in the bridge's key-value, an entry a session, written where the standard's promises need it.
//!
//! What has to be there before a client is told: that a session exists and what it is subscribed to (CONNACK, SUBACK), that
//! an identifier of QoS 2 is released (PUBCOMP), and which identifier a delivery of QoS 2 has (before it is sent).
//! Nothing of it is written for a session that ends with its connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes, BytesMut};
use envelope::{KeyEntry, KeyValue, KeyWrite, Position, Rejection};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    codec::{Reader, SnapshotError, put_bytes},
    session::Session,
    sessions::Key,
    will::Testament,
};

/// Writes and reads the sessions of one listener.
#[derive(Clone)]
pub(super) struct Keeper {
    keys: Arc<dyn KeyValue>,
    /// How many parts are on disk of the sessions that have some: a session that shrinks leaves none behind.
    parts: Arc<Mutex<HashMap<Uuid, usize>>>,
}

/// A session as it was kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) session: Session,
    /// How long it still outlives its connection. One that was connected when the gateway ended has all of its time.
    pub(super) left: Duration,
}

/// A will as it was kept.
#[derive(Debug)]
pub(super) struct KeptWill {
    pub(super) testament: Testament,
    /// How long it still waits; `None`: its client was connected when the gateway ended.
    pub(super) left: Option<Duration>,
}

/// What its keys begin with.
const PREFIX: &str = "session/";
/// What the keys begin with that have the rest of a large session.
const PARTS: &str = "part/";
/// The first byte of a value that is in parts; of another it is the highest of a time, which is 0 for long.
const IN_PARTS: u8 = 0xFF;
/// The most bytes of one value.
const MAX_VALUE: usize = KeyWrite::MAX_VALUE;
/// What the keys of shared subscriptions begin with; a digest of the name follows.
const SHARES: &str = "share/";
/// What the keys of wills begin with.
const WILLS: &str = "will/";
/// How many are read at once.
const PAGE: usize = 256;
/// So many positions are kept of what nobody is to get of a shared subscription.
const MAX_LOST: usize = 4_096;
/// Behind its end an entry stays for a while, so that the sweep finds it and ends what it stands for.
const GRACE: Duration = Duration::from_secs(86_400);

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(keys: Arc<dyn KeyValue>) -> Self {
        Self { keys, parts: Arc::default() }
    }

    /// Writes a session that is to outlive its connection by `expiry`, which counts from now on unless it is `connected`.
    /// Once it answers, the session is on disk, and what is written `with` it.
    pub(super) async fn keep(
        &self,
        key: &Key,
        session: &Session,
        expiry: Duration,
        connected: bool,
        with: impl IntoIterator<Item = KeyWrite>,
    ) -> Result<(), Rejection> {
        let value = value(key, session, expiry, connected);
        let until = (!connected).then(|| expiry.saturating_add(GRACE));
        let until = |write: KeyWrite| match until {
            Some(until) => write.expiring(until),
            None => write,
        };
        let (first, parts) = in_parts(value);
        let (now, before) = (parts.len(), self.parts_of(session.id()));
        if now > before {
            // those that are there if this fails as well
            self.has_parts(session.id(), now);
        }
        let gone = (now..before).map(|n| KeyWrite::delete(part_name(session.id(), n)));
        let parts = parts.into_iter().enumerate().map(|(n, part)| KeyWrite::put(part_name(session.id(), n), part));
        let writes = [KeyWrite::put(name(session), first)].into_iter().chain(parts).map(until);
        self.keys.write(writes.chain(gone).chain(with).collect()).await?;
        if now < before {
            self.has_parts(session.id(), now);
        }
        Ok(())
    }

    fn parts_of(&self, session: Uuid) -> usize {
        self.lock().get(&session).copied().unwrap_or_default()
    }

    fn has_parts(&self, session: Uuid, count: usize) {
        let mut parts = self.lock();
        match count {
            0 => parts.remove(&session),
            _ => parts.insert(session, count),
        };
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a will: of a client that is connected, or of one that is gone and may be back for so long.
    pub(super) fn will(testament: &Testament, waits: Option<Duration>) -> KeyWrite {
        let stored = testament.store();
        let mut out = BytesMut::with_capacity(8 + stored.len());
        // 0 is of a client that is connected
        let due = waits.map_or(0, |waits| u64::try_from((now() + waits).as_millis()).unwrap_or(u64::MAX));
        out.put_u64(due);
        out.put_slice(&stored);
        let write = KeyWrite::put(will(testament.id), out.freeze());
        match waits {
            Some(waits) => write.expiring(waits.saturating_add(GRACE)),
            None => write,
        }
    }

    /// Takes a will from disk.
    pub(super) fn no_will(id: Uuid) -> KeyWrite {
        KeyWrite::delete(will(id))
    }

    /// Forgets a will.
    pub(super) async fn forget_will(&self, id: Uuid) -> Result<(), Rejection> {
        self.keys.write(vec![Self::no_will(id)]).await.map(|_| ())
    }

    /// All wills that are kept; one that can't be read is told of and left alone.
    pub(super) async fn wills(&self) -> Result<Vec<KeptWill>, Rejection> {
        let mut all = Vec::new();
        for KeyEntry { key, value, .. } in self.list(WILLS).await? {
            match kept_will(value) {
                Ok(kept) => all.push(kept),
                Err(error) => tracing::error!(%error, %key, "a kept will can't be read"),
            }
        }
        Ok(all)
    }

    /// Forgets a session.
    pub(super) async fn forget(&self, session: &Session) -> Result<(), Rejection> {
        let parts = self.list(&parts_of(session.id())).await?.into_iter().map(|part| KeyWrite::delete(part.key));
        self.keys.write([KeyWrite::delete(name(session))].into_iter().chain(parts).collect()).await?;
        self.has_parts(session.id(), 0);
        Ok(())
    }

    /// Writes that there is a shared subscription whose position has this name, and what nobody is to get of it any more.
    pub(super) async fn keep_share(&self, name: &str, lost: &[Position]) -> Result<(), Rejection> {
        self.keys.write(vec![KeyWrite::put(share(name), share_value(name, lost))]).await.map(|_| ())
    }

    /// Forgets a shared subscription.
    pub(super) async fn forget_share(&self, name: &str) -> Result<(), Rejection> {
        self.keys.write(vec![KeyWrite::delete(share(name))]).await.map(|_| ())
    }

    /// The names of the shared subscriptions that there were, and what nobody is to get of them.
    pub(super) async fn shares(&self) -> Result<Vec<(String, Vec<Position>)>, Rejection> {
        Ok(self.list(SHARES).await?.into_iter().map(|entry| kept_share(&entry.value)).collect())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<KeyEntry>, Rejection> {
        let mut all = Vec::new();
        let mut after: Option<Arc<str>> = None;
        loop {
            let page = self.keys.list(prefix, after.as_deref(), PAGE).await?;
            all.extend(page.entries);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// All that are kept; one that can't be read is told of and left alone.
    pub(super) async fn all(&self) -> Result<Vec<Kept>, Rejection> {
        let mut all = Vec::new();
        for KeyEntry { key, value, .. } in self.list(PREFIX).await? {
            let value = match value.first() {
                Some(&IN_PARTS) => self.whole(&key, &value).await?,
                Some(_) | None => value,
            };
            match kept(value) {
                Ok(kept) => all.push(kept),
                Err(error) => tracing::error!(%error, %key, "a kept session can't be read"),
            }
        }
        Ok(all)
    }
}

impl Keeper {
    /// What was too large for one value; nothing if not all of it is there, which is no session then.
    async fn whole(&self, key: &str, first: &Bytes) -> Result<Bytes, Rejection> {
        let mut reader = Reader::new(first.slice(1..));
        let (Ok(count), Ok(id)) = (reader.u16(), Uuid::parse_str(&key[PREFIX.len()..])) else {
            return Ok(Bytes::new());
        };
        self.has_parts(id, count.into());
        let mut all = BytesMut::from(&*reader.rest());
        for n in 0..usize::from(count) {
            match self.keys.get(&part_name(id, n)).await? {
                Some(part) => all.put_slice(&part.value),
                None => return Ok(Bytes::new()),
            }
        }
        Ok(all.freeze())
    }
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

fn name(session: &Session) -> String {
    format!("{PREFIX}{}", session.id().simple())
}

fn parts_of(session: Uuid) -> String {
    format!("{PARTS}{}/", session.simple())
}

fn part_name(session: Uuid, n: usize) -> String {
    format!("{}{n}", parts_of(session))
}

/// A value as it is, if it is small enough; else how many parts there are behind it, and these.
fn in_parts(value: Bytes) -> (Bytes, Vec<Bytes>) {
    if value.len() <= MAX_VALUE {
        return (value, Vec::new());
    }
    let parts: Vec<_> =
        (0..value.len()).step_by(MAX_VALUE).map(|at| value.slice(at..value.len().min(at + MAX_VALUE))).collect();
    let mut first = BytesMut::with_capacity(3);
    first.put_u8(IN_PARTS);
    first.put_u16(u16::try_from(parts.len()).unwrap_or(u16::MAX));
    (first.freeze(), parts)
}

fn share(name: &str) -> String {
    let digest: String = Sha256::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SHARES}{digest}")
}

/// The name, then a NUL, which is in none, and positions in order.
fn share_value(name: &str, lost: &[Position]) -> Bytes {
    let mut out = BytesMut::with_capacity(name.len() + 1 + 24 * lost.len());
    out.put_slice(name.as_bytes());
    if !lost.is_empty() {
        out.put_u8(0);
        // the newest are those that may still come
        lost[lost.len().saturating_sub(MAX_LOST)..].iter().for_each(|at| put_bytes(&mut out, &at.0));
    }
    out.freeze()
}

fn kept_share(value: &Bytes) -> (String, Vec<Position>) {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let name = String::from_utf8_lossy(&value[..end]).into_owned();
    let mut reader = Reader::new(value.slice((end + 1).min(value.len())..));
    let lost = std::iter::from_fn(|| reader.bytes().ok().map(Position)).collect();
    (name, lost)
}

/// When its connection ended (0: it has not) and for how long it stays from then on, whose it is, and the session.
fn value(key: &Key, session: &Session, expiry: Duration, connected: bool) -> Bytes {
    let session = session.store(connected);
    let mut out = BytesMut::with_capacity(32 + key.principal.len() + key.client_id.len() + session.len());
    out.put_u64(if connected { 0 } else { now().as_secs() });
    out.put_u64(expiry.as_secs());
    put_bytes(&mut out, key.principal.as_bytes());
    put_bytes(&mut out, key.client_id.as_bytes());
    out.put_slice(&session);
    out.freeze()
}

fn kept(value: Bytes) -> Result<Kept, SnapshotError> {
    let mut reader = Reader::new(value);
    let (written, expiry) = (reader.u64()?, reader.u64()?);
    let (principal, client_id) = (reader.text()?, reader.text()?);
    let session = Session::restore(reader.rest())?;
    let left = match written {
        0 => expiry,
        ended => ended.saturating_add(expiry).saturating_sub(now().as_secs()),
    };
    let key = Key { principal: Arc::from(&*principal), client_id };
    Ok(Kept { key, session, left: Duration::from_secs(left) })
}

fn kept_will(value: Bytes) -> Result<KeptWill, SnapshotError> {
    let mut reader = Reader::new(value);
    let due = match reader.u64()? {
        0 => None,
        due => Some(Duration::from_millis(due)),
    };
    let left = due.map(|due| due.saturating_sub(now()));
    Ok(KeptWill { testament: Testament::restore(reader.rest())?, left })
}

fn will(id: Uuid) -> String {
    format!("{WILLS}{}", id.simple())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use envelope::Qos;

    use super::*;
    use crate::{
        conformance::FakeKeys,
        mqtt::packet::{RetainHandling, Wanted},
    };

    fn key(client: &'static str) -> Key {
        Key { principal: "p".into(), client_id: bytestring::ByteString::from_static(client) }
    }

    #[tokio::test]
    async fn what_is_kept_is_there_again_and_what_is_forgotten_is_not() {
        let keeper = Keeper::new(Arc::new(FakeKeys::default()));
        let (one, two) = (Session::new(), Session::new());
        keeper.keep(&key("one"), &one, Duration::from_secs(100), false, []).await.unwrap();
        keeper.keep(&key("two"), &two, Duration::from_secs(100), true, []).await.unwrap();
        keeper.forget(&two).await.unwrap();
        let all = keeper.all().await.unwrap();
        assert_eq!((all.len(), all[0].session.id(), &all[0].key), (1, one.id(), &key("one")));
        assert!((98..=100).contains(&all[0].left.as_secs()));
    }

    #[tokio::test]
    async fn a_session_that_is_too_large_for_one_value_is_there_again_too_and_leaves_nothing_behind() {
        let keys = Arc::new(FakeKeys::default());
        let (keeper, mut session) = (Keeper::new(keys.clone()), Session::new());
        let waits = Duration::from_secs(100);
        let filter = |n: u32| bytestring::ByteString::from(format!("{n:0>1000}"));
        for n in 0..1_000 {
            let wanted = Wanted {
                filter: filter(n),
                qos: Qos::ExactlyOnce,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::Never,
            };
            session.subscribe(wanted, None);
        }
        keeper.keep(&key("one"), &session, waits, false, []).await.unwrap();
        let mut all = keeper.all().await.unwrap();
        let restored = all.pop().unwrap().session;
        assert!(all.is_empty() && restored.subscriptions().count() == 1_000);
        let parts = async || keys.list(PARTS, None, 99).await.unwrap().entries.len();
        let all = parts().await;
        (0..400).for_each(|n| drop(session.unsubscribe(&filter(n))));
        keeper.keep(&key("one"), &session, waits, true, []).await.unwrap();
        assert!((2..all).contains(&parts().await), "a session that shrinks leaves no part behind");
        // one that another gateway process has kept neither
        let keeper = Keeper::new(keys.clone());
        keeper.all().await.unwrap();
        (400..900).for_each(|n| drop(session.unsubscribe(&filter(n))));
        keeper.keep(&key("one"), &session, waits, true, []).await.unwrap();
        assert_eq!(parts().await, 0);
        assert_eq!(keeper.all().await.unwrap()[0].session.subscriptions().count(), 100, "it may be small again");
        keeper.forget(&session).await.unwrap();
        assert!(keys.list("", None, 9).await.unwrap().entries.is_empty());
    }

    #[tokio::test]
    async fn of_a_shared_subscription_is_kept_what_nobody_is_to_get() {
        let keeper = Keeper::new(Arc::new(FakeKeys::default()));
        let lost: Vec<_> = ["1", "22"].map(|at| Position(Bytes::from(at))).into();
        for lost in [&lost[..], &[]] {
            keeper.keep_share("mqtt:floor:$share/g/a", lost).await.unwrap();
            let kept = keeper.shares().await.unwrap();
            assert_eq!(kept, [("mqtt:floor:$share/g/a".to_owned(), lost.to_vec())]);
        }
        let many: Vec<_> = (0..10_000_u64).map(|n| Position(Bytes::copy_from_slice(&n.to_be_bytes()))).collect();
        assert_eq!(kept_share(&share_value("a", &many)).1, many[many.len() - MAX_LOST..]);
        assert!(kept_share(&Bytes::from_static(b"a\0\0\0")).1.is_empty(), "damaged");
    }

    #[test]
    fn damaged_entries_are_refused_and_never_a_panic() {
        let whole = value(&key("one"), &Session::new(), Duration::from_secs(9), false);
        for end in 0..whole.len() {
            assert!(kept(whole.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
