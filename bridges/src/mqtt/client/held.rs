//! What is kept of the session that a broker has for the gateway: which messages it is in the middle of, and what it is
//! subscribed to. An entry a broker, because each has a session of its own.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use envelope::{KeyValue, KeyWrite, Qos, Rejection};

use super::Server;
use crate::mqtt::{codec::SnapshotError, session::Session};

/// The session at one broker.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Session,
    /// What the broker said yes to, by filter in MQTT's spelling.
    pub(super) filters: BTreeMap<String, Qos>,
}

/// The format of what is kept.
const FORMAT: u8 = 1;

// === impl Held ===

impl Held {
    pub(super) fn new() -> Self {
        Self { session: Session::new(), filters: BTreeMap::new() }
    }

    /// What was kept, if anything was. What can't be read is told of, and none.
    pub(super) async fn load(keys: &Arc<dyn KeyValue>, server: &Server) -> Result<Option<Self>, Rejection> {
        let Some(entry) = keys.get(&key(server)).await? else { return Ok(None) };
        match Self::restore(entry.value) {
            Ok(held) => Ok(Some(held)),
            Err(error) => {
                tracing::error!(%error, %server, "the kept session of a broker can't be read");
                Ok(None)
            }
        }
    }

    /// Once it answers, it is on disk.
    pub(super) async fn keep(&self, keys: &Arc<dyn KeyValue>, server: &Server) -> Result<(), Rejection> {
        keys.write(vec![KeyWrite::put(key(server), self.store())]).await.map(|_| ())
    }

    fn store(&self) -> Bytes {
        let session = self.session.store(true);
        let mut out = BytesMut::with_capacity(64 + session.len());
        out.put_u8(FORMAT);
        put(&mut out, &session);
        out.put_u32(self.filters.len() as u32);
        for (filter, qos) in &self.filters {
            out.put_u8(match qos {
                Qos::AtMostOnce => 0,
                Qos::AtLeastOnce => 1,
                Qos::ExactlyOnce => 2,
            });
            put(&mut out, filter.as_bytes());
        }
        out.freeze()
    }

    fn restore(mut bytes: Bytes) -> Result<Self, SnapshotError> {
        match u8(&mut bytes)? {
            FORMAT => {}
            other => return Err(SnapshotError::Format(other)),
        }
        let session = Session::restore(take(&mut bytes)?)?;
        let (count, mut filters) = (u32(&mut bytes)?, BTreeMap::new());
        for _ in 0..count {
            let qos = match u8(&mut bytes)? {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                2 => Qos::ExactlyOnce,
                _ => return Err(SnapshotError::Damaged),
            };
            let filter = take(&mut bytes)?;
            filters.insert(String::from_utf8(filter.to_vec()).map_err(|_| SnapshotError::Damaged)?, qos);
        }
        if bytes.is_empty() { Ok(Self { session, filters }) } else { Err(SnapshotError::Damaged) }
    }
}

fn key(server: &Server) -> String {
    format!("client/in/{server}")
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn u8(bytes: &mut Bytes) -> Result<u8, SnapshotError> {
    if bytes.is_empty() { Err(SnapshotError::Damaged) } else { Ok(bytes.get_u8()) }
}

fn u32(bytes: &mut Bytes) -> Result<u32, SnapshotError> {
    if bytes.len() < 4 { Err(SnapshotError::Damaged) } else { Ok(bytes.get_u32()) }
}

fn take(bytes: &mut Bytes) -> Result<Bytes, SnapshotError> {
    let length = u32(bytes)? as usize;
    if bytes.len() < length { Err(SnapshotError::Damaged) } else { Ok(bytes.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::FakeKeys;

    #[tokio::test]
    async fn what_is_kept_is_there_again_for_the_same_broker_only() {
        let keys: Arc<dyn KeyValue> = Arc::new(FakeKeys::default());
        let [one, two] = ["mqtt://one", "mqtt://two"].map(|url| Server::parse(url).unwrap());
        let mut held = Held::new();
        held.filters.insert("a/+".to_owned(), Qos::ExactlyOnce);
        held.keep(&keys, &one).await.unwrap();
        let again = Held::load(&keys, &one).await.unwrap().unwrap();
        assert_eq!((again.session.id(), again.filters), (held.session.id(), held.filters));
        assert!(Held::load(&keys, &two).await.unwrap().is_none());
    }

    #[test]
    fn damaged_entries_are_refused_and_never_a_panic() {
        let mut held = Held::new();
        held.filters.insert("a/+".to_owned(), Qos::AtLeastOnce);
        let whole = held.store();
        for end in 0..whole.len() {
            assert!(Held::restore(whole.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
