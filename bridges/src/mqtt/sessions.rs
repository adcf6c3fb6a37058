//! Who owns which session: at most one connection at a time, the newest (MQTT-3.1.4-3).
//!
//! A session belongs to a client identifier *of a principal*: who knows another's identifier does not get its session. While
//! a client is connected its connection holds the session; between connections it stays here until it expires.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytestring::ByteString;
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    packet::{Broken, Reason},
    session::Session,
};

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) principal: Arc<str>,
    pub(super) client_id: ByteString,
}

/// All sessions of a listener.
#[derive(Debug)]
pub(super) struct Sessions {
    slots: Mutex<Slots>,
    most: usize,
    /// Of one principal.
    most_each: usize,
}

#[derive(Debug, Default)]
struct Slots {
    all: HashMap<Key, Slot>,
    /// How many there are of each principal.
    of: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Slot {
    cell: Cell,
    /// Of the newest connection: cancelled when a newer one comes.
    taken_over: CancellationToken,
}

type Cell = Arc<tokio::sync::Mutex<Parked>>;

/// A session between connections.
#[derive(Debug, Default)]
struct Parked {
    session: Option<Session>,
    /// Not before its connection is over.
    expires: Option<Instant>,
}

/// A connection's hold on its session, until it is parked or dropped with it.
pub(super) struct Held {
    key: Key,
    guard: OwnedMutexGuard<Parked>,
    cell: Cell,
    /// Cancelled when a newer connection wants the session.
    pub(super) taken_over: CancellationToken,
    pub(super) session: Session,
    /// It was there before.
    pub(super) present: bool,
}

/// How long the connection before may take to let go of the session.
const HAND_OVER: Duration = Duration::from_secs(30);

// === impl Key ===

impl Key {
    pub(super) fn new(principal: &Arc<str>, client_id: &str) -> Self {
        // of its own, or the packet that it came in would stay as long as the session
        Self { principal: principal.clone(), client_id: ByteString::from(client_id) }
    }
}

// === impl Sessions ===

impl Sessions {
    /// At most `most` sessions, connected or not, and `most_each` of one principal.
    pub(super) fn new(most: usize, most_each: usize) -> Self {
        Self { slots: Mutex::default(), most, most_each }
    }

    /// Takes the session of `key` over from whoever has it. With `clean` it begins anew; what was there before is handed
    /// back as well, to be ended.
    pub(super) async fn take(&self, key: Key, clean: bool) -> Result<(Held, Option<Session>), Broken> {
        let (cell, taken_over) = self.claim(&key)?;
        let waited = timeout(HAND_OVER, cell.clone().lock_owned());
        let guard = tokio::select! {
            biased;
            () = taken_over.cancelled() => None,
            guard = waited => guard.ok(),
        };
        let Some(mut guard) = guard else {
            return Err(Broken::new(Reason::SERVER_BUSY, "the session is in use by a connection that does not end"));
        };
        // one that the sweep has not come by yet is over all the same
        let is_over = guard.expires.take().is_some_and(|at| at <= Instant::now());
        let before = guard.session.take();
        let (session, present, ended) = match before {
            Some(session) if !clean && !is_over => (session, true, None),
            before => (Session::new(), false, before),
        };
        Ok((Held { key, guard, cell, taken_over, session, present }, ended))
    }

    /// The slot of `key`, made if there is none, with a token for its newest connection.
    fn claim(&self, key: &Key) -> Result<(Cell, CancellationToken), Broken> {
        let token = CancellationToken::new();
        let mut slots = self.lock();
        if let Some(slot) = slots.all.get_mut(key) {
            slot.taken_over.cancel();
            slot.taken_over = token.clone();
            return Ok((slot.cell.clone(), token));
        }
        if slots.all.len() >= self.most {
            let detail = format!("there are {} sessions, which is the limit", self.most);
            return Err(Broken::new(Reason::QUOTA_EXCEEDED, detail));
        }
        if slots.of.get(&key.principal).is_some_and(|own| *own >= self.most_each) {
            let detail = format!("there are {} sessions of the same principal, which is the limit", self.most_each);
            return Err(Broken::new(Reason::QUOTA_EXCEEDED, detail));
        }
        let cell = Cell::default();
        slots.insert(key.clone(), Slot { cell: cell.clone(), taken_over: token.clone() });
        Ok((cell, token))
    }

    /// Puts a stored session back, at start. Of two of the same client the older one had ended, and could not be forgotten: that
    /// is handed back.
    pub(super) fn restore(&self, key: Key, session: Session, expires: Instant) -> Option<Session> {
        let mut slots = self.lock();
        let before = slots.all.get(&key).and_then(|slot| slot.cell.try_lock().ok()?.session.take());
        let (session, over) = match before {
            // their ids are in the order of their beginning
            Some(before) if before.id() > session.id() => (before, Some(session)),
            before => (session, before),
        };
        let parked = Parked { session: Some(session), expires: Some(expires) };
        let slot = Slot { cell: Arc::new(tokio::sync::Mutex::new(parked)), taken_over: CancellationToken::new() };
        slots.insert(key, slot);
        over
    }

