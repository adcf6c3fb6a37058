//! An answer in parts, on its way from the agent that gives it to the one reader that waits for it.
//!
//! What the reader has not taken is bounded, for each answer and for all of them. A part that finds no room is offered
//! again by its source, which reads no more of the agent meanwhile: a slow reader slows its agent down, and nobody else.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use envelope::{EnvelopeId, Part, Parts, RejectKind, Rejection};
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Where an agent's parts go.
pub(super) struct Writer {
    /// Who began.
    source: Arc<str>,
    parts: mpsc::Sender<Result<Waiting, Rejection>>,
    /// A permit a byte that waits.
    room: Arc<Semaphore>,
    /// The parts that were taken last: what an agent sends again, because it did not hear, is no other part.
    taken: VecDeque<EnvelopeId>,
}

/// Where they come from. Dropped, nobody reads them.
pub(super) struct Reader(mpsc::Receiver<Result<Waiting, Rejection>>);

/// A part that its reader has not taken.
struct Waiting {
    part: Part,
    _room: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// What becomes of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// There is no room for it now.
    Full,
    /// Nobody reads any more.
    Gone,
}

/// The most parts of an answer that wait for their reader.
const MAX_PARTS: usize = 64;
/// The most bytes of an answer that wait; a larger part waits alone.
const MAX_BYTES: u32 = 262_144;
/// The most bytes that wait in all answers together.
pub(super) const MAX_ALL_BYTES: u32 = 67_108_864;
/// What each part counts beside its bytes.
const OVERHEAD: u32 = 256;
/// How many parts are remembered after they were taken.
const REMEMBERED: usize = 256;

/// The way of one answer, which `source` has begun with `first`.
pub(super) fn open(source: Arc<str>, first: EnvelopeId) -> (Writer, Reader) {
    let (sender, receiver) = mpsc::channel(MAX_PARTS);
    let room = Arc::new(Semaphore::new(MAX_BYTES as usize));
    (Writer { source, parts: sender, room, taken: [first].into() }, Reader(receiver))
}

fn not_whole(why: &'static str) -> Rejection {
    Rejection::new(RejectKind::Unavailable, "reply", why)
}

// === impl Writer ===

impl Writer {
    /// Whether who sends is who began.
    pub(super) fn is_of(&self, source: &str) -> bool {
        *self.source == *source
    }

    /// Whether the part was taken before.
    pub(super) fn has_taken(&self, id: EnvelopeId) -> bool {
        self.taken.contains(&id)
    }

    /// Puts a part behind the others. What waits in `all` answers is bounded as well.
    pub(super) fn offer(&mut self, id: EnvelopeId, payload: Bytes, last: bool, all: &Arc<Semaphore>) -> Offered {
        if self.has_taken(id) {
            return Offered::Taken;
        }
        if self.parts.is_closed() {
            return Offered::Gone;
        }
        let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(OVERHEAD);
        let of = |room: &Arc<Semaphore>, most: u32| room.clone().try_acquire_many_owned(bytes.min(most));
        let (Ok(room), Ok(all)) = (of(&self.room, MAX_BYTES), of(all, MAX_ALL_BYTES)) else { return Offered::Full };
        let part = Part { payload, last };
        match self.parts.try_send(Ok(Waiting { part, _room: room, _all: all })) {
            Ok(()) => {
                if self.taken.len() == REMEMBERED {
                    self.taken.pop_front();
                }
                self.taken.push_back(id);
                Offered::Taken
            }
            Err(mpsc::error::TrySendError::Full(_)) => Offered::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => Offered::Gone,
        }
    }

    /// The agent gives no more of it, and says so.
    pub(super) fn give_up(self) {
        let said = Err(not_whole("who answered gave it up"));
        // without room for it the end itself says that the answer is not whole
        _ = self.parts.try_send(said);
    }
}

// === impl Reader ===

