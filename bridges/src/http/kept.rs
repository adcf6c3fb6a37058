//! Answers that are kept for a retry: what a request with an `Idempotency-Key` was answered, over restarts.
//!
//! An answer is written before its request hears it, at the id of the message, so that a retry which the store knows as
//! the same message finds it. Whether it is the same message is the store's to say, and who may ask is policy's.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use envelope::{EnvelopeId, KeyValue, KeyWrite, Reached, Reply};
use metrics::{Counter, counter, describe_counter};

/// The most of an answer that is kept, with its headers; of a larger one only that there was one.
pub(super) const MAX_KEPT: usize = 65_536;
/// The first byte of what is written: its format, then what it is.
const FORMAT: u8 = 1;
const IN_WORDS: u8 = 0;
const WITHOUT_WORDS: u8 = 1;
const TOO_MUCH: u8 = 2;

/// The answers of one bridge.
pub(super) struct Kept {
    keys: Arc<dyn KeyValue>,
    /// As long as the store remembers the message: later a retry is another message, and nobody asks for it.
    kept_for: Duration,
    /// Answers that could not be written.
    lost: Counter,
}

// === impl Kept ===

impl Kept {
    pub(super) fn new(bridge: &str, keys: Arc<dyn KeyValue>, kept_for: Duration) -> Self {
        describe_counter!("openmesh_bridge_answers_not_kept_total", "answers that a retry can't hear again");
        let lost = counter!("openmesh_bridge_answers_not_kept_total", "bridge" => bridge.to_owned());
        Self { keys, kept_for, lost }
    }