    /// The connection is over: its session waits for the next one for `expiry`, or ends, and is handed back then.
    pub(super) fn leave(&self, held: Held, expiry: Duration) -> Option<Session> {
        let Held { key, mut guard, cell, taken_over, mut session, .. } = held;
        let ended = if expiry.is_zero() {
            Some(session)
        } else {
            session.disconnected();
            guard.expires = Instant::now().checked_add(expiry);
            guard.session = Some(session);
            None
        };
        let mut slots = self.lock();
        // a newer connection waits for this slot: then it stays
        let is_own = slots.all.get(&key).is_some_and(|slot| Arc::ptr_eq(&slot.cell, &cell));
        if ended.is_some() && !taken_over.is_cancelled() && is_own {
            slots.remove(&key);
        }
        drop(guard);
        ended
    }

    /// Takes out the sessions that have expired. A slot without one that nobody holds or waits for is left over from a
    /// connection that did not get it.
    pub(super) fn expired(&self, now: Instant) -> Vec<(Key, Session)> {
        let mut ended = Vec::new();
        let mut slots = self.lock();
        let Slots { all, of } = &mut *slots;
        let stays = |key: &Key, slot: &mut Slot, ended: &mut Vec<(Key, Session)>| {
            let is_held = Arc::strong_count(&slot.cell) > 1;
            let Ok(mut parked) = slot.cell.try_lock() else { return true };
            // who has it waits for the lock: it may be taken up in a moment
            if parked.session.is_none() || is_held {
                return is_held;
            }
            if parked.expires.is_none_or(|at| at > now) {
                return true;
            }
            ended.extend(parked.session.take().map(|session| (key.clone(), session)));
            false
        };
        all.retain(|key, slot| {
            let stays = stays(key, slot, &mut ended);
            if !stays {
                one_less(of, &key.principal);
            }
            stays
        });
        ended
    }