impl Reader {
    /// The parts as they come, until the last, or until it is too late for more.
    pub(super) fn into_parts(self, until: Instant, drain: CancellationToken) -> Parts {
        let next = move |reader: Option<Self>| {
            let drain = drain.clone();
            async move {
                let Self(mut parts) = reader?;
                let next = tokio::select! {
                    biased;
                    next = parts.recv() => next.unwrap_or_else(|| Err(not_whole("the rest of the answer is lost"))),
                    () = sleep_until(until) => Err(not_whole("the rest of the answer did not come in time")),
                    () = drain.cancelled() => Err(not_whole("the gateway stops before the answer is whole")),
                };
                let rest = matches!(&next, Ok(waiting) if !waiting.part.last).then_some(Self(parts));
                Some((next.map(|waiting| waiting.part), rest))
            }
        };
        Parts(Box::pin(stream::unfold(Some(self), next)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> EnvelopeId {
        EnvelopeId::new(Uuid::from_u128(number))
    }

    fn offered(writer: &mut Writer, number: u128, bytes: u32, all: &Arc<Semaphore>) -> Offered {
        writer.offer(id(number), vec![b'x'; bytes as usize].into(), false, all)
    }

    fn read(reader: Reader) -> Parts {
        reader.into_parts(Instant::now() + std::time::Duration::from_secs(3_600), CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_in_parts_and_bytes_and_a_larger_part_waits_alone() {
        let all = Arc::new(Semaphore::new(MAX_ALL_BYTES as usize));
        let (mut writer, reader) = open("a".into(), id(0));
        for number in 1..=MAX_PARTS as u128 {
            assert_eq!(offered(&mut writer, number, 1, &all), Offered::Taken);
        }
        assert_eq!(offered(&mut writer, 100, 1, &all), Offered::Full);
        let Parts(mut parts) = read(reader);
        for _ in 0..MAX_PARTS {
            assert!(parts.next().await.unwrap().is_ok());
        }
        assert_eq!(offered(&mut writer, 100, MAX_BYTES + 1, &all), Offered::Taken, "alone");
        assert_eq!(offered(&mut writer, 101, 1, &all), Offered::Full);
        assert!(parts.next().await.unwrap().is_ok());
        assert_eq!(offered(&mut writer, 101, 1, &all), Offered::Taken);
        assert!(!writer.has_taken(id(102)) && writer.has_taken(id(101)) && writer.has_taken(id(0)));
        drop(parts);
        assert_eq!(offered(&mut writer, 102, 1, &all), Offered::Gone);
        drop(writer);
        assert_eq!(all.available_permits(), MAX_ALL_BYTES as usize, "nothing is left of it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_in_all_answers_together_is_bounded() {
        let all = Arc::new(Semaphore::new(1_000));
        let (mut one, _one) = open("a".into(), id(0));
        let (mut other, other_reader) = open("b".into(), id(1));
        assert_eq!(offered(&mut one, 2, 500, &all), Offered::Taken);
        assert_eq!(offered(&mut other, 3, 500, &all), Offered::Full);
        drop((one, _one));
        assert_eq!(offered(&mut other, 3, 500, &all), Offered::Taken);
        drop(other_reader);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_last_part_ends_an_answer_as_whole() {
        let all = Arc::new(Semaphore::new(MAX_ALL_BYTES as usize));
        let (mut writer, reader) = open("a".into(), id(0));
        assert_eq!(writer.offer(id(1), Bytes::from("x"), true, &all), Offered::Taken);
        let Parts(mut whole) = read(reader);
        assert_eq!(whole.next().await.unwrap().unwrap(), Part { payload: Bytes::from("x"), last: true });
        assert!(whole.next().await.is_none());
        let (writer, reader) = open("a".into(), id(0));
        drop(writer);
        let Parts(mut lost) = read(reader);
        assert!(lost.next().await.unwrap().is_err() && lost.next().await.is_none());
        let (_writer, reader) = open("a".into(), id(0));
        let Parts(mut late) = read(reader);
        let said = late.next().await.unwrap().unwrap_err();
        assert!(said.detail.contains("in time") && late.next().await.is_none(), "{said}");
    }
}