    /// Keeps what a message was answered. One that can't be written is told all the same, and counted.
    pub(super) fn keep(&self, id: EnvelopeId, reached: &Reached) -> impl Future<Output = ()> + Send + use<'_> {
        // what has parts can't be held over an await
        let value = match reached {
            Reached::Answered(reply) => Some(written(reply.as_ref())),
            Reached::Parts(..) => Some(mark(TOO_MUCH)),
            Reached::Yes | Reached::Elsewhere | Reached::Never | Reached::Late => None,
        };
        async move {
            let Some(value) = value else { return };
            let write = KeyWrite::put(key(id), value).expiring(self.kept_for);
            if let Err(error) = self.keys.write(vec![write]).await {
                self.lost.increment(1);
                tracing::debug!(%error, %id, "an answer is not kept");
            }
        }
    }

    /// What a message was answered before.
    pub(super) async fn find(&self, id: EnvelopeId) -> Option<Reached> {
        let entry = self.keys.get(&key(id)).await.ok()??;
        read(entry.value)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

fn key(id: EnvelopeId) -> String {
    format!("answer/{id}")
}

fn mark(what: u8) -> Bytes {
    Bytes::copy_from_slice(&[FORMAT, what])
}

/// Lengths before what they are of, in network order.
fn written(reply: Option<&Reply>) -> Bytes {
    let Some(reply) = reply else { return mark(WITHOUT_WORDS) };
    let headers: usize = reply.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let bytes = headers + reply.payload.len() + 8;
    if bytes > MAX_KEPT {
        return mark(TOO_MUCH);
    }
    let mut out = BytesMut::with_capacity(bytes);
    out.put_slice(&[FORMAT, IN_WORDS]);
    out.put_u16(reply.status.unwrap_or(0));
    out.put_u32(reply.headers.len() as u32);
    for (name, value) in reply.headers.iter() {
        for piece in [name.as_bytes(), value] {
            out.put_u32(piece.len() as u32);
            out.put_slice(piece);
        }
    }
    out.put_slice(&reply.payload);
    out.freeze()
}

/// `None` for what another version wrote, or nobody.
fn read(mut value: Bytes) -> Option<Reached> {
    if value.try_get_u8().ok()? != FORMAT {
        return None;
    }
    match value.try_get_u8().ok()? {
        IN_WORDS => {}
        WITHOUT_WORDS => return Some(Reached::Answered(None)),
        TOO_MUCH => return Some(Reached::Elsewhere),
        _ => return None,
    }
    let status = Some(value.try_get_u16().ok()?).filter(|status| *status > 0);
    let count = value.try_get_u32().ok()?;
    let piece = |value: &mut Bytes| {
        let length = value.try_get_u32().ok()? as usize;
        (length <= value.len()).then(|| value.split_to(length))
    };
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = String::from_utf8(piece(&mut value)?.into()).ok()?;
        headers.push((name, piece(&mut value)?));
    }
    Some(Reached::Answered(Some(Reply { status, headers: headers.into(), payload: value })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{FakeKeys, HARD_TIMEOUT};

    fn id(n: u128) -> EnvelopeId {
        EnvelopeId::new(uuid::Uuid::from_u128(n))
    }

    fn reply(payload: usize) -> Reply {
        let headers = [("content-type".to_owned(), Bytes::from_static(b"text/plain")), ("x".to_owned(), Bytes::new())];
        Reply { status: Some(409), headers: headers.into(), payload: vec![7; payload].into() }
    }

    fn kept() -> (Kept, Arc<FakeKeys>) {
        let keys = Arc::new(FakeKeys::default());
        (Kept::new("web", keys.clone(), Duration::from_secs(60)), keys)
    }

    #[tokio::test]
    async fn what_was_answered_is_found_as_it_was() {
        let (kept, keys) = kept();
        for (n, answer) in
            [Some(reply(0)), Some(reply(3)), Some(Reply { status: None, ..reply(1) }), None].into_iter().enumerate()
        {
            kept.keep(id(n as u128), &Reached::Answered(answer.clone())).await;
            assert!(matches!(kept.find(id(n as u128)).await, Some(Reached::Answered(found)) if found == answer), "{n}");
        }
        assert!(kept.find(id(99)).await.is_none(), "another message has none");
        for n in [Reached::Yes, Reached::Never, Reached::Late, Reached::Elsewhere] {
            kept.keep(id(50), &n).await;
            assert!(kept.find(id(50)).await.is_none(), "what is no answer is not kept: {n:?}");
        }
        keys.refuse(true);
        kept.keep(id(60), &Reached::Answered(None)).await;
        assert!(kept.find(id(60)).await.is_none());
    }

    #[tokio::test]
    async fn what_was_answered_is_kept_for_as_long_as_it_was_said_and_no_longer() {
        let (long, keys) = kept();
        let short = Kept::new("web", keys, Duration::from_millis(1));
        for (n, kept) in [(1, &long), (2, &short)] {
            kept.keep(id(n), &Reached::Answered(None)).await;
        }
        let gone = async {
            while short.find(id(2)).await.is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HARD_TIMEOUT, gone).await.expect("it ends");
        assert!(long.find(id(1)).await.is_some());
    }

    #[tokio::test]
    async fn of_what_is_larger_than_the_limit_there_is_a_mark() {
        let (kept, keys) = kept();
        let over = reply(0);
        let around: usize = over.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>() + 8;
        kept.keep(id(1), &Reached::Answered(Some(reply(MAX_KEPT - around)))).await;
        assert!(matches!(kept.find(id(1)).await, Some(Reached::Answered(Some(_)))), "at the limit");
        assert_eq!(keys.value(&key(id(1))).unwrap().len(), MAX_KEPT);
        kept.keep(id(2), &Reached::Answered(Some(reply(MAX_KEPT - around + 1)))).await;
        assert!(matches!(kept.find(id(2)).await, Some(Reached::Elsewhere)), "over it");
        assert_eq!(keys.value(&key(id(2))).unwrap().len(), 2);
    }

    #[test]
    fn what_is_cut_or_of_another_format_is_none() {
        let whole = written(Some(&reply(0)));
        for length in 0..whole.len() {
            assert!(read(whole.slice(..length)).is_none(), "{length}");
        }
        assert!(read(Bytes::from_static(&[2, 0, 0, 0, 0, 0, 0, 0])).is_none());
        assert!(read(Bytes::from_static(&[1, 9])).is_none());
        assert!(read(Bytes::from_static(&[1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255])).is_none());
    }
}
