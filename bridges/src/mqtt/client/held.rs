//! What is kept of the session that a broker has for the gateway: which messages it is in the middle of, and what it is
//! subscribed to. An entry a broker, because each has a session of its own.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use envelope::{KeyValue, KeyWrite, Qos, Rejection};

use super::Server;
use crate::mqtt::{
    codec::{Reader, SnapshotError, put_bytes, put_list},
    packet::{level, qos_of},
    session::Session,
};

/// The session at one broker.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) session: Session,
    pub(super) filters: Granted,
}

/// What the broker may send, by filter in MQTT's spelling: how surely, once it has said so. What was asked for, or to be ended,
/// and not answered is in it too, so that after a crash it is asked for or ended again.
pub(super) type Granted = BTreeMap<String, Option<Qos>>;

/// The format of what is kept; 1 had nothing that was not answered.
const FORMAT: u8 = 2;
/// In the place of a QoS.
const UNANSWERED: u8 = 3;

// === impl Held ===

impl Held {
    pub(super) fn new() -> Self {
        Self { session: Session::new(), filters: Granted::new() }
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
        put_bytes(&mut out, &session);
        put_list(&mut out, self.filters.iter(), |out, (filter, qos)| {
            out.put_u8(qos.map_or(UNANSWERED, level));
            put_bytes(out, filter.as_bytes());
        });
        out.freeze()
    }

    fn restore(bytes: Bytes) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            1 | FORMAT => {}
            other => return Err(SnapshotError::Format(other)),
        }
        let session = Session::restore(reader.bytes()?)?;
        let filters = reader.list(|reader| {
            let qos = match reader.u8()? {
                UNANSWERED => None,
                level => Some(qos_of(level).ok_or(SnapshotError::Damaged)?),
            };
            Ok((reader.text()?.to_string(), qos))
        })?;
        reader.finish()?;
        Ok(Self { session, filters: filters.into_iter().collect() })
    }
}

fn key(server: &Server) -> String {
    format!("client/in/{server}")
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
        held.filters.insert("a/+".to_owned(), Some(Qos::ExactlyOnce));
        held.filters.insert("b".to_owned(), None);
        held.keep(&keys, &one).await.unwrap();
        let again = Held::load(&keys, &one).await.unwrap().unwrap();
        assert_eq!((again.session.id(), again.filters), (held.session.id(), held.filters));
        assert!(Held::load(&keys, &two).await.unwrap().is_none());
    }

    #[test]
    fn damaged_entries_are_refused_and_never_a_panic() {
        let mut held = Held::new();
        held.filters.insert("a/+".to_owned(), Some(Qos::AtLeastOnce));
        let whole = held.store();
        for end in 0..whole.len() {
            assert!(Held::restore(whole.slice(..end)).is_err(), "cut at {end}");
        }
    }
}