    /// All there are, connected or not.
    pub(super) fn len(&self) -> usize {
        self.lock().all.len()
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Slots ===

impl Slots {
    fn insert(&mut self, key: Key, slot: Slot) {
        let principal = key.principal.clone();
        if self.all.insert(key, slot).is_none() {
            *self.of.entry(principal).or_default() += 1;
        }
    }

    fn remove(&mut self, key: &Key) {
        if self.all.remove(key).is_some() {
            one_less(&mut self.of, &key.principal);
        }
    }
}

fn one_less(of: &mut HashMap<Arc<str>, usize>, principal: &Arc<str>) {
    if let Some(own) = of.get_mut(principal) {
        *own -= 1;
        if *own == 0 {
            of.remove(principal);
        }
    }
}

// === impl Held ===

impl Held {
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it has to be on disk for a connection that it outlives by `expiry`: one that was there before is there
    /// already, and what is there must not fall behind.
    pub(super) fn is_kept(&self, expiry: Duration) -> bool {
        self.present || !expiry.is_zero()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("key", &self.key).field("present", &self.present).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use envelope::Qos;

    use super::*;

    fn key(client: &'static str) -> Key {
        Key { principal: "p".into(), client_id: ByteString::from_static(client) }
    }

    #[tokio::test]
    async fn mqtt_3_1_4_3_a_newer_connection_takes_the_session_over() {
        let sessions = Arc::new(Sessions::new(10, 100));
        let (mut first, _) = sessions.take(key("a"), false).await.unwrap();
        first.session.send(0, &envelope::Position("1".into()), Qos::AtLeastOnce).unwrap();
        let id = first.session.id();
        let second = {
            let sessions = sessions.clone();
            async move { sessions.take(key("a"), false).await }
        };
        let over = async {
            first.taken_over.cancelled().await;
            assert!(sessions.leave(first, Duration::from_secs(9)).is_none());
        };
        let (second, ()) = tokio::join!(second, over);
        let (second, ended) = second.unwrap();
        assert!(second.present && second.session.id() == id && ended.is_none());
    }

    #[tokio::test]
    async fn mqtt_3_1_2_4_a_clean_start_ends_the_session_before() {
        let sessions = Sessions::new(10, 100);
        let (first, _) = sessions.take(key("a"), false).await.unwrap();
        let id = first.session.id();
        sessions.leave(first, Duration::from_secs(9));
        let (second, ended) = sessions.take(key("a"), true).await.unwrap();
        assert!(!second.present && ended.is_some_and(|ended| ended.id() == id));
    }

    #[tokio::test]
    async fn another_principal_has_another_session() {
        let sessions = Sessions::new(10, 100);
        let (first, _) = sessions.take(key("a"), false).await.unwrap();
        let (other, _) = sessions.take(Key { principal: "q".into(), ..key("a") }, false).await.unwrap();
        assert!(!other.present && !first.taken_over.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn mqtt_3_1_2_23_a_session_is_there_until_it_expires() {
        let sessions = Sessions::new(10, 100);
        let (held, _) = sessions.take(key("a"), false).await.unwrap();
        sessions.leave(held, Duration::from_secs(9));
        assert!(sessions.expired(Instant::now()).is_empty() && sessions.len() == 1);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(sessions.expired(Instant::now()).len(), 1);
        assert!(!sessions.take(key("a"), false).await.unwrap().0.present);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_has_expired_is_over_before_it_is_looked_for() {
        let sessions = Sessions::new(10, 100);
        let (held, _) = sessions.take(key("a"), false).await.unwrap();
        let id = held.session.id();
        sessions.leave(held, Duration::from_secs(9));
        tokio::time::advance(Duration::from_secs(9)).await;
        let (held, ended) = sessions.take(key("a"), false).await.unwrap();
        assert!(!held.present && held.session.id() != id && ended.is_some_and(|ended| ended.id() == id));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_free_again_that_nobody_got() {
        let sessions = Sessions::new(1, 100);
        let (held, _) = sessions.take(key("a"), false).await.unwrap();
        // the connection before does not let go in time, but then it does
        assert!(sessions.take(key("a"), false).await.is_err());
        assert!(sessions.expired(Instant::now()).is_empty() && sessions.len() == 1, "it is held");
        assert!(sessions.leave(held, Duration::ZERO).is_some());
        assert!(sessions.expired(Instant::now()).is_empty());
        assert!(sessions.take(key("b"), false).await.is_ok());
    }

    #[test]
    fn a_key_has_nothing_of_the_packet_that_it_came_in() {
        let packet = bytes::Bytes::from(b"a packet".to_vec());
        let client_id = ByteString::try_from(packet.slice(2..)).unwrap();
        let key = Key::new(&"p".into(), &client_id);
        drop(client_id);
        assert!(packet.is_unique() && &*key.client_id == "packet");
    }

    #[tokio::test]
    async fn sessions_are_bounded_and_come_back_with_their_end() {
        let sessions = Sessions::new(1, 100);
        let (held, _) = sessions.take(key("a"), true).await.unwrap();
        let over = sessions.take(key("b"), true).await.unwrap_err();
        assert_eq!(over.reason, Reason::QUOTA_EXCEEDED);
        assert!(sessions.leave(held, Duration::ZERO).is_some());
        assert!(sessions.take(key("b"), true).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_principal_leaves_room_for_others_and_its_own_comes_back_with_the_end_of_each() {
        let sessions = Sessions::new(10, 2);
        let (one, _) = sessions.take(key("a"), true).await.unwrap();
        let (two, _) = sessions.take(key("b"), true).await.unwrap();
        let over = sessions.take(key("c"), true).await.unwrap_err();
        assert!(over.reason == Reason::QUOTA_EXCEEDED && over.detail.contains("2 sessions of the same principal"));
        let other = Key { principal: "q".into(), ..key("c") };
        assert!(sessions.take(other, true).await.is_ok());
        assert!(sessions.leave(one, Duration::ZERO).is_some());
        assert!(sessions.leave(two, Duration::from_secs(9)).is_none());
        let (three, _) = sessions.take(key("c"), true).await.unwrap();
        assert!(sessions.take(key("d"), true).await.is_err());
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(sessions.expired(Instant::now()).len(), 1);
        assert!(sessions.take(key("d"), true).await.is_ok());
        drop(three);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_claimed_a_session_that_expires_does_not_lose_its_slot() {
        let sessions = Sessions::new(10, 10);
        let (held, _) = sessions.take(key("a"), false).await.unwrap();
        sessions.leave(held, Duration::from_secs(9));
        let (cell, _token) = sessions.claim(&key("a")).unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(sessions.expired(Instant::now()).is_empty() && sessions.len() == 1);
        drop(cell);
        assert_eq!(sessions.expired(Instant::now()).len(), 1);
    }

    #[tokio::test]
    async fn of_two_stored_sessions_of_a_client_the_older_one_is_over() {
        for newer_first in [false, true] {
            let sessions = Sessions::new(10, 10);
            let (older, newer) = (Session::new(), Session::new());
            let ids = (older.id(), newer.id());
            let all = if newer_first { [newer, older] } else { [older, newer] };
            let over: Vec<_> =
                all.into_iter().filter_map(|one| sessions.restore(key("a"), one, Instant::now())).collect();
            assert_eq!(over.iter().map(Session::id).collect::<Vec<_>>(), [ids.0]);
            assert_eq!(sessions.len(), 1);
        }
    }
}
